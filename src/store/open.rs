//! Opens the store: lock, version checks, migrations, a new epoch.

use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use fs4::fs_std::FileExt;

use super::Store;
use super::doubt::doubt_if_copied;
use super::error::StoreError;
use super::schema::{epoch, installation, intake};
use super::seal::Sealer;
use super::writer::{Engine, Witness, Writer};
use crate::domain::chance::Entropy;
use crate::domain::time::Clock;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// The oldest SQLite that we trust: 3.51 is what libsqlite3-sys 0.38 bundles or newer. Compared with `sqlite_version()`.
const SQLITE_VERSION_MIN: (u32, u32) = (3, 50);

/// Where use cases run.
#[derive(Clone)]
pub enum Threading {
    /// On a writer thread that commits in groups.
    Thread,
    /// On the caller's thread, one commit each: for tests.
    Inline,
    /// The same, and somebody sees each: for the simulation.
    Witnessed(Arc<dyn Witness>),
}

/// How to open a store.
pub struct Open {
    /// The folder; made when it is not there.
    pub path: PathBuf,
    /// The installation's name; must be the one that the store was made with.
    pub installation: String,
    /// Where use cases run.
    pub threading: Threading,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes keys and nonces.
    pub entropy: Arc<dyn Entropy>,
    /// Limits the file, in pages of 4 KiB: to test what a full disk does.
    pub pages_max: Option<u32>,
}

#[derive(QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    word: String,
}

impl Open {
    /// Opens the store and begins a new epoch.
    ///
    /// # Errors
    /// `Locked` with the holder's pid, `Newer` with both versions, `Mismatch` when the installation or the key file is another one.
    pub fn open(self) -> Result<Store, StoreError> {
        make_private(&self.path).map_err(|error| file_error(&self.path, error))?;
        let lock = lock(&self.path)?;
        self.open_locked(lock)
    }

    /// The same for whoever holds the folder's lock already.
    pub(super) fn open_locked(self, lock: std::fs::File) -> Result<Store, StoreError> {
        let database = self.path.join("learnsync.db");
        let mut db = connect(&database)?;
        db.batch_execute(
            "pragma busy_timeout = 5000; pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on; pragma secure_delete = on;
             pragma wal_autocheckpoint = 4000;",
        )?;
        assert_sqlite_version(&mut db)?;
        refuse_newer(&mut db)?;
        migrate(&mut db)
            .map_err(|error| StoreError::Mismatch(format!("cannot migrate {}: {error}", database.display())))?;
        if let Some(pages) = self.pages_max {
            db.batch_execute(&format!("pragma max_page_count = {pages}"))?;
        }
        let sealer = Sealer::open(&self.path.join("learnsync.keys"), &*self.entropy)?;
        claim_installation(&mut db, &sealer, &self.installation)?;
        let epoch = begin_epoch(&mut db, self.clock.now().0)?;
        doubt_if_copied(&mut db, epoch, self.clock.now())?;
        let engine = Engine { db, sealer, entropy: self.entropy };
        let writer = match self.threading {
            Threading::Thread => Writer::start(engine),
            Threading::Inline => Writer::Inline(Box::new(Mutex::new(engine)), None),
            Threading::Witnessed(witness) => Writer::Inline(Box::new(Mutex::new(engine)), Some(witness)),
        };
        Ok(Store {
            writer,
            clock: self.clock,
            epoch,
            path: database,
            claims: Arc::default(),
            refusal: Mutex::default(),
            _lock: lock,
        })
    }
}

/// Brings a ledger to this version's tables.
pub(super) fn migrate(db: &mut SqliteConnection) -> Result<(), StoreError> {
    db.run_pending_migrations(MIGRATIONS).map(drop).map_err(|error| StoreError::Mismatch(error.to_string()))
}

/// Opens a database file; makes it when it is not there.
pub(super) fn connect(path: &Path) -> Result<SqliteConnection, StoreError> {
    SqliteConnection::establish(&path.to_string_lossy())
        .map_err(|error| StoreError::Mismatch(format!("cannot open {}: {error}", path.display())))
}

/// Makes the folder for nobody but us: keys, token and the control socket lie in it.
pub(super) fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

pub(super) fn lock(folder: &Path) -> Result<std::fs::File, StoreError> {
    let path = folder.join("learnsync.lock");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|error| file_error(&path, error))?;
    if !FileExt::try_lock_exclusive(&file).map_err(|error| file_error(&path, error))? {
        let mut pid = String::new();
        // Without a readable pid the refusal stands all the same.
        let _unreadable = file.read_to_string(&mut pid);
        return Err(StoreError::Locked { path: folder.display().to_string(), pid: pid.trim().to_owned() });
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|error| file_error(&path, error))?;
    Ok(file)
}

pub(super) fn file_error(path: &Path, error: std::io::Error) -> StoreError {
    StoreError::File { path: path.display().to_string(), error }
}

fn assert_sqlite_version(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let found: Word = diesel::sql_query("select sqlite_version() as word").get_result(db)?;
    let mut parts = found.word.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < SQLITE_VERSION_MIN {
        return Err(StoreError::Mismatch(format!(
            "this program was linked with SQLite {}, it needs {}.{} or newer: build it with the bundled one",
            found.word, SQLITE_VERSION_MIN.0, SQLITE_VERSION_MIN.1
        )));
    }
    Ok(())
}

pub(super) fn refuse_newer(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let (applied, known) = migrations(db)?;
    let newest_known = known.iter().max().cloned().unwrap_or_default();
    match applied.into_iter().find(|version| !known.contains(version)) {
        Some(found) => Err(StoreError::Newer { found, known: newest_known }),
        None => Ok(()),
    }
}

/// Refuses a ledger that lacks tables of this version: whoever only reads cannot bring it there.
pub(super) fn refuse_older(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let (applied, known) = migrations(db)?;
    match known.into_iter().find(|version| !applied.contains(version)) {
        Some(missing) => Err(StoreError::Mismatch(format!(
            "the store is of an older version, it lacks the migration {missing}: start `learnsync run` with this version once"
        ))),
        None => Ok(()),
    }
}

/// The migrations that a ledger has, and those that this program knows.
fn migrations(db: &mut SqliteConnection) -> Result<(Vec<String>, Vec<String>), StoreError> {
    let applied =
        db.applied_migrations().map_err(|error| StoreError::Mismatch(format!("cannot read migrations: {error}")))?;
    let known = diesel::migration::MigrationSource::<diesel::sqlite::Sqlite>::migrations(&MIGRATIONS)
        .map_err(|error| StoreError::Mismatch(format!("cannot read our migrations: {error}")))?
        .iter()
        .map(|migration| migration.name().version().to_string())
        .collect();
    Ok((applied.iter().map(ToString::to_string).collect(), known))
}

fn claim_installation(db: &mut SqliteConnection, sealer: &Sealer, name: &str) -> Result<(), StoreError> {
    let check = sealer.blind("key-check", b"learnsync");
    let found: Option<(String, Vec<u8>)> =
        installation::table.select((installation::name, installation::blind_key_check)).first(db).optional()?;
    match found {
        None => {
            diesel::insert_into(installation::table)
                .values((
                    installation::id.eq(1_i64),
                    installation::name.eq(name),
                    installation::blind_key_check.eq(check),
                ))
                .execute(db)?;
            diesel::insert_into(intake::table)
                .values((intake::id.eq(1_i64), intake::last_event_id.eq(0_i64)))
                .execute(db)?;
            Ok(())
        }
        Some((stored, _)) if stored != name => Err(StoreError::Mismatch(format!(
            "the store belongs to installation \"{stored}\", the configuration says \"{name}\": rows in the targets carry the first name"
        ))),
        Some((_, stored)) if stored != check => Err(StoreError::Mismatch(
            "learnsync.keys does not belong to learnsync.db: restore the key file of this store".to_owned(),
        )),
        Some(_) => Ok(()),
    }
}

fn begin_epoch(db: &mut SqliteConnection, now: i64) -> Result<i64, StoreError> {
    let id = diesel::insert_into(epoch::table)
        .values((
            epoch::started_at.eq(now),
            epoch::pid.eq(i64::from(std::process::id())),
            epoch::version.eq(env!("CARGO_PKG_VERSION")),
        ))
        .returning(epoch::id)
        .get_result(db)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::chance::Generator;
    use crate::domain::time::SystemClock;

    fn open(path: &Path, installation: &str) -> Result<Store, StoreError> {
        Open {
            path: path.to_owned(),
            installation: installation.to_owned(),
            threading: Threading::Inline,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(Generator::seeded(1)),
            pages_max: None,
        }
        .open()
    }

    #[test]
    fn the_folder_of_a_new_store_is_for_nobody_else() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store");
        drop(open(&path, "a").expect("opens"));
        let mode = std::fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }

    #[test]
    fn each_opening_begins_a_new_epoch() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = open(folder.path(), "a").expect("opens").epoch();
        assert_eq!(open(folder.path(), "a").expect("opens again").epoch(), first + 1);
    }

    #[test]
    fn a_second_process_is_refused_with_the_holders_pid() {
        let folder = tempfile::tempdir().expect("a folder");
        let _held = open(folder.path(), "a").expect("opens");
        let refused = open(folder.path(), "a").err().expect("is refused").to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    }

    #[test]
    fn a_store_of_a_newer_version_is_refused_with_both_versions() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(open(folder.path(), "a").expect("opens"));
        let mut db =
            SqliteConnection::establish(&folder.path().join("learnsync.db").to_string_lossy()).expect("connects");
        db.batch_execute("insert into __diesel_schema_migrations (version) values ('29991231000001')").expect("plants");
        let refused = open(folder.path(), "a").err().expect("is refused").to_string();
        assert!(refused.contains("29991231000001") && refused.contains("knows 2026"), "{refused}");
    }

    #[test]
    fn another_installation_or_key_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(open(folder.path(), "a").expect("opens"));
        assert!(
            open(folder.path(), "b").err().expect("is refused").to_string().contains("belongs to installation \"a\"")
        );
        std::fs::remove_file(folder.path().join("learnsync.keys")).expect("removes");
        for leftover in ["learnsync.keys-wal", "learnsync.keys-shm"] {
            let _absent = std::fs::remove_file(folder.path().join(leftover));
        }
        // Another seed makes other keys.
        let other = Open {
            path: folder.path().to_owned(),
            installation: "a".to_owned(),
            threading: Threading::Inline,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(Generator::seeded(2)),
            pages_max: None,
        };
        assert!(other.open().err().expect("is refused").to_string().contains("learnsync.keys"));
    }

    #[test]
    fn a_store_of_every_older_version_is_brought_to_todays_tables_with_all_its_rows() {
        let migrations = diesel::migration::MigrationSource::<diesel::sqlite::Sqlite>::migrations(&MIGRATIONS);
        let count = migrations.expect("are embedded").len();
        for applied in 1..count {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("learnsync.db");
            let mut db = connect(&path).expect("connects");
            db.batch_execute("pragma foreign_keys = on").expect("as the store does");
            for _ in 0..applied {
                db.run_next_migration(MIGRATIONS).expect("is applied");
            }
            db.batch_execute(
                "insert into portal (id, name) values (1, 'main');
                 insert into subject (id, portal_id, kind, lms_id) values (7, 1, 'learner', 'u1');
                 insert into mark (subject_id, generation, due_at, lane) values (7, 3, 5, 'live');
                 insert into event (id, portal_id, received_at, method, content_type, body, day) values (1, 1, 5, 'POST', '', x'00', 1);
                 insert into promise (subject_id, event_id, record_kind, received_at, state) values (7, 1, 'completion', 5, 'open');
                 insert into person (subject_id, portal_id, profile_digest, state, read_version) values (7, 1, x'00', 'active', 1);
                 insert into run (kind, portal_id, state, started_at, next_page) values ('sweep', 1, 'running', 5, 9);",
            )
            .expect("rows of that version");
            if applied >= 4 {
                let staged = "insert into staged (run_id, lms_id, row_id, row) values (1, 'u1', 'e1', x'00')";
                db.batch_execute(staged).expect("a backfill is under way");
            }
            drop(db);
            let mut db = connect(&path).expect("connects");
            db.batch_execute("pragma foreign_keys = on").expect("as the store does");
            migrate(&mut db).unwrap_or_else(|error| panic!("from version {applied}: {error}"));
            let word = |db: &mut SqliteConnection, query: &str| -> String {
                diesel::sql_query(query).get_result::<Word>(db).expect("answers").word
            };
            let rows = "select s.lms_id || ' ' || m.generation || ' ' || p.state || ' ' || r.next_page || ' ' || n.state as word from subject s
                        join mark m on m.subject_id = s.id join promise p on p.subject_id = s.id join person n on n.subject_id = s.id, run r";
            assert_eq!(word(&mut db, rows), "u1 3 open 9 active", "from version {applied}");
            let broken = "select cast(count(*) as text) as word from pragma_foreign_key_check";
            assert_eq!(word(&mut db, broken), "0", "from version {applied}");
            let is_on = "select cast(foreign_keys as text) as word from pragma_foreign_keys";
            assert_eq!(word(&mut db, is_on), "1", "from version {applied}");
            db.batch_execute("insert into subject (portal_id, kind, lms_id) values (1, 'courses', 'courses')")
                .expect("a list");
            let unknown = db.batch_execute("insert into subject (portal_id, kind, lms_id) values (1, 'planet', 'x')");
            assert!(unknown.is_err(), "the constraint stands");
        }
    }
}
