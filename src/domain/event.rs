//! Webhooks: the raw request as received, and what could be read from it.

use std::collections::BTreeMap;

use learnsync_sdk::RecordKind;

use super::subject::SubjectKind;

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

/// Whose doing an event is, by Absorb's own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// An administrator did it.
    Administrator,
    /// A learner did it.
    Learner,
}

/// One of Absorb's events: all that is known about it.
#[derive(PartialEq, Eq)]
pub struct KnownEvent {
    /// The name that administrators see.
    pub name: &'static str,
    /// The word for reports, metrics and the ledger.
    pub word: &'static str,
    /// Other names that it may have in a webhook: lower case, letters and digits only.
    pub aliases: &'static [&'static str],
    /// Whose doing it is.
    pub audience: Audience,
    /// What it makes us re-read.
    pub subject: SubjectKind,
    /// The kind of record that it promises to exist; of lists only if the webhook names the thing.
    pub promises: Option<RecordKind>,
    /// Where a webhook may name the thing itself, by folded key.
    pub thing: &'static [&'static str],
}

impl std::fmt::Debug for KnownEvent {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.word)
    }
}

/// Absorb's 24 events (<https://support.absorblms.com/hc/en-us/articles/28999993938451-Webhooks>); how webhooks spell them is not documented.
pub const EVENTS: &[KnownEvent] = &[
    of_admin("User Created", "user_created", SubjectKind::Learner, Some(RecordKind::Person), USER),
    of_admin(
        "Online Course Activated",
        "online_course_activated",
        SubjectKind::Courses,
        Some(RecordKind::Course),
        COURSE,
    ),
    of_admin("Online Course Deactivated", "online_course_deactivated", SubjectKind::Courses, None, COURSE),
    KnownEvent {
        aliases: &["adminenrollmentcompleted"],
        ..of_admin(
            "Enrollment Completed by Admin",
            "enrollment_completed_by_admin",
            SubjectKind::Learner,
            Some(RecordKind::Completion),
            ENROLLMENT,
        )
    },
    of_admin(
        "Department Created",
        "department_created",
        SubjectKind::Departments,
        Some(RecordKind::Department),
        DEPARTMENT,
    ),
    of_admin("Department Deleted", "department_deleted", SubjectKind::Departments, None, DEPARTMENT),
    of_admin("Group Created", "group_created", SubjectKind::Groups, Some(RecordKind::Group), GROUP),
    of_admin("Group Deleted", "group_deleted", SubjectKind::Groups, None, GROUP),
    of_admin("Curriculum Activated", "curriculum_activated", SubjectKind::Courses, Some(RecordKind::Course), COURSE),
    of_admin("Curriculum Deactivated", "curriculum_deactivated", SubjectKind::Courses, None, COURSE),
    of_admin("Curriculum Added", "curriculum_added", SubjectKind::Courses, Some(RecordKind::Course), COURSE),
    of_admin(
        "Instructor Led Course Activated",
        "instructor_led_course_activated",
        SubjectKind::Courses,
        Some(RecordKind::Course),
        COURSE,
    ),
    of_admin(
        "Instructor Led Course Deactivated",
        "instructor_led_course_deactivated",
        SubjectKind::Courses,
        None,
        COURSE,
    ),
    of_admin(
        "Instructor Led Course Added",
        "instructor_led_course_added",
        SubjectKind::Courses,
        Some(RecordKind::Course),
        COURSE,
    ),
    of_admin(
        "Course Bundle Activated",
        "course_bundle_activated",
        SubjectKind::Courses,
        Some(RecordKind::Course),
        COURSE,
    ),
    of_admin("Course Bundle Deactivated", "course_bundle_deactivated", SubjectKind::Courses, None, COURSE),
    of_admin("Course Bundle Deleted", "course_bundle_deleted", SubjectKind::Courses, None, COURSE),
    KnownEvent {
        aliases: &[
            "enrollmentcompleted",
            "enrollmentcomplete",
            "courseenrollmentcompleted",
            "coursecompleted",
            "learnerenrollmentcompleted",
        ],
        ..of_learner(
            "Enrollment Completed by Learner",
            "enrollment_completed_by_learner",
            RecordKind::Completion,
            ENROLLMENT,
        )
    },
    of_learner("Certificate Awarded", "certificate_awarded", RecordKind::Certificate, &["certificateid"]),
    of_learner(
        "Competency Awarded",
        "competency_awarded",
        RecordKind::Competency,
        &["competencyid", "competencydefinitionid"],
    ),
    KnownEvent {
        aliases: &["creditsawarded", "creditawarded", "coursecreditawarded"],
        ..of_learner("Course Credits Awarded", "course_credits_awarded", RecordKind::CreditAward, ENROLLMENT)
    },
    KnownEvent {
        aliases: &["sessioncompleted", "coursesessionenrollmentcompleted"],
        ..of_learner(
            "Session Enrollment Completed",
            "session_enrollment_completed",
            RecordKind::SessionAttendance,
            &["sessionenrollmentid", "sessionid"],
        )
    },
    of_learner(
        "Self-Assessment Completed",
        "self_assessment_completed",
        RecordKind::SelfAssessment,
        &["selfassessmentid", "assessmentid"],
    ),
    of_learner("Learning Path Completed", "learning_path_completed", RecordKind::LearningPath, &["learningpathid"]),
];

const USER: &[&str] = &["userid", "learnerid", "userguid", "learnerguid"];
const ENROLLMENT: &[&str] = &["enrollmentid", "courseenrollmentid", "enrolmentid"];
const DEPARTMENT: &[&str] = &["departmentid"];
const GROUP: &[&str] = &["groupid"];
const COURSE: &[&str] =
    &["courseid", "curriculumid", "coursebundleid", "bundleid", "instructorledcourseid", "onlinecourseid"];

const fn of_admin(
    name: &'static str,
    word: &'static str,
    subject: SubjectKind,
    promises: Option<RecordKind>,
    thing: &'static [&'static str],
) -> KnownEvent {
    KnownEvent { name, word, aliases: &[], audience: Audience::Administrator, subject, promises, thing }
}

const fn of_learner(
    name: &'static str,
    word: &'static str,
    promises: RecordKind,
    thing: &'static [&'static str],
) -> KnownEvent {
    let (subject, promises) = (SubjectKind::Learner, Some(promises));
    KnownEvent { name, word, aliases: &[], audience: Audience::Learner, subject, promises, thing }
}

/// Folds a key or a name: lower case, letters and digits only. `Correlation ID`, `correlationId` and `correlation_id` become one.
#[must_use]
pub fn fold(text: &str) -> String {
    text.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The event with this word or this name.
#[must_use]
pub fn event_called(text: &str) -> Option<&'static KnownEvent> {
    EVENTS.iter().find(|event| event.word == text || event.name.eq_ignore_ascii_case(text))
}

/// Which event a webhook is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventName {
    /// One of Absorb's list.
    Known(&'static KnownEvent),
    /// The Test Webhook button, or an empty body.
    Test,
    /// A name that is not on the list, as sent.
    Unknown(String),
}

impl EventName {
    /// The event of Absorb's list with this word or this name.
    #[must_use]
    pub fn called(text: &str) -> Option<Self> {
        event_called(text).map(Self::Known)
    }

    /// The word for reports and metrics.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(event) => event.word,
            Self::Unknown(name) => name,
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

impl Reading {
    /// What it makes us re-read, with its id in the LMS; none when that is a learner and the body names none.
    #[must_use]
    pub fn subject(&self) -> Option<(SubjectKind, &str)> {
        let kind = match &self.name {
            EventName::Known(event) => event.subject,
            // Whatever it means: whom it names is read again.
            EventName::Unknown(_) => SubjectKind::Learner,
            EventName::Test => return None,
        };
        match kind {
            SubjectKind::Learner => self.user_id.as_deref().map(|user| (kind, user)),
            SubjectKind::Courses | SubjectKind::Departments | SubjectKind::Groups => Some((kind, kind.as_str())),
        }
    }

    /// The id of the thing itself (certificate, session, department ...), if the body names it.
    #[must_use]
    pub fn thing(&self) -> Option<&str> {
        let EventName::Known(event) = &self.name else { return None };
        event.thing.iter().find_map(|key| self.ids.get(*key)).map(String::as_str)
    }

    /// The LMS id of the administrator whose doing it was, if the body names one.
    #[must_use]
    pub fn by(&self) -> Option<&str> {
        ADMIN.iter().find_map(|key| self.ids.get(*key)).map(String::as_str)
    }
}

/// Keys of the administrator's id.
const ADMIN: [&str; 4] = ["adminid", "administratorid", "adminguid", "adminuserid"];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The README's table of events, one line each.
    fn table() -> String {
        let lines = EVENTS.iter().map(|event| {
            let whose = match event.audience {
                Audience::Administrator => "administrator",
                Audience::Learner => "learner",
            };
            let read = match event.subject {
                SubjectKind::Learner => "the learner",
                SubjectKind::Courses => "the list of courses",
                SubjectKind::Departments => "the list of departments",
                SubjectKind::Groups => "the list of groups",
            };
            let brings = event.promises.map_or(String::new(), |kind| format!("`{kind}`"));
            format!("| {} | {whose} | {read} | {brings} |\n", event.name)
        });
        format!("| event | whose doing | read again | brings |\n|---|---|---|---|\n{}", lines.collect::<String>())
    }

    #[test]
    fn the_readme_lists_the_events_as_the_program_knows_them() {
        let readme = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        let text = std::fs::read_to_string(&readme).expect("the README is there");
        let begin = text.find("| event | whose doing |").expect("the README has the table");
        let end = begin + text[begin..].find("\n\n").expect("an empty line ends it") + 1;
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            let updated = format!("{}{}{}", &text[..begin], table(), &text[end..]);
            std::fs::write(&readme, updated).expect("the README is written");
            return;
        }
        assert_eq!(&text[begin..end], table(), "UPDATE_EXPECTED=1 writes it anew");
    }

    #[test]
    fn there_are_twenty_four_events_and_no_two_share_a_name_or_a_word() {
        assert_eq!(EVENTS.len(), 24);
        let names: BTreeSet<&str> = EVENTS.iter().flat_map(|event| [event.name, event.word]).collect();
        assert_eq!(names.len(), 48);
        let of_admin = EVENTS.iter().filter(|event| event.audience == Audience::Administrator).count();
        assert_eq!((of_admin, EVENTS.len() - of_admin), (17, 7), "as Absorb lists them");
    }

    #[test]
    fn an_event_promises_what_its_subject_can_hold() {
        for event in EVENTS {
            let Some(kind) = event.promises else { continue };
            assert_eq!(event.subject == SubjectKind::Learner, kind.is_about_learner(), "{}", event.name);
            assert!(event.subject.listed().is_none_or(|listed| listed == kind), "{}", event.name);
        }
    }
}
