//! The smallest complete connector: copy this folder to begin your own. It is built and tested, and in no daemon.
//!
//! The target is made up, but its API is of the friendly kind. Begin your own file with such a table, and link the vendor's pages:
//!
//! | request | answer |
//! |---|---|
//! | `GET /me` | `{"account": "acme"}` |
//! | `GET /people?email=...` or `?employee_number=...` | `{"people": [{"id": "7", "email": "...", "employee_number": "..."}]}` |
//! | `PUT /people/{id}/facts/{key}` | `{"key": "..."}`; makes the fact or changes it; a field that is not named stays, `null` blanks it out |
//! | `GET /people/{id}/facts/{key}` | `{"key": "...", "title": "...", "achieved": "2026-03-12", "expires": null, "score": 90.5}` |
//! | `DELETE /people/{id}/facts/{key}` | `{"key": "..."}` |
//! | `GET /facts?after=...` | `{"facts": [{"person": "7", "key": "...", "title": "...", ...}], "next": "..."}`; everybody's, page by page; the last page names no next one |
//!
//! A 404 says what is not there: `{"error": "no_such_person"}` or `{"error": "no_such_fact"}`.
#![warn(missing_docs)]

mod client;
mod settings;
#[cfg(test)]
mod tests;

use learnsync_sdk::{
    Account, Action, BlindRepeat, Change, Claim, Connector, ConnectorType, DefaultField, DefaultRoute, DeliveryError,
    Description, ErrorKind, FieldType, Fields, Learner, ListedPage, ListedRow, MatchBy, MatchRule, Observation,
    PersonMatch, Place, Receipt, RecordKind, Reference, RouteMode, SettingsError, SlotRule, TargetField, TargetObject,
    Toolbox, Value, async_trait,
};
use serde_json::{Map, Value as Json};

use crate::client::Client;
use crate::settings::Settings;

/// The one object of this target.
const FACTS: &str = "facts";
/// How every mark of every installation begins.
const MARK_PREFIX: &str = "learnsync:";

/// The connector type `example`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Example;

impl ConnectorType for Example {
    fn describe(&self) -> Description {
        let line = |field, path| DefaultField { field, source: ("path", path) };
        Description {
            name: "example",
            summary: "Writes completions as facts of people.",
            documentation: "https://example.com/api",
            // Claim what the target offers and nothing more: the daemon relies on it, and the test kit checks it.
            claims: &[Claim::People, Claim::UpsertByMark, Claim::ReadBack, Claim::Withdraw, Claim::List],
            // Without a meaning here: it matters to targets that have neither a key nor read-back.
            blind_repeat: BlindRepeat::MayLose,
            reference_kinds: &[],
            // A late write only writes the same once more: the target keeps one fact for each key.
            settle_seconds: 0,
            persons_per_batch_max: 1,
            concurrency_max: 4,
            batch_interval_ms: 0,
            settings: settings::SETTINGS,
            default_routes: vec![DefaultRoute {
                name: "completions",
                record: RecordKind::Completion,
                object: FACTS,
                mode: RouteMode::State,
                slot: SlotRule::Record,
                fields: vec![line("title", "title"), line("achieved", "achieved"), line("score", "score")],
            }],
        }
    }

    /// No I/O here: `learnsync check` runs offline.
    fn build(&self, settings: &Json, toolbox: Toolbox) -> Result<Box<dyn Connector>, SettingsError> {
        let Settings { url, token } = Settings::read(settings)?;
        Ok(Box::new(Destination { client: Client::new(toolbox.http, url, token) }))
    }
}

/// One configured destination. It keeps nothing between calls.
struct Destination {
    client: Client,
}

#[async_trait]
impl Connector for Destination {
    fn object(&self, name: &str) -> Result<TargetObject, String> {
        if name != FACTS {
            return Err(format!("example has no object \"{name}\", only \"{FACTS}\""));
        }
        let field =
            |name: &str, kind, required, length_max| TargetField { name: name.to_owned(), kind, required, length_max };
        let fields = vec![
            field("title", FieldType::Text, true, Some(200)),
            field("achieved", FieldType::Date, true, None),
            field("expires", FieldType::Date, false, None),
            field("score", FieldType::Number, false, None),
        ];
        Ok(TargetObject { name: FACTS.to_owned(), fields, open: false })
    }

    async fn probe(&self) -> Result<Account, DeliveryError> {
        Ok(Account { identity: format!("account {}", self.client.account().await?) })
    }

    async fn references(&self, kind: &str) -> Result<Vec<Reference>, DeliveryError> {
        Err(DeliveryError::new(ErrorKind::Rejected, format!("example has no reference data \"{kind}\"")))
    }

    async fn find_person(&self, learner: &Learner, rules: &[MatchRule]) -> Result<PersonMatch, DeliveryError> {
        for rule in rules {
            // A blank value would match everybody who has none.
            let Some(value) = rule.value_of(learner) else { continue };
            let field = match (&rule.field, &rule.by) {
                (Some(field), _) => field,
                (None, MatchBy::ExternalId | MatchBy::EmployeeNumber) => "employee_number",
                (None, MatchBy::Email) => "email",
                // The configuration is refused before: the example has no such field by itself.
                (None, MatchBy::Username | MatchBy::Custom(_)) => continue,
            };
            let mut people = self.client.people(field, &value).await?;
            match people.len() {
                0 => {}
                1 => return Ok(PersonMatch::Found { person: people.remove(0), rule: rule.clone() }),
                // Not even a later rule may choose among them.
                _ => return Ok(PersonMatch::Ambiguous { rule: rule.clone(), candidates: people }),
            }
        }
        Ok(PersonMatch::NotFound)
    }

    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut ended: Option<DeliveryError> = None;
        for change in batch {
            let outcome = match &ended {
                // The target would only say it again, and to go on would be rude.
                Some(error) => Err(error.clone()),
                None => self.deliver_one(change).await,
            };
            if let Err(error) = &outcome
                && matches!(error.kind, ErrorKind::Unauthorized | ErrorKind::Throttled(_))
            {
                ended = Some(error.clone());
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    async fn observe(&self, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
        let mut observations = Vec::with_capacity(batch.len());
        for place in batch {
            observations.push(self.observe_one(place).await);
        }
        observations
    }

    /// The target pages behind the last fact of a page, so what comes and goes moves no other fact to another page.
    async fn list(&self, object: &str, page: Option<&str>) -> Result<ListedPage, DeliveryError> {
        self.object(object).map_err(|why| DeliveryError::new(ErrorKind::Rejected, why))?;
        let (facts, next) = self.client.facts(page).await?;
        let rows = facts.iter().map(listed).collect::<Result<_, _>>()?;
        Ok(ListedPage { rows, next })
    }
}

impl Destination {
    /// The mark is the key: whether the fact is there already, and whether we know its row, makes no difference.
    async fn deliver_one(&self, change: &Change) -> Result<Receipt, DeliveryError> {
        let Change { person, mark, .. } = change;
        match &change.action {
            Action::Put { fields, .. } => {
                let status = self.client.put_fact(person, mark, &body(fields)).await?;
                Ok(Receipt { row: mark.clone(), status, words: String::new(), wrote: true })
            }
            Action::Withdraw { .. } => {
                let status = self.client.delete_fact(person, mark).await?;
                // Already gone is success.
                let (status, wrote) = status.map_or((404, false), |status| (status, true));
                Ok(Receipt { row: mark.clone(), status, words: String::new(), wrote })
            }
        }
    }

    async fn observe_one(&self, place: &Place) -> Result<Observation, DeliveryError> {
        match self.client.fact(&place.person, &place.mark).await? {
            None => Ok(Observation::Absent),
            Some(fact) => Ok(Observation::Holds { row: place.mark.clone(), fields: fields(&fact) }),
        }
    }
}

/// A fact without a person or a key is none that the target shows: to leave it out would be to say that it is not there.
fn listed(fact: &Map<String, Json>) -> Result<ListedRow, DeliveryError> {
    let text = |name| fact.get(name).and_then(Json::as_str).map(str::to_owned);
    let (Some(person), Some(key)) = (text("person"), text("key")) else {
        return Err(DeliveryError::new(
            ErrorKind::Unavailable,
            "the list of facts shows one without a person or a key",
        ));
    };
    let mark = key.starts_with(MARK_PREFIX).then(|| key.clone());
    Ok(ListedRow { row: key, person: Some(person), mark, fields: Ok(fields(fact)) })
}

/// What is absent in `fields` stays absent, and so is left alone.
fn body(fields: &Fields) -> Json {
    let json = |value: &Value| match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::from(*value),
        Value::Number(number) => Json::from(*number),
        Value::Text(text) => Json::from(text.as_str()),
        Value::Date(date) => Json::from(date.to_string()),
    };
    Json::Object(fields.iter().map(|(name, value)| (name.clone(), json(value))).collect())
}

/// The fact in our vocabulary: typed by the field, so that what was put is what is observed.
fn fields(fact: &Map<String, Json>) -> Fields {
    let value = |name: &str, held: &Json| match (name, held) {
        ("achieved" | "expires", Json::String(day)) => {
            day.parse().map_or_else(|_| Value::Text(day.clone()), Value::Date)
        }
        (_, Json::String(text)) => Value::Text(text.clone()),
        (_, Json::Number(number)) => number.as_f64().map_or(Value::Null, Value::Number),
        (_, Json::Bool(value)) => Value::Bool(*value),
        (_, Json::Null | Json::Array(_) | Json::Object(_)) => Value::Null,
    };
    let told = fact.iter().filter(|(name, _)| !["key", "person"].contains(&name.as_str()));
    told.map(|(name, held)| (name.clone(), value(name, held))).collect()
}
