//! The loop that every step of the pipeline runs in: work while there is some, then rest until a bell or a due time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tracing::{debug, error, warn};

use crate::domain::time::{Clock, Timestamp};
use crate::store::StoreError;

/// The longest rest: bounds what a jump of the clock can cost.
pub const REST_MAX: Duration = Duration::from_secs(30);

/// The rest after the store failed; doubled each time in a row, up to the longest rest.
const FAILED_REST: Duration = Duration::from_secs(1);

/// Wakes the workers of one step. A ring while nobody rests is not lost.
#[derive(Debug, Default)]
pub struct Bell(Notify);

impl Bell {
    /// Wakes one worker: each wakes the next by its own work.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    async fn wait(&self) {
        self.0.notified().await;
    }
}

/// What one turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something was done; there may be more.
    Worked,
    /// Nothing to do before this time, or before a bell.
    Rest(Option<Timestamp>),
}

/// One step of the pipeline.
#[async_trait]
pub trait Work: Send + Sync {
    /// The step's name, for logs.
    fn name(&self) -> String;

    /// Does one piece of work and says what it came to.
    ///
    /// # Errors
    /// The store failed; everything else is the step's own to cope with.
    async fn run_once(&self) -> Result<Turn, StoreError>;
}

/// Works until told to stop, resting `rest_max` at most; a turn that has begun is finished.
pub async fn work(
    work: Arc<dyn Work>,
    bell: Arc<Bell>,
    clock: Arc<dyn Clock>,
    rest_max: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut failed_rest = FAILED_REST;
    while !*stop.borrow_and_update() {
        let until = match work.run_once().await {
            Ok(Turn::Worked) => {
                failed_rest = FAILED_REST;
                continue;
            }
            Ok(Turn::Rest(until)) => until,
            Err(StoreError::Closed) => {
                error!(step = work.name(), "The store is closed; this step stops");
                return;
            }
            Err(failure) => {
                warn!(
                    step = work.name(),
                    error = %failure,
                    "The store failed; trying again in {} s",
                    failed_rest.as_secs()
                );
                // No bell wakes it: workers that fail ring for each other, and each turn asks the LMS or a target anew.
                tokio::select! {
                    biased;
                    _ = stop.changed() => {}
                    () = tokio::time::sleep(failed_rest) => {}
                }
                failed_rest = (failed_rest * 2).min(REST_MAX);
                continue;
            }
        };
        failed_rest = FAILED_REST;
        // Said after everything that was done: who waits for a result waits for this line.
        debug!(step = work.name(), "Nothing to do");
        let rest = until.map_or(rest_max, |until| {
            let ms = u64::try_from(until.0.saturating_sub(clock.now().0)).unwrap_or(0);
            Duration::from_millis(ms).min(rest_max)
        });
        tokio::select! {
            biased;
            _ = stop.changed() => {}
            () = bell.wait() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}
