//! The sweep: what webhooks missed is found by reading again. Every learner, page by page, once a week; in the nights between, whole lists
//! are compared with what they showed the last time (`by_lists`), and only those for whom something looks otherwise are read.
//!
//! It only marks; refresh does the reading, in a lane that live events overtake. Killed anywhere, it goes on at the page where it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use async_trait::async_trait;
use tracing::{info, warn};

use super::by_lists::Step;
use super::schedule::Schedule;
use crate::domain::chance::Entropy;
use crate::domain::ids::DestinationId;
use crate::domain::lane::Lane;
use crate::domain::subject::SubjectKind;
use crate::domain::time::{Clock, Timestamp};
use crate::lms::{LearnerPage, LmsError};
use crate::pipeline::portal::Portal;
use crate::pipeline::retry::backoff_ms;
use crate::pipeline::worker::{Bell, Turn, Work};
use crate::store::{ByLists, Store, StoreError, Sweep as Run, SweepCounts};

pub use super::by_lists::Lists;

/// The wait after a page could not be read, at least.
const FAILED_MS: i64 = 10_000;

/// How long after everybody was read all are read again, in milliseconds: a week of nights, and half a day for clocks that change and runs
/// that begin late.
const WHOLE_AFTER_MS: i64 = 13 * 12 * 3_600_000;

/// A whole read that lies further ahead than this was dated by a clock that was wrong, in milliseconds.
const AHEAD_MAX_MS: i64 = 24 * 3_600_000;

/// What somebody asks the sweep for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// A sweep as in any night.
    Changes,
    /// Everybody is read again.
    Everybody,
}

/// Where one asks for a sweep now; who asks for more wins.
#[derive(Debug, Default)]
pub struct Asked(AtomicU8);

impl Asked {
    /// Asks.
    pub fn ask(&self, ask: Ask) {
        let level = match ask {
            Ask::Changes => 1,
            Ask::Everybody => 2,
        };
        self.0.fetch_max(level, Ordering::SeqCst);
    }

    fn take(&self) -> Option<Ask> {
        match self.0.swap(0, Ordering::SeqCst) {
            0 => None,
            1 => Some(Ask::Changes),
            _ => Some(Ask::Everybody),
        }
    }
}

/// The sweep of one portal.
pub struct Sweep {
    /// The portal; its rest holds for us, too.
    pub portal: Arc<Portal>,
    /// The ledger.
    pub store: Arc<Store>,
    /// When it is due.
    pub schedule: Schedule,
    /// Set by `learnsync reconcile`: one is due now.
    pub asked: Arc<Asked>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Rung when learners were marked.
    pub refresh: Arc<Bell>,
    /// Whose unmatched people are looked up again, and the bell of each.
    pub destinations: BTreeMap<DestinationId, Arc<Bell>>,
    /// Rung when it begins a backfill.
    pub backfill: Arc<Bell>,
    /// The lists that somebody wants.
    pub lists: Vec<SubjectKind>,
    /// Whether a run is under way; then its next page is read, whatever the schedule says.
    pub under_way: AtomicBool,
    /// What this life knows of the lists that it reads.
    pub known: Lists,
}

/// Why a step was not made.
pub(super) enum Stop {
    /// The LMS could not be read.
    Lms(LmsError),
    /// The store failed.
    Store(StoreError),
}

impl From<LmsError> for Stop {
    fn from(error: LmsError) -> Self {
        Self::Lms(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[async_trait]
impl Work for Sweep {
    fn name(&self) -> String {
        format!("sweep of {}", self.portal.name)
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        let now = self.clock.now();
        // A backfill reads everybody, in far fewer calls.
        if self.store.backfill_under_way(&self.portal.name).await?.is_some_and(|backfill| !backfill.is_paused) {
            return Ok(Turn::Rest(None));
        }
        let last = self.store.last_sweep_at(&self.portal.name).await?;
        let may_begin = last.is_none() && self.portal.lms(Lane::Backfill).bulk().is_some();
        if may_begin && self.store.begin_first_backfill(&self.portal.name).await? {
            info!(portal = self.portal.name, "{} is read for the first time, in whole lists", self.portal.name);
            self.store.mark_lists(&self.portal.name, self.lists.clone()).await?;
            self.backfill.ring();
            return Ok(Turn::Worked);
        }
        let mut asked = self.asked.take();
        if asked.is_none() && !self.under_way.load(Ordering::SeqCst) && !self.schedule.due(last, now) {
            return Ok(Turn::Rest(self.schedule.next_after(now)));
        }
        let rests_until = self.portal.rests_until();
        if rests_until > now {
            asked.into_iter().for_each(|ask| self.asked.ask(ask));
            return Ok(Turn::Rest(Some(rests_until)));
        }
        let mut run = self.store.begin_sweep(&self.portal.name).await?;
        if asked.is_some() {
            // Whoever asks wants to know what is true from now on; a run that is under way read its first pages before. One that reads
            // everybody still does.
            let reads_everybody = run.next_page > 0 && run.lists.is_none();
            asked = if reads_everybody { Some(Ask::Everybody) } else { asked };
            run = begun_anew(run);
        }
        if !self.under_way.swap(true, Ordering::SeqCst) {
            info!(portal = self.portal.name, page = run.next_page, "Sweep began at page {}", run.next_page);
            self.look_up_unmatched().await?;
        }
        match self.go_on(&run, asked).await {
            Ok(()) => {
                self.refresh.ring();
                Ok(Turn::Worked)
            }
            Err(Stop::Store(error)) => Err(error),
            Err(Stop::Lms(error)) => {
                // Where nothing was kept of the new run, the old one would go on.
                asked.into_iter().for_each(|ask| self.asked.ask(ask));
                let until = self.again_at(&error).await?;
                warn!(portal = self.portal.name, page = run.next_page, error = %error, "The sweep waits until {until}");
                Ok(Turn::Rest(Some(until)))
            }
        }
    }
}

impl Sweep {
    /// Reads the next page, and keeps it.
    async fn go_on(&self, run: &Run, asked: Option<Ask>) -> Result<(), Stop> {
        let is_new = run.next_page == 0 && run.lists.is_none();
        if is_new {
            self.store.mark_lists(&self.portal.name, self.lists.clone()).await?;
        }
        let Some(bulk) = self.portal.lms(Lane::Sweep).bulk() else { return self.next_learners(run.clone()).await };
        let step = match &run.lists {
            Some(lists) => self.next_of_lists(bulk, lists.clone()).await.map(Some),
            None if is_new && !self.is_whole_due(asked).await? => self.begin_lists(bulk).await,
            None => Ok(None),
        };
        match step {
            Ok(Some(Step::Page(lists, page))) => self.keep_list_page(bulk, run, lists, page).await,
            Ok(Some(Step::End(lists))) => self.finish_lists(run, &lists).await,
            Ok(None) => self.next_learners(run.clone()).await,
            Err(Stop::Lms(error @ (LmsError::Forbidden(_) | LmsError::Misunderstood(_)))) => {
                warn!(
                    portal = self.portal.name,
                    error = %error,
                    "The lists of {} cannot be read as a whole; the sweep reads learner by learner instead",
                    self.portal.name
                );
                self.next_learners(begun_anew(run.clone())).await
            }
            Err(stop) => Err(stop),
        }
    }

    /// Whether everybody is read again, whatever the lists say: what stands in no list is found so, and so is whatever we got wrong.
    async fn is_whole_due(&self, asked: Option<Ask>) -> Result<bool, StoreError> {
        if asked == Some(Ask::Everybody) {
            return Ok(true);
        }
        let now = self.clock.now();
        let last = self.store.last_whole_sweep_at(&self.portal.name).await?;
        Ok(last.is_none_or(|last| now.0 - last.0 >= WHOLE_AFTER_MS || last.0 - now.0 > AHEAD_MAX_MS))
    }

    /// Reads the next page of learners, and marks them all.
    async fn next_learners(&self, mut run: Run) -> Result<(), Stop> {
        let LearnerPage { ids, total, more } = self.portal.lms(Lane::Sweep).learner_ids(run.next_page).await?;
        run.next_page += 1;
        run.counts.learners += ids.len() as u64;
        run.counts.total_first = run.counts.total_first.or(Some(total));
        run.counts.total_last = Some(total);
        self.store.advance_sweep(&self.portal.name, ids, run.clone()).await?;
        if !more {
            self.finish(&run).await?;
        }
        Ok(())
    }

    async fn look_up_unmatched(&self) -> Result<(), StoreError> {
        for (destination, bell) in &self.destinations {
            if self.store.release_unmatched(*destination).await? > 0 {
                bell.ring();
            }
        }
        Ok(())
    }

    async fn finish(&self, run: &Run) -> Result<(), Stop> {
        let counts = run.counts;
        info!(portal = self.portal.name, learners = counts.learners, "Sweep marked {} learners", counts.learners);
        self.end(run).await
    }

    async fn finish_lists(&self, run: &Run, lists: &ByLists) -> Result<(), Stop> {
        let learners = run.counts.learners;
        info!(
            portal = self.portal.name,
            lists = lists.lists,
            calls = lists.calls,
            changed = lists.changed,
            missing = lists.missing,
            learners,
            in_turn = lists.in_turn,
            "Sweep compared {} lists and marked {learners} learners, {} of them because it is their turn",
            lists.lists,
            lists.in_turn
        );
        self.end(run).await
    }

    async fn end(&self, run: &Run) -> Result<(), Stop> {
        // Fewer than before: somebody narrowed our role, and then nothing is concluded from absence.
        let departments = match self.portal.lms(Lane::Sweep).departments().await {
            Err(LmsError::Forbidden(_) | LmsError::Misunderstood(_)) => None,
            counted => counted?,
        };
        let counted = Run { counts: SweepCounts { departments, ..run.counts }, ..run.clone() };
        self.store.advance_sweep(&self.portal.name, Vec::new(), counted).await?;
        let SweepCounts { total_first, total_last, .. } = run.counts;
        if total_first != total_last {
            // Rows moved between pages while we read: whoever fell through is found by the next sweep.
            info!(portal = self.portal.name, first = ?total_first, last = ?total_last, "Learners came or went during the sweep");
        }
        self.known.forget().await;
        self.under_way.store(false, Ordering::SeqCst);
        Ok(self.store.finish_sweep(run.id, true).await?)
    }

    async fn again_at(&self, error: &LmsError) -> Result<Timestamp, StoreError> {
        let now = self.clock.now();
        let random = self.entropy.below(u64::MAX);
        let rests_until = self.portal.failed(&self.store, error, now, random).await?;
        Ok(rests_until.max(now.plus_ms(FAILED_MS + backoff_ms(3, random))))
    }
}

/// A run that begins at its first page, by whichever way is chosen then.
fn begun_anew(run: Run) -> Run {
    Run { next_page: 0, counts: SweepCounts::default(), lists: None, ..run }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Lock;

    use chrono_tz::Tz;

    use super::*;
    use crate::domain::chance::Generator;
    use crate::domain::standing::Calendar;
    use crate::lms::{LearnerPage, Lms, Probe, Profile, ReadRecords};
    use crate::store::tests::Ledger;

    /// An LMS of three pages, and which of them were read.
    #[derive(Default)]
    struct Pages(Lock<Vec<u32>>);

    #[async_trait]
    impl Lms for Pages {
        async fn learner(&self, _id: &str) -> Result<Option<Profile>, LmsError> {
            Ok(None)
        }

        async fn records(&self, _learner_id: &str) -> Result<ReadRecords, LmsError> {
            Err(LmsError::Forbidden("it".to_owned()))
        }

        async fn list(&self, _kind: SubjectKind) -> Result<ReadRecords, LmsError> {
            Ok(ReadRecords::default())
        }

        async fn learner_ids(&self, page: u32) -> Result<LearnerPage, LmsError> {
            self.0.lock().expect("no panic").push(page);
            Ok(LearnerPage { ids: Vec::new(), total: 0, more: page < 2 })
        }

        async fn probe(&self) -> Result<Probe, LmsError> {
            Ok(Probe::default())
        }
    }

    /// The sweep of one life of the daemon.
    async fn sweep(ledger: &Ledger, pages: &Arc<Pages>) -> Sweep {
        let lms: Arc<dyn Lms> = Arc::clone(pages) as Arc<dyn Lms>;
        Sweep {
            portal: Arc::new(Portal::load("main", lms, Calendar::default(), &ledger.store).await.expect("loads")),
            store: Arc::clone(&ledger.store),
            schedule: Schedule::parse("15 2 * * *", Tz::UTC).expect("parses"),
            asked: Arc::default(),
            clock: ledger.clock.clone(),
            entropy: Arc::new(Generator::seeded(1)),
            refresh: Arc::default(),
            destinations: BTreeMap::new(),
            backfill: Arc::default(),
            lists: vec![SubjectKind::Courses],
            under_way: AtomicBool::new(false),
            known: Lists::default(),
        }
    }

    #[tokio::test]
    async fn a_sweep_that_is_asked_for_reads_everybody_even_if_one_was_under_way() {
        let ledger = Ledger::new().await;
        let pages = Arc::new(Pages::default());
        // One life ends after the first page; the next goes on there.
        sweep(&ledger, &pages).await.run_once().await.expect("reads a page");
        let sweep = sweep(&ledger, &pages).await;
        sweep.run_once().await.expect("reads a page");
        assert_eq!(*pages.0.lock().expect("no panic"), [0, 1]);
        sweep.asked.ask(Ask::Changes);
        for _ in 0..3 {
            assert_eq!(sweep.run_once().await.expect("reads a page"), Turn::Worked);
        }
        assert_eq!(*pages.0.lock().expect("no panic"), [0, 1, 0, 1, 2]);
        assert!(matches!(sweep.run_once().await, Ok(Turn::Rest(_))), "it was asked for once");
    }
}
