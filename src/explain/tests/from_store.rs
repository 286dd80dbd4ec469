//! What the view reads from a real store is what is explained.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use learnsync_sdk::{PersonMatch, RouteMode};

use super::*;
use crate::domain::chance::Generator;
use crate::domain::delivery::{LinkFound, Next, Outcome};
use crate::domain::event::{EventName, RawEvent, Reading};
use crate::domain::record::ReadRecords;
use crate::domain::time::Clock;
use crate::pipeline::plan::{Plan, PlannedRoute};
use crate::pipeline::telling::Telling;
use crate::store::view::View;
use crate::store::{DestinationSpec, NextLane, NextSubject, Open, Read, RouteSpec, Store, Taken, Threading};

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        NOW
    }
}

fn open(folder: &Path) -> Store {
    Open {
        path: folder.to_owned(),
        installation: "test".to_owned(),
        threading: Threading::Inline,
        clock: Arc::new(FixedClock),
        entropy: Arc::new(Generator::seeded(1)),
        pages_max: None,
    }
    .open()
    .expect("the store opens")
}

async fn event(store: &Store, user: &str) {
    let raw = RawEvent {
        portal: "main".to_owned(),
        method: "POST".to_owned(),
        content_type: String::new(),
        body: Vec::new(),
    };
    store.append_event(raw).await.expect("is kept");
    let reading = Reading {
        name: EventName::called("enrollment_completed_by_learner").expect("a known event"),
        user_id: Some(user.to_owned()),
        ids: BTreeMap::new(),
        oddity: None,
    };
    let events = store.take_new_events().await.expect("takes");
    let batch = events.into_iter().map(|event| Taken { event, readings: vec![(reading.clone(), [7; 32])] }).collect();
    store.finish_intake(batch).await.expect("intake ends");
}

#[tokio::test]
async fn an_event_an_ambiguous_person_and_a_parked_record_are_explained_from_a_real_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let route = RouteSpec {
        name: "completions".to_owned(),
        mode: RouteMode::State,
        mapping_digest: "first mapping".to_owned(),
    };
    let spec = DestinationSpec { name: "hr".to_owned(), connector: "bamboohr".to_owned(), routes: vec![route] };
    let topology = store.sync_topology(vec![spec]).await.expect("keeps the destinations");
    let hr_rows = &topology.destinations["hr"];
    let plan = Plan {
        routes: vec![PlannedRoute {
            destination: hr_rows.id,
            route: hr_rows.routes["completions"].id,
            record: RecordKind::Completion,
            says_standing: false,
            mode: RouteMode::State,
            slot: SlotRule::Record,
            history: History::All,
            first_seen_at: hr_rows.first_seen_at,
            zone: Tz::UTC,
            telling: Telling { quiet_hours: None, late_after_ms: 86_400_000, zone: Tz::UTC },
        }],
    };
    event(&store, ID).await;
    let mut view = View::open(folder.path()).expect("opens");
    assert!(view.explain(ID).expect("reads").is_empty(), "nobody was read yet");
    let heard = view.heard_of(ID).expect("reads");
    assert_eq!((heard.len(), heard[0].events.len(), heard[0].next_read_at), (1, 1, Some(NOW)));

    let NextSubject::Dirty(claimed) = store.next_subject("main").await.expect("claims") else { panic!("one is dirty") };
    let mut fact = facts(RecordKind::Completion, "e1", "Fire Safety");
    fact.achieved = Some(LmsTime::Instant(NOW.plus_ms(-1_000)));
    let records = ReadRecords { records: vec![fact], complete: BTreeSet::from([RecordKind::Completion]) };
    let read = Read { started_at: NOW, learner: learner(Vec::new()).learner, records, changes_at: None };
    store.complete_refresh(claimed, read, move |facts| plan.changes(facts)).await.expect("is kept");
    let NextLane::Due(lane) = store.next_lane(hr_rows.id).await.expect("claims") else { panic!("one is due") };
    let candidates = vec!["118".to_owned(), "206".to_owned()];
    let found = PersonMatch::Ambiguous { rule: MatchRule::EMAIL, candidates };
    store.commit_link(hr_rows.id, LinkFound { person: lane.work.person, found }).await.expect("is kept");
    let due = &lane.work.due[0];
    let next = Next::Parked { cause: Cause::AmbiguousPerson, detail: "hr knows several".to_owned(), is_unknown: false };
    let outcome = Outcome::of(due, None, next);
    store.commit_outcomes(hr_rows.id, vec![outcome]).await.expect("is kept");

    let known = view.explain("ana lima").expect("reads");
    let words = told(&known[0], &given());
    for part in ["Ana Lima, learner", "could be Ana Lima", "118, 206", "A webhook of 3 March 2026, 09:30 told of it"] {
        assert!(words.contains(part), "{part}\n{words}");
    }
    assert!(view.heard_of(ID).expect("reads").is_empty(), "by now they were read");

    let status = view.status().expect("reads");
    let screen = overview(&status, view.events_since(NOW).expect("counts"), &given());
    assert_eq!(screen.waits.len(), 1);
    assert_eq!(screen.waits[0].learner.as_deref(), Some(ID));
    assert_eq!(view.events_since(NOW.plus_ms(1)).expect("counts"), 0);
    for _ in 0..5 {
        event(&store, ID).await;
    }
    assert_eq!(view.events_since(NOW).expect("counts"), 6);
}
