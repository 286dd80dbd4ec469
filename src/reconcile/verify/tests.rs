//! Verify against a target in memory: drift of twelve kinds is planted among thousands of clean rows, and found, and put right as the policies say.

use learnsync_sdk::{Fields, Value};

use super::*;
use crate::domain::drift::{DriftClass, GonePolicy, Policies, Policy};
use crate::domain::record::Record;
use crate::domain::time::LmsTime;
use crate::reconcile::tests::shelf::{HOUR_MS, LISTS, OURS, READS_BACK, Row, completion, date, slot, world};

/// What was planted where.
struct Planted {
    what: &'static str,
    class: DriftClass,
    follows: &'static str,
    /// As `findings` names them.
    places: BTreeSet<String>,
}

#[tokio::test]
async fn drift_of_twelve_kinds_among_ten_thousand_rows_is_found_exactly_and_put_right_as_the_policies_say() {
    const LEARNERS: u32 = 1_120;
    const EACH: u32 = 10;
    let fields =
        [("expires", Policy::Report), ("title", Policy::Adopt)].map(|(name, policy)| (name.to_owned(), policy));
    let policies = Policies { moved: Policy::Repair, fields: fields.into(), ..Policies::default() };
    let world = world(LISTS, policies).await;
    let all = |learner| (0..EACH).map(|number| completion(learner, number)).collect::<Vec<Record>>();
    world.read(0..LEARNERS, all).await;
    world.deliver().await;
    let (clean, held) = world.verify().await;
    assert_eq!((clean.in_sync, clean.deliveries, held), (11_200, 11_200, None));
    assert_eq!(world.findings(), []);

    // A hundred learners have all kinds, each in a place of its own; the places 0 to 9 of learner n, and more of learner n + 100.
    let mut planted: Vec<Planted> = Vec::new();
    let mut plant = |what, class, follows, place: &dyn Fn(u32) -> String| {
        planted.push(Planted { what, class, follows, places: (0..100).map(place).collect() });
    };
    use DriftClass::{Duplicate, Edited, Foreign, Missing, Moved, Stale, Unmarked, Unreadable};
    plant("row deleted by hand", Missing, "written again", &|n| {
        world.edit(n, 0, |rows, id| drop(rows.rows.remove(&id)));
        slot(n, 0)
    });
    plant("date edited", Edited, "written again", &|n| {
        world.set(n, 1, "completed", Value::Date(date(999)));
        slot(n, 1)
    });
    plant("expiry edited", Edited, "reported", &|n| {
        world.set(n, 2, "expires", Value::Date(date(999)));
        slot(n, 2)
    });
    plant("text edited", Edited, "adopted", &|n| {
        world.set(n, 3, "title", Value::Text("Corrected by HR".to_owned()));
        slot(n, 3)
    });
    plant("field blanked", Edited, "written again", &|n| {
        world.set(n, 4, "score", Value::Null);
        slot(n, 4)
    });
    plant("our mark removed", Unmarked, "reported", &|n| {
        world.edit(n, 5, |rows, id| rows.rows.get_mut(&id).expect("is there").mark = None);
        slot(n, 5)
    });
    plant("row copied", Duplicate, "reported", &|n| {
        world.edit(n, 6, |rows, id| drop(rows.rows.insert(format!("{id}-copy"), rows.rows[&id].clone())));
        slot(n, 6)
    });
    plant("row moved to another person", Moved, "moved back", &|n| {
        world.edit(n, 7, |rows, id| rows.rows.get_mut(&id).expect("is there").person = format!("p{:012}", n + 500));
        slot(n, 7)
    });
    let foreign = |n: u32, number, mark: Option<String>| {
        let id = format!("foreign-{n}-{number}");
        world.edit(n, number, |rows, ours| {
            let alike = Row { mark, ..rows.rows[&ours].clone() };
            rows.rows.insert(id.clone(), alike);
        });
        id
    };
    plant("foreign row alike", Foreign, "reported", &|n| foreign(n, 8, None));
    plant("another installation's mark", Foreign, "reported", &|n| {
        foreign(n, 9, Some(format!("learnsync:other:{}", slot(n, 9))))
    });
    plant("row unreadable", Unreadable, "reported", &|n| {
        world.edit(n + 100, 0, |rows, id| rows.rows.get_mut(&id).expect("is there").is_unreadable = true);
        slot(n + 100, 0)
    });
    plant("update that we missed", Stale, "written", &|n| slot(n + 100, 1));
    // The night's first half finds what no webhook told.
    world
        .read(100..200, |learner| {
            let mut records = all(learner);
            records[1].score = Some(100.0);
            records
        })
        .await;
    let before = world.rows().rows.clone();

    let (counts, held) = world.verify().await;
    assert_eq!(held, None);
    assert!(counts.add_up(), "{counts:?}");
    let found: BTreeSet<(DriftClass, String)> = world.findings().into_iter().collect();
    println!("| planted | class | follows | planted | found | recall | precision |\n|---|---|---|---|---|---|---|");
    let mut expected = BTreeSet::new();
    for kind in &planted {
        let of_class: BTreeSet<&String> =
            found.iter().filter(|(class, _)| *class == kind.class).map(|(_, place)| place).collect();
        let hit = kind.places.iter().filter(|place| of_class.contains(place)).count();
        let planted_of_class: BTreeSet<&String> =
            planted.iter().filter(|other| other.class == kind.class).flat_map(|other| &other.places).collect();
        let right = of_class.iter().filter(|place| planted_of_class.contains(*place)).count();
        let (recall, precision) = (hit as f64 / 100.0, right as f64 / of_class.len().max(1) as f64);
        let (class, follows) = (kind.class.as_str(), kind.follows);
        println!("| {} | {class} | {follows} | 100 | {hit} | {recall:.2} | {precision:.2} |", kind.what);
        expected.extend(kind.places.iter().map(|place| (kind.class, place.clone())));
    }
    println!("of {} rows; findings among the clean ones: {}", before.len(), found.difference(&expected).count());
    assert_eq!(found, expected);

    // What followed is what the policies say, and nobody else's row was touched.
    let after = world.rows().rows.clone();
    let wanted = |record: &Record| {
        let date = |time: Option<LmsTime>| match time {
            Some(LmsTime::Date(date)) => Value::Date(date),
            _ => Value::Null,
        };
        Fields::from([
            ("title".to_owned(), Value::Text(record.title.clone())),
            ("completed".to_owned(), date(record.achieved)),
            ("expires".to_owned(), date(record.valid_until)),
            ("score".to_owned(), Value::Number(record.score.expect("has one"))),
        ])
    };
    let row_of = |n: u32, number| {
        let ids = world.rows().with_mark(&format!("p{n:012}"), &format!("{OURS}{}", slot(n, number)));
        assert_eq!(ids.len(), 1, "exactly one row for {}", slot(n, number));
        after[&ids[0]].fields.clone()
    };
    for n in 0..100 {
        for repaired in [0, 1, 4, 7] {
            assert_eq!(row_of(n, repaired), wanted(&completion(n, repaired)));
        }
        assert_eq!(row_of(n, 2)["expires"], Value::Date(date(999)), "reported, and left");
        assert_eq!(row_of(n, 3)["title"], Value::Text("Corrected by HR".to_owned()), "adopted");
        let newer = Record { score: Some(100.0), ..completion(n + 100, 1) };
        assert_eq!(row_of(n + 100, 1), wanted(&newer));
    }
    let is_foreign = |row: &Row| row.mark.as_ref().is_none_or(|mark| !mark.starts_with(OURS));
    let theirs = |rows: &BTreeMap<String, Row>| -> BTreeMap<String, Row> {
        rows.iter().filter(|(_, row)| is_foreign(row)).map(|(id, row)| (id.clone(), row.clone())).collect()
    };
    assert_eq!(theirs(&after), theirs(&before));

    // The next night finds what was left to people, and nothing else.
    let (next, _) = world.verify().await;
    assert_eq!((next.to_write, next.of(Missing), next.of(Moved), next.of(Stale)), (0, 0, 0, 0));
    assert_eq!((next.of(Edited), next.of(Unmarked), next.of(Duplicate), next.of(Foreign)), (100, 100, 100, 200));
    assert_eq!(next.of(Unreadable), 100);
}

#[tokio::test]
async fn a_target_that_cannot_be_listed_is_read_back_place_by_place() {
    let world = world(READS_BACK, Policies::default()).await;
    world.read(0..250, |learner| vec![completion(learner, 0)]).await;
    world.deliver().await;
    world.edit(1, 0, |rows, id| drop(rows.rows.remove(&id)));
    world.set(2, 0, "title", Value::Text("Something else".to_owned()));
    world.edit(3, 0, |rows, id| drop(rows.rows.insert(format!("{id}-copy"), rows.rows[&id].clone())));
    let (counts, held) = world.verify().await;
    assert_eq!((held, counts.looked, counts.to_write, counts.differing), (None, 250, 2, 1));
    let expected =
        [(DriftClass::Missing, slot(1, 0)), (DriftClass::Edited, slot(2, 0)), (DriftClass::Duplicate, slot(3, 0))];
    assert_eq!(world.findings(), expected);
    assert_eq!(world.rows().rows.len(), 251);
    let (next, _) = world.verify().await;
    assert_eq!((next.to_write, next.in_sync), (0, 249));
}

#[tokio::test]
async fn a_target_that_shows_texts_in_its_own_way_makes_no_work() {
    let world = world(LISTS, Policies::default()).await;
    world.rows().is_shouting = true;
    world.read(0..50, |learner| vec![completion(learner, 0)]).await;
    world.deliver().await;
    let writes = world.rows().writes;
    for _ in 0..3 {
        let (counts, _) = world.verify().await;
        assert_eq!((counts.in_sync, world.findings().len()), (50, 0));
    }
    assert_eq!(world.rows().writes, writes);
    world.set(7, 0, "title", Value::Text("Edited".to_owned()));
    let (counts, _) = world.verify().await;
    assert_eq!((counts.to_write, world.rows().writes), (1, writes + 1));
}

#[tokio::test]
async fn a_field_that_somebody_always_sets_back_is_written_three_times_and_then_only_reported() {
    let world = world(LISTS, Policies::default()).await;
    world.read(0..30, |learner| vec![completion(learner, 0)]).await;
    world.deliver().await;
    let writes = world.rows().writes;
    let mut written = Vec::new();
    for _ in 0..5 {
        world.set(7, 0, "title", Value::Text("Theirs".to_owned()));
        world.clock.later(24 * HOUR_MS);
        let (counts, _) = world.verify().await;
        written.push((counts.to_write, counts.differing));
    }
    assert_eq!(written, [(1, 0), (1, 0), (1, 0), (0, 1), (0, 1)]);
    assert_eq!(world.rows().writes, writes + 3);
}

#[tokio::test]
async fn a_night_that_would_change_too_much_is_held_until_a_person_approves() {
    let world = world(LISTS, Policies::default()).await;
    world.read(0..100, |learner| vec![completion(learner, 0)]).await;
    world.deliver().await;
    let writes = world.rows().writes;
    world.rows().rows.clear();
    let (counts, held) = world.verify().await;
    assert_eq!(counts.of(DriftClass::Missing), 100);
    assert!(held.expect("is held").contains("shows none of our 100 rows"));
    world.deliver().await;
    assert_eq!(world.turn(false).await, Turn::Rest(world.next_night()));
    assert_eq!(world.rows().writes, writes, "nothing is written");
    let run = world.run().await.expect("waits");
    assert_eq!(world.store.approve_run(run.id).await.expect("approves"), Some(world.destination.id));
    while world.run().await.is_some() {
        if let Turn::Rest(_) = world.turn(false).await {
            world.deliver().await;
            world.clock.later(5_000);
        }
    }
    assert_eq!(world.rows().writes, writes + 100);
    assert_eq!(world.rows().rows.len(), 100);
    assert_eq!(world.store.approve_run(run.id).await.expect("looks"), None, "it is not held any more");
}

impl crate::reconcile::tests::shelf::World {
    fn next_night(&self) -> Option<Timestamp> {
        Schedule::parse("15 2 * * *", chrono_tz::Tz::UTC).expect("a schedule").next_after(self.clock.now())
    }
}

#[tokio::test]
async fn a_target_that_cannot_be_read_is_waited_for_and_the_run_goes_on_where_it_was() {
    let world = world(LISTS, Policies::default()).await;
    world.read(0..700, |learner| vec![completion(learner, 0)]).await;
    world.deliver().await;
    world.edit(600, 0, |rows, id| drop(rows.rows.remove(&id)));
    world.clock.later(1_000);
    // Recognised, and a page listed.
    for asked in [true, false] {
        assert_eq!(world.turn(asked).await, Turn::Worked);
    }
    let listed = world.run().await.expect("began").progress.counts.listed;
    assert_eq!(listed, 600);
    world.rows().fails = Some(DeliveryError::new(ErrorKind::Unavailable, "down"));
    assert!(matches!(world.turn(false).await, Turn::Rest(Some(_))));
    let throttled = ErrorKind::Throttled(learnsync_sdk::RetryAfter::For(std::time::Duration::from_secs(3_600)));
    world.rows().fails = Some(DeliveryError::new(throttled, "slow down"));
    let asked_until = world.clock.now().plus_ms(HOUR_MS);
    assert_eq!(world.turn(false).await, Turn::Rest(Some(asked_until)));
    world.rows().fails = None;
    assert_eq!(world.turn(false).await, Turn::Rest(Some(asked_until)), "the whole destination waits that long");
    world.clock.later(HOUR_MS);
    while world.run().await.is_some_and(|run| run.progress.phase != VerifyPhase::Acting) {
        assert_eq!(world.turn(false).await, Turn::Worked);
    }
    let counts = world.run().await.expect("acts").progress.counts;
    assert_eq!((counts.listed, counts.to_write, counts.in_sync), (699, 1, 699));
}

#[tokio::test]
async fn a_fact_that_is_gone_is_withdrawn_only_where_the_policy_says_so_and_is_written_again_when_it_is_back() {
    for gone in [GonePolicy::Keep, GonePolicy::Report, GonePolicy::Withdraw] {
        let world = world(LISTS, Policies { gone, ..Policies::default() }).await;
        let all = |learner| (0..2).map(|number| completion(learner, number)).collect::<Vec<Record>>();
        world.read(0..40, all).await;
        world.deliver().await;
        let without = |learner: u32| all(learner).into_iter().skip(usize::from(learner < 3)).collect();
        world.read(0..40, without).await;
        let (suspected, _) = world.verify().await;
        assert_eq!((suspected.in_sync, world.rows().rows.len()), (80, 80), "one read proves nothing");
        world.clock.later(7 * HOUR_MS);
        world.read(0..40, without).await;
        let (counts, held) = world.verify().await;
        assert_eq!(held, None);
        let expected = match gone {
            GonePolicy::Keep => (80, 0, 0, 80),
            GonePolicy::Report => (77, 3, 0, 80),
            GonePolicy::Withdraw => (77, 0, 3, 77),
        };
        assert_eq!(
            (counts.in_sync, counts.differing, counts.withdrawals, world.rows().rows.len()),
            expected,
            "{gone:?}"
        );
        world.read(0..40, all).await;
        world.deliver().await;
        assert_eq!(world.rows().rows.len(), 80, "{gone:?}: it is back");
        let (back, _) = world.verify().await;
        assert_eq!((back.in_sync, world.findings().len()), (80, 0), "{gone:?}");
    }
}

#[tokio::test]
async fn a_removal_whose_answer_is_lost_is_looked_up_and_nothing_is_written_again() {
    let world = world(LISTS, Policies { gone: GonePolicy::Withdraw, ..Policies::default() }).await;
    world.read(0..40, |learner| vec![completion(learner, 0)]).await;
    world.deliver().await;
    for _ in 0..2 {
        world.read(0..40, |learner| (learner > 0).then(|| completion(learner, 0)).into_iter().collect()).await;
        world.clock.later(7 * HOUR_MS);
    }
    world.rows().loses_removals = true;
    let (counts, held) = world.verify().await;
    assert_eq!((counts.withdrawals, held), (1, None));
    world.deliver().await;
    world.clock.later(HOUR_MS);
    world.deliver().await;
    let writes = world.rows().writes;
    assert_eq!((world.rows().rows.len(), writes), (39, 41), "40 written, one removed, and that is all");
    let (after, _) = world.verify().await;
    assert_eq!((after.in_sync, world.findings().len()), (40, 0), "an empty place is as it should be");
}

#[tokio::test]
async fn a_value_that_a_fact_has_no_more_goes_from_its_row_and_what_somebody_entered_there_stays() {
    let world = world(LISTS, Policies::default()).await;
    let without = |learner| vec![Record { valid_until: None, score: None, ..completion(learner, 0) }];
    world.read(0..2, |learner| if learner == 0 { vec![completion(0, 0)] } else { without(1) }).await;
    world.deliver().await;
    world.set(1, 0, "score", Value::Number(7.0));
    // Both are corrected, so that both are written again.
    let later = |learner| vec![Record { title: "Later".to_owned(), ..without(learner).remove(0) }];
    world.read(0..2, later).await;
    world.deliver().await;
    let shown = |learner: u32| {
        let rows = world.rows();
        let id = rows.with_mark(&format!("p{learner:012}"), &format!("{OURS}{}", slot(learner, 0))).remove(0);
        rows.rows[&id].fields.clone()
    };
    let (ours, theirs) = (shown(0), shown(1));
    assert_eq!(
        (&ours["expires"], &ours["score"]),
        (&Value::Null, &Value::Null),
        "an expiry of before would be believed"
    );
    assert_eq!((theirs.get("expires"), &theirs["score"]), (None, &Value::Number(7.0)));
    let (counts, _) = world.verify().await;
    assert_eq!((counts.in_sync, counts.to_write), (2, 0), "and so it is right");
    world.read(0..2, later).await;
    let writes = world.rows().writes;
    world.deliver().await;
    assert_eq!(world.rows().writes, writes, "nothing new is nothing to write");
}

#[tokio::test]
async fn more_withdrawals_than_the_limit_are_held() {
    let world = world(LISTS, Policies { gone: GonePolicy::Withdraw, ..Policies::default() }).await;
    world.read(0..400, |learner| vec![completion(learner, 0)]).await;
    world.deliver().await;
    let without = |learner: u32| if learner < 11 { Vec::new() } else { vec![completion(learner, 0)] };
    for _ in 0..2 {
        world.read(0..400, without).await;
        world.clock.later(7 * HOUR_MS);
    }
    let (_, held) = world.verify().await;
    assert!(held.expect("is held").contains("11 rows would be removed, the limit is 10"));
    world.deliver().await;
    assert_eq!(world.rows().rows.len(), 400);
}

#[tokio::test]
async fn a_difference_that_a_person_knows_needs_nobody_until_that_ends() {
    let world = world(LISTS, Policies { edited: Policy::Report, ..Policies::default() }).await;
    world.read(0..5, |learner| vec![completion(learner, 0)]).await;
    world.deliver().await;
    world.set(2, 0, "title", Value::Text("Theirs".to_owned()));
    let (counts, _) = world.verify().await;
    assert_eq!((counts.differing, counts.acknowledged), (1, 0));
    let known = |hours| crate::domain::drift::Acknowledged {
        until: world.clock.now().plus_ms(hours * HOUR_MS),
        reason: "moved by hand".to_owned(),
    };
    let delivery = |id| crate::domain::ids::DeliveryId(id);
    assert!(world.store.acknowledge_drift(delivery(3), known(10)).await.expect("is kept"));
    assert!(!world.store.acknowledge_drift(delivery(99), known(10)).await.expect("looks"), "there is no such delivery");
    let (counts, _) = world.verify().await;
    assert_eq!((counts.differing, counts.acknowledged, counts.in_sync), (0, 1, 4));
    assert!(counts.add_up());
    world.clock.later(11 * HOUR_MS);
    let (counts, _) = world.verify().await;
    assert_eq!((counts.differing, counts.acknowledged), (1, 0), "then it is reported again");
}
