use std::collections::BTreeSet;

use learnsync_sdk::RouteMode;

use super::*;
use crate::domain::record::ReadRecords;
use crate::store::tests::{AuditedFolder, Ledger, Says, open};
use crate::store::{ClaimedLane, NextLane, NextSubject, Read};

/// How long the target may still be committing.
const SETTLE_MS: i64 = 60_000;

/// The ledger after its backup was restored, and its destination has rested.
async fn restored(ledger: Ledger) -> Ledger {
    let folder = AuditedFolder::new();
    let database = folder.path().join("learnsync.db");
    ledger.store.back_up(&database, true).expect("copies");
    std::fs::rename(folder.path().join("learnsync.db.keys"), folder.path().join("learnsync.keys")).expect("renames");
    let store = open(folder.path(), ledger.clock.clone(), 2);
    let ledger = Ledger { folder, store: store.into(), ..ledger };
    ledger.store.recover_epoch(ledger.hr.id, SETTLE_MS).await.expect("recovers");
    ledger
}

async fn due(ledger: &Ledger) -> Option<Box<ClaimedLane>> {
    match ledger.store.next_lane(ledger.hr.id).await.expect("claims") {
        NextLane::Due(lane) => Some(lane),
        NextLane::Rest(_) | NextLane::Paused { .. } | NextLane::Retired => None,
    }
}

/// The LMS is read for whoever is dirty, and knows nobody of that id.
async fn shows_nobody(ledger: &Ledger) {
    let NextSubject::Dirty(claimed) = ledger.store.next_subject("main").await.expect("claims") else {
        panic!("nobody is dirty")
    };
    let records = ReadRecords { records: Vec::new(), complete: BTreeSet::new() };
    let read = Read { started_at: Timestamp(ledger.clock_ms()), learner: None, records, changes_at: None };
    ledger.store.complete_refresh(claimed, read, |_| Vec::new()).await.expect("is kept");
}

/// A learner of whom the target holds a row, under `p1`.
async fn held() -> Ledger {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Takes).await;
    ledger
}

#[tokio::test]
async fn after_a_restore_nothing_is_asked_while_a_target_may_still_commit() {
    let ledger = restored(held().await).await;
    let restored_at = ledger.clock_ms();
    let rest = ledger.store.next_lane(ledger.hr.id).await.expect("looks");
    let NextLane::Paused { cause, until } = rest else { panic!("it is not paused") };
    assert_eq!((cause.as_str(), until), ("restored", Some(Timestamp(restored_at + SETTLE_MS))));
    // A later start does not begin the rest anew, and one after it does not rest at all.
    ledger.later(SETTLE_MS / 2);
    ledger.store.recover_epoch(ledger.hr.id, SETTLE_MS).await.expect("recovers");
    let rest = ledger.store.next_lane(ledger.hr.id).await.expect("looks");
    assert!(matches!(rest, NextLane::Paused { until: Some(at), .. } if at.0 == restored_at + SETTLE_MS));
    ledger.store.end_pause(ledger.hr.id).await.expect("ends");
    ledger.later(SETTLE_MS);
    ledger.store.recover_epoch(ledger.hr.id, SETTLE_MS).await.expect("recovers");
    assert!(!matches!(ledger.store.next_lane(ledger.hr.id).await, Ok(NextLane::Paused { .. })));
}

#[tokio::test]
async fn what_was_parked_in_a_restored_ledger_is_looked_up_under_whom_it_stood() {
    let ledger = held().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Refuses(Cause::Rejected)).await;
    assert_eq!(ledger.states(), ["parked"]);
    let ledger = restored(ledger).await;
    ledger.store.end_pause(ledger.hr.id).await.expect("ends");
    ledger.completes(1, "Ana", "Nowak").await;
    let lane = due(&ledger).await.expect("its fact changed");
    let looked = &lane.work.due[0];
    assert!(looked.is_uncertain, "it would be written without a look");
    assert_eq!(looked.sending_person.as_deref(), Some("p1"));
}

#[tokio::test]
async fn who_comes_back_after_a_restore_is_looked_up_first() {
    let ledger = restored(held().await).await;
    ledger.store.end_pause(ledger.hr.id).await.expect("ends");
    // Just then the LMS shows nobody of that id: what the ledger says is held counts as held.
    shows_nobody(&ledger).await;
    assert_eq!(ledger.states(), ["settled"]);
    ledger.later(3_600_000);
    ledger.completes(1, "Ana", "Nowak").await;
    let lane = due(&ledger).await.expect("its fact changed");
    let looked = &lane.work.due[0];
    assert!(looked.is_uncertain, "it would be written without a look");
    assert_eq!(looked.sending_person.as_deref(), Some("p1"));
}

#[tokio::test]
async fn what_was_to_be_written_to_somebody_who_is_not_shown_after_a_restore_does_not_count_as_held() {
    let ledger = held().await;
    ledger.completes(1, "Ana", "Nowak").await;
    assert_eq!(ledger.states(), ["pending"], "the row holds older facts");
    let ledger = restored(ledger).await;
    ledger.store.end_pause(ledger.hr.id).await.expect("ends");
    shows_nobody(&ledger).await;
    assert_eq!(ledger.states(), ["parked"]);
    ledger.later(3_600_000);
    ledger.hook(1).await;
    ledger.read(1, ReadRecords { records: Vec::new(), complete: BTreeSet::new() }).await;
    let lane = due(&ledger).await.expect("they are back");
    assert!(lane.work.due[0].is_uncertain, "it would be written without a look");
}

#[tokio::test]
async fn what_was_parked_while_nobody_knew_whether_it_was_taken_is_looked_up_when_it_is_released() {
    for (says, cause, looks) in
        [(Says::Nothing(Cause::Poison), "poison", true), (Says::Refuses(Cause::Rejected), "rejected", false)]
    {
        let ledger = held().await;
        ledger.completes(1, "Ana", "Nowak").await;
        ledger.deliver(&says).await;
        assert_eq!(ledger.states(), ["parked"]);
        ledger.store.retry_cause(ledger.hr.id, cause).await.expect("retries");
        let lane = due(&ledger).await.expect("it is due");
        let released = &lane.work.due[0];
        assert_eq!((released.is_uncertain, released.sending_person.is_some()), (looks, looks), "{cause}");
    }
}

/// The fact is corrected while its write is under way; answers the delivery's state after the target took it.
async fn corrected_meanwhile(mode: RouteMode) -> Vec<String> {
    let ledger = Ledger::with_routes(mode).await;
    ledger.completes(1, "Ana", "Nowak").await;
    let lane = due(&ledger).await.expect("it is due");
    let sent = lane.work.due.iter().map(|due| (due.id, "p1".to_owned())).collect();
    ledger.store.begin_sending(ledger.hr.id, sent).await.expect("sending is kept");
    ledger.completes(1, "Ana", "Nowak").await;
    let outcome = ledger.outcome(&lane.work.due[0], "p1", &Says::Takes);
    ledger.store.commit_outcomes(ledger.hr.id, vec![outcome]).await.expect("is kept");
    ledger.states()
}

#[tokio::test]
async fn a_fact_that_changes_while_it_is_written_is_written_next_but_not_told_again() {
    assert_eq!(corrected_meanwhile(RouteMode::State).await, ["pending"]);
    assert_eq!(corrected_meanwhile(RouteMode::Append).await, ["settled"]);
}

#[tokio::test]
async fn a_restored_ledger_is_swept_while_a_portal_that_nobody_ever_read_is_backfilled() {
    let ledger = held().await;
    let sweep = ledger.store.begin_sweep("main").await.expect("begins");
    ledger.store.finish_sweep(sweep.id, true).await.expect("ends");
    assert!(ledger.store.last_sweep_at("main").await.expect("looks").is_some());
    let ledger = restored(ledger).await;
    assert_eq!(ledger.store.last_sweep_at("main").await.expect("looks"), None, "everybody is read anew");
    assert!(
        !ledger.store.begin_first_backfill("main").await.expect("looks"),
        "from a backfill nobody is concluded gone"
    );
    assert!(ledger.store.begin_first_backfill("second").await.expect("looks"), "it was never read");
}
