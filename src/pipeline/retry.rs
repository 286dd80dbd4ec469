//! What a failure leads to: one policy, in numbers. Pure: time and jitter are handed in.

use learnsync_sdk::{DeliveryError, ErrorKind, RetryAfter};

use crate::domain::delivery::{Cause, Next, THROTTLED};
use crate::domain::time::Timestamp;
use crate::fail_point;
use crate::lms::{UNSAID_MS, asked_until};

/// The first wait after `Unavailable`, in milliseconds; doubled each time.
pub const FIRST_MS: i64 = 5_000;

/// The longest such wait.
pub const CAP_MS: i64 = 30 * 60_000;

/// How often a destination with refused credentials is probed.
pub const UNAUTHORIZED_PROBE_MS: i64 = 15 * 60_000;

/// Failures of one delivery, while others succeed, after which it is poison.
pub const POISON_TRIES: u32 = 8;

/// What was under way when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum During {
    /// A look-up or read-back before a first write: nothing can have been taken.
    Read,
    /// A read-back after an unknown outcome: it stays unknown.
    Look,
    /// A write: the target may have taken it.
    Write,
}

/// All that the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// What was under way.
    pub during: During,
    /// Failures of this delivery in a row, before this one.
    pub tries: u32,
    /// Whether the destination took others lately.
    pub others_succeed: bool,
    /// How long the target may still be committing, in milliseconds.
    pub settle_ms: i64,
    /// When this is.
    pub now: Timestamp,
    /// A random number for the jitter.
    pub random: u64,
}

/// Why and until when the whole destination waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The word in the store.
    pub cause: &'static str,
    /// Until when.
    pub until: Timestamp,
}

/// What follows from a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// For the delivery.
    pub next: Next,
    /// For the destination.
    pub pause: Option<Pause>,
    /// Whether the target failed, as opposed to refusing this one.
    pub is_outage: bool,
}

/// Decides what a failure leads to; the kind alone decides, the circumstances only say when.
#[must_use]
pub fn decide(error: &DeliveryError, given: &Circumstances) -> Decision {
    let park = |cause| {
        // A look that is refused tells nothing of the write before it.
        let is_unknown = given.during == During::Look;
        Decision {
            next: Next::Parked { cause, detail: error.message.clone(), is_unknown },
            pause: None,
            is_outage: false,
        }
    };
    let wait = |cause, until| Decision {
        next: match given.during {
            During::Look => Next::Uncertain { due_at: until, counts: false },
            During::Read | During::Write => Next::Retry { due_at: until, counts: false },
        },
        pause: Some(Pause { cause, until }),
        is_outage: false,
    };
    match &error.kind {
        ErrorKind::Rejected => park(Cause::Rejected),
        ErrorKind::Unmatched => park(Cause::Unmatched),
        ErrorKind::Superseded => Decision { next: Next::Superseded, pause: None, is_outage: false },
        // In full: the target's own wish is a lower bound, coming back earlier is rude and useless.
        ErrorKind::Throttled(after) => wait(THROTTLED, throttled_until(after, given.now)),
        ErrorKind::Unauthorized => wait("unauthorized", given.now.plus_ms(UNAUTHORIZED_PROBE_MS)),
        ErrorKind::Unavailable | ErrorKind::Ambiguous => fail(error, given),
    }
}

fn fail(error: &DeliveryError, given: &Circumstances) -> Decision {
    let is_unknown = match given.during {
        During::Look => true,
        During::Write => error.kind == ErrorKind::Ambiguous,
        During::Read => false,
    };
    if given.tries + 1 >= POISON_TRIES && given.others_succeed {
        let detail = format!("{POISON_TRIES} failures while others succeeded, the last: {}", error.message);
        return Decision {
            next: Next::Parked { cause: Cause::Poison, detail, is_unknown },
            pause: None,
            is_outage: false,
        };
    }
    let due_at = given.now.plus_ms(backoff_ms(given.tries, given.random));
    let settle_ms = if fail_point::is_broken_on_purpose("settle") { 0 } else { given.settle_ms };
    let next = match is_unknown {
        true => Next::Uncertain { due_at: due_at.max(given.now.plus_ms(settle_ms)), counts: true },
        false => Next::Retry { due_at, counts: true },
    };
    Decision { next, pause: None, is_outage: true }
}

/// 5 s x 2^tries with full jitter, at most 30 min.
#[must_use]
pub fn backoff_ms(tries: u32, random: u64) -> i64 {
    let ceiling = FIRST_MS.saturating_mul(1_i64 << tries.min(20)).min(CAP_MS);
    i64::try_from(random % (ceiling.unsigned_abs() + 1)).unwrap_or(ceiling)
}

/// Until when a target or the LMS asked us to wait.
#[must_use]
pub fn throttled_until(after: &RetryAfter, now: Timestamp) -> Timestamp {
    if fail_point::is_broken_on_purpose("retry_after") { now.plus_ms(UNSAID_MS) } else { asked_until(after, now) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn given(during: During, tries: u32) -> Circumstances {
        Circumstances { during, tries, others_succeed: true, settle_ms: 60_000, now: NOW, random: u64::MAX - 1 }
    }

    fn after(kind: ErrorKind, during: During, tries: u32) -> Decision {
        decide(&DeliveryError::new(kind, "words"), &given(during, tries))
    }

    #[test]
    fn throttled_waits_in_full_for_the_whole_destination_in_both_forms() {
        let three_hours = Duration::from_secs(3 * 3_600);
        let seconds = after(ErrorKind::Throttled(RetryAfter::For(three_hours)), During::Write, 0);
        let until = NOW.plus(three_hours);
        assert_eq!(seconds.pause, Some(Pause { cause: "throttled", until }));
        assert_eq!(seconds.next, Next::Retry { due_at: until, counts: false });
        let date = DateTime::from_timestamp_millis(NOW.0 + 7_000).expect("an instant");
        let dated = after(ErrorKind::Throttled(RetryAfter::Until(date)), During::Write, 0);
        assert_eq!(dated.pause.expect("pauses").until, NOW.plus_ms(7_000));
    }

    #[test]
    fn an_unknown_outcome_is_looked_up_and_never_before_the_target_has_settled() {
        for tries in 0..7 {
            let decision = after(ErrorKind::Ambiguous, During::Write, tries);
            let Next::Uncertain { due_at, counts: true } = decision.next else { panic!("{decision:?}") };
            assert!(due_at >= NOW.plus_ms(60_000));
        }
        assert!(matches!(after(ErrorKind::Ambiguous, During::Read, 0).next, Next::Retry { counts: true, .. }));
        assert!(matches!(after(ErrorKind::Unavailable, During::Write, 0).next, Next::Retry { counts: true, .. }));
        assert!(matches!(after(ErrorKind::Unavailable, During::Look, 0).next, Next::Uncertain { .. }));
        let throttled = ErrorKind::Throttled(RetryAfter::Unsaid);
        assert!(matches!(after(throttled, During::Look, 0).next, Next::Uncertain { .. }), "a look leaves it unknown");
    }

    #[test]
    fn waits_double_with_full_jitter_up_to_half_an_hour() {
        assert_eq!(backoff_ms(0, 5_000), 5_000);
        assert_eq!(backoff_ms(0, 5_001), 0, "jitter is full");
        assert_eq!(backoff_ms(3, 40_000), 40_000);
        assert!((0..64).all(|tries| backoff_ms(tries, 123_456_789_012) <= CAP_MS));
    }

    #[test]
    fn eight_failures_while_others_succeed_are_poison_and_in_an_outage_are_not() {
        let eighth = after(ErrorKind::Unavailable, During::Write, 7);
        assert!(matches!(eighth.next, Next::Parked { cause: Cause::Poison, is_unknown: false, .. }), "{eighth:?}");
        // What may have been taken is looked up when it is released, whatever it is parked for.
        let lost = after(ErrorKind::Ambiguous, During::Write, 7);
        assert!(matches!(lost.next, Next::Parked { cause: Cause::Poison, is_unknown: true, .. }), "{lost:?}");
        for kind in [ErrorKind::Unavailable, ErrorKind::Rejected, ErrorKind::Unmatched] {
            let unseen = after(kind, During::Look, 7);
            assert!(matches!(unseen.next, Next::Parked { is_unknown: true, .. }), "{unseen:?}");
        }
        let outage = Circumstances { others_succeed: false, ..given(During::Write, 70) };
        let decision = decide(&DeliveryError::new(ErrorKind::Unavailable, "down"), &outage);
        assert!(matches!(decision.next, Next::Retry { .. }));
    }

    #[test]
    fn a_refusal_parks_at_once_and_says_the_targets_words() {
        let decision = after(ErrorKind::Rejected, During::Write, 0);
        assert_eq!(
            decision.next,
            Next::Parked { cause: Cause::Rejected, detail: "words".to_owned(), is_unknown: false }
        );
        assert!(!decision.is_outage, "a refusal says nothing against the target");
    }

    #[test]
    fn unauthorized_pauses_the_destination_and_costs_the_delivery_nothing() {
        let decision = after(ErrorKind::Unauthorized, During::Write, 0);
        assert_eq!(decision.pause.expect("pauses").until, NOW.plus_ms(UNAUTHORIZED_PROBE_MS));
        assert!(matches!(decision.next, Next::Retry { counts: false, .. }));
    }
}
