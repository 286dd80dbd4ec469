//! Webhook bodies, in the dialects that a receiver must understand.
//!
//! Absorb documents what a body contains (event name, user id, admin id of admin events, client id, correlation id) and not how it is
//! spelled (SEEN: <https://support.absorblms.com/hc/en-us/articles/28999993938451-Webhooks>), so every spelling here is INFERRED.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::quirks::HookIds;
use crate::domain::chance::Entropy;
use crate::sandbox::population::guid;

/// One webhook as Absorb would send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookBody {
    /// Absorb's display name of the event, for example `Certificate Awarded`.
    pub event: &'static str,
    /// The request's body.
    pub body: Vec<u8>,
    /// The request's `Content-Type`; empty for an empty body.
    pub content_type: String,
    /// Which spelling: A camel case with display names (JSON or a form), B camel case with code names and ids, C Pascal case, D nested,
    /// E a batch, F a test.
    pub dialect: char,
}

/// What a webhook tells about.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// Absorb's display name.
    pub(super) name: &'static str,
    /// The learner who acted, or on whose behalf; INFERRED that what happens to departments, groups and courses names none.
    pub(super) user: Option<Uuid>,
    /// The administrator, of admin events.
    pub(super) admin: Option<Uuid>,
    /// What happened to it: `certificateId` -> id ...; INFERRED, and only some dialects carry these.
    pub(super) ids: Vec<(&'static str, Uuid)>,
}

/// How one webhook is written.
pub(super) struct Writing {
    pub(super) dialect: char,
    pub(super) ids: HookIds,
    /// None for a body without one.
    pub(super) correlation: Option<Uuid>,
    pub(super) client: Uuid,
}

impl Writing {
    /// Whether ids go into this body; `is_usual` says what the dialect does by itself.
    fn has_ids(&self, is_usual: bool) -> bool {
        match self.ids {
            HookIds::Dialect => is_usual,
            HookIds::Always => true,
            HookIds::Never => false,
        }
    }

    /// Adds the people and, if wanted, the things.
    fn fill(&self, body: &mut Map<String, Value>, event: &Event, is_usual: bool, key: fn(&str) -> String) {
        let people = [("userId", event.user), ("adminId", event.admin)];
        for (name, id) in people.into_iter().filter_map(|(name, id)| Some((name, id?))) {
            body.insert(key(name), json!(id));
        }
        if self.has_ids(is_usual) {
            body.extend(event.ids.iter().map(|(name, id)| (key(name), json!(id))));
        }
    }

    /// Client and correlation.
    fn transaction(&self, key: fn(&str) -> String) -> Map<String, Value> {
        let mut body = Map::from_iter([(key("clientId"), json!(self.client))]);
        body.extend(self.correlation.map(|id| (key("correlationId"), json!(id))));
        body
    }

    /// A flat body: the name, client and correlation, people and things.
    fn flat(&self, name: (&str, &str), event: &Event, is_usual: bool, key: fn(&str) -> String) -> Value {
        let mut body = Map::from_iter([(key(name.0), json!(name.1))]);
        body.extend(self.transaction(key));
        self.fill(&mut body, event, is_usual, key);
        Value::Object(body)
    }
}

/// Spells an event.
pub(super) fn spell(event: &Event, writing: &Writing, chance: &dyn Entropy) -> HookBody {
    let dialect = writing.dialect;
    let camel = |name: &str| writing.flat(("eventName", name), event, false, str::to_owned);
    let code_name: String = event.name.split([' ', '-']).map(capitalised).collect();
    let body = match dialect {
        'B' => writing.flat(("event", &code_name), event, true, str::to_owned),
        'C' => writing.flat(("eventName", &code_name), event, true, capitalised),
        'D' => nested(event, writing),
        'E' if event.user.is_none() || chance.below(2) == 0 => json!([camel(event.name)]),
        // Course Credits Awarded often comes with a completion; it may share the correlation.
        'E' => json!([camel(event.name), camel("Course Credits Awarded")]),
        _ => camel(event.name),
    };
    if dialect == 'A' && chance.below(4) == 0 {
        return form(event.name, &body);
    }
    HookBody { event: event.name, body: body.to_string().into_bytes(), content_type: json_type(chance), dialect }
}

/// What the Test Webhook button may send: a name, an empty object, or nothing.
pub(super) fn test(client: Uuid, chance: &dyn Entropy) -> HookBody {
    let body = match chance.below(3) {
        0 => json!({"eventName": "Test", "clientId": client}).to_string(),
        1 => "{}".to_owned(),
        _ => String::new(),
    };
    let content_type = if body.is_empty() { String::new() } else { json_type(chance) };
    HookBody { event: "Test", body: body.into_bytes(), content_type, dialect: 'F' }
}

/// A correlation id.
pub(super) fn correlation(chance: &dyn Entropy) -> Uuid {
    guid(chance)
}

fn json_type(chance: &dyn Entropy) -> String {
    let types = ["application/json", "application/json; charset=utf-8"];
    types[usize::from(chance.below(2) == 0)].to_owned()
}

fn nested(event: &Event, writing: &Writing) -> Value {
    let mut data = Map::new();
    writing.fill(&mut data, event, true, str::to_owned);
    let name = event.name.to_lowercase().replace([' ', '-'], "_");
    json!({"eventName": name, "transaction": writing.transaction(str::to_owned), "data": data})
}

fn form(event: &'static str, body: &Value) -> HookBody {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pairs: Vec<(String, String)> =
        body.as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect();
    let body = serde_urlencoded::to_string(pairs).expect("pairs of texts can always be encoded");
    let content_type = "application/x-www-form-urlencoded".to_owned();
    HookBody { event, body: body.into_bytes(), content_type, dialect: 'A' }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
