//! Standing: how certificates stand by the calendar. It changes at midnight, without any event. Pure.

use chrono::{Days, NaiveDate};
use chrono_tz::Tz;
use learnsync_sdk::RecordKind;

use super::record::{Record, Standing};

/// How a portal's calendar is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calendar {
    /// The zone whose midnight counts.
    pub zone: Tz,
    /// So many days before its last one a certificate is said to expire.
    pub expiring_days: u32,
}

impl Default for Calendar {
    fn default() -> Self {
        Self { zone: Tz::UTC, expiring_days: 30 }
    }
}

/// Says of each certificate how it stands today; answers the next day on which one stands otherwise.
///
/// A certificate is valid through its last day: Absorb gives a date, and does not say whether that day counts. It is renewed once there is one
/// of the same course (of the same title, where no course is known) that was acquired later.
pub fn settle(records: &mut [Record], today: NaiveDate, calendar: &Calendar) -> Option<NaiveDate> {
    let mut next: Option<NaiveDate> = None;
    let renewed: Vec<bool> = records.iter().map(|record| is_renewed(record, records, calendar.zone)).collect();
    for (record, is_renewed) in records.iter_mut().zip(renewed) {
        if record.kind != RecordKind::Certificate {
            continue;
        }
        let last_day = record.valid_until.map(|until| until.date_in(calendar.zone));
        let (standing, changes_on) = match last_day {
            _ if is_renewed => (Standing::Renewed, None),
            None => (Standing::Valid, None),
            Some(last_day) => by_date(last_day, today, calendar.expiring_days),
        };
        record.standing = Some(standing);
        next = match (next, changes_on) {
            (Some(earlier), Some(on)) => Some(earlier.min(on)),
            (one, other) => one.or(other),
        };
    }
    next
}

fn by_date(last_day: NaiveDate, today: NaiveDate, expiring_days: u32) -> (Standing, Option<NaiveDate>) {
    let expires_on = last_day.checked_add_days(Days::new(1));
    let begins_to_expire = last_day.checked_sub_days(Days::new(u64::from(expiring_days))).unwrap_or(NaiveDate::MIN);
    if today > last_day {
        (Standing::Expired, None)
    } else if today >= begins_to_expire {
        (Standing::Expiring, expires_on)
    } else {
        (Standing::Valid, Some(begins_to_expire))
    }
}

fn is_renewed(record: &Record, all: &[Record], zone: Tz) -> bool {
    let Some(achieved) = record.achieved.map(|at| at.date_in(zone)) else { return false };
    let is_same = |other: &Record| match (&record.course, &other.course) {
        (Some(course), Some(others)) => course.id == others.id,
        (None, None) => record.title == other.title,
        (Some(_), None) | (None, Some(_)) => false,
    };
    record.kind == RecordKind::Certificate
        && all.iter().any(|other| {
            other.kind == RecordKind::Certificate
                && other.id != record.id
                && other.achieved.is_some_and(|at| at.date_in(zone) > achieved)
                && is_same(other)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Course;
    use crate::domain::time::LmsTime;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a date")
    }

    fn certificate(id: &str, course: &str, achieved: &str, last_day: Option<&str>) -> Record {
        Record {
            achieved: Some(LmsTime::Date(day(achieved))),
            valid_until: last_day.map(|last_day| LmsTime::Date(day(last_day))),
            course: Some(Course { id: course.to_owned(), ..Course::default() }),
            ..Record::new(RecordKind::Certificate, id, "u")
        }
    }

    #[test]
    fn a_certificate_is_valid_then_expiring_through_its_last_day_then_expired_and_each_change_is_announced() {
        let table = [
            ("2026-01-31", Standing::Valid, Some("2026-02-01")),
            ("2026-02-01", Standing::Expiring, Some("2026-03-04")),
            ("2026-03-03", Standing::Expiring, Some("2026-03-04")),
            ("2026-03-04", Standing::Expired, None),
        ];
        for (today, standing, next) in table {
            let mut records = [certificate("a", "c", "2025-03-03", Some("2026-03-03"))];
            let announced = settle(&mut records, day(today), &Calendar::default());
            assert_eq!((records[0].standing, announced), (Some(standing), next.map(day)), "{today}");
        }
    }

    #[test]
    fn the_earliest_change_of_all_certificates_is_announced() {
        let mut records = [
            certificate("a", "c", "2025-03-03", Some("2027-03-03")),
            certificate("b", "d", "2025-03-03", Some("2026-06-30")),
            certificate("e", "f", "2025-03-03", None),
        ];
        let next = settle(&mut records, day("2026-01-01"), &Calendar::default());
        assert_eq!(next, Some(day("2026-05-31")));
        assert_eq!(records[2].standing, Some(Standing::Valid), "without an end it never changes");
    }

    #[test]
    fn a_later_certificate_of_the_same_course_renews_the_earlier_one() {
        let mut records = [
            certificate("a", "c", "2025-03-03", Some("2026-03-03")),
            certificate("b", "c", "2026-02-20", Some("2027-03-03")),
            certificate("d", "other", "2026-02-20", Some("2027-03-03")),
        ];
        settle(&mut records, day("2026-04-01"), &Calendar::default());
        let standings: Vec<_> = records.iter().map(|record| record.standing).collect();
        assert_eq!(standings, [Some(Standing::Renewed), Some(Standing::Valid), Some(Standing::Valid)]);
    }

    #[test]
    fn the_day_is_that_of_the_portals_zone() {
        // 23:30 on the third in New York.
        let instant = crate::domain::time::Timestamp(1_772_598_600_000);
        let mut records =
            [Record { valid_until: Some(LmsTime::Instant(instant)), ..certificate("a", "c", "2025-01-01", None) }];
        let calendar = Calendar { zone: Tz::America__New_York, expiring_days: 0 };
        assert_eq!(settle(&mut records, day("2026-03-03"), &calendar), Some(day("2026-03-04")));
        assert_eq!(records[0].standing, Some(Standing::Expiring));
    }

    #[test]
    fn only_certificates_stand_by_the_calendar() {
        let mut records = [Record::new(RecordKind::Completion, "e", "u")];
        assert_eq!(settle(&mut records, day("2026-03-03"), &Calendar::default()), None);
        assert_eq!(records[0].standing, None);
    }
}
