//! `learnsync destinations list|probe`.

use clap::{Args, Subcommand};

use super::{Failure, WithConfig, check, runtime};

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the configured destinations and their routes.
    List(WithConfig),
    /// Makes one cheap authenticated call to a destination, or to all.
    Probe {
        #[command(flatten)]
        with: WithConfig,
        /// Only this one.
        name: Option<String>,
    },
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    match &options.command {
        Command::List(with) => {
            for destination in with.usable()?.parts.destinations {
                println!("{}\t{}", destination.name, destination.description.name);
                for route in &destination.routes {
                    println!("  {}\t{} -> {}", route.name, route.record, route.object);
                }
            }
            Ok(())
        }
        Command::Probe { with, name } => {
            let checked = with.usable()?;
            runtime()?.block_on(check::probe(&checked, name.as_deref()))?;
            Ok(())
        }
    }
}
