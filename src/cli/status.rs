//! `learnsync status`: what waits, what is parked and why, who is paused.

use anyhow::Context;
use clap::Args;

use super::{Failure, WithConfig, print_json};
use crate::config;
use crate::domain::delivery::Cause;
use crate::domain::time::Timestamp;
use crate::store::view::{DestinationStatus, Status, View};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = config::load(&options.with.config)?;
    let mut view = View::open(&config.store.path).context("look into the store")?;
    let status = view.status().context("read the store")?;
    if options.json {
        return print_json(&status);
    }
    print(&status);
    Ok(())
}

fn print(status: &Status) {
    println!(
        "installation {}, epoch {} (process {}) since {}",
        status.installation, status.epoch, status.pid, status.started_at
    );
    println!(
        "events: {} in the log, {} not taken yet, the newest {}",
        status.events,
        status.events_waiting,
        or_never(status.last_event_at)
    );
    println!("records: {}", counts(&status.records));
    println!("learners to be read again: {}", counts(&status.dirty));
    if status.unknown_users > 0 {
        println!("users that the LMS does not know, though events named them: {}", status.unknown_users);
    }
    println!("promises of events: {}", counts(&status.promises));
    println!("last finished sweep: {}", or_never(status.last_sweep_at));
    status.destinations.iter().for_each(print_destination);
}

fn print_destination(destination: &DestinationStatus) {
    println!("\n{} ({}): {}", destination.name, destination.connector, destination.state);
    if let Some(cause) = &destination.pause_cause {
        let until = destination.paused_until.map_or("until somebody acts".to_owned(), |at| format!("until {at}"));
        println!("  paused: {cause}, {until}");
    }
    println!("  deliveries: {}", counts(&destination.deliveries));
    if let Some(at) = destination.oldest_wanted_at {
        println!("  the oldest that waits is wanted since {at}");
    }
    for (cause, count) in &destination.causes {
        println!("  {count} x {cause}: {}", Cause::advice(cause));
    }
}

fn counts(of: &[(String, i64)]) -> String {
    if of.is_empty() {
        return "none".to_owned();
    }
    of.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", ")
}

fn or_never(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| at.to_string())
}
