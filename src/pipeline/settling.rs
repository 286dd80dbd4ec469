//! Settling: until when a target may still be committing what it did not answer, by a clock that nobody can set. The ledger keeps the same
//! time by the wall clock, for the next life of the daemon; a wall clock that is set forward would end it early.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ids::DeliveryId;

/// Writes of this life of the daemon whose outcome is unknown. One entry a delivery at most, and it goes when the time is over.
#[derive(Debug, Default)]
pub struct Settling(Mutex<HashMap<DeliveryId, Instant>>);

impl Settling {
    fn until(&self) -> MutexGuard<'_, HashMap<DeliveryId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The target may be committing this for that long from now.
    pub fn begin(&self, delivery: DeliveryId, settle: Duration) {
        self.until().insert(delivery, Instant::now() + settle);
    }

    /// How long it may still; none when it is over.
    #[must_use]
    pub fn rest_of(&self, delivery: DeliveryId) -> Option<Duration> {
        let mut until = self.until();
        let rest = until.get(&delivery)?.checked_duration_since(Instant::now()).filter(|rest| !rest.is_zero());
        if rest.is_none() {
            until.remove(&delivery);
        }
        rest
    }
}
