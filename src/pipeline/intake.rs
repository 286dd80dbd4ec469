//! Intake: new events are parsed tolerantly, and mark subjects dirty.

use std::sync::Arc;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tracing::{debug, info};

use super::worker::{Bell, Turn, Work};
use crate::domain::event::{EventName, RawEvent, Reading};
use crate::fail_point;
use crate::store::{Store, StoreError, Taken};
use crate::telemetry::Metrics;

/// Reads a raw event; each reading comes with the text by which repeats are recognised.
pub type ReadEvent = Arc<dyn Fn(&RawEvent) -> Vec<(Reading, Vec<u8>)> + Send + Sync>;

/// The step.
pub struct Intake {
    store: Arc<Store>,
    read: ReadEvent,
    refresh: Vec<Arc<Bell>>,
    metrics: Arc<Metrics>,
}

impl Intake {
    /// Makes the step; `refresh` is rung, one bell a portal, when subjects became dirty, `metrics` counts what became of events.
    #[must_use]
    pub fn new(store: Arc<Store>, read: ReadEvent, refresh: Vec<Arc<Bell>>, metrics: Arc<Metrics>) -> Self {
        Self { store, read, refresh, metrics }
    }
}

#[async_trait]
impl Work for Intake {
    fn name(&self) -> String {
        "intake".to_owned()
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        let events = self.store.take_new_events().await?;
        if events.is_empty() {
            return Ok(Turn::Rest(None));
        }
        let batch: Vec<Taken> = events
            .into_iter()
            .map(|event| {
                let readings = (self.read)(&event.raw)
                    .into_iter()
                    .map(|(reading, dedupe)| (reading, Sha256::digest(dedupe).into()))
                    .collect();
                Taken { event, readings }
            })
            .collect();
        for (taken, reading) in batch.iter().flat_map(|taken| taken.readings.iter().map(move |(read, _)| (taken, read)))
        {
            if let (EventName::Unknown(_), Some(oddity)) = (&reading.name, &reading.oddity) {
                info!(event = taken.event.id, oddity, "Kept an event that we do not understand");
            }
        }
        let counts = self.store.finish_intake(batch).await?;
        fail_point::reach(fail_point::AFTER_INTAKE);
        let dispositions = [
            ("marked", counts.marked),
            ("duplicate", counts.duplicates),
            ("test", counts.tests),
            ("other", counts.others),
        ];
        for (disposition, count) in dispositions {
            (0..count).for_each(|_| self.metrics.event_taken(disposition));
        }
        debug!(
            marked = counts.marked,
            duplicates = counts.duplicates,
            tests = counts.tests,
            others = counts.others,
            "Took new events"
        );
        if counts.marked > 0 {
            self.refresh.iter().for_each(|bell| bell.ring());
        }
        Ok(Turn::Worked)
    }
}
