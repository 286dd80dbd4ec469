//! Webhook bodies, in the dialects that a receiver must understand.
//!
//! Absorb documents what a body contains (event name, user id, admin id, client id, correlation id) and not how it is spelled
//! (<https://support.absorblms.com/hc/en-us/articles/28999993938451-Webhooks>), so every spelling here is a guess.

use serde_json::{Value, json};
use uuid::Uuid;

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
pub(super) struct Event {
    /// Absorb's display name.
    pub(super) name: &'static str,
    /// The learner.
    pub(super) user: Uuid,
    /// What happened to the learner: `certificateId` -> id ...; only some dialects carry these.
    pub(super) ids: Vec<(&'static str, Uuid)>,
}

/// Spells an event in a dialect.
pub(super) fn spell(event: &Event, dialect: char, client: Uuid, chance: &dyn Entropy) -> HookBody {
    let correlation = guid(chance);
    let camel =
        |name: &str| json!({"eventName": name, "clientId": client, "correlationId": correlation, "userId": event.user});
    let body = match dialect {
        'B' => code_named(event, client, correlation),
        'C' => pascal(event, client, correlation, chance),
        'D' => nested(event, client, correlation),
        'E' if chance.below(2) == 0 => json!([camel(event.name)]),
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

fn json_type(chance: &dyn Entropy) -> String {
    let types = ["application/json", "application/json; charset=utf-8"];
    types[usize::from(chance.below(2) == 0)].to_owned()
}

fn code_named(event: &Event, client: Uuid, correlation: Uuid) -> Value {
    let name: String = event.name.split(' ').map(capitalised).collect();
    let mut body = json!({"event": name, "clientId": client, "correlationId": correlation, "userId": event.user});
    for (key, id) in &event.ids {
        body[*key] = json!(id);
    }
    body
}

fn pascal(event: &Event, client: Uuid, correlation: Uuid, chance: &dyn Entropy) -> Value {
    let name: String = event.name.split(' ').map(capitalised).collect();
    let mut body = json!({"EventName": name, "ClientId": client, "CorrelationId": correlation, "UserId": event.user});
    if event.name.ends_with("Admin") {
        body["AdminId"] = json!(guid(chance));
    }
    for (key, id) in &event.ids {
        body[capitalised(key)] = json!(id);
    }
    body
}

fn nested(event: &Event, client: Uuid, correlation: Uuid) -> Value {
    let mut data = json!({"userId": event.user});
    for (key, id) in &event.ids {
        data[*key] = json!(id);
    }
    let name = event.name.to_lowercase().replace(' ', "_");
    json!({"eventName": name, "transaction": {"clientId": client, "correlationId": correlation}, "data": data})
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
