//! Orders on a store in a temporary folder, without a daemon.

use super::*;
use crate::domain::delivery::Cause;
use crate::store::tests::{Ledger, Says, lms_id};

fn desk(ledger: &Ledger) -> Desk {
    Desk { store: Arc::clone(&ledger.store), running: None }
}

fn refusal(answer: Answer) -> String {
    match answer {
        Answer::Refused { because } => because,
        Answer::Done(done) => panic!("was not refused: {}", done.words),
    }
}

fn done(answer: Answer) -> Done {
    match answer {
        Answer::Done(done) => done,
        Answer::Refused { because } => panic!("was refused: {because}"),
    }
}

#[tokio::test]
async fn a_slip_in_a_destinations_name_is_answered_with_the_right_one() {
    let ledger = Ledger::new().await;
    ledger.configure(&["hr", "crm-emea"]).await;
    let order = Order::Resume { destination: "crm-emae".to_owned() };
    let because = refusal(desk(&ledger).carry_out(order).await);
    assert!(because.starts_with("unknown destination \"crm-emae\", did you mean \"crm-emea\"?"), "{because}");
}

#[tokio::test]
async fn a_pause_needs_a_reason_that_fits_and_a_resume_needs_a_pause() {
    let ledger = Ledger::new().await;
    let pause = |reason: String| Order::Pause { destination: "hr".to_owned(), reason };
    let resume = || Order::Resume { destination: "hr".to_owned() };
    let desk = desk(&ledger);
    for reason in [" ".to_owned(), "x".repeat(REASON_CHARS_MAX + 1)] {
        let because = refusal(desk.carry_out(pause(reason)).await);
        assert!(because.contains("it needs 1 to 200"), "{because}");
    }
    let because = refusal(desk.carry_out(resume()).await);
    assert!(because.contains("hr is not paused"), "{because}");
    done(desk.carry_out(pause("ä".repeat(REASON_CHARS_MAX))).await);
    done(desk.carry_out(resume()).await);
    assert_eq!(ledger.view().list_destinations().expect("lists")[0].state, "active");
}

#[tokio::test]
async fn another_account_is_not_resumed_but_rebased() {
    let ledger = Ledger::new().await;
    ledger.store.pause_destination(ledger.hr.id, "account_changed", None).await.expect("pauses");
    let desk = desk(&ledger);
    let because = refusal(desk.carry_out(Order::Resume { destination: "hr".to_owned() }).await);
    assert!(because.contains("`learnsync destinations rebase hr`"), "{because}");
    done(desk.carry_out(Order::Rebase { destination: "hr".to_owned() }).await);
    assert_eq!(ledger.view().list_destinations().expect("lists")[0].state, "active");
}

#[tokio::test]
async fn a_cause_is_retried_whole_and_counted() {
    let ledger = Ledger::new().await;
    for number in 1..=3 {
        ledger.completes(number, "Ana", "Nowak").await;
    }
    ledger.deliver(&Says::Refuses(Cause::Rejected)).await;
    let order = Order::RetryCause { destination: "hr".to_owned(), cause: "rejected".to_owned() };
    assert_eq!(done(desk(&ledger).carry_out(order).await).deliveries, Some(3));
    assert_eq!(ledger.deliver(&Says::Takes).await, 3);
    let because = refusal(desk(&ledger).carry_out(Order::RetryDelivery { delivery: 1 }).await);
    assert_eq!(because, "delivery 1 is settled, not parked: the target holds it, with a receipt");
}

#[tokio::test]
async fn only_a_learner_who_was_read_is_pinned_and_only_a_pin_is_unpinned() {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    let desk = desk(&ledger);
    let pin = |learner: String| Order::Pin {
        destination: "hr".to_owned(),
        portal: "main".to_owned(),
        learner,
        person: "77".to_owned(),
    };
    let unpin = || Order::Unpin { destination: "hr".to_owned(), portal: "main".to_owned(), learner: lms_id(1) };
    assert!(refusal(desk.carry_out(pin(lms_id(9))).await).contains("was never read"));
    assert!(refusal(desk.carry_out(unpin()).await).contains("is not pinned in hr"));
    done(desk.carry_out(pin(lms_id(1))).await);
    done(desk.carry_out(unpin()).await);
}

#[tokio::test]
async fn without_a_daemon_nobody_can_reconcile_and_the_refusal_says_so() {
    let ledger = Ledger::new().await;
    let because = refusal(desk(&ledger).carry_out(Order::Reconcile).await);
    assert!(because.contains("no daemon runs") && because.contains("learnsync run"), "{because}");
}
