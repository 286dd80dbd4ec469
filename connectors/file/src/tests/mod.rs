//! Tests of the connector: the kit's promises, the bytes, deltas, and what happens when the disk fails or a process dies.

mod bytes;
mod conformance;
mod crashes;
mod deltas;
mod fake;
mod folders;
mod lists;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::DateTime;
use learnsync_sdk::{Action, Change, Clock, Connector, DeliveryError, Fields, Observation, Place, Receipt, Value};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::Destination;
use crate::folder::{Folder, Step};
use crate::settings::Settings;

const INSTALLATION: &str = "acme";
/// 2026-03-12T08:14:00Z.
const NOW_MS: i64 = 1_773_303_240_000;

/// A folder, and a clock that the test sets.
struct Stage {
    folder: TempDir,
    now_ms: Arc<AtomicI64>,
}

impl Stage {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), now_ms: Arc::new(NOW_MS.into()) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn set_clock(&self, ms: i64) {
        self.now_ms.store(ms, Ordering::SeqCst);
    }

    /// A destination with these settings besides the folder.
    fn destination(&self, settings: &Json) -> Destination {
        self.watched(settings, |_| Ok(()))
    }

    /// The same; this is asked before each step on the disk.
    fn watched(&self, settings: &Json, watch: impl Fn(Step) -> io::Result<()> + Send + Sync + 'static) -> Destination {
        let mut settings = settings.clone();
        settings["folder"] = json!(self.path());
        let settings = Settings::read(&settings).expect("right settings");
        let folder =
            Folder { path: self.path().to_owned(), installation: INSTALLATION.to_owned(), watch: Arc::new(watch) };
        let now_ms = Arc::clone(&self.now_ms);
        let clock = Clock::new(move || {
            DateTime::from_timestamp_millis(now_ms.load(Ordering::SeqCst)).expect("a valid instant")
        });
        Destination::new(folder, settings, clock)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("the folder takes files");
    }

    fn manifest(&self, name: &str) -> Json {
        serde_json::from_str(&self.read(&format!("{name}.manifest.json"))).expect("a manifest is JSON")
    }

    /// The names in the folder but those of ours alone, sorted.
    fn names(&self) -> Vec<String> {
        names_in(self.path()).into_iter().filter(|name| name != ".learnsync").collect()
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn date(text: &str) -> Value {
    Value::Date(text.parse().expect("a date"))
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn mark(place: usize) -> String {
    format!("learnsync:{INSTALLATION}:completion/{place}")
}

fn put(object: &str, place: usize, fields: Fields) -> Change {
    let idempotency_key = format!("{place}:1");
    let action = Action::Put { fields, row: None, idempotency_key };
    Change { object: object.to_owned(), person: "u1".to_owned(), mark: mark(place), action }
}

fn withdraw(object: &str, place: usize) -> Change {
    let action = Action::Withdraw { row: mark(place) };
    Change { object: object.to_owned(), person: "u1".to_owned(), mark: mark(place), action }
}

async fn taken(destination: &Destination, batch: &[Change]) -> Vec<Receipt> {
    let outcomes = destination.deliver(batch).await;
    outcomes.into_iter().map(|outcome| outcome.expect("the folder is well")).collect()
}

/// The one error of a batch whose changes share their fate.
async fn refused(destination: &Destination, batch: &[Change]) -> DeliveryError {
    let mut errors: Vec<DeliveryError> =
        destination.deliver(batch).await.into_iter().map(|outcome| outcome.expect_err("it fails")).collect();
    let error = errors.pop().expect("a batch has a change");
    assert!(errors.iter().all(|other| *other == error), "{errors:?}");
    error
}

async fn seen(destination: &Destination, object: &str, place: usize) -> Result<Observation, DeliveryError> {
    let place = Place { object: object.to_owned(), person: "u1".to_owned(), mark: mark(place), row: None };
    destination.observe(&[place]).await.remove(0)
}

fn held(place: usize, fields: Fields) -> Result<Observation, DeliveryError> {
    Ok(Observation::Holds { row: mark(place), fields })
}

fn path_of(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}
