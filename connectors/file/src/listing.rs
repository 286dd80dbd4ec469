//! One page of all rows of a table, and the place where the next one begins.

use std::io::{self, BufRead, ErrorKind};

use learnsync_sdk::{ListedPage, ListedRow};
use sha2::{Digest, Sha256};

use crate::manifest::hexadecimal;
use crate::row::Reader;

/// How many rows a page has. Each page reads the file once more, and rows wait in memory for whoever compares them.
pub(crate) const PAGE_ROWS_MAX: usize = 2_000;
/// How every mark of every installation begins.
const MARK_PREFIX: &str = "learnsync:";

/// Behind how many rows a page begins, and a digest of their marks: a row that changes keeps its place, but one that is withdrawn moves all
/// behind it, and then a number alone would leave one out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    rows: u64,
    marks: String,
}

impl Position {
    /// The word for it, as the page before gave it away.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let (rows, marks) = word.split_once('-')?;
        Some(Self { rows: rows.parse().ok()?, marks: marks.to_owned() })
    }

    fn word(&self) -> String {
        format!("{}-{}", self.rows, self.marks)
    }
}

/// The rows that were passed so far.
#[derive(Default)]
struct Passed {
    rows: u64,
    marks: Sha256,
}

impl Passed {
    fn pass(&mut self, mark: Option<&str>) {
        self.rows += 1;
        self.marks.update(mark.unwrap_or_default());
        self.marks.update([0]);
    }

    fn position(&self) -> Position {
        Position { rows: self.rows, marks: hexadecimal(&self.marks.clone().finalize()) }
    }
}

/// The page that begins there, or the first one. Reads to the end of the table whatever the page holds: only then its seal can be compared.
///
/// # Errors
/// `InvalidData` when other rows stand before the position than did; what the reader says.
pub(crate) fn page<R: BufRead>(reader: &mut Reader<R>, from: Option<&Position>) -> io::Result<ListedPage> {
    let mut passed = Passed::default();
    let mut page = ListedPage::default();
    let mut is_begun = from.is_none();
    loop {
        if let Some(from) = from.filter(|from| !is_begun && from.rows == passed.rows) {
            is_begun = passed.position() == *from;
            if !is_begun {
                break;
            }
        }
        let Some(raw) = reader.next_raw()? else { break };
        if page.next.is_some() {
            continue;
        }
        if page.rows.len() == PAGE_ROWS_MAX {
            page.next = Some(passed.position().word());
            continue;
        }
        if is_begun {
            let row = listed(reader, &raw);
            passed.pass(row.mark.as_deref());
            page.rows.push(row);
        } else {
            passed.pass(mark_of(reader, &raw).as_deref());
        }
    }
    if is_begun { Ok(page) } else { Err(moved()) }
}

/// The error when other rows stand before a position than did.
pub(crate) fn moved() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "rows went from it while it was listed: list it from the beginning")
}

/// A row that cannot be read is one all the same: left out, it would be told as missing, and nobody would look there.
fn listed<R: BufRead>(reader: &Reader<R>, raw: &str) -> ListedRow {
    let mark = mark_of(reader, raw);
    let row = mark.clone().unwrap_or_else(|| format!("line {}", reader.line()));
    let fields = reader.row(raw).map(|row| row.fields).map_err(|error| error.to_string());
    ListedRow { row, person: None, mark, fields }
}

/// What else people write into the column is no mark.
fn mark_of<R: BufRead>(reader: &Reader<R>, raw: &str) -> Option<String> {
    let mark = match reader.mark_at_a_glance(raw) {
        Some(mark) => Some(mark.to_owned()),
        None => reader.row(raw).ok().and_then(|row| row.mark),
    };
    mark.filter(|mark| mark.starts_with(MARK_PREFIX))
}
