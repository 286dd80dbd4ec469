//! `learnsync backup` and `learnsync restore`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::{Failure, WithConfig, consent, ledger, print_json, runtime};
use crate::daemon::Order;
use crate::domain::time::Timestamp;

#[derive(Args)]
pub(super) struct BackupOptions {
    #[command(flatten)]
    with: WithConfig,
    /// Where the ledger goes; its keys go to `<FILE>.keys`. Neither may be there yet.
    file: PathBuf,
    /// Leaves the keys out: a newer key file opens every older ledger, so one copy of the newest is enough.
    #[arg(long)]
    without_keys: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn backup(options: &BackupOptions) -> Result<(), Failure> {
    // The daemon has another working directory.
    let file = std::path::absolute(&options.file).context("find out where the copy goes")?;
    let order = Order::Backup { file, with_keys: !options.without_keys };
    ledger::carry_out_and_say(&options.with.config()?, &order, options.json)
}

#[derive(Args)]
pub(super) struct RestoreOptions {
    #[command(flatten)]
    with: WithConfig,
    /// The ledger's copy.
    file: PathBuf,
    /// Its keys; without it `<FILE>.keys`, or else those of the store that is replaced.
    #[arg(long)]
    keys: Option<PathBuf>,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What a restore came to.
#[derive(Debug, Serialize)]
pub(super) struct RestoreReport {
    /// Where the store of before is kept; none when there was none.
    pub(super) kept: Option<PathBuf>,
    /// When the copy was made; none when it was copied by other means than `backup`.
    pub(super) copied_at: Option<Timestamp>,
    /// People who were erased since, and stay erased.
    pub(super) erased: usize,
}

pub(super) fn restore(options: &RestoreOptions) -> Result<(), Failure> {
    let config = options.with.config()?;
    let question = format!(
        "{} becomes the store at {}; the store of before is kept in a folder there",
        options.file.display(),
        config.store.path.display()
    );
    consent::ask(&question, options.yes)?;
    let restored = runtime()?.block_on(crate::daemon::restore(&config, &options.file, options.keys.as_deref()))?;
    let report = RestoreReport { kept: restored.kept, copied_at: restored.copied_at, erased: restored.erased };
    if options.json {
        return print_json(&report);
    }
    let age = report.copied_at.map_or("an unknown time".to_owned(), |at| at.to_string());
    println!("restored: the ledger of {age}");
    if let Some(kept) = &report.kept {
        println!("the store of before is in {}; remove it when you no longer need it", kept.display());
    }
    if report.erased > 0 {
        println!("{} people were erased since the copy was made: they stay erased", report.erased);
    }
    println!(
        "the ledger doubts itself: at the next start everybody is read from the LMS again, and what the targets hold is looked up \
         before anything is written; webhooks that came since are not in it, the sweep at the start makes up for them"
    );
    Ok(())
}
