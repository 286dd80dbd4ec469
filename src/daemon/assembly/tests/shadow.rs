//! A destination in shadow: whatever runs, nothing is written to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono_tz::Tz;
use learnsync_sdk::{Action, Change, MatchRule, RecordKind, RouteMode, SlotRule, Value};

use super::super::{Assembly, Bells};
use crate::config::{GuardConfig, History, SourceConfig};
use crate::daemon::{BuiltDestination, BuiltRoute};
use crate::domain::chance::Generator;
use crate::domain::drift::Policies;
use crate::mapping::Mapping;
use crate::reconcile::schedule::Schedule;
use crate::reconcile::tests::shelf;
use crate::telemetry::Metrics;

#[tokio::test]
async fn a_destination_in_shadow_is_read_and_compared_and_cannot_be_written_to() {
    let world = shelf::world(shelf::LISTS, Policies::default()).await;
    let object = world.destination.connector.object("training").expect("an object");
    let title = SourceConfig { path: Some("title".to_owned()), ..SourceConfig::default() };
    let fields = BTreeMap::from([("title".to_owned(), title)]);
    let mapping = Mapping::compile(&fields, &object, Tz::UTC, &BTreeMap::new()).expect("a mapping");
    let route = BuiltRoute {
        name: "done".to_owned(),
        record: RecordKind::Completion,
        mode: RouteMode::State,
        slot: SlotRule::Record,
        object: "training".to_owned(),
        mapping: Arc::new(mapping),
        drift: Policies::default(),
    };
    let built = |is_shadow| BuiltDestination {
        name: "hr".to_owned(),
        description: world.destination.description.clone(),
        connector: Arc::new(shelf::Shelf(Arc::clone(&world.rows))),
        history: History::All,
        match_rules: vec![MatchRule::EXTERNAL_ID],
        zone: Tz::UTC,
        telling: world.destination.telling.clone(),
        routes: vec![route_of(&route)],
        is_shadow,
        guard: GuardConfig::default(),
    };
    // Written while it was live; then one row is edited, one is deleted, and one is not written yet.
    world.read(0..5, |learner| vec![shelf::completion(learner, 0)]).await;
    world.deliver().await;
    world.set(1, 0, "title", Value::Text("Edited".to_owned()));
    world.edit(2, 0, |rows, id| drop(rows.rows.remove(&id)));
    world.read(5..6, |learner| vec![shelf::completion(learner, 0)]).await;
    let (before, writes) = {
        let rows = world.rows();
        (rows.rows.clone(), rows.writes)
    };
    for is_shadow in [true, false] {
        let destinations = [built(is_shadow)];
        let assembly = Assembly {
            store: Arc::clone(&world.store),
            portals: BTreeMap::new(),
            destinations: &destinations,
            installation: "test",
            schedule: Schedule::parse("15 2 * * *", Tz::UTC).expect("parses"),
            readers: 1,
            clock: world.clock.clone(),
            entropy: Arc::new(Generator::seeded(1)),
            metrics: Arc::new(Metrics::new()),
        };
        let assembled = assembly.assemble(&mut Bells::default()).await.expect("assembles");
        assembled.verify_now.iter().for_each(|asked| asked.store(true, Ordering::SeqCst));
        world.clock.later(1_000);
        for _ in 0..40 {
            for (step, _) in &assembled.steps {
                step.run_once().await.expect("the store works");
            }
            world.clock.later(3_000);
        }
        let names: Vec<String> = assembled.steps.iter().map(|(step, _)| step.name()).collect();
        let writers = names.iter().filter(|name| name.starts_with("deliver") || name.starts_with("apply")).count();
        let run = world.newest_run();
        assert_eq!(run.state, "done");
        let counts = run.verify.expect("is a verify");
        assert_eq!((counts.deliveries, counts.to_write), (6, 2), "it is compared");
        let rows = world.rows().rows.clone();
        match is_shadow {
            true => {
                assert_eq!((writers, &rows, world.rows().writes), (0, &before, writes), "nothing is written");
                let place = Change {
                    object: "training".to_owned(),
                    person: "p".to_owned(),
                    mark: "learnsync:test:x".to_owned(),
                    action: Action::Withdraw { row: "r000001".to_owned() },
                };
                let answers = assembled.destinations["hr"].connector.deliver(&[place]).await;
                assert!(answers[0].as_ref().expect_err("is refused").message.contains("in shadow"));
                assert_eq!(world.rows().writes, writes, "not even on purpose");
            }
            // The same with the same rows, but live: so the test would notice.
            false => assert!(writers > 0 && rows != before && rows.len() == 6),
        }
    }
}

fn route_of(route: &BuiltRoute) -> BuiltRoute {
    BuiltRoute {
        name: route.name.clone(),
        object: route.object.clone(),
        mapping: Arc::clone(&route.mapping),
        drift: route.drift.clone(),
        ..*route
    }
}
