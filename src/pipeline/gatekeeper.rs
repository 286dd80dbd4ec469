//! The gatekeeper of a destination: closes its gate, probes it, and opens it again. One for all who call the target, and the store remembers.

use std::sync::Arc;

use learnsync_sdk::ErrorKind;
use tracing::{info, warn};

use super::breaker::{Breaker, PROBE_MS};
use super::destination::{Destination, PauseEnd};
use super::retry::{UNAUTHORIZED_PROBE_MS, throttled_until};
use super::worker::Turn;
use crate::domain::delivery::THROTTLED;
use crate::domain::time::{Clock, Timestamp};
use crate::store::{Store, StoreError};

/// While another worker probes a paused destination, the others look again after this, in milliseconds.
const PROBING_MS: i64 = 1_000;

/// Opens and closes one destination.
pub struct Gatekeeper {
    /// The ledger.
    pub store: Arc<Store>,
    /// Whose gate it is.
    pub destination: Arc<Destination>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Held while the destination is probed.
    pub probing: tokio::sync::Mutex<()>,
}

impl Gatekeeper {
    /// Closes the gate and keeps the pause for the next life of the daemon.
    ///
    /// # Errors
    /// The store failed; the gate is closed all the same.
    pub async fn pause(&self, cause: &'static str, end: PauseEnd) -> Result<(), StoreError> {
        self.destination.gate.close(end);
        let name = &self.destination.name;
        let until = match end {
            PauseEnd::At(until) => {
                warn!(destination = name, cause, "Paused {name} until {until}");
                Some(until)
            }
            PauseEnd::Open => {
                warn!(destination = name, cause, "Paused {name} until a person says that it is right");
                None
            }
        };
        self.store.pause_destination(self.destination.id, cause, until).await
    }

    /// A pause that is over ends; where the cause may still stand, one probe decides.
    ///
    /// # Errors
    /// The store failed.
    pub async fn end_pause(&self, cause: &str, until: Option<Timestamp>) -> Result<Turn, StoreError> {
        let Some(until) = until else { return Ok(Turn::Rest(None)) };
        if self.clock.now() < until {
            return Ok(Turn::Rest(Some(until)));
        }
        let Ok(_alone) = self.probing.try_lock() else {
            return Ok(Turn::Rest(Some(self.clock.now().plus_ms(PROBING_MS))));
        };
        if cause == THROTTLED {
            self.resume().await?;
            return Ok(Turn::Worked);
        }
        self.probe().await
    }

    /// Before anything is asked or written in this life of the daemon: is the account behind the credentials the one that we know? Somebody may
    /// have put those of another company, or of the sandbox, into the file.
    ///
    /// # Errors
    /// The store failed.
    pub async fn recognise(&self) -> Result<Turn, StoreError> {
        let Ok(_alone) = self.probing.try_lock() else {
            return Ok(Turn::Rest(Some(self.clock.now().plus_ms(PROBING_MS))));
        };
        if self.destination.gate.is_recognised() {
            return Ok(Turn::Worked);
        }
        self.probe().await
    }

    /// One cheap call decides whether the destination is called: it answers, and it is the account that we know.
    async fn probe(&self) -> Result<Turn, StoreError> {
        let again = match self.destination.connector.probe().await {
            Ok(account) => {
                if self.store.recognise_account(self.destination.id, &account.identity).await? {
                    self.destination.gate.recognise();
                    self.resume().await?;
                } else {
                    // `destinations rebase` says that it is right.
                    self.pause("account_changed", PauseEnd::Open).await?;
                }
                return Ok(Turn::Worked);
            }
            Err(error) => {
                let circuit_open = ("circuit_open", self.clock.now().plus_ms(PROBE_MS));
                self.pause_after(&error.kind).unwrap_or(circuit_open)
            }
        };
        self.pause(again.0, PauseEnd::At(again.1)).await?;
        Ok(Turn::Rest(Some(again.1)))
    }

    /// The pause of the whole destination that an answer asks for, with its cause; none for what says nothing of all of it.
    #[must_use]
    pub fn pause_after(&self, kind: &ErrorKind) -> Option<(&'static str, Timestamp)> {
        match kind {
            ErrorKind::Throttled(after) => Some((THROTTLED, throttled_until(after, self.clock.now()))),
            ErrorKind::Unauthorized => Some(("unauthorized", self.clock.now().plus_ms(UNAUTHORIZED_PROBE_MS))),
            ErrorKind::Unavailable
            | ErrorKind::Ambiguous
            | ErrorKind::Rejected
            | ErrorKind::Unmatched
            | ErrorKind::Superseded => None,
        }
    }

    async fn resume(&self) -> Result<(), StoreError> {
        self.destination.with_breaker(Breaker::close);
        self.store.end_pause(self.destination.id).await?;
        self.destination.gate.open(None);
        info!(destination = self.destination.name, "{} is open", self.destination.name);
        Ok(())
    }
}
