//! When a reconciliation is due. Pure: a night that the machine slept through is due at its start.

use chrono_tz::Tz;
use croner::Cron;
use croner::parser::CronParser;

use crate::domain::time::Timestamp;

/// A cron expression with five fields, in a zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
}

impl Schedule {
    /// Reads a cron expression.
    ///
    /// # Errors
    /// In the parser's words, with the expression.
    pub fn parse(expression: &str, zone: Tz) -> Result<Self, String> {
        let cron = CronParser::new()
            .parse(expression)
            .map_err(|error| format!("\"{expression}\" is not a cron expression with five fields: {error}"))?;
        Ok(Self { cron, zone })
    }

    /// Whether a run is due: never ran, or the first time after the last run has come.
    #[must_use]
    pub fn due(&self, last: Option<Timestamp>, now: Timestamp) -> bool {
        match last {
            None => true,
            Some(last) => self.next_after(last).is_some_and(|next| next <= now),
        }
    }

    /// The first time after an instant.
    #[must_use]
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let local = at.utc().with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&local, false).ok()?;
        Some(Timestamp::from(next.with_timezone(&chrono::Utc)))
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone, Utc};

    use super::*;

    fn at(day: u32, hour: u32, minute: u32) -> Timestamp {
        Timestamp::from(Utc.with_ymd_and_hms(2026, 3, day, hour, minute, 0).single().expect("an instant"))
    }

    #[test]
    fn a_missed_night_is_due_at_start_and_a_done_one_is_not() {
        let nightly = Schedule::parse("15 2 * * *", Tz::UTC).expect("parses");
        assert!(nightly.due(None, at(3, 12, 0)), "the first run is due at once");
        assert!(nightly.due(Some(at(1, 2, 15)), at(3, 12, 0)), "the second of March was slept through");
        assert!(!nightly.due(Some(at(3, 2, 15)), at(3, 12, 0)));
        assert!(nightly.due(Some(at(3, 2, 15)), at(4, 2, 15)));
    }

    #[test]
    fn the_night_is_that_of_the_zone() {
        let nightly = Schedule::parse("15 2 * * *", Tz::America__New_York).expect("parses");
        assert_eq!(nightly.next_after(at(3, 0, 0)), Some(at(3, 7, 15)));
        // On the eighth clocks jump from 02:00 to 03:00: that night has no 02:15, and the run is not lost.
        let next = nightly.next_after(at(8, 5, 0)).expect("there is a next one");
        assert!(next > at(8, 5, 0) && next <= at(9, 6, 15), "{next}");
    }

    #[test]
    fn a_broken_expression_is_named() {
        assert!(Schedule::parse("15 2 * *", Tz::UTC).expect_err("is refused").contains("15 2 * *"));
    }
}
