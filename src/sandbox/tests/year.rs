//! A played year.

use super::*;

async fn world(seed: u64) -> World {
    let options = SandboxOptions { seed, learners: 60, courses: 6, rate_per_second: None, ..SandboxOptions::default() };
    World::start(options).await
}

/// Plays the year to its end; the display names of the webhooks.
fn play(world: &World) -> Vec<&'static str> {
    let mut year = world.portal().begin_year(0);
    let mut told = Vec::new();
    while let Some(hooks) = world.portal().play_next(&mut year) {
        told.extend(hooks.iter().map(|hook| hook.event));
    }
    assert_eq!((year.left(), year.next_at()), (0, None));
    told
}

#[tokio::test]
async fn the_same_seed_plays_the_same_year_and_another_seed_another() {
    let (first, second, third) = (world(5).await, world(5).await, world(6).await);
    // Draws in between, as tokens and dialects do, change no fact.
    second.log_in().await;
    let (told, again) = (play(&first), play(&second));
    assert_eq!(told, again);
    assert_eq!(first.portal().expected_records(), second.portal().expected_records());
    play(&third);
    assert_ne!(first.portal().expected_records(), third.portal().expected_records());
}

#[tokio::test]
async fn a_year_holds_facts_of_every_kind_and_lies_before_today() {
    let world = world(5).await;
    let told: BTreeSet<&str> = play(&world).into_iter().collect();
    assert!(told.len() >= 20, "of 24 events: {told:?}");
    let records = world.portal().expected_records();
    assert_eq!(records.len(), 11);
    let completions = learnsync_sdk::RecordKind::Completion;
    for record in records[&completions].values() {
        let day = record.achieved.expect("a completion has a date").date_in(chrono_tz::Tz::UTC).to_string();
        assert!(("2025-01-01".."2026-03-05").contains(&day.as_str()), "{day}");
    }
    assert_eq!(world.portal().calendar(), Timestamp(START), "the calendar shows today again");
}

#[tokio::test]
async fn while_a_year_is_played_the_calendar_runs_and_tokens_do_not_age() {
    let world = world(5).await;
    let token = world.log_in().await;
    let _year = world.portal().begin_year(86_400);
    let begun = world.portal().calendar();
    assert_eq!(begun, Timestamp(START).plus_ms(-365 * 86_400_000));
    world.clock.pass(10_000);
    assert_eq!(world.portal().calendar(), begun.plus_ms(10 * 86_400_000));
    assert_eq!(world.read_with(&token, "/users").await.expect("answer").status(), 200);
}
