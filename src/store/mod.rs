//! The ledger on disk: one method a use case, each one transaction. No connection or cursor leaves this room.

pub mod error;
mod log;
mod open;
mod schema;
mod seal;
mod writer;

use std::sync::Arc;

pub use error::StoreError;
pub use open::{Open, Threading};

use crate::domain::time::Clock;
use writer::Writer;

/// The store of one installation. Cheap to clone through `Arc`.
pub struct Store {
    writer: Writer,
    clock: Arc<dyn Clock>,
    epoch: i64,
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
