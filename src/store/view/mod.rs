//! Reading the ledger beside the daemon: `status` and `explain` have a read-only connection of their own and change nothing.

pub mod browse;
mod learner;
pub mod people;
pub mod plan;
pub mod receipt;
pub mod runs;
mod status;

use std::path::Path;

use diesel::prelude::*;

use super::schema::{delivery, epoch, event, intake, mark, person, portal, subject};
use super::seal::Sealer;
use super::vault::token_scope;
use super::{Store, StoreError};
use crate::domain::ids::PersonId;
use crate::domain::time::Timestamp;

pub use learner::{
    AttemptView, DeliveryView, DriftView, EventView, HeardView, LearnerView, LinkView, PlaceView, PromiseView,
    RecordView,
};
pub use status::{BackfillView, DestinationStatus, PortalStatus, RunView, Status, WaitView};

/// A read-only look into a store.
pub struct View {
    pub(super) db: SqliteConnection,
    sealer: Sealer,
}

impl View {
    /// Opens a store for reading; the daemon may run meanwhile.
    ///
    /// # Errors
    /// There is no store there, or its key file is missing.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("learnsync.db");
        let keys = folder.join("learnsync.keys");
        for file in [&path, &keys] {
            if !file.exists() {
                return Err(StoreError::Mismatch(format!(
                    "there is no {}: has `learnsync run` been started with this store.path?",
                    file.display()
                )));
            }
        }
        let url = format!("file:{}?mode=ro", path.display());
        let db = SqliteConnection::establish(&url)
            .map_err(|error| StoreError::Mismatch(format!("cannot open {}: {error}", path.display())))?;
        Ok(Self { db, sealer: Sealer::read(&keys)? })
    }

    /// The process that last opened the store.
    ///
    /// # Errors
    /// The store failed, or was never opened.
    pub fn pid(&mut self) -> Result<i64, StoreError> {
        Ok(epoch::table.order(epoch::id.desc()).select(epoch::pid).first(&mut self.db)?)
    }

    /// The token of a portal's session and when it was obtained: whoever asks the LMS beside the daemon must use it, because a login of
    /// their own would end the daemon's.
    ///
    /// # Errors
    /// The store failed, or the token's key is gone.
    pub fn lms_token(&mut self, name: &str) -> Result<Option<(String, Timestamp)>, StoreError> {
        let found: Option<(Option<Vec<u8>>, Option<i64>)> = portal::table
            .filter(portal::name.eq(name))
            .select((portal::token, portal::token_obtained_at))
            .first(&mut self.db)
            .optional()?;
        let Some((Some(sealed), Some(at))) = found else { return Ok(None) };
        let plain = self.sealer.open_sealed(&token_scope(name), &sealed)?;
        Ok(Some((String::from_utf8_lossy(&plain).into_owned(), Timestamp(at))))
    }
}

impl Store {
    /// The person that a portal's learner is, if they were ever read.
    ///
    /// # Errors
    /// The store failed.
    pub async fn person_of(&self, portal: &str, lms_id: &str) -> Result<Option<PersonId>, StoreError> {
        let (portal, lms_id) = (portal.to_owned(), lms_id.to_lowercase());
        self.writer
            .run("person_of", move |tx| {
                let found: Option<i64> = person::table
                    .inner_join(subject::table)
                    .inner_join(portal::table.on(portal::id.eq(person::portal_id)))
                    .filter(portal::name.eq(&portal).and(subject::lms_id.eq(&lms_id)))
                    .select(person::id)
                    .first(tx.db)
                    .optional()?;
                Ok(found.map(PersonId))
            })
            .await
    }

    /// Whether nothing is left to do now or soon: no event waits, no learner is dirty, no delivery waits; parked ones do not count.
    ///
    /// # Errors
    /// The store failed.
    pub async fn is_idle(&self) -> Result<bool, StoreError> {
        self.writer
            .run("is_idle", |tx| {
                let taken: i64 = intake::table.select(intake::last_event_id).first(tx.db)?;
                let waiting: i64 = event::table.filter(event::id.gt(taken)).count().get_result(tx.db)?;
                let dirty: i64 = mark::table.count().get_result(tx.db)?;
                let open: i64 = delivery::table
                    .filter(delivery::state.eq_any(["pending", "sending", "uncertain"]))
                    .count()
                    .get_result(tx.db)?;
                Ok(waiting + dirty + open == 0)
            })
            .await
    }
}
