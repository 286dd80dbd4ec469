//! What a destination without routes gets: a file for each kind of record.

use learnsync_sdk::FieldType::{self, Date, Number, Text};
use learnsync_sdk::{DefaultField, DefaultRoute, RecordKind, RouteMode, SlotRule};

/// A column, the path that fills it, and its type.
type Column = (&'static str, &'static str, FieldType);

/// One default route; its object has its name.
pub(crate) struct Route {
    pub(crate) name: &'static str,
    record: RecordKind,
    /// Those that say what it is, before those that say whose it is.
    columns: &'static [Column],
}

/// By what an HR system knows a person again; the names are for people who look into the file.
const LEARNER: [Column; 6] = [
    ("employee_number", "learner.employee_number", Text),
    ("external_id", "learner.external_id", Text),
    ("email", "learner.email", Text),
    ("first_name", "learner.first_name", Text),
    ("last_name", "learner.last_name", Text),
    ("learner_id", "learner.id", Text),
];

/// In the order of `RecordKind::ALL`. Notes are left out: what somebody wrote about a person is not for every import.
pub(crate) const ROUTES: [Route; 11] = [
    Route {
        name: "completions",
        record: RecordKind::Completion,
        columns: &[
            ("title", "title", Text),
            ("completed", "achieved", Date),
            ("valid_until", "valid_until", Date),
            ("score", "score", Number),
            ("credits", "credits", Number),
            ("hours", "hours", Number),
            ("course_id", "course.id", Text),
            ("course_external_id", "course.external_id", Text),
            ("record_id", "id", Text),
        ],
    },
    Route {
        name: "certificates",
        record: RecordKind::Certificate,
        columns: &[
            ("title", "title", Text),
            ("issued", "achieved", Date),
            ("valid_until", "valid_until", Date),
            ("standing", "standing", Text),
            ("course_id", "course.id", Text),
            ("course_external_id", "course.external_id", Text),
            ("record_id", "id", Text),
        ],
    },
    Route {
        name: "competencies",
        record: RecordKind::Competency,
        columns: &[
            ("title", "title", Text),
            ("achieved", "achieved", Date),
            ("valid_until", "valid_until", Date),
            ("record_id", "id", Text),
        ],
    },
    Route {
        name: "credit_awards",
        record: RecordKind::CreditAward,
        columns: &[
            ("title", "title", Text),
            ("awarded", "achieved", Date),
            ("credits", "credits", Number),
            ("course_id", "course.id", Text),
            ("course_external_id", "course.external_id", Text),
            ("record_id", "id", Text),
        ],
    },
    Route {
        name: "session_attendances",
        record: RecordKind::SessionAttendance,
        columns: &[
            ("title", "title", Text),
            ("attended", "achieved", Date),
            ("session", "session.name", Text),
            ("session_id", "session.id", Text),
            ("hours", "hours", Number),
            ("course_id", "course.id", Text),
            ("course_external_id", "course.external_id", Text),
            ("record_id", "id", Text),
        ],
    },
    Route {
        name: "learning_paths",
        record: RecordKind::LearningPath,
        columns: &[
            ("title", "title", Text),
            ("completed", "achieved", Date),
            ("course_id", "course.id", Text),
            ("course_external_id", "course.external_id", Text),
            ("record_id", "id", Text),
        ],
    },
    Route {
        name: "self_assessments",
        record: RecordKind::SelfAssessment,
        columns: &[
            ("title", "title", Text),
            ("completed", "achieved", Date),
            ("score", "score", Number),
            ("record_id", "id", Text),
        ],
    },
    Route {
        name: "people",
        record: RecordKind::Person,
        columns: &[("standing", "standing", Text), ("department_id", "department", Text)],
    },
    Route {
        name: "departments",
        record: RecordKind::Department,
        columns: &[
            ("name", "title", Text),
            ("external_id", "external_id", Text),
            ("parent_id", "department", Text),
            ("department_id", "id", Text),
        ],
    },
    Route {
        name: "groups",
        record: RecordKind::Group,
        columns: &[("name", "title", Text), ("members", "members", Number), ("group_id", "id", Text)],
    },
    Route {
        name: "courses",
        record: RecordKind::Course,
        columns: &[
            ("name", "title", Text),
            ("external_id", "external_id", Text),
            ("category", "category", Text),
            ("standing", "standing", Text),
            ("course_id", "id", Text),
        ],
    },
];

impl Route {
    /// All columns: of a fact about a person, the person's come first.
    fn all_columns(&self) -> impl Iterator<Item = Column> {
        let learner: &[Column] = if self.record.is_about_learner() { &LEARNER } else { &[] };
        learner.iter().chain(self.columns).copied()
    }
}

/// The columns of the default object with this name; none of any other.
pub(crate) fn default_columns(object: &str) -> Vec<(String, FieldType)> {
    let route = ROUTES.iter().find(|route| route.name == object);
    route.into_iter().flat_map(Route::all_columns).map(|(name, _, kind)| (name.to_owned(), kind)).collect()
}

/// The default routes, as the daemon takes them.
pub(crate) fn default_routes() -> Vec<DefaultRoute> {
    let route = |route: &Route| DefaultRoute {
        name: route.name,
        record: route.record,
        object: route.name,
        mode: RouteMode::State,
        slot: SlotRule::Record,
        fields: route.all_columns().map(|(field, path, _)| DefaultField { field, source: ("path", path) }).collect(),
    };
    ROUTES.iter().map(route).collect()
}
