//! `learnsync status`: the whole installation on one screen.

use anyhow::{Context, anyhow};
use chrono::{NaiveTime, TimeZone};
use chrono_tz::Tz;
use clap::Args;
use serde::Serialize;

use super::given::{given, is_running};
use super::{Failure, WithConfig, print_json};
use crate::domain::time::Timestamp;
use crate::explain::{Overview, Paint, overview, render_overview};
use crate::store::view::{Status, View};

/// Shows on one screen what came in, what waits and why, who is paused until when, and what the last night did.
///
/// Exit status: 0 all is well, 1 something needs a person (an arrow says what), 2 the configuration is wrong. So a timer may say
/// `learnsync status || mail -s "learnsync needs you" ops@example.org`.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = "Example: learnsync status")]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// Prints JSON: what the ledger counts, with instants in UTC, and `overview` with the sentences of the screen.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Json<'a> {
    /// The counts of the ledger.
    #[serde(flatten)]
    status: &'a Status,
    /// Webhooks since midnight in the portal's zone.
    events_today: i64,
    /// The screen.
    overview: &'a Overview,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let (config, mut given) = given(&options.with.config)?;
    let mut view = View::open(&config.store.path).context("look into the store")?;
    let status = view.status().context("read the store")?;
    given.is_running = is_running(&config, status.pid);
    let today = midnight(given.now, given.zone);
    let events_today = view.events_since(today).context("count today's webhooks")?;
    if options.json {
        given.zone = Tz::UTC;
    }
    let screen = overview(&status, events_today, &given);
    match options.json {
        true => print_json(&Json { status: &status, events_today, overview: &screen })?,
        // Takes the colours out again where they do not belong: no terminal, NO_COLOR.
        false => anstream::print!("{}", render_overview(&screen, &given, Paint::Coloured)),
    }
    match screen.needs_a_person {
        true => Err(anyhow!("something needs a person").into()),
        false => Ok(()),
    }
}

/// The last midnight in a zone.
fn midnight(now: Timestamp, zone: Tz) -> Timestamp {
    let start = now.date_in(zone).and_time(NaiveTime::MIN);
    // Where clocks jump at midnight, the day begins at the first hour that exists.
    let start = zone.from_local_datetime(&start).earliest().unwrap_or_else(|| zone.from_utc_datetime(&start));
    Timestamp::from(start.with_timezone(&chrono::Utc))
}
