//! What the fake portal holds, and how it changes.

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use super::limiter::RateLimiter;
use super::shelf::Shelf;
use crate::domain::time::Timestamp;
use crate::sandbox::population::{Course, Learner};

/// How many facts the page shows.
const RECENT_FACTS_MAX: usize = 200;

/// The states of an enrolment that the fake uses, of Absorb's 0 to 12 (SEEN: <https://docs.myabsorb.com/integration-api/v2/docs>).
pub(super) mod status {
    pub(in crate::sandbox::portal) const NOT_STARTED: u8 = 0;
    pub(in crate::sandbox::portal) const IN_PROGRESS: u8 = 1;
    pub(in crate::sandbox::portal) const COMPLETE: u8 = 3;
    pub(in crate::sandbox::portal) const FAILED: u8 = 5;
}

/// One enrolment of a learner in a course; learner, course and certificate are positions.
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
    pub(super) certificate: Option<u32>,
    /// How many reads still show it as not completed.
    pub(super) hidden_reads: u32,
}

impl Enrollment {
    /// One that has just been made.
    pub(super) fn new(learner: u32, course: u32, now: Timestamp) -> Self {
        Self {
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
        }
    }
}

/// One certificate; dates are midnights.
pub(super) struct Certificate {
    /// The position of its enrolment.
    pub(super) enrollment: u32,
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

/// A learner's enrolment in one session of an instructor-led course.
pub(super) struct SessionEnrollment {
    pub(super) learner: u32,
    pub(super) course: u32,
    /// The position of the enrolment in the course.
    pub(super) enrollment: u32,
    pub(super) session: Uuid,
    pub(super) name: String,
    pub(super) score: Option<f64>,
    pub(super) minutes: u32,
    pub(super) enrolled: Timestamp,
    pub(super) completed: Timestamp,
    pub(super) edited: Timestamp,
    /// How many reads still leave it out.
    pub(super) hidden_reads: u32,
}

/// A learning path that a learner has completed.
pub(super) struct LearningPath {
    pub(super) learner: u32,
    pub(super) name: String,
    pub(super) completed: Timestamp,
}

/// A self-assessment: only a webhook ever tells of it.
pub(super) struct SelfAssessment {
    pub(super) learner: u32,
    pub(super) name: String,
    pub(super) completed: Timestamp,
}

/// A department.
pub(super) struct Department {
    pub(super) id: Uuid,
    pub(super) name: String,
    /// The position of the department that it belongs to; none for the root.
    pub(super) parent: Option<u32>,
    pub(super) is_deleted: bool,
    pub(super) added: Timestamp,
    pub(super) edited: Timestamp,
}

/// A group of learners.
pub(super) struct Group {
    pub(super) id: Uuid,
    pub(super) name: String,
    /// The positions of its members; none for an automatic group, which has all learners.
    pub(super) members: Option<Vec<u32>>,
    pub(super) is_deleted: bool,
    pub(super) added: Timestamp,
    pub(super) edited: Timestamp,
}

/// A fact, for the page; by position.
#[derive(Clone, Copy)]
pub(super) enum Fact {
    Completion(u32),
    Certificate(u32),
    Competency(u32),
}

/// All that the portal holds.
pub(super) struct Data {
    pub(super) learners: Vec<Learner>,
    pub(super) courses: Vec<Course>,
    /// In the order of ids, so that a page of all learners needs no sorting.
    pub(super) learner_at: BTreeMap<Uuid, u32>,
    pub(super) course_at: BTreeMap<Uuid, u32>,
    pub(super) enrollments: Shelf<Enrollment>,
    pub(super) certificates: Shelf<Certificate>,
    pub(super) competencies: Shelf<Competency>,
    pub(super) sessions: Shelf<SessionEnrollment>,
    pub(super) paths: Shelf<LearningPath>,
    pub(super) assessments: Shelf<SelfAssessment>,
    /// Competency definitions by name.
    pub(super) definitions: BTreeMap<String, Uuid>,
    /// The first is the root.
    pub(super) departments: Vec<Department>,
    pub(super) groups: Vec<Group>,
    /// How many enrolments are completed.
    pub(super) completions: usize,
    pub(super) recent: VecDeque<Fact>,
    pub(super) limiter: RateLimiter,
}

impl Data {
    /// A portal without facts; learners are spread over the departments.
    pub(super) fn new(mut learners: Vec<Learner>, courses: Vec<Course>, departments: Vec<Department>) -> Self {
        for learner in &mut learners {
            learner.department = (learner.id.as_u128() % departments.len() as u128) as u32;
        }
        Self {
            learner_at: learners.iter().map(|learner| learner.id).zip(0..).collect(),
            course_at: courses.iter().map(|course| course.id).zip(0..).collect(),
            learners,
            courses,
            enrollments: Shelf::default(),
            certificates: Shelf::default(),
            competencies: Shelf::default(),
            sessions: Shelf::default(),
            paths: Shelf::default(),
            assessments: Shelf::default(),
            definitions: BTreeMap::new(),
            departments,
            groups: Vec::new(),
            completions: 0,
            recent: VecDeque::new(),
            limiter: RateLimiter::default(),
        }
    }

    pub(super) fn learner(&self, at: u32) -> &Learner {
        &self.learners[at as usize]
    }

    pub(super) fn learner_mut(&mut self, at: u32) -> &mut Learner {
        &mut self.learners[at as usize]
    }

    pub(super) fn course(&self, at: u32) -> &Course {
        &self.courses[at as usize]
    }

    pub(super) fn course_mut(&mut self, at: u32) -> &mut Course {
        &mut self.courses[at as usize]
    }

    /// The position of a learner who still exists.
    pub(super) fn find_learner(&self, id: Uuid) -> Option<u32> {
        self.learner_at.get(&id).copied().filter(|at| !self.learner(*at).is_deleted)
    }

    /// The position of a course that still exists.
    pub(super) fn find_course(&self, id: Uuid) -> Option<u32> {
        self.course_at.get(&id).copied().filter(|at| !self.course(*at).is_deleted)
    }

    /// Whether a department is this one or below it.
    pub(super) fn is_within(&self, department: u32, above: u32) -> bool {
        let mut at = Some(department);
        while let Some(here) = at {
            if here == above {
                return true;
            }
            at = self.departments[here as usize].parent;
        }
        false
    }

    /// The learner's active enrolment in a course: there is at most one
    /// (SEEN: <https://support.absorblms.com/hc/en-us/articles/115015908727>).
    pub(super) fn active_enrollment(&self, learner: u32, course: u32) -> Option<u32> {
        let is_it = |row: &Enrollment| row.course == course && row.is_active;
        let mut ids = self.learner(learner).enrollments.iter().rev().copied();
        ids.find(|at| self.enrollments.get(*at).is_some_and(is_it))
    }

    /// A new active enrolment; the one before becomes history.
    pub(super) fn enroll(&mut self, id: Uuid, learner: u32, course: u32, now: Timestamp) -> u32 {
        if let Some(former) = self.active_enrollment(learner, course)
            && let Some(former) = self.enrollments.get_mut(former)
        {
            former.is_active = false;
            former.edited = now;
        }
        let at = self.enrollments.insert(id, Enrollment::new(learner, course, now));
        self.learner_mut(learner).enrollments.push(at);
        let before =
            self.courses[course as usize].enrollments.partition_point(|known| self.enrollments.id(*known) < id);
        self.course_mut(course).enrollments.insert(before, at);
        at
    }

    pub(super) fn note(&mut self, fact: Fact) {
        if self.recent.len() == RECENT_FACTS_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(fact);
    }

    /// An enrolment vanishes, with its certificate.
    pub(super) fn delete_enrollment(&mut self, at: u32) -> bool {
        let Some(row) = self.enrollments.remove(at) else { return false };
        self.learner_mut(row.learner).enrollments.retain(|known| *known != at);
        self.course_mut(row.course).enrollments.retain(|known| *known != at);
        self.completions -= usize::from(row.completed.is_some());
        if let Some(certificate) = row.certificate {
            self.delete_certificate(certificate);
        }
        true
    }

    pub(super) fn delete_certificate(&mut self, at: u32) -> bool {
        let Some(row) = self.certificates.remove(at) else { return false };
        self.learner_mut(row.learner).certificates.retain(|known| *known != at);
        if let Some(enrollment) = self.enrollments.get_mut(row.enrollment) {
            enrollment.certificate = None;
        }
        true
    }

    /// Merges a duplicate user into the one that stays: the duplicate goes inactive
    /// (SEEN: <https://support.absorblms.com/hc/en-us/articles/52509766946707>).
    ///
    /// INFERRED: the facts of the duplicate move to the one that stays, with their ids; an active enrolment becomes history where the one
    /// that stays has an active one in the same course.
    pub(super) fn merge(&mut self, duplicate: u32, stays: u32, now: Timestamp) {
        let row = self.learner_mut(duplicate);
        row.is_active = false;
        row.edited = now;
        let [enrollments, certificates, competencies, sessions, paths] =
            [&mut row.enrollments, &mut row.certificates, &mut row.competencies, &mut row.sessions, &mut row.paths]
                .map(std::mem::take);
        for at in &enrollments {
            let course = self.enrollments.get(*at).map(|row| row.course);
            let has_active = course.is_some_and(|course| self.active_enrollment(stays, course).is_some());
            if let Some(row) = self.enrollments.get_mut(*at) {
                row.learner = stays;
                row.is_active &= !has_active;
                row.edited = now;
            }
        }
        certificates
            .iter()
            .for_each(|at| self.certificates.get_mut(*at).into_iter().for_each(|row| row.learner = stays));
        competencies
            .iter()
            .for_each(|at| self.competencies.get_mut(*at).into_iter().for_each(|row| row.learner = stays));
        sessions.iter().for_each(|at| self.sessions.get_mut(*at).into_iter().for_each(|row| row.learner = stays));
        paths.iter().for_each(|at| self.paths.get_mut(*at).into_iter().for_each(|row| row.learner = stays));
        let row = self.learner_mut(stays);
        row.edited = now;
        row.enrollments.extend(enrollments);
        row.certificates.extend(certificates);
        row.competencies.extend(competencies);
        row.sessions.extend(sessions);
        row.paths.extend(paths);
    }
}
