//! The only place that builds real things: starts them in order, stops them in reverse.

mod assembly;
mod build;
mod client;
mod control;
mod doors;
mod health;
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

use crate::config::{AdminAddress, Config, ConfigErrors};
use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::{Clock, SystemClock};
use crate::http::{AdminListener, Health, HookPortal, HttpLimits, Receiver};
use crate::lms::Lms;
use crate::pipeline::pulse::Pulse;
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
use health::Vitals;

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
    let (pulse_of, pulse) = watch::channel(Arc::new(Pulse::default()));
    let vitals =
        Vitals::new(Arc::clone(&store), config.store.path.clone(), pulse, Arc::clone(&metrics), Arc::clone(&clock));
    let services = Services::start(&config, vitals).await?;
    let receiver = receiver(&config, &parts, &store, &bells, &clock, &metrics);
    tasks.spawn(receiver.serve(Arc::new(listener), stop.clone()));

    let lms = lms_clients(&parts, &store, &clock, &entropy, &metrics);
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
    let steps = Arc::clone(&pulse_of.borrow());
    for (step, bell) in asked.steps {
        tasks.spawn(work(steps.watch(step), bell, Arc::clone(&clock), REST_MAX, stop.clone()));
    }
    let scheduler = ring_at_night(&config, &bells).await;
    tasks.spawn(control::serve(
        control::socket(&config.store.path),
        asked.sweep_now,
        bells.sweeps.clone(),
        stop.clone(),
    ));

    let admin = &services.admin;
    info!(%address, %admin, epoch = store.epoch(), "learnsync is ready on http://{address}");
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
    services.stop().await;
    info!("Stopped");
    Ok(())
}

/// What works beside the pipeline: the admin listener.
struct Services {
    admin: AdminAddress,
    tasks: JoinSet<()>,
    stopper: watch::Sender<bool>,
}

impl Services {
    async fn start(config: &Config, vitals: Vitals) -> anyhow::Result<Self> {
        let wanted = admin_address(config)?;
        let listener =
            AdminListener::bind(&wanted).await.with_context(|| format!("listen on {wanted} (admin.listen)"))?;
        let admin = listener.address().context("read the address of the admin listener")?;
        let (stopper, stop) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(listener.serve(Arc::new(vitals) as Arc<dyn Health>, stop));
        Ok(Self { admin, tasks, stopper })
    }

    /// Last of all: while the steps drain, somebody may want to know how it goes.
    async fn stop(mut self) {
        let _ended = self.stopper.send(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Where the admin listener is when nobody said so: only who may look into the store may ask.
fn admin_address(config: &Config) -> anyhow::Result<AdminAddress> {
    if let Some(address) = &config.admin.listen {
        return Ok(address.clone());
    }
    let path = std::path::absolute(config.store.path.join("admin.sock")).context("find the folder of the store")?;
    AdminAddress::unix(path).map_err(anyhow::Error::msg).context("name another place with admin.listen")
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
    let metrics = Arc::clone(metrics);
    let receiver = Receiver::new(limits, portals, inbox, doors::recognise(), Arc::clone(clock));
    Arc::new(receiver.counting(Arc::new(move |portal, outcome| metrics.hook_received(portal, outcome))))
}

fn lms_clients(
    parts: &Parts,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    metrics: &Arc<Metrics>,
) -> BTreeMap<String, Arc<dyn Lms>> {
    let clients = parts.portals.iter().map(|(name, portal)| {
        let vault = Arc::new(StoreVault { store: Arc::clone(store), portal: name.clone() });
        let client = portal.lms(vault, clock, entropy).counting(name, Arc::clone(metrics));
        let lms: Arc<dyn Lms> = Arc::new(client);
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
