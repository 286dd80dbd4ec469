//! What can happen in the portal: the 24 events that webhooks tell of, and what no webhook tells.
//!
//! The display names of the events are SEEN (<https://support.absorblms.com/hc/en-us/articles/28999993938451-Webhooks>); what has no
//! event is SEEN by its absence there.

use learnsync_sdk::nearest;
use uuid::Uuid;

use super::data::{
    Certificate, Competency, Data, Department, Enrollment, Fact, Group, LearningPath, SelfAssessment,
    SessionEnrollment, status,
};
use super::hooks::Event;
use super::{admin, years_later};
use crate::domain::chance::Entropy;
use crate::domain::time::Timestamp;
use crate::sandbox::population::{self, CourseKind, DAY_MS, guid, pick};

/// Names of competencies, self-assessments and learning paths.
const SKILLS: [&str; 6] =
    ["Team lead", "First responder", "Forklift instructor", "Safety auditor", "Mentor", "Data steward"];
/// How many sessions an instructor-led course has.
const SESSIONS: u64 = 3;
/// How often a thing is picked at random before all are looked at in turn.
const PICKS_MAX: u32 = 64;

/// One kind of thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    UserCreated,
    CompletedByAdmin,
    CompletedByLearner,
    CertificateAwarded,
    CompetencyAwarded,
    CreditsAwarded,
    SessionCompleted,
    SelfAssessment,
    LearningPath,
    CourseAdded(CourseKind),
    CourseActivated(CourseKind),
    CourseDeactivated(CourseKind),
    BundleDeleted,
    DepartmentCreated,
    DepartmentDeleted,
    GroupCreated,
    GroupDeleted,
    Enrolled,
    Started,
    Failed,
    Unenrolled,
    Reenrolled,
    ScoreCorrected,
    DateCorrected,
    CertificateRevoked,
    LearnerDeactivated,
    LearnerReactivated,
    LearnerMoved,
    LearnerMerged,
    LearnerDeleted,
    CourseRenamed,
    DepartmentRenamed,
    GroupChanged,
}

/// A deed, the word for it, and the display name of its event; none where no webhook tells.
pub(super) struct DeedRow {
    pub(super) deed: Deed,
    pub(super) word: &'static str,
    pub(super) event: Option<&'static str>,
    /// Whether an administrator does it.
    is_admin: bool,
}

const fn told(deed: Deed, word: &'static str, event: &'static str, is_admin: bool) -> DeedRow {
    DeedRow { deed, word, event: Some(event), is_admin }
}

const fn silent(deed: Deed, word: &'static str) -> DeedRow {
    DeedRow { deed, word, event: None, is_admin: true }
}

/// All that can happen.
pub(super) static DEEDS: [DeedRow; 42] = [
    told(Deed::UserCreated, "user-created", "User Created", true),
    told(Deed::CompletedByAdmin, "completed-by-admin", "Enrollment Completed by Admin", true),
    told(Deed::CompletedByLearner, "completed", "Enrollment Completed by Learner", false),
    told(Deed::CertificateAwarded, "certificate", "Certificate Awarded", false),
    told(Deed::CompetencyAwarded, "competency", "Competency Awarded", false),
    told(Deed::CreditsAwarded, "credits", "Course Credits Awarded", false),
    told(Deed::SessionCompleted, "session", "Session Enrollment Completed", false),
    told(Deed::SelfAssessment, "self-assessment", "Self-Assessment Completed", false),
    told(Deed::LearningPath, "learning-path", "Learning Path Completed", false),
    told(Deed::CourseActivated(CourseKind::Online), "online-course-activated", "Online Course Activated", true),
    told(Deed::CourseDeactivated(CourseKind::Online), "online-course-deactivated", "Online Course Deactivated", true),
    told(
        Deed::CourseActivated(CourseKind::InstructorLed),
        "instructor-led-course-activated",
        "Instructor Led Course Activated",
        true,
    ),
    told(
        Deed::CourseDeactivated(CourseKind::InstructorLed),
        "instructor-led-course-deactivated",
        "Instructor Led Course Deactivated",
        true,
    ),
    told(
        Deed::CourseAdded(CourseKind::InstructorLed),
        "instructor-led-course-added",
        "Instructor Led Course Added",
        true,
    ),
    told(Deed::CourseActivated(CourseKind::Curriculum), "curriculum-activated", "Curriculum Activated", true),
    told(Deed::CourseDeactivated(CourseKind::Curriculum), "curriculum-deactivated", "Curriculum Deactivated", true),
    told(Deed::CourseAdded(CourseKind::Curriculum), "curriculum-added", "Curriculum Added", true),
    told(Deed::CourseActivated(CourseKind::Bundle), "course-bundle-activated", "Course Bundle Activated", true),
    told(Deed::CourseDeactivated(CourseKind::Bundle), "course-bundle-deactivated", "Course Bundle Deactivated", true),
    told(Deed::BundleDeleted, "course-bundle-deleted", "Course Bundle Deleted", true),
    told(Deed::DepartmentCreated, "department-created", "Department Created", true),
    told(Deed::DepartmentDeleted, "department-deleted", "Department Deleted", true),
    told(Deed::GroupCreated, "group-created", "Group Created", true),
    told(Deed::GroupDeleted, "group-deleted", "Group Deleted", true),
    silent(Deed::CourseAdded(CourseKind::Online), "online-course-added"),
    silent(Deed::CourseAdded(CourseKind::Bundle), "course-bundle-added"),
    silent(Deed::Enrolled, "enrolled"),
    silent(Deed::Started, "started"),
    silent(Deed::Failed, "failed"),
    silent(Deed::Unenrolled, "unenrolled"),
    silent(Deed::Reenrolled, "reenrolled"),
    silent(Deed::ScoreCorrected, "score-corrected"),
    silent(Deed::DateCorrected, "date-corrected"),
    silent(Deed::CertificateRevoked, "certificate-revoked"),
    silent(Deed::LearnerDeactivated, "learner-deactivated"),
    silent(Deed::LearnerReactivated, "learner-reactivated"),
    silent(Deed::LearnerMoved, "learner-moved"),
    silent(Deed::LearnerMerged, "learner-merged"),
    silent(Deed::LearnerDeleted, "learner-deleted"),
    silent(Deed::CourseRenamed, "course-renamed"),
    silent(Deed::DepartmentRenamed, "department-renamed"),
    silent(Deed::GroupChanged, "group-changed"),
];

/// The deed that a word or the display name of its event means.
///
/// # Errors
/// In words, with the nearest one.
pub(super) fn deed_named(word: &str) -> Result<&'static DeedRow, String> {
    let is = |text: &str| text.eq_ignore_ascii_case(word);
    DEEDS.iter().find(|row| is(row.word) || row.event.is_some_and(is)).ok_or_else(|| {
        let hint = nearest(word, DEEDS.iter().map(|row| (row.word, row.word))).map_or_else(
            || format!("there are {}", DEEDS.iter().map(|row| row.word).collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean \"{near}\"?"),
        );
        format!("nothing called \"{word}\" can happen in the portal, {hint}")
    })
}

/// When something happens, and how early its webhook is.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    /// How many reads miss it.
    pub(super) hidden_reads: u32,
}

/// Whom and what a deed is about, as far as somebody said.
#[derive(Clone, Debug, Default)]
pub(super) struct Subject {
    pub(super) learner: Option<u32>,
    /// A course, the learner who stays in a merge, or a name, whatever the deed needs.
    pub(super) what: Option<String>,
    /// A course, when it is known already.
    pub(super) course: Option<u32>,
}

/// What came of a deed.
pub(super) struct Done {
    /// One sentence.
    pub(super) words: String,
    /// What webhooks tell of it, in order.
    pub(super) events: Vec<Event>,
}

/// A deed under way.
pub(super) struct Act<'a> {
    pub(super) data: &'a mut Data,
    pub(super) moment: Moment,
    pub(super) admin: Uuid,
    pub(super) chance: &'a dyn Entropy,
}

impl Act<'_> {
    /// Makes it happen. What nobody said is picked at random among what is fit.
    ///
    /// # Errors
    /// In words, when it cannot happen, for example because there is no such certificate; nothing has changed then.
    pub(super) fn perform(&mut self, row: &DeedRow, subject: &Subject) -> Result<Done, String> {
        let (words, user, ids) = match row.deed {
            Deed::UserCreated => self.create_learner(),
            Deed::CompletedByAdmin | Deed::CompletedByLearner => self.complete(subject)?,
            Deed::CertificateAwarded => self.certify(subject)?,
            Deed::CompetencyAwarded => self.award_competency(subject)?,
            Deed::CreditsAwarded => self.award_credits(subject)?,
            Deed::SessionCompleted => self.attend(subject)?,
            Deed::SelfAssessment => self.assess(subject)?,
            Deed::LearningPath => self.finish_path(subject)?,
            Deed::CourseAdded(kind) => self.add_course(kind, subject),
            Deed::CourseActivated(kind) => self.switch_course(kind, true, subject)?,
            Deed::CourseDeactivated(kind) => self.switch_course(kind, false, subject)?,
            Deed::BundleDeleted => self.delete_bundle(subject)?,
            Deed::DepartmentCreated => self.create_department(subject),
            Deed::DepartmentDeleted => self.delete_department(subject)?,
            Deed::GroupCreated => self.create_group(subject),
            Deed::GroupDeleted => self.delete_group(subject)?,
            Deed::Enrolled | Deed::Started | Deed::Failed | Deed::Unenrolled | Deed::Reenrolled => {
                self.change_enrollment(row.deed, subject)?
            }
            Deed::ScoreCorrected | Deed::DateCorrected => self.correct(row.deed, subject)?,
            Deed::CertificateRevoked => self.revoke(subject)?,
            Deed::LearnerDeactivated
            | Deed::LearnerReactivated
            | Deed::LearnerMoved
            | Deed::LearnerMerged
            | Deed::LearnerDeleted => self.change_learner(row.deed, subject)?,
            Deed::CourseRenamed => self.rename_course(subject)?,
            Deed::DepartmentRenamed => self.rename_department(subject)?,
            Deed::GroupChanged => self.change_group(subject)?,
        };
        let admin = row.is_admin.then_some(self.admin);
        let event = row.event.map(|name| Event { name, user, admin, ids });
        Ok(Done { words, events: event.into_iter().collect() })
    }

    fn create_learner(&mut self) -> Told {
        let index = self.data.learners.len();
        let mut row = population::learner(index, self.moment.at, self.chance);
        (row.added, row.edited) = (self.moment.at, self.moment.at);
        let (id, words) = (row.id, format!("{} was created, {}.", admin::name_of(&row), row.email));
        self.data.learner_at.insert(id, u32::try_from(index).expect("fewer than 2^32 learners"));
        self.data.learners.push(row);
        (words, Some(id), Vec::new())
    }

    fn complete(&mut self, subject: &Subject) -> Result<Told, String> {
        let (learner, course) = (self.learner(subject)?, self.course(subject, None)?);
        let at = self.data.complete((learner, course), self.moment, guid(self.chance));
        Ok(self.told(learner, Some(course), "completed", vec![("enrollmentId", self.data.enrollments.id(at))]))
    }

    fn certify(&mut self, subject: &Subject) -> Result<Told, String> {
        let (learner, course) = (self.learner(subject)?, self.course(subject, None)?);
        let at = self.data.award_certificate((learner, course), self.moment, self.chance);
        let ids = vec![("certificateId", self.data.certificates.id(at))];
        Ok(self.told(learner, Some(course), "earned the certificate of", ids))
    }

    fn award_competency(&mut self, subject: &Subject) -> Result<Told, String> {
        let (learner, name) = (self.learner(subject)?, self.name(subject, &SKILLS));
        let (id, definition) = self.data.award_competency(learner, &name, self.moment, self.chance);
        let ids = vec![("competencyId", id), ("competencyDefinitionId", definition)];
        let words = format!("{} was awarded the competency {name}.", admin::name_of(self.data.learner(learner)));
        Ok((words, Some(self.data.learner(learner).id), ids))
    }

    /// INFERRED: credits are a number of the enrolment that may grow after the completion.
    fn award_credits(&mut self, subject: &Subject) -> Result<Told, String> {
        let (learner, course) = (self.learner(subject)?, self.course(subject, None)?);
        let known = self.data.newest(learner, |row| row.course == course && row.completed.is_some());
        let at = known.unwrap_or_else(|| self.data.complete((learner, course), self.moment, guid(self.chance)));
        let now = self.moment.at;
        if let Some(row) = self.data.enrollments.get_mut(at) {
            row.credits = Some(row.credits.unwrap_or(0.0) + 0.5);
            row.edited = now;
        }
        let ids = vec![("enrollmentId", self.data.enrollments.id(at))];
        Ok(self.told(learner, Some(course), "was awarded credits for", ids))
    }

    fn attend(&mut self, subject: &Subject) -> Result<Told, String> {
        let (learner, course) = (self.learner(subject)?, self.course(subject, Some(CourseKind::InstructorLed))?);
        let Moment { at: now, hidden_reads } = self.moment;
        let open = self.data.active_enrollment(learner, course);
        let enrollment = open.unwrap_or_else(|| self.data.enroll(guid(self.chance), learner, course, now));
        let row = self.data.course(course);
        let number = 1 + self.chance.below(SESSIONS);
        // The same for all who attend it.
        let session = Uuid::from_u128(row.id.as_u128() ^ u128::from(number));
        let (name, minutes) = (format!("{} - session {number}", row.name), row.minutes);
        let row = SessionEnrollment {
            learner,
            course,
            enrollment,
            session,
            name,
            score: None,
            minutes,
            enrolled: now.plus_ms(-DAY_MS),
            completed: now,
            edited: now,
            hidden_reads,
        };
        let id = guid(self.chance);
        let at = self.data.sessions.insert(id, row);
        self.data.learner_mut(learner).sessions.push(at);
        if let Some(row) = self.data.enrollments.get_mut(enrollment) {
            if row.status == status::NOT_STARTED {
                (row.status, row.started) = (status::IN_PROGRESS, Some(now));
            }
            row.edited = now;
        }
        let ids = vec![("sessionId", session), ("sessionEnrollmentId", id)];
        Ok(self.told(learner, Some(course), "attended a session of", ids))
    }

    fn assess(&mut self, subject: &Subject) -> Result<Told, String> {
        let (learner, name) = (self.learner(subject)?, self.name(subject, &SKILLS));
        let (id, completed) = (guid(self.chance), self.moment.at);
        let words = format!("{} assessed themselves: {name}.", admin::name_of(self.data.learner(learner)));
        self.data.assessments.insert(id, SelfAssessment { learner, name, completed });
        Ok((words, Some(self.data.learner(learner).id), vec![("selfAssessmentId", id)]))
    }

    fn finish_path(&mut self, subject: &Subject) -> Result<Told, String> {
        let (learner, name) = (self.learner(subject)?, self.name(subject, &SKILLS));
        let (id, completed) = (guid(self.chance), self.moment.at);
        let words = format!("{} completed the learning path {name}.", admin::name_of(self.data.learner(learner)));
        let at = self.data.paths.insert(id, LearningPath { learner, name, completed });
        self.data.learner_mut(learner).paths.push(at);
        Ok((words, Some(self.data.learner(learner).id), vec![("learningPathId", id)]))
    }

    fn add_course(&mut self, kind: CourseKind, subject: &Subject) -> Told {
        let index = self.data.courses.len();
        let mut row = population::course(index, self.moment.at, self.chance);
        (row.kind, row.added, row.edited) = (kind, self.moment.at, self.moment.at);
        if let Some(name) = &subject.what {
            row.name.clone_from(name);
        }
        let (id, words) = (row.id, format!("The {} {} was added.", kind.as_str(), row.name));
        self.data.course_at.insert(id, u32::try_from(index).expect("fewer than 2^32 courses"));
        self.data.courses.push(row);
        (words, None, vec![(id_key(kind), id)])
    }

    fn switch_course(&mut self, kind: CourseKind, is_active: bool, subject: &Subject) -> Result<Told, String> {
        let course = self.course(subject, Some(kind))?;
        let now = self.moment.at;
        let row = self.data.course_mut(course);
        (row.is_active, row.edited) = (is_active, now);
        let verb = if is_active { "activated" } else { "deactivated" };
        Ok((format!("The {} {} was {verb}.", kind.as_str(), row.name), None, vec![(id_key(kind), row.id)]))
    }

    /// INFERRED: the enrolments in it stay, with its name.
    fn delete_bundle(&mut self, subject: &Subject) -> Result<Told, String> {
        let course = self.course(subject, Some(CourseKind::Bundle))?;
        let row = self.data.course_mut(course);
        row.is_deleted = true;
        Ok((format!("The CourseBundle {} was deleted.", row.name), None, vec![("courseBundleId", row.id)]))
    }

    fn create_department(&mut self, subject: &Subject) -> Told {
        let (id, now) = (guid(self.chance), self.moment.at);
        let name = subject.what.clone().unwrap_or_else(|| format!("Department {}", self.data.departments.len()));
        let words = format!("The department {name} was created.");
        let row = Department { id, name, parent: Some(0), is_deleted: false, added: now, edited: now };
        self.data.departments.push(row);
        (words, None, vec![("departmentId", id)])
    }

    /// INFERRED: only a department without people and without departments below it can be deleted.
    fn delete_department(&mut self, subject: &Subject) -> Result<Told, String> {
        let at = self.department(subject, true)?;
        let row = &mut self.data.departments[at as usize];
        row.is_deleted = true;
        Ok((format!("The department {} was deleted.", row.name), None, vec![("departmentId", row.id)]))
    }

    fn rename_department(&mut self, subject: &Subject) -> Result<Told, String> {
        let (at, now) = (self.department(subject, false)?, self.moment.at);
        let row = &mut self.data.departments[at as usize];
        let former = row.name.clone();
        row.name.push_str(" (new)");
        row.edited = now;
        Ok((format!("The department {former} is now {}.", row.name), None, Vec::new()))
    }

    fn create_group(&mut self, subject: &Subject) -> Told {
        let (id, now) = (guid(self.chance), self.moment.at);
        let name = subject.what.clone().unwrap_or_else(|| format!("Group {}", self.data.groups.len() + 1));
        let words = format!("The group {name} was created.");
        let row = Group { id, name, members: Some(Vec::new()), is_deleted: false, added: now, edited: now };
        self.data.groups.push(row);
        (words, None, vec![("groupId", id)])
    }

    fn delete_group(&mut self, subject: &Subject) -> Result<Told, String> {
        let at = self.group(subject)?;
        let row = &mut self.data.groups[at];
        row.is_deleted = true;
        Ok((format!("The group {} was deleted.", row.name), None, vec![("groupId", row.id)]))
    }

    fn change_group(&mut self, subject: &Subject) -> Result<Told, String> {
        let (learner, at, now) = (self.learner(subject)?, self.group(subject)?, self.moment.at);
        let name = admin::name_of(self.data.learner(learner));
        let row = &mut self.data.groups[at];
        let Some(members) = &mut row.members else {
            return Err(format!("the group {} is automatic: nobody puts people into it", row.name));
        };
        let before = members.len();
        members.retain(|member| *member != learner);
        let is_new = members.len() == before;
        if is_new {
            members.push(learner);
        }
        row.edited = now;
        let verb = if is_new { "joined" } else { "left" };
        Ok((format!("{name} {verb} the group {}.", row.name), None, Vec::new()))
    }

    fn change_enrollment(&mut self, deed: Deed, subject: &Subject) -> Result<Told, String> {
        let (learner, course, now) = (self.learner(subject)?, self.course(subject, None)?, self.moment.at);
        let active = self.data.active_enrollment(learner, course);
        let open = active.filter(|at| self.data.enrollments.get(*at).is_some_and(|row| row.completed.is_none()));
        if matches!(deed, Deed::Enrolled | Deed::Reenrolled) {
            if deed == Deed::Enrolled && active.is_some() {
                return Err("the learner is enrolled in that course already".to_owned());
            }
            self.data.enroll(guid(self.chance), learner, course, now);
            let verb = if deed == Deed::Enrolled { "was enrolled in" } else { "was enrolled again in" };
            return Ok(self.told(learner, Some(course), verb, Vec::new()));
        }
        let Some(at) = open else { return Err("the learner has no open enrolment in that course".to_owned()) };
        if deed == Deed::Unenrolled {
            self.data.delete_enrollment(at);
            return Ok(self.told(learner, Some(course), "was taken out of", Vec::new()));
        }
        let row = self.data.enrollments.get_mut(at).ok_or("the enrolment is gone")?;
        row.status = if deed == Deed::Started { status::IN_PROGRESS } else { status::FAILED };
        row.started = row.started.or(Some(now));
        row.edited = now;
        Ok(self.told(learner, Some(course), if deed == Deed::Started { "began" } else { "failed" }, Vec::new()))
    }

    fn correct(&mut self, deed: Deed, subject: &Subject) -> Result<Told, String> {
        let learner = self.learner(subject)?;
        let course = subject.what.as_ref().map(|_| self.course(subject, None)).transpose()?.or(subject.course);
        let is_it = |row: &Enrollment| row.completed.is_some() && course.is_none_or(|course| row.course == course);
        let at = self.data.newest(learner, is_it).ok_or("the learner has no such completion")?;
        let (now, score, days) = (self.moment.at, 50 + self.chance.below(51), 1 + self.chance.below(10) as i64);
        let row = self.data.enrollments.get_mut(at).ok_or("the enrolment is gone")?;
        if deed == Deed::ScoreCorrected {
            row.score = Some(score as f64);
        } else {
            row.completed = row.completed.map(|completed| completed.plus_ms(-days * DAY_MS));
        }
        row.edited = now;
        let course = row.course;
        let verb = if deed == Deed::ScoreCorrected { "has another score in" } else { "has another date in" };
        Ok(self.told(learner, Some(course), verb, Vec::new()))
    }

    fn revoke(&mut self, subject: &Subject) -> Result<Told, String> {
        let learner = self.learner(subject)?;
        let course = subject.what.as_ref().map(|_| self.course(subject, None)).transpose()?.or(subject.course);
        let is_it = |at: &&u32| {
            let row = self.data.certificates.get(**at);
            row.is_some_and(|row| course.is_none_or(|course| row.course == course))
        };
        let at = self.data.learner(learner).certificates.iter().rev().find(is_it).copied();
        let at = at.ok_or("the learner has no such certificate")?;
        let course = self.data.certificates.get(at).map(|row| row.course);
        self.data.delete_certificate(at);
        Ok(self.told(learner, course, "lost the certificate of", Vec::new()))
    }

    fn change_learner(&mut self, deed: Deed, subject: &Subject) -> Result<Told, String> {
        let (learner, now) = (self.learner(subject)?, self.moment.at);
        let name = admin::name_of(self.data.learner(learner));
        let words = match deed {
            Deed::LearnerMerged => {
                let stays = match &subject.what {
                    Some(word) => admin::find_learner(self.data, word)?,
                    None => self.some_learner()?,
                };
                if stays == learner {
                    return Err("a learner cannot be merged into themselves".to_owned());
                }
                self.data.merge(learner, stays, now);
                format!("{name} was merged into {}.", admin::name_of(self.data.learner(stays)))
            }
            Deed::LearnerMoved => {
                let at = match &subject.what {
                    Some(_) => self.department(subject, false)?,
                    None => {
                        let fit: Vec<u32> = (0..)
                            .zip(&self.data.departments)
                            .filter(|(_, row)| !row.is_deleted)
                            .map(|(at, _)| at)
                            .collect();
                        pick(self.chance, &fit)
                    }
                };
                self.data.learner_mut(learner).department = at;
                format!("{name} moved to {}.", self.data.departments[at as usize].name)
            }
            Deed::LearnerDeleted => {
                self.data.learner_mut(learner).is_deleted = true;
                format!("{name} was deleted.")
            }
            _ => {
                let is_active = deed == Deed::LearnerReactivated;
                self.data.learner_mut(learner).is_active = is_active;
                format!("{name} is {} now.", if is_active { "active" } else { "inactive" })
            }
        };
        self.data.learner_mut(learner).edited = now;
        Ok((words, None, Vec::new()))
    }

    fn rename_course(&mut self, subject: &Subject) -> Result<Told, String> {
        let (course, now) = (self.course(subject, None)?, self.moment.at);
        let row = self.data.course_mut(course);
        let former = row.name.clone();
        row.name.push_str(" (new)");
        row.edited = now;
        Ok((format!("The course {former} is now {}.", row.name), None, Vec::new()))
    }

    /// The sentence about a learner and a course, and the ids that all such webhooks share.
    fn told(&self, learner: u32, course: Option<u32>, verb: &str, mut ids: Vec<(&'static str, Uuid)>) -> Told {
        let row = self.data.learner(learner);
        let course = course.map(|at| self.data.course(at));
        ids.splice(0..0, course.map(|course| ("courseId", course.id)));
        let what = course.map_or("a course", |course| &course.name);
        (format!("{} {verb} {what}.", admin::name_of(row)), Some(row.id), ids)
    }

    /// A learner and a course, drawn.
    pub(super) fn draw_place(&self) -> Subject {
        let nobody = Subject::default();
        Subject { learner: self.some_learner().ok(), course: self.course(&nobody, None).ok(), what: None }
    }

    fn name(&self, subject: &Subject, names: &[&'static str]) -> String {
        subject.what.clone().unwrap_or_else(|| pick(self.chance, names).to_owned())
    }

    fn learner(&self, subject: &Subject) -> Result<u32, String> {
        subject.learner.map_or_else(|| self.some_learner(), Ok)
    }

    fn some_learner(&self) -> Result<u32, String> {
        let is_fit = |at: u32| !self.data.learner(at).is_deleted && self.data.learner(at).is_active;
        self.some(self.data.learners.len(), is_fit).ok_or_else(|| "the portal has no active learner".to_owned())
    }

    /// The course that is meant, of this kind.
    fn course(&self, subject: &Subject, kind: Option<CourseKind>) -> Result<u32, String> {
        let named = subject.what.as_deref().map(|word| admin::find_course(self.data, word)).transpose()?;
        let is_kind = |at: u32| kind.is_none_or(|kind| self.data.course(at).kind == kind);
        if let Some(at) = subject.course.or(named) {
            let row = self.data.course(at);
            let wrong =
                || format!("{} is no {}, but an {}", row.name, kind.map_or("", CourseKind::as_str), row.kind.as_str());
            return if is_kind(at) { Ok(at) } else { Err(wrong()) };
        }
        let is_fit = |at: u32| !self.data.course(at).is_deleted && is_kind(at);
        self.some(self.data.courses.len(), is_fit)
            .ok_or_else(|| format!("the portal has no {}", kind.map_or("course", CourseKind::as_str)))
    }

    fn department(&self, subject: &Subject, is_to_be_empty: bool) -> Result<u32, String> {
        let count = u32::try_from(self.data.departments.len()).unwrap_or(u32::MAX);
        let exists = |at: u32| at > 0 && !self.data.departments[at as usize].is_deleted;
        let is_empty = |at: u32| {
            let is_parent = self.data.departments.iter().any(|row| row.parent == Some(at) && !row.is_deleted);
            !is_parent && !self.data.learners.iter().any(|row| row.department == at && !row.is_deleted)
        };
        if let Some(word) = &subject.what {
            let is_it = |at: &u32| exists(*at) && self.data.departments[*at as usize].name.eq_ignore_ascii_case(word);
            let at = (0..count)
                .find(is_it)
                .ok_or_else(|| format!("the portal has no department \"{word}\" that can change"))?;
            return if is_to_be_empty && !is_empty(at) {
                Err(format!("the department {word} is not empty"))
            } else {
                Ok(at)
            };
        }
        let is_fit = |at: u32| exists(at) && (!is_to_be_empty || is_empty(at));
        let found = self.some(self.data.departments.len(), is_fit);
        found.ok_or_else(|| "the portal has no department for that: create one first".to_owned())
    }

    fn group(&self, subject: &Subject) -> Result<usize, String> {
        let is_fit = |at: u32| {
            let row = &self.data.groups[at as usize];
            let is_named = subject.what.as_ref().is_none_or(|word| row.name.eq_ignore_ascii_case(word));
            !row.is_deleted && row.members.is_some() && is_named
        };
        let found = self.some(self.data.groups.len(), is_fit);
        found.map(|at| at as usize).ok_or_else(|| "the portal has no such group that is not automatic".to_owned())
    }

    /// One of so many that is fit: a few picks, then all in turn.
    fn some(&self, count: usize, is_fit: impl Fn(u32) -> bool) -> Option<u32> {
        let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
        let picked = (0..PICKS_MAX).map(|_| self.chance.below(u64::from(count)) as u32).find(|at| is_fit(*at));
        picked.or_else(|| (0..count).find(|at| is_fit(*at)))
    }
}

/// A sentence, the learner whom the webhook names, and the ids that it may carry.
type Told = (String, Option<Uuid>, Vec<(&'static str, Uuid)>);

/// INFERRED.
fn id_key(kind: CourseKind) -> &'static str {
    match kind {
        CourseKind::Online | CourseKind::InstructorLed => "courseId",
        CourseKind::Curriculum => "curriculumId",
        CourseKind::Bundle => "courseBundleId",
    }
}

impl Data {
    /// The learner completes the course: the open enrolment, else a new one. `fresh` is the id of a new one.
    pub(super) fn complete(&mut self, (learner, course): (u32, u32), moment: Moment, fresh: Uuid) -> u32 {
        let open = self.active_enrollment(learner, course);
        let open = open.filter(|at| self.enrollments.get(*at).is_some_and(|row| row.status != status::COMPLETE));
        let at = open.unwrap_or_else(|| self.enroll(fresh, learner, course, moment.at));
        let (minutes, credits) = (self.course(course).minutes, self.course(course).credits);
        // From the id, so that a history of the same seed has the same scores.
        let score = 70.0 + (self.enrollments.id(at).as_u128() % 31) as f64;
        if let Some(row) = self.enrollments.get_mut(at) {
            row.status = status::COMPLETE;
            row.score = Some(score);
            row.minutes = minutes;
            row.credits = credits;
            row.started = Some(row.started.unwrap_or(row.added));
            row.completed = Some(moment.at);
            row.edited = moment.at;
            row.hidden_reads = moment.hidden_reads;
            self.completions += 1;
        }
        self.note(Fact::Completion(at));
        at
    }

    /// The learner gets the certificate of a completion that has none; who has no such completion completes the course first.
    pub(super) fn award_certificate(&mut self, place: (u32, u32), moment: Moment, chance: &dyn Entropy) -> u32 {
        let is_it = |row: &Enrollment| row.course == place.1 && row.completed.is_some() && row.certificate.is_none();
        let known = self.newest(place.0, is_it);
        let enrollment = known.unwrap_or_else(|| self.complete(place, moment, guid(chance)));
        self.certify(enrollment, moment, guid(chance))
    }

    /// A completed enrolment gets its certificate.
    pub(super) fn certify(&mut self, enrollment: u32, moment: Moment, id: Uuid) -> u32 {
        let place = self.enrollments.get(enrollment).map(|row| (row.learner, row.course));
        let (learner, course) = place.expect("it was found or made just now");
        let acquired = moment.at.plus_ms(-moment.at.0.rem_euclid(DAY_MS));
        let expires = self.course(course).years_valid.map(|years| years_later(acquired, years));
        let hidden_reads = moment.hidden_reads;
        let row = Certificate { enrollment, learner, course, acquired, expires, notes: None, hidden_reads };
        let at = self.certificates.insert(id, row);
        if let Some(row) = self.enrollments.get_mut(enrollment) {
            row.certificate = Some(at);
            row.edited = moment.at;
        }
        self.learner_mut(learner).certificates.push(at);
        self.note(Fact::Certificate(at));
        at
    }

    /// The learner gets a competency; its id, and that of its definition.
    pub(super) fn award_competency(
        &mut self,
        learner: u32,
        name: &str,
        moment: Moment,
        chance: &dyn Entropy,
    ) -> (Uuid, Uuid) {
        let (id, fresh) = (guid(chance), guid(chance));
        let definition = *self.definitions.entry(name.to_owned()).or_insert(fresh);
        let (acquired, hidden_reads) = (moment.at, moment.hidden_reads);
        let row = Competency { learner, definition, name: name.to_owned(), acquired, hidden_reads };
        let at = self.competencies.insert(id, row);
        self.learner_mut(learner).competencies.push(at);
        self.note(Fact::Competency(at));
        (id, definition)
    }

    /// The learner's newest enrolment that is so.
    pub(super) fn newest(&self, learner: u32, is_it: impl Fn(&Enrollment) -> bool) -> Option<u32> {
        let mut rows = self.learner(learner).enrollments.iter().rev().copied();
        rows.find(|at| self.enrollments.get(*at).is_some_and(&is_it))
    }
}
