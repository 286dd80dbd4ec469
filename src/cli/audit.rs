//! `learnsync audit chain`: was any attempt changed or removed after it was written?

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Failure, WithConfig, print_json};

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Recomputes the chain of hashes over all attempts, from the first on.
    #[command(after_help = "Example: learnsync audit chain")]
    Chain {
        #[command(flatten)]
        with: WithConfig,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What the audit of the chain found.
#[derive(Debug, Serialize)]
pub(super) struct ChainReport {
    /// Attempts in the chain; none when it is broken.
    pub(super) attempts: Option<usize>,
    /// The first attempt that does not fit to the one before it, or to its own hash.
    pub(super) first_break: Option<i64>,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let Command::Chain { with, json } = &options.command;
    let verified = with.view()?.verify_chain().context("read the attempts")?;
    let report = ChainReport { attempts: verified.ok(), first_break: verified.err() };
    match (*json, report.attempts) {
        (true, _) => print_json(&report)?,
        (false, Some(count)) => println!("the chain of {count} attempts is whole"),
        (false, None) => {}
    }
    match report.first_break {
        None => Ok(()),
        Some(id) => Err(anyhow!(
            "the chain is broken at attempt {id}: it, or one before it, was changed or removed outside of learnsync; \
             a backup of before shows what it was"
        )
        .into()),
    }
}
