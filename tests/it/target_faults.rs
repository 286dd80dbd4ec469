//! What a target can do to us, and what is in it afterwards: one row for each record, or none and a cause.

use learnsync::sandbox::{SandboxOptions, Times, Wait};

use crate::world::{World, is_idle};

async fn swept(seed: u64) -> World {
    let world = World::new(seed, 10).await;
    world.first_sweep().await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_down_is_tried_again_and_gets_one_row() {
    let world = swept(11).await;
    world.sandbox.hr.faults().unavailable(503, Times::Next(1));
    let mut daemon = world.start(&[]).await;
    let key = world.complete(&daemon, 0).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_500_is_of_unknown_outcome_and_looked_up_before_writing_again() {
    let world = swept(12).await;
    let mut daemon = world.start(&[]).await;
    world.sandbox.hr.faults().arm(
        learnsync::sandbox::HrFault::Unavailable(500),
        learnsync::sandbox::HrArea::Writes,
        Times::Next(1),
    );
    let key = world.complete(&daemon, 0).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_after_the_write_leaves_one_row() {
    let world = swept(13).await;
    let mut daemon = world.start(&[]).await;
    world.sandbox.hr.faults().lose_answer(Times::Next(1));
    let key = world.complete(&daemon, 0).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
    assert_eq!(world.sandbox.hr.writes(), 1, "what was found is not written again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_commits_after_our_time_out_is_given_time_to_settle() {
    let world = swept(14).await;
    let text = std::fs::read_to_string(world.config()).expect("reads the configuration");
    std::fs::write(world.config(), text.replace("settle_seconds = 0", "settle_seconds = 8")).expect("writes");
    let mut daemon = world.start(&[]).await;
    world.sandbox.hr.faults().late_commit(Times::Next(1));
    let key = world.complete(&daemon, 0).await;
    world
        .wait(&mut daemon, "the outcome to be unknown", |status, _| {
            status.destinations[0].deliveries.iter().any(|(state, _)| state == "uncertain")
        })
        .await;
    assert_eq!(world.sandbox.hr.commit_late(), 1, "the target commits only now");
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_and_a_conflict_are_parked_with_the_targets_words() {
    let world = swept(15).await;
    let mut daemon = world.start(&[]).await;
    world.sandbox.hr.faults().reject("Invalid employee id", Times::Next(1));
    world.complete(&daemon, 0).await;
    world.parked(&mut daemon, "rejected").await;
    world.sandbox.hr.faults().conflict(Times::Next(1));
    world.complete(&daemon, 1).await;
    world
        .wait(&mut daemon, "two refusals", |status, _| {
            status.destinations[0].causes.iter().any(|(cause, count)| cause == "rejected" && *count == 2)
        })
        .await;
    let learner = world.sandbox.portal.learner_ids().remove(0);
    let found = world.view().explain(&learner).expect("explains");
    let delivery = &found[0].records[0].deliveries[0];
    assert!(delivery.cause_detail.as_deref().unwrap_or_default().contains("Invalid employee id"), "{delivery:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_in_seconds_or_by_a_date_pauses_the_destination_and_then_goes_on() {
    for (seed, wait) in [(16, Wait::Seconds(1)), (17, Wait::Date(2))] {
        let world = swept(seed).await;
        let mut daemon = world.start(&[]).await;
        world.sandbox.hr.faults().throttle(wait, Times::Next(1));
        let key = world.complete(&daemon, 0).await;
        daemon.until("Paused hr until").await;
        assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unauthorized_pauses_only_its_own_destination() {
    let world = World::new(18, 10).await;
    let url = world.sandbox.hr.url();
    world.write_config(&format!(
        "\n[destinations.other]\nconnector = \"bamboohr\"\nhistory = \"all\"\nsettings = {{ url = \"{url}\" }}\n\
         secrets = {{ api_key = {{ env = \"TEST_WEBHOOK_TOKEN\" }} }}\n"
    ));
    let mut daemon = world.start(&[]).await;
    let key = world.complete(&daemon, 0).await;
    world
        .wait(&mut daemon, "the other destination to pause", |status, rows| {
            let other = &status.destinations[1];
            other.pause_cause.as_deref() == Some("unauthorized") && !rows.is_empty()
        })
        .await;
    assert_eq!(world.status().destinations[0].state, "active");
    assert_eq!(world.rows_by_key()[&key], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_whom_the_target_does_not_know_is_parked_and_found_after_the_hire() {
    let world = World::with(SandboxOptions {
        seed: 19,
        learners: 3,
        unknown_learners: 3,
        rate_per_second: None,
        ..SandboxOptions::default()
    })
    .await;
    world.first_sweep().await;
    let mut daemon = world.start(&[]).await;
    let key = world.complete(&daemon, 0).await;
    world.parked(&mut daemon, "unmatched").await;
    let learner = world.sandbox.portal.learner_ids().remove(0);
    let profile = world.view().explain(&learner).expect("explains").remove(0).learner.expect("has a profile");
    let number = profile.external_id.or(profile.employee_number).unwrap_or_default();
    let _employee = world.sandbox.hr.hire(&number, profile.email.as_deref().unwrap_or_default());
    let asked =
        world.program().arg("reconcile").arg("--config").arg(world.config()).output().await.expect("the program runs");
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_who_is_in_the_target_twice_is_never_guessed() {
    let world = World::with(SandboxOptions {
        seed: 20,
        learners: 3,
        ambiguous_learners: 3,
        rate_per_second: None,
        ..SandboxOptions::default()
    })
    .await;
    world.first_sweep().await;
    let mut daemon = world.start(&[]).await;
    world.complete(&daemon, 0).await;
    world.parked(&mut daemon, "ambiguous_person").await;
    assert!(world.sandbox.hr.rows().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmapped_course_parks_all_under_one_cause_and_mapping_it_releases_all() {
    let world = swept(21).await;
    let good = std::fs::read_to_string(world.config()).expect("reads the configuration");
    let unmapped = format!("{good}\n[destinations.hr.references.training_type]\nexplicit_only = true\n");
    std::fs::write(world.config(), unmapped).expect("writes");
    let mut daemon = world.start(&[]).await;
    let keys = [world.complete(&daemon, 0).await, world.complete(&daemon, 1).await];
    world
        .wait(&mut daemon, "both under one cause", |status, _| {
            matches!(&status.destinations[0].causes[..], [(cause, 2)] if cause.starts_with("unmapped:training_type:"))
        })
        .await;
    assert!(world.sandbox.hr.rows().is_empty());
    daemon.kill().await;
    std::fs::write(world.config(), good).expect("writes");
    let mut daemon = world.start(&[]).await;
    world.wait(&mut daemon, "both to be delivered", |status, rows| is_idle(status) && rows.len() == 2).await;
    for key in keys {
        assert_eq!(world.rows_by_key()[&key], 1);
    }
}
