//! The trace of a run: every commit, call and fault on a line of its own, hashed, so that two runs of a seed can be compared.

use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

/// How many of the newest lines are kept when nobody asked for all.
const TAIL_MAX: usize = 60;

/// Collects lines.
pub struct Trace(Mutex<Kept>);

struct Kept {
    hash: Sha256,
    count: usize,
    lines: Vec<String>,
    keeps_all: bool,
}

impl Trace {
    /// An empty trace; keeps all lines, or only the newest.
    #[must_use]
    pub fn new(keeps_all: bool) -> Self {
        Self(Mutex::new(Kept { hash: Sha256::new(), count: 0, lines: Vec::new(), keeps_all }))
    }

    /// Adds a line.
    pub fn line(&self, at_ms: i64, text: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{at_ms} {text}");
        kept.hash.update(line.as_bytes());
        kept.hash.update(b"\n");
        kept.count += 1;
        if !kept.keeps_all && kept.lines.len() >= 2 * TAIL_MAX {
            kept.lines.drain(..TAIL_MAX);
        }
        kept.lines.push(line);
    }

    /// The hash over all lines so far, and how many there are.
    #[must_use]
    pub fn digest(&self) -> (String, usize) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = kept.hash.clone().finalize();
        (hash[..8].iter().map(|byte| format!("{byte:02x}")).collect(), kept.count)
    }

    /// The lines that were kept.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }
}
