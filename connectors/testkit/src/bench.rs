//! What the checks work with: connectors that speak to the proxy, the fake behind it, and a memory of all that was said.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use learnsync_sdk::{
    Account, Action, AfterUnknown, Change, Claim, Connector, ConnectorType, DeliveryError, Description, ErrorKind,
    Fields, Learner, ListedPage, ListedRow, MatchRule, Observation, PersonMatch, Place, Receipt, Reference, RetryAfter,
    Toolbox, Value,
};

use crate::{Fake, Fault, HeldRow, Proxy, Sample, Which};

/// The installation's name in all marks of ours.
pub(crate) const INSTALLATION: &str = "conformance";

/// More pages than a list of a few rows should have.
const PAGES_MAX: usize = 1_000;

/// Why a check ended before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It does not apply.
    Skipped(String),
    /// The rule does not hold.
    Failed(String),
}

pub(crate) type Checked<T = ()> = Result<T, Stop>;

/// Ends a check unless this is so.
pub(crate) fn ensure(is_so: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if is_so { Ok(()) } else { Err(Stop::Failed(otherwise())) }
}

/// Ends a check that does not apply.
pub(crate) fn skip<T>(why: impl Into<String>) -> Checked<T> {
    Err(Stop::Skipped(why.into()))
}

/// Ends a check whose rule does not hold.
pub(crate) fn fail<T>(why: impl Into<String>) -> Checked<T> {
    Err(Stop::Failed(why.into()))
}

/// Wants an error of such a kind.
pub(crate) fn wants_error<T: Debug>(
    outcome: &Result<T, DeliveryError>,
    wanted: &str,
    is_wanted: impl Fn(&ErrorKind) -> bool,
) -> Checked {
    match outcome {
        Err(error) if is_wanted(&error.kind) => Ok(()),
        Err(error) => fail(format!("wanted {wanted}, got {:?}: {error}", error.kind)),
        Ok(taken) => fail(format!("wanted {wanted}, got {taken:?}")),
    }
}

/// Wants success.
pub(crate) fn wants_ok<T>(outcome: Result<T, DeliveryError>, what: &str) -> Checked<T> {
    outcome.or_else(|error| fail(format!("{what}: {:?}: {error}", error.kind)))
}

/// The kinds that leave open whether anything happened, or say that nothing did.
pub(crate) fn is_failure_of_target(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Ambiguous)
}

/// Wants the kind that a read's answer to a fault has: nothing was found out, and the daemon must know why.
pub(crate) fn wants_kind_of<T: Debug>(outcome: &Result<T, DeliveryError>, fault: &Fault, at: &str) -> Checked {
    wants_error(outcome, &format!("the kind of {fault:?}{at}"), |kind| match fault {
        Fault::Answer { status: 401, .. } => *kind == ErrorKind::Unauthorized,
        Fault::Answer { status: 429, .. } => matches!(kind, ErrorKind::Throttled(RetryAfter::For(_))),
        _ => is_failure_of_target(kind),
    })
}

/// One run's table of tools; `sample` changes from object to object.
pub(crate) struct Bench<'a> {
    pub(crate) kind: &'a dyn ConnectorType,
    pub(crate) fake: Arc<dyn Fake>,
    pub(crate) proxy: Proxy,
    pub(crate) toolbox: Toolbox,
    pub(crate) description: Description,
    pub(crate) sample: Sample,
    /// Everything that the connector has said, to search it for what must not be said.
    pub(crate) said: Mutex<Vec<String>>,
}

impl Bench<'_> {
    /// A connector as it is after a start of the daemon; it keeps nothing, so that checks may make as many as they like.
    pub(crate) fn connector(&self) -> Checked<Box<dyn Connector>> {
        self.connector_at(&self.proxy.url())
    }

    /// A connector whose target is said to be at this address.
    pub(crate) fn connector_at(&self, url: &str) -> Checked<Box<dyn Connector>> {
        let built = self.kind.build(&self.fake.settings(url), self.toolbox());
        built.or_else(|error| fail(format!("the settings of the fake are refused: {:?}: {error}", error.path)))
    }

    /// What the daemon hands to a connector.
    pub(crate) fn toolbox(&self) -> Toolbox {
        self.toolbox.clone()
    }

    pub(crate) fn claims(&self, claim: Claim) -> bool {
        self.description.claims(claim)
    }

    /// The mark of the n-th place.
    pub(crate) fn mark(&self, place: usize) -> String {
        format!("learnsync:{INSTALLATION}:completion/{place}")
    }

    /// A change that makes the n-th place hold these fields.
    pub(crate) fn put_of(&self, place: usize, fields: &Fields) -> Change {
        let mark = self.mark(place);
        let idempotency_key = format!("{mark}:1");
        let action = Action::Put { fields: fields.clone(), row: None, idempotency_key };
        Change { object: self.sample.object.clone(), person: self.sample.person.clone(), mark, action }
    }

    /// The same, for a row that is known.
    pub(crate) fn put_of_row(&self, place: usize, fields: &Fields, row: &str) -> Change {
        let mut change = self.put_of(place, fields);
        if let Action::Put { row: known, .. } = &mut change.action {
            *known = Some(row.to_owned());
        }
        change
    }

    /// A change that empties the n-th place.
    pub(crate) fn withdrawal_of(&self, place: usize, row: &str) -> Change {
        Change { action: Action::Withdraw { row: row.to_owned() }, ..self.put_of(place, &Fields::new()) }
    }

    pub(crate) fn place(&self, place: usize) -> Place {
        let (object, person) = (self.sample.object.clone(), self.sample.person.clone());
        Place { object, person, mark: self.mark(place), row: None }
    }

    /// The sample's fields with another text in them.
    pub(crate) fn with_text(&self, text: &str) -> Checked<(&'static str, Fields)> {
        let Some(field) = self.sample.text else { return skip("the sample has no field of free text") };
        let mut fields = self.sample.fields.clone();
        fields.insert(field.to_owned(), Value::Text(text.to_owned()));
        Ok((field, fields))
    }

    /// Delivers a batch to a new connector.
    pub(crate) async fn deliver(&self, batch: &[Change]) -> Checked<Vec<Result<Receipt, DeliveryError>>> {
        self.deliver_with(&*self.connector()?, batch).await
    }

    pub(crate) async fn deliver_with(
        &self,
        connector: &dyn Connector,
        batch: &[Change],
    ) -> Checked<Vec<Result<Receipt, DeliveryError>>> {
        let outcomes = connector.deliver(batch).await;
        outcomes.iter().for_each(|outcome| self.hear(outcome));
        ensure(outcomes.len() == batch.len(), || {
            format!("{} changes were given, {} outcomes came back", batch.len(), outcomes.len())
        })?;
        Ok(outcomes)
    }

    /// Delivers one change to a new connector.
    pub(crate) async fn deliver_one(&self, change: &Change) -> Checked<Result<Receipt, DeliveryError>> {
        let mut outcomes = self.deliver(std::slice::from_ref(change)).await?;
        Ok(outcomes.pop().expect("one change has one outcome"))
    }

    /// Puts the sample into the n-th place, and wants it taken.
    pub(crate) async fn put(&self, place: usize) -> Checked<Receipt> {
        self.taken(&self.put_of(place, &self.sample.fields)).await
    }

    /// Delivers a change, and wants it taken.
    pub(crate) async fn taken(&self, change: &Change) -> Checked<Receipt> {
        wants_ok(self.deliver_one(change).await?, "the target was well, and yet this was not taken")
    }

    /// Ends a check that needs the proxy where the connector passes it by.
    pub(crate) fn needs_the_proxy(&self) -> Checked {
        if self.fake.speaks_http() {
            Ok(())
        } else {
            skip("the target speaks no HTTP: the proxy injects and counts nothing")
        }
    }

    /// Delivers the sample while this happens to the first write.
    pub(crate) async fn put_amid(&self, fault: Fault) -> Checked<Result<Receipt, DeliveryError>> {
        self.needs_the_proxy()?;
        self.proxy.plan(Which::Write, 1, fault);
        let outcome = self.deliver_one(&self.put_of(1, &self.sample.fields)).await?;
        ensure(!self.proxy.is_pending(), || format!("nothing was written at all: {outcome:?}"))?;
        Ok(outcome)
    }

    /// Does after an unknown outcome what the daemon does: looks, writes again, or leaves it.
    pub(crate) async fn after_unknown(&self, change: &Change) -> Checked<Receipt> {
        let change = match self.description.after_unknown() {
            AfterUnknown::Look => match self.observe_one(1).await? {
                Ok(Observation::Holds { row, .. }) => match &change.action {
                    Action::Put { fields, .. } => self.put_of_row(1, fields, &row),
                    Action::Withdraw { .. } => change.clone(),
                },
                Ok(Observation::Absent) => change.clone(),
                Ok(several @ Observation::Several { .. }) => {
                    return fail(format!("a second row was made: {several:?}"));
                }
                Err(error) => return fail(format!("the place cannot be looked at: {error}")),
            },
            AfterUnknown::Repeat => change.clone(),
            AfterUnknown::Blind(_) => return skip("nobody can look, and nothing is keyed"),
        };
        self.taken(&change).await
    }

    pub(crate) async fn observe(&self, places: &[Place]) -> Checked<Vec<Result<Observation, DeliveryError>>> {
        let observations = self.connector()?.observe(places).await;
        observations.iter().for_each(|observation| self.hear(observation));
        ensure(observations.len() == places.len(), || {
            format!("{} places were given, {} observations came back", places.len(), observations.len())
        })?;
        Ok(observations)
    }

    pub(crate) async fn observe_one(&self, place: usize) -> Checked<Result<Observation, DeliveryError>> {
        let mut observations = self.observe(&[self.place(place)]).await?;
        Ok(observations.pop().expect("one place has one observation"))
    }

    /// Observes the n-th place, and wants to be told.
    pub(crate) async fn seen(&self, place: usize) -> Checked<Observation> {
        wants_ok(self.observe_one(place).await?, "the target was well, and yet it could not be read")
    }

    /// One page of the sample's object, asked of a new connector: none keeps anything between pages.
    pub(crate) async fn page(&self, page: Option<&str>) -> Checked<Result<ListedPage, DeliveryError>> {
        let listed = self.connector()?.list(&self.sample.object, page).await;
        // What is listed says nothing; it is only long.
        if let Err(error) = &listed {
            self.hear(error);
        }
        Ok(listed)
    }

    /// The pages from here to the last one.
    pub(crate) async fn pages_from(&self, first: Option<&str>) -> Checked<Result<Vec<ListedPage>, DeliveryError>> {
        let mut pages = Vec::new();
        let mut next = first.map(str::to_owned);
        while pages.len() < PAGES_MAX {
            let page = match self.page(next.as_deref()).await? {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
            next.clone_from(&page.next);
            pages.push(page);
            if next.is_none() {
                return Ok(Ok(pages));
            }
        }
        fail(format!("the list has no end after {PAGES_MAX} pages"))
    }

    /// All rows of the sample's object, from all pages; wants to be told.
    pub(crate) async fn listed(&self) -> Checked<Vec<ListedRow>> {
        let pages = wants_ok(self.pages_from(None).await?, "the target was well, and yet it could not be listed")?;
        Ok(pages.into_iter().flat_map(|page| page.rows).collect())
    }

    pub(crate) async fn find(
        &self,
        learner: &Learner,
        rules: &[MatchRule],
    ) -> Checked<Result<PersonMatch, DeliveryError>> {
        let found = self.connector()?.find_person(learner, rules).await;
        self.hear(&found);
        Ok(found)
    }

    pub(crate) async fn probe(&self) -> Checked<Result<Account, DeliveryError>> {
        let account = self.connector()?.probe().await;
        self.hear(&account);
        Ok(account)
    }

    pub(crate) async fn references(&self, kind: &str) -> Checked<Result<Vec<Reference>, DeliveryError>> {
        let references = self.connector()?.references(kind).await;
        self.hear(&references);
        Ok(references)
    }

    /// The rows of the sample's object that carry the mark of the n-th place.
    pub(crate) fn held(&self, place: usize) -> Vec<HeldRow> {
        let mark = self.mark(place);
        self.rows().into_iter().filter(|row| row.marks.contains(&mark)).collect()
    }

    pub(crate) fn rows(&self) -> Vec<HeldRow> {
        self.fake.rows(&self.sample.object)
    }

    /// Wants exactly one row in the n-th place.
    pub(crate) fn held_once(&self, place: usize) -> Checked<HeldRow> {
        let mut held = self.held(place);
        match (held.pop(), held.len()) {
            (Some(row), 0) => Ok(row),
            (None, _) => fail(format!("the target holds no row with the mark {}", self.mark(place))),
            (Some(_), others) => fail(format!("the target holds {} rows with one mark of ours", others + 1)),
        }
    }

    /// Wants these fields in one row of the n-th place.
    pub(crate) fn holds(&self, place: usize, wanted: &Fields) -> Checked {
        let row = self.held_once(place)?;
        ensure(has(&row.fields, wanted), || format!("the target holds {:?} instead of {wanted:?}", row.fields))
    }

    /// How many requests so far would change something.
    pub(crate) fn writes(&self) -> usize {
        self.proxy.calls().iter().filter(|call| call.is_write).count()
    }

    /// Wants that nothing came after the request that a fault met.
    pub(crate) fn nothing_after_the_fault(&self) -> Checked {
        let calls = self.proxy.calls();
        let place = calls.iter().position(|call| call.is_faulted).unwrap_or(calls.len());
        let later: Vec<String> =
            calls.iter().skip(place + 1).map(|call| format!("{} {}", call.method, call.path)).collect();
        ensure(later.is_empty(), || format!("it went on: {}", later.join(", ")))
    }

    pub(crate) fn hear(&self, outcome: &dyn Debug) {
        self.hear_text(format!("{outcome:?}"));
    }

    pub(crate) fn hear_text(&self, text: String) {
        self.said.lock().expect("nothing panics while it holds this").push(text);
    }
}

/// Whether a row holds all of these fields; others do not matter, and a blank one may be left out.
pub(crate) fn has(held: &Fields, wanted: &Fields) -> bool {
    wanted.iter().all(|(name, value)| held.get(name).unwrap_or(&Value::Null) == value)
}
