//! `audit store`: looks at every row in one snapshot, beside the daemon, and says which promise of the ledger does not hold.
//!
//! In SQL of its own, and not through the use cases: a mistake in one of their queries would hide itself here. Each check asserts only what
//! the code guarantees at every commit, also after merges of accounts, restores, erasures and forgotten destinations: a finding on a healthy
//! store costs more trust than a missed one. What a row names is looked for by one check alone (`references`); the others take for granted
//! that it is there, so that one damage is found once, under the name that says what it is.
//!
//! How to add a check: a function below `rows` or `sealed`, a line in `CHECKS`, and a corruption in `tests` that it alone finds.

mod rows;
mod sealed;
#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;

use diesel::connection::DefaultLoadingMode;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use serde::Serialize;

use super::StoreError;
use super::copies::connect_reading;
use super::open::{refuse_newer, refuse_older};
use sealed::Keys;

/// Most examples of a check that are told.
const EXAMPLES_MAX: usize = 3;

/// What an audit of the whole store found.
#[derive(Clone, Debug, Serialize)]
pub struct StoreAudit {
    /// Each check, in the order of `CHECKS`.
    pub checks: Vec<Checked>,
}

/// What one check found.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Its name.
    pub check: &'static str,
    /// What it holds the store to.
    pub promise: &'static str,
    /// How many rows it looked at.
    pub rows: u64,
    /// How many of them break the promise.
    pub findings: u64,
    /// The first of these, by numbers and keys.
    pub examples: Vec<String>,
    /// Why it could not be carried out, or not to its end; none when it was.
    pub not_done: Option<String>,
}

impl Checked {
    /// Whether the promise was proven.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.findings == 0 && self.not_done.is_none()
    }
}

impl StoreAudit {
    /// The checks that prove nothing: they found something, or could not be carried out.
    pub fn broken(&self) -> impl Iterator<Item = &Checked> {
        self.checks.iter().filter(|checked| !checked.is_kept())
    }
}

/// One promise, and how it is looked for.
struct Check {
    name: &'static str,
    promise: &'static str,
    run: Run,
}

enum Run {
    /// By the rows alone.
    Rows(fn(&mut SqliteConnection, &mut Tally) -> Result<(), StoreError>),
    /// By what is sealed in them, too.
    Sealed(fn(&mut SqliteConnection, &mut Keys, &mut Tally) -> Result<(), StoreError>),
}

impl Check {
    const fn rows(
        name: &'static str,
        promise: &'static str,
        run: fn(&mut SqliteConnection, &mut Tally) -> Result<(), StoreError>,
    ) -> Self {
        Self { name, promise, run: Run::Rows(run) }
    }

    const fn sealed(
        name: &'static str,
        promise: &'static str,
        run: fn(&mut SqliteConnection, &mut Keys, &mut Tally) -> Result<(), StoreError>,
    ) -> Self {
        Self { name, promise, run: Run::Sealed(run) }
    }
}

/// All checks, the file's own first: where that is damaged, the others tell little.
const CHECKS: &[Check] = &[
    Check::rows("pages", "SQLite finds every page, row and index in order", rows::pages),
    Check::rows("schema", "every table, index and trigger of this version is there", rows::schema),
    Check::rows("constraints", "every row keeps its table's own constraints", rows::constraints),
    Check::rows("references", "every row that another names is there", rows::references),
    Check::rows(
        "events",
        "no event is lost, and exactly those that intake has passed were read as something",
        rows::events,
    ),
    Check::rows("readings", "a reading that marks somebody names a subject of the event's portal", rows::readings),
    Check::rows("promises", "a promise is about a subject that its event marked", rows::promises),
    Check::rows("subjects", "every subject is of a known kind, and a list is named after itself", rows::subjects),
    Check::rows("marks", "a mark waits in its subject's portal", rows::marks),
    Check::rows("people", "a person is of their subject's portal", rows::people),
    Check::rows("records", "a record is of a kind that its subject holds, and its key says so", rows::records),
    Check::rows("runs", "a run's counts can be read, and a portal has one run of a kind under way", rows::runs),
    Check::rows("staged", "what is staged belongs to a backfill that goes on", rows::staged),
    Check::rows("links", "a link says by which rule, and who was pinned or in question", rows::links),
    Check::rows(
        "deliveries",
        "a delivery's record is its person's, and its route and mappings are its destination's",
        rows::deliveries,
    ),
    Check::rows(
        "queue",
        "what is pending or uncertain waits in the queue at its due time, and nothing else does",
        rows::queue,
    ),
    Check::rows("causes", "what is left out has a cause that is known, and what is settled has none", rows::causes),
    Check::rows("settled", "where a delivery is settled, the place holds the facts that it should", rows::settled),
    Check::rows("held", "what a place holds was attempted, and is known with its person, time and mapping", rows::held),
    Check::rows("places", "no two deliveries of a route hold the same row", rows::places),
    Check::rows("sending", "a write under way knows whom it is for", rows::sending),
    Check::rows("attempts", "each delivery's attempts are numbered without a gap, and it counts them", rows::attempts),
    Check::rows("chain", "every attempt is as it was written, and none is missing at the end", rows::chain),
    Check::rows("erased", "nothing is left of who was erased", rows::erased),
    Check::sealed("facts", "a record's facts can be opened, and its columns and fingerprint are theirs", sealed::facts),
    Check::sealed("wanted", "what a delivery wants are the facts of its record", sealed::wanted),
    Check::sealed("profiles", "a person's profile can be opened, and its digest is its own", sealed::profiles),
    Check::sealed("words", "a target's words can be opened, and are those of the attempt's hash", sealed::words),
    Check::sealed("receipts", "a receipt can be opened, and holds the words of an attempt", sealed::receipts),
    Check::sealed("holdings", "what is remembered of a place can be opened, and was written there", sealed::holdings),
    Check::sealed("bodies", "every webhook can be opened, under the key of its day", sealed::bodies),
    Check::sealed("secrets", "what portals and backfills have sealed can be opened", sealed::secrets),
    Check::sealed("keys", "nobody who was erased has a key", sealed::keys),
];

/// Counts while a check goes on: what it looks at is never held, however many rows there are.
#[derive(Default)]
struct Tally {
    rows: u64,
    findings: u64,
    examples: Vec<String>,
}

impl Tally {
    fn found(&mut self, what: impl FnOnce() -> String) {
        self.findings += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(what());
        }
    }

    /// Looks at all rows of a table.
    fn looks_at(&mut self, db: &mut SqliteConnection, table: &str) -> Result<(), StoreError> {
        self.rows += number(db, &format!("select count(*) as number from {table}"))?.unsigned_abs();
        Ok(())
    }

    /// Takes each row of a query for a finding; its column `what` says which.
    fn finds(&mut self, db: &mut SqliteConnection, query: &str) -> Result<(), StoreError> {
        for finding in diesel::sql_query(query).load_iter::<Finding, DefaultLoadingMode>(db)? {
            let finding = finding?;
            self.found(|| finding.what);
        }
        Ok(())
    }
}

#[derive(QueryableByName)]
struct Finding {
    #[diesel(sql_type = Text)]
    what: String,
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// The column `number` of a query's one row.
fn number(db: &mut SqliteConnection, query: &str) -> Result<i64, StoreError> {
    Ok(diesel::sql_query(query).get_result::<Number>(db)?.number)
}

/// Words as a list of SQL's.
fn quoted(words: impl IntoIterator<Item = String>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("'{}'", word.replace('\'', "''"))).collect();
    quoted.join(", ")
}

/// Audits the store in a folder; the daemon may run meanwhile, and what it commits from now on is not looked at. The log of its writes grows
/// until the audit ends.
///
/// # Errors
/// There is no ledger, or it is of another version.
pub fn audit(folder: &Path) -> Result<StoreAudit, StoreError> {
    let path = folder.join("learnsync.db");
    if !path.exists() {
        return Err(StoreError::Mismatch(format!(
            "there is no {}: has `learnsync run` been started with this store.path?",
            path.display()
        )));
    }
    let mut db = connect_reading(&path)?;
    refuse_newer(&mut db)?;
    refuse_older(&mut db)?;
    // A read takes its snapshot with its first row, so the keys are opened inside: all that are needed were committed before it.
    db.transaction(|db| {
        let mut keys = Keys::open(db, folder);
        Ok(StoreAudit { checks: CHECKS.iter().map(|check| carry_out(check, db, &mut keys)).collect() })
    })
}

fn carry_out(check: &Check, db: &mut SqliteConnection, keys: &mut Result<Keys, StoreError>) -> Checked {
    let mut tally = Tally::default();
    let done = match (&check.run, keys) {
        (Run::Rows(run), _) => run(db, &mut tally).map_err(|error| error.to_string()),
        (Run::Sealed(run), Ok(keys)) => run(db, keys, &mut tally).map_err(|error| error.to_string()),
        (Run::Sealed(_), Err(error)) => Err(error.to_string()),
    };
    let Tally { rows, findings, examples } = tally;
    // Over a damaged page a check cannot go on: then nothing is proven.
    Checked { check: check.name, promise: check.promise, rows, findings, examples, not_done: done.err() }
}
