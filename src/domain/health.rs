//! Webhook health: which of the facts that a read found for the first time an event should have announced, and which of them one did.
//!
//! Nothing is counted that nobody could have announced: what happened before the portal was first read from end to end, or before the
//! learner was read last; a correction, for which the LMS has no event; a course, whose event comes when it is activated, and no date tells
//! when that was.

use std::sync::LazyLock;

use chrono::NaiveDate;
use learnsync_sdk::RecordKind;
use serde::{Deserialize, Serialize};

use super::event::EVENTS;
use super::lane::Lane;
use super::record::Record;
use super::time::{LmsTime, Timestamp};

/// What happened this shortly before a read may be on its way as a webhook; and the LMS may show a fact this much later than it dates it.
const ON_ITS_WAY_MS: i64 = 15 * 60_000;
const DAY_MS: i64 = 86_400_000;
/// How far a day of some zone may begin or end from that of UTC, in milliseconds.
const ZONES_MS: i64 = 14 * 3_600_000;

/// Upper bounds of the delays that are counted together, in milliseconds. Coarse on purpose: to the second nobody needs to know.
pub const DELAY_BOUNDS_MS: [i64; 13] = [
    1_000,
    2_000,
    5_000,
    10_000,
    30_000,
    60_000,
    2 * 60_000,
    5 * 60_000,
    15 * 60_000,
    3_600_000,
    4 * 3_600_000,
    DAY_MS,
    i64::MAX,
];

/// The kinds that an event announces when the fact happens.
static ANNOUNCED: LazyLock<Vec<RecordKind>> = LazyLock::new(|| {
    let promised = EVENTS.iter().filter_map(|event| event.promises);
    promised.filter(|kind| *kind != RecordKind::Course).collect()
});

/// The read that found a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// In whose interest it was made: for events, or for nobody in particular.
    pub lane: Lane,
    /// When it began.
    pub started_at: Timestamp,
    /// When the one before it began, if there was one.
    pub read_before: Option<Timestamp>,
    /// When the first read of the portal from end to end began that this ledger remembers; none before that was done.
    pub watched_since: Option<Timestamp>,
    /// When the oldest event was received for which it was made.
    pub heard_at: Option<Timestamp>,
}

/// How a fact came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An event made us look.
    Announced {
        /// From the fact to the event, in milliseconds; none where the LMS gives no more than a day.
        delay_ms: Option<i64>,
    },
    /// It was found without any event.
    Missed,
}

/// Whether a fact is one that an event should have announced since the last read; `is_known` when that read showed it, of the same time.
#[must_use]
pub fn is_news(record: &Record, is_known: bool) -> bool {
    // What is known by its webhook alone cannot be missed by one.
    !is_known && !record.is_as_seen && ANNOUNCED.contains(&record.kind)
}

/// How news came to be known; none where nobody can say, or it happened when nobody listened.
#[must_use]
pub fn heard(news: &Record, sight: &Sight) -> Option<Heard> {
    let achieved = news.achieved?;
    let is_watched = is_surely_after(achieved, sight.watched_since?);
    if !is_watched || sight.read_before.is_some_and(|at| !may_be_after(achieved, at)) {
        return None;
    }
    match (sight.lane, achieved) {
        (Lane::Live | Lane::Retry, LmsTime::Date(_)) => Some(Heard::Announced { delay_ms: None }),
        (Lane::Live | Lane::Retry, LmsTime::Instant(at)) => {
            // The LMS's clock may be ahead of ours.
            Some(Heard::Announced { delay_ms: sight.heard_at.map(|heard_at| (heard_at.0 - at.0).max(0)) })
        }
        (Lane::Sweep | Lane::Backfill, LmsTime::Instant(at)) if at > sight.started_at.plus_ms(-ON_ITS_WAY_MS) => None,
        (Lane::Sweep | Lane::Backfill, LmsTime::Instant(_) | LmsTime::Date(_)) => Some(Heard::Missed),
    }
}

/// Whether something happened after an instant in whichever zone its date is one.
fn is_surely_after(achieved: LmsTime, since: Timestamp) -> bool {
    match achieved {
        LmsTime::Instant(at) => at >= since,
        LmsTime::Date(day) => day > since.plus_ms(ZONES_MS).utc().date_naive(),
    }
}

/// Whether something may have happened after a read, or so shortly before that the read did not show it.
fn may_be_after(achieved: LmsTime, read: Timestamp) -> bool {
    match achieved {
        LmsTime::Instant(at) => at >= read.plus_ms(-ON_ITS_WAY_MS),
        LmsTime::Date(day) => day >= read.plus_ms(-ZONES_MS).utc().date_naive(),
    }
}

/// Facts of one kind that were found on one day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Those that an event announced.
    pub announced: i64,
    /// Those that none did.
    pub missed: i64,
    /// How many events came within each of `DELAY_BOUNDS_MS` and not within the one before.
    pub delays: [i64; DELAY_BOUNDS_MS.len()],
    /// The longest delay, in milliseconds.
    pub delay_max_ms: Option<i64>,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, heard: Heard) {
        match heard {
            Heard::Missed => self.missed += 1,
            Heard::Announced { delay_ms } => {
                self.announced += 1;
                if let Some(delay_ms) = delay_ms {
                    let within = DELAY_BOUNDS_MS.iter().position(|bound| delay_ms < *bound);
                    self.delays[within.unwrap_or(DELAY_BOUNDS_MS.len() - 1)] += 1;
                    self.delay_max_ms = self.delay_max_ms.max(Some(delay_ms));
                }
            }
        }
    }

    /// Adds another day, or another kind.
    pub fn merge(&mut self, other: &Self) {
        self.announced += other.announced;
        self.missed += other.missed;
        self.delays.iter_mut().zip(other.delays).for_each(|(count, more)| *count += more);
        self.delay_max_ms = self.delay_max_ms.max(other.delay_max_ms);
    }

    /// How many there were.
    #[must_use]
    pub fn found(&self) -> i64 {
        self.announced + self.missed
    }

    /// The bound within which half of the events came; none where no delay is known, or half took longer than a day.
    #[must_use]
    pub fn half_within_ms(&self) -> Option<i64> {
        let all: i64 = self.delays.iter().sum();
        let mut within = 0;
        let bounds = DELAY_BOUNDS_MS.into_iter().zip(self.delays);
        let half = bounds.map(|(bound, count)| {
            within += count;
            (bound, within)
        });
        let found = half.into_iter().find(|(_, within)| *within > 0 && within * 2 >= all);
        found.map(|(bound, _)| bound).filter(|bound| *bound < i64::MAX)
    }
}

/// A tally as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthDay {
    /// The day on which the facts were found, in UTC.
    pub day: NaiveDate,
    /// Their kind.
    pub kind: String,
    /// What was counted.
    #[serde(flatten)]
    pub tally: Tally,
}

/// The sum of the days from this one on.
#[must_use]
pub fn since(days: &[HealthDay], first: NaiveDate) -> Tally {
    let mut sum = Tally::default();
    days.iter().filter(|day| day.day >= first).for_each(|day| sum.merge(&day.tally));
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    /// 2026-03-12T08:14:00Z.
    const NOW: Timestamp = Timestamp(1_773_303_240_000);

    fn completion(achieved: Option<LmsTime>) -> Record {
        Record { achieved, ..Record::new(RecordKind::Completion, "e1", "u1") }
    }

    fn ago(ms: i64) -> LmsTime {
        LmsTime::Instant(NOW.plus_ms(-ms))
    }

    fn day(text: &str) -> LmsTime {
        LmsTime::Date(text.parse().expect("a date"))
    }

    fn sight(lane: Lane) -> Sight {
        Sight {
            lane,
            started_at: NOW,
            read_before: Some(NOW.plus_ms(-DAY_MS)),
            watched_since: Some(NOW.plus_ms(-30 * DAY_MS)),
            heard_at: Some(NOW.plus_ms(-1_000)),
        }
    }

    #[test]
    fn only_what_an_event_announces_is_news_and_a_correction_is_none() {
        let done = completion(Some(ago(HOUR_MS)));
        assert!(is_news(&done, false));
        assert!(!is_news(&done, true), "the score was corrected");
        assert!(!is_news(&Record { is_as_seen: true, ..done.clone() }, false));
        assert!(!is_news(&Record { kind: RecordKind::Course, ..done }, false), "made, and not yet activated");
    }

    #[test]
    fn what_the_sweep_finds_was_missed_and_what_an_event_led_to_was_announced() {
        let heard_of = |achieved, lane| heard(&completion(Some(achieved)), &sight(lane));
        let announced = |delay_ms| Some(Heard::Announced { delay_ms });
        for lane in [Lane::Live, Lane::Retry] {
            assert_eq!(heard_of(ago(5_000), lane), announced(Some(4_000)));
            assert_eq!(heard_of(ago(-60_000), lane), announced(Some(0)), "their clock is ahead");
            assert_eq!(heard_of(day("2026-03-12"), lane), announced(None), "a day has no time");
        }
        for lane in [Lane::Sweep, Lane::Backfill] {
            assert_eq!(heard_of(ago(HOUR_MS), lane), Some(Heard::Missed));
            assert_eq!(heard_of(day("2026-03-12"), lane), Some(Heard::Missed));
            assert_eq!(heard_of(ago(5_000), lane), None, "its webhook may be on its way");
        }
        assert_eq!(heard(&completion(None), &sight(Lane::Sweep)), None, "nobody knows when it was");
    }

    #[test]
    fn what_happened_before_anybody_listened_is_not_counted() {
        let old = completion(Some(ago(2 * DAY_MS)));
        for lane in Lane::ALL {
            let seen = |change: fn(&mut Sight)| {
                let mut sight = sight(lane);
                change(&mut sight);
                heard(&old, &sight)
            };
            assert_eq!(seen(|_| {}), None, "the last read should have shown it: {lane:?}");
            assert!(seen(|sight| sight.read_before = Some(NOW.plus_ms(-3 * DAY_MS))).is_some(), "{lane:?}");
            assert!(seen(|sight| sight.read_before = None).is_some(), "somebody new: {lane:?}");
            assert_eq!(seen(|sight| sight.watched_since = None), None, "first contact: {lane:?}");
            let newer =
                |sight: &mut Sight| (sight.read_before, sight.watched_since) = (None, Some(NOW.plus_ms(-DAY_MS)));
            assert_eq!(seen(newer), None, "before the first contact, or a restore: {lane:?}");
        }
        // The last read was on the 11th, and the day may have been one of a zone that was still on the 10th.
        let of_day = |text| heard(&completion(Some(day(text))), &sight(Lane::Sweep));
        assert_eq!((of_day("2026-03-09"), of_day("2026-03-10")), (None, Some(Heard::Missed)));
        let first_contact = Sight { watched_since: Some(NOW.plus_ms(-DAY_MS)), ..sight(Lane::Sweep) };
        let of_day = |text| heard(&completion(Some(day(text))), &first_contact);
        assert_eq!((of_day("2026-03-11"), of_day("2026-03-12")), (None, Some(Heard::Missed)));
    }

    #[test]
    fn a_tally_knows_within_which_bound_half_of_the_webhooks_came_and_which_was_the_slowest() {
        let mut one = Tally::default();
        assert_eq!((one.half_within_ms(), one.delay_max_ms, one.found()), (None, None, 0));
        for delay_ms in [500, 3_000, 4_999, 4 * HOUR_MS] {
            one.add(Heard::Announced { delay_ms: Some(delay_ms) });
        }
        one.add(Heard::Announced { delay_ms: None });
        one.add(Heard::Missed);
        assert_eq!((one.announced, one.missed, one.half_within_ms()), (5, 1, Some(5_000)));
        let mut other = Tally::default();
        (0..5).for_each(|_| other.add(Heard::Announced { delay_ms: Some(2 * DAY_MS) }));
        assert_eq!(other.half_within_ms(), None, "longer than a day is longer than is told");
        other.merge(&one);
        assert_eq!((other.found(), other.delay_max_ms), (11, Some(2 * DAY_MS)));
        let text = serde_json::to_string(&other).expect("plain data");
        assert_eq!(serde_json::from_str::<Tally>(&text).expect("it is read"), other);
    }
}
