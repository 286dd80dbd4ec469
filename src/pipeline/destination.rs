//! One configured destination as the pipeline sees it: its connector, its routes, its reference data, its breaker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use learnsync_sdk::{Connector, DeliveryError, Description, MatchRule, RouteMode};
use tokio::sync::Mutex as AsyncMutex;

use super::breaker::Breaker;
use super::pace::Pace;
use super::settling::Settling;
use super::telling::Telling;
use crate::domain::drift::Policies;
use crate::domain::ids::{DeliveryId, DestinationId, MappingId, RouteId};
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
    /// State or append.
    pub mode: RouteMode,
    /// The target object that it fills.
    pub object: String,
    /// Record -> fields.
    pub mapping: Arc<Mapping>,
    /// The version of the mapping.
    pub mapping_id: MappingId,
    /// What the night does about its rows that are not as we wrote them.
    pub drift: Policies,
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
    /// Whether it is only read: then its connector cannot write, and no step does.
    pub is_shadow: bool,
    /// The routes.
    pub routes: BTreeMap<RouteId, Route>,
    /// How learners are recognised, in order.
    pub match_rules: Vec<MatchRule>,
    /// Whose marks are ours.
    pub installation: String,
    /// Failures in a row.
    pub breaker: Mutex<Breaker>,
    /// Who may call the target at this moment.
    pub gate: Gate,
    /// How far apart batches begin.
    pub pace: Pace,
    /// When routes that only append may tell something.
    pub telling: Telling,
    /// Writes whose outcome could not be kept: the store failed between them and their commit.
    pub unkept: Mutex<Vec<DeliveryId>>,
    /// Writes whose outcome is unknown, and that the target may still be committing.
    pub settling: Settling,
    /// Lists and keeps reference data.
    pub references: References,
}

/// The pause in memory: it holds from the moment it is decided, also for workers that claimed their work before it was committed. And whether
/// the account behind the credentials was recognised in this life of the daemon.
#[derive(Debug, Default)]
pub struct Gate(Mutex<GateState>);

#[derive(Debug, Default)]
struct GateState {
    pause: Option<PauseEnd>,
    is_recognised: bool,
}

/// When a pause ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseEnd {
    /// At this time.
    At(Timestamp),
    /// When a person says so.
    Open,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, GateState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody calls the target from now on. A pause that lasts longer stands: whoever was asked something while it began may fail later, and
    /// know of a shorter one.
    pub fn close(&self, end: PauseEnd) {
        let mut state = self.state();
        state.pause = match (state.pause, end) {
            (Some(PauseEnd::Open), _) => Some(PauseEnd::Open),
            (Some(PauseEnd::At(stands)), PauseEnd::At(until)) => Some(PauseEnd::At(stands.max(until))),
            (None | Some(PauseEnd::At(_)), end) => Some(end),
        };
    }

    /// The pause is over, or goes on until the end of what the target asked for.
    pub fn open(&self, asked_until: Option<Timestamp>) {
        self.state().pause = asked_until.map(PauseEnd::At);
    }

    /// Whether nobody may call.
    #[must_use]
    pub fn is_closed(&self, now: Timestamp) -> bool {
        match self.state().pause {
            None => false,
            Some(PauseEnd::At(until)) => now < until,
            Some(PauseEnd::Open) => true,
        }
    }

    /// The account is the one that we know.
    pub fn recognise(&self) {
        self.state().is_recognised = true;
    }

    /// Whether it was recognised.
    #[must_use]
    pub fn is_recognised(&self) -> bool {
        self.state().is_recognised
    }

    /// A person said that another account is right: it is asked once more who it is, and then written to; both after the end of what it asked
    /// for.
    pub fn rebase(&self, asked_until: Option<Timestamp>) {
        *self.state() = GateState { pause: asked_until.map(PauseEnd::At), is_recognised: false };
    }
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

    /// The reference data that the mappings need, listed when it is missing or old; none when it would have to be listed during a pause.
    ///
    /// # Errors
    /// The target could not be asked, and nothing is known from before.
    pub async fn reference_table(&self, clock: &dyn Clock) -> Result<Option<Arc<ReferenceTable>>, DeliveryError> {
        self.list_references(clock, REFERENCES_MS).await
    }

    /// The same, but listed anew if the last list is more than a minute old: a course is unmapped, and may have been added since.
    ///
    /// # Errors
    /// As `reference_table`.
    pub async fn newer_reference_table(&self, clock: &dyn Clock) -> Result<Option<Arc<ReferenceTable>>, DeliveryError> {
        self.list_references(clock, REFERENCES_AGAIN_MS).await
    }

    async fn list_references(
        &self,
        clock: &dyn Clock,
        age_max_ms: i64,
    ) -> Result<Option<Arc<ReferenceTable>>, DeliveryError> {
        // One task lists, the others wait for it.
        let mut kept = self.references.0.lock().await;
        if let Some((at, table)) = &*kept
            && clock.now().0 - at.0 <= age_max_ms
        {
            return Ok(Some(Arc::clone(table)));
        }
        let mut table = ReferenceTable::default();
        for kind in self.kinds() {
            if self.gate.is_closed(clock.now()) {
                return Ok(None);
            }
            let listed = self.connector.references(&kind).await?;
            table.insert(kind, listed);
        }
        let table = Arc::new(table);
        *kept = Some((clock.now(), Arc::clone(&table)));
        Ok(Some(table))
    }

    fn kinds(&self) -> BTreeSet<String> {
        self.routes.values().flat_map(|route| route.mapping.reference_kinds()).collect()
    }
}

/// Reference data and when it was listed.
#[derive(Default)]
pub struct References(AsyncMutex<Option<(Timestamp, Arc<ReferenceTable>)>>);
