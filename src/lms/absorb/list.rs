//! Lists: pages by number, in an envelope or as a bare array; complete or not at all.

use std::collections::BTreeSet;

use serde_json::Value;

use super::client::Client;
use super::records::text;
use crate::lms::LmsError;

/// Rows on a page: the most that Absorb gives; above, it answers 422.
const ROWS_PER_PAGE: u32 = 1_000;

/// Most pages of one list that is read at once: a learner with 100,000 enrolments is a bug.
const PAGES_MAX: u32 = 100;

/// One page.
pub(super) struct Page {
    pub(super) rows: Vec<Value>,
    /// How many rows there are in all; none when the list is a bare array.
    pub(super) total: Option<u64>,
    pub(super) more: bool,
}

/// Reads one page; `_offset` is a page number, not a row (<https://docs.myabsorb.com>, "Offset is the current page").
pub(super) async fn page(
    client: &Client,
    path: &str,
    sort: &str,
    number: u32,
    rows_max: u32,
) -> Result<Option<Page>, LmsError> {
    let query = [("_limit", rows_max.to_string()), ("_offset", number.to_string()), ("_sort", sort.to_owned())];
    let Some(answer) = client.get(path, &query).await? else { return Ok(None) };
    let misunderstood =
        || LmsError::Misunderstood(format!("the answer to GET {path} is neither a list nor a page of one"));
    match answer {
        Value::Array(rows) => Ok(Some(Page { rows, total: None, more: false })),
        Value::Object(mut envelope) => {
            let total = envelope.get("totalItems").and_then(Value::as_u64);
            let key = envelope.iter().find(|(_, value)| value.is_array()).map(|(key, _)| key.clone());
            let rows = match key.and_then(|key| envelope.remove(&key)) {
                Some(Value::Array(rows)) => rows,
                _ if total == Some(0) => Vec::new(),
                _ => return Err(misunderstood()),
            };
            let read = u64::from(number) * u64::from(rows_max) + rows.len() as u64;
            let more = match total {
                Some(total) => !rows.is_empty() && read < total,
                None => rows.len() as u64 == u64::from(rows_max),
            };
            Ok(Some(Page { rows, total, more }))
        }
        _ => Err(misunderstood()),
    }
}

/// Reads a whole list; `None` when the LMS answers 404. A list that changed while it was read is read once more, and then given up.
///
/// # Errors
/// `PartialRead` when rows are missing in the end; nothing of it may be published.
pub(super) async fn read(client: &Client, path: &str, sort: &str) -> Result<Option<Vec<Value>>, LmsError> {
    match read_once(client, path, sort).await {
        Err(LmsError::PartialRead(_)) => read_once(client, path, sort).await,
        other => other,
    }
}

async fn read_once(client: &Client, path: &str, sort: &str) -> Result<Option<Vec<Value>>, LmsError> {
    let mut rows = Vec::new();
    let mut total_first = None;
    for number in 0..PAGES_MAX {
        let Some(page) = page(client, path, sort, number, ROWS_PER_PAGE).await? else {
            return match number {
                0 => Ok(None),
                _ => Err(LmsError::PartialRead(format!("page {number} of {path} answers 404"))),
            };
        };
        let total = page.total;
        let first = *total_first.get_or_insert(total);
        if first != total {
            return Err(partial(path, &format!("the total went from {first:?} to {total:?}")));
        }
        rows.extend(page.rows);
        if page.more {
            continue;
        }
        if total.is_some_and(|total| total != rows.len() as u64) {
            return Err(partial(path, &format!("{} rows came of {}", rows.len(), total.unwrap_or(0))));
        }
        // A row that is there twice has pushed another one out between two pages.
        let ids: BTreeSet<String> = rows.iter().filter_map(|row| text(row, &["id", "Id"])).collect();
        if number > 0 && ids.len() < rows.len() {
            return Err(partial(path, "rows moved between pages"));
        }
        return Ok(Some(rows));
    }
    Err(partial(path, &format!("there are more than {PAGES_MAX} pages")))
}

fn partial(path: &str, why: &str) -> LmsError {
    LmsError::PartialRead(format!("GET {path}: {why}"))
}
