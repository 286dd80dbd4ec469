//! The digest of fields, and digests as text: lower-case hexadecimal, two letters a byte.

use learnsync_sdk::Fields;
use sha2::{Digest, Sha256};

/// SHA-256 over fields as JSON: whether a place holds them is told by it.
///
/// # Panics
/// Never: fields are plain data.
#[must_use]
pub fn digest_of(fields: &Fields) -> Vec<u8> {
    Sha256::digest(serde_json::to_vec(fields).expect("fields are plain data")).to_vec()
}

/// Bytes as text.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of such a text; none for any other.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
