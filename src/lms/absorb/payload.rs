//! Webhook bodies, parsed tolerantly: Absorb documents what a body contains, and not how it is spelled
//! (<https://support.absorblms.com/hc/en-us/articles/28999993938451-Webhooks>). A body only says which learner to read again.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use crate::domain::event::{EventName, RawEvent, Reading};

/// Most events that one body may hold; what comes after them is left to the night.
const READINGS_MAX: usize = 500;

/// Longest event name that is kept, in characters.
const NAME_CHARS_MAX: usize = 128;

/// Objects in which a body may hold its ids, beside its root.
const NESTS: [&str; 7] = ["data", "payload", "event", "transaction", "detail", "body", "details"];

/// Keys under which the event's name may stand, folded, the best first.
const NAME_KEYS: [&str; 8] =
    ["eventname", "eventtype", "event", "type", "name", "webhookevent", "trigger", "eventcode"];

/// All other events of Absorb's list, folded: known, and about no record of ours.
const OTHERS: [&str; 27] = [
    "usercreated",
    "onlinecourseactivated",
    "onlinecoursedeactivated",
    "onlinecourseadded",
    "onlinecoursecreated",
    "departmentcreated",
    "departmentdeleted",
    "groupcreated",
    "groupdeleted",
    "curriculumactivated",
    "curriculumdeactivated",
    "curriculumadded",
    "curriculumcreated",
    "instructorledcourseactivated",
    "instructorledcoursedeactivated",
    "instructorledcourseadded",
    "instructorledcoursecreated",
    "coursebundleactivated",
    "coursebundledeactivated",
    "coursebundledeleted",
    "coursebundleadded",
    "coursecreditsawarded",
    "coursecreditawarded",
    "sessionenrollmentcompleted",
    "sessionenrolmentcompleted",
    "selfassessmentcompleted",
    "learningpathcompleted",
];

/// Reads the events of a body. Never fails: what cannot be read is one reading that says why.
#[must_use]
pub fn read(event: &RawEvent) -> Vec<Reading> {
    let text = match std::str::from_utf8(&event.body) {
        Ok(text) => text.trim_start_matches('\u{feff}').trim(),
        Err(_) => return vec![unknown("the body is not UTF-8")],
    };
    if text.is_empty() {
        return vec![test()];
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(items)) => read_batch(&items),
        Ok(object @ Value::Object(_)) => vec![read_object(&object)],
        Ok(_) => vec![unknown("the body is JSON, but neither an object nor an array")],
        Err(error) => {
            read_form(text).unwrap_or_else(|| vec![unknown(&format!("the body is neither JSON ({error}) nor a form"))])
        }
    }
}

/// What tells a repeat of an event from another event: all its ids; without a correlation id, the body too.
#[must_use]
pub fn dedupe_text(portal: &str, reading: &Reading, event: &RawEvent) -> Vec<u8> {
    let mut text = format!("{portal}\n{}\n{}\n", reading.name.as_str(), reading.user_id.as_deref().unwrap_or_default());
    for (key, id) in &reading.ids {
        text.push_str(&format!("{key}={id}\n"));
    }
    let mut bytes = text.into_bytes();
    if !reading.ids.contains_key("correlationid") {
        bytes.extend_from_slice(&event.body);
    }
    bytes
}

/// What was recognised, as a sentence for the administrator who presses the Test button.
#[must_use]
pub fn describe(readings: &[Reading]) -> String {
    let parts: Vec<String> = readings
        .iter()
        .take(3)
        .map(|reading| {
            let who = if reading.user_id.is_some() { "for one learner" } else { "without a learner" };
            match &reading.name {
                EventName::Test => "a test".to_owned(),
                EventName::EnrollmentCompleted => format!("Enrollment Completed {who}"),
                EventName::CertificateAwarded => format!("Certificate Awarded {who}"),
                EventName::CompetencyAwarded => format!("Competency Awarded {who}"),
                EventName::Other(name) => format!("{name} {who}"),
                EventName::Unknown(_) => "an event that is not on Absorb's list".to_owned(),
            }
        })
        .collect();
    let more = readings.len().saturating_sub(parts.len());
    if more > 0 { format!("{} and {more} more", parts.join(", ")) } else { parts.join(", ") }
}

fn read_batch(items: &[Value]) -> Vec<Reading> {
    if items.is_empty() {
        return vec![test()];
    }
    let mut readings: Vec<Reading> = items.iter().take(READINGS_MAX).map(read_object).collect();
    if items.len() > READINGS_MAX {
        let words = format!("the body holds {} events, only the first {READINGS_MAX} were read", items.len());
        readings.push(unknown(&words));
    }
    readings
}

fn read_form(text: &str) -> Option<Vec<Reading>> {
    if !text.contains('=') {
        return None;
    }
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(text).ok()?;
    // A form whose one field holds JSON is a habit of some senders.
    if let [(_, value)] = pairs.as_slice()
        && let Ok(object @ Value::Object(_)) = serde_json::from_str::<Value>(value)
    {
        return Some(vec![read_object(&object)]);
    }
    let object: serde_json::Map<String, Value> = pairs.into_iter().map(|(key, value)| (key, value.into())).collect();
    Some(vec![read_object(&object.into())])
}

fn read_object(value: &Value) -> Reading {
    let Some(object) = value.as_object() else { return unknown("an item of the batch is not an object") };
    if object.is_empty() {
        return test();
    }
    let mut scalars = BTreeMap::new();
    collect(value, 2, &mut scalars);
    let name = NAME_KEYS
        .iter()
        .find_map(|key| scalars.get(*key))
        .map_or_else(|| EventName::Unknown("(without a name)".to_owned()), |name| event_name(name));
    let mut ids = BTreeMap::new();
    for (key, text) in scalars.iter().filter(|(key, _)| key.ends_with("id") && key.len() > 2) {
        ids.insert(key.clone(), guid(text).unwrap_or_else(|| cut(text)));
    }
    let user = ["userid", "learnerid", "studentid"].iter().find_map(|key| scalars.get(*key));
    let (user_id, oddity) = match user {
        None => (None, matches!(name, EventName::Unknown(_)).then(|| "names no user".to_owned())),
        Some(text) => match guid(text) {
            Some(id) => (Some(id), None),
            None => (None, Some("the user id is not a GUID".to_owned())),
        },
    };
    let oddity = match (&name, oddity) {
        (EventName::Unknown(name), None) => Some(format!("\"{name}\" is not on Absorb's list of events")),
        (_, oddity) => oddity,
    };
    Reading { name, user_id, ids, oddity }
}

/// All scalars by folded key; the root wins over what is nested.
fn collect(value: &Value, levels: usize, into: &mut BTreeMap<String, String>) {
    let Some(object) = value.as_object() else { return };
    for (key, value) in object {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => continue,
        };
        into.entry(fold(key)).or_insert(text);
    }
    if levels == 0 {
        return;
    }
    for (key, value) in object {
        if value.is_object() && (levels < 2 || NESTS.contains(&fold(key).as_str())) {
            collect(value, levels - 1, into);
        }
    }
}

/// Letters and digits alone, in lower case: `User_ID`, `userId` and `UserId` are one key.
fn fold(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn event_name(text: &str) -> EventName {
    let folded = fold(text).replace("enrolment", "enrollment").replace("ilc", "instructorledcourse");
    let folded = folded.strip_suffix("event").filter(|rest| !rest.is_empty()).unwrap_or(&folded);
    match folded {
        "test" | "testwebhook" | "webhooktest" | "ping" => EventName::Test,
        "enrollmentcompleted"
        | "enrollmentcompletedbylearner"
        | "enrollmentcompletedbyadmin"
        | "coursecompleted"
        | "enrollmentcomplete" => EventName::EnrollmentCompleted,
        "certificateawarded" | "certificateaward" => EventName::CertificateAwarded,
        "competencyawarded" | "competencyaward" => EventName::CompetencyAwarded,
        other if OTHERS.contains(&other) => EventName::Other(other.to_owned()),
        _ => EventName::Unknown(cut(text)),
    }
}

fn guid(text: &str) -> Option<String> {
    Uuid::try_parse(text.trim()).ok().map(|id| id.hyphenated().to_string())
}

fn cut(text: &str) -> String {
    text.chars().take(NAME_CHARS_MAX).collect()
}

fn test() -> Reading {
    Reading { name: EventName::Test, user_id: None, ids: BTreeMap::new(), oddity: None }
}

fn unknown(oddity: &str) -> Reading {
    Reading {
        name: EventName::Unknown("(unreadable)".to_owned()),
        user_id: None,
        ids: BTreeMap::new(),
        oddity: Some(oddity.to_owned()),
    }
}
