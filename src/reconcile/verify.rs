//! Verify: what a destination really holds is read back, compared with what it should, and put right as the policies say.
//!
//! It writes nothing: it finds, its guard judges, and then it makes deliveries due. Killed anywhere, it goes on where it was. What the target lists
//! is staged in the store and merged with the deliveries page by page, so memory does not grow with the number of rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use learnsync_sdk::{Claim, DeliveryError, ErrorKind, Observation, Place, RouteMode};
use tracing::{info, warn};

use super::drift::{Sight, count, is_to_be_seen, judge};
use super::guard;
use super::schedule::Schedule;
use crate::config::GuardConfig;
use crate::domain::chance::Entropy;
use crate::domain::drift::{Policies, learn_forms};
use crate::domain::ids::{DeliveryId, RouteId};
use crate::domain::time::{Clock, Timestamp};
use crate::pipeline::destination::{Destination, PauseEnd};
use crate::pipeline::gatekeeper::Gatekeeper;
use crate::pipeline::retry::backoff_ms;
use crate::pipeline::worker::{Bell, Turn, Work};
use crate::store::{Placed, ROWS_AT_ONCE, SeenRow, Store, StoreError, Verify as Run, VerifyPhase, VerifyProgress};

/// How long the sweep of the same night is waited for, at most, in milliseconds.
const SWEEP_MS: i64 = 6 * 3_600_000;

/// How often it is looked whether the sweep, or what is written again, is done, in milliseconds.
const LOOK_MS: i64 = 2_000;

/// How long what is written again is waited for before it is read back, at most, in milliseconds.
const CONFIRM_MS: i64 = 10 * 60_000;

/// The step for one destination.
pub struct Verify {
    /// Which.
    pub destination: Arc<Destination>,
    /// Whether it is open.
    pub gatekeeper: Arc<Gatekeeper>,
    /// The ledger.
    pub store: Arc<Store>,
    /// When it is due.
    pub schedule: Schedule,
    /// What it must not do by itself.
    pub guard: GuardConfig,
    /// Set by `learnsync reconcile`: one is due now.
    pub asked: Arc<AtomicBool>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Rung when something is to be written again.
    pub deliver: Arc<Bell>,
    /// Reads in a row that failed.
    pub failures: AtomicU32,
}

/// Why a step of the run could not be made.
enum Trouble {
    Store(StoreError),
    Target(DeliveryError),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[async_trait]
impl Work for Verify {
    fn name(&self) -> String {
        format!("verify of {}", self.destination.name)
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        let run = match self.next_run().await? {
            Ok(run) => run,
            Err(turn) => return Ok(turn),
        };
        if let Some((cause, until)) = self.store.pause_of(self.destination.id).await? {
            return self.gatekeeper.end_pause(&cause, until).await;
        }
        if self.destination.gate.is_closed(self.clock.now()) {
            return Ok(Turn::Rest(Some(self.clock.now().plus_ms(LOOK_MS))));
        }
        if !self.destination.gate.is_recognised() {
            return self.gatekeeper.recognise().await;
        }
        match self.step(run).await {
            Ok(turn) => {
                self.failures.store(0, Ordering::SeqCst);
                Ok(turn)
            }
            Err(Trouble::Store(error)) => Err(error),
            Err(Trouble::Target(error)) => self.wait_after(&error).await,
        }
    }
}

impl Verify {
    /// The run that goes on, or a new one; or until when there is none.
    async fn next_run(&self) -> Result<Result<Run, Turn>, StoreError> {
        let now = self.clock.now();
        let under_way = self.store.verify_under_way(self.destination.id).await?;
        if let Some(run) = under_way.filter(|run| run.held.is_none()) {
            return Ok(Ok(run));
        }
        let last = self.store.last_verify_at(self.destination.id).await?;
        if self.asked.load(Ordering::SeqCst) || self.schedule.due(last, now) {
            // First what the LMS says, then whether the target holds it. But a portal that is down holds up nobody for ever.
            let due_at = last.and_then(|last| self.schedule.next_after(last));
            let is_patient = due_at.is_none_or(|due_at| now.0 - due_at.0 < SWEEP_MS);
            if is_patient && self.store.is_sweeping().await? {
                return Ok(Err(Turn::Rest(Some(now.plus_ms(LOOK_MS)))));
            }
            self.asked.store(false, Ordering::SeqCst);
            let run = self.store.begin_verify(self.destination.id).await?;
            info!(destination = self.destination.name, run = %run.id, "Verify of {} began", self.destination.name);
            return Ok(Ok(run));
        }
        Ok(Err(Turn::Rest(self.schedule.next_after(now))))
    }

    async fn step(&self, run: Run) -> Result<Turn, Trouble> {
        match run.progress.phase {
            VerifyPhase::Listing => self.list(run).await,
            VerifyPhase::Comparing => self.compare(run).await,
            VerifyPhase::Strays => self.find_strays(run).await,
            VerifyPhase::Judging => self.judge(run).await,
            VerifyPhase::Acting => self.act(run).await,
            VerifyPhase::Confirming => self.confirm(run).await,
        }
    }

    /// The objects of routes that converge; what was told cannot be changed, so nobody looks at it.
    fn objects(&self) -> BTreeMap<RouteId, String> {
        let routes = self.destination.routes.iter().filter(|(_, route)| route.mode == RouteMode::State);
        routes.map(|(id, route)| (*id, route.object.clone())).collect()
    }

    async fn list(&self, run: Run) -> Result<Turn, Trouble> {
        let mut progress = run.progress.clone();
        let objects: BTreeSet<String> = self.objects().into_values().collect();
        let under_way = progress.object.clone().filter(|_| progress.page.is_some());
        let next = under_way.or_else(|| {
            let after = progress.object.clone();
            objects.into_iter().find(|object| after.as_ref().is_none_or(|after| object > after))
        });
        let object = match next.filter(|_| self.destination.description.claims(Claim::List)) {
            Some(object) => object,
            None => {
                progress.phase = VerifyPhase::Comparing;
                self.store.advance_verify(run.id, progress).await?;
                return Ok(Turn::Worked);
            }
        };
        let listed = self.destination.connector.list(&object, progress.page.as_deref()).await;
        let page = listed.map_err(Trouble::Target)?;
        progress.counts.is_listed = true;
        progress.counts.listed += page.rows.len() as u64;
        progress.object = Some(object.clone());
        progress.page = page.next;
        self.store.keep_listed(run.id, &object, &self.destination.mark(""), page.rows, progress).await?;
        Ok(Turn::Worked)
    }

    async fn compare(&self, run: Run) -> Result<Turn, Trouble> {
        let mut progress = run.progress.clone();
        let objects = self.objects();
        let begun_at = self.clock.now();
        let places = self.store.places(self.destination.id, &run, &objects).await?;
        let listed_from = match progress.counts.is_listed {
            true => progress.listed_from.unwrap_or(run.started_at),
            false => begun_at,
        };
        let (mut findings, mut holdings) = (Vec::new(), Vec::new());
        let unrouted = Policies::default();
        let mut sights = self.look_at(&places, &objects, progress.counts.is_listed, listed_from).await?;
        for place in &places {
            // Of a route that is configured no longer nobody knows where to look.
            let route = self.destination.routes.get(&place.route);
            let (object, policies) = route.map_or(("", &unrouted), |route| (route.object.as_str(), &route.drift));
            let sight = sights.remove(&place.delivery);
            progress.counts.looked += u64::from(sight.is_some());
            let judged = judge(place, object, sight, policies, begun_at);
            count(&mut progress.counts, &judged);
            findings.extend(judged.finding);
            holdings.extend(judged.holding.map(|holding| (place.delivery, holding)));
            progress.after = place.delivery.0;
        }
        if places.len() < ROWS_AT_ONCE {
            progress.phase = if progress.counts.is_listed { VerifyPhase::Strays } else { VerifyPhase::Judging };
            (progress.after, progress.object, progress.after_row) = (0, None, String::new());
        }
        self.store.keep_findings(run.id, findings, holdings, progress).await?;
        Ok(Turn::Worked)
    }

    /// What stands at those places that must be looked at.
    async fn look_at(
        &self,
        places: &[Placed],
        objects: &BTreeMap<RouteId, String>,
        is_listed: bool,
        listed_from: Timestamp,
    ) -> Result<BTreeMap<DeliveryId, Sight>, Trouble> {
        let to_be_seen = |place: &&Placed| is_to_be_seen(place, listed_from) && objects.contains_key(&place.route);
        let places = places.iter().filter(to_be_seen);
        if is_listed {
            let sight = |place: &Placed| match place.seen.is_empty() {
                true => Sight::Nothing(place.unmarked.clone()),
                false => Sight::Rows(place.seen.clone()),
            };
            return Ok(places.map(|place| (place.delivery, sight(place))).collect());
        }
        let places: Vec<&Placed> = places.collect();
        let asked: Vec<Place> = places
            .iter()
            .filter_map(|place| {
                Some(Place {
                    object: objects.get(&place.route)?.clone(),
                    person: place.held_person.clone().unwrap_or_default(),
                    mark: self.destination.mark(&place.slot),
                    row: place.held_row.clone(),
                })
            })
            .collect();
        let observed = self.observe(&asked).await?;
        Ok(places.iter().map(|place| place.delivery).zip(observed).collect())
    }

    /// Reads places back. A place that cannot be told is one thing, a target that cannot be asked another: that ends the step.
    async fn observe(&self, places: &[Place]) -> Result<Vec<Sight>, Trouble> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let mut answers = self.destination.connector.observe(places).await.into_iter();
        let mut sights = Vec::with_capacity(places.len());
        for place in places {
            let seen = |row, fields| SeenRow { row, person: Some(place.person.clone()), fields };
            let missing = || DeliveryError::new(ErrorKind::Rejected, "the connector gave no answer for this place");
            sights.push(match answers.next().unwrap_or_else(|| Err(missing())) {
                Ok(Observation::Holds { row, fields }) => Sight::Rows(vec![seen(row, Ok(fields))]),
                Ok(Observation::Absent) => Sight::Nothing(None),
                Ok(Observation::Several { rows }) => {
                    Sight::Rows(rows.into_iter().map(|row| seen(row, Err("one of several".to_owned()))).collect())
                }
                Err(error) => match error.kind {
                    ErrorKind::Rejected | ErrorKind::Superseded => Sight::Unreadable(error.message),
                    // Whoever held it is gone, and their rows with them.
                    ErrorKind::Unmatched => Sight::Nothing(None),
                    ErrorKind::Throttled(_)
                    | ErrorKind::Unavailable
                    | ErrorKind::Ambiguous
                    | ErrorKind::Unauthorized => return Err(Trouble::Target(error)),
                },
            });
        }
        Ok(sights)
    }

    async fn find_strays(&self, run: Run) -> Result<Turn, Trouble> {
        let mut progress = run.progress.clone();
        let objects: BTreeSet<String> = self.objects().into_values().collect();
        let object = progress.object.clone().or_else(|| objects.first().cloned());
        let Some(object) = object else {
            progress.phase = VerifyPhase::Judging;
            self.store.advance_verify(run.id, progress).await?;
            return Ok(Turn::Worked);
        };
        let (findings, last) = self.store.strays(self.destination.id, run.id, &object, &progress.after_row).await?;
        for finding in &findings {
            *progress.counts.classes.entry(finding.class).or_default() += 1;
        }
        match last {
            Some(last) => (progress.object, progress.after_row) = (Some(object), last),
            None => match objects.into_iter().find(|next| *next > object) {
                Some(next) => (progress.object, progress.after_row) = (Some(next), String::new()),
                None => progress.phase = VerifyPhase::Judging,
            },
        }
        self.store.keep_findings(run.id, findings, Vec::new(), progress).await?;
        Ok(Turn::Worked)
    }

    async fn judge(&self, run: Run) -> Result<Turn, Trouble> {
        let name = &self.destination.name;
        if self.destination.is_shadow {
            return self.finish(&run).await;
        }
        if let Err(because) = guard::judge(&run.progress.counts, &self.guard)
            && !run.progress.is_approved
        {
            warn!(
                destination = name,
                run = %run.id,
                "The verify of {name} is held: {because}; `learnsync runs show {}` says what it found, `learnsync approve {}` lets it go on",
                run.id,
                run.id
            );
            self.store.hold_verify(run.id, &because).await?;
            return Ok(Turn::Worked);
        }
        let progress = VerifyProgress { phase: VerifyPhase::Acting, after: 0, ..run.progress };
        self.store.advance_verify(run.id, progress).await?;
        Ok(Turn::Worked)
    }

    async fn act(&self, run: Run) -> Result<Turn, Trouble> {
        let (due, more) = self.store.act_on_findings(run.id, run.progress.clone()).await?;
        if due > 0 {
            self.deliver.ring();
        }
        if !more {
            let acted_at = Some(self.clock.now());
            let progress = VerifyProgress { phase: VerifyPhase::Confirming, after: 0, acted_at, ..run.progress };
            self.store.advance_verify(run.id, progress).await?;
        }
        Ok(Turn::Worked)
    }

    /// What was written again is read back once, soon after: what it shows then is the target's own form of it.
    async fn confirm(&self, run: Run) -> Result<Turn, Trouble> {
        let now = self.clock.now();
        let waits_until = run.progress.acted_at.unwrap_or(now).plus_ms(CONFIRM_MS);
        if now < waits_until && self.store.is_acting(run.id).await? {
            return Ok(Turn::Rest(Some(now.plus_ms(LOOK_MS))));
        }
        if !self.destination.description.claims(Claim::ReadBack) {
            return self.finish(&run).await;
        }
        let rewritten = self.store.rewritten(run.id, run.progress.after).await?;
        let places: Vec<Place> = rewritten
            .iter()
            .map(|place| Place {
                object: place.object.clone(),
                person: place.person.clone(),
                mark: self.destination.mark(&place.slot),
                row: Some(place.row.clone()),
            })
            .collect();
        let sights = self.observe(&places).await?;
        let Some(last) = rewritten.last().map(|place| place.delivery.0) else { return self.finish(&run).await };
        let holdings = rewritten.into_iter().zip(sights).filter_map(|(place, sight)| match sight {
            Sight::Rows(rows) => match rows.as_slice() {
                [SeenRow { fields: Ok(fields), .. }] => Some((place.delivery, learn_forms(&place.holding, fields))),
                _ => None,
            },
            Sight::Nothing(_) | Sight::Unreadable(_) => None,
        });
        let progress = VerifyProgress { after: last, ..run.progress };
        self.store.keep_findings(run.id, Vec::new(), holdings.collect(), progress).await?;
        Ok(Turn::Worked)
    }

    async fn finish(&self, run: &Run) -> Result<Turn, Trouble> {
        let name = &self.destination.name;
        let counts = &run.progress.counts;
        let adds_up = counts.add_up();
        let cause = (!adds_up).then(|| {
            format!("{} of {} deliveries were counted: the report does not add up", counts.counted(), counts.deliveries)
        });
        if let Some(cause) = &cause {
            warn!(destination = name, run = %run.id, "Verify of {name}: {cause}");
        }
        self.store.finish_verify(run.id, adds_up, cause).await?;
        info!(
            destination = name,
            run = %run.id,
            in_sync = counts.in_sync,
            written = counts.to_write,
            differing = counts.differing,
            "Verify of {name} is done: {} in sync, {} written again, {} differ, {} wait, {} are parked, of {}",
            counts.in_sync,
            counts.to_write,
            counts.differing + counts.acknowledged,
            counts.waiting,
            counts.parked,
            counts.deliveries
        );
        Ok(Turn::Worked)
    }

    /// The target could not be asked: it rests, or we do, and the run goes on where it was.
    async fn wait_after(&self, error: &DeliveryError) -> Result<Turn, StoreError> {
        let now = self.clock.now();
        if let Some((cause, until)) = self.gatekeeper.pause_after(&error.kind) {
            self.gatekeeper.pause(cause, PauseEnd::At(until)).await?;
            return Ok(Turn::Rest(Some(until)));
        }
        let failures = self.failures.fetch_add(1, Ordering::SeqCst);
        let until = now.plus_ms(LOOK_MS + backoff_ms(failures, self.entropy.below(u64::MAX)));
        let name = &self.destination.name;
        warn!(destination = name, error = %error.message, "The verify of {name} waits until {until}");
        Ok(Turn::Rest(Some(until)))
    }
}

#[cfg(test)]
mod tests;
