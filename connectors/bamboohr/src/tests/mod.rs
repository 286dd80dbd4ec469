//! The rules of this connector, proved against a small BambooHR on loopback.

mod conformance;
mod fake;
mod lists;

use std::time::Duration;

use chrono::DateTime;
use learnsync_sdk::{
    Action, Change, Connector, ConnectorType, DeliveryError, ErrorKind, FieldType, Fields, Learner, MatchRule,
    Observation, PersonMatch, Place, Receipt, RetryAfter, Value,
};
use serde_json::{Value as Json, json};

use self::fake::{Fake, Fault};
use crate::BambooHr;

const TRAINING: &str = "training";
const TABLE: &str = "table:customCertifications";
const MARK: &str = "learnsync:acme:completion/5b0c";
const RULES: [MatchRule; 3] = [MatchRule::EXTERNAL_ID, MatchRule::EMPLOYEE_NUMBER, MatchRule::EMAIL];

fn date(text: &str) -> Value {
    Value::Date(text.parse().expect("a date"))
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn fields(pairs: &[(&str, Value)]) -> Fields {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn completion() -> Fields {
    fields(&[("completed", date("2026-03-12")), ("type", text("4")), ("hours", Value::Number(1.5))])
}

fn certificate() -> Fields {
    fields(&[("certification", text("First aid")), ("issued", date("2026-03-12")), ("expires", Value::Null)])
}

fn put(object: &str, mark: &str, fields: Fields) -> Change {
    let action = Action::Put { fields, row: None, idempotency_key: "k".to_owned() };
    Change { object: object.to_owned(), person: "7".to_owned(), mark: mark.to_owned(), action }
}

fn withdraw(object: &str, mark: &str, row: &str) -> Change {
    let action = Action::Withdraw { row: row.to_owned() };
    Change { object: object.to_owned(), person: "7".to_owned(), mark: mark.to_owned(), action }
}

fn place(object: &str, mark: &str) -> Place {
    Place { object: object.to_owned(), person: "7".to_owned(), mark: mark.to_owned(), row: None }
}

async fn deliver(connector: &dyn Connector, change: Change) -> Result<Receipt, DeliveryError> {
    connector.deliver(&[change]).await.pop().expect("one outcome per change")
}

async fn observe(connector: &dyn Connector, place: Place) -> Observation {
    connector.observe(&[place]).await.pop().expect("one observation per place").expect("the fake can be read")
}

fn learner(number: &str, email: &str) -> Learner {
    let some = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    Learner { id: "u1".to_owned(), employee_number: some(number), email: some(email), ..Learner::default() }
}

fn found(person: &str, rule: MatchRule) -> PersonMatch {
    PersonMatch::Found { person: person.to_owned(), rule }
}

// ---- describing ----

#[test]
fn an_object_of_another_name_is_refused_with_the_two_forms() {
    let toolbox = learnsync_testkit::toolbox("acme");
    let connector = BambooHr.build(&json!({"company": "acme", "api_key": "k"}), toolbox).expect("right settings");
    for name in ["table:", "trainings", "table:a/b"] {
        let error = connector.object(name).expect_err("there is no such object");
        assert!(error.contains("\"training\" or \"table:<name>\""), "{error}");
    }
    let training = connector.object(TRAINING).expect("it exists");
    let required: Vec<_> = training.fields.iter().filter(|field| field.required).map(|field| field.kind).collect();
    assert_eq!((training.open, required), (false, vec![FieldType::Date, FieldType::Reference]));
    assert!(connector.object(TABLE).expect("it may exist").open);
}

#[test]
fn every_default_route_maps_only_onto_fields_that_its_object_takes() {
    let toolbox = learnsync_testkit::toolbox("acme");
    let connector = BambooHr.build(&json!({"company": "acme", "api_key": "k"}), toolbox).expect("right settings");
    for route in BambooHr.describe().default_routes {
        let object = connector.object(route.object).expect("default routes name objects that exist");
        for field in &route.fields {
            let is_known = object.fields.iter().any(|known| known.name == field.field);
            assert!(object.open || is_known, "{} maps {}", route.name, field.field);
        }
        let is_mapped = |name: &str| route.fields.iter().any(|field| field.field == name);
        assert!(object.fields.iter().all(|field| !field.required || is_mapped(&field.name)), "{}", route.name);
    }
}

#[tokio::test]
async fn a_probe_names_the_account_and_a_wrong_key_is_unauthorized() {
    let fake = Fake::start().await;
    assert_eq!(fake.connector().probe().await.expect("the key is right").identity, "127.0.0.1");
    fake.company().fail("GET /api/v1/company", Fault::Answer(200, vec![], r#"{"id": 42}"#));
    assert_eq!(fake.connector().probe().await.expect("the key is right").identity, "company 42");
    fake.company().fail("GET /api/v1/company", Fault::Answer(403, vec![], ""));
    assert_eq!(fake.connector().probe().await.expect_err("refused").kind, ErrorKind::Unauthorized);
}

#[tokio::test]
async fn training_types_are_read_in_all_their_shapes() {
    let fake = Fake::start().await;
    let connector = fake.connector();
    let ids = |references: Vec<learnsync_sdk::Reference>| -> Vec<(String, String)> {
        references.into_iter().map(|reference| (reference.id, reference.name)).collect()
    };
    let pair = |id: &str, name: &str| (id.to_owned(), name.to_owned());
    let types = connector.references("training_type").await.expect("an object");
    assert_eq!(ids(types), [pair("4", "First aid"), pair("7", "Fire")]);
    fake.company().fail("GET /api/v1/training/type", Fault::Answer(200, vec![], "[]"));
    assert_eq!(connector.references("training_type").await.expect("an empty list"), []);
    fake.company().fail("GET /api/v1/training/type", Fault::Answer(200, vec![], r#"[{"id": 9, "name": "Ladders"}]"#));
    assert_eq!(ids(connector.references("training_type").await.expect("a list")), [pair("9", "Ladders")]);
    assert_eq!(connector.references("cost_centre").await.expect_err("unknown").kind, ErrorKind::Rejected);
}

// ---- people ----

#[tokio::test]
async fn a_person_is_found_by_the_first_rule_that_matches_anyone() {
    let fake = Fake::start().await;
    let connector = fake.connector();
    let find = async |number: &str, email: &str| {
        connector.find_person(&learner(number, email), &RULES).await.expect("the fake can be asked")
    };
    assert_eq!(find("E-7", "grace@example.com").await, found("7", MatchRule::EMPLOYEE_NUMBER));
    assert_eq!(find("E-77", "Grace@Example.com").await, found("8", MatchRule::EMAIL));
    assert_eq!(find("E-77", "nobody@example.com").await, PersonMatch::NotFound);
}

#[tokio::test]
async fn a_rule_may_name_the_field_and_bring_the_value_into_its_form() {
    let fake = Fake::start().await;
    fake.company().add_person("17", "00000815", "badge@example.com", true);
    let connector = fake.connector();
    let custom = |value: &str| Learner {
        custom: [("string3".to_owned(), value.to_owned())].into(),
        username: Some("Badge@Example.com".to_owned()),
        ..learner("", "")
    };
    for (rule, learner) in
        [("custom:string3 = employeeNumber | digits | pad:8", custom("B-815")), ("username = email", custom(""))]
    {
        let rule = MatchRule::parse(rule).expect("a rule");
        let answer = connector.find_person(&learner, std::slice::from_ref(&rule)).await;
        assert_eq!(answer, Ok(found("17", rule)));
    }
}

#[tokio::test]
async fn an_inactive_person_is_found() {
    let fake = Fake::start().await;
    let answer = fake.connector().find_person(&learner("E-8", ""), &RULES).await.expect("the fake can be asked");
    assert_eq!(answer, found("8", MatchRule::EMPLOYEE_NUMBER));
    let filter = fake.company().bodies[0]["filter"].clone();
    assert!(!filter.to_string().contains("status"), "{filter}");
}

#[tokio::test]
async fn a_quote_in_a_value_is_doubled_and_cannot_change_the_filter() {
    let fake = Fake::start().await;
    let answer = fake.connector().find_person(&learner("o'9", ""), &RULES).await.expect("the fake can be asked");
    assert_eq!(fake.company().bodies[0]["filter"], "employeeNumber eq 'o''9'");
    assert_eq!(answer, PersonMatch::NotFound, "the fake is not blind to case");
    let answer = fake.connector().find_person(&learner("O'9", ""), &RULES).await.expect("the fake can be asked");
    assert_eq!(answer, found("9", MatchRule::EMPLOYEE_NUMBER));
}

#[tokio::test]
async fn an_ambiguous_person_is_never_guessed() {
    let fake = Fake::start().await;
    fake.company().add_person("17", "E-7", "other@example.com", true);
    let answer = fake.connector().find_person(&learner("E-7", "ada@example.com"), &RULES).await;
    let candidates = vec!["17".to_owned(), "7".to_owned()];
    assert_eq!(answer, Ok(PersonMatch::Ambiguous { rule: MatchRule::EMPLOYEE_NUMBER, candidates }));
}

#[tokio::test]
async fn a_server_that_passes_over_the_filter_hands_us_no_stranger() {
    let fake = Fake::start().await;
    fake.company().ignores_filter = true;
    let connector = fake.connector();
    assert_eq!(connector.find_person(&learner("E-77", ""), &RULES).await, Ok(PersonMatch::NotFound));
    let answer = connector.find_person(&learner("E-8", ""), &RULES).await;
    assert_eq!(answer, Ok(found("8", MatchRule::EMPLOYEE_NUMBER)));
}

#[tokio::test]
async fn a_field_that_the_key_may_not_read_is_an_error_and_not_an_unknown_person() {
    let fake = Fake::start().await;
    fake.company().hides = Some("employeeNumber");
    let error = fake.connector().find_person(&learner("E-7", ""), &RULES).await.expect_err("it cannot know");
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(error.message.contains("hides \"employeeNumber\""), "{error}");
}

#[tokio::test]
async fn flat_rows_without_a_fields_object_are_read_too() {
    let fake = Fake::start().await;
    let flat = r#"{"data": [{"employeeId": 7, "employeeNumber": "E-7"}], "meta": {"totalPages": 1}}"#;
    fake.company().fail("POST /api/v2", Fault::Answer(200, vec![], flat));
    let answer = fake.connector().find_person(&learner("E-7", ""), &RULES).await;
    assert_eq!(answer, Ok(found("7", MatchRule::EMPLOYEE_NUMBER)));
}

// ---- putting ----

#[tokio::test]
async fn a_record_is_created_once_and_found_by_its_mark_afterwards() {
    let fake = Fake::start().await;
    for (object, wanted, write) in
        [(TRAINING, completion(), "POST /api/v1/training"), (TABLE, certificate(), "POST /api/v1_1/")]
    {
        // A connector keeps nothing between calls, so each one here is a new life of the daemon.
        let first = deliver(&*fake.connector(), put(object, MARK, wanted.clone())).await.expect("created");
        assert!(first.wrote);
        assert_eq!(fake.company().take_calls(write), 1);
        let second = deliver(&*fake.connector(), put(object, MARK, wanted)).await.expect("found");
        assert_eq!((second.row, second.wrote, second.status), (first.row, false, 200));
        assert_eq!(fake.company().take_calls(write), 0, "nothing equal is written again");
    }
}

#[tokio::test]
async fn a_record_s_notes_hold_the_mapped_text_and_the_mark_on_a_line_of_its_own() {
    let fake = Fake::start().await;
    let mut wanted = completion();
    wanted.insert("notes".to_owned(), text("Passed\r\nwell"));
    let row = deliver(&*fake.connector(), put(TRAINING, MARK, wanted.clone())).await.expect("created").row;
    assert_eq!(fake.company().training_field(&row, "notes"), format!("Passed\nwell\n{MARK}"));
    assert!(!deliver(&*fake.connector(), put(TRAINING, MARK, wanted)).await.expect("found").wrote);
    let body = fake.company().bodies[0].clone();
    assert_eq!((&body["type"], &body["hours"], &body["completed"]), (&json!(4), &json!(1.5), &json!("2026-03-12")));
}

#[tokio::test]
async fn an_update_is_answered_201_and_leaves_what_the_mapping_does_not_name() {
    let fake = Fake::start().await;
    let cost = json!({"currency": "USD", "amount": "100.00"});
    let row = fake.company().put_training(
        "7",
        json!({
            "type": 4, "completed": "2026-03-01", "credits": 2, "instructor": "Bob", "cost": cost,
            "notes": format!("Was late.\n{MARK}")
        }),
    );
    let receipt = deliver(&*fake.connector(), put(TRAINING, MARK, completion())).await.expect("201 is success");
    assert_eq!((receipt.row.as_str(), receipt.status, receipt.wrote), (row.as_str(), 201, true));
    let company = fake.company();
    for (field, value) in [
        ("completed", json!("2026-03-12")),
        ("hours", json!(1.5)),
        ("credits", json!(2)),
        ("instructor", json!("Bob")),
        ("cost", cost),
        ("notes", json!(format!("Was late.\n{MARK}"))),
    ] {
        assert_eq!(company.training_field(&row, field), value, "{field}");
    }
}

#[tokio::test]
async fn a_field_is_blanked_only_when_the_mapping_says_so() {
    let fake = Fake::start().await;
    let expiring = fields(&[("certification", text("First aid")), ("expires", date("2027-03-12"))]);
    let row = deliver(&*fake.connector(), put(TABLE, MARK, expiring)).await.expect("created").row;
    let silent = fields(&[("certification", text("First aid"))]);
    assert!(!deliver(&*fake.connector(), put(TABLE, MARK, silent)).await.expect("found").wrote);
    assert_eq!(fake.company().row_field(&row, "expires"), "2027-03-12");
    let blanking = fields(&[("certification", text("First aid")), ("expires", Value::Null)]);
    assert!(deliver(&*fake.connector(), put(TABLE, MARK, blanking)).await.expect("changed").wrote);
    assert_eq!(fake.company().row_field(&row, "expires"), "");
}

#[tokio::test]
async fn a_blank_field_is_not_sent_to_a_row_that_has_none() {
    let fake = Fake::start().await;
    let mut wanted = completion();
    wanted.insert("credits".to_owned(), Value::Null);
    for (object, wanted) in [(TRAINING, wanted), (TABLE, certificate())] {
        deliver(&*fake.connector(), put(object, MARK, wanted)).await.expect("created");
    }
    let bodies = fake.company().bodies.clone();
    assert!(bodies.iter().all(|body| body.get("credits").is_none() && body.get("expires").is_none()), "{bodies:?}");
}

#[tokio::test]
async fn an_equal_row_without_a_mark_is_adopted_and_not_doubled() {
    let fake = Fake::start().await;
    let training = json!({"type": 4, "completed": "2026-03-12", "notes": "By hand."});
    let training = fake.company().put_training("7", training);
    let table = json!({"certification": "First aid", "issued": "2026-03-12"});
    let table = fake.company().put_row("7", "customCertifications", table);
    let batch = [put(TRAINING, MARK, completion()), put(TABLE, MARK, certificate())];
    let outcomes = fake.connector().deliver(&batch).await;
    let rows: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.expect("adopted")).map(|r| (r.row, r.wrote)).collect();
    assert_eq!(rows, [(training.clone(), true), (table.clone(), true)]);
    let company = fake.company();
    assert_eq!(company.training_field(&training, "notes"), format!("By hand.\n{MARK}"));
    assert_eq!(company.row_field(&table, "customReference"), MARK);
    assert_eq!((company.training.len(), company.tables.len()), (1, 1));
}

#[tokio::test]
async fn one_row_is_never_adopted_twice_in_a_batch() {
    let fake = Fake::start().await;
    let row = fake.company().put_training("7", json!({"type": 4, "completed": "2026-03-12", "notes": ""}));
    // The first adoption's outcome is unknown; the list of this batch still shows the row without a mark.
    fake.company().fail("PUT /api/v1/training", Fault::Answer(500, vec![], ""));
    let batch = [put(TRAINING, MARK, completion()), put(TRAINING, "learnsync:acme:completion/2", completion())];
    let outcomes = fake.connector().deliver(&batch).await;
    assert_eq!(outcomes[0].as_ref().expect_err("unknown").kind, ErrorKind::Ambiguous);
    assert_ne!(outcomes[1].as_ref().expect("created").row, row);
}

#[tokio::test]
async fn a_row_with_another_mark_is_foreign_even_when_it_is_equal() {
    let fake = Fake::start().await;
    let foreign = "learnsync:other:completion/5b0c";
    let longer = "learnsync:acme:completion/5b0c1";
    for mark in [foreign, longer] {
        let training = json!({"type": 4, "completed": "2026-03-12", "notes": mark});
        fake.company().put_training("7", training);
        let row = json!({"certification": "First aid", "issued": "2026-03-12", "customReference": mark});
        fake.company().put_row("7", "customCertifications", row);
    }
    let training = fake.company().training.clone();
    let tables = fake.company().tables.clone();
    for (object, wanted) in [(TRAINING, completion()), (TABLE, certificate())] {
        assert_eq!(observe(&*fake.connector(), place(object, MARK)).await, Observation::Absent);
        assert!(deliver(&*fake.connector(), put(object, MARK, wanted)).await.expect("created").wrote);
    }
    let company = fake.company();
    assert!(training.iter().all(|(id, row)| company.training.get(id) == Some(row)), "foreign records are untouched");
    assert!(tables.iter().all(|(id, row)| company.tables.get(id) == Some(row)), "foreign rows are untouched");
    assert_eq!((company.training.len(), company.tables.len()), (3, 3));
}

#[tokio::test]
async fn a_known_row_that_lost_its_mark_to_another_is_not_touched() {
    let fake = Fake::start().await;
    let theirs = json!({"type": 4, "completed": "2025-01-01", "notes": "learnsync:other:completion/1"});
    let row = fake.company().put_training("7", theirs);
    let action = Action::Put { fields: completion(), row: Some(row.clone()), idempotency_key: "k".to_owned() };
    let change = Change { action, ..put(TRAINING, MARK, Fields::new()) };
    assert_ne!(deliver(&*fake.connector(), change).await.expect("created").row, row);
    assert_eq!(fake.company().training_field(&row, "completed"), "2025-01-01");
}

#[tokio::test]
async fn a_row_that_somebody_copied_stops_the_place_and_is_named() {
    let fake = Fake::start().await;
    let copy = json!({"type": 4, "completed": "2026-03-12", "notes": MARK});
    let first = fake.company().put_training("7", copy.clone());
    let rows = [first, fake.company().put_training("7", copy)];
    let error = deliver(&*fake.connector(), put(TRAINING, MARK, completion())).await.expect_err("which one?");
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(error.message.contains("2 rows carry our mark") && error.message.contains("(1, 2)"), "{error}");
    let observed = observe(&*fake.connector(), place(TRAINING, MARK)).await;
    assert_eq!(observed, Observation::Several { rows: rows.to_vec() });
}

#[tokio::test]
async fn the_type_of_a_record_is_never_changed() {
    let fake = Fake::start().await;
    let row = deliver(&*fake.connector(), put(TRAINING, MARK, completion())).await.expect("created").row;
    let mut wanted = completion();
    wanted.insert("type".to_owned(), text("7"));
    let error = deliver(&*fake.connector(), put(TRAINING, MARK, wanted)).await.expect_err("not possible");
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(error.message.starts_with("the training type of a record cannot be changed (from 4 to 7)"), "{error}");
    assert_eq!(fake.company().training_field(&row, "type"), 4);
    assert_eq!(fake.company().take_calls("PUT"), 0);
}

#[tokio::test]
async fn a_table_without_the_mark_column_is_refused_and_its_rows_are_not_multiplied() {
    let fake = Fake::start().await;
    fake.company().columns.retain(|column| *column != "customReference");
    for _ in 0..3 {
        let error = deliver(&*fake.connector(), put(TABLE, MARK, certificate())).await.expect_err("no proof");
        assert_eq!(error.kind, ErrorKind::Rejected);
        assert!(error.message.contains("text column \"customReference\""), "{error}");
    }
    assert_eq!(fake.company().tables.len(), 1);
}

#[tokio::test]
async fn a_batch_lists_each_object_once() {
    let fake = Fake::start().await;
    let mark = |number: u32| format!("learnsync:acme:completion/{number}");
    let day = |number: u32| {
        let mut fields = completion();
        fields.insert("completed".to_owned(), date(&format!("2026-03-{number:02}")));
        fields
    };
    let batch: Vec<Change> = (1..=5).map(|number| put(TRAINING, &mark(number), day(number))).collect();
    let outcomes = fake.connector().deliver(&batch).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|receipt| receipt.wrote)), "{outcomes:?}");
    assert_eq!(fake.company().take_calls("GET"), 1);
    let outcomes = fake.connector().deliver(&batch).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|receipt| !receipt.wrote)), "{outcomes:?}");
}

// ---- what goes wrong ----

#[tokio::test]
async fn a_lost_answer_is_ambiguous_and_the_second_delivery_finds_the_row() {
    let fake = Fake::start().await;
    for (object, wanted, write) in
        [(TRAINING, completion(), "POST /api/v1/training"), (TABLE, certificate(), "POST /api/v1_1/employees")]
    {
        fake.company().fail(write, Fault::LoseAnswer);
        let error = deliver(&*fake.connector(), put(object, MARK, wanted.clone())).await.expect_err("nobody knows");
        assert_eq!(error.kind, ErrorKind::Ambiguous, "{error}");
        let receipt = deliver(&*fake.connector(), put(object, MARK, wanted)).await.expect("found");
        assert!(!receipt.wrote);
    }
    assert_eq!(fake.counts(), (1, 1));
}

#[tokio::test]
async fn without_the_look_up_a_lost_answer_really_doubles_the_row() {
    let fake = Fake::start().await;
    for (object, wanted) in [(TRAINING, completion()), (TABLE, certificate())] {
        for _ in 0..2 {
            assert!(deliver(&*fake.blind_connector(), put(object, MARK, wanted.clone())).await.expect("created").wrote);
        }
    }
    assert_eq!(fake.counts(), (2, 2));
    assert_eq!(fake.company().take_calls("GET /api/v1/training"), 0);
}

#[tokio::test]
async fn a_throttled_target_is_heard_in_both_forms_and_the_rest_of_the_batch_is_not_sent() {
    let fake = Fake::start().await;
    let date = DateTime::from_timestamp(784_111_777, 0).expect("a valid instant");
    for (status, header, wait) in [
        (429, "120", RetryAfter::For(Duration::from_secs(120))),
        (429, "Sun, 06 Nov 1994 08:49:37 GMT", RetryAfter::Until(date)),
        (503, "30", RetryAfter::For(Duration::from_secs(30))),
    ] {
        fake.company().fail("POST /api/v1/training", Fault::Answer(status, vec![("retry-after", header)], ""));
        let batch = [put(TRAINING, MARK, completion()), put(TABLE, "learnsync:acme:certificate/1", certificate())];
        for outcome in fake.connector().deliver(&batch).await {
            assert_eq!(outcome.expect_err("both wait").kind, ErrorKind::Throttled(wait.clone()));
        }
        assert_eq!(fake.company().take_calls("GET /api/v1/employees"), 0);
    }
    assert_eq!(fake.counts(), (0, 0));
}

#[tokio::test]
async fn an_unauthorized_answer_ends_the_batch() {
    let fake = Fake::start().await;
    fake.company().fail("GET /api/v1/training", Fault::Answer(401, vec![], "wrong key"));
    let batch = [put(TRAINING, MARK, completion()), put(TABLE, MARK, certificate())];
    for outcome in fake.connector().deliver(&batch).await {
        assert_eq!(outcome.expect_err("both are refused").kind, ErrorKind::Unauthorized);
    }
    assert_eq!(fake.company().take_calls(""), 1);
}

#[tokio::test]
async fn a_list_that_fails_wrote_nothing_and_fails_only_its_own_object() {
    let fake = Fake::start().await;
    let html: &'static str = "<html>maintenance</html>";
    for (status, body) in [(500, ""), (502, ""), (504, ""), (200, html)] {
        fake.company().fail("GET /api/v1/training", Fault::Answer(status, vec![], body));
        let other = "learnsync:acme:completion/2";
        let batch =
            [put(TRAINING, MARK, completion()), put(TRAINING, other, completion()), put(TABLE, MARK, certificate())];
        let outcomes = fake.connector().deliver(&batch).await;
        for outcome in &outcomes[..2] {
            assert_eq!(outcome.as_ref().expect_err("no list").kind, ErrorKind::Unavailable, "{status}");
        }
        assert!(outcomes[2].is_ok());
        assert_eq!(fake.company().take_calls("GET /api/v1/training"), 1, "the list is not asked for twice");
    }
    fake.company().fail("GET /api/v1/training", Fault::LoseAnswer);
    let error = deliver(&*fake.connector(), put(TRAINING, MARK, completion())).await.expect_err("no list");
    assert_eq!(error.kind, ErrorKind::Unavailable, "a list whose answer is lost wrote nothing either");
    assert!(fake.company().training.is_empty());
}

#[tokio::test]
async fn an_unknown_outcome_of_one_write_does_not_stop_the_next() {
    let fake = Fake::start().await;
    fake.company().fail("POST /api/v1/training", Fault::LoseAnswer);
    let mut second = completion();
    second.insert("completed".to_owned(), date("2026-04-01"));
    let batch = [put(TRAINING, MARK, completion()), put(TRAINING, "learnsync:acme:completion/2", second)];
    let outcomes = fake.connector().deliver(&batch).await;
    assert_eq!(outcomes[0].as_ref().expect_err("nobody knows").kind, ErrorKind::Ambiguous);
    assert!(outcomes[1].is_ok());
}

#[tokio::test]
async fn an_unreachable_target_is_unavailable() {
    let fake = Fake::start().await;
    let connector = fake.connector();
    // A port that nobody listens on: it was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound listener has an address");
    drop(listener);
    let toolbox = learnsync_testkit::toolbox("acme");
    let settings = fake.settings(&format!("http://{address}"));
    let nowhere = BambooHr.build(&settings, toolbox).expect("right settings");
    let error = deliver(&*nowhere, put(TRAINING, MARK, completion())).await.expect_err("nobody is there");
    assert_eq!((error.kind, error.status), (ErrorKind::Unavailable, None));
    assert!(!error.message.contains(fake::API_KEY));
    assert!(deliver(&*connector, put(TRAINING, MARK, completion())).await.is_ok());
}

#[tokio::test]
async fn an_unknown_person_is_unmatched_and_ids_that_mean_others_are_refused() {
    let fake = Fake::start().await;
    for (person, kind) in [("999", ErrorKind::Unmatched), ("0", ErrorKind::Rejected), ("all", ErrorKind::Rejected)] {
        let change = Change { person: person.to_owned(), ..put(TRAINING, MARK, completion()) };
        let error = deliver(&*fake.connector(), change).await.expect_err("nobody");
        assert_eq!(error.kind, kind, "{person}");
    }
}

#[tokio::test]
async fn a_refusal_is_rejected_with_the_target_s_words_from_body_or_header() {
    let fake = Fake::start().await;
    for (status, headers, body) in [
        (400, vec![], "Invalid date"),
        (409, vec![("x-bamboohr-error-message", "Invalid date")], ""),
        (405, vec![], "Invalid date"),
    ] {
        fake.company().fail("POST /api/v1/training", Fault::Answer(status, headers, body));
        let error = deliver(&*fake.connector(), put(TRAINING, MARK, completion())).await.expect_err("refused");
        assert_eq!((error.kind.clone(), error.status), (ErrorKind::Rejected, Some(status)));
        assert!(error.message.contains("Invalid date") && error.message.contains(MARK), "{error}");
    }
}

#[tokio::test]
async fn a_row_that_was_taken_but_cannot_be_read_back_is_ambiguous() {
    let fake = Fake::start().await;
    fake.company().fail("POST /api/v1_1/", Fault::Answer(200, vec![], ""));
    fake.company().fail("GET /api/v1/employees/7/tables/other", Fault::Answer(500, vec![], ""));
    let error = deliver(&*fake.connector(), put("table:other", MARK, certificate())).await.expect_err("no first list");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    // The first list succeeds, the second does not.
    fake.company().fail("GET /api/v1/employees/7/tables/customC", Fault::Answer(200, vec![], "[]"));
    fake.company().fail("GET /api/v1/employees/7/tables/customC", Fault::Answer(500, vec![], ""));
    let error = deliver(&*fake.connector(), put(TABLE, MARK, certificate())).await.expect_err("no second list");
    assert_eq!(error.kind, ErrorKind::Ambiguous);
}

#[tokio::test]
async fn a_2xx_without_a_new_row_is_ambiguous_and_no_fault_of_the_table() {
    let fake = Fake::start().await;
    for (object, wanted, write) in
        [(TRAINING, completion(), "POST /api/v1/training"), (TABLE, certificate(), "POST /api/v1_1/employees")]
    {
        fake.company().put_training("7", json!({"type": 7, "completed": "2025-01-01"}));
        fake.company().put_row("7", "customCertifications", json!({"certification": "Ladders"}));
        fake.company().fail(write, Fault::Answer(200, vec![], "<html>maintenance</html>"));
        let error = deliver(&*fake.connector(), put(object, MARK, wanted.clone())).await.expect_err("nobody knows");
        assert_eq!((error.kind, error.status), (ErrorKind::Ambiguous, Some(200)), "{}", error.message);
        assert!(
            error.message.contains("shows no new row") && error.message.contains("maintenance"),
            "{}",
            error.message
        );
        assert!(deliver(&*fake.connector(), put(object, MARK, wanted)).await.expect("created").wrote);
    }
}

// ---- withdrawing and observing ----

#[tokio::test]
async fn only_a_row_that_carries_our_mark_is_withdrawn() {
    let fake = Fake::start().await;
    let theirs = fake.company().put_training("7", json!({"type": 4, "completed": "2026-01-01", "notes": "By hand."}));
    let theirs_too = fake.company().put_row("7", "customCertifications", json!({"customReference": "learnsync:x:1"}));
    for (object, wanted, foreign) in [(TRAINING, completion(), &theirs), (TABLE, certificate(), &theirs_too)] {
        let error = deliver(&*fake.connector(), withdraw(object, MARK, foreign)).await.expect_err("not ours");
        assert_eq!(error.kind, ErrorKind::Rejected);
        let row = deliver(&*fake.connector(), put(object, MARK, wanted)).await.expect("created").row;
        let receipt = deliver(&*fake.connector(), withdraw(object, MARK, &row)).await.expect("removed");
        assert_eq!((receipt.row.as_str(), receipt.wrote), (row.as_str(), true));
        let again = deliver(&*fake.connector(), withdraw(object, MARK, &row)).await.expect("gone is success");
        assert!(!again.wrote);
    }
    assert_eq!(fake.counts(), (1, 1));
}

#[tokio::test]
async fn a_row_that_goes_while_we_withdraw_it_is_success() {
    let fake = Fake::start().await;
    let row = deliver(&*fake.connector(), put(TRAINING, MARK, completion())).await.expect("created").row;
    fake.company().fail("DELETE /api/v1/training", Fault::Answer(404, vec![], "no such record"));
    assert!(!deliver(&*fake.connector(), withdraw(TRAINING, MARK, &row)).await.expect("gone").wrote);
}

#[tokio::test]
async fn a_table_s_answer_200_without_success_is_a_refusal_while_the_row_is_there() {
    let fake = Fake::start().await;
    let row = deliver(&*fake.connector(), put(TABLE, MARK, certificate())).await.expect("created").row;
    let refusal = r#"{"success": false, "error": "locked"}"#;
    fake.company().fail("DELETE /api/v1/employees", Fault::Answer(200, vec![], refusal));
    let error = deliver(&*fake.connector(), withdraw(TABLE, MARK, &row)).await.expect_err("it is still there");
    assert_eq!(error.kind, ErrorKind::Rejected);
    assert!(error.message.contains("locked"), "{error}");
}

#[tokio::test]
async fn a_place_is_observed_with_typed_fields_and_without_the_mark() {
    let fake = Fake::start().await;
    let mut wanted = completion();
    wanted.insert("notes".to_owned(), text("Passed."));
    let training = deliver(&*fake.connector(), put(TRAINING, MARK, wanted.clone())).await.expect("created").row;
    assert_eq!(
        observe(&*fake.connector(), place(TRAINING, MARK)).await,
        Observation::Holds { row: training, fields: wanted }
    );
    let table = deliver(&*fake.connector(), put(TABLE, MARK, certificate())).await.expect("created").row;
    let mut held = certificate();
    held.insert("course".to_owned(), Value::Null);
    assert_eq!(observe(&*fake.connector(), place(TABLE, MARK)).await, Observation::Holds { row: table, fields: held });
}

#[tokio::test]
async fn an_empty_list_is_absence() {
    let fake = Fake::start().await;
    for object in [TRAINING, TABLE] {
        assert_eq!(observe(&*fake.connector(), place(object, MARK)).await, Observation::Absent);
    }
    let listed: Json = json!(fake.company().take_calls("GET"));
    assert_eq!(listed, 2);
}
