//! The only place that builds real things: starts them in order, stops them in reverse.

mod assembly;
mod build;
mod client;
mod control;
mod doors;
mod health;
mod notify;
mod orders;
mod plans;
mod reload;
mod shift;
pub mod verdict;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use chrono_tz::Tz;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::{error, info};

use crate::config::{AdminAddress, Config, ConfigErrors};
use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::{Clock, SystemClock};
use crate::http::{AdminListener, Health};
use crate::pipeline::pulse::Pulse;
use crate::store::{Open, Store, Threading};
use crate::telemetry::Metrics;
pub use assembly::{Assembled, Assembly, Bells, PortalParts};
pub use build::{BuiltDestination, BuiltPortal, BuiltRoute, Parts, build};
pub use client::http_client;
pub use control::ask;
pub use doors::StoreInbox;
use health::Vitals;
pub use orders::{Answer, Desk, Done, Order, REASON_CHARS_MAX, Running, carry_out_alone, log_in_alone, restore};
pub use shift::DRAIN_TIME_MAX;
use shift::{House, Shift, drain};

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

/// What a running daemon is told from outside.
pub struct Signals {
    /// Turns true when it shall end.
    pub stop: watch::Receiver<bool>,
    /// Rings when it shall read its configuration again.
    pub reload: Arc<Notify>,
    /// Where that stands.
    pub path: PathBuf,
}

/// Runs until told to stop; what has begun is finished, within `DRAIN_TIME_MAX`.
///
/// # Errors
/// The store cannot be opened, an address is taken, or the receiver panicked: then a new start is the best repair.
pub async fn run(checked: Checked, mut signals: Signals) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(Generator::from_os());
    let store = open_store(&checked.config, &clock, &entropy)?;
    let listener = TcpListener::bind(checked.config.listen.address)
        .await
        .with_context(|| format!("listen on {}", checked.config.listen.address))?;
    let listener = Arc::new(listener);
    let address = listener.local_addr().context("read the address that we listen on")?;
    let house = House { store, clock, entropy, metrics: Arc::new(Metrics::new()) };
    let (pulse_of, pulse) = watch::channel(Arc::new(Pulse::default()));
    let services = Services::start(&house, &checked.config, pulse).await?;

    // The receiver first: whatever is wrong with the LMS or a target, webhooks are kept.
    let mut shift = Shift::open(&house, &checked, &listener);
    pulse_of.send_replace(shift.begin(&house, &checked).await?);
    let admin = &services.admin;
    info!(%address, %admin, epoch = house.store.epoch(), "learnsync is ready on http://{address}");
    notify::ready(&status(&checked, &address.to_string()));

    let mut running = checked;
    let mut shifts = loop {
        tokio::select! {
            biased;
            // An error means that the sender is gone: then we stop too.
            _ = signals.stop.wait_for(|is_stopped| *is_stopped) => break vec![shift],
            failure = shift.broken_door() => bail!("the receiver failed: {failure}"),
            () = signals.reload.notified() => {}
        }
        notify::reloading();
        if let Some(new) = reread(&running.config, &signals.path).await {
            let mut next = Shift::open(&house, &new, &listener);
            shift.tell_to_stop().await;
            tokio::select! {
                biased;
                _ = signals.stop.wait_for(|is_stopped| *is_stopped) => break vec![shift, next],
                () = shift.ended() => {}
            }
            pulse_of.send_replace(next.begin(&house, &new).await?);
            (shift, running) = (next, new);
            info!(destinations = running.config.destinations.len(), "The new configuration is in force");
        }
        notify::ready(&status(&running, &address.to_string()));
    };
    info!("Stopping: what has begun is finished");
    notify::stopping();
    drop(listener);
    drain(&mut shifts).await;
    services.stop().await;
    info!("Stopped");
    Ok(())
}

/// Reads the configuration again; none when the old one stays, which is said with all reasons.
async fn reread(running: &Config, path: &Path) -> Option<Checked> {
    info!(path = %path.display(), "Reads the configuration again");
    let path = path.to_owned();
    let read = match tokio::task::spawn_blocking(move || verdict::of(&path)).await {
        Ok(verdict) => reload::renewed(running, verdict),
        Err(failure) => Err(vec![format!("reading it failed: {failure}")]),
    };
    read.map_err(|reasons| {
        let errors = reasons.len();
        error!(
            errors,
            "The new configuration is not taken over, {errors} in it must be mended; the old one stays in force"
        );
        for reason in reasons {
            error!("{reason}");
        }
    })
    .ok()
}

/// What works beside all shifts: the admin listener and the watchdog.
struct Services {
    admin: AdminAddress,
    tasks: JoinSet<()>,
    stopper: watch::Sender<bool>,
}

impl Services {
    async fn start(house: &House, config: &Config, pulse: watch::Receiver<Arc<Pulse>>) -> anyhow::Result<Self> {
        let wanted = admin_address(config)?;
        let listener =
            AdminListener::bind(&wanted).await.with_context(|| format!("listen on {wanted} (admin.listen)"))?;
        let admin = listener.address().context("read the address of the admin listener")?;
        let (stopper, stop) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let vitals = Vitals::new(
            Arc::clone(&house.store),
            config.store.path.clone(),
            pulse.clone(),
            Arc::clone(&house.metrics),
            Arc::clone(&house.clock),
            config.portals.values().next().map_or(Tz::UTC, |portal| portal.zone),
        );
        tasks.spawn(listener.serve(Arc::new(vitals) as Arc<dyn Health>, stop.clone()));
        if let Some(time) = notify::watchdog_time() {
            tasks.spawn(notify::feed(time, pulse, stop));
        }
        Ok(Self { admin, tasks, stopper })
    }

    /// Last of all: while the shifts drain, somebody may want to know how it goes.
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

/// One line for `systemctl status`.
fn status(checked: &Checked, address: &str) -> String {
    let names = |names: Vec<&str>| if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
    let portals = names(checked.config.portals.keys().map(String::as_str).collect());
    let destinations = names(checked.config.destinations.keys().map(String::as_str).collect());
    format!("takes webhooks of {portals} on {address}, writes to {destinations}")
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

/// Where the daemon's control socket is.
#[must_use]
pub fn control_socket(config: &Config) -> PathBuf {
    control::socket(&config.store.path)
}
