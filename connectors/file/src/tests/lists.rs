//! Lists of whole tables: rows that nobody can read, marks that are none, and rows that go between two pages.

use learnsync_sdk::{Connector, DeliveryError, ErrorKind, ListedPage, ListedRow};
use serde_json::json;

use super::{Stage, fields, mark, put, taken, text, withdraw};
use crate::Destination;
use crate::listing::PAGE_ROWS_MAX;

async fn listed(destination: &Destination, page: Option<&str>) -> Result<ListedPage, DeliveryError> {
    destination.list("mine", page).await
}

fn row(row: &str, mark: Option<&str>, fields: Result<learnsync_sdk::Fields, String>) -> ListedRow {
    ListedRow { row: row.to_owned(), person: None, mark: mark.map(str::to_owned), fields }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_listed_with_the_reason() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({}));
    stage.write(
        "mine.csv",
        "learnsync_mark,title\n\"learnsync:acme:completion/1\",\"one\",1\n,\"by hand\"\n\"mine!\",2\n,\"a\"b\n",
    );
    let page = listed(&destination, None).await.expect("the file can be read");
    let one = mark(1);
    let wrong = |words: &str| Err(words.to_owned());
    let wanted = vec![
        row(&one, Some(&one), wrong("line 2: it has 3 columns, the table has 2")),
        row("line 3", None, Ok(fields([("title", text("by hand"))]))),
        row("line 4", None, Ok(fields([("title", learnsync_sdk::Value::Number(2.0))]))),
        row("line 5", None, wrong("line 5: something stands after the quote that ends a text")),
    ];
    assert_eq!(page, ListedPage { rows: wanted, next: None });
}

#[tokio::test]
async fn what_is_not_there_is_no_row_and_what_is_not_as_it_was_left_is_an_error() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({}));
    assert_eq!(listed(&destination, None).await, Ok(ListedPage::default()));
    taken(&destination, &[put("mine", 1, fields([("title", text("one"))]))]).await;
    let whole = stage.read("mine.csv");
    stage.write("mine.csv", &whole.replace("one", "two"));
    let error = listed(&destination, None).await.expect_err("somebody changed it");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.starts_with("cannot list mine.csv: it is not as it was left"), "{error}");
}

#[tokio::test]
async fn a_page_begins_behind_the_rows_before_it_or_not_at_all() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({}));
    let batch: Vec<_> = (0..=PAGE_ROWS_MAX).map(|place| put("mine", place, fields([("title", text("one"))]))).collect();
    taken(&destination, &batch).await;
    let first = listed(&destination, None).await.expect("the folder is well");
    assert_eq!(first.rows.len(), PAGE_ROWS_MAX);
    let next = first.next.expect("one row is left");
    // A row that changes keeps its place, and one that is new stands behind all others.
    let changes = [put("mine", 0, fields([("title", text("two"))])), put("mine", 1_000_000, fields([]))];
    taken(&destination, &changes).await;
    let second = listed(&destination, Some(&next)).await.expect("all before it are there");
    let marks: Vec<_> = second.rows.iter().map(|row| row.row.clone()).collect();
    assert_eq!((marks, second.next), (vec![mark(PAGE_ROWS_MAX), mark(1_000_000)], None));
    taken(&destination, &[withdraw("mine", 5)]).await;
    let error = listed(&destination, Some(&next)).await.expect_err("another row stands there now");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.ends_with("list it from the beginning"), "{error}");
}

#[tokio::test]
async fn a_page_that_no_list_named_is_refused_or_begins_nowhere() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({}));
    for (page, kind) in [("", ErrorKind::Rejected), ("x-y", ErrorKind::Rejected), ("3-abc", ErrorKind::Unavailable)] {
        let error = listed(&destination, Some(page)).await.expect_err("no list named it");
        assert_eq!(error.kind, kind, "{error}");
    }
}
