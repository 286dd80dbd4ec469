//! One shift: all that works by one configuration. A new configuration is a new shift on the same store, port and metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_cron_scheduler::{Job, JobScheduler};
use tracing::{error, warn};

use super::assembly::{Assembly, Bells, PortalParts};
use super::doors::{self, StoreInbox, StoreVault};
use super::orders::{Desk, Running};
use super::{Checked, control};
use crate::config::Config;
use crate::domain::chance::Entropy;
use crate::domain::time::Clock;
use crate::http::{HookPortal, HttpLimits, Receiver};
use crate::lms::Lms;
use crate::lms::absorb::Absorb;
use crate::pipeline::pulse::Pulse;
use crate::pipeline::worker::{REST_MAX, work};
use crate::reconcile::schedule::Schedule;
use crate::store::Store;
use crate::telemetry::Metrics;

/// How long the last shift may take to finish what it has begun. What is cut off is found in the ledger at the next start. The unit's
/// `TimeoutStopSec` is longer.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(25);

/// What outlives every shift.
pub(super) struct House {
    pub(super) store: Arc<Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) metrics: Arc<Metrics>,
}

/// Tasks that end together.
pub(super) struct Shift {
    tasks: JoinSet<()>,
    stopper: watch::Sender<bool>,
    /// The task that receives webhooks.
    door: Option<Id>,
    bells: Bells,
    scheduler: Option<JobScheduler>,
}

impl Shift {
    /// Opens the door: webhooks are kept from now on. Nothing else works yet.
    pub(super) fn open(house: &House, checked: &Checked, listener: &Arc<TcpListener>) -> Self {
        let bells = Bells::default();
        let (stopper, stop) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let door = tasks.spawn(receiver(house, checked, &bells).serve(Arc::clone(listener), stop)).id();
        Self { tasks, stopper, door: Some(door), bells, scheduler: None }
    }

    /// Begins the work; answers its pulse.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn begin(&mut self, house: &House, checked: &Checked) -> anyhow::Result<Arc<Pulse>> {
        let config = &checked.config;
        let absorb = lms_clients(house, checked);
        let assembly = Assembly {
            store: Arc::clone(&house.store),
            portals: portals(checked, &absorb),
            destinations: &checked.parts.destinations,
            installation: &config.installation,
            schedule: Schedule::parse(&config.reconcile.cron, config.reconcile.zone).map_err(anyhow::Error::msg)?,
            readers: config.portals.values().map(|portal| portal.calls_at_once_max).max().unwrap_or(1),
            clock: Arc::clone(&house.clock),
            entropy: Arc::clone(&house.entropy),
            metrics: Arc::clone(&house.metrics),
        };
        let asked = assembly.assemble(&mut self.bells).await?;
        let pulse = Arc::new(Pulse::default());
        let stop = self.stopper.subscribe();
        for (step, bell) in asked.steps {
            self.tasks.spawn(work(pulse.watch(step), bell, Arc::clone(&house.clock), REST_MAX, stop.clone()));
        }
        self.scheduler = ring_at_night(config, &self.bells).await;
        let running = Running {
            destinations: asked.destinations,
            deliver: self.bells.deliver.clone(),
            sweep_now: asked.sweep_now,
            verify_now: asked.verify_now,
            verify: self.bells.verify.clone(),
            apply: self.bells.apply.clone(),
            sweeps: self.bells.sweeps.clone(),
            backfills: self.bells.backfills.clone(),
            portals: asked.portals,
            refresh: self.bells.refresh.clone(),
            absorb,
        };
        let desk = Arc::new(Desk { store: Arc::clone(&house.store), running: Some(running) });
        self.tasks.spawn(control::serve(control::socket(&config.store.path), desk, stop));
        Ok(pulse)
    }

    /// Waits until the receiver fails. Another part that fails is said and left alone: the others and the receiver go on, it falls silent,
    /// and the watchdog makes a new start of it, which looks up what was under way.
    pub(super) async fn broken_door(&mut self) -> JoinError {
        loop {
            match self.tasks.join_next().await {
                Some(Err(failure)) if Some(failure.id()) == self.door => return failure,
                Some(Err(failure)) => {
                    error!(error = %failure, "A part of the daemon failed, and rests until the next start")
                }
                Some(Ok(())) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Tells all parts to finish what they have begun, and to begin nothing more.
    pub(super) async fn tell_to_stop(&mut self) {
        // Nobody listens any more only when all have ended.
        let _ended = self.stopper.send(true);
        if let Some(mut scheduler) = self.scheduler.take()
            && let Err(error) = scheduler.shutdown().await
        {
            warn!(%error, "The scheduler did not stop");
        }
    }

    /// Waits until all parts have ended. May be left and called again.
    pub(super) async fn ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(failure) = ended {
                error!(error = %failure, "A part of the daemon failed while it stopped");
            }
        }
    }

    /// Ends what still runs at once.
    pub(super) async fn cut_off(&mut self) {
        warn!(
            parts = self.tasks.len(),
            "Cut off {} parts that did not finish in {DRAIN_TIME_MAX:?}; the next start looks up what they wrote",
            self.tasks.len()
        );
        self.tasks.shutdown().await;
    }
}

/// Stops shifts, within `DRAIN_TIME_MAX`.
pub(super) async fn drain(shifts: &mut [Shift]) {
    for shift in &mut *shifts {
        shift.tell_to_stop().await;
    }
    let ending = async {
        for shift in &mut *shifts {
            shift.ended().await;
        }
    };
    if tokio::time::timeout(DRAIN_TIME_MAX, ending).await.is_err() {
        for shift in shifts {
            shift.cut_off().await;
        }
    }
}

fn receiver(house: &House, checked: &Checked, bells: &Bells) -> Arc<Receiver> {
    let portals = checked
        .parts
        .portals
        .iter()
        .map(|(name, portal)| HookPortal { name: name.clone(), token: portal.webhook_token.clone() })
        .collect();
    let inbox = Arc::new(StoreInbox {
        store: Arc::clone(&house.store),
        intake: Arc::clone(&bells.intake),
        metrics: Arc::clone(&house.metrics),
    });
    let limits = HttpLimits::from(&checked.config.listen);
    let metrics = Arc::clone(&house.metrics);
    let aliases = checked.parts.portals.iter().map(|(name, portal)| (name.clone(), portal.aliases.clone()));
    let recognise = doors::recognise(Arc::new(aliases.collect()));
    let receiver = Receiver::new(limits, portals, inbox, recognise, Arc::clone(&house.clock));
    Arc::new(receiver.counting(Arc::new(move |portal, outcome| metrics.hook_received(portal, outcome))))
}

fn lms_clients(house: &House, checked: &Checked) -> BTreeMap<String, Absorb> {
    let clients = checked.parts.portals.iter().map(|(name, portal)| {
        let vault = Arc::new(StoreVault {
            store: Arc::clone(&house.store),
            portal: name.clone(),
            token_key: checked.parts.token_key.clone(),
        });
        (name.clone(), portal.counted_lms(vault, &house.clock, &house.entropy, &house.metrics))
    });
    clients.collect()
}

fn portals(checked: &Checked, clients: &BTreeMap<String, Absorb>) -> BTreeMap<String, PortalParts> {
    let parts = clients.iter().map(|(name, client)| {
        let built = &checked.parts.portals[name];
        let lms: Arc<dyn Lms> = Arc::new(client.clone());
        (name.clone(), PortalParts { lms, calendar: built.calendar, aliases: built.aliases.clone() })
    });
    parts.collect()
}

/// The scheduler only rings: what is due is decided from the ledger, so a bell that is missed costs nothing but time.
async fn ring_at_night(config: &Config, bells: &Bells) -> Option<JobScheduler> {
    let sweeps = bells.sweeps.clone();
    // The scheduler's expressions begin with seconds.
    let expression = format!("0 {}", config.reconcile.cron);
    let started = async {
        let scheduler = JobScheduler::new().await?;
        let job = Job::new_tz(expression.as_str(), config.reconcile.zone, move |_, _| {
            sweeps.iter().for_each(|bell| bell.ring());
        })?;
        scheduler.add(job).await?;
        scheduler.start().await?;
        Ok::<_, tokio_cron_scheduler::JobSchedulerError>(scheduler)
    };
    match started.await {
        Ok(scheduler) => Some(scheduler),
        Err(error) => {
            warn!(%error, "The scheduler did not start; sweeps are looked for every half minute all the same");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn shift() -> Shift {
        Shift {
            tasks: JoinSet::new(),
            stopper: watch::channel(false).0,
            door: None,
            bells: Bells::default(),
            scheduler: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_end_is_cut_off_after_the_named_time_and_what_has_one_is_waited_for() {
        let (done, mut is_done) = watch::channel(false);
        let mut shift = shift();
        let mut stop = shift.stopper.subscribe();
        shift.tasks.spawn(async move {
            drop(stop.wait_for(|is_stopped| *is_stopped).await);
            tokio::time::sleep(DRAIN_TIME_MAX / 2).await;
            done.send_replace(true);
        });
        shift.tasks.spawn(std::future::pending());
        let begin = Instant::now();
        drain(std::slice::from_mut(&mut shift)).await;
        assert_eq!((begin.elapsed(), shift.tasks.len()), (DRAIN_TIME_MAX, 0));
        assert!(*is_done.borrow_and_update(), "the part that had half the time was not waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_shift_that_has_ended_is_not_waited_for() {
        let begin = Instant::now();
        drain(&mut [shift()]).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    #[test]
    fn systemd_waits_longer_than_the_daemon_drains() {
        let unit = include_str!("../../systemd/learnsync.service");
        let seconds = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.strip_suffix('s'));
        let seconds: u64 = seconds.and_then(|text| text.parse().ok()).expect("TimeoutStopSec=<n>s stands in the unit");
        assert!(Duration::from_secs(seconds) > DRAIN_TIME_MAX, "{seconds} s");
    }
}
