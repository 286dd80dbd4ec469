//! The manifest beside each file: what the file holds, for whoever takes it, and for us when we read it back.

use std::io::{self, Read, Write};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::dialect::Dialect;
use crate::settings::Mode;

/// What a file holds. Whoever finds one finds the whole file, with these bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The file's name, without a folder.
    pub(crate) file: String,
    pub(crate) object: String,
    pub(crate) mode: Mode,
    pub(crate) installation: String,
    /// When it was written, in UTC, to the millisecond. In one folder it only grows, whatever the clock does.
    pub(crate) written_at: DateTime<Utc>,
    /// How many rows it has, the header not counted.
    pub(crate) rows: u64,
    #[serde(flatten)]
    pub(crate) seal: Seal,
    /// All columns of a CSV file, in their order; the usual ones of JSON lines.
    pub(crate) columns: Vec<String>,
    pub(crate) dialect: Dialect,
}

/// By what a file is known to be the one that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal {
    pub(crate) bytes: u64,
    /// In hexadecimal letters.
    pub(crate) sha256: String,
}

/// The name of a file's manifest.
pub(crate) fn manifest_name(file: &str) -> String {
    format!("{file}.manifest.json")
}

/// A digest in hexadecimal letters.
pub(crate) fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Passes bytes on, and seals what passed.
pub(crate) struct Sealing<T> {
    inner: T,
    bytes: u64,
    digest: Sha256,
}

impl<T> Sealing<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, bytes: 0, digest: Sha256::new() }
    }

    pub(crate) fn end(self) -> (T, Seal) {
        (self.inner, Seal { bytes: self.bytes, sha256: hexadecimal(&self.digest.finalize()) })
    }

    fn passed(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.digest.update(bytes);
    }
}

impl<T: Read> Read for Sealing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.passed(&buffer[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Sealing<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.passed(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
