//! Doubt: what the ledger cannot know is looked up before anything is created. A restored copy is older than the targets, and another
//! account holds who knows what. And a restored ledger is older than the LMS, too: nothing of a learner is delivered before they were read again.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::queue::enqueue;
use super::schema::{delivery, destination, installation, link, person, record, route, run};
use super::topology::resume;
use super::{Store, StoreError};
use crate::domain::delivery::Cause;
use crate::domain::ids::DestinationId;
use crate::domain::time::Timestamp;

/// A fact may be dated a day off in UTC (a calendar date is a day of some zone), so doubt reaches a day further, in milliseconds.
const DATE_MS: i64 = 86_400_000;

/// The read version of a person whom this ledger has not read since it was restored.
// By number, not by time: the clock may be set back.
pub(super) const NEVER_READ: i64 = 0;

impl Store {
    /// Copies the ledger into a file that must not exist yet; the keys are not copied along. Whoever opens the copy as a store later gets
    /// a ledger that knows to be older than its targets.
    ///
    /// # Errors
    /// The file exists, or the store failed.
    pub fn backup(&self, path: &Path) -> Result<(), StoreError> {
        if path.exists() {
            return Err(StoreError::Mismatch(format!("{} exists: a backup never overwrites", path.display())));
        }
        self.backup_into(path)
    }

    /// The same into a file that may be there, if it is empty.
    pub(super) fn backup_into(&self, path: &Path) -> Result<(), StoreError> {
        let copy_path = path.to_string_lossy().into_owned();
        // A connection of its own: the copy is of one instant, and the writer goes on meanwhile.
        let mut db = super::open::connect(&self.path)?;
        diesel::sql_query("vacuum into ?").bind::<Text, _>(&copy_path).execute(&mut db)?;
        let mut copy = super::open::connect(path)?;
        diesel::update(installation::table).set(installation::copied_at.eq(self.clock.now().0)).execute(&mut copy)?;
        Ok(())
    }

    /// Takes another account behind a destination for what it is: what it holds is unknown, and is looked up before anything is written.
    /// Links are forgotten, since the people have other ids there. A pause ends, but for the time that the target asked for: then the answer is
    /// its end.
    ///
    /// # Errors
    /// The store failed.
    pub async fn rebase_destination(&self, id: DestinationId) -> Result<Option<Timestamp>, StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        self.writer
            .run("rebase_destination", move |tx| {
                diesel::delete(link::table.filter(link::destination_id.eq(id.0))).execute(tx.db)?;
                doubt(tx.db, id.0, &["settled", "pending", "superseded"], epoch, now)?;
                // Of the places in the other account nothing is known, not even the row's id.
                let routes = state_routes(tx.db, id.0)?;
                let places = delivery::table
                    .filter(delivery::route_id.eq_any(routes))
                    .filter(delivery::state.eq_any(["pending", "uncertain", "parked"]));
                diesel::update(places)
                    .set((
                        delivery::held_person.eq(None::<String>),
                        delivery::held_row.eq(None::<String>),
                        delivery::sending_person.eq(None::<String>),
                    ))
                    .execute(tx.db)?;
                super::ledger::release_like(tx.db, id.0, "unmatched", epoch, now)?;
                super::ledger::release_like(tx.db, id.0, "ambiguous_person", epoch, now)?;
                diesel::update(destination::table.find(id.0))
                    .set(destination::account.eq(None::<String>))
                    .execute(tx.db)?;
                Ok(resume(tx.db, id, now.0)?.map(Timestamp))
            })
            .await
    }
}

/// If this store is a copy, doubts what the copy cannot know: all that its targets may have been given since.
pub(super) fn doubt_if_copied(db: &mut SqliteConnection, epoch: i64, now: Timestamp) -> Result<(), StoreError> {
    let copied_at: Option<i64> = installation::table.select(installation::copied_at).first(db)?;
    if copied_at.is_none() {
        return Ok(());
    }
    db.immediate_transaction(|db| {
        let destinations: Vec<i64> = destination::table.select(destination::id).load(db)?;
        for id in destinations {
            doubt(db, id, &["settled", "pending"], epoch, now)?;
        }
        diesel::update(person::table).set(person::read_version.eq(NEVER_READ)).execute(db)?;
        // The sweep that is due finds whom this ledger does not know; whom it knows is read even if the sweep does not list them.
        let known: Vec<i64> = person::table.select(person::subject_id).load(db)?;
        for subject_id in known {
            super::runs::mark_for_sweep(db, subject_id, now.0)?;
        }
        let newest_run: Option<i64> = run::table.select(diesel::dsl::max(run::id)).first(db)?;
        diesel::update(installation::table)
            .set((
                installation::copied_at.eq(None::<i64>),
                installation::restored_at.eq(now.0),
                installation::restored_after_run.eq(newest_run),
            ))
            .execute(db)?;
        Ok(())
    })
}

/// What a destination was given, or may have been given, becomes uncertain: deliveries in these states. What an append route has told stays
/// told.
fn doubt(db: &mut SqliteConnection, id: i64, states: &[&str], epoch: i64, now: Timestamp) -> Result<(), StoreError> {
    diesel::update(destination::table.find(id)).set(destination::doubt_before.eq(now.0)).execute(db)?;
    let routes = state_routes(db, id)?;
    let doubted: Vec<(i64, Option<i64>)> = delivery::table
        .filter(delivery::destination_id.eq(id).and(delivery::state.eq_any(states)))
        .filter(delivery::state.eq("pending").or(delivery::route_id.eq_any(routes)))
        .select((delivery::id, delivery::due_at))
        .load(db)?;
    for (delivery_id, due_at) in doubted {
        if let Some(due_at) = due_at {
            super::queue::dequeue(db, id, delivery_id, due_at)?;
        }
        diesel::update(delivery::table.find(delivery_id))
            .set((
                delivery::state.eq("uncertain"),
                delivery::due_at.eq(now.0),
                delivery::sending_epoch.eq(epoch),
                delivery::sending_at.eq(now.0),
                delivery::sending_person.eq(delivery::held_person),
            ))
            .execute(db)?;
        enqueue(db, id, delivery_id, now.0)?;
    }
    // What is parked is looked up under whom it stood when it is released: the row that we know may be gone, or not be the only one.
    let parked = delivery::table
        .filter(delivery::destination_id.eq(id).and(delivery::state.eq("parked")))
        .filter(delivery::held_row.is_not_null().and(delivery::sending_person.is_null()));
    diesel::update(parked).set(delivery::sending_person.eq(delivery::held_person)).execute(db)?;
    Ok(())
}

fn state_routes(db: &mut SqliteConnection, destination: i64) -> Result<Vec<i64>, StoreError> {
    let of_destination = route::table.filter(route::destination_id.eq(destination).and(route::mode.eq("state")));
    Ok(of_destination.select(route::id).load(db)?)
}

/// Whether a place must be looked at before its first create: the destination is doubted, no row is known, and the fact is old enough
/// that somebody before us may have delivered it.
pub(super) fn is_doubtful(db: &mut SqliteConnection, delivery_id: i64) -> Result<bool, StoreError> {
    let held_row: Option<String> = delivery::table.find(delivery_id).select(delivery::held_row).first(db)?;
    Ok(held_row.is_none() && is_old_enough_to_doubt(db, delivery_id)?)
}

/// Whether the destination is doubted, and the fact is old enough that somebody before us may have delivered it.
pub(super) fn is_old_enough_to_doubt(db: &mut SqliteConnection, delivery_id: i64) -> Result<bool, StoreError> {
    let (doubt_before, achieved_on): (Option<i64>, Option<i64>) = delivery::table
        .inner_join(destination::table.on(destination::id.eq(delivery::destination_id)))
        .inner_join(record::table)
        .filter(delivery::id.eq(delivery_id))
        .select((destination::doubt_before, record::achieved_on))
        .first(db)?;
    Ok(doubt_before.is_some_and(|before| achieved_on.is_none_or(|at| at < before + DATE_MS)))
}

/// A learner whom a restored ledger knows and the LMS does not: there is nothing to deliver anew. What the ledger says is held counts as held,
/// and the rest waits until the LMS shows it. Should they come back, what was held is looked up under whom it stood before it is written.
pub(super) fn trust_ledger(db: &mut SqliteConnection, person_id: i64) -> Result<(), StoreError> {
    type Row = (i64, i64, i64, Option<String>, String, Vec<u8>, Option<Vec<u8>>);
    let waiting: Vec<Row> = delivery::table
        .filter(delivery::person_id.eq(person_id).and(delivery::due_at.is_not_null()))
        .select((
            delivery::id,
            delivery::destination_id,
            delivery::due_at.assume_not_null(),
            delivery::held_row,
            delivery::wanted,
            delivery::wanted_fingerprint,
            delivery::held_fingerprint,
        ))
        .load(db)?;
    for (id, destination_id, due_at, held_row, wanted, wanted_fingerprint, held_fingerprint) in waiting {
        super::queue::dequeue(db, destination_id, id, due_at)?;
        let is_right = match wanted.as_str() {
            "present" => held_row.is_some() && held_fingerprint == Some(wanted_fingerprint),
            _ => held_row.is_none(),
        };
        let cause = (!is_right).then(|| Cause::Vanished.word());
        diesel::update(delivery::table.find(id))
            .set((
                delivery::state.eq(if is_right { "settled" } else { "parked" }),
                delivery::cause.eq(cause),
                delivery::due_at.eq(None::<i64>),
                delivery::sending_epoch.eq(None::<i64>),
                delivery::sending_at.eq(None::<i64>),
                delivery::sending_person.eq(delivery::held_person),
            ))
            .execute(db)?;
    }
    Ok(())
}

/// The newest run of before the last restore: it and older ones tell nothing of the targets and the LMS of today.
pub(super) fn restored_after_run(db: &mut SqliteConnection) -> Result<i64, StoreError> {
    let run: Option<i64> = installation::table.select(installation::restored_after_run).first(db)?;
    Ok(run.unwrap_or(0))
}

/// When a backup was last taken into use as this store.
pub(super) fn restored_at(db: &mut SqliteConnection) -> Result<Option<i64>, StoreError> {
    Ok(installation::table.select(installation::restored_at).first(db)?)
}

#[cfg(test)]
mod tests;
