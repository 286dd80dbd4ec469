//! The calendar: when subjects are read again because a record of theirs will stand otherwise, with no event to tell.

use diesel::prelude::*;

use super::inbox::mark_again;
use super::schema::calendar;
use super::{Store, StoreError};
use crate::domain::ids::SubjectId;
use crate::domain::time::Timestamp;

/// Most subjects that are marked at once.
const TAKEN_MAX: i64 = 200;

impl Store {
    /// Marks the subjects whose day has come to be read again; answers how many, and when the next day comes.
    ///
    /// # Errors
    /// The store failed.
    pub async fn turn_calendar(&self) -> Result<(usize, Option<Timestamp>), StoreError> {
        let now = self.clock.now().0;
        self.writer
            .run("turn_calendar", move |tx| {
                let due: Vec<i64> = calendar::table
                    .filter(calendar::due_at.le(now))
                    .order((calendar::due_at, calendar::subject_id))
                    .limit(TAKEN_MAX)
                    .select(calendar::subject_id)
                    .load(tx.db)?;
                for subject in &due {
                    mark_again(tx.db, *subject, now, "sweep")?;
                    diesel::delete(calendar::table.find(*subject)).execute(tx.db)?;
                }
                let next: Option<i64> = calendar::table.select(diesel::dsl::min(calendar::due_at)).first(tx.db)?;
                Ok((due.len(), next.map(Timestamp)))
            })
            .await
    }
}

/// Notes when a subject is to be read again, or that it is not.
pub(super) fn keep(db: &mut SqliteConnection, subject: SubjectId, at: Option<Timestamp>) -> Result<(), StoreError> {
    match at {
        None => diesel::delete(calendar::table.find(subject.0)).execute(db)?,
        Some(at) => diesel::insert_into(calendar::table)
            .values((calendar::subject_id.eq(subject.0), calendar::due_at.eq(at.0)))
            .on_conflict(calendar::subject_id)
            .do_update()
            .set(calendar::due_at.eq(at.0))
            .execute(db)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::ReadRecords;
    use crate::store::NextSubject;
    use crate::store::tests::Ledger;

    #[tokio::test]
    async fn a_subject_is_dirty_again_on_its_day_without_any_event_and_only_once() {
        let ledger = Ledger::new().await;
        ledger.hook(1).await;
        let day = Timestamp(ledger.clock_ms()).plus_ms(86_400_000);
        ledger.read_until(1, ReadRecords::default(), Some(day)).await;
        assert_eq!(ledger.store.turn_calendar().await.expect("turns"), (0, Some(day)));
        ledger.later(day.0 - ledger.clock_ms());
        assert_eq!(ledger.store.turn_calendar().await.expect("turns"), (1, None));
        let NextSubject::Dirty(claimed) = ledger.store.next_subject("main").await.expect("claims") else {
            panic!("is dirty")
        };
        assert_eq!(claimed.lane, "sweep");
        assert_eq!(ledger.store.turn_calendar().await.expect("turns"), (0, None));
    }

    #[tokio::test]
    async fn a_read_that_finds_no_such_day_takes_the_old_one_back() {
        let ledger = Ledger::new().await;
        ledger.hook(1).await;
        let day = Timestamp(ledger.clock_ms()).plus_ms(86_400_000);
        ledger.read_until(1, ReadRecords::default(), Some(day)).await;
        ledger.later(1_000_000);
        ledger.hook(1).await;
        ledger.read(1, ReadRecords::default()).await;
        assert_eq!(ledger.store.turn_calendar().await.expect("turns"), (0, None));
    }
}
