//! The sweep by whole lists: page after page of all learners, then of each course's enrolments, compared with what they showed the last
//! time. A night that changed nothing costs the pages, and the reads of those whose turn it is.

use std::sync::Arc;

use tokio::sync::Mutex;
use tracing::{info, warn};

use super::backfill::list_page;
use super::sweep::{Stop, Sweep};
use crate::domain::listing::{Doubt, ListReading, TURNS};
use crate::domain::time::Timestamp;
use crate::lms::{Bulk, BulkPage, BulkPlan, LmsError};
use crate::store::{ALL_LEARNERS, ByLists, ListPage, StoreError, Sweep as Run};

/// A page that was read ahead is compared within so many milliseconds, or read again: a rest came between.
const AHEAD_MS: i64 = 60_000;

/// What a life of the daemon knows of the lists that it reads, beyond what is kept.
#[derive(Default)]
pub struct Lists {
    /// What lists there are, once this run has asked.
    plan: Mutex<Option<Arc<BulkPlan>>>,
    /// The page that comes next: it was read while the one before it was compared.
    ahead: Mutex<Option<Ahead>>,
}

impl Lists {
    /// Forgets all, for a run that begins or has ended.
    pub(super) async fn forget(&self) {
        *self.plan.lock().await = None;
        *self.ahead.lock().await = None;
    }
}

struct Ahead {
    list: String,
    page: u32,
    read_at: Timestamp,
    shown: BulkPage,
}

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
        self.known.forget().await;
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
        Ok((by_lists < by_learner).then(|| Step::Page(lists, list_page(page))))
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
        let page = match self.read_ahead(list, *number).await {
            Some(page) => page,
            None if is_named(&plan, list) => page_of(bulk, list, *number).await?,
            // A course that the LMS names no more, or no longer to us: whoever was enrolled is read again.
            None => {
                let nothing = ListPage { total: Some(0), is_last: true, is_whole: true, ..ListPage::default() };
                return Ok(Step::Page(lists, nothing));
            }
        };
        lists.calls += 1;
        Ok(Step::Page(lists, list_page(page)))
    }

    /// The page that was read ahead, if it is this one.
    async fn read_ahead(&self, list: &str, page: u32) -> Option<BulkPage> {
        let now = self.clock.now();
        let is_this = |ahead: &Ahead| {
            ahead.list == list && ahead.page == page && (0..AHEAD_MS).contains(&(now.0 - ahead.read_at.0))
        };
        self.known.ahead.lock().await.take().filter(is_this).map(|ahead| ahead.shown)
    }

    /// Compares a page, and keeps it with how far that is. The one behind it is read meanwhile: the LMS and the store wait for nobody.
    pub(super) async fn keep_list_page(
        &self,
        bulk: &dyn Bulk,
        run: &Run,
        lists: ByLists,
        page: ListPage,
    ) -> Result<(), Stop> {
        let doubt_before = lists.reading.doubt;
        let next = self.page_after(&lists.reading, page.is_last).await?;
        let run = Run { lists: Some(lists), ..run.clone() };
        let (kept, ahead) = tokio::join!(self.store.compare_page(&self.portal.name, run, page), self.ahead(bulk, next));
        let (run, _) = kept?;
        *self.known.ahead.lock().await = ahead?;
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

    /// The page behind the one that is read, if the LMS has it.
    async fn page_after(&self, reading: &ListReading, is_last: bool) -> Result<Option<(String, u32)>, StoreError> {
        if !is_last {
            return Ok(Some((reading.list.clone(), reading.page + 1)));
        }
        let Some(plan) = self.known.plan.lock().await.clone() else { return Ok(None) };
        let next = self.list_after(&plan, &reading.list).await?;
        Ok(next.filter(|next| is_named(&plan, next)).map(|next| (next, 0)))
    }

    async fn ahead(&self, bulk: &dyn Bulk, next: Option<(String, u32)>) -> Result<Option<Ahead>, LmsError> {
        let Some((list, page)) = next else { return Ok(None) };
        let read_at = self.clock.now();
        let shown = page_of(bulk, &list, page).await?;
        Ok(Some(Ahead { list, page, read_at, shown }))
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
        let mut known = self.known.plan.lock().await;
        if let Some(plan) = &*known {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(bulk.plan().await?);
        lists.calls += 1;
        *known = Some(Arc::clone(&plan));
        Ok(plan)
    }
}

/// Whether there is such a list.
fn is_named(plan: &BulkPlan, list: &str) -> bool {
    list == ALL_LEARNERS || plan.courses.binary_search_by(|course| course.as_str().cmp(list)).is_ok()
}

async fn page_of(bulk: &dyn Bulk, list: &str, page: u32) -> Result<BulkPage, LmsError> {
    if list == ALL_LEARNERS { bulk.learners(page).await } else { bulk.enrolments(list, page).await }
}

#[cfg(test)]
mod tests;
