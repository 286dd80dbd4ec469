//! Where each key of the configuration file stands, and errors that say so.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// One thing that is wrong with the configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
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

/// All that is wrong, in the order of the file; one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// `Ok` when there is nothing wrong.
    ///
    /// # Errors
    /// Those that were collected, sorted by place.
    pub fn into_result(mut self) -> Result<(), Self> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by_key(|error| (error.line, error.column));
        Err(self)
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

/// The text of a configuration file with the place of every key and value.
#[derive(Clone)]
pub struct Source {
    file: PathBuf,
    text: String,
    places: BTreeMap<Vec<String>, Place>,
}

/// Byte offsets of a key and of its value. A table has no value of its own: both are its key.
#[derive(Clone, Copy)]
struct Place {
    key: usize,
    value: usize,
}

// The text may hold a secret that somebody wrote into the file by mistake.
impl fmt::Debug for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Source({}, {} keys)", self.file.display(), self.places.len())
    }
}

impl Source {
    pub(super) fn new(file: &Path, text: &str, tree: &DeTable<'_>) -> Self {
        let mut source = Self { file: file.to_owned(), text: text.to_owned(), places: BTreeMap::new() };
        source.note_table(&mut Vec::new(), tree);
        source
    }

    fn note_table(&mut self, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            self.note_value(path, key.span().start, value.span().start, value.get_ref());
            path.pop();
        }
    }

    fn note_value(&mut self, path: &mut Vec<String>, key: usize, start: usize, value: &DeValue<'_>) {
        let is_table = matches!(value, DeValue::Table(_));
        self.places.insert(path.clone(), Place { key, value: if is_table { key } else { start } });
        match value {
            DeValue::Table(table) => self.note_table(path, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    self.note_value(path, item.span().start, item.span().start, item.get_ref());
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

    /// The file, as it was named.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Whether the file has this key.
    #[must_use]
    pub fn has<S: AsRef<str>>(&self, path: &[S]) -> bool {
        self.places.contains_key(&owned(path))
    }

    /// An error at a key; at the nearest table above when the file has no such key.
    #[must_use]
    pub fn at_key<S: AsRef<str>>(&self, path: &[S], message: impl Into<String>) -> ConfigError {
        self.error(owned(path), |place| place.key, message.into())
    }

    /// An error at the value of a key; at the nearest table above when the file has no such key.
    #[must_use]
    pub fn at_value<S: AsRef<str>>(&self, path: &[S], message: impl Into<String>) -> ConfigError {
        self.error(owned(path), |place| place.value, message.into())
    }

    fn error(&self, path: Vec<String>, offset: fn(&Place) -> usize, message: String) -> ConfigError {
        let key = path.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(".");
        let mut above = path;
        let offset = loop {
            if let Some(place) = self.places.get(&above) {
                break offset(place);
            }
            if above.pop().is_none() {
                break 0;
            }
        };
        let (line, column) = self.line_and_column(offset);
        ConfigError { file: self.file.clone(), line, column, key, message }
    }

    /// Line and column, both from 1, of a byte offset.
    pub(super) fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

fn owned<S: AsRef<str>>(path: &[S]) -> Vec<String> {
    path.iter().map(|part| part.as_ref().to_owned()).collect()
}

fn quoted(part: &str) -> String {
    let is_bare = !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_bare { part.to_owned() } else { format!("{part:?}") }
}
