//! Many enrolments at once, reproducibly from the seed: for benchmarks with a million of them.

use super::data::{Certificate, Data, Enrollment, status};
use super::years_later;
use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::Timestamp;
use crate::sandbox::population::{DAY_MS, guid};

/// How far back completions lie, in days.
const DAYS_MAX: u64 = 700;

impl Data {
    /// Adds so many enrolments, dealt to all learners in turn: four of five are completed, of those in courses whose certificates expire
    /// every second has one, and one of five is in progress. A learner is enrolled in a course once, unless there are more enrolments than
    /// learners times courses; then the older ones are history.
    pub(super) fn fill(&mut self, count: usize, seed: u64, now: Timestamp) {
        let (learners, courses) = (self.learners.len(), self.courses.len());
        if count == 0 || learners == 0 || courses == 0 {
            return;
        }
        let chance = Generator::seeded(seed ^ 0x6d61_6e79);
        let first = self.enrollments.next();
        let first_certificate = self.certificates.next();
        let (mut rows, mut certificates) = (Vec::with_capacity(count), Vec::new());
        for (at, number) in (first..).zip(0..count) {
            let (learner, round) = (number % learners, number / learners);
            // Spreads the learners over the courses, and each goes through them in turn.
            let course = (learner.wrapping_mul(31) + round) % courses;
            let mut row = filled(learner as u32, course as u32, now, &chance);
            row.is_active = number + learners * courses >= count;
            if row.status == status::COMPLETE {
                let course = self.course(course as u32);
                (row.minutes, row.credits) = (course.minutes, course.credits);
                if course.years_valid.is_some() && chance.below(2) == 0 {
                    row.certificate = Some(first_certificate + certificates.len() as u32);
                    certificates.push((guid(&chance), certificate(at, &row, course.years_valid)));
                }
                self.completions += 1;
            }
            self.learner_mut(learner as u32).enrollments.push(at);
            self.course_mut(course as u32).enrollments.push(at);
            rows.push((guid(&chance), row));
        }
        for (at, (_, row)) in (first_certificate..).zip(&certificates) {
            self.learners[row.learner as usize].certificates.push(at);
        }
        self.enrollments.fill(rows);
        self.certificates.fill(certificates);
        let ids = &self.enrollments;
        self.courses.iter_mut().for_each(|course| course.enrollments.sort_unstable_by_key(|at| ids.id(*at)));
    }
}

fn filled(learner: u32, course: u32, now: Timestamp, chance: &dyn Entropy) -> Enrollment {
    let edited =
        now.plus_ms(-(1 + chance.below(DAYS_MAX) as i64) * DAY_MS - chance.below(DAY_MS as u64 / 1_000) as i64 * 1_000);
    let mut row = Enrollment::new(learner, course, edited.plus_ms(-(chance.below(30) as i64) * DAY_MS));
    row.edited = edited;
    row.started = Some(row.added);
    if chance.below(5) == 0 {
        row.status = status::IN_PROGRESS;
    } else {
        row.status = status::COMPLETE;
        row.completed = Some(edited);
        row.score = Some(70.0 + chance.below(31) as f64);
    }
    row
}

fn certificate(enrollment: u32, row: &Enrollment, years_valid: Option<u32>) -> Certificate {
    let acquired = row.edited.plus_ms(-row.edited.0.rem_euclid(DAY_MS));
    let expires = years_valid.map(|years| years_later(acquired, years));
    let (learner, course) = (row.learner, row.course);
    Certificate { enrollment, learner, course, acquired, expires, notes: None, hidden_reads: 0 }
}
