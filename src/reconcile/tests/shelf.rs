//! A target in memory for tests: a shelf of rows that people edit by hand, and all that a daemon would do with it, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use chrono::NaiveDate;
use chrono_tz::Tz;
use learnsync_sdk::{
    Account, Action, BlindRepeat, Change, Claim, Connector, DeliveryError, Description, ErrorKind, FieldType, Fields,
    Learner, ListedPage, ListedRow, MatchRule, Observation, PersonMatch, Place, Receipt, RecordKind, Reference,
    RouteMode, SlotRule, TargetField, TargetObject, Value,
};

use crate::config::{GuardConfig, History, SourceConfig};
use crate::domain::chance::Generator;
use crate::domain::drift::{DriftClass, Policies};
use crate::domain::record::{Course, ReadRecords, Record};
use crate::domain::time::{Clock, LmsTime};
use crate::mapping::Mapping;
use crate::pipeline::deliver::Deliver;
use crate::pipeline::destination::{Destination, Gate, References, Route};
use crate::pipeline::gatekeeper::Gatekeeper;
use crate::pipeline::pace::Pace;
use crate::pipeline::plan::{Plan, PlannedRoute};
use crate::pipeline::telling::Telling;
use crate::pipeline::worker::{Turn, Work};
use crate::reconcile::schedule::Schedule;
use crate::reconcile::verify::Verify;
use crate::store::tests::{HandClock, NOW, lms_id, open};
use crate::store::view::View;
use crate::store::view::runs::RunLine;
use crate::store::{DestinationSpec, NextSubject, Read, RouteSpec, Store, Verify as Run, VerifyCounts};
use crate::telemetry::Metrics;

pub(crate) const HOUR_MS: i64 = 3_600_000;
pub(crate) const OURS: &str = "learnsync:test:";
const PAGE: usize = 300;

/// A row of the target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) person: String,
    pub(crate) mark: Option<String>,
    pub(crate) fields: Fields,
    pub(crate) is_unreadable: bool,
}

/// What the target holds, and how often it was asked to change something.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) rows: BTreeMap<String, Row>,
    /// Where rows with a mark may be: all of them, and some that lost it.
    pub(crate) by_mark: BTreeMap<String, BTreeSet<String>>,
    pub(crate) next: u64,
    pub(crate) writes: usize,
    /// The target shows texts in its own way.
    pub(crate) is_shouting: bool,
    /// What was put, in the order in which it came: the mark and the fields.
    pub(crate) log: Vec<(String, Fields)>,
    /// Puts of this mark are refused.
    pub(crate) refuses: Option<String>,
    /// Every look fails like this.
    pub(crate) fails: Option<DeliveryError>,
    /// What is removed goes, and the answer is lost.
    pub(crate) loses_removals: bool,
}

pub(crate) struct Shelf(pub(crate) Arc<Mutex<Rows>>);

impl Shelf {
    pub(crate) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().expect("nobody panicked with it")
    }
}

impl Rows {
    pub(crate) fn with_mark(&self, person: &str, mark: &str) -> Vec<String> {
        let ours = |row: &Row| row.person == person && row.mark.as_deref() == Some(mark);
        let ids = self.by_mark.get(mark).into_iter().flatten();
        ids.filter(|id| self.rows.get(*id).is_some_and(ours)).cloned().collect()
    }

    fn shown(&self, row: &Row) -> Result<Fields, String> {
        if row.is_unreadable {
            return Err("half a row".to_owned());
        }
        let show = |value: &Value| match value {
            Value::Text(text) if self.is_shouting => Value::Text(text.to_uppercase()),
            value => value.clone(),
        };
        Ok(row.fields.iter().map(|(name, value)| (name.clone(), show(value))).collect())
    }

    fn put(&mut self, change: &Change, fields: &Fields) -> Result<Receipt, DeliveryError> {
        if self.refuses.as_ref() == Some(&change.mark) {
            return Err(DeliveryError::new(ErrorKind::Rejected, "this one not"));
        }
        self.writes += 1;
        self.log.push((change.mark.clone(), fields.clone()));
        let found = self.with_mark(&change.person, &change.mark);
        let id = match found.as_slice() {
            [] => {
                self.next += 1;
                let id = format!("r{:06}", self.next);
                self.by_mark.entry(change.mark.clone()).or_default().insert(id.clone());
                id
            }
            [id] => id.clone(),
            _ => return Err(DeliveryError::new(ErrorKind::Rejected, "several rows")),
        };
        let row = self.rows.entry(id.clone()).or_insert_with(|| Row {
            person: change.person.clone(),
            mark: Some(change.mark.clone()),
            fields: Fields::new(),
            is_unreadable: false,
        });
        row.fields.extend(fields.clone());
        Ok(Receipt { row: id, status: 200, words: "ok".to_owned(), wrote: true })
    }
}

#[async_trait]
impl Connector for Shelf {
    fn object(&self, name: &str) -> Result<TargetObject, String> {
        let field = |name: &str, kind| TargetField { name: name.to_owned(), kind, required: false, length_max: None };
        let fields = vec![
            field("title", FieldType::Text),
            field("completed", FieldType::Date),
            field("expires", FieldType::Date),
            field("score", FieldType::Number),
        ];
        Ok(TargetObject { name: name.to_owned(), fields, open: false })
    }

    async fn probe(&self) -> Result<Account, DeliveryError> {
        Ok(Account { identity: "the shelf".to_owned() })
    }

    async fn references(&self, _kind: &str) -> Result<Vec<Reference>, DeliveryError> {
        Ok(Vec::new())
    }

    async fn find_person(&self, learner: &Learner, _rules: &[MatchRule]) -> Result<PersonMatch, DeliveryError> {
        Ok(PersonMatch::Found {
            person: learner.id.replace("a14c149a-2ce0-41d4-b532-", "p"),
            rule: MatchRule::EXTERNAL_ID,
        })
    }

    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        let mut rows = self.rows();
        let mut one = |change: &Change| match &change.action {
            Action::Put { fields, .. } => rows.put(change, fields),
            Action::Withdraw { row } => {
                rows.writes += 1;
                rows.rows.remove(row);
                if rows.loses_removals {
                    return Err(DeliveryError::new(ErrorKind::Ambiguous, "the connection broke"));
                }
                Ok(Receipt { row: row.clone(), status: 200, words: "removed".to_owned(), wrote: true })
            }
        };
        batch.iter().map(&mut one).collect()
    }

    async fn observe(&self, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
        let rows = self.rows();
        let one = |place: &Place| match (&rows.fails, rows.with_mark(&place.person, &place.mark).as_slice()) {
            (Some(error), _) => Err(error.clone()),
            (None, []) => Ok(Observation::Absent),
            (None, [id]) => match rows.shown(&rows.rows[id]) {
                Ok(fields) => Ok(Observation::Holds { row: id.clone(), fields }),
                Err(words) => Err(DeliveryError::new(ErrorKind::Rejected, words)),
            },
            (None, several) => Ok(Observation::Several { rows: several.to_vec() }),
        };
        batch.iter().map(one).collect()
    }

    async fn list(&self, _object: &str, page: Option<&str>) -> Result<ListedPage, DeliveryError> {
        let rows = self.rows();
        if let Some(error) = &rows.fails {
            return Err(error.clone());
        }
        let after = page.unwrap_or_default().to_owned();
        let some: Vec<(&String, &Row)> = rows.rows.iter().filter(|(id, _)| **id > after).take(PAGE).collect();
        let next = (some.len() == PAGE).then(|| some[PAGE - 1].0.clone());
        let listed = some.into_iter().map(|(id, row)| ListedRow {
            row: id.clone(),
            person: Some(row.person.clone()),
            mark: row.mark.clone(),
            fields: rows.shown(row),
        });
        Ok(ListedPage { rows: listed.collect(), next })
    }
}

fn description(claims: &'static [Claim]) -> Description {
    Description {
        name: "shelf",
        summary: "A shelf in memory.",
        documentation: "none",
        claims,
        blind_repeat: BlindRepeat::MayLose,
        reference_kinds: &[],
        settle_seconds: 0,
        persons_per_batch_max: 50,
        concurrency_max: 1,
        batch_interval_ms: 0,
        settings: &[],
        default_routes: Vec::new(),
    }
}

pub(crate) const LISTS: &[Claim] = &[Claim::People, Claim::ReadBack, Claim::Withdraw, Claim::List];
pub(crate) const READS_BACK: &[Claim] = &[Claim::People, Claim::ReadBack, Claim::Withdraw];

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) store: Arc<Store>,
    pub(crate) destination: Arc<Destination>,
    pub(crate) plan: Plan,
    pub(crate) rows: Arc<Mutex<Rows>>,
    pub(crate) guard: GuardConfig,
}

pub(crate) async fn world(claims: &'static [Claim], policies: Policies) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = HandClock::at(NOW);
    let store = Arc::new(open(folder.path(), Arc::clone(&clock), 1));
    let route = RouteSpec { name: "done".to_owned(), mode: RouteMode::State, mapping_digest: "the mapping".to_owned() };
    let spec = DestinationSpec { name: "hr".to_owned(), connector: "shelf".to_owned(), routes: vec![route] };
    let topology = store.sync_topology(vec![spec]).await.expect("keeps the destinations");
    let hr = &topology.destinations["hr"];
    let rows = Arc::new(Mutex::new(Rows::default()));
    let connector = Arc::new(Shelf(Arc::clone(&rows)));
    let source = |path: &str| SourceConfig { path: Some(path.to_owned()), ..SourceConfig::default() };
    let fields = [("title", "title"), ("completed", "achieved"), ("expires", "valid_until"), ("score", "score")]
        .map(|(field, path)| (field.to_owned(), source(path)));
    let object = connector.object("training").expect("an object");
    let mapping = Mapping::compile(&fields.into(), &object, Tz::UTC, &BTreeMap::new()).expect("a mapping");
    let route = Route {
        name: "done".to_owned(),
        mode: RouteMode::State,
        object: "training".to_owned(),
        mapping: Arc::new(mapping),
        mapping_id: hr.routes["done"].mapping,
        drift: policies,
    };
    let telling = Telling { quiet_hours: None, late_after_ms: 24 * HOUR_MS, zone: Tz::UTC };
    let destination = Destination {
        name: "hr".to_owned(),
        id: hr.id,
        connector,
        description: description(claims),
        is_shadow: false,
        routes: BTreeMap::from([(hr.routes["done"].id, route)]),
        match_rules: vec![MatchRule::EXTERNAL_ID],
        installation: "test".to_owned(),
        breaker: Mutex::default(),
        gate: Gate::default(),
        pace: Pace::new(0),
        telling: telling.clone(),
        unkept: Mutex::default(),
        settling: crate::pipeline::settling::Settling::default(),
        references: References::default(),
    };
    let planned = PlannedRoute {
        destination: hr.id,
        route: hr.routes["done"].id,
        record: RecordKind::Completion,
        says_standing: false,
        mode: RouteMode::State,
        slot: SlotRule::Record,
        history: History::All,
        first_seen_at: hr.first_seen_at,
        zone: Tz::UTC,
        telling,
    };
    World {
        folder,
        clock,
        store,
        destination: Arc::new(destination),
        plan: Plan { routes: vec![planned] },
        rows,
        guard: GuardConfig::default(),
    }
}

pub(crate) fn date(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 1, 1).expect("a date") + chrono::Days::new(day.into())
}

pub(crate) fn completion(learner: u32, number: u32) -> Record {
    let day = (learner * 7 + number * 13) % 300;
    Record {
        title: format!("Course {number} of {learner}"),
        achieved: Some(LmsTime::Date(date(day))),
        valid_until: Some(LmsTime::Date(date(day + 365))),
        score: Some(f64::from(50 + (learner + number) % 50)),
        course: Some(Course { id: format!("c{number}"), ..Course::default() }),
        ..Record::new(RecordKind::Completion, format!("e{learner:05}-{number:02}"), lms_id(learner))
    }
}

pub(crate) fn slot(learner: u32, number: u32) -> String {
    format!("completion/e{learner:05}-{number:02}")
}

impl World {
    pub(crate) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().expect("nobody panicked with it")
    }

    /// The LMS is read for these learners: each holds so many completions, as they are or changed.
    pub(crate) async fn read(&self, learners: std::ops::Range<u32>, records_of: impl Fn(u32) -> Vec<Record>) {
        self.clock.later(1_000);
        let mut sweep = self.store.begin_sweep("main").await.expect("begins");
        sweep.counts.total_first = Some(10_000);
        for chunk in learners.clone().collect::<Vec<u32>>().chunks(100) {
            let ids = chunk.iter().map(|number| lms_id(*number)).collect();
            self.store.advance_sweep("main", ids, sweep.clone()).await.expect("marks");
        }
        self.store.finish_sweep(sweep.id, true).await.expect("ends");
        while let NextSubject::Dirty(claimed) = self.store.next_subject("main").await.expect("claims") {
            let number: u32 = claimed.lms_id.rsplit('-').next().expect("a number").parse().expect("a number");
            let learner = Learner { id: lms_id(number), is_active: true, ..Learner::default() };
            let complete = BTreeSet::from([RecordKind::Completion]);
            let records = ReadRecords { records: records_of(number), complete };
            let read = Read { started_at: self.clock.now(), learner: Some(learner), records, changes_at: None };
            let plan = self.plan.clone();
            self.store.complete_refresh(claimed, read, move |facts| plan.changes(facts)).await.expect("is kept");
        }
    }

    pub(crate) fn gatekeeper(&self) -> Arc<Gatekeeper> {
        Arc::new(Gatekeeper {
            store: Arc::clone(&self.store),
            destination: Arc::clone(&self.destination),
            clock: self.clock.clone(),
            probing: tokio::sync::Mutex::default(),
        })
    }

    /// Delivers what is due.
    pub(crate) async fn deliver(&self) {
        self.clock.later(1_000);
        let deliver = Deliver {
            store: Arc::clone(&self.store),
            destination: Arc::clone(&self.destination),
            clock: self.clock.clone(),
            entropy: Arc::new(Generator::seeded(2)),
            more: Arc::default(),
            metrics: Arc::new(Metrics::new()),
            gatekeeper: self.gatekeeper(),
        };
        while deliver.run_once().await.expect("the store works") == Turn::Worked {}
    }

    /// One turn of a verify that knows nothing but what the store does, as if each turn were another life of the daemon.
    pub(crate) async fn turn(&self, asked: bool) -> Turn {
        let verify = Verify {
            destination: Arc::clone(&self.destination),
            gatekeeper: self.gatekeeper(),
            store: Arc::clone(&self.store),
            schedule: Schedule::parse("15 2 * * *", Tz::UTC).expect("a schedule"),
            guard: self.guard.clone(),
            asked: Arc::new(AtomicBool::new(asked)),
            clock: self.clock.clone(),
            entropy: Arc::new(Generator::seeded(3)),
            deliver: Arc::default(),
            failures: AtomicU32::new(0),
        };
        verify.run_once().await.expect("the store works")
    }

    /// A whole verify, with what it makes due delivered; answers its counts and why it was held, if it was.
    pub(crate) async fn verify(&self) -> (VerifyCounts, Option<String>) {
        self.clock.later(1_000);
        self.turn(true).await;
        let mut last = self.run().await.expect("it began");
        loop {
            let turn = self.turn(false).await;
            let Some(run) = self.run().await else { return (last.progress.counts, None) };
            if run.held.is_some() {
                return (run.progress.counts, run.held);
            }
            last = run;
            if let Turn::Rest(_) = turn {
                self.deliver().await;
                self.clock.later(5_000);
            }
        }
    }

    pub(crate) async fn run(&self) -> Option<Run> {
        self.store.verify_under_way(self.destination.id).await.expect("looks")
    }

    /// Somebody works on the rows of a place by hand.
    pub(crate) fn edit(&self, learner: u32, number: u32, edit: impl FnOnce(&mut Rows, String)) {
        let mark = format!("{OURS}{}", slot(learner, number));
        let mut rows = self.rows();
        let id = rows.with_mark(&format!("p{learner:012}"), &mark).remove(0);
        edit(&mut rows, id.clone());
        // A copy, if one was made.
        rows.by_mark.entry(mark).or_default().insert(format!("{id}-copy"));
    }

    pub(crate) fn set(&self, learner: u32, number: u32, field: &str, value: Value) {
        self.edit(learner, number, |rows, id| {
            rows.rows.get_mut(&id).expect("is there").fields.insert(field.to_owned(), value);
        });
    }

    /// The newest run.
    pub(crate) fn newest_run(&self) -> RunLine {
        let mut view = View::open(self.folder.path()).expect("the store can be looked into");
        view.list_runs(None, 1).expect("lists").runs.remove(0)
    }

    /// What was found in the newest run: (class, learner and number of the record or the row).
    pub(crate) fn findings(&self) -> Vec<(DriftClass, String)> {
        let mut view = View::open(self.folder.path()).expect("the store can be looked into");
        let run = view.list_runs(None, 1).expect("lists").runs[0].id;
        let shown = view.show_run(run, 100_000).expect("shows").expect("is there");
        let class = |word: &str| DriftClass::parse(word).expect("a class");
        let found = shown.findings.into_iter();
        found.map(|found| (class(&found.class), found.record.or(found.row).unwrap_or_default())).collect()
    }
}
