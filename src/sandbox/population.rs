//! The seeded world: courses, learners, and the employees behind them.

use uuid::Uuid;

use super::names::{COURSES, FIRST, LAST};
use crate::domain::chance::Entropy;
use crate::domain::time::Timestamp;

/// One day, in milliseconds.
pub(super) const DAY_MS: i64 = 86_400_000;

/// What sort of course; the words are those of `courseType`, SEEN in clients of Absorb
/// (<https://github.com/krishna-pawar-catalystcr/absorb-connector>, <https://github.com/npezza93/absorb_api>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CourseKind {
    Online,
    InstructorLed,
    Curriculum,
    Bundle,
}

impl CourseKind {
    /// The word in the API.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Online => "OnlineCourse",
            Self::InstructorLed => "InstructorLedCourse",
            Self::Curriculum => "Curriculum",
            Self::Bundle => "CourseBundle",
        }
    }

    /// Half of all courses are online, and each six in a row hold all kinds.
    fn of(index: usize) -> Self {
        match index % 6 {
            3 => Self::InstructorLed,
            4 => Self::Curriculum,
            5 => Self::Bundle,
            _ => Self::Online,
        }
    }
}

/// One course of the portal.
pub(super) struct Course {
    pub(super) id: Uuid,
    pub(super) kind: CourseKind,
    pub(super) name: String,
    pub(super) external_id: String,
    pub(super) is_active: bool,
    pub(super) is_deleted: bool,
    /// The time that a learner spends in it: multiples of 15, so that hours have at most two decimals.
    pub(super) minutes: u32,
    /// Credits for completing it.
    pub(super) credits: Option<f64>,
    /// How long its certificate is valid, in years.
    pub(super) years_valid: Option<u32>,
    pub(super) added: Timestamp,
    pub(super) edited: Timestamp,
    /// The positions of the enrolments in it, in the order of their ids: its pages are then slices.
    pub(super) enrollments: Vec<u32>,
}

/// One user of the portal.
pub(super) struct Learner {
    pub(super) id: Uuid,
    pub(super) first_name: &'static str,
    pub(super) last_name: &'static str,
    pub(super) email: String,
    pub(super) username: String,
    pub(super) external_id: Option<String>,
    pub(super) employee_number: Option<String>,
    /// The position of the department; a user is in exactly one (SEEN second hand: <https://www.stitchflow.com/user-management/absorb-lms/api>).
    pub(super) department: u32,
    pub(super) is_active: bool,
    pub(super) is_deleted: bool,
    pub(super) added: Timestamp,
    pub(super) edited: Timestamp,
    /// The positions of the learner's facts, oldest first.
    pub(super) enrollments: Vec<u32>,
    pub(super) certificates: Vec<u32>,
    pub(super) competencies: Vec<u32>,
    pub(super) sessions: Vec<u32>,
    pub(super) paths: Vec<u32>,
}

/// One employee of the HR system.
#[derive(Clone)]
pub(super) struct Employee {
    pub(super) id: u32,
    pub(super) employee_number: String,
    pub(super) email: String,
    pub(super) first_name: String,
    pub(super) last_name: String,
    pub(super) is_active: bool,
}

/// Everybody and everything at the start.
pub(super) struct Population {
    pub(super) courses: Vec<Course>,
    pub(super) learners: Vec<Learner>,
    pub(super) employees: Vec<Employee>,
}

/// How many of what.
pub(super) struct Counts {
    pub(super) courses: usize,
    pub(super) learners: usize,
    pub(super) unknown: usize,
    pub(super) ambiguous: usize,
}

impl Population {
    /// Makes the same world for the same entropy: of ten learners, eight are known to HR by their external id, one by the employee
    /// number and one by e-mail only. The last `unknown` learners are not in HR; the `ambiguous` before them are there twice.
    pub(super) fn make(counts: &Counts, now: Timestamp, chance: &dyn Entropy) -> Self {
        let courses = (0..counts.courses).map(|index| course(index, now, chance)).collect();
        let learners: Vec<Learner> = (0..counts.learners).map(|index| learner(index, now, chance)).collect();
        let known = counts.learners.saturating_sub(counts.unknown);
        let twice = known.saturating_sub(counts.ambiguous)..known;
        let mut employees = Vec::new();
        for (index, learner) in learners.iter().take(known).enumerate() {
            employees.push(employee(index, learner));
            if twice.contains(&index) {
                employees.push(employee(index, learner));
            }
        }
        // People whom the LMS does not know; HR systems hold more than learners.
        for index in counts.learners..counts.learners + counts.learners / 10 {
            employees.push(employee(index, &self::learner(index, now, chance)));
        }
        for (id, employee) in (1..).zip(&mut employees) {
            employee.id = id;
        }
        Self { courses, learners, employees }
    }
}

/// A random GUID of version 4.
pub(super) fn guid(chance: &dyn Entropy) -> Uuid {
    let mut bytes = [0; 16];
    chance.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// One of a list.
pub(super) fn pick<T: Copy>(chance: &dyn Entropy, list: &[T]) -> T {
    list[usize::try_from(chance.below(list.len() as u64)).expect("an index below a length is a usize")]
}

/// The course of this number as it is at the start, or when an administrator adds it.
pub(super) fn course(index: usize, now: Timestamp, chance: &dyn Entropy) -> Course {
    let base = COURSES[index % COURSES.len()];
    let round = index / COURSES.len();
    Course {
        id: guid(chance),
        kind: CourseKind::of(index),
        name: if round == 0 { base.to_owned() } else { format!("{base} {}", round + 1) },
        is_active: true,
        is_deleted: false,
        external_id: format!("C-{:04}", index + 1),
        minutes: pick(chance, &[15, 30, 45, 60, 90, 120]),
        credits: pick(chance, &[None, Some(1.0), Some(1.5), Some(2.0)]),
        years_valid: pick(chance, &[None, Some(1), Some(2), Some(3)]),
        added: now.plus_ms(-900 * DAY_MS),
        edited: now.plus_ms(-900 * DAY_MS),
        enrollments: Vec::new(),
    }
}

fn number(index: usize) -> String {
    format!("E{}", 10_001 + index)
}

/// The learner of this number as they are at the start, or when an administrator creates them.
pub(super) fn learner(index: usize, now: Timestamp, chance: &dyn Entropy) -> Learner {
    let (first_name, last_name) = (pick(chance, &FIRST), pick(chance, &LAST));
    let plain = |name: &str| name.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_lowercase();
    let email = format!("{}.{}{}@example.com", plain(first_name), plain(last_name), index + 1);
    let added = now.plus_ms(-800 * DAY_MS);
    let (external_id, employee_number) = match index % 10 {
        7 => (None, None),
        8 => (None, Some(number(index))),
        _ => (Some(number(index)), index.is_multiple_of(3).then(|| number(index))),
    };
    Learner {
        id: guid(chance),
        first_name,
        last_name,
        username: email.clone(),
        // Capitals in one of five addresses: letters must be folded before they are compared.
        email: if index % 5 == 2 { email.replace("@example", "@Example") } else { email },
        external_id,
        employee_number,
        department: 0,
        is_active: true,
        is_deleted: false,
        added,
        edited: added,
        enrollments: Vec::new(),
        certificates: Vec::new(),
        competencies: Vec::new(),
        sessions: Vec::new(),
        paths: Vec::new(),
    }
}

fn employee(index: usize, learner: &Learner) -> Employee {
    Employee {
        id: 0,
        employee_number: number(index),
        email: learner.username.clone(),
        first_name: learner.first_name.to_owned(),
        last_name: learner.last_name.to_owned(),
        is_active: index % 17 != 5,
    }
}
