//! Lists of all rows: everybody's, by one call or person by person, and never fewer than there are.

use learnsync_sdk::{Connector, DeliveryError, ErrorKind, ListedPage, Value};
use serde_json::json;

use super::fake::{Fake, Fault};
use super::{MARK, TABLE, TRAINING, completion, deliver, put, text};

const OTHERS_MARK: &str = "learnsync:other:completion/5b0c";
const PEOPLE: &str = "POST /api/v2/datasets/employee/data";

async fn first(connector: &dyn Connector, object: &str) -> Result<ListedPage, DeliveryError> {
    connector.list(object, None).await
}

fn people_of(page: &ListedPage) -> Vec<&str> {
    page.rows.iter().filter_map(|row| row.person.as_deref()).collect()
}

#[tokio::test]
async fn people_who_left_and_people_of_all_pages_are_among_those_whose_records_are_listed() {
    let fake = Fake::start().await;
    fake.company().people_per_page_max = 2;
    for person in ["7", "8", "9"] {
        fake.company().put_training(person, json!({"completed": "2026-03-12", "type": 4}));
    }
    let page = first(&*fake.connector(), TRAINING).await.expect("the fake is well");
    assert_eq!((people_of(&page), page.next.as_deref()), (vec!["7", "8", "9"], None), "8 is inactive");
    assert_eq!(fake.company().take_calls(PEOPLE), 2);
}

#[tokio::test]
async fn a_table_is_listed_by_one_call_with_everybody_s_rows() {
    let fake = Fake::start().await;
    for person in ["7", "8"] {
        fake.company().put_row(person, "customCertifications", json!({"course": person, "customReference": MARK}));
    }
    let page = first(&*fake.connector(), TABLE).await.expect("the fake is well");
    assert_eq!((people_of(&page), page.next.as_deref()), (vec!["7", "8"], None));
    assert_eq!(fake.company().calls, ["GET /api/v1/employees/all/tables/customCertifications"]);
}

#[tokio::test]
async fn a_table_that_is_too_large_for_one_answer_is_listed_person_by_person() {
    let fake = Fake::start().await;
    for person in ["7", "8", "9"] {
        let course = "x".repeat(6 * 1024 * 1024);
        fake.company().put_row(person, "customCertifications", json!({"course": course}));
    }
    let page = first(&*fake.connector(), TABLE).await.expect("each person's rows are few");
    assert_eq!(people_of(&page), ["7", "8", "9"]);
    assert_eq!(fake.company().take_calls("GET /api/v1/employees/"), 4, "once for all, then for each");
}

#[tokio::test]
async fn a_row_with_two_marks_is_ours_and_without_ours_it_is_theirs() {
    let fake = Fake::start().await;
    let connector = fake.connector();
    deliver(&*connector, put(TRAINING, MARK, completion())).await.expect("the fake is well");
    let notes = json!(format!("Copied.\n{OTHERS_MARK}\n{MARK}"));
    fake.company().training.values_mut().for_each(|(_, fields)| drop(fields.insert("notes".to_owned(), notes.clone())));
    fake.company().put_training("7", json!({"completed": "2026-03-12", "type": 4, "notes": OTHERS_MARK}));
    let page = first(&*connector, TRAINING).await.expect("the fake is well");
    let told: Vec<_> = page.rows.iter().map(|row| (row.mark.as_deref(), notes_of(row))).collect();
    let both = text(&format!("Copied.\n{OTHERS_MARK}"));
    assert_eq!(told, [(Some(MARK), Some(both)), (Some(OTHERS_MARK), Some(Value::Null))]);
}

fn notes_of(row: &learnsync_sdk::ListedRow) -> Option<Value> {
    row.fields.as_ref().ok()?.get("notes").cloned()
}

#[tokio::test]
async fn a_list_that_would_be_too_short_is_an_error() {
    let fake = Fake::start().await;
    let connector = fake.connector();
    let check =
        async |object: &str, request: &'static str, status, answer: &'static str, words: &str, kind: ErrorKind| {
            fake.company().fail(request, Fault::Answer(status, vec![], answer));
            let error = first(&*connector, object).await.expect_err("it would be too short");
            assert!(error.message.contains(words), "{answer}: {error}");
            assert_eq!(error.kind, kind, "{error}");
        };
    let one = r#"{"data": [{"fields": {"eeid": "7"}}], "meta": {"totalPages": 1, "totalItems": 2}}"#;
    check(TRAINING, PEOPLE, 200, one, "fewer or more people than it counts", ErrorKind::Unavailable).await;
    let two = r#"{"data": [{"fields": {"eeid": "7"}}], "meta": {"totalPages": 2, "totalItems": 2}}"#;
    check(TRAINING, PEOPLE, 200, two, "it changed from page to page", ErrorKind::Unavailable).await;
    check(TRAINING, PEOPLE, 200, r#"{"data": []}"#, "shows no people to this API key", ErrorKind::Rejected).await;
    check(TRAINING, PEOPLE, 200, "{}", "it has no data", ErrorKind::Unavailable).await;
    let nameless = r#"{"data": [{"fields": {"eeid": ""}}]}"#;
    check(TRAINING, PEOPLE, 200, nameless, "let the API key read \"eeid\"", ErrorKind::Rejected).await;
    let everybody = r#"{"data": [{"fields": {"eeid": "all"}}]}"#;
    check(TRAINING, PEOPLE, 200, everybody, "is not the id of one employee", ErrorKind::Rejected).await;
    let record = "GET /api/v1/training/record/employee/8";
    check(TRAINING, record, 404, "", "employee 8 is on the list of people", ErrorKind::Unavailable).await;
    let ownerless = r#"[{"id": "12", "course": "First aid"}]"#;
    check(TABLE, "GET /api/v1/employees/all/", 200, ownerless, "whose row 12 is", ErrorKind::Unavailable).await;
}

#[tokio::test]
async fn a_page_that_no_list_named_is_refused_without_a_call() {
    let fake = Fake::start().await;
    for object in [TRAINING, TABLE] {
        let error = fake.connector().list(object, Some("2")).await.expect_err("no list named it");
        assert_eq!((error.kind, error.message), (ErrorKind::Rejected, format!("{object} has no page \"2\"")));
    }
    assert_eq!(fake.company().calls, Vec::<String>::new());
}
