//! An hour of all lanes at the limit of the sandbox's portal, in virtual time.

use futures::future::join_all;
use tokio::time::Instant;

use super::*;
use crate::domain::lane::Lane;
use crate::lms::absorb::budget::{BURST_PART, Budget};
use crate::sandbox::RateLimiter;

const HOUR: Duration = Duration::from_secs(3_600);

/// What the portal saw.
struct Seen {
    limiter: RateLimiter,
    calls: [u64; 4],
    throttled: u64,
}

/// Calls for so long in all lanes at once, at a portal that allows 200 calls a second and a burst of 100.
async fn calls(budget: &Budget, time: Duration) -> Seen {
    let seen = Mutex::new(Seen { limiter: RateLimiter::default(), calls: [0; 4], throttled: 0 });
    let begin = Instant::now();
    let caller = |lane: Lane| {
        let seen = &seen;
        async move {
            while begin.elapsed() < time {
                let place = budget.enter(lane).await;
                if begin.elapsed() < time {
                    let now = Timestamp(i64::try_from(begin.elapsed().as_millis()).expect("an hour"));
                    let mut seen = seen.lock().expect("no panic");
                    seen.calls[lane as usize] += 1;
                    seen.throttled += u64::from(!seen.limiter.take(now, 200, 100));
                }
                drop(place);
            }
        }
    };
    // Three callers a lane, so that each always has calls to make.
    join_all(Lane::ALL.into_iter().flat_map(|lane| [lane; 3]).map(caller)).await;
    seen.into_inner().expect("no panic")
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_all_lanes_at_once_never_meets_the_portals_limit_and_each_lane_gets_its_share() {
    for (rate, time) in [(50, HOUR), (200, HOUR / 12)] {
        let seen = calls(&Budget::new(rate, 6), time).await;
        let all: u64 = seen.calls.iter().sum();
        println!(
            "{time:?} of virtual time at {rate} calls a second: {all} calls, {} answered with 429",
            seen.throttled
        );
        assert_eq!(seen.throttled, 0, "{rate}/s");
        let most = u64::from(rate) * time.as_secs();
        assert!(all <= most + u64::from(rate / BURST_PART) && all >= most * 95 / 100, "{all} of {most}");
        for (lane, calls) in Lane::ALL.into_iter().zip(seen.calls) {
            let share = most * u64::from(lane.share_percent()) / 100;
            assert!(calls.abs_diff(share) * 50 < share, "{lane:?} made {calls} calls, its share is {share}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_portals_limit_does_throttle_whoever_calls_more_often() {
    let seen = calls(&Budget::new(300, 6), Duration::from_secs(60)).await;
    assert!(seen.throttled > 0);
}
