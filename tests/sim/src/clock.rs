//! Time: a true one that only moves while everybody rests, and the daemon's wall clock, which may be wrong.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use learnsync::domain::time::{Clock, Timestamp};
use tokio::time::Instant;

/// The world's clock. True time is tokio's paused clock, added up over the lives of the daemon (each has a runtime of its own).
pub struct WorldClock {
    /// True time at the start of this life, in milliseconds since 1970.
    base_ms: AtomicI64,
    life_began: Mutex<Option<Instant>>,
    /// How wrong the daemon's wall clock is.
    offset_ms: AtomicI64,
}

impl WorldClock {
    /// A right clock that begins at an instant.
    #[must_use]
    pub fn starting_at(ms: i64) -> Self {
        Self { base_ms: AtomicI64::new(ms), life_began: Mutex::new(None), offset_ms: AtomicI64::new(0) }
    }

    /// A life of the daemon begins: to be called inside its runtime.
    pub fn life_begins(&self) {
        *self.life_began.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// A life ends: to be called inside its runtime.
    pub fn life_ends(&self) {
        let ms = self.lived_ms();
        self.base_ms.fetch_add(ms, Ordering::SeqCst);
        *self.life_began.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Time passes while no daemon runs.
    pub fn pass_ms(&self, ms: i64) {
        self.base_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// True time, in milliseconds since 1970.
    #[must_use]
    pub fn true_ms(&self) -> i64 {
        self.base_ms.load(Ordering::SeqCst) + self.lived_ms()
    }

    /// The wall clock is set forward, or back when negative.
    pub fn jump_ms(&self, ms: i64) {
        self.offset_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// How wrong the wall clock is.
    #[must_use]
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::SeqCst)
    }

    fn lived_ms(&self) -> i64 {
        let began = *self.life_began.lock().unwrap_or_else(PoisonError::into_inner);
        began.map_or(0, |began| i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.true_ms() + self.offset_ms())
    }
}
