//! The fake behind the test kit's trait, and the kit's checks.

use std::net::SocketAddr;
use std::sync::Arc;

use learnsync_sdk::{Fields, MatchRule, Value};
use learnsync_testkit::{HeldRow, Sample};
use serde_json::{Map, Value as Json, json};

use super::fake::{API_KEY, Fake};
use super::{RULES, TABLE, TRAINING, date, fields, text};
use crate::BambooHr;

#[tokio::test]
async fn bamboohr_keeps_all_promises_of_a_connector() {
    let report = learnsync_testkit::run(&BambooHr, Arc::new(Fake::start().await)).await;
    println!("{report}\n{}", learnsync_testkit::conformance_table(std::slice::from_ref(&report)));
    report.assert_passed();
    report.assert_shown_in(include_str!("../../../README.md"));
}

impl learnsync_testkit::Fake for Fake {
    fn address(&self) -> SocketAddr {
        self.address()
    }

    fn reset(&self) {
        self.reset();
    }

    fn settings(&self, url: &str) -> Json {
        self.settings(url)
    }

    fn secrets(&self) -> Vec<String> {
        vec![API_KEY.to_owned()]
    }

    fn samples(&self) -> Vec<Sample> {
        vec![training(), certification()]
    }

    fn rows(&self, object: &str) -> Vec<HeldRow> {
        let company = self.company();
        if object == TRAINING {
            let rows = company.training.iter().map(|(id, (person, held))| record_row(*id, person, held));
            return rows.collect();
        }
        let table = object.strip_prefix("table:").expect("the samples name a table");
        let rows = company.tables.iter().filter(|(_, (_, place, _))| place == table);
        rows.map(|(id, (person, _, held))| table_row(*id, person, held)).collect()
    }

    fn put_row(&self, object: &str, person: &str, mark: Option<&str>, fields: &Fields) -> Option<String> {
        let mut row: Map<String, Json> = fields.iter().map(|(name, value)| (name.clone(), json_of(value))).collect();
        if object == TRAINING {
            row.insert("type".to_owned(), json!(4));
            row.insert("notes".to_owned(), json!(format!("By hand.\n{}", mark.unwrap_or_default())));
            return Some(self.company().put_training(person, Json::Object(row)));
        }
        let table = object.strip_prefix("table:").expect("the samples name a table");
        row.insert("customReference".to_owned(), json!(mark.unwrap_or_default()));
        Some(self.company().put_row(person, table, Json::Object(row)))
    }

    /// A table is listed by one call; training records person by person, a hundred people a page.
    fn put_rows_of_several_pages(&self, object: &str) -> usize {
        if object != TRAINING {
            return 0;
        }
        let people = 101;
        for number in 1_000..1_000 + people {
            let mut company = self.company();
            let id = number.to_string();
            company.add_person(&id, &format!("E-{id}"), &format!("{id}@example.com"), true);
            company.put_training(&id, json!({"completed": "2026-03-12", "type": 4}));
        }
        people
    }

    fn remove_row(&self, object: &str, row: &str) {
        let id = row.parse().expect("ids are numbers here");
        let mut company = self.company();
        let is_removed = match object {
            TRAINING => company.training.remove(&id).is_some(),
            _ => company.tables.remove(&id).is_some(),
        };
        assert!(is_removed, "there is no row {row}");
    }

    fn revoke_credentials(&self) {
        self.company().refuses_key = true;
    }

    fn restore_credentials(&self) {
        self.company().refuses_key = false;
    }

    fn add_person(&self, employee_number: &str, email: &str) -> String {
        let mut company = self.company();
        let id = (100 + company.people.len()).to_string();
        company.add_person(&id, employee_number, email, true);
        id
    }

    fn remove_person(&self, person: &str) {
        self.company().people.retain(|(id, ..)| id != person);
    }

    fn match_rules(&self) -> Vec<MatchRule> {
        RULES.to_vec()
    }

    fn is_write(&self, method: &str, path: &str) -> bool {
        method != "GET" && !path.starts_with("/api/v2/datasets/")
    }
}

fn training() -> Sample {
    let record = |completed, hours, credits, instructor, notes| {
        fields(&[
            ("completed", date(completed)),
            ("type", text("4")),
            ("hours", Value::Number(hours)),
            ("credits", Value::Number(credits)),
            ("instructor", text(instructor)),
            ("notes", text(notes)),
        ])
    };
    let taken = record("2026-03-12", 1.5, 2.0, "Ada", "Passed.\nWell done.");
    Sample {
        object: TRAINING.to_owned(),
        person: "7".to_owned(),
        changed: record("2026-04-01", 2.25, 3.0, "Grace", "Passed again."),
        text: Some("notes"),
        text_shown_max: None,
        optional: Some("credits"),
        refused: Some(Fields::from_iter(taken.clone().into_iter().chain([("type".to_owned(), text("first aid"))]))),
        fields: taken,
    }
}

fn certification() -> Sample {
    let row = |certification, issued, expires, course| {
        fields(&[
            ("certification", text(certification)),
            ("issued", issued),
            ("expires", date(expires)),
            ("course", text(course)),
        ])
    };
    Sample {
        object: TABLE.to_owned(),
        person: "7".to_owned(),
        fields: row("First aid", date("2026-03-12"), "2028-03-12", "First aid at work"),
        changed: row("First aid, part 2", date("2026-04-01"), "2029-04-01", "First aid at home"),
        text: Some("course"),
        text_shown_max: None,
        optional: Some("expires"),
        refused: Some(row("First aid", text("some day"), "2028-03-12", "First aid at work")),
    }
}

fn record_row(id: u64, person: &str, held: &Map<String, Json>) -> HeldRow {
    let notes = held.get("notes").and_then(Json::as_str).unwrap_or_default();
    let marks = notes.lines().filter(|line| line.starts_with("learnsync:")).map(str::to_owned).collect();
    let lines: Vec<&str> = notes.lines().filter(|line| !line.starts_with("learnsync:")).collect();
    let mut fields: Fields = held.iter().map(|(name, value)| (name.clone(), value_of(name, value))).collect();
    fields.insert("notes".to_owned(), text(&lines.join("\n")));
    HeldRow { row: id.to_string(), person: person.to_owned(), marks, fields }
}

fn table_row(id: u64, person: &str, held: &Map<String, Json>) -> HeldRow {
    let mut fields: Fields = held.iter().map(|(name, value)| (name.clone(), value_of(name, value))).collect();
    let mark = fields.remove("customReference").map(|mark| mark.to_string()).filter(|mark| !mark.is_empty());
    HeldRow { row: id.to_string(), person: person.to_owned(), marks: mark.into_iter().collect(), fields }
}

/// What the company holds, in the connector's vocabulary: by the field's name, not by the connector's own code.
fn value_of(name: &str, value: &Json) -> Value {
    match (name, value) {
        (_, Json::Null) => Value::Null,
        (_, Json::String(text)) if text.is_empty() => Value::Null,
        ("completed" | "issued" | "expires", Json::String(day)) => date(day),
        ("hours" | "credits", Json::Number(number)) => Value::Number(number.as_f64().expect("a small number")),
        (_, Json::String(held)) => text(held),
        (_, other) => text(&other.to_string()),
    }
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Number(number) => json!(number),
        Value::Bool(value) => json!(value),
        Value::Text(_) | Value::Date(_) => json!(value.to_string()),
    }
}
