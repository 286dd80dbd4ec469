//! The pulse of the pipeline: when each step last began or ended a turn, and which one has been silent for too long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::worker::{REST_MAX, Turn, Work};
use crate::store::StoreError;

/// The longest time without a beat. A step rests for 30 s at most, and the slowest turn that still goes on is a learner whose every page the
/// LMS answers in its last allowed second; whoever is silent for longer hangs.
pub const SILENCE_MAX: Duration = Duration::from_secs(15 * 60);

// A resting step must never look like a hanging one.
const _: () = assert!(SILENCE_MAX.as_secs() > 10 * REST_MAX.as_secs());

/// When the steps of the pipeline last moved. Time is the monotonic one: a clock that is set forward makes nobody late.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<BTreeMap<usize, Beat>>);

#[derive(Debug)]
struct Beat {
    step: String,
    at: Instant,
}

/// A step that has been silent for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// Its name.
    pub step: String,
    /// For how long.
    pub silence: Duration,
}

impl Pulse {
    /// The same step, with a beat before and after each turn. One that ends without a word, by a panic, falls silent.
    pub fn watch(self: &Arc<Self>, work: Arc<dyn Work>) -> Arc<dyn Work> {
        let mut beats = self.beats();
        let number = beats.len();
        beats.insert(number, Beat { step: work.name(), at: Instant::now() });
        Arc::new(Watched { work, number, pulse: Arc::clone(self) })
    }

    /// Those who are late at this instant.
    #[must_use]
    pub fn late(&self, now: Instant) -> Vec<Late> {
        let beats = self.beats();
        let silences = beats.values().map(|beat| (beat, now.saturating_duration_since(beat.at)));
        silences
            .filter(|(_, silence)| *silence > SILENCE_MAX)
            .map(|(beat, silence)| Late { step: beat.step.clone(), silence })
            .collect()
    }

    fn beat(&self, number: usize) {
        if let Some(beat) = self.beats().get_mut(&number) {
            beat.at = Instant::now();
        }
    }

    fn beats(&self) -> MutexGuard<'_, BTreeMap<usize, Beat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Watched {
    work: Arc<dyn Work>,
    number: usize,
    pulse: Arc<Pulse>,
}

#[async_trait]
impl Work for Watched {
    fn name(&self) -> String {
        self.work.name()
    }

    async fn run_once(&self) -> Result<Turn, StoreError> {
        self.pulse.beat(self.number);
        let turn = self.work.run_once().await;
        self.pulse.beat(self.number);
        turn
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// Each turn needs a permit.
    struct Gated(Semaphore);

    #[async_trait]
    impl Work for Gated {
        fn name(&self) -> String {
            "deliver hr".to_owned()
        }

        async fn run_once(&self) -> Result<Turn, StoreError> {
            self.0.acquire().await.expect("it is never closed").forget();
            Ok(Turn::Worked)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_is_late_when_a_turn_has_no_end_and_no_longer_when_it_ends() {
        let pulse = Arc::new(Pulse::default());
        let gated = Arc::new(Gated(Semaphore::new(1)));
        let step = pulse.watch(Arc::clone(&gated) as Arc<dyn Work>);
        assert_eq!(step.run_once().await.expect("it works"), Turn::Worked);
        tokio::time::advance(SILENCE_MAX).await;
        assert_eq!(pulse.late(Instant::now()), []);
        let turn = tokio::spawn(async move { step.run_once().await });
        tokio::task::yield_now().await;
        tokio::time::advance(SILENCE_MAX + Duration::from_secs(1)).await;
        let late = Late { step: "deliver hr".to_owned(), silence: SILENCE_MAX + Duration::from_secs(1) };
        assert_eq!(pulse.late(Instant::now()), [late]);
        gated.0.add_permits(1);
        turn.await.expect("no panic").expect("it works");
        assert_eq!(pulse.late(Instant::now()), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_no_longer_runs_is_late_and_the_others_are_not() {
        let pulse = Arc::new(Pulse::default());
        let alive = pulse.watch(Arc::new(Gated(Semaphore::new(1))));
        drop(pulse.watch(Arc::new(Gated(Semaphore::new(1)))));
        tokio::time::advance(SILENCE_MAX + Duration::from_secs(1)).await;
        alive.run_once().await.expect("it works");
        assert_eq!(pulse.late(Instant::now()).len(), 1);
    }
}
