//! The command line, one file a subcommand. Exit status: 0 done, 1 it ran and something is wrong, 2 usage or configuration.

mod check;
mod demo;
mod destinations;
mod explain;
mod given;
mod init;
mod reconcile;
mod reference;
mod run;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::ConfigErrors;
use crate::daemon::Checked;

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
    Run(WithConfig),
    /// Shows everything at work, without any account or configuration.
    Demo(demo::Options),
    /// Asks a few questions and writes a configuration.
    Init(Box<init::Options>),
    /// Checks the configuration, offline; with --online asks the LMS and every destination too.
    Check(check::Options),
    Status(status::Options),
    Explain(explain::Options),
    /// Lists or probes the destinations.
    Destinations(destinations::Options),
    /// Asks the running daemon to read every learner again now.
    Reconcile(WithConfig),
    /// Prints the reference of all settings, limits and connectors; with --schema the JSON Schema of a file.
    Reference(reference::Options),
}

/// The configuration file.
#[derive(Args, Clone)]
struct WithConfig {
    /// The configuration file.
    #[arg(long, default_value = "/etc/learnsync/learnsync.toml")]
    config: PathBuf,
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
        Command::Init(options) => init::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::Destinations(options) => destinations::run(&options),
        Command::Reconcile(options) => reconcile::run(&options),
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

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    use anyhow::Context;
    println!("{}", serde_json::to_string_pretty(value).context("write JSON")?);
    Ok(())
}
