//! The operator's use cases on a store in a temporary folder.

use learnsync_sdk::{MatchRule, PersonMatch};

use super::*;
use crate::domain::delivery::{Cause, LinkFound};
use crate::store::NextLane;
use crate::store::tests::{Ledger, Says};
use crate::store::view::browse::DeliveryFilter;

#[tokio::test]
async fn a_pause_keeps_the_operators_reason_and_only_the_operator_ends_it() {
    let ledger = Ledger::new().await;
    ledger.store.pause_by_operator(ledger.hr.id, "payroll closes").await.expect("pauses");
    ledger.store.end_pause(ledger.hr.id).await.expect("a probe succeeds");
    let line = ledger.view().list_destinations().expect("lists").remove(0);
    assert_eq!((line.state.as_str(), line.pause_reason.as_deref()), ("paused", Some("payroll closes")));
    ledger.store.resume_destination(ledger.hr.id).await.expect("resumes");
    ledger.store.pause_destination(ledger.hr.id, "unauthorized", None).await.expect("pauses");
    let line = ledger.view().list_destinations().expect("lists").remove(0);
    assert_eq!(line.pause_reason, None, "an old reason is not that of another pause");
}

#[tokio::test]
async fn what_is_parked_is_due_again_and_what_is_settled_is_left_alone() {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Refuses(Cause::Rejected)).await;
    let id = ledger.view().list_deliveries(&DeliveryFilter::default(), 1).expect("lists").deliveries[0].id;
    let retry = || ledger.store.retry_delivery(DeliveryId(id));
    assert_eq!(retry().await.expect("retries"), Retried::Due { destination: "hr".to_owned() });
    assert_eq!(ledger.deliver(&Says::Takes).await, 1);
    assert_eq!(retry().await.expect("asks"), Retried::Kept { state: "settled".to_owned(), cause: None });
    assert_eq!(ledger.deliver(&Says::Takes).await, 0);
    assert_eq!(ledger.store.retry_delivery(DeliveryId(99)).await.expect("asks"), Retried::Unknown);
}

#[tokio::test]
async fn unpinning_looks_again_at_what_is_held_and_only_a_pin_is_unpinned() {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Takes).await;
    let person = ledger.person(1).await;
    assert!(!ledger.store.unpin_link(ledger.hr.id, person).await.expect("asks"), "a rule said it, nobody pinned it");
    ledger.store.pin_link(ledger.hr.id, person, "other").await.expect("pins");
    assert_eq!(ledger.deliver(&Says::Takes).await, 1, "the row moves");
    assert!(ledger.store.unpin_link(ledger.hr.id, person).await.expect("unpins"));
    assert_eq!(ledger.states(), ["pending"]);
    assert_eq!(ledger.view().list_links(None, None, 10).expect("lists").total, 0, "the rules are asked anew");
}

#[tokio::test]
async fn forgetting_leaves_the_chain_whole_and_others_attempts_verifiable() {
    let ledger = Ledger::new().await;
    for number in 1..=3 {
        ledger.completes(number, "Ana", "Nowak").await;
    }
    ledger.deliver(&Says::Takes).await;
    let refused = ledger.store.forget_destination(ledger.hr.id).await.expect_err("is configured").to_string();
    assert!(refused.contains("hr is active"), "{refused}");
    ledger.configure(&["crm"]).await;
    let forgotten = ledger.store.forget_destination(ledger.hr.id).await.expect("is retired");
    assert_eq!(forgotten, Forgotten { deliveries: 3, attempts: 3, links: 3 });
    assert_eq!(ledger.view().verify_chain().expect("verifies"), Ok(3));
    let names: Vec<String> =
        ledger.view().list_destinations().expect("lists").into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["crm"]);
}

#[tokio::test]
async fn attempts_after_a_forgotten_one_continue_its_chain() {
    let mut ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Takes).await;
    ledger.configure(&[]).await;
    ledger.store.forget_destination(ledger.hr.id).await.expect("is retired");
    ledger.later(1_000);
    ledger.hr = ledger.configure(&["hr"]).await.remove("hr").expect("is configured again");
    ledger.completes(2, "Bo", "Li").await;
    assert_eq!(ledger.deliver(&Says::Takes).await, 1);
    assert_eq!(ledger.store.verify_chain().await.expect("verifies"), Ok(2));
}

#[tokio::test]
async fn a_destination_that_was_forgotten_is_looked_at_before_anything_is_created_in_it_again() {
    let mut ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Takes).await;
    ledger.configure(&[]).await;
    ledger.store.forget_destination(ledger.hr.id).await.expect("is retired");
    ledger.hr = ledger.configure(&["hr"]).await.remove("hr").expect("is configured again");
    ledger.completes(1, "Ana", "Nowak").await;
    assert_eq!(ledger.states(), ["uncertain"], "rows of before are still there, and nobody knows them");
}

#[tokio::test]
async fn what_a_person_pinned_while_the_rules_looked_stands() {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Takes).await;
    let person = ledger.person(1).await;
    ledger.store.pin_link(ledger.hr.id, person, "other").await.expect("pins");
    let found = PersonMatch::Found { person: "p1".to_owned(), rule: MatchRule::EMAIL };
    let stands = ledger.store.commit_link(ledger.hr.id, LinkFound { person, found }).await.expect("is kept");
    assert_eq!(stands.as_deref(), Some("other"));
    let NextLane::Due(lane) = ledger.store.next_lane(ledger.hr.id).await.expect("claims") else { panic!("is due") };
    assert_eq!(lane.work.link.as_ref().map(|link| link.remote_person.as_str()), Some("other"));
}
