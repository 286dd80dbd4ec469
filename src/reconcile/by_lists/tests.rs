//! A portal that changes while its lists are read, and what the sweep makes of it; a kill at every commit; nights in which nothing happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex as Lock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use async_trait::async_trait;
use chrono_tz::Tz;
use learnsync_sdk::{Learner, RecordKind};
use tokio::sync::Notify;

use super::*;
use crate::domain::chance::{Entropy, Generator};
use crate::domain::event::{EventName, RawEvent, Reading};
use crate::domain::listing::{Sorting, turn_of};
use crate::domain::record::{ReadRecords, Record};
use crate::domain::standing::Calendar;
use crate::domain::subject::SubjectKind;
use crate::domain::time::{Clock, Timestamp};
use crate::lms::{BulkRow, LearnerPage, Lms, LmsError, Probe, Profile};
use crate::pipeline::portal::Portal;
use crate::pipeline::worker::{Turn, Work};
use crate::reconcile::backfill::Backfill;
use crate::reconcile::schedule::Schedule;
use crate::reconcile::sweep::Ask;
use crate::store::tests::{HandClock, NOW};
use crate::store::{ClaimedSubject, NewEvent, NextSubject, Open, Read, Store, Taken, Threading, Witness};

const HOUR_MS: i64 = 3_600_000;

/// What a read of a learner finds: the profile's version, and that of each completed enrolment; none when the LMS does not know them.
type Facts = Option<(u64, BTreeMap<String, u64>)>;

/// In which order the lists come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    Sorted(Sorting),
    /// By something else that does not change.
    Otherwise,
}

#[derive(Clone)]
struct Enrolment {
    learner: String,
    version: u64,
    is_complete: bool,
}

/// What is true in the portal.
struct Model {
    learners: BTreeMap<String, u64>,
    courses: BTreeMap<String, BTreeMap<String, Enrolment>>,
    version: u64,
    listed: Listed,
    page_rows: usize,
}

/// A portal of lists.
struct Fake {
    model: Lock<Model>,
    chance: Generator,
    /// Things happen between any two calls, and calls fail.
    is_restless: AtomicBool,
    is_forbidden: AtomicBool,
    /// Pages of learners that were read for their ids alone.
    id_pages: AtomicU32,
    list_pages: AtomicU32,
}

impl Fake {
    fn new(seed: u64, learners: usize, courses: usize, enrolments: usize) -> Self {
        let model = Model {
            learners: BTreeMap::new(),
            courses: BTreeMap::new(),
            version: 0,
            listed: Listed::Sorted(Sorting::Text),
            page_rows: 12,
        };
        let fake = Self {
            model: Lock::new(model),
            chance: Generator::seeded(seed),
            is_restless: AtomicBool::new(false),
            is_forbidden: AtomicBool::new(false),
            id_pages: AtomicU32::new(0),
            list_pages: AtomicU32::new(0),
        };
        for _ in 0..learners {
            fake.happen(6);
        }
        for _ in 0..courses {
            fake.happen(8);
        }
        for _ in 0..enrolments {
            fake.happen(2);
        }
        fake
    }

    fn guid(&self) -> String {
        let mut bytes = [0; 16];
        self.chance.fill(&mut bytes);
        uuid::Uuid::from_bytes(bytes).hyphenated().to_string()
    }

    fn below(&self, bound: usize) -> usize {
        self.chance.below(bound as u64) as usize
    }

    fn pick<'a, K: Clone, V>(&self, map: &'a BTreeMap<K, V>) -> Option<&'a K> {
        map.keys().nth(self.below(map.len()))
    }

    /// One thing happens. Nothing of it has a date: what is added may well be old.
    fn happen(&self, what: usize) {
        let mut model = self.model.lock().expect("no panic");
        let model = &mut *model;
        model.version += 1;
        let version = model.version;
        let learner = self.pick(&model.learners).cloned().unwrap_or_default();
        let course = self.pick(&model.courses).cloned().unwrap_or_default();
        if learner.is_empty() && what != 6 {
            return;
        }
        let rows = model.courses.get_mut(&course);
        let is_complete = self.below(8) > 0;
        match what {
            0 => drop(model.learners.insert(learner, version)),
            1 | 3 | 4 => {
                let Some(rows) = rows else { return };
                let Some(row_id) = self.pick(rows).cloned() else { return };
                let row = rows.get_mut(&row_id).expect("was picked");
                match what {
                    1 => (row.version, row.is_complete) = (version, is_complete),
                    3 => drop(rows.remove(&row_id)),
                    _ => row.learner = learner,
                }
            }
            2 => {
                let Some(rows) = rows else { return };
                rows.insert(self.guid(), Enrolment { learner, version, is_complete });
            }
            5 => drop(model.learners.remove(&learner)),
            6 => drop(model.learners.insert(self.guid(), version)),
            7 if self.below(6) == 0 => drop(model.courses.remove(&course)),
            8 => drop(model.courses.insert(self.guid(), BTreeMap::new())),
            9 => model.page_rows = 12 + self.below(4),
            _ => {}
        }
    }

    /// What a restless portal does between two calls.
    fn stir(&self) {
        while self.is_restless.load(Ordering::SeqCst) && self.below(3) == 0 {
            self.happen(self.below(9));
        }
    }

    fn facts(&self, learner: &str) -> Facts {
        let model = self.model.lock().expect("no panic");
        let version = *model.learners.get(learner)?;
        let rows = model.courses.values().flatten().filter(|(_, row)| row.learner == learner && row.is_complete);
        Some((version, rows.map(|(id, row)| (id.clone(), row.version)).collect()))
    }

    fn everybody(&self) -> BTreeSet<String> {
        self.model.lock().expect("no panic").learners.keys().cloned().collect()
    }

    /// One page, at one instant. Rows that are no facts have their place in it, and are left out.
    fn page(
        &self,
        number: u32,
        rows: impl FnOnce(&Model) -> Vec<(String, Option<BulkRow>)>,
    ) -> Result<BulkPage, LmsError> {
        self.list_pages.fetch_add(1, Ordering::SeqCst);
        self.stir();
        if self.is_forbidden.load(Ordering::SeqCst) {
            return Err(LmsError::Forbidden("it".to_owned()));
        }
        let is_restless = self.is_restless.load(Ordering::SeqCst);
        match self.below(20) {
            0 if is_restless => return Err(LmsError::Unavailable("503".to_owned())),
            1 if is_restless => return Err(LmsError::PartialRead("it broke off".to_owned())),
            2 if is_restless && self.below(4) == 0 => return Err(LmsError::Forbidden("it, today".to_owned())),
            _ => {}
        }
        let model = self.model.lock().expect("no panic");
        let mut rows = rows(&model);
        rows.sort_by_cached_key(|(id, _)| match model.listed {
            Listed::Sorted(sorting) => sorting.key(id),
            Listed::Otherwise => id.bytes().rev().collect(),
        });
        let (total, size) = (rows.len(), model.page_rows);
        let from = (number as usize * size).min(total);
        let mut page: Vec<_> = rows[from..(from + size).min(total)].to_vec();
        let is_short = is_restless && self.below(15) == 0 && !page.is_empty();
        if is_short {
            page.remove(self.below(page.len()));
        }
        let more = from + page.len() < total && !page.is_empty();
        let rows = page.into_iter().filter_map(|(_, row)| row).collect();
        Ok(BulkPage { rows, total: Some(total as u64), more, is_whole: !is_short })
    }
}

#[async_trait]
impl Lms for Fake {
    async fn learner(&self, _id: &str) -> Result<Option<Profile>, LmsError> {
        Err(LmsError::Forbidden("the test reads the model".to_owned()))
    }

    async fn records(&self, _learner_id: &str) -> Result<ReadRecords, LmsError> {
        Err(LmsError::Forbidden("the test reads the model".to_owned()))
    }

    async fn list(&self, _kind: SubjectKind) -> Result<ReadRecords, LmsError> {
        Ok(ReadRecords::default())
    }

    async fn learner_ids(&self, page: u32) -> Result<LearnerPage, LmsError> {
        self.id_pages.fetch_add(1, Ordering::SeqCst);
        self.stir();
        let everybody: Vec<String> = self.everybody().into_iter().collect();
        let from = (page as usize * 10).min(everybody.len());
        let ids = everybody[from..(from + 10).min(everybody.len())].to_vec();
        Ok(LearnerPage { more: from + ids.len() < everybody.len(), total: everybody.len() as u64, ids })
    }

    fn bulk(&self) -> Option<&dyn Bulk> {
        Some(self)
    }

    async fn probe(&self) -> Result<Probe, LmsError> {
        Ok(Probe::default())
    }
}

#[async_trait]
impl Bulk for Fake {
    async fn plan(&self) -> Result<BulkPlan, LmsError> {
        self.stir();
        let courses = self.model.lock().expect("no panic").courses.keys().cloned().collect();
        // So many that lists are always cheaper.
        Ok(BulkPlan { courses, kinds: RecordKind::ALL.into_iter().collect() })
    }

    async fn learners(&self, page: u32) -> Result<BulkPage, LmsError> {
        self.page(page, |model| {
            let row = |(id, version): (&String, &u64)| {
                let row = BulkRow {
                    learner_id: id.clone(),
                    row_id: String::new(),
                    achieved: None,
                    row: version.to_string().into_bytes(),
                };
                (id.clone(), Some(row))
            };
            model.learners.iter().map(row).collect()
        })
    }

    async fn enrolments(&self, course: &str, page: u32) -> Result<BulkPage, LmsError> {
        self.page(page, |model| {
            let row = |(id, enrolment): (&String, &Enrolment)| {
                let row = BulkRow {
                    learner_id: enrolment.learner.clone(),
                    row_id: id.clone(),
                    achieved: None,
                    row: format!("{id} {}", enrolment.version).into_bytes(),
                };
                (id.clone(), enrolment.is_complete.then_some(row))
            };
            model.courses.get(course).into_iter().flatten().map(row).collect()
        })
    }

    async fn rest_of(
        &self,
        _id: &str,
        _staged: &[Vec<u8>],
        _kinds: &BTreeSet<RecordKind>,
    ) -> Result<Option<(Profile, ReadRecords)>, LmsError> {
        Err(LmsError::Forbidden("the test reads the model".to_owned()))
    }
}

/// A read that has seen the LMS, and is not kept yet.
struct Seen {
    claimed: ClaimedSubject,
    started_at: Timestamp,
    facts: Facts,
}

/// The sweep, the backfill and their store around the fake; the test itself is the reader, and keeps what it read.
struct World {
    folder: tempfile::TempDir,
    clock: Arc<HandClock>,
    fake: Arc<Fake>,
    life: Option<(Arc<Store>, Sweep, Backfill)>,
    ledger: BTreeMap<String, Facts>,
    /// How many learners were read.
    reads: usize,
    latest_ms: i64,
}

impl World {
    /// A portal that was read in whole lists.
    async fn new(fake: Fake) -> Self {
        let mut world = Self::unread(fake).await;
        world.back_fill().await;
        world.drain().await;
        world
    }

    async fn unread(fake: Fake) -> Self {
        let mut world = Self {
            folder: tempfile::tempdir().expect("a folder"),
            clock: HandClock::at(NOW),
            fake: Arc::new(fake),
            life: None,
            ledger: BTreeMap::new(),
            reads: 0,
            latest_ms: NOW,
        };
        world.live(Threading::Inline).await;
        world
    }

    /// The daemon is killed, and starts anew.
    async fn live(&mut self, threading: Threading) {
        self.life = None;
        let open = Open {
            path: self.folder.path().to_owned(),
            installation: "test".to_owned(),
            threading,
            clock: self.clock.clone(),
            entropy: Arc::new(Generator::seeded(1)),
            pages_max: None,
        };
        let store = Arc::new(open.open().expect("the store opens"));
        let lms: Arc<dyn Lms> = Arc::clone(&self.fake) as Arc<dyn Lms>;
        let portal = Arc::new(Portal::load("main", lms, Calendar::default(), &store).await.expect("loads"));
        let sweep = Sweep {
            portal: Arc::clone(&portal),
            store: Arc::clone(&store),
            schedule: Schedule::parse("15 2 * * *", Tz::UTC).expect("parses"),
            asked: Arc::default(),
            clock: self.clock.clone(),
            entropy: Arc::new(Generator::seeded(1)),
            refresh: Arc::default(),
            destinations: BTreeMap::new(),
            backfill: Arc::default(),
            lists: Vec::new(),
            under_way: AtomicBool::new(false),
            known: Lists::default(),
        };
        let backfill = Backfill {
            portal,
            store: Arc::clone(&store),
            clock: self.clock.clone(),
            entropy: Arc::new(Generator::seeded(1)),
            refresh: Arc::default(),
            sweep: Arc::default(),
            courses: tokio::sync::Mutex::default(),
        };
        self.life = Some((store, sweep, backfill));
    }

    fn store(&self) -> Arc<Store> {
        Arc::clone(&self.life.as_ref().expect("is alive").0)
    }

    fn sweep(&self) -> &Sweep {
        &self.life.as_ref().expect("is alive").1
    }

    fn wait_until(&mut self, until: Option<Timestamp>) {
        let ms = until.map_or(1_000, |until| until.0 - self.clock.now().0);
        self.clock.later(ms.max(0) + 1);
        self.latest_ms = self.latest_ms.max(self.clock.now().0);
    }

    /// A backfill of everything, with its reads.
    async fn back_fill(&mut self) {
        self.store().begin_backfill("main", None).await.expect("begins");
        while self.store().backfill_under_way("main").await.expect("asks").is_some() {
            match self.life.as_ref().expect("is alive").2.run_once().await.expect("the store works") {
                Turn::Worked => self.clock.later(100),
                Turn::Rest(until) => {
                    self.wait_until(until);
                    self.read_some(usize::MAX).await;
                }
            }
            if self.fake.is_restless.load(Ordering::SeqCst) && self.fake.below(3) == 0 {
                let everybody: Vec<String> = self.fake.everybody().into_iter().collect();
                self.hook(&everybody[self.fake.below(everybody.len())]).await;
            }
            self.read_some(self.fake.below(2)).await;
        }
    }

    /// A webhook about a learner comes.
    async fn hook(&mut self, learner: &str) {
        let raw = RawEvent {
            portal: "main".to_owned(),
            method: "POST".to_owned(),
            content_type: "application/json".to_owned(),
            body: Vec::new(),
        };
        let store = self.store();
        store.append_event(raw).await.expect("is kept");
        let taken = |event: NewEvent| {
            let name = EventName::called("enrollment_completed_by_learner").expect("a known event");
            let reading = Reading { name, user_id: Some(learner.to_owned()), ids: BTreeMap::new(), oddity: None };
            let mut dedupe = [0; 32];
            dedupe[..8].copy_from_slice(&event.id.to_le_bytes());
            Taken { event, readings: vec![(reading, dedupe)] }
        };
        let events = store.take_new_events().await.expect("takes");
        store.finish_intake(events.into_iter().map(taken).collect()).await.expect("intake ends");
    }

    /// The same world once more.
    async fn copy(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for file in std::fs::read_dir(self.folder.path()).expect("is there") {
            let file = file.expect("is there").path();
            std::fs::copy(&file, folder.path().join(file.file_name().expect("a file"))).expect("is copied");
        }
        Self {
            folder,
            clock: HandClock::at(self.clock.now().0),
            fake: Arc::clone(&self.fake),
            life: None,
            ledger: self.ledger.clone(),
            reads: 0,
            latest_ms: self.latest_ms,
        }
    }

    /// A sweep that is asked for, to its end; answers how many learners were marked.
    async fn night(&mut self, ask: Ask) -> usize {
        self.sweep().asked.ask(ask);
        loop {
            // A read may have seen the LMS before a page of a list did, and be kept after it.
            let early = match self.fake.is_restless.load(Ordering::SeqCst) {
                true => self.see().await,
                false => None,
            };
            let turn = self.sweep().run_once().await.expect("the store works");
            if let Some(early) = early {
                self.keep(early).await;
            }
            match turn {
                Turn::Worked if !self.sweep().under_way.load(Ordering::SeqCst) => break,
                Turn::Worked => self.clock.later(100),
                Turn::Rest(until) => self.wait_until(until),
            }
            if self.fake.is_restless.load(Ordering::SeqCst) {
                self.read_some(self.fake.below(3)).await;
                if self.fake.below(40) == 0 {
                    // Somebody sets the clock, for a while.
                    self.clock.later((self.fake.below(5) as i64 - 2) * HOUR_MS);
                    self.latest_ms = self.latest_ms.max(self.clock.now().0);
                }
                if self.fake.below(30) == 0 {
                    self.live(Threading::Inline).await;
                    // As at any start in a night: what is due goes on.
                    self.sweep().under_way.store(true, Ordering::SeqCst);
                }
            }
        }
        self.marked().await
    }

    async fn marked(&self) -> usize {
        let mut view = crate::store::view::View::open(self.folder.path()).expect("the store can be looked into");
        let dirty = view.status().expect("answers").dirty;
        dirty.iter().map(|(_, count)| *count as usize).sum()
    }

    /// The reader sees the LMS.
    async fn see(&mut self) -> Option<Seen> {
        let store = self.store();
        let NextSubject::Dirty(claimed) = store.next_subject("main").await.expect("claims") else { return None };
        let backfill = store.backfill_under_way("main").await.expect("asks");
        if let Some(backfill) = backfill.filter(|_| claimed.lane == "backfill") {
            let staged = store.staged_of(backfill.id, &claimed.lms_id).await.expect("asks");
            if let Some(facts) = staged_facts(&staged) {
                return Some(Seen { claimed, started_at: backfill.started_at, facts });
            }
        }
        let started_at = self.clock.now();
        let mut facts = self.fake.facts(&claimed.lms_id);
        if self.fake.is_restless.load(Ordering::SeqCst) && self.fake.below(15) == 0 {
            let known = self.ledger.get(&claimed.lms_id).cloned().flatten();
            // It says that there is no such learner, or that there is nothing any more.
            facts = match (facts, known) {
                (Some((version, _)), Some((_, rows))) if !rows.is_empty() => Some((version, BTreeMap::new())),
                _ => None,
            };
        }
        self.clock.later(1);
        self.fake.stir();
        Some(Seen { claimed, started_at, facts })
    }

    async fn keep(&mut self, seen: Seen) {
        let Seen { claimed, started_at, facts } = seen;
        let id = claimed.lms_id.clone();
        let learner = facts.as_ref().map(|(version, _)| Learner {
            id: id.clone(),
            first_name: Some(format!("v{version}")),
            is_active: true,
            ..Learner::default()
        });
        let record = |(row_id, version): (&String, &u64)| Record {
            score: Some(*version as f64),
            ..Record::new(RecordKind::Completion, row_id.clone(), id.clone())
        };
        let records = facts.iter().flat_map(|(_, rows)| rows.iter().map(record)).collect();
        let records = ReadRecords { records, complete: BTreeSet::from([RecordKind::Completion]) };
        let read = Read { started_at, learner, records, changes_at: None };
        let counts = self.store().complete_refresh(claimed, read, |_| Vec::new()).await.expect("is kept");
        self.reads += 1;
        if !counts.is_stale {
            self.ledger.insert(id, facts);
        }
    }

    async fn read_some(&mut self, most: usize) {
        for _ in 0..most {
            let Some(seen) = self.see().await else { return };
            self.keep(seen).await;
        }
    }

    /// Reads until nobody is dirty.
    async fn drain(&mut self) {
        loop {
            self.read_some(usize::MAX).await;
            match self.store().next_subject("main").await.expect("asks") {
                NextSubject::Rest(None) => return,
                NextSubject::Rest(until) => self.wait_until(until),
                NextSubject::Dirty(_) => {}
            }
        }
    }

    /// How the ledger differs from the model.
    fn lies(&self) -> Vec<String> {
        let known = self.ledger.keys().cloned();
        let all: BTreeSet<String> = known.chain(self.fake.everybody()).collect();
        let is_wrong = |id: &String| self.ledger.get(id).cloned().flatten() != self.fake.facts(id);
        all.into_iter().filter(is_wrong).collect()
    }

    /// Whose turn it is in the next night.
    async fn turn(&self) -> u64 {
        self.store().sweeps_done("main").await.expect("counts").0 % TURNS
    }

    fn pages(&self) -> (u32, u32) {
        (self.fake.id_pages.load(Ordering::SeqCst), self.fake.list_pages.load(Ordering::SeqCst))
    }
}

fn staged_facts(staged: &[Vec<u8>]) -> Option<Facts> {
    let words: Vec<&str> = staged.iter().map(|row| std::str::from_utf8(row).expect("as the fake writes")).collect();
    let version: u64 = words.first()?.parse().ok()?;
    let rows = words[1..].iter().map(|row| row.split_once(' ').expect("as the fake writes"));
    Some(Some((version, rows.map(|(id, version)| (id.to_owned(), version.parse().expect("a number"))).collect())))
}

fn turn_tonight(everybody: &BTreeSet<String>, turn: u64) -> usize {
    everybody.iter().filter(|learner| turn_of(learner) == turn).count()
}

#[test]
fn lists_are_cheaper_for_many_learners_and_dearer_for_many_empty_courses() {
    let table = [
        ("a large portal", (100_000, 100, 1_000, 4), Costs { by_lists: 58_244, by_learner: 400_100 }),
        ("a small one", (25, 1, 8, 4), Costs { by_lists: 25, by_learner: 101 }),
        ("few learners, many courses", (100, 1, 500, 4), Costs { by_lists: 561, by_learner: 401 }),
        ("nobody", (0, 1, 0, 4), Costs { by_lists: 1, by_learner: 1 }),
    ];
    for (what, (learners, learner_pages, course_pages, calls_each), expected) in table {
        assert_eq!(Costs::of(learners, learner_pages, course_pages, calls_each), expected, "{what}");
    }
}

#[tokio::test]
async fn a_night_that_changed_nothing_marks_those_whose_turn_it_is_and_nobody_else() {
    for listed in [Listed::Sorted(Sorting::Text), Listed::Sorted(Sorting::SqlServer), Listed::Otherwise] {
        let fake = Fake::new(1, 60, 5, 150);
        fake.model.lock().expect("no panic").listed = listed;
        let mut world = World::new(fake).await;
        assert_eq!(world.lies(), [""; 0], "the backfill read everybody");
        let everybody = world.fake.everybody();
        let mut in_turn = 0;
        for turn in 0..TURNS - 1 {
            let (ids_before, _) = world.pages();
            world.clock.later(HOUR_MS);
            let marked = world.night(Ask::Changes).await;
            assert_eq!(marked, turn_tonight(&everybody, turn), "night {turn}, {listed:?}");
            assert_eq!(world.pages().0, ids_before, "it went by lists");
            in_turn += marked;
            world.drain().await;
        }
        assert!(in_turn < everybody.len(), "the seventh night reads them all");
        world.clock.later(7 * 24 * HOUR_MS);
        assert_eq!(world.night(Ask::Changes).await, everybody.len());
        assert!(world.pages().0 > 0, "one by one");
    }
}

#[tokio::test]
async fn whatever_changed_is_found_and_only_those_learners_are_read() {
    let mut world = World::new(Fake::new(2, 60, 5, 150)).await;
    let everybody = world.fake.everybody();
    for what in [0, 1, 2, 3, 4, 5, 6] {
        world.fake.happen(what);
        let wrong = world.lies();
        let turn = world.turn().await;
        let marked = world.night(Ask::Changes).await;
        // Two whom the change is about, and those of the two nights before: they are looked at again.
        assert!(marked <= turn_tonight(&everybody, turn) + 6, "{marked} for change {what}");
        world.drain().await;
        assert_eq!(world.lies(), [""; 0], "change {what} was about {wrong:?}");
    }
}

#[tokio::test]
async fn a_list_that_comes_in_the_other_order_has_its_learners_read_once_and_then_no_more() {
    let mut world = World::new(Fake::new(7, 60, 2, 120)).await;
    world.fake.model.lock().expect("no panic").listed = Listed::Sorted(Sorting::SqlServer);
    world.fake.happen(3);
    let everybody = world.fake.everybody();
    assert_eq!(world.night(Ask::Changes).await, everybody.len());
    world.drain().await;
    assert_eq!(world.lies(), [""; 0]);
    for _ in 0..3 {
        world.night(Ask::Changes).await;
        world.drain().await;
    }
    let turn = world.turn().await;
    assert_eq!(world.night(Ask::Changes).await, turn_tonight(&everybody, turn));
    // And so does a backfill.
    world.fake.model.lock().expect("no panic").listed = Listed::Sorted(Sorting::Text);
    world.fake.happen(4);
    world.fake.happen(5);
    world.back_fill().await;
    world.night(Ask::Changes).await;
    world.drain().await;
    assert_eq!(world.lies(), [""; 0]);
}

#[tokio::test]
async fn a_course_that_is_no_longer_named_has_its_learners_read_again() {
    let mut world = World::new(Fake::new(3, 40, 3, 90)).await;
    let course = world.fake.model.lock().expect("no panic").courses.pop_first().expect("three").1;
    assert!(course.values().any(|row| row.is_complete) && !world.lies().is_empty());
    world.night(Ask::Changes).await;
    world.drain().await;
    assert_eq!(world.lies(), [""; 0]);
}

#[tokio::test]
async fn lists_that_are_forbidden_leave_a_sweep_of_everybody_one_by_one() {
    let mut world = World::new(Fake::new(4, 30, 3, 60)).await;
    world.fake.is_forbidden.store(true, Ordering::SeqCst);
    assert_eq!(world.night(Ask::Changes).await, 30);
    assert_eq!(world.pages().0, 3);
    world.drain().await;
    world.fake.is_forbidden.store(false, Ordering::SeqCst);
    world.night(Ask::Changes).await;
    assert_eq!(world.pages().0, 3, "the next goes by lists again");
    assert_eq!(world.night(Ask::Everybody).await, 30, "whoever asks for everybody gets that");
}

#[tokio::test]
async fn a_backfill_that_was_given_up_is_followed_by_a_sweep_of_everybody() {
    let mut world = World::unread(Fake::new(5, 30, 3, 60)).await;
    let (backfill, _) = world.store().begin_backfill("main", None).await.expect("begins");
    for _ in 0..6 {
        // Some pages are staged, nobody is marked yet.
        world.life.as_ref().expect("is alive").2.run_once().await.expect("stages a page");
    }
    world.store().finish_backfill(backfill.id, false).await.expect("is given up");
    assert_eq!(world.night(Ask::Changes).await, 30);
    world.drain().await;
    assert_eq!(world.lies(), [""; 0]);
}

#[tokio::test]
async fn a_portal_that_changes_and_fails_while_it_is_read_is_known_after_one_undisturbed_night() {
    for seed in 0..12 {
        let own = Listed::Sorted(Sorting::ALL[seed as usize % 2]);
        let fake = Fake::new(seed, 60, 5, 200);
        fake.model.lock().expect("no panic").listed = own;
        fake.is_restless.store(true, Ordering::SeqCst);
        let mut world = World::unread(fake).await;
        world.back_fill().await;
        for night in 0..4 {
            // Now and then it cannot sort.
            let listed = if world.fake.below(6) == 0 { Listed::Otherwise } else { own };
            world.fake.model.lock().expect("no panic").listed = listed;
            world.fake.happen(9);
            world.night(if night == 2 { Ask::Everybody } else { Ask::Changes }).await;
        }
        world.fake.is_restless.store(false, Ordering::SeqCst);
        // Reads that are under way see no more than those before; then the clock is right again.
        world.drain().await;
        world.clock.later((world.latest_ms - world.clock.now().0).max(0) + HOUR_MS);
        world.fake.model.lock().expect("no panic").listed = own;
        let (ids_before, lists_before) = world.pages();
        let (wrong, reads) = (world.lies().len(), world.reads);
        world.night(Ask::Changes).await;
        world.drain().await;
        let lies = world.lies();
        let told: Vec<_> = lies.iter().map(|id| (id, world.ledger.get(id), world.fake.facts(id))).collect();
        assert!(lies.is_empty(), "seed {seed}: {wrong} were wrong before, {} were read, {told:?}", world.reads - reads);
        assert!(
            world.pages().0 == ids_before && world.pages().1 > lists_before,
            "seed {seed}: the last night went by lists"
        );
        // Whoever changed is looked at again, twice; then a night without changes finds nothing.
        for is_settled in [false, false, true] {
            world.clock.later(HOUR_MS);
            let turn = world.turn().await;
            let marked = world.night(Ask::Changes).await;
            assert!(!is_settled || marked == turn_tonight(&world.fake.everybody(), turn), "seed {seed}: {marked}");
            world.drain().await;
        }
    }
}

/// Stops the world before or after the n-th use case.
struct Killer {
    at: usize,
    is_armed: AtomicBool,
    seen: AtomicUsize,
    killed: Notify,
}

impl Killer {
    async fn pass(&self) {
        if self.is_armed.load(Ordering::SeqCst) && self.seen.fetch_add(1, Ordering::SeqCst) == self.at {
            self.killed.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Witness for Killer {
    async fn begins(&self, _use_case: &'static str) {
        self.pass().await;
    }

    async fn ended(&self, _use_case: &'static str, _failure: Option<String>) {
        self.pass().await;
    }
}

#[tokio::test]
async fn a_sweep_that_is_killed_at_any_commit_finds_all_the_same() {
    let mut before = World::new(Fake::new(6, 20, 2, 40)).await;
    before.life = None;
    // A page on which more is new than one transaction takes.
    before.fake.model.lock().expect("no panic").page_rows = 150;
    for what in (0..600).map(|_| 2).chain([0, 1, 3, 4, 5, 6, 3, 1]) {
        before.fake.happen(what);
    }
    assert!(!before.lies().is_empty());
    before.clock.later(25 * HOUR_MS);
    for at in (0..).step_by(3) {
        let mut world = before.copy().await;
        let is_armed = AtomicBool::new(false);
        let killer = Arc::new(Killer { at, is_armed, seen: AtomicUsize::new(0), killed: Notify::new() });
        world.live(Threading::Witnessed(killer.clone())).await;
        killer.is_armed.store(true, Ordering::SeqCst);
        let is_killed = {
            let sweep = world.sweep();
            let whole = async { while sweep.run_once().await.expect("the store works") == Turn::Worked {} };
            tokio::select! {
                biased;
                () = whole => false,
                () = killer.killed.notified() => true,
            }
        };
        world.live(Threading::Inline).await;
        while world.sweep().run_once().await.expect("the store works") == Turn::Worked {}
        world.drain().await;
        assert_eq!(world.lies(), [""; 0], "killed at {at}");
        if !is_killed {
            assert!(at > 50, "{at} places to be killed at");
            break;
        }
    }
}
