//! A scenario: all that a seed decides. Each kind of fault draws from a stream of its own, so that leaving one out moves no other.

use std::collections::BTreeSet;

use chrono::{TimeZone, Utc};
use chrono_tz::Tz;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::fault::Fault;

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;

/// What a world is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Decides everything.
    pub seed: u64,
    /// How long things happen, in virtual days; then faults stop.
    pub days: u32,
    /// How many learners there are at the start.
    pub learners: usize,
    /// Which faults are tried.
    pub faults: BTreeSet<Fault>,
}

impl Scenario {
    /// The scenario of a seed. Each seed leaves out about a quarter of all faults: a world in which everything fails hides what one
    /// fault alone would show.
    #[must_use]
    pub fn of_seed(seed: u64, days: u32) -> Self {
        let mut chance = stream(seed, "scenario");
        let faults = Fault::ALL.into_iter().filter(|_| chance.random_ratio(3, 4)).collect();
        Self { seed, days, learners: chance.random_range(4..=8), faults }
    }

    /// The same without a fault.
    #[must_use]
    pub fn without(&self, fault: Fault) -> Self {
        let mut less = self.clone();
        less.faults.remove(&fault);
        less
    }

    /// Where the world's nights are: both have a change of their clocks in the span.
    #[must_use]
    pub fn zone(&self) -> Tz {
        if self.seed.is_multiple_of(2) { Tz::America__New_York } else { Tz::Europe__Berlin }
    }

    /// When it begins, in milliseconds since 1970: a day before the clocks change, or in a quiet week without that fault.
    #[must_use]
    pub fn begins_ms(&self) -> i64 {
        let (year, month, day) = match (self.faults.contains(&Fault::DaylightSaving), self.seed % 4) {
            (false, _) => (2026, 5, 11),
            (true, 0) => (2026, 3, 7),
            (true, 1) => (2026, 3, 28),
            (true, 2) => (2026, 10, 31),
            (true, _) => (2026, 10, 24),
        };
        let begins = Utc.with_ymd_and_hms(year, month, day, 9, 0, 0).single();
        begins.map_or(0, |begins| begins.timestamp_millis())
    }

    /// The span in milliseconds.
    #[must_use]
    pub fn span_ms(&self) -> i64 {
        i64::from(self.days) * DAY_MS
    }

    /// A stream of randomness of its own.
    #[must_use]
    pub fn stream(&self, name: &str) -> StdRng {
        stream(self.seed, name)
    }
}

fn stream(seed: u64, name: &str) -> StdRng {
    let mut mixed = seed ^ 0x9e37_79b9_7f4a_7c15;
    for byte in name.bytes() {
        mixed = (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
    }
    StdRng::seed_from_u64(mixed)
}
