//! What is true: the rows that HR must hold, and the records that a client must read.

use std::collections::BTreeMap;

use learnsync_sdk::RecordKind;

use super::PortalHandle;
use super::data::Data;
use crate::domain::record::{Course, Record, Session, Standing};
use crate::domain::time::{LmsTime, Timestamp};
use crate::sandbox::population::Learner;

/// One row that HR must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedRow {
    /// The employee number of the person whose row it is.
    pub employee_number: String,
    /// `training`, or `table:<name>`.
    pub object: String,
    /// The fields that the default mapping fills, as HR's API would give them; the mark is not among them.
    pub fields: BTreeMap<String, String>,
}

impl PortalHandle {
    /// How many facts the portal holds: completions, certificates and competencies of learners that exist.
    #[must_use]
    pub fn records_total(&self) -> usize {
        let data = self.portal.data();
        let exists = |learner: u32| !data.learner(learner).is_deleted;
        data.enrollments.values().filter(|row| row.completed.is_some() && exists(row.learner)).count()
            + data.certificates.values().filter(|row| exists(row.learner)).count()
            + data.competencies.values().filter(|row| exists(row.learner)).count()
    }

    /// By record key, for example `completion/<id>`: the rows that an HR system that is true to this LMS holds with the default mapping.
    ///
    /// Learners whom HR does not know, or knows twice, and courses without a training type have none. Dates are those of UTC.
    #[must_use]
    pub fn expected_rows(&self) -> BTreeMap<String, ExpectedRow> {
        let data = self.portal.data();
        let numbers: Vec<Option<String>> = data.learners.iter().map(|learner| self.employee_number(learner)).collect();
        let number = |learner: u32| numbers[learner as usize].clone();
        let types: Vec<Option<u32>> = data.courses.iter().map(|course| self.hr.hr().type_named(&course.name)).collect();
        let mut rows = BTreeMap::new();
        for (_, id, row) in data.enrollments.iter() {
            let (Some(employee_number), Some(completed)) = (number(row.learner), row.completed) else { continue };
            let Some(type_id) = types[row.course as usize] else { continue };
            let fields = texts([
                ("completed", Some(date(completed))),
                ("type", Some(type_id.to_string())),
                ("hours", Some((f64::from(row.minutes) / 60.0).to_string())),
                ("credits", row.credits.map(|credits| credits.to_string())),
            ]);
            let object = "training".to_owned();
            rows.insert(format!("completion/{id}"), ExpectedRow { employee_number, object, fields });
        }
        for (_, id, row) in data.certificates.iter() {
            let Some(employee_number) = number(row.learner) else { continue };
            let course = &data.course(row.course).name;
            let fields = texts([
                ("certification", Some(course.clone())),
                ("issued", Some(date(row.acquired))),
                ("expires", row.expires.map(date)),
                ("course", Some(course.clone())),
            ]);
            let object = "table:customCertifications".to_owned();
            rows.insert(format!("certificate/{id}"), ExpectedRow { employee_number, object, fields });
        }
        for (_, id, row) in data.competencies.iter() {
            let Some(employee_number) = number(row.learner) else { continue };
            let fields = texts([("competency", Some(row.name.clone())), ("awarded", Some(date(row.acquired)))]);
            let object = "table:customCompetencies".to_owned();
            rows.insert(format!("competency/{id}"), ExpectedRow { employee_number, object, fields });
        }
        rows
    }

    /// What is true in the portal now: for each kind the records by id, as a client that sees everything reads them. What the portal has
    /// deleted is missing; the facts of a merged learner are those of the one who stays.
    ///
    /// A credit award has the id of its enrolment, a session attendance that of the session enrolment. Learning paths and
    /// self-assessments are here although no published API shows them.
    #[must_use]
    pub fn expected_records(&self) -> BTreeMap<RecordKind, BTreeMap<String, Record>> {
        let data = self.portal.data();
        let mut records: BTreeMap<RecordKind, BTreeMap<String, Record>> = BTreeMap::new();
        let facts = facts(&data).filter(|(learner, _)| !data.learner(*learner).is_deleted).map(|(_, record)| record);
        for record in facts.chain(catalogue(&data)) {
            records.entry(record.kind).or_default().insert(record.id.clone(), record);
        }
        records
    }

    fn employee_number(&self, learner: &Learner) -> Option<String> {
        if learner.is_deleted {
            return None;
        }
        let known = learnsync_sdk::Learner {
            external_id: learner.external_id.clone(),
            employee_number: learner.employee_number.clone(),
            email: Some(learner.email.clone()),
            ..learnsync_sdk::Learner::default()
        };
        self.hr.hr().find(&known).map(|employee| employee.employee_number)
    }
}

/// All that learners have achieved, with the learner's position.
fn facts(data: &Data) -> impl Iterator<Item = (u32, Record)> {
    let of = |kind: RecordKind, id: uuid::Uuid, learner: u32| {
        Record::new(kind, id.to_string(), data.learner(learner).id.to_string())
    };
    let completions = data.enrollments.iter().filter_map(move |(_, id, row)| {
        let mut record = of(RecordKind::Completion, id, row.learner);
        record.title.clone_from(&data.course(row.course).name);
        record.achieved = Some(LmsTime::Instant(row.completed?));
        record.course = Some(course(data, row.course));
        (record.score, record.credits, record.minutes) = (row.score, row.credits, Some(f64::from(row.minutes)));
        Some((row.learner, record))
    });
    let credits = data.enrollments.iter().filter_map(move |(_, id, row)| {
        let mut record = of(RecordKind::CreditAward, id, row.learner);
        record.title.clone_from(&data.course(row.course).name);
        record.achieved = Some(LmsTime::Instant(row.completed?));
        record.course = Some(course(data, row.course));
        record.credits = Some(row.credits?);
        Some((row.learner, record))
    });
    let certificates = data.certificates.iter().map(move |(_, id, row)| {
        let mut record = of(RecordKind::Certificate, id, row.learner);
        record.title.clone_from(&data.course(row.course).name);
        record.achieved = Some(day(row.acquired));
        record.valid_until = row.expires.map(day);
        record.course = Some(course(data, row.course));
        record.notes.clone_from(&row.notes);
        (row.learner, record)
    });
    let competencies = data.competencies.iter().map(move |(_, id, row)| {
        let mut record = of(RecordKind::Competency, id, row.learner);
        record.title.clone_from(&row.name);
        record.achieved = Some(date_or_instant(row.acquired));
        (row.learner, record)
    });
    let sessions = data.sessions.iter().map(move |(_, id, row)| {
        let mut record = of(RecordKind::SessionAttendance, id, row.learner);
        record.title.clone_from(&row.name);
        record.achieved = Some(LmsTime::Instant(row.completed));
        record.course = Some(course(data, row.course));
        record.session = Some(Session { id: row.session.to_string(), name: row.name.clone() });
        (record.score, record.minutes) = (row.score, Some(f64::from(row.minutes)));
        (row.learner, record)
    });
    let paths = data.paths.iter().map(move |(_, id, row)| {
        let mut record = of(RecordKind::LearningPath, id, row.learner);
        record.title.clone_from(&row.name);
        record.achieved = Some(LmsTime::Instant(row.completed));
        (row.learner, record)
    });
    let assessments = data.assessments.iter().map(move |(_, id, row)| {
        let mut record = of(RecordKind::SelfAssessment, id, row.learner);
        record.title.clone_from(&row.name);
        record.achieved = Some(LmsTime::Instant(row.completed));
        record.is_as_seen = true;
        (row.learner, record)
    });
    completions.chain(credits).chain(certificates).chain(competencies).chain(sessions).chain(paths).chain(assessments)
}

/// People, courses, departments and groups that exist.
fn catalogue(data: &Data) -> impl Iterator<Item = Record> {
    let standing = |is_active: bool| Some(if is_active { Standing::Active } else { Standing::Inactive });
    let people = data.learners.iter().filter(|row| !row.is_deleted).map(move |row| {
        let mut record = Record::new(RecordKind::Person, row.id.to_string(), row.id.to_string());
        record.title = super::admin::name_of(row);
        record.external_id.clone_from(&row.external_id);
        record.standing = standing(row.is_active);
        record.department = Some(data.departments[row.department as usize].id.to_string());
        record
    });
    let courses = data.courses.iter().filter(|row| !row.is_deleted).map(move |row| {
        let mut record = Record::new(RecordKind::Course, row.id.to_string(), "");
        record.title.clone_from(&row.name);
        record.external_id = Some(row.external_id.clone());
        record.standing = standing(row.is_active);
        record.category = Some(row.kind.as_str().to_owned());
        record
    });
    let departments = (0..).zip(&data.departments).filter(|(_, row)| !row.is_deleted).map(|(at, row): (u32, _)| {
        let mut record = Record::new(RecordKind::Department, row.id.to_string(), "");
        record.title.clone_from(&row.name);
        record.external_id = Some(format!("D-{at}"));
        record.department = row.parent.map(|parent| data.departments[parent as usize].id.to_string());
        record
    });
    let groups = data.groups.iter().filter(|row| !row.is_deleted).map(|row| {
        let mut record = Record::new(RecordKind::Group, row.id.to_string(), "");
        record.title.clone_from(&row.name);
        record.members = Some(data.members(row).count() as u64);
        record
    });
    people.chain(courses).chain(departments).chain(groups)
}

fn course(data: &Data, at: u32) -> Course {
    let row = data.course(at);
    Course { id: row.id.to_string(), name: row.name.clone(), external_id: Some(row.external_id.clone()) }
}

fn day(at: Timestamp) -> LmsTime {
    LmsTime::Date(at.utc().date_naive())
}

/// A midnight stands for a date in the awards of the portal.
fn date_or_instant(at: Timestamp) -> LmsTime {
    if at.0.rem_euclid(crate::sandbox::population::DAY_MS) == 0 { day(at) } else { LmsTime::Instant(at) }
}

fn date(at: Timestamp) -> String {
    at.utc().date_naive().to_string()
}

fn texts<const N: usize>(fields: [(&str, Option<String>); N]) -> BTreeMap<String, String> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
