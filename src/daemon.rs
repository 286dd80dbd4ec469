//! The only place that builds real things: starts them in order, stops them in reverse.

mod assembly;
mod build;
mod client;
mod control;
mod doors;
mod orders;
pub mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_cron_scheduler::{Job, JobScheduler};
use tracing::{info, warn};

use crate::config::{Config, ConfigErrors};
use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::{Clock, SystemClock};
use crate::http::{HookPortal, HttpLimits, Receiver};
use crate::lms::Lms;
use crate::pipeline::worker::{REST_MAX, work};
use crate::reconcile::schedule::Schedule;
use crate::store::{Open, Store, Threading};
use crate::telemetry::Metrics;
pub use assembly::{Assembled, Assembly, Bells};
pub use build::{BuiltDestination, BuiltPortal, BuiltRoute, Parts, build};
pub use client::http_client;
pub use control::ask;
pub use doors::StoreInbox;
use doors::StoreVault;
pub use orders::{Answer, Desk, Done, Order, REASON_CHARS_MAX, Running, carry_out_alone, restore};

/// A configuration whose every part could be built: connectors, mappings, secrets, clients. Nothing was called yet.
pub struct Checked {
    /// The configuration.
    pub config: Config,
    /// What was built from it.
    pub parts: Parts,
}

/// Reads and builds a configuration, offline.
///
/// # Errors
/// All that is wrong, each with its file, line, column and key.
pub fn check(path: &Path) -> Result<Checked, ConfigErrors> {
    verdict::of(path).whole()
}

/// Runs until `stop` says so; what has begun is finished.
///
/// # Errors
/// The store cannot be opened, or the address is taken. What fails later is coped with, and said.
pub async fn run(checked: Checked, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let Checked { config, parts } = checked;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(Generator::from_os());
    let store = open_store(&config, &clock, &entropy)?;
    let listener = TcpListener::bind(config.listen.address)
        .await
        .with_context(|| format!("listen on {}", config.listen.address))?;
    let address = listener.local_addr().context("read the address that we listen on")?;

    let mut bells = Bells::default();
    let mut tasks = JoinSet::new();
    // The receiver first: whatever is wrong with the LMS or a target, webhooks are kept.
    let metrics = Arc::new(Metrics::new());
    let receiver = receiver(&config, &parts, &store, &bells, &clock, &metrics);
    tasks.spawn(receiver.serve(listener, stop.clone()));

    let lms = lms_clients(&parts, &store, &clock, &entropy);
    let schedule = Schedule::parse(&config.reconcile.cron, config.reconcile.zone).map_err(anyhow::Error::msg)?;
    let assembly = Assembly {
        store: Arc::clone(&store),
        lms,
        destinations: &parts.destinations,
        installation: &config.installation,
        schedule,
        readers: config.portals.values().map(|portal| portal.calls_at_once_max).max().unwrap_or(1),
        clock: Arc::clone(&clock),
        entropy,
        metrics,
    };
    let asked = assembly.assemble(&mut bells).await?;
    for (step, bell) in asked.steps {
        tasks.spawn(work(step, bell, Arc::clone(&clock), REST_MAX, stop.clone()));
    }
    let scheduler = ring_at_night(&config, &bells).await;
    let running = Running {
        destinations: asked.destinations,
        deliver: bells.deliver.clone(),
        sweep_now: asked.sweep_now,
        sweeps: bells.sweeps.clone(),
    };
    let desk = Desk { store: Arc::clone(&store), running: Some(running) };
    tasks.spawn(control::serve(control::socket(&config.store.path), Arc::new(desk), stop.clone()));

    info!(%address, epoch = store.epoch(), "learnsync is ready on http://{address}");
    let mut stop = stop;
    // An error means that the sender is gone: then we stop too.
    let _gone = stop.wait_for(|is_stopped| *is_stopped).await;
    info!("Stopping: what has begun is finished");
    if let Some(mut scheduler) = scheduler
        && let Err(error) = scheduler.shutdown().await
    {
        warn!(%error, "The scheduler did not stop");
    }
    while tasks.join_next().await.is_some() {}
    info!("Stopped");
    Ok(())
}

fn open_store(config: &Config, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> anyhow::Result<Arc<Store>> {
    let store = Open {
        path: config.store.path.clone(),
        installation: config.installation.clone(),
        threading: Threading::Thread,
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
        pages_max: None,
    }
    .open()
    .context("open the store")?;
    Ok(Arc::new(store))
}

fn receiver(
    config: &Config,
    parts: &Parts,
    store: &Arc<Store>,
    bells: &Bells,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
) -> Arc<Receiver> {
    let portals = parts
        .portals
        .iter()
        .map(|(name, portal)| HookPortal { name: name.clone(), token: portal.webhook_token.clone() })
        .collect();
    let inbox = Arc::new(StoreInbox {
        store: Arc::clone(store),
        intake: Arc::clone(&bells.intake),
        metrics: Arc::clone(metrics),
    });
    let limits = HttpLimits::from(&config.listen);
    let rendered = Arc::clone(metrics);
    let receiver = Receiver::new(limits, portals, inbox, doors::recognise(), Arc::clone(clock));
    Arc::new(receiver.with_metrics(Arc::new(move || rendered.render())))
}

fn lms_clients(
    parts: &Parts,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> BTreeMap<String, Arc<dyn Lms>> {
    let clients = parts.portals.iter().map(|(name, portal)| {
        let vault = Arc::new(StoreVault { store: Arc::clone(store), portal: name.clone() });
        let lms: Arc<dyn Lms> = Arc::new(portal.lms(vault, clock, entropy));
        (name.clone(), lms)
    });
    clients.collect()
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

/// Where the daemon's control socket is.
#[must_use]
pub fn control_socket(config: &Config) -> PathBuf {
    control::socket(&config.store.path)
}
