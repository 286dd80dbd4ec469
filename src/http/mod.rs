//! The webhook receiver: a small HTTP/1 server that keeps each webhook in the inbox before it answers.
//!
//! `server` accepts connections, `stream` watches one of them, `router` finds the portal by its secret path, `webhook` takes the request,
//! `body` reads it, `limits` bounds it, `rejection` says no, `admin` is a listener of its own for health and
//! metrics.

mod admin;
mod answer;
mod body;
mod limits;
mod rejection;
mod router;
mod server;
mod stream;
mod webhook;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::domain::event::RawEvent;
use crate::domain::time::Clock;
pub use admin::{AdminListener, Health, QUESTION_TIME_MAX, QUESTIONS_MAX, Trouble};
pub use limits::HttpLimits;
use limits::{Bucket, REFUSALS_MAX};
use router::Doors;

/// A portal whose webhooks are received at `/hooks/<name>/<token>`.
#[derive(Clone)]
pub struct HookPortal {
    /// The portal's name in the configuration.
    pub name: String,
    /// The secret last part of the URL. A portal with an empty token cannot be reached.
    pub token: String,
}

impl fmt::Debug for HookPortal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("HookPortal").field("name", &self.name).field("token", &"[redacted]").finish()
    }
}

/// Where received webhooks are kept.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Appends one event; returns its number after the commit, so that what was acknowledged cannot be lost.
    ///
    /// # Errors
    /// When nothing was kept: the sender is asked to come back.
    async fn append_event(&self, event: RawEvent) -> Result<i64, InboxError>;
}

/// Why a webhook was not kept. The words go to our log, never to the sender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// The disk or a size limit is full: answered 503 with `Retry-After: 60`.
    #[error("the inbox is full: {0}")]
    Full(String),
    /// The store cannot take it now: answered 503 with `Retry-After: 5`.
    #[error("the inbox is unavailable: {0}")]
    Unavailable(String),
}

/// What an event looks like at first sight; only words the answer, never decides what is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recognised {
    /// Whether it is the LMS's Test Webhook button.
    pub is_test: bool,
    /// What was recognised, for example `Certificate Awarded for one learner`; shown to the administrator who pressed the button.
    pub words: String,
}

/// Says what an event looks like.
pub type Recognise = Arc<dyn Fn(&RawEvent) -> Recognised + Send + Sync>;
/// Counts a refused request by the portal's name and a word.
pub type CountRefusal = Arc<dyn Fn(&str, &'static str) + Send + Sync>;

/// The webhook receiver. `serve` runs it.
pub struct Receiver {
    limits: HttpLimits,
    doors: Doors,
    inbox: Arc<dyn Inbox>,
    recognise: Recognise,
    refused: CountRefusal,
    hooks: Bucket,
    connections: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

impl Receiver {
    /// A receiver for these portals. Keeps only digests of the tokens.
    #[must_use]
    pub fn new(
        limits: HttpLimits,
        portals: Vec<HookPortal>,
        inbox: Arc<dyn Inbox>,
        recognise: Recognise,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            doors: Doors::new(portals),
            inbox,
            recognise,
            refused: Arc::new(|_, _| {}),
            hooks: Bucket::new(limits.hooks_per_second_max, limits.hooks_burst_max, clock),
            connections: Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS))),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            limits,
        }
    }

    /// Counts refused requests with this; without it nobody does.
    #[must_use]
    pub fn counting(mut self, refused: CountRefusal) -> Self {
        self.refused = refused;
        self
    }
}
