//! Training records: the mark stands on a line of its own at the end of the notes.

use learnsync_sdk::{DeliveryError, FieldType, Fields, Reference, TargetField, TargetObject, Value, async_trait};
use serde_json::{Map, Value as Json};

use crate::client::{Answer, Client, Row, Rows};
use crate::objects::{Object, has_any_mark, rejected};
use crate::values::{self, TWO_DECIMALS, is_blank, is_equal, lines_of, text_of};

/// The fields that a mapping may fill: name, type, required. The cost is left to people.
const FIELDS: [(&str, FieldType, bool); 6] = [
    ("completed", FieldType::Date, true),
    ("type", FieldType::Reference, true),
    ("hours", FieldType::Number, false),
    ("credits", FieldType::Number, false),
    ("instructor", FieldType::Text, false),
    ("notes", FieldType::Text, false),
];
/// What an update repeats from the row when the mapping does not name it.
// It is not documented whether an update blanks what it does not name; a repeated value is right either way.
const KEPT: [&str; 5] = ["completed", "hours", "credits", "instructor", "cost"];

/// The training records of a person.
pub(crate) struct Training;

/// Lists the training types.
pub(crate) async fn types(client: &Client) -> Result<Vec<Reference>, DeliveryError> {
    let name = |row: &Row| row.values.get("name").and_then(text_of).unwrap_or_default();
    Ok(client.training_types().await?.into_iter().map(|row| Reference { name: name(&row), id: row.id }).collect())
}

#[async_trait]
impl Object for Training {
    fn describe(&self) -> TargetObject {
        let field = |&(name, kind, required): &(&str, FieldType, bool)| TargetField {
            name: name.to_owned(),
            kind,
            required,
            length_max: None,
        };
        TargetObject { name: "training".to_owned(), fields: FIELDS.iter().map(field).collect(), open: false }
    }

    fn marked(&self, row: &Row) -> String {
        notes_of(row)
    }

    /// The same type on the same day, whoever wrote it: other LMS integrations write training records, too.
    fn is_adoptable(&self, row: &Row, fields: &Fields) -> bool {
        let says_same =
            |name| fields.get(name).is_some_and(|want| *want != Value::Null && holds_field(row, name, want));
        says_same("type") && says_same("completed") && !has_any_mark(&notes_of(row))
    }

    fn check(&self, row: &Row, fields: &Fields) -> Result<(), DeliveryError> {
        let (Some(have), Some(want)) = (row.values.get("type"), fields.get("type")) else { return Ok(()) };
        if is_blank(Some(have)) || holds_field(row, "type", want) {
            return Ok(());
        }
        let have = text_of(have).unwrap_or_default();
        Err(rejected(format!(
            "the training type of a record cannot be changed (from {have} to {want}): delete the record in BambooHR or map the course back"
        )))
    }

    fn holds(&self, row: &Row, fields: &Fields) -> bool {
        fields.iter().all(|(name, want)| holds_field(row, name, want))
    }

    fn body(&self, row: Option<&Row>, fields: &Fields, mark: &str) -> Json {
        let mut body = Map::new();
        for (name, value) in row.into_iter().flat_map(|row| &row.values) {
            if KEPT.contains(&name.as_str()) && !is_blank(Some(value)) {
                body.insert(name.clone(), kept(name, value));
            }
        }
        for (name, value) in fields {
            // Blanking what is blank already would only risk a refusal.
            if *value != Value::Null || !is_blank(row.and_then(|row| row.values.get(name))) {
                body.insert(name.clone(), written(name, value));
            }
        }
        if row.is_some() {
            // The type cannot be changed, and naming it in an update is refused.
            body.remove("type");
        }
        body.insert("notes".to_owned(), Json::String(notes(row, fields, mark)));
        Json::Object(body)
    }

    /// The answer to a create names the record, and the notes are always there.
    fn needs_proof(&self) -> bool {
        false
    }

    /// Fields that BambooHR does not show are left out: hours, credits and instructor come only when they are switched on.
    fn observed(&self, row: &Row, mark: &str) -> Fields {
        let shown = FIELDS.iter().filter_map(|(name, ..)| Some((*name, row.values.get(*name)?)));
        shown.map(|(name, value)| (name.to_owned(), read(name, value, mark))).collect()
    }

    async fn list(&self, client: &Client, person: &str) -> Result<Rows, DeliveryError> {
        client.training_records(person).await
    }

    /// BambooHR lists training records of one person only.
    async fn list_all(&self, _client: &Client) -> Result<Option<Rows>, DeliveryError> {
        Ok(None)
    }

    async fn create(&self, client: &Client, person: &str, body: &Json, what: &str) -> Result<Answer, DeliveryError> {
        client.create_training_record(person, body, what).await
    }

    async fn update(
        &self,
        client: &Client,
        _person: &str,
        row: &str,
        body: &Json,
        what: &str,
    ) -> Result<Answer, DeliveryError> {
        client.update_training_record(row, body, what).await
    }

    async fn delete(&self, client: &Client, _person: &str, row: &str, what: &str) -> Result<Answer, DeliveryError> {
        client.delete_training_record(row, what).await
    }
}

fn is_number(name: &str) -> bool {
    matches!(name, "hours" | "credits" | "type")
}

fn holds_field(row: &Row, name: &str, want: &Value) -> bool {
    match name {
        "notes" => lines_of(&unmarked(&notes_of(row))) == lines_of(&unmarked(&want.to_string())),
        _ if is_number(name) => is_equal(row.values.get(name), &values::numeric(want), TWO_DECIMALS),
        _ => is_equal(row.values.get(name), want, TWO_DECIMALS),
    }
}

/// A value as it goes back unchanged; numbers come as text and are wanted as numbers.
fn kept(name: &str, value: &Json) -> Json {
    match values::number_of(value) {
        Some(number) if is_number(name) => values::json_of(&Value::Number(number)),
        Some(_) | None => value.clone(),
    }
}

fn written(name: &str, value: &Value) -> Json {
    if is_number(name) { values::json_of_numeric(value) } else { values::json_of(value) }
}

fn read(name: &str, value: &Json, mark: &str) -> Value {
    match name {
        _ if is_blank(Some(value)) => Value::Null,
        "notes" => text_or_null(lines_of(&without(&text_of(value).unwrap_or_default(), |word| word == mark))),
        "completed" => values::typed(value),
        "hours" | "credits" => values::number_of(value).map_or_else(|| values::typed(value), Value::Number),
        _ => text_or_null(text_of(value).unwrap_or_default()),
    }
}

fn text_or_null(text: String) -> Value {
    if text.is_empty() { Value::Null } else { Value::Text(text) }
}

fn notes_of(row: &Row) -> String {
    row.values.get("notes").and_then(text_of).unwrap_or_default()
}

/// The mapping owns the notes when it names them; otherwise what people wrote stays.
fn notes(row: Option<&Row>, fields: &Fields, mark: &str) -> String {
    let text = match (fields.get("notes"), row) {
        (Some(value), _) => value.to_string(),
        (None, Some(row)) => without(&notes_of(row), |word| word == mark),
        (None, None) => String::new(),
    };
    let text = lines_of(&text);
    if text.is_empty() { mark.to_owned() } else { format!("{text}\n{mark}") }
}

fn unmarked(notes: &str) -> String {
    without(notes, has_any_mark)
}

/// The text without the words that are ours; a line that held nothing else goes with them.
fn without(text: &str, is_ours: impl Fn(&str) -> bool) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        if !line.split_whitespace().any(&is_ours) {
            lines.push(line.to_owned());
            continue;
        }
        let rest: Vec<&str> = line.split_whitespace().filter(|word| !is_ours(word)).collect();
        if !rest.is_empty() {
            lines.push(rest.join(" "));
        }
    }
    lines.join("\n")
}
