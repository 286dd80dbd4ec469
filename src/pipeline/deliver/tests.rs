//! Deliver against a target that appends, under a paused clock: when batches begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono_tz::Tz;
use learnsync_sdk::{
    Account, Connector, Description, FieldType, Learner, MatchRule, RecordKind, Reference, RouteMode, SlotRule,
    TargetField, TargetObject,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::config::{History, SourceConfig};
use crate::domain::chance::Generator;
use crate::domain::event::{EventName, RawEvent, Reading};
use crate::domain::record::{LearnerRecords, Record};
use crate::domain::time::LmsTime;
use crate::mapping::Mapping;
use crate::pipeline::destination::{Gate, References};
use crate::pipeline::pace::Pace;
use crate::pipeline::plan::{Plan, PlannedRoute};
use crate::pipeline::worker::{REST_MAX, work};
use crate::store::{DestinationSpec, NextSubject, Open, Read, RouteSpec, Taken, Threading};

/// Wall-clock time is this base plus tokio's paused clock.
struct PausedClock {
    base: Timestamp,
    began: Instant,
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        self.base.plus(self.began.elapsed())
    }
}

/// One call: when it came, and how many it told of.
type Told = (Timestamp, usize);

/// A space that takes messages, each call for a while.
struct Space {
    clock: Arc<PausedClock>,
    told: mpsc::UnboundedSender<Told>,
    takes: Duration,
}

#[async_trait]
impl Connector for Space {
    fn object(&self, name: &str) -> Result<TargetObject, String> {
        let field = TargetField { name: "title".to_owned(), kind: FieldType::Text, required: true, length_max: None };
        Ok(TargetObject { name: name.to_owned(), fields: vec![field], open: false })
    }

    async fn probe(&self) -> Result<Account, DeliveryError> {
        Ok(Account { identity: "the space".to_owned() })
    }

    async fn references(&self, _kind: &str) -> Result<Vec<Reference>, DeliveryError> {
        Ok(Vec::new())
    }

    async fn find_person(&self, _learner: &Learner, _rules: &[MatchRule]) -> Result<PersonMatch, DeliveryError> {
        Ok(PersonMatch::NotFound)
    }

    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        self.told.send((self.clock.now(), batch.len())).expect("the test listens");
        tokio::time::sleep(self.takes).await;
        let receipt =
            |change: &Change| Receipt { row: change.mark.clone(), status: 200, words: "ok".to_owned(), wrote: true };
        batch.iter().map(|change| Ok(receipt(change))).collect()
    }

    async fn observe(&self, _batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
        Vec::new()
    }
}

/// Counts the turns of a step.
struct Counted(Deliver, Arc<AtomicUsize>);

#[async_trait]
impl Work for Counted {
    fn name(&self) -> String {
        self.0.name()
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.run_once().await
    }
}

/// How the destination is set up.
struct Setup {
    begins: &'static str,
    persons_per_batch_max: usize,
    interval_ms: u32,
    takes: Duration,
}

struct World {
    _folder: tempfile::TempDir,
    clock: Arc<PausedClock>,
    store: Arc<Store>,
    destination: Arc<Destination>,
    plan: Plan,
    bell: Arc<Bell>,
    told: mpsc::UnboundedReceiver<Told>,
    turns: Arc<AtomicUsize>,
}

async fn world(setup: Setup) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Arc::new(PausedClock { base: at(setup.begins), began: Instant::now() });
    let store = Open {
        path: folder.path().to_owned(),
        installation: "test".to_owned(),
        threading: Threading::Inline,
        clock: clock.clone(),
        entropy: Arc::new(Generator::seeded(1)),
        pages_max: None,
    }
    .open()
    .expect("the store opens");
    let route =
        RouteSpec { name: "done".to_owned(), mode: RouteMode::Append, mapping_digest: "the mapping".to_owned() };
    let spec = DestinationSpec { name: "cheers".to_owned(), connector: "space".to_owned(), routes: vec![route] };
    let topology = store.sync_topology(vec![spec]).await.expect("keeps the destinations");
    let rows = &topology.destinations["cheers"];
    let (sender, told) = mpsc::unbounded_channel();
    let connector = Arc::new(Space { clock: clock.clone(), told: sender, takes: setup.takes });
    let fields = BTreeMap::from([(
        "title".to_owned(),
        SourceConfig { path: Some("title".to_owned()), ..SourceConfig::default() },
    )]);
    let object = connector.object("message").expect("an object");
    let mapping = Mapping::compile(&fields, &object, Tz::UTC, &BTreeMap::new()).expect("a mapping");
    let row = rows.routes["done"];
    let route = Route {
        name: "done".to_owned(),
        object: "message".to_owned(),
        mapping: Arc::new(mapping),
        mapping_id: row.mapping,
    };
    let destination = Destination {
        name: "cheers".to_owned(),
        id: rows.id,
        connector,
        description: description(&setup),
        routes: BTreeMap::from([(row.id, route)]),
        match_rules: Vec::new(),
        installation: "test".to_owned(),
        breaker: Mutex::default(),
        gate: Gate::default(),
        pace: Pace::new(setup.interval_ms),
        unkept: Mutex::default(),
        references: References::default(),
    };
    let planned = PlannedRoute {
        destination: rows.id,
        route: row.id,
        record: RecordKind::Completion,
        mode: RouteMode::Append,
        slot: SlotRule::Record,
        history: History::All,
        first_seen_at: rows.first_seen_at,
        zone: Tz::UTC,
    };
    World {
        _folder: folder,
        clock,
        store: Arc::new(store),
        destination: Arc::new(destination),
        plan: Plan { routes: vec![planned] },
        bell: Arc::default(),
        told,
        turns: Arc::default(),
    }
}

fn description(setup: &Setup) -> Description {
    Description {
        name: "space",
        summary: "A space.",
        documentation: "https://example.org",
        claims: &[],
        blind_repeat: BlindRepeat::MayLose,
        reference_kinds: &[],
        settle_seconds: 0,
        persons_per_batch_max: setup.persons_per_batch_max,
        concurrency_max: 2,
        batch_interval_ms: setup.interval_ms,
        settings: &[],
        default_routes: Vec::new(),
    }
}

fn at(text: &str) -> Timestamp {
    Timestamp::from(text.parse::<chrono::DateTime<chrono::Utc>>().expect("an instant"))
}

fn learner_id(number: usize) -> String {
    format!("a14c149a-2ce0-41d4-b532-{number:012}")
}

impl World {
    /// A learner completes a course, now, and is read.
    async fn completes(&self, number: usize) {
        let raw = RawEvent {
            portal: "main".to_owned(),
            method: "POST".to_owned(),
            content_type: String::new(),
            body: Vec::new(),
        };
        self.store.append_event(raw).await.expect("is kept");
        let reading = Reading {
            name: EventName::EnrollmentCompleted,
            user_id: Some(learner_id(number)),
            ids: BTreeMap::new(),
            oddity: None,
        };
        let mut dedupe = [0; 32];
        dedupe[..8].copy_from_slice(&number.to_le_bytes());
        let events = self.store.take_new_events().await.expect("takes");
        let taken = events.into_iter().map(|event| Taken { event, readings: vec![(reading.clone(), dedupe)] });
        self.store.finish_intake(taken.collect()).await.expect("intake ends");
        let NextSubject::Dirty(claimed) = self.store.next_subject().await.expect("claims") else {
            panic!("the learner is dirty")
        };
        let record = Record {
            kind: RecordKind::Completion,
            id: format!("e{number}"),
            learner_id: learner_id(number),
            title: "Fire Safety".to_owned(),
            achieved: Some(LmsTime::Instant(self.clock.now())),
            valid_until: None,
            course: None,
            score: None,
            credits: None,
            minutes: None,
            notes: None,
        };
        let learner = Learner { id: learner_id(number), is_active: true, ..Learner::default() };
        let records = LearnerRecords { records: vec![record], complete: BTreeSet::from([RecordKind::Completion]) };
        let read = Read { started_at: self.clock.now(), learner: Some(learner), records };
        let plan = self.plan.clone();
        self.store.complete_refresh(claimed, read, move |facts| plan.changes(facts)).await.expect("is kept");
    }

    fn step(&self) -> Deliver {
        Deliver {
            store: Arc::clone(&self.store),
            destination: Arc::clone(&self.destination),
            clock: self.clock.clone(),
            entropy: Arc::new(Generator::seeded(2)),
            more: Arc::clone(&self.bell),
            metrics: Arc::new(Metrics::new()),
            probing: Arc::default(),
        }
    }

    /// Lets two workers deliver until so many were told; answers the calls.
    async fn tells(&mut self, count: usize) -> Vec<Told> {
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        for _ in 0..2 {
            let step = Arc::new(Counted(self.step(), Arc::clone(&self.turns)));
            workers.spawn(work(step, Arc::clone(&self.bell), self.clock.clone(), REST_MAX, stopped.clone()));
        }
        let mut calls = Vec::new();
        while calls.iter().map(|(_, told)| told).sum::<usize>() < count {
            calls.push(self.told.recv().await.expect("the workers live"));
        }
        stop.send(true).expect("the workers listen");
        while workers.join_next().await.is_some() {}
        calls
    }
}

const BUSY: Setup = Setup {
    begins: "2026-12-01T12:00:00Z",
    persons_per_batch_max: 3,
    interval_ms: 1_000,
    takes: Duration::from_millis(1_500),
};

#[tokio::test(start_paused = true)]
async fn batches_of_two_workers_begin_exactly_one_distance_apart() {
    let mut world = world(BUSY).await;
    for number in 1..=20 {
        world.completes(number).await;
    }
    let calls = world.tells(20).await;
    // Each call takes longer than the distance, so that both workers are needed, and neither waits for the other.
    let begun: Vec<i64> = calls.iter().map(|(begun, _)| begun.0 - world.clock.base.0).collect();
    assert_eq!(begun, [0, 1_000, 2_000, 3_000, 4_000, 5_000, 6_000]);
    let told: Vec<usize> = calls.iter().map(|(_, told)| *told).collect();
    assert_eq!(told, [3, 3, 3, 3, 3, 3, 2], "each takes all that fits");
    // For each batch its own turn, one that finds no slot yet for each worker, and one that was woken for nothing.
    let turns = world.turns.load(Ordering::SeqCst);
    assert!(turns <= 4 * calls.len(), "{turns} turns for {} batches", calls.len());
}
