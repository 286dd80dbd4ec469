//! How a table is written: all that decides what its bytes look like, and the way of one value into text and back.

use std::fmt::Write as _;

use chrono::NaiveDate;
use learnsync_sdk::{Fields, Value};
use serde::{Deserialize, Serialize};

/// How dates stand in the state of a delta folder.
const ISO_DATE: &str = "%Y-%m-%d";

/// All that decides what the bytes of a file look like. It stands in the manifest, so that a file is read as it was written even after
/// the settings changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dialect {
    pub(crate) format: Format,
    pub(crate) line_end: LineEnd,
    /// In the letters of strftime; every date comes back from it.
    pub(crate) date_format: String,
    /// The column of our mark.
    pub(crate) mark_column: String,
}

/// CSV or JSON lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// RFC 4180, but for delimiter and line end: <https://www.rfc-editor.org/rfc/rfc4180>.
    Csv(Csv),
    /// One JSON object a line: <https://jsonlines.org>.
    JsonLines,
}

/// What only CSV needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Csv {
    pub(crate) delimiter: char,
    /// Whether the first row names the columns.
    pub(crate) header: bool,
    /// Whether the file begins with a byte order mark, by which Excel knows UTF-8.
    pub(crate) bom: bool,
    pub(crate) decimal_sign: DecimalSign,
}

/// What ends a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LineEnd {
    Lf,
    Crlf,
}

/// What stands before the decimals of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DecimalSign {
    Point,
    Comma,
}

impl LineEnd {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::Crlf => "\r\n",
        }
    }
}

/// One value as it stands in a file. In CSV only text stands in quotes: by that, reading knows `"42"` from `42`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Blank,
    Bare(String),
    Quoted(String),
}

impl Dialect {
    /// The one of the state beside deltas, which nobody but us reads.
    pub(crate) fn of_state(mark_column: &str) -> Self {
        let csv = Csv { delimiter: ',', header: true, bom: false, decimal_sign: DecimalSign::Point };
        let (date_format, mark_column) = (ISO_DATE.to_owned(), mark_column.to_owned());
        Self { format: Format::Csv(csv), line_end: LineEnd::Lf, date_format, mark_column }
    }

    /// A value as it is written.
    pub(crate) fn cell(&self, value: &Value) -> Cell {
        match value {
            Value::Null => Cell::Blank,
            Value::Bool(value) => Cell::Bare(value.to_string()),
            Value::Number(number) => Cell::Bare(self.number(*number)),
            Value::Date(date) => {
                let date = formatted(*date, &self.date_format).unwrap_or_else(|| date.to_string());
                match self.format {
                    Format::Csv(_) => Cell::Bare(date),
                    // JSON has no dates.
                    Format::JsonLines => Cell::Quoted(date),
                }
            }
            Value::Text(text) => Cell::Quoted(text.clone()),
        }
    }

    /// What was written. Text that somebody else wrote without quotes stays text, to the letter.
    pub(crate) fn value(&self, cell: Cell) -> Value {
        match (cell, self.format) {
            (Cell::Blank, _) => Value::Null,
            (Cell::Quoted(text), Format::JsonLines) => self.date(&text).map_or(Value::Text(text), Value::Date),
            (Cell::Quoted(text), Format::Csv(_)) => Value::Text(text),
            (Cell::Bare(text), _) => match text.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => {
                    let known =
                        self.date(&text).map(Value::Date).or_else(|| self.read_number(&text).map(Value::Number));
                    known.unwrap_or(Value::Text(text))
                }
            },
        }
    }

    /// Whether two rows look the same in a file. A field that is blank is the same as one that is missing.
    pub(crate) fn looks_the_same(&self, left: &Fields, right: &Fields) -> bool {
        let cell = |fields: &Fields, name: &String| fields.get(name).map_or(Cell::Blank, |value| self.cell(value));
        left.keys().chain(right.keys()).all(|name| cell(left, name) == cell(right, name))
    }

    fn decimal_sign(&self) -> DecimalSign {
        match self.format {
            Format::Csv(csv) => csv.decimal_sign,
            Format::JsonLines => DecimalSign::Point,
        }
    }

    fn number(&self, number: f64) -> String {
        match self.decimal_sign() {
            DecimalSign::Point => number.to_string(),
            DecimalSign::Comma => number.to_string().replace('.', ","),
        }
    }

    /// Only what we would write ourselves: `007` is no number.
    fn read_number(&self, text: &str) -> Option<f64> {
        let plain = match self.decimal_sign() {
            DecimalSign::Point => text.to_owned(),
            DecimalSign::Comma => text.replace(',', "."),
        };
        plain.parse::<f64>().ok().filter(|number| number.is_finite() && self.number(*number) == text)
    }

    fn date(&self, text: &str) -> Option<NaiveDate> {
        let date = NaiveDate::parse_from_str(text, &self.date_format).ok()?;
        (formatted(date, &self.date_format).as_deref() == Some(text)).then_some(date)
    }
}

/// A date in a format; none where the format wants more than a date, such as an hour.
pub(crate) fn formatted(date: NaiveDate, format: &str) -> Option<String> {
    let mut text = String::new();
    write!(text, "{}", date.format(format)).ok().map(|()| text)
}
