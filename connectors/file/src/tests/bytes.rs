//! What the files look like, byte by byte, and that what is written is what is read.

use learnsync_sdk::{ErrorKind, Observation, Value};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value as Json, json};

use super::{Stage, date, fields, held, mark, put, refused, seen, taken, text, withdraw};

async fn written(settings: Json) -> Stage {
    let stage = Stage::new();
    let destination = stage.destination(&settings);
    let batch = [
        put(
            "mine",
            1,
            fields([
                ("title", text("Fire \"safety\", part 1")),
                ("score", Value::Number(90.5)),
                ("on", date("2026-03-12")),
            ]),
        ),
        put("mine", 2, fields([("title", text("=1+1")), ("valid", Value::Bool(true)), ("number", text("0042"))])),
    ];
    taken(&destination, &batch).await;
    stage
}

#[tokio::test]
async fn csv_is_written_as_rfc_4180_says_with_text_in_quotes_and_nothing_changed() {
    let stage = written(json!({})).await;
    let expected = "learnsync_mark,number,on,score,title,valid\n\
                    \"learnsync:acme:completion/1\",,2026-03-12,90.5,\"Fire \"\"safety\"\", part 1\",\n\
                    \"learnsync:acme:completion/2\",\"0042\",,,\"=1+1\",true\n";
    assert_eq!(stage.read("mine.csv"), expected);
}

#[tokio::test]
async fn each_setting_of_csv_shows_in_the_bytes() {
    let stage = written(json!({
        "delimiter": "semicolon", "decimal_sign": "comma", "bom": true, "line_end": "crlf", "date_format": "%d.%m.%Y", "mark_column": "key",
    }))
    .await;
    let expected = "\u{feff}key;number;on;score;title;valid\r\n\
                    \"learnsync:acme:completion/1\";;12.03.2026;90,5;\"Fire \"\"safety\"\", part 1\";\r\n\
                    \"learnsync:acme:completion/2\";\"0042\";;;\"=1+1\";true\r\n";
    assert_eq!(stage.read("mine.csv"), expected);
    let headless =
        written(json!({"header": false, "delimiter": "tab", "columns": "mine: title, score, on, valid, number"})).await;
    let expected = "\"learnsync:acme:completion/1\"\t\"Fire \"\"safety\"\", part 1\"\t90.5\t2026-03-12\t\t\n\
                    \"learnsync:acme:completion/2\"\t\"=1+1\"\t\t\ttrue\t\"0042\"\n";
    assert_eq!(headless.read("mine.csv"), expected);
}

#[tokio::test]
async fn json_lines_hold_one_object_a_row() {
    let stage = written(json!({"format": "json_lines", "columns": "mine: title, score, on, valid, number"})).await;
    let expected = "{\"learnsync_mark\":\"learnsync:acme:completion/1\",\"title\":\"Fire \\\"safety\\\", part 1\",\"score\":90.5,\
                    \"on\":\"2026-03-12\",\"valid\":null,\"number\":null}\n\
                    {\"learnsync_mark\":\"learnsync:acme:completion/2\",\"title\":\"=1+1\",\"score\":null,\"on\":null,\"valid\":true,\
                    \"number\":\"0042\"}\n";
    assert_eq!(stage.read("mine.jsonl"), expected);
}

/// Signs that mean something to some format, and some that only look so.
const ODD: [&str; 24] = [
    "\"",
    "\"\"",
    ",",
    ";",
    "\t",
    "|",
    "\n",
    "\r",
    "\r\n",
    "\u{feff}",
    "é",
    "消",
    "👩‍🚒",
    " ",
    "a",
    "0042",
    "1.5",
    "true",
    "null",
    "2026-03-12",
    "\\",
    "'",
    "=cmd()",
    "\u{2028}",
];

#[tokio::test]
async fn whatever_is_written_is_read_back_by_every_dialect() {
    let dialects = [
        json!({}),
        json!({"delimiter": "semicolon", "decimal_sign": "comma", "bom": true, "line_end": "crlf", "date_format": "%d.%m.%Y"}),
        json!({"delimiter": "tab", "header": false, "columns": "mine: f, e, d, c, b, a"}),
        json!({"delimiter": "pipe", "date_format": "%Y%m%d"}),
        json!({"mode": "delta"}),
    ];
    for (seed, settings) in dialects.iter().enumerate() {
        let stage = Stage::new();
        let destination = stage.destination(settings);
        let mut random = StdRng::seed_from_u64(seed as u64);
        let mut wanted = Vec::new();
        for place in 0..200 {
            let mut odd = || {
                let length = random.random_range(0..6);
                (0..length).map(|_| *ODD.choose(&mut random).expect("there are some")).collect::<String>()
            };
            let (a, b, c) = (text(&odd()), text(&odd()), text(&odd()));
            let number = f64::from(random.random_range(-1_000_000..1_000_000)) / 64.0;
            let row = [
                ("a", a),
                ("b", b),
                ("c", c),
                ("d", Value::Number(number)),
                ("e", Value::Bool(place % 2 == 0)),
                ("f", date("2024-02-29")),
            ];
            wanted.push((place, fields(row)));
        }
        let batch: Vec<_> = wanted.iter().map(|(place, fields)| put("mine", *place, fields.clone())).collect();
        taken(&destination, &batch[..150]).await;
        // The rest comes later, so that the first are copied.
        taken(&destination, &batch[150..]).await;
        for (place, fields) in wanted {
            assert_eq!(seen(&destination, "mine", place).await, held(place, fields), "{settings}");
        }
        let again = taken(&destination, &batch).await;
        assert!(again.iter().all(|receipt| !receipt.wrote), "{settings}: what is there is not written again");
    }
}

#[tokio::test]
async fn a_text_of_json_that_looks_like_a_date_is_written_as_it_is_and_not_again() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({"format": "json_lines"}));
    let batch = [put("mine", 1, fields([("title", text("2026-03-12")), ("odd", text(&ODD.concat()))]))];
    taken(&destination, &batch).await;
    let row: Json = serde_json::from_str(&stage.read("mine.jsonl")).expect("one JSON object");
    assert_eq!((row["title"].as_str(), row["odd"].as_str()), (Some("2026-03-12"), Some(ODD.concat().as_str())));
    assert!(!taken(&destination, &batch).await[0].wrote);
}

#[tokio::test]
async fn a_full_file_holds_the_rows_as_they_are_now_in_the_order_in_which_they_came() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({}));
    let title = |title: &str| fields([("title", text(title))]);
    taken(&destination, &[put("mine", 1, title("one")), put("mine", 2, title("two")), put("mine", 3, title("three"))])
        .await;
    taken(&destination, &[withdraw("mine", 2), put("mine", 1, title("one again")), put("mine", 4, title("four"))])
        .await;
    let expected = format!(
        "learnsync_mark,title\n\"{}\",\"one again\"\n\"{}\",\"three\"\n\"{}\",\"four\"\n",
        mark(1),
        mark(3),
        mark(4)
    );
    assert_eq!(stage.read("mine.csv"), expected);
    taken(&destination, &[withdraw("mine", 1), withdraw("mine", 3), withdraw("mine", 4)]).await;
    assert_eq!(stage.read("mine.csv"), "learnsync_mark,title\n", "nobody is left, and the file says so");
}

#[tokio::test]
async fn a_batch_that_changes_one_row_twice_ends_with_the_last() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({}));
    let title = |title: &str| fields([("title", text(title))]);
    let batch = [put("mine", 1, title("first")), withdraw("mine", 1), put("mine", 1, title("last"))];
    taken(&destination, &batch).await;
    assert_eq!(seen(&destination, "mine", 1).await, held(1, title("last")));
    let none = [put("mine", 2, title("gone at once")), withdraw("mine", 2)];
    taken(&destination, &none).await;
    assert_eq!(seen(&destination, "mine", 2).await, Ok(Observation::Absent));
}

#[tokio::test]
async fn columns_keep_their_places_when_new_ones_come() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({}));
    taken(&destination, &[put("groups", 1, fields([("members", Value::Number(3.0)), ("z", text("1"))]))]).await;
    taken(&destination, &[put("groups", 2, fields([("y", text("2")), ("a", text("3"))]))]).await;
    let expected = format!(
        "learnsync_mark,name,members,group_id,z,a,y\n\"{}\",,3,,\"1\",,\n\"{}\",,,,,\"3\",\"2\"\n",
        mark(1),
        mark(2)
    );
    assert_eq!(stage.read("groups.csv"), expected);
}

#[tokio::test]
async fn a_column_that_is_not_set_is_refused_and_named() {
    let stage = Stage::new();
    let destination = stage.destination(&json!({"columns": "mine: title"}));
    let error = refused(&destination, &[put("mine", 1, fields([("titel", text("x"))]))]).await;
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::Rejected, "mine has no column titel, there are title")
    );
    let error = refused(&destination, &[put("mine", 1, fields([("title", Value::Number(f64::NAN))]))]).await;
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Rejected, "title is no finite number"));
    assert!(stage.names().is_empty(), "nothing was written for what was refused: {:?}", stage.names());
}

#[tokio::test]
async fn a_row_that_could_not_be_read_back_is_refused() {
    for settings in [json!({}), json!({"format": "json_lines"}), json!({"mode": "delta"})] {
        let stage = Stage::new();
        let destination = stage.destination(&settings);
        let long = |bytes: usize| [put("mine", 1, fields([("title", text(&"\u{1}".repeat(bytes)))]))];
        let error = refused(&destination, &long(1024 * 1024 + 1)).await;
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::Rejected, "the row has 1024 KiB of text, the limit is 1024 KiB")
        );
        // The longest, of signs that JSON escapes into six.
        let longest = long(1024 * 1024);
        taken(&destination, &longest).await;
        assert!(!taken(&destination, &longest).await[0].wrote, "it is read back");
    }
}

#[tokio::test]
async fn a_changed_setting_converts_the_file_at_the_next_write() {
    let stage = Stage::new();
    let before = fields([("on", date("2026-03-12")), ("score", Value::Number(1.5)), ("title", text("a;b"))]);
    taken(&stage.destination(&json!({})), &[put("mine", 1, before.clone())]).await;
    let german = json!({"delimiter": "semicolon", "decimal_sign": "comma", "date_format": "%d.%m.%Y", "header": false, "columns": "mine: title, on, score"});
    let destination = stage.destination(&german);
    assert_eq!(seen(&destination, "mine", 1).await, held(1, before.clone()), "it is read as it was written");
    let receipt = taken(&destination, &[put("mine", 1, before)]).await.remove(0);
    assert!(!receipt.wrote, "the row itself did not change");
    assert_eq!(stage.read("mine.csv"), format!("\"{}\";\"a;b\";12.03.2026;1,5\n", mark(1)));
}

#[tokio::test]
async fn the_manifest_tells_what_the_file_holds() {
    let stage = written(json!({})).await;
    let manifest = stage.manifest("mine.csv");
    let bytes = stage.read("mine.csv");
    assert_eq!(manifest["file"], "mine.csv");
    assert_eq!((&manifest["object"], &manifest["mode"]), (&json!("mine"), &json!("full")));
    assert_eq!((&manifest["rows"], &manifest["bytes"]), (&json!(2), &json!(bytes.len())));
    assert_eq!(manifest["written_at"], "2026-03-12T08:14:00Z");
    assert_eq!(manifest["installation"], "acme");
    assert_eq!(manifest["columns"], json!(["learnsync_mark", "number", "on", "score", "title", "valid"]));
    assert_eq!(manifest["dialect"]["format"]["csv"]["delimiter"], ",");
    use sha2::{Digest, Sha256};
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(manifest["sha256"], json!(digest));
}
