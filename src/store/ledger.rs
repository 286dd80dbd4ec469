//! The ledger's use cases: a write begins, an attempt and what follows from it are committed together, a cause is released.

use diesel::prelude::*;
use learnsync_sdk::PersonMatch;
use sha2::{Digest, Sha256};

use super::queue::{dequeue, enqueue};
use super::schema::{attempt, chain_link, delivery, destination, holding, link, person, record, route};
use super::seal::person_scope;
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::delivery::{Attempt, Cause, DeliveryState, LinkFound, Next, Outcome};
use crate::domain::ids::{DeliveryId, DestinationId, PersonId, SubjectId};
use crate::domain::time::Timestamp;
use crate::fail_point;

impl Store {
    /// Commits who a learner is in a destination, or that nobody knows. If a person pinned them meanwhile, nothing changes, and the answer is
    /// whom they are pinned to.
    ///
    /// # Errors
    /// The store failed.
    pub async fn commit_link(
        &self,
        destination: DestinationId,
        found: LinkFound,
    ) -> Result<Option<String>, StoreError> {
        let now = self.clock.now().0;
        self.writer
            .run("commit_link", move |tx| {
                let pinned: Option<Option<String>> = link::table
                    .find((destination.0, found.person.0))
                    .filter(link::is_pinned.eq(1))
                    .select(link::remote_person)
                    .first(tx.db)
                    .optional()?;
                if let Some(Some(person)) = pinned {
                    return Ok(Some(person));
                }
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
                Ok(None)
            })
            .await
    }

    /// Forgets who a learner is in a destination, because the target says that this person does not exist.
    ///
    /// # Errors
    /// The store failed.
    pub async fn forget_link(&self, destination: DestinationId, person: PersonId) -> Result<(), StoreError> {
        self.writer
            .run("forget_link", move |tx| {
                let row = link::table.find((destination.0, person.0)).filter(link::is_pinned.eq(0));
                diesel::delete(row).execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Commits that writes begin, each with the person in the target whom it is for: from here on a crash leaves their outcome unknown.
    /// Answers which of them may be written.
    ///
    /// # Errors
    /// The store failed; nothing may be written.
    pub async fn begin_sending(
        &self,
        destination: DestinationId,
        deliveries: Vec<(DeliveryId, String)>,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let now = self.clock.now().0;
        let epoch = self.epoch;
        self.writer
            .run("begin_sending", move |tx| {
                let mut begun = Vec::with_capacity(deliveries.len());
                let state: String = destination::table.find(destination.0).select(destination::state).first(tx.db)?;
                if state != "active" {
                    return Ok(begun);
                }
                for (id, person) in deliveries {
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
                            delivery::sending_person.eq(Some(person)),
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
    /// The store failed; the deliveries stay in `sending`, and must be given to `interrupt_writes`.
    pub async fn commit_outcomes(&self, destination: DestinationId, outcomes: Vec<Outcome>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        self.writer
            .run("commit_outcomes", move |tx| {
                for outcome in &outcomes {
                    if is_overtaken(tx.db, outcome)? {
                        continue;
                    }
                    if let Some(attempt) = &outcome.attempt {
                        append_attempt(tx, epoch, outcome.delivery.0, attempt)?;
                    }
                    follow(tx, destination, outcome, epoch, now)?;
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
        let epoch = self.epoch;
        let now = self.clock.now();
        self.writer
            .run("release_unmatched", move |tx| {
                let mut released = 0;
                for cause in [Cause::Unmatched, Cause::AmbiguousPerson] {
                    released += release_like(tx.db, destination.0, &cause.word(), epoch, now)?;
                }
                Ok(released)
            })
            .await
    }

    /// Tries again, at a destination, all that is parked for a cause: a person said that its reason is gone.
    ///
    /// # Errors
    /// The store failed.
    pub async fn retry_cause(&self, destination: DestinationId, cause: &str) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        // The word may hold what SQL's `like` takes for a wildcard.
        let cause = cause.to_owned();
        self.writer
            .run("retry_cause", move |tx| {
                let rows: Vec<(i64, i64)> = delivery::table
                    .filter(delivery::destination_id.eq(destination.0).and(delivery::state.eq("parked")))
                    .filter(delivery::cause.eq(&cause))
                    .select((delivery::id, delivery::destination_id))
                    .load(tx.db)?;
                release_rows(tx.db, &rows, epoch, now)
            })
            .await
    }

    /// Pins a learner to a person in a destination: a decision that no rule overrules. What the target holds under somebody else moves.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pin_link(&self, destination: DestinationId, person: PersonId, remote: &str) -> Result<(), StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        let remote = remote.to_owned();
        self.writer
            .run("pin_link", move |tx| {
                let columns = (
                    link::state.eq("linked"),
                    link::remote_person.eq(Some(remote.as_str())),
                    link::rule.eq(Some("pinned")),
                    link::candidates.eq(None::<String>),
                    link::checked_at.eq(now.0),
                    link::is_pinned.eq(1_i64),
                );
                diesel::insert_into(link::table)
                    .values((link::destination_id.eq(destination.0), link::person_id.eq(person.0), columns.clone()))
                    .on_conflict((link::destination_id, link::person_id))
                    .do_update()
                    .set(columns)
                    .execute(tx.db)?;
                let of_person = delivery::table
                    .inner_join(route::table)
                    .filter(delivery::person_id.eq(person.0).and(delivery::destination_id.eq(destination.0)));
                let held_elsewhere: Vec<i64> = of_person
                    .filter(delivery::state.eq("settled").and(route::mode.eq("state")))
                    .filter(delivery::held_person.ne(&remote))
                    .select(delivery::id)
                    .load(tx.db)?;
                for id in held_elsewhere {
                    make_pending(tx.db, id, epoch, now)?;
                }
                release(tx.db, Some(person.0), &["unmatched", "ambiguous_person"], epoch, now)?;
                Ok(())
            })
            .await
    }

    /// Recomputes the whole chain of attempts; answers how many there are, or the first that does not fit.
    ///
    /// # Errors
    /// The store failed.
    pub async fn verify_chain(&self) -> Result<Result<usize, i64>, StoreError> {
        self.writer.run("verify_chain", |tx| verify(tx.db)).await
    }
}

/// Recomputes the whole chain of attempts; answers how many there are, or the first that does not fit.
pub(super) fn verify(db: &mut SqliteConnection) -> Result<Result<usize, i64>, StoreError> {
    let mut previous = vec![0; 32];
    let (mut count, mut last) = (0, 0);
    loop {
        let page = chain_page(db, last)?;
        if page.is_empty() {
            return Ok(Ok(count));
        }
        for (id, tie) in page {
            let (own_previous, hash, is_whole) = match tie {
                Tie::Whole(row) => {
                    let is_whole = row.hash == hash_of(&row);
                    (row.previous_hash, row.hash, is_whole)
                }
                Tie::Link { previous_hash, hash } => (previous_hash, hash, true),
            };
            if own_previous != previous || !is_whole {
                return Ok(Err(id));
            }
            (previous, last) = (hash, id);
            count += 1;
        }
    }
}

/// One attempt of the chain.
enum Tie {
    Whole(Box<Covered>),
    /// What is left of one whose destination was forgotten.
    Link {
        previous_hash: Vec<u8>,
        hash: Vec<u8>,
    },
}

/// Attempts that are read at once when the chain is verified.
const CHAIN_PAGE: i64 = 1_000;

/// The next ties of the chain after an attempt, in order.
fn chain_page(db: &mut SqliteConnection, after: i64) -> Result<Vec<(i64, Tie)>, StoreError> {
    let whole: Vec<(i64, Covered)> = attempt::table
        .filter(attempt::id.gt(after))
        .order(attempt::id)
        .limit(CHAIN_PAGE)
        .select((attempt::id, Covered::as_select()))
        .load(db)?;
    let links: Vec<(i64, Vec<u8>, Vec<u8>)> = chain_link::table
        .filter(chain_link::attempt_id.gt(after))
        .order(chain_link::attempt_id)
        .limit(CHAIN_PAGE)
        .select((chain_link::attempt_id, chain_link::previous_hash, chain_link::hash))
        .load(db)?;
    let mut page: Vec<(i64, Tie)> = whole.into_iter().map(|(id, row)| (id, Tie::Whole(Box::new(row)))).collect();
    page.extend(links.into_iter().map(|(id, previous_hash, hash)| (id, Tie::Link { previous_hash, hash })));
    page.sort_by_key(|(id, _)| *id);
    // Beyond the first page of either, one of the other may be missing.
    page.truncate(usize::try_from(CHAIN_PAGE).unwrap_or(usize::MAX));
    Ok(page)
}

/// An attempt as it stands in the chain.
pub(super) struct ChainedAttempt {
    pub(super) number: i64,
    pub(super) words_digest: Vec<u8>,
    pub(super) previous_hash: Vec<u8>,
    pub(super) hash: Vec<u8>,
    /// Whether its hash is that of its columns, and it follows the one before it.
    pub(super) fits: bool,
}

/// Looks at one attempt's place in the chain.
pub(super) fn chained(db: &mut SqliteConnection, id: i64) -> Result<ChainedAttempt, StoreError> {
    let row: Covered = attempt::table.find(id).select(Covered::as_select()).first(db)?;
    let before: Option<Vec<u8>> = hash_before(db, Some(id))?;
    let fits = row.hash == hash_of(&row) && row.previous_hash == before.unwrap_or_else(|| vec![0; 32]);
    let Covered { number, words_digest, previous_hash, hash, .. } = row;
    Ok(ChainedAttempt { number, words_digest, previous_hash, hash, fits })
}

/// Whether a delivery went to another learner since it was claimed, or is being written for one, so that what was found out about the first
/// learner says nothing. It is still in the queue, and is found out anew.
fn is_overtaken(db: &mut SqliteConnection, outcome: &Outcome) -> Result<bool, StoreError> {
    if outcome.was_sent {
        return Ok(false);
    }
    let (person, state): (i64, String) =
        delivery::table.find(outcome.delivery.0).select((delivery::person_id, delivery::state)).first(db)?;
    Ok(person != outcome.person.0 || state == DeliveryState::Sending.as_str())
}

/// Sets a delivery's next state.
fn follow(
    tx: &mut Tx<'_>,
    destination: DestinationId,
    outcome: &Outcome,
    epoch: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let id = outcome.delivery.0;
    let row = delivery::table.find(id);
    type Row = (String, Option<i64>, Vec<u8>, i64, Option<String>, String);
    let (state, due_at, wanted, person, sent_to, mode): Row = delivery::table
        .inner_join(route::table)
        .filter(delivery::id.eq(id))
        .select((
            delivery::state,
            delivery::due_at,
            delivery::wanted_fingerprint,
            delivery::person_id,
            delivery::sending_person,
            route::mode,
        ))
        .first(tx.db)?;
    if let Some(due_at) = due_at {
        dequeue(tx.db, destination.0, id, due_at)?;
    }
    let is_current = wanted == outcome.fingerprint;
    let attempts = if outcome.attempt.is_some() { 1 } else { 0 };
    diesel::update(row).set(delivery::attempts.eq(delivery::attempts + attempts)).execute(tx.db)?;
    let place =
        |state: DeliveryState, due_at: Option<i64>| (delivery::state.eq(state.as_str()), delivery::due_at.eq(due_at));
    let no_sending = (
        delivery::sending_epoch.eq(None::<i64>),
        delivery::sending_at.eq(None::<i64>),
        delivery::sending_person.eq(None::<String>),
    );
    let no_cause = (delivery::cause.eq(None::<String>), delivery::cause_detail.eq(None::<String>));
    match &outcome.next {
        Next::Settled(held) => {
            let words = outcome.attempt.as_ref().map(|attempt| attempt.words.clone()).unwrap_or_default();
            let scope = super::holding::scope_of(tx.db, id)?;
            let receipt = tx.seal(&scope, words.as_bytes())?;
            // The facts may have changed while we wrote the older ones: then that is the next thing to write. But what was told was told.
            let is_settled =
                mode == "append" || is_current && is_linked_to(tx.db, destination.0, person, &held.person)?;
            let (state, due_at) = match is_settled {
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
            super::holding::wrote(tx, &scope, id, held.fields.as_ref())?;
            if let Some(due_at) = due_at {
                enqueue(tx.db, destination.0, id, due_at)?;
            }
        }
        Next::AsHeld => {
            // Other facts may be wanted by now: then they are next.
            let (state, due_at) = match is_current {
                true => (DeliveryState::Settled, None),
                false => (DeliveryState::Pending, Some(now.0)),
            };
            diesel::update(row)
                .set((
                    place(state, due_at),
                    no_sending,
                    no_cause,
                    delivery::held_fingerprint.eq(&outcome.fingerprint),
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
        Next::Uncertain { due_at, counts } => {
            // A look that could not be made leaves the first attempt's epoch and time.
            diesel::update(row)
                .set((
                    place(DeliveryState::Uncertain, Some(due_at.0)),
                    delivery::tries.eq(delivery::tries + i64::from(*counts)),
                ))
                .execute(tx.db)?;
            debug_assert!(matches!(state.as_str(), "sending" | "uncertain"), "only what was sent can be uncertain");
            enqueue(tx.db, destination.0, id, due_at.0)?;
        }
        Next::Known { person: known, learner, row: held_row } => {
            // Nothing there, but whoever wrote before us may have written to the one whom the learner is now.
            // It may also be another learner's by now: accounts are merged while we look.
            let is_learner = learner.is_some_and(|learner| learner.0 == person);
            let looks_again = held_row.is_none() && !is_learner && super::doubt::is_old_enough_to_doubt(tx.db, id)?;
            let state = if looks_again { DeliveryState::Uncertain } else { DeliveryState::Pending };
            diesel::update(row)
                .set((
                    place(state, Some(now.0)),
                    (
                        delivery::sending_epoch.eq(looks_again.then_some(epoch)),
                        delivery::sending_at.eq(looks_again.then_some(now.0)),
                        delivery::sending_person.eq(None::<String>),
                    ),
                    no_cause,
                    delivery::held_person.eq(held_row.as_ref().map(|_| known)),
                    delivery::held_row.eq(held_row),
                    delivery::held_fields_digest.eq(None::<Vec<u8>>),
                    delivery::held_fingerprint.eq(None::<Vec<u8>>),
                    delivery::tries.eq(0),
                ))
                .execute(tx.db)?;
            enqueue(tx.db, destination.0, id, now.0)?;
        }
        Next::Several { person: known, detail } => {
            diesel::update(row)
                .set((
                    place(DeliveryState::Parked, None),
                    no_sending,
                    delivery::cause.eq(Cause::Duplicated.word()),
                    delivery::cause_detail.eq(detail),
                ))
                .execute(tx.db)?;
            // When a person has chosen, it is looked up under whom we found them.
            diesel::update(row).set(delivery::sending_person.eq(known)).execute(tx.db)?;
        }
        Next::Waits { due_at, cause, detail } => {
            if !matches!(state.as_str(), "pending" | "uncertain") {
                // It was decided otherwise meanwhile, and waits for nothing.
                return Ok(());
            }
            diesel::update(row)
                .set((
                    delivery::due_at.eq(Some(due_at.0)),
                    delivery::cause.eq(cause.word()),
                    delivery::cause_detail.eq(detail),
                ))
                .execute(tx.db)?;
            enqueue(tx.db, destination.0, id, due_at.0)?;
        }
        Next::Skipped { cause, detail } => {
            diesel::update(row)
                .set((
                    place(DeliveryState::Skipped, None),
                    no_sending,
                    delivery::cause.eq(cause.word()),
                    delivery::cause_detail.eq(detail),
                ))
                .execute(tx.db)?;
        }
        // What was refused may be right by now: the facts changed while it was on its way. But what may have been taken is looked up first.
        Next::Parked { is_unknown: true, .. } if !is_current => {
            diesel::update(row)
                .set((place(DeliveryState::Uncertain, Some(now.0)), delivery::tries.eq(0)))
                .execute(tx.db)?;
            enqueue(tx.db, destination.0, id, now.0)?;
        }
        Next::Parked { cause, detail, is_unknown } => {
            // The LMS may have shown the fact again while it was set aside for being gone: nobody would release it any more.
            let is_over = *cause == Cause::Vanished && is_present(tx.db, id)?;
            let (state, due_at) = match is_current && !is_over {
                true => (DeliveryState::Parked, None),
                false => (DeliveryState::Pending, Some(now.0)),
            };
            diesel::update(row)
                .set((
                    place(state, due_at),
                    delivery::sending_epoch.eq(None::<i64>),
                    delivery::sending_at.eq(None::<i64>),
                    // Whom it was sent to is the mark of a doubt: it is looked up under them when it is released.
                    delivery::sending_person.eq(sent_to.filter(|_| *is_unknown)),
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

/// Whether the newest read of its learner showed a delivery's fact.
fn is_present(db: &mut SqliteConnection, id: i64) -> Result<bool, StoreError> {
    let state: String =
        delivery::table.inner_join(record::table).filter(delivery::id.eq(id)).select(record::state).first(db)?;
    Ok(state == "present")
}

/// Seals a delivery's receipt and attempts under another person's key: theirs is the fact now.
pub(crate) fn seal_anew(tx: &mut Tx<'_>, delivery_id: i64, person_id: i64) -> Result<(), StoreError> {
    let (receipt, from): (Option<Vec<u8>>, i64) = delivery::table
        .inner_join(person::table)
        .filter(delivery::id.eq(delivery_id))
        .select((delivery::receipt, person::subject_id))
        .first(tx.db)?;
    let to: i64 = person::table.find(person_id).select(person::subject_id).first(tx.db)?;
    let (from, to) = (person_scope(SubjectId(from)), person_scope(SubjectId(to)));
    if from == to {
        return Ok(());
    }
    let again = |tx: &mut Tx<'_>, sealed: &[u8]| {
        let plain = tx.sealer.open_sealed(&from, sealed)?;
        tx.seal(&to, &plain)
    };
    if let Some(sealed) = receipt {
        let sealed = again(tx, &sealed)?;
        diesel::update(delivery::table.find(delivery_id)).set(delivery::receipt.eq(sealed)).execute(tx.db)?;
    }
    let remembered: Option<Vec<u8>> =
        holding::table.find(delivery_id).select(holding::state).first(tx.db).optional()?;
    if let Some(sealed) = remembered {
        let sealed = again(tx, &sealed)?;
        diesel::update(holding::table.find(delivery_id)).set(holding::state.eq(sealed)).execute(tx.db)?;
    }
    let attempts: Vec<(i64, Option<Vec<u8>>)> = attempt::table
        .filter(attempt::delivery_id.eq(delivery_id))
        .select((attempt::id, attempt::words))
        .load(tx.db)?;
    for (id, words) in attempts {
        // The chain covers a digest of the words, not how they are sealed.
        if let Some(sealed) = words {
            let sealed = again(tx, &sealed)?;
            diesel::update(attempt::table.find(id)).set(attempt::words.eq(sealed)).execute(tx.db)?;
        }
    }
    Ok(())
}

/// Whether a learner is still this person in the destination; one that knows no people has no link.
fn is_linked_to(db: &mut SqliteConnection, destination: i64, person: i64, remote: &str) -> Result<bool, StoreError> {
    let linked: Option<Option<String>> =
        link::table.find((destination, person)).select(link::remote_person).first(db).optional()?;
    Ok(linked.flatten().is_none_or(|linked| linked == remote))
}

/// Makes a delivery pending now, unless a write of it is under way or of unknown outcome.
pub(crate) fn make_pending(db: &mut SqliteConnection, id: i64, epoch: i64, now: Timestamp) -> Result<(), StoreError> {
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
    diesel::update(row).set(delivery::tries.eq(0)).execute(db)?;
    becomes_due(db, destination, id, epoch, now)
}

/// Settles what waits or is parked if the place holds these very facts, under the person whom the learner is; answers whether it does.
pub(crate) fn settle_if_held(db: &mut SqliteConnection, id: i64, fingerprint: &[u8]) -> Result<bool, StoreError> {
    type Held = (i64, i64, Option<i64>, Option<String>, Option<Vec<u8>>);
    let waiting: Option<Held> = delivery::table
        .filter(delivery::id.eq(id).and(delivery::state.eq("pending").or(delivery::state.eq("parked"))))
        .filter(delivery::held_row.is_not_null())
        .select((
            delivery::destination_id,
            delivery::person_id,
            delivery::due_at,
            delivery::held_person,
            delivery::held_fingerprint,
        ))
        .first(db)
        .optional()?;
    let Some((destination, person, due_at, Some(held_person), Some(held))) = waiting else { return Ok(false) };
    if held != fingerprint || !is_linked_to(db, destination, person, &held_person)? {
        return Ok(false);
    }
    if let Some(due_at) = due_at {
        dequeue(db, destination, id, due_at)?;
    }
    diesel::update(delivery::table.find(id))
        .set((
            delivery::state.eq("settled"),
            delivery::due_at.eq(None::<i64>),
            delivery::cause.eq(None::<String>),
            delivery::cause_detail.eq(None::<String>),
            delivery::tries.eq(0),
        ))
        .execute(db)?;
    Ok(true)
}

/// The same after its person changed; but what was skipped, or told by a route that only appends, stays as it is.
pub(crate) fn reconsider(db: &mut SqliteConnection, id: i64, epoch: i64, now: Timestamp) -> Result<(), StoreError> {
    let (state, mode): (String, String) = delivery::table
        .inner_join(route::table)
        .filter(delivery::id.eq(id))
        .select((delivery::state, route::mode))
        .first(db)?;
    match (DeliveryState::parse(&state).expect("a CHECK constraint spells the states"), mode.as_str()) {
        (DeliveryState::Skipped, _) | (DeliveryState::Settled, "append") => Ok(()),
        (
            DeliveryState::Pending
            | DeliveryState::Sending
            | DeliveryState::Uncertain
            | DeliveryState::Settled
            | DeliveryState::Parked
            | DeliveryState::Superseded,
            _,
        ) => make_pending(db, id, epoch, now),
    }
}

/// Makes a delivery that nothing waits for due now: pending, or uncertain where somebody before us may have written it.
pub(crate) fn becomes_due(
    db: &mut SqliteConnection,
    destination: i64,
    id: i64,
    epoch: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (cause, sending_person): (Option<String>, Option<String>) =
        delivery::table.find(id).select((delivery::cause, delivery::sending_person)).first(db)?;
    // Whether the right one of several rows was left is looked up, too, and what was parked in a ledger that was restored.
    let is_doubtful =
        cause == Some(Cause::Duplicated.word()) || sending_person.is_some() || super::doubt::is_doubtful(db, id)?;
    diesel::update(delivery::table.find(id))
        .set((
            delivery::state.eq(if is_doubtful { "uncertain" } else { "pending" }),
            delivery::sending_epoch.eq(is_doubtful.then_some(epoch)),
            delivery::sending_at.eq(is_doubtful.then_some(now.0)),
            delivery::due_at.eq(now.0),
            delivery::cause.eq(None::<String>),
            delivery::cause_detail.eq(None::<String>),
        ))
        .execute(db)?;
    enqueue(db, destination, id, now.0)
}

/// Tries again what is parked for one of these causes, for one person or for all.
pub(crate) fn release(
    db: &mut SqliteConnection,
    person: Option<i64>,
    causes: &[&str],
    epoch: i64,
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
    release_rows(db, &rows, epoch, now)
}

/// Tries again what is parked at a destination for a cause that fits a pattern of SQL's `like`.
pub(crate) fn release_like(
    db: &mut SqliteConnection,
    destination: i64,
    pattern: &str,
    epoch: i64,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let rows: Vec<(i64, i64)> = delivery::table
        .filter(delivery::destination_id.eq(destination).and(delivery::state.eq("parked")))
        .filter(delivery::cause.like(pattern))
        .select((delivery::id, delivery::destination_id))
        .load(db)?;
    release_rows(db, &rows, epoch, now)
}

/// Tries again what waited for the LMS to show a fact again.
pub(crate) fn release_vanished(
    db: &mut SqliteConnection,
    record: i64,
    epoch: i64,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let rows: Vec<(i64, i64)> = delivery::table
        .filter(delivery::record_id.eq(record).and(delivery::state.eq("parked")))
        .filter(delivery::cause.eq(Cause::Vanished.word()))
        .select((delivery::id, delivery::destination_id))
        .load(db)?;
    release_rows(db, &rows, epoch, now)
}

fn release_rows(
    db: &mut SqliteConnection,
    rows: &[(i64, i64)],
    epoch: i64,
    now: Timestamp,
) -> Result<usize, StoreError> {
    for (id, destination) in rows {
        becomes_due(db, *destination, *id, epoch, now)?;
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

/// The hash of the newest attempt before another, or of all; perhaps only its link is left.
fn hash_before(db: &mut SqliteConnection, before: Option<i64>) -> Result<Option<Vec<u8>>, StoreError> {
    type Newest = Option<(i64, Vec<u8>)>;
    let before = before.unwrap_or(i64::MAX);
    let whole: Newest = attempt::table
        .filter(attempt::id.lt(before))
        .order(attempt::id.desc())
        .select((attempt::id, attempt::hash))
        .first(db)
        .optional()?;
    let link: Newest = chain_link::table
        .filter(chain_link::attempt_id.lt(before))
        .order(chain_link::attempt_id.desc())
        .select((chain_link::attempt_id, chain_link::hash))
        .first(db)
        .optional()?;
    Ok(whole.into_iter().chain(link).max_by_key(|(id, _)| *id).map(|(_, hash)| hash))
}

/// Appends an attempt to the chain.
pub(crate) fn append_attempt(tx: &mut Tx<'_>, epoch: i64, delivery_id: i64, tried: &Attempt) -> Result<(), StoreError> {
    let previous = hash_before(tx.db, None)?;
    let number: i64 = delivery::table.find(delivery_id).select(delivery::attempts).first(tx.db)?;
    let scope = super::holding::scope_of(tx.db, delivery_id)?;
    let words = tx.seal(&scope, tried.words.as_bytes())?;
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

#[cfg(test)]
mod tests {
    use learnsync_sdk::RecordKind;

    use super::*;
    use crate::domain::record::ReadRecords;
    use crate::store::NextLane;
    use crate::store::tests::{Ledger, Says};

    #[tokio::test]
    async fn what_is_set_aside_for_being_gone_is_due_if_the_lms_shows_it_again_meanwhile() {
        for is_back in [false, true] {
            let ledger = Ledger::new().await;
            ledger.completes(1, "Ana", "Nowak").await;
            // Whoever delivers has read that the fact is gone, or not yet that it is there.
            let NextLane::Due(lane) = ledger.store.next_lane(ledger.hr.id).await.expect("claims") else {
                panic!("is due")
            };
            if !is_back {
                ledger.later(3_600_000);
                ledger.hook(1).await;
                let complete = [RecordKind::Completion].into_iter().collect();
                ledger.read(1, ReadRecords { records: Vec::new(), complete }).await;
            }
            let outcome = ledger.outcome(&lane.work.due[0], "p1", &Says::Refuses(Cause::Vanished));
            ledger.store.commit_outcomes(ledger.hr.id, vec![outcome]).await.expect("is kept");
            assert_eq!(ledger.states(), [if is_back { "pending" } else { "parked" }]);
        }
    }

    #[tokio::test]
    async fn what_was_found_out_about_one_learner_says_nothing_once_somebody_writes_it_for_another() {
        let ledger = Ledger::new().await;
        ledger.completes(1, "Ana", "Nowak").await;
        let NextLane::Due(lane) = ledger.store.next_lane(ledger.hr.id).await.expect("claims") else { panic!("is due") };
        let due = &lane.work.due[0];
        let unmatched = || {
            let next = Next::Parked { cause: Cause::Unmatched, detail: "nobody".to_owned(), is_unknown: false };
            Outcome::of(due, None, next)
        };
        // The other learner's lane has begun to write meanwhile.
        ledger.store.begin_sending(ledger.hr.id, vec![(due.id, "p2".to_owned())]).await.expect("sending is kept");
        ledger.store.commit_outcomes(ledger.hr.id, vec![unmatched()]).await.expect("is dropped");
        assert_eq!(ledger.states(), ["sending"]);
        let unknown = Next::Uncertain { due_at: Timestamp(ledger.clock_ms()), counts: true };
        ledger.store.commit_outcomes(ledger.hr.id, vec![Outcome::of_sent(due, None, unknown)]).await.expect("is kept");
        assert_eq!(ledger.states(), ["uncertain"]);
        let moved = Outcome { person: PersonId(due.person.0 + 1), ..unmatched() };
        ledger.store.commit_outcomes(ledger.hr.id, vec![moved]).await.expect("is dropped");
        assert_eq!(ledger.states(), ["uncertain"], "it is another learner's");
    }
}
