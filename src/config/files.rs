//! Which files a configuration is: `learnsync.toml`, and one file a destination in `destinations.d` beside it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The largest configuration file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The most files in `destinations.d`.
pub const FILES_MAX: usize = 256;

/// The folder with one file a destination.
const FOLDER: &str = "destinations.d";

/// One file as it was found: its bytes, or why they cannot be had.
#[derive(Clone)]
pub struct File {
    /// The path, as it was named.
    pub path: PathBuf,
    /// The content, or why there is none.
    pub content: Result<Vec<u8>, String>,
}

/// All files of a configuration.
#[derive(Clone)]
pub struct Files {
    /// `learnsync.toml`.
    pub main: File,
    /// Those of `destinations.d`, sorted by name; the name without `.toml` is the destination's.
    pub destinations: Vec<File>,
    /// The folder `destinations.d`, when it is there and cannot be listed; its `content` says why.
    pub folder: Option<File>,
}

impl Files {
    /// Reads them from the disk.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let main = File::read(path);
        match list(&path.with_file_name(FOLDER)) {
            Ok(paths) => Self { main, destinations: paths.iter().map(|path| File::read(path)).collect(), folder: None },
            Err(trouble) => Self { main, destinations: Vec::new(), folder: Some(trouble) },
        }
    }

    /// One text alone; `path` is only named in errors.
    #[must_use]
    pub fn of_text(path: &Path, text: &str) -> Self {
        Self { main: File::of_text(path, text), destinations: Vec::new(), folder: None }
    }

    /// Where the file of a destination is, beside `learnsync.toml`.
    #[must_use]
    pub fn destination_path(main: &Path, name: &str) -> PathBuf {
        main.with_file_name(FOLDER).join(format!("{name}.toml"))
    }
}

impl File {
    /// A text that is on no disk.
    #[must_use]
    pub fn of_text(path: &Path, text: &str) -> Self {
        Self { path: path.to_owned(), content: Ok(text.as_bytes().to_vec()) }
    }

    /// The destination that the file is about.
    #[must_use]
    pub fn stem(&self) -> String {
        self.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn read(path: &Path) -> Self {
        Self { path: path.to_owned(), content: content_of(path) }
    }
}

fn content_of(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        return Err("is a folder, not a file: name the file in it".to_owned());
    }
    if metadata.len() > FILE_BYTES_MAX {
        let bytes = metadata.len();
        return Err(format!("has {bytes} bytes, the limit for a configuration file is {FILE_BYTES_MAX}"));
    }
    std::fs::read(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound if path.file_name().is_some_and(|name| name == "learnsync.toml") => {
            format!("cannot be read: {error}; make one with `learnsync init --config {}`", path.display())
        }
        ErrorKind::PermissionDenied => format!("cannot be read: {error}; run as the user of the service"),
        _ => format!("cannot be read: {error}"),
    }
}

/// The files of the folder that count: an editor's backups and hidden files do not.
fn list(folder: &Path) -> Result<Vec<PathBuf>, File> {
    let trouble = |message: String| File { path: folder.to_owned(), content: Err(message) };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => {
            return Err(trouble(
                "is a file, not a folder: it holds one file a destination, such as hr.toml".to_owned(),
            ));
        }
        Err(error) => return Err(trouble(unreadable(folder, &error))),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| trouble(unreadable(folder, &error)))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
        if paths.len() > FILES_MAX {
            return Err(trouble(format!("has more than {FILES_MAX} files, which is the limit")));
        }
    }
    paths.sort();
    Ok(paths)
}
