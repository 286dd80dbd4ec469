//! What can go wrong with the store.

/// Why a use case was not done. Nothing of it was kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space is left, or a size limit is reached.
    #[error("the store is full: {0}")]
    Full(String),
    /// Another process has it.
    #[error("the store {path} is in use by the process {pid}; stop it first, or give this one another store.path")]
    Locked {
        /// The store's folder.
        path: String,
        /// The holder.
        pid: String,
    },
    /// Made by a newer learnsync.
    #[error(
        "the store is at migration {found}, this learnsync knows {known}: run the newer version, or restore an older backup"
    )]
    Newer {
        /// The newest migration in the store.
        found: String,
        /// The newest migration in this program.
        known: String,
    },
    /// The store and the key file, or the configuration, do not belong together.
    #[error("{0}")]
    Mismatch(String),
    /// A sealed column cannot be opened: its key was destroyed.
    #[error("the key of {0} is gone: erased, or a key file of another store")]
    Unsealable(String),
    /// SQLite says so.
    #[error("the store failed: {0}")]
    Database(diesel::result::Error),
    /// A file operation failed.
    #[error("cannot use {path}: {error}")]
    File {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The writer has stopped.
    #[error("the store is closed")]
    Closed,
}

impl From<diesel::result::Error> for StoreError {
    fn from(error: diesel::result::Error) -> Self {
        let words = error.to_string();
        if words.contains("database or disk is full")
            || words.contains("disk I/O error")
            || words.contains("file too large")
        {
            return Self::Full(words);
        }
        Self::Database(error)
    }
}
