//! What one request, one sender and all senders together may cost.

use std::time::Duration;

use crate::config::ListenConfig;
use crate::domain::time::Timestamp;

/// The receiver's limits.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Largest body after decoding, in bytes.
    pub body_bytes_max: usize,
    /// Largest head of a request, in bytes.
    pub head_bytes_max: usize,
    /// Most headers of a request.
    pub headers_max: usize,
    /// Longest time for the head of a request.
    pub header_time: Duration,
    /// Longest time for the body of a request.
    pub body_time: Duration,
    /// Most connections at once.
    pub connections_max: usize,
    /// Webhooks per second, sustained.
    pub hooks_per_second_max: u32,
    /// Webhooks in one burst.
    pub hooks_burst_max: u32,
    /// How much of a refused body is read, so that its sender can read the answer.
    pub drain_bytes_max: usize,
    /// How long that may take; also how long stopping waits for what is under way.
    pub drain_time: Duration,
}

impl From<&ListenConfig> for HttpLimits {
    fn from(config: &ListenConfig) -> Self {
        Self {
            body_bytes_max: config.body_bytes_max,
            head_bytes_max: 16 * 1024,
            headers_max: 100,
            header_time: Duration::from_secs(config.header_seconds_max),
            body_time: Duration::from_secs(config.body_seconds_max),
            connections_max: config.connections_max,
            hooks_per_second_max: config.hooks_per_second_max,
            hooks_burst_max: config.hooks_burst_max,
            drain_bytes_max: 1024 * 1024,
            drain_time: Duration::from_secs(2),
        }
    }
}

/// A bucket of tokens that fills with time.
#[derive(Debug)]
pub(super) struct Rate {
    /// Tokens times 1,000, so that a millisecond counts.
    level: u64,
    filled_at: Timestamp,
}

impl Rate {
    pub(super) fn full(limits: &HttpLimits, now: Timestamp) -> Self {
        Self { level: u64::from(limits.hooks_burst_max) * 1_000, filled_at: now }
    }

    /// Takes one token, if there is one.
    pub(super) fn take(&mut self, limits: &HttpLimits, now: Timestamp) -> bool {
        // A clock that jumped back fills nothing.
        let ms = u64::try_from(now.0.saturating_sub(self.filled_at.0)).unwrap_or(0);
        let filled = self.level.saturating_add(ms.saturating_mul(u64::from(limits.hooks_per_second_max)));
        self.level = filled.min(u64::from(limits.hooks_burst_max) * 1_000);
        self.filled_at = now;
        match self.level.checked_sub(1_000) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }
}
