//! Randomness that is handed in.

use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// A source of randomness. Handed in everywhere, so that a seed replays a run.
pub trait Entropy: Send + Sync {
    /// Fills the bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// A number in `0..bound`; 0 when the bound is 0.
    fn below(&self, bound: u64) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        // The bias of the remainder is below 2^-40 for every bound that we use (jitter in milliseconds).
        if bound == 0 { 0 } else { u64::from_le_bytes(bytes) % bound }
    }
}

/// A generator behind a lock: seeded by the operating system, or by a test.
pub struct Generator(Mutex<StdRng>);

impl Generator {
    /// Seeded by the operating system; fit for keys.
    #[must_use]
    pub fn from_os() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the seam that all others call")]
        Self(Mutex::new(StdRng::from_os_rng()))
    }

    /// Seeded by a number: the same seed gives the same run.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Entropy for Generator {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}
