//! Copies: what a backup is, and how one becomes the store again.
//!
//! A backup is two files that belong together: the ledger, and beside it `<ledger>.keys`. A key file holds a key for each person; erasing
//! somebody destroys theirs, and leaves a note of it (the key's digest), so that an older copy cannot bring them back.

use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::open::{connect, file_error, lock, make_private, refuse_newer};
use super::schema::{installation, person};
use super::seal::{KeyFile, Sealer, person_scope};
use super::{Open, Store, StoreError};
use crate::domain::ids::SubjectId;
use crate::domain::time::Timestamp;

const LEDGER: &str = "learnsync.db";
const KEYS: &str = "learnsync.keys";

/// Most lines of an integrity check that are told.
const COMPLAINTS_MAX: usize = 3;

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The ledger's copy.
    pub ledger: PathBuf,
    /// The keys' copy; none when it was not wanted.
    pub keys: Option<PathBuf>,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where the store of before is kept, as a folder that can itself be a `store.path`; none when there was none.
    pub kept: Option<PathBuf>,
    /// When the copy was made; none when it was copied by other means.
    pub copied_at: Option<Timestamp>,
    /// People who were erased since the copy was made; they stay erased.
    pub erased: usize,
}

/// Where the keys of a ledger's copy are.
#[must_use]
pub fn keys_beside(ledger: &Path) -> PathBuf {
    let mut name = ledger.as_os_str().to_owned();
    name.push(".keys");
    PathBuf::from(name)
}

impl Store {
    /// Copies the ledger and, if wanted, its keys into files that must not exist yet; nobody else may read them. The writer goes on meanwhile.
    ///
    /// # Errors
    /// A file exists, or the store failed; then neither is left.
    pub fn back_up(&self, ledger: &Path, with_keys: bool) -> Result<Copied, StoreError> {
        let keys = with_keys.then(|| keys_beside(ledger));
        for path in [Some(ledger), keys.as_deref()].into_iter().flatten() {
            if path.exists() {
                return Err(StoreError::Mismatch(format!("{} exists: a backup never overwrites", path.display())));
            }
        }
        // The ledger first: a key is committed before what it seals, so keys that are copied later open all of it.
        let copied = make_empty(ledger).and_then(|()| self.backup_into(ledger)).and_then(|()| match &keys {
            Some(keys) => make_empty(keys).and_then(|()| self.copy_keys(keys)),
            None => Ok(()),
        });
        if let Err(error) = copied {
            for path in [Some(ledger), keys.as_deref()].into_iter().flatten() {
                let _absent = std::fs::remove_file(path);
            }
            return Err(error);
        }
        for path in [Some(ledger), keys.as_deref()].into_iter().flatten() {
            sync(path)?;
        }
        Ok(Copied { ledger: ledger.to_owned(), keys })
    }

    fn copy_keys(&self, path: &Path) -> Result<(), StoreError> {
        let mut file = connect(&self.path.with_file_name(KEYS))?;
        let text = path.to_string_lossy().into_owned();
        diesel::sql_query("vacuum into ?").bind::<Text, _>(&text).execute(&mut file)?;
        Ok(())
    }
}

/// Makes the file for nobody but us before SQLite fills it: `vacuum into` takes an empty file.
fn make_empty(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|error| file_error(path, error))
}

fn sync(path: &Path) -> Result<(), StoreError> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(|error| file_error(path, error))
}

/// Makes a copy the store again. The store of before is kept beside it; what the copy cannot know is doubted when it is opened, which
/// is done here already.
///
/// # Errors
/// The store is in use, or the copy is damaged, of another installation, of a newer version, or without its keys; then nothing was changed.
pub async fn restore(open: Open, ledger: &Path, keys: Option<&Path>) -> Result<Restored, StoreError> {
    let folder = open.path.clone();
    make_private(&folder).map_err(|error| file_error(&folder, error))?;
    let lock = lock(&folder)?;
    let staged = Staged::copy(&folder, ledger, &keys_for(&folder, ledger, keys)?)?;
    let copied_at = staged.verify(&open.installation)?;
    let erased = staged.erase_again(&folder)?;
    let kept = keep_old(&folder, open.clock.now())?;
    staged.take_their_place(&folder)?;
    let store = open.open_locked(lock)?;
    for subject in &erased {
        store.erase_subject(*subject).await?;
    }
    Ok(Restored { kept, copied_at, erased: erased.len() })
}

/// Which keys open the copy: those that were named, those beside it, or the store's own.
fn keys_for(folder: &Path, ledger: &Path, named: Option<&Path>) -> Result<PathBuf, StoreError> {
    let beside = keys_beside(ledger);
    let own = folder.join(KEYS);
    match named {
        Some(named) if named.exists() => Ok(named.to_owned()),
        Some(named) => Err(StoreError::Mismatch(format!("there is no key file {}", named.display()))),
        None if beside.exists() => Ok(beside),
        None if own.exists() => Ok(own),
        None => Err(StoreError::Mismatch(format!(
            "there is neither {} nor {}: a ledger cannot be read without its keys; --keys says where they are",
            beside.display(),
            own.display()
        ))),
    }
}

/// A copy in the store's folder, under names that nobody opens; removed unless it takes the store's place.
struct Staged {
    ledger: PathBuf,
    keys: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        for path in [&self.ledger, &self.keys] {
            for file in with_sidecars(path) {
                let _moved = std::fs::remove_file(file);
            }
        }
    }
}

impl Staged {
    fn copy(folder: &Path, ledger: &Path, keys: &Path) -> Result<Self, StoreError> {
        let staged = Self { ledger: folder.join("restoring.db"), keys: folder.join("restoring.keys") };
        for (from, to) in [(ledger, &staged.ledger), (keys, &staged.keys)] {
            for file in with_sidecars(to) {
                // Of a restore that was killed.
                let _absent = std::fs::remove_file(file);
            }
            if !from.is_file() {
                return Err(StoreError::Mismatch(format!("there is no file {}", from.display())));
            }
            make_empty(to)?;
            // SQLite copies it, and not the file system: what a log beside it holds belongs to it.
            let mut source = connect_reading(from)?;
            let text = to.to_string_lossy().into_owned();
            let copied = diesel::sql_query("vacuum into ?").bind::<Text, _>(&text).execute(&mut source);
            copied.map_err(|error| StoreError::Mismatch(format!("{} cannot be read: {error}", from.display())))?;
        }
        Ok(staged)
    }

    /// Whether the copy is whole, ours, of a version that we know, and opened by these keys; answers when it was made.
    fn verify(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        let mut db = connect(&self.ledger)?;
        refuse_damaged(&mut db)?;
        refuse_newer(&mut db)?;
        // Before the columns of this version are there, only those of the first are asked for.
        let (found, key_check): (String, Vec<u8>) =
            installation::table.select((installation::name, installation::blind_key_check)).first(&mut db)?;
        if found != name {
            return Err(StoreError::Mismatch(format!(
                "the copy is of installation \"{found}\", the configuration says \"{name}\""
            )));
        }
        let sealer = Sealer::read(&self.keys)?;
        if sealer.blind("key-check", b"learnsync") != key_check {
            return Err(StoreError::Mismatch(
                "the key file does not belong to this copy: --keys says where the right one is".to_owned(),
            ));
        }
        super::open::migrate(&mut db)?;
        let copied_at: Option<i64> = installation::table.select(installation::copied_at).first(&mut db)?;
        if copied_at.is_none() {
            // A file that was copied by other means is as old as any: whoever opens it must doubt as well. When it was made, nobody knows.
            diesel::update(installation::table).set(installation::copied_at.eq(0_i64)).execute(&mut db)?;
        }
        Ok(copied_at.map(Timestamp))
    }

    /// Destroys the keys of those who were erased from the store of before; answers whom the copy still knows of them. Refuses a copy that
    /// cannot be read for another reason.
    fn erase_again(&self, folder: &Path) -> Result<Vec<SubjectId>, StoreError> {
        let mut keys = KeyFile::open(&self.keys)?;
        let own = folder.join(KEYS);
        if own.exists() {
            keys.heed_erasures_of(&mut KeyFile::open(&own)?)?;
        }
        let mut db = connect(&self.ledger)?;
        let known: Vec<i64> = person::table
            .filter(person::state.ne("erased"))
            .order(person::id)
            .select(person::subject_id)
            .load(&mut db)?;
        let (mut erased, mut missing) = (Vec::new(), 0);
        for subject in known.into_iter().map(SubjectId) {
            match keys.fate_of(&person_scope(subject))? {
                super::seal::Fate::There => {}
                super::seal::Fate::Erased => erased.push(subject),
                super::seal::Fate::Missing => missing += 1,
            }
        }
        if missing > 0 {
            return Err(StoreError::Mismatch(format!(
                "the key file lacks the keys of {missing} people whom the copy knows: it is older than the copy; --keys says where a newer one is"
            )));
        }
        Ok(erased)
    }

    fn take_their_place(self, folder: &Path) -> Result<(), StoreError> {
        // Keys first: without its keys the ledger is refused, while without a ledger a daemon would begin an empty one.
        for (from, name) in [(&self.keys, KEYS), (&self.ledger, LEDGER)] {
            let to = folder.join(name);
            sync(from)?;
            std::fs::rename(from, &to).map_err(|error| file_error(&to, error))?;
        }
        sync(folder)
    }
}

fn with_sidecars(path: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    })
}

pub(super) fn connect_reading(path: &Path) -> Result<SqliteConnection, StoreError> {
    SqliteConnection::establish(&format!("file:{}?mode=ro", path.display()))
        .map_err(|error| StoreError::Mismatch(format!("cannot open {}: {error}", path.display())))
}

#[derive(QueryableByName)]
struct Complaint {
    #[diesel(sql_type = Text)]
    integrity_check: String,
}

/// SQLite's own check of every page and index: <https://sqlite.org/pragma.html#pragma_integrity_check>.
fn refuse_damaged(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let found: Vec<Complaint> = diesel::sql_query("pragma integrity_check")
        .load(db)
        .map_err(|error| StoreError::Mismatch(format!("the copy is damaged: {error}")))?;
    let complaints: Vec<&str> =
        found.iter().map(|one| one.integrity_check.as_str()).filter(|words| *words != "ok").collect();
    if complaints.is_empty() {
        return Ok(());
    }
    let shown = complaints.iter().take(COMPLAINTS_MAX).copied().collect::<Vec<_>>().join("; ");
    Err(StoreError::Mismatch(format!("the copy is damaged, {} faults: {shown}", complaints.len())))
}

/// Keeps the store of before in a folder beside it, and leaves its files in place: until the copy replaces them in one step, a daemon that
/// starts finds the old store, never none.
fn keep_old(folder: &Path, now: Timestamp) -> Result<Option<PathBuf>, StoreError> {
    let ledger = folder.join(LEDGER);
    if !ledger.exists() {
        return Ok(None);
    }
    for name in [LEDGER, KEYS] {
        fold_log(&folder.join(name));
    }
    let stamp = now.utc().format("%Y%m%dT%H%M%SZ");
    let kept = folder.join(format!("before-restore-{stamp}"));
    if kept.exists() {
        return Err(StoreError::Mismatch(format!("{} exists: wait a second, and restore again", kept.display())));
    }
    make_private(&kept).map_err(|error| file_error(&kept, error))?;
    for name in [LEDGER, KEYS] {
        let from = folder.join(name);
        let (to, log) = (kept.join(name), &with_sidecars(&from)[1]);
        if from.exists() {
            std::fs::hard_link(&from, &to).map_err(|error| file_error(&to, error))?;
        }
        // Only of a store that SQLite cannot open any more; it must not lie beside another ledger.
        if log.exists() {
            let to = &with_sidecars(&to)[1];
            std::fs::rename(log, to).map_err(|error| file_error(to, error))?;
        }
        for leftover in &with_sidecars(&from)[2..] {
            let _absent = std::fs::remove_file(leftover);
        }
    }
    sync(&kept)?;
    Ok(Some(kept))
}

/// Writes what SQLite's log holds into the file, and ends the log. A store that is broken keeps it.
fn fold_log(path: &Path) {
    if let Ok(mut db) = connect(path) {
        let _broken = db.batch_execute("pragma busy_timeout = 5000; pragma journal_mode = delete;");
    }
}

#[cfg(test)]
mod tests;
