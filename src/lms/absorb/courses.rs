//! The course cache: one read of a course serves all learners for an hour.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::domain::time::{Clock, Timestamp};
use crate::lms::LmsError;

/// How long a course is taken as read. A renamed course shows up in records after at most so long.
const FRESH: Duration = Duration::from_secs(3600);
/// Most courses kept; the oldest goes first.
const COURSES_MAX: usize = 10_000;

/// What the catalogue says of a course.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CatalogueCourse {
    pub(super) name: Option<String>,
    pub(super) external_id: Option<String>,
    /// Whether it has sessions.
    pub(super) is_instructor_led: bool,
}

/// A read that several callers may wait for; `None` inside when the catalogue does not show the course.
type Slot = Arc<OnceCell<Option<CatalogueCourse>>>;

/// Courses by id.
pub(super) struct Courses {
    clock: Arc<dyn Clock>,
    slots: Mutex<BTreeMap<String, (Timestamp, Slot)>>,
}

impl Courses {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, slots: Mutex::default() }
    }

    /// The course, from the cache or by `fetch`. Of several callers at once one fetches; a failure is kept for nobody.
    pub(super) async fn get<F>(&self, id: &str, fetch: impl FnOnce() -> F) -> Result<Option<CatalogueCourse>, LmsError>
    where
        F: Future<Output = Result<Option<CatalogueCourse>, LmsError>>,
    {
        self.slot(id).get_or_try_init(fetch).await.cloned()
    }

    /// Keeps what a list of courses said.
    pub(super) fn keep(&self, id: &str, course: CatalogueCourse) {
        // Whoever fetched it meanwhile knows it as well.
        let _kept_already = self.slot(id).set(Some(course));
    }

    fn slot(&self, id: &str) -> Slot {
        let now = self.clock.now();
        let is_fresh = |since: Timestamp| since <= now && now < since.plus(FRESH);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, slot)) = slots.get(id)
            && is_fresh(*since)
        {
            return Arc::clone(slot);
        }
        slots.remove(id);
        if slots.len() >= COURSES_MAX {
            slots.retain(|_, (since, _)| is_fresh(*since));
        }
        if slots.len() >= COURSES_MAX {
            let oldest = slots.iter().min_by_key(|(_, (since, _))| *since).map(|(id, _)| id.clone());
            oldest.and_then(|id| slots.remove(&id));
        }
        let slot = Slot::default();
        slots.insert(id.to_owned(), (now, Arc::clone(&slot)));
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    use super::*;

    struct HandClock(AtomicI64);

    impl Clock for HandClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
    }

    struct Bench {
        clock: Arc<HandClock>,
        courses: Courses,
        fetches: AtomicUsize,
    }

    impl Bench {
        fn new() -> Self {
            let clock = Arc::new(HandClock(AtomicI64::new(0)));
            let courses = Courses::new(Arc::<HandClock>::clone(&clock));
            Self { clock, courses, fetches: AtomicUsize::new(0) }
        }

        async fn get(&self, id: &str, fails: bool) -> Result<Option<CatalogueCourse>, LmsError> {
            let fetch = || async {
                self.fetches.fetch_add(1, Ordering::SeqCst);
                // Lets the other callers run while this read is under way.
                tokio::task::yield_now().await;
                if fails { Err(LmsError::Unavailable("down".to_owned())) } else { Ok(None) }
            };
            self.courses.get(id, fetch).await
        }

        fn fetches(&self) -> usize {
            self.fetches.load(Ordering::SeqCst)
        }
    }

    #[tokio::test]
    async fn a_course_that_many_ask_for_at_once_is_read_once() {
        let bench = Bench::new();
        let answers = futures::future::join_all((0..8).map(|_| bench.get("a", false))).await;
        assert!(answers.iter().all(|answer| *answer == Ok(None)));
        assert_eq!(bench.fetches(), 1);
        assert_eq!(bench.get("b", false).await, Ok(None));
        assert_eq!(bench.fetches(), 2);
    }

    #[tokio::test]
    async fn a_course_is_read_again_after_an_hour() {
        let bench = Bench::new();
        assert_eq!(bench.get("a", false).await, Ok(None));
        bench.clock.0.store(3_599_999, Ordering::SeqCst);
        assert_eq!(bench.get("a", false).await, Ok(None));
        assert_eq!(bench.fetches(), 1);
        bench.clock.0.store(3_600_000, Ordering::SeqCst);
        assert_eq!(bench.get("a", false).await, Ok(None));
        assert_eq!(bench.fetches(), 2);
    }

    #[tokio::test]
    async fn a_failed_read_is_not_kept() {
        let bench = Bench::new();
        assert!(bench.get("a", true).await.is_err());
        assert_eq!(bench.get("a", false).await, Ok(None));
    }

    #[tokio::test]
    async fn the_oldest_course_makes_room_for_a_new_one() {
        let bench = Bench::new();
        for number in 0..COURSES_MAX {
            bench.clock.0.store(number as i64, Ordering::SeqCst);
            let _slot = bench.courses.slot(&format!("{number:05}"));
        }
        assert_eq!(bench.get("new", false).await, Ok(None));
        let slots = bench.courses.slots.lock().expect("no test panics with it");
        assert_eq!(slots.len(), COURSES_MAX);
        assert!(!slots.contains_key("00000") && slots.contains_key("00001") && slots.contains_key("new"));
    }
}
