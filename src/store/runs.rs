//! Reconciliation runs: where a sweep stands, so that one that was killed goes on where it was.

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use super::inbox::subject_row;
use super::schema::{mark, run};
use super::{Store, StoreError};
use crate::domain::ids::RunId;
use crate::domain::subject::SubjectKind;
use crate::domain::time::Timestamp;

/// A sweep under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Its row.
    pub id: RunId,
    /// The next page to read.
    pub next_page: u32,
    /// What it counted so far.
    pub counts: SweepCounts,
}

/// What a sweep counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
// A sweep that ended before its first page has counted nothing: it must be read back all the same, or no sweep ever begins again.
#[serde(default)]
pub struct SweepCounts {
    /// Learners marked to be read again.
    pub learners: u64,
    /// The total that the LMS said on the first page.
    pub total_first: Option<u64>,
    /// The total on the newest page.
    pub total_last: Option<u64>,
}

impl Store {
    /// The sweep of a portal that is under way, or a new one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn begin_sweep(&self, portal: &str) -> Result<Sweep, StoreError> {
        let portal = portal.to_owned();
        let now = self.clock.now().0;
        self.writer
            .run("begin_sweep", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                let running: Option<(i64, i64, String)> = run::table
                    .filter(run::kind.eq("sweep").and(run::portal_id.eq(portal_id)).and(run::state.eq("running")))
                    .select((run::id, run::next_page, run::counts))
                    .first(tx.db)
                    .optional()?;
                if let Some((id, next_page, counts)) = running {
                    return Ok(Sweep {
                        id: RunId(id),
                        next_page: u32::try_from(next_page).unwrap_or(0),
                        counts: super::queue::from_json(counts.as_bytes())?,
                    });
                }
                let id = diesel::insert_into(run::table)
                    .values((
                        run::kind.eq("sweep"),
                        run::portal_id.eq(portal_id),
                        run::state.eq("running"),
                        run::started_at.eq(now),
                    ))
                    .returning(run::id)
                    .get_result(tx.db)?;
                Ok(Sweep { id: RunId(id), next_page: 0, counts: SweepCounts::default() })
            })
            .await
    }

    /// Marks one page of learners and commits that this page is done. Those already marked keep their lane and time.
    ///
    /// # Errors
    /// The store failed; the page will be read again.
    pub async fn advance_sweep(&self, portal: &str, learner_ids: Vec<String>, sweep: Sweep) -> Result<(), StoreError> {
        let portal = portal.to_owned();
        let now = self.clock.now().0;
        self.writer
            .run("advance_sweep", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                for learner_id in &learner_ids {
                    let subject_id = subject_row(tx.db, portal_id, SubjectKind::Learner, learner_id)?;
                    mark_for_sweep(tx.db, subject_id, now)?;
                }
                let counts = serde_json::to_string(&sweep.counts).expect("counts are plain data");
                diesel::update(run::table.find(sweep.id.0))
                    .set((run::next_page.eq(i64::from(sweep.next_page)), run::counts.eq(counts)))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Marks lists of a portal to be read again; those already marked keep their lane and time.
    ///
    /// # Errors
    /// The store failed.
    pub async fn mark_lists(&self, portal: &str, lists: Vec<SubjectKind>) -> Result<(), StoreError> {
        let portal = portal.to_owned();
        let now = self.clock.now().0;
        self.writer
            .run("mark_lists", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                for list in lists {
                    let subject_id = subject_row(tx.db, portal_id, list, list.as_str())?;
                    mark_for_sweep(tx.db, subject_id, now)?;
                }
                Ok(())
            })
            .await
    }

    /// Ends a sweep.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finish_sweep(&self, id: RunId, is_done: bool) -> Result<(), StoreError> {
        let now = self.clock.now().0;
        self.writer
            .run("finish_sweep", move |tx| {
                diesel::update(run::table.find(id.0))
                    .set((run::state.eq(if is_done { "done" } else { "failed" }), run::finished_at.eq(now)))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// When the newest sweep of a portal that was not given up began; a backfill of everything is one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn last_sweep_at(&self, portal: &str) -> Result<Option<Timestamp>, StoreError> {
        let portal = portal.to_owned();
        self.writer
            .run("last_sweep_at", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                // A restored ledger is older than the LMS: sweeps of before do not count.
                let before = super::doubt::restored_after_run(tx.db)?;
                let at: Option<i64> = run::table
                    .filter(super::staging::reads_everybody())
                    .filter(run::portal_id.eq(portal_id).and(run::state.eq("done")))
                    .filter(run::id.gt(before))
                    .select(diesel::dsl::max(run::started_at))
                    .first(tx.db)?;
                Ok(at.map(Timestamp))
            })
            .await
    }
}

/// Marks a subject for the sweep, unless it is marked already.
pub(super) fn mark_for_sweep(db: &mut SqliteConnection, subject_id: i64, now: i64) -> Result<(), StoreError> {
    diesel::insert_into(mark::table)
        .values((
            mark::subject_id.eq(subject_id),
            mark::generation.eq(1_i64),
            mark::due_at.eq(now),
            mark::lane.eq("sweep"),
        ))
        .on_conflict_do_nothing()
        .execute(db)?;
    Ok(())
}
