//! The folder as whoever imports the files sees it, read by rules of its own: none of the connector's code is used.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;

use chrono::NaiveDate;
use learnsync_sdk::{Fields, Value};
use learnsync_testkit::{Fake, HeldRow, Sample};
use serde_json::{Map, Value as Json, json};
use tempfile::TempDir;

use super::{date, fields, names_in, path_of, text};

const MARK: &str = "learnsync_mark";
const ACTION: &str = "learnsync_action";
/// More rows than a page of the list has.
const ROWS_OF_SEVERAL_PAGES: usize = 2_001;

/// One variant of the settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    pub(super) is_json: bool,
    pub(super) is_delta: bool,
    /// Semicolons, decimal commas, 12.03.2026, a byte order mark, CRLF.
    pub(super) is_german: bool,
}

pub(super) struct Target {
    folder: TempDir,
    variant: Variant,
    /// The kit's first URL is the proxy's, and stands for the folder; others stand for one that is not there.
    url: OnceLock<String>,
}

type Cells = Vec<(String, Json)>;

impl Target {
    pub(super) fn new(variant: Variant) -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), variant, url: OnceLock::new() }
    }

    fn ending(&self) -> &'static str {
        if self.variant.is_json { "jsonl" } else { "csv" }
    }

    fn full(&self, object: &str) -> PathBuf {
        path_of(&self.folder, &format!("{object}.{}", self.ending()))
    }

    /// The files of an object in the order of their names.
    fn files(&self, object: &str) -> Vec<PathBuf> {
        if !self.variant.is_delta {
            return vec![self.full(object)].into_iter().filter(|path| path.exists()).collect();
        }
        let is_one = |name: &String| name.starts_with(&format!("{object}-")) && name.ends_with(self.ending());
        names_in(self.folder.path()).into_iter().filter(is_one).map(|name| path_of(&self.folder, &name)).collect()
    }

    fn delimiter(&self) -> char {
        if self.variant.is_german { ';' } else { ',' }
    }

    /// All rows of a file, with their columns as they are written.
    fn read(&self, path: &PathBuf) -> Vec<Cells> {
        let bytes = fs::read_to_string(path).expect("it is there");
        if self.variant.is_json {
            let object = |line: &str| serde_json::from_str::<Map<String, Json>>(line).expect("a JSON object");
            return bytes.lines().map(|line| object(line).into_iter().collect()).collect();
        }
        read_csv(bytes.trim_start_matches('\u{feff}'), self.delimiter())
    }

    fn write(&self, path: &PathBuf, rows: &[Cells]) {
        let mut lines: Vec<String> = Vec::new();
        if self.variant.is_json {
            let object = |row: &Cells| Json::Object(row.iter().cloned().collect()).to_string();
            lines.extend(rows.iter().map(object));
        } else {
            let mut columns: Vec<&String> = Vec::new();
            for (name, _) in rows.iter().flatten() {
                if !columns.contains(&name) {
                    columns.push(name);
                }
            }
            let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let cell = |row: &Cells, column: &String| match row.iter().find(|(name, _)| name == column) {
                None | Some((_, Json::Null)) => String::new(),
                Some((_, Json::String(text))) => quoted(text),
                Some((_, bare)) => bare["bare"].as_str().expect("what stood without quotes").to_owned(),
            };
            let joined = |cells: Vec<String>| cells.join(&self.delimiter().to_string());
            lines.push(joined(columns.iter().map(|name| (*name).clone()).collect()));
            lines.extend(rows.iter().map(|row| joined(columns.iter().map(|column| cell(row, column)).collect())));
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(path, text).expect("the folder takes files");
        // Whoever edits a file removes its manifest: so the README asks.
        let _if_there_is_one = fs::remove_file(format!("{}.manifest.json", path.display()));
    }

    /// `nth` counts from 0. No cell of the samples has a line end, so each row is one line.
    fn held_row(&self, nth: usize, row: &Cells) -> HeldRow {
        let mark = row.iter().find(|(name, _)| name == MARK).and_then(|(_, mark)| mark.as_str()).map(str::to_owned);
        let fields = row.iter().filter(|(name, _)| name != MARK && name != ACTION);
        let fields = fields.map(|(name, held)| (name.clone(), self.value(name, held))).collect();
        let id = mark.clone().unwrap_or_else(|| format!("line {}", nth + if self.variant.is_json { 1 } else { 2 }));
        HeldRow { row: id, person: "u1".to_owned(), marks: mark.into_iter().collect(), fields }
    }

    /// By the column, whose type this test knows.
    fn value(&self, column: &str, held: &Json) -> Value {
        let bare = held["bare"].as_str();
        match (column, held, bare) {
            (_, Json::Null, _) => Value::Null,
            ("completed" | "valid_until", ..) => {
                let written = bare.or(held.as_str()).expect("a date");
                let format = if self.variant.is_german { "%d.%m.%Y" } else { "%Y-%m-%d" };
                Value::Date(NaiveDate::parse_from_str(written, format).expect("a date"))
            }
            ("score", _, Some(bare)) => {
                assert!(!self.variant.is_german || !bare.contains('.'), "{bare}");
                Value::Number(bare.replace(',', ".").parse().expect("a number"))
            }
            ("score", ..) => Value::Number(held.as_f64().expect("a number")),
            ("is_valid", ..) => Value::Bool(held.as_bool().unwrap_or(bare == Some("true"))),
            _ => text(held.as_str().unwrap_or_else(|| panic!("{column} is text and stands in quotes: {held}"))),
        }
    }

    fn json(&self, value: &Value) -> Json {
        let german = |date: &NaiveDate| date.format("%d.%m.%Y").to_string();
        match value {
            Value::Null => Json::Null,
            Value::Text(text) => json!(text),
            Value::Date(date) if self.variant.is_json => json!(date.to_string()),
            Value::Date(date) if self.variant.is_german => json!({"bare": german(date)}),
            Value::Number(number) if self.variant.is_json => json!(number),
            Value::Number(number) if self.variant.is_german => json!({"bare": number.to_string().replace('.', ",")}),
            Value::Bool(is_so) if self.variant.is_json => json!(is_so),
            Value::Bool(_) | Value::Number(_) | Value::Date(_) => json!({"bare": value.to_string()}),
        }
    }
}

/// Sign by sign, unlike the connector. Text in quotes is a JSON string, other text `{"bare": ...}`.
fn read_csv(bytes: &str, delimiter: char) -> Vec<Cells> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut is_within, mut was_quoted) = (false, false);
    let mut signs = bytes.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '"' if is_within && signs.peek() == Some(&'"') => {
                cell.push('"');
                signs.next();
            }
            '"' => (is_within, was_quoted) = (!is_within, true),
            sign if is_within => cell.push(sign),
            '\r' if signs.peek() == Some(&'\n') => {}
            sign if sign == delimiter || sign == '\n' => {
                let ended = std::mem::take(&mut cell);
                row.push(match (was_quoted, ended.is_empty()) {
                    (true, _) => json!(ended),
                    (false, true) => Json::Null,
                    (false, false) => json!({"bare": ended}),
                });
                was_quoted = false;
                if sign == '\n' {
                    rows.push(std::mem::take(&mut row));
                }
            }
            sign => cell.push(sign),
        }
    }
    assert!(row.is_empty() && cell.is_empty() && !is_within, "it ends within a row");
    let mut rows = rows.into_iter();
    let name = |cell: Json| cell["bare"].as_str().or(cell.as_str()).expect("a name").to_owned();
    let columns: Vec<String> = rows.next().expect("a header").into_iter().map(name).collect();
    rows.map(|row| {
        assert_eq!(row.len(), columns.len(), "a row has all columns");
        columns.iter().cloned().zip(row).collect()
    })
    .collect()
}

impl Fake for Target {
    /// Nobody listens anywhere.
    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    fn reset(&self) {
        for name in names_in(self.folder.path()) {
            let path = path_of(&self.folder, &name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("it can be removed");
        }
    }

    fn settings(&self, url: &str) -> Json {
        let is_there = self.url.get_or_init(|| url.to_owned()) == url;
        let folder = if is_there { self.folder.path().to_owned() } else { path_of(&self.folder, "not-there") };
        let mut settings = json!({
            "folder": folder,
            "format": if self.variant.is_json { "json_lines" } else { "csv" },
            "mode": if self.variant.is_delta { "delta" } else { "full" },
        });
        if self.variant.is_german {
            settings["delimiter"] = json!("semicolon");
            settings["decimal_sign"] = json!("comma");
            settings["date_format"] = json!("%d.%m.%Y");
            settings["bom"] = json!(true);
            settings["line_end"] = json!("crlf");
        }
        settings
    }

    /// A folder has none.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }

    fn speaks_http(&self) -> bool {
        false
    }

    fn samples(&self) -> Vec<Sample> {
        let completion = |title: &str, completed: &str, valid_until: &str, score: f64| {
            fields([
                ("title", text(title)),
                ("completed", date(completed)),
                ("valid_until", date(valid_until)),
                ("score", Value::Number(score)),
                ("employee_number", text("0042")),
            ])
        };
        let own = |title: &str, is_valid: bool, note: &str| {
            fields([("title", text(title)), ("is_valid", Value::Bool(is_valid)), ("note", text(note))])
        };
        let refused = |column: &str| {
            let mut refused = fields([("title", text("First aid"))]);
            refused.insert(column.to_owned(), text("not for a mapping to fill"));
            Some(refused)
        };
        let sample = |object: &str, fields: Fields, changed, optional, refused| Sample {
            object: object.to_owned(),
            person: "u1".to_owned(),
            fields,
            changed,
            text: Some("title"),
            text_shown_max: None,
            optional: Some(optional),
            refused,
        };
        vec![
            sample(
                "completions",
                completion("First aid", "2026-03-12", "2028-03-12", 90.5),
                completion("First aid, part 2", "2026-04-01", "2028-04-01", 75.0),
                "valid_until",
                refused(MARK),
            ),
            sample(
                "my_own",
                own("First aid", true, "passed"),
                own("Second aid", false, "failed"),
                "note",
                refused("a\nb"),
            ),
        ]
    }

    fn rows(&self, object: &str) -> Vec<HeldRow> {
        let files = self.files(object);
        let rows = files.iter().flat_map(|path| self.read(path).into_iter().enumerate());
        if !self.variant.is_delta {
            return rows.map(|(nth, row)| self.held_row(nth, &row)).collect();
        }
        let mut held = BTreeMap::new();
        for (nth, cells) in rows {
            let row = self.held_row(nth, &cells);
            assert_eq!(cells[0].0, ACTION, "the action stands first");
            match cells[0].1.as_str() {
                Some("put") => held.insert(row.row.clone(), row),
                Some("withdrawn") => held.remove(&row.row),
                other => panic!("{other:?} is no action"),
            };
        }
        held.into_values().collect()
    }

    /// What an importer makes of deltas is not seen, so nobody else's rows are among them.
    fn put_row(&self, object: &str, _person: &str, mark: Option<&str>, fields: &Fields) -> Option<String> {
        if self.variant.is_delta {
            return None;
        }
        let path = self.full(object);
        let mut rows = if path.exists() { self.read(&path) } else { Vec::new() };
        let mark_cell = (MARK.to_owned(), mark.map_or(Json::Null, |mark| json!(mark)));
        let cells = fields.iter().map(|(name, value)| (name.clone(), self.json(value)));
        rows.push(std::iter::once(mark_cell).chain(cells).collect());
        self.write(&path, &rows);
        let nth = rows.len() - 1;
        Some(self.held_row(nth, &rows[nth]).row)
    }

    /// In a delta folder nobody else has rows.
    fn put_rows_of_several_pages(&self, object: &str) -> usize {
        if self.variant.is_delta {
            return 0;
        }
        let row = |nth| {
            let mark = (MARK.to_owned(), json!(format!("learnsync:other:completion/{nth}")));
            vec![mark, ("title".to_owned(), json!("First aid"))]
        };
        let rows: Vec<Cells> = (0..ROWS_OF_SEVERAL_PAGES).map(row).collect();
        self.write(&self.full(object), &rows);
        rows.len()
    }

    /// In a delta folder: as if it had never been written, and as if we did not remember it.
    fn remove_row(&self, object: &str, row: &str) {
        let is_other = |(nth, cells): &(usize, Cells)| self.held_row(*nth, cells).row != row;
        for path in self.files(object) {
            let rows = self.read(&path).into_iter().enumerate().filter(is_other);
            let rows: Vec<Cells> = rows.map(|(_, cells)| cells).collect();
            if rows.is_empty() { fs::remove_file(path).expect("it is there") } else { self.write(&path, &rows) }
        }
        if self.variant.is_delta {
            let state = path_of(&self.folder, &format!(".learnsync/{object}.csv"));
            fs::remove_file(format!("{}.manifest.json", state.display())).expect("the state has a manifest");
            let kept = fs::read_to_string(&state).expect("there is a state");
            let kept: String =
                kept.split_inclusive('\n').filter(|line| !line.contains(&format!("\"{row}\""))).collect();
            fs::write(&state, kept).expect("the folder takes files");
        } else {
            let _if_it_was_the_last = fs::remove_file(format!("{}.manifest.json", self.full(object).display()));
        }
    }

    /// The folder becomes another installation's: as good as a refused key, and root is not exempt from it.
    fn revoke_credentials(&self) {
        fs::create_dir_all(path_of(&self.folder, ".learnsync")).expect("the folder takes folders");
        fs::write(path_of(&self.folder, ".learnsync/owner"), "another\n").expect("the folder takes files");
    }

    fn restore_credentials(&self) {
        fs::write(path_of(&self.folder, ".learnsync/owner"), "").expect("the folder takes files");
    }
}
