//! How the daemon is: asked by the admin listener.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono_tz::Tz;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use tracing::warn;

use crate::domain::health::since;
use crate::domain::rhythm::Rhythm;
use crate::domain::time::{Clock, Timestamp};
use crate::http::{Health, Trouble};
use crate::pipeline::pulse::Pulse;
use crate::store::view::View;
use crate::store::{LedgerGauges, Store, WebhookLoad};
use crate::telemetry::{DestinationGauges, Gauges, Metrics, WebhookGauges};

/// Longest time in which the store must have committed; below the patience of those who ask.
const COMMIT_TIME_MAX: Duration = Duration::from_secs(5);

/// How long what the ledger said last is good enough for the next scraper: a million waiting deliveries cost about a second.
const GAUGES_AGE_MAX: Duration = Duration::from_secs(5);

const DAY_MS: i64 = 86_400_000;

/// What is known about the running daemon.
pub(super) struct Vitals {
    store: Arc<Store>,
    folder: PathBuf,
    pulse: watch::Receiver<Arc<Pulse>>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    zone: Tz,
    gauged_at: Mutex<Option<Instant>>,
}

impl Vitals {
    pub(super) fn new(
        store: Arc<Store>,
        folder: PathBuf,
        pulse: watch::Receiver<Arc<Pulse>>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        zone: Tz,
    ) -> Self {
        Self { store, folder, pulse, metrics, clock, zone, gauged_at: Mutex::default() }
    }

    async fn trouble_of_store(&self) -> Option<String> {
        match tokio::time::timeout(COMMIT_TIME_MAX, self.store.prove_writable()).await {
            Ok(Ok(())) => {
                self.store.refused_lately().map(|words| format!("the newest webhook could not be kept: {words}"))
            }
            Ok(Err(error)) => Some(format!("nothing can be committed: {error}")),
            Err(_) => Some(format!("no commit within {COMMIT_TIME_MAX:?}")),
        }
    }

    /// Reads the gauges from the ledger, unless somebody did so a moment ago.
    async fn gauge(&self) {
        // Held for the whole reading: two scrapers at once cost as much as one.
        let mut gauged_at = self.gauged_at.lock().await;
        if gauged_at.is_some_and(|at| at.elapsed() < GAUGES_AGE_MAX) {
            return;
        }
        let folder = self.folder.clone();
        let reading = tokio::task::spawn_blocking(move || View::open(&folder).and_then(|mut view| view.gauges()));
        match reading.await {
            Ok(Ok(ledger)) => {
                self.metrics.set_gauges(&gauges(ledger, self.clock.now(), self.zone));
                *gauged_at = Some(Instant::now());
            }
            Ok(Err(error)) => warn!(%error, "The ledger cannot be read; the gauges stay as they were"),
            Err(error) => warn!(%error, "Reading the ledger was cut off; the gauges stay as they were"),
        }
    }
}

#[async_trait]
impl Health for Vitals {
    async fn troubles(&self) -> Vec<Trouble> {
        let store = self.trouble_of_store().await.map(|words| Trouble { part: "store".to_owned(), words });
        let late = self.pulse.borrow().late(Instant::now());
        let steps = late.into_iter().map(|late| Trouble {
            part: late.step,
            words: format!("has made no progress for {} s", late.silence.as_secs()),
        });
        store.into_iter().chain(steps).collect()
    }

    async fn metrics(&self) -> String {
        self.gauge().await;
        self.metrics.set_steps_late(self.pulse.borrow().late(Instant::now()).len());
        self.metrics.render()
    }
}

fn gauges(ledger: LedgerGauges, now: Timestamp, zone: Tz) -> Gauges {
    let age = |at: Timestamp| u64::try_from(now.0.saturating_sub(at.0) / 1_000).unwrap_or(0);
    let left = |at: Timestamp| u64::try_from(at.0.saturating_sub(now.0) / 1_000).unwrap_or(0);
    Gauges {
        inbox_backlog: ledger.events_waiting,
        destinations: ledger
            .destinations
            .into_iter()
            .map(|load| DestinationGauges {
                name: load.name,
                is_paused: load.is_paused,
                waiting: load.waiting.into_iter().collect(),
                causes: load.causes.into_iter().collect(),
            })
            .collect(),
        sweep_age_seconds: ledger.sweeps.into_iter().map(|(portal, at)| (portal, age(at))).collect(),
        login_seconds_left: ledger.logins.into_iter().map(|(portal, at)| (portal, left(at))).collect(),
        webhooks: ledger.webhooks.into_iter().map(|load| webhooks(load, now, zone)).collect(),
    }
}

fn webhooks(load: WebhookLoad, now: Timestamp, zone: Tz) -> WebhookGauges {
    let week = since(&load.days, now.plus_ms(-6 * DAY_MS).utc().date_naive());
    let last = load.last_at.and_then(|at| Some((Rhythm::learn(&load.hours, at, zone)?, at)));
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    WebhookGauges {
        portal: load.portal,
        is_silent: last.map(|(rhythm, at)| rhythm.is_unusual(at, now)),
        announced: count(week.announced),
        missed: count(week.missed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::health::{HealthDay, Tally};
    use crate::domain::rhythm::Hour;
    use crate::store::DestinationLoad;

    #[test]
    fn an_age_is_in_seconds_and_never_negative_when_the_clock_was_set_back() {
        let ledger = |at| LedgerGauges { sweeps: vec![("main".to_owned(), Timestamp(at))], ..LedgerGauges::default() };
        let check = |at, seconds| {
            let found = gauges(ledger(at), Timestamp(100_000), Tz::UTC).sweep_age_seconds;
            assert_eq!(found, [("main".to_owned(), seconds)], "{at}");
        };
        check(100_000, 0);
        check(98_001, 1);
        check(40_000, 60);
        check(160_000, 0);
    }

    #[test]
    fn a_paused_destination_and_its_load_are_taken_over() {
        let load = DestinationLoad {
            name: "hr".to_owned(),
            is_paused: true,
            waiting: [("pending".to_owned(), 3)].into(),
            causes: [("unmapped".to_owned(), 2)].into(),
        };
        let ledger = LedgerGauges { events_waiting: 4, destinations: vec![load], ..LedgerGauges::default() };
        let found = gauges(ledger, Timestamp(0), Tz::UTC);
        let expected = DestinationGauges {
            name: "hr".to_owned(),
            is_paused: true,
            waiting: vec![("pending".to_owned(), 3)],
            causes: vec![("unmapped".to_owned(), 2)],
        };
        assert_eq!((found.inbox_backlog, found.destinations), (4, vec![expected]));
    }

    #[test]
    fn silence_is_known_once_there_is_a_rhythm_and_the_week_is_summed() {
        let week_hours = 7 * 24;
        // Each hour of three weeks.
        let hours: Vec<Hour> = (0..3 * week_hours).map(|hour| Hour { hour, minutes: 30 }).collect();
        let last_at = Timestamp(3 * week_hours * 3_600_000);
        let today = last_at.utc().date_naive();
        let day = |days_ago, missed| HealthDay {
            day: today - chrono::TimeDelta::days(days_ago),
            kind: "completion".to_owned(),
            tally: Tally { announced: 10, missed, ..Tally::default() },
        };
        let load = WebhookLoad {
            portal: "main".to_owned(),
            days: vec![day(7, 100), day(6, 1), day(0, 2)],
            hours,
            last_at: Some(last_at),
        };
        let after = |load: &WebhookLoad, ms| webhooks(load.clone(), last_at.plus_ms(ms), Tz::UTC);
        let found = after(&load, 5 * 60_000);
        assert_eq!((found.is_silent, found.announced, found.missed), (Some(false), 20, 3));
        assert_eq!(after(&load, 2 * 3_600_000).is_silent, Some(true));
        let new = WebhookLoad { hours: load.hours[2 * 24 * 7..].to_vec(), ..load };
        assert_eq!(after(&new, 2 * 3_600_000).is_silent, None);
    }
}
