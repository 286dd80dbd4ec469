//! Webhooks: the raw request as received, and what could be read from it.

use std::collections::BTreeMap;

use learnsync_sdk::RecordKind;

/// One webhook request as received, raw; what the inbox keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// The portal whose secret URL was called.
    pub portal: String,
    /// `POST` or `PUT`.
    pub method: String,
    /// The `Content-Type` header as sent; empty when there was none.
    pub content_type: String,
    /// The body after content decoding (gzip), at most `listen.body_bytes_max`.
    pub body: Vec<u8>,
}

/// The events that we understand; all others are kept as `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventName {
    /// Enrollment Completed by Learner, or by Admin.
    EnrollmentCompleted,
    /// Certificate Awarded.
    CertificateAwarded,
    /// Competency Awarded.
    CompetencyAwarded,
    /// Another event of Absorb's list; carries its folded name. It makes us re-read its learner, if it names one.
    Other(String),
    /// The Test Webhook button, or an empty body.
    Test,
    /// A name that is not on the list, as sent.
    Unknown(String),
}

impl EventName {
    /// The record kind that the event promises to exist.
    #[must_use]
    pub fn promises(&self) -> Option<RecordKind> {
        match self {
            Self::EnrollmentCompleted => Some(RecordKind::Completion),
            Self::CertificateAwarded => Some(RecordKind::Certificate),
            Self::CompetencyAwarded => Some(RecordKind::Competency),
            Self::Other(_) | Self::Test | Self::Unknown(_) => None,
        }
    }

    /// The word for reports and metrics.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::EnrollmentCompleted => "enrollment_completed",
            Self::CertificateAwarded => "certificate_awarded",
            Self::CompetencyAwarded => "competency_awarded",
            Self::Other(name) | Self::Unknown(name) => name,
            Self::Test => "test",
        }
    }
}

/// What was read from one event; a body may hold several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Which event.
    pub name: EventName,
    /// The learner's LMS id in lower case; none when the body names no user or the value is not a GUID.
    pub user_id: Option<String>,
    /// All ids that the body carries, by folded key (`userid`, `clientid`, `correlationid`, `courseid` ...).
    pub ids: BTreeMap<String, String>,
    /// What is odd about it, in words; none when all is as expected.
    pub oddity: Option<String>,
}
