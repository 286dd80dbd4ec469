//! Tests of the settings.

use serde_json::json;

use super::*;

fn with(name: &str, value: Value) -> Value {
    let mut settings = json!({"folder": "/var/lib/hr"});
    settings[name] = value;
    settings
}

fn read(settings: &Value) -> Settings {
    Settings::read(settings).unwrap_or_else(|error| panic!("these settings are right: {settings}: {error}"))
}

#[test]
fn a_folder_is_all_that_must_be_set() {
    let settings = read(&json!({"folder": "/var/lib/hr"}));
    let csv = Csv { delimiter: ',', header: true, bom: false, decimal_sign: DecimalSign::Point };
    let dialect = Dialect {
        format: Format::Csv(csv),
        line_end: LineEnd::Lf,
        date_format: "%Y-%m-%d".to_owned(),
        mark_column: "learnsync_mark".to_owned(),
    };
    assert_eq!((settings.mode, settings.dialect), (Mode::Full, dialect));
    for setting in SETTINGS {
        // What the reference promises as default is what holds.
        if let learnsync_sdk::Need::Default(_) = setting.need {
            let named = with(setting.name, setting.value());
            let other = if setting.name == "action_column" {
                with("mode", json!("delta"))
            } else {
                with("mode", json!("full"))
            };
            let mut named_too = other.clone();
            named_too[setting.name] = named[setting.name].clone();
            assert_eq!(read(&named_too), read(&other), "{}", setting.name);
        }
    }
}

#[test]
fn all_defaults_may_be_spelled_out_at_once() {
    let mut settings = json!({"folder": "/var/lib/hr"});
    for setting in SETTINGS.iter().filter(|setting| matches!(setting.need, learnsync_sdk::Need::Default(_))) {
        settings[setting.name] = setting.value();
    }
    assert_eq!(read(&settings), read(&json!({"folder": "/var/lib/hr"})));
}

#[test]
fn a_file_has_the_name_of_its_object_and_in_delta_of_its_time() {
    let time = DateTime::from_timestamp_millis(1_773_303_240_007).expect("a valid instant");
    let check = |settings: Value, expected: &str| assert_eq!(read(&settings).file_name("people", time), expected);
    let delta = |name: &str| json!({"folder": "x", "mode": "delta", "file_name": name});
    check(json!({"folder": "x"}), "people.csv");
    check(json!({"folder": "x", "format": "json_lines"}), "people.jsonl");
    check(json!({"folder": "x", "mode": "delta"}), "people-20260312T081400.007Z.csv");
    check(json!({"folder": "x", "mode": "delta", "format": "json_lines"}), "people-20260312T081400.007Z.jsonl");
    check(with("file_name", json!("HR_{object}.txt")), "HR_people.txt");
    check(delta("{time}_{object}.txt"), "20260312T081400.007Z_people.txt");
}

#[test]
fn an_unknown_setting_is_refused_and_the_nearest_is_named() {
    for (name, nearest) in
        [("fodler", "folder"), ("path", "folder"), ("separator", "delimiter"), ("decimal", "decimal_sign")]
    {
        let error = Settings::read(&with(name, json!("x"))).expect_err("it is unknown");
        assert_eq!(error.message, format!("unknown setting \"{name}\", did you mean \"{nearest}\"?"));
        assert_eq!(error.path, [name]);
    }
}

#[test]
fn a_wrong_setting_is_named_with_what_is_allowed_and_never_with_its_value() {
    let delta = |name: &str, value: Value| {
        let mut settings = with(name, value);
        settings["mode"] = json!("delta");
        settings
    };
    for (settings, path, words) in [
        (json!({}), "folder", "the setting \"folder\" is missing"),
        (json!({"folder": " "}), "folder", "is empty"),
        (json!({"folder": 7}), "folder", "must be text"),
        (json!({"folder": "s3cret\u{0}"}), "folder", "a character that no path has"),
        (with("format", json!("csvs")), "format", "did you mean \"csv\"?"),
        (with("format", json!("s3cret")), "format", "write one of csv, json_lines"),
        (with("mode", json!("s3cret")), "mode", "write one of full, delta"),
        (with("delimiter", json!(";s3cret")), "delimiter", "write one of comma, semicolon, tab, pipe"),
        (with("header", json!("s3cret")), "header", "must be true or false"),
        (with("bom", json!(1)), "bom", "must be true or false"),
        (with("line_end", json!("s3cret")), "line_end", "write one of lf, crlf"),
        (with("decimal_sign", json!("comma")), "decimal_sign", "delimiter = \"semicolon\""),
        (with("date_format", json!("%d.%m")), "date_format", "must tell day, month and year"),
        (with("date_format", json!("s3cret")), "date_format", "must tell day, month and year"),
        (with("date_format", json!("%Y-%m-%d %H:%M")), "date_format", "a letter that no date has"),
        (with("date_format", json!("%Y-%m-%d %!")), "date_format", "a letter that no date has"),
        (with("date_format", json!("%d,%m,%Y")), "date_format", "not the delimiter"),
        (with("mark_column", json!("s3cret\n")), "", ""),
        (with("mark_column", json!("a\nb")), "mark_column", "a character that no column name has"),
        (with("action_column", json!("what")), "action_column", "for the mode \"delta\""),
        (delta("action_column", json!("learnsync_mark")), "action_column", "must differ"),
        (with("file_name", json!("../{object}")), "file_name", "and no folder"),
        (with("file_name", json!(".{object}")), "file_name", "must not begin with"),
        (with("file_name", json!("{object}.json")), "file_name", "as manifests do"),
        (with("file_name", json!("hr.csv")), "file_name", "must hold {object} once"),
        (with("file_name", json!("{object}{time}.csv")), "file_name", "must not hold {time}"),
        (delta("file_name", json!("{object}.csv")), "file_name", "must hold {time} once"),
        (with("columns", json!("email, title")), "columns", "object: column, column"),
        (with("columns", json!("people: email,, title")), "columns", "without a name"),
        (with("columns", json!("people: email, email")), "columns", "a column twice"),
        (with("columns", json!("people: email; people: title")), "columns", "an object twice"),
        (with("columns", json!("people: learnsync_mark")), "columns", "learnsync's own"),
        (json!({"folder": "x", "format": "json_lines", "bom": true}), "bom", "JSON lines have none"),
        (json!(["s3cret"]), "", "must be a table"),
    ] {
        if words.is_empty() {
            // White space around a value is not part of it.
            assert!(Settings::read(&settings).is_ok());
            continue;
        }
        let error = Settings::read(&settings).expect_err(&settings.to_string());
        assert_eq!(error.path.first().map_or("", String::as_str), path, "{settings}");
        assert!(error.message.contains(words), "{settings}: {}", error.message);
        assert!(!error.message.contains("s3cret"), "{}", error.message);
    }
}

#[test]
fn every_date_comes_back_from_a_format_that_is_taken() {
    for format in ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%Y%m%d", "%-d %B %Y", "%d-%b-%Y", "%Y-%j"] {
        let dialect = read(&with("date_format", json!(format))).dialect;
        let mut date = NaiveDate::from_ymd_opt(1995, 1, 1).expect("a date of the calendar");
        while date < NaiveDate::from_ymd_opt(2001, 1, 1).expect("a date of the calendar") {
            let value = learnsync_sdk::Value::Date(date);
            assert_eq!(dialect.value(dialect.cell(&value)), value, "{format}");
            date = date.succ_opt().expect("the calendar goes on");
        }
    }
}

#[test]
fn the_columns_of_an_object_are_those_set_or_its_own_or_any() {
    let settings = read(&with("columns", json!("completions: email, completed, mine; other: a")));
    let names = |object: &str| {
        let object = settings.target_object(object).expect("it may exist");
        let names: Vec<String> = object.fields.into_iter().map(|field| field.name).collect();
        (names.join(" "), object.open)
    };
    assert_eq!(names("completions"), ("email completed mine".to_owned(), false));
    assert_eq!(names("groups"), ("name members group_id".to_owned(), true));
    assert_eq!(names("anything-else_2"), (String::new(), true));
    let completions = settings.target_object("completions").expect("it exists");
    let kinds: Vec<FieldType> = completions.fields.iter().map(|field| field.kind).collect();
    assert_eq!(kinds, [FieldType::Text, FieldType::Date, FieldType::Any], "a known column keeps its type");
}

#[test]
fn an_object_is_a_plain_word_that_cannot_lead_out_of_the_folder() {
    let settings = read(&json!({"folder": "x"}));
    for name in ["", "../people", "People", "a.b", "a b", &"a".repeat(65)] {
        let error = settings.target_object(name).expect_err("no file has this name");
        assert!(error.contains("a-z, 0-9") && error.contains("completions"), "{error}");
    }
}

#[test]
fn without_a_header_only_known_columns_are_written() {
    let settings = read(&json!({"folder": "x", "header": false, "columns": "mine: a, b"}));
    assert!(!settings.target_object("mine").expect("its columns are set").open);
    assert!(!settings.target_object("people").expect("it has columns of its own").open);
    let error = settings.target_object("other").expect_err("nobody knows its columns");
    assert!(error.contains("name them in \"columns\""), "{error}");
}
