//! `learnsync reconcile`: asks the running daemon for a sweep now.

use clap::Args;

use super::{Failure, WithConfig, ledger};
use crate::daemon::Order;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// Reads every learner again, as once a week, and not only those for whom a list looks otherwise than the last time: also finds what
    /// stands in no list, such as a competency.
    #[arg(long)]
    full: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let order = if options.full { Order::Reconcile } else { Order::ReconcileChanges };
    ledger::carry_out_and_say(&options.with.config()?, &order, options.json)
}
