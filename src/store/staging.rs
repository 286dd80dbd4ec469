//! The backfill's use cases: whole lists are staged page by page with how far they were read, then learner by learner kept as one read.

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use super::inbox::subject_row;
use super::schema::{mark, portal, run, staged, subject};
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::ids::RunId;
use crate::domain::listing::ListReading;
use crate::domain::subject::SubjectKind;
use crate::domain::time::Timestamp;

/// Most rows that are staged, and learners that are marked, in one transaction: the receiver's commits wait meanwhile.
const ROWS_MAX: usize = 200;

/// Under which key staged rows are sealed: they are nobody's records yet.
const SCOPE: &str = "staging";

/// What a backfill does at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Reads the pages of all learners.
    #[default]
    Learners,
    /// Reads the enrolments, course by course.
    Enrolments,
    /// Puts the learners into the lane.
    Marking,
    /// The learners are read one by one for what no list has.
    Reading,
}

/// How far a backfill is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// The next page of the list that is being read.
    pub page: u32,
    /// The course whose enrolments are being read, or were read last.
    pub course: Option<String>,
    /// Whether that course was read to its end.
    pub course_done: bool,
    /// The learner who was put into the lane last.
    pub learner: Option<String>,
    /// Facts of before this date are left out.
    pub since: Option<chrono::NaiveDate>,
    /// Learners staged.
    pub learners: u64,
    /// Courses read.
    pub courses: u64,
    /// Courses that there are.
    pub courses_total: u64,
    /// Enrolments staged.
    pub enrolments: u64,
    /// Learners put into the lane.
    pub marked: u64,
    /// Calls made for whole lists.
    pub calls: u64,
    /// The kinds that are read learner by learner, as their words.
    pub kinds: Vec<String>,
    /// How far the list that is being read was kept for the next sweep.
    pub reading: ListReading,
}

/// A backfill that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    /// Its run.
    pub id: RunId,
    /// When it began: the version of what it reads.
    pub started_at: Timestamp,
    /// Whether an operator holds it.
    pub is_paused: bool,
    /// How far it is.
    pub progress: Progress,
}

/// A row of a list, as it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedRow {
    /// The learner.
    pub lms_id: String,
    /// Which of the learner's rows; empty for the profile.
    pub row_id: String,
    /// What the client made of it.
    pub row: Vec<u8>,
}

impl Store {
    /// Begins a backfill of a portal; one that has not ended goes on, and is no longer held.
    ///
    /// # Errors
    /// The store failed.
    pub async fn begin_backfill(
        &self,
        portal: &str,
        since: Option<chrono::NaiveDate>,
    ) -> Result<(Backfill, bool), StoreError> {
        let portal = portal.to_owned();
        let now = self.clock.now().0;
        self.writer
            .run("begin_backfill", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                if let Some(found) = under_way(tx.db, portal_id)? {
                    set_state(tx.db, found.id, "running", None)?;
                    return Ok((Backfill { is_paused: false, ..found }, false));
                }
                let progress = Progress { since, ..Progress::default() };
                let id: i64 = diesel::insert_into(run::table)
                    .values((
                        run::kind.eq("backfill"),
                        run::portal_id.eq(portal_id),
                        run::state.eq("running"),
                        run::started_at.eq(now),
                        run::counts.eq(as_text(&progress)),
                    ))
                    .returning(run::id)
                    .get_result(tx.db)?;
                let started_at = Timestamp(now);
                Ok((Backfill { id: RunId(id), started_at, is_paused: false, progress }, true))
            })
            .await
    }

    /// Begins a backfill of a portal that nobody has ever read; answers whether it is one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn begin_first_backfill(&self, portal: &str) -> Result<bool, StoreError> {
        let name = portal.to_owned();
        let is_new = self
            .writer
            .run("is_never_read", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &name)?;
                // A restored ledger has runs: it knows people, and what became of their facts only a whole read of each tells.
                let runs = run::table.filter(run::portal_id.eq(portal_id));
                let is_read: bool = diesel::select(diesel::dsl::exists(runs)).get_result(tx.db)?;
                Ok(!is_read)
            })
            .await?;
        if is_new {
            self.begin_backfill(portal, None).await?;
        }
        Ok(is_new)
    }

    /// Holds a portal's backfill where it is; answers whether there is one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pause_backfill(&self, portal: &str) -> Result<bool, StoreError> {
        let portal = portal.to_owned();
        self.writer
            .run("pause_backfill", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                let Some(found) = under_way(tx.db, portal_id)? else { return Ok(false) };
                set_state(tx.db, found.id, "paused", None)?;
                Ok(true)
            })
            .await
    }

    /// The backfill of a portal that has not ended.
    ///
    /// # Errors
    /// The store failed.
    pub async fn backfill_under_way(&self, portal: &str) -> Result<Option<Backfill>, StoreError> {
        let portal = portal.to_owned();
        self.writer
            .run("backfill_under_way", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                under_way(tx.db, portal_id)
            })
            .await
    }

    /// Stages rows of a page, and commits how far that is. Staged again they are the same rows.
    ///
    /// # Errors
    /// The store failed; the page will be read again.
    pub async fn stage(&self, id: RunId, rows: Vec<StagedRow>, progress: Progress) -> Result<(), StoreError> {
        let mut rows = rows.into_iter();
        loop {
            let some: Vec<StagedRow> = rows.by_ref().take(ROWS_MAX).collect();
            let is_last = rows.len() == 0;
            let progress = is_last.then(|| progress.clone());
            self.writer
                .run("stage", move |tx| {
                    for staged in &some {
                        stage_row(tx, id, staged)?;
                    }
                    match progress {
                        Some(progress) => keep_progress(tx.db, id, &progress),
                        None => Ok(()),
                    }
                })
                .await?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Puts the next staged learners into the lane; answers how far that is, and whether there may be more. With a date only those who have a
    /// fact since then.
    ///
    /// # Errors
    /// The store failed.
    pub async fn mark_staged(&self, portal: &str, backfill: Backfill) -> Result<(Progress, bool), StoreError> {
        let portal = portal.to_owned();
        let now = self.clock.now().0;
        self.writer
            .run("mark_staged", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                let mut progress = backfill.progress;
                let after = progress.learner.clone().unwrap_or_default();
                let mut next = staged::table
                    .filter(staged::run_id.eq(backfill.id.0).and(staged::lms_id.gt(after)))
                    .order(staged::lms_id)
                    .limit(ROWS_MAX as i64)
                    .select(staged::lms_id)
                    .distinct()
                    .into_boxed();
                next = match progress.since {
                    Some(_) => next.filter(staged::row_id.ne("")),
                    None => next.filter(staged::row_id.eq("")),
                };
                let learners: Vec<String> = next.load(tx.db)?;
                for learner in &learners {
                    let subject_id = subject_row(tx.db, portal_id, SubjectKind::Learner, learner)?;
                    let inserted = diesel::insert_into(mark::table)
                        .values((
                            mark::subject_id.eq(subject_id),
                            mark::generation.eq(1_i64),
                            mark::due_at.eq(now),
                            mark::lane.eq("backfill"),
                        ))
                        .on_conflict_do_nothing()
                        .execute(tx.db)?;
                    if inserted == 0 {
                        // A sweep would ask for everything that is staged once more.
                        let of_sweep = mark::table.filter(mark::subject_id.eq(subject_id).and(mark::lane.eq("sweep")));
                        diesel::update(of_sweep).set(mark::lane.eq("backfill")).execute(tx.db)?;
                    }
                }
                let more = learners.len() == ROWS_MAX;
                progress.marked += learners.len() as u64;
                progress.learner = learners.into_iter().next_back().or(progress.learner);
                keep_progress(tx.db, backfill.id, &progress)?;
                Ok((progress, more))
            })
            .await
    }

    /// Keeps how far a backfill is.
    ///
    /// # Errors
    /// The store failed.
    pub async fn advance_backfill(&self, id: RunId, progress: Progress) -> Result<(), StoreError> {
        self.writer.run("advance_backfill", move |tx| keep_progress(tx.db, id, &progress)).await
    }

    /// What is staged of a learner, the profile first; empty when nothing is.
    ///
    /// # Errors
    /// The store failed.
    pub async fn staged_of(&self, id: RunId, lms_id: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let lms_id = lms_id.to_owned();
        self.writer
            .run("staged_of", move |tx| {
                let rows: Vec<Vec<u8>> = staged::table
                    .filter(staged::lms_id.eq(lms_id).and(staged::run_id.eq(id.0)))
                    .order(staged::row_id)
                    .select(staged::row)
                    .load(tx.db)?;
                rows.iter().map(|row| tx.sealer.open_sealed(SCOPE, row)).collect()
            })
            .await
    }

    /// How many learners of a portal still wait in the backfill's lane.
    ///
    /// # Errors
    /// The store failed.
    pub async fn backfill_left(&self, portal: &str) -> Result<u64, StoreError> {
        let portal = portal.to_owned();
        self.writer
            .run("backfill_left", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                left(tx.db, portal_id)
            })
            .await
    }

    /// Ends a backfill, done or given up; what is still staged of it, of learners who were left out, goes.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finish_backfill(&self, id: RunId, is_done: bool) -> Result<(), StoreError> {
        let now = self.clock.now().0;
        loop {
            let gone = self
                .writer
                .run("finish_backfill", move |tx| {
                    let some: Vec<(String, String)> = staged::table
                        .filter(staged::run_id.eq(id.0))
                        .limit(ROWS_MAX as i64)
                        .select((staged::lms_id, staged::row_id))
                        .load(tx.db)?;
                    for (lms_id, row_id) in &some {
                        diesel::delete(staged::table.find((lms_id, id.0, row_id))).execute(tx.db)?;
                    }
                    if some.is_empty() {
                        set_state(tx.db, id, if is_done { "done" } else { "failed" }, Some(now))?;
                    }
                    Ok(some.len())
                })
                .await?;
            if gone == 0 {
                return Ok(());
            }
        }
    }
}

/// Runs that read everybody: sweeps, and backfills that left nothing out.
pub(super) fn reads_everybody() -> diesel::dsl::Or<
    diesel::dsl::Eq<run::kind, &'static str>,
    diesel::dsl::And<diesel::dsl::Eq<run::kind, &'static str>, diesel::dsl::Like<run::counts, &'static str>>,
> {
    run::kind.eq("sweep").or(run::kind.eq("backfill").and(run::counts.like("%\"since\":null%")))
}

/// How many learners wait in the lane.
pub(super) fn left(db: &mut SqliteConnection, portal_id: i64) -> Result<u64, StoreError> {
    let count: i64 = mark::table
        .inner_join(subject::table)
        .filter(mark::lane.eq("backfill").and(subject::portal_id.eq(portal_id)))
        .count()
        .get_result(db)?;
    Ok(count.unsigned_abs())
}

/// What is staged of a learner was kept, or is older than what we hold; answers whether anything was.
pub(super) fn forget(db: &mut SqliteConnection, lms_id: &str) -> Result<bool, StoreError> {
    Ok(diesel::delete(staged::table.filter(staged::lms_id.eq(lms_id))).execute(db)? > 0)
}

/// Whether an operator holds a portal's backfill.
pub(super) fn is_held(db: &mut SqliteConnection, portal_id: i64) -> Result<bool, StoreError> {
    let held = run::table.filter(run::kind.eq("backfill").and(run::state.eq("paused")));
    Ok(diesel::select(diesel::dsl::exists(held.filter(run::portal_id.eq(portal_id)))).get_result(db)?)
}

/// The backfill of a portal that has not ended.
pub(super) fn under_way(db: &mut SqliteConnection, portal_id: i64) -> Result<Option<Backfill>, StoreError> {
    let found: Option<(i64, i64, String, String)> = run::table
        .filter(run::kind.eq("backfill").and(run::portal_id.eq(portal_id)).and(run::finished_at.is_null()))
        .select((run::id, run::started_at, run::state, run::counts))
        .first(db)
        .optional()?;
    found
        .map(|(id, started_at, state, counts)| {
            Ok(Backfill {
                id: RunId(id),
                started_at: Timestamp(started_at),
                is_paused: state == "paused",
                progress: super::queue::from_json(counts.as_bytes())?,
            })
        })
        .transpose()
}

/// All portals with their backfill that has not ended, and how many learners wait in its lane.
pub(super) fn all(db: &mut SqliteConnection) -> Result<Vec<(String, Backfill, u64)>, StoreError> {
    let portals: Vec<(i64, String)> = portal::table.order(portal::name).select((portal::id, portal::name)).load(db)?;
    let mut found = Vec::new();
    for (id, name) in portals {
        if let Some(backfill) = under_way(db, id)? {
            found.push((name, backfill, left(db, id)?));
        }
    }
    Ok(found)
}

fn stage_row(tx: &mut Tx<'_>, id: RunId, row: &StagedRow) -> Result<(), StoreError> {
    let sealed = tx.seal(SCOPE, &row.row)?;
    diesel::replace_into(staged::table)
        .values((
            staged::run_id.eq(id.0),
            staged::lms_id.eq(&row.lms_id),
            staged::row_id.eq(&row.row_id),
            staged::row.eq(sealed),
        ))
        .execute(tx.db)?;
    Ok(())
}

fn keep_progress(db: &mut SqliteConnection, id: RunId, progress: &Progress) -> Result<(), StoreError> {
    diesel::update(run::table.find(id.0)).set(run::counts.eq(as_text(progress))).execute(db)?;
    Ok(())
}

fn set_state(db: &mut SqliteConnection, id: RunId, state: &str, finished_at: Option<i64>) -> Result<(), StoreError> {
    diesel::update(run::table.find(id.0)).set((run::state.eq(state), run::finished_at.eq(finished_at))).execute(db)?;
    Ok(())
}

fn as_text(progress: &Progress) -> String {
    serde_json::to_string(progress).expect("progress is plain data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::ReadRecords;
    use crate::store::NextSubject;
    use crate::store::tests::{Ledger, lms_id};

    fn rows(learner: u32, enrolments: usize) -> Vec<StagedRow> {
        let row = |row_id: String| StagedRow { lms_id: lms_id(learner), row: row_id.clone().into_bytes(), row_id };
        (0..=enrolments).map(|number| row(if number == 0 { String::new() } else { format!("e{number}") })).collect()
    }

    async fn begun(ledger: &Ledger, since: Option<&str>) -> Backfill {
        let since = since.map(|date| date.parse().expect("a date"));
        ledger.store.begin_backfill("main", since).await.expect("begins").0
    }

    #[tokio::test]
    async fn a_backfill_that_was_cut_off_goes_on_where_its_last_page_was_kept() {
        let ledger = Ledger::new().await;
        let backfill = begun(&ledger, None).await;
        let progress = Progress { page: 3, course: Some("k".to_owned()), ..Progress::default() };
        // More rows than one transaction takes.
        ledger.store.stage(backfill.id, rows(1, 2 * ROWS_MAX), progress.clone()).await.expect("is staged");
        let (again, is_new) = ledger.store.begin_backfill("main", None).await.expect("goes on");
        assert_eq!((again.id, again.progress, is_new), (backfill.id, progress.clone(), false));
        // The page is read again, because the answer to the commit was lost.
        ledger.store.stage(backfill.id, rows(1, 2 * ROWS_MAX), progress).await.expect("is staged again");
        let staged = ledger.store.staged_of(backfill.id, &lms_id(1)).await.expect("is there");
        assert_eq!((staged.len(), staged[0].len()), (2 * ROWS_MAX + 1, 0), "each row once, the profile first");
    }

    #[tokio::test]
    async fn each_staged_learner_is_put_into_the_lane_and_what_was_staged_goes_when_they_were_read() {
        let ledger = Ledger::new().await;
        let backfill = begun(&ledger, None).await;
        for number in [1, 2] {
            ledger.store.stage(backfill.id, rows(number, 1), Progress::default()).await.expect("is staged");
        }
        let (progress, more) = ledger.store.mark_staged("main", backfill.clone()).await.expect("marks");
        assert_eq!((progress.marked, progress.learner, more), (2, Some(lms_id(2)), false));
        assert_eq!(ledger.store.backfill_left("main").await.expect("counts"), 2);
        ledger.read(1, ReadRecords::default()).await;
        assert_eq!(ledger.store.backfill_left("main").await.expect("counts"), 1);
        assert!(ledger.store.staged_of(backfill.id, &lms_id(1)).await.expect("asks").is_empty());
        assert_eq!(ledger.store.staged_of(backfill.id, &lms_id(2)).await.expect("asks").len(), 2);
        ledger.store.finish_backfill(backfill.id, true).await.expect("ends");
        assert!(ledger.store.staged_of(backfill.id, &lms_id(2)).await.expect("asks").is_empty(), "leftovers go");
        assert_eq!(ledger.store.backfill_under_way("main").await.expect("asks"), None);
    }

    #[tokio::test]
    async fn with_a_date_only_those_are_read_who_have_a_fact_since_then() {
        let ledger = Ledger::new().await;
        let backfill = begun(&ledger, Some("2026-01-01")).await;
        for (number, enrolments) in [(1, 0), (2, 3)] {
            ledger
                .store
                .stage(backfill.id, rows(number, enrolments), backfill.progress.clone())
                .await
                .expect("is staged");
        }
        let (progress, _) = ledger.store.mark_staged("main", backfill).await.expect("marks");
        assert_eq!((progress.marked, progress.learner), (1, Some(lms_id(2))));
    }

    #[tokio::test]
    async fn while_it_is_held_nobody_is_read_for_it_and_live_events_go_on() {
        let ledger = Ledger::new().await;
        let backfill = begun(&ledger, None).await;
        ledger.store.stage(backfill.id, rows(1, 0), Progress::default()).await.expect("is staged");
        ledger.store.mark_staged("main", backfill).await.expect("marks");
        assert!(ledger.store.pause_backfill("main").await.expect("holds"));
        assert!(matches!(ledger.store.next_subject("main").await.expect("asks"), NextSubject::Rest(None)));
        ledger.hook(2).await;
        let NextSubject::Dirty(live) = ledger.store.next_subject("main").await.expect("asks") else {
            panic!("is dirty")
        };
        assert_eq!((live.lane.as_str(), live.lms_id.clone()), ("live", lms_id(2)));
        let held = begun(&ledger, None).await;
        assert!(!held.is_paused, "whoever asks for it lets it go on");
        let NextSubject::Dirty(claimed) = ledger.store.next_subject("main").await.expect("asks") else {
            panic!("goes on")
        };
        assert_eq!(claimed.lane, "backfill");
    }
}
