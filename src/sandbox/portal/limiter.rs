//! The portal's limit: a bucket of calls that holds the burst and fills at the rate.
//!
//! Absorb allows 200 calls a second and a burst of 100, then answers 429; SEEN at second hand, in notes that quote its documentation
//! (<https://docs.myabsorb.com/integration-api/v2/docs>).

use crate::domain::time::Timestamp;

/// The bucket; full at the beginning, because nobody has called for long.
#[derive(Debug, Default)]
pub struct RateLimiter {
    /// In thousandths of a call.
    level: i64,
    filled: Option<Timestamp>,
}

impl RateLimiter {
    /// Takes one call; false when there is none left: then the answer is 429.
    pub fn take(&mut self, now: Timestamp, calls_per_second: u32, burst: u32) -> bool {
        let full = i64::from(burst) * 1_000;
        let passed = self.filled.map_or(i64::MAX, |filled| now.0.saturating_sub(filled.0).max(0));
        self.level = self.level.saturating_add(passed.saturating_mul(i64::from(calls_per_second))).min(full);
        self.filled = Some(now);
        let is_within = self.level >= 1_000;
        self.level -= if is_within { 1_000 } else { 0 };
        is_within
    }
}
