//! Finding the person that a learner is.

use std::collections::{BTreeMap, BTreeSet};

use learnsync_sdk::{DeliveryError, Learner, MatchRule, PersonMatch};
use serde_json::{Map, Value as Json, json};

use crate::client::Client;
use crate::objects::rejected;
use crate::settings::Settings;
use crate::values::text_of;

/// The largest page that BambooHR gives.
const PAGE_ROWS_MAX: u64 = 1_000;
/// Most pages of one look-up: a look-up that matches more is not a look-up.
const PAGES_MAX: u64 = 50;

/// Tries the rules in their order; the first that matches anyone decides. People who left are found, too.
pub(crate) async fn find(
    client: &Client,
    settings: &Settings,
    learner: &Learner,
    rules: &[MatchRule],
) -> Result<PersonMatch, DeliveryError> {
    let mut tried = BTreeSet::new();
    for rule in rules {
        let Some(folded) = rule.value_of(learner) else { continue };
        let field = field_of(rule, settings);
        // The external id and the employee number are often the same.
        if !tried.insert((field, folded.clone())) {
            continue;
        }
        let mut people = look_up(client, settings, field, &given(rule, learner), &folded).await?;
        match (people.len(), people.pop_first()) {
            (0, _) | (_, None) => {}
            (1, Some(person)) => return Ok(PersonMatch::Found { person, rule: rule.clone() }),
            (_, Some(first)) => {
                let candidates = std::iter::once(first).chain(people).collect();
                return Ok(PersonMatch::Ambiguous { rule: rule.clone(), candidates });
            }
        }
    }
    Ok(PersonMatch::NotFound)
}

fn field_of<'a>(rule: &MatchRule, settings: &'a Settings) -> &'a str {
    match rule {
        MatchRule::ExternalId | MatchRule::EmployeeNumber => &settings.employee_number_field,
        MatchRule::Email => &settings.email_field,
    }
}

/// The learner's value as it stands in the LMS.
fn given(rule: &MatchRule, learner: &Learner) -> String {
    let value = match rule {
        MatchRule::ExternalId => &learner.external_id,
        MatchRule::EmployeeNumber => &learner.employee_number,
        MatchRule::Email => &learner.email,
    };
    value.as_deref().unwrap_or_default().trim().to_owned()
}

async fn look_up(
    client: &Client,
    settings: &Settings,
    field: &str,
    given: &str,
    folded: &str,
) -> Result<BTreeSet<String>, DeliveryError> {
    let id_field = settings.employee_id_field.as_str();
    let mut found = Matches::default();
    for page in 1..=PAGES_MAX {
        let query = json!({
            "fields": [id_field, field],
            "filter": filter(field, given, folded),
            "page": page,
            "pageSize": PAGE_ROWS_MAX,
        });
        let answer = client.employees(&query).await?;
        for row in answer.get("data").and_then(Json::as_array).into_iter().flatten() {
            found.take(row, id_field, field, folded);
        }
        if !has_next_page(&answer, page) {
            return found.into_people(field, id_field);
        }
    }
    Err(rejected(format!(
        "bamboohr gave more than {PAGES_MAX} pages of people for one {field}: it does not filter by {field}"
    )))
}

/// `eq` is not documented as blind to case, so the value is asked for as the LMS has it and in lower case.
fn filter(field: &str, given: &str, folded: &str) -> String {
    let equals = |value: &str| format!("{field} eq '{}'", value.replace('\'', "''"));
    if given == folded { equals(given) } else { format!("{} or {}", equals(given), equals(folded)) }
}

fn has_next_page(answer: &Json, page: u64) -> bool {
    let pages = answer.pointer("/meta/totalPages").and_then(Json::as_u64).unwrap_or(0);
    let next = answer.pointer("/links/next").is_some_and(|link| !link.is_null());
    page < pages || next
}

/// What a look-up found.
#[derive(Default)]
struct Matches {
    people: BTreeMap<u64, String>,
    others: BTreeSet<String>,
    hidden: bool,
    nameless: bool,
}

impl Matches {
    /// Takes a row only if it really matches: a server that passes over the filter must not hand us a stranger.
    fn take(&mut self, row: &Json, id_field: &str, field: &str, folded: &str) {
        let Some(outer) = row.as_object() else { return };
        let inner = outer.get("fields").and_then(Json::as_object).unwrap_or(outer);
        let value = text_in(inner, outer, field).unwrap_or_default();
        if value.is_empty() && is_restricted(inner, outer, field) {
            self.hidden = true;
        }
        if value.to_lowercase() != folded {
            return;
        }
        let id = [id_field, "eeid", "id", "employeeId"].iter().find_map(|name| text_in(inner, outer, name));
        match id.filter(|id| !id.is_empty()) {
            Some(id) => match id.parse() {
                Ok(number) => drop(self.people.insert(number, id)),
                Err(_) => drop(self.others.insert(id)),
            },
            None => self.nameless = true,
        }
    }

    fn into_people(self, field: &str, id_field: &str) -> Result<BTreeSet<String>, DeliveryError> {
        if self.nameless {
            let message =
                format!("bamboohr shows a matching person without an id: let the API key read \"{id_field}\"");
            return Err(rejected(message));
        }
        let people: BTreeSet<String> = self.people.into_values().chain(self.others).collect();
        if people.is_empty() && self.hidden {
            let message = format!("bamboohr hides \"{field}\" from this API key: give its owner access to the field");
            return Err(rejected(message));
        }
        Ok(people)
    }
}

fn text_in(inner: &Map<String, Json>, outer: &Map<String, Json>, name: &str) -> Option<String> {
    inner.get(name).or_else(|| outer.get(name)).and_then(text_of)
}

/// Hidden fields come empty, and are named with the data set before them: `employee_employeeNumber`.
fn is_restricted(inner: &Map<String, Json>, outer: &Map<String, Json>, field: &str) -> bool {
    let names = inner.get("_restrictedFields").or_else(|| outer.get("_restrictedFields")).and_then(Json::as_array);
    let names = names.into_iter().flatten().filter_map(Json::as_str);
    names.map(|name| name.strip_prefix("employee_").unwrap_or(name)).any(|name| name == field)
}
