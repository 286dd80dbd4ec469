//! The sweep by whole lists: page after page of all learners, then of each course's enrolments, compared with what they showed the last
//! time. A night that changed nothing costs the pages, and the reads of those whose turn it is.

use std::sync::Arc;

use tracing::{info, warn};

use super::backfill::list_page;
use super::sweep::{Stop, Sweep};
use crate::domain::listing::{Doubt, ListReading, TURNS};
use crate::lms::{Bulk, BulkPage, BulkPlan};
use crate::store::{ALL_LEARNERS, ByLists, ListPage, StoreError, Sweep as Run};

/// What a sweep by lists does next.
pub(super) enum Step {
    /// This page is to be compared.
    Page(ByLists, ListPage),
    /// All lists were read.
    End(ByLists),
}

/// About how many calls a sweep costs in either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Costs {
    by_lists: u64,
    by_learner: u64,
}

impl Costs {
    /// `calls_each` is what the read of one learner costs.
    fn of(learners: u64, learner_pages: u64, course_pages: u64, calls_each: u64) -> Self {
        Self {
            by_lists: learner_pages + course_pages + learners.div_ceil(TURNS) * calls_each,
            by_learner: learner_pages + learners * calls_each,
        }
    }
}

impl Sweep {
    /// The first page of a sweep by lists; none if it is cheaper to read everybody one by one.
    pub(super) async fn begin_lists(&self, bulk: &dyn Bulk) -> Result<Option<Step>, Stop> {
        let name = &self.portal.name;
        *self.plan.lock().await = None;
        let (done, done_before) = self.store.sweeps_done(name).await?;
        let mut lists = ByLists { turn: done % TURNS, done_before, ..ByLists::default() };
        let plan = self.plan(bulk, &mut lists).await?;
        let page = bulk.learners(0).await?;
        lists.calls += 1;
        let costs = self.costs(&plan, &page).await?;
        let Costs { by_lists, by_learner } = costs;
        info!(
            portal = name,
            by_lists,
            by_learner,
            "A sweep by lists costs about {by_lists} calls, learner by learner {by_learner}; the cheaper is taken"
        );
        Ok((by_lists < by_learner).then(|| Step::Page(lists, list_page(&page))))
    }

    /// The next page of the list that is under way, or the first of the next one.
    pub(super) async fn next_of_lists(&self, bulk: &dyn Bulk, mut lists: ByLists) -> Result<Step, Stop> {
        let plan = self.plan(bulk, &mut lists).await?;
        if lists.is_list_done {
            let Some(next) = self.list_after(&plan, &lists.reading.list).await? else { return Ok(Step::End(lists)) };
            lists.reading = ListReading::of(next);
            lists.is_list_done = false;
        }
        let ListReading { list, page: number, .. } = &lists.reading;
        let page = if list == ALL_LEARNERS {
            bulk.learners(*number).await?
        } else if plan.courses.binary_search(list).is_ok() {
            bulk.enrolments(list, *number).await?
        } else {
            // A course that the LMS names no more, or no longer to us: whoever was enrolled is read again.
            let nothing = ListPage { total: Some(0), is_last: true, is_whole: true, ..ListPage::default() };
            return Ok(Step::Page(lists, nothing));
        };
        lists.calls += 1;
        Ok(Step::Page(lists, list_page(&page)))
    }

    /// Compares a page, and keeps it with how far that is.
    pub(super) async fn keep_list_page(&self, run: &Run, lists: ByLists, page: ListPage) -> Result<(), Stop> {
        let doubt_before = lists.reading.doubt;
        let run = Run { lists: Some(lists), ..run.clone() };
        let (run, _) = self.store.compare_page(&self.portal.name, run, page).await?;
        let Some(ListReading { list, doubt: Some(doubt), .. }) = run.lists.map(|lists| lists.reading) else {
            return Ok(());
        };
        if doubt_before.is_none() {
            let list = if list == ALL_LEARNERS { "all learners".to_owned() } else { format!("the course {list}") };
            let why = match doubt {
                Doubt::Unordered => "comes in no order that we know",
                Doubt::Short => "has a page with other than the rows that belong there",
            };
            warn!(
                portal = self.portal.name,
                list, "The list of {list} {why}: it is compared row by row, and what it lacks is not noticed tonight"
            );
        }
        Ok(())
    }

    async fn costs(&self, plan: &BulkPlan, first: &BulkPage) -> Result<Costs, StoreError> {
        let rows = first.rows.len() as u64;
        let learners = first.total.unwrap_or(rows);
        let (lists, pages) = self.store.known_lists(&self.portal.name).await?;
        let unknown = (plan.courses.len() as u64).saturating_sub(lists);
        // The profile, and a list of each kind.
        let calls_each = 1 + plan.kinds.len() as u64;
        Ok(Costs::of(learners, learners.div_ceil(rows.max(1)).max(1), pages + unknown, calls_each))
    }

    /// The next list in the order of their names: of a course that there is, or of one that there was.
    async fn list_after(&self, plan: &BulkPlan, list: &str) -> Result<Option<String>, StoreError> {
        let planned = plan.courses.iter().find(|course| course.as_str() > list).cloned();
        let known = self.store.list_after(&self.portal.name, list).await?;
        Ok([planned, known].into_iter().flatten().min())
    }

    /// What there is to read; asked for once a run, and again after a restart.
    async fn plan(&self, bulk: &dyn Bulk, lists: &mut ByLists) -> Result<Arc<BulkPlan>, Stop> {
        let mut known = self.plan.lock().await;
        if let Some(plan) = &*known {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(bulk.plan().await?);
        lists.calls += 1;
        *known = Some(Arc::clone(&plan));
        Ok(plan)
    }
}

#[cfg(test)]
mod tests;
