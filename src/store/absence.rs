//! Absence: a fact that the LMS shows no more is only suspected to be gone, until a second complete read hours later says the same, and never
//! while our role sees less than it did.

use diesel::prelude::*;

use super::StoreError;
use super::ledger::{becomes_due, make_pending};
use super::runs::SweepCounts;
use super::schema::{delivery, person, record, run, subject};
use crate::domain::ids::SubjectId;
use crate::domain::time::Timestamp;

/// So long after the first complete read without it a second one proves that a fact is gone, in milliseconds.
pub(super) const CONFIRMED_MS: i64 = 6 * 3_600_000;

/// A day, in milliseconds.
const DAY_MS: i64 = 24 * 3_600_000;

/// What counts as the most that our role saw of a portal is the most of so many sweeps.
const SWEEPS_COMPARED: i64 = 60;

/// Below this part of the most, in percent, our role sees less than it did: somebody narrowed it, or the LMS answers in part.
const SEEN_PERCENT_MIN: u64 = 98;

/// A complete read did not show what an earlier complete one had not shown either: if that is long enough ago, it is gone. Answers whether it
/// is.
pub(super) fn confirm(
    db: &mut SqliteConnection,
    claimed: SubjectId,
    record_id: i64,
    suspected_since: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if now.0 - suspected_since < CONFIRMED_MS || sees_less(db, claimed)? {
        return Ok(false);
    }
    diesel::update(record::table.find(record_id))
        .set((record::state.eq("gone"), record::state_since.eq(now.0)))
        .execute(db)?;
    Ok(true)
}

/// When a learner of whom a fact is suspected to be gone is read again, so that somebody knows; none when no fact is.
pub(super) fn look_again_at(
    db: &mut SqliteConnection,
    claimed: SubjectId,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let suspected: Option<i64> = record::table
        .inner_join(person::table)
        .filter(person::subject_id.eq(claimed.0).and(record::state.eq("suspected_absent")))
        .select(diesel::dsl::min(record::state_since))
        .first(db)?;
    // What is not proved by then is asked for once a day: our role may see less than it did.
    let again = |since: i64| Timestamp(since + CONFIRMED_MS).max(now.plus_ms(1));
    Ok(suspected.map(|since| if now.0 - since < CONFIRMED_MS { again(since) } else { now.plus_ms(DAY_MS) }))
}

/// Whether the newest sweep of the subject's portal saw markedly fewer learners or departments than an earlier one did, or none ever counted
/// the learners.
fn sees_less(db: &mut SqliteConnection, claimed: SubjectId) -> Result<bool, StoreError> {
    let portal_id: i64 = subject::table.find(claimed.0).select(subject::portal_id).first(db)?;
    let counts: Vec<String> = run::table
        .filter(run::kind.eq("sweep").and(run::portal_id.eq(portal_id)))
        .order(run::id.desc())
        .limit(SWEEPS_COMPARED)
        .select(run::counts)
        .load(db)?;
    let counts: Vec<SweepCounts> = counts.iter().filter_map(|counts| serde_json::from_str(counts).ok()).collect();
    // The least that one sweep was told: it may have begun before the role was narrowed.
    let learners: Vec<u64> =
        counts.iter().filter_map(|counts| counts.total_first.into_iter().chain(counts.total_last).min()).collect();
    let departments: Vec<u64> = counts.iter().filter_map(|counts| counts.departments).collect();
    // What cannot be told is not concluded from; but a portal need not have departments.
    Ok(learners.is_empty() || is_fewer(&learners) || is_fewer(&departments))
}

/// Whether the newest of these, which is the first, is markedly less than the most of them.
fn is_fewer(newest_first: &[u64]) -> bool {
    let most = newest_first.iter().max().copied().unwrap_or(0);
    newest_first.first().is_some_and(|newest| newest * 100 < most * SEEN_PERCENT_MIN)
}

/// The LMS shows a fact again that was gone: what was withdrawn for it is wanted again.
pub(super) fn want_again(
    db: &mut SqliteConnection,
    record_id: i64,
    epoch: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    let withdrawn = delivery::table.filter(delivery::record_id.eq(record_id).and(delivery::wanted.eq("absent")));
    for id in withdrawn.select(delivery::id).load::<i64>(db)? {
        want_present(db, id, epoch, now)?;
    }
    Ok(())
}

/// What a place should hold nothing of, it should hold from now on; answers whether that is news.
pub(super) fn want_present(db: &mut SqliteConnection, id: i64, epoch: i64, now: Timestamp) -> Result<bool, StoreError> {
    let row = delivery::table.find(id);
    let (destination, state, wanted): (i64, String, String) =
        row.select((delivery::destination_id, delivery::state, delivery::wanted)).first(db)?;
    if wanted == "present" {
        return Ok(false);
    }
    let wanted = (delivery::wanted.eq("present"), delivery::wanted_at.eq(now.0));
    if state == "settled" {
        // In one step: nothing is settled without a row.
        let waits = (delivery::state.eq("pending"), delivery::due_at.eq(now.0), delivery::tries.eq(0));
        diesel::update(row).set((wanted, waits)).execute(db)?;
        becomes_due(db, destination, id, epoch, now)?;
    } else {
        diesel::update(row).set(wanted).execute(db)?;
        make_pending(db, id, epoch, now)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use learnsync_sdk::RecordKind;

    use super::*;
    use crate::domain::record::ReadRecords;
    use crate::store::tests::{Ledger, Says};

    const HOUR_MS: i64 = 3_600_000;

    async fn swept(ledger: &Ledger, learners: u64) {
        let mut sweep = ledger.store.begin_sweep("main").await.expect("begins");
        sweep.counts.total_first = Some(learners);
        sweep.counts.total_last = Some(learners);
        ledger.store.advance_sweep("main", Vec::new(), sweep.clone()).await.expect("is kept");
        ledger.store.finish_sweep(sweep.id, true).await.expect("ends");
    }

    async fn read_without(ledger: &Ledger, complete: bool) {
        ledger.later(60_000);
        ledger.hook(1).await;
        let complete = complete.then_some(RecordKind::Completion).into_iter().collect();
        ledger.read(1, ReadRecords { records: Vec::new(), complete }).await;
    }

    async fn state(ledger: &Ledger) -> String {
        let read = |tx: &mut super::super::writer::Tx<'_>| Ok(record::table.select(record::state).first(tx.db)?);
        ledger.store.writer.run("state_of_the_record", read).await.expect("reads")
    }

    #[tokio::test]
    async fn a_fact_is_gone_after_two_complete_reads_six_hours_apart_and_not_while_our_role_sees_less() {
        let ledger = Ledger::new().await;
        ledger.completes(1, "Ana", "Nowak").await;
        ledger.deliver(&Says::Takes).await;
        swept(&ledger, 100).await;
        ledger.later(HOUR_MS);
        read_without(&ledger, true).await;
        assert_eq!(state(&ledger).await, "suspected_absent");
        ledger.later(5 * HOUR_MS - 120_000);
        read_without(&ledger, true).await;
        assert_eq!(state(&ledger).await, "suspected_absent", "too soon");
        ledger.later(HOUR_MS);
        read_without(&ledger, false).await;
        assert_eq!(state(&ledger).await, "suspected_absent", "that read said nothing of completions");
        swept(&ledger, 50).await;
        ledger.later(HOUR_MS);
        read_without(&ledger, true).await;
        assert_eq!(state(&ledger).await, "suspected_absent", "half of the learners are hidden from us");
        swept(&ledger, 99).await;
        ledger.later(HOUR_MS);
        read_without(&ledger, true).await;
        assert_eq!(state(&ledger).await, "gone");
        assert_eq!(ledger.states(), ["settled"], "and nothing follows by itself");
    }

    #[tokio::test]
    async fn where_no_sweep_ever_counted_the_learners_nothing_is_gone() {
        let ledger = Ledger::new().await;
        ledger.completes(1, "Ana", "Nowak").await;
        read_without(&ledger, true).await;
        ledger.later(100 * HOUR_MS);
        read_without(&ledger, true).await;
        assert_eq!(state(&ledger).await, "suspected_absent");
    }
}
