//! What the two kinds of target objects have in common.

use learnsync_sdk::{DeliveryError, ErrorKind, Fields, TargetObject, async_trait};
use serde_json::Value as Json;

use crate::client::{Answer, Client, Row, Rows};
use crate::settings::Settings;
use crate::tables::Table;
use crate::training::Training;

/// How every mark of every installation begins.
const MARK_PREFIX: &str = "learnsync:";

/// A place where rows of a person stand: training records, or one table.
#[async_trait]
pub(crate) trait Object: Send + Sync {
    /// What configuration may map onto it.
    fn describe(&self) -> TargetObject;

    /// The text in which a row's marks stand.
    fn marked(&self, row: &Row) -> String;

    /// Whether this row carries this mark.
    fn carries(&self, row: &Row, mark: &str) -> bool {
        has_mark(&self.marked(row), mark)
    }

    /// Whether an unmarked row says the same fact, so that adopting it is better than writing it a second time.
    fn is_adoptable(&self, row: &Row, fields: &Fields) -> bool;

    /// Whether the row can become what we want.
    fn check(&self, row: &Row, fields: &Fields) -> Result<(), DeliveryError>;

    /// Whether the row holds all of these fields; others do not matter.
    fn holds(&self, row: &Row, fields: &Fields) -> bool;

    /// The body that makes a row, or changes the given one, with our mark in it.
    fn body(&self, row: Option<&Row>, fields: &Fields, mark: &str) -> Json;

    /// Whether only a second look proves that our mark arrived.
    fn needs_proof(&self) -> bool;

    /// The row's fields in our vocabulary, without the mark.
    fn observed(&self, row: &Row, mark: &str) -> Fields;

    /// Lists a person's rows.
    async fn list(&self, client: &Client, person: &str) -> Result<Rows, DeliveryError>;

    /// Lists everybody's rows by one call; none where there is no such call, or its answer is larger than what is read.
    async fn list_all(&self, client: &Client) -> Result<Option<Rows>, DeliveryError>;

    /// Makes a row.
    async fn create(&self, client: &Client, person: &str, body: &Json, what: &str) -> Result<Answer, DeliveryError>;

    /// Changes a row.
    async fn update(
        &self,
        client: &Client,
        person: &str,
        row: &str,
        body: &Json,
        what: &str,
    ) -> Result<Answer, DeliveryError>;

    /// Removes a row; one that is gone already is an error of status 404.
    async fn delete(&self, client: &Client, person: &str, row: &str, what: &str) -> Result<Answer, DeliveryError>;
}

/// The object with this name in configuration.
pub(crate) fn parse(name: &str, settings: &Settings) -> Result<Box<dyn Object>, String> {
    if name == "training" {
        return Ok(Box::new(Training));
    }
    match name.strip_prefix("table:") {
        Some(table) if is_word(table) => Ok(Box::new(Table::new(table, &settings.mark_column))),
        Some(_) | None => Err(format!(
            "bamboohr has no object \"{name}\": write \"training\" or \"table:<name>\", for example \"table:customCertifications\""
        )),
    }
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// Whether the text holds this mark as a word of its own; one mark may be the beginning of another.
fn has_mark(text: &str, mark: &str) -> bool {
    text.split_whitespace().any(|word| word == mark)
}

/// Whether the text holds a mark of any installation.
pub(crate) fn has_any_mark(text: &str) -> bool {
    marks_in(text).next().is_some()
}

/// The mark in a text: ours before those of other installations, so that a row of ours is ours whatever else was written there.
pub(crate) fn mark_in(text: &str, installation: &str) -> Option<String> {
    let ours = format!("{MARK_PREFIX}{installation}:");
    let mark = marks_in(text).find(|mark| mark.starts_with(&ours)).or_else(|| marks_in(text).next());
    mark.map(str::to_owned)
}

fn marks_in(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().filter(|word| word.starts_with(MARK_PREFIX))
}

/// A refusal of ours, without a call.
pub(crate) fn rejected(message: impl Into<String>) -> DeliveryError {
    DeliveryError::new(ErrorKind::Rejected, message)
}
