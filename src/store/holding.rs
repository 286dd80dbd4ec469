//! What the ledger remembers of a place beyond its delivery, sealed under the person's key: what was written last, and what is left as it is.

use diesel::prelude::*;
use learnsync_sdk::Fields;

use super::queue::from_json;
use super::schema::{delivery, holding, person};
use super::seal::person_scope;
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::drift::{Acknowledged, Holding};
use crate::domain::ids::{DeliveryId, SubjectId};

impl Store {
    /// A person knows that a place differs, and why: until then it is counted apart, and needs nobody. Answers whether there is such a delivery,
    /// and it holds something.
    ///
    /// # Errors
    /// The store failed.
    pub async fn acknowledge_drift(&self, id: DeliveryId, known: Acknowledged) -> Result<bool, StoreError> {
        self.writer
            .run("acknowledge_drift", move |tx| {
                let row: Option<Option<String>> =
                    delivery::table.find(id.0).select(delivery::held_row).first(tx.db).optional()?;
                if row.flatten().is_none() {
                    return Ok(false);
                }
                let scope = scope_of(tx.db, id.0)?;
                let mut state = read(tx, &scope, id.0)?;
                state.acknowledged = Some(known);
                keep(tx, &scope, id.0, &state)?;
                Ok(true)
            })
            .await
    }
}

/// What is remembered of a place; nothing, where nothing was written yet.
pub(super) fn read(tx: &mut Tx<'_>, scope: &str, delivery_id: i64) -> Result<Holding, StoreError> {
    let sealed: Option<Vec<u8>> = holding::table.find(delivery_id).select(holding::state).first(tx.db).optional()?;
    open(tx, scope, sealed)
}

/// Opens the column.
pub(super) fn open(tx: &mut Tx<'_>, scope: &str, sealed: Option<Vec<u8>>) -> Result<Holding, StoreError> {
    match sealed {
        Some(sealed) => from_json(&tx.sealer.open_sealed(scope, &sealed)?),
        None => Ok(Holding::default()),
    }
}

/// Keeps what is to be remembered of a place.
pub(super) fn keep(tx: &mut Tx<'_>, scope: &str, delivery_id: i64, state: &Holding) -> Result<(), StoreError> {
    let plain = serde_json::to_vec(state).expect("a holding is plain data");
    let sealed = tx.seal(scope, &plain)?;
    diesel::insert_into(holding::table)
        .values((holding::delivery_id.eq(delivery_id), holding::state.eq(&sealed)))
        .on_conflict(holding::delivery_id)
        .do_update()
        .set(holding::state.eq(&sealed))
        .execute(tx.db)?;
    Ok(())
}

/// These fields were written into a place; none: its row was withdrawn.
pub(super) fn wrote(tx: &mut Tx<'_>, scope: &str, delivery_id: i64, fields: Option<&Fields>) -> Result<(), StoreError> {
    let Some(fields) = fields else {
        diesel::delete(holding::table.find(delivery_id)).execute(tx.db)?;
        return Ok(());
    };
    let mut state = read(tx, scope, delivery_id)?;
    state.wrote(fields);
    keep(tx, scope, delivery_id, &state)
}

/// Under whose key a delivery's columns are sealed.
pub(super) fn scope_of(db: &mut SqliteConnection, delivery_id: i64) -> Result<String, StoreError> {
    let subject: i64 = delivery::table
        .inner_join(person::table)
        .filter(delivery::id.eq(delivery_id))
        .select(person::subject_id)
        .first(db)?;
    Ok(person_scope(SubjectId(subject)))
}
