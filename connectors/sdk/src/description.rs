//! What a connector says about itself and its target.

use serde::{Deserialize, Serialize};

/// The kinds of facts that an LMS holds about a learner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// A course was completed.
    Completion,
    /// A certificate was awarded.
    Certificate,
    /// A competency was awarded.
    Competency,
}

impl RecordKind {
    /// All kinds, in the order of tables and reports.
    pub const ALL: [Self; 3] = [Self::Completion, Self::Certificate, Self::Competency];

    /// The word for this kind in configuration, keys and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Certificate => "certificate",
            Self::Competency => "competency",
        }
    }

    /// The kind with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl std::fmt::Display for RecordKind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

/// How a route treats what the target already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteMode {
    /// The target converges to what the LMS holds.
    State,
    /// Once taken, settled for good: chat messages, events that cannot be changed.
    Append,
}

/// What a connector can do; the test kit checks every claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The connector's name in configuration, for example `bamboohr`.
    pub name: &'static str,
    /// One sentence for people.
    pub summary: &'static str,
    /// The vendor's page.
    pub documentation: &'static str,
    /// The kinds of reference data that `references` can list, for example `training_type`.
    pub reference_kinds: &'static [&'static str],
    /// How long after an unknown outcome the target may still be committing, in seconds.
    pub settle_seconds: u32,
    /// How many people may share one batch; 1 for targets that must list a person's rows before they write.
    pub persons_per_batch_max: usize,
    /// How many requests may be under way at once.
    pub concurrency_max: usize,
    /// The settings that `build` reads: name, what it is, whether it is required.
    pub settings: &'static [(&'static str, &'static str, bool)],
    /// The routes of a destination that configures none.
    pub default_routes: Vec<DefaultRoute>,
}

/// One route as it is without configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultRoute {
    /// The route's name.
    pub name: &'static str,
    /// Which records it takes.
    pub record: RecordKind,
    /// The target object that it fills.
    pub object: &'static str,
    /// State or append.
    pub mode: RouteMode,
    /// Target field <- source.
    pub fields: Vec<DefaultField>,
}

/// One line of a default mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultField {
    /// The target field.
    pub field: &'static str,
    /// Where its value comes from, in the words of the configuration: `path`, `template`, `reference` or `constant`.
    pub source: (&'static str, &'static str),
}

/// One object of the target, such as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetObject {
    /// Its name in configuration.
    pub name: String,
    /// The fields that are known without asking the target.
    pub fields: Vec<TargetField>,
    /// Whether other field names are allowed (tables that the customer made).
    pub open: bool,
}

/// One field of a target object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetField {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: FieldType,
    /// Whether a row cannot be made without it.
    pub required: bool,
    /// The longest text that the target takes, in characters.
    pub length_max: Option<usize>,
}

/// The type of a target field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Text.
    Text,
    /// A number.
    Number,
    /// A calendar date.
    Date,
    /// True or false.
    Bool,
    /// The id of a piece of reference data.
    Reference,
    /// Not known without asking the target: any type is taken.
    Any,
}

/// One piece of reference data of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its id, as the target wants it in a field.
    pub id: String,
    /// Its name, as people see it.
    pub name: String,
}
