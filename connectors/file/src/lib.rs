//! The connector for files: CSV or JSON lines in a folder, for systems that import files and have no API.
//!
//! **Full** (the default): one file for each object, which always holds all rows as they are now. Whoever misses one, or reads it
//! twice, loses nothing; that is why it is the default. The file is its own memory: it is read back, row by row, and never held whole.
//! **Delta**: each batch makes a new file of the rows that it changed. Whoever reads deltas takes them away, so the rows as they are after
//! the last one are kept beside them, in `.learnsync/<object>.csv`. A delta goes out before that state is written: a crash between the
//! two repeats rows and loses none.
//!
//! **Never half a file.** A file is written under a temporary name, flushed to the disk, and renamed; so is its manifest, after it. The
//! manifest of the file that is replaced goes first: whoever finds a manifest finds the whole file that it is about, and its `sha256`
//! tells a file that was replaced while it was read. A file that differs from its manifest is somebody's edit, or half a copy: it is
//! neither read nor written over until a person brings it back, or removes the manifest to say that it is right as it is.
//!
//! **All rows can be listed**, in pages, ours and others'. A page begins behind a number of rows and a digest of their marks: where one of them was
//! withdrawn meanwhile the list begins anew, since whoever compares it takes a row that was left out for missing.
//!
//! **Our mark is the key**, in a column of its own that stands first. Nobody is looked up, so no claim of `People`: what an import knows
//! a person by comes with the mapping. A row with another mark, or with none, is somebody else's; it stays.
//!
//! **Columns keep their places.** Those of `columns`, or of the default routes, come first and stand in every file; what else a mapping
//! brings is added behind them, at its first appearance in the order of names.
//!
//! **Text stands in quotes, and nothing else does**, so that reading knows `"0042"` from `42`. The `csv` crate's reader does not tell whether
//! a field was quoted; that is why ours is our own. Text is never changed: a cell that begins with `=` is a formula to a spreadsheet
//! that opens the file, and an apostrophe before it would be a wrong name in the system that imports it.
//!
//! **One writer.** The folder carries the installation's name in `.learnsync/owner`; that file is locked while we read or write. Within
//! this process calls wait for each other, even for one that the daemon has given up: so a late write can overtake nothing, and
//! `settle_seconds` is 0.
#![warn(missing_docs)]

mod dialect;
mod folder;
mod listing;
mod manifest;
mod routes;
mod row;
mod settings;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use learnsync_sdk::{
    Account, BlindRepeat, Change, Claim, Clock, Connector, ConnectorType, DeliveryError, Description, ErrorKind,
    Learner, ListedPage, MatchRule, Observation, PersonMatch, Place, Receipt, Reference, SettingsError, TargetObject,
    Toolbox, async_trait,
};

use crate::folder::Folder;
use crate::row::Row;
use crate::settings::Settings;
use crate::table::{Table, rejected};

/// The connector type `file`.
#[derive(Clone, Copy, Debug, Default)]
pub struct File;

impl ConnectorType for File {
    fn describe(&self) -> Description {
        Description {
            name: "file",
            summary: "Writes CSV or JSON lines into a folder, for systems that import files.",
            documentation: "https://www.rfc-editor.org/rfc/rfc4180",
            claims: &[Claim::UpsertByMark, Claim::ReadBack, Claim::Withdraw, Claim::List],
            // Without a meaning here: it matters to targets that have neither a key nor read-back.
            blind_repeat: BlindRepeat::MayRepeat,
            reference_kinds: &[],
            settle_seconds: 0,
            // A batch is one rewrite of each file that it touches, however many rows it changes: a hundred thousand rows are some 25 MB, read
            // twice, written once and flushed. Five hundred people every five seconds are a hundred a second; a single change is written
            // at once, since the pause counts from the start of the batch before.
            persons_per_batch_max: 500,
            concurrency_max: 1,
            batch_interval_ms: 5_000,
            settings: settings::SETTINGS,
            default_routes: routes::default_routes(),
        }
    }

    fn build(&self, settings: &serde_json::Value, toolbox: Toolbox) -> Result<Box<dyn Connector>, SettingsError> {
        let settings = Settings::read(settings)?;
        let watch = Arc::new(|_| Ok(()));
        let folder = Folder { path: settings.folder.clone(), installation: toolbox.installation, watch };
        Ok(Box::new(Destination::new(folder, settings, toolbox.clock)))
    }
}

/// One configured folder.
struct Destination {
    desk: Arc<Desk>,
    /// Whose turn it is. A call keeps it until its work on the disk is done, even if nobody waits for that any more.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// All that the work on the disk needs.
struct Desk {
    folder: Folder,
    settings: Settings,
    clock: Clock,
}

impl Destination {
    fn new(folder: Folder, settings: Settings, clock: Clock) -> Self {
        Self { desk: Arc::new(Desk { folder, settings, clock }), turn: Arc::default() }
    }

    /// Does work on the disk where it holds up nobody.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Desk) -> Result<T, DeliveryError> + Send + 'static,
    ) -> Result<T, DeliveryError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let desk = Arc::clone(&self.desk);
        let done = tokio::task::spawn_blocking(move || {
            let _until_it_is_done = turn;
            work(&desk)
        });
        let ended = |_| DeliveryError::new(ErrorKind::Ambiguous, "the work on the folder ended before its end");
        done.await.map_err(ended).flatten()
    }
}

#[async_trait]
impl Connector for Destination {
    fn object(&self, name: &str) -> Result<TargetObject, String> {
        self.desk.settings.target_object(name)
    }

    /// The folder's path without links, and the installation.
    async fn probe(&self) -> Result<Account, DeliveryError> {
        let identity = self.work(|desk| desk.folder.identity()).await?;
        Ok(Account { identity })
    }

    async fn references(&self, kind: &str) -> Result<Vec<Reference>, DeliveryError> {
        Err(rejected(format!("file has no reference data \"{kind}\"")))
    }

    async fn find_person(&self, _learner: &Learner, _rules: &[MatchRule]) -> Result<PersonMatch, DeliveryError> {
        Err(rejected("file looks nobody up: it does not claim People"))
    }

    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let changes = batch.to_vec();
        let delivered = self.work(move |desk| desk.deliver(&changes)).await;
        delivered.unwrap_or_else(|error| batch.iter().map(|_| Err(error.clone())).collect())
    }

    async fn observe(&self, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let places = batch.to_vec();
        let observed = self.work(move |desk| desk.observe(&places)).await;
        observed.unwrap_or_else(|error| batch.iter().map(|_| Err(error.clone())).collect())
    }

    async fn list(&self, object: &str, page: Option<&str>) -> Result<ListedPage, DeliveryError> {
        let (object, page) = (object.to_owned(), page.map(str::to_owned));
        self.work(move |desk| desk.list(&object, page.as_deref())).await
    }
}

impl Desk {
    /// One rewrite for each object; its changes share their fate, but for those that are refused each by itself.
    fn deliver(&self, batch: &[Change]) -> Result<Vec<Result<Receipt, DeliveryError>>, DeliveryError> {
        let _lock = self.folder.take()?;
        let mut ended: Option<DeliveryError> = None;
        Ok(by_object(
            batch,
            |change| &change.object,
            |object, changes| {
                if let Some(error) = &ended {
                    return changes.iter().map(|_| Err(error.clone())).collect();
                }
                let outcomes = match Table::new(&self.folder, &self.settings, object) {
                    Ok(table) => table.change(changes, self.clock.now()),
                    Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
                };
                // The folder would only say it again.
                let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
                ended = refused.into_iter().find(|error| error.kind == ErrorKind::Unauthorized).cloned();
                outcomes
            },
        ))
    }

    fn list(&self, object: &str, page: Option<&str>) -> Result<ListedPage, DeliveryError> {
        let _lock = self.folder.look()?;
        Table::new(&self.folder, &self.settings, object)?.page(page)
    }

    fn observe(&self, batch: &[Place]) -> Result<Vec<Result<Observation, DeliveryError>>, DeliveryError> {
        let _lock = self.folder.look()?;
        Ok(by_object(
            batch,
            |place| &place.object,
            |object, places| {
                let marks: HashSet<&str> = places.iter().map(|place| place.mark.as_str()).collect();
                let rows = Table::new(&self.folder, &self.settings, object).and_then(|table| table.rows_with(&marks));
                match rows {
                    Ok(rows) => places.iter().map(|place| Ok(seen(rows.get(&place.mark)))).collect(),
                    Err(error) => places.iter().map(|_| Err(error.clone())).collect(),
                }
            },
        ))
    }
}

/// The row's id is its mark: a file has no other.
fn seen(rows: Option<&Vec<Row>>) -> Observation {
    let id = |row: &Row| row.mark.clone().unwrap_or_default();
    match rows.map_or(&[][..], Vec::as_slice) {
        [] => Observation::Absent,
        [row] => Observation::Holds { row: id(row), fields: row.fields.clone() },
        rows => Observation::Several { rows: rows.iter().map(id).collect() },
    }
}

/// Does what is to be done with the items of each object, in the order in which objects first appear; the answers are in the order of the
/// items.
fn by_object<'a, I, A>(
    items: &'a [I],
    object_of: impl Fn(&'a I) -> &'a String,
    mut answer: impl FnMut(&'a str, &[&'a I]) -> Vec<A>,
) -> Vec<A> {
    let mut answers: Vec<Option<A>> = items.iter().map(|_| None).collect();
    for (first, item) in items.iter().enumerate() {
        if answers[first].is_some() {
            continue;
        }
        let object = object_of(item);
        let places: Vec<usize> = (first..items.len()).filter(|place| object_of(&items[*place]) == object).collect();
        let same: Vec<&I> = places.iter().map(|place| &items[*place]).collect();
        for (place, answered) in places.into_iter().zip(answer(object, &same)) {
            answers[place] = Some(answered);
        }
    }
    answers.into_iter().map(|answered| answered.expect("each object answers for all of its items")).collect()
}
