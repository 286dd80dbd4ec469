//! The queue's use cases: which person's deliveries are due at a destination, and when the next one is.

use diesel::prelude::*;
use learnsync_sdk::Learner;

use super::claims::LaneClaim;
use super::schema::{delivery, delivery_queue, destination, link, person, record};
use super::seal::person_scope;
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::delivery::{DueDelivery, KnownLink, LaneWork};
use crate::domain::ids::{DeliveryId, DestinationId, PersonId, RouteId, SubjectId};
use crate::domain::record::Record;
use crate::domain::time::Timestamp;

/// Most deliveries of one person that are claimed at once; what a use case may touch.
const LANE_MAX: i64 = 200;

/// One person's due deliveries at one destination; the claim ends when this is dropped.
pub struct ClaimedLane {
    /// What is to be done.
    pub work: LaneWork,
    _claim: LaneClaim,
}

impl Store {
    /// Claims the person whose delivery is due first at a destination; `None` when nothing is due, or the destination is not active.
    ///
    /// # Errors
    /// The store failed, or a person's key is gone.
    pub async fn claim_lane(&self, destination: DestinationId) -> Result<Option<ClaimedLane>, StoreError> {
        let now = self.clock.now();
        let claims = std::sync::Arc::clone(&self.claims);
        self.writer
            .run(move |tx| {
                let state: String = destination::table.find(destination.0).select(destination::state).first(tx.db)?;
                if state != "active" {
                    return Ok(None);
                }
                let busy: Vec<i64> =
                    claims.lanes().iter().filter(|(id, _)| *id == destination.0).map(|(_, person)| *person).collect();
                let first: Option<i64> = delivery_queue::table
                    .inner_join(delivery::table.on(delivery::id.eq(delivery_queue::delivery_id)))
                    .filter(delivery_queue::destination_id.eq(destination.0).and(delivery_queue::due_at.le(now.0)))
                    .filter(delivery::person_id.ne_all(busy))
                    .order((delivery_queue::due_at, delivery_queue::delivery_id))
                    .select(delivery::person_id)
                    .first(tx.db)
                    .optional()?;
                let Some(person) = first else { return Ok(None) };
                let Some(claim) = claims.claim_lane((destination.0, person)) else { return Ok(None) };
                Ok(Some(ClaimedLane { work: lane(tx, destination, PersonId(person), now)?, _claim: claim }))
            })
            .await
    }

    /// When the next delivery of a destination is due that nobody has claimed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next_due_delivery(&self, destination: DestinationId) -> Result<Option<Timestamp>, StoreError> {
        let claims = std::sync::Arc::clone(&self.claims);
        self.writer
            .run(move |tx| {
                let busy: Vec<i64> =
                    claims.lanes().iter().filter(|(id, _)| *id == destination.0).map(|(_, person)| *person).collect();
                let due: Option<i64> = delivery_queue::table
                    .inner_join(delivery::table.on(delivery::id.eq(delivery_queue::delivery_id)))
                    .filter(delivery_queue::destination_id.eq(destination.0))
                    .filter(delivery::person_id.ne_all(busy))
                    .order(delivery_queue::due_at)
                    .select(delivery_queue::due_at)
                    .first(tx.db)
                    .optional()?;
                Ok(due.map(Timestamp))
            })
            .await
    }
}

fn lane(tx: &mut Tx<'_>, destination: DestinationId, id: PersonId, now: Timestamp) -> Result<LaneWork, StoreError> {
    let (subject, profile): (i64, Option<Vec<u8>>) =
        person::table.find(id.0).select((person::subject_id, person::profile)).first(tx.db)?;
    let scope = person_scope(SubjectId(subject));
    let profile = profile.ok_or_else(|| StoreError::Unsealable(scope.clone()))?;
    let learner: Learner = from_json(&tx.sealer.open_sealed(&scope, &profile)?)?;
    let link: Option<KnownLink> = link::table
        .find((destination.0, id.0))
        .filter(link::state.eq("linked"))
        .select((link::remote_person, link::rule))
        .first::<(Option<String>, Option<String>)>(tx.db)
        .optional()?
        .and_then(|(remote_person, rule)| {
            Some(KnownLink { remote_person: remote_person?, rule: rule.unwrap_or_default() })
        });
    let rows: Vec<Row> = delivery::table
        .inner_join(record::table)
        .filter(delivery::person_id.eq(id.0).and(delivery::destination_id.eq(destination.0)))
        .filter(delivery::state.eq_any(["pending", "uncertain"]).and(delivery::due_at.le(now.0)))
        // Oldest fact first; the id only makes the order total.
        .order((record::achieved_on, delivery::id))
        .limit(LANE_MAX)
        .select((
            delivery::id,
            delivery::route_id,
            delivery::slot,
            delivery::state,
            delivery::wanted,
            record::facts,
            delivery::wanted_fingerprint,
            delivery::held_row,
            delivery::held_person,
            delivery::tries,
            delivery::attempts,
        ))
        .load(tx.db)?;
    let due = rows
        .into_iter()
        .map(|(id, route, slot, state, wanted, facts, fingerprint, held_row, held_person, tries, attempts)| {
            let record: Record = from_json(&tx.sealer.open_sealed(&scope, &facts)?)?;
            Ok(DueDelivery {
                id: DeliveryId(id),
                route: RouteId(route),
                slot,
                is_uncertain: state == "uncertain",
                is_wanted: wanted == "present",
                record,
                fingerprint,
                held_row,
                held_person,
                tries: u32::try_from(tries).unwrap_or(u32::MAX),
                attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(LaneWork { destination, person: id, learner, link, due })
}

type Row = (i64, i64, String, String, String, Vec<u8>, Vec<u8>, Option<String>, Option<String>, i64, i64);

/// Reads a sealed column's JSON.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(plain: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(plain)
        .map_err(|error| StoreError::Mismatch(format!("a sealed column is not what this version writes: {error}")))
}

/// Puts a delivery into the queue.
pub(crate) fn enqueue(
    db: &mut SqliteConnection,
    destination: i64,
    delivery: i64,
    due_at: i64,
) -> Result<(), StoreError> {
    diesel::insert_into(delivery_queue::table)
        .values((
            delivery_queue::destination_id.eq(destination),
            delivery_queue::due_at.eq(due_at),
            delivery_queue::delivery_id.eq(delivery),
        ))
        .execute(db)?;
    Ok(())
}

/// Takes a delivery out of the queue.
pub(crate) fn dequeue(
    db: &mut SqliteConnection,
    destination: i64,
    delivery: i64,
    due_at: i64,
) -> Result<(), StoreError> {
    diesel::delete(delivery_queue::table.find((destination, due_at, delivery))).execute(db)?;
    Ok(())
}
