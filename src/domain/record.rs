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
    /// The learner's LMS id; empty for what is nobody's, such as a course.
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
    /// The external id that the customer gave a person, department or course.
    #[serde(default)]
    pub external_id: Option<String>,
    /// How it stands today: a certificate by the calendar, a person or a course by the LMS.
    #[serde(default)]
    pub standing: Option<Standing>,
    /// The LMS id of the administrator who recorded it, as a webhook said: the API does not tell.
    #[serde(default)]
    pub by: Option<String>,
    /// The session that was attended.
    #[serde(default)]
    pub session: Option<Session>,
    /// The LMS id of a person's department, or of the department that a department belongs to.
    #[serde(default)]
    pub department: Option<String>,
    /// What sort of course: `OnlineCourse`, `InstructorLedCourse`, `Curriculum` or `CourseBundle`, in the LMS's word.
    #[serde(default)]
    pub category: Option<String>,
    /// How many members a group has.
    #[serde(default)]
    pub members: Option<u64>,
    /// Known from a webhook alone, because the LMS has no API to read it back. All others were read.
    #[serde(default)]
    pub is_as_seen: bool,
}

/// How a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// A certificate that is valid, and will be for a while.
    Valid,
    /// A certificate that is valid, but not for long.
    Expiring,
    /// A certificate whose last day has passed.
    Expired,
    /// A certificate that a later one of the same course has taken the place of.
    Renewed,
    /// A person or a course that is active.
    Active,
    /// A person or a course that is not.
    Inactive,
}

impl Standing {
    /// The word for mappings and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Renewed => "renewed",
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }
}

/// A session of an instructor-led course, as far as records need it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The LMS's id.
    pub id: String,
    /// Its name.
    pub name: String,
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
    /// A record that has nothing but its identity.
    #[must_use]
    pub fn new(kind: RecordKind, id: impl Into<String>, learner_id: impl Into<String>) -> Self {
        Self {
            kind,
            id: id.into(),
            learner_id: learner_id.into(),
            title: String::new(),
            achieved: None,
            valid_until: None,
            course: None,
            score: None,
            credits: None,
            minutes: None,
            notes: None,
            external_id: None,
            standing: None,
            by: None,
            session: None,
            department: None,
            category: None,
            members: None,
            is_as_seen: false,
        }
    }

    /// The record's stable key, for example `completion/5b0c...`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.kind, self.id)
    }
}

/// What one pass over a learner, or over a part of the catalogue, found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadRecords {
    /// The facts, completed ones only.
    pub records: Vec<Record>,
    /// The kinds that were read to their end. A kind whose feature is off in the portal is missing here, and then nothing is
    /// concluded from the absence of its records.
    pub complete: BTreeSet<RecordKind>,
}
