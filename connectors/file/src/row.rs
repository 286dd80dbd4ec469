//! Rows, and the way of a row into bytes and back.

use std::io::{self, BufRead, ErrorKind, Read, Write};

use learnsync_sdk::{Fields, Value};
use serde_json::{Map, Value as Json};

use crate::dialect::{Cell, Csv, Dialect, Format};

/// The longest row that is read. The daemon's templates make at most 32 KiB a field; what is longer is no row of ours.
const ROW_BYTES_MAX: u64 = 16 * 1024 * 1024;
const BOM: char = '\u{feff}';

/// One row of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    /// The text in the column of our mark; none where it is blank.
    pub(crate) mark: Option<String>,
    /// All other columns that are not blank.
    pub(crate) fields: Fields,
}

/// Reads a table row by row, and never holds more than one.
pub(crate) struct Reader<R> {
    input: R,
    dialect: Dialect,
    columns: Vec<String>,
    lines: usize,
    /// The line on which the last row begins.
    line: usize,
}

impl<R: BufRead> Reader<R> {
    /// Begins with the header, if the table has one; `columns` are those of a CSV table without.
    ///
    /// # Errors
    /// `InvalidData` for a header that is not ours; what the disk says.
    pub(crate) fn new(input: R, dialect: Dialect, columns: Vec<String>) -> io::Result<Self> {
        let mut reader = Self { input, columns, lines: 0, line: 0, dialect };
        match reader.dialect.format {
            Format::Csv(csv) if csv.header => {
                let Some(raw) = reader.next_raw()? else { return Err(invalid("it is empty, without a header")) };
                let cells = split(without_line_end(&raw), csv.delimiter).map_err(|why| reader.broken(&why))?;
                reader.columns = cells.into_iter().map(text_of).collect();
                if !reader.columns.contains(&reader.dialect.mark_column) {
                    let column = &reader.dialect.mark_column;
                    return Err(invalid(&format!("it has no column {column}, so learnsync did not write it")));
                }
            }
            Format::Csv(_) => {}
            Format::JsonLines => reader.columns.clear(),
        }
        Ok(reader)
    }

    /// The columns of a CSV table, in their order; none of JSON lines, where each row has its own.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The line on which the row begins that was read last; the first is 1.
    pub(crate) fn line(&self) -> usize {
        self.line
    }

    /// The input, from which all was read.
    pub(crate) fn into_input(self) -> R {
        self.input
    }

    /// What the bytes of the row that was read last say.
    ///
    /// # Errors
    /// `InvalidData` for what is no row.
    pub(crate) fn row(&self, raw: &str) -> io::Result<Row> {
        let line = without_line_end(raw);
        let row = match self.dialect.format {
            Format::Csv(csv) => self.csv_row(line, csv),
            Format::JsonLines => self.json_row(line),
        };
        row.map_err(|why| self.broken(&why))
    }

    /// The mark of a row at a glance, as we write it: first, and without a sign that needs an escape. None says nothing: then read the
    /// row. Most rows of a large file are none that a batch is about, and reading them in full would be most of the work.
    pub(crate) fn mark_at_a_glance<'r>(&self, raw: &'r str) -> Option<&'r str> {
        let (mark, is_plain) = match self.dialect.format {
            Format::Csv(csv) => {
                let is_first = self.columns.first() == Some(&self.dialect.mark_column);
                let (mark, after) = raw.strip_prefix('"').filter(|_| is_first)?.split_once('"')?;
                (mark, after.starts_with([csv.delimiter, '\r', '\n']))
            }
            Format::JsonLines => {
                let rest = raw.strip_prefix("{\"")?.strip_prefix(self.dialect.mark_column.as_str())?;
                let (mark, _) = rest.strip_prefix("\":\"")?.split_once('"')?;
                (mark, !mark.contains('\\'))
            }
        };
        (is_plain && !mark.is_empty()).then_some(mark)
    }

    fn broken(&self, why: &str) -> io::Error {
        invalid(&format!("line {}: {why}", self.lines))
    }

    /// The bytes of the next row, with their line end; none at the end. Within quotes of CSV a line goes on; a quote that is part of a text
    /// stands twice, so an odd number of quotes means: still within.
    ///
    /// # Errors
    /// `InvalidData` for only the beginning of a row; what the disk says.
    pub(crate) fn next_raw(&mut self) -> io::Result<Option<String>> {
        let (mut raw, mut quotes) = (Vec::new(), 0);
        let is_first = self.lines == 0;
        self.line = self.lines + 1;
        loop {
            let begin = raw.len();
            let rest = ROW_BYTES_MAX.saturating_sub(begin as u64);
            (&mut self.input).take(rest).read_until(b'\n', &mut raw)?;
            let line = &raw[begin..];
            if line.is_empty() && raw.is_empty() {
                return Ok(None);
            }
            self.lines += 1;
            if line.last() != Some(&b'\n') {
                return Err(self.broken("it ends within a row, so it is not whole"));
            }
            quotes += line.iter().filter(|byte| **byte == b'"').count();
            if quotes % 2 == 0 || matches!(self.dialect.format, Format::JsonLines) {
                break;
            }
        }
        let raw = String::from_utf8(raw).map_err(|_| self.broken("it is not UTF-8"))?;
        // Only at the very beginning it is no text.
        let without_bom = raw.strip_prefix(BOM).filter(|_| is_first).map(str::to_owned);
        Ok(Some(without_bom.unwrap_or(raw)))
    }

    fn csv_row(&self, line: &str, csv: Csv) -> Result<Row, String> {
        let cells = split(line, csv.delimiter)?;
        if cells.len() != self.columns.len() {
            return Err(format!("it has {} columns, the table has {}", cells.len(), self.columns.len()));
        }
        let mut row = Row::default();
        for (name, cell) in self.columns.iter().zip(cells) {
            if *name == self.dialect.mark_column {
                row.mark = Some(text_of(cell)).filter(|mark| !mark.is_empty());
                continue;
            }
            match self.dialect.value(cell) {
                Value::Null => {}
                value @ (Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Date(_)) => {
                    row.fields.insert(name.clone(), value);
                }
            }
        }
        Ok(row)
    }

    fn json_row(&self, line: &str) -> Result<Row, String> {
        let object: Map<String, Json> =
            serde_json::from_str(line).map_err(|_| "it is no JSON object, so learnsync did not write it".to_owned())?;
        let mut row = Row::default();
        for (name, json) in object {
            if name == self.dialect.mark_column {
                row.mark = json.as_str().filter(|mark| !mark.is_empty()).map(str::to_owned);
                continue;
            }
            let value = match json {
                Json::Null => continue,
                Json::Bool(value) => Value::Bool(value),
                Json::Number(number) => number.as_f64().map_or_else(|| Value::Text(number.to_string()), Value::Number),
                Json::String(text) => self.dialect.value(Cell::Quoted(text)),
                // Never ours; kept as what it looks like.
                nested @ (Json::Array(_) | Json::Object(_)) => Value::Text(nested.to_string()),
            };
            row.fields.insert(name, value);
        }
        Ok(row)
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

fn text_of(cell: Cell) -> String {
    match cell {
        Cell::Blank => String::new(),
        Cell::Bare(text) | Cell::Quoted(text) => text,
    }
}

fn without_line_end(raw: &str) -> &str {
    let line = raw.strip_suffix('\n').unwrap_or(raw);
    line.strip_suffix('\r').unwrap_or(line)
}

/// The cells of one CSV row without its line end.
fn split(line: &str, delimiter: char) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (text, after) = unquoted(quoted)?;
                (Cell::Quoted(text), after)
            }
            None => {
                let (bare, after) = rest.split_at(rest.find(delimiter).unwrap_or(rest.len()));
                if bare.contains('"') {
                    return Err("a quote stands within a text without quotes".to_owned());
                }
                (if bare.is_empty() { Cell::Blank } else { Cell::Bare(bare.to_owned()) }, after)
            }
        };
        cells.push(cell);
        match after.strip_prefix(delimiter) {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(cells),
            None => return Err("something stands after the quote that ends a text".to_owned()),
        }
    }
}

/// The text up to the quote that ends it, and what follows.
fn unquoted(quoted: &str) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut rest = quoted;
    while let Some(end) = rest.find('"') {
        text.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                text.push('"');
                rest = after;
            }
            None => return Ok((text, rest)),
        }
    }
    Err("a quote that begins a text has no end".to_owned())
}

/// The column that says what became of a row, and what it says.
#[derive(Clone, Copy)]
pub(crate) struct ActionCell<'a> {
    pub(crate) column: &'a str,
    pub(crate) word: &'a str,
}

/// Writes a table row by row.
pub(crate) struct Writer<W> {
    out: W,
    dialect: Dialect,
    /// Without those of action and mark, which come first.
    columns: Vec<String>,
    rows: u64,
}

impl<W: Write> Writer<W> {
    /// Writes byte order mark and header, where the dialect has them.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn new(out: W, dialect: Dialect, columns: Vec<String>, action_column: Option<&str>) -> io::Result<Self> {
        let mut writer = Self { out, dialect, columns, rows: 0 };
        if let Format::Csv(csv) = writer.dialect.format {
            if csv.bom {
                write!(writer.out, "{BOM}")?;
            }
            if csv.header {
                let names = action_column.into_iter().chain([writer.dialect.mark_column.as_str()]);
                let names = names.chain(writer.columns.iter().map(String::as_str));
                let header: Vec<String> = names.map(|name| name_cell(name, csv.delimiter)).collect();
                let header = header.join(&csv.delimiter.to_string());
                write!(writer.out, "{header}{}", writer.dialect.line_end.as_str())?;
            }
        }
        Ok(writer)
    }

    /// A row as it was read from a table with the same dialect and columns.
    pub(crate) fn copy(&mut self, raw: &str) -> io::Result<()> {
        self.rows += 1;
        self.out.write_all(raw.as_bytes())
    }

    pub(crate) fn row(&mut self, row: &Row, action: Option<ActionCell<'_>>) -> io::Result<()> {
        self.rows += 1;
        let line = match self.dialect.format {
            Format::Csv(csv) => self.csv_line(row, action, csv),
            Format::JsonLines => self.json_line(row, action),
        };
        write!(self.out, "{line}{}", self.dialect.line_end.as_str())
    }

    /// How many rows were written, and where to.
    pub(crate) fn end(self) -> (u64, W) {
        (self.rows, self.out)
    }

    fn csv_line(&self, row: &Row, action: Option<ActionCell<'_>>, csv: Csv) -> String {
        let action = action.map(|action| Cell::Quoted(action.word.to_owned()));
        let mark = row.mark.clone().map_or(Cell::Blank, Cell::Quoted);
        let cell = |name: &String| row.fields.get(name).map_or(Cell::Blank, |value| self.dialect.cell(value));
        let cells = action.into_iter().chain([mark]).chain(self.columns.iter().map(cell));
        let shown: Vec<String> = cells.map(|cell| shown(&cell, csv.delimiter)).collect();
        shown.join(&csv.delimiter.to_string())
    }

    /// Every column stands in every row, blank ones as `null`, so that a reader need not remember what there was before.
    fn json_line(&self, row: &Row, action: Option<ActionCell<'_>>) -> String {
        let text = |text: &str| Json::String(text.to_owned());
        let mut object = Map::new();
        if let Some(action) = action {
            object.insert(action.column.to_owned(), text(action.word));
        }
        object.insert(self.dialect.mark_column.clone(), row.mark.as_deref().map_or(Json::Null, text));
        let others = row.fields.keys().filter(|name| !self.columns.contains(name));
        for name in self.columns.iter().chain(others) {
            let json = match row.fields.get(name).map_or(Cell::Blank, |value| self.dialect.cell(value)) {
                Cell::Blank => Json::Null,
                Cell::Quoted(text) => Json::String(text),
                // A number, true or false.
                Cell::Bare(bare) => serde_json::from_str(&bare).unwrap_or(Json::String(bare)),
            };
            object.insert(name.clone(), json);
        }
        Json::Object(object).to_string()
    }
}

/// The name of a column: in quotes only where it needs them.
fn name_cell(name: &str, delimiter: char) -> String {
    let is_plain = !name.contains([delimiter, '"', '\n', '\r']) && !name.is_empty();
    shown(&if is_plain { Cell::Bare(name.to_owned()) } else { Cell::Quoted(name.to_owned()) }, delimiter)
}

fn shown(cell: &Cell, delimiter: char) -> String {
    match cell {
        Cell::Blank => String::new(),
        // A decimal comma between commas is quoted by need; it then reads as text.
        Cell::Bare(bare) if !bare.contains([delimiter, '"', '\n', '\r']) => bare.clone(),
        Cell::Bare(text) | Cell::Quoted(text) => format!("\"{}\"", text.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{DecimalSign, LineEnd};

    fn dialects() -> [Dialect; 3] {
        let csv =
            |delimiter| Format::Csv(Csv { delimiter, header: true, bom: false, decimal_sign: DecimalSign::Point });
        let dialect = |format, line_end| Dialect {
            format,
            line_end,
            date_format: "%Y-%m-%d".to_owned(),
            mark_column: "key".to_owned(),
        };
        [dialect(csv(','), LineEnd::Lf), dialect(csv(';'), LineEnd::Crlf), dialect(Format::JsonLines, LineEnd::Lf)]
    }

    #[test]
    fn the_mark_at_a_glance_is_that_of_the_whole_row_or_none() {
        let marks =
            ["learnsync:acme:completion/1", "é", "a\"b", "a\"", "\"", "\\", "a\\\"", ",", ";", "a\nb", "{", ":"];
        for dialect in dialects() {
            for mark in marks {
                let fields = Fields::from([("b".to_owned(), Value::Text("\",\"x\";\"y".to_owned()))]);
                let row = Row { mark: Some(mark.to_owned()), fields };
                let mut writer = Writer::new(Vec::new(), dialect.clone(), vec!["b".to_owned()], None).expect("memory");
                writer.row(&row, None).expect("memory takes all");
                let (_, bytes) = writer.end();
                let mut reader = Reader::new(bytes.as_slice(), dialect.clone(), Vec::new()).expect("it has a header");
                let raw = reader.next_raw().expect("it can be read").expect("there is a row");
                assert_eq!(reader.row(&raw).expect("it is a row"), row);
                let glance = reader.mark_at_a_glance(&raw);
                assert!(glance.is_none_or(|seen| seen == mark), "{glance:?} instead of {mark:?} in {raw}");
                let is_plain = !mark.contains(['"', '\\']);
                // A line break stands as it is in CSV, and escaped in JSON.
                assert!(
                    glance.is_some() || !is_plain || mark.contains('\n'),
                    "the plain {mark:?} is seen at a glance: {raw}"
                );
            }
        }
    }

    #[test]
    fn a_row_that_is_none_is_refused_with_its_line() {
        let check = |row: &str, words: &str| {
            let table = format!("key,b\n\"m\",1\n{row}");
            let mut reader = Reader::new(table.as_bytes(), dialects()[0].clone(), Vec::new()).expect("it has a header");
            let first = reader.next_raw().expect("it can be read").expect("there is a row");
            assert!(reader.row(&first).is_ok());
            let second = reader.next_raw().and_then(|raw| reader.row(&raw.unwrap_or_default()));
            assert_eq!(second.expect_err("it is no row").to_string(), format!("line 3: {words}"));
        };
        check("\"m\"\n", "it has 1 columns, the table has 2");
        check("\"m\",1,2\n", "it has 3 columns, the table has 2");
        check("\"m\",1", "it ends within a row, so it is not whole");
        check("\"m\",a\"\"b\n", "a quote stands within a text without quotes");
        check("\"m\"x,\"1\"\n", "something stands after the quote that ends a text");
    }
}
