//! The clock that is handed to a connector.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};

/// Tells the wall-clock time. The daemon hands in its own, so that tests and the simulation own it.
///
/// No connector may decide by it when to come back: that is the daemon's.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    /// A clock that tells what this tells.
    #[must_use]
    pub fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Clock")
    }
}
