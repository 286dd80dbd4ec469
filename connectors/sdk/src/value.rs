//! Target fields and their typed values.

use std::collections::BTreeMap;
use std::fmt;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

/// A record after a destination's mapping: target field name -> value. A field that is absent is left alone.
pub type Fields = BTreeMap<String, Value>;

/// One typed value of a target field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type", content = "value")]
pub enum Value {
    /// Blank the field out. Only a mapping that says so makes one.
    Null,
    /// True or false.
    Bool(bool),
    /// A number: score, credits, hours.
    Number(f64),
    /// Text, or a choice of a list.
    Text(String),
    /// A calendar date without zone.
    Date(NaiveDate),
}

impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str(""),
            Self::Bool(value) => value.fmt(out),
            Self::Number(value) => value.fmt(out),
            Self::Text(value) => out.write_str(value),
            Self::Date(value) => value.fmt(out),
        }
    }
}
