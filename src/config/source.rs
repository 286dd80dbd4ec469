//! Where each key of the configuration file stands, and errors that say so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// One thing that is wrong with the configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Which of the files, in the order in which they are read.
    pub(super) order: usize,
    /// The destination that cannot be used because of it; without one, nothing can.
    pub destination: Option<String>,
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line, from 1; 0 when the file could not be read at all.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key with dots, for example `destinations.hr.connector`; empty for the file as a whole.
    pub key: String,
    /// What is wrong: the value, the limit, the next step. Never a secret.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file.display())?;
        if self.line > 0 {
            write!(out, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(out, ": {}", self.key)?;
        }
        write!(out, ": {}", self.message)
    }
}

/// All that is wrong, in the order of the files; one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// `Ok` when there is nothing wrong.
    ///
    /// # Errors
    /// Those that were collected, sorted by file and place.
    pub fn into_result(mut self) -> Result<(), Self> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by_key(|error| (error.order, error.line, error.column));
        Err(self)
    }

    /// What stands in the way of everything.
    #[must_use]
    pub fn of_everything(&self) -> Self {
        Self(self.0.iter().filter(|error| error.destination.is_none()).cloned().collect())
    }

    /// What stands in the way of one destination alone.
    #[must_use]
    pub fn of_destination(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|error| error.destination.as_deref() == Some(name)).cloned().collect())
    }

    /// The destinations that cannot be used.
    #[must_use]
    pub fn destinations(&self) -> BTreeSet<String> {
        self.0.iter().filter_map(|error| error.destination.clone()).collect()
    }

    /// The keys that something was said about.
    #[must_use]
    pub fn told(&self) -> Told {
        Told(self.0.iter().map(|error| error.key.clone()).collect())
    }
}

/// The keys that earlier steps said something about. What was wrong is already taken out, so what a later step misses there is an echo.
#[derive(Clone, Debug)]
pub struct Told(BTreeSet<String>);

impl Told {
    /// Whether something was said about this very key.
    #[must_use]
    pub fn has<S: AsRef<str>>(&self, path: &[S]) -> bool {
        self.0.contains(&key_of(path))
    }

    /// Whether a key of this table that is no setting was most probably meant for this one.
    #[must_use]
    pub fn has_unknown_like(&self, table: &[&str], setting: &str) -> bool {
        let below = format!("{}.", key_of(table));
        let keys = self.0.iter().filter_map(|key| key.strip_prefix(&below)).filter(|key| !key.contains('.'));
        keys.into_iter().any(|key| super::nearest::nearest(key, std::iter::once(setting)).is_some())
    }

    /// Whether a finding is only the echo of an error at its key, or below it.
    #[must_use]
    pub fn echoes(&self, error: &ConfigError) -> bool {
        let below = format!("{}.", error.key);
        self.0.iter().any(|key| *key == error.key || (!error.key.is_empty() && key.starts_with(&below)))
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            error.fmt(out)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The texts of the configuration files with the place of every key and value.
#[derive(Clone, Default)]
pub struct Source {
    files: Vec<(PathBuf, String)>,
    places: BTreeMap<Vec<String>, Place>,
}

/// A file, and the byte offsets of a key and of its value in it. A table has no value of its own: both are its key.
#[derive(Clone, Copy)]
struct Place {
    file: usize,
    key: usize,
    value: usize,
}

// The texts may hold a secret that somebody wrote into a file by mistake.
impl fmt::Debug for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self.files.iter().map(|(path, _)| path.display().to_string()).collect();
        write!(out, "Source({}, {} keys)", files.join(", "), self.places.len())
    }
}

impl Source {
    /// Takes a file in; answers its number.
    pub(super) fn add_file(&mut self, path: &Path, text: &str) -> usize {
        self.files.push((path.to_owned(), text.to_owned()));
        self.files.len() - 1
    }

    /// Notes all keys of a file, as they stand below a path.
    pub(super) fn note(&mut self, file: usize, below: &[String], table: &DeTable<'_>) {
        self.places.entry(below.to_vec()).or_insert(Place { file, key: 0, value: 0 });
        self.note_table(file, &mut below.to_vec(), table);
    }

    fn note_table(&mut self, file: usize, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            self.note_value(file, path, (key.span().start, value.span().start), value.get_ref());
            path.pop();
        }
    }

    fn note_value(&mut self, file: usize, path: &mut Vec<String>, (key, start): (usize, usize), value: &DeValue<'_>) {
        let is_table = matches!(value, DeValue::Table(_));
        self.places.insert(path.clone(), Place { file, key, value: if is_table { key } else { start } });
        match value {
            DeValue::Table(table) => self.note_table(file, path, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    self.note_value(file, path, (item.span().start, item.span().start), item.get_ref());
                    path.pop();
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    /// Whether a file has this key.
    #[must_use]
    pub fn has<S: AsRef<str>>(&self, path: &[S]) -> bool {
        self.places.contains_key(&owned(path))
    }

    /// Where a key stands, as `file:line:column`.
    pub(super) fn place_of<S: AsRef<str>>(&self, path: &[S]) -> Option<String> {
        let place = self.places.get(&owned(path))?;
        let (line, column) = self.line_and_column(place.file, place.key);
        Some(format!("{}:{line}:{column}", self.files[place.file].0.display()))
    }

    /// An error at a key; at the nearest table above when no file has such a key.
    #[must_use]
    pub fn at_key<S: AsRef<str>>(&self, path: &[S], message: impl Into<String>) -> ConfigError {
        self.error(owned(path), |place| place.key, message.into())
    }

    /// An error at the value of a key; at the nearest table above when no file has such a key.
    #[must_use]
    pub fn at_value<S: AsRef<str>>(&self, path: &[S], message: impl Into<String>) -> ConfigError {
        self.error(owned(path), |place| place.value, message.into())
    }

    /// An error at a byte of a file.
    pub(super) fn at_byte<S: AsRef<str>>(
        &self,
        file: usize,
        offset: usize,
        path: &[S],
        message: String,
    ) -> ConfigError {
        let (line, column) = self.line_and_column(file, offset);
        let file_path = self.files.get(file).map(|(path, _)| path.clone()).unwrap_or_default();
        ConfigError {
            order: file,
            destination: destination_of(path),
            file: file_path,
            line,
            column,
            key: key_of(path),
            message,
        }
    }

    /// An error about a file as a whole.
    pub(super) fn at_file<S: AsRef<str>>(&self, file: usize, path: &[S], message: String) -> ConfigError {
        ConfigError { line: 0, column: 0, ..self.at_byte(file, 0, path, message) }
    }

    fn error(&self, path: Vec<String>, offset: fn(&Place) -> usize, message: String) -> ConfigError {
        let mut above = path.clone();
        let (file, offset) = loop {
            if let Some(place) = self.places.get(&above) {
                // Only the key itself has a value: for what is missing, the table above it is named.
                break (place.file, if above.len() == path.len() { offset(place) } else { place.key });
            }
            if above.pop().is_none() {
                break (0, 0);
            }
        };
        self.at_byte(file, offset, &path, message)
    }

    /// Line and column, both from 1, of a byte offset.
    fn line_and_column(&self, file: usize, offset: usize) -> (usize, usize) {
        let text = self.files.get(file).map_or("", |(_, text)| text.as_str());
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

fn destination_of<S: AsRef<str>>(path: &[S]) -> Option<String> {
    match path {
        [first, name, ..] if first.as_ref() == "destinations" => Some(name.as_ref().to_owned()),
        _ => None,
    }
}

fn key_of<S: AsRef<str>>(path: &[S]) -> String {
    path.iter().map(|part| quoted(part.as_ref())).collect::<Vec<_>>().join(".")
}

fn owned<S: AsRef<str>>(path: &[S]) -> Vec<String> {
    path.iter().map(|part| part.as_ref().to_owned()).collect()
}

fn quoted(part: &str) -> String {
    let is_bare = !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_bare { part.to_owned() } else { format!("{part:?}") }
}
