//! The folder: whose it is, who may write now, and the steps by which a file appears in it whole or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufWriter, ErrorKind as IoKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use learnsync_sdk::{DeliveryError, ErrorKind};

use crate::manifest::{Manifest, Seal, Sealing, manifest_name};

/// The folder of what is ours alone, below that of the files.
pub(crate) const OURS: &str = ".learnsync";
const OWNER: &str = "owner";
/// The end of names of files that are not whole yet. Only these are removed when a process died over them.
const TEMPORARY: &str = ".learnsync.tmp";
/// Owner writes, group reads: the importer is usually another user, and personal data is not for everybody.
const FILE_MODE: u32 = 0o640;
const OURS_MODE: u32 = 0o700;
const OWNER_BYTES_MAX: u64 = 4_096;

/// A step that changes the folder; a crash may come before each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A file is begun under its temporary name.
    Begin,
    /// Its bytes go to the disk.
    Sync,
    /// The manifest of the file that it replaces is removed.
    Unpublish,
    /// It gets its name.
    Rename,
    /// The names in the folder go to the disk.
    SyncFolder,
}

/// Is asked before each step; a test lets it fail, or dies there.
pub(crate) type Watch = Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>;

/// The folder of one destination.
#[derive(Clone)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) installation: String,
    pub(crate) watch: Watch,
}

/// As long as it lives no other process writes into the folder. The kernel lets go of it when the process dies.
pub(crate) struct Lock {
    owner: File,
}

impl Drop for Lock {
    /// Closing the file would not do: a process that another thread is just starting has it open until it is another program.
    fn drop(&mut self) {
        let _nothing_else_can_be_done = self.owner.unlock();
    }
}

impl Folder {
    /// Whose folder it is: its path without links, and the installation. Nothing is written.
    ///
    /// # Errors
    /// `Unavailable` when it is not there, `Unauthorized` when it is another installation's or closed to us.
    pub(crate) fn identity(&self) -> Result<String, DeliveryError> {
        self.wants_folder()?;
        if let Some(mut owner) = self.open_owner()? {
            self.wants_ours(&read_owner(&mut owner)?)?;
        }
        let path = fs::canonicalize(&self.path).map_err(|error| cannot("find the folder", &error))?;
        Ok(format!("{} of {}", path.display(), self.installation))
    }

    /// Takes the folder for writing, makes it ours if it is nobody's, and clears away what a process that died left half done.
    ///
    /// # Errors
    /// As `identity`; `Unavailable` while another process has it.
    pub(crate) fn take(&self) -> Result<Lock, DeliveryError> {
        self.wants_folder()?;
        let ours = self.path.join(OURS);
        match DirBuilder::new().mode(OURS_MODE).create(&ours) {
            Ok(()) => {}
            Err(error) if error.kind() == IoKind::AlreadyExists => {}
            Err(error) => return Err(cannot("make the folder .learnsync", &error)),
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE);
        let owner = options.open(ours.join(OWNER)).map_err(|error| cannot("open .learnsync/owner", &error))?;
        locked(owner.try_lock())?;
        let mut lock = Lock { owner };
        let owner = &mut lock.owner;
        let name = read_owner(owner)?;
        if name.is_empty() {
            let mut mark = || {
                owner.rewind()?;
                writeln!(owner, "{}", self.installation)?;
                owner.sync_all()
            };
            mark().map_err(|error| cannot("mark the folder as ours", &error))?;
        } else {
            self.wants_ours(&name)?;
        }
        for place in [&self.path, &ours] {
            remove_leftovers(place).map_err(|error| cannot("remove what was left half done", &error))?;
        }
        Ok(lock)
    }

    /// Takes the folder for reading; none when nobody wrote into it yet.
    ///
    /// # Errors
    /// As `take`.
    pub(crate) fn look(&self) -> Result<Option<Lock>, DeliveryError> {
        self.wants_folder()?;
        let Some(owner) = self.open_owner()? else { return Ok(None) };
        locked(owner.try_lock_shared())?;
        let mut lock = Lock { owner };
        self.wants_ours(&read_owner(&mut lock.owner)?)?;
        Ok(Some(lock))
    }

    fn wants_folder(&self) -> Result<(), DeliveryError> {
        let about = fs::metadata(&self.path).map_err(|error| cannot("find the folder", &error))?;
        if about.is_dir() {
            return Ok(());
        }
        Err(DeliveryError::new(ErrorKind::Unavailable, format!("{} is no folder", self.path.display())))
    }

    fn open_owner(&self) -> Result<Option<File>, DeliveryError> {
        match File::open(self.path.join(OURS).join(OWNER)) {
            Ok(owner) => Ok(Some(owner)),
            Err(error) if error.kind() == IoKind::NotFound => Ok(None),
            Err(error) => Err(cannot("open .learnsync/owner", &error)),
        }
    }

    fn wants_ours(&self, owner: &str) -> Result<(), DeliveryError> {
        // Empty: whoever was to mark it died before.
        if owner == self.installation || owner.is_empty() {
            return Ok(());
        }
        let message = format!(
            "the folder {} belongs to the installation \"{owner}\": give each its own, or remove .learnsync/owner if that one is gone",
            self.path.display()
        );
        Err(DeliveryError::new(ErrorKind::Unauthorized, message))
    }

    /// Writes a file under a temporary name, then its manifest, and gives both their names. The old manifest goes first, so whoever finds
    /// a manifest finds the whole file that it is about. `fill` writes the rows, and tells how many.
    ///
    /// # Errors
    /// `Ambiguous` once the file has its name, else as `cannot`.
    pub(crate) fn publish(
        &self,
        name: &str,
        fill: impl FnOnce(&mut dyn Write) -> Result<u64, DeliveryError>,
        manifest: impl FnOnce(u64, Seal) -> Manifest,
    ) -> Result<(), DeliveryError> {
        let path = self.path.join(name);
        let failed = |error: &io::Error| cannot(&format!("write {name}"), error);
        let temporary = temporary(&path);
        let mut out = BufWriter::new(Sealing::new(self.begin(&temporary).map_err(|error| failed(&error))?));
        let rows = fill(&mut out)?;
        let sealing = out.into_inner().map_err(|error| failed(error.error()))?;
        let (file, seal) = sealing.end();
        self.sync(&file).map_err(|error| failed(&error))?;
        drop(file);
        let manifest_path = self.path.join(manifest_name(name));
        self.unpublish(&manifest_path).map_err(|error| failed(&error))?;
        self.rename(&temporary, &path).map_err(|error| failed(&error))?;
        // From here on somebody may have taken it.
        let json = serde_json::to_vec_pretty(&manifest(rows, seal)).expect("a manifest is plain data");
        self.sync_folder(&path)
            .and_then(|()| self.write_manifest(&manifest_path, &json))
            .map_err(|error| is_in_doubt(failed(&error)))
    }

    fn write_manifest(&self, path: &Path, json: &[u8]) -> io::Result<()> {
        let temporary = temporary(path);
        let mut file = self.begin(&temporary)?;
        file.write_all(json)?;
        file.write_all(b"\n")?;
        self.sync(&file)?;
        self.rename(&temporary, path)?;
        self.sync_folder(path)
    }

    fn begin(&self, path: &Path) -> io::Result<File> {
        (self.watch)(Step::Begin)?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
        // Whatever umask the daemon has. A share that knows no modes has rules of its own.
        let _may_not_know_modes = file.set_permissions(Permissions::from_mode(FILE_MODE));
        Ok(file)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        (self.watch)(Step::Sync)?;
        file.sync_all()
    }

    fn unpublish(&self, manifest: &Path) -> io::Result<()> {
        (self.watch)(Step::Unpublish)?;
        match fs::remove_file(manifest) {
            // On the disk before the new file: after a power cut no old manifest may stand beside it.
            Ok(()) => self.sync_folder(manifest),
            Err(error) if error.kind() == IoKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.watch)(Step::Rename)?;
        fs::rename(from, to)
    }

    fn sync_folder(&self, file: &Path) -> io::Result<()> {
        (self.watch)(Step::SyncFolder)?;
        File::open(file.parent().unwrap_or(&self.path))?.sync_all()
    }
}

/// An error of the disk before the file had its name: nothing was written. What the system does not permit needs a person, like refused
/// credentials; what else it says (full, gone, not as we left it) may pass.
pub(crate) fn cannot(what: &str, error: &io::Error) -> DeliveryError {
    let kind = if error.kind() == IoKind::PermissionDenied { ErrorKind::Unauthorized } else { ErrorKind::Unavailable };
    DeliveryError::new(kind, format!("cannot {what}: {error}"))
}

/// The same when the file may have its name already.
pub(crate) fn is_in_doubt(error: DeliveryError) -> DeliveryError {
    DeliveryError { kind: ErrorKind::Ambiguous, ..error }
}

fn locked(outcome: Result<(), TryLockError>) -> Result<(), DeliveryError> {
    match outcome {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(DeliveryError::new(ErrorKind::Unavailable, "another process of learnsync is busy in the folder"))
        }
        Err(TryLockError::Error(error)) => Err(cannot("lock .learnsync/owner", &error)),
    }
}

fn read_owner(owner: &mut File) -> Result<String, DeliveryError> {
    let mut name = String::new();
    owner.take(OWNER_BYTES_MAX).read_to_string(&mut name).map_err(|error| cannot("read .learnsync/owner", &error))?;
    Ok(name.trim().to_owned())
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    name.into()
}

fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(TEMPORARY) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
