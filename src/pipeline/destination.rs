//! One configured destination as the pipeline sees it: its connector, its routes, its reference data, its breaker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use learnsync_sdk::{Connector, DeliveryError, Description, MatchRule};
use tokio::sync::Mutex as AsyncMutex;

use super::breaker::Breaker;
use crate::domain::ids::{DestinationId, MappingId, RouteId};
use crate::domain::time::{Clock, Timestamp};
use crate::mapping::{Mapping, ReferenceTable};

/// Reference data is listed again after this time, in milliseconds.
const REFERENCES_MS: i64 = 3_600_000;

/// An unmapped course makes us list it again, at most this often.
const REFERENCES_AGAIN_MS: i64 = 60_000;

/// A route of a destination.
pub struct Route {
    /// Its name.
    pub name: String,
    /// The target object that it fills.
    pub object: String,
    /// Record -> fields.
    pub mapping: Arc<Mapping>,
    /// The version of the mapping.
    pub mapping_id: MappingId,
}

/// One configured destination.
pub struct Destination {
    /// Its name.
    pub name: String,
    /// Its row.
    pub id: DestinationId,
    /// The code that speaks to the target.
    pub connector: Arc<dyn Connector>,
    /// What it says about itself.
    pub description: Description,
    /// The routes.
    pub routes: BTreeMap<RouteId, Route>,
    /// How learners are recognised, in order.
    pub match_rules: Vec<MatchRule>,
    /// Whose marks are ours.
    pub installation: String,
    /// Failures in a row.
    pub breaker: Mutex<Breaker>,
    /// Lists and keeps reference data.
    pub references: References,
}

impl Destination {
    /// Our mark for a slot.
    #[must_use]
    pub fn mark(&self, slot: &str) -> String {
        format!("learnsync:{}:{slot}", self.installation)
    }

    /// Works on the breaker.
    pub fn with_breaker<T>(&self, change: impl FnOnce(&mut Breaker) -> T) -> T {
        change(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The reference data that the mappings need, listed when it is missing or old.
    ///
    /// # Errors
    /// The target could not be asked, and nothing is known from before.
    pub async fn reference_table(&self, clock: &dyn Clock) -> Result<Arc<ReferenceTable>, DeliveryError> {
        self.references.table(&*self.connector, &self.kinds(), clock, REFERENCES_MS).await
    }

    /// The same, but listed anew if the last list is more than a minute old: a course is unmapped, and may have been added since.
    ///
    /// # Errors
    /// As `reference_table`.
    pub async fn newer_reference_table(&self, clock: &dyn Clock) -> Result<Arc<ReferenceTable>, DeliveryError> {
        self.references.table(&*self.connector, &self.kinds(), clock, REFERENCES_AGAIN_MS).await
    }

    fn kinds(&self) -> BTreeSet<String> {
        self.routes.values().flat_map(|route| route.mapping.reference_kinds()).collect()
    }
}

/// Reference data and when it was listed. One task lists, the others wait for it.
#[derive(Default)]
pub struct References(AsyncMutex<Option<(Timestamp, Arc<ReferenceTable>)>>);

impl References {
    async fn table(
        &self,
        connector: &dyn Connector,
        kinds: &BTreeSet<String>,
        clock: &dyn Clock,
        age_max_ms: i64,
    ) -> Result<Arc<ReferenceTable>, DeliveryError> {
        let mut kept = self.0.lock().await;
        if let Some((at, table)) = &*kept
            && clock.now().0 - at.0 <= age_max_ms
        {
            return Ok(Arc::clone(table));
        }
        let mut table = ReferenceTable::default();
        for kind in kinds {
            table.insert(kind.clone(), connector.references(kind).await?);
        }
        let table = Arc::new(table);
        *kept = Some((clock.now(), Arc::clone(&table)));
        Ok(table)
    }
}
