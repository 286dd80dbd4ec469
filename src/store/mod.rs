//! The ledger on disk: one method a use case, each one transaction. No connection or cursor leaves this room.

mod absence;
pub mod audit;
mod calendar;
mod claims;
mod copies;
mod doubt;
mod erase;
pub mod error;
mod gauges;
mod health;
mod holding;
mod inbox;
mod ledger;
mod listed;
mod log;
mod open;
mod operate;
mod plans;
mod proof;
mod queue;
mod refresh;
mod runs;
mod schema;
mod seal;
mod seen;
mod staging;
#[cfg(test)]
pub(crate) mod tests;
mod topology;
mod vault;
mod verify;
pub mod view;
mod writer;

use std::sync::{Arc, Mutex};

pub use copies::{Copied, Restored, keys_beside, restore};
pub use erase::{Erased, Remains};
pub use error::StoreError;
pub use gauges::{DestinationLoad, LedgerGauges, WebhookLoad};
pub use inbox::{EVENTS_TAKEN_MAX, IntakeCounts, NewEvent, Taken};
pub use listed::{ALL_LEARNERS, ListCounts, ListPage, ShownRow};
pub use open::{Open, Threading};
pub use operate::{Forgotten, KnownDestination, Retried};
pub use plans::{Apply, ApplyProgress, LINES_AT_ONCE, PlannedLine, Prior};
pub use proof::REFUSAL_AGE_MAX_MS;
pub use queue::{ClaimedLane, NextLane};
pub use refresh::{ClaimedSubject, NextSubject, Read, RefreshCounts};
pub use runs::{ByLists, Sweep, SweepCounts};
pub use staging::{Backfill, Phase, Progress, StagedRow};
pub use topology::{DestinationRows, DestinationSpec, RouteRows, RouteSpec, Topology};

use crate::domain::time::Clock;
pub use seal::TokenKey;
pub use vault::{KeptGrant, LOGINS_PER_HOUR_MAX};
pub use verify::{
    DriftAction, Finding, Placed, ROWS_AT_ONCE, Rewritten, SeenRow, Verify, VerifyCounts, VerifyPhase, VerifyProgress,
};
pub use writer::Witness;
use writer::Writer;

/// The store of one installation. Cheap to clone through `Arc`.
pub struct Store {
    writer: Writer,
    clock: Arc<dyn Clock>,
    epoch: i64,
    path: std::path::PathBuf,
    claims: Arc<claims::Claims>,
    refusal: Mutex<Option<proof::Refusal>>,
    // Held for the life of the store: one process per store.
    _lock: std::fs::File,
}

impl Store {
    /// This life of the daemon.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }
}
