//! What the daemon tells systemd: ready, reloading, stopping, and that it makes progress.
//!
//! The words are those of <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>. Without systemd nobody hears them.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{error, info, warn};

use crate::pipeline::pulse::Pulse;

/// How often the watchdog is fed, as a part of the time that it waits.
const FEEDS: u32 = 3;

/// The daemon is up, or a reload has ended, well or not.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now, NotifyState::Status("reads its configuration again")]),
        // Newer systemd would end a service that says only the first half.
        Err(error) => warn!(%error, "The monotonic clock cannot be read; systemd is not told about the reload"),
    }
}

/// The end begins.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("finishes what has begun")]);
}

fn tell(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        warn!(%error, "systemd cannot be told how the daemon is");
    }
}

/// How long systemd waits for a sign of life; nothing when it does not.
pub(super) fn watchdog_time() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Feeds the watchdog as long as every step makes progress. Once one is late it is fed no more, and systemd ends the daemon: what was under
/// way is found in the ledger at the next start.
pub(super) async fn feed(time: Duration, pulse: watch::Receiver<Arc<Pulse>>, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(time / FEEDS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    info!(seconds = time.as_secs_f64(), "The watchdog of systemd is fed");
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|is_stopped| *is_stopped) => return,
            _ = ticks.tick() => {}
        }
        let late = pulse.borrow().late(Instant::now());
        let Some(first) = late.first() else {
            tell(&[NotifyState::Watchdog]);
            continue;
        };
        let (step, seconds) = (&first.step, first.silence.as_secs());
        let words = format!("{step} has made no progress for {seconds} s");
        error!(step, seconds, late = late.len(), "The watchdog is fed no more: {words}");
        tell(&[NotifyState::Status(&words)]);
        return;
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::pipeline::pulse::SILENCE_MAX;
    use crate::pipeline::worker::{Turn, Work};
    use crate::store::StoreError;

    const TIME: Duration = Duration::from_secs(60);

    struct Idle;

    #[async_trait]
    impl Work for Idle {
        fn name(&self) -> String {
            "refresh".to_owned()
        }

        async fn run_once(&self) -> Result<Turn, StoreError> {
            Ok(Turn::Rest(None))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_until_a_step_falls_silent() {
        let pulse = Arc::new(Pulse::default());
        let step = pulse.watch(Arc::new(Idle));
        let (_pulse_of, pulse) = watch::channel(pulse);
        let (_stopper, stop) = watch::channel(false);
        let begin = Instant::now();
        let feeding = tokio::spawn(feed(TIME, pulse, stop));
        for _ in 0..60 {
            tokio::time::sleep(TIME).await;
            step.run_once().await.expect("it works");
        }
        assert!(!feeding.is_finished(), "a step that goes on is no reason to stop");
        feeding.await.expect("no panic");
        let silence = begin.elapsed() - 60 * TIME;
        assert!(silence > SILENCE_MAX && silence <= SILENCE_MAX + TIME / FEEDS, "{silence:?}");
    }
}
