//! Absorb's dates and durations: mostly without an offset, sometimes with, and one value that means none.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

use crate::domain::time::{LmsTime, Timestamp};

/// Reads a moment such as a completion. Without an offset it is UTC; a date alone stays a date; `0001-01-01` is .NET's way to say none.
pub(super) fn moment(text: &str) -> Option<LmsTime> {
    let text = text.trim();
    if text.is_empty() || text.starts_with("0001-01-01") {
        return None;
    }
    if let Some(ms) = text.strip_prefix("/Date(").and_then(|rest| rest.strip_suffix(")/")) {
        return ms.parse().ok().map(|ms| LmsTime::Instant(Timestamp(ms)));
    }
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Some(LmsTime::Date(date));
    }
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(LmsTime::Instant(Timestamp::from(instant.with_timezone(&Utc))));
    }
    let naive = naive(text)?;
    Some(LmsTime::Instant(Timestamp::from(naive.and_utc())))
}

/// Reads a day such as a certificate's: at exactly midnight it is a date, which no zone may shift.
pub(super) fn day(text: &str) -> Option<LmsTime> {
    let midnight = naive(text.trim().trim_end_matches('Z')).filter(|at| at.time() == NaiveTime::MIN);
    match midnight {
        Some(at) if !text.trim().starts_with("0001-01-01") => Some(LmsTime::Date(at.date())),
        Some(_) | None => moment(text),
    }
}

fn naive(text: &str) -> Option<NaiveDateTime> {
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
}

/// Reads a .NET TimeSpan, `[d.]hh:mm:ss[.fffffff]`, as minutes.
pub(super) fn minutes(text: &str) -> Option<f64> {
    let text = text.trim();
    let (days, rest) = match text.split_once(':')?.0.split_once('.') {
        Some((days, _)) => (days.parse::<f64>().ok()?, &text[days.len() + 1..]),
        None => (0.0, text),
    };
    let parts: Vec<f64> = rest.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    match parts.as_slice() {
        [hours, minutes, seconds] => Some(days * 1_440.0 + hours * 60.0 + minutes + (seconds / 60.0)),
        [hours, minutes] => Some(days * 1_440.0 + hours * 60.0 + minutes),
        _ => None,
    }
}
