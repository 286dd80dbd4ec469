//! `learnsync reconcile`: asks the running daemon for a sweep now.

use clap::Args;

use super::{Failure, WithConfig, ledger};
use crate::daemon::Order;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    ledger::carry_out_and_say(&options.with.config()?, &Order::Reconcile, options.json)
}
