//! The queue's use cases: which person's deliveries are due at a destination, and when the next one is.

use diesel::prelude::*;
use learnsync_sdk::Learner;

use super::claims::LaneClaim;
use super::doubt::NEVER_READ;
use super::schema::{delivery, delivery_queue, holding, link, person, record};
use super::seal::person_scope;
use super::topology::Access;
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::delivery::{DueDelivery, KnownLink, LaneWork};
use crate::domain::ids::{DeliveryId, DestinationId, PersonId, RouteId, SubjectId};
use crate::domain::record::Record;
use crate::domain::time::Timestamp;
use crate::fail_point;

/// Most deliveries of one person that are claimed at once; what a use case may touch.
const LANE_MAX: i64 = 200;

/// One person's due deliveries at one destination; the claim ends when this is dropped.
pub struct ClaimedLane {
    /// What is to be done.
    pub work: LaneWork,
    _claim: LaneClaim,
}

/// What is next at a destination.
pub enum NextLane {
    /// A person's deliveries are due.
    Due(Box<ClaimedLane>),
    /// Nothing that nobody has claimed is due before this time; none when nothing waits.
    Rest(Option<Timestamp>),
    /// The destination is paused, for a reason; until a time, or until something changes.
    Paused {
        /// Why: `throttled`, `circuit_open`, `unauthorized`, `account_changed`, `operator`.
        cause: String,
        /// Until when; then it is probed, or simply goes on.
        until: Option<Timestamp>,
    },
    /// The destination is no longer configured. Its rows stay.
    Retired,
}

impl Store {
    /// Claims the person whose delivery is due first at a destination, or says what there is to wait for.
    ///
    /// # Errors
    /// The store failed, or a person's key is gone.
    pub async fn next_lane(&self, destination: DestinationId) -> Result<NextLane, StoreError> {
        let now = self.clock.now();
        let claims = std::sync::Arc::clone(&self.claims);
        self.writer
            .run("next_lane", move |tx| {
                match super::topology::access_of(tx.db, destination)? {
                    Access::Open => {}
                    Access::Paused { cause, until } => return Ok(NextLane::Paused { cause, until }),
                    Access::Retired => return Ok(NextLane::Retired),
                }
                let mut busy: Vec<i64> =
                    claims.lanes().iter().filter(|(id, _)| *id == destination.0).map(|(_, person)| *person).collect();
                if fail_point::is_broken_on_purpose("lease") {
                    reclaim_by_time(tx, destination, now)?;
                    busy.clear();
                }
                // A restored ledger is older than the LMS: nobody's rows are written before they were read again (NEVER_READ).
                let mut waiting = delivery_queue::table
                    .inner_join(delivery::table.on(delivery::id.eq(delivery_queue::delivery_id)))
                    .inner_join(person::table.on(person::id.eq(delivery::person_id)))
                    .filter(delivery_queue::destination_id.eq(destination.0))
                    .filter(person::read_version.gt(NEVER_READ))
                    .order((delivery_queue::due_at, delivery_queue::delivery_id))
                    .select((delivery_queue::due_at, delivery::person_id))
                    .into_boxed();
                // One condition each, for a list is prepared anew at every use; there are no more claims than workers.
                for person in busy {
                    waiting = waiting.filter(delivery::person_id.ne(person));
                }
                let first: Option<(i64, i64)> = waiting.first(tx.db).optional()?;
                let Some((due_at, person)) = first else { return Ok(NextLane::Rest(None)) };
                if due_at > now.0 {
                    return Ok(NextLane::Rest(Some(Timestamp(due_at))));
                }
                let Some(claim) = claims.claim_lane((destination.0, person)) else { return Ok(NextLane::Rest(None)) };
                let work = lane(tx, destination, PersonId(person), now)?;
                Ok(NextLane::Due(Box::new(ClaimedLane { work, _claim: claim })))
            })
            .await
    }
}

/// What a daemon would do whose claims are leases: it takes back what takes longer than half a minute. Only a test breaks this promise.
fn reclaim_by_time(tx: &mut Tx<'_>, destination: DestinationId, now: Timestamp) -> Result<(), StoreError> {
    let late = delivery::table
        .filter(delivery::destination_id.eq(destination.0).and(delivery::state.eq("sending")))
        .filter(delivery::sending_at.lt(now.0 - 30_000));
    for id in late.select(delivery::id).load::<i64>(tx.db)? {
        diesel::update(delivery::table.find(id))
            .set((
                delivery::state.eq("pending"),
                delivery::due_at.eq(now.0),
                delivery::sending_epoch.eq(None::<i64>),
                delivery::sending_at.eq(None::<i64>),
            ))
            .execute(tx.db)?;
        enqueue(tx.db, destination.0, id, now.0)?;
    }
    Ok(())
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
    let rows: Vec<DueRow> = delivery::table
        .inner_join(record::table)
        .left_join(holding::table)
        .filter(delivery::person_id.eq(id.0).and(delivery::destination_id.eq(destination.0)))
        .filter(delivery::state.eq("pending").or(delivery::state.eq("uncertain")).and(delivery::due_at.le(now.0)))
        // Oldest fact first; the id only makes the order total.
        .order((record::achieved_on, delivery::id))
        .limit(LANE_MAX)
        .select((
            delivery::id,
            delivery::route_id,
            delivery::slot,
            delivery::state,
            delivery::wanted,
            record::state,
            record::facts,
            delivery::wanted_fingerprint,
            delivery::held_row,
            delivery::held_person,
            delivery::sending_person,
            delivery::tries,
            delivery::attempts,
            delivery::wanted_at,
            delivery::held_fields_digest,
            holding::state.nullable(),
        ))
        .load(tx.db)?;
    let due = rows
        .into_iter()
        .map(|row| {
            let record: Record = from_json(&tx.sealer.open_sealed(&scope, &row.facts)?)?;
            Ok(DueDelivery {
                id: DeliveryId(row.id),
                person: id,
                route: RouteId(row.route),
                slot: row.slot,
                is_uncertain: row.state == "uncertain",
                is_wanted: row.wanted == "present",
                is_present: row.record_state == "present",
                record,
                fingerprint: row.fingerprint,
                held_row: row.held_row,
                held_person: row.held_person,
                sending_person: row.sending_person,
                tries: u32::try_from(row.tries).unwrap_or(u32::MAX),
                attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
                held_fields_digest: row.held_fields_digest,
                wanted_at: Timestamp(row.wanted_at),
                holding: super::holding::open(tx, &scope, row.holding)?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(LaneWork { destination, person: id, learner, link, due })
}

/// The columns of a due delivery, in the order of the query.
#[derive(Queryable)]
struct DueRow {
    id: i64,
    route: i64,
    slot: String,
    state: String,
    wanted: String,
    record_state: String,
    facts: Vec<u8>,
    fingerprint: Vec<u8>,
    held_row: Option<String>,
    held_person: Option<String>,
    sending_person: Option<String>,
    tries: i64,
    attempts: i64,
    wanted_at: i64,
    held_fields_digest: Option<Vec<u8>>,
    holding: Option<Vec<u8>>,
}

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
