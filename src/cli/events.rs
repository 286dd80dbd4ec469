//! `learnsync events list|show`: the webhooks as they came.

use anyhow::anyhow;
use clap::{Args, Subcommand};

use super::table::{Table, harmless};
use super::{Failure, RowsMax, WithConfig, print_json, print_text, shown};
use crate::store::view::browse::{EventDetail, EventLine, ReadingLine};

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
        /// Only those in which something is odd: an event that is not on Absorb's list, no learner, a body that cannot be read.
        #[arg(long)]
        unrecognised: bool,
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
        Command::List { with, rows, unrecognised, json } => {
            let list = with.view()?.list_events(*unrecognised, rows.limit).map_err(anyhow::Error::from)?;
            if *json {
                return print_json(&list);
            }
            let mut table = Table::new(["id", "received", "portal", "what", "learner", "became", "odd"]);
            for event in &list.events {
                rows_of(event).into_iter().for_each(|row| table.row(row));
            }
            table.print()?;
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
            print_text(&story(&event))
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
    let row = |reading: &ReadingLine| {
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

fn story(event: &EventDetail) -> String {
    let of = &event.event;
    let mut lines = vec![
        format!("event {} of portal {}, received at {}", of.id, of.portal, of.received_at),
        format!("  {} with content type \"{}\"", event.method, event.content_type),
    ];
    if of.readings.is_empty() {
        lines.push(format!("  {}", if of.is_taken { "nothing could be read from it" } else { "not read yet" }));
    }
    for reading in &of.readings {
        let learner = reading.learner.as_deref().unwrap_or("nobody");
        let oddity = reading.oddity.as_deref().map(|words| format!(" ({words})")).unwrap_or_default();
        lines.push(format!("  {} about {learner}: {}{oddity}", reading.name, reading.disposition));
    }
    lines.push("  body:".to_owned());
    lines.extend(event.body.lines().map(|line| format!("    {line}")));
    lines.iter().map(|line| format!("{}\n", harmless(line))).collect()
}
