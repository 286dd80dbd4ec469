//! The limits of the receiver, and the bucket that bounds how many webhooks a second it takes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::ListenConfig;
use crate::domain::time::{Clock, Timestamp};

/// Connections above the limit that are told so at once; any more are closed without a word.
pub(super) const REFUSALS_MAX: usize = 64;
/// How long a connection that we close is still read, so that the other side can read our answer.
pub(super) const LINGER_TIME: Duration = Duration::from_secs(2);
/// How much of it is read and thrown away.
pub(super) const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long `serve` waits for open connections when it is stopped.
pub(super) const STOP_TIME: Duration = Duration::from_secs(10);

/// What one receiver takes at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Largest webhook body, before and after content decoding, in bytes.
    pub body_bytes_max: usize,
    /// Largest head of a request (request line and headers), in bytes; at least 8 KiB are always taken.
    pub header_bytes_max: usize,
    /// Most headers of a request.
    pub headers_max: usize,
    /// Longest time from a request's first byte (a new connection's opening) to the end of its head.
    pub header_time: Duration,
    /// Longest time for a whole body.
    pub body_time: Duration,
    /// Longest pause between two requests on one connection, and longest wait for a client that does not read its answer.
    pub idle_time: Duration,
    /// Most connections at once.
    pub connections_max: usize,
    /// Webhooks accepted per second, sustained.
    pub hooks_per_second_max: u32,
    /// Webhooks accepted in one burst.
    pub hooks_burst_max: u32,
}

impl From<&ListenConfig> for HttpLimits {
    fn from(config: &ListenConfig) -> Self {
        Self {
            body_bytes_max: config.body_bytes_max,
            header_bytes_max: 16 * 1024,
            headers_max: 100,
            header_time: Duration::from_secs(config.header_seconds_max),
            body_time: Duration::from_secs(config.body_seconds_max),
            idle_time: Duration::from_secs(30),
            connections_max: config.connections_max,
            hooks_per_second_max: config.hooks_per_second_max,
            hooks_burst_max: config.hooks_burst_max,
        }
    }
}

/// A token bucket: `burst` at once, refilled by `per_second`.
pub(super) struct Bucket {
    per_second: u64,
    burst: u64,
    clock: Arc<dyn Clock>,
    level: Mutex<Level>,
}

struct Level {
    /// In thousandths of a webhook: a rate per second is as many thousandths per millisecond.
    thousandths: u64,
    at: Timestamp,
}

impl Bucket {
    pub(super) fn new(per_second: u32, burst: u32, clock: Arc<dyn Clock>) -> Self {
        let burst = u64::from(burst) * 1000;
        let level = Level { thousandths: burst, at: clock.now() };
        Self { per_second: u64::from(per_second), burst, clock, level: Mutex::new(level) }
    }

    /// Takes one; false when the bucket is empty.
    pub(super) fn take(&self) -> bool {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        // A clock that was set back refills nothing, and must not leave the bucket dry until it has caught up.
        let elapsed_ms = u64::try_from(now.0.saturating_sub(level.at.0)).unwrap_or(0);
        level.at = now;
        level.thousandths =
            level.thousandths.saturating_add(elapsed_ms.saturating_mul(self.per_second)).min(self.burst);
        match level.thousandths.checked_sub(1000) {
            Some(rest) => {
                level.thousandths = rest;
                true
            }
            None => false,
        }
    }
}
