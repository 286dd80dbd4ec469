//! The only place that builds real things: starts them in order, stops them in reverse.

mod build;
mod client;
mod control;
mod doors;
pub mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

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
use crate::pipeline::deliver::Deliver;
use crate::pipeline::destination::Destination;
use crate::pipeline::intake::Intake;
use crate::pipeline::plan::{Plan, PlannedRoute};
use crate::pipeline::refresh::{Portal, Refresh};
use crate::pipeline::worker::{Bell, Work, work};
use crate::reconcile::schedule::Schedule;
use crate::reconcile::sweep::Sweep;
use crate::store::{Open, Store, Threading};
use crate::telemetry::Metrics;
pub use build::{BuiltDestination, BuiltPortal, Parts, build};
pub use client::http_client;
pub use control::ask;
use doors::{StoreInbox, StoreVault};

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

/// The bells that wake the steps.
#[derive(Default)]
struct Bells {
    intake: Arc<Bell>,
    refresh: Arc<Bell>,
    sweeps: Vec<Arc<Bell>>,
    deliver: BTreeMap<String, Arc<Bell>>,
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

    let (plan, destinations) = ready_destinations(&parts, &store, &config.installation).await?;
    let portals = ready_portals(&parts, &store, &clock, &entropy);
    let mut steps: Vec<(Arc<dyn Work>, Arc<Bell>)> = Vec::new();
    let read = doors::read_event();
    let intake = Intake::new(Arc::clone(&store), read, Arc::clone(&bells.refresh), Arc::clone(&metrics));
    steps.push((Arc::new(intake), Arc::clone(&bells.intake)));
    for destination in &destinations {
        let bell = Arc::new(Bell::default());
        bells.deliver.insert(destination.name.clone(), Arc::clone(&bell));
        let probing = Arc::new(tokio::sync::Mutex::new(()));
        for _ in 0..destination.description.concurrency_max {
            let deliver = Deliver {
                store: Arc::clone(&store),
                destination: Arc::clone(destination),
                clock: Arc::clone(&clock),
                entropy: Arc::clone(&entropy),
                more: Arc::clone(&bell),
                metrics: Arc::clone(&metrics),
                probing: Arc::clone(&probing),
            };
            steps.push((Arc::new(deliver), Arc::clone(&bell)));
        }
    }
    let readers = config.portals.values().map(|portal| portal.calls_at_once_max).max().unwrap_or(1);
    for _ in 0..readers {
        let refresh = Refresh {
            store: Arc::clone(&store),
            portals: Arc::clone(&portals),
            plan: Arc::clone(&plan),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            more: Arc::clone(&bells.refresh),
            deliver: bells.deliver.values().cloned().collect(),
            metrics: Arc::clone(&metrics),
        };
        steps.push((Arc::new(refresh), Arc::clone(&bells.refresh)));
    }
    let asked = sweeps(&config, &portals, &store, &destinations, &mut bells, &mut steps, (&clock, &entropy))?;
    for (step, bell) in steps {
        tasks.spawn(work(step, bell, Arc::clone(&clock), stop.clone()));
    }
    let scheduler = ring_at_night(&config, &bells).await;
    tasks.spawn(control::serve(control::socket(&config.store.path), asked, bells.sweeps.clone(), stop.clone()));

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

/// Makes the rows of what is configured, and finds out what the last life of the daemon left under way.
async fn ready_destinations(
    parts: &Parts,
    store: &Arc<Store>,
    installation: &str,
) -> anyhow::Result<(Arc<Plan>, Vec<Arc<Destination>>)> {
    let specs = parts.destinations.iter().map(BuiltDestination::spec).collect();
    let topology = store.sync_topology(specs).await.context("keep the destinations")?;
    let mut plan = Plan::default();
    let mut destinations = Vec::new();
    for built in &parts.destinations {
        let rows = &topology.destinations[&built.name];
        let settle_ms = i64::from(built.description.settle_seconds) * 1_000;
        let recovered = store.recover_epoch(rows.id, settle_ms).await.context("find what was under way")?;
        if recovered > 0 {
            info!(destination = built.name, recovered, "Writes of unknown outcome will be looked up first");
        }
        for route in &built.routes {
            plan.routes.push(PlannedRoute {
                destination: rows.id,
                route: rows.routes[&route.name].id,
                record: route.record,
                mode: route.mode,
                slot: route.slot,
                history: built.history,
                first_seen_at: rows.first_seen_at,
                zone: built.zone,
            });
        }
        destinations.push(Arc::new(built.ready(rows, installation)));
    }
    Ok((Arc::new(plan), destinations))
}

fn ready_portals(
    parts: &Parts,
    store: &Arc<Store>,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> Arc<BTreeMap<String, Portal>> {
    let ready = parts.portals.iter().map(|(name, portal)| {
        let vault = Arc::new(StoreVault { store: Arc::clone(store), portal: name.clone() });
        let lms: Arc<dyn Lms> = Arc::new(portal.lms(vault, clock, entropy));
        (name.clone(), Portal::new(lms))
    });
    Arc::new(ready.collect())
}

/// One sweep a portal; answers the switches that ask for one now.
fn sweeps(
    config: &Config,
    portals: &Arc<BTreeMap<String, Portal>>,
    store: &Arc<Store>,
    destinations: &[Arc<Destination>],
    bells: &mut Bells,
    steps: &mut Vec<(Arc<dyn Work>, Arc<Bell>)>,
    (clock, entropy): (&Arc<dyn Clock>, &Arc<dyn Entropy>),
) -> anyhow::Result<Vec<Arc<AtomicBool>>> {
    let mut switches = Vec::new();
    for (name, portal) in portals.iter() {
        let schedule = Schedule::parse(&config.reconcile.cron, config.reconcile.zone).map_err(anyhow::Error::msg)?;
        let asked = Arc::new(AtomicBool::new(false));
        switches.push(Arc::clone(&asked));
        let sweep = Sweep {
            portal: name.clone(),
            lms: Arc::clone(&portal.lms),
            store: Arc::clone(store),
            schedule,
            asked,
            clock: Arc::clone(clock),
            entropy: Arc::clone(entropy),
            refresh: Arc::clone(&bells.refresh),
            destinations: destinations
                .iter()
                .map(|destination| (destination.id, Arc::clone(&bells.deliver[&destination.name])))
                .collect(),
            under_way: AtomicBool::new(false),
        };
        let bell = Arc::new(Bell::default());
        bells.sweeps.push(Arc::clone(&bell));
        steps.push((Arc::new(sweep), bell));
    }
    Ok(switches)
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
