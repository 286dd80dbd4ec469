//! `learnsync receipt show|verify`: what proves that a target took a delivery.

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};

use super::table::harmless;
use super::{Failure, WithConfig, print_json, print_text};
use crate::store::view::receipt::{Receipt, ReceiptProof};

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows a delivery's receipt: who holds what since when, and the target's own words.
    #[command(after_help = "Example: learnsync receipt show 4711")]
    Show(Which),
    /// Verifies that nobody changed a receipt: its words, its attempt, and the attempt's place in the chain.
    #[command(after_help = "Example: learnsync receipt verify 4711")]
    Verify(Which),
}

#[derive(Args)]
struct Which {
    #[command(flatten)]
    with: WithConfig,
    /// The delivery's number, as `deliveries list` shows it.
    delivery: i64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Which {
    fn find(&self) -> Result<(Receipt, ReceiptProof), Failure> {
        let found = self.with.view()?.receipt(self.delivery).context("read the store")?;
        let id = self.delivery;
        Ok(found.ok_or_else(|| {
            anyhow!(
                "there is no receipt of delivery {id}: no target took it, or its learner was erased; `learnsync deliveries show {id}` tells"
            )
        })?)
    }
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    match &options.command {
        Command::Show(which) => {
            let (receipt, _) = which.find()?;
            if which.json {
                return print_json(&receipt);
            }
            print_text(&story(&receipt))
        }
        Command::Verify(which) => {
            let (receipt, proof) = which.find()?;
            if which.json {
                print_json(&proof)?;
            }
            verdict(&receipt, proof, which.json)
        }
    }
}

fn verdict(receipt: &Receipt, proof: ReceiptProof, is_json: bool) -> Result<(), Failure> {
    let (id, attempt) = (receipt.delivery, proof.attempt);
    if !proof.fits_the_chain {
        return Err(anyhow!(
            "attempt {attempt}, which brought the receipt of delivery {id}, was changed, or the one before it was: \
             `learnsync audit chain` says where that begins"
        )
        .into());
    }
    if !proof.words_are_the_targets {
        return Err(
            anyhow!("the words of the receipt of delivery {id} are not those that attempt {attempt} brought").into()
        );
    }
    match is_json {
        true => Ok(()),
        false => print_text(&format!("the receipt of delivery {id} is as attempt {attempt} brought it\n")),
    }
}

fn story(receipt: &Receipt) -> String {
    let or_none = |word: &Option<String>| word.clone().unwrap_or_else(|| "nobody".to_owned());
    let at = receipt.held_at.map_or_else(|| "an unknown time".to_owned(), |at| at.to_string());
    let status = receipt.status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
    let row = receipt.row.as_deref().unwrap_or("none any more");
    let lines = [
        format!("{} holds {} of learner {}", receipt.destination, receipt.record, receipt.learner),
        format!("  row {row} under {} since {at}", or_none(&receipt.person)),
        format!("  \"{}\"{status}", receipt.words),
        format!("  attempt {} ({} of this delivery), hash {}", receipt.attempt, receipt.number, receipt.hash),
        format!("  after hash {}", receipt.previous_hash),
    ];
    lines.iter().map(|line| format!("{}\n", harmless(line))).collect()
}
