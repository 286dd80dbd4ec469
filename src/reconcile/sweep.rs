//! The plain sweep: every learner that we may see is read again, page by page; what webhooks missed is found on the way.
//!
//! It only marks; refresh does the reading, in a lane that live events overtake. Killed anywhere, it goes on at the page where it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use tracing::{info, warn};

use super::schedule::Schedule;
use crate::domain::chance::Entropy;
use crate::domain::ids::DestinationId;
use crate::domain::lane::Lane;
use crate::domain::subject::SubjectKind;
use crate::domain::time::{Clock, Timestamp};
use crate::lms::LmsError;
use crate::pipeline::portal::Portal;
use crate::pipeline::retry::backoff_ms;
use crate::pipeline::worker::{Bell, Turn, Work};
use crate::store::{Store, StoreError, Sweep as Run, SweepCounts};

/// The wait after a page could not be read, at least.
const FAILED_MS: i64 = 10_000;

/// The sweep of one portal.
pub struct Sweep {
    /// The portal; its rest holds for us, too.
    pub portal: Arc<Portal>,
    /// The ledger.
    pub store: Arc<Store>,
    /// When it is due.
    pub schedule: Schedule,
    /// Set by `learnsync reconcile`: one is due now.
    pub asked: Arc<AtomicBool>,
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
        let is_asked = self.asked.swap(false, Ordering::SeqCst);
        if !is_asked && !self.under_way.load(Ordering::SeqCst) && !self.schedule.due(last, now) {
            return Ok(Turn::Rest(self.schedule.next_after(now)));
        }
        let rests_until = self.portal.rests_until();
        if rests_until > now {
            self.asked.fetch_or(is_asked, Ordering::SeqCst);
            return Ok(Turn::Rest(Some(rests_until)));
        }
        let mut run = self.store.begin_sweep(&self.portal.name).await?;
        if is_asked {
            // Whoever asks wants everybody read from now on; a run that is under way read its first pages before.
            run = Run { next_page: 0, counts: SweepCounts::default(), ..run };
        }
        if !self.under_way.swap(true, Ordering::SeqCst) {
            info!(portal = self.portal.name, page = run.next_page, "Sweep began at page {}", run.next_page);
            self.look_up_unmatched().await?;
        }
        if run.next_page == 0 {
            self.store.mark_lists(&self.portal.name, self.lists.clone()).await?;
        }
        match self.portal.lms(Lane::Sweep).learner_ids(run.next_page).await {
            Ok(page) => {
                run.next_page += 1;
                run.counts.learners += page.ids.len() as u64;
                run.counts.total_first = run.counts.total_first.or(Some(page.total));
                run.counts.total_last = Some(page.total);
                self.store.advance_sweep(&self.portal.name, page.ids, run.clone()).await?;
                self.refresh.ring();
                if !page.more {
                    self.finish(&run).await?;
                }
                Ok(Turn::Worked)
            }
            Err(error) => {
                let until = self.again_at(&error).await?;
                warn!(portal = self.portal.name, page = run.next_page, error = %error, "The sweep waits until {until}");
                Ok(Turn::Rest(Some(until)))
            }
        }
    }
}

impl Sweep {
    async fn look_up_unmatched(&self) -> Result<(), StoreError> {
        for (destination, bell) in &self.destinations {
            if self.store.release_unmatched(*destination).await? > 0 {
                bell.ring();
            }
        }
        Ok(())
    }

    async fn finish(&self, run: &Run) -> Result<(), StoreError> {
        self.under_way.store(false, Ordering::SeqCst);
        let counts = run.counts;
        if counts.total_first != counts.total_last {
            // Rows moved between pages while we read: whoever fell through is found by the next sweep.
            info!(portal = self.portal.name, first = ?counts.total_first, last = ?counts.total_last, "Learners came or went during the sweep");
        }
        info!(portal = self.portal.name, learners = counts.learners, "Sweep marked {} learners", counts.learners);
        self.store.finish_sweep(run.id, true).await
    }

    async fn again_at(&self, error: &LmsError) -> Result<Timestamp, StoreError> {
        let now = self.clock.now();
        let random = self.entropy.below(u64::MAX);
        let rests_until = self.portal.failed(&self.store, error, now, random).await?;
        Ok(rests_until.max(now.plus_ms(FAILED_MS + backoff_ms(3, random))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use chrono_tz::Tz;

    use super::*;
    use crate::domain::chance::Generator;
    use crate::domain::standing::Calendar;
    use crate::lms::{LearnerPage, Lms, Probe, Profile, ReadRecords};
    use crate::store::tests::Ledger;

    /// An LMS of three pages, and which of them were read.
    #[derive(Default)]
    struct Pages(Mutex<Vec<u32>>);

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
        sweep.asked.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(sweep.run_once().await.expect("reads a page"), Turn::Worked);
        }
        assert_eq!(*pages.0.lock().expect("no panic"), [0, 1, 0, 1, 2]);
        assert!(matches!(sweep.run_once().await, Ok(Turn::Rest(_))), "it was asked for once");
    }
}
