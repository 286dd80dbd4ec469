//! Takes everything personal out of a webhook's body, and leaves how it is spelled: keys, nesting, the names of events, kinds of values.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::event::{EVENTS, fold};

/// Keys under which the name of an event may stand, folded.
const EVENT_KEYS: [&str; 9] =
    ["eventname", "event", "eventtype", "eventcode", "webhookevent", "eventkey", "type", "topic", "action"];

/// Replaces what is personal; the same value by the same made-up one.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    ids: BTreeMap<String, String>,
    texts: BTreeMap<String, String>,
}

impl Redactor {
    /// A body without what is personal: JSON as JSON, a form as the text of a form, anything else as its length.
    pub(super) fn body(&mut self, body: &[u8]) -> Value {
        if let Ok(value) = serde_json::from_slice::<Value>(body) {
            return self.value("", value);
        }
        let text = String::from_utf8_lossy(body);
        let is_form = !text.starts_with(['{', '[', '"', '<']) && text.contains('=');
        let pairs: Option<Vec<(String, String)>> = is_form.then(|| serde_urlencoded::from_str(&text).ok()).flatten();
        match pairs {
            Some(pairs) => {
                let pairs: Vec<(String, String)> =
                    pairs.into_iter().map(|(key, text)| (key.clone(), self.text(&key, text))).collect();
                Value::from(serde_urlencoded::to_string(pairs).unwrap_or_default())
            }
            None => Value::from(format!("(not kept: {} bytes, neither JSON nor a form)", body.len())),
        }
    }

    fn value(&mut self, key: &str, value: Value) -> Value {
        match value {
            Value::Object(object) => {
                let object: Map<String, Value> =
                    object.into_iter().map(|(key, value)| (key.clone(), self.value(&key, value))).collect();
                Value::Object(object)
            }
            Value::Array(items) => items.into_iter().map(|item| self.value(key, item)).collect(),
            Value::String(text) => Value::String(self.text(key, text)),
            // An employee number is a number; a small one counts something.
            Value::Number(number) if number.as_f64().is_some_and(|number| number.abs() >= 1_000.0) => {
                Value::from(1_000)
            }
            other => other,
        }
    }

    fn text(&mut self, key: &str, text: String) -> String {
        if text.is_empty() || is_moment(&text) || is_event(&text) || EVENT_KEYS.contains(&fold(key).as_str()) {
            return text;
        }
        if Uuid::try_parse(text.trim()).is_ok() {
            let next = self.ids.len() + 1;
            // In the same casing and length, since those are what a receiver must read.
            let plain =
                self.ids.entry(text.to_lowercase()).or_insert_with(|| format!("00000000-0000-4000-8000-{next:012}"));
            return if text.contains('-') { plain.clone() } else { plain.replace('-', "") };
        }
        let next = self.texts.len() + 1;
        let is_address = text.contains('@');
        let made_up = || if is_address { format!("person{next}@example.org") } else { format!("text {next}") };
        self.texts.entry(text).or_insert_with(made_up).clone()
    }
}

fn is_event(text: &str) -> bool {
    let folded = fold(text);
    folded == "test" || EVENTS.iter().any(|event| fold(event.name) == folded)
}

/// A date or an instant: digits and their separators alone.
fn is_moment(text: &str) -> bool {
    text.len() >= 10
        && text.starts_with(|digit: char| digit.is_ascii_digit())
        && text.contains('-')
        && text
            .chars()
            .all(|letter| letter.is_ascii_digit() || matches!(letter, '-' | ':' | '.' | '+' | 'T' | 'Z' | ' '))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_it_is_about_is_replaced_and_how_it_is_spelled_stays() {
        let mut redactor = Redactor::default();
        let body = json!({
            "EventName": "CertificateAwarded", "Kind": "Something New", "event": "planet.created",
            "UserId": "A14C149A-2CE0-41D4-B532-02189AD3CB22", "Again": "a14c149a-2ce0-41d4-b532-02189ad3cb22",
            "data": [{"fullName": "Ada Lovelace", "email": "ada@acme.example", "employeeNumber": 8675309, "score": 90.5}],
            "at": "2026-03-03T04:30:00Z", "none": null, "is": true,
        });
        let redacted = redactor.body(body.to_string().as_bytes());
        let text = redacted.to_string();
        for personal in ["Ada", "Lovelace", "acme", "8675309", "a14c149a", "A14C149A", "Something"] {
            assert!(!text.contains(personal), "{personal} in {text}");
        }
        for kept in
            ["CertificateAwarded", "planet.created", "2026-03-03T04:30:00Z", "90.5", "fullName", "employeeNumber"]
        {
            assert!(text.contains(kept), "{kept} in {text}");
        }
        assert_eq!(redacted["UserId"], redacted["Again"], "the same person stays the same");
    }

    #[test]
    fn a_form_stays_a_form_and_what_is_neither_is_not_kept() {
        let mut redactor = Redactor::default();
        let form = redactor.body(b"event=Certificate+Awarded&learner=Ada+Lovelace");
        assert_eq!(form, json!("event=Certificate+Awarded&learner=text+1"));
        assert_eq!(redactor.body(b"Ada Lovelace"), json!("(not kept: 12 bytes, neither JSON nor a form)"));
    }
}
