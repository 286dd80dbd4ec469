//! `learnsync erase`: destroys a learner's key, so that nobody can read what the ledger holds of them.

use anyhow::Context;
use clap::Args;

use super::{Failure, WithConfig, consent, ledger, names};
use crate::daemon::Order;
use crate::store::view::browse::DeliveryFilter;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// The learner: an LMS id, an external id, an e-mail address, or a full name.
    learner: String,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let mut view = options.with.view()?;
    let who = names::learner(&mut view, &options.learner)?;
    let filter = DeliveryFilter { people: Some(vec![who.clone()]), ..DeliveryFilter::default() };
    let deliveries = view.list_deliveries(&filter, 1).context("read the store")?.total;
    let question = format!(
        "learner {} ({}) of portal {} is erased for good: profile, facts and receipts can never be read again, and the LMS is never asked \
         for them again. {deliveries} deliveries stay as numbers. What targets hold stays there; key files of older backups still open \
         what those hold",
        who.learner,
        who.name.as_deref().unwrap_or("erased already"),
        who.portal
    );
    consent::ask(&question, options.yes)?;
    let order = Order::Erase { portal: who.portal, learner: who.learner };
    ledger::carry_out_and_say(&options.with.config()?, &order, options.json)
}
