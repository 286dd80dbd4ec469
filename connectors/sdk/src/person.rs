//! Who a learner is, and how a target recognises them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What the LMS knows of a person. Personal data: never logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learner {
    /// The LMS's own id.
    pub id: String,
    /// The id from another system, in Absorb `externalId`; unique there, the best key.
    pub external_id: Option<String>,
    /// The employee number; its uniqueness is not enforced by Absorb.
    pub employee_number: Option<String>,
    /// The e-mail address; not unique.
    pub email: Option<String>,
    /// The login name; may change.
    pub username: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// False when the LMS says that the person is inactive (left, or merged into another account).
    pub is_active: bool,
    /// Custom fields by their LMS name, for example `decimal1`.
    #[serde(default)]
    pub custom: BTreeMap<String, String>,
}

/// One way to recognise a person; rules are tried in the configured order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchRule {
    /// The learner's external id is the target's employee number.
    ExternalId,
    /// The learner's employee number is the target's.
    EmployeeNumber,
    /// Exact e-mail address, letters folded to lower case.
    Email,
}

impl MatchRule {
    /// The learner's value for this rule, trimmed and folded; none when it is missing or blank.
    #[must_use]
    pub fn value_of(&self, learner: &Learner) -> Option<String> {
        let value = match self {
            Self::ExternalId => learner.external_id.as_deref(),
            Self::EmployeeNumber => learner.employee_number.as_deref(),
            Self::Email => learner.email.as_deref(),
        }?;
        let folded = value.trim().to_lowercase();
        (!folded.is_empty()).then_some(folded)
    }
}

impl fmt::Display for MatchRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::ExternalId => "external_id",
            Self::EmployeeNumber => "employee_number",
            Self::Email => "email",
        })
    }
}

/// The result of a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersonMatch {
    /// Exactly one person.
    Found {
        /// The person's id in the target.
        person: String,
        /// The rule by which we know.
        rule: MatchRule,
    },
    /// No rule found anyone.
    NotFound,
    /// A rule found several; nothing is guessed.
    Ambiguous {
        /// The rule that found them.
        rule: MatchRule,
        /// Their ids in the target.
        candidates: Vec<String>,
    },
}
