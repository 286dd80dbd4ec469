//! Lists, page by page, and the decision whether all rows were read.
//!
//! `_offset` is a page number, not a row number, and `_limit` is at most 1000, beyond which Absorb answers 422
//! (<https://docs.myabsorb.com/integration-api/v2/docs>).

use std::collections::BTreeSet;

use serde_json::Value;

use super::row::{Row, fold};

/// Rows that we ask for in one page: the most that Absorb gives.
pub(super) const ROWS_PER_PAGE: usize = 1000;
/// Most pages of one list; half a million rows.
pub(super) const PAGES_MAX: u32 = 500;

/// One page as answered.
#[derive(Debug, PartialEq)]
pub(super) struct Page {
    pub(super) rows: Vec<Value>,
    /// `totalItems`; none in a bare array.
    pub(super) total: Option<u64>,
    /// How many rows a full page has; less than asked for when the portal says so.
    pub(super) rows_max: usize,
    /// `returnedItems`, when given.
    pub(super) returned: Option<u64>,
}

impl Page {
    /// Reads a page: an envelope whose list has whatever name, or a bare array.
    pub(super) fn read(answer: Value, asked: usize) -> Result<Self, String> {
        match answer {
            Value::Array(rows) => Ok(Self { rows, total: None, rows_max: asked, returned: None }),
            Value::Object(mut envelope) => {
                // Keys like `_links` and `_embedded` are Absorb's hypermedia, not the list.
                let name = envelope.iter().find(|(key, value)| value.is_array() && !key.starts_with('_'));
                let rows = name.map(|(key, _)| key.clone()).and_then(|key| envelope.remove(&key));
                // Without its rows: a copy of those would be the largest thing that we hold.
                let envelope = Value::Object(envelope);
                let row = Row::of(&envelope)?;
                let count = |name: &str| row.number(&[name]).map(|number| number.max(0.0) as u64);
                let (total, returned) = (count("totalitems"), count("returneditems"));
                let limit = count("limit").and_then(|limit| usize::try_from(limit).ok());
                let rows_max = limit.filter(|limit| (1..asked).contains(limit)).unwrap_or(asked);
                let rows = match rows {
                    Some(Value::Array(rows)) => rows,
                    _ if total == Some(0) => Vec::new(),
                    _ => return Err("the answer is an object without a list".to_owned()),
                };
                Ok(Self { rows, total, rows_max, returned })
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Err("the answer is not a list".to_owned())
            }
        }
    }

    /// Whether the page holds as many rows as it says.
    pub(super) fn verify_count(&self) -> Result<(), String> {
        match self.returned {
            Some(said) if said != self.rows.len() as u64 => {
                Err(format!("a page says {said} rows and holds {}", self.rows.len()))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What to do after a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask for this page.
    Page(u32),
    /// All rows are here.
    Complete,
}

/// Gathers the pages of one list, and distrusts it when they do not fit together.
#[derive(Default)]
pub(super) struct Collector {
    rows: Vec<Value>,
    seen: BTreeSet<String>,
    total: Option<u64>,
    pages: u32,
}

impl Collector {
    /// Takes the next page.
    ///
    /// # Errors
    /// In words, when the pages are not those of one unchanged list: then none of its rows may be used.
    pub(super) fn take(&mut self, page: Page) -> Result<Next, String> {
        page.verify_count()?;
        if self.pages == 0 {
            self.total = page.total;
        } else if page.total != self.total {
            let say = |total: Option<u64>| total.map_or_else(|| "unknown".to_owned(), |total| total.to_string());
            return Err(format!("the total changed from {} to {} while reading", say(self.total), say(page.total)));
        }
        let keys: Vec<String> = page.rows.iter().map(identity).collect();
        // Within one page a repeat is the portal's own view at one instant; across pages it means that rows moved.
        let repeated = keys.iter().filter(|key| self.seen.contains(*key)).count();
        let count = page.rows.len();
        if self.total.is_none() && count > 0 && repeated == count {
            // A bare array that ignores the page number gives the same rows again: it was whole.
            return Ok(Next::Complete);
        }
        if repeated > 0 {
            return Err(format!("{repeated} rows came twice"));
        }
        self.seen.extend(keys);
        self.rows.extend(page.rows);
        self.pages += 1;
        self.next(count, page.rows_max)
    }

    fn next(&self, count: usize, rows_max: usize) -> Result<Next, String> {
        let read = self.rows.len() as u64;
        match self.total {
            Some(total) if read == total => return Ok(Next::Complete),
            Some(total) if read > total => return Err(format!("{read} rows came where {total} were announced")),
            Some(total) if count < rows_max => {
                return Err(format!("page {} is short: {read} of {total} rows came", self.pages - 1));
            }
            // More than were asked for: the list knows no pages.
            None if count != rows_max => return Ok(Next::Complete),
            Some(_) | None => {}
        }
        if self.pages == PAGES_MAX {
            return Err(format!("the list has more than {PAGES_MAX} pages"));
        }
        Ok(Next::Page(self.pages))
    }

    /// The rows, once complete.
    pub(super) fn into_rows(self) -> Vec<Value> {
        self.rows
    }
}

/// What a row is recognised by: its id, else all of it.
pub(super) fn identity(row: &Value) -> String {
    let id = row.as_object().and_then(|object| object.iter().find(|(key, _)| fold(key) == "id"));
    match id.and_then(|(_, value)| super::row::text(value)) {
        Some(id) => id.to_lowercase(),
        None => row.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(ids: std::ops::Range<u32>) -> Vec<Value> {
        ids.map(|id| json!({ "id": id })).collect()
    }

    fn page(total: Option<u64>, ids: std::ops::Range<u32>) -> Page {
        Page { rows: rows(ids), total, rows_max: 3, returned: None }
    }

    #[test]
    fn both_forms_of_a_list_are_read() {
        let table = [
            (
                json!({"totalItems":1,"returnedItems":1,"limit":3,"offset":0,"enrollments":[{"id":0}]}),
                page(Some(1), 0..1),
            ),
            (json!({"_links":[7],"TotalItems":"1","Users":[{"id":0}]}), page(Some(1), 0..1)),
            (json!([{"id":0}]), page(None, 0..1)),
            (json!({"users":[{"id":0}]}), page(None, 0..1)),
            (json!({"totalItems":0,"users":null}), page(Some(0), 0..0)),
        ];
        for (answer, mut expected) in table {
            let read = Page::read(answer.clone(), 3).expect("the table holds lists");
            expected.returned = read.returned;
            assert_eq!(read, expected, "{answer}");
        }
        for answer in [json!({"totalItems":5}), json!({"message":"no"}), json!("x"), json!(null)] {
            assert!(Page::read(answer.clone(), 3).is_err(), "{answer}");
        }
        // The portal gives fewer rows in a page than we ask for.
        assert_eq!(Page::read(json!({"totalItems":9,"limit":2,"users":[]}), 3).map(|page| page.rows_max), Ok(2));
    }

    #[test]
    fn a_list_is_complete_only_when_its_pages_fit_together() {
        let complete: Result<(), &str> = Ok(());
        let table: Vec<(&str, Vec<Page>, Result<(), &str>)> = vec![
            ("nothing", vec![page(Some(0), 0..0)], complete),
            ("one page", vec![page(Some(2), 0..2)], complete),
            ("a full page", vec![page(Some(3), 0..3)], complete),
            ("three pages", vec![page(Some(7), 0..3), page(Some(7), 3..6), page(Some(7), 6..7)], complete),
            ("a short page", vec![page(Some(7), 0..3), page(Some(7), 3..5)], Err("is short")),
            ("an empty page", vec![page(Some(7), 0..3), page(Some(7), 0..0)], Err("is short")),
            ("too many", vec![page(Some(2), 0..3)], Err("were announced")),
            ("a changed total", vec![page(Some(7), 0..3), page(Some(6), 3..6)], Err("changed from 7 to 6")),
            ("moved rows", vec![page(Some(6), 0..3), page(Some(6), 2..5)], Err("came twice")),
            ("a bare array", vec![page(None, 0..2)], complete),
            ("a bare array without pages", vec![page(None, 0..5)], complete),
            ("a bare array that ignores pages", vec![page(None, 0..3), page(None, 0..3)], complete),
            ("a bare array in pages", vec![page(None, 0..3), page(None, 3..4)], complete),
            ("a bare array with an empty page", vec![page(None, 0..3), page(None, 0..0)], complete),
            ("a false count", vec![Page { returned: Some(3), ..page(Some(2), 0..2) }], Err("says 3 rows")),
        ];
        for (what, pages, expected) in table {
            let mut collector = Collector::default();
            let count = pages.len();
            for (number, page) in pages.into_iter().enumerate() {
                let outcome = collector.take(page);
                if number + 1 < count {
                    assert_eq!(outcome, Ok(Next::Page(number as u32 + 1)), "{what}");
                    continue;
                }
                match expected {
                    Ok(()) => assert_eq!(outcome, Ok(Next::Complete), "{what}"),
                    Err(words) => {
                        assert!(outcome.as_ref().is_err_and(|said| said.contains(words)), "{what}: {outcome:?}")
                    }
                }
            }
        }
    }

    #[test]
    fn a_list_that_never_ends_is_given_up() {
        let mut collector = Collector::default();
        let mut last = Ok(Next::Page(0));
        for number in 0..PAGES_MAX {
            last = collector.take(page(Some(u64::MAX), number * 3..number * 3 + 3));
        }
        assert!(last.is_err_and(|said| said.contains("more than 500 pages")));
    }
}
