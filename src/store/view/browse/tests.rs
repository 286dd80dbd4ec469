//! Lists of a store in a temporary folder.

use super::*;
use crate::domain::delivery::Cause;
use crate::store::tests::{Ledger, Says, lms_id};

async fn ledger() -> Ledger {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Takes).await;
    ledger.completes(2, "Bo", "Li").await;
    let course = "Fire 100% safe_ty".to_owned();
    ledger.deliver(&Says::Refuses(Cause::Unmapped { kind: "training_type".to_owned(), course })).await;
    ledger.completes(3, "Cy", "Ng").await;
    ledger
}

fn learners(list: &DeliveryList) -> Vec<&str> {
    list.deliveries.iter().filter_map(|delivery| delivery.name.as_deref()).collect()
}

#[tokio::test]
async fn deliveries_are_narrowed_down_by_destination_state_cause_and_learner() {
    let ledger = ledger().await;
    let mut view = ledger.view();
    let all = view.list_deliveries(&DeliveryFilter::default(), 2).expect("lists");
    assert_eq!((all.total, learners(&all)), (3, vec!["Cy Ng", "Bo Li"]), "newest first, and what is cut is counted");
    let word = "unmapped:training_type:Fire 100% safe_ty";
    for (filter, expected) in [
        (DeliveryFilter { state: Some("settled".to_owned()), ..DeliveryFilter::default() }, vec!["Ana Nowak"]),
        (DeliveryFilter { cause: Some("unmapped".to_owned()), ..DeliveryFilter::default() }, vec!["Bo Li"]),
        (DeliveryFilter { cause: Some(word.to_owned()), ..DeliveryFilter::default() }, vec!["Bo Li"]),
        (DeliveryFilter { cause: Some("unmappe_".to_owned()), ..DeliveryFilter::default() }, vec![]),
        (DeliveryFilter { destination: Some("crm".to_owned()), ..DeliveryFilter::default() }, vec![]),
        (DeliveryFilter { people: Some(Vec::new()), ..DeliveryFilter::default() }, vec![]),
    ] {
        assert_eq!(learners(&view.list_deliveries(&filter, 10).expect("lists")), expected, "{filter:?}");
    }
    let people = view.people_named("CY@example.org").expect("looks");
    assert_eq!(people[0].learner, lms_id(3));
    let filter = DeliveryFilter { people: Some(people), ..DeliveryFilter::default() };
    assert_eq!(learners(&view.list_deliveries(&filter, 10).expect("lists")), ["Cy Ng"]);
}

#[tokio::test]
async fn what_is_parked_is_counted_by_destination_and_whole_cause() {
    let ledger = ledger().await;
    let parked = ledger.view().parked_causes().expect("counts");
    let cause = "unmapped:training_type:Fire 100% safe_ty".to_owned();
    assert_eq!(parked, [ParkedCause { destination: "hr".to_owned(), cause, deliveries: 1 }]);
}

#[tokio::test]
async fn an_event_is_shown_with_what_was_read_from_it_and_its_body() {
    let ledger = ledger().await;
    let mut view = ledger.view();
    let list = view.list_events(false, 1).expect("lists");
    assert_eq!((list.total, list.events[0].id), (3, 3));
    assert_eq!(list.events[0].readings[0].learner.as_deref(), Some(lms_id(3).as_str()));
    let event = view.show_event(3).expect("reads").expect("is there");
    assert!(event.event.is_taken && event.body.contains(&lms_id(3)), "{event:?}");
    assert!(view.show_event(4).expect("reads").is_none());
}

#[tokio::test]
async fn links_say_who_is_who_and_whether_a_person_said_so() {
    let ledger = ledger().await;
    ledger.store.pin_link(ledger.hr.id, ledger.person(3).await, "77").await.expect("pins");
    let list = ledger.view().list_links(Some("hr"), Some("linked"), 10).expect("lists");
    let pinned: Vec<(&str, bool)> =
        list.links.iter().map(|link| (link.person.as_deref().unwrap_or_default(), link.is_pinned)).collect();
    assert_eq!(pinned.last(), Some(&("77", true)));
    assert_eq!(pinned.iter().filter(|(_, is_pinned)| *is_pinned).count(), 1);
    assert_eq!(ledger.view().list_links(None, Some("ambiguous"), 10).expect("lists").total, 0);
}

#[tokio::test]
async fn only_the_events_in_which_something_is_odd_are_listed_when_asked() {
    let ledger = Ledger::new().await;
    ledger.hook(1).await;
    ledger.hook_odd(2, "the event is not on Absorb's list").await;
    let listed = |only_odd| {
        let list = ledger.view().list_events(only_odd, 10).expect("lists");
        (list.total, list.events.iter().map(|event| event.id).collect::<Vec<_>>())
    };
    assert_eq!(listed(false), (2, vec![2, 1]));
    assert_eq!(listed(true), (1, vec![2]));
}
