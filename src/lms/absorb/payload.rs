//! Webhook bodies, read tolerantly: Absorb does not document their keys, casing, nesting or event spelling.
//!
//! What Absorb promises is a list: event name, user id, admin id on admin events, client id, correlation id
//! (<https://support.absorblms.com/hc/en-us/articles/28999993938451-Webhooks>). Everything else here is tolerance.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::row::{cut, fold, guid, text};
use crate::domain::event::{EVENTS, EventName, KnownEvent, RawEvent, Reading};
use crate::domain::subject::SubjectKind;

/// Most readings of one body; a longer list is cut, which its last reading says.
pub const READINGS_MAX: usize = 500;
/// Most ids kept of one reading.
pub const IDS_MAX: usize = 32;
/// Longest event name or id that is kept, in characters.
pub const NAME_CHARACTERS_MAX: usize = 128;

/// Where ids and names may hide, in this order, after the root.
const CONTAINERS: [&str; 6] = ["data", "payload", "event", "transaction", "detail", "body"];
/// Keys that mean the event's name wherever they stand.
const NAME_KEYS: [&str; 6] = ["eventname", "event", "eventtype", "eventcode", "webhookevent", "eventkey"];
/// Keys that mean it only near the root: further down they are names of courses and people.
const WEAK_NAME_KEYS: [&str; 4] = ["name", "type", "topic", "action"];
/// Keys of the learner's id.
const USER_KEYS: [&str; 4] = ["userid", "learnerid", "userguid", "learnerguid"];
/// Folded names of test events.
const TEST_NAMES: [&str; 4] = ["test", "testwebhook", "webhooktest", "ping"];

/// Names of events that the configuration adds to Absorb's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases(BTreeMap<String, &'static KnownEvent>);

impl Aliases {
    /// Each name with the event that it means; casing and separators do not matter.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = (String, &'static KnownEvent)>) -> Self {
        Self(names.into_iter().map(|(name, event)| (fold(&name), event)).collect())
    }
}

type Object = Map<String, Value>;

/// Reads a webhook body; never fails, and gives at least one reading. What cannot be read is `Unknown` with an oddity.
#[must_use]
pub fn read(event: &RawEvent, aliases: &Aliases) -> Vec<Reading> {
    let Decoded { text, oddity } = decode(event);
    let mut readings = read_text(text.trim(), aliases);
    if let Some(words) = oddity {
        readings.iter_mut().for_each(|reading| note(reading, words));
    }
    readings
}

struct Decoded {
    text: String,
    oddity: Option<&'static str>,
}

/// Turns bytes into text. UTF-16 is recognised by its mark or its zero bytes, since headers are often wrong; it is read, but it is odd.
fn decode(event: &RawEvent) -> Decoded {
    let body = event.body.as_slice();
    if let Some(rest) = body.strip_prefix(&[0xEF, 0xBB, 0xBF]) {
        return decode_utf8(rest);
    }
    let pairs = |join: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = body.chunks_exact(2).map(|pair| join([pair[0], pair[1]])).collect();
        let text = String::from_utf16_lossy(&units);
        Decoded { text: text.trim_start_matches('\u{feff}').to_owned(), oddity: Some("the body is UTF-16") }
    };
    match body {
        [0xFE, 0xFF, ..] | [0, 1..=127, ..] => pairs(u16::from_be_bytes),
        [0xFF, 0xFE, ..] | [1..=127, 0, ..] => pairs(u16::from_le_bytes),
        _ => decode_utf8(body),
    }
}

fn decode_utf8(body: &[u8]) -> Decoded {
    match std::str::from_utf8(body) {
        Ok(text) => Decoded { text: text.to_owned(), oddity: None },
        // Ids and event names are ASCII, so they survive in a body of another encoding.
        Err(_) => {
            let text = String::from_utf8_lossy(body).into_owned();
            Decoded { text, oddity: Some("the body is not valid UTF-8") }
        }
    }
}

fn read_text(text: &str, aliases: &Aliases) -> Vec<Reading> {
    if text.is_empty() {
        return vec![reading(EventName::Test)];
    }
    match serde_json::from_str::<Value>(text) {
        // JSON inside a JSON string: somebody encoded it twice.
        Ok(Value::String(inner)) => match serde_json::from_str(&inner) {
            Ok(value) => read_value(&value, aliases),
            Err(_) => vec![unreadable("the body is a JSON text, not an object")],
        },
        Ok(value) => read_value(&value, aliases),
        Err(error) => match read_form(text) {
            Some(object) => read_object(&object, aliases),
            // The parser's message names the reason and the place, and never quotes the body.
            None => vec![unreadable(&format!("the body is neither JSON nor a form: {error}"))],
        },
    }
}

/// Reads `a=b&c=d`. Nearly every text is a form to a lenient parser, so one that begins like JSON or XML is not taken for one.
fn read_form(text: &str) -> Option<Object> {
    if text.starts_with(['{', '[', '"', '<']) || !text.contains('=') {
        return None;
    }
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(text).ok()?;
    // `payload={...}` is a form that carries JSON.
    let value = |text: String| match serde_json::from_str(&text) {
        Ok(value @ Value::Object(_)) => value,
        Ok(_) | Err(_) => Value::String(text),
    };
    Some(pairs.into_iter().map(|(key, text)| (key, value(text))).collect())
}

fn read_value(value: &Value, aliases: &Aliases) -> Vec<Reading> {
    match value {
        Value::Object(object) => read_object(object, aliases),
        Value::Array(items) if items.is_empty() => {
            let mut test = reading(EventName::Test);
            note(&mut test, "the body is an empty list");
            vec![test]
        }
        Value::Array(items) => bounded(items.iter().flat_map(|item| match item {
            Value::Object(object) => read_object(object, aliases),
            _ => vec![unreadable("an item of the list is not an object")],
        })),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            vec![unreadable("the body is JSON, but neither an object nor a list")]
        }
    }
}

/// Takes as many readings as one body may have, and says when there were more.
fn bounded(mut readings: impl Iterator<Item = Reading>) -> Vec<Reading> {
    let mut taken: Vec<Reading> = readings.by_ref().take(READINGS_MAX).collect();
    if readings.next().is_some()
        && let Some(last) = taken.last_mut()
    {
        note(last, &format!("the body holds more than {READINGS_MAX} events, the others were not read"));
    }
    taken
}

/// Reads one object; several readings when one of its containers is a list (`{"event":..,"data":[{..},{..}]}`).
fn read_object(root: &Object, aliases: &Aliases) -> Vec<Reading> {
    let levels = levels(root, 0);
    let lists = root.iter().filter(|(key, _)| CONTAINERS.contains(&fold(key).as_str()));
    let rows: Vec<&Object> =
        lists.filter_map(|(_, value)| value.as_array()).flatten().filter_map(Value::as_object).collect();
    if rows.is_empty() {
        return vec![assemble(&levels, aliases)];
    }
    bounded(rows.into_iter().map(|row| {
        let inner = self::levels(row, 1);
        assemble(&levels.iter().cloned().chain(inner).collect::<Vec<_>>(), aliases)
    }))
}

/// One object of a body by folded keys, and how deep it stands.
#[derive(Clone)]
struct Level<'a> {
    depth: usize,
    keys: BTreeMap<String, &'a Value>,
}

/// The object, then the containers in it, then the objects in those. Deeper ones are not read.
fn levels(root: &Object, depth: usize) -> Vec<Level<'_>> {
    let mut levels = vec![Level::of(root, depth)];
    for name in CONTAINERS {
        if let Some(inner) = levels[0].keys.get(name).and_then(|value| value.as_object()) {
            levels.push(Level::of(inner, depth + 1));
        }
    }
    let deeper: Vec<_> =
        levels[1..].iter().flat_map(|level| level.keys.values()).filter_map(|value| value.as_object()).collect();
    levels.extend(deeper.into_iter().map(|inner| Level::of(inner, depth + 2)));
    levels
}

impl<'a> Level<'a> {
    fn of(object: &'a Object, depth: usize) -> Self {
        Self { depth, keys: object.iter().map(|(key, value)| (fold(key), value)).collect() }
    }

    fn texts(&self, keys: &[&str]) -> impl Iterator<Item = String> {
        keys.iter().filter_map(|key| self.keys.get(*key)).filter_map(|value| text(value))
    }
}

fn assemble(levels: &[Level<'_>], aliases: &Aliases) -> Reading {
    let is_empty = levels.iter().all(|level| level.keys.is_empty());
    let Some(name) = event_name(levels, aliases) else {
        return if is_empty { reading(EventName::Test) } else { with_ids(EventName::Unknown(String::new()), levels) };
    };
    with_ids(recognise(&name, aliases), levels)
}

/// The event's name as sent: the first that is on the list, else the first.
fn event_name(levels: &[Level<'_>], aliases: &Aliases) -> Option<String> {
    let mut names: Vec<String> = levels.iter().flat_map(|level| level.texts(&NAME_KEYS)).collect();
    if names.is_empty() {
        let near = levels.iter().filter(|level| level.depth <= 1);
        names = near.flat_map(|level| level.texts(&WEAK_NAME_KEYS)).collect();
    }
    let known = names.iter().position(|name| !matches!(recognise(name, aliases), EventName::Unknown(_))).unwrap_or(0);
    names.into_iter().nth(known)
}

fn with_ids(name: EventName, levels: &[Level<'_>]) -> Reading {
    let mut reading = reading(name);
    let scalars = levels.iter().flat_map(|level| &level.keys).filter(|(key, _)| key.ends_with("id"));
    for (key, value) in scalars {
        let Some(id) = text(value).filter(|_| !value.is_boolean()) else { continue };
        if reading.ids.len() == IDS_MAX && !reading.ids.contains_key(key) {
            note(&mut reading, &format!("the event carries more than {IDS_MAX} ids, the others were not read"));
            break;
        }
        let id = guid(&id).unwrap_or_else(|| cut(&id, NAME_CHARACTERS_MAX).to_owned());
        reading.ids.entry(cut(key, NAME_CHARACTERS_MAX).to_owned()).or_insert(id);
    }
    let words = match &reading.name {
        EventName::Unknown(name) if name.is_empty() => Some("the body names no event"),
        EventName::Unknown(_) => Some("the event is not on Absorb's list"),
        EventName::Known(_) | EventName::Test => None,
    };
    if let Some(words) = words {
        note(&mut reading, words);
    }
    name_user(&mut reading);
    reading
}

/// Fills in the learner's id, or says what is odd about it.
fn name_user(reading: &mut Reading) {
    let sent = USER_KEYS.iter().find_map(|key| reading.ids.get(*key)).cloned();
    match sent {
        None if is_about_learner(&reading.name) => note(reading, "the body names no user"),
        None => {}
        Some(id) => match guid(&id) {
            None => note(reading, "the user id is not a GUID"),
            // What .NET holds where there is no id.
            Some(id) if id.bytes().all(|letter| matches!(letter, b'0' | b'-')) => {
                note(reading, "the user id is all zeroes");
            }
            Some(id) => reading.user_id = Some(id),
        },
    }
}

fn is_about_learner(name: &EventName) -> bool {
    matches!(name, EventName::Known(event) if event.subject == SubjectKind::Learner)
}

/// Finds an event on Absorb's list, whatever its separators, casing and known variants of spelling. What the configuration says comes first.
fn recognise(name: &str, aliases: &Aliases) -> EventName {
    let folded = fold(name);
    if let Some(event) = aliases.0.get(&folded) {
        return EventName::Known(event);
    }
    let folded = folded.replace("enrolment", "enrollment");
    let folded = folded.strip_suffix("event").unwrap_or(&folded);
    if TEST_NAMES.contains(&folded) {
        return EventName::Test;
    }
    let is_called = |event: &&KnownEvent, name: &str| fold(event.name) == name || event.aliases.contains(&name);
    let found = spellings(folded).into_iter().find_map(|name| EVENTS.iter().find(|event| is_called(event, &name)));
    found.map_or_else(|| EventName::Unknown(cut(name.trim(), NAME_CHARACTERS_MAX).to_owned()), EventName::Known)
}

/// The ways in which Absorb might mean a folded name, the name itself first.
fn spellings(folded: &str) -> Vec<String> {
    let mut base = folded.to_owned();
    for short in ["ilc", "instructorledcourse", "instructorled"] {
        if let Some(rest) = base.strip_prefix(short) {
            base = format!("instructorledcourse{rest}");
            break;
        }
    }
    let mut all = vec![base.clone()];
    for (from, to) in [("created", "added"), ("added", "created"), ("complete", "completed"), ("award", "awarded")] {
        if let Some(stem) = base.strip_suffix(from) {
            all.push(format!("{stem}{to}"));
        }
    }
    all
}

fn reading(name: EventName) -> Reading {
    Reading { name, user_id: None, ids: BTreeMap::new(), oddity: None }
}

fn unreadable(oddity: &str) -> Reading {
    let mut reading = reading(EventName::Unknown(String::new()));
    note(&mut reading, oddity);
    reading
}

fn note(reading: &mut Reading, words: &str) {
    match &mut reading.oddity {
        None => reading.oddity = Some(words.to_owned()),
        Some(oddity) => {
            oddity.push_str("; ");
            oddity.push_str(words);
        }
    }
}

/// The bytes whose hash recognises a repeated event: portal, event and every id; without a correlation id also the whole body.
///
/// A correlation id alone would not do: whether one learner action that raises a completion, a certificate and a competency, or one admin
/// action for 50 learners, shares it is not documented.
#[must_use]
pub fn dedupe_text(portal: &str, reading: &Reading, raw: &RawEvent) -> Vec<u8> {
    let mut text = Vec::new();
    // Lengths go first, so that no two lists of parts give the same bytes.
    let mut push = |part: &[u8]| {
        text.extend_from_slice(&(part.len() as u64).to_le_bytes());
        text.extend_from_slice(part);
    };
    push(portal.as_bytes());
    push(reading.name.as_str().as_bytes());
    for (key, id) in &reading.ids {
        push(key.as_bytes());
        push(id.as_bytes());
    }
    if !reading.ids.contains_key("correlationid") {
        push(&raw.body);
    }
    text
}

/// Says in a sentence what was recognised, for the answer to the Test Webhook button. It never repeats what was sent.
#[must_use]
pub fn describe(readings: &[Reading]) -> String {
    // Label, how many of its readings name a learner, and whether they should.
    let mut groups: Vec<(String, usize, bool)> = Vec::new();
    for reading in readings {
        let label = label(&reading.name);
        let is_about_learner = is_about_learner(&reading.name);
        let with_user = usize::from(is_about_learner && reading.user_id.is_some());
        match groups.iter_mut().find(|(known, ..)| *known == label) {
            Some((_, learners, _)) => *learners += with_user,
            None => groups.push((label, with_user, is_about_learner)),
        }
    }
    let sentences = groups.into_iter().map(|(label, learners, is_about_learner)| match learners {
        0 if is_about_learner => format!("{label} for no learner that we can read"),
        0 => label,
        1 => format!("{label} for one learner"),
        many => format!("{label} for {many} learners"),
    });
    sentences.collect::<Vec<_>>().join(", ")
}

fn label(name: &EventName) -> String {
    match name {
        EventName::Known(event) => event.name.to_owned(),
        EventName::Test => "a test event".to_owned(),
        EventName::Unknown(_) => "an event that is not on Absorb's list".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use learnsync_sdk::RecordKind;

    use super::*;
    use crate::domain::event::{Audience, event_called};

    const USER: &str = "a14c149a-2ce0-41d4-b532-02189ad3cb22";
    const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
    const CORRELATION: &str = "99999999-8888-4777-8666-555555555555";

    fn raw(content_type: &str, body: impl Into<Vec<u8>>) -> RawEvent {
        RawEvent {
            portal: "main".to_owned(),
            method: "POST".to_owned(),
            content_type: content_type.to_owned(),
            body: body.into(),
        }
    }

    fn json(body: &str) -> Vec<Reading> {
        let body = body.replace("<user>", USER).replace("<client>", CLIENT).replace("<correlation>", CORRELATION);
        read(&raw("application/json; charset=utf-8", body), &Aliases::default())
    }

    fn one(body: &str) -> Reading {
        let mut readings = json(body);
        assert_eq!(readings.len(), 1, "{body}");
        readings.remove(0)
    }

    fn called(word: &str) -> EventName {
        EventName::Known(event_called(word).expect("an event of the list"))
    }

    fn oddity(reading: &Reading) -> &str {
        reading.oddity.as_deref().unwrap_or_default()
    }

    #[test]
    fn every_dialect_gives_the_event_the_user_and_the_ids() {
        let table = [
            (
                r#"{"eventName":"Enrollment Completed by Learner","clientId":"<client>","correlationId":"<correlation>","userId":"<user>"}"#,
                called("enrollment_completed_by_learner"),
                vec!["clientid", "correlationid", "userid"],
            ),
            (
                r#"{"event":"EnrollmentCompletedByLearner","clientId":"<client>","correlationId":"<correlation>","userId":"<user>","enrollmentId":"1","courseId":"2"}"#,
                called("enrollment_completed_by_learner"),
                vec!["clientid", "correlationid", "courseid", "enrollmentid", "userid"],
            ),
            (
                r#"{"EventName":"EnrollmentCompletedByAdmin","ClientId":"<client>","CorrelationId":"<correlation>","UserId":"<user>","AdminId":"3","CourseId":"2"}"#,
                called("enrollment_completed_by_admin"),
                vec!["adminid", "clientid", "correlationid", "courseid", "userid"],
            ),
            (
                r#"{"eventName":"certificate_awarded","transaction":{"clientId":"<client>","correlationId":"<correlation>"},"data":{"userId":"<user>","certificateId":"4"}}"#,
                called("certificate_awarded"),
                vec!["certificateid", "clientid", "correlationid", "userid"],
            ),
            (
                r#"{"event":{"name":"competency.awarded","detail":{"User ID":"<user>"}},"Client ID":"<client>","Correlation_Id":"<correlation>"}"#,
                called("competency_awarded"),
                vec!["clientid", "correlationid", "userid"],
            ),
        ];
        for (body, name, keys) in table {
            let reading = one(body);
            assert_eq!(reading.name, name, "{body}");
            assert_eq!(reading.user_id.as_deref(), Some(USER), "{body}");
            assert_eq!(reading.ids.keys().collect::<Vec<_>>(), keys, "{body}");
            assert_eq!(reading.ids["clientid"], CLIENT, "{body}");
            assert_eq!(reading.ids["correlationid"], CORRELATION, "{body}");
            assert_eq!(reading.oddity, None, "{body}");
        }
    }

    #[test]
    fn a_list_is_one_reading_for_each_of_its_events() {
        let readings = json(
            r#"[{"event":"Certificate Awarded","userId":"<user>"},{"event":"Test"},17,
                {"event":"CompetencyAwarded","data":[{"userId":"<user>"},{"userId":"<client>"}]}]"#,
        );
        let found: Vec<_> = readings.iter().map(|reading| (reading.name.clone(), reading.user_id.as_deref())).collect();
        let expected = vec![
            (called("certificate_awarded"), Some(USER)),
            (EventName::Test, None),
            (EventName::Unknown(String::new()), None),
            (called("competency_awarded"), Some(USER)),
            (called("competency_awarded"), Some(CLIENT)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_list_beyond_the_limit_is_cut_and_says_so() {
        let list = |count: usize| format!("[{}]", vec![r#"{"event":"Test"}"#; count].join(","));
        let readings = json(&list(READINGS_MAX));
        assert_eq!((readings.len(), readings[READINGS_MAX - 1].oddity.is_some()), (READINGS_MAX, false));
        let readings = json(&list(READINGS_MAX + 1));
        assert_eq!((readings.len(), readings[READINGS_MAX - 1].oddity.is_some()), (READINGS_MAX, true));
    }

    #[test]
    fn the_test_button_and_empty_bodies_are_tests() {
        for body in
            ["", "  \r\n", "{}", "[]", r#"{"eventName":"Test","clientId":"<client>"}"#, r#"{"Event":"Test Webhook"}"#]
        {
            assert_eq!(one(body).name, EventName::Test, "{body:?}");
        }
    }

    #[test]
    fn every_event_of_absorbs_list_is_known_in_every_spelling() {
        for event in EVENTS.iter().map(|event| event.name) {
            let spellings = [
                event.to_owned(),
                event.to_uppercase(),
                event.replace([' ', '-'], ""),
                event.replace([' ', '-'], "_").to_lowercase(),
                event.replace(' ', ".").to_lowercase(),
                event.replace("Enrollment", "Enrolment"),
                event.replace("Instructor Led Course", "ILC"),
                format!("{event} Event"),
            ];
            for spelling in spellings {
                assert!(!matches!(recognise(&spelling, &Aliases::default()), EventName::Unknown(_)), "{spelling}");
            }
        }
        let table = [
            ("enrollment.completed.by.learner", called("enrollment_completed_by_learner")),
            ("EnrolmentCompleted", called("enrollment_completed_by_learner")),
            ("CURRICULUM CREATED", called("curriculum_added")),
            ("ilc_created", called("instructor_led_course_added")),
            ("InstructorLedDeactivated", called("instructor_led_course_deactivated")),
            ("UserAdded", called("user_created")),
            ("User Deleted", EventName::Unknown("User Deleted".to_owned())),
        ];
        for (name, expected) in table {
            assert_eq!(recognise(name, &Aliases::default()), expected, "{name}");
        }
    }

    #[test]
    fn an_event_that_is_not_on_the_list_is_kept_as_sent_cut_and_still_names_its_user() {
        let reading = one(&format!(r#"{{"event":"{}","userId":"<user>"}}"#, "é".repeat(300)));
        assert_eq!(reading.name, EventName::Unknown("é".repeat(NAME_CHARACTERS_MAX)));
        assert_eq!(reading.user_id.as_deref(), Some(USER));
        assert!(oddity(&reading).contains("not on Absorb's list"));
    }

    #[test]
    fn a_user_id_is_a_guid_in_any_spelling_or_there_is_none() {
        let simple = USER.replace('-', "").to_uppercase();
        for sent in [USER.to_uppercase(), format!("{{{USER}}}"), format!(" {USER} "), simple] {
            let reading = one(&format!(r#"{{"event":"Certificate Awarded","userId":"{sent}"}}"#));
            assert_eq!((reading.user_id.as_deref(), reading.oddity), (Some(USER), None), "{sent}");
        }
        let table = [
            (r#""userId":"../users""#, "not a GUID"),
            (r#""userId":812"#, "not a GUID"),
            (r#""userId":"00000000-0000-0000-0000-000000000000""#, "all zeroes"),
            (r#""userId":null"#, "names no user"),
            (r#""userId":{"id":"<user>"}"#, "names no user"),
            (r#""user":"<user>""#, "names no user"),
        ];
        for (field, words) in table {
            let reading = one(&format!(r#"{{"event":"Certificate Awarded",{field}}}"#));
            assert_eq!(reading.user_id, None, "{field}");
            assert!(oddity(&reading).contains(words), "{field}: {}", oddity(&reading));
        }
    }

    #[test]
    fn a_department_event_without_a_user_is_not_odd() {
        let reading = one(r#"{"event":"Department Created","adminId":"<user>"}"#);
        assert_eq!((reading.name.as_str(), reading.user_id, reading.oddity), ("department_created", None, None));
    }

    #[test]
    fn a_forged_or_broken_body_is_one_unknown_reading_that_says_why() {
        let deep = format!("{}1{}", r#"{"data":"#.repeat(5_000), "}".repeat(5_000));
        let deep_list = "[".repeat(100_000);
        let table: [(&[u8], &str); 9] = [
            (b"hello", "neither JSON nor a form"),
            (b"{\"event\":", "neither JSON nor a form"),
            (b"{\"event\":\"Test\"} trailing", "neither JSON nor a form"),
            (b"<xml a=\"b\"/>", "neither JSON nor a form"),
            (b"true", "neither an object nor a list"),
            (b"\"hello\"", "a JSON text"),
            (b"\x80\x81\xfe", "not valid UTF-8"),
            (deep.as_bytes(), "recursion limit"),
            (deep_list.as_bytes(), "recursion limit"),
        ];
        for (body, words) in table {
            let readings = read(&raw("application/json", body), &Aliases::default());
            assert_eq!(readings.len(), 1);
            assert!(matches!(readings[0].name, EventName::Unknown(_)), "{:?}", readings[0]);
            assert!(oddity(&readings[0]).contains(words), "{:?}", readings[0]);
        }
    }

    #[test]
    fn a_mark_or_another_encoding_does_not_hide_the_event() {
        let body = format!(r#"{{"event":"Certificate Awarded","userId":"{USER}"}}"#);
        let utf16 = |mark: bool, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let mark = mark.then_some(0xFEFF_u16);
            mark.into_iter().chain(body.encode_utf16()).flat_map(bytes).collect()
        };
        let table = [
            ([b"\xEF\xBB\xBF".as_slice(), body.as_bytes()].concat(), None),
            (utf16(true, u16::to_le_bytes), Some("the body is UTF-16")),
            (utf16(true, u16::to_be_bytes), Some("the body is UTF-16")),
            (utf16(false, u16::to_le_bytes), Some("the body is UTF-16")),
            (utf16(false, u16::to_be_bytes), Some("the body is UTF-16")),
            (
                [body.trim_end_matches('}').as_bytes(), b",\"note\":\"caf\xE9\"}".as_slice()].concat(),
                Some("the body is not valid UTF-8"),
            ),
        ];
        for (bytes, oddity) in table {
            let readings = read(&raw("application/json; charset=utf-16", bytes.clone()), &Aliases::default());
            assert_eq!(readings.len(), 1, "{bytes:?}");
            assert_eq!(readings[0].name, called("certificate_awarded"), "{bytes:?}");
            assert_eq!(readings[0].user_id.as_deref(), Some(USER), "{bytes:?}");
            assert_eq!(readings[0].oddity.as_deref(), oddity, "{bytes:?}");
        }
    }

    #[test]
    fn a_form_is_read_and_also_json_that_a_form_carries() {
        let bodies = [
            format!("eventName=Certificate+Awarded&userId=%7B{USER}%7D&clientId={CLIENT}"),
            format!("payload=%7B%22eventName%22%3A%22certificate_awarded%22%2C%22userId%22%3A%22{USER}%22%7D"),
        ];
        for body in bodies {
            let readings = read(&raw("application/x-www-form-urlencoded", body.clone()), &Aliases::default());
            assert_eq!(readings.len(), 1, "{body}");
            assert_eq!(readings[0].name, called("certificate_awarded"), "{body}");
            assert_eq!(readings[0].user_id.as_deref(), Some(USER), "{body}");
        }
    }

    #[test]
    fn json_that_was_encoded_twice_is_read() {
        let inner = format!(r#"{{"event":"Certificate Awarded","userId":"{USER}"}}"#);
        let reading = one(&serde_json::to_string(&inner).expect("a text can be written"));
        assert_eq!(reading.user_id.as_deref(), Some(USER));
    }

    #[test]
    fn of_a_repeated_key_the_last_wins_and_the_root_wins_over_what_is_inside() {
        let reading = one(r#"{"event":"Test","event":"Certificate Awarded","userId":"nobody","userId":"<user>"}"#);
        assert_eq!((reading.name, reading.user_id.as_deref()), (called("certificate_awarded"), Some(USER)));
        let reading = one(r#"{"data":{"userId":"<client>"},"event":"Certificate Awarded","userId":"<user>"}"#);
        assert_eq!(reading.user_id.as_deref(), Some(USER));
    }

    #[test]
    fn a_course_of_the_name_test_does_not_make_an_event_a_test() {
        let reading = one(r#"{"event":"Certificate Awarded","userId":"<user>","data":{"name":"Test","type":"Test"}}"#);
        assert_eq!(reading.name, called("certificate_awarded"));
        let reading = one(r#"{"data":{"userId":"<user>","course":{"name":"Test"}}}"#);
        assert_eq!(reading.name, EventName::Unknown(String::new()));
    }

    #[test]
    fn ids_beyond_the_limit_are_not_kept_and_it_says_so() {
        let fields: Vec<String> = (0..IDS_MAX + 1).map(|number| format!(r#""k{number}id":"{number}""#)).collect();
        let reading = one(&format!(r#"{{"event":"User Created",{}}}"#, fields.join(",")));
        assert_eq!(reading.ids.len(), IDS_MAX);
        assert!(oddity(&reading).contains("more than"));
    }

    #[test]
    fn a_repeat_is_the_same_ids_under_the_same_event_and_without_correlation_the_same_body() {
        let text = |body: &str| {
            let body = body.replace("<user>", USER);
            let raw = raw("application/json", body);
            dedupe_text(&raw.portal, &read(&raw, &Aliases::default())[0], &raw)
        };
        let base = text(r#"{"event":"Certificate Awarded","userId":"<user>","correlationId":"1"}"#);
        assert_eq!(
            base,
            text(r#"{"sent":"later","correlationId":"1","EVENT":"certificate_awarded","UserId":"<user>"}"#)
        );
        for other in [
            r#"{"event":"Competency Awarded","userId":"<user>","correlationId":"1"}"#,
            r#"{"event":"Certificate Awarded","userId":"<user>","correlationId":"2"}"#,
            r#"{"event":"Certificate Awarded","correlationId":"1"}"#,
            r#"{"event":"Certificate Awarded","userId":"<user>","correlationId":"1","courseId":"7"}"#,
            r#"{"event":"Certificate Awarded","userId":"<user>"}"#,
        ] {
            assert_ne!(base, text(other), "{other}");
        }
        let bare = text(r#"{"event":"Certificate Awarded","userId":"<user>"}"#);
        assert_eq!(bare, text(r#"{"event":"Certificate Awarded","userId":"<user>"}"#));
        assert_ne!(bare, text(r#"{"event":"Certificate Awarded","userId":"<user>","sent":"later"}"#));
        let raw = raw("", r#"{"event":"Certificate Awarded","correlationId":"1"}"#);
        let reading = &read(&raw, &Aliases::default())[0];
        assert_ne!(dedupe_text("a", reading, &raw), dedupe_text("b", reading, &raw));
    }

    #[test]
    fn the_sentence_for_the_test_button_counts_learners_and_repeats_nothing_that_was_sent() {
        let table = [
            ("", "a test event"),
            (r#"{"event":"Certificate Awarded","userId":"<user>"}"#, "Certificate Awarded for one learner"),
            (r#"{"event":"Certificate Awarded"}"#, "Certificate Awarded for no learner that we can read"),
            (r#"{"event":"self_assessment_completed","userId":"<user>"}"#, "Self-Assessment Completed for one learner"),
            (r#"{"event":"GroupCreated"}"#, "Group Created"),
            (r#"{"event":"<script>"}"#, "an event that is not on Absorb's list"),
            (
                r#"[{"event":"Certificate Awarded","userId":"<user>"},{"event":"Test"},{"event":"Certificate Awarded","userId":"<client>"}]"#,
                "Certificate Awarded for 2 learners, a test event",
            ),
        ];
        for (body, sentence) in table {
            assert_eq!(describe(&json(body)), sentence, "{body}");
        }
    }

    #[test]
    fn a_name_that_the_configuration_adds_is_known_in_any_casing_and_comes_before_absorbs_own() {
        let known = event_called("Certificate Awarded").expect("is on the list");
        let aliases = Aliases::new([("Zertifikat verliehen".to_owned(), known), ("User Created".to_owned(), known)]);
        for name in ["zertifikat_verliehen", "ZertifikatVerliehen", "user.created"] {
            assert_eq!(recognise(name, &aliases), EventName::Known(known), "{name}");
        }
        assert_eq!(recognise("Zertifikat", &aliases), EventName::Unknown("Zertifikat".to_owned()));
    }

    /// The six dialects in which Absorb may speak (facts/absorb.md 1.4), each with the ids of what it is about or without.
    fn spoken(event: &KnownEvent, dialect: &str, with_ids: bool) -> String {
        const THING: &str = "c0ffee00-0000-4000-8000-000000000001";
        const ADMIN: &str = "ad000000-0000-4000-8000-000000000001";
        let mut ids = vec![("userId", USER)];
        if event.audience == Audience::Administrator {
            ids.push(("adminId", ADMIN));
        }
        let thing = match event.word {
            "user_created" => None,
            word if word.starts_with("enrollment") || word == "course_credits_awarded" => Some("enrollmentId"),
            word if word.starts_with("department") => Some("departmentId"),
            word if word.starts_with("group") => Some("groupId"),
            word if word.starts_with("curriculum") => Some("curriculumId"),
            word if word.starts_with("course_bundle") => Some("courseBundleId"),
            word if word.contains("_course_") => Some("courseId"),
            "certificate_awarded" => Some("certificateId"),
            "competency_awarded" => Some("competencyId"),
            "session_enrollment_completed" => Some("sessionId"),
            "self_assessment_completed" => Some("selfAssessmentId"),
            "learning_path_completed" => Some("learningPathId"),
            other => panic!("no id of {other}"),
        };
        ids.extend(thing.filter(|_| with_ids).map(|key| (key, THING)));
        let object = |pairs: &[(&str, &str)]| -> Object {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect()
        };
        let transaction = [("clientId", CLIENT), ("correlationId", CORRELATION)];
        let words: Vec<&str> = event.name.split([' ', '-']).collect();
        let code_name = words.concat();
        let flat = |name_key: &str, name: &str| {
            object(&[[(name_key, name)].as_slice(), transaction.as_slice(), ids.as_slice()].concat())
        };
        let pascal = |object: Object| -> Object {
            object.into_iter().map(|(key, value)| (key[..1].to_uppercase() + &key[1..], value)).collect()
        };
        match dialect {
            "A" => Value::from(flat("eventName", event.name)),
            "B" => Value::from(flat("event", &code_name)),
            "C" => Value::from(pascal(flat("eventName", &code_name))),
            "D" => serde_json::json!({
                "eventName": words.join("_").to_lowercase(), "transaction": object(&transaction), "data": object(&ids),
            }),
            "E" => serde_json::json!([flat("eventName", event.name), flat("eventName", event.name)]),
            "F" => serde_json::json!({"eventName": "Test", "clientId": CLIENT}),
            other => panic!("no dialect {other}"),
        }
        .to_string()
    }

    #[test]
    fn every_event_in_every_dialect_gives_the_subjects_that_stand_in_the_table() {
        let table = include_str!("../../../tests/fixtures/events.csv");
        let mut lines = table.lines();
        assert_eq!(lines.next(), Some("event,dialect,ids,subject,subject_id,promises,thing,by"));
        let mut seen = 0;
        for line in lines {
            let columns: Vec<&str> = line.split(',').collect();
            let [name, dialect, ids, expected @ ..] = &columns[..] else { panic!("not a line of the table: {line}") };
            let event = event_called(name).unwrap_or_else(|| panic!("no event {name}"));
            let readings = json(&spoken(event, dialect, *ids == "with"));
            assert_eq!(readings.len(), if *dialect == "E" { 2 } else { 1 }, "{line}");
            for reading in &readings {
                let (kind, id) = reading.subject().map_or(("", ""), |(kind, id)| (kind.as_str(), id));
                let promises = match &reading.name {
                    EventName::Known(event) => event.promises.map_or("", RecordKind::as_str),
                    EventName::Test | EventName::Unknown(_) => "",
                };
                let thing = reading.thing().unwrap_or_default();
                let found = [kind, id, promises, thing, reading.by().unwrap_or_default()];
                assert_eq!(found.as_slice(), expected, "{line}");
                assert_eq!(reading.oddity, None, "{line}");
            }
            seen += 1;
        }
        assert_eq!(seen, 24 * 6 * 2, "each event in each dialect, with and without ids");
    }
}
