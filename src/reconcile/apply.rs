//! Apply: a plan file is written as it stands, a few people at a time; it stops when something goes wrong that nobody knew of.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use tracing::{info, warn};

use crate::domain::delivery::Cause;
use crate::domain::time::Clock;
use crate::pipeline::destination::{Destination, Route};
use crate::pipeline::worker::{Bell, Turn, Work};
use crate::store::{Apply as Run, ApplyProgress, Store, StoreError};

/// So many lines are made due at once, and then all lines of the last person among them.
pub const LINES_DUE: u64 = 50;

/// How often it is looked whether they are written, in milliseconds.
const LOOK_MS: i64 = 500;

/// The step for one destination.
pub struct Apply {
    /// Which.
    pub destination: Arc<Destination>,
    /// The ledger.
    pub store: Arc<Store>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Rung when lines were made due.
    pub deliver: Arc<Bell>,
}

#[async_trait]
impl Work for Apply {
    fn name(&self) -> String {
        format!("apply to {}", self.destination.name)
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        let Some(mut run) = self.store.apply_under_way(self.destination.id).await? else {
            return Ok(Turn::Rest(None));
        };
        let (is_waiting, causes) = self.store.applied_so_far(&run).await?;
        if let Some(turn) = self.stop_if_new(&mut run, causes).await? {
            return Ok(turn);
        }
        if is_waiting {
            return Ok(Turn::Rest(Some(self.clock.now().plus_ms(LOOK_MS))));
        }
        let progress = run.progress.clone();
        let name = &self.destination.name;
        if progress.released >= progress.lines {
            let lines = progress.lines;
            self.store.finish_apply(run.id, progress, None).await?;
            info!(destination = name, run = %run.id, "The plan was applied to {name}: {lines} places");
            return Ok(Turn::Worked);
        }
        if let Some(because) = self.given_up_because(&progress) {
            warn!(destination = name, run = %run.id, "The plan is given up: {because}");
            self.store.finish_apply(run.id, progress, Some(because)).await?;
            return Ok(Turn::Worked);
        }
        if progress.canary.is_some_and(|canary| progress.released >= canary) {
            let because = format!(
                "the canary is written, {} of {} places; `learnsync apply` with the same file writes the others",
                progress.released, progress.lines
            );
            self.store.hold_apply(run.id, "paused", &because, progress).await?;
            info!(destination = name, run = %run.id, "{because}");
            return Ok(Turn::Worked);
        }
        self.store.release_planned(&run, LINES_DUE).await?;
        self.deliver.ring();
        Ok(Turn::Worked)
    }
}

impl Apply {
    /// Why what is left of a plan would be written otherwise than it says.
    fn given_up_because(&self, progress: &ApplyProgress) -> Option<String> {
        let is_other =
            |route: &&Route| progress.mappings.get(&route.name).is_some_and(|digest| digest != route.mapping.digest());
        let route = self.destination.routes.values().find(is_other)?;
        Some(format!(
            "the mapping of the route {} changed after {} of {} places; `learnsync plan` makes a new one",
            route.name, progress.released, progress.lines
        ))
    }

    /// Something is parked for a cause that nobody said yes to: the rest waits for a person.
    async fn stop_if_new(&self, run: &mut Run, causes: Vec<String>) -> Result<Option<Turn>, StoreError> {
        let known = |cause: &str| run.progress.known_causes.iter().any(|known| known == cause);
        let new: BTreeSet<String> =
            causes.iter().map(|cause| Cause::kind_of(cause).to_owned()).filter(|cause| !known(cause)).collect();
        if new.is_empty() {
            return Ok(None);
        }
        let mut progress = run.progress.clone();
        progress.parked += causes.len() as u64;
        let words: Vec<&str> = new.iter().map(String::as_str).collect();
        let because = format!(
            "{} of the newest {} places are parked for {}, after {} of {} were written; `learnsync approve {}` goes on all the same",
            causes.len(),
            progress.released - progress.ended,
            words.join(", "),
            progress.released,
            progress.lines,
            run.id
        );
        warn!(destination = self.destination.name, run = %run.id, "The plan is held: {because}");
        progress.known_causes.extend(new);
        self.store.hold_apply(run.id, "held", &because, progress).await?;
        Ok(Some(Turn::Worked))
    }
}
