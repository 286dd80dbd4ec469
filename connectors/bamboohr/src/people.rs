//! Finding a person: exactly one, or nobody is guessed.

use std::collections::BTreeSet;

use learnsync_sdk::{DeliveryError, Learner, MatchRule, PersonMatch};

use crate::client::Client;
use crate::settings::Settings;

/// The names under which a dataset row carries the employee's id.
const ID_FIELDS: [&str; 4] = ["employeeId", "id", "eeid", "employee_id"];

pub(crate) async fn find(
    client: &Client,
    settings: &Settings,
    learner: &Learner,
    rules: &[MatchRule],
) -> Result<PersonMatch, DeliveryError> {
    for rule in rules {
        let Some(value) = rule.value_of(learner) else { continue };
        let field = match rule {
            MatchRule::ExternalId | MatchRule::EmployeeNumber => &settings.employee_number_field,
            MatchRule::Email => &settings.email_field,
        };
        let people = client.employees_where(field, &value).await?;
        // A filter that the target ignored would answer everybody: each row is compared again.
        let found: BTreeSet<String> = people
            .into_iter()
            .filter(|person| person.get(field).is_some_and(|held| held.trim().to_lowercase() == value))
            .filter_map(|person| ID_FIELDS.iter().find_map(|name| person.get(*name).cloned()))
            .collect();
        let candidates: Vec<String> = found.into_iter().collect();
        match candidates.as_slice() {
            [] => {}
            [only] => return Ok(PersonMatch::Found { person: only.clone(), rule: rule.clone() }),
            _ => return Ok(PersonMatch::Ambiguous { rule: rule.clone(), candidates }),
        }
    }
    Ok(PersonMatch::NotFound)
}
