//! The event log: every acknowledged webhook, raw, append-only.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::schema::{event, portal};
use super::{Store, StoreError};
use crate::domain::event::RawEvent;
use crate::fail_point;

/// Milliseconds of a day; raw bodies are sealed under the key of their day.
pub(super) const DAY_MS: i64 = 86_400_000;

impl Store {
    /// Appends one webhook as received; returns its number after the commit.
    ///
    /// # Errors
    /// `Full` when the disk is; nothing was kept then.
    pub async fn append_event(&self, raw: RawEvent) -> Result<i64, StoreError> {
        let received_at = self.clock.now().0;
        let appended = self
            .writer
            .run("append_event", move |tx| {
                let portal_id = portal_id(tx.db, &raw.portal)?;
                let day = received_at.div_euclid(DAY_MS);
                let body = tx.seal(&format!("day/{day}"), &raw.body)?;
                let id = diesel::insert_into(event::table)
                    .values((
                        event::portal_id.eq(portal_id),
                        event::received_at.eq(received_at),
                        event::method.eq(&raw.method),
                        event::content_type.eq(&raw.content_type),
                        event::body.eq(body),
                        event::day.eq(day),
                    ))
                    .returning(event::id)
                    .get_result(tx.db)?;
                fail_point::reach(fail_point::AFTER_APPEND);
                Ok(id)
            })
            .await;
        self.note_append(appended.as_ref().err());
        appended
    }

    /// Keeps the file from growing, or lets it grow again: to test what a full disk does.
    ///
    /// # Errors
    /// The store failed.
    pub async fn limit_growth(&self, is_limited: bool) -> Result<(), StoreError> {
        self.writer
            .run("limit_growth", move |tx| {
                // SQLite never takes a limit below the pages that there are: 1 means "not one more".
                let pages: i64 = if is_limited { 1 } else { 4_294_967_294 };
                tx.db.batch_execute(&format!("pragma max_page_count = {pages}"))?;
                Ok(())
            })
            .await
    }

    /// How many webhooks the log holds.
    ///
    /// # Errors
    /// The store failed.
    pub async fn count_events(&self) -> Result<i64, StoreError> {
        self.writer.run("count_events", |tx| Ok(event::table.count().get_result(tx.db)?)).await
    }
}

/// The portal's row, made at its first event.
pub(crate) fn portal_id(db: &mut SqliteConnection, name: &str) -> Result<i64, StoreError> {
    let found: Option<i64> = portal::table.filter(portal::name.eq(name)).select(portal::id).first(db).optional()?;
    match found {
        Some(id) => Ok(id),
        None => {
            Ok(diesel::insert_into(portal::table).values(portal::name.eq(name)).returning(portal::id).get_result(db)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::chance::Generator;
    use crate::domain::time::SystemClock;
    use crate::store::{Open, Threading};

    fn store(path: &std::path::Path, threading: Threading, pages_max: Option<u32>) -> Store {
        Open {
            path: path.to_owned(),
            installation: "test".to_owned(),
            threading,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(Generator::seeded(1)),
            pages_max,
        }
        .open()
        .expect("the store opens")
    }

    fn hook(bytes: usize) -> RawEvent {
        RawEvent {
            portal: "main".to_owned(),
            method: "POST".to_owned(),
            content_type: "application/json".to_owned(),
            body: vec![b'x'; bytes],
        }
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let store_ = Arc::new(store(folder.path(), Threading::Thread, None));
        let appends: Vec<_> = (0..300)
            .map(|_| {
                let store = Arc::clone(&store_);
                tokio::spawn(async move { store.append_event(hook(200)).await })
            })
            .collect();
        for append in appends {
            append.await.expect("no panic").expect("is kept");
        }
        drop(store_);
        // The writer thread lets go of the file when its last request is done; the lock went with the store.
        assert_eq!(store(folder.path(), Threading::Inline, None).count_events().await.expect("counts"), 300);
    }

    #[tokio::test]
    async fn a_full_store_refuses_and_keeps_exactly_what_it_acknowledged() {
        let folder = tempfile::tempdir().expect("a folder");
        let full = store(folder.path(), Threading::Thread, Some(120));
        let mut kept = 0;
        let refused = loop {
            match full.append_event(hook(8_000)).await {
                Ok(_) => kept += 1,
                Err(error) => break error,
            }
            assert!(kept < 1_000, "the limit of pages does not work");
        };
        assert!(matches!(refused, StoreError::Full(_)), "{refused}");
        assert_eq!(full.count_events().await.expect("counts"), kept);
        drop(full);
        let roomy = store(folder.path(), Threading::Thread, None);
        roomy.append_event(hook(8_000)).await.expect("all is well when space returns");
        assert_eq!(roomy.count_events().await.expect("counts"), kept + 1);
    }

    #[tokio::test]
    async fn a_raw_body_is_nowhere_in_the_files_in_the_clear() {
        let folder = tempfile::tempdir().expect("a folder");
        let sealed = store(folder.path(), Threading::Inline, None);
        let mut raw = hook(0);
        raw.body = b"ana.nowak@example.org".to_vec();
        sealed.append_event(raw).await.expect("is kept");
        for entry in std::fs::read_dir(folder.path()).expect("lists") {
            let bytes = std::fs::read(entry.expect("an entry").path()).expect("reads");
            assert!(!bytes.windows(9).any(|window| window == b"ana.nowak"), "found in the clear");
        }
    }
}
