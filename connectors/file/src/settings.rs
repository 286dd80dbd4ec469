//! The settings of one destination, and what is said about wrong ones.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, Utc};
use learnsync_sdk::{
    FieldType, Setting, SettingType, SettingsError, TargetField, TargetObject, nearest, refuse_unknown,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::dialect::{Csv, DecimalSign, Dialect, Format, LineEnd, formatted};
use crate::routes::{ROUTES, default_columns};

/// The settings.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::required(
        "folder",
        "The folder for the files: it must exist, be writable, and belong to this destination alone.",
        "/srv/learnsync/hr",
    )
    .or(&["path", "directory", "dir"]),
    Setting::default("format", "`csv`, or `json_lines`: one JSON object a line.", "csv").or(&["type"]),
    Setting::default(
        "mode",
        "`full`: one file for each object, which always holds all rows. `delta`: a new file with the changes of each batch.",
        "full",
    ),
    Setting::optional(
        "file_name",
        "The name of a file; `{object}` is the route's object, `{time}` (only in delta, and there required) the time in UTC. \
         Without it `{object}.csv` or `{object}-{time}.csv`, and `.jsonl` for JSON lines.",
        "hr_{object}.csv",
    )
    .or(&["name", "filename", "pattern"]),
    Setting::optional(
        "columns",
        "The columns of objects, in their order: `object: column, column; object: ...`. Such an object has no other columns.",
        "completions: employee_number, title, completed; people: employee_number, email",
    ),
    Setting::default("date_format", "How dates are written, in the letters of strftime, with day, month and year.", "%Y-%m-%d")
        .or(&["date_pattern"]),
    Setting::default("line_end", "What ends a line: `lf` or `crlf`.", "lf").or(&["newline", "line_ending"]),
    Setting::default("mark_column", "The column of our mark, by which a row is found again.", "learnsync_mark"),
    Setting::default(
        "action_column",
        "Only in delta: the column that says `put` or `withdrawn`.",
        "learnsync_action",
    ),
    Setting::default("delimiter", "Only for CSV: `comma`, `semicolon`, `tab` or `pipe`.", "comma").or(&["separator"]),
    Setting::default("header", "Only for CSV: whether the first row names the columns.", "true").of(SettingType::Bool),
    Setting::default("bom", "Only for CSV: whether the file begins with a byte order mark, as Excel wants it.", "false")
        .of(SettingType::Bool),
    Setting::default("decimal_sign", "Only for CSV: `point` or `comma`.", "point").or(&["decimal"]),
];

const CSV_ONLY: [&str; 4] = ["delimiter", "header", "bom", "decimal_sign"];
const ACTION_COLUMN: &str = "learnsync_action";
const TIME_FORMAT: &str = "%Y%m%dT%H%M%S%.3fZ";
const NAME_CHARACTERS_MAX: usize = 100;
const OBJECT_CHARACTERS_MAX: usize = 64;

/// What is written at each batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// The whole table, in place of the one before.
    Full,
    /// A new file with the rows that changed.
    Delta,
}

/// The columns of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Those that every file has, in their order.
    pub(crate) columns: Vec<(String, FieldType)>,
    /// Whether rows may bring more.
    pub(crate) is_open: bool,
}

/// The settings as they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) folder: PathBuf,
    pub(crate) mode: Mode,
    pub(crate) dialect: Dialect,
    pub(crate) action_column: String,
    file_name: String,
    columns: BTreeMap<String, Vec<String>>,
}

impl Settings {
    /// Reads a destination's settings.
    pub(crate) fn read(settings: &Value) -> Result<Self, SettingsError> {
        let Some(map) = settings.as_object() else { return Err(wrong("", "the settings must be a table")) };
        refuse_unknown(map, SETTINGS)?;
        let folder = required(map, "folder")?;
        if folder.contains('\0') {
            return Err(wrong("folder", "the setting \"folder\" holds a character that no path has"));
        }
        let mode = choice(map, "mode", &[("full", Mode::Full), ("delta", Mode::Delta)])?;
        let dialect = dialect(map)?;
        let action_column = column(map, "action_column")?.unwrap_or(ACTION_COLUMN).to_owned();
        match mode {
            // The default spelled out is no mistake: `init` offers it.
            Mode::Full if action_column != ACTION_COLUMN => {
                return Err(wrong(
                    "action_column",
                    "action_column is for the mode \"delta\": a full file has no withdrawn rows",
                ));
            }
            Mode::Delta if action_column == dialect.mark_column => {
                return Err(wrong("action_column", "action_column and mark_column must differ"));
            }
            Mode::Full | Mode::Delta => {}
        }
        let file_name = file_name(map, mode, dialect.format)?;
        let columns = columns(map, &[dialect.mark_column.as_str(), action_column.as_str()])?;
        Ok(Self { folder: folder.into(), mode, dialect, action_column, file_name, columns })
    }

    /// The name of an object's file; in delta that of this time.
    pub(crate) fn file_name(&self, object: &str, time: DateTime<Utc>) -> String {
        self.file_name.replace("{object}", object).replace("{time}", &time.format(TIME_FORMAT).to_string())
    }

    /// The columns of an object.
    ///
    /// # Errors
    /// Its name is none for a file, or it has no known columns where no header would name them; the message says what is allowed.
    pub(crate) fn layout(&self, object: &str) -> Result<Layout, String> {
        let is_letter = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "_-".contains(letter);
        if object.is_empty() || object.len() > OBJECT_CHARACTERS_MAX || !object.chars().all(is_letter) {
            let names: Vec<&str> = ROUTES.iter().map(|route| route.name).collect();
            return Err(format!(
                "file has no object \"{object}\": its name must be of a-z, 0-9, \"_\" and \"-\", at most {OBJECT_CHARACTERS_MAX} \
                 characters, for example {}",
                names.join(", ")
            ));
        }
        if let Some(names) = self.columns.get(object) {
            let kind_of = |name: &str| {
                default_columns(object)
                    .into_iter()
                    .find(|(known, _)| known == name)
                    .map_or(FieldType::Any, |(_, kind)| kind)
            };
            let columns = names.iter().map(|name| (name.clone(), kind_of(name))).collect();
            return Ok(Layout { columns, is_open: false });
        }
        let has_header = match self.dialect.format {
            Format::Csv(csv) => csv.header,
            Format::JsonLines => true,
        };
        let columns = default_columns(object);
        if !has_header && columns.is_empty() {
            return Err(format!(
                "without a header the columns of \"{object}\" must be known: name them in \"columns\""
            ));
        }
        Ok(Layout { columns, is_open: has_header })
    }

    /// An object as the daemon checks a mapping against it.
    pub(crate) fn target_object(&self, name: &str) -> Result<TargetObject, String> {
        let layout = self.layout(name)?;
        let field = |(name, kind): (String, FieldType)| TargetField { name, kind, required: false, length_max: None };
        let fields = layout.columns.into_iter().map(field).collect();
        Ok(TargetObject { name: name.to_owned(), fields, open: layout.is_open })
    }
}

fn wrong(name: &str, message: impl Into<String>) -> SettingsError {
    let path = if name.is_empty() { Vec::new() } else { vec![name.to_owned()] };
    SettingsError { path, message: message.into() }
}

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, SettingsError> {
    match map.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim())),
        Some(Value::String(_)) => Err(wrong(name, format!("the setting \"{name}\" is empty"))),
        Some(_) => Err(wrong(name, format!("the setting \"{name}\" must be text"))),
    }
}

fn required<'a>(map: &'a Map<String, Value>, name: &str) -> Result<&'a str, SettingsError> {
    text(map, name)?.ok_or_else(|| wrong(name, format!("the setting \"{name}\" is missing")))
}

fn flag(map: &Map<String, Value>, name: &str, default: bool) -> Result<bool, SettingsError> {
    match map.get(name) {
        None => Ok(default),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(wrong(name, format!("the setting \"{name}\" must be true or false"))),
    }
}

/// One of these words; the first without any.
fn choice<T: Copy>(map: &Map<String, Value>, name: &str, words: &[(&str, T)]) -> Result<T, SettingsError> {
    let Some(word) = text(map, name)? else { return Ok(words[0].1) };
    if let Some((_, meant)) = words.iter().find(|(known, _)| *known == word) {
        return Ok(*meant);
    }
    let hint = match nearest(word, words.iter().map(|(known, _)| (*known, *known))) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => {
            let all: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
            format!("write one of {}", all.join(", "))
        }
    };
    // The word is not repeated: it may be a secret in the wrong place.
    Err(wrong(name, format!("the setting \"{name}\" has a value that does not exist, {hint}")))
}

fn dialect(map: &Map<String, Value>) -> Result<Dialect, SettingsError> {
    let is_csv = choice(map, "format", &[("csv", true), ("json_lines", false)])?;
    let csv = Csv {
        delimiter: choice(map, "delimiter", &[("comma", ','), ("semicolon", ';'), ("tab", '\t'), ("pipe", '|')])?,
        header: flag(map, "header", true)?,
        bom: flag(map, "bom", false)?,
        decimal_sign: choice(map, "decimal_sign", &[("point", DecimalSign::Point), ("comma", DecimalSign::Comma)])?,
    };
    if let Some(name) = CSV_ONLY.into_iter().find(|name| !is_csv && map.contains_key(*name)) {
        return Err(wrong(name, format!("the setting \"{name}\" is for the format \"csv\", JSON lines have none")));
    }
    if csv.decimal_sign == DecimalSign::Comma && csv.delimiter == ',' {
        let message = "a decimal comma needs another delimiter: write delimiter = \"semicolon\"";
        return Err(wrong("decimal_sign", message));
    }
    let format = if is_csv { Format::Csv(csv) } else { Format::JsonLines };
    let line_end = choice(map, "line_end", &[("lf", LineEnd::Lf), ("crlf", LineEnd::Crlf)])?;
    let mark_column = column(map, "mark_column")?.unwrap_or("learnsync_mark").to_owned();
    Ok(Dialect { format, line_end, date_format: date_format(map, csv.delimiter)?, mark_column })
}

/// Days by which a format shows that it keeps day, month and year: none is another with two of these mixed up.
const TRIAL_DATES: [(i32, u32, u32); 3] = [(2026, 3, 12), (1999, 12, 31), (2000, 2, 29)];

fn date_format(map: &Map<String, Value>, delimiter: char) -> Result<String, SettingsError> {
    let Some(format) = text(map, "date_format")? else { return Ok("%Y-%m-%d".to_owned()) };
    for (year, month, day) in TRIAL_DATES {
        let date = NaiveDate::from_ymd_opt(year, month, day).expect("a date of the calendar");
        let Some(text) = formatted(date, format) else {
            return Err(wrong(
                "date_format",
                "date_format has a letter that no date has: %d, %m and %Y are day, month and year",
            ));
        };
        if NaiveDate::parse_from_str(&text, format) != Ok(date) {
            return Err(wrong("date_format", "date_format must tell day, month and year, for example \"%d.%m.%Y\""));
        }
        if text.contains([delimiter, '"', '\n', '\r']) {
            return Err(wrong("date_format", "date_format must hold no quote, no line break and not the delimiter"));
        }
    }
    Ok(format.to_owned())
}

fn column<'a>(map: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, SettingsError> {
    let column = text(map, name)?;
    match column {
        Some(column) if column.chars().any(char::is_control) => {
            Err(wrong(name, format!("the setting \"{name}\" holds a character that no column name has")))
        }
        Some(_) | None => Ok(column),
    }
}

fn file_name(map: &Map<String, Value>, mode: Mode, format: Format) -> Result<String, SettingsError> {
    let refuse = |why: &str| Err(wrong("file_name", format!("the setting \"file_name\" {why}")));
    let Some(name) = text(map, "file_name")? else {
        let ending = match format {
            Format::Csv(_) => "csv",
            Format::JsonLines => "jsonl",
        };
        return Ok(match mode {
            Mode::Full => format!("{{object}}.{ending}"),
            Mode::Delta => format!("{{object}}-{{time}}.{ending}"),
        });
    };
    let plain = name.replace("{object}", "o").replace("{time}", "t");
    if !plain.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter)) {
        return refuse("may hold letters, digits, \"_\", \"-\", \".\", {object} and {time}, and no folder");
    }
    if plain.starts_with('.')
        || plain.ends_with(".tmp")
        || plain.ends_with(".json")
        || plain.len() > NAME_CHARACTERS_MAX
    {
        return refuse(
            "must not begin with \".\", nor end with .tmp or .json (as manifests do), nor be longer than 100 characters",
        );
    }
    if name.matches("{object}").count() != 1 {
        return refuse("must hold {object} once, so that each object has a file of its own");
    }
    match (mode, name.matches("{time}").count()) {
        (Mode::Full, 0) | (Mode::Delta, 1) => Ok(name.to_owned()),
        (Mode::Full, _) => refuse("must not hold {time} in the mode \"full\", which keeps one file up to date"),
        (Mode::Delta, _) => refuse("must hold {time} once in the mode \"delta\", which makes a file for each batch"),
    }
}

/// `object: a, b; other: c`.
fn columns(map: &Map<String, Value>, reserved: &[&str]) -> Result<BTreeMap<String, Vec<String>>, SettingsError> {
    let refuse = |why: String| Err(wrong("columns", format!("the setting \"columns\" {why}")));
    let mut columns = BTreeMap::new();
    for part in text(map, "columns")?.unwrap_or_default().split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let Some((object, names)) = part.split_once(':') else {
            return refuse("must read \"object: column, column; object: column\"".to_owned());
        };
        let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
        if names.iter().any(|name| name.is_empty() || name.chars().any(char::is_control)) {
            return refuse("has a column without a name".to_owned());
        }
        if (1..names.len()).any(|place| names[..place].contains(&names[place])) {
            return refuse("names a column twice".to_owned());
        }
        if let Some(ours) = names.iter().find(|name| reserved.contains(&name.as_str())) {
            return refuse(format!("must not name {ours}: that column is learnsync's own, and stands first"));
        }
        if columns.insert(object.trim().to_owned(), names).is_some() {
            return refuse("names an object twice".to_owned());
        }
    }
    Ok(columns)
}

#[cfg(test)]
mod tests;
