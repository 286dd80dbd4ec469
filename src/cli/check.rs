//! `learnsync check`: is the configuration right, and do the LMS and the destinations answer?

use std::sync::Arc;

use anyhow::{anyhow, bail};
use async_trait::async_trait;
use clap::Args;
use serde::Serialize;

use super::{Failure, WithConfig, print_json, runtime};
use crate::config::{History, unknown};
use crate::daemon::{Checked, verdict};
use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::{Clock, SystemClock};
use crate::lms::Lms;
use crate::lms::absorb::{StoredToken, TokenVault};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// Asks the LMS and every destination, too. Logging in to the LMS ends a running daemon's session; it logs in again by itself.
    #[arg(long)]
    online: bool,
    /// Leaves the destinations out: is all right without which the daemon does not start? For ExecStartPre= of systemd.
    #[arg(long)]
    portal_only: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let checked =
        if options.portal_only { verdict::of(&options.with.config).portals()? } else { options.with.checked()? };
    describe(&checked, options.portal_only);
    if options.online {
        runtime()?.block_on(ask_everybody(&checked))?;
    }
    Ok(())
}

/// Says what the configuration means.
pub(super) fn describe(checked: &Checked, is_portal_only: bool) {
    let config = &checked.config;
    let what = if is_portal_only { "all but the destinations, which were not looked at," } else { "the configuration" };
    println!("installation {}: {what} is right", config.installation);
    for (name, portal) in &config.portals {
        println!("portal {name}: {}", portal.url);
        println!("  webhook URL: http(s)://<your host>/hooks/{name}/<the webhook token>");
    }
    for destination in &checked.parts.destinations {
        let history = match destination.history {
            History::None => "facts achieved from its first start on".to_owned(),
            History::All => "all facts".to_owned(),
            History::Since(date) => format!("facts achieved since {date}"),
        };
        println!("destination {} ({}): {history}", destination.name, destination.description.name);
        for route in &destination.routes {
            println!(
                "  {}: {} -> {} (mapping {})",
                route.name,
                route.record,
                route.object,
                &route.mapping.digest()[..12]
            );
        }
    }
    println!("sweep: {} ({})", config.reconcile.cron, config.reconcile.zone);
}

async fn ask_everybody(checked: &Checked) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(Generator::from_os());
    let mut failures = 0;
    for (name, portal) in &checked.parts.portals {
        match portal.lms(Arc::new(OneLogin), &clock, &entropy).probe().await {
            Ok(probe) => {
                println!("portal {name}: sees {} learners", probe.learners);
                for (kind, status) in probe.absent {
                    println!("  warning: no {} there (HTTP {status}); nothing is concluded about them", kind.plural());
                }
            }
            Err(error) => {
                failures += 1;
                println!("portal {name}: {error}");
            }
        }
    }
    for destination in &checked.parts.destinations {
        match destination.connector.probe().await {
            Ok(account) => println!("destination {}: answers as {}", destination.name, account.identity),
            Err(error) => {
                failures += 1;
                println!("destination {}: {error}", destination.name);
            }
        }
    }
    if failures > 0 {
        bail!(
            "{failures} of {} do not answer as they should",
            checked.parts.portals.len() + checked.parts.destinations.len()
        );
    }
    Ok(())
}

/// A check keeps no token.
struct OneLogin;

#[async_trait]
impl TokenVault for OneLogin {
    async fn load(&self) -> Option<StoredToken> {
        None
    }

    async fn save(&self, _token: Option<StoredToken>) {}

    async fn reserve_login(&self) -> Result<(), String> {
        Ok(())
    }
}

/// What came of a probe.
#[derive(Debug, Serialize)]
pub(super) struct Probed {
    /// The destination.
    pub(super) destination: String,
    /// The account behind the credentials, as it names itself.
    pub(super) account: Option<String>,
    /// Why it did not answer.
    pub(super) error: Option<String>,
}

/// Probes one destination or all; used by `destinations probe`.
pub(super) async fn probe(checked: &Checked, only: Option<&str>, is_json: bool) -> Result<(), Failure> {
    let known: Vec<&str> = checked.parts.destinations.iter().map(|destination| destination.name.as_str()).collect();
    if let Some(name) = only.filter(|name| !known.contains(name)) {
        return Err(Failure::Configuration(unknown("destination", name, &known)));
    }
    let mut probed = Vec::new();
    for destination in &checked.parts.destinations {
        if only.is_some_and(|name| name != destination.name) {
            continue;
        }
        let (account, error) = match destination.connector.probe().await {
            Ok(account) => (Some(account.identity), None),
            Err(error) => (None, Some(error.to_string())),
        };
        probed.push(Probed { destination: destination.name.clone(), account, error });
    }
    if is_json {
        print_json(&probed)?;
    } else {
        for one in &probed {
            match (&one.account, &one.error) {
                (Some(account), _) => println!("{}: answers as {account}", one.destination),
                (None, error) => println!("destination {}: {}", one.destination, error.as_deref().unwrap_or_default()),
            }
        }
    }
    let failed = probed.iter().filter(|one| one.error.is_some()).count();
    if failed > 0 {
        return Err(anyhow!("{failed} of the probed destinations did not answer as they should").into());
    }
    Ok(())
}
