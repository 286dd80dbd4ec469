//! Sealing of personal columns: one key a person (one a day for raw bodies), kept in a file of its own that a backup leaves out.
//!
//! Erasing a person destroys their key. Look-ups go through keyed hashes (blind indices). A key is committed to the key file before
//! anything sealed with it is committed to the store, so no sealed column can outlive a crash without its key.

use std::collections::BTreeMap;
use std::path::Path;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::error::StoreError;
use crate::domain::chance::Entropy;
use crate::domain::digest::hex;
use crate::domain::ids::SubjectId;

diesel::table! { secret (scope) { scope -> Text, bytes -> Binary, } }

/// Keys kept in memory; more are read from the file when needed.
const KEYS_CACHED_MAX: usize = 10_000;

/// Opens and seals. Lives on the writer thread; readers have one of their own.
pub(crate) struct Sealer {
    file: SqliteConnection,
    keys: BTreeMap<String, [u8; 32]>,
    unsaved: Vec<(String, [u8; 32])>,
    blind: [u8; 32],
}

impl Sealer {
    /// Opens the key file; the first time, makes it.
    pub(crate) fn open(path: &Path, entropy: &dyn Entropy) -> Result<Self, StoreError> {
        let text = path.to_string_lossy().into_owned();
        let mut file = SqliteConnection::establish(&text)
            .map_err(|error| StoreError::Mismatch(format!("cannot open the key file {text}: {error}")))?;
        file.batch_execute(
            "pragma journal_mode = wal; pragma synchronous = full; pragma secure_delete = on; pragma busy_timeout = 5000;
             create table if not exists secret (scope text primary key not null, bytes blob not null) strict, without rowid;",
        )?;
        let mut sealer = Self { file, keys: BTreeMap::new(), unsaved: Vec::new(), blind: [0; 32] };
        sealer.blind = sealer.key("blind-index", entropy)?;
        sealer.save()?;
        Ok(sealer)
    }

    /// Opens the key file for reading, beside the daemon.
    pub(crate) fn read(path: &Path) -> Result<Self, StoreError> {
        let url = format!("file:{}?mode=ro", path.display());
        let file = SqliteConnection::establish(&url)
            .map_err(|error| StoreError::Mismatch(format!("cannot open the key file {}: {error}", path.display())))?;
        let mut sealer = Self { file, keys: BTreeMap::new(), unsaved: Vec::new(), blind: [0; 32] };
        sealer.blind = sealer
            .existing("blind-index")?
            .ok_or_else(|| StoreError::Mismatch(format!("{} is not a key file of learnsync", path.display())))?;
        Ok(sealer)
    }

    /// Commits the keys that were made since; must come before the store's own commit.
    pub(crate) fn save(&mut self) -> Result<(), StoreError> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.unsaved);
        let saved = self.file.immediate_transaction(|file| {
            for (scope, bytes) in &rows {
                diesel::insert_into(secret::table)
                    .values((secret::scope.eq(scope), secret::bytes.eq(bytes.as_slice())))
                    .on_conflict_do_nothing()
                    .execute(file)?;
            }
            Ok::<_, diesel::result::Error>(())
        });
        if saved.is_err() {
            // What was sealed with them is rolled back too, so nothing may remember them.
            for (scope, _) in &rows {
                self.keys.remove(scope);
            }
        }
        saved.map_err(StoreError::from)
    }

    /// Forgets keys that were made but not saved (the group was rolled back).
    pub(crate) fn forget_unsaved(&mut self) {
        for (scope, _) in std::mem::take(&mut self.unsaved) {
            self.keys.remove(&scope);
        }
    }

    /// Seals bytes under the key of a scope, making the key when it is new.
    pub(crate) fn seal(&mut self, scope: &str, plain: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, StoreError> {
        let key = self.key(scope, entropy)?;
        Ok(seal_under(&key, scope, plain, entropy))
    }

    /// Opens what was sealed under a scope.
    pub(crate) fn open_sealed(&mut self, scope: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let key = self.existing(scope)?.ok_or_else(|| StoreError::Unsealable(scope.to_owned()))?;
        open_under(&key, scope, sealed).ok_or_else(|| StoreError::Unsealable(scope.to_owned()))
    }

    /// Whether a scope has a key.
    pub(crate) fn has_key(&mut self, scope: &str) -> Result<bool, StoreError> {
        Ok(self.existing(scope)?.is_some())
    }

    /// A keyed hash: the same text gives the same index, and nobody without the key file can tell which text it was.
    pub(crate) fn blind(&self, purpose: &str, text: &[u8]) -> Vec<u8> {
        keyed_hash(&self.blind, purpose, text)
    }

    /// Destroys the key of a scope for good; a note of it stays, by which older copies of this file recognise it.
    pub(crate) fn destroy(&mut self, scope: &str) -> Result<(), StoreError> {
        self.keys.remove(scope);
        self.unsaved.retain(|(name, _)| name != scope);
        destroy(&mut self.file, scope)?;
        // The log holds the page of before until it is folded into the file.
        self.file.batch_execute("pragma wal_checkpoint(truncate)")?;
        Ok(())
    }

    fn key(&mut self, scope: &str, entropy: &dyn Entropy) -> Result<[u8; 32], StoreError> {
        if let Some(key) = self.existing(scope)? {
            return Ok(key);
        }
        let mut key = [0; 32];
        entropy.fill(&mut key);
        self.unsaved.push((scope.to_owned(), key));
        self.remember(scope, key);
        Ok(key)
    }

    fn existing(&mut self, scope: &str) -> Result<Option<[u8; 32]>, StoreError> {
        if let Some(key) = self.keys.get(scope) {
            return Ok(Some(*key));
        }
        if let Some((_, key)) = self.unsaved.iter().find(|(name, _)| name == scope) {
            return Ok(Some(*key));
        }
        let found: Option<Vec<u8>> =
            secret::table.filter(secret::scope.eq(scope)).select(secret::bytes).first(&mut self.file).optional()?;
        let Some(bytes) = found else { return Ok(None) };
        let key: [u8; 32] = bytes.try_into().map_err(|_| StoreError::Unsealable(scope.to_owned()))?;
        self.remember(scope, key);
        Ok(Some(key))
    }

    fn remember(&mut self, scope: &str, key: [u8; 32]) {
        if self.keys.len() >= KEYS_CACHED_MAX {
            self.keys.pop_first();
        }
        self.keys.insert(scope.to_owned(), key);
    }
}

/// A key that does not stand beside the store: derived from a secret of the configuration. What is sealed under it, too, is safe from whoever
/// has the store and its key file.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// Derives the key from the secret `store.token_key`.
    #[must_use]
    pub fn derive(secret: &str) -> Self {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(secret.as_bytes()).expect("a key of any length fits HMAC");
        mac.update(b"learnsync store.token_key 1");
        Self(mac.finalize().into_bytes().into())
    }

    pub(crate) fn seal(&self, scope: &str, plain: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        seal_under(&self.0, scope, plain, entropy)
    }

    pub(crate) fn open(&self, scope: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        open_under(&self.0, scope, sealed).ok_or_else(|| StoreError::Unsealable("store.token_key".to_owned()))
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("TokenKey(..)")
    }
}

/// `nonce || ciphertext`; the scope is bound to it.
fn seal_under(key: &[u8; 32], scope: &str, plain: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
    let mut nonce = [0; 24];
    entropy.fill(&mut nonce);
    let sealed = XChaCha20Poly1305::new(Key::from_slice(key))
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad: scope.as_bytes() })
        .expect("sealing cannot fail: the message is far below the cipher's limit");
    [nonce.as_slice(), &sealed].concat()
}

fn open_under(key: &[u8; 32], scope: &str, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_at_checked(24)?;
    XChaCha20Poly1305::new(Key::from_slice(key))
        .decrypt(XNonce::from_slice(nonce), Payload { msg: body, aad: scope.as_bytes() })
        .ok()
}

/// What stands before the digest of a key that was destroyed; the row's bytes are the scope.
const ERASED: &str = "erased/";

/// A key file at rest: what a restore works on.
pub(crate) struct KeyFile {
    file: SqliteConnection,
}

/// Where the key of a scope is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// In the file.
    There,
    /// Destroyed on purpose.
    Erased,
    /// Not in this file: it is too old.
    Missing,
}

impl KeyFile {
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut file = super::open::connect(path)?;
        file.batch_execute("pragma secure_delete = on; pragma busy_timeout = 5000;")?;
        Ok(Self { file })
    }

    /// Destroys every key that was destroyed in another file. By the key, not by its scope: after an earlier restore the same number may be
    /// somebody else.
    pub(crate) fn heed_erasures_of(&mut self, other: &mut Self) -> Result<(), StoreError> {
        let notes: Vec<String> =
            secret::table.filter(secret::scope.like("erased/%")).select(secret::scope).load(&mut other.file)?;
        let own: Vec<(String, Vec<u8>)> =
            secret::table.filter(secret::scope.not_like("erased/%")).load(&mut self.file)?;
        for (scope, bytes) in own {
            if notes.contains(&note_of(&bytes)) {
                destroy(&mut self.file, &scope)?;
            }
        }
        Ok(())
    }

    pub(crate) fn fate_of(&mut self, scope: &str) -> Result<Fate, StoreError> {
        let found: Option<String> = secret::table.find(scope).select(secret::scope).first(&mut self.file).optional()?;
        if found.is_some() {
            return Ok(Fate::There);
        }
        let notes = secret::table.filter(secret::scope.like("erased/%")).filter(secret::bytes.eq(scope.as_bytes()));
        let erased: i64 = notes.count().get_result(&mut self.file)?;
        Ok(if erased > 0 { Fate::Erased } else { Fate::Missing })
    }
}

fn destroy(file: &mut SqliteConnection, scope: &str) -> Result<(), StoreError> {
    file.immediate_transaction(|file| {
        let found: Option<Vec<u8>> = secret::table.find(scope).select(secret::bytes).first(file).optional()?;
        let Some(bytes) = found else { return Ok(()) };
        diesel::delete(secret::table.find(scope)).execute(file)?;
        diesel::insert_into(secret::table)
            .values((secret::scope.eq(note_of(&bytes)), secret::bytes.eq(scope.as_bytes())))
            .on_conflict_do_nothing()
            .execute(file)?;
        Ok::<_, diesel::result::Error>(())
    })?;
    Ok(())
}

/// The note that a destroyed key leaves: a digest, from which nobody gets the key.
fn note_of(key: &[u8]) -> String {
    let digest = Sha256::digest([b"learnsync destroyed key".as_slice(), key].concat());
    format!("{ERASED}{}", hex(&digest))
}

/// The scope under which a person's columns are sealed.
pub(crate) fn person_scope(subject: SubjectId) -> String {
    format!("person/{subject}")
}

/// The keyed digest over a plan file.
pub(crate) fn keyed_plan(sealer: &Sealer, digest: &[u8]) -> Vec<u8> {
    sealer.blind("plan file", digest)
}

/// HMAC-SHA-256 under a key, with the purpose mixed in.
pub(crate) fn keyed_hash(key: &[u8; 32], purpose: &str, text: &[u8]) -> Vec<u8> {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("a key of any length fits HMAC");
    mac.update(purpose.as_bytes());
    mac.update(&[0]);
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}
