//! The budget of calls to one portal: so many a second, so many at once, shared by the lanes.
//!
//! Absorb allows 200 calls a second and a burst of 100, but its load balancer answers 401 to valid tokens under many parallel calls
//! (<https://docs.myabsorb.com/integration-api/v2/docs>), so the number at once protects us as much as the rate does.
//!
//! The lanes are queued fairly by virtual time (start-time fair queueing): a lane that has calls to make gets its share at least, from its
//! first call on, and what a lane leaves, the others use. So a backfill alone has the whole rate, and live events never wait behind it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::lane::{Lane, LmsUse};
use crate::domain::time::Timestamp;

/// Calls that may follow each other without a pause, as a part of those of a second: timers are late, and the rate shall be used all the same.
pub(super) const BURST_PART: u32 = 10;

/// From so many calls at once on, one place is kept for live events: slow answers to others must not fill all of them.
const PLACES_WITH_RESERVE: usize = 4;

/// The virtual time that a call takes in a lane with a share of one percent.
const COST: u64 = 1_200;

/// Bounds the calls to one portal.
pub(super) struct Budget {
    calls_at_once_max: usize,
    interval: Duration,
    /// How much of the past may be made up for.
    burst: Duration,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    lanes: [Waiters; 4],
    /// The start of the call that was let in last, in virtual time.
    virtual_time: u64,
    /// When the next call may go; behind the present by `burst` at most.
    next_free: Option<Instant>,
    /// Calls under way, by lane.
    under_way: [usize; 4],
    tickets: u64,
}

/// Those who wait in one lane, first come first served.
#[derive(Default)]
struct Waiters {
    waiting: VecDeque<(u64, Arc<Notify>)>,
    /// The virtual start of the first of them.
    start: u64,
    /// Where the last call that was let in ended.
    finish: u64,
}

/// What somebody who waits does next.
enum Turn {
    /// Their call goes now.
    Now,
    /// They are the next, from then on.
    At(Instant),
    /// Somebody else is the next, and wakes them.
    Later,
}

impl Budget {
    pub(super) fn new(calls_per_second_max: u32, calls_at_once_max: usize) -> Self {
        let interval = Duration::from_secs(1) / calls_per_second_max.max(1);
        let burst = interval * (calls_per_second_max / BURST_PART).saturating_sub(1);
        Self { calls_at_once_max: calls_at_once_max.max(1), interval, burst, queue: Mutex::default() }
    }

    /// Waits for a place; the call holds it until its answer is read. Whoever stops waiting leaves the queue.
    pub(super) async fn enter(&self, lane: Lane) -> Place<'_> {
        let (ticket, wake) = self.queue().join(lane);
        let mut waiting = Waiting { budget: self, lane, ticket, is_in: false };
        loop {
            let turn = self.take(lane, ticket, Instant::now());
            match turn {
                Turn::Now => {
                    waiting.is_in = true;
                    return Place { budget: self, lane };
                }
                Turn::At(slot) => tokio::select! {
                    () = tokio::time::sleep_until(slot) => {}
                    () = wake.notified() => {}
                },
                Turn::Later => wake.notified().await,
            }
        }
    }

    fn take(&self, lane: Lane, ticket: u64, now: Instant) -> Turn {
        let mut queue = self.queue();
        if queue.next(self.calls_at_once_max) != Some((lane, ticket)) {
            return Turn::Later;
        }
        let free = queue.next_free.unwrap_or(now);
        if free > now {
            return Turn::At(free);
        }
        let earliest = now.checked_sub(self.burst).unwrap_or(now);
        queue.next_free = Some(free.max(earliest) + self.interval);
        queue.let_in(lane);
        queue.wake_next(self.calls_at_once_max);
        Turn::Now
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn join(&mut self, lane: Lane) -> (u64, Arc<Notify>) {
        self.tickets += 1;
        let wake = Arc::new(Notify::new());
        let now = self.virtual_time;
        let waiters = &mut self.lanes[lane as usize];
        if waiters.waiting.is_empty() {
            waiters.start = waiters.finish.max(now);
        }
        waiters.waiting.push_back((self.tickets, Arc::clone(&wake)));
        (self.tickets, wake)
    }

    /// Who is let in next; none while all places are taken.
    fn next(&self, calls_at_once_max: usize) -> Option<(Lane, u64)> {
        let all: usize = self.under_way.iter().sum();
        let others = all - self.under_way[Lane::Live as usize];
        let kept = usize::from(calls_at_once_max >= PLACES_WITH_RESERVE);
        let has_place =
            |lane: Lane| all < calls_at_once_max && (lane == Lane::Live || others < calls_at_once_max - kept);
        let heads = Lane::ALL.into_iter().filter(|lane| has_place(*lane)).filter_map(|lane| {
            let waiters = &self.lanes[lane as usize];
            waiters.waiting.front().map(|(ticket, _)| (waiters.start, lane, *ticket))
        });
        heads.min_by_key(|(start, lane, _)| (*start, *lane)).map(|(_, lane, ticket)| (lane, ticket))
    }

    fn let_in(&mut self, lane: Lane) {
        let waiters = &mut self.lanes[lane as usize];
        waiters.waiting.pop_front();
        self.virtual_time = waiters.start;
        waiters.finish = waiters.start + COST / u64::from(lane.share_percent());
        waiters.start = waiters.finish;
        self.under_way[lane as usize] += 1;
    }

    fn wake_next(&self, calls_at_once_max: usize) {
        let Some((lane, _)) = self.next(calls_at_once_max) else { return };
        if let Some((_, wake)) = self.lanes[lane as usize].waiting.front() {
            wake.notify_one();
        }
    }
}

/// Somebody in the queue.
struct Waiting<'a> {
    budget: &'a Budget,
    lane: Lane,
    ticket: u64,
    is_in: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_in {
            return;
        }
        let mut queue = self.budget.queue();
        queue.lanes[self.lane as usize].waiting.retain(|(ticket, _)| *ticket != self.ticket);
        queue.wake_next(self.budget.calls_at_once_max);
    }
}

/// A place among the calls under way.
pub(super) struct Place<'a> {
    budget: &'a Budget,
    lane: Lane,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.budget.queue();
        queue.under_way[self.lane as usize] -= 1;
        queue.wake_next(self.budget.calls_at_once_max);
    }
}

const MINUTE_MS: i64 = 60_000;
/// How far back calls are counted, in minutes.
const MINUTES: i64 = 60;

/// Counts the calls of the last hour, minute by minute.
#[derive(Default)]
pub(super) struct Tally {
    minutes: VecDeque<Minute>,
    told_in: Option<i64>,
}

#[derive(Default)]
struct Minute {
    number: i64,
    calls: [u64; 4],
    throttled: u64,
}

impl Tally {
    pub(super) fn count(&mut self, lane: Lane, is_throttled: bool, now: Timestamp) {
        let number = now.0.div_euclid(MINUTE_MS);
        // A clock that was set back goes on counting where it was.
        if self.minutes.back().is_none_or(|last| last.number < number) {
            self.minutes.push_back(Minute { number, ..Minute::default() });
        }
        self.forget(number);
        if let Some(minute) = self.minutes.back_mut() {
            minute.calls[lane as usize] += 1;
            minute.throttled += u64::from(is_throttled);
        }
    }

    fn forget(&mut self, number: i64) {
        while self.minutes.front().is_some_and(|first| first.number <= number - MINUTES) {
            self.minutes.pop_front();
        }
    }

    /// The use of the last hour, at most once a minute: whoever keeps it pays a commit.
    pub(super) fn told_hour(&mut self, calls_per_second_max: u32, now: Timestamp) -> Option<LmsUse> {
        let number = now.0.div_euclid(MINUTE_MS);
        if self.told_in == Some(number) {
            return None;
        }
        self.told_in = Some(number);
        self.forget(number);
        let of = |lane: Lane| self.minutes.iter().map(|minute| minute.calls[lane as usize]).sum();
        Some(LmsUse {
            until: now,
            calls_per_second_max,
            calls: Lane::ALL.into_iter().map(|lane| (lane, of(lane))).collect(),
            throttled: self.minutes.iter().map(|minute| minute.throttled).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::FutureExt;
    use futures::future::join_all;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Calls for so long, one after the other in each of `callers`, and answers how many there were.
    async fn call(budget: &Budget, lane: Lane, callers: usize, time: Duration, seen: &impl Fn(Lane)) -> u64 {
        let end = Instant::now() + time;
        let calls = AtomicU64::new(0);
        join_all((0..callers).map(|_| async {
            while Instant::now() < end {
                let place = budget.enter(lane).await;
                if Instant::now() < end {
                    seen(lane);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                drop(place);
            }
        }))
        .await;
        calls.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_alone_has_the_whole_rate() {
        for lane in Lane::ALL {
            let budget = Budget::new(50, 6);
            let calls = call(&budget, lane, 4, Duration::from_secs(100), &|_| {}).await;
            assert!((4_750..=5_005).contains(&calls), "{lane:?}: {calls} of 5000");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn live_events_overtake_a_backfill_at_once_and_the_backfill_keeps_its_share() {
        let budget = Budget::new(50, 6);
        let live = Mutex::new(Vec::new());
        let burst = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let begin = Instant::now();
            join_all((0..100).map(|_| async {
                let _place = budget.enter(Lane::Live).await;
                live.lock().expect("no panic").push(begin.elapsed());
            }))
            .await;
            begin.elapsed()
        };
        let while_live = AtomicU64::new(0);
        let seen = |_| {
            let has_begun = !live.lock().expect("no panic").is_empty();
            while_live.fetch_add(u64::from(has_begun), Ordering::Relaxed);
        };
        let backfill = call(&budget, Lane::Backfill, 20, Duration::from_secs(20), &seen);
        let (took, backfilled) = futures::join!(burst, backfill);
        let first = live.lock().expect("no panic")[0];
        assert!(first <= Duration::from_millis(21), "the first live call waited {first:?}");
        // Only these two have calls to make: four of five are live.
        assert!(took <= Duration::from_millis(2_600), "100 live calls took {took:?}");
        assert!(backfilled >= 850, "the backfill made {backfilled} calls");
        assert!(while_live.into_inner() >= 20, "the backfill stood still");
    }

    #[tokio::test]
    async fn slow_answers_to_others_leave_a_place_for_live_events() {
        let budget = Budget::new(u32::MAX, 4);
        let _slow = [budget.enter(Lane::Sweep).await, budget.enter(Lane::Sweep).await, budget.enter(Lane::Retry).await];
        assert!(budget.enter(Lane::Backfill).now_or_never().is_none());
        let _live = budget.enter(Lane::Live).now_or_never().expect("a place is kept");
        assert!(budget.enter(Lane::Live).now_or_never().is_none());
    }

    #[tokio::test]
    async fn no_more_calls_are_under_way_than_the_budget_allows() {
        let budget = Budget::new(u32::MAX, 2);
        let (first, _second) = (budget.enter(Lane::Sweep).await, budget.enter(Lane::Live).await);
        assert!(budget.enter(Lane::Live).now_or_never().is_none());
        drop(first);
        let _third = budget.enter(Lane::Sweep).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_does_not_hold_up_the_others() {
        let budget = Budget::new(1, 6);
        drop(budget.enter(Lane::Live).await);
        let mut first = Box::pin(budget.enter(Lane::Live));
        assert!(first.as_mut().now_or_never().is_none());
        let second = budget.enter(Lane::Backfill);
        tokio::pin!(second);
        assert!(second.as_mut().now_or_never().is_none());
        drop(first);
        let begin = Instant::now();
        drop(second.await);
        assert!(begin.elapsed() <= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_is_saved_up_for_a_tenth_of_a_second_only() {
        let budget = Budget::new(50, 6);
        tokio::time::sleep(HOUR).await;
        drop(budget.enter(Lane::Live).await);
        tokio::time::sleep(HOUR).await;
        let calls = call(&budget, Lane::Live, 6, Duration::from_secs(1), &|_| {}).await;
        assert!((50..=55).contains(&calls), "{calls} calls in the first second");
    }

    #[test]
    fn the_tally_tells_the_last_hour_once_a_minute() {
        let mut tally = Tally::default();
        let at = |minute: i64| Timestamp(minute * MINUTE_MS + 5);
        tally.count(Lane::Live, false, at(0));
        tally.count(Lane::Sweep, true, at(30));
        let told = tally.told_hour(50, at(59)).expect("it is due");
        let calls: Vec<u64> = told.calls.iter().map(|(_, calls)| *calls).collect();
        assert_eq!((calls, told.throttled), (vec![1, 0, 1, 0], 1));
        assert_eq!(tally.told_hour(50, at(59)), None);
        let told = tally.told_hour(50, at(60)).expect("a minute later");
        assert_eq!(told.calls[0], (Lane::Live, 0), "what is an hour old is forgotten");
    }
}
