//! What all parts of a world share: time, trace, chance, crash points, what was seen and what was wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use learnsync::store::Witness;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::Notify;

use crate::clock::WorldClock;
use crate::fault::Fault;
use crate::trace::Trace;

/// A run ends when so much was broken.
const VIOLATIONS_MAX: usize = 12;

/// Shared by the fakes, the store's witness and the play; lives longer than any daemon.
pub struct World {
    /// Time.
    pub clock: Arc<WorldClock>,
    trace: Trace,
    chance: Mutex<StdRng>,
    crash: Crash,
    /// When the daemon last kept a pause; one that it heard of later and a crash took is not known to it.
    pause_kept_ms: AtomicI64,
    life_began_ms: AtomicI64,
    seen: Mutex<Seen>,
    violations: Mutex<Vec<String>>,
}

/// What a run went through; summed up over seeds it is the coverage table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How often each fault really happened.
    pub faults: BTreeMap<Fault, u64>,
    /// Delivery states, causes, error kinds, attempts' outcomes, crash points: by `what:word`.
    pub words: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Crash {
    /// Crashes when this many more points were passed; 0: not armed.
    points_left: AtomicU64,
    has_crashed: AtomicBool,
    happened: Notify,
}

impl World {
    /// A world at its beginning.
    #[must_use]
    pub fn new(clock: WorldClock, chance: StdRng, keeps_trace: bool) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::new(clock),
            trace: Trace::new(keeps_trace),
            chance: Mutex::new(chance),
            crash: Crash::default(),
            pause_kept_ms: AtomicI64::new(0),
            life_began_ms: AtomicI64::new(0),
            seen: Mutex::default(),
            violations: Mutex::default(),
        })
    }

    /// The trace.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Adds a line to the trace.
    pub fn say(&self, text: &str) {
        self.trace.line(self.clock.true_ms(), text);
    }

    /// A fault really happened.
    pub fn fired(&self, fault: Fault, detail: &str) {
        self.say(&format!("fault {fault} {detail}"));
        *lock(&self.seen).faults.entry(fault).or_default() += 1;
    }

    /// Something that the coverage table counts was reached.
    pub fn reached(&self, what: &str, word: &str) {
        *lock(&self.seen).words.entry(format!("{what}:{word}")).or_default() += 1;
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// A promise was broken.
    pub fn violated(&self, rule: &str, detail: &str) {
        self.say(&format!("VIOLATION {rule}: {detail}"));
        let mut violations = lock(&self.violations);
        if violations.len() < VIOLATIONS_MAX {
            violations.push(format!("{rule}: {detail}"));
        }
    }

    /// Whether so much was broken that it makes no sense to go on.
    #[must_use]
    pub fn is_beyond_repair(&self) -> bool {
        lock(&self.violations).len() >= VIOLATIONS_MAX
    }

    /// What was broken so far.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// A number in `range`.
    pub fn draw(&self, range: std::ops::Range<i64>) -> i64 {
        lock(&self.chance).random_range(range)
    }

    /// Something takes so long, in milliseconds.
    pub async fn takes_ms(&self, range: std::ops::Range<i64>) {
        let ms = u64::try_from(self.draw(range)).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Crashes after this many further points.
    pub fn arm_crash(&self, points: u64) {
        self.crash.points_left.store(points, Ordering::SeqCst);
    }

    /// A crash that was armed and has not come yet does not come.
    pub fn disarm_crash(&self) {
        self.crash.points_left.store(0, Ordering::SeqCst);
    }

    /// Waits for the crash.
    pub async fn crashed(&self) {
        self.crash.happened.notified().await;
    }

    /// When the daemon last kept a pause.
    #[must_use]
    pub fn pause_kept_ms(&self) -> i64 {
        self.pause_kept_ms.load(Ordering::SeqCst)
    }

    /// When this life of the daemon began: it knows nothing of batches before.
    #[must_use]
    pub fn life_began_ms(&self) -> i64 {
        self.life_began_ms.load(Ordering::SeqCst)
    }

    /// A new life begins: the crash is over.
    pub fn revive(&self) {
        self.life_began_ms.store(self.clock.true_ms(), Ordering::SeqCst);
        self.crash.has_crashed.store(false, Ordering::SeqCst);
    }

    /// An await point of the daemon: it may be its last, and others may run here.
    pub async fn point(&self, name: &str) {
        if self.crash.has_crashed.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let left = self.crash.points_left.load(Ordering::SeqCst);
        if left > 0 {
            self.crash.points_left.store(left - 1, Ordering::SeqCst);
            if left == 1 {
                self.crash.has_crashed.store(true, Ordering::SeqCst);
                self.fired(Fault::Crash, &format!("at {name}"));
                self.reached("crash_point", name);
                self.crash.happened.notify_one();
                std::future::pending::<()>().await;
            }
        }
        if self.draw(0..4) == 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Witness for World {
    async fn begins(&self, use_case: &'static str) {
        self.point(&format!("before {use_case}")).await;
    }

    async fn ended(&self, use_case: &'static str, failure: Option<String>) {
        match failure {
            None => {
                self.say(&format!("commit {use_case}"));
                if matches!(use_case, "pause_destination" | "rest_portal") {
                    self.pause_kept_ms.store(self.clock.true_ms(), Ordering::SeqCst);
                }
            }
            Some(words) => {
                self.say(&format!("failed {use_case}: {words}"));
                if !words.contains("is full") && !words.contains("gone: erased") {
                    self.violated("the store never fails but for a full disk", &format!("{use_case}: {words}"));
                }
            }
        }
        self.point(&format!("after {use_case}")).await;
    }
}

/// Takes a lock; a panic elsewhere has failed the run already.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
