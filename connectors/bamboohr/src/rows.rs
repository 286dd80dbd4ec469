//! Rows as we compare, mark and write them: training records and rows of custom tables behave alike here.

use learnsync_sdk::{DeliveryError, Fields, Value};
use serde_json::{Map, Value as Json, json};

use crate::client::{Client, Row};
use crate::settings::Settings;

/// What every mark of any learnsync begins with.
const MARK: &str = "learnsync:";

/// BambooHR shows these only when the company has switched them on; one that is not shown cannot be compared.
const HIDEABLE: [&str; 4] = ["instructor", "credits", "hours", "cost"];

/// A target object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    Training,
    Table(String),
}

impl Object {
    /// Reads an object's name.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        if name == "training" {
            return Ok(Self::Training);
        }
        match name.strip_prefix("table:") {
            Some(table) if !table.is_empty() && table.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                Ok(Self::Table(table.to_owned()))
            }
            _ => Err(format!(
                "\"{name}\" is no object of BambooHR: write \"training\", or \"table:<name>\" with a name of /api/v1/meta/tables"
            )),
        }
    }

    /// All rows of a person.
    pub(crate) async fn list(&self, client: &Client, person: &str) -> Result<Vec<Row>, DeliveryError> {
        match self {
            Self::Training => client.trainings(person).await,
            Self::Table(table) => client.table(person, table).await,
        }
    }

    /// Makes a row; its id when the answer says it.
    pub(crate) async fn create(
        &self,
        client: &Client,
        settings: &Settings,
        person: &str,
        fields: &Fields,
        mark: &str,
    ) -> Result<(u16, Option<String>), DeliveryError> {
        let body = self.body(settings, fields, mark, None);
        let (status, answer) = match self {
            Self::Training => client.create_training(person, &body).await?,
            Self::Table(table) => client.create_row(person, table, &body).await?,
        };
        Ok((status, answer.get("id").and_then(crate::client::text)))
    }

    /// Makes a row hold the fields and our mark.
    pub(crate) async fn update(
        &self,
        client: &Client,
        settings: &Settings,
        person: &str,
        row: &Row,
        fields: &Fields,
        mark: &str,
    ) -> Result<u16, DeliveryError> {
        let mut body = self.body(settings, fields, mark, Some(row));
        let (status, _) = match self {
            Self::Training => {
                // The type is fixed at creation; sending it again is refused.
                body.as_object_mut().map(|body| body.remove("type"));
                client.update_training(&row.id, &body).await?
            }
            Self::Table(table) => client.update_row(person, table, &row.id, &body).await?,
        };
        Ok(status)
    }

    /// Removes a row.
    pub(crate) async fn remove(&self, client: &Client, person: &str, row: &str) -> Result<u16, DeliveryError> {
        let (status, _) = match self {
            Self::Training => client.delete_training(row).await?,
            Self::Table(table) => client.delete_row(person, table, row).await?,
        };
        Ok(status)
    }

    fn body(&self, settings: &Settings, fields: &Fields, mark: &str, row: Option<&Row>) -> Json {
        let mut body: Map<String, Json> =
            fields.iter().map(|(name, value)| (name.clone(), json_of(name, value))).collect();
        match self {
            Self::Training => {
                let words = match fields.get("notes") {
                    Some(value) => value.to_string(),
                    // What people wrote there stays.
                    None => row.map(notes_of).unwrap_or_default(),
                };
                let notes = if words.is_empty() { mark.to_owned() } else { format!("{words}\n{mark}") };
                body.insert("notes".to_owned(), json!(notes));
            }
            Self::Table(_) => {
                body.insert(settings.mark_column.clone(), json!(mark));
            }
        }
        body.into()
    }

    /// The mark that a row carries, ours or another installation's.
    pub(crate) fn mark_of<'a>(&self, settings: &Settings, row: &'a Row) -> Option<&'a str> {
        let column = match self {
            Self::Training => "notes",
            Self::Table(_) => settings.mark_column.as_str(),
        };
        row.values.get(column)?.lines().map(str::trim).find(|line| line.starts_with(MARK))
    }

    /// Whether a row already holds the fields.
    pub(crate) fn holds(&self, row: &Row, fields: &Fields) -> bool {
        fields.iter().all(|(name, value)| {
            let held = row.values.get(name).map(String::as_str);
            match self {
                Self::Training if name == "notes" => notes_of(row) == value.to_string().trim(),
                Self::Training if held.is_none() && HIDEABLE.contains(&name.as_str()) => true,
                Self::Training | Self::Table(_) => is_same(held, value),
            }
        })
    }

    /// Whether a row without a mark is the same fact, entered by hand or by another program.
    pub(crate) fn is_same_fact(&self, row: &Row, fields: &Fields) -> bool {
        match self {
            // Absorb's own course sync and other LMSs write no more than these two.
            Self::Training => ["type", "completed"].iter().all(|name| {
                fields.get(*name).is_some_and(|value| is_same(row.values.get(*name).map(String::as_str), value))
            }),
            Self::Table(_) => self.holds(row, fields),
        }
    }

    /// A row's fields in our types.
    pub(crate) fn fields_of(&self, settings: &Settings, row: &Row) -> Fields {
        row.values
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "id" | "employeeId") && **name != settings.mark_column)
            .map(|(name, text)| {
                let value = match (self, name.as_str(), text.parse(), text.parse()) {
                    (Self::Training, "notes", ..) => Value::Text(notes_of(row)),
                    (Self::Training, "hours" | "credits", Ok(number), _) => Value::Number(number),
                    (_, _, _, Ok(date)) => Value::Date(date),
                    _ => Value::Text(text.clone()),
                };
                (name.clone(), value)
            })
            .collect()
    }
}

/// The notes of a training record without any mark.
fn notes_of(row: &Row) -> String {
    let lines = row.values.get("notes").map(String::as_str).unwrap_or_default().lines();
    let words: Vec<&str> = lines.filter(|line| !line.trim().starts_with(MARK)).collect();
    words.join("\n").trim().to_owned()
}

/// Compares as the target does: numbers by value, an empty date is none.
fn is_same(held: Option<&str>, wanted: &Value) -> bool {
    let held = held.map(str::trim).filter(|text| !text.is_empty() && *text != "0000-00-00");
    match wanted {
        Value::Null => held.is_none(),
        Value::Number(number) => {
            held.and_then(|text| text.parse::<f64>().ok()).is_some_and(|held| (held - number).abs() < 0.005)
        }
        Value::Bool(flag) => held.is_some_and(|text| match text.to_lowercase().as_str() {
            "true" | "yes" | "1" => *flag,
            "false" | "no" | "0" => !*flag,
            _ => false,
        }),
        Value::Date(date) => held == Some(date.to_string().as_str()),
        Value::Text(text) => held.unwrap_or_default() == text.trim(),
    }
}

fn json_of(name: &str, value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => json!(flag),
        Value::Number(number) => json!(number),
        Value::Date(date) => json!(date.to_string()),
        Value::Text(text) if name == "type" => text.parse::<i64>().map_or_else(|_| json!(text), |id| json!(id)),
        Value::Text(text) => json!(text),
    }
}
