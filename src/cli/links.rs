//! `learnsync links list|pin|unpin|try`: who a learner is in a destination.

mod trial;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::table::Table;
use super::{Failure, RowsMax, WithConfig, ledger, names, print_json, shown};
use crate::daemon::Order;
use crate::store::view::browse::LinkList;

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists who learners are in the destinations, and by which rule we know.
    #[command(after_help = "Example: learnsync links list --destination hr --state ambiguous")]
    List {
        #[command(flatten)]
        with: WithConfig,
        /// Only those of this destination.
        #[arg(long)]
        destination: Option<String>,
        /// Only those in this state: linked, unmatched or ambiguous.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        rows: RowsMax,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Looks up everybody by other rules and says who they would be. Nothing is kept.
    #[command(
        after_help = "Example: learnsync links try hr --rule 'employee_number | no_leading_zeros' --rule email --limit 500"
    )]
    Try(trial::Options),
    /// Says who a learner is in a destination, whatever the rules say. What the target holds under somebody else moves.
    #[command(after_help = "Example: learnsync links pin hr ana.nowak@example.org 4711")]
    Pin {
        #[command(flatten)]
        with: WithConfig,
        /// The destination.
        destination: String,
        /// The learner: an LMS id, an external id, an e-mail address, or a full name.
        learner: String,
        /// The person's id in the destination.
        person: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Lets the rules say again who a learner is in a destination.
    #[command(after_help = "Example: learnsync links unpin hr ana.nowak@example.org")]
    Unpin {
        #[command(flatten)]
        with: WithConfig,
        /// The destination.
        destination: String,
        /// The learner: an LMS id, an external id, an e-mail address, or a full name.
        learner: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    match &options.command {
        Command::List { with, destination, state, rows, json } => {
            let mut view = with.view()?;
            if let Some(name) = destination {
                names::destination(&mut view, name)?;
            }
            if let Some(word) = state {
                names::link_state(word)?;
            }
            let list =
                view.list_links(destination.as_deref(), state.as_deref(), rows.limit).context("read the store")?;
            if *json {
                return print_json(&list);
            }
            table(&list).print()?;
            shown(list.links.len(), list.total);
            Ok(())
        }
        Command::Try(options) => trial::run(options),
        Command::Pin { with, destination, learner, person, json } => {
            let mut view = with.view()?;
            names::destination(&mut view, destination)?;
            let who = names::learner(&mut view, learner)?;
            let order = Order::Pin {
                destination: destination.clone(),
                portal: who.portal,
                learner: who.learner,
                person: person.clone(),
            };
            ledger::carry_out_and_say(&with.config()?, &order, *json)
        }
        Command::Unpin { with, destination, learner, json } => {
            let mut view = with.view()?;
            names::destination(&mut view, destination)?;
            let who = names::learner(&mut view, learner)?;
            let order = Order::Unpin { destination: destination.clone(), portal: who.portal, learner: who.learner };
            ledger::carry_out_and_say(&with.config()?, &order, *json)
        }
    }
}

fn table(list: &LinkList) -> Table {
    let mut table = Table::new(["destination", "learner", "name", "state", "person", "rule", "looked up"]);
    for link in &list.links {
        let who = match link.candidates.is_empty() {
            true => link.person.clone().unwrap_or_default(),
            false => link.candidates.join(" or "),
        };
        table.row([
            link.destination.clone(),
            link.learner.clone(),
            link.name.clone().unwrap_or_else(|| "erased".to_owned()),
            link.state.clone(),
            who,
            link.rule.clone().unwrap_or_default(),
            link.checked_at.to_string(),
        ]);
    }
    table
}
