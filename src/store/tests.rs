//! A ledger in a temporary folder for tests of the rooms around it: learners with one completion each, delivered or parked as told.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono_tz::Tz;
use learnsync_sdk::{Fields, Learner, PersonMatch, RecordKind, RouteMode, SlotRule, Value};

use super::{
    DestinationRows, DestinationSpec, NewEvent, NextLane, NextSubject, Open, Read, RefreshCounts, RouteSpec, Store,
    Taken, Threading,
};
use crate::config::History;
use crate::domain::chance::Generator;
use crate::domain::delivery::{Attempt, AttemptAction, Cause, DueDelivery, Held, LinkFound, Next, Outcome};
use crate::domain::digest::digest_of;
use crate::domain::event::{EventName, RawEvent, Reading};
use crate::domain::ids::PersonId;
use crate::domain::record::{ReadRecords, Record};
use crate::domain::time::{Clock, LmsTime, Timestamp};
use crate::pipeline::plan::{Plan, PlannedRoute};
use crate::pipeline::telling::Telling;
use crate::store::audit::audit;
use crate::store::view::View;

/// When the world begins.
pub(crate) const NOW: i64 = 1_800_000_000_000;

/// A clock that a test sets.
pub(crate) struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

impl HandClock {
    pub(crate) fn at(ms: i64) -> Arc<Self> {
        Arc::new(Self(ms.into()))
    }

    pub(crate) fn later(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

/// A store's folder. Whatever a test did to the store, at its end every promise of the ledger is kept.
pub(crate) struct AuditedFolder {
    folder: tempfile::TempDir,
    is_spoiled: Cell<bool>,
}

impl AuditedFolder {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), is_spoiled: Cell::new(false) }
    }

    /// The test breaks a promise by hand.
    pub(crate) fn spoil(&self) {
        self.is_spoiled.set(true);
    }
}

impl Deref for AuditedFolder {
    type Target = tempfile::TempDir;

    fn deref(&self) -> &Self::Target {
        &self.folder
    }
}

impl Drop for AuditedFolder {
    fn drop(&mut self) {
        // A second panic would end the process, and nobody would see the first.
        if !self.is_spoiled.get() && !std::thread::panicking() {
            assert_sound(self.path());
        }
    }
}

/// Every check of the audit is carried out, and finds nothing.
pub(crate) fn assert_sound(folder: &Path) {
    let audit = audit(folder).expect("the store can be audited");
    let broken: Vec<_> = audit.broken().collect();
    assert!(broken.is_empty(), "the audit found: {broken:#?}");
}

/// A store with one destination `hr` and whoever was added.
pub(crate) struct Ledger {
    pub(crate) folder: AuditedFolder,
    pub(crate) clock: Arc<HandClock>,
    pub(crate) store: Arc<Store>,
    pub(crate) hr: DestinationRows,
    pub(crate) mode: RouteMode,
}

/// What the target answers.
pub(crate) enum Says {
    Takes,
    Refuses(Cause),
    /// Nothing, and it is set aside for this all the same.
    Nothing(Cause),
}

/// A learner's LMS id.
pub(crate) fn lms_id(number: u32) -> String {
    format!("a14c149a-2ce0-41d4-b532-{number:012}")
}

pub(crate) fn open(folder: &Path, clock: Arc<HandClock>, seed: u64) -> Store {
    Open {
        path: folder.to_owned(),
        installation: "test".to_owned(),
        threading: Threading::Inline,
        clock,
        entropy: Arc::new(Generator::seeded(seed)),
        pages_max: None,
    }
    .open()
    .expect("the store opens")
}

fn spec(name: &str, mode: RouteMode) -> DestinationSpec {
    let route = RouteSpec { name: "done".to_owned(), mode, mapping_digest: "first mapping".to_owned() };
    DestinationSpec { name: name.to_owned(), connector: "fake".to_owned(), routes: vec![route] }
}

impl Ledger {
    pub(crate) async fn new() -> Self {
        Self::with_routes(RouteMode::State).await
    }

    pub(crate) async fn with_routes(mode: RouteMode) -> Self {
        let folder = AuditedFolder::new();
        let clock = HandClock::at(NOW);
        let store = Arc::new(open(folder.path(), Arc::clone(&clock), 1));
        let mut topology = store.sync_topology(vec![spec("hr", mode)]).await.expect("keeps the destinations");
        let hr = topology.destinations.remove("hr").expect("was configured");
        Self { folder, clock, store, hr, mode }
    }

    /// The daemon's next start finds these destinations in the configuration.
    pub(crate) async fn configure(&self, names: &[&str]) -> BTreeMap<String, DestinationRows> {
        let specs = names.iter().map(|name| spec(name, self.mode)).collect();
        self.store.sync_topology(specs).await.expect("keeps the destinations").destinations
    }

    pub(crate) fn later(&self, ms: i64) {
        self.clock.later(ms);
    }

    pub(crate) fn clock_ms(&self) -> i64 {
        self.clock.now().0
    }

    pub(crate) fn view(&self) -> View {
        View::open(self.folder.path()).expect("the store can be looked into")
    }

    /// A webhook about a learner comes, and the LMS says what they completed.
    pub(crate) async fn completes(&self, number: u32, first_name: &str, last_name: &str) {
        self.later(60_000);
        self.hook(number).await;
        let NextSubject::Dirty(claimed) = self.store.next_subject("main").await.expect("claims") else {
            panic!("the hook made nobody dirty")
        };
        let learner = Learner {
            id: lms_id(number),
            email: Some(format!("{first_name}@example.org").to_lowercase()),
            first_name: Some(first_name.to_owned()),
            last_name: Some(last_name.to_owned()),
            is_active: true,
            ..Learner::default()
        };
        let record = Record {
            title: "Fire safety".to_owned(),
            achieved: Some(LmsTime::Instant(self.clock.now())),
            ..Record::new(RecordKind::Completion, format!("e{number}"), lms_id(number))
        };
        let records = ReadRecords { records: vec![record], complete: BTreeSet::from([RecordKind::Completion]) };
        let read = Read { started_at: self.clock.now(), learner: Some(learner), records, changes_at: None };
        let plan = Plan {
            routes: vec![PlannedRoute {
                destination: self.hr.id,
                route: self.hr.routes["done"].id,
                record: RecordKind::Completion,
                says_standing: false,
                mode: self.mode,
                slot: SlotRule::Record,
                history: History::All,
                first_seen_at: self.hr.first_seen_at,
                zone: Tz::UTC,
                telling: Telling { quiet_hours: None, late_after_ms: 86_400_000, zone: Tz::UTC },
            }],
        };
        self.store.complete_refresh(claimed, read, move |facts| plan.changes(facts)).await.expect("is kept");
    }

    /// The LMS is read for whoever is dirty: they hold this. Nothing is routed.
    pub(crate) async fn read(&self, number: u32, records: ReadRecords) -> RefreshCounts {
        self.read_until(number, records, None).await
    }

    /// The same, and when the calendar changes it.
    pub(crate) async fn read_until(
        &self,
        number: u32,
        records: ReadRecords,
        changes_at: Option<Timestamp>,
    ) -> RefreshCounts {
        let NextSubject::Dirty(claimed) = self.store.next_subject("main").await.expect("claims") else {
            panic!("nobody is dirty")
        };
        let learner = Learner { id: lms_id(number), is_active: true, ..Learner::default() };
        let read = Read { started_at: self.clock.now(), learner: Some(learner), records, changes_at };
        self.store.complete_refresh(claimed, read, |_| Vec::new()).await.expect("is kept")
    }

    /// A webhook about a learner's enrolment, read by intake.
    pub(crate) async fn hook(&self, number: u32) {
        self.hook_of("enrollment_completed_by_learner", number, &[]).await;
    }

    /// A webhook in which something is odd.
    pub(crate) async fn hook_odd(&self, number: u32, oddity: &str) {
        self.hook_read(EventName::Unknown("planet created".to_owned()), number, &[], Some(oddity)).await;
    }

    /// A webhook of any event, with ids besides the learner's.
    pub(crate) async fn hook_of(&self, event_name: &str, number: u32, ids: &[(&str, &str)]) {
        let name = EventName::called(event_name).expect("a known event");
        self.hook_read(name, number, ids, None).await;
    }

    /// Somebody presses the Test Webhook button.
    pub(crate) async fn press_test(&self) {
        self.hook_read(EventName::Test, 1, &[], None).await;
    }

    async fn hook_read(&self, name: EventName, number: u32, ids: &[(&str, &str)], oddity: Option<&str>) {
        let ids: BTreeMap<String, String> = ids.iter().map(|(key, id)| ((*key).to_owned(), (*id).to_owned())).collect();
        let raw = RawEvent {
            portal: "main".to_owned(),
            method: "POST".to_owned(),
            content_type: "application/json".to_owned(),
            body: format!("{{\"userId\":\"{}\"}}", lms_id(number)).into_bytes(),
        };
        self.store.append_event(raw).await.expect("is kept");
        let events = self.store.take_new_events().await.expect("takes");
        let taken = |event: NewEvent| {
            let reading = Reading {
                name: name.clone(),
                user_id: Some(lms_id(number)),
                ids: ids.clone(),
                oddity: oddity.map(str::to_owned),
            };
            let mut dedupe = [0; 32];
            dedupe[..8].copy_from_slice(&event.id.to_le_bytes());
            Taken { event, readings: vec![(reading, dedupe)] }
        };
        self.store.finish_intake(events.into_iter().map(taken).collect()).await.expect("intake ends");
    }

    /// Delivers what is due, person by person; answers how many deliveries there were.
    pub(crate) async fn deliver(&self, says: &Says) -> usize {
        let mut count = 0;
        while let NextLane::Due(lane) = self.store.next_lane(self.hr.id).await.expect("claims") {
            let work = &lane.work;
            let remote = match &work.link {
                Some(link) => link.remote_person.clone(),
                None => format!("p{}", work.person.0),
            };
            if work.link.is_none() {
                let rule = learnsync_sdk::MatchRule::EMAIL;
                let found = PersonMatch::Found { person: remote.clone(), rule };
                let found = LinkFound { person: work.person, found };
                self.store.commit_link(self.hr.id, found).await.expect("the link is kept");
            }
            let ids = work.due.iter().map(|due| (due.id, remote.clone())).collect();
            self.store.begin_sending(self.hr.id, ids).await.expect("sending is kept");
            let outcomes = work.due.iter().map(|due| self.outcome(due, &remote, says)).collect();
            self.store.commit_outcomes(self.hr.id, outcomes).await.expect("outcomes are kept");
            count += work.due.len();
        }
        count
    }

    pub(crate) fn outcome(&self, due: &DueDelivery, remote: &str, says: &Says) -> Outcome {
        let parked = |cause: &Cause, is_unknown| Next::Parked {
            cause: cause.clone(),
            detail: "the target says no".to_owned(),
            is_unknown,
        };
        let written = Fields::from([("title".to_owned(), Value::Text("Fire safety".to_owned()))]);
        let digest = digest_of(&written);
        let (outcome, status, next) = match says {
            Says::Takes => {
                let held = Held {
                    person: remote.to_owned(),
                    row: Some(format!("row{}", due.id)),
                    mapping: self.hr.routes["done"].mapping,
                    fields: Some(written.clone()),
                };
                ("taken", 201, Next::Settled(held))
            }
            Says::Refuses(cause) => ("rejected", 400, parked(cause, false)),
            Says::Nothing(cause) => ("ambiguous", 504, parked(cause, true)),
        };
        Outcome {
            delivery: due.id,
            person: due.person,
            was_sent: true,
            fingerprint: due.fingerprint.clone(),
            attempt: Some(Attempt {
                action: AttemptAction::Put,
                started_at: self.clock.now(),
                finished_at: self.clock.now(),
                outcome,
                status: Some(status),
                remote_row: None,
                words: "its own words".to_owned(),
                fields_digest: matches!(says, Says::Takes).then_some(digest),
            }),
            next,
        }
    }

    pub(crate) async fn person(&self, number: u32) -> PersonId {
        self.store.person_of("main", &lms_id(number)).await.expect("looks").expect("was read")
    }

    /// The state of each delivery, by number.
    pub(crate) fn states(&self) -> Vec<String> {
        let list = self.view().list_deliveries(&Default::default(), 100).expect("lists");
        list.deliveries.into_iter().rev().map(|delivery| delivery.state).collect()
    }
}
