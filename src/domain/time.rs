//! Instants, calendar dates and the clock that is handed in.

use std::fmt;

use chrono::{DateTime, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// An instant: milliseconds since 1970-01-01T00:00:00Z. In the store an INTEGER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This many milliseconds later (earlier when negative).
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        self.plus_ms(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }

    /// As chrono sees it; instants beyond its range are clamped to 1970.
    #[must_use]
    pub fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }

    /// When a day begins in a zone. Where the clocks skip midnight, it is the first moment after it.
    #[must_use]
    pub fn midnight(day: NaiveDate, zone: Tz) -> Self {
        let midnight = day.and_time(chrono::NaiveTime::MIN);
        let locals = (0..24 * 60).map(|minute| midnight + chrono::TimeDelta::minutes(minute));
        let first = locals.filter_map(|local| zone.from_local_datetime(&local).earliest()).next();
        first.map_or_else(|| Self::from(midnight.and_utc()), |at| Self(at.timestamp_millis()))
    }

    /// The calendar date at this instant in a zone.
    #[must_use]
    pub fn date_in(self, zone: Tz) -> NaiveDate {
        zone.from_utc_datetime(&self.utc().naive_utc()).date_naive()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(instant: DateTime<Utc>) -> Self {
        Self(instant.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.utc().format("%Y-%m-%dT%H:%M:%SZ"))
    }
}

/// Writes an instant as people read it, `2026-03-03T08:14:00Z`, where output is for them: the store keeps integers.
///
/// # Errors
/// The serializer's own.
pub fn as_utc<S: serde::Serializer>(at: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(at)
}

/// The same for one that may be missing.
///
/// # Errors
/// The serializer's own.
pub fn as_utc_if_any<S: serde::Serializer>(at: &Option<Timestamp>, out: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => out.collect_str(at),
        None => out.serialize_none(),
    }
}

/// A moment as the LMS gives it: an instant, or a calendar date that must never be shifted by a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LmsTime {
    /// A point in time.
    Instant(Timestamp),
    /// A calendar date.
    Date(NaiveDate),
}

impl LmsTime {
    /// The calendar date: an instant becomes one in the zone, a date stays as it is.
    #[must_use]
    pub fn date_in(self, zone: Tz) -> NaiveDate {
        match self {
            Self::Instant(instant) => instant.date_in(zone),
            Self::Date(date) => date,
        }
    }
}

impl fmt::Display for LmsTime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instant(instant) => instant.fmt(out),
            Self::Date(date) => date.fmt(out),
        }
    }
}

/// Tells the time. Handed in everywhere, so that tests and the simulation own it.
pub trait Clock: Send + Sync {
    /// The wall-clock time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the seam that all others call")]
        Timestamp::from(Utc::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_late_in_the_evening_is_a_date_of_its_zone_and_a_date_is_never_shifted() {
        // 2026-03-04T04:30Z is 23:30 on the third in New York.
        let instant = Timestamp::from(Utc.with_ymd_and_hms(2026, 3, 4, 4, 30, 0).single().expect("a valid instant"));
        let third = NaiveDate::from_ymd_opt(2026, 3, 3).expect("a valid date");
        assert_eq!(LmsTime::Instant(instant).date_in(chrono_tz::America::New_York), third);
        assert_eq!(LmsTime::Date(third).date_in(chrono_tz::Pacific::Auckland), third);
    }

    #[test]
    fn a_day_begins_at_its_midnight_or_where_the_clocks_skip_it_just_after() {
        let day = |text: &str| text.parse::<NaiveDate>().expect("a date");
        let begins = |text: &str, zone: Tz| Timestamp::midnight(day(text), zone).to_string();
        assert_eq!(begins("2026-03-03", Tz::UTC), "2026-03-03T00:00:00Z");
        assert_eq!(begins("2026-03-03", Tz::America__New_York), "2026-03-03T05:00:00Z");
        // In Asuncion the clocks went from 23:59:59 to 01:00:00.
        assert_eq!(begins("2022-10-02", Tz::America__Asuncion), "2022-10-02T04:00:00Z");
        // In Havana the hour after midnight came twice.
        assert_eq!(begins("2025-11-02", Tz::America__Havana), "2025-11-02T04:00:00Z");
    }
}
