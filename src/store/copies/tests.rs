//! Backup and restore in temporary folders: what fits together, what is refused, and what stays erased.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::*;
use crate::domain::chance::Generator;
use crate::store::tests::{AuditedFolder, HandClock, Ledger, Says, lms_id};
use crate::store::view::View;
use crate::store::{Erased, Threading};

struct Copies {
    folder: tempfile::TempDir,
}

impl Copies {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn open_at(folder: &Path, clock: &Arc<HandClock>, installation: &str) -> Open {
    Open {
        path: folder.to_owned(),
        installation: installation.to_owned(),
        threading: Threading::Inline,
        clock: Arc::clone(clock) as Arc<dyn crate::domain::time::Clock>,
        entropy: Arc::new(Generator::seeded(7)),
        pages_max: None,
    }
}

/// A ledger with one settled delivery, and its backup.
async fn backed_up(copies: &Copies) -> Ledger {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Takes).await;
    ledger.store.back_up(&copies.path("copy.db"), true).expect("copies");
    ledger
}

/// Restores the copy into the ledger's folder, with no daemon on it.
async fn restore_into(
    ledger: Ledger,
    copy: &Path,
    keys: Option<&Path>,
) -> (AuditedFolder, Result<Restored, StoreError>) {
    let Ledger { folder, clock, store, .. } = ledger;
    drop(store);
    let restored = restore(open_at(folder.path(), &clock, "test"), copy, keys).await;
    (folder, restored)
}

fn states(folder: &Path) -> Vec<String> {
    let list = View::open(folder).expect("opens").list_deliveries(&Default::default(), 10).expect("lists");
    list.deliveries.into_iter().rev().map(|delivery| delivery.state).collect()
}

#[tokio::test]
async fn a_copy_becomes_the_store_again_doubts_itself_and_the_store_of_before_is_kept() {
    let copies = Copies::new();
    let ledger = backed_up(&copies).await;
    ledger.completes(2, "Bo", "Li").await;
    let made_at = crate::domain::time::Clock::now(&*ledger.clock);
    let (folder, restored) = restore_into(ledger, &copies.path("copy.db"), None).await;
    let restored = restored.expect("restores");
    assert!(restored.copied_at.is_some_and(|at| at < made_at), "{restored:?}");
    assert_eq!(states(folder.path()), ["uncertain"], "what it holds is looked up first");
    let kept = restored.kept.expect("there was a store");
    assert_eq!(states(&kept), ["settled", "pending"], "the store of before, in full");
    let leftovers: Vec<_> = std::fs::read_dir(folder.path())
        .expect("lists")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter(|name| name.starts_with("restoring"))
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");
}

#[tokio::test]
async fn a_copy_is_two_files_for_nobody_else_and_never_overwrites() {
    let copies = Copies::new();
    let ledger = backed_up(&copies).await;
    for name in ["copy.db", "copy.db.keys"] {
        let mode = std::fs::metadata(copies.path(name)).expect("is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} {mode:o}");
    }
    let refused = ledger.store.back_up(&copies.path("copy.db"), true).expect_err("is there").to_string();
    assert!(refused.ends_with("copy.db exists: a backup never overwrites"), "{refused}");
    std::fs::write(copies.path("other.db.keys"), "mine").expect("writes");
    ledger.store.back_up(&copies.path("other.db"), true).expect_err("the keys are in the way");
    assert!(!copies.path("other.db").exists(), "half a copy is none");
    assert_eq!(std::fs::read_to_string(copies.path("other.db.keys")).expect("reads"), "mine");
}

#[tokio::test]
async fn a_new_machine_gets_its_store_from_the_two_files_alone() {
    let copies = Copies::new();
    let ledger = backed_up(&copies).await;
    let folder = AuditedFolder::new();
    let restored = restore(open_at(folder.path(), &ledger.clock, "test"), &copies.path("copy.db"), None).await;
    assert_eq!(restored.expect("restores").kept, None);
    let people = View::open(folder.path()).expect("opens").people_named("ana@example.org").expect("looks");
    assert_eq!(people[0].name.as_deref(), Some("Ana Nowak"), "the keys open what was sealed");
}

#[tokio::test]
async fn what_does_not_belong_together_is_refused_and_nothing_is_changed() {
    let copies = Copies::new();
    let ledger = backed_up(&copies).await;
    let clock = Arc::clone(&ledger.clock);
    let other = Ledger::new().await;
    // Another installation's keys are other keys.
    let foreign = crate::store::tests::open(copies.path("foreign").as_path(), Arc::clone(&clock), 9);
    foreign.back_up(&copies.path("foreign.db"), true).expect("copies");
    std::fs::write(copies.path("torn.db"), &std::fs::read(copies.path("copy.db")).expect("reads")[..8_192])
        .expect("writes");
    let folder = other.folder.path().to_owned();
    let busy = restore(open_at(&folder, &clock, "test"), &copies.path("copy.db"), None).await;
    assert!(busy.expect_err("is in use").to_string().contains("in use by the process"));
    drop(other.store);
    for (installation, copy, keys, expected) in [
        ("prod", "copy.db", None, "the copy is of installation \"test\", the configuration says \"prod\""),
        ("test", "copy.db", Some("foreign.db.keys"), "the key file does not belong to this copy"),
        ("test", "copy.db", Some("nowhere.keys"), "there is no key file"),
        ("test", "nowhere.db", None, "there is no file"),
        ("test", "torn.db", Some("copy.db.keys"), "torn.db"),
    ] {
        let keys = keys.map(|name| copies.path(name));
        let refused = restore(open_at(&folder, &clock, installation), &copies.path(copy), keys.as_deref()).await;
        let words = refused.expect_err("is refused").to_string();
        assert!(words.contains(expected), "{words}");
        assert!(
            !folder
                .read_dir()
                .expect("lists")
                .any(|entry| { entry.expect("an entry").file_name().to_string_lossy().starts_with("before-restore") })
        );
    }
}

#[tokio::test]
async fn who_was_erased_since_stays_erased_after_an_older_copy_with_its_keys_is_restored() {
    let copies = Copies::new();
    let ledger = backed_up(&copies).await;
    let erased = ledger.store.erase_person(ledger.person(1).await).await.expect("erases");
    assert!(matches!(erased, Erased::Done(_)));
    let (folder, restored) = restore_into(ledger, &copies.path("copy.db"), None).await;
    assert_eq!(restored.expect("restores").erased, 1);
    let people = View::open(folder.path()).expect("opens").people_named(&lms_id(1)).expect("looks");
    assert_eq!(people[0].name, None);
    assert_eq!(states(folder.path()), ["skipped"]);
}

#[tokio::test]
async fn keys_that_are_older_than_the_copy_are_refused_and_newer_ones_open_it() {
    let copies = Copies::new();
    let ledger = backed_up(&copies).await;
    ledger.completes(2, "Bo", "Li").await;
    ledger.store.back_up(&copies.path("newer.db"), true).expect("copies");
    let clock = Arc::clone(&ledger.clock);
    let folder = AuditedFolder::new();
    let attempt = |copy: &'static str, keys: &'static str| {
        let (copy, keys) = (copies.path(copy), copies.path(keys));
        let open = open_at(folder.path(), &clock, "test");
        async move { restore(open, &copy, Some(&keys)).await }
    };
    let words = attempt("newer.db", "copy.db.keys").await.expect_err("lacks a key").to_string();
    assert!(words.contains("lacks the keys of 1 people"), "{words}");
    assert!(attempt("copy.db", "newer.db.keys").await.is_ok());
}
