//! One portal as the pipeline sees it: its client, and until when it is left alone as a whole.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use learnsync_sdk::RecordKind;

use super::retry::{backoff_ms, throttled_until};
use crate::domain::delivery::THROTTLED;
use crate::domain::ids::RunId;
use crate::domain::lane::Lane;
use crate::domain::standing::Calendar;
use crate::domain::time::Timestamp;
use crate::lms::{Lms, LmsError};
use crate::store::{Backfill, Phase, Store, StoreError};

/// How long nothing is read from a portal that refuses our credentials or logins, in milliseconds.
pub const REFUSED_MS: i64 = 5 * 60_000;

/// A portal that fails is left alone as a whole: a thousand dirty learners must not each find out anew. Refresh and sweep share its rest.
pub struct Portal {
    /// Its name.
    pub name: String,
    /// How its calendar is read.
    pub calendar: Calendar,
    /// Its client in each lane, in the order of `Lane::ALL`.
    lanes: [Arc<dyn Lms>; 4],
    rest: Mutex<Rest>,
    backfill: Mutex<Option<Arc<StagedBackfill>>>,
}

/// The backfill of a portal, as those know it who read what it staged.
#[derive(Debug, PartialEq, Eq)]
pub struct StagedBackfill {
    /// Its run.
    pub id: RunId,
    /// When it began: the version of all that it read.
    pub started_at: Timestamp,
    /// The kinds that are read learner by learner.
    pub kinds: BTreeSet<RecordKind>,
}

impl StagedBackfill {
    /// That of a run.
    #[must_use]
    pub fn of(run: &Backfill) -> Self {
        let kinds = run.progress.kinds.iter().filter_map(|word| RecordKind::parse(word)).collect();
        Self { id: run.id, started_at: run.started_at, kinds }
    }
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Timestamp,
    failures: u32,
}

impl Portal {
    /// A portal that is left alone until the end of a rest that an earlier life of the daemon was asked for.
    ///
    /// # Errors
    /// The store failed.
    pub async fn load(name: &str, lms: Arc<dyn Lms>, calendar: Calendar, store: &Store) -> Result<Self, StoreError> {
        let until = store.portal_rests_until(name).await?.unwrap_or(Timestamp(0));
        // What an earlier life staged is read as such from the first learner on.
        let under_way = store.backfill_under_way(name).await?;
        let is_staged = |run: &Backfill| matches!(run.progress.phase, Phase::Marking | Phase::Reading);
        let backfill = under_way.filter(is_staged).map(|run| Arc::new(StagedBackfill::of(&run)));
        let lanes = Lane::ALL.map(|lane| lms.in_lane(lane).unwrap_or_else(|| Arc::clone(&lms)));
        Ok(Self {
            name: name.to_owned(),
            lanes,
            calendar,
            rest: Mutex::new(Rest { until, failures: 0 }),
            backfill: Mutex::new(backfill),
        })
    }

    /// The backfill whose learners are being read; none when there is none.
    #[must_use]
    pub fn backfill(&self) -> Option<Arc<StagedBackfill>> {
        self.backfill.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says whose staged rows are read from now on.
    pub fn set_backfill(&self, backfill: Option<StagedBackfill>) {
        *self.backfill.lock().unwrap_or_else(PoisonError::into_inner) = backfill.map(Arc::new);
    }

    /// The client, for calls in this lane of the budget.
    #[must_use]
    pub fn lms(&self, lane: Lane) -> &dyn Lms {
        &*self.lanes[lane as usize]
    }

    /// Ends the rest, because a person put right what it was for. What the LMS itself asked for stands: its client keeps to it.
    pub fn wake(&self) {
        *self.rest() = Rest { until: Timestamp(0), failures: 0 };
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until when it is left alone; a time that is past when it is not.
    #[must_use]
    pub fn rests_until(&self) -> Timestamp {
        self.rest().until
    }

    /// A read failed: answers until when the portal is left alone. Whoever asks from now on sees it; a wait that the LMS asked for, or that
    /// its refusals cause, is kept for the next life of the daemon, too.
    ///
    /// # Errors
    /// The store failed; this life keeps to the rest all the same.
    pub async fn failed(
        &self,
        store: &Store,
        error: &LmsError,
        now: Timestamp,
        random: u64,
    ) -> Result<Timestamp, StoreError> {
        let (until, cause) = {
            let mut rest = self.rest();
            let (until, cause) = match error {
                LmsError::Throttled(after) => (throttled_until(after, now), Some(THROTTLED)),
                LmsError::Unauthorized(_) => (now.plus_ms(REFUSED_MS), Some("unauthorized")),
                LmsError::LoginNeeded(_) => (now.plus_ms(REFUSED_MS), Some("login_needed")),
                LmsError::LoginLimit(_) => (now.plus_ms(REFUSED_MS), Some("login_limit")),
                LmsError::Unavailable(_) => (now.plus_ms(1_000 + backoff_ms(rest.failures, random)), None),
                // These are about one learner, not about the portal.
                LmsError::Forbidden(_) | LmsError::Misunderstood(_) | LmsError::PartialRead(_) => (rest.until, None),
            };
            if until > rest.until {
                rest.until = until;
                rest.failures += 1;
            }
            (rest.until, cause)
        };
        if let Some(cause) = cause {
            store.rest_portal(&self.name, cause, until).await?;
        }
        Ok(until)
    }

    /// A read succeeded. A rest that another read began meanwhile stands.
    pub fn succeeded(&self) {
        self.rest().failures = 0;
    }
}
