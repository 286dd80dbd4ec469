//! Deliver against a target that appends, under a paused clock: when batches begin, what waits for the morning, and what is too old.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono_tz::Tz;
use learnsync_sdk::{
    Account, Connector, Description, FieldType, Learner, MatchRule, RecordKind, Reference, SlotRule, TargetField,
    TargetObject,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::*;
use crate::config::{self, History, SourceConfig};
use crate::domain::chance::Generator;
use crate::domain::drift::Policies;
use crate::domain::event::{EventName, RawEvent, Reading};
use crate::domain::record::{ReadRecords, Record};
use crate::domain::time::LmsTime;
use crate::mapping::Mapping;
use crate::pipeline::destination::{Gate, References};
use crate::pipeline::pace::Pace;
use crate::pipeline::plan::{Plan, PlannedRoute};
use crate::pipeline::telling::{QuietHours, Telling};
use crate::pipeline::worker::{REST_MAX, work};
use crate::store::view::{DeliveryView, View};
use crate::store::{DestinationSpec, NextSubject, Open, Read, RouteSpec, Taken, Threading};

const HOUR_MS: i64 = 3_600_000;

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
    quiet: Option<(&'static str, &'static str)>,
    persons_per_batch_max: usize,
    interval_ms: u32,
    takes: Duration,
}

struct World {
    folder: tempfile::TempDir,
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
    let time = |text: &str| text.parse().expect("a time of the day");
    let quiet = |(from, until)| config::QuietHours { from: time(from), until: time(until), zone: None };
    let telling = Telling {
        quiet_hours: setup.quiet.map(|hours| QuietHours::new(&quiet(hours), Tz::UTC)),
        late_after_ms: 24 * HOUR_MS,
        zone: Tz::UTC,
    };
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
        mode: RouteMode::Append,
        object: "message".to_owned(),
        mapping: Arc::new(mapping),
        mapping_id: row.mapping,
        drift: Policies::default(),
    };
    let destination = Destination {
        name: "cheers".to_owned(),
        id: rows.id,
        connector,
        description: description(&setup),
        is_shadow: false,
        routes: BTreeMap::from([(row.id, route)]),
        match_rules: Vec::new(),
        installation: "test".to_owned(),
        breaker: Mutex::default(),
        gate: Gate::default(),
        pace: Pace::new(setup.interval_ms),
        telling: telling.clone(),
        unkept: Mutex::default(),
        settling: crate::pipeline::settling::Settling::default(),
        references: References::default(),
    };
    let planned = PlannedRoute {
        destination: rows.id,
        route: row.id,
        record: RecordKind::Completion,
        says_standing: false,
        mode: RouteMode::Append,
        slot: SlotRule::Record,
        history: History::All,
        first_seen_at: rows.first_seen_at,
        zone: Tz::UTC,
        telling,
    };
    World {
        folder,
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
            name: EventName::called("enrollment_completed_by_learner").expect("a known event"),
            user_id: Some(learner_id(number)),
            ids: BTreeMap::new(),
            oddity: None,
        };
        let mut dedupe = [0; 32];
        dedupe[..8].copy_from_slice(&number.to_le_bytes());
        let events = self.store.take_new_events().await.expect("takes");
        let taken = events.into_iter().map(|event| Taken { event, readings: vec![(reading.clone(), dedupe)] });
        self.store.finish_intake(taken.collect()).await.expect("intake ends");
        let NextSubject::Dirty(claimed) = self.store.next_subject("main").await.expect("claims") else {
            panic!("the learner is dirty")
        };
        let record = Record {
            title: "Fire Safety".to_owned(),
            achieved: Some(LmsTime::Instant(self.clock.now())),
            ..Record::new(RecordKind::Completion, format!("e{number}"), learner_id(number))
        };
        let learner = Learner { id: learner_id(number), is_active: true, ..Learner::default() };
        let records = ReadRecords { records: vec![record], complete: BTreeSet::from([RecordKind::Completion]) };
        let read = Read { started_at: self.clock.now(), learner: Some(learner), records, changes_at: None };
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
            gatekeeper: Arc::new(Gatekeeper {
                store: Arc::clone(&self.store),
                destination: Arc::clone(&self.destination),
                clock: self.clock.clone(),
                probing: tokio::sync::Mutex::default(),
            }),
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

    /// Delivers until there is nothing to do now; answers until when.
    async fn rests_until(&self) -> Option<Timestamp> {
        let step = self.step();
        loop {
            if let Turn::Rest(until) = step.run_once().await.expect("the store works") {
                return until;
            }
        }
    }

    fn delivery(&self, number: usize) -> DeliveryView {
        let mut view = View::open(self.folder.path()).expect("the store is there");
        let mut found = view.explain(&learner_id(number)).expect("is read");
        let mut records = found.remove(0).records;
        records.remove(0).deliveries.remove(0)
    }
}

const BUSY: Setup = Setup {
    begins: "2026-12-01T12:00:00Z",
    quiet: None,
    persons_per_batch_max: 3,
    interval_ms: 1_000,
    takes: Duration::from_millis(1_500),
};

const NIGHTLY: Setup = Setup {
    begins: "2026-12-01T21:00:00Z",
    quiet: Some(("20:00", "07:00")),
    persons_per_batch_max: 50,
    interval_ms: 1_000,
    takes: Duration::ZERO,
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

#[tokio::test(start_paused = true)]
async fn what_gathers_in_quiet_hours_is_one_batch_when_they_end() {
    let mut world = world(NIGHTLY).await;
    for number in 1..=20 {
        world.completes(number).await;
    }
    let morning = at("2026-12-02T07:00:00Z");
    assert_eq!(world.rests_until().await, Some(morning));
    let waits = world.delivery(7);
    assert_eq!((waits.state.as_str(), waits.cause.as_deref()), ("pending", Some("quiet_hours")));
    assert_eq!(waits.due_at, Some(morning));
    assert_eq!(waits.cause_detail.as_deref(), Some("it is quiet at cheers until 2026-12-02T07:00:00Z"));
    assert_eq!(world.tells(20).await, [(morning, 20)]);
    let told = world.delivery(7);
    assert_eq!((told.state.as_str(), told.cause, told.attempts.len()), ("settled", None, 1));
}

#[tokio::test(start_paused = true)]
async fn what_waited_too_long_is_not_told_and_says_why() {
    let mut world = world(BUSY).await;
    world.completes(1).await;
    tokio::time::advance(Duration::from_secs(23 * 3_600)).await;
    world.completes(2).await;
    tokio::time::advance(Duration::from_secs(3_601)).await;
    assert_eq!(world.tells(1).await.len(), 1);
    let late = world.delivery(1);
    assert_eq!((late.state.as_str(), late.cause.as_deref()), ("skipped", Some("waited_too_long")));
    assert_eq!((late.cause_detail.as_deref(), late.due_at), (Some("it waited until it was older than 24 h"), None));
    assert_eq!(world.delivery(2).state, "settled");
}
