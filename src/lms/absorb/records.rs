//! Absorb's rows as learners and records: pure, tolerant to names and types, strict where a guess would mix up people or facts.

use std::collections::{BTreeMap, BTreeSet};

use chrono_tz::Tz;
use learnsync_sdk::{Learner, RecordKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::courses::CatalogueCourse;
use super::dates::{self, Midnight};
use super::row::{Row, fold};
use crate::domain::record::{Course, Record, Session};
use crate::domain::time::LmsTime;

/// The status of a completed enrolment: 3, Complete (<https://docs.myabsorb.com/integration-api/v2/docs/enrollments>).
const STATUS_COMPLETE: &str = "3";
/// The names that an expiry date is known or likely to have.
const EXPIRY: [&str; 5] = ["expirydate", "dateexpires", "expirationdate", "dateexpiry", "validuntil"];
/// The names that the date of an award is known or likely to have.
const AWARDED: [&str; 6] = ["acquireddate", "dateacquired", "awardeddate", "dateawarded", "earneddate", "dateearned"];
/// .NET ticks of 100 ns in a minute.
const TICKS_PER_MINUTE: f64 = 600_000_000.0;

/// Courses by id; `None` for one that the catalogue does not show.
pub(super) type Catalogue = BTreeMap<String, Option<CatalogueCourse>>;

/// Reads a learner. `asked` is the id that we asked for: an answer about somebody else is refused.
pub(super) fn learner(asked: &str, answer: &Value) -> Result<Learner, String> {
    let row = Row::of(answer)?;
    let id = row.id(&["id", "userid"]).ok_or("the user has no id")?;
    if !id.eq_ignore_ascii_case(asked) {
        return Err(format!("asked for the user {asked}, got {id}"));
    }
    let status = row.text(&["activestatus"]).map(|status| fold(&status));
    Ok(Learner {
        id,
        external_id: row.text(&["externalid"]),
        employee_number: row.text(&["employeenumber"]),
        email: row.text(&["emailaddress", "email"]),
        username: row.text(&["username"]),
        first_name: row.text(&["firstname"]),
        last_name: row.text(&["lastname"]),
        is_active: matches!(status.as_deref(), None | Some("0" | "active")),
        custom: custom_fields(row.get(&["customfields"])),
    })
}

fn custom_fields(value: Option<&Value>) -> BTreeMap<String, String> {
    let object = value.and_then(Value::as_object);
    object.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), super::row::text(value)?))).collect()
}

/// What a course enrolment says; the backfill stages it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Enrolment {
    id: String,
    is_complete: bool,
    course_id: Option<String>,
    course_name: Option<String>,
    certificate_id: Option<String>,
    completed: Option<LmsTime>,
    valid_until: Option<LmsTime>,
    score: Option<f64>,
    credits: Option<f64>,
    minutes: Option<f64>,
}

impl Enrolment {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    pub(super) fn completed(&self) -> Option<LmsTime> {
        self.completed
    }
}

/// Reads an enrolment of a learner.
pub(super) fn enrolment(learner_id: &str, value: &Value) -> Result<Enrolment, String> {
    let row = Row::of(value)?;
    let id = row.id(&["id", "enrollmentid"]).ok_or("an enrollment has no id")?;
    belongs_to(&row, learner_id).map_err(|words| format!("enrollment {id}: {words}"))?;
    let status = row.text(&["status"]).map(|status| fold(&status));
    let at =
        |names: &[&str], midnight| row.moment(names, midnight).map_err(|words| format!("enrollment {id}: {words}"));
    let span = row.text(&["timespent"]).and_then(|span| dates::minutes(&span));
    Ok(Enrolment {
        is_complete: matches!(status.as_deref(), Some(STATUS_COMPLETE | "complete" | "completed")),
        course_id: row.id(&["courseid"]),
        course_name: row.text(&["coursename"]),
        certificate_id: row.id(&["certificateid"]),
        completed: at(&["datecompleted", "completeddate"], Midnight::Instant)?,
        valid_until: at(&EXPIRY, Midnight::Date)?,
        score: row.number(&["score"]),
        credits: row.number(&["credits"]),
        minutes: span.or_else(|| row.number(&["timespentticks"]).map(|ticks| ticks / TICKS_PER_MINUTE)),
        id,
    })
}

/// What a certificate or competency says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Award {
    id: String,
    title: Option<String>,
    achieved: Option<LmsTime>,
    valid_until: Option<LmsTime>,
    notes: Option<String>,
    enrolment_id: Option<String>,
    course_id: Option<String>,
    course_name: Option<String>,
}

/// Reads a certificate; its fields are those of the older API, which v2 is expected to keep.
pub(super) fn certificate(learner_id: &str, value: &Value) -> Result<Award, String> {
    award(learner_id, value, &["id", "certificateid"], &["certificatename", "name", "coursename"])
}

/// Reads a competency; Absorb documents neither path nor fields, so several names are tried.
pub(super) fn competency(learner_id: &str, value: &Value) -> Result<Award, String> {
    let ids = ["id", "competencyid", "competencydefinitionid"];
    award(learner_id, value, &ids, &["competencyname", "name", "competencydefinitionname", "title"])
}

fn award(learner_id: &str, value: &Value, ids: &[&str], titles: &[&str]) -> Result<Award, String> {
    let row = Row::of(value)?;
    let id = row.id(ids).ok_or("an award has no id")?;
    belongs_to(&row, learner_id).map_err(|words| format!("award {id}: {words}"))?;
    let at = |names: &[&str]| row.moment(names, Midnight::Date).map_err(|words| format!("award {id}: {words}"));
    Ok(Award {
        title: row.text(titles),
        achieved: at(&AWARDED)?,
        valid_until: at(&EXPIRY)?,
        notes: row.text(&["notes"]),
        enrolment_id: row.id(&["enrollmentid", "courseenrollmentid"]),
        course_id: row.id(&["courseid"]),
        course_name: row.text(&["coursename"]),
        id,
    })
}

/// Reads a learning path; Absorb documents neither path nor fields. One that is not completed is none.
pub(super) fn learning_path(learner_id: &str, value: &Value) -> Result<Option<Award>, String> {
    let row = Row::of(value)?;
    let status = row.text(&["status"]).map(|status| fold(&status));
    if !matches!(status.as_deref(), None | Some(STATUS_COMPLETE | "complete" | "completed")) {
        return Ok(None);
    }
    let path = award(learner_id, value, &["learningpathid", "id"], &["learningpathname", "name", "title"])?;
    let completed = row.moment(&["datecompleted", "completeddate"], Midnight::Instant)?;
    let achieved = completed.or(path.achieved);
    // Without a status and without a date nothing says that it was completed.
    Ok((status.is_some() || achieved.is_some()).then_some(Award { achieved, ..path }))
}

/// What a session enrolment says (<https://docs.myabsorb.com/integration-api/v2/docs/enrollments>).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attendance {
    id: String,
    session: Session,
    course_id: String,
    attended: Option<LmsTime>,
    score: Option<f64>,
    minutes: Option<f64>,
}

/// Reads a session enrolment of a course; one that is not completed is none.
pub(super) fn attendance(learner_id: &str, course_id: &str, value: &Value) -> Result<Option<Attendance>, String> {
    let row = Row::of(value)?;
    let id = row.id(&["id", "sessionenrollmentid"]).ok_or("a session enrollment has no id")?;
    belongs_to(&row, learner_id).map_err(|words| format!("session enrollment {id}: {words}"))?;
    let status = row.text(&["status"]).map(|status| fold(&status));
    if !matches!(status.as_deref(), Some(STATUS_COMPLETE | "complete" | "completed")) {
        return Ok(None);
    }
    let attended = row.moment(&["datecompleted", "completeddate"], Midnight::Instant);
    let session_id = row.id(&["sessionid"]).unwrap_or_else(|| id.clone());
    Ok(Some(Attendance {
        session: Session {
            name: row.text(&["name", "sessionname"]).unwrap_or_else(|| session_id.clone()),
            id: session_id,
        },
        course_id: course_id.to_owned(),
        attended: attended.map_err(|words| format!("session enrollment {id}: {words}"))?,
        score: row.number(&["score"]),
        minutes: row.text(&["timespent"]).and_then(|span| dates::minutes(&span)),
        id,
    }))
}

/// A row that names another user must not become this one's record.
fn belongs_to(row: &Row<'_>, learner_id: &str) -> Result<(), String> {
    match row.id(&["userid"]) {
        Some(user) if !user.eq_ignore_ascii_case(learner_id) => {
            Err(format!("belongs to the user {user}, not {learner_id}"))
        }
        Some(_) | None => Ok(()),
    }
}

/// All that was read about one learner, before courses are looked up.
pub(super) struct Rows {
    pub(super) learner_id: String,
    pub(super) enrolments: Vec<Enrolment>,
    pub(super) awards: BTreeMap<RecordKind, Vec<Award>>,
    pub(super) attendances: Vec<Attendance>,
}

impl Rows {
    /// Nothing yet.
    pub(super) fn of(learner_id: &str) -> Self {
        let learner_id = learner_id.to_owned();
        Self { learner_id, enrolments: Vec::new(), awards: BTreeMap::new(), attendances: Vec::new() }
    }

    /// Adds a whole list of a kind.
    pub(super) fn add(&mut self, kind: RecordKind, list: &[Value]) -> Result<(), String> {
        let learner_id = self.learner_id.clone();
        if kind == RecordKind::Completion {
            for row in list {
                self.enrolments.push(enrolment(&learner_id, row)?);
            }
            return Ok(());
        }
        let awards = self.awards.entry(kind).or_default();
        for row in list {
            awards.extend(match kind {
                RecordKind::Certificate => Some(certificate(&learner_id, row)?),
                RecordKind::LearningPath => learning_path(&learner_id, row)?,
                _ => Some(competency(&learner_id, row)?),
            });
        }
        Ok(())
    }

    /// The courses of all enrolments, completed or not.
    pub(super) fn enrolled_course_ids(&self) -> BTreeSet<String> {
        self.enrolments.iter().filter_map(|enrolment| enrolment.course_id.clone()).collect()
    }

    /// The courses that the records will carry.
    pub(super) fn course_ids(&self) -> Vec<String> {
        let completed = self.enrolments.iter().filter(|enrolment| enrolment.is_complete);
        let mut ids: Vec<String> = completed.filter_map(|enrolment| enrolment.course_id.clone()).collect();
        ids.extend(self.awards.values().flatten().filter_map(|award| self.course_of(award).0));
        ids.extend(self.attendances.iter().map(|attendance| attendance.course_id.clone()));
        ids.sort();
        ids.dedup();
        ids
    }

    /// The records, sorted by key.
    pub(super) fn records(&self, catalogue: &Catalogue) -> Vec<Record> {
        let completed = self.enrolments.iter().filter(|enrolment| enrolment.is_complete);
        let mut records: BTreeMap<String, Record> = BTreeMap::new();
        let awarded = self.awards.iter().flat_map(|(kind, awards)| awards.iter().map(|award| (*kind, award)));
        let all = completed
            .flat_map(|enrolment| {
                let completion = self.completion(enrolment, catalogue);
                [credit_award(&completion), Some(completion)]
            })
            .flatten()
            .chain(awarded.map(|(kind, award)| self.award_record(kind, award, catalogue)))
            .chain(self.attendances.iter().map(|attendance| self.attendance_record(attendance, catalogue)));
        for record in all {
            match records.get(&record.key()) {
                // A competency that was awarded again may carry the definition's id: the latest award counts.
                Some(known) if later(known.achieved) >= later(record.achieved) => {}
                Some(_) | None => {
                    records.insert(record.key(), record);
                }
            }
        }
        records.into_values().collect()
    }

    fn completion(&self, enrolment: &Enrolment, catalogue: &Catalogue) -> Record {
        let course = course(enrolment.course_id.as_ref(), enrolment.course_name.as_ref(), catalogue);
        Record {
            title: title(None, course.as_ref(), &enrolment.id),
            achieved: enrolment.completed,
            valid_until: enrolment.valid_until,
            course,
            score: enrolment.score,
            credits: enrolment.credits,
            minutes: enrolment.minutes,
            ..Record::new(RecordKind::Completion, enrolment.id.clone(), self.learner_id.clone())
        }
    }

    fn award_record(&self, kind: RecordKind, award: &Award, catalogue: &Catalogue) -> Record {
        let (course_id, course_name) = self.course_of(award);
        let course = course(course_id.as_ref(), course_name.as_ref(), catalogue);
        Record {
            title: title(award.title.as_ref(), course.as_ref(), &award.id),
            achieved: award.achieved,
            valid_until: award.valid_until,
            course,
            notes: award.notes.clone(),
            ..Record::new(kind, award.id.clone(), self.learner_id.clone())
        }
    }

    fn attendance_record(&self, attendance: &Attendance, catalogue: &Catalogue) -> Record {
        let name = self.enrolments.iter().find(|enrolment| enrolment.course_id.as_ref() == Some(&attendance.course_id));
        let name = name.and_then(|enrolment| enrolment.course_name.as_ref());
        Record {
            title: attendance.session.name.clone(),
            achieved: attendance.attended,
            course: course(Some(&attendance.course_id), name, catalogue),
            score: attendance.score,
            minutes: attendance.minutes,
            session: Some(attendance.session.clone()),
            ..Record::new(RecordKind::SessionAttendance, attendance.id.clone(), self.learner_id.clone())
        }
    }

    /// Id and name of an award's course: its own, else those of the enrolment that it names or that names it.
    fn course_of(&self, award: &Award) -> (Option<String>, Option<String>) {
        let named = self.enrolments.iter().find(|enrolment| award.enrolment_id.as_ref() == Some(&enrolment.id));
        let naming = || self.enrolments.iter().find(|enrolment| enrolment.certificate_id.as_ref() == Some(&award.id));
        let enrolment = named.or_else(naming);
        let id = award.course_id.clone().or_else(|| enrolment.and_then(|enrolment| enrolment.course_id.clone()));
        let of_enrolment = || enrolment.and_then(|enrolment| enrolment.course_name.clone());
        (id, award.course_name.clone().or_else(of_enrolment))
    }
}

/// The credits of a completion as a record of their own; Absorb keeps them with the enrolment.
fn credit_award(completion: &Record) -> Option<Record> {
    completion.credits.filter(|credits| *credits > 0.0)?;
    Some(Record { kind: RecordKind::CreditAward, score: None, minutes: None, valid_until: None, ..completion.clone() })
}

/// Orders awards in time; a date counts from its first second.
fn later(achieved: Option<LmsTime>) -> Option<(chrono::NaiveDate, LmsTime)> {
    achieved.map(|time| (time.date_in(Tz::UTC), time))
}

/// The course as the catalogue has it, else as the row names it; none without an id.
fn course(id: Option<&String>, name: Option<&String>, catalogue: &Catalogue) -> Option<Course> {
    let id = id?.clone();
    let known = catalogue.get(&id).and_then(Option::as_ref);
    let name = known.and_then(|course| course.name.as_ref()).or(name).unwrap_or(&id).clone();
    Some(Course { external_id: known.and_then(|course| course.external_id.clone()), name, id })
}

fn title(own: Option<&String>, course: Option<&Course>, id: &str) -> String {
    let of_course = course.map(|course| course.name.as_str());
    own.map(String::as_str).or(of_course).unwrap_or(id).to_owned()
}

/// Reads a course of the catalogue.
pub(super) fn catalogue_course(value: &Value) -> Result<CatalogueCourse, String> {
    let row = Row::of(value)?;
    let kind = row.text(&["coursetype", "type"]).map(|kind| fold(&kind));
    let is_instructor_led = kind.is_some_and(|kind| kind.starts_with("instructorled"));
    Ok(CatalogueCourse { name: row.text(&["name"]), external_id: row.text(&["externalid"]), is_instructor_led })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const USER: &str = "a14c149a-2ce0-41d4-b532-02189ad3cb22";

    #[test]
    fn a_learner_is_read_whatever_the_types_and_the_casing() {
        let answer = json!({
            "Id": USER.to_uppercase(), "externalId": 812, "employeeNumber": 8675309.0, "emailAddress": " ada@example.org ",
            "username": "", "firstName": "Ada", "activeStatus": "1", "departmentId": null,
            "customFields": {"decimal1": 42.0, "string1": "x", "string2": null, "bool1": true, "list": []},
        });
        let learner = learner(USER, &answer).expect("it is a user");
        assert_eq!(learner.id, USER);
        assert_eq!(learner.external_id.as_deref(), Some("812"));
        assert_eq!(learner.employee_number.as_deref(), Some("8675309"));
        assert_eq!(learner.email.as_deref(), Some("ada@example.org"));
        assert_eq!((learner.username, learner.last_name, learner.is_active), (None, None, false));
        let custom: Vec<_> = learner.custom.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(custom, [("bool1", "true"), ("decimal1", "42"), ("string1", "x")]);
    }

    #[test]
    fn an_answer_about_another_user_is_refused() {
        assert!(learner(USER, &json!({"id": "b"})).is_err());
        assert!(learner(USER, &json!({})).is_err());
        assert!(enrolment(USER, &json!({"id": "e", "userId": "b"})).is_err());
        assert!(certificate(USER, &json!({"id": "c", "userId": "b"})).is_err());
        assert!(enrolment(USER, &json!({"id": "e", "userId": USER.to_uppercase()})).is_ok());
    }

    #[test]
    fn only_the_status_complete_is_a_completion() {
        let table = [
            (json!(3), true),
            (json!("3"), true),
            (json!(3.0), true),
            (json!("Complete"), true),
            (json!(4), false),
            (json!("NotComplete"), false),
            (json!(99), false),
            (json!(null), false),
        ];
        for (status, expected) in table {
            let row = json!({"id": "e", "status": status, "dateCompleted": "2026-08-24T04:30:00"});
            assert_eq!(enrolment(USER, &row).map(|row| row.is_complete), Ok(expected), "{status}");
        }
    }

    #[test]
    fn time_spent_is_read_from_the_span_or_from_ticks() {
        let table = [
            (json!({"id": "e", "timeSpent": "1.02:30:00", "timeSpentTicks": 1}), Some(1590.0)),
            (json!({"id": "e", "timeSpentTicks": 18_000_000_000_i64}), Some(30.0)),
            (json!({"id": "e", "timeSpent": null}), None),
        ];
        for (row, expected) in table {
            assert_eq!(enrolment(USER, &row).map(|row| row.minutes), Ok(expected), "{row}");
        }
    }

    #[test]
    fn an_expiry_date_that_cannot_be_read_is_an_error_and_never_no_expiry() {
        assert!(certificate(USER, &json!({"id": "c", "expiryDate": "next year"})).is_err());
        assert!(certificate(USER, &json!({"id": "c", "expiryDate": 17})).is_err());
        assert_eq!(certificate(USER, &json!({"id": "c", "expiryDate": null})).map(|row| row.valid_until), Ok(None));
    }

    #[test]
    fn a_competency_is_read_under_each_likely_name() {
        let date = LmsTime::Date("2026-08-24".parse().expect("a valid date"));
        for row in [
            json!({"id": "k", "name": "Forklift", "dateAcquired": "2026-08-24T00:00:00"}),
            json!({"competencyId": "k", "competencyName": "Forklift", "acquiredDate": "2026-08-24"}),
            json!({"competencyDefinitionId": "k", "CompetencyName": "Forklift", "AwardedDate": "2026-08-24T00:00:00Z"}),
            json!({"Id": "k", "name": "Forklift", "date_awarded": "2026-08-24T00:00:00.000"}),
        ] {
            let award = competency(USER, &row).expect("it is a competency");
            assert_eq!(
                (award.id.as_str(), award.title.as_deref(), award.achieved),
                ("k", Some("Forklift"), Some(date))
            );
        }
        assert!(competency(USER, &json!({"name": "Forklift"})).is_err());
    }

    fn rows(enrolments: &[Value], certificates: &[Value], competencies: &[Value]) -> Rows {
        let read = |rows: &[Value], read: fn(&str, &Value) -> Result<Award, String>| -> Vec<Award> {
            rows.iter().map(|row| read(USER, row).expect("the test holds valid rows")).collect()
        };
        let enrolments =
            enrolments.iter().map(|row| enrolment(USER, row).expect("the test holds valid rows")).collect();
        let awards = BTreeMap::from([
            (RecordKind::Certificate, read(certificates, certificate)),
            (RecordKind::Competency, read(competencies, competency)),
        ]);
        Rows { learner_id: USER.to_owned(), enrolments, awards, attendances: Vec::new() }
    }

    #[test]
    fn a_certificate_gets_its_course_from_the_enrolment() {
        let rows = rows(
            &[
                json!({"id": "e1", "status": 3, "courseId": "k1", "courseName": "Fire", "certificateId": "c2"}),
                json!({"id": "e2", "status": 1, "courseId": "k2", "courseName": "Water"}),
            ],
            &[
                json!({"id": "c1", "enrollmentId": "e2", "courseName": "Water!"}),
                json!({"id": "c2", "name": "Fire warden"}),
                json!({"id": "c3"}),
            ],
            &[],
        );
        assert_eq!(rows.course_ids(), ["k1", "k2"]);
        let known = CatalogueCourse {
            name: Some("Fire Safety".to_owned()),
            external_id: Some("X1".to_owned()),
            is_instructor_led: false,
        };
        let records = rows.records(&Catalogue::from([("k1".to_owned(), Some(known)), ("k2".to_owned(), None)]));
        let found: Vec<_> = records
            .iter()
            .map(|record| {
                let course = record.course.as_ref();
                (
                    record.key(),
                    record.title.as_str(),
                    course.map(|course| (course.name.as_str(), course.external_id.as_deref())),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("certificate/c1".to_owned(), "Water!", Some(("Water!", None))),
                ("certificate/c2".to_owned(), "Fire warden", Some(("Fire Safety", Some("X1")))),
                ("certificate/c3".to_owned(), "c3", None),
                ("completion/e1".to_owned(), "Fire Safety", Some(("Fire Safety", Some("X1")))),
            ]
        );
    }

    #[test]
    fn of_two_awards_of_one_competency_the_latest_counts() {
        let earlier = json!({"competencyId": "k", "name": "Forklift", "dateAcquired": "2025-08-24"});
        let latest = json!({"competencyId": "k", "name": "Forklift", "dateAcquired": "2026-08-24T10:00:00"});
        for order in [[&earlier, &latest], [&latest, &earlier]] {
            let records = rows(&[], &[], &order.map(Clone::clone)).records(&Catalogue::new());
            let days: Vec<_> =
                records.iter().filter_map(|record| record.achieved).map(|time| time.date_in(Tz::UTC)).collect();
            assert_eq!(days, ["2026-08-24".parse().expect("a valid date")]);
        }
    }
}
