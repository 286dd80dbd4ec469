//! Deltas: what each batch changed, and a memory of what was handed over.

use std::fs;

use learnsync_sdk::{Observation, Value};
use serde_json::json;

use super::{NOW_MS, Stage, fields, held, mark, put, seen, taken, text, withdraw};

const FIRST: &str = "mine-20260312T081400.000Z.csv";
const SECOND: &str = "mine-20260312T081400.001Z.csv";

fn data_files(stage: &Stage) -> Vec<String> {
    stage.names().into_iter().filter(|name| !name.ends_with(".manifest.json")).collect()
}

#[tokio::test]
async fn each_batch_makes_a_file_of_the_whole_rows_that_it_changed_and_says_what_became_of_them() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({"mode": "delta"}));
    let row = |title: &str| fields([("number", text("0042")), ("title", text(title))]);
    taken(&destination, &[put("mine", 1, row("one")), put("mine", 2, row("two"))]).await;
    let header = "learnsync_action,learnsync_mark,number,title\n";
    let expected =
        format!("{header}\"put\",\"{}\",\"0042\",\"one\"\n\"put\",\"{}\",\"0042\",\"two\"\n", mark(1), mark(2));
    assert_eq!(stage.read(FIRST), expected);
    assert_eq!((&stage.manifest(FIRST)["rows"], &stage.manifest(FIRST)["mode"]), (&json!(2), &json!("delta")));
    // A field that is not named is left alone, and still stands in the row; what was withdrawn says whose it was.
    let changes = [put("mine", 1, fields([("title", text("one again"))])), withdraw("mine", 2)];
    taken(&destination, &changes).await;
    let expected = format!(
        "{header}\"put\",\"{}\",\"0042\",\"one again\"\n\"withdrawn\",\"{}\",\"0042\",\"two\"\n",
        mark(1),
        mark(2)
    );
    assert_eq!(stage.read(SECOND), expected);
}

#[tokio::test]
async fn the_memory_outlives_whoever_takes_the_files_away() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({"mode": "delta", "format": "json_lines"}));
    let one = fields([("score", Value::Number(1.5)), ("title", text("one"))]);
    taken(&destination, &[put("mine", 1, one.clone())]).await;
    for name in stage.names() {
        fs::remove_file(stage.path().join(name)).expect("it is there");
    }
    assert_eq!(seen(&destination, "mine", 1).await, held(1, one.clone()));
    let receipt = taken(&destination, &[put("mine", 1, one)]).await.remove(0);
    assert!(!receipt.wrote, "it was handed over before");
    assert!(stage.names().is_empty(), "and so no file says it again: {:?}", stage.names());
    taken(&destination, &[withdraw("mine", 1)]).await;
    assert_eq!(seen(&destination, "mine", 1).await, Ok(Observation::Absent));
    let withdrawn = stage.read("mine-20260312T081400.001Z.jsonl");
    assert!(withdrawn.contains("\"withdrawn\"") && withdrawn.contains("\"one\""), "{withdrawn}");
}

#[tokio::test]
async fn names_sort_in_the_order_of_writing_whatever_the_clock_does() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({"mode": "delta"}));
    for (place, ms) in [(1, NOW_MS), (2, NOW_MS), (3, NOW_MS - 3_600_000), (4, NOW_MS + 10)] {
        stage.set_clock(ms);
        taken(&destination, &[put("mine", place, fields([("title", text("x"))]))]).await;
    }
    let expected = ["000", "001", "002", "010"].map(|ms| format!("mine-20260312T081400.{ms}Z.csv"));
    assert_eq!(data_files(&stage), expected);
    for (place, name) in (1..).zip(expected) {
        assert!(stage.read(&name).contains(&mark(place)), "{name} is about {place}");
    }
}

#[tokio::test]
async fn a_file_that_lies_there_is_never_replaced_by_a_delta() {
    let stage = Stage::new();
    stage.write(FIRST, "somebody else's");
    taken(&stage.destination(&json!({"mode": "delta"})), &[put("mine", 1, fields([("title", text("x"))]))]).await;
    assert_eq!(stage.read(FIRST), "somebody else's");
    assert!(stage.read(SECOND).contains(&mark(1)));
}

#[tokio::test]
async fn columns_of_deltas_stay_where_they_were_although_each_file_is_new() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({"mode": "delta"}));
    taken(&destination, &[put("mine", 1, fields([("z", text("1"))]))]).await;
    taken(&destination, &[put("mine", 2, fields([("a", text("2"))]))]).await;
    let second = stage.read(SECOND);
    assert_eq!(second, format!("learnsync_action,learnsync_mark,z,a\n\"put\",\"{}\",,\"2\"\n", mark(2)));
}
