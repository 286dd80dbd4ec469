//! A tiny target: people with rows, found by number or address. No key, no upsert: our mark is a field of the row.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use learnsync_sdk::{Fields, Value};
use learnsync_testkit::{Answered, Asked, Fake, HeldRow, Sample, Server};
use serde_json::{Map, Value as Json, json};

use super::tiny::TITLE_SHOWN_MAX;

pub(crate) const TOKEN: &str = "token-71c9e0";
const OBJECT: &str = "rows";
/// How many rows a page of the list has.
pub(crate) const PAGE_ROWS_MAX: usize = 5;

pub(crate) struct Target {
    server: Server,
    held: Arc<Mutex<Held>>,
    /// What it says of itself; it always does.
    speaks_http: bool,
}

#[derive(Default)]
struct Held {
    /// Id, number, address.
    people: Vec<(String, String, String)>,
    /// Id -> person, fields with the mark among them.
    rows: BTreeMap<u64, (String, Map<String, Json>)>,
    next_id: u64,
    refuses_token: bool,
}

impl Target {
    pub(crate) async fn start() -> Self {
        let held = Arc::new(Mutex::new(Held::new()));
        let answering = Arc::clone(&held);
        let server = Server::start(move |asked| answering.lock().expect("nothing panics").answer(asked)).await;
        Self { server, held, speaks_http: true }
    }

    /// The same, and says that it speaks no HTTP.
    pub(crate) fn that_denies_http(self) -> Self {
        Self { speaks_http: false, ..self }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("nothing panics while it holds this")
    }
}

impl Held {
    fn new() -> Self {
        Self { people: vec![("7".to_owned(), "E-7".to_owned(), "ada@example.com".to_owned())], ..Self::default() }
    }

    fn knows(&self, person: &str) -> bool {
        self.people.iter().any(|(id, ..)| id == person)
    }

    fn add(&mut self, person: &str, fields: Map<String, Json>) -> u64 {
        self.next_id += 1;
        self.rows.insert(self.next_id, (person.to_owned(), fields));
        self.next_id
    }

    fn answer(&mut self, asked: &Asked) -> Answered {
        if self.refuses_token || asked.authorization != format!("Bearer {TOKEN}") {
            return (401, json!("who are you?"));
        }
        let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        match (asked.method.as_str(), path.as_slice()) {
            ("GET", ["account"]) => (200, json!({"name": "tiny", "rows": self.rows.len()})),
            ("GET", ["colours"]) => (200, json!([{"id": "1", "name": "red"}, {"id": "2", "name": "green"}])),
            ("GET", ["people"]) => (200, self.people(asked)),
            (_, ["people", person, "rows"]) if !self.knows(person) => (404, json!("no such person")),
            ("GET", ["people", person, "rows"]) => (200, self.rows_of(person)),
            ("POST", ["people", person, "rows"]) => self.create(person, &asked.body),
            ("GET", ["rows"]) => (200, self.page(asked)),
            ("PATCH", ["rows", row]) => self.update(row, &asked.body),
            ("DELETE", ["rows", row]) => match self.rows.remove(&row.parse().unwrap_or(0)) {
                Some(_) => (200, json!({"id": row})),
                None => (404, json!("no such row")),
            },
            _ => (404, json!("no such address")),
        }
    }

    fn people(&self, asked: &Asked) -> Json {
        let is_meant = |(_, number, email): &&(String, String, String)| {
            asked.value("number").is_some_and(|value| value.eq_ignore_ascii_case(number))
                || asked.value("email").is_some_and(|value| value.eq_ignore_ascii_case(email))
        };
        self.people.iter().filter(is_meant).map(|(id, ..)| json!({"id": id})).collect()
    }

    fn rows_of(&self, person: &str) -> Json {
        let rows = self.rows.iter().filter(|(_, (owner, _))| owner == person);
        rows.map(|(id, (_, fields))| json!({"id": id.to_string(), "fields": fields})).collect()
    }

    /// A few rows of all people: those behind the row `after`, or behind the first `skip`.
    fn page(&self, asked: &Asked) -> Json {
        let number = |name| asked.value(name).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
        let behind = self.rows.range(number("after") + 1..).skip(usize::try_from(number("skip")).unwrap_or(0));
        let page: Vec<Json> = behind
            .take(PAGE_ROWS_MAX)
            .map(|(id, (person, fields))| json!({"id": id.to_string(), "person": person, "fields": fields}))
            .collect();
        json!({"is_last": page.len() < PAGE_ROWS_MAX, "rows": page})
    }

    fn create(&mut self, person: &str, body: &Json) -> Answered {
        match checked(body) {
            Ok(fields) => (201, json!({"id": self.add(person, fields).to_string()})),
            Err(words) => (422, json!(words)),
        }
    }

    fn update(&mut self, row: &str, body: &Json) -> Answered {
        let Some((_, held)) = self.rows.get_mut(&row.parse().unwrap_or(0)) else { return (404, json!("no such row")) };
        match checked(body) {
            Ok(fields) => {
                held.extend(fields);
                (200, json!({"id": row}))
            }
            Err(words) => (422, json!(words)),
        }
    }
}

fn checked(body: &Json) -> Result<Map<String, Json>, &'static str> {
    let fields = body.as_object().cloned().ok_or("the body is no object")?;
    let day = fields.get("day").and_then(Json::as_str).unwrap_or("2000-01-01");
    day.parse::<chrono::NaiveDate>().map_err(|_| "the day is no date")?;
    Ok(fields)
}

impl Fake for Target {
    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn reset(&self) {
        *self.held() = Held::new();
    }

    fn settings(&self, url: &str) -> Json {
        json!({"url": url, "token": TOKEN})
    }

    fn speaks_http(&self) -> bool {
        self.speaks_http
    }

    fn secrets(&self) -> Vec<String> {
        vec![TOKEN.to_owned()]
    }

    fn samples(&self) -> Vec<Sample> {
        let row = |title: &str, day: Value, score, note: &str| {
            Fields::from([
                ("title".to_owned(), Value::Text(title.to_owned())),
                ("day".to_owned(), day),
                ("score".to_owned(), Value::Number(score)),
                ("note".to_owned(), Value::Text(note.to_owned())),
            ])
        };
        let day = |text: &str| Value::Date(text.parse().expect("a date"));
        vec![Sample {
            object: OBJECT.to_owned(),
            person: "7".to_owned(),
            fields: row("First aid", day("2026-03-12"), 90.5, "passed"),
            changed: row("First aid, part 2", day("2026-04-01"), 75.0, "passed again"),
            text: Some("title"),
            text_shown_max: Some(TITLE_SHOWN_MAX),
            optional: Some("note"),
            refused: Some(row("First aid", Value::Text("some day".to_owned()), 90.5, "passed")),
        }]
    }

    fn rows(&self, object: &str) -> Vec<HeldRow> {
        assert_eq!(object, OBJECT);
        self.held().rows.iter().map(|(id, (person, fields))| held_row(*id, person, fields)).collect()
    }

    fn put_row(&self, _object: &str, person: &str, mark: Option<&str>, fields: &Fields) -> Option<String> {
        let mut row: Map<String, Json> =
            fields.iter().map(|(name, value)| (name.clone(), json!(value.to_string()))).collect();
        row.insert("score".to_owned(), json!(1));
        row.extend(mark.map(|mark| ("mark".to_owned(), json!(mark))));
        Some(self.held().add(person, row).to_string())
    }

    fn put_rows_of_several_pages(&self, object: &str) -> usize {
        let fields = Fields::from([("title".to_owned(), Value::Text("First aid".to_owned()))]);
        (0..2 * PAGE_ROWS_MAX + 1).filter_map(|_| self.put_row(object, "7", None, &fields)).count()
    }

    fn remove_row(&self, _object: &str, row: &str) {
        self.held().rows.remove(&row.parse().expect("ids are numbers")).expect("it is there");
    }

    fn revoke_credentials(&self) {
        self.held().refuses_token = true;
    }

    fn restore_credentials(&self) {
        self.held().refuses_token = false;
    }

    fn add_person(&self, employee_number: &str, email: &str) -> String {
        let mut held = self.held();
        let id = (100 + held.people.len()).to_string();
        held.people.push((id.clone(), employee_number.to_owned(), email.to_owned()));
        id
    }

    fn remove_person(&self, person: &str) {
        self.held().people.retain(|(id, ..)| id != person);
    }
}

fn held_row(id: u64, person: &str, fields: &Map<String, Json>) -> HeldRow {
    let mut held = fields.clone();
    let mark = held.remove("mark").and_then(|mark| mark.as_str().map(str::to_owned));
    let value = |name: &str, value: &Json| match (name, value) {
        ("day", Json::String(day)) => Value::Date(day.parse().expect("a date")),
        (_, Json::String(text)) => Value::Text(text.clone()),
        (_, Json::Number(number)) => Value::Number(number.as_f64().expect("a small number")),
        _ => Value::Null,
    };
    let fields = held.iter().map(|(name, held)| (name.clone(), value(name, held))).collect();
    HeldRow { row: id.to_string(), person: person.to_owned(), marks: mark.into_iter().collect(), fields }
}
