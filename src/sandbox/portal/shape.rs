//! How each thing of the fake portal looks in the API, and what it can be filtered and sorted by.

use std::io::Write;

use chrono::{Datelike, Timelike};
use serde_json::{Value, json};
use uuid::Uuid;

use super::data::{
    Certificate, Competency, Data, Department, Enrollment, Group, LearningPath, SessionEnrollment, status,
};
use crate::domain::time::Timestamp;
use crate::sandbox::filter::Cell;
use crate::sandbox::population::{Course, Learner};

/// Most members of a group that are listed; a nil GUID after them says that there are more
/// (SEEN: <https://docs.myabsorb.com/integration-api/v2/docs>, groups).
pub(super) const GROUP_MEMBERS_MAX: usize = 50_000;

/// How a kind of thing looks in the API: its fields in order, and those that can be filtered by.
pub(super) struct Schema {
    pub(super) collection: &'static str,
    pub(super) fields: &'static [&'static str],
    pub(super) filterable: &'static [&'static str],
    pub(super) default_sort: &'static str,
}

/// Users (field list: <https://docs.myabsorb.com/integration-api/v2/docs>, users).
pub(super) const USERS: Schema = Schema {
    collection: "users",
    fields: &[
        "id",
        "departmentId",
        "firstName",
        "middleName",
        "lastName",
        "username",
        "emailAddress",
        "externalId",
        "ccEmailAddresses",
        "languageId",
        "gender",
        "employeeNumber",
        "location",
        "jobTitle",
        "referenceNumber",
        "dateHired",
        "dateTerminated",
        "dateEdited",
        "dateAdded",
        "lastLoginDate",
        "notes",
        "customFields",
        "roleIds",
        "activeStatus",
        "isLearner",
        "isAdmin",
        "isInstructor",
        "isManager",
        "supervisorId",
        "hasUsername",
    ],
    filterable: &[
        "id",
        "departmentId",
        "firstName",
        "lastName",
        "username",
        "emailAddress",
        "externalId",
        "employeeNumber",
        "jobTitle",
        "dateEdited",
        "dateAdded",
        "lastLoginDate",
        "activeStatus",
        "isLearner",
        "customFields/decimal1",
        "customFields/string1",
    ],
    default_sort: "username",
};

/// Course enrolments. Known to be filterable are five fields; `dateEdited` is used by one client and unproven.
pub(super) const ENROLLMENTS: Schema = Schema {
    collection: "enrollments",
    fields: &[
        "id",
        "courseId",
        "courseName",
        "progress",
        "score",
        "status",
        "dateCompleted",
        "dateExpires",
        "fullName",
        "jobTitle",
        "courseVersionId",
        "userId",
        "acceptedTermsAndConditions",
        "timeSpent",
        "timeSpentTicks",
        "dateStarted",
        "enrollmentKeyId",
        "certificateId",
        "credits",
        "isActive",
        "dateDue",
        "accessDate",
        "courseCollectionId",
        "dateEdited",
        "dateAdded",
        "avatar",
    ],
    filterable: &["id", "courseId", "courseName", "dateCompleted", "isActive", "status", "dateEdited"],
    default_sort: "courseName",
};

/// Certificates: the fields of version 1 in camel case; version 2 is not published.
pub(super) const CERTIFICATES: Schema = Schema {
    collection: "certificates",
    fields: &["id", "enrollmentId", "fullName", "courseName", "acquiredDate", "expiryDate", "notes"],
    filterable: &["id", "enrollmentId", "courseName", "acquiredDate", "expiryDate"],
    default_sort: "acquiredDate",
};

/// Competencies: a guess, nothing is published.
pub(super) const COMPETENCIES: Schema = Schema {
    collection: "competencies",
    fields: &["id", "competencyDefinitionId", "name", "dateAcquired"],
    filterable: &["id", "competencyDefinitionId", "name", "dateAcquired"],
    default_sort: "dateAcquired",
};

/// Courses.
pub(super) const COURSES: Schema = Schema {
    collection: "courses",
    fields: &[
        "id",
        "courseType",
        "name",
        "description",
        "notes",
        "externalId",
        "accessDate",
        "expireType",
        "expireDuration",
        "expiryDate",
        "activeStatus",
        "tagIds",
        "resourceIds",
        "prices",
        "competencyDefinitionIds",
        "categoryId",
        "certificateUrl",
        "audience",
        "goals",
        "vendor",
        "dateEdited",
        "dateAdded",
    ],
    filterable: &["id", "name", "externalId", "courseType", "activeStatus", "dateEdited", "dateAdded"],
    default_sort: "name",
};

/// A learner's enrolments in sessions (SEEN: <https://docs.myabsorb.com/integration-api/v2/docs>, enrollments). Their list is a bare array.
pub(super) const SESSIONS: Schema = Schema {
    collection: "sessions",
    fields: &[
        "id",
        "sessionId",
        "courseEnrollmentId",
        "name",
        "userId",
        "fullName",
        "status",
        "progress",
        "score",
        "timeSpent",
        "dateEnrolled",
        "dateStarted",
        "dateCompleted",
        "dateEdited",
    ],
    filterable: &[],
    default_sort: "id",
};

/// Completed learning paths: INFERRED, path and fields; no end point is published.
pub(super) const LEARNING_PATHS: Schema = Schema {
    collection: "learningPaths",
    fields: &["id", "name", "userId", "dateCompleted"],
    filterable: &["id", "name", "dateCompleted"],
    default_sort: "dateCompleted",
};

/// Groups (SEEN: <https://docs.myabsorb.com/integration-api/v2/docs>, groups).
pub(super) const GROUPS: Schema = Schema {
    collection: "groups",
    fields: &["id", "name", "isAutomatic", "userIds", "dateEdited", "dateAdded"],
    filterable: &["id", "name", "isAutomatic", "dateEdited"],
    default_sort: "name",
};

/// Departments.
pub(super) const DEPARTMENTS: Schema = Schema {
    collection: "departments",
    fields: &["id", "name", "companyName", "externalId", "parentId", "dateEdited", "dateAdded"],
    filterable: &["id", "name", "externalId", "parentId", "dateEdited"],
    default_sort: "name",
};

/// What a list in the API holds, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    User(u32),
    Enrollment(u32),
    Certificate(u32),
    Competency(u32),
    Session(u32),
    LearningPath(u32),
    Course(u32),
    Department(u32),
    Group(u32),
}

/// How answers are spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spelling {
    /// Dates end with a `Z`; INFERRED that they do not: samples of clients have none.
    pub(super) has_z: bool,
    /// Keys begin with a capital, as in version 1 (SEEN second hand: <https://github.com/npezza93/absorb_api>).
    pub(super) is_pascal: bool,
}

impl Data {
    /// The id of a thing.
    pub(super) fn id_of(&self, thing: Thing) -> Uuid {
        match thing {
            Thing::User(at) => self.learner(at).id,
            Thing::Course(at) => self.course(at).id,
            Thing::Department(at) => self.departments[at as usize].id,
            Thing::Group(at) => self.groups[at as usize].id,
            Thing::Enrollment(at) => self.enrollments.id(at),
            Thing::Certificate(at) => self.certificates.id(at),
            Thing::Competency(at) => self.competencies.id(at),
            Thing::Session(at) => self.sessions.id(at),
            Thing::LearningPath(at) => self.paths.id(at),
        }
    }

    /// One field of a thing; null when the field is unknown or the thing is gone.
    pub(super) fn cell(&self, thing: Thing, field: &str) -> Cell {
        if field == "id" {
            return Cell::Guid(self.id_of(thing));
        }
        let cell = match thing {
            Thing::User(at) => Some(self.user_cell(self.learner(at), field)),
            Thing::Course(at) => Some(course_cell(self.course(at), field)),
            Thing::Department(at) => Some(self.department_cell(at, &self.departments[at as usize], field)),
            Thing::Group(at) => Some(self.group_cell(&self.groups[at as usize], field)),
            Thing::Enrollment(at) => self.enrollments.get(at).map(|row| self.enrollment_cell(row, field)),
            Thing::Certificate(at) => self.certificates.get(at).map(|row| self.certificate_cell(row, field)),
            Thing::Competency(at) => self.competencies.get(at).map(|row| competency_cell(row, field)),
            Thing::Session(at) => self.sessions.get(at).map(|row| self.session_cell(row, field)),
            Thing::LearningPath(at) => self.paths.get(at).map(|row| self.path_cell(row, field)),
        };
        cell.unwrap_or(Cell::Null)
    }

    /// Writes a thing as JSON.
    pub(super) fn write(&self, out: &mut Vec<u8>, thing: Thing, schema: &Schema, spelling: Spelling) {
        for (place, field) in schema.fields.iter().enumerate() {
            out.extend_from_slice(if place == 0 { b"{\"" } else { b",\"" });
            write_key(out, field, spelling.is_pascal);
            out.extend_from_slice(b"\":");
            write_cell(out, &self.cell(thing, field), spelling.has_z);
        }
        out.push(b'}');
    }

    fn user_cell(&self, learner: &Learner, field: &str) -> Cell {
        match field {
            "departmentId" => Cell::Guid(self.departments[learner.department as usize].id),
            "firstName" => Cell::text(Some(learner.first_name)),
            "lastName" => Cell::text(Some(learner.last_name)),
            "username" => Cell::text(Some(&learner.username)),
            "emailAddress" => Cell::text(Some(&learner.email)),
            "externalId" => Cell::text(learner.external_id.as_deref()),
            "employeeNumber" => Cell::text(learner.employee_number.as_deref()),
            "ccEmailAddresses" | "roleIds" => Cell::Json(json!([])),
            "customFields" => Cell::Json(json!({"decimal1": null, "string1": null})),
            "gender" => Cell::Number(0.0),
            "activeStatus" => Cell::Number(if learner.is_active { 0.0 } else { 1.0 }),
            "isLearner" | "hasUsername" => Cell::Bool(true),
            "isAdmin" | "isInstructor" | "isManager" => Cell::Bool(false),
            "dateAdded" => Cell::Instant(learner.added),
            "dateEdited" => Cell::Instant(learner.edited),
            _ => Cell::Null,
        }
    }

    fn enrollment_cell(&self, row: &Enrollment, field: &str) -> Cell {
        let is_early = row.hidden_reads > 0;
        let minutes = if is_early { 0 } else { row.minutes };
        let status = if is_early { status::IN_PROGRESS } else { row.status };
        match field {
            "courseId" => Cell::Guid(self.course(row.course).id),
            "courseName" => Cell::text(Some(&self.course(row.course).name)),
            "userId" => Cell::Guid(self.learner(row.learner).id),
            "fullName" => full_name(self.learner(row.learner)),
            "status" => Cell::Number(f64::from(status)),
            "progress" => Cell::Number(match status {
                status::COMPLETE => 100.0,
                status::IN_PROGRESS => 50.0,
                _ => 0.0,
            }),
            "score" if !is_early => row.score.map_or(Cell::Null, Cell::Number),
            "credits" if !is_early => row.credits.map_or(Cell::Null, Cell::Number),
            "dateCompleted" if !is_early => Cell::instant(row.completed),
            "certificateId" if !is_early => {
                row.certificate.map_or(Cell::Null, |at| Cell::Guid(self.certificates.id(at)))
            }
            "timeSpent" => Cell::Text(time_span(minutes)),
            "timeSpentTicks" => Cell::Number(f64::from(minutes) * 600_000_000.0),
            "acceptedTermsAndConditions" => Cell::Bool(false),
            "isActive" => Cell::Bool(row.is_active),
            "dateStarted" => Cell::instant(row.started),
            "dateAdded" => Cell::Instant(row.added),
            "dateEdited" => Cell::Instant(if is_early { row.added } else { row.edited }),
            _ => Cell::Null,
        }
    }

    fn certificate_cell(&self, row: &Certificate, field: &str) -> Cell {
        match field {
            "enrollmentId" => Cell::Guid(self.enrollments.id(row.enrollment)),
            "fullName" => full_name(self.learner(row.learner)),
            "courseName" => Cell::text(Some(&self.course(row.course).name)),
            "acquiredDate" => Cell::Instant(row.acquired),
            "expiryDate" => Cell::instant(row.expires),
            "notes" => Cell::text(row.notes.as_deref()),
            _ => Cell::Null,
        }
    }

    fn session_cell(&self, row: &SessionEnrollment, field: &str) -> Cell {
        match field {
            "sessionId" => Cell::Guid(row.session),
            "courseEnrollmentId" => Cell::Guid(self.enrollments.id(row.enrollment)),
            "name" => Cell::text(Some(&row.name)),
            "userId" => Cell::Guid(self.learner(row.learner).id),
            "fullName" => full_name(self.learner(row.learner)),
            "status" => Cell::Number(f64::from(status::COMPLETE)),
            "progress" => Cell::Number(100.0),
            "score" => row.score.map_or(Cell::Null, Cell::Number),
            "timeSpent" => Cell::Text(time_span(row.minutes)),
            "dateEnrolled" | "dateStarted" => Cell::Instant(row.enrolled),
            "dateCompleted" => Cell::Instant(row.completed),
            "dateEdited" => Cell::Instant(row.edited),
            _ => Cell::Null,
        }
    }

    fn path_cell(&self, row: &LearningPath, field: &str) -> Cell {
        match field {
            "name" => Cell::text(Some(&row.name)),
            "userId" => Cell::Guid(self.learner(row.learner).id),
            "dateCompleted" => Cell::Instant(row.completed),
            _ => Cell::Null,
        }
    }

    fn department_cell(&self, at: u32, row: &Department, field: &str) -> Cell {
        match field {
            "name" => Cell::text(Some(&row.name)),
            "parentId" => row.parent.map_or(Cell::Null, |parent| Cell::Guid(self.departments[parent as usize].id)),
            "externalId" => Cell::Text(format!("D-{at}")),
            "dateAdded" => Cell::Instant(row.added),
            "dateEdited" => Cell::Instant(row.edited),
            _ => Cell::Null,
        }
    }

    fn group_cell(&self, row: &Group, field: &str) -> Cell {
        match field {
            "name" => Cell::text(Some(&row.name)),
            "isAutomatic" => Cell::Bool(row.members.is_none()),
            "userIds" => Cell::Json(self.member_ids(row)),
            "dateAdded" => Cell::Instant(row.added),
            "dateEdited" => Cell::Instant(row.edited),
            _ => Cell::Null,
        }
    }

    /// The members' ids as they are listed: cut, with a nil GUID in the place of the rest.
    fn member_ids(&self, group: &Group) -> Value {
        let mut ids: Vec<Uuid> =
            self.members(group).take(GROUP_MEMBERS_MAX + 1).map(|at| self.learner(at).id).collect();
        if ids.len() > GROUP_MEMBERS_MAX {
            ids[GROUP_MEMBERS_MAX] = Uuid::nil();
        }
        json!(ids)
    }

    /// The positions of a group's members who still exist.
    pub(super) fn members<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = u32> + 'a {
        let all = u32::try_from(self.learners.len()).unwrap_or(u32::MAX);
        let some = group.members.as_deref();
        (0..some.map_or(all, |members| u32::try_from(members.len()).unwrap_or(u32::MAX)))
            .map(move |place| some.map_or(place, |members| members[place as usize]))
            .filter(|at| !self.learner(*at).is_deleted)
    }
}

fn full_name(learner: &Learner) -> Cell {
    Cell::Text(format!("{} {}", learner.first_name, learner.last_name))
}

fn competency_cell(row: &Competency, field: &str) -> Cell {
    match field {
        "competencyDefinitionId" => Cell::Guid(row.definition),
        "name" => Cell::text(Some(&row.name)),
        "dateAcquired" => Cell::Instant(row.acquired),
        _ => Cell::Null,
    }
}

fn course_cell(course: &Course, field: &str) -> Cell {
    match field {
        "courseType" => Cell::text(Some(course.kind.as_str())),
        "name" => Cell::text(Some(&course.name)),
        "description" => Cell::text(Some("<p>A course of the sandbox.</p>")),
        "externalId" => Cell::text(Some(&course.external_id)),
        "expireType" => Cell::Number(if course.years_valid.is_some() { 2.0 } else { 0.0 }),
        "expireDuration" => course
            .years_valid
            .map_or(Cell::Null, |years| Cell::Json(json!({"years": years, "months": 0, "days": 0, "hours": 0}))),
        "activeStatus" => Cell::Number(if course.is_active { 0.0 } else { 1.0 }),
        "tagIds" | "resourceIds" | "prices" | "competencyDefinitionIds" => Cell::Json(json!([])),
        "dateAdded" => Cell::Instant(course.added),
        "dateEdited" => Cell::Instant(course.edited),
        _ => Cell::Null,
    }
}

/// Writes a key, which is ASCII.
pub(super) fn write_key(out: &mut Vec<u8>, key: &str, is_pascal: bool) {
    let before = out.len();
    out.extend_from_slice(key.as_bytes());
    if is_pascal && let Some(first) = out.get_mut(before) {
        first.make_ascii_uppercase();
    }
}

fn write_cell(out: &mut Vec<u8>, cell: &Cell, has_z: bool) {
    let wrote = match cell {
        Cell::Null => write!(out, "null"),
        Cell::Bool(value) => write!(out, "{value}"),
        // Whole numbers are written without a fraction, as integers are.
        Cell::Number(value) if value.fract() == 0.0 && value.abs() < 9e15 => write!(out, "{}", *value as i64),
        Cell::Number(value) => write!(out, "{value}"),
        Cell::Text(value) => serde_json::to_writer(&mut *out, value).map_err(Into::into),
        Cell::Guid(value) => write!(out, "\"{}\"", value.hyphenated()),
        Cell::Instant(value) => write_instant(out, *value, has_z),
        Cell::Json(value) => serde_json::to_writer(&mut *out, value).map_err(Into::into),
    };
    wrote.expect("a Vec takes all that is written");
}

/// An instant as Absorb writes it: without an offset, and UTC is meant.
fn write_instant(out: &mut Vec<u8>, value: Timestamp, has_z: bool) -> std::io::Result<()> {
    let at = value.utc();
    let (year, month, day, hour, minute, second) =
        (at.year(), at.month(), at.day(), at.hour(), at.minute(), at.second());
    let z = if has_z { "Z" } else { "" };
    write!(out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{z}\"")
}

/// A .NET TimeSpan: `[d.]HH:MM:SS`.
pub(super) fn time_span(minutes: u32) -> String {
    let (days, hours, minutes) = (minutes / 1_440, minutes / 60 % 24, minutes % 60);
    if days == 0 { format!("{hours:02}:{minutes:02}:00") } else { format!("{days}.{hours:02}:{minutes:02}:00") }
}
