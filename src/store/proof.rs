//! Whether the store can be written now: proven by a commit, and by what became of the newest webhook.

use std::sync::PoisonError;

use diesel::connection::SimpleConnection;

use super::{Store, StoreError};
use crate::domain::time::Timestamp;

/// How long a webhook that could not be kept speaks against the store, unless one was kept since: as long as its sender is told to wait.
pub const REFUSAL_AGE_MAX_MS: u64 = 60_000;

/// A webhook that could not be kept.
pub(super) struct Refusal {
    at: Timestamp,
    words: String,
}

impl Store {
    /// Commits one changed page, the way every use case does; nothing in the ledger changes.
    ///
    /// # Errors
    /// Nothing can be committed.
    pub async fn prove_writable(&self) -> Result<(), StoreError> {
        // A number in the file's head that SQLite leaves to its users, and nobody here uses. The same number again would change no page and
        // prove nothing; milliseconds differ often enough.
        let number = i32::try_from(self.clock.now().0.rem_euclid(i64::from(i32::MAX))).unwrap_or(0);
        self.writer
            .run("prove_writable", move |tx| {
                tx.db.batch_execute(&format!("pragma user_version = {number}"))?;
                Ok(())
            })
            .await
    }

    /// Why the newest webhook could not be kept, for `REFUSAL_AGE_MAX_MS`: one page more may find room where a webhook does not.
    #[must_use]
    pub fn refused_lately(&self) -> Option<String> {
        let now = self.clock.now();
        let refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = refusal.as_ref().filter(|refusal| now.0.abs_diff(refusal.at.0) < REFUSAL_AGE_MAX_MS);
        lately.map(|refusal| refusal.words.clone())
    }

    /// Remembers what became of the newest webhook.
    pub(super) fn note_append(&self, failure: Option<&StoreError>) {
        let refusal = failure.map(|error| Refusal { at: self.clock.now(), words: error.to_string() });
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = refusal;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::chance::Generator;
    use crate::domain::event::RawEvent;
    use crate::domain::time::Clock;
    use crate::store::tests::HandClock;
    use crate::store::{Open, Threading};

    fn hook() -> RawEvent {
        RawEvent {
            portal: "main".to_owned(),
            method: "POST".to_owned(),
            content_type: "application/json".to_owned(),
            body: vec![b'x'; 8_000],
        }
    }

    fn store(folder: &std::path::Path, clock: &Arc<HandClock>) -> Store {
        let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
        let (path, entropy) = (folder.to_owned(), Arc::new(Generator::seeded(1)));
        let open = Open {
            path,
            installation: "test".to_owned(),
            threading: Threading::Thread,
            clock,
            entropy,
            pages_max: None,
        };
        open.open().expect("the store opens")
    }

    fn wal_bytes(folder: &std::path::Path) -> u64 {
        std::fs::metadata(folder.join("learnsync.db-wal")).expect("the log of writes is there").len()
    }

    #[tokio::test]
    async fn the_proof_is_a_commit_that_reaches_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = HandClock::at(1_000);
        let store = store(folder.path(), &clock);
        for _ in 0..3 {
            let before = wal_bytes(folder.path());
            clock.later(1);
            store.prove_writable().await.expect("it can be written");
            assert!(wal_bytes(folder.path()) > before, "nothing was written");
        }
    }

    #[tokio::test]
    async fn a_refused_webhook_speaks_against_the_store_until_one_is_kept_or_a_minute_is_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = HandClock::at(1_000);
        let store = store(folder.path(), &clock);
        store.append_event(hook()).await.expect("is kept");
        assert_eq!(store.refused_lately(), None);
        store.limit_growth(true).await.expect("limits");
        while store.append_event(hook()).await.is_ok() {}
        assert!(store.refused_lately().is_some_and(|words| words.contains("full")));
        clock.later(60_000);
        assert_eq!(store.refused_lately(), None);
        assert!(store.append_event(hook()).await.is_err());
        assert!(store.refused_lately().is_some());
        store.limit_growth(false).await.expect("lets it grow");
        store.append_event(hook()).await.expect("is kept");
        assert_eq!(store.refused_lately(), None);
    }
}
