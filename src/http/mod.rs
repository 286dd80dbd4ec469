//! The receiver: webhooks come in, and each is answered only when it is on disk, refused, or timed out.

mod body;
mod head;
mod limits;
mod server;
mod webhook;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::domain::event::RawEvent;
use crate::domain::time::Clock;
pub use limits::HttpLimits;
use limits::Rate;

/// Where webhooks are kept.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Keeps one webhook; returns its number only when it is on disk.
    ///
    /// # Errors
    /// Nothing was kept.
    async fn append_event(&self, event: RawEvent) -> Result<i64, InboxError>;
}

/// Why a webhook could not be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// No space is left.
    #[error("the store is full: {0}")]
    Full(String),
    /// It will work again soon, or somebody must look.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
}

/// A portal and the secret of its webhook URL.
#[derive(Clone)]
pub struct HookPortal {
    /// The portal's name: the path's second part.
    pub name: String,
    /// The secret: the path's third part.
    pub token: String,
}

impl std::fmt::Debug for HookPortal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("HookPortal").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What was recognised in a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// Somebody pressed the Test button.
    pub is_test: bool,
    /// What it was, for the administrator.
    pub words: String,
}

/// Recognises a webhook.
pub type Recognise = Arc<dyn Fn(&RawEvent) -> Recognised + Send + Sync>;

/// Receives webhooks.
pub struct Receiver {
    limits: HttpLimits,
    doors: Vec<Door>,
    inbox: Arc<dyn Inbox>,
    recognise: Recognise,
    clock: Arc<dyn Clock>,
    rate: Mutex<Rate>,
}

/// A portal's name and the digest of its secret: digests are all of one length, so comparing tells nothing of the secret.
struct Door {
    portal: String,
    name_digest: [u8; 32],
    token_digest: [u8; 32],
}

impl Receiver {
    /// A receiver for these portals.
    #[must_use]
    pub fn new(
        limits: HttpLimits,
        portals: Vec<HookPortal>,
        inbox: Arc<dyn Inbox>,
        recognise: Recognise,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let doors = portals
            .into_iter()
            .map(|portal| Door {
                name_digest: Sha256::digest(&portal.name).into(),
                token_digest: Sha256::digest(&portal.token).into(),
                portal: portal.name,
            })
            .collect();
        let rate = Mutex::new(Rate::full(&limits, clock.now()));
        Self { limits, doors, inbox, recognise, clock, rate }
    }
}

#[cfg(test)]
mod tests;
