//! The plan file: what would be written, line by line, before it is. JSON lines: a head, one line a place, and a seal over all of them.

use std::collections::BTreeMap;

use learnsync_sdk::{Fields, Value};
use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// The version of the format.
pub const VERSION: u32 = 1;

/// The largest plan file, in bytes.
pub const BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanHead {
    /// The version of the format.
    pub learnsync_plan: u32,
    /// Whose ledger it was made from.
    pub installation: String,
    /// The destination.
    pub destination: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// The mapping of each route, by its digest: another one makes other fields.
    pub mappings: BTreeMap<String, String>,
}

/// One place that would be written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanLine {
    /// The delivery.
    pub delivery: i64,
    /// Its slot.
    pub record: String,
    /// The target object.
    pub object: String,
    /// The person's id in the target.
    pub person: String,
    /// The row's id in the target.
    pub row: String,
    /// The fields that would change, by name.
    pub changes: BTreeMap<String, FieldChange>,
    /// All fields that would be sent.
    pub sends: Fields,
    /// Digest of the facts that the place should hold; with other facts the line is stale.
    pub wanted: String,
    /// Digest of the fields that it is known to hold; with others the line is stale.
    pub held: Option<String>,
    /// Digest of all fields as the mapping makes them.
    pub makes: String,
}

/// How one field would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldChange {
    /// What it holds; none where nobody knows.
    pub from: Option<Value>,
    /// What it would hold.
    pub to: Value,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanEnd {
    /// A keyed digest over all lines before it: whoever edits one cannot make it.
    pub seal: String,
}

/// One line as it stands in the file.
///
/// # Panics
/// Never: plain data has a text.
#[must_use]
pub fn line(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).expect("a plan is plain data");
    text.push('\n');
    text
}
