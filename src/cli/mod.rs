//! The command line, one file a subcommand. Exit status: 0 done, 1 it ran and something is wrong, 2 usage or configuration.

mod audit;
mod backfill;
mod check;
mod consent;
mod copies;
mod deliveries;
mod demo;
mod destinations;
mod erase;
mod events;
mod explain;
mod given;
mod init;
mod ledger;
mod links;
mod login;
mod manual;
mod names;
mod plan;
mod receipt;
mod reconcile;
mod reference;
mod run;
mod runs;
mod sandbox;
mod status;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigErrors, Draft, Files, draft};
use crate::daemon::Checked;
use crate::store::view::View;

/// Keeps HR and CRM systems true to a learning management system.
#[derive(Parser)]
#[command(name = "learnsync", version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the daemon: receives webhooks, reads the LMS, writes to the destinations.
    #[command(after_help = "Example: learnsync run --config /etc/learnsync/learnsync.toml")]
    Run(WithConfig),
    /// Shows everything at work, without any account or configuration.
    #[command(after_help = "Example: learnsync demo")]
    Demo(demo::Options),
    /// Starts a fake Absorb portal, HR system and chat, to try a configuration against; its actions let something happen there.
    Sandbox(sandbox::Options),
    /// Asks a few questions and writes a configuration.
    #[command(after_help = "Example: learnsync init --config learnsync.toml")]
    Init(Box<init::Options>),
    /// Checks the configuration, offline; with --online asks the LMS and every destination too.
    #[command(after_help = "Example: learnsync check --online")]
    Check(check::Options),
    Status(status::Options),
    Explain(explain::Options),
    /// Shows the webhooks as they came.
    Events(events::Options),
    /// Shows the obligations one by one, and tries again what is parked.
    Deliveries(deliveries::Options),
    /// Shows who learners are in the destinations, and pins them.
    Links(links::Options),
    /// Lists, probes, pauses or forgets the destinations.
    Destinations(destinations::Options),
    Login(login::Options),
    /// Asks the running daemon to reconcile now: whoever the LMS's lists show otherwise is read again, with --full everybody; and then what the
    /// destinations hold.
    #[command(after_help = "Example: learnsync reconcile")]
    Reconcile(reconcile::Options),
    /// Shows what the nights came to: what was read, what the destinations really hold, and what followed.
    Runs(runs::Options),
    /// Tells what the mapping of today, or a candidate, would change in what was written before, and writes that down as a plan; changes nothing.
    #[command(after_help = "Example: learnsync plan --destination hr --mapping new-hr.toml")]
    Plan(plan::Options),
    /// Writes exactly what a plan file says; refuses one that was edited, is stale, or was applied before.
    #[command(after_help = "Example: learnsync apply hr.plan --canary 20")]
    Apply(plan::ApplyOptions),
    /// Lets a run go on that its guard holds because it would change too much.
    #[command(after_help = "Example: learnsync approve 12")]
    Approve(runs::ApproveOptions),
    /// Has the daemon read all that a portal holds, in as few calls as it allows; goes on where it was held or killed.
    #[command(after_help = "Example: learnsync backfill --since 2026-01-01")]
    Backfill(backfill::Options),
    /// Copies the ledger and its keys; the daemon may run meanwhile.
    #[command(after_help = "Example: learnsync backup /var/lib/learnsync/backups/monday.db")]
    Backup(copies::BackupOptions),
    /// Makes a copy the store again; the daemon must not run. The store of before is kept beside it.
    #[command(after_help = "Example: learnsync restore /var/lib/learnsync/backups/monday.db")]
    Restore(copies::RestoreOptions),
    /// Proves that nobody changed what happened.
    Audit(audit::Options),
    /// Shows or verifies what proves that a target took a delivery.
    Receipt(receipt::Options),
    /// Erases a learner: their key is destroyed, and they are never read again.
    #[command(after_help = "Example: learnsync erase ana.nowak@example.org")]
    Erase(erase::Options),
    /// Prints completions for a shell.
    #[command(after_help = "Example: learnsync completions bash")]
    Completions(manual::CompletionOptions),
    /// Writes the manual's pages, one a command, into a folder.
    #[command(after_help = "Example: learnsync man /usr/local/share/man/man1")]
    Man(manual::ManOptions),
    /// Prints the reference of all settings, limits and connectors; with --schema the JSON Schema of a file.
    #[command(after_help = "Example: learnsync reference --schema")]
    Reference(reference::Options),
}

/// The configuration file.
#[derive(Args, Clone)]
struct WithConfig {
    /// The configuration file.
    #[arg(long, default_value = "/etc/learnsync/learnsync.toml")]
    config: PathBuf,
}

/// How many rows a list shows.
#[derive(Args, Clone, Copy)]
struct RowsMax {
    /// Most rows, at most 10000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

/// Why a command did not do what it was asked.
enum Failure {
    /// Usage or configuration: exit status 2.
    Configuration(String),
    /// It ran, and something is wrong: exit status 1.
    Wrong(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Wrong(error)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Configuration(errors.to_string())
    }
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Sandbox(options) => sandbox::run(&options),
        Command::Init(options) => init::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::Events(options) => events::run(&options),
        Command::Deliveries(options) => deliveries::run(&options),
        Command::Links(options) => links::run(&options),
        Command::Destinations(options) => destinations::run(&options),
        Command::Login(options) => login::run(&options),
        Command::Reconcile(options) => reconcile::run(&options),
        Command::Runs(options) => runs::run(&options),
        Command::Plan(options) => plan::run(&options),
        Command::Apply(options) => plan::apply(&options),
        Command::Approve(options) => runs::approve(&options),
        Command::Backfill(options) => backfill::run(&options),
        Command::Backup(options) => copies::backup(&options),
        Command::Restore(options) => copies::restore(&options),
        Command::Audit(options) => audit::run(&options),
        Command::Receipt(options) => receipt::run(&options),
        Command::Erase(options) => erase::run(&options),
        Command::Completions(options) => manual::completions(&options),
        Command::Man(options) => manual::man(&options),
        Command::Reference(options) => reference::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Wrong(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(1)
        }
        Err(Failure::Configuration(words)) => {
            eprintln!("{words}");
            ExitCode::from(2)
        }
    }
}

impl WithConfig {
    /// Reads and builds the configuration.
    fn checked(&self) -> Result<Checked, Failure> {
        Ok(crate::daemon::check(&self.config)?)
    }

    /// Reads the configuration without building it or looking for secrets: who asks is often not allowed to read them. A destination that is
    /// wrong is in nobody's way here.
    fn config(&self) -> Result<Config, Failure> {
        let Draft { config, errors, .. } = draft(&Files::read(&self.config));
        errors.of_everything().into_result()?;
        let found = config.map_or_else(|| Err(Failure::Configuration(errors.to_string())), Ok)?;
        Ok(found)
    }

    /// Looks into the store; the daemon may run meanwhile.
    fn view(&self) -> Result<View, Failure> {
        use anyhow::Context;
        let config = self.config()?;
        Ok(View::open(&config.store.path).context("look into the store")?)
    }

    /// Reads and builds what can run; what is wrong with the other destinations is said.
    fn usable(&self) -> Result<Checked, Failure> {
        let verdict = crate::daemon::verdict::of(&self.config);
        let errors = verdict.errors.clone();
        let checked = verdict.runnable()?;
        errors.0.iter().for_each(|error| eprintln!("{error}"));
        Ok(checked)
    }
}

/// A runtime for commands that call somebody.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    use anyhow::Context;
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?)
}

/// Says how many rows of a list are not shown.
fn shown(rows: usize, total: i64) {
    let left = total - i64::try_from(rows).unwrap_or(i64::MAX);
    match (total, left) {
        (0, _) => eprintln!("none"),
        (_, 1..) => eprintln!("{rows} of {total} are shown; --limit shows more"),
        _ => {}
    }
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    use anyhow::Context;
    let text = serde_json::to_string_pretty(value).context("write JSON")?;
    print_text(&format!("{text}\n"))
}

/// Prints a longer text. Who reads it may have had enough (`| head`): that is no error.
fn print_text(text: &str) -> Result<(), Failure> {
    use anyhow::Context;
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("write to standard output")?),
    }
}

#[cfg(test)]
mod tests;
