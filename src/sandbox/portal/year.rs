//! A year in the portal, from the seed: what learners and administrators do from day to day, with the webhooks for it.

use super::deeds::{Act, DEEDS, Deed, DeedRow, Subject};
use super::{HookBody, PortalHandle};
use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::Timestamp;
use crate::sandbox::population::{CourseKind, DAY_MS};

/// A year, in milliseconds.
const YEAR_MS: i64 = 365 * DAY_MS;
/// How many deeds a learner does or suffers in a year.
const DEEDS_PER_LEARNER: usize = 8;
/// Administrators change the catalogue once in so many deeds; thirty times a year at least.
const DEEDS_PER_CHANGE: usize = 50;
const CHANGES_MIN: usize = 30;

/// How often each deed of a learner happens, in parts of the sum.
const LIFE: [(Deed, u64); 19] = [
    (Deed::Enrolled, 200),
    (Deed::Started, 120),
    (Deed::CompletedByLearner, 300),
    (Deed::CompletedByAdmin, 60),
    (Deed::CertificateAwarded, 120),
    (Deed::CompetencyAwarded, 40),
    (Deed::CreditsAwarded, 40),
    (Deed::SessionCompleted, 60),
    (Deed::SelfAssessment, 10),
    (Deed::LearningPath, 10),
    (Deed::Reenrolled, 60),
    (Deed::Failed, 15),
    (Deed::Unenrolled, 10),
    (Deed::ScoreCorrected, 15),
    (Deed::DateCorrected, 15),
    (Deed::CertificateRevoked, 5),
    (Deed::LearnerMoved, 15),
    (Deed::LearnerDeactivated, 8),
    (Deed::LearnerMerged, 2),
];

/// What happens to the catalogue, equally often.
const CHANGES: [Deed; 20] = [
    Deed::UserCreated,
    Deed::DepartmentCreated,
    Deed::DepartmentDeleted,
    Deed::DepartmentRenamed,
    Deed::GroupCreated,
    Deed::GroupChanged,
    Deed::GroupDeleted,
    Deed::CourseAdded(CourseKind::Curriculum),
    Deed::CourseAdded(CourseKind::InstructorLed),
    Deed::CourseAdded(CourseKind::Bundle),
    Deed::BundleDeleted,
    Deed::CourseDeactivated(CourseKind::Online),
    Deed::CourseActivated(CourseKind::Online),
    Deed::CourseDeactivated(CourseKind::InstructorLed),
    Deed::CourseActivated(CourseKind::InstructorLed),
    Deed::CourseDeactivated(CourseKind::Curriculum),
    Deed::CourseActivated(CourseKind::Curriculum),
    Deed::CourseDeactivated(CourseKind::Bundle),
    Deed::CourseActivated(CourseKind::Bundle),
    Deed::LearnerReactivated,
];

/// A year under way: deeds in order of their time. The same seed makes the same plan, and played to its end the same facts.
pub struct Year {
    plan: std::vec::IntoIter<(Timestamp, usize)>,
    /// Makes the facts; nothing else draws from it.
    chance: Generator,
}

impl Year {
    fn plan(seed: u64, learners: usize, from: Timestamp) -> Self {
        let chance = Generator::seeded(seed ^ 0x7965_6172);
        let lived = learners * DEEDS_PER_LEARNER;
        let changes = (lived / DEEDS_PER_CHANGE).max(CHANGES_MIN);
        let sum: u64 = LIFE.iter().map(|(_, weight)| weight).sum();
        let mut plan: Vec<(Timestamp, usize)> = Vec::with_capacity(lived + changes);
        for number in 0..lived + changes {
            let deed = if number < lived {
                let mut ticket = chance.below(sum);
                let drawn = LIFE.iter().find(|(_, weight)| {
                    let is_drawn = ticket < *weight;
                    ticket = ticket.saturating_sub(*weight);
                    is_drawn
                });
                drawn.expect("a ticket is below the sum").0
            } else {
                // Each change happens before any happens again.
                CHANGES[number % CHANGES.len()]
            };
            let at = from.plus_ms(chance.below(YEAR_MS as u64 / 1_000) as i64 * 1_000);
            let place = DEEDS.iter().position(|row| row.deed == deed).expect("all deeds have a row");
            plan.push((at, place));
        }
        plan.sort();
        Self { plan: plan.into_iter(), chance }
    }

    /// When the next thing happens, in the portal's calendar; none at the end of the year.
    #[must_use]
    pub fn next_at(&self) -> Option<Timestamp> {
        self.plan.as_slice().first().map(|(at, _)| *at)
    }

    /// How many things are still to happen.
    #[must_use]
    pub fn left(&self) -> usize {
        self.plan.len()
    }
}

impl PortalHandle {
    /// Turns the portal's calendar back by a year and lets it run so many seconds a second; 0 stands still between `play_next`. Tokens
    /// and limits keep to the portal's own time.
    #[must_use]
    pub fn begin_year(&self, speed: u32) -> Year {
        let from = self.portal.clock.now().plus_ms(-YEAR_MS);
        self.portal.clock.set_calendar(from, speed);
        Year::plan(self.portal.seed, self.portal.data().learners.len(), from)
    }

    /// What the portal's calendar shows.
    #[must_use]
    pub fn calendar(&self) -> Timestamp {
        self.portal.now()
    }

    /// Lets the next thing of the year happen at its time, which the calendar then shows at least; its webhooks, unsent. A deed that cannot happen is
    /// passed over. None at the end of the year: then the calendar shows the portal's time again.
    #[must_use]
    pub fn play_next(&self, year: &mut Year) -> Option<Vec<HookBody>> {
        let Some((at, place)) = year.plan.next() else {
            self.portal.clock.join();
            return None;
        };
        self.portal.clock.reach(at);
        let row = &DEEDS[place];
        let mut moment = self.portal.moment();
        moment.at = at;
        let mut data = self.portal.data();
        let mut act = Act { data: &mut data, moment, admin: self.portal.admin, chance: &year.chance };
        let mut events = Vec::new();
        // Who completes a course often gets its credits and its certificate at once: then one act has several webhooks.
        let subject = act.draw(row);
        match act.perform(row, &subject) {
            Ok(done) => events.extend(done.events),
            Err(words) => tracing::debug!(deed = row.word, words, "The sandbox passes something over."),
        }
        if matches!(row.deed, Deed::CompletedByLearner) && !events.is_empty() {
            for more in [Deed::CertificateAwarded, Deed::CreditsAwarded] {
                if year.chance.below(3) == 0 {
                    events.extend(act.follow(more, &subject));
                }
            }
        }
        drop(data);
        Some(self.portal.write(&events))
    }
}

impl Act<'_> {
    /// Draws the learner and the course of a deed, so that what follows from it is about the same.
    fn draw(&mut self, row: &DeedRow) -> Subject {
        match row.deed {
            Deed::CompletedByLearner => self.draw_place(),
            _ => Subject::default(),
        }
    }

    fn follow(&mut self, deed: Deed, subject: &Subject) -> Vec<super::Event> {
        let row = DEEDS.iter().find(|row| row.deed == deed).expect("all deeds have a row");
        self.perform(row, subject).map(|done| done.events).unwrap_or_default()
    }
}
