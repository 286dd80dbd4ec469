//! Promises: an event says that a record exists; which records keep the promise, and when we look again.

use super::delivery::Promise;
use super::record::Record;
use super::time::{LmsTime, Timestamp};

/// A record's LMS date may lie this much before the event: clocks differ, and the LMS batches its work.
const EARLIER_MS: i64 = 15 * 60_000;

/// A calendar date is a day of some zone: it may lie a day off in UTC.
const DAY_MS: i64 = 86_400_000;

/// The API may show a fact later than its webhook: reads after a promise was not kept, in milliseconds. Then it is the night's.
pub const REREADS_MS: [i64; 4] = [5_000, 30_000, 120_000, 600_000];

/// Whether a record keeps a promise: its kind, and an LMS date in [received - 15 min, now].
#[must_use]
pub fn keeps(record: &Record, promise: &Promise, now: Timestamp) -> bool {
    if record.kind != promise.kind {
        return false;
    }
    let earliest = promise.received_at.plus_ms(-EARLIER_MS);
    match record.achieved {
        None => false,
        Some(LmsTime::Instant(at)) => at >= earliest && at <= now.plus_ms(EARLIER_MS),
        Some(LmsTime::Date(date)) => {
            let first = earliest.plus_ms(-DAY_MS).utc().date_naive();
            let last = now.plus_ms(DAY_MS).utc().date_naive();
            date >= first && date <= last
        }
    }
}

/// How long after the read number `tries` (from 0) we read again; none when the promise expires.
#[must_use]
pub fn reread_after_ms(tries: u32) -> Option<i64> {
    REREADS_MS.get(tries as usize).copied()
}

#[cfg(test)]
mod tests {
    use learnsync_sdk::RecordKind;

    use super::*;

    fn certificate(achieved: LmsTime) -> Record {
        Record { achieved: Some(achieved), ..Record::new(RecordKind::Certificate, "c", "u") }
    }

    #[test]
    fn a_promise_is_kept_by_a_record_of_its_kind_dated_from_fifteen_minutes_before_the_event() {
        let received_at = Timestamp(1_800_000_000_000);
        let now = received_at.plus_ms(60_000);
        let promise = Promise { kind: RecordKind::Certificate, received_at, tries: 0 };
        let at = |ms| LmsTime::Instant(received_at.plus_ms(ms));
        assert!(keeps(&certificate(at(-EARLIER_MS)), &promise, now));
        assert!(keeps(&certificate(at(1_000)), &promise, now));
        assert!(!keeps(&certificate(at(-EARLIER_MS - 1)), &promise, now));
        assert!(keeps(&certificate(LmsTime::Date(received_at.utc().date_naive())), &promise, now));
        let other_kind = Promise { kind: RecordKind::Competency, ..promise };
        assert!(!keeps(&certificate(at(0)), &other_kind, now));
    }

    #[test]
    fn an_unkept_promise_is_read_again_four_times_and_then_expires() {
        assert_eq!(
            (0..6).map(reread_after_ms).collect::<Vec<_>>(),
            [Some(5_000), Some(30_000), Some(120_000), Some(600_000), None, None]
        );
    }
}
