//! When routes that only append may tell something: not in quiet hours, and not too late. Pure.

use chrono::{Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;

use crate::config;
use crate::domain::time::{LmsTime, Timestamp};

/// The longest time that a change of the clock can leave out, in minutes: Samoa skipped a whole day.
const GAP_MINUTES_MAX: i64 = 24 * 60;

/// When a destination is told of what cannot be taken back.
#[derive(Clone, Debug)]
pub struct Telling {
    /// Daily hours in which nothing is told.
    pub quiet_hours: Option<QuietHours>,
    /// What was achieved longer ago is not told any more, in milliseconds.
    pub late_after_ms: i64,
    /// Where the dates of the LMS are.
    pub zone: Tz,
}

/// What becomes of something to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// It is told now.
    Now,
    /// It waits for the end of the quiet hours.
    At(Timestamp),
    /// It is too late for it.
    Never,
}

impl Telling {
    /// Whether something is too old to be told. A date counts from its end; what has no date is as old as we know of it.
    #[must_use]
    pub fn is_late(&self, achieved: Option<LmsTime>, known_at: Timestamp, now: Timestamp) -> bool {
        let oldest = now.plus_ms(-self.late_after_ms);
        match achieved {
            Some(LmsTime::Instant(at)) => at < oldest,
            Some(LmsTime::Date(date)) => date < oldest.date_in(self.zone),
            None => known_at < oldest,
        }
    }

    /// Until when it is quiet, if it is.
    #[must_use]
    pub fn quiet_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.quiet_hours.and_then(|quiet| quiet.end(now))
    }

    /// Decides. What is too late already need not wait for the morning.
    #[must_use]
    pub fn when(&self, achieved: Option<LmsTime>, known_at: Timestamp, now: Timestamp) -> When {
        if self.is_late(achieved, known_at, now) {
            return When::Never;
        }
        self.quiet_until(now).map_or(When::Now, When::At)
    }

    /// The limit in words.
    #[must_use]
    pub fn late_after(&self) -> String {
        format!("{} h", self.late_after_ms / 3_600_000)
    }
}

/// Daily hours in which nothing is told, where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietHours {
    from: NaiveTime,
    until: NaiveTime,
    zone: Tz,
}

impl QuietHours {
    /// As configured; they are in the destination's zone unless they name their own.
    #[must_use]
    pub fn new(config: &config::QuietHours, zone: Tz) -> Self {
        Self { from: config.from.0, until: config.until.0, zone: config.zone.unwrap_or(zone) }
    }

    /// When the quiet hours end that hold now; none outside of them.
    #[must_use]
    pub fn end(&self, now: Timestamp) -> Option<Timestamp> {
        let today = now.date_in(self.zone);
        // Those that hold now began today or yesterday.
        let began_on = [Some(today), today.checked_sub_days(Days::new(1))];
        began_on.into_iter().flatten().find_map(|date| {
            let (begin, end) = self.of(date)?;
            (begin <= now && now < end).then_some(end)
        })
    }

    /// The quiet hours that begin on a date.
    fn of(&self, date: NaiveDate) -> Option<(Timestamp, Timestamp)> {
        let is_over_midnight = self.until <= self.from;
        let ends_on = if is_over_midnight { date.checked_add_days(Days::new(1))? } else { date };
        // Where a clock that is set back shows a time twice, they begin with the first and end with the second.
        Some((self.instants(date.and_time(self.from))?.0, self.instants(ends_on.and_time(self.until))?.1))
    }

    /// The first and the last instant at which clocks show this; where they leave it out, the first instant after.
    fn instants(&self, shown: NaiveDateTime) -> Option<(Timestamp, Timestamp)> {
        let shown_at = |minutes| {
            let found = self.zone.from_local_datetime(&(shown + TimeDelta::minutes(minutes)));
            Some((found.earliest()?.to_utc().into(), found.latest()?.to_utc().into()))
        };
        (0..=GAP_MINUTES_MAX).find_map(shown_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(from: &str, until: &str, zone: Tz) -> QuietHours {
        let time = |text: &str| text.parse().expect("a time of the day");
        QuietHours::new(&config::QuietHours { from: time(from), until: time(until), zone: None }, zone)
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::from(text.parse::<chrono::DateTime<chrono::Utc>>().expect("an instant"))
    }

    fn check(hours: QuietHours, now: &str, expected: Option<&str>) {
        assert_eq!(hours.end(at(now)).map(|end| end.to_string()), expected.map(str::to_owned), "{hours:?} at {now}");
    }

    #[test]
    fn a_night_is_quiet_from_its_first_to_before_its_last_instant() {
        let night = quiet("20:00", "07:00", Tz::Europe__Berlin);
        let morning = Some("2026-12-02T06:00:00Z");
        check(night, "2026-12-01T18:59:59.999Z", None);
        check(night, "2026-12-01T19:00:00Z", morning);
        check(night, "2026-12-01T23:30:00Z", morning);
        check(night, "2026-12-02T05:59:59.999Z", morning);
        check(night, "2026-12-02T06:00:00Z", None);
    }

    #[test]
    fn hours_within_a_day_are_quiet_on_that_day_only() {
        let noon = quiet("12:00", "13:30", Tz::America__New_York);
        check(noon, "2026-07-01T15:59:59Z", None);
        check(noon, "2026-07-01T16:00:00Z", Some("2026-07-01T17:30:00Z"));
        check(noon, "2026-07-01T17:30:00Z", None);
        check(noon, "2026-07-02T03:00:00Z", None);
    }

    #[test]
    fn a_night_with_a_change_of_the_clock_ends_when_clocks_show_its_end() {
        let night = quiet("20:00", "07:00", Tz::Europe__Berlin);
        // Set forward on 2026-03-29, back on 2026-10-25.
        check(night, "2026-03-28T20:00:00Z", Some("2026-03-29T05:00:00Z"));
        check(night, "2026-10-24T20:00:00Z", Some("2026-10-25T06:00:00Z"));
    }

    #[test]
    fn an_end_that_clocks_leave_out_is_the_first_instant_after_it() {
        // 02:00 to 03:00 does not exist on 2026-03-29: 03:00 is 01:00Z.
        check(quiet("23:00", "02:30", Tz::Europe__Berlin), "2026-03-29T00:59:59Z", Some("2026-03-29T01:00:00Z"));
        let gap = quiet("02:10", "02:50", Tz::Europe__Berlin);
        for now in ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"] {
            check(gap, now, None);
        }
        // Samoa had no 2011-12-30.
        check(quiet("20:00", "07:00", Tz::Pacific__Apia), "2011-12-30T06:30:00Z", Some("2011-12-30T10:00:00Z"));
    }

    #[test]
    fn a_time_that_clocks_show_twice_begins_with_the_first_and_ends_with_the_second() {
        // 02:00 to 03:00 comes twice on 2026-10-25: from 00:00Z and from 01:00Z.
        check(quiet("23:00", "02:30", Tz::Europe__Berlin), "2026-10-25T00:45:00Z", Some("2026-10-25T01:30:00Z"));
        check(quiet("02:30", "07:00", Tz::Europe__Berlin), "2026-10-25T00:30:00Z", Some("2026-10-25T06:00:00Z"));
        check(quiet("02:30", "07:00", Tz::Europe__Berlin), "2026-10-25T01:10:00Z", Some("2026-10-25T06:00:00Z"));
    }

    #[test]
    fn every_wait_ends_and_is_over_then() {
        for zone in [Tz::Europe__Berlin, Tz::America__Havana, Tz::Australia__Lord_Howe, Tz::Pacific__Apia, Tz::UTC] {
            for (from, until) in [("20:00", "07:00"), ("00:00", "06:00"), ("01:30", "00:00"), ("23:59", "00:01")] {
                let hours = quiet(from, until, zone);
                for step in 0..(370 * 24) {
                    // 59 minutes, so that each minute of an hour has its turn.
                    let now = at("2026-01-01T00:00:00Z").plus_ms(step * 59 * 60_000);
                    let Some(end) = hours.end(now) else { continue };
                    assert!(end > now && end.0 - now.0 <= 26 * 3_600_000, "{hours:?} at {now}: {end}");
                    assert!(hours.end(end).is_none(), "{hours:?} at {now}: still quiet at {end}");
                }
            }
        }
    }

    #[test]
    fn what_is_older_than_the_limit_is_not_told() {
        let telling = Telling { quiet_hours: None, late_after_ms: 24 * 3_600_000, zone: Tz::Europe__Berlin };
        let now = at("2026-05-10T09:00:00Z");
        let instant = |text: &str| Some(LmsTime::Instant(at(text)));
        let date = |text: &str| Some(LmsTime::Date(text.parse().expect("a date")));
        let old = at("2026-05-01T00:00:00Z");
        let check = |achieved, known_at, expected| {
            assert_eq!(telling.is_late(achieved, known_at, now), expected, "{achieved:?} known at {known_at}");
        };
        check(instant("2026-05-09T09:00:00Z"), now, false);
        check(instant("2026-05-09T08:59:59Z"), now, true);
        check(date("2026-05-09"), old, false);
        check(date("2026-05-08"), now, true);
        check(None, at("2026-05-09T09:00:00Z"), false);
        check(None, old, true);
    }

    #[test]
    fn what_is_late_does_not_wait_for_the_morning_and_what_is_not_does() {
        let night = quiet("20:00", "07:00", Tz::UTC);
        let telling = Telling { quiet_hours: Some(night), late_after_ms: 24 * 3_600_000, zone: Tz::UTC };
        let when = |achieved: &str, now: &str| telling.when(Some(LmsTime::Instant(at(achieved))), at(now), at(now));
        assert_eq!(when("2026-05-10T19:59:00Z", "2026-05-10T19:59:59Z"), When::Now);
        assert_eq!(when("2026-05-10T19:59:00Z", "2026-05-10T20:00:00Z"), When::At(at("2026-05-11T07:00:00Z")));
        assert_eq!(when("2026-05-09T19:59:00Z", "2026-05-10T20:00:00Z"), When::Never);
    }
}
