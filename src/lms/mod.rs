//! The learning management system that we read from.

pub mod absorb;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use learnsync_sdk::{Learner, RecordKind, RetryAfter};

use crate::domain::lane::Lane;
pub use crate::domain::record::ReadRecords;
use crate::domain::record::Record;
use crate::domain::subject::SubjectKind;
use crate::domain::time::{LmsTime, Timestamp};

/// All that the pipeline asks of an LMS. Every answer is a complete read or an error: a partial read is never an answer.
#[async_trait]
pub trait Lms: Send + Sync {
    /// One learner's profile; `None` when the LMS answers 404.
    async fn learner(&self, id: &str) -> Result<Option<Profile>, LmsError>;

    /// All records of a learner, each kind read to its end.
    async fn records(&self, learner_id: &str) -> Result<ReadRecords, LmsError>;

    /// A list of what the portal offers, read to its end. A list that the portal does not have, or that we may not see, is not complete, and
    /// then nothing is concluded from it.
    async fn list(&self, kind: SubjectKind) -> Result<ReadRecords, LmsError>;

    /// One page of the learners that we may see, sorted by id; for the sweep.
    async fn learner_ids(&self, page: u32) -> Result<LearnerPage, LmsError>;

    /// How many departments our role sees, where the LMS says: fewer than before, and it sees less of everything.
    async fn departments(&self) -> Result<Option<u64>, LmsError> {
        Ok(None)
    }

    /// Whole lists at once, where the LMS has them.
    fn bulk(&self) -> Option<&dyn Bulk> {
        None
    }

    /// One cheap authenticated read that also finds out which record kinds exist.
    async fn probe(&self) -> Result<Probe, LmsError>;

    /// The same LMS, asked in another lane; none where no budget is shared.
    fn in_lane(&self, _lane: Lane) -> Option<Arc<dyn Lms>> {
        None
    }
}

/// Whole lists at once, for the backfill and the sweep: far fewer calls than learner by learner. What a row is made to must depend on nothing
/// but the row: the sweep takes a row that is made otherwise for one that changed.
#[async_trait]
pub trait Bulk: Send + Sync {
    /// What there is to read.
    async fn plan(&self) -> Result<BulkPlan, LmsError>;

    /// A page of all learners; all lists come in the order of ids, if the LMS can sort them.
    async fn learners(&self, page: u32) -> Result<BulkPage, LmsError>;

    /// A page of the enrolments of a course; those that are no facts are left out.
    async fn enrolments(&self, course: &str, page: u32) -> Result<BulkPage, LmsError>;

    /// What no list has of a learner, read now and put together with what was staged, the profile first; none if the profile is not among it.
    /// `kinds` are those of the plan.
    async fn rest_of(
        &self,
        id: &str,
        staged: &[Vec<u8>],
        kinds: &BTreeSet<RecordKind>,
    ) -> Result<Option<(Profile, ReadRecords)>, LmsError>;
}

/// What there is to read in whole lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BulkPlan {
    /// The courses, in the order of their ids.
    pub courses: Vec<String>,
    /// The kinds whose end points answer; the others are not asked for of each learner.
    pub kinds: BTreeSet<RecordKind>,
}

/// One page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BulkPage {
    /// The rows that are facts, or learners.
    pub rows: Vec<BulkRow>,
    /// How many rows the list has in all, if the LMS says.
    pub total: Option<u64>,
    /// Whether there is another page.
    pub more: bool,
    /// Whether as many rows came as belong on this page; if not, nothing is proved by what it does not show.
    pub is_whole: bool,
}

/// One row of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct BulkRow {
    /// Whose it is.
    pub learner_id: String,
    /// Its id; empty for the profile.
    pub row_id: String,
    /// When it was achieved.
    pub achieved: Option<LmsTime>,
    /// What the client makes of it, for `rest_of`.
    pub row: Vec<u8>,
}

/// A learner as the LMS knows them.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Who they are.
    pub learner: Learner,
    /// The same as a record, if somebody wants people as records.
    pub person: Option<Record>,
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
