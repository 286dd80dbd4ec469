//! `learnsync deliveries list|show|retry|acknowledge`: the obligations, one by one or by cause.

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};

use super::table::{Table, harmless};
use super::{Failure, RowsMax, WithConfig, consent, ledger, names, print_json, print_text, shown};
use crate::config::Config;
use crate::daemon::{Done, Order};
use crate::domain::delivery::Cause;
use crate::domain::time::Timestamp;
use crate::store::view::View;
use crate::store::view::browse::{DeliveryDetail, DeliveryFilter, DeliveryList, ParkedCause};

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists deliveries, newest first.
    #[command(after_help = "Example: learnsync deliveries list --destination hr --state parked")]
    List(ListOptions),
    /// Shows one delivery: what is wanted, what is held, every attempt.
    #[command(after_help = "Example: learnsync deliveries show 4711")]
    Show {
        #[command(flatten)]
        with: WithConfig,
        /// Its number, as `deliveries list` shows it.
        id: i64,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Says that what differs in the target is known, and until when: so long it is counted apart, and needs nobody.
    #[command(
        after_help = "Example: learnsync deliveries acknowledge 4711 --until 2027-01-31 --reason 'moved to SAP by hand'"
    )]
    Acknowledge {
        #[command(flatten)]
        with: WithConfig,
        /// Its number, as `runs show` tells it.
        id: i64,
        /// The last day; from the next one on it is reported again.
        #[arg(long)]
        until: chrono::NaiveDate,
        /// Why, for whoever asks next.
        #[arg(long)]
        reason: String,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tries again what is parked: one delivery, or all of one cause.
    #[command(after_help = "Example: learnsync deliveries retry --cause rejected --destination hr")]
    Retry(RetryOptions),
}

#[derive(Args)]
struct ListOptions {
    #[command(flatten)]
    with: WithConfig,
    /// Only those of this destination.
    #[arg(long)]
    destination: Option<String>,
    /// Only those in this state: pending, sending, uncertain, settled, parked, skipped or superseded.
    #[arg(long)]
    state: Option<String>,
    /// Only those with this cause; `unmapped` means all causes that begin with `unmapped:`.
    #[arg(long)]
    cause: Option<String>,
    /// Only those of this learner: an LMS id, an external id, an e-mail address, or a full name.
    #[arg(long)]
    learner: Option<String>,
    #[command(flatten)]
    rows: RowsMax,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct RetryOptions {
    #[command(flatten)]
    with: WithConfig,
    #[command(flatten)]
    which: Which,
    /// Only those of this destination.
    #[arg(long, requires = "cause")]
    destination: Option<String>,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// One delivery, or all of a cause.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The number of one delivery.
    id: Option<i64>,
    /// All that are parked for this cause; `unmapped` means all causes that begin with `unmapped:`.
    #[arg(long)]
    cause: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    match &options.command {
        Command::List(options) => list(options),
        Command::Show { with, id, json } => {
            let found = with.view()?.show_delivery(*id).context("read the store")?;
            let delivery = found
                .ok_or_else(|| anyhow!("there is no delivery {id}: `learnsync deliveries list` shows the numbers"))?;
            if *json {
                return print_json(&delivery);
            }
            print_text(&story(&delivery))
        }
        Command::Acknowledge { with, id, until, reason, json } => {
            let config = with.config()?;
            let end = until
                .succ_opt()
                .unwrap_or(*until)
                .and_time(chrono::NaiveTime::MIN)
                .and_local_timezone(config.reconcile.zone);
            // At a midnight that there is not, because clocks are set forward, the day before ends a little later.
            let end =
                end.earliest().map_or_else(|| until.and_time(chrono::NaiveTime::MIN).and_utc(), |end| end.to_utc());
            let order = Order::Acknowledge { delivery: *id, until: Timestamp::from(end), reason: reason.clone() };
            ledger::carry_out_and_say(&config, &order, *json)
        }
        Command::Retry(options) => retry(options),
    }
}

fn list(options: &ListOptions) -> Result<(), Failure> {
    if let Some(word) = &options.state {
        names::state(word)?;
    }
    let mut view = options.with.view()?;
    if let Some(name) = &options.destination {
        names::destination(&mut view, name)?;
    }
    if let Some(word) = &options.cause {
        names::cause(&mut view, word)?;
    }
    let people = options.learner.as_deref().map(|text| names::learners(&mut view, text)).transpose()?;
    let filter = DeliveryFilter {
        destination: options.destination.clone(),
        state: options.state.clone(),
        cause: options.cause.clone(),
        people,
    };
    let list = view.list_deliveries(&filter, options.rows.limit).context("read the store")?;
    if options.json {
        return print_json(&list);
    }
    table(&list).print()?;
    shown(list.deliveries.len(), list.total);
    Ok(())
}

fn table(list: &DeliveryList) -> Table {
    let mut table = Table::new(["id", "destination", "state", "learner", "record", "cause", "next try", "attempts"]);
    for delivery in &list.deliveries {
        table.row([
            delivery.id.to_string(),
            delivery.destination.clone(),
            delivery.state.clone(),
            delivery.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| delivery.learner.clone()),
            delivery.record.clone(),
            delivery.cause.clone().unwrap_or_default(),
            delivery.due_at.map(|at| at.to_string()).unwrap_or_default(),
            delivery.attempts.to_string(),
        ]);
    }
    table
}

fn story(detail: &DeliveryDetail) -> String {
    let delivery = &detail.delivery;
    let mut lines = vec![
        format!("delivery {} of {} to {} / {}", detail.id, detail.record, delivery.destination, delivery.route),
        format!("  learner {}, wanted since {}", detail.learner, delivery.wanted_at),
        format!("  {}", delivery.state),
    ];
    if let Some(cause) = &delivery.cause {
        let detail = delivery.cause_detail.as_deref().map(|words| format!(": {words}")).unwrap_or_default();
        lines.push(format!("  because {cause}{detail}"));
        lines.push(format!("  what helps: {}", Cause::advice(cause)));
    }
    if let Some(at) = delivery.due_at {
        lines.push(format!("  next try at {at}"));
    }
    if let (Some(row), Some(at)) = (&delivery.held_row, delivery.held_at) {
        let person = delivery.held_person.as_deref().unwrap_or("nobody");
        lines.push(format!("  the target holds row {row} under {person} since {at}"));
    }
    if let Some(words) = &delivery.receipt {
        let status = delivery.receipt_status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
        lines.push(format!("  receipt: \"{words}\"{status}"));
    }
    for attempt in &delivery.attempts {
        let status = attempt.status.map(|status| format!(" HTTP {status}")).unwrap_or_default();
        let words = attempt.words.as_deref().unwrap_or_default();
        lines.push(format!(
            "  attempt {} at {}: {} {}{status} \"{words}\"",
            attempt.number, attempt.started_at, attempt.action, attempt.outcome
        ));
    }
    lines.iter().map(|line| format!("{}\n", harmless(line))).collect()
}

fn retry(options: &RetryOptions) -> Result<(), Failure> {
    let config = options.with.config()?;
    if let Some(delivery) = options.which.id {
        return ledger::carry_out_and_say(&config, &Order::RetryDelivery { delivery }, options.json);
    }
    let cause = options.which.cause.as_deref().unwrap_or_default();
    let parked = parked_for(&mut options.with.view()?, cause, options.destination.as_deref())?;
    let total: i64 = parked.iter().map(|one| one.deliveries).sum();
    if total == 0 {
        return Err(anyhow!("nothing is parked for {cause}: `learnsync status` shows what is").into());
    }
    consent::ask(&question(&parked, total), options.yes)?;
    let done = retry_all(&config, parked)?;
    if options.json {
        return print_json(&done);
    }
    println!("{}", done.words);
    Ok(())
}

/// What is parked for a cause, or for a kind of causes.
fn parked_for(view: &mut View, cause: &str, destination: Option<&str>) -> Result<Vec<ParkedCause>, Failure> {
    if let Some(name) = destination {
        names::destination(view, name)?;
    }
    names::cause(view, cause)?;
    let mut parked = view.parked_causes().context("read the store")?;
    parked.retain(|one| {
        (one.cause == cause || Cause::kind_of(&one.cause) == cause)
            && destination.is_none_or(|name| name == one.destination)
    });
    Ok(parked)
}

fn question(parked: &[ParkedCause], total: i64) -> String {
    let mut lines = vec![format!("{total} deliveries are tried again now:")];
    for one in parked {
        lines.push(format!("  {} to {}, parked for {}", one.deliveries, one.destination, harmless(&one.cause)));
    }
    lines.join("\n")
}

fn retry_all(config: &Config, parked: Vec<ParkedCause>) -> Result<Done, Failure> {
    let mut total = 0;
    for one in parked {
        let order = Order::RetryCause { destination: one.destination, cause: one.cause };
        total += ledger::carry_out(config, &order)?.deliveries.unwrap_or(0);
    }
    Ok(Done { words: format!("{total} deliveries are tried now"), deliveries: Some(total) })
}
