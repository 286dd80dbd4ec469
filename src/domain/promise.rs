//! Promises: an event says that a record exists; which records keep the promise, and when we look again.

use learnsync_sdk::RecordKind;

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
///
/// Of a learner's records the id that a webhook names is not compared, because nobody knows which id it is. What is nobody's has no such date:
/// there the id decides. And a person is there or not.
#[must_use]
pub fn keeps(record: &Record, promise: &Promise, now: Timestamp) -> bool {
    // Credits come with a completion, and the API may not show them: the completion is enough, or each such event would cost four more reads.
    let is_enough = promise.kind == RecordKind::CreditAward && record.kind == RecordKind::Completion;
    if record.kind != promise.kind && !is_enough {
        return false;
    }
    if record.kind == RecordKind::Person {
        return true;
    }
    if !record.kind.is_about_learner() {
        return promise.thing.as_ref() == Some(&record.id);
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
    use super::*;

    fn certificate(achieved: LmsTime) -> Record {
        Record { achieved: Some(achieved), ..Record::new(RecordKind::Certificate, "c", "u") }
    }

    #[test]
    fn a_promise_is_kept_by_a_record_of_its_kind_dated_from_fifteen_minutes_before_the_event() {
        let received_at = Timestamp(1_800_000_000_000);
        let now = received_at.plus_ms(60_000);
        let promise = Promise { kind: RecordKind::Certificate, thing: None, received_at, tries: 0 };
        let at = |ms| LmsTime::Instant(received_at.plus_ms(ms));
        assert!(keeps(&certificate(at(-EARLIER_MS)), &promise, now));
        assert!(keeps(&certificate(at(1_000)), &promise, now));
        assert!(!keeps(&certificate(at(-EARLIER_MS - 1)), &promise, now));
        assert!(keeps(&certificate(LmsTime::Date(received_at.utc().date_naive())), &promise, now));
        let other_kind = Promise { kind: RecordKind::Competency, ..promise.clone() };
        assert!(!keeps(&certificate(at(0)), &other_kind, now));
        let named = Promise { thing: Some("another id".to_owned()), ..promise };
        assert!(keeps(&certificate(at(0)), &named, now), "nobody knows which id a webhook names");
    }

    #[test]
    fn credits_are_promised_and_the_completion_that_they_come_with_is_enough() {
        let received_at = Timestamp(1_800_000_000_000);
        let promise = Promise { kind: RecordKind::CreditAward, thing: None, received_at, tries: 0 };
        let of = |kind| Record { kind, ..certificate(LmsTime::Instant(received_at)) };
        assert!(keeps(&of(RecordKind::CreditAward), &promise, received_at));
        assert!(keeps(&of(RecordKind::Completion), &promise, received_at));
        assert!(!keeps(&of(RecordKind::Certificate), &promise, received_at));
    }

    #[test]
    fn what_is_nobodys_keeps_a_promise_by_its_id() {
        let promised = |thing: Option<&str>| Promise {
            kind: RecordKind::Course,
            thing: thing.map(str::to_owned),
            received_at: Timestamp(0),
            tries: 0,
        };
        let course = Record::new(RecordKind::Course, "c1", "");
        assert!(keeps(&course, &promised(Some("c1")), Timestamp(0)));
        assert!(!keeps(&course, &promised(Some("c2")), Timestamp(0)));
        assert!(!keeps(&course, &promised(None), Timestamp(0)));
    }

    #[test]
    fn an_unkept_promise_is_read_again_four_times_and_then_expires() {
        assert_eq!(
            (0..6).map(reread_after_ms).collect::<Vec<_>>(),
            [Some(5_000), Some(30_000), Some(120_000), Some(600_000), None, None]
        );
    }
}
