//! Midnight: wakes at the midnights on which certificates begin to expire or have expired, and has their learners read again.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::info;

use super::worker::{Bell, Turn, Work};
use crate::store::{Store, StoreError};

/// The step.
pub struct Midnight {
    /// The ledger.
    pub store: Arc<Store>,
    /// Rung when subjects became dirty.
    pub refresh: Vec<Arc<Bell>>,
}

#[async_trait]
impl Work for Midnight {
    fn name(&self) -> String {
        "midnight".to_owned()
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        let (marked, next) = self.store.turn_calendar().await?;
        if marked == 0 {
            return Ok(Turn::Rest(next));
        }
        info!(subjects = marked, "Certificates stand otherwise from today on; reading {marked} learners again");
        self.refresh.iter().for_each(|bell| bell.ring());
        Ok(Turn::Worked)
    }
}
