//! Verify against a target in memory: drift of twelve kinds is planted among thousands of clean rows, and found, and put right as the policies say.

use std::sync::{Mutex, MutexGuard};

use chrono::NaiveDate;
use chrono_tz::Tz;
use learnsync_sdk::{
    Account, Action, BlindRepeat, Change, Connector, Description, FieldType, Fields, Learner, ListedPage, ListedRow,
    MatchRule, PersonMatch, Receipt, RecordKind, Reference, SlotRule, TargetField, TargetObject, Value,
};

use super::*;
use crate::config::{History, SourceConfig};
use crate::domain::chance::Generator;
use crate::domain::drift::{DriftClass, GonePolicy, Policies, Policy};
use crate::domain::record::{Course, ReadRecords, Record};
use crate::domain::time::LmsTime;
use crate::mapping::Mapping;
use crate::pipeline::deliver::Deliver;
use crate::pipeline::destination::{Gate, References, Route};
use crate::pipeline::pace::Pace;
use crate::pipeline::plan::{Plan, PlannedRoute};
use crate::pipeline::telling::Telling;
use crate::store::tests::{HandClock, NOW, lms_id};
use crate::store::view::View;
use crate::store::{DestinationSpec, NextSubject, Open, Read, RouteSpec, Threading, VerifyCounts};
use crate::telemetry::Metrics;

const HOUR_MS: i64 = 3_600_000;
const OURS: &str = "learnsync:test:";
const PAGE: usize = 300;

/// A row of the target.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    person: String,
    mark: Option<String>,
    fields: Fields,
    is_unreadable: bool,
}

/// What the target holds, and how often it was asked to change something.
#[derive(Default)]
struct Rows {
    rows: BTreeMap<String, Row>,
    /// Where rows with a mark may be: all of them, and some that lost it.
    by_mark: BTreeMap<String, BTreeSet<String>>,
    next: u64,
    writes: usize,
    /// The target shows texts in its own way.
    is_shouting: bool,
    /// Every look fails like this.
    fails: Option<DeliveryError>,
}

struct Shelf(Arc<Mutex<Rows>>);

impl Shelf {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().expect("nobody panicked with it")
    }
}

impl Rows {
    fn with_mark(&self, person: &str, mark: &str) -> Vec<String> {
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
        self.writes += 1;
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
            rule: MatchRule::ExternalId,
        })
    }

    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        let mut rows = self.rows();
        let mut one = |change: &Change| match &change.action {
            Action::Put { fields, .. } => rows.put(change, fields),
            Action::Withdraw { row } => {
                rows.writes += 1;
                rows.rows.remove(row);
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

const LISTS: &[Claim] = &[Claim::People, Claim::ReadBack, Claim::Withdraw, Claim::List];
const READS_BACK: &[Claim] = &[Claim::People, Claim::ReadBack, Claim::Withdraw];

struct World {
    folder: tempfile::TempDir,
    clock: Arc<HandClock>,
    store: Arc<Store>,
    destination: Arc<Destination>,
    plan: Plan,
    rows: Arc<Mutex<Rows>>,
    guard: GuardConfig,
}

async fn world(claims: &'static [Claim], policies: Policies) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = HandClock::at(NOW);
    let open = Open {
        path: folder.path().to_owned(),
        installation: "test".to_owned(),
        threading: Threading::Inline,
        clock: clock.clone(),
        entropy: Arc::new(Generator::seeded(1)),
        pages_max: None,
    };
    let store = Arc::new(open.open().expect("the store opens"));
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
        match_rules: vec![MatchRule::ExternalId],
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

fn date(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 1, 1).expect("a date") + chrono::Days::new(day.into())
}

fn completion(learner: u32, number: u32) -> Record {
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

fn slot(learner: u32, number: u32) -> String {
    format!("completion/e{learner:05}-{number:02}")
}

impl World {
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().expect("nobody panicked with it")
    }

    /// The LMS is read for these learners: each holds so many completions, as they are or changed.
    async fn read(&self, learners: std::ops::Range<u32>, records_of: impl Fn(u32) -> Vec<Record>) {
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

    fn gatekeeper(&self) -> Arc<Gatekeeper> {
        Arc::new(Gatekeeper {
            store: Arc::clone(&self.store),
            destination: Arc::clone(&self.destination),
            clock: self.clock.clone(),
            probing: tokio::sync::Mutex::default(),
        })
    }

    /// Delivers what is due.
    async fn deliver(&self) {
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
    async fn turn(&self, asked: bool) -> Turn {
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
    async fn verify(&self) -> (VerifyCounts, Option<String>) {
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

    async fn run(&self) -> Option<Run> {
        self.store.verify_under_way(self.destination.id).await.expect("looks")
    }

    /// Somebody works on the rows of a place by hand.
    fn edit(&self, learner: u32, number: u32, edit: impl FnOnce(&mut Rows, String)) {
        let mark = format!("{OURS}{}", slot(learner, number));
        let mut rows = self.rows();
        let id = rows.with_mark(&format!("p{learner:012}"), &mark).remove(0);
        edit(&mut rows, id.clone());
        // A copy, if one was made.
        rows.by_mark.entry(mark).or_default().insert(format!("{id}-copy"));
    }

    fn set(&self, learner: u32, number: u32, field: &str, value: Value) {
        self.edit(learner, number, |rows, id| {
            rows.rows.get_mut(&id).expect("is there").fields.insert(field.to_owned(), value);
        });
    }

    /// What was found in the newest run: (class, learner and number of the record or the row).
    fn findings(&self) -> Vec<(DriftClass, String)> {
        let mut view = View::open(self.folder.path()).expect("the store can be looked into");
        let run = view.list_runs(None, 1).expect("lists").runs[0].id;
        let shown = view.show_run(run, 100_000).expect("shows").expect("is there");
        let class = |word: &str| DriftClass::parse(word).expect("a class");
        let found = shown.findings.into_iter();
        found.map(|found| (class(&found.class), found.record.or(found.row).unwrap_or_default())).collect()
    }
}

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

impl World {
    fn next_night(&self) -> Option<Timestamp> {
        Schedule::parse("15 2 * * *", Tz::UTC).expect("a schedule").next_after(self.clock.now())
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
