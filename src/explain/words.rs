//! How instants, days, spans, counts and people are said.

use chrono_tz::Tz;
use learnsync_sdk::Learner;

use crate::domain::time::{LmsTime, Timestamp};

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// `3 March 2026, 09:14`.
pub(super) fn moment(at: Timestamp, zone: Tz) -> String {
    at.utc().with_timezone(&zone).format("%-d %B %Y, %H:%M").to_string()
}

/// `2026-03-03 09:14:05`, for the evidence.
pub(super) fn to_the_second(at: Timestamp, zone: Tz) -> String {
    at.utc().with_timezone(&zone).format("%Y-%m-%d %H:%M:%S").to_string()
}

/// `3 March 2026`.
pub(super) fn day(at: LmsTime, zone: Tz) -> String {
    at.date_in(zone).format("%-d %B %Y").to_string()
}

/// When something happens: `in 12 seconds`, `at 09:34 (in 20 minutes)`, `on 4 March 2026, 02:15 (in 17 hours)`.
pub(super) fn soon(at: Timestamp, now: Timestamp, zone: Tz) -> String {
    let wait = at.0 - now.0;
    if wait <= SECOND_MS {
        return "now".to_owned();
    }
    if wait < 2 * MINUTE_MS {
        return format!("in {}", span(wait));
    }
    match at.date_in(zone) == now.date_in(zone) {
        true => format!("at {} (in {})", at.utc().with_timezone(&zone).format("%H:%M"), span(wait)),
        false => format!("on {} (in {})", moment(at, zone), span(wait)),
    }
}

/// `12 seconds`, `20 minutes`, `17 hours`, `3 days`.
pub(super) fn span(ms: i64) -> String {
    let (size, one, many) = match ms {
        ..MINUTE_MS => (SECOND_MS, "second", "seconds"),
        MINUTE_MS..HOUR_MS => (MINUTE_MS, "minute", "minutes"),
        HOUR_MS..DAY_MS => (HOUR_MS, "hour", "hours"),
        DAY_MS.. => (DAY_MS, "day", "days"),
    };
    counted((ms / size).max(0), one, many)
}

/// `12 s`, `20 min`, `17 h`, `3 d`, where there is little room.
pub(super) fn short_span(ms: i64) -> String {
    let (size, unit) = match ms {
        ..MINUTE_MS => (SECOND_MS, "s"),
        MINUTE_MS..HOUR_MS => (MINUTE_MS, "min"),
        HOUR_MS..DAY_MS => (HOUR_MS, "h"),
        DAY_MS.. => (DAY_MS, "d"),
    };
    format!("{} {unit}", (ms / size).max(0))
}

/// `1 day`, `3 days`.
pub(super) fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { many })
}

/// `1,204,113`.
pub(super) fn grouped(count: i64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && digit.is_ascii_digit() && (digits.len() - place).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// First and last name, or `this learner`.
pub(super) fn name(learner: Option<&Learner>) -> String {
    let words: Vec<&str> = learner
        .into_iter()
        .flat_map(|learner| [&learner.first_name, &learner.last_name])
        .flatten()
        .map(|word| word.trim())
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() { "this learner".to_owned() } else { words.join(" ") }
}

/// `a, b and c`.
pub(super) fn listed(words: &[String]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [firsts @ .., last] => format!("{} and {last}", firsts.join(", ")),
    }
}

/// The same word with its first letter as a capital.
pub(super) fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Breaks a text into lines of at most this many characters, if its words allow it.
pub(super) fn wrapped(text: &str, characters_max: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > characters_max {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_said_as_precisely_as_it_is_near() {
        // 3 March 2026, 09:14 in Berlin.
        let now = Timestamp(1_772_525_640_000);
        let said = |ms| soon(now.plus_ms(ms), now, Tz::Europe__Berlin);
        assert_eq!(said(-5), "now");
        assert_eq!(said(12_000), "in 12 seconds");
        assert_eq!(said(20 * MINUTE_MS), "at 09:34 (in 20 minutes)");
        assert_eq!(said(17 * HOUR_MS), "on 4 March 2026, 02:14 (in 17 hours)");
    }

    #[test]
    fn a_span_is_said_in_the_largest_unit_that_it_fills() {
        let said = |ms| (span(ms), short_span(ms));
        assert_eq!(said(900), ("0 seconds".to_owned(), "0 s".to_owned()));
        assert_eq!(said(5 * SECOND_MS), ("5 seconds".to_owned(), "5 s".to_owned()));
        assert_eq!(said(HOUR_MS - 1), ("59 minutes".to_owned(), "59 min".to_owned()));
        assert_eq!(said(3 * DAY_MS), ("3 days".to_owned(), "3 d".to_owned()));
    }

    #[test]
    fn counts_are_grouped_and_know_their_plural() {
        assert_eq!(counted(1, "day", "days"), "1 day");
        assert_eq!(counted(1_204_113, "day", "days"), "1,204,113 days");
        assert_eq!(grouped(204), "204");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("", 7), [""]);
    }
}
