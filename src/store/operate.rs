//! An operator's use cases: pause with a reason, try again, unpin, forget.

use diesel::prelude::*;

use super::ledger::{becomes_due, make_pending};
use super::schema::{
    applied_plan, attempt, chain_link, delivery, delivery_queue, destination, finding, forgotten, holding, link,
    mapping_version, planned, route, run, target_row,
};
use super::topology::keep_pause;
use super::{Store, StoreError};
use crate::domain::delivery::{DeliveryState, OPERATOR};
use crate::domain::ids::{DeliveryId, DestinationId, PersonId};

/// Most rows that one step of forgetting touches: the writer does other things in between.
const FORGOTTEN_AT_ONCE: i64 = 200;

/// A destination as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDestination {
    /// Its row.
    pub id: DestinationId,
    /// Its name.
    pub name: String,
    /// `active`, `paused` or `retired`.
    pub state: String,
    /// Why it is paused.
    pub pause_cause: Option<String>,
}

/// What came of trying one delivery again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It is due now.
    Due {
        /// Its destination.
        destination: String,
    },
    /// It was left as it is: it does not wait for a person.
    Kept {
        /// Where it stands.
        state: String,
        /// Why.
        cause: Option<String>,
    },
    /// There is no such delivery.
    Unknown,
}

/// What was removed with a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Deliveries.
    pub deliveries: usize,
    /// Attempts; their links in the chain stay.
    pub attempts: usize,
    /// Links to people.
    pub links: usize,
}

impl Store {
    /// All destinations of the ledger, retired ones too, by name.
    ///
    /// # Errors
    /// The store failed.
    pub async fn known_destinations(&self) -> Result<Vec<KnownDestination>, StoreError> {
        self.writer
            .run("known_destinations", |tx| {
                let rows: Vec<(i64, String, String, Option<String>)> = destination::table
                    .order(destination::name)
                    .select((destination::id, destination::name, destination::state, destination::pause_cause))
                    .load(tx.db)?;
                Ok(rows
                    .into_iter()
                    .map(|(id, name, state, pause_cause)| KnownDestination {
                        id: DestinationId(id),
                        name,
                        state,
                        pause_cause,
                    })
                    .collect())
            })
            .await
    }

    /// Stops writing to a destination until a person resumes it; the reason is shown to the next operator.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pause_by_operator(&self, id: DestinationId, reason: &str) -> Result<(), StoreError> {
        let reason = reason.to_owned();
        self.writer
            .run("pause_by_operator", move |tx| {
                keep_pause(tx.db, id, OPERATOR, None)?;
                diesel::update(destination::table.find(id.0).filter(destination::state.ne("retired")))
                    .set(destination::pause_reason.eq(reason))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Tries a delivery again now, if it is parked or waits for its time.
    ///
    /// # Errors
    /// The store failed.
    pub async fn retry_delivery(&self, id: DeliveryId) -> Result<Retried, StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        self.writer
            .run("retry_delivery", move |tx| {
                let found: Option<(String, Option<String>, i64, String)> = delivery::table
                    .inner_join(destination::table.on(destination::id.eq(delivery::destination_id)))
                    .filter(delivery::id.eq(id.0))
                    .select((delivery::state, delivery::cause, destination::id, destination::name))
                    .first(tx.db)
                    .optional()?;
                let Some((state, cause, destination_id, destination)) = found else { return Ok(Retried::Unknown) };
                match DeliveryState::parse(&state).expect("a CHECK constraint spells the states") {
                    DeliveryState::Parked => becomes_due(tx.db, destination_id, id.0, epoch, now)?,
                    DeliveryState::Pending => make_pending(tx.db, id.0, epoch, now)?,
                    DeliveryState::Sending
                    | DeliveryState::Uncertain
                    | DeliveryState::Settled
                    | DeliveryState::Skipped
                    | DeliveryState::Superseded => return Ok(Retried::Kept { state, cause }),
                }
                Ok(Retried::Due { destination })
            })
            .await
    }

    /// Lets the rules say again who a learner is in a destination; answers whether a person had said it. What the target holds under the
    /// one who was pinned is looked at again, and moves if the rules find somebody else.
    ///
    /// # Errors
    /// The store failed.
    pub async fn unpin_link(&self, destination: DestinationId, person: PersonId) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        self.writer
            .run("unpin_link", move |tx| {
                let pinned = link::table.find((destination.0, person.0)).filter(link::is_pinned.eq(1));
                if diesel::delete(pinned).execute(tx.db)? == 0 {
                    return Ok(false);
                }
                let held: Vec<i64> = delivery::table
                    .inner_join(route::table)
                    .filter(delivery::person_id.eq(person.0).and(delivery::destination_id.eq(destination.0)))
                    .filter(delivery::state.eq("settled").and(route::mode.eq("state")))
                    .select(delivery::id)
                    .load(tx.db)?;
                for id in held {
                    make_pending(tx.db, id, epoch, now)?;
                }
                Ok(true)
            })
            .await
    }

    /// Removes what the ledger knows of a retired destination, in steps of at most 200 deliveries; one that was stopped goes on where it was.
    /// The chain of attempts stays whole: of each attempt its link is kept.
    ///
    /// # Errors
    /// The store failed, or the destination is not retired.
    pub async fn forget_destination(&self, id: DestinationId) -> Result<Forgotten, StoreError> {
        let mut forgotten = Forgotten::default();
        loop {
            let step = self.forget_step(id).await?;
            forgotten.deliveries += step.deliveries;
            forgotten.attempts += step.attempts;
            if step.deliveries == 0 {
                break;
            }
        }
        forgotten.links = self.forget_rest(id).await?;
        Ok(forgotten)
    }

    async fn forget_step(&self, id: DestinationId) -> Result<Forgotten, StoreError> {
        self.writer
            .run("forget_deliveries", move |tx| {
                refuse_unless_retired(tx.db, id)?;
                let deliveries: Vec<i64> = delivery::table
                    .filter(delivery::destination_id.eq(id.0))
                    .order(delivery::id)
                    .limit(FORGOTTEN_AT_ONCE)
                    .select(delivery::id)
                    .load(tx.db)?;
                let of_these = attempt::table.filter(attempt::delivery_id.eq_any(&deliveries));
                let links: Vec<(i64, Vec<u8>, Vec<u8>)> =
                    of_these.clone().select((attempt::id, attempt::previous_hash, attempt::hash)).load(tx.db)?;
                for (attempt_id, previous_hash, hash) in &links {
                    diesel::insert_into(chain_link::table)
                        .values((
                            chain_link::attempt_id.eq(attempt_id),
                            chain_link::previous_hash.eq(previous_hash),
                            chain_link::hash.eq(hash),
                        ))
                        .execute(tx.db)?;
                }
                diesel::delete(of_these).execute(tx.db)?;
                diesel::delete(delivery_queue::table.filter(delivery_queue::delivery_id.eq_any(&deliveries)))
                    .execute(tx.db)?;
                diesel::delete(holding::table.filter(holding::delivery_id.eq_any(&deliveries))).execute(tx.db)?;
                diesel::delete(finding::table.filter(finding::delivery_id.eq_any(&deliveries))).execute(tx.db)?;
                diesel::delete(planned::table.filter(planned::delivery_id.eq_any(&deliveries))).execute(tx.db)?;
                diesel::delete(delivery::table.filter(delivery::id.eq_any(&deliveries))).execute(tx.db)?;
                Ok(Forgotten { deliveries: deliveries.len(), attempts: links.len(), links: 0 })
            })
            .await
    }

    async fn forget_rest(&self, id: DestinationId) -> Result<usize, StoreError> {
        let now = self.clock.now().0;
        self.writer
            .run("forget_destination", move |tx| {
                refuse_unless_retired(tx.db, id)?;
                let links = diesel::delete(link::table.filter(link::destination_id.eq(id.0))).execute(tx.db)?;
                let runs: Vec<i64> = run::table.filter(run::destination_id.eq(id.0)).select(run::id).load(tx.db)?;
                diesel::delete(finding::table.filter(finding::run_id.eq_any(&runs))).execute(tx.db)?;
                diesel::delete(target_row::table.filter(target_row::run_id.eq_any(&runs))).execute(tx.db)?;
                diesel::delete(applied_plan::table.filter(applied_plan::run_id.eq_any(&runs))).execute(tx.db)?;
                diesel::delete(run::table.filter(run::id.eq_any(&runs))).execute(tx.db)?;
                let routes: Vec<i64> =
                    route::table.filter(route::destination_id.eq(id.0)).select(route::id).load(tx.db)?;
                diesel::delete(mapping_version::table.filter(mapping_version::route_id.eq_any(&routes)))
                    .execute(tx.db)?;
                diesel::delete(route::table.filter(route::destination_id.eq(id.0))).execute(tx.db)?;
                let name: String = destination::table.find(id.0).select(destination::name).first(tx.db)?;
                diesel::insert_into(forgotten::table)
                    .values((forgotten::name.eq(name), forgotten::at.eq(now)))
                    .execute(tx.db)?;
                diesel::delete(destination::table.find(id.0)).execute(tx.db)?;
                Ok(links)
            })
            .await
    }
}

fn refuse_unless_retired(db: &mut SqliteConnection, id: DestinationId) -> Result<(), StoreError> {
    let (name, state): (String, String) =
        destination::table.find(id.0).select((destination::name, destination::state)).first(db)?;
    match state.as_str() {
        "retired" => Ok(()),
        _ => Err(StoreError::Mismatch(format!("{name} is {state}: only a retired destination is forgotten"))),
    }
}

/// When a destination was last forgotten: who is configured later may hold rows of ours that this ledger no longer knows.
pub(super) fn forgotten_at(db: &mut SqliteConnection) -> Result<Option<i64>, StoreError> {
    Ok(forgotten::table.select(diesel::dsl::max(forgotten::at)).first(db)?)
}

#[cfg(test)]
mod tests;
