//! A fake LMS at the `Lms` trait: it holds the truth, remembers what it was at each time, and misbehaves when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use learnsync::domain::record::{ReadRecords, Record};
use learnsync::domain::subject::SubjectKind;
use learnsync::lms::{LearnerPage, Lms, LmsError, Probe, Profile};
use learnsync_sdk::{Learner, RetryAfter};

use crate::fault::Fault;
use crate::play::KINDS;
use crate::world::{World, lock};

/// Learners on a page: few, so that a sweep has pages.
const PAGE_ROWS: usize = 3;

/// Records by key.
pub type Facts = BTreeMap<String, Record>;

/// The fake.
pub struct FakeLms {
    world: Arc<World>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    people: BTreeMap<String, Person>,
    /// Faults that the next fitting call meets.
    armed: Vec<Fault>,
    pause: Option<Pause>,
    down_until_ms: i64,
    empty_until_ms: i64,
    hidden: BTreeSet<String>,
}

/// A wait that was asked for.
#[derive(Clone, Copy)]
pub(crate) struct Pause {
    pub(crate) begun_ms: i64,
    pub(crate) until_ms: i64,
    /// How wrong the daemon's clock was: after a jump it cannot know when the wait ends.
    pub(crate) offset_ms: i64,
    /// A date is meaningless to who has a wrong clock.
    pub(crate) is_dated: bool,
}

impl Pause {
    /// Whether a request that was sent at this time breaks it.
    /// What was on its way when the wait was asked for does not count.
    pub(crate) fn is_broken_by(&self, sent_ms: i64, world: &World) -> bool {
        let knows_the_time = world.clock.offset_ms() == self.offset_ms && !(self.is_dated && self.offset_ms != 0);
        sent_ms > self.begun_ms && sent_ms < self.until_ms && knows_the_time
    }
}

/// One learner and all that the LMS ever showed of them.
#[derive(Clone, Default)]
struct Person {
    profile: Learner,
    facts: Facts,
    /// What the LMS showed from each time on, oldest first.
    shown: Vec<(i64, Facts)>,
    /// When it last answered something that is not true of this learner (nothing at all, or that they do not exist).
    lied_at_ms: Option<i64>,
}

impl FakeLms {
    /// An empty LMS.
    #[must_use]
    pub fn new(world: &Arc<World>) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), state: Mutex::default() })
    }

    /// Makes a learner; `first` makes one whose row comes before all others.
    pub fn enlist(&self, number: usize, first: bool) -> String {
        let head = if first { number } else { 0x1000_0000 + number * 0x0101_0101 };
        let id = format!("{head:08x}-0000-4000-8000-{number:012x}");
        let profile = Learner {
            id: id.clone(),
            external_id: Some(format!("E{number}")),
            first_name: Some(format!("First{number}")),
            last_name: Some(format!("Last{number}")),
            is_active: true,
            ..Learner::default()
        };
        let shown = vec![(self.world.clock.true_ms(), Facts::new())];
        lock(&self.state).people.insert(id.clone(), Person { profile, shown, ..Person::default() });
        id
    }

    /// All learners' ids.
    #[must_use]
    pub fn everybody(&self) -> Vec<String> {
        lock(&self.state).people.keys().cloned().collect()
    }

    /// What is true of a learner now.
    #[must_use]
    pub fn facts(&self, id: &str) -> Facts {
        lock(&self.state).people.get(id).map(|person| person.facts.clone()).unwrap_or_default()
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self, id: &str) -> Option<Learner> {
        lock(&self.state).people.get(id).map(|person| person.profile.clone())
    }

    /// What the LMS showed of a learner at this time or later, oldest first.
    #[must_use]
    pub fn shown_since(&self, id: &str, ms: i64) -> Vec<Facts> {
        let state = lock(&self.state);
        let Some(person) = state.people.get(id) else { return Vec::new() };
        let first = person.shown.iter().rposition(|(from, _)| *from <= ms).unwrap_or(0);
        person.shown[first..].iter().map(|(_, facts)| facts.clone()).collect()
    }

    /// Whether the LMS said something untrue of a learner at this time or later.
    #[must_use]
    pub fn has_lied_since(&self, id: &str, ms: i64) -> bool {
        lock(&self.state).people.get(id).and_then(|person| person.lied_at_ms).is_some_and(|at| at >= ms)
    }

    /// Changes what is true of a learner.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Facts)) {
        let now = self.world.clock.true_ms();
        if let Some(person) = lock(&self.state).people.get_mut(id) {
            change(&mut person.facts);
            let facts = person.facts.clone();
            person.shown.push((now, facts));
        }
    }

    /// Changes a profile.
    pub fn change_profile(&self, id: &str, change: impl FnOnce(&mut Learner)) {
        if let Some(person) = lock(&self.state).people.get_mut(id) {
            change(&mut person.profile);
        }
    }

    /// The next call that it fits meets this fault.
    pub fn arm(&self, fault: Fault) {
        lock(&self.state).armed.push(fault);
    }

    /// Down until then.
    pub fn goes_down(&self, until_ms: i64) {
        lock(&self.state).down_until_ms = until_ms;
    }

    /// Answers that nobody has any record until then.
    pub fn shows_nothing(&self, until_ms: i64) {
        lock(&self.state).empty_until_ms = until_ms;
    }

    /// The admin role sees these learners no more, or again.
    pub fn hide(&self, ids: BTreeSet<String>) {
        lock(&self.state).hidden = ids;
    }

    /// A crash took a pause that the daemon had just heard of: it cannot keep to it.
    pub fn forgives(&self) {
        let mut state = lock(&self.state);
        state.pause = state.pause.filter(|pause| pause.begun_ms <= self.world.pause_kept_ms());
    }

    /// An old ledger knows no pause of today.
    pub fn forgives_all(&self) {
        lock(&self.state).pause = None;
    }

    /// No more faults.
    pub fn behave(&self) {
        let mut state = lock(&self.state);
        state.armed.clear();
        state.down_until_ms = 0;
        state.empty_until_ms = 0;
        state.hidden.clear();
    }

    fn take(&self, fitting: &[Fault]) -> Option<Fault> {
        let mut state = lock(&self.state);
        let place = state.armed.iter().position(|fault| fitting.contains(fault))?;
        Some(state.armed.remove(place))
    }

    /// What every request meets: the network, pauses, faults of the whole LMS.
    async fn enter(&self, call: &str) -> Result<(), LmsError> {
        self.world.point(&format!("before {call}")).await;
        let sent_ms = self.world.clock.true_ms();
        self.world.takes_ms(1..300).await;
        let (pause, down_until_ms) = {
            let state = lock(&self.state);
            (state.pause, state.down_until_ms)
        };
        if pause.is_some_and(|pause| pause.is_broken_by(sent_ms, &self.world)) {
            self.world.violated("no request inside a pause", &format!("the LMS asked us to wait, and {call} came"));
        }
        if self.world.clock.true_ms() < down_until_ms {
            self.world.fired(Fault::LmsDown, call);
            return Err(LmsError::Unavailable("503".to_owned()));
        }
        const EVERY_CALL: [Fault; 6] = [
            Fault::LmsUnauthorized,
            Fault::LmsTokenKilled,
            Fault::LmsThrottledSeconds,
            Fault::LmsThrottledDate,
            Fault::LmsThrottledUnsaid,
            Fault::LmsSlow,
        ];
        let Some(fault) = self.take(&EVERY_CALL) else { return Ok(()) };
        self.world.fired(fault, call);
        let now = self.world.clock.true_ms();
        let seconds = self.world.draw(61..5_400);
        let until_ms = now + seconds * 1_000;
        let asks = |until_ms, is_dated, after| {
            let offset_ms = self.world.clock.offset_ms();
            lock(&self.state).pause = Some(Pause { begun_ms: now, until_ms, offset_ms, is_dated });
            Err(LmsError::Throttled(after))
        };
        match fault {
            Fault::LmsUnauthorized => Err(LmsError::Unauthorized("401 with a valid token".to_owned())),
            Fault::LmsTokenKilled => Err(LmsError::LoginLimit("4 logins in the last hour".to_owned())),
            Fault::LmsThrottledSeconds => {
                let wait = Duration::from_secs(seconds.unsigned_abs());
                asks(until_ms, false, RetryAfter::For(wait))
            }
            Fault::LmsThrottledDate => {
                let until = chrono::DateTime::from_timestamp_millis(until_ms).unwrap_or_default();
                asks(until_ms, true, RetryAfter::Until(until))
            }
            // Who says nothing is left alone for a minute.
            Fault::LmsThrottledUnsaid => asks(now + 60_000, false, RetryAfter::Unsaid),
            _ => {
                self.world.takes_ms(30_000..300_000).await;
                Ok(())
            }
        }
    }

    async fn leave<T>(&self, call: &str, answer: Result<T, LmsError>) -> Result<T, LmsError> {
        match &answer {
            Ok(_) => self.world.say(&format!("call {call} -> ok")),
            Err(error) => self.world.say(&format!("call {call} -> {error}")),
        }
        self.world.point(&format!("after {}", call.split(' ').next().unwrap_or(call))).await;
        answer
    }

    fn lied(&self, id: &str) {
        let now = self.world.clock.true_ms();
        if let Some(person) = lock(&self.state).people.get_mut(id) {
            person.lied_at_ms = Some(now);
        }
    }

    fn is_hidden(&self, id: &str) -> bool {
        lock(&self.state).hidden.contains(id)
    }

    async fn read_learner(&self, id: &str) -> Result<Option<Learner>, LmsError> {
        self.enter("lms.learner").await?;
        if self.is_hidden(id) {
            self.lied(id);
            return Ok(None);
        }
        if let Some(fault) = self.take(&[Fault::LmsForbidden]) {
            self.world.fired(fault, id);
            return Err(LmsError::Forbidden(format!("/users/{id}")));
        }
        Ok(self.profile(id))
    }

    async fn read_records(&self, id: &str) -> Result<ReadRecords, LmsError> {
        self.enter("lms.records").await?;
        let complete = KINDS.into_iter().collect();
        if let Some(fault) = self.take(&[Fault::LmsHalfPage, Fault::LmsEmpty]) {
            self.world.fired(fault, id);
            if fault == Fault::LmsHalfPage {
                return Err(LmsError::PartialRead("page 2 of 3 broke off".to_owned()));
            }
            self.lied(id);
            return Ok(ReadRecords { records: Vec::new(), complete });
        }
        if self.world.clock.true_ms() < lock(&self.state).empty_until_ms {
            self.world.fired(Fault::LmsShowsNothing, id);
            self.lied(id);
            return Ok(ReadRecords { records: Vec::new(), complete });
        }
        let records = self.facts(id).into_values().collect();
        // What was read was true when the request came; the answer takes its time.
        self.world.takes_ms(1..2_000).await;
        Ok(ReadRecords { records, complete })
    }

    async fn read_page(&self, page: u32) -> Result<LearnerPage, LmsError> {
        self.enter("lms.learner_ids").await?;
        if page > 0 && self.take(&[Fault::LmsRowInserted]).is_some() {
            let number = 500 + self.everybody().len();
            let id = self.enlist(number, true);
            self.world.fired(Fault::LmsRowInserted, &id);
        }
        let state = lock(&self.state);
        let visible: Vec<&String> = state.people.keys().filter(|id| !state.hidden.contains(*id)).collect();
        let from = page as usize * PAGE_ROWS;
        let ids: Vec<String> = visible.iter().skip(from).take(PAGE_ROWS).map(|id| (*id).clone()).collect();
        Ok(LearnerPage { total: visible.len() as u64, more: from + ids.len() < visible.len(), ids })
    }
}

#[async_trait]
impl Lms for FakeLms {
    async fn learner(&self, id: &str) -> Result<Option<Profile>, LmsError> {
        let answer = self.read_learner(id).await;
        let answer = self.leave(&format!("lms.learner {id}"), answer).await?;
        Ok(answer.map(|learner| Profile { learner, person: None }))
    }

    async fn records(&self, learner_id: &str) -> Result<ReadRecords, LmsError> {
        let answer = self.read_records(learner_id).await;
        self.leave(&format!("lms.records {learner_id}"), answer).await
    }

    async fn list(&self, _kind: SubjectKind) -> Result<ReadRecords, LmsError> {
        Ok(ReadRecords::default())
    }

    async fn learner_ids(&self, page: u32) -> Result<LearnerPage, LmsError> {
        let answer = self.read_page(page).await;
        self.leave(&format!("lms.learner_ids {page}"), answer).await
    }

    async fn probe(&self) -> Result<Probe, LmsError> {
        Ok(Probe::default())
    }
}
