//! From Absorb's rows to learners and records. Fields that are missing, null or of another type than usual are no reason to fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use learnsync_sdk::{Learner, RecordKind};
use serde_json::Value;
use tokio::sync::OnceCell;

use super::client::Client;
use super::{dates, segment};
use crate::domain::record::{Course, Record};
use crate::domain::time::{Clock, Timestamp};
use crate::lms::LmsError;

/// How long a course is kept, in milliseconds; its name seldom changes.
const COURSE_MS: i64 = 3_600_000;

/// Most courses that are kept.
const COURSES_MAX: usize = 10_000;

/// The status of a completed enrolment, as a number and as a name.
const COMPLETE: [&str; 2] = ["3", "complete"];

/// A scalar under one of several names, as text; none when it is missing, null or blank.
pub(super) fn text(row: &Value, names: &[&str]) -> Option<String> {
    let value = names.iter().find_map(|name| row.get(*name).filter(|value| !value.is_null()))?;
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        // Numbers in custom fields come as 8675309.0.
        Value::Number(number) => number.to_string().trim_end_matches(".0").to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn number(row: &Value, names: &[&str]) -> Option<f64> {
    text(row, names)?.parse().ok()
}

/// A user of the API.
pub(super) fn learner(id: &str, user: &Value) -> Learner {
    let custom = user.get("customFields").and_then(Value::as_object);
    let custom: BTreeMap<String, String> = custom
        .into_iter()
        .flatten()
        .filter_map(|(name, _)| Some((name.clone(), text(user.get("customFields")?, &[name])?)))
        .collect();
    // 0 is active, 1 inactive: https://docs.myabsorb.com, users.
    let status = text(user, &["activeStatus", "ActiveStatus"]).map(|status| status.to_lowercase());
    Learner {
        id: id.to_owned(),
        external_id: text(user, &["externalId", "ExternalId"]),
        employee_number: text(user, &["employeeNumber", "EmployeeNumber"]),
        email: text(user, &["emailAddress", "EmailAddress"]),
        username: text(user, &["username", "Username"]),
        first_name: text(user, &["firstName", "FirstName"]),
        last_name: text(user, &["lastName", "LastName"]),
        is_active: !matches!(status.as_deref(), Some("1" | "inactive")),
        custom,
    }
}

/// The rows of one learner.
pub(super) struct OfLearner<'a> {
    pub(super) id: &'a str,
    pub(super) enrollments: &'a [Value],
}

impl OfLearner<'_> {
    /// The completion that an enrolment is; none when it is not complete.
    pub(super) async fn completion(
        &self,
        row: &Value,
        courses: &Courses,
        client: &Client,
    ) -> Result<Option<Record>, LmsError> {
        let status = text(row, &["status", "Status"]).unwrap_or_default().to_lowercase();
        let achieved = text(row, &["dateCompleted", "DateCompleted"]).and_then(|text| dates::moment(&text));
        if !COMPLETE.contains(&status.as_str()) || achieved.is_none() {
            return Ok(None);
        }
        let course = self.course_of(row, courses, client).await?;
        Ok(Some(Record {
            kind: RecordKind::Completion,
            id: id_of(row, "enrolment")?,
            learner_id: self.id.to_owned(),
            title: course.as_ref().map(|course| course.name.clone()).unwrap_or_default(),
            achieved,
            valid_until: text(row, &["dateExpires", "DateExpires"]).and_then(|text| dates::day(&text)),
            course,
            score: number(row, &["score", "Score"]),
            credits: number(row, &["credits", "Credits"]),
            minutes: text(row, &["timeSpent", "TimeSpent"]).and_then(|text| dates::minutes(&text)),
            notes: None,
        }))
    }

    /// A certificate; its course is that of its enrolment, for its own row carries only the course's name.
    pub(super) async fn certificate(
        &self,
        row: &Value,
        courses: &Courses,
        client: &Client,
    ) -> Result<Record, LmsError> {
        let id = id_of(row, "certificate")?;
        let enrollment_id = text(row, &["enrollmentId", "EnrollmentId"]);
        let enrollment = self.enrollments.iter().find(|enrollment| {
            let is_named = enrollment_id.is_some() && text(enrollment, &["id", "Id"]) == enrollment_id;
            is_named || text(enrollment, &["certificateId", "CertificateId"]).as_ref() == Some(&id)
        });
        let course = self.course_of(enrollment.unwrap_or(row), courses, client).await?;
        let title = text(row, &["name", "certificateName", "courseName", "CourseName"])
            .or_else(|| course.as_ref().map(|course| course.name.clone()));
        Ok(Record {
            kind: RecordKind::Certificate,
            id,
            learner_id: self.id.to_owned(),
            title: title.unwrap_or_default(),
            achieved: text(row, &["acquiredDate", "dateAcquired", "AcquiredDate"]).and_then(|text| dates::day(&text)),
            valid_until: text(row, &["expiryDate", "dateExpires", "ExpiryDate"]).and_then(|text| dates::day(&text)),
            course,
            score: None,
            credits: None,
            minutes: None,
            notes: text(row, &["notes", "Notes"]),
        })
    }

    /// A competency. Its shape is documented nowhere, so several names are tried for each field.
    pub(super) fn competency(&self, row: &Value) -> Result<Record, LmsError> {
        let achieved = ["dateAcquired", "acquiredDate", "dateAwarded", "awardedDate", "dateAdded", "DateAcquired"];
        Ok(Record {
            kind: RecordKind::Competency,
            id: id_of(row, "competency")?,
            learner_id: self.id.to_owned(),
            title: text(row, &["name", "competencyName", "competencyDefinitionName", "Name"]).unwrap_or_default(),
            achieved: text(row, &achieved).and_then(|text| dates::day(&text)),
            valid_until: text(row, &["expiryDate", "dateExpires", "ExpiryDate"]).and_then(|text| dates::day(&text)),
            course: None,
            score: None,
            credits: None,
            minutes: None,
            notes: None,
        })
    }

    async fn course_of(&self, row: &Value, courses: &Courses, client: &Client) -> Result<Option<Course>, LmsError> {
        let name = text(row, &["courseName", "CourseName"]).unwrap_or_default();
        let Some(id) = text(row, &["courseId", "CourseId"]) else {
            return Ok((!name.is_empty()).then(|| Course { id: String::new(), name, external_id: None }));
        };
        // What the row says of the name stands in for a course that is gone.
        Ok(Some(courses.get(client, &id).await?.unwrap_or(Course { id, name, external_id: None })))
    }
}

fn id_of(row: &Value, what: &str) -> Result<String, LmsError> {
    text(row, &["id", "Id", "competencyId", "certificateId"])
        .map(|id| id.to_lowercase())
        .ok_or_else(|| LmsError::Misunderstood(format!("a row of a {what} has no id")))
}

/// Courses by id. Whoever asks first reads, the others wait for that answer.
pub(super) struct Courses {
    clock: Arc<dyn Clock>,
    kept: Mutex<BTreeMap<String, Kept>>,
}

struct Kept {
    at: Timestamp,
    course: Arc<OnceCell<Option<Course>>>,
}

impl Courses {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kept: Mutex::default() }
    }

    /// The course; none when the LMS does not know it.
    async fn get(&self, client: &Client, id: &str) -> Result<Option<Course>, LmsError> {
        let cell = self.cell(id);
        let read = || async {
            let found = client.get(&format!("/courses/{}", segment(id)), &[]).await?;
            Ok(found.map(|course| Course {
                id: id.to_owned(),
                name: text(&course, &["name", "Name"]).unwrap_or_default(),
                external_id: text(&course, &["externalId", "ExternalId"]),
            }))
        };
        // A failed read leaves the cell empty: the next one reads again.
        cell.get_or_try_init(read).await.cloned()
    }

    fn cell(&self, id: &str) -> Arc<OnceCell<Option<Course>>> {
        let now = self.clock.now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get(id)
            && now.0 - found.at.0 < COURSE_MS
        {
            return Arc::clone(&found.course);
        }
        if kept.len() >= COURSES_MAX {
            kept.retain(|_, course| now.0 - course.at.0 < COURSE_MS);
            if kept.len() >= COURSES_MAX {
                kept.clear();
            }
        }
        let course = Arc::new(OnceCell::new());
        kept.insert(id.to_owned(), Kept { at: now, course: Arc::clone(&course) });
        course
    }
}
