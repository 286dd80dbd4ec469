//! Reconciliation runs: where a sweep stands, so that one that was killed goes on where it was.

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use super::inbox::subject_row;
use super::schema::{installation, mark, run};
use super::{Store, StoreError};
use crate::domain::ids::RunId;
use crate::domain::listing::ListReading;
use crate::domain::subject::SubjectKind;
use crate::domain::time::Timestamp;

/// How a sweep by lists is told from one that read everybody.
const BY_LISTS: &str = "%\"lists\":{%";

/// A sweep under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// Its row.
    pub id: RunId,
    /// The next page to read.
    pub next_page: u32,
    /// What it counted so far.
    pub counts: SweepCounts,
    /// How far it is, if it goes by whole lists; else it reads every learner again.
    pub lists: Option<ByLists>,
}

/// How far a sweep by whole lists is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ByLists {
    /// The list that is being read, or was read last.
    pub reading: ListReading,
    /// Whether that list was read to its end.
    pub is_list_done: bool,
    /// Whose turn it is, whatever the lists say.
    pub turn: u64,
    /// The newest sweep by lists that came to its end before this one began; 0 if none did.
    pub done_before: i64,
    /// Lists read to their end.
    pub lists: u64,
    /// Calls made for them.
    pub calls: u64,
    /// Rows that were new, or looked otherwise than the last time.
    pub changed: u64,
    /// Rows that should have come and did not.
    pub missing: u64,
    /// Learners who were marked only because it is their turn.
    pub in_turn: u64,
}

/// What is kept of a sweep beside its page, in one column: a sweep without `lists` read everybody, as all did in earlier versions.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    #[serde(flatten)]
    counts: SweepCounts,
    #[serde(skip_serializing_if = "Option::is_none")]
    lists: Option<ByLists>,
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
    /// How many departments the portal shows, if it does.
    pub departments: Option<u64>,
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
                    let Kept { counts, lists } = super::queue::from_json(counts.as_bytes())?;
                    return Ok(Sweep {
                        id: RunId(id),
                        next_page: u32::try_from(next_page).unwrap_or(0),
                        counts,
                        lists,
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
                Ok(Sweep { id: RunId(id), next_page: 0, counts: SweepCounts::default(), lists: None })
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
                keep_sweep(tx.db, &sweep)
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

    /// When everybody was last read again, one by one or by a backfill of everything. None when the lists cannot be trusted since: the
    /// ledger was restored, a route came that nobody was planned for yet, or a backfill was given up that had kept what lists showed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn last_whole_sweep_at(&self, portal: &str) -> Result<Option<Timestamp>, StoreError> {
        let portal = portal.to_owned();
        self.writer
            .run("last_whole_sweep_at", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                let of_portal = run::table.filter(run::portal_id.eq(portal_id));
                let given_up: Option<i64> = of_portal
                    .filter(run::kind.eq("backfill").and(run::state.eq("failed")))
                    .select(diesel::dsl::max(run::id))
                    .first(tx.db)?;
                let planned: Option<i64> = installation::table.select(installation::planned_after_run).first(tx.db)?;
                let before =
                    super::doubt::restored_after_run(tx.db)?.max(given_up.unwrap_or(0)).max(planned.unwrap_or(0));
                let at: Option<i64> = of_portal
                    .filter(super::staging::reads_everybody())
                    .filter(run::counts.not_like(BY_LISTS).and(run::state.eq("done")).and(run::id.gt(before)))
                    .select(diesel::dsl::max(run::started_at))
                    .first(tx.db)?;
                Ok(at.map(Timestamp))
            })
            .await
    }

    /// How many sweeps of a portal came to their end, and the newest of those by lists; 0 if there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn sweeps_done(&self, portal: &str) -> Result<(u64, i64), StoreError> {
        let portal = portal.to_owned();
        self.writer
            .run("sweeps_done", move |tx| {
                let portal_id = super::log::portal_id(tx.db, &portal)?;
                let done = run::table
                    .filter(run::kind.eq("sweep").and(run::state.eq("done")).and(run::portal_id.eq(portal_id)));
                let count: i64 = done.count().get_result(tx.db)?;
                let by_lists = done.filter(run::counts.like(BY_LISTS));
                let newest: Option<i64> = by_lists.select(diesel::dsl::max(run::id)).first(tx.db)?;
                Ok((count.unsigned_abs(), newest.unwrap_or(0)))
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

/// Keeps how far a sweep is.
pub(super) fn keep_sweep(db: &mut SqliteConnection, sweep: &Sweep) -> Result<(), StoreError> {
    let kept = Kept { counts: sweep.counts, lists: sweep.lists.clone() };
    let counts = serde_json::to_string(&kept).expect("counts are plain data");
    diesel::update(run::table.find(sweep.id.0))
        .set((run::next_page.eq(i64::from(sweep.next_page)), run::counts.eq(counts)))
        .execute(db)?;
    Ok(())
}

/// Marks a subject for the sweep, unless it is marked already; answers whether it was not.
pub(super) fn mark_for_sweep(db: &mut SqliteConnection, subject_id: i64, now: i64) -> Result<bool, StoreError> {
    let inserted = diesel::insert_into(mark::table)
        .values((
            mark::subject_id.eq(subject_id),
            mark::generation.eq(1_i64),
            mark::due_at.eq(now),
            mark::lane.eq("sweep"),
        ))
        .on_conflict_do_nothing()
        .execute(db)?;
    Ok(inserted > 0)
}
