//! Webhooks as the fake LMS sends them, and as a forger does.

use learnsync::domain::event::RawEvent;
use learnsync_sdk::RecordKind;
use serde_json::json;

/// One webhook on its way.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Whose fact it announces; none for a forged one.
    pub learner: Option<String>,
    /// Whether it carries an id by which the LMS's own repeats are recognised.
    pub is_correlated: bool,
    /// The body.
    pub body: String,
}

impl Hook {
    /// What Absorb sends when a learner has a new fact. Some portals send a correlation id, others do not.
    #[must_use]
    pub fn of_fact(learner: &str, kind: RecordKind, correlation: Option<u64>) -> Self {
        let name = match kind {
            RecordKind::Completion => "Enrollment Completed by Learner",
            RecordKind::Certificate => "Certificate Awarded",
            _ => "Competency Awarded",
        };
        let mut body =
            json!({"eventName": name, "userId": learner, "clientId": "c0ffee00-0000-4000-8000-000000000000"});
        if let Some(correlation) = correlation {
            body["correlationId"] = format!("00000000-0000-4000-8000-{correlation:012x}").into();
        }
        Self { learner: Some(learner.to_owned()), is_correlated: correlation.is_some(), body: body.to_string() }
    }

    /// What the LMS did not send.
    #[must_use]
    pub fn forged(victim: &str, pick: u64) -> Self {
        let body = match pick % 5 {
            0 => json!({"eventName": "Certificate Awarded", "userId": victim}).to_string(),
            1 => json!({"eventName": "Certificate Awarded", "userId": format!("deadbeef-0000-4000-8000-{pick:012x}")})
                .to_string(),
            2 => json!({"eventName": "Test"}).to_string(),
            3 => json!({"eventName": "Course Bundle Deleted", "courseId": "1"}).to_string(),
            _ => "<not even json".to_owned(),
        };
        Self { learner: None, is_correlated: false, body }
    }

    /// As the receiver keeps it.
    #[must_use]
    pub fn raw(&self) -> RawEvent {
        RawEvent {
            portal: crate::life::PORTAL.to_owned(),
            method: "POST".to_owned(),
            content_type: "application/json".to_owned(),
            body: self.body.clone().into_bytes(),
        }
    }
}
