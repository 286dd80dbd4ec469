//! Refresh: a dirty learner, or a list, is read from the LMS, and what was read becomes records and obligations.

use std::sync::Arc;

use async_trait::async_trait;
use learnsync_sdk::Learner;
use tracing::{debug, info, warn};

use super::plan::Plan;
use super::portal::Portal;
use super::retry::backoff_ms;
use super::worker::{Bell, Turn, Work};
use crate::domain::chance::Entropy;
use crate::domain::lane::Lane;
use crate::domain::record::ReadRecords;
use crate::domain::standing;
use crate::domain::subject::SubjectKind;
use crate::domain::time::{Clock, Timestamp};
use crate::fail_point;
use crate::lms::{Lms, LmsError, Profile};
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
        if claimed.kind != SubjectKind::Learner {
            let records = lms.list(claimed.kind).await?;
            let learner = Learner { id: claimed.lms_id.clone(), is_active: true, ..Learner::default() };
            return Ok(Some(Read { started_at, learner: Some(learner), records, changes_at: None }));
        }
        if claimed.lane == "backfill"
            && let Some(read) = self.read_staged(portal, lms, claimed).await?
        {
            return Ok(Some(read));
        }
        let profile = lms.learner(&claimed.lms_id).await?;
        fail_point::reach(fail_point::MID_PAGE);
        if portal.rests_until() > self.clock.now() {
            return Ok(None);
        }
        let Some(Profile { learner, person }) = profile else {
            return Ok(Some(Read { started_at, learner: None, records: ReadRecords::default(), changes_at: None }));
        };
        let records = lms.records(&claimed.lms_id).await?;
        Ok(Some(self.found(portal, started_at, Profile { learner, person }, records)))
    }

    /// What the backfill staged of a learner, with what no list has; none if nothing is staged: they were read meanwhile.
    async fn read_staged(
        &self,
        portal: &Portal,
        lms: &dyn Lms,
        claimed: &ClaimedSubject,
    ) -> Result<Option<Read>, LmsError> {
        let (Some(bulk), Some(backfill)) = (lms.bulk(), portal.backfill()) else { return Ok(None) };
        let staged = self.store.staged_of(backfill.id, &claimed.lms_id).await;
        let staged =
            staged.map_err(|error| LmsError::Unavailable(format!("what was staged cannot be read: {error}")))?;
        let found = bulk.rest_of(&claimed.lms_id, &staged, &backfill.kinds).await?;
        Ok(found.map(|(profile, records)| self.found(portal, backfill.started_at, profile, records)))
    }

    /// A read of a learner: with who they are as a record, if somebody wants that, and how their certificates stand today.
    fn found(&self, portal: &Portal, started_at: Timestamp, profile: Profile, mut records: ReadRecords) -> Read {
        let Profile { learner, person } = profile;
        if let Some(person) = person {
            records.complete.insert(person.kind);
            records.records.push(person);
        }
        let zone = portal.calendar.zone;
        let today = self.clock.now().date_in(zone);
        let changes_on = standing::settle(&mut records.records, today, &portal.calendar);
        let changes_at = changes_on.map(|day| Timestamp::midnight(day, zone));
        Read { started_at, learner: Some(learner), records, changes_at }
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
