//! Faults that can be switched on: when they fire, for which requests, and what they do.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

/// For how many of the matching requests a fault fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The next so many.
    Next(u32),
    /// Only the n-th from now, counted from 1.
    Nth(u32),
    /// Every n-th from now.
    Every(u32),
    /// All, until the faults are cleared.
    Always,
}

/// What a throttled answer says in `Retry-After`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// No such header.
    #[default]
    Unsaid,
    /// So many seconds.
    Seconds(u32),
    /// An HTTP date so many seconds from now.
    Date(u32),
}

/// How long a slow answer takes.
#[derive(Clone, Debug)]
pub enum Pause {
    /// So long.
    For(Duration),
    /// Until the gate opens.
    Until(Gate),
}

impl Pause {
    pub(super) async fn wait(&self) {
        match self {
            Self::For(duration) => tokio::time::sleep(*duration).await,
            Self::Until(gate) => gate.pass().await,
        }
    }
}

/// Holds requests until it is opened, and tells when one has arrived; so a test can wait for signals and never sleeps.
#[derive(Clone, Debug)]
pub struct Gate {
    closed: Arc<Semaphore>,
    arrivals: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { closed: Arc::new(Semaphore::new(0)), arrivals: watch::Sender::new(0) }
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all through, now and later.
    pub fn open(&self) {
        self.closed.close();
    }

    /// Waits until so many requests have come to the gate.
    pub async fn arrived(&self, count: usize) {
        let mut arrivals = self.arrivals.subscribe();
        // Fails only when the sender is gone, and this gate is one.
        let _ = arrivals.wait_for(|seen| *seen >= count).await;
    }

    async fn pass(&self) {
        self.arrivals.send_modify(|seen| *seen += 1);
        // Nobody ever adds a permit: this returns when the semaphore is closed.
        let _ = self.closed.acquire().await;
    }
}

struct Armed<F, A> {
    fault: F,
    area: A,
    times: Times,
    seen: u32,
}

impl<F, A> Armed<F, A> {
    /// Counts a matching request; whether the fault fires.
    fn fires(&mut self) -> bool {
        self.seen = self.seen.saturating_add(1);
        match self.times {
            Times::Next(count) => self.seen <= count,
            Times::Nth(number) => self.seen == number,
            Times::Every(step) => step > 0 && self.seen.is_multiple_of(step),
            Times::Always => true,
        }
    }

    fn is_spent(&self) -> bool {
        match self.times {
            Times::Next(count) | Times::Nth(count) => self.seen >= count,
            Times::Every(_) | Times::Always => false,
        }
    }
}

/// The faults that are switched on at one server.
struct Armory<F, A> {
    armed: Mutex<Vec<Armed<F, A>>>,
    fired: AtomicU64,
}

impl<F, A> Default for Armory<F, A> {
    fn default() -> Self {
        Self { armed: Mutex::new(Vec::new()), fired: AtomicU64::new(0) }
    }
}

impl<F: Clone, A> Armory<F, A> {
    fn arm(&self, fault: F, area: A, times: Times) {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.push(Armed { fault, area, times, seen: 0 });
    }

    fn clear(&self) {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes what fires for one request, in the order of arming.
    fn take(&self, covers: impl Fn(&A) -> bool) -> Vec<F> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fired = Vec::new();
        for one in armed.iter_mut().filter(|one| covers(&one.area)) {
            if one.fires() {
                fired.push(one.fault.clone());
            }
        }
        armed.retain(|one| !one.is_spent());
        self.fired.fetch_add(fired.len() as u64, Ordering::Relaxed);
        fired
    }
}

/// A part of the portal's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// All of it.
    Any,
    /// `/authenticate`.
    Login,
    /// `/users` and `/users/{id}`.
    Users,
    /// Enrolments, of a learner or of a course.
    Enrollments,
    /// A learner's certificates.
    Certificates,
    /// A learner's competencies.
    Competencies,
    /// A learner's learning paths.
    LearningPaths,
    /// A learner's enrolments in the sessions of a course.
    Sessions,
    /// `/groups`.
    Groups,
    /// `/courses`.
    Courses,
    /// `/departments`.
    Departments,
}

/// What the portal can be made to do.
#[derive(Clone, Debug)]
pub enum PortalFault {
    /// Answer this status, with a gateway's HTML body.
    Unavailable(u16),
    /// Take long, then answer as usual.
    Slow(Pause),
    /// Answer 401 although the token is valid.
    Unauthorized,
    /// Forget the token before it is looked at, as when another program logs in with the same account.
    KillToken,
    /// Answer 403: the feature is off, or the role may not.
    Forbid,
    /// Answer 404: the feature is off.
    NotFound,
    /// Answer 422.
    Unprocessable,
    /// Answer 429.
    Throttle(Wait),
    /// Announce the whole body, send half of it, and break the connection.
    HalfPage,
    /// Leave the last row of a page out, while `totalItems` counts it.
    FewRows,
    /// Answer an empty page, with the true `totalItems`, to every filtered page after the first.
    FilteredPagesEmpty,
    /// Answer a bare array where an envelope is expected.
    BareArray,
}

/// The portal's faults. All are off at first; each can be switched on at any time.
#[derive(Default)]
pub struct PortalFaults {
    armory: Armory<PortalFault, Area>,
    early_reads: AtomicU32,
    hidden_learners: AtomicUsize,
    dates_with_z: AtomicBool,
    unfilterable: Mutex<Vec<String>>,
    throttle_style: Mutex<(Wait, bool)>,
}

impl PortalFaults {
    /// Switches a fault on for the matching requests; several may be on at once and act in the order of arming.
    pub fn arm(&self, fault: PortalFault, area: Area, times: Times) {
        self.armory.arm(fault, area, times);
    }

    /// The portal answers this status.
    pub fn unavailable(&self, status: u16, area: Area, times: Times) {
        self.arm(PortalFault::Unavailable(status), area, times);
    }

    /// The portal takes long.
    pub fn slow(&self, pause: Pause, area: Area, times: Times) {
        self.arm(PortalFault::Slow(pause), area, times);
    }

    /// Every n-th call is answered 401 with a valid token, as load balancers do under parallel load.
    pub fn unauthorized_transient(&self, every: u32) {
        self.arm(PortalFault::Unauthorized, Area::Any, Times::Every(every));
    }

    /// The token dies before the next call.
    pub fn kill_token(&self) {
        self.arm(PortalFault::KillToken, Area::Any, Times::Next(1));
    }

    /// An area answers 403 until the faults are cleared.
    pub fn forbid(&self, area: Area) {
        self.arm(PortalFault::Forbid, area, Times::Always);
    }

    /// An area answers 404 until the faults are cleared.
    pub fn not_found(&self, area: Area) {
        self.arm(PortalFault::NotFound, area, Times::Always);
    }

    /// An area answers 422.
    pub fn unprocessable(&self, area: Area, times: Times) {
        self.arm(PortalFault::Unprocessable, area, times);
    }

    /// The portal answers 429.
    pub fn throttle(&self, wait: Wait, times: Times) {
        self.arm(PortalFault::Throttle(wait), Area::Any, times);
    }

    /// Answers break off in the middle.
    pub fn half_page(&self, area: Area, times: Times) {
        self.arm(PortalFault::HalfPage, area, times);
    }

    /// Pages lack their last row.
    pub fn few_rows(&self, area: Area, times: Times) {
        self.arm(PortalFault::FewRows, area, times);
    }

    /// Facts made from now on show only after so many reads of their list: the hook comes early.
    pub fn early(&self, reads: u32) {
        self.early_reads.store(reads, Ordering::Relaxed);
    }

    /// The account no longer sees the last so many learners: fewer rows and no error.
    pub fn shrink(&self, learners: usize) {
        self.hidden_learners.store(learners, Ordering::Relaxed);
    }

    /// Dates carry a `Z`; without it they are naive.
    pub fn dates_with_z(&self, on: bool) {
        self.dates_with_z.store(on, Ordering::Relaxed);
    }

    /// A filter by this field is refused with 422 from now on.
    pub fn refuse_filter(&self, field: &str) {
        self.unfilterable.lock().unwrap_or_else(PoisonError::into_inner).push(field.to_owned());
    }

    /// How the rate limit answers: what it says in `Retry-After`, and whether the body is empty.
    pub fn throttle_style(&self, wait: Wait, is_body_empty: bool) {
        *self.throttle_style.lock().unwrap_or_else(PoisonError::into_inner) = (wait, is_body_empty);
    }

    /// Switches everything off.
    pub fn clear(&self) {
        self.armory.clear();
        self.early(0);
        self.shrink(0);
        self.dates_with_z(false);
        self.unfilterable.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.throttle_style(Wait::Unsaid, false);
    }

    /// How often a fault has fired.
    pub fn fired(&self) -> u64 {
        self.armory.fired.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, area: Area) -> Vec<PortalFault> {
        self.armory.take(|armed| *armed == Area::Any || *armed == area)
    }

    pub(super) fn early_reads(&self) -> u32 {
        self.early_reads.load(Ordering::Relaxed)
    }

    pub(super) fn hidden_learners(&self) -> usize {
        self.hidden_learners.load(Ordering::Relaxed)
    }

    pub(super) fn is_with_z(&self) -> bool {
        self.dates_with_z.load(Ordering::Relaxed)
    }

    pub(super) fn is_unfilterable(&self, field: &str) -> bool {
        let fields = self.unfilterable.lock().unwrap_or_else(PoisonError::into_inner);
        fields.iter().any(|name| name.eq_ignore_ascii_case(field))
    }

    pub(super) fn throttled_as(&self) -> (Wait, bool) {
        *self.throttle_style.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of the HR system's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HrArea {
    /// All of it.
    Any,
    /// All that changes nothing.
    Reads,
    /// All that changes something.
    Writes,
    /// Employees: the data set.
    People,
    /// Training records and types.
    Training,
    /// Tables.
    Tables,
    /// The company and the list of tables.
    Company,
}

/// What the HR system can be made to do.
#[derive(Clone, Debug)]
pub enum HrFault {
    /// Answer this status.
    Unavailable(u16),
    /// Answer 401.
    Unauthorized,
    /// Answer 429 (503 before 16 September 2026: arm `Unavailable(503)`).
    Throttle(Wait),
    /// Do it, then close the connection without an answer. Reads are not touched.
    LoseAnswer,
    /// Close the connection at once and do it when `commit_late` is called. Reads are not touched.
    CommitLate,
    /// Take long, then answer as usual; the write happens even when the client has gone.
    Slow(Pause),
    /// Answer 404.
    NotFound,
    /// Answer 409.
    Conflict,
    /// Answer 400 with these words.
    Reject(String),
}

/// The HR system's faults. All are off at first; each can be switched on at any time.
#[derive(Default)]
pub struct HrFaults {
    armory: Armory<HrFault, HrArea>,
    lose_answers_per_mille: AtomicU32,
}

impl HrFaults {
    /// Switches a fault on for the matching requests; several may be on at once and act in the order of arming.
    pub fn arm(&self, fault: HrFault, area: HrArea, times: Times) {
        self.armory.arm(fault, area, times);
    }

    /// It answers this status.
    pub fn unavailable(&self, status: u16, times: Times) {
        self.arm(HrFault::Unavailable(status), HrArea::Any, times);
    }

    /// It refuses the key.
    pub fn unauthorized(&self, times: Times) {
        self.arm(HrFault::Unauthorized, HrArea::Any, times);
    }

    /// It asks for a pause.
    pub fn throttle(&self, wait: Wait, times: Times) {
        self.arm(HrFault::Throttle(wait), HrArea::Any, times);
    }

    /// It takes a write and the answer gets lost.
    pub fn lose_answer(&self, times: Times) {
        self.arm(HrFault::LoseAnswer, HrArea::Writes, times);
    }

    /// So many of 1,000 writes lose their answer, from now on.
    pub fn set_lose_answers(&self, per_mille: u32) {
        self.lose_answers_per_mille.store(per_mille, Ordering::Relaxed);
    }

    /// It closes the connection and commits only when `HrHandle::commit_late` is called.
    pub fn late_commit(&self, times: Times) {
        self.arm(HrFault::CommitLate, HrArea::Writes, times);
    }

    /// It takes long.
    pub fn slow(&self, pause: Pause, area: HrArea, times: Times) {
        self.arm(HrFault::Slow(pause), area, times);
    }

    /// It finds nothing.
    pub fn not_found(&self, area: HrArea, times: Times) {
        self.arm(HrFault::NotFound, area, times);
    }

    /// It answers 409 to writes.
    pub fn conflict(&self, times: Times) {
        self.arm(HrFault::Conflict, HrArea::Writes, times);
    }

    /// It answers 400 to writes, with these words.
    pub fn reject(&self, words: &str, times: Times) {
        self.arm(HrFault::Reject(words.to_owned()), HrArea::Writes, times);
    }

    /// Switches everything off.
    pub fn clear(&self) {
        self.armory.clear();
        self.set_lose_answers(0);
    }

    /// How often a fault has fired; answers lost by `set_lose_answers` count.
    pub fn fired(&self) -> u64 {
        self.armory.fired.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, area: HrArea, is_write: bool) -> Vec<HrFault> {
        self.armory.take(|armed| match armed {
            HrArea::Any => true,
            HrArea::Writes => is_write,
            HrArea::Reads => !is_write,
            other => *other == area,
        })
    }

    pub(super) fn lose_answers_per_mille(&self) -> u32 {
        self.lose_answers_per_mille.load(Ordering::Relaxed)
    }

    pub(super) fn count_lost(&self) {
        self.armory.fired.fetch_add(1, Ordering::Relaxed);
    }
}
