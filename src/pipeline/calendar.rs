//! Calendar: wakes at the midnights on which certificates begin to expire or have expired, and has their learners read again.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::info;

use super::worker::{Bell, Turn, Work};
use crate::store::{Store, StoreError};

/// The step.
pub struct Calendar {
    /// The ledger.
    pub store: Arc<Store>,
    /// Rung when subjects became dirty.
    pub refresh: Arc<Bell>,
}

#[async_trait]
impl Work for Calendar {
    fn name(&self) -> String {
        "calendar".to_owned()
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        let (marked, next) = self.store.turn_calendar().await?;
        if marked == 0 {
            return Ok(Turn::Rest(next));
        }
        info!(subjects = marked, "Certificates stand otherwise from today on; reading {marked} learners again");
        self.refresh.ring();
        Ok(Turn::Worked)
    }
}
