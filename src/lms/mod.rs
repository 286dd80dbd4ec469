//! The learning management system that we read from.

pub mod absorb;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use learnsync_sdk::{Learner, RecordKind, RetryAfter};

use crate::domain::lane::Lane;
pub use crate::domain::record::ReadRecords;
use crate::domain::time::Timestamp;

/// All that the pipeline asks of an LMS. Every answer is a complete read or an error: a partial read is never an answer.
#[async_trait]
pub trait Lms: Send + Sync {
    /// One learner's profile; `None` when the LMS answers 404.
    async fn learner(&self, id: &str) -> Result<Option<Learner>, LmsError>;

    /// All records of a learner, each kind read to its end.
    async fn records(&self, learner_id: &str) -> Result<ReadRecords, LmsError>;

    /// One page of the learners that we may see, sorted by id; for the sweep.
    async fn learner_ids(&self, page: u32) -> Result<LearnerPage, LmsError>;

    /// One cheap authenticated read that also finds out which record kinds exist.
    async fn probe(&self) -> Result<Probe, LmsError>;

    /// The same LMS, asked in another lane; none where no budget is shared.
    fn in_lane(&self, _lane: Lane) -> Option<Arc<dyn Lms>> {
        None
    }
}

/// One page of learner ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LearnerPage {
    /// The ids on this page.
    pub ids: Vec<String>,
    /// How many there are in all, as the LMS says.
    pub total: u64,
    /// Whether there is another page.
    pub more: bool,
}

/// What a probe found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// How many learners the credentials can see.
    pub learners: u64,
    /// Record kinds whose end point answers.
    pub available: BTreeSet<RecordKind>,
    /// Record kinds whose end point is absent or forbidden, with the status it gave.
    pub absent: Vec<(RecordKind, u16)>,
}

/// Why the LMS could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LmsError {
    /// Down, slow, or an answer that breaks off: try again.
    #[error("the LMS is unavailable: {0}")]
    Unavailable(String),
    /// It asks for a pause.
    #[error("the LMS asks us to wait")]
    Throttled(RetryAfter),
    /// Credentials refused, also after a new login.
    #[error("the LMS refuses our credentials: {0}")]
    Unauthorized(String),
    /// A person must log in by OAuth again: the refresh token ended, was revoked, or there never was one.
    #[error("{0}")]
    LoginNeeded(String),
    /// Our own limit of logins is reached; another program probably uses the same account.
    #[error("{0}")]
    LoginLimit(String),
    /// The account may not read this.
    #[error("the LMS forbids {0}")]
    Forbidden(String),
    /// It refuses the request as invalid (400, 422), or its answer has an unexpected shape: a bug of ours or a change of theirs.
    #[error("the LMS and we do not understand each other: {0}")]
    Misunderstood(String),
    /// A list ended before all its rows were read, or changed so much that it cannot be trusted.
    #[error("partial read: {0}")]
    PartialRead(String),
}

/// The wait after a 429 without a `Retry-After`, in milliseconds.
pub const UNSAID_MS: i64 = 60_000;

/// Until when somebody asks to be left alone; both forms of `Retry-After` are kept to in full.
#[must_use]
pub fn asked_until(after: &RetryAfter, now: Timestamp) -> Timestamp {
    match after {
        RetryAfter::Unsaid => now.plus_ms(UNSAID_MS),
        RetryAfter::For(duration) => now.plus(*duration),
        RetryAfter::Until(instant) => Timestamp::from(*instant).max(now),
    }
}
