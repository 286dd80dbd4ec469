//! The backfill: all that a portal holds, read once in as few calls as it allows.
//!
//! Whole lists are staged page by page, each page in one transaction with how far that is; then each learner is read for what no list has, and
//! kept as one read. Killed anywhere, it goes on where it was. Live events overtake it: what they read is newer than what was staged.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use learnsync_sdk::RecordKind;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::domain::chance::Entropy;
use crate::domain::lane::Lane;
use crate::domain::listing::ListReading;
use crate::domain::time::{Clock, Timestamp};
use crate::lms::{Bulk, BulkPage, LmsError};
use crate::pipeline::portal::{Portal, StagedBackfill};
use crate::pipeline::retry::backoff_ms;
use crate::pipeline::worker::{Bell, Turn, Work};
use crate::store::{ALL_LEARNERS, Backfill as Run, ListPage, Phase, Progress, ShownRow, StagedRow, Store, StoreError};

/// How often the last learners are waited for, in milliseconds.
const LEFT_MS: i64 = 1_000;

/// The wait after a list could not be read, at least, in milliseconds.
const FAILED_MS: i64 = 1_000;

/// The step for one portal.
pub struct Backfill {
    /// Which.
    pub portal: Arc<Portal>,
    /// The ledger.
    pub store: Arc<Store>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Rung when learners were put into the lane.
    pub refresh: Arc<Bell>,
    /// Rung when it has ended: the sweep waits for it.
    pub sweep: Arc<Bell>,
    /// The courses of the portal, once a life of the daemon has listed them.
    pub courses: Mutex<Option<Vec<String>>>,
}

#[async_trait]
impl Work for Backfill {
    fn name(&self) -> String {
        format!("backfill of {}", self.portal.name)
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        let Some(run) = self.store.backfill_under_way(&self.portal.name).await? else { return Ok(Turn::Rest(None)) };
        if run.is_paused {
            return Ok(Turn::Rest(None));
        }
        let Some(bulk) = self.portal.lms(Lane::Backfill).bulk() else {
            warn!(
                portal = self.portal.name,
                "The LMS of {} has no whole lists, there is no backfill", self.portal.name
            );
            self.store.finish_backfill(run.id, false).await?;
            return Ok(Turn::Worked);
        };
        let rests_until = self.portal.rests_until();
        if rests_until > self.clock.now() {
            return Ok(Turn::Rest(Some(rests_until)));
        }
        let outcome = match run.progress.phase {
            Phase::Learners => self.learners(bulk, &run).await,
            Phase::Enrolments => self.enrolments(bulk, &run).await,
            Phase::Marking => return self.mark(run).await,
            Phase::Reading => return self.read(&run).await,
        };
        match outcome {
            Ok((page, progress)) => {
                let progress = self.keep_listed(&run, &page, progress).await?;
                self.store.stage(run.id, staged(page), progress).await?;
                Ok(Turn::Worked)
            }
            Err(error @ (LmsError::Forbidden(_) | LmsError::Misunderstood(_))) => {
                warn!(
                    portal = self.portal.name,
                    error = %error,
                    "The lists of {} cannot be read as a whole; the sweep reads learner by learner instead",
                    self.portal.name
                );
                self.store.finish_backfill(run.id, false).await?;
                self.sweep.ring();
                Ok(Turn::Worked)
            }
            Err(error) => {
                let (now, random) = (self.clock.now(), self.entropy.below(u64::MAX));
                let rests_until = self.portal.failed(&self.store, &error, now, random).await?;
                let until = rests_until.max(now.plus_ms(FAILED_MS + backoff_ms(3, random)));
                warn!(portal = self.portal.name, error = %error, "The backfill waits until {until}");
                Ok(Turn::Rest(Some(until)))
            }
        }
    }
}

type Read = Result<(BulkPage, Progress), LmsError>;

impl Backfill {
    async fn learners(&self, bulk: &dyn Bulk, run: &Run) -> Read {
        let mut progress = run.progress.clone();
        if progress.kinds.is_empty() {
            progress.kinds = self.plan(bulk, &mut progress).await?.iter().map(ToString::to_string).collect();
        }
        let page = bulk.learners(progress.page).await?;
        progress.calls += 1;
        progress.learners += page.rows.len() as u64;
        progress.page += 1;
        if !page.more {
            info!(portal = self.portal.name, learners = progress.learners, "Backfill listed the learners");
            progress = Progress { phase: Phase::Enrolments, page: 0, ..progress };
        }
        Ok((page, progress))
    }

    /// The next page of the course that is under way, or the first of the next one.
    async fn enrolments(&self, bulk: &dyn Bulk, run: &Run) -> Read {
        let mut progress = run.progress.clone();
        // Not held while they are listed, which sets it.
        let known = self.courses.lock().await.clone();
        let courses = match known {
            Some(courses) => courses,
            // Another life of the daemon listed them.
            None => {
                self.plan(bulk, &mut progress).await?;
                self.courses.lock().await.clone().unwrap_or_default()
            }
        };
        let Some(course) = next_course(&courses, &progress) else {
            info!(portal = self.portal.name, enrolments = progress.enrolments, "Backfill listed the enrolments");
            return Ok((BulkPage::default(), Progress { phase: Phase::Marking, ..progress }));
        };
        if progress.course.as_ref() != Some(&course) {
            progress = Progress { course: Some(course.clone()), course_done: false, page: 0, ..progress };
        }
        let mut page = bulk.enrolments(&course, progress.page).await?;
        progress.calls += 1;
        if let Some(since) = progress.since {
            let zone = self.portal.calendar.zone;
            page.rows.retain(|row| row.achieved.is_none_or(|at| at.date_in(zone) >= since));
        }
        progress.enrolments += page.rows.len() as u64;
        progress.page += 1;
        if !page.more {
            progress.course_done = true;
            progress.courses += 1;
        }
        Ok((page, progress))
    }

    /// Lists the courses; answers the kinds that are read learner by learner.
    async fn plan(&self, bulk: &dyn Bulk, progress: &mut Progress) -> Result<BTreeSet<RecordKind>, LmsError> {
        let plan = bulk.plan().await?;
        progress.calls += 1;
        progress.courses_total = plan.courses.len() as u64;
        *self.courses.lock().await = Some(plan.courses);
        Ok(plan.kinds)
    }

    /// Keeps what a page shows, so that the next sweep finds nothing new in it; answers how far that is. With a date most rows are left out,
    /// and nobody is read whose rows are: then there is nothing that a sweep could rely on.
    async fn keep_listed(&self, run: &Run, page: &BulkPage, progress: Progress) -> Result<Progress, StoreError> {
        if progress.since.is_some() || progress.phase == Phase::Marking {
            return Ok(progress);
        }
        let (list, number) = match (run.progress.phase, &progress.course) {
            (Phase::Enrolments, Some(course)) => (course.clone(), progress.page.saturating_sub(1)),
            _ => (ALL_LEARNERS.to_owned(), run.progress.page),
        };
        let goes_on = progress.reading.list == list && progress.reading.page == number;
        let reading = match goes_on {
            true => progress.reading.clone(),
            false => ListReading { page: number, ..ListReading::of(list) },
        };
        let reading = self.store.keep_page(&self.portal.name, reading, list_page(page.clone())).await?;
        Ok(Progress { reading, ..progress })
    }

    async fn mark(&self, run: Run) -> Result<Turn, StoreError> {
        self.announce(&run);
        let id = run.id;
        let (progress, more) = self.store.mark_staged(&self.portal.name, run).await?;
        self.refresh.ring();
        if !more {
            info!(portal = self.portal.name, learners = progress.marked, "Backfill reads the learners");
            self.store.advance_backfill(id, Progress { phase: Phase::Reading, ..progress }).await?;
        }
        Ok(Turn::Worked)
    }

    async fn read(&self, run: &Run) -> Result<Turn, StoreError> {
        self.announce(run);
        if self.store.backfill_left(&self.portal.name).await? > 0 {
            self.refresh.ring();
            return Ok(Turn::Rest(Some(self.clock.now().plus_ms(LEFT_MS))));
        }
        self.store.finish_backfill(run.id, true).await?;
        self.portal.set_backfill(None);
        self.sweep.ring();
        info!(portal = self.portal.name, learners = run.progress.marked, "Backfill is done");
        Ok(Turn::Worked)
    }

    /// Tells the readers whose staged rows are read.
    fn announce(&self, run: &Run) {
        if self.portal.backfill().is_none_or(|known| known.id != run.id) {
            self.portal.set_backfill(Some(StagedBackfill::of(run)));
        }
    }
}

/// The course that is under way, or the next in the order of ids; none when all were read.
fn next_course(courses: &[String], progress: &Progress) -> Option<String> {
    let under_way = progress.course.clone().filter(|_| !progress.course_done);
    under_way.or_else(|| {
        let after = progress.course.as_deref().unwrap_or_default();
        courses.iter().find(|course| course.as_str() > after).cloned()
    })
}

fn staged(page: BulkPage) -> Vec<StagedRow> {
    let rows = page.rows.into_iter();
    rows.map(|row| StagedRow { lms_id: row.learner_id, row_id: row.row_id, row: row.row }).collect()
}

/// A page as it is compared with what the list showed the last time.
pub(super) fn list_page(page: BulkPage) -> ListPage {
    let rows = page.rows.into_iter();
    let rows = rows.map(|row| ShownRow { learner: row.learner_id, row_id: row.row_id, row: row.row });
    ListPage { rows: rows.collect(), total: page.total, is_last: !page.more, is_whole: page.is_whole }
}

/// When a backfill that goes on like this is done: from how many learners were read between two looks.
#[must_use]
pub fn done_at(left_before: u64, left: u64, between: (Timestamp, Timestamp)) -> Option<Timestamp> {
    let (before, now) = between;
    let read = left_before.checked_sub(left).filter(|read| *read > 0)?;
    let ms_each = (now.0 - before.0).max(0).unsigned_abs() as f64 / read as f64;
    Some(now.plus_ms((ms_each * left as f64) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(course: Option<&str>, course_done: bool) -> Progress {
        Progress { course: course.map(str::to_owned), course_done, ..Progress::default() }
    }

    #[test]
    fn courses_are_read_in_the_order_of_their_ids_and_one_under_way_to_its_end() {
        let courses = ["a", "c", "d"].map(str::to_owned);
        let next = |course, done| next_course(&courses, &progress(course, done));
        assert_eq!(next(None, false).as_deref(), Some("a"));
        assert_eq!(next(Some("a"), false).as_deref(), Some("a"));
        assert_eq!(next(Some("a"), true).as_deref(), Some("c"));
        // One that was deleted meanwhile, and one that was added before it, change nothing.
        assert_eq!(next(Some("b"), true).as_deref(), Some("c"));
        assert_eq!(next(Some("d"), true), None);
    }

    #[test]
    fn when_it_is_done_is_told_from_what_was_read_between_two_looks() {
        let (before, now) = (Timestamp(0), Timestamp(10_000));
        assert_eq!(done_at(1_000, 500, (before, now)), Some(Timestamp(20_000)));
        assert_eq!(done_at(500, 500, (before, now)), None, "nothing moved");
        assert_eq!(done_at(500, 600, (before, now)), None);
        assert_eq!(done_at(500, 0, (before, now)), Some(now));
    }
}
