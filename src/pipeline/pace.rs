//! Keeps the batches of a destination apart: one worker at a time reserves the next slot, the others rest until there is one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::time::Timestamp;
use crate::fail_point;

/// The distance between the starts of two batches of one destination. In memory: a new life of the daemon begins its first batch at once.
#[derive(Debug)]
pub struct Pace {
    interval_ms: i64,
    next: Mutex<Next>,
}

/// The slot that comes next. Pure: what it decides depends on what is handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Free from this time on.
    From(Timestamp),
    /// Some worker has it, and has not begun its batch; the slot was free from this time on.
    Reserved(Timestamp),
}

impl Next {
    /// Reserves the slot, or says when to ask again.
    fn reserve(self, now: Timestamp, interval_ms: i64) -> Result<Self, Timestamp> {
        // After the clock was set back the slot is at most one distance away.
        let latest = now.plus_ms(interval_ms);
        match self {
            Self::From(from) if from <= now => Ok(Self::Reserved(from)),
            Self::From(from) => Err(from.min(latest)),
            Self::Reserved(_) => Err(latest),
        }
    }
}

/// The right to begin one batch. Given back when it is dropped, if nothing was begun.
#[must_use]
pub struct Slot<'a> {
    pace: &'a Pace,
    has_begun: std::sync::atomic::AtomicBool,
}

impl Pace {
    /// Batches that begin at least this far apart, in milliseconds; 0 for targets that take all.
    #[must_use]
    pub fn new(interval_ms: u32) -> Self {
        Self { interval_ms: i64::from(interval_ms), next: Mutex::new(Next::From(Timestamp(i64::MIN))) }
    }

    /// Reserves the next slot before anything is claimed, so that one batch takes all that has gathered.
    ///
    /// # Errors
    /// There is none yet; the time says when to ask again.
    pub fn reserve(&self, now: Timestamp) -> Result<Slot<'_>, Timestamp> {
        if self.interval_ms > 0 && !fail_point::is_broken_on_purpose("pace") {
            let mut next = self.next();
            *next = next.reserve(now, self.interval_ms)?;
        }
        Ok(Slot { pace: self, has_begun: false.into() })
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot<'_> {
    /// The batch begins now: the next one begins a whole distance later.
    pub fn begin(&self, now: Timestamp) {
        let has_begun = self.has_begun.swap(true, std::sync::atomic::Ordering::SeqCst);
        if self.pace.interval_ms > 0 && !has_begun {
            *self.pace.next() = Next::From(now.plus_ms(self.pace.interval_ms));
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut next = self.pace.next();
        // Once a batch has begun the slot that is reserved is another worker's.
        if let (Next::Reserved(from), false) = (*next, *self.has_begun.get_mut()) {
            *next = Next::From(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_reserved_by_one_and_the_others_ask_again() {
        let at = Timestamp;
        let check = |next: Next, now, expected| assert_eq!(next.reserve(at(now), 1_000), expected, "{next:?} at {now}");
        check(Next::From(at(5_000)), 5_000, Ok(Next::Reserved(at(5_000))));
        check(Next::From(at(5_000)), 9_000, Ok(Next::Reserved(at(5_000))));
        check(Next::From(at(5_000)), 4_999, Err(at(5_000)));
        check(Next::Reserved(at(5_000)), 5_000, Err(at(6_000)));
        // The clock was set back by an hour.
        check(Next::From(at(3_605_000)), 5_000, Err(at(6_000)));
    }

    #[test]
    fn a_slot_in_which_nothing_begins_is_given_back() {
        let pace = Pace::new(1_000);
        let first = pace.reserve(Timestamp(0)).expect("nothing was begun");
        assert_eq!(pace.reserve(Timestamp(10)).err(), Some(Timestamp(1_010)), "somebody has it");
        drop(first);
        let second = pace.reserve(Timestamp(20)).expect("it was given back");
        second.begin(Timestamp(700));
        assert_eq!(pace.reserve(Timestamp(900)).err(), Some(Timestamp(1_700)), "it counts from when the batch began");
        let third = pace.reserve(Timestamp(1_700)).expect("a whole distance later");
        drop(second);
        assert!(
            pace.reserve(Timestamp(1_701)).is_err(),
            "who has begun gives nothing back, least of all another's slot"
        );
        drop(third);
        assert!(pace.reserve(Timestamp(1_702)).is_ok());
    }

    #[test]
    fn a_target_that_takes_all_is_never_waited_for() {
        let pace = Pace::new(0);
        let first = pace.reserve(Timestamp(0)).expect("always");
        first.begin(Timestamp(0));
        assert!(pace.reserve(Timestamp(0)).is_ok());
    }
}
