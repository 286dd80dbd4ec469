//! Deliver: the only place that writes to a target. One turn serves one person's due rows (or a batch of people's, where the target
//! takes batches): link, render, look where the outcome of an earlier write is unknown, commit `sending`, write, commit what came of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use learnsync_sdk::{Action, Change, Claim, DeliveryError, ErrorKind, Observation, PersonMatch, Place, Receipt};
use sha2::{Digest, Sha256};
use tracing::{debug, info, warn};

use super::breaker::PROBE_MS;
use super::destination::{Destination, Route};
use super::retry::{Circumstances, Decision, During, decide, throttled_until};
use super::worker::{Bell, Turn, Work};
use crate::domain::chance::Entropy;
use crate::domain::delivery::{Attempt, AttemptAction, Cause, DueDelivery, Held, LaneWork, LinkFound, Next, Outcome};
use crate::domain::ids::PersonId;
use crate::domain::time::{Clock, Timestamp};
use crate::fail_point;
use crate::mapping::{ReferenceTable, Rendered};
use crate::store::{ClaimedLane, Standing, Store, StoreError};
use crate::telemetry::Metrics;

/// The longest that one batch may take in the target; then its outcome counts as unknown.
const BATCH_TIME_MAX: Duration = Duration::from_secs(120);

/// While another worker probes a paused destination, the others look again after this, in milliseconds.
const PROBING_MS: i64 = 1_000;

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
    /// Held while a paused destination is probed.
    pub probing: Arc<tokio::sync::Mutex<()>>,
}

/// A delivery that is ready to be written.
struct Ready {
    due: DueDelivery,
    person: PersonId,
    change: Change,
    held: Held,
    fields_digest: Vec<u8>,
}

#[async_trait]
impl Work for Deliver {
    fn name(&self) -> String {
        format!("deliver to {}", self.destination.name)
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        let mut lanes = Vec::new();
        while lanes.len() < self.destination.description.persons_per_batch_max {
            match self.store.claim_lane(self.destination.id).await? {
                Some(lane) => lanes.push(lane),
                None => break,
            }
        }
        if lanes.is_empty() {
            // Nothing is due, or nothing may be claimed: only then it matters which.
            return match self.store.destination_standing(self.destination.id).await? {
                Standing::Active => Ok(Turn::Rest(self.store.next_due_delivery(self.destination.id).await?)),
                Standing::Retired => Ok(Turn::Rest(None)),
                Standing::Paused { cause, until } => self.end_pause(&cause, until).await,
            };
        }
        self.more.ring();
        self.serve(lanes).await?;
        Ok(Turn::Worked)
    }
}

impl Deliver {
    async fn serve(&self, lanes: Vec<ClaimedLane>) -> Result<(), StoreError> {
        let references = match self.destination.reference_table(&*self.clock).await {
            Ok(references) => references,
            Err(error) => {
                for lane in &lanes {
                    self.postpone(&lane.work, AttemptAction::Link, &error, self.clock.now()).await?;
                }
                return Ok(());
            }
        };
        let mut ready = Vec::new();
        for lane in &lanes {
            let Some(remote_person) = self.link(&lane.work).await? else { continue };
            let rendered = self.render(&lane.work, &remote_person, &references).await?;
            ready.extend(self.look(rendered).await?);
        }
        if ready.is_empty() {
            return Ok(());
        }
        self.write(ready).await
    }

    /// The person's id in the target; none when there is nobody to write to, which is committed by then.
    async fn link(&self, work: &LaneWork) -> Result<Option<String>, StoreError> {
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
                self.postpone(work, AttemptAction::Link, &error, started_at).await?;
                return Ok(None);
            }
        };
        self.destination.with_breaker(|breaker| breaker.succeeded(self.clock.now()));
        self.store.commit_link(self.destination.id, LinkFound { person: work.person, found: found.clone() }).await?;
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
        let outcomes = work
            .due
            .iter()
            .map(|due| Outcome {
                delivery: due.id,
                fingerprint: due.fingerprint.clone(),
                attempt: Some(Attempt {
                    action: AttemptAction::Link,
                    started_at,
                    finished_at: self.clock.now(),
                    outcome: "unmatched",
                    status: None,
                    remote_row: None,
                    words: detail.clone(),
                    fields_digest: None,
                }),
                next: Next::Parked { cause: cause.clone(), detail: detail.clone() },
            })
            .collect();
        self.commit(outcomes).await?;
        Ok(None)
    }

    /// Turns records into fields; what cannot be rendered is parked under its cause.
    async fn render(
        &self,
        work: &LaneWork,
        remote_person: &str,
        references: &Arc<ReferenceTable>,
    ) -> Result<Vec<Ready>, StoreError> {
        let mut ready = Vec::with_capacity(work.due.len());
        let mut parked = Vec::new();
        let mut references = Arc::clone(references);
        for due in &work.due {
            let Some(route) = self.destination.routes.get(&due.route) else {
                parked.push(park(due, Cause::MappingFailed("route".to_owned()), "its route is no longer configured"));
                continue;
            };
            let mut rendered = route.mapping.render(&due.record, &work.learner, &references);
            if matches!(rendered, Rendered::Unmapped { .. }) {
                // It may have been added to the target since the last list; if the list fails, the older one decides.
                if let Ok(newer) = self.destination.newer_reference_table(&*self.clock).await {
                    references = newer;
                    rendered = route.mapping.render(&due.record, &work.learner, &references);
                }
            }
            match rendered {
                Rendered::Fields(fields) => ready.push(self.prepare(work, due, route, remote_person, fields)),
                Rendered::Unmapped { kind, course } => {
                    let detail = format!("no {kind} for the course {course}");
                    parked.push(park(due, Cause::Unmapped { kind, course }, &detail));
                }
                Rendered::Missing { field } => {
                    let detail = format!("{} has no value for {field}", due.slot);
                    parked.push(park(due, Cause::MissingField(field), &detail));
                }
                Rendered::Failed { field, message } => {
                    parked.push(park(due, Cause::MappingFailed(field), &message));
                }
            }
        }
        if !parked.is_empty() {
            self.commit(parked).await?;
        }
        Ok(ready)
    }

    fn prepare(
        &self,
        work: &LaneWork,
        due: &DueDelivery,
        route: &Route,
        remote_person: &str,
        fields: learnsync_sdk::Fields,
    ) -> Ready {
        let digest = Sha256::digest(serde_json::to_vec(&fields).expect("fields are plain data")).to_vec();
        // The row that we know is this person's; under another person it would be somebody else's.
        let row = due.held_row.clone().filter(|_| due.held_person.as_deref() == Some(remote_person));
        let mark = self.destination.mark(&due.slot);
        let action = match (due.is_wanted, row) {
            (false, Some(row)) => Action::Withdraw { row },
            (_, row) => Action::Put { fields, row, idempotency_key: format!("{mark}:{}", hex(&due.fingerprint[..8])) },
        };
        Ready {
            due: due.clone(),
            person: work.person,
            held: Held { person: remote_person.to_owned(), row: None, mapping: route.mapping_id },
            change: Change { object: route.object.clone(), person: remote_person.to_owned(), mark, action },
            fields_digest: digest,
        }
    }

    /// Looks up what an earlier write of unknown outcome left, before anything is written again.
    async fn look(&self, mut ready: Vec<Ready>) -> Result<Vec<Ready>, StoreError> {
        let places: Vec<Place> = ready
            .iter()
            .filter(|ready| ready.due.is_uncertain)
            .map(|ready| Place {
                object: ready.change.object.clone(),
                person: ready.change.person.clone(),
                mark: ready.change.mark.clone(),
                row: ready.due.held_row.clone(),
            })
            .collect();
        if places.is_empty() || fail_point::is_broken_on_purpose("lookup") {
            return Ok(ready);
        }
        let started_at = self.clock.now();
        let mut observed = self.destination.connector.observe(&places).await.into_iter();
        let mut still_ready = Vec::with_capacity(ready.len());
        let mut outcomes = Vec::new();
        for mut item in ready.drain(..) {
            if !item.due.is_uncertain {
                still_ready.push(item);
                continue;
            }
            match observed.next().unwrap_or_else(|| Err(missing_answer())) {
                Ok(Observation::Absent) => still_ready.push(item),
                Ok(Observation::Holds { row: found, .. }) => {
                    if let Action::Put { row, .. } = &mut item.change.action {
                        *row = Some(found);
                    }
                    still_ready.push(item);
                }
                Ok(Observation::Several { rows }) => {
                    let detail = format!("rows {} all carry our mark: remove all but one", rows.join(", "));
                    outcomes.push(park(&item.due, Cause::Rejected, &detail));
                }
                Err(error) => {
                    let failed = self.failed(&item.due, item.person, &error, During::Look);
                    outcomes.push(self.outcome(
                        &item.due,
                        AttemptAction::Look,
                        started_at,
                        &error,
                        failed.next.clone(),
                    ));
                    self.pause_if(&failed).await?;
                }
            }
        }
        if !outcomes.is_empty() {
            self.commit(outcomes).await?;
        }
        Ok(still_ready)
    }

    /// Commits that the writes begin, writes, and commits what came of it.
    async fn write(&self, mut ready: Vec<Ready>) -> Result<(), StoreError> {
        let ids = ready.iter().map(|ready| ready.due.id).collect();
        let begun = self.store.begin_sending(self.destination.id, ids).await?;
        ready.retain(|ready| begun.contains(&ready.due.id));
        fail_point::reach(fail_point::AFTER_SENDING);
        let started_at = self.clock.now();
        let batch: Vec<Change> = ready.iter().map(|ready| ready.change.clone()).collect();
        let answers = tokio::time::timeout(BATCH_TIME_MAX, self.destination.connector.deliver(&batch)).await;
        fail_point::reach(fail_point::AFTER_WRITE);
        let mut answers = match answers {
            Ok(answers) => answers,
            Err(_) => batch.iter().map(|_| Err(too_slow())).collect(),
        }
        .into_iter();
        let mut outcomes = Vec::with_capacity(ready.len());
        for item in &ready {
            let answer = answers.next().unwrap_or_else(|| Err(missing_answer()));
            outcomes.push(self.conclude(item, started_at, answer).await?);
        }
        self.commit(outcomes).await
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
                Ok(Outcome {
                    delivery: item.due.id,
                    fingerprint: item.due.fingerprint.clone(),
                    attempt: Some(Attempt {
                        action,
                        started_at,
                        finished_at: self.clock.now(),
                        outcome: if receipt.wrote { "taken" } else { "found" },
                        status: Some(receipt.status),
                        remote_row: Some(receipt.row),
                        words: receipt.words,
                        fields_digest: Some(item.fields_digest.clone()),
                    }),
                    next: Next::Settled(Held { row, ..item.held.clone() }),
                })
            }
            Err(error) => {
                let failed = self.failed(&item.due, item.person, &error, During::Write);
                if error.kind == ErrorKind::Unmatched {
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
        work: &LaneWork,
        action: AttemptAction,
        error: &DeliveryError,
        started_at: Timestamp,
    ) -> Result<(), StoreError> {
        let mut outcomes = Vec::with_capacity(work.due.len());
        let mut pause = None;
        for due in &work.due {
            let during = if due.is_uncertain { During::Look } else { During::Read };
            let decision = decide(error, &self.circumstances(due, during));
            outcomes.push(self.outcome(due, action, started_at, error, decision.next.clone()));
            pause = Some(decision);
        }
        self.commit(outcomes).await?;
        if let Some(mut decision) = pause {
            // One failed call is one failure, however many rows were waiting for it.
            self.count_failure(&mut decision, work.person);
            self.pause_if(&decision).await?;
        }
        Ok(())
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
        let mut decision = decide(error, &self.circumstances(due, during));
        self.count_failure(&mut decision, person);
        decision
    }

    fn count_failure(&self, decision: &mut Decision, person: PersonId) {
        if decision.is_outage && self.destination.with_breaker(|breaker| breaker.failed(person)) {
            let until = self.clock.now().plus_ms(PROBE_MS);
            decision.pause = Some(super::retry::Pause { cause: "circuit_open", until });
        }
    }

    async fn pause_if(&self, decision: &Decision) -> Result<(), StoreError> {
        let Some(pause) = &decision.pause else { return Ok(()) };
        warn!(
            destination = self.destination.name,
            cause = pause.cause,
            "Paused {} until {}",
            self.destination.name,
            pause.until
        );
        self.store.pause_destination(self.destination.id, pause.cause, Some(pause.until)).await
    }

    fn outcome(
        &self,
        due: &DueDelivery,
        action: AttemptAction,
        started_at: Timestamp,
        error: &DeliveryError,
        next: Next,
    ) -> Outcome {
        Outcome {
            delivery: due.id,
            fingerprint: due.fingerprint.clone(),
            attempt: Some(Attempt {
                action,
                started_at,
                finished_at: self.clock.now(),
                outcome: word(&error.kind),
                status: error.status,
                remote_row: None,
                words: error.message.clone(),
                fields_digest: None,
            }),
            next,
        }
    }

    /// A pause that is over ends; where the cause may still stand, one probe decides.
    async fn end_pause(&self, cause: &str, until: Option<Timestamp>) -> Result<Turn, StoreError> {
        let Some(until) = until else { return Ok(Turn::Rest(None)) };
        if self.clock.now() < until {
            return Ok(Turn::Rest(Some(until)));
        }
        let Ok(_alone) = self.probing.try_lock() else {
            return Ok(Turn::Rest(Some(self.clock.now().plus_ms(PROBING_MS))));
        };
        if cause == "throttled" {
            self.store.resume_destination(self.destination.id).await?;
            return Ok(Turn::Worked);
        }
        let again = match self.destination.connector.probe().await {
            Ok(account) => {
                if self.store.recognise_account(self.destination.id, &account.identity).await? {
                    info!(destination = self.destination.name, "{} answers again", self.destination.name);
                    self.destination.with_breaker(super::breaker::Breaker::close);
                    self.store.resume_destination(self.destination.id).await?;
                } else {
                    self.store.pause_destination(self.destination.id, "account_changed", None).await?;
                }
                return Ok(Turn::Worked);
            }
            Err(error) => match error.kind {
                ErrorKind::Throttled(after) => ("throttled", throttled_until(&after, self.clock.now())),
                ErrorKind::Unauthorized => {
                    ("unauthorized", self.clock.now().plus_ms(super::retry::UNAUTHORIZED_PROBE_MS))
                }
                ErrorKind::Unavailable
                | ErrorKind::Ambiguous
                | ErrorKind::Rejected
                | ErrorKind::Unmatched
                | ErrorKind::Superseded => ("circuit_open", self.clock.now().plus_ms(PROBE_MS)),
            },
        };
        self.store.pause_destination(self.destination.id, again.0, Some(again.1)).await?;
        Ok(Turn::Rest(Some(again.1)))
    }
}

fn park(due: &DueDelivery, cause: Cause, detail: &str) -> Outcome {
    Outcome {
        delivery: due.id,
        fingerprint: due.fingerprint.clone(),
        attempt: None,
        next: Next::Parked { cause, detail: detail.to_owned() },
    }
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

/// The outcome's word in the store.
fn word(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Rejected => "rejected",
        ErrorKind::Unmatched => "unmatched",
        ErrorKind::Throttled(_) => "throttled",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Ambiguous => "ambiguous",
        ErrorKind::Unauthorized => "unauthorized",
        ErrorKind::Superseded => "superseded",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
