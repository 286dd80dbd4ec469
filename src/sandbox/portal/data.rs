//! What the fake portal holds, and how each thing looks in the API.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::domain::time::Timestamp;
use crate::sandbox::filter::Cell;
use crate::sandbox::population::{Course, Learner};

/// How many facts the page shows.
const RECENT_FACTS_MAX: usize = 200;

/// The states of an enrolment that the fake uses, of Absorb's 0 to 12.
pub(super) mod status {
    pub(in crate::sandbox::portal) const NOT_STARTED: u8 = 0;
    pub(in crate::sandbox::portal) const IN_PROGRESS: u8 = 1;
    pub(in crate::sandbox::portal) const COMPLETE: u8 = 3;
}

/// One enrolment of a learner in a course; learner and course are positions.
pub(super) struct Enrollment {
    pub(super) learner: u32,
    pub(super) course: u32,
    pub(super) status: u8,
    pub(super) is_active: bool,
    pub(super) score: Option<f64>,
    pub(super) minutes: u32,
    pub(super) credits: Option<f64>,
    pub(super) added: Timestamp,
    pub(super) started: Option<Timestamp>,
    pub(super) completed: Option<Timestamp>,
    pub(super) edited: Timestamp,
    pub(super) certificate: Option<Uuid>,
    /// How many reads still show it as not completed.
    pub(super) hidden_reads: u32,
}

/// One certificate; dates are midnights.
pub(super) struct Certificate {
    pub(super) enrollment: Uuid,
    pub(super) learner: u32,
    pub(super) course: u32,
    pub(super) acquired: Timestamp,
    pub(super) expires: Option<Timestamp>,
    pub(super) notes: Option<String>,
    /// How many reads still leave it out.
    pub(super) hidden_reads: u32,
}

/// One competency that a learner has.
pub(super) struct Competency {
    pub(super) learner: u32,
    pub(super) definition: Uuid,
    pub(super) name: String,
    pub(super) acquired: Timestamp,
    /// How many reads still leave it out.
    pub(super) hidden_reads: u32,
}

/// A fact, for the page.
#[derive(Clone, Copy)]
pub(super) enum Fact {
    Completion(Uuid),
    Certificate(Uuid),
    Competency(Uuid),
}

/// The account's only token.
pub(super) struct Token {
    pub(super) text: String,
    pub(super) expires: Timestamp,
}

/// The bucket of the rate limit, in thousandths of a call.
pub(super) struct Bucket {
    pub(super) level: i64,
    pub(super) filled: Timestamp,
}

/// All that the portal holds.
pub(super) struct Data {
    pub(super) learners: Vec<Learner>,
    pub(super) courses: Vec<Course>,
    pub(super) learner_at: BTreeMap<Uuid, u32>,
    pub(super) course_at: BTreeMap<Uuid, u32>,
    pub(super) enrollments: BTreeMap<Uuid, Enrollment>,
    pub(super) certificates: BTreeMap<Uuid, Certificate>,
    pub(super) competencies: BTreeMap<Uuid, Competency>,
    /// Competency definitions by name.
    pub(super) definitions: BTreeMap<String, Uuid>,
    pub(super) departments: Vec<(Uuid, &'static str)>,
    pub(super) recent: VecDeque<Fact>,
    pub(super) token: Option<Token>,
    pub(super) bucket: Bucket,
}

impl Data {
    pub(super) fn new(learners: Vec<Learner>, courses: Vec<Course>, departments: Vec<(Uuid, &'static str)>) -> Self {
        Self {
            learner_at: (0..).zip(&learners).map(|(at, learner)| (learner.id, at)).collect(),
            course_at: (0..).zip(&courses).map(|(at, course)| (course.id, at)).collect(),
            learners,
            courses,
            enrollments: BTreeMap::new(),
            certificates: BTreeMap::new(),
            competencies: BTreeMap::new(),
            definitions: BTreeMap::new(),
            departments,
            recent: VecDeque::new(),
            token: None,
            bucket: Bucket { level: 0, filled: Timestamp(0) },
        }
    }

    pub(super) fn learner(&self, at: u32) -> &Learner {
        &self.learners[at as usize]
    }

    pub(super) fn course(&self, at: u32) -> &Course {
        &self.courses[at as usize]
    }

    /// The position of a learner who still exists.
    pub(super) fn find_learner(&self, id: Uuid) -> Option<u32> {
        self.learner_at.get(&id).copied().filter(|at| !self.learner(*at).is_deleted)
    }

    /// The learner's active enrolment in a course.
    pub(super) fn active_enrollment(&self, learner: u32, course: u32) -> Option<Uuid> {
        let ids = self.learner(learner).enrollments.iter().rev().copied();
        ids.into_iter().find(|id| {
            self.enrollments.get(id).is_some_and(|enrollment| enrollment.course == course && enrollment.is_active)
        })
    }

    /// A new active enrolment; the one before becomes history.
    pub(super) fn enroll(&mut self, id: Uuid, learner: u32, course: u32, now: Timestamp) {
        if let Some(former) = self.active_enrollment(learner, course)
            && let Some(former) = self.enrollments.get_mut(&former)
        {
            former.is_active = false;
            former.edited = now;
        }
        let enrollment = Enrollment {
            learner,
            course,
            status: status::NOT_STARTED,
            is_active: true,
            score: None,
            minutes: 0,
            credits: None,
            added: now,
            started: None,
            completed: None,
            edited: now,
            certificate: None,
            hidden_reads: 0,
        };
        self.enrollments.insert(id, enrollment);
        self.learners[learner as usize].enrollments.push(id);
        self.courses[course as usize].enrollments.push(id);
    }

    pub(super) fn note(&mut self, fact: Fact) {
        if self.recent.len() == RECENT_FACTS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(fact);
    }

    /// An enrolment vanishes, with its certificate.
    pub(super) fn delete_enrollment(&mut self, id: Uuid) -> bool {
        let Some(enrollment) = self.enrollments.remove(&id) else { return false };
        self.learners[enrollment.learner as usize].enrollments.retain(|known| *known != id);
        self.courses[enrollment.course as usize].enrollments.retain(|known| *known != id);
        if let Some(certificate) = enrollment.certificate {
            self.delete_certificate(certificate);
        }
        true
    }

    pub(super) fn delete_certificate(&mut self, id: Uuid) -> bool {
        let Some(certificate) = self.certificates.remove(&id) else { return false };
        self.learners[certificate.learner as usize].certificates.retain(|known| *known != id);
        if let Some(enrollment) = self.enrollments.get_mut(&certificate.enrollment) {
            enrollment.certificate = None;
        }
        true
    }
}

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

/// Departments.
pub(super) const DEPARTMENTS: Schema = Schema {
    collection: "departments",
    fields: &["id", "name", "companyName", "externalId", "parentId", "dateEdited", "dateAdded"],
    filterable: &["id", "name", "externalId", "parentId"],
    default_sort: "name",
};

/// What a list in the API holds, by id.
#[derive(Clone, Copy)]
pub(super) enum Thing {
    User(u32),
    Enrollment(Uuid),
    Certificate(Uuid),
    Competency(Uuid),
    Course(u32),
    Department(usize),
}

impl Data {
    /// One field of a thing; null when the field is unknown or the thing is gone.
    pub(super) fn cell(&self, thing: Thing, field: &str) -> Cell {
        match thing {
            Thing::User(at) => self.user_cell(self.learner(at), field),
            Thing::Course(at) => course_cell(self.course(at), field),
            Thing::Enrollment(id) => {
                self.enrollments.get(&id).map_or(Cell::Null, |enrollment| self.enrollment_cell(id, enrollment, field))
            }
            Thing::Certificate(id) => self
                .certificates
                .get(&id)
                .map_or(Cell::Null, |certificate| self.certificate_cell(id, certificate, field)),
            Thing::Competency(id) => {
                self.competencies.get(&id).map_or(Cell::Null, |competency| competency_cell(id, competency, field))
            }
            Thing::Department(at) => self.department_cell(at, field),
        }
    }

    /// A thing as JSON; instants as the portal writes them, with or without a `Z`.
    pub(super) fn json(&self, thing: Thing, schema: &Schema, is_with_z: bool) -> Value {
        let fields = schema.fields.iter();
        Value::Object(
            fields.map(|field| ((*field).to_owned(), value(self.cell(thing, field), is_with_z))).collect::<Map<_, _>>(),
        )
    }

    fn user_cell(&self, learner: &Learner, field: &str) -> Cell {
        let department = learner.id.as_u128() as usize % self.departments.len();
        match field {
            "id" => Cell::Guid(learner.id),
            "departmentId" => Cell::Guid(self.departments[department].0),
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

    fn enrollment_cell(&self, id: Uuid, enrollment: &Enrollment, field: &str) -> Cell {
        let is_early = enrollment.hidden_reads > 0;
        let (learner, course) = (self.learner(enrollment.learner), self.course(enrollment.course));
        let minutes = if is_early { 0 } else { enrollment.minutes };
        let status = if is_early { status::IN_PROGRESS } else { enrollment.status };
        match field {
            "id" => Cell::Guid(id),
            "courseId" => Cell::Guid(course.id),
            "courseName" => Cell::text(Some(&course.name)),
            "userId" => Cell::Guid(learner.id),
            "fullName" => Cell::Text(format!("{} {}", learner.first_name, learner.last_name)),
            "status" => Cell::Number(f64::from(status)),
            "progress" => Cell::Number(match status {
                status::COMPLETE => 100.0,
                status::IN_PROGRESS => 50.0,
                _ => 0.0,
            }),
            "score" if !is_early => enrollment.score.map_or(Cell::Null, Cell::Number),
            "credits" if !is_early => enrollment.credits.map_or(Cell::Null, Cell::Number),
            "dateCompleted" if !is_early => Cell::instant(enrollment.completed),
            "certificateId" if !is_early => enrollment.certificate.map_or(Cell::Null, Cell::Guid),
            "timeSpent" => Cell::Text(time_span(minutes)),
            "timeSpentTicks" => Cell::Number(f64::from(minutes) * 600_000_000.0),
            "acceptedTermsAndConditions" => Cell::Bool(false),
            "isActive" => Cell::Bool(enrollment.is_active),
            "dateStarted" => Cell::instant(enrollment.started),
            "dateAdded" => Cell::Instant(enrollment.added),
            "dateEdited" => Cell::Instant(if is_early { enrollment.added } else { enrollment.edited }),
            _ => Cell::Null,
        }
    }

    fn certificate_cell(&self, id: Uuid, certificate: &Certificate, field: &str) -> Cell {
        let learner = self.learner(certificate.learner);
        match field {
            "id" => Cell::Guid(id),
            "enrollmentId" => Cell::Guid(certificate.enrollment),
            "fullName" => Cell::Text(format!("{} {}", learner.first_name, learner.last_name)),
            "courseName" => Cell::text(Some(&self.course(certificate.course).name)),
            "acquiredDate" => Cell::Instant(certificate.acquired),
            "expiryDate" => Cell::instant(certificate.expires),
            "notes" => Cell::text(certificate.notes.as_deref()),
            _ => Cell::Null,
        }
    }

    fn department_cell(&self, at: usize, field: &str) -> Cell {
        let (id, name) = self.departments[at];
        match field {
            "id" => Cell::Guid(id),
            "name" => Cell::text(Some(name)),
            // The first is the root.
            "parentId" if at > 0 => Cell::Guid(self.departments[0].0),
            "externalId" => Cell::Text(format!("D-{at}")),
            _ => Cell::Null,
        }
    }
}

fn competency_cell(id: Uuid, competency: &Competency, field: &str) -> Cell {
    match field {
        "id" => Cell::Guid(id),
        "competencyDefinitionId" => Cell::Guid(competency.definition),
        "name" => Cell::text(Some(&competency.name)),
        "dateAcquired" => Cell::Instant(competency.acquired),
        _ => Cell::Null,
    }
}

fn course_cell(course: &Course, field: &str) -> Cell {
    match field {
        "id" => Cell::Guid(course.id),
        "courseType" => Cell::text(Some("OnlineCourse")),
        "name" => Cell::text(Some(&course.name)),
        "description" => Cell::text(Some("<p>A course of the sandbox.</p>")),
        "externalId" => Cell::text(Some(&course.external_id)),
        "expireType" => Cell::Number(if course.years_valid.is_some() { 2.0 } else { 0.0 }),
        "expireDuration" => course
            .years_valid
            .map_or(Cell::Null, |years| Cell::Json(json!({"years": years, "months": 0, "days": 0, "hours": 0}))),
        "activeStatus" => Cell::Number(0.0),
        "tagIds" | "resourceIds" | "prices" | "competencyDefinitionIds" => Cell::Json(json!([])),
        "dateAdded" | "dateEdited" => Cell::Instant(course.added),
        _ => Cell::Null,
    }
}

/// A cell as JSON.
fn value(cell: Cell, is_with_z: bool) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Bool(value) => value.into(),
        // Whole numbers are written without a fraction, as integers are.
        Cell::Number(value) if value.fract() == 0.0 && value.abs() < 9e15 => (value as i64).into(),
        Cell::Number(value) => value.into(),
        Cell::Text(value) => value.into(),
        Cell::Guid(value) => value.to_string().into(),
        Cell::Instant(value) => instant(value, is_with_z).into(),
        Cell::Json(value) => value,
    }
}

/// An instant as Absorb writes it: without an offset, and UTC is meant.
fn instant(value: Timestamp, is_with_z: bool) -> String {
    let naive = value.utc().format("%Y-%m-%dT%H:%M:%S").to_string();
    if is_with_z { naive + "Z" } else { naive }
}

/// A .NET TimeSpan: `[d.]HH:MM:SS`.
pub(super) fn time_span(minutes: u32) -> String {
    let (days, hours, minutes) = (minutes / 1_440, minutes / 60 % 24, minutes % 60);
    if days == 0 { format!("{hours:02}:{minutes:02}:00") } else { format!("{days}.{hours:02}:{minutes:02}:00") }
}
