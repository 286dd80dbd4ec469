//! The circuit breaker of one destination: many failures in a row, of several people, mean that the target is down. Pure.

use std::collections::BTreeSet;

use crate::domain::ids::PersonId;
use crate::domain::time::Timestamp;

/// Failures in a row that open the circuit.
pub const FAILURES_MAX: usize = 5;

/// Over at least this many people: one broken person is not a broken target.
pub const PERSONS_MIN: usize = 2;

/// While open, one probe in this time, in milliseconds.
pub const PROBE_MS: i64 = 30_000;

/// A success in this time means that the target works, in milliseconds.
const WORKS_MS: i64 = 3_600_000;

/// Counts failures in a row.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    failures: usize,
    persons: BTreeSet<PersonId>,
    last_success_at: Option<Timestamp>,
}

impl Breaker {
    /// The target took something, or answered as it should.
    pub fn succeeded(&mut self, now: Timestamp) {
        *self = Self { last_success_at: Some(now), ..Self::default() };
    }

    /// The target failed; answers whether the circuit opens.
    pub fn failed(&mut self, person: PersonId) -> bool {
        self.failures += 1;
        self.persons.insert(person);
        self.failures >= FAILURES_MAX && self.persons.len() >= PERSONS_MIN
    }

    /// Begins to count anew, after a probe succeeded.
    pub fn close(&mut self) {
        self.failures = 0;
        self.persons.clear();
    }

    /// Whether others succeed: then whoever fails all the time is poison.
    #[must_use]
    pub fn works(&self, now: Timestamp) -> bool {
        self.last_success_at.is_some_and(|at| now.0 - at.0 <= WORKS_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_of_two_people_open_the_circuit_and_one_success_closes_it() {
        let mut breaker = Breaker::default();
        for _ in 0..9 {
            assert!(!breaker.failed(PersonId(1)), "one person alone never opens it");
        }
        assert!(breaker.failed(PersonId(2)));
        breaker.succeeded(Timestamp(1));
        for _ in 0..4 {
            assert!(!breaker.failed(PersonId(1)));
        }
        assert!(breaker.failed(PersonId(2)));
    }
}
