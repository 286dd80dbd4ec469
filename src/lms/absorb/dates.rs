//! Absorb's dates and durations: naive instants in UTC, dates in disguise, .NET time spans.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};

use super::row::cut;
use crate::domain::time::{LmsTime, Timestamp};

/// What a time of exactly 00:00:00 means in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Midnight {
    /// The first second of that day: completion dates, which Absorb gives as instants.
    Instant,
    /// A calendar date, never shifted by a zone: acquired, awarded and expiry dates.
    Date,
}

/// A moment as it was written, before we decide what it means.
enum Written {
    Date(NaiveDate),
    Time { local: NaiveDateTime, offset_seconds: i32 },
}

/// Reads a moment. Without an offset it is UTC: Absorb gives `2026-08-24T04:30:00`, and its clients read that as UTC.
///
/// Accepted: with and without `Z`, offset or fraction; a date alone; `/Date(ms)/`. Blank, the year 1 and the year 9999 (what .NET holds
/// where there is no date) are `None`.
///
/// # Errors
/// The text, cut to 64 characters, when it is none of these.
pub(super) fn moment(text: &str, midnight: Midnight) -> Result<Option<LmsTime>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let Some(written) = written(text) else { return Err(format!("{:?} is not a date", cut(text, 64))) };
    Ok(match written {
        Written::Date(date) => is_real(date).then_some(LmsTime::Date(date)),
        Written::Time { local, .. } if !is_real(local.date()) => None,
        Written::Time { local, .. } if midnight == Midnight::Date && local.time() == NaiveTime::MIN => {
            Some(LmsTime::Date(local.date()))
        }
        Written::Time { local, offset_seconds } => {
            let utc = local - TimeDelta::seconds(i64::from(offset_seconds));
            Some(LmsTime::Instant(Timestamp::from(utc.and_utc())))
        }
    })
}

fn is_real(date: NaiveDate) -> bool {
    (2..9999).contains(&date.year())
}

fn written(text: &str) -> Option<Written> {
    if let Some(inner) = text.strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/")) {
        return since_epoch(inner);
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(Written::Date(date));
    }
    let text = text.replacen(' ', "T", 1).replacen('t', "T", 1);
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"] {
        if let Ok(local) = NaiveDateTime::parse_from_str(&text, format) {
            return Some(Written::Time { local, offset_seconds: 0 });
        }
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z"] {
        if let Ok(instant) = DateTime::parse_from_str(&text, format) {
            let offset_seconds = instant.offset().local_minus_utc();
            return Some(Written::Time { local: instant.naive_local(), offset_seconds });
        }
    }
    None
}

/// The old .NET form, `/Date(1756009800000+0200)/`: milliseconds in UTC; the offset only says how it was once shown.
fn since_epoch(inner: &str) -> Option<Written> {
    let end =
        inner.char_indices().skip(1).find(|(_, sign)| matches!(sign, '+' | '-')).map_or(inner.len(), |(at, _)| at);
    let local = DateTime::from_timestamp_millis(inner[..end].parse().ok()?)?.naive_utc();
    Some(Written::Time { local, offset_seconds: 0 })
}

/// Reads a .NET time span, `[d.]hh:mm:ss[.fffffff]`, in minutes; `None` when it is not one.
pub(super) fn minutes(text: &str) -> Option<f64> {
    let mut parts = text.trim().split(':');
    let (head, middle, tail) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !tail.starts_with(|digit: char| digit.is_ascii_digit()) {
        return None;
    }
    let (days, hours) = head.split_once('.').unwrap_or(("0", head));
    let (days, hours): (u32, u32) = (days.parse().ok()?, hours.parse().ok()?);
    let whole: u32 = middle.parse().ok()?;
    let seconds: f64 = tail.parse().ok()?;
    Some((f64::from(days) * 24.0 + f64::from(hours)) * 60.0 + f64::from(whole) + seconds / 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> LmsTime {
        let parsed = DateTime::parse_from_rfc3339(text).expect("the table holds valid instants");
        LmsTime::Instant(Timestamp(parsed.timestamp_millis()))
    }

    fn date(text: &str) -> LmsTime {
        LmsTime::Date(text.parse().expect("the table holds valid dates"))
    }

    #[test]
    fn every_known_spelling_of_a_moment_is_read() {
        let half_past_four = Some(instant("2026-08-24T04:30:00Z"));
        let table = [
            ("2026-08-24T04:30:00", half_past_four),
            (" 2026-08-24T04:30:00Z ", half_past_four),
            ("2026-08-24t04:30:00z", half_past_four),
            ("2026-08-24 04:30:00", half_past_four),
            ("2026-08-24T04:30", half_past_four),
            ("2026-08-24T04:30Z", half_past_four),
            ("2026-08-24T06:30:00+02:00", half_past_four),
            ("2026-08-24T06:30:00+0200", half_past_four),
            ("2026-08-23T23:30:00.0000000-05:00", half_past_four),
            ("2026-08-24T04:30:00.1234567", Some(instant("2026-08-24T04:30:00.123Z"))),
            ("2026-08-24T04:30:00.5Z", Some(instant("2026-08-24T04:30:00.500Z"))),
            ("/Date(1787545800000)/", half_past_four),
            ("/Date(1787545800000+0200)/", half_past_four),
            ("/Date(-62135596800000)/", None),
            ("2026-08-24", Some(date("2026-08-24"))),
            ("0001-01-01T00:00:00", None),
            ("0001-01-01", None),
            ("9999-12-31T23:59:59.9999999", None),
            ("", None),
            ("  ", None),
        ];
        for (text, expected) in table {
            for midnight in [Midnight::Instant, Midnight::Date] {
                assert_eq!(moment(text, midnight), Ok(expected), "{text:?} with {midnight:?}");
            }
        }
    }

    #[test]
    fn midnight_is_a_date_where_the_field_holds_dates_and_an_instant_elsewhere() {
        let table = [
            ("2026-08-24T00:00:00", "2026-08-24T00:00:00Z"),
            ("2026-08-24T00:00:00.0000000Z", "2026-08-24T00:00:00Z"),
            ("2026-08-24T00:00:00+02:00", "2026-08-23T22:00:00Z"),
            ("2026-08-24T00:00:00-05:00", "2026-08-24T05:00:00Z"),
        ];
        for (text, as_instant) in table {
            assert_eq!(moment(text, Midnight::Date), Ok(Some(date("2026-08-24"))), "{text:?}");
            assert_eq!(moment(text, Midnight::Instant), Ok(Some(instant(as_instant))), "{text:?}");
        }
        assert_eq!(moment("2026-08-24T00:00:01", Midnight::Date), Ok(Some(instant("2026-08-24T00:00:01Z"))));
    }

    #[test]
    fn what_is_not_a_date_is_an_error_and_never_no_date() {
        for text in
            ["never", "24/08/2026", "2026-13-01", "2026-02-30T00:00:00", "/Date(x)/", "/Date()/", "20260824", "é"]
        {
            assert!(moment(text, Midnight::Date).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_time_span_is_read_in_minutes() {
        let table = [
            ("00:30:00", Some(30.0)),
            ("1.02:30:00", Some(26.5 * 60.0)),
            ("00:00:30", Some(0.5)),
            ("00:30:00.6000000", Some(30.01)),
            ("30:00", None),
            ("-00:30:00", None),
            ("00:30:-5", None),
            ("00:30:NaN", None),
            ("00:30:00:00", None),
            ("PT30M", None),
            ("", None),
        ];
        for (text, expected) in table {
            let found = minutes(text);
            let alike = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            assert!(alike, "{text:?} gave {found:?}, expected {expected:?}");
        }
    }
}
