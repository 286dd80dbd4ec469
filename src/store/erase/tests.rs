//! What is left of a person who was erased, and what is not.

use super::*;
use crate::store::NextLane;
use crate::store::tests::{Ledger, Says, lms_id};

#[tokio::test]
async fn nothing_of_an_erased_person_can_be_read_and_the_counts_and_the_chain_stay() {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.completes(2, "Bo", "Li").await;
    ledger.deliver(&Says::Takes).await;
    let person = ledger.person(1).await;
    let erased = ledger.store.erase_person(person).await.expect("erases");
    assert_eq!(erased, Erased::Done(Remains { deliveries: 1, rows: vec![("hr".to_owned(), 1)] }));
    assert_eq!(ledger.store.erase_person(person).await.expect("asks"), Erased::Already);
    assert_eq!(ledger.states(), ["skipped", "settled"]);
    assert_eq!(ledger.store.verify_chain().await.expect("verifies"), Ok(2));
    let mut view = ledger.view();
    assert!(view.people_named("ana@example.org").expect("looks").is_empty());
    assert_eq!(view.people_named(&lms_id(1)).expect("looks")[0].name, None);
    let delivery = view.show_delivery(1).expect("can still be shown").expect("is there").delivery;
    assert_eq!((delivery.receipt, delivery.attempts[0].words.as_deref()), (None, None));
}

#[tokio::test]
async fn an_erased_person_is_never_read_or_written_again_and_gets_no_new_key() {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.store.erase_person(ledger.person(1).await).await.expect("erases");
    ledger.completes(1, "Ana", "Nowak").await;
    assert_eq!(ledger.deliver(&Says::Takes).await, 0);
    ledger.store.rebase_destination(ledger.hr.id).await.expect("rebases");
    assert_eq!(ledger.deliver(&Says::Takes).await, 0, "a rebase looks up nothing of theirs");
    let view = ledger.view().people_named(&lms_id(1)).expect("looks");
    assert_eq!(view[0].name, None);
    let sealed = ledger.store.writer.run("test", |tx| Ok(tx.sealer.open_sealed("person/1", &[0; 40]).is_err())).await;
    assert!(sealed.expect("asks"));
}

#[tokio::test]
async fn a_person_whose_rows_are_being_written_is_not_erased_meanwhile() {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    let person = ledger.person(1).await;
    let lane = ledger.store.next_lane(ledger.hr.id).await.expect("claims");
    assert_eq!(ledger.store.erase_person(person).await.expect("asks"), Erased::Busy);
    drop(lane);
    assert!(matches!(ledger.store.erase_person(person).await.expect("erases"), Erased::Done(_)));
}

#[tokio::test]
async fn what_an_earlier_life_left_under_way_keeps_nobody_from_being_erased() {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    let NextLane::Due(lane) = ledger.store.next_lane(ledger.hr.id).await.expect("claims") else { panic!("one is due") };
    let due = vec![(lane.work.due[0].id, "p1".to_owned())];
    ledger.store.begin_sending(ledger.hr.id, due).await.expect("sending is kept");
    drop(lane);
    assert_eq!(ledger.states(), ["sending"]);
    assert!(matches!(ledger.store.erase_person(ledger.person(1).await).await.expect("erases"), Erased::Done(_)));
    assert_eq!(ledger.store.recover_epoch(ledger.hr.id, 0).await.expect("recovers"), 0);
}
