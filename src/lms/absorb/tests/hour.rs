//! An hour of all lanes at the limit of the sandbox's portal, in virtual time.

use futures::future::join_all;
use tokio::time::Instant;

use super::*;
use crate::domain::lane::Lane;
use crate::lms::absorb::budget::Budget;
use crate::sandbox::RateLimiter;

/// Calls for so long in all lanes at once; answers how many calls there were, and how many the portal would have answered with 429.
async fn calls(budget: &Budget, time: Duration) -> (u64, u64) {
    let limiter = Mutex::new((RateLimiter::default(), 0_u64, 0_u64));
    let begin = Instant::now();
    let caller = |lane| {
        let limiter = &limiter;
        async move {
            while begin.elapsed() < time {
                let place = budget.enter(lane).await;
                let now = Timestamp(i64::try_from(begin.elapsed().as_millis()).expect("an hour"));
                let mut seen = limiter.lock().expect("no panic");
                seen.1 += 1;
                seen.2 += u64::from(!seen.0.take(now, 200, 100));
                drop((seen, place));
            }
        }
    };
    // Three callers a lane, so that each always has calls to make.
    join_all(Lane::ALL.into_iter().flat_map(|lane| [lane; 3]).map(caller)).await;
    let (_, all, throttled) = limiter.into_inner().expect("no panic");
    (all, throttled)
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_all_lanes_at_the_portals_own_limit_is_never_answered_with_429() {
    let (all, throttled) = calls(&Budget::new(50, 6), Duration::from_secs(3_600)).await;
    println!("an hour of virtual time at 50 calls a second: {all} calls, {throttled} answered with 429");
    assert_eq!(throttled, 0);
    assert!((170_000..=180_100).contains(&all), "{all} of 180,000");
}

#[tokio::test(start_paused = true)]
async fn the_portals_limit_does_throttle_whoever_calls_more_often() {
    let (_, throttled) = calls(&Budget::new(300, 6), Duration::from_secs(60)).await;
    assert!(throttled > 0);
}
