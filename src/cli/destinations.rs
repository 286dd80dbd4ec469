//! `learnsync destinations list|probe|pause|resume|rebase|forget`.

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};

use super::table::Table;
use super::{Failure, WithConfig, check, consent, ledger, names, print_json, runtime};
use crate::config::Config;
use crate::daemon::Order;
use crate::store::view::View;
use crate::store::view::browse::DestinationLine;

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the destinations: who is written to, who is paused and why, who is retired.
    #[command(after_help = "Example: learnsync destinations list")]
    List {
        #[command(flatten)]
        with: WithConfig,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes one cheap authenticated call to a destination, or to all.
    #[command(after_help = "Example: learnsync destinations probe hr")]
    Probe {
        #[command(flatten)]
        with: WithConfig,
        /// Only this one.
        name: Option<String>,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stops writing to a destination until it is resumed; what is wanted there waits.
    #[command(after_help = "Example: learnsync destinations pause hr --reason 'payroll closes today'")]
    Pause {
        #[command(flatten)]
        order: Named,
        /// Why; the next operator reads it. At most 200 characters.
        #[arg(long)]
        reason: String,
    },
    /// Writes to a destination again.
    #[command(after_help = "Example: learnsync destinations resume hr")]
    Resume {
        #[command(flatten)]
        order: Named,
    },
    /// Says that another account behind a destination is right: all that we know of it is looked up anew before anything is written.
    #[command(after_help = "Example: learnsync destinations rebase hr")]
    Rebase {
        #[command(flatten)]
        order: Named,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Removes what the ledger knows of a retired destination. What the target holds stays there.
    #[command(after_help = "Example: learnsync destinations forget old-hr --yes")]
    Forget {
        #[command(flatten)]
        order: Named,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// A command about one destination.
#[derive(Args)]
struct Named {
    #[command(flatten)]
    with: WithConfig,
    /// The destination.
    name: String,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Named {
    /// The ledger's line about it; a wrong name is answered with the nearest.
    fn line(&self) -> Result<DestinationLine, Failure> {
        let mut view = self.with.view()?;
        names::destination(&mut view, &self.name)?;
        let lines = view.list_destinations().context("read the destinations")?;
        let found = lines.into_iter().find(|line| line.name == self.name);
        Ok(found.ok_or_else(|| anyhow!("the destination {} is gone just now", self.name))?)
    }

    fn carry_out(&self, order: &Order) -> Result<(), Failure> {
        ledger::carry_out_and_say(&self.with.config()?, order, self.json)
    }
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    match &options.command {
        Command::List { with, json } => list(&with.config()?, *json),
        Command::Probe { with, name, json } => {
            let checked = with.usable()?;
            runtime()?.block_on(check::probe(&checked, name.as_deref(), *json))
        }
        Command::Pause { order, reason } => {
            order.line()?;
            order.carry_out(&Order::Pause { destination: order.name.clone(), reason: reason.clone() })
        }
        Command::Resume { order } => {
            order.line()?;
            order.carry_out(&Order::Resume { destination: order.name.clone() })
        }
        Command::Rebase { order, yes } => {
            let line = order.line()?;
            consent::ask(&rebase_question(&line), *yes)?;
            order.carry_out(&Order::Rebase { destination: order.name.clone() })
        }
        Command::Forget { order, yes } => {
            let line = order.line()?;
            consent::ask(&forget_question(&line), *yes)?;
            order.carry_out(&Order::Forget { destination: order.name.clone() })
        }
    }
}

fn rebase_question(line: &DestinationLine) -> String {
    let account = line.account.as_deref().unwrap_or("none yet");
    format!(
        "{}: the account that we know is {account}. Whatever account answers next is taken for right; all links are forgotten, and \
         {} deliveries are looked up there before anything is written",
        line.name, line.deliveries
    )
}

fn forget_question(line: &DestinationLine) -> String {
    format!(
        "{} ({}): {} deliveries with {} attempts, and all links, are removed from the ledger for good. What the target holds stays there, \
         and nobody will know any more that it is ours",
        line.name, line.state, line.deliveries, line.attempts
    )
}

fn list(config: &Config, is_json: bool) -> Result<(), Failure> {
    let lines = known(config)?;
    if is_json {
        return print_json(&lines);
    }
    let mut table = Table::new(["name", "connector", "state", "because", "until", "account", "deliveries", "routes"]);
    for line in &lines {
        let because = match (&line.pause_cause, &line.pause_reason) {
            (Some(cause), Some(reason)) => format!("{cause}: {reason}"),
            (Some(cause), None) => cause.clone(),
            (None, _) => String::new(),
        };
        let until = match (line.state.as_str(), line.paused_until) {
            ("paused", Some(at)) => at.to_string(),
            ("paused", None) => "somebody acts".to_owned(),
            _ => String::new(),
        };
        table.row([
            line.name.clone(),
            line.connector.clone(),
            line.state.clone(),
            because,
            until,
            line.account.clone().unwrap_or_default(),
            line.deliveries.to_string(),
            line.routes.join(" "),
        ]);
    }
    table.print()
}

/// The ledger's destinations, and those that are configured but not in it yet.
fn known(config: &Config) -> Result<Vec<DestinationLine>, Failure> {
    let mut lines = match config.store.path.join("learnsync.db").exists() {
        true => View::open(&config.store.path)
            .and_then(|mut view| view.list_destinations())
            .context("look into the store")?,
        false => Vec::new(),
    };
    for (name, destination) in &config.destinations {
        if lines.iter().any(|line| line.name == *name) {
            continue;
        }
        lines.push(DestinationLine {
            name: name.clone(),
            connector: destination.connector.clone(),
            state: "not started".to_owned(),
            pause_cause: None,
            pause_reason: None,
            paused_until: None,
            account: None,
            routes: destination.routes.keys().cloned().collect(),
            deliveries: 0,
            attempts: 0,
        });
    }
    Ok(lines)
}
