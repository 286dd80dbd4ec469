//! When a reconciliation is due. Pure: a night that the machine slept through is due at its start.

use chrono_tz::Tz;
use croner::Cron;
use croner::parser::CronParser;

use crate::domain::time::Timestamp;

/// An hour, in milliseconds; no zone sets its clocks back by more than two.
const HOUR_MS: i64 = 3_600_000;
const SEARCHES_MAX: i64 = 4;

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

    /// The first time after an instant. A time that comes twice, because clocks are set back, counts once.
    #[must_use]
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        // In the hour that comes twice croner answers with the first of both, which may be over: who waits for it would never wait.
        (0..SEARCHES_MAX).find_map(|hours| {
            let local = at.plus_ms(hours * HOUR_MS).utc().with_timezone(&self.zone);
            let next = self.cron.find_next_occurrence(&local, false).ok()?;
            Some(Timestamp::from(next.with_timezone(&chrono::Utc))).filter(|next| *next > at)
        })
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
    fn the_next_time_is_never_over_not_even_in_the_hour_that_comes_twice() {
        let changes = [(Tz::Europe__Berlin, 10, 25), (Tz::Europe__Berlin, 3, 29), (Tz::America__New_York, 11, 1)];
        for (zone, month, day) in changes {
            let midnight =
                Timestamp::from(Utc.with_ymd_and_hms(2026, month, day, 0, 0, 0).single().expect("an instant"));
            for expression in ["15 2 * * *", "30 1 * * *", "*/20 * * * *", "0 */6 * * *"] {
                let schedule = Schedule::parse(expression, zone).expect("parses");
                for minute in 0..8 * 60 {
                    let now = midnight.plus_ms(minute * 60_000 + 1);
                    let next = schedule.next_after(now).expect("there is a next one");
                    assert!(next > now && next.0 - now.0 <= 26 * HOUR_MS, "{expression} in {zone} at {now}: {next}");
                }
            }
        }
    }

    #[test]
    fn a_broken_expression_is_named() {
        assert!(Schedule::parse("15 2 * *", Tz::UTC).expect_err("is refused").contains("15 2 * *"));
    }
}
