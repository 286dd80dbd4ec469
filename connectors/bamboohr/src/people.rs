//! Finding the person that a learner is, and listing all people.

use std::collections::{BTreeMap, BTreeSet};

use learnsync_sdk::{DeliveryError, Learner, MatchBy, MatchRule, PersonMatch};
use serde_json::{Map, Value as Json, json};

use crate::client::{Client, unreadable};
use crate::objects::rejected;
use crate::settings::Settings;
use crate::values::text_of;

/// The largest page that BambooHR gives.
const PAGE_ROWS_MAX: u64 = 1_000;
/// Most pages of one look-up: a look-up that matches more is not a look-up.
const PAGES_MAX: u64 = 50;
/// Most pages of the list of people. Read person by person, a larger company would not be done in a night.
const ALL_PAGES_MAX: u64 = 200;
const ALL_PEOPLE: &str = "the list of people";

/// Tries the rules in their order; the first that matches anyone decides. People who left are found, too.
pub(crate) async fn find(
    client: &Client,
    settings: &Settings,
    learner: &Learner,
    rules: &[MatchRule],
) -> Result<PersonMatch, DeliveryError> {
    let mut tried = BTreeSet::new();
    for rule in rules {
        let Some(given) = rule.given(learner) else { continue };
        let folded = given.to_lowercase();
        let field = field_of(rule, settings)?;
        // The external id and the employee number are often the same.
        if !tried.insert((field, folded.clone())) {
            continue;
        }
        let mut people = look_up(client, settings, field, &given, &folded).await?;
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

fn field_of<'a>(rule: &'a MatchRule, settings: &'a Settings) -> Result<&'a str, DeliveryError> {
    match (&rule.field, &rule.by) {
        (Some(field), _) => Ok(field),
        (None, MatchBy::ExternalId | MatchBy::EmployeeNumber) => Ok(&settings.employee_number_field),
        (None, MatchBy::Email) => Ok(&settings.email_field),
        (None, MatchBy::Username | MatchBy::Custom(_)) => {
            Err(rejected(format!("bamboohr has no field of its own for {rule}: name one in match_rules")))
        }
    }
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
        let answer = client.employees(&query, "the look-up of a person").await?;
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

/// The ids of all people whom the key may see, active or not. Without an order, what is on which page is unspecified
/// (<https://github.com/BambooHR/bhr-api-python>, `docs/DatasetsApi.md`, `get_data_from_dataset_v2`).
pub(crate) async fn all(client: &Client, settings: &Settings) -> Result<BTreeSet<String>, DeliveryError> {
    let id_field = settings.employee_id_field.as_str();
    let (mut people, mut rows, mut total) = (BTreeSet::new(), 0, None);
    for page in 1..=ALL_PAGES_MAX {
        let order = format!("{id_field} asc");
        let query = json!({"fields": [id_field], "orderBy": order, "page": page, "pageSize": PAGE_ROWS_MAX});
        let answer = client.employees(&query, ALL_PEOPLE).await?;
        let data =
            answer.get("data").and_then(Json::as_array).ok_or_else(|| unreadable(ALL_PEOPLE, "it has no data"))?;
        for row in data {
            people.insert(id_of(row, id_field).ok_or_else(|| nameless("a person", id_field))?);
        }
        rows += data.len() as u64;
        let told = answer.pointer("/meta/totalItems").and_then(Json::as_u64);
        // Who comes or goes between two pages moves others from one to the other, past us.
        if *total.get_or_insert(told) != told {
            return Err(unreadable(ALL_PEOPLE, "it changed from page to page"));
        }
        if !has_next_page(&answer, page) {
            return match told {
                Some(told) if told != rows => {
                    Err(unreadable(ALL_PEOPLE, "it shows fewer or more people than it counts"))
                }
                // A key that may see nobody would make every row seem to be gone.
                Some(_) | None if people.is_empty() => Err(rejected("bamboohr shows no people to this API key")),
                Some(_) | None => Ok(people),
            };
        }
    }
    Err(rejected(format!("bamboohr has more than {} people: too many to list", ALL_PAGES_MAX * PAGE_ROWS_MAX)))
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
        let Some((inner, outer)) = fields_of(row) else { return };
        let value = text_in(inner, outer, field).unwrap_or_default();
        if value.is_empty() && is_restricted(inner, outer, field) {
            self.hidden = true;
        }
        if value.to_lowercase() != folded {
            return;
        }
        match id_of(row, id_field) {
            Some(id) => match id.parse() {
                Ok(number) => drop(self.people.insert(number, id)),
                Err(_) => drop(self.others.insert(id)),
            },
            None => self.nameless = true,
        }
    }

    fn into_people(self, field: &str, id_field: &str) -> Result<BTreeSet<String>, DeliveryError> {
        if self.nameless {
            return Err(nameless("a matching person", id_field));
        }
        let people: BTreeSet<String> = self.people.into_values().chain(self.others).collect();
        if people.is_empty() && self.hidden {
            let message = format!("bamboohr hides \"{field}\" from this API key: give its owner access to the field");
            return Err(rejected(message));
        }
        Ok(people)
    }
}

fn nameless(whom: &str, id_field: &str) -> DeliveryError {
    rejected(format!("bamboohr shows {whom} without an id: let the API key read \"{id_field}\""))
}

/// The values that were asked for, and what stands around them; some answers have them in `fields`, some without.
fn fields_of(row: &Json) -> Option<(&Map<String, Json>, &Map<String, Json>)> {
    let outer = row.as_object()?;
    Some((outer.get("fields").and_then(Json::as_object).unwrap_or(outer), outer))
}

fn id_of(row: &Json, id_field: &str) -> Option<String> {
    let (inner, outer) = fields_of(row)?;
    let id = [id_field, "eeid", "id", "employeeId"].iter().find_map(|name| text_in(inner, outer, name));
    id.filter(|id| !id.is_empty())
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
