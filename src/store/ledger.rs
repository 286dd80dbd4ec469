//! The ledger's use cases: a write begins, an attempt and what follows from it are committed together, a cause is released.

use diesel::prelude::*;
use learnsync_sdk::PersonMatch;
use sha2::{Digest, Sha256};

use super::queue::{dequeue, enqueue};
use super::schema::{attempt, delivery, link, person};
use super::seal::person_scope;
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::delivery::{Attempt, Cause, DeliveryState, LinkFound, Next, Outcome};
use crate::domain::ids::{DeliveryId, DestinationId, PersonId, SubjectId};
use crate::domain::time::Timestamp;
use crate::fail_point;

impl Store {
    /// Commits who a learner is in a destination, or that nobody knows.
    ///
    /// # Errors
    /// The store failed.
    pub async fn commit_link(&self, destination: DestinationId, found: LinkFound) -> Result<(), StoreError> {
        let now = self.clock.now().0;
        self.writer
            .run(move |tx| {
                let (state, remote, rule, candidates) = match &found.found {
                    PersonMatch::Found { person, rule } => {
                        ("linked", Some(person.clone()), Some(rule.to_string()), None)
                    }
                    PersonMatch::NotFound => ("unmatched", None, None, None),
                    PersonMatch::Ambiguous { rule, candidates } => {
                        ("ambiguous", None, Some(rule.to_string()), Some(candidates.join(" ")))
                    }
                };
                let columns = (
                    link::state.eq(state),
                    link::remote_person.eq(remote),
                    link::rule.eq(rule),
                    link::candidates.eq(candidates),
                    link::checked_at.eq(now),
                );
                diesel::insert_into(link::table)
                    .values((
                        link::destination_id.eq(destination.0),
                        link::person_id.eq(found.person.0),
                        columns.clone(),
                    ))
                    .on_conflict((link::destination_id, link::person_id))
                    .do_update()
                    .set(columns)
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Forgets who a learner is in a destination, because the target says that this person does not exist.
    ///
    /// # Errors
    /// The store failed.
    pub async fn forget_link(&self, destination: DestinationId, person: PersonId) -> Result<(), StoreError> {
        self.writer
            .run(move |tx| {
                let row = link::table.find((destination.0, person.0)).filter(link::is_pinned.eq(0));
                diesel::delete(row).execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Commits that writes begin: from here on a crash leaves their outcome unknown. Answers which of them may be written.
    ///
    /// # Errors
    /// The store failed; nothing may be written.
    pub async fn begin_sending(
        &self,
        destination: DestinationId,
        deliveries: Vec<DeliveryId>,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let now = self.clock.now().0;
        let epoch = self.epoch;
        self.writer
            .run(move |tx| {
                let mut begun = Vec::with_capacity(deliveries.len());
                for id in deliveries {
                    let row = delivery::table.find(id.0);
                    let (state, due_at): (String, Option<i64>) =
                        row.select((delivery::state, delivery::due_at)).first(tx.db)?;
                    let (true, Some(due_at)) = (matches!(state.as_str(), "pending" | "uncertain"), due_at) else {
                        continue;
                    };
                    dequeue(tx.db, destination.0, id.0, due_at)?;
                    diesel::update(row)
                        .set((
                            delivery::state.eq("sending"),
                            delivery::sending_epoch.eq(epoch),
                            delivery::sending_at.eq(now),
                            delivery::due_at.eq(None::<i64>),
                            delivery::cause.eq(None::<String>),
                            delivery::cause_detail.eq(None::<String>),
                        ))
                        .execute(tx.db)?;
                    begun.push(id);
                }
                Ok(begun)
            })
            .await
    }

    /// Commits attempts and what follows from them.
    ///
    /// # Errors
    /// The store failed; the deliveries stay in `sending` and become uncertain at the next start.
    pub async fn commit_outcomes(&self, destination: DestinationId, outcomes: Vec<Outcome>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        self.writer
            .run(move |tx| {
                for outcome in &outcomes {
                    if let Some(attempt) = &outcome.attempt {
                        append_attempt(tx, epoch, outcome.delivery.0, attempt)?;
                    }
                    follow(tx, destination, outcome, now)?;
                }
                fail_point::reach(fail_point::BEFORE_OUTCOME);
                Ok(())
            })
            .await
    }

    /// Tries again, at a destination, what waits for a person to appear: every night, and when `check` is asked to.
    ///
    /// # Errors
    /// The store failed.
    pub async fn release_unmatched(&self, destination: DestinationId) -> Result<usize, StoreError> {
        let now = self.clock.now();
        self.writer
            .run(move |tx| {
                let mut released = 0;
                for cause in [Cause::Unmatched, Cause::AmbiguousPerson] {
                    released += release_like(tx.db, destination.0, &cause.word(), now)?;
                }
                Ok(released)
            })
            .await
    }

    /// Recomputes the whole chain of attempts; answers how many there are, or the first that does not fit.
    ///
    /// # Errors
    /// The store failed.
    pub async fn verify_chain(&self) -> Result<Result<usize, i64>, StoreError> {
        self.writer
            .run(|tx| {
                let mut previous = vec![0; 32];
                let mut count = 0;
                loop {
                    let rows: Vec<(i64, Covered)> = attempt::table
                        .order(attempt::id)
                        .offset(count)
                        .limit(1_000)
                        .select((attempt::id, Covered::as_select()))
                        .load(tx.db)?;
                    if rows.is_empty() {
                        return Ok(Ok(usize::try_from(count).unwrap_or(usize::MAX)));
                    }
                    for (id, row) in &rows {
                        if row.previous_hash != previous || row.hash != hash_of(row) {
                            return Ok(Err(*id));
                        }
                        previous.clone_from(&row.hash);
                        count += 1;
                    }
                }
            })
            .await
    }
}

/// Sets a delivery's next state.
fn follow(tx: &mut Tx<'_>, destination: DestinationId, outcome: &Outcome, now: Timestamp) -> Result<(), StoreError> {
    let id = outcome.delivery.0;
    let row = delivery::table.find(id);
    let (state, due_at, wanted): (String, Option<i64>, Vec<u8>) =
        row.select((delivery::state, delivery::due_at, delivery::wanted_fingerprint)).first(tx.db)?;
    if let Some(due_at) = due_at {
        dequeue(tx.db, destination.0, id, due_at)?;
    }
    let is_current = wanted == outcome.fingerprint;
    let attempts = if outcome.attempt.is_some() { 1 } else { 0 };
    diesel::update(row).set(delivery::attempts.eq(delivery::attempts + attempts)).execute(tx.db)?;
    let place =
        |state: DeliveryState, due_at: Option<i64>| (delivery::state.eq(state.as_str()), delivery::due_at.eq(due_at));
    let no_sending = (delivery::sending_epoch.eq(None::<i64>), delivery::sending_at.eq(None::<i64>));
    let no_cause = (delivery::cause.eq(None::<String>), delivery::cause_detail.eq(None::<String>));
    match &outcome.next {
        Next::Settled(held) => {
            let words = outcome.attempt.as_ref().map(|attempt| attempt.words.clone()).unwrap_or_default();
            let receipt = seal_for(tx, id, words.as_bytes())?;
            // The facts may have changed while we wrote the older ones: then that is the next thing to write.
            let (state, due_at) = match is_current {
                true => (DeliveryState::Settled, None),
                false => (DeliveryState::Pending, Some(now.0)),
            };
            diesel::update(row)
                .set((
                    place(state, due_at),
                    no_sending,
                    no_cause,
                    delivery::held_person.eq(&held.person),
                    delivery::held_row.eq(&held.row),
                    delivery::held_fingerprint.eq(&outcome.fingerprint),
                    delivery::held_fields_digest
                        .eq(outcome.attempt.as_ref().and_then(|attempt| attempt.fields_digest.clone())),
                    delivery::held_mapping_id.eq(held.mapping.0),
                    delivery::held_at.eq(now.0),
                    delivery::wanted_mapping_id.eq(held.mapping.0),
                    delivery::receipt.eq(receipt),
                    delivery::receipt_status
                        .eq(outcome.attempt.as_ref().and_then(|attempt| attempt.status.map(i64::from))),
                    delivery::tries.eq(0),
                ))
                .execute(tx.db)?;
            if let Some(due_at) = due_at {
                enqueue(tx.db, destination.0, id, due_at)?;
            }
        }
        Next::Retry { due_at, counts } => {
            diesel::update(row)
                .set((
                    place(DeliveryState::Pending, Some(due_at.0)),
                    no_sending,
                    no_cause,
                    delivery::tries.eq(delivery::tries + i64::from(*counts)),
                ))
                .execute(tx.db)?;
            enqueue(tx.db, destination.0, id, due_at.0)?;
        }
        Next::Uncertain { due_at } => {
            // A look that could not be made leaves the first attempt's epoch and time.
            diesel::update(row)
                .set((place(DeliveryState::Uncertain, Some(due_at.0)), delivery::tries.eq(delivery::tries + 1)))
                .execute(tx.db)?;
            debug_assert!(matches!(state.as_str(), "sending" | "uncertain"), "only what was sent can be uncertain");
            enqueue(tx.db, destination.0, id, due_at.0)?;
        }
        Next::Parked { cause, detail } => {
            // What was refused may be right by now: the facts changed while it was on its way.
            let (state, due_at) = match is_current {
                true => (DeliveryState::Parked, None),
                false => (DeliveryState::Pending, Some(now.0)),
            };
            diesel::update(row)
                .set((
                    place(state, due_at),
                    no_sending,
                    delivery::cause.eq(cause.word()),
                    delivery::cause_detail.eq(detail),
                    delivery::tries.eq(0),
                ))
                .execute(tx.db)?;
            if let Some(due_at) = due_at {
                enqueue(tx.db, destination.0, id, due_at)?;
            }
        }
        Next::Superseded => {
            diesel::update(row)
                .set((
                    place(DeliveryState::Superseded, None),
                    no_sending,
                    delivery::cause.eq(Cause::Superseded.word()),
                    delivery::cause_detail.eq(None::<String>),
                ))
                .execute(tx.db)?;
        }
    }
    Ok(())
}

fn seal_for(tx: &mut Tx<'_>, delivery_id: i64, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
    let subject: i64 = delivery::table
        .inner_join(person::table)
        .filter(delivery::id.eq(delivery_id))
        .select(person::subject_id)
        .first(tx.db)?;
    tx.seal(&person_scope(SubjectId(subject)), plain)
}

/// Makes a delivery pending now, unless a write of it is under way or of unknown outcome.
pub(crate) fn make_pending(db: &mut SqliteConnection, id: i64, now: Timestamp) -> Result<(), StoreError> {
    let row = delivery::table.find(id);
    let (state, due_at, destination): (String, Option<i64>, i64) =
        row.select((delivery::state, delivery::due_at, delivery::destination_id)).first(db)?;
    match DeliveryState::parse(&state).expect("a CHECK constraint spells the states") {
        DeliveryState::Sending | DeliveryState::Uncertain => return Ok(()),
        DeliveryState::Pending
        | DeliveryState::Settled
        | DeliveryState::Parked
        | DeliveryState::Skipped
        | DeliveryState::Superseded => {}
    }
    if let Some(due_at) = due_at {
        dequeue(db, destination, id, due_at)?;
    }
    diesel::update(row)
        .set((
            delivery::state.eq("pending"),
            delivery::due_at.eq(now.0),
            delivery::cause.eq(None::<String>),
            delivery::cause_detail.eq(None::<String>),
            delivery::tries.eq(0),
        ))
        .execute(db)?;
    enqueue(db, destination, id, now.0)
}

/// Tries again what is parked for one of these causes, for one person or for all.
pub(crate) fn release(
    db: &mut SqliteConnection,
    person: Option<i64>,
    causes: &[&str],
    now: Timestamp,
) -> Result<usize, StoreError> {
    let mut parked = delivery::table
        .filter(delivery::state.eq("parked").and(delivery::cause.eq_any(causes)))
        .select((delivery::id, delivery::destination_id))
        .into_boxed();
    if let Some(person) = person {
        parked = parked.filter(delivery::person_id.eq(person));
    }
    let rows: Vec<(i64, i64)> = parked.load(db)?;
    release_rows(db, &rows, now)
}

/// Tries again what is parked at a destination for a cause that fits a pattern of SQL's `like`.
pub(crate) fn release_like(
    db: &mut SqliteConnection,
    destination: i64,
    pattern: &str,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let rows: Vec<(i64, i64)> = delivery::table
        .filter(delivery::destination_id.eq(destination).and(delivery::state.eq("parked")))
        .filter(delivery::cause.like(pattern))
        .select((delivery::id, delivery::destination_id))
        .load(db)?;
    release_rows(db, &rows, now)
}

fn release_rows(db: &mut SqliteConnection, rows: &[(i64, i64)], now: Timestamp) -> Result<usize, StoreError> {
    for (id, destination) in rows {
        diesel::update(delivery::table.find(id))
            .set((
                delivery::state.eq("pending"),
                delivery::due_at.eq(now.0),
                delivery::cause.eq(None::<String>),
                delivery::cause_detail.eq(None::<String>),
            ))
            .execute(db)?;
        enqueue(db, *destination, *id, now.0)?;
    }
    Ok(rows.len())
}

/// An attempt as the chain covers it. The row's id is left out: it is the order.
#[derive(Insertable, Queryable, Selectable)]
#[diesel(table_name = attempt)]
struct Covered {
    delivery_id: i64,
    epoch_id: i64,
    number: i64,
    action: String,
    started_at: i64,
    finished_at: i64,
    outcome: String,
    status: Option<i64>,
    remote_row: Option<String>,
    words_digest: Vec<u8>,
    fields_digest: Option<Vec<u8>>,
    previous_hash: Vec<u8>,
    hash: Vec<u8>,
}

/// The hash of an attempt: over all its columns, length-prefixed, and the hash before it.
fn hash_of(row: &Covered) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&row.previous_hash);
    let status = row.status.unwrap_or(-1);
    for number in [row.delivery_id, row.epoch_id, row.number, row.started_at, row.finished_at, status] {
        part(&number.to_le_bytes());
    }
    part(row.action.as_bytes());
    part(row.outcome.as_bytes());
    part(row.remote_row.as_deref().unwrap_or_default().as_bytes());
    part(&row.words_digest);
    part(row.fields_digest.as_deref().unwrap_or_default());
    hash.finalize().to_vec()
}

/// Appends an attempt to the chain.
pub(crate) fn append_attempt(tx: &mut Tx<'_>, epoch: i64, delivery_id: i64, tried: &Attempt) -> Result<(), StoreError> {
    let previous: Option<Vec<u8>> =
        attempt::table.order(attempt::id.desc()).select(attempt::hash).first(tx.db).optional()?;
    let number: i64 = delivery::table.find(delivery_id).select(delivery::attempts).first(tx.db)?;
    let words = seal_for(tx, delivery_id, tried.words.as_bytes())?;
    let words_digest = tx.sealer.blind("words", tried.words.as_bytes());
    let mut row = Covered {
        delivery_id,
        epoch_id: epoch,
        number: number + 1,
        action: tried.action.as_str().to_owned(),
        started_at: tried.started_at.0,
        finished_at: tried.finished_at.0,
        outcome: tried.outcome.to_owned(),
        status: tried.status.map(i64::from),
        remote_row: tried.remote_row.clone(),
        words_digest,
        fields_digest: tried.fields_digest.clone(),
        previous_hash: previous.unwrap_or_else(|| vec![0; 32]),
        hash: Vec::new(),
    };
    row.hash = hash_of(&row);
    diesel::insert_into(attempt::table).values((row, attempt::words.eq(words))).execute(tx.db)?;
    Ok(())
}
