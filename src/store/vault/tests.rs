//! What is kept of a portal, on a store in a temporary folder.

use super::*;
use crate::domain::time::Clock;
use crate::store::NextSubject;
use crate::store::tests::{Ledger, open};

fn key() -> TokenKey {
    TokenKey::derive("0123456789abcdef")
}

fn grant(text: &str, at: Timestamp) -> KeptGrant {
    KeptGrant { bytes: text.as_bytes().to_vec(), obtained_at: at, ends_at: at.plus_ms(1_000) }
}

#[tokio::test]
async fn a_login_is_opened_with_both_keys_only_and_stands_nowhere_in_plain_sight() {
    let ledger = Ledger::new().await;
    let at = ledger.clock.now();
    ledger.store.save_grant("main", key(), Some(grant("a very secret refresh token", at))).await.expect("keeps");
    let Ledger { folder, clock, store, .. } = ledger;
    drop(store);
    let bytes = std::fs::read(folder.path().join("learnsync.db")).expect("reads");
    let secret = b"secret refresh";
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    let store = open(folder.path(), clock, 2);
    assert_eq!(
        store.load_grant("main", key()).await.expect("opens").as_deref(),
        Some(b"a very secret refresh token".as_slice())
    );
    let other = TokenKey::derive("fedcba9876543210");
    let refused = store.load_grant("main", other).await.expect_err("is another key").to_string();
    assert!(refused.contains("store.token_key"), "{refused}");
    assert_eq!(store.load_grant("second", key()).await.expect("asks"), None);
    store.save_grant("main", key(), None).await.expect("forgets");
    assert_eq!(store.load_grant("main", key()).await.expect("asks"), None);
}

#[tokio::test]
async fn the_time_that_the_lms_asked_for_is_never_shortened() {
    let ledger = Ledger::new().await;
    assert_eq!(ledger.store.asked_until("main").await.expect("asks"), None);
    for (until, kept) in [(5_000, 5_000), (4_000, 5_000), (6_000, 6_000)] {
        ledger.store.keep_asked_until("main", Timestamp(until)).await.expect("keeps");
        assert_eq!(ledger.store.asked_until("main").await.expect("asks"), Some(Timestamp(kept)));
    }
}

#[tokio::test]
async fn a_login_ends_the_rest_that_waited_for_it_but_not_one_that_the_lms_asked_for() {
    let ledger = Ledger::new().await;
    for (cause, rests) in [("login_needed", false), ("unauthorized", false), ("throttled", true)] {
        ledger.store.rest_portal("main", cause, Timestamp(9_000)).await.expect("rests");
        ledger.store.wake_portal("main").await.expect("wakes");
        assert_eq!(ledger.store.portal_rests_until("main").await.expect("asks").is_some(), rests, "{cause}");
    }
}

#[tokio::test]
async fn status_tells_who_used_the_budget_and_how_often_the_account_was_contested() {
    let ledger = Ledger::new().await;
    let used = LmsUse { until: Timestamp(7_000), calls_per_second_max: 50, calls: Vec::new(), throttled: 2 };
    ledger.store.keep_use("main", used.clone()).await.expect("keeps");
    ledger.store.note_contest("main").await.expect("counts");
    ledger.store.note_contest("main").await.expect("counts");
    let portal = ledger.view().portals().expect("looks").remove(0);
    assert_eq!((portal.budget_use, portal.contests), (Some(used), 2));
    assert_eq!(portal.contested_at, Some(ledger.clock.now()));
}

#[tokio::test]
async fn a_portals_readers_find_its_own_learners_however_many_of_another_wait() {
    let ledger = Ledger::new().await;
    for portal in ["second", "main"] {
        let run = ledger.store.begin_sweep(portal).await.expect("begins");
        let ids = (0..100).map(|number| format!("{portal}-{number}")).collect();
        ledger.store.advance_sweep(portal, ids, run).await.expect("marks");
    }
    let mut claims = Vec::new();
    for _ in 0..3 {
        match ledger.store.next_subject("main").await.expect("claims") {
            NextSubject::Dirty(claimed) => claims.push(claimed),
            NextSubject::Rest(until) => panic!("nobody is dirty before {until:?}"),
        }
    }
    assert!(claims.iter().all(|claimed| claimed.lms_id.starts_with("main-")));
    assert!(matches!(ledger.store.next_subject("third").await, Ok(NextSubject::Rest(None))));
    let elsewhere = ledger.store.marks_elsewhere(vec!["main".to_owned()]).await.expect("counts");
    assert_eq!(elsewhere, [("second".to_owned(), 100)]);
}
