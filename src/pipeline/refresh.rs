//! Refresh: a dirty learner is read from the LMS, and what was read becomes records and obligations.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::{debug, info, warn};

use super::plan::Plan;
use super::portal::Portal;
use super::retry::backoff_ms;
use super::worker::{Bell, Turn, Work};
use crate::domain::chance::Entropy;
use crate::domain::lane::Lane;
use crate::domain::record::ReadRecords;
use crate::domain::time::{Clock, Timestamp};
use crate::fail_point;
use crate::lms::LmsError;
use crate::store::{ClaimedSubject, NextSubject, Read, Store, StoreError};
use crate::telemetry::Metrics;

/// The step for one portal; several of them may run at once. Each portal has its own, so that one that is slow holds up no other.
pub struct Refresh {
    /// The ledger.
    pub store: Arc<Store>,
    /// The portal.
    pub portal: Arc<Portal>,
    /// The routes.
    pub plan: Arc<Plan>,
    /// Tells the time: a read's start is its version.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Rung when there is more to read.
    pub more: Arc<Bell>,
    /// Rung when obligations changed.
    pub deliver: Vec<Arc<Bell>>,
    /// Counts reads by how they ended.
    pub metrics: Arc<Metrics>,
}

#[async_trait]
impl Work for Refresh {
    fn name(&self) -> String {
        format!("refresh of {}", self.portal.name)
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        let portal = &*self.portal;
        let rests_until = portal.rests_until();
        if rests_until > self.clock.now() {
            // Nothing is claimed meanwhile: a hundred thousand marks that are put off one by one would each cost a commit.
            return Ok(Turn::Rest(Some(self.soon_after(rests_until))));
        }
        let claimed = match self.store.next_subject(&portal.name).await? {
            NextSubject::Dirty(claimed) => claimed,
            NextSubject::Rest(until) => return Ok(Turn::Rest(until)),
        };
        // Whoever found work wakes the next: there may be more than one worker can do.
        self.more.ring();
        match self.read(portal, &claimed).await {
            Ok(None) => {
                let due_at = self.soon_after(portal.rests_until());
                self.store.postpone_refresh(claimed, due_at).await?;
            }
            Ok(Some(read)) => {
                portal.succeeded();
                self.metrics.refresh_ended(if read.learner.is_some() { "read" } else { "unknown_user" });
                self.keep(claimed, read).await?;
            }
            Err(error) => {
                self.metrics.refresh_ended(word(&error));
                let now = self.clock.now();
                let random = self.entropy.below(u64::MAX);
                let own = now.plus_ms(1_000 + backoff_ms(claimed.tries, random));
                let rests_until = portal.failed(&self.store, &error, now, random).await?;
                let due_at = self.soon_after(rests_until).max(own);
                warn!(subject = %claimed.subject, error = %error, "Could not read a learner; reading again at {due_at}");
                self.store.postpone_refresh(claimed, due_at).await?;
            }
        }
        Ok(Turn::Worked)
    }
}

impl Refresh {
    /// Reads the profile and the records. Nothing is published unless all of it was read; none when the portal's rest began meanwhile.
    async fn read(&self, portal: &Portal, claimed: &ClaimedSubject) -> Result<Option<Read>, LmsError> {
        let started_at = self.clock.now();
        let lms = portal.lms(Lane::of(&claimed.lane));
        let learner = lms.learner(&claimed.lms_id).await?;
        fail_point::reach(fail_point::MID_PAGE);
        if portal.rests_until() > self.clock.now() {
            return Ok(None);
        }
        let records = match learner {
            Some(_) => lms.records(&claimed.lms_id).await?,
            None => ReadRecords::default(),
        };
        Ok(Some(Read { started_at, learner, records }))
    }

    async fn keep(&self, claimed: ClaimedSubject, read: Read) -> Result<(), StoreError> {
        let subject = claimed.subject;
        let is_known = read.learner.is_some();
        let plan = Arc::clone(&self.plan);
        let counts = self.store.complete_refresh(claimed, read, move |facts| plan.changes(facts)).await?;
        if !is_known {
            info!(%subject, "The LMS does not know a learner that an event named; not asking again for 10 min");
        }
        if counts.expired > 0 {
            info!(%subject, expired = counts.expired, "The LMS does not show what an event promised; left to the night");
        }
        debug!(%subject, new = counts.new, changed = counts.changed, wanted = counts.wanted, "Read a learner");
        if counts.wanted > 0 || counts.waiting > 0 {
            self.deliver.iter().for_each(|bell| bell.ring());
        }
        Ok(())
    }

    /// Spreads what waits for one moment over the second after it.
    fn soon_after(&self, at: Timestamp) -> Timestamp {
        at.plus_ms(i64::try_from(self.entropy.below(1_000)).unwrap_or(0))
    }
}

/// How a failed read is counted.
fn word(error: &LmsError) -> &'static str {
    match error {
        LmsError::Unavailable(_) => "unavailable",
        LmsError::Throttled(_) => "throttled",
        LmsError::Unauthorized(_) => "unauthorized",
        LmsError::LoginNeeded(_) => "login_needed",
        LmsError::LoginLimit(_) => "login_limit",
        LmsError::Forbidden(_) => "forbidden",
        LmsError::Misunderstood(_) => "misunderstood",
        LmsError::PartialRead(_) => "partial_read",
    }
}
