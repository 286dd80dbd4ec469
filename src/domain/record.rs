//! Records: facts as the LMS holds them now.

use std::collections::BTreeSet;

use learnsync_sdk::RecordKind;
use serde::{Deserialize, Serialize};

use super::time::LmsTime;

/// One fact as the LMS holds it now, with the course it belongs to.
///
/// The same shape serves all kinds; what a kind does not have is `None`. Stored sealed, as JSON; a field added later reads as `None`
/// from older rows (see `fingerprint`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Which kind of fact.
    pub kind: RecordKind,
    /// The LMS's id of the fact: enrolment id, certificate id, competency id.
    pub id: String,
    /// The learner's LMS id.
    pub learner_id: String,
    /// The name of the certificate or competency; of the course for a completion.
    pub title: String,
    /// When it was completed, acquired or awarded.
    pub achieved: Option<LmsTime>,
    /// Until when it is valid; none when it does not expire.
    pub valid_until: Option<LmsTime>,
    /// The course, when the LMS tells or the enrolment does.
    pub course: Option<Course>,
    /// Score in percent.
    pub score: Option<f64>,
    /// Credits awarded.
    pub credits: Option<f64>,
    /// Time spent, in minutes.
    pub minutes: Option<f64>,
    /// Free text that the LMS holds with it, for example a certificate's notes.
    pub notes: Option<String>,
}

/// A course, as far as records need it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// The LMS's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its external id, when the customer set one.
    pub external_id: Option<String>,
}

impl Record {
    /// The record's stable key, for example `completion/5b0c...`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.kind, self.id)
    }
}

/// What one pass over a learner found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LearnerRecords {
    /// The facts, completed ones only.
    pub records: Vec<Record>,
    /// The kinds that were read to their end. A kind whose feature is off in the portal is missing here, and then nothing is
    /// concluded from the absence of its records.
    pub complete: BTreeSet<RecordKind>,
}
