//! Deliver: the only place that writes to a target. One turn serves one person's due rows (or a batch of people's, where the target
//! takes batches): link, render, look where the outcome of an earlier write is unknown, commit `sending`, write, commit what came of it.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use learnsync_sdk::{
    Action, AfterUnknown, BlindRepeat, Change, Claim, DeliveryError, ErrorKind, Fields, Observation, PersonMatch,
    Place, Receipt, RouteMode,
};
use tracing::{debug, info};

use super::breaker::PROBE_MS;
use super::destination::{Destination, PauseEnd, Route};
use super::gatekeeper::Gatekeeper;
use super::pace::Slot;
use super::preview::with_blanks;
use super::retry::{Circumstances, Decision, During, decide};
use super::telling::When;
use super::worker::{Bell, Turn, Work};
use crate::domain::chance::Entropy;
use crate::domain::delivery::{Attempt, AttemptAction, Cause, DueDelivery, Held, LaneWork, LinkFound, Next, Outcome};
use crate::domain::digest::{digest_of, hex};
use crate::domain::ids::{DeliveryId, PersonId};
use crate::domain::time::{Clock, Timestamp};
use crate::fail_point;
use crate::mapping::{ReferenceTable, Rendered};
use crate::store::{ClaimedLane, NextLane, Store, StoreError};
use crate::telemetry::Metrics;

/// The longest that one batch may take in the target; then its outcome counts as unknown.
const BATCH_TIME_MAX: Duration = Duration::from_secs(120);

/// The step for one destination; several of them may run at once.
pub struct Deliver {
    /// The ledger.
    pub store: Arc<Store>,
    /// Where to.
    pub destination: Arc<Destination>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Rung when there is more to deliver.
    pub more: Arc<Bell>,
    /// Counts attempts by their outcome.
    pub metrics: Arc<Metrics>,
    /// Closes and opens the destination.
    pub gatekeeper: Arc<Gatekeeper>,
}

/// A delivery that is ready to be written.
struct Ready {
    due: DueDelivery,
    person: PersonId,
    change: Change,
    step: Step,
    fields_digest: Vec<u8>,
}

/// What a write is for.
enum Step {
    /// The place then holds what is wanted.
    Settles(Held),
    /// The row leaves the person who held it; what is wanted is written to the other one next.
    Moves,
}

#[async_trait]
impl Work for Deliver {
    fn name(&self) -> String {
        format!("deliver to {}", self.destination.name)
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        self.look_up_unkept().await?;
        let slot = match self.destination.pace.reserve(self.clock.now()) {
            Ok(slot) => slot,
            Err(until) => return Ok(Turn::Rest(Some(until))),
        };
        let mut lanes = Vec::new();
        while lanes.len() < self.destination.description.persons_per_batch_max {
            match self.store.next_lane(self.destination.id).await? {
                NextLane::Due(lane) => lanes.push(*lane),
                NextLane::Rest(until) if lanes.is_empty() => return Ok(Turn::Rest(until)),
                NextLane::Retired if lanes.is_empty() => return Ok(Turn::Rest(None)),
                NextLane::Paused { cause, until } if lanes.is_empty() => {
                    return self.gatekeeper.end_pause(&cause, until).await;
                }
                NextLane::Rest(_) | NextLane::Retired | NextLane::Paused { .. } => break,
            }
        }
        if !self.destination.gate.is_recognised() {
            drop(lanes);
            return self.gatekeeper.recognise().await;
        }
        self.more.ring();
        self.serve(lanes, &slot).await?;
        Ok(Turn::Worked)
    }
}

impl Deliver {
    fn is_closed(&self) -> bool {
        self.destination.gate.is_closed(self.clock.now())
    }

    async fn serve(&self, mut lanes: Vec<ClaimedLane>, slot: &Slot<'_>) -> Result<(), StoreError> {
        self.set_aside(&mut lanes).await?;
        lanes.retain(|lane| !lane.work.due.is_empty());
        if lanes.is_empty() {
            return Ok(());
        }
        let references = match self.destination.reference_table(&*self.clock).await {
            Ok(Some(references)) => references,
            Ok(None) => return Ok(()),
            Err(error) => {
                for lane in lanes.iter().map(|lane| &lane.work) {
                    let due: Vec<_> = lane.due.iter().collect();
                    self.postpone(lane.person, &due, AttemptAction::Link, &error, self.clock.now()).await?;
                }
                return Ok(());
            }
        };
        let mut ready = Vec::new();
        for lane in lanes.iter().map(|lane| &lane.work) {
            // A pause that another worker's call began: what was claimed is still in the queue, and waits for its end.
            if self.is_closed() {
                return Ok(());
            }
            // What an attempt of unknown outcome left stands under the person whom it was for, whoever the learner is by now.
            let (sent, rest): (Vec<_>, Vec<_>) =
                lane.due.iter().partition(|due| self.is_blocked(due) && due.sending_person.is_some());
            self.resolve(lane, sent, None).await?;
            if rest.is_empty() || self.is_closed() {
                continue;
            }
            let Some(remote_person) = self.link(lane, &rest).await? else { continue };
            let (doubtful, clear): (Vec<_>, Vec<_>) = rest.into_iter().partition(|due| self.is_blocked(due));
            if self.is_closed() {
                continue;
            }
            self.resolve(lane, doubtful, Some(&remote_person)).await?;
            ready.extend(self.render(lane, clear, &remote_person, &references).await?);
        }
        if ready.is_empty() || self.is_closed() {
            return Ok(());
        }
        self.write(ready, slot).await
    }

    /// Takes out what is not told now: it waits for the end of the quiet hours, or is too old.
    async fn set_aside(&self, lanes: &mut [ClaimedLane]) -> Result<(), StoreError> {
        let mut outcomes = Vec::new();
        for lane in lanes {
            // What may have been taken and is not tried again is decided at any hour.
            lane.work.due.retain(|due| match self.untold(due).filter(|_| !self.is_blocked(due)) {
                None => true,
                Some(next) => {
                    outcomes.push(Outcome::of(due, None, next));
                    false
                }
            });
        }
        if outcomes.is_empty() { Ok(()) } else { self.commit(outcomes).await }
    }

    /// What becomes of a delivery that is not told now; none when it may be.
    fn untold(&self, due: &DueDelivery) -> Option<Next> {
        let telling = &self.destination.telling;
        let is_told = self.destination.routes.get(&due.route).is_some_and(|route| route.mode == RouteMode::Append);
        if !is_told || fail_point::is_broken_on_purpose("quiet") {
            return None;
        }
        match telling.when(due.record.achieved, due.wanted_at, self.clock.now()) {
            When::Now => None,
            When::At(due_at) => {
                let detail = format!("it is quiet at {} until {due_at}", self.destination.name);
                Some(Next::Waits { due_at, cause: Cause::QuietHours, detail })
            }
            When::Never if due.is_uncertain => {
                let detail = format!("no answer came, and after {} it is not told again", telling.late_after());
                Some(Next::Skipped { cause: Cause::MaybeLost, detail })
            }
            When::Never => {
                let detail = format!("it waited until it was older than {}", telling.late_after());
                Some(Next::Skipped { cause: Cause::WaitedTooLong, detail })
            }
        }
    }

    /// Whether the outcome of an earlier write must be known before anything is written. A keyed target knows our mark again, and a
    /// blind one may have said that it would rather repeat.
    fn is_blocked(&self, due: &DueDelivery) -> bool {
        match self.destination.description.after_unknown() {
            _ if !due.is_uncertain || fail_point::is_broken_on_purpose("lookup") => false,
            AfterUnknown::Look | AfterUnknown::Blind(BlindRepeat::MayLose) => true,
            AfterUnknown::Repeat | AfterUnknown::Blind(BlindRepeat::MayRepeat) => false,
        }
    }

    /// Finds out what an earlier write of unknown outcome left, or gives up where nobody can know. What follows is another turn's.
    async fn resolve(
        &self,
        work: &LaneWork,
        due: Vec<&DueDelivery>,
        remote_person: Option<&str>,
    ) -> Result<(), StoreError> {
        if due.is_empty() {
            return Ok(());
        }
        if self.destination.description.claims(Claim::ReadBack) {
            let (settling, settled): (Vec<_>, Vec<_>) =
                due.into_iter().partition(|due| self.destination.settling.rest_of(due.id).is_some());
            if !settling.is_empty() {
                self.commit(settling.into_iter().map(|due| self.still_settling(due)).collect()).await?;
            }
            return if settled.is_empty() { Ok(()) } else { self.look(work, settled, remote_person).await };
        }
        let outcomes = due.into_iter().map(|due| {
            Outcome::of(
                due,
                None,
                Next::Skipped {
                    cause: Cause::MaybeLost,
                    detail: format!("no answer came, and {} cannot be asked whether it took it", self.destination.name),
                },
            )
        });
        self.commit(outcomes.collect()).await
    }

    /// Due by the wall clock, which was set forward: the target may still be committing, and a look would find nothing.
    fn still_settling(&self, due: &DueDelivery) -> Outcome {
        let rest = self.destination.settling.rest_of(due.id).unwrap_or_default();
        let next = Next::Uncertain { due_at: self.clock.now().plus(rest), counts: false };
        Outcome::of(due, None, next)
    }

    /// The person's id in the target; none when there is nobody to write to, which is committed by then.
    async fn link(&self, work: &LaneWork, due: &[&DueDelivery]) -> Result<Option<String>, StoreError> {
        if !self.destination.description.claims(Claim::People) {
            return Ok(Some(work.learner.id.clone()));
        }
        if let Some(link) = &work.link {
            return Ok(Some(link.remote_person.clone()));
        }
        let started_at = self.clock.now();
        let looked_up = self.destination.connector.find_person(&work.learner, &self.destination.match_rules).await;
        let found = match looked_up {
            Ok(found) => found,
            Err(error) => {
                self.postpone(work.person, due, AttemptAction::Link, &error, started_at).await?;
                return Ok(None);
            }
        };
        let found = guess_if_broken(found);
        self.destination.with_breaker(|breaker| breaker.succeeded(self.clock.now()));
        let link = LinkFound { person: work.person, found: found.clone() };
        if let Some(pinned) = self.store.commit_link(self.destination.id, link).await? {
            return Ok(Some(pinned));
        }
        let (cause, detail) = match found {
            PersonMatch::Found { person, .. } => return Ok(Some(person)),
            PersonMatch::NotFound => {
                let rules: Vec<String> = self.destination.match_rules.iter().map(ToString::to_string).collect();
                (Cause::Unmatched, format!("{} knows nobody by {}", self.destination.name, rules.join(", ")))
            }
            PersonMatch::Ambiguous { rule, candidates } => (
                Cause::AmbiguousPerson,
                format!("{} knows several by {rule}: {}", self.destination.name, candidates.join(", ")),
            ),
        };
        info!(destination = self.destination.name, person = %work.person, cause = cause.word(), "Parked a person's deliveries");
        let outcomes = due
            .iter()
            .map(|due| {
                Outcome::of(
                    due,
                    Some(Attempt {
                        action: AttemptAction::Link,
                        started_at,
                        finished_at: self.clock.now(),
                        outcome: "unmatched",
                        status: None,
                        remote_row: None,
                        words: detail.clone(),
                        fields_digest: None,
                    }),
                    Next::Parked { cause: cause.clone(), detail: detail.clone(), is_unknown: false },
                )
            })
            .collect();
        self.commit(outcomes).await?;
        Ok(None)
    }

    /// Turns records into fields; what cannot be rendered is parked under its cause.
    async fn render(
        &self,
        work: &LaneWork,
        due: Vec<&DueDelivery>,
        remote_person: &str,
        references: &Arc<ReferenceTable>,
    ) -> Result<Vec<Ready>, StoreError> {
        let mut ready = Vec::with_capacity(due.len());
        let mut ended = Vec::new();
        let mut references = Arc::clone(references);
        for due in due {
            let Some(route) = self.destination.routes.get(&due.route) else {
                ended.push(without_route(due));
                continue;
            };
            if due.is_wanted && !due.is_present && due.held_row.is_none() {
                ended.push(park(due, Cause::Vanished, "the LMS no longer shows the fact, and it was never written"));
                continue;
            }
            let is_made_anew = due.held_row.is_none() && fail_point::is_broken_on_purpose("removal");
            if !due.is_wanted && !is_made_anew {
                // What is to go needs no fields; and where nothing is, as a look may have shown, nothing is made to be removed.
                match self.remove(work, due, route, remote_person) {
                    Some(removal) => ready.push(removal),
                    None => ended.push(as_held(due)),
                }
                continue;
            }
            let mut rendered = route.mapping.render(&due.record, &work.learner, &references);
            if matches!(rendered, Rendered::Unmapped { .. }) {
                // It may have been added to the target since the last list; if the list fails, the older one decides.
                match self.destination.newer_reference_table(&*self.clock).await {
                    Ok(Some(newer)) => {
                        references = newer;
                        rendered = route.mapping.render(&due.record, &work.learner, &references);
                    }
                    Ok(None) => {}
                    // But what it asks of everybody holds.
                    Err(error) => self.pause_if(&self.decide(due, &error, During::Read)).await?,
                }
            }
            match rendered {
                Rendered::Fields(fields) => {
                    let prepared = self.prepare(work, due, route, remote_person, fields);
                    match is_held(&prepared) {
                        true => ended.push(as_held(due)),
                        false => ready.push(prepared),
                    }
                }
                Rendered::Unmapped { kind, course } => {
                    let detail = format!("no {kind} for the course {course}");
                    ended.push(park(due, Cause::Unmapped { kind, course }, &detail));
                }
                Rendered::Missing { field } => {
                    let detail = format!("{} has no value for {field}", due.slot);
                    ended.push(park(due, Cause::MissingField(field), &detail));
                }
                Rendered::Failed { field, message } => {
                    ended.push(park(due, Cause::MappingFailed(field), &message));
                }
            }
        }
        if !ended.is_empty() {
            self.commit(ended).await?;
        }
        Ok(ready)
    }

    /// The removal of the row that a place holds, under whom it stands; none where the place is empty.
    fn remove(&self, work: &LaneWork, due: &DueDelivery, route: &Route, remote_person: &str) -> Option<Ready> {
        let change = Change {
            object: route.object.clone(),
            person: due.held_person.clone().unwrap_or_else(|| remote_person.to_owned()),
            mark: self.destination.mark(&due.slot),
            action: Action::Withdraw { row: due.held_row.clone()? },
        };
        let held = Held { person: remote_person.to_owned(), row: None, mapping: route.mapping_id, fields: None };
        let fields_digest = digest_of(&Fields::new());
        Some(Ready { due: due.clone(), person: work.person, change, step: Step::Settles(held), fields_digest })
    }

    fn prepare(&self, work: &LaneWork, due: &DueDelivery, route: &Route, remote_person: &str, fields: Fields) -> Ready {
        // The row that we know is this person's; under another person it would be somebody else's.
        let row = due.held_row.clone().filter(|_| due.held_person.as_deref() == Some(remote_person));
        let fields = if row.is_some() { with_blanks(route, &due.holding, fields) } else { fields };
        let fields_digest = digest_of(&fields);
        let mark = self.destination.mark(&due.slot);
        let held = Held {
            person: remote_person.to_owned(),
            row: None,
            mapping: route.mapping_id,
            fields: Some(fields.clone()),
        };
        let change = |person: &str, action| Change {
            object: route.object.clone(),
            person: person.to_owned(),
            mark: mark.clone(),
            action,
        };
        let (change, step) = match (&due.held_row, &due.held_person) {
            (Some(row), Some(person))
                if person != remote_person && self.destination.description.claims(Claim::Withdraw) =>
            {
                (change(person, Action::Withdraw { row: row.clone() }), Step::Moves)
            }
            (_, _) => {
                let idempotency_key = format!("{mark}:{}", hex(&due.fingerprint[..8]));
                // What was left to somebody else in the row that we know is not written over; a new row gets everything.
                let written = if row.is_some() { due.holding.without_left(&fields) } else { fields };
                let put = Action::Put { fields: written, row, idempotency_key };
                (change(remote_person, put), Step::Settles(held))
            }
        };
        Ready { due: due.clone(), person: work.person, change, step, fields_digest }
    }

    /// Reads back what places hold: what an earlier write of unknown outcome left, or what somebody before us wrote.
    async fn look(
        &self,
        work: &LaneWork,
        due: Vec<&DueDelivery>,
        remote_person: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut outcomes = Vec::new();
        let mut places = Vec::new();
        let mut looked = Vec::new();
        for due in due {
            let person = due.sending_person.as_deref().or(remote_person);
            match (self.destination.routes.get(&due.route), person) {
                (Some(route), Some(person)) => {
                    places.push(Place {
                        object: route.object.clone(),
                        person: person.to_owned(),
                        mark: self.destination.mark(&due.slot),
                        row: due.held_row.clone().filter(|_| due.held_person.as_deref() == Some(person)),
                    });
                    looked.push(due);
                }
                (None, _) | (_, None) => outcomes.push(without_route(due)),
            }
        }
        let started_at = self.clock.now();
        let mut observed = self.destination.connector.observe(&places).await.into_iter();
        for (due, place) in looked.into_iter().zip(places) {
            let learner = due.sending_person.is_none().then_some(work.person);
            let attempt = |outcome, remote_row, words: String| Attempt {
                action: AttemptAction::Look,
                started_at,
                finished_at: self.clock.now(),
                outcome,
                status: None,
                remote_row,
                words,
                fields_digest: None,
            };
            let (attempt, next) = match observed.next().unwrap_or_else(|| Err(missing_answer())) {
                Ok(Observation::Absent) => {
                    let words = format!("no row carries {}", place.mark);
                    (attempt("absent", None, words), Next::Known { person: place.person, learner, row: None })
                }
                Ok(Observation::Holds { row, .. }) => {
                    let words = format!("row {row} carries {}", place.mark);
                    (
                        attempt("found", Some(row.clone()), words),
                        Next::Known { person: place.person, learner, row: Some(row) },
                    )
                }
                Ok(Observation::Several { rows }) => {
                    let detail = format!("rows {} all carry our mark: remove all but one", rows.join(", "));
                    (attempt("found", None, detail.clone()), Next::Several { person: place.person, detail })
                }
                Err(error) => {
                    let failed = self.failed(due, work.person, &error, During::Look);
                    self.pause_if(&failed).await?;
                    outcomes.push(self.outcome(due, AttemptAction::Look, started_at, &error, failed.next));
                    continue;
                }
            };
            self.destination.with_breaker(|breaker| breaker.succeeded(self.clock.now()));
            outcomes.push(Outcome::of(due, Some(attempt), next));
        }
        self.commit(outcomes).await
    }

    /// Commits that the writes begin, writes, and commits what came of it.
    async fn write(&self, mut ready: Vec<Ready>, slot: &Slot<'_>) -> Result<(), StoreError> {
        let ids = ready.iter().map(|ready| (ready.due.id, ready.change.person.clone())).collect();
        let begun = self.store.begin_sending(self.destination.id, ids).await?;
        ready.retain(|ready| begun.contains(&ready.due.id));
        // From here on `sending` is on disk: whatever fails, somebody must look these up.
        let kept = self.write_begun(&ready, slot).await;
        if kept.is_err() {
            begun.iter().for_each(|id| self.begin_settling(*id));
            self.unkept().extend(begun);
        }
        kept
    }

    fn begin_settling(&self, id: DeliveryId) {
        if !fail_point::is_broken_on_purpose("settle") {
            let settle = Duration::from_secs(self.destination.description.settle_seconds.into());
            self.destination.settling.begin(id, settle);
        }
    }

    fn unkept(&self) -> MutexGuard<'_, Vec<DeliveryId>> {
        self.destination.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was written while the store failed is of unknown outcome, like what an earlier life of the daemon wrote.
    async fn look_up_unkept(&self) -> Result<(), StoreError> {
        let unkept = self.unkept().clone();
        if unkept.is_empty() {
            return Ok(());
        }
        let settle_ms = i64::from(self.destination.description.settle_seconds) * 1_000;
        self.store.interrupt_writes(self.destination.id, unkept.clone(), settle_ms).await?;
        self.unkept().retain(|id| !unkept.contains(id));
        Ok(())
    }

    async fn write_begun(&self, ready: &[Ready], slot: &Slot<'_>) -> Result<(), StoreError> {
        fail_point::reach(fail_point::AFTER_SENDING);
        if ready.is_empty() || self.is_closed() || ready.iter().any(|ready| self.untold(&ready.due).is_some()) {
            // Nothing was sent: the pause or the quiet hours began while `sending` was committed.
            return self.commit(ready.iter().map(|ready| self.unsent(&ready.due)).collect()).await;
        }
        let started_at = self.clock.now();
        slot.begin(started_at);
        let batch: Vec<Change> = ready.iter().map(|ready| ready.change.clone()).collect();
        let answers = tokio::time::timeout(BATCH_TIME_MAX, self.destination.connector.deliver(&batch)).await;
        fail_point::reach(fail_point::AFTER_WRITE);
        let mut answers = match answers {
            Ok(answers) => answers,
            Err(_) => batch.iter().map(|_| Err(too_slow())).collect(),
        }
        .into_iter();
        let mut outcomes = Vec::with_capacity(ready.len());
        for item in ready {
            let answer = answers.next().unwrap_or_else(|| Err(missing_answer()));
            outcomes.push(self.conclude(item, started_at, answer).await?);
        }
        self.commit(outcomes).await
    }

    fn unsent(&self, due: &DueDelivery) -> Outcome {
        Outcome::of_sent(due, None, Next::Retry { due_at: self.clock.now(), counts: false })
    }

    /// Turns one answer into an outcome.
    async fn conclude(
        &self,
        item: &Ready,
        started_at: Timestamp,
        answer: Result<Receipt, DeliveryError>,
    ) -> Result<Outcome, StoreError> {
        let action = match item.change.action {
            Action::Put { .. } => AttemptAction::Put,
            Action::Withdraw { .. } => AttemptAction::Withdraw,
        };
        match answer {
            Ok(receipt) => {
                self.destination.with_breaker(|breaker| breaker.succeeded(self.clock.now()));
                debug!(destination = self.destination.name, record = item.due.slot, row = receipt.row, "Delivered");
                let row = (action == AttemptAction::Put).then(|| receipt.row.clone());
                let next = match &item.step {
                    Step::Settles(held) => Next::Settled(Held { row, ..held.clone() }),
                    Step::Moves => Next::Known { person: item.change.person.clone(), learner: None, row: None },
                };
                Ok(Outcome::of_sent(
                    &item.due,
                    Some(Attempt {
                        action,
                        started_at,
                        finished_at: self.clock.now(),
                        outcome: if receipt.wrote { "taken" } else { "found" },
                        status: Some(receipt.status),
                        remote_row: Some(receipt.row),
                        words: receipt.words,
                        fields_digest: Some(item.fields_digest.clone()),
                    }),
                    next,
                ))
            }
            Err(error) => {
                let mut failed = self.failed(&item.due, item.person, &error, During::Write);
                if error.kind == ErrorKind::Ambiguous {
                    self.begin_settling(item.due.id);
                }
                if error.kind == ErrorKind::Unmatched && matches!(item.step, Step::Moves) {
                    // Whoever held it is gone, and their rows with them.
                    failed.next = Next::Known { person: item.change.person.clone(), learner: None, row: None };
                } else if error.kind == ErrorKind::Unmatched {
                    self.store.forget_link(self.destination.id, item.person).await?;
                }
                self.pause_if(&failed).await?;
                Ok(self.outcome(&item.due, action, started_at, &error, failed.next))
            }
        }
    }

    /// Commits attempts with what follows from them, and counts them.
    async fn commit(&self, outcomes: Vec<Outcome>) -> Result<(), StoreError> {
        let words: Vec<&'static str> =
            outcomes.iter().filter_map(|outcome| outcome.attempt.as_ref()).map(|attempt| attempt.outcome).collect();
        self.store.commit_outcomes(self.destination.id, outcomes).await?;
        words.into_iter().for_each(|word| self.metrics.delivery_attempted(&self.destination.name, word));
        Ok(())
    }

    /// A failure before anything was written: each of the person's deliveries waits, or stays unknown.
    async fn postpone(
        &self,
        person: PersonId,
        due: &[&DueDelivery],
        action: AttemptAction,
        error: &DeliveryError,
        started_at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut outcomes = Vec::with_capacity(due.len());
        let mut pause = None;
        for due in due {
            let during = if due.is_uncertain { During::Look } else { During::Read };
            let decision = self.decide(due, error, during);
            outcomes.push(self.outcome(due, action, started_at, error, decision.next.clone()));
            pause = Some(decision);
        }
        if let Some(mut decision) = pause {
            // One failed call is one failure, however many rows were waiting for it.
            self.count_failure(&mut decision, person);
            self.pause_if(&decision).await?;
        }
        self.commit(outcomes).await
    }

    fn circumstances(&self, due: &DueDelivery, during: During) -> Circumstances {
        let now = self.clock.now();
        Circumstances {
            during,
            tries: due.tries,
            others_succeed: self.destination.with_breaker(|breaker| breaker.works(now)),
            settle_ms: i64::from(self.destination.description.settle_seconds) * 1_000,
            now,
            random: self.entropy.below(u64::MAX),
        }
    }

    fn failed(&self, due: &DueDelivery, person: PersonId, error: &DeliveryError, during: During) -> Decision {
        let mut decision = self.decide(due, error, during);
        self.count_failure(&mut decision, person);
        decision
    }

    /// Decides, and closes the gate at once if the destination is to pause: the others must not call while we commit.
    fn decide(&self, due: &DueDelivery, error: &DeliveryError, during: During) -> Decision {
        let decision = decide(error, &self.circumstances(due, during));
        if let Some(pause) = &decision.pause {
            self.destination.gate.close(PauseEnd::At(pause.until));
        }
        decision
    }

    fn count_failure(&self, decision: &mut Decision, person: PersonId) {
        if decision.is_outage && self.destination.with_breaker(|breaker| breaker.failed(person)) {
            let until = self.clock.now().plus_ms(PROBE_MS);
            decision.pause = Some(super::retry::Pause { cause: "circuit_open", until });
            self.destination.gate.close(PauseEnd::At(until));
        }
    }

    async fn pause_if(&self, decision: &Decision) -> Result<(), StoreError> {
        match &decision.pause {
            Some(pause) => self.gatekeeper.pause(pause.cause, PauseEnd::At(pause.until)).await,
            None => Ok(()),
        }
    }

    fn outcome(
        &self,
        due: &DueDelivery,
        action: AttemptAction,
        started_at: Timestamp,
        error: &DeliveryError,
        next: Next,
    ) -> Outcome {
        let attempt = Attempt {
            action,
            started_at,
            finished_at: self.clock.now(),
            outcome: error.kind.as_str(),
            status: error.status,
            remote_row: None,
            words: error.message.clone(),
            fields_digest: None,
        };
        let was_sent = matches!(action, AttemptAction::Put | AttemptAction::Withdraw);
        Outcome { was_sent, ..Outcome::of(due, Some(attempt), next) }
    }
}

/// Whether the place holds these very fields already: the facts changed, but nothing that the mapping takes from them.
fn is_held(ready: &Ready) -> bool {
    let is_put =
        matches!(ready.step, Step::Settles(_)) && matches!(ready.change.action, Action::Put { row: Some(_), .. });
    let is_known = !ready.due.is_uncertain && ready.due.held_fields_digest.as_ref() == Some(&ready.fields_digest);
    is_put && is_known && ready.due.held_person.as_ref() == Some(&ready.change.person)
}

fn as_held(due: &DueDelivery) -> Outcome {
    Outcome::of(due, None, Next::AsHeld)
}

fn park(due: &DueDelivery, cause: Cause, detail: &str) -> Outcome {
    Outcome::of(due, None, Next::Parked { cause, detail: detail.to_owned(), is_unknown: due.sending_person.is_some() })
}

/// What a daemon would do that guesses: it takes the first of several. Only a test breaks this promise.
fn guess_if_broken(found: PersonMatch) -> PersonMatch {
    match found {
        PersonMatch::Ambiguous { rule, candidates } if fail_point::is_broken_on_purpose("guess") => {
            PersonMatch::Found { person: candidates.first().cloned().unwrap_or_default(), rule }
        }
        found => found,
    }
}

fn without_route(due: &DueDelivery) -> Outcome {
    park(due, Cause::MappingFailed("route".to_owned()), "its route is no longer configured")
}

fn missing_answer() -> DeliveryError {
    DeliveryError::new(
        ErrorKind::Ambiguous,
        "the connector gave no answer for this item; that is a bug of the connector",
    )
}

fn too_slow() -> DeliveryError {
    let message = format!("the target took more than {} s for a batch", BATCH_TIME_MAX.as_secs());
    DeliveryError::new(ErrorKind::Ambiguous, message)
}

#[cfg(test)]
mod tests;
