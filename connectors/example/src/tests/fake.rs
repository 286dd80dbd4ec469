//! A small target on loopback: one function from what is asked to what is answered, and the kit's trait.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use learnsync_sdk::{Fields, MatchRule, Value};
use learnsync_testkit::{Answered, Asked, Fake, HeldRow, Sample, Server};
use serde_json::{Map, Value as Json, json};

/// No other text looks like it: the kit searches all messages for it.
const TOKEN: &str = "token-8c41f2";

/// How many facts a page of all has.
const PAGE_FACTS_MAX: usize = 3;

/// The running fake; ends with the test.
pub(super) struct Target {
    server: Server,
    held: Arc<Mutex<Held>>,
}

/// What the account holds.
#[derive(Default)]
struct Held {
    people: Vec<Person>,
    /// Person and key -> fields.
    facts: BTreeMap<(String, String), Map<String, Json>>,
    refuses_token: bool,
}

struct Person {
    id: String,
    employee_number: String,
    email: String,
}

impl Target {
    pub(super) async fn start() -> Self {
        let held = Arc::new(Mutex::new(Held::new()));
        let answering = Arc::clone(&held);
        let answer = move |asked: &Asked| answering.lock().expect("nothing panics while it holds this").answer(asked);
        Self { server: Server::start(answer).await, held }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("nothing panics while it holds this")
    }
}

impl Held {
    fn new() -> Self {
        let mut held = Self::default();
        held.add_person("E-7", "ada@example.com");
        held
    }

    fn add_person(&mut self, employee_number: &str, email: &str) -> String {
        let id = (1 + self.people.len()).to_string();
        self.people.push(Person {
            id: id.clone(),
            employee_number: employee_number.to_owned(),
            email: email.to_owned(),
        });
        id
    }

    fn answer(&mut self, asked: &Asked) -> Answered {
        if self.refuses_token || asked.authorization != format!("Bearer {TOKEN}") {
            return (401, json!({"error": "bad_token"}));
        }
        let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
        match (asked.method.as_str(), path.as_slice()) {
            ("GET", ["me"]) => (200, json!({"account": "acme"})),
            ("GET", ["people"]) => (200, json!({"people": self.people(asked)})),
            ("GET", ["facts"]) => (200, self.facts(asked.value("after"))),
            (_, ["people", person, "facts", _]) if !self.people.iter().any(|known| known.id == *person) => {
                (404, json!({"error": "no_such_person"}))
            }
            (method, ["people", person, "facts", key]) => self.fact(method, person, key, &asked.body),
            _ => (404, json!({"error": "no_such_address"})),
        }
    }

    fn people(&self, asked: &Asked) -> Json {
        let equals = |name, held: &str| asked.value(name).is_some_and(|value| value.eq_ignore_ascii_case(held));
        let found = self
            .people
            .iter()
            .filter(|person| equals("email", &person.email) || equals("employee_number", &person.employee_number));
        let shown = |person: &Person| json!({"id": person.id, "email": person.email, "employee_number": person.employee_number});
        found.map(shown).collect()
    }

    /// A page of everybody's facts: those behind this person and key.
    fn facts(&self, after: Option<&str>) -> Json {
        let after = after.and_then(|after| after.split_once('/'));
        let is_behind =
            |(person, key): &(String, String)| after.is_none_or(|after| (person.as_str(), key.as_str()) > after);
        let mut behind = self.facts.iter().filter(|(place, _)| is_behind(place));
        let page: Vec<_> = behind.by_ref().take(PAGE_FACTS_MAX).collect();
        let last = page.last().map(|((person, key), _)| format!("{person}/{key}"));
        let next = behind.next().and(last);
        let shown: Vec<Json> = page
            .iter()
            .map(|((person, key), fields)| {
                let mut shown = (*fields).clone();
                shown.insert("person".to_owned(), json!(person));
                shown.insert("key".to_owned(), json!(key));
                Json::Object(shown)
            })
            .collect();
        json!({"facts": shown, "next": next})
    }

    fn fact(&mut self, method: &str, person: &str, key: &str, body: &Json) -> Answered {
        let place = (person.to_owned(), key.to_owned());
        match (method, self.facts.contains_key(&place)) {
            ("PUT", _) => match refusal(body) {
                Some(words) => (422, json!({"error": words})),
                None => {
                    let fields =
                        body.as_object().into_iter().flatten().map(|(name, held)| (name.clone(), held.clone()));
                    self.facts.entry(place).or_default().extend(fields);
                    (200, json!({"key": key}))
                }
            },
            (_, false) => (404, json!({"error": "no_such_fact"})),
            ("DELETE", true) => {
                self.facts.remove(&place);
                (200, json!({"key": key}))
            }
            (_, true) => {
                let mut shown = self.facts[&place].clone();
                shown.insert("key".to_owned(), json!(key));
                (200, Json::Object(shown))
            }
        }
    }
}

/// Why the target would not take this.
fn refusal(body: &Json) -> Option<&'static str> {
    let is_date = |value: &Json| value.as_str().is_some_and(|text| text.parse::<chrono::NaiveDate>().is_ok());
    if !is_date(&body["achieved"]) {
        return Some("achieved is no date");
    }
    let is_long = body["title"].as_str().is_some_and(|title| title.chars().count() > 200);
    is_long.then_some("the title is longer than 200 characters")
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

    fn secrets(&self) -> Vec<String> {
        vec![TOKEN.to_owned()]
    }

    fn samples(&self) -> Vec<Sample> {
        let fact = |title: &str, achieved: Value, expires: &str, score: f64| {
            Fields::from([
                ("title".to_owned(), Value::Text(title.to_owned())),
                ("achieved".to_owned(), achieved),
                ("expires".to_owned(), date(expires)),
                ("score".to_owned(), Value::Number(score)),
            ])
        };
        vec![Sample {
            object: "facts".to_owned(),
            person: "1".to_owned(),
            fields: fact("First aid", date("2026-03-12"), "2028-03-12", 90.5),
            changed: fact("First aid, part 2", date("2026-04-01"), "2028-04-01", 75.0),
            text: Some("title"),
            text_shown_max: None,
            optional: Some("expires"),
            refused: Some(fact("First aid", Value::Text("some day".to_owned()), "2028-03-12", 90.5)),
        }]
    }

    fn rows(&self, _object: &str) -> Vec<HeldRow> {
        let row = |((person, key), held): (&(String, String), &Map<String, Json>)| HeldRow {
            row: key.clone(),
            person: person.clone(),
            marks: Some(key).filter(|key| key.starts_with("learnsync:")).cloned().into_iter().collect(),
            fields: held.iter().map(|(name, held)| (name.clone(), value_of(name, held))).collect(),
        };
        self.held().facts.iter().map(row).collect()
    }

    fn put_row(&self, _object: &str, person: &str, mark: Option<&str>, fields: &Fields) -> Option<String> {
        let key = mark.unwrap_or("by-hand").to_owned();
        let mut held = self.held();
        if held.facts.contains_key(&(person.to_owned(), key.clone())) {
            // One key, one fact: nobody can copy it.
            return None;
        }
        let fact = fields.iter().map(|(name, value)| (name.clone(), json_of(value))).collect();
        held.facts.insert((person.to_owned(), key.clone()), fact);
        Some(key)
    }

    fn put_rows_of_several_pages(&self, _object: &str) -> usize {
        let facts = 2 * PAGE_FACTS_MAX + 1;
        for number in 1..=facts {
            self.held().facts.insert(("1".to_owned(), format!("by-hand-{number}")), Map::new());
        }
        facts
    }

    fn remove_row(&self, _object: &str, row: &str) {
        self.held().facts.retain(|(_, key), _| key != row);
    }

    fn revoke_credentials(&self) {
        self.held().refuses_token = true;
    }

    fn restore_credentials(&self) {
        self.held().refuses_token = false;
    }

    fn add_person(&self, employee_number: &str, email: &str) -> String {
        self.held().add_person(employee_number, email)
    }

    fn remove_person(&self, person: &str) {
        self.held().people.retain(|known| known.id != person);
    }

    fn match_rules(&self) -> Vec<MatchRule> {
        vec![MatchRule::EXTERNAL_ID, MatchRule::EMPLOYEE_NUMBER, MatchRule::EMAIL]
    }
}

fn date(text: &str) -> Value {
    Value::Date(text.parse().expect("a date"))
}

/// What the target holds, as `observe` should tell it; not by the connector's own code, or its mistakes would cancel out.
fn value_of(name: &str, held: &Json) -> Value {
    match (name, held) {
        ("achieved" | "expires", Json::String(day)) => date(day),
        (_, Json::String(text)) => Value::Text(text.clone()),
        (_, Json::Number(number)) => Value::Number(number.as_f64().expect("a small number")),
        _ => Value::Null,
    }
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Number(number) => json!(number),
        Value::Null => Json::Null,
        Value::Bool(_) | Value::Text(_) | Value::Date(_) => json!(value.to_string()),
    }
}
