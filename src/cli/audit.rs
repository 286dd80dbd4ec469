//! `learnsync audit store|chain`: does the ledger keep what it promises, and was any attempt changed or removed after it was written?

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::table::Table;
use super::{Failure, WithConfig, print_json};
use crate::store::audit::{Checked, StoreAudit, audit};

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Looks at every row of the store, and says which promise of the ledger does not hold. Changes nothing; the daemon may run meanwhile.
    #[command(after_help = "Example: learnsync audit store")]
    Store {
        #[command(flatten)]
        with: WithConfig,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
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
    match &options.command {
        Command::Store { with, json } => audit_store(with, *json),
        Command::Chain { with, json } => audit_chain(with, *json),
    }
}

fn audit_store(with: &WithConfig, json: bool) -> Result<(), Failure> {
    let found = audit(&with.config()?.store.path).context("audit the store")?;
    match json {
        true => print_json(&found)?,
        false => table(&found).print()?,
    }
    let broken: Vec<&Checked> = found.broken().collect();
    if broken.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = broken.iter().map(|checked| format!("\n  {}", in_words(checked))).collect();
    let (broken, all) = (broken.len(), found.checks.len());
    Err(anyhow!(
        "{broken} of {all} checks do not hold:{}\nstop the daemon before it builds on that; `learnsync restore` takes the newest backup that passes",
        lines.concat()
    )
    .into())
}

fn table(found: &StoreAudit) -> Table {
    let mut table = Table::new(["check", "rows", "findings", "the first of them"]);
    for checked in &found.checks {
        let findings = match checked.not_done {
            Some(_) => "not done".to_owned(),
            None => checked.findings.to_string(),
        };
        table.row([checked.check.to_owned(), checked.rows.to_string(), findings, checked.examples.join(", ")]);
    }
    table
}

/// A check that does not hold: the promise, and what speaks against it.
fn in_words(checked: &Checked) -> String {
    let Checked { check, promise, findings, examples, not_done, .. } = checked;
    match not_done {
        Some(why) => format!("{check} was not carried out: {why}"),
        None => format!("{check}: {findings} break that {promise} ({})", examples.join(", ")),
    }
}

fn audit_chain(with: &WithConfig, json: bool) -> Result<(), Failure> {
    let verified = with.view()?.verify_chain().context("read the attempts")?;
    let report = ChainReport { attempts: verified.ok(), first_break: verified.err() };
    match (json, report.attempts) {
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
