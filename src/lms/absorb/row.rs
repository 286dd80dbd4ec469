//! One JSON object of the vendor, read by folded keys, so that casing, separators and types may vary.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::dates::{self, Midnight};
pub(super) use crate::domain::event::fold;
use crate::domain::time::LmsTime;

/// Reads a GUID, with or without braces or hyphens, in either case; the answer is in lower case with hyphens.
pub(super) fn guid(text: &str) -> Option<String> {
    Uuid::try_parse(text.trim()).ok().map(|guid| guid.hyphenated().to_string())
}

/// Cuts a text to so many characters.
pub(super) fn cut(text: &str, characters_max: usize) -> &str {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// The text of a scalar: trimmed, none when blank. A number without a fraction loses its `.0`, as employee numbers that Absorb keeps
/// in decimal fields need it.
pub(super) fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => {
            let digits = number.to_string();
            digits.strip_suffix(".0").unwrap_or(&digits).to_owned()
        }
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// An object by folded keys. Names are asked in folded form; where several are given, the first with a value wins.
pub(super) struct Row<'a>(BTreeMap<String, &'a Value>);

impl<'a> Row<'a> {
    /// Reads an object; anything else is refused, in words.
    pub(super) fn of(value: &'a Value) -> Result<Self, String> {
        let object = value.as_object().ok_or_else(|| "a row is not a JSON object".to_owned())?;
        Ok(Self(object.iter().map(|(key, value)| (fold(key), value)).collect()))
    }

    /// The first of these fields that is neither absent nor null.
    pub(super) fn get(&self, names: &[&str]) -> Option<&'a Value> {
        names.iter().filter_map(|name| self.0.get(*name).copied()).find(|value| !value.is_null())
    }

    /// The first of these fields that holds a text or a number, as text.
    pub(super) fn text(&self, names: &[&str]) -> Option<String> {
        names.iter().filter_map(|name| self.0.get(*name)).find_map(|value| text(value))
    }

    /// An id; a GUID in its one spelling, any other as it is.
    pub(super) fn id(&self, names: &[&str]) -> Option<String> {
        self.text(names).map(|id| guid(&id).unwrap_or(id))
    }

    /// A number, also when it was sent as text.
    pub(super) fn number(&self, names: &[&str]) -> Option<f64> {
        let number: f64 = self.text(names)?.parse().ok()?;
        number.is_finite().then_some(number)
    }

    /// A moment. One that is there and cannot be read is an error: an unread expiry date would look like "never expires".
    pub(super) fn moment(&self, names: &[&str], midnight: Midnight) -> Result<Option<LmsTime>, String> {
        match self.get(names) {
            None => Ok(None),
            Some(Value::String(text)) => {
                dates::moment(text, midnight).map_err(|error| format!("{}: {error}", names.first().unwrap_or(&"date")))
            }
            Some(_) => Err(format!("{} is not a text", names.first().unwrap_or(&"date"))),
        }
    }
}
