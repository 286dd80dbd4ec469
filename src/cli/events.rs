//! `learnsync events list|show`: the webhooks as they came.

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::table::Table;
use super::{Failure, RowsMax, WithConfig, print_json, shown};
use crate::store::view::browse::{EventDetail, EventLine};

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the newest webhooks, and what was read from each.
    #[command(after_help = "Example: learnsync events list --limit 20")]
    List {
        #[command(flatten)]
        with: WithConfig,
        #[command(flatten)]
        rows: RowsMax,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows one webhook as it was received.
    #[command(after_help = "Example: learnsync events show 4711")]
    Show {
        #[command(flatten)]
        with: WithConfig,
        /// Its number, as `events list` and `explain` show it.
        id: i64,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    match &options.command {
        Command::List { with, rows, json } => {
            let list = with.view()?.list_events(rows.limit).map_err(anyhow::Error::from)?;
            if *json {
                return print_json(&list);
            }
            let mut table = Table::new(["id", "received", "portal", "what", "learner", "became", "odd"]);
            for event in &list.events {
                rows_of(event).into_iter().for_each(|row| table.row(row));
            }
            table.print();
            shown(list.events.len(), list.total);
            Ok(())
        }
        Command::Show { with, id, json } => {
            let found = with.view()?.show_event(*id).map_err(anyhow::Error::from)?;
            let event = found
                .ok_or_else(|| anyhow!("the log holds no event {id}: `learnsync events list` shows the numbers"))?;
            if *json {
                return print_json(&event);
            }
            print(&event);
            Ok(())
        }
    }
}

/// One row a reading; an event that nobody has read yet is a row, too.
fn rows_of(event: &EventLine) -> Vec<[String; 7]> {
    let (id, at, portal) = (event.id.to_string(), event.received_at.to_string(), event.portal.clone());
    if event.readings.is_empty() {
        let became = if event.is_taken { "nothing" } else { "waiting" };
        let empty = String::new;
        return vec![[id, at, portal, empty(), empty(), became.to_owned(), empty()]];
    }
    let row = |reading: &crate::store::view::browse::ReadingLine| {
        [
            id.clone(),
            at.clone(),
            portal.clone(),
            reading.name.clone(),
            reading.learner.clone().unwrap_or_default(),
            reading.disposition.clone(),
            reading.oddity.clone().unwrap_or_default(),
        ]
    };
    event.readings.iter().map(row).collect()
}

fn print(event: &EventDetail) {
    let of = &event.event;
    println!("event {} of portal {}, received at {}", of.id, of.portal, of.received_at);
    println!("  {} with content type \"{}\"", event.method, super::table::harmless(&event.content_type));
    if of.readings.is_empty() {
        println!("  {}", if of.is_taken { "nothing could be read from it" } else { "not read yet" });
    }
    for reading in &of.readings {
        let learner = reading.learner.as_deref().unwrap_or("nobody");
        let oddity = reading.oddity.as_deref().map(|words| format!(" ({words})")).unwrap_or_default();
        println!("  {} about {learner}: {}{oddity}", super::table::harmless(&reading.name), reading.disposition);
    }
    println!("  body:");
    for line in event.body.lines() {
        println!("    {}", super::table::harmless(line));
    }
}
