//! `learnsync runs list|show` and `learnsync approve`: what reconciliation counted and found, and a yes to what its guard holds.

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};

use super::table::{Table, harmless};
use super::{Failure, RowsMax, WithConfig, consent, ledger, print_json, print_text, shown};
use crate::daemon::Order;
use crate::domain::drift::DriftClass;
use crate::store::VerifyCounts;
use crate::store::view::runs::{FindingLine, RunDetail, RunLine, RunList};

#[derive(Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the runs of reconciliation, newest first: what the LMS was read for, and what the destinations really hold.
    #[command(after_help = "Example: learnsync runs list --of hr")]
    List {
        #[command(flatten)]
        with: WithConfig,
        /// Only those of this destination or portal.
        #[arg(long)]
        of: Option<String>,
        #[command(flatten)]
        rows: RowsMax,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows one run: its sums, and what it found that is not as it should be.
    #[command(after_help = "Example: learnsync runs show 12")]
    Show {
        #[command(flatten)]
        with: WithConfig,
        /// Its number, as `runs list` shows it.
        id: i64,
        #[command(flatten)]
        rows: RowsMax,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct ApproveOptions {
    #[command(flatten)]
    with: WithConfig,
    /// The run's number, as `runs list` shows it.
    id: i64,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    match &options.command {
        Command::List { with, of, rows, json } => {
            let list = with.view()?.list_runs(of.as_deref(), rows.limit).context("read the store")?;
            if *json {
                return print_json(&list);
            }
            table(&list).print()?;
            shown(list.runs.len(), list.total);
            Ok(())
        }
        Command::Show { with, id, rows, json } => {
            let detail = detail(with, *id, rows.limit)?;
            if *json {
                return print_json(&detail);
            }
            print_text(&story(&detail))?;
            if !detail.findings.is_empty() {
                findings(&detail.findings).print()?;
                shown(detail.findings.len(), detail.total);
            }
            Ok(())
        }
    }
}

/// Lets a run that its guard holds go on, after the operator has seen what it would do.
pub(super) fn approve(options: &ApproveOptions) -> Result<(), Failure> {
    let run = detail(&options.with, options.id, 1)?.run;
    let Some(cause) = run.cause.as_deref().filter(|_| run.state == "held") else {
        return Err(anyhow!("run {} is {}, nobody holds it: there is nothing to approve", run.id, run.state).into());
    };
    let follows = match &run.verify {
        Some(counts) => {
            format!("It writes {} rows again and removes {}.", counts.to_write - counts.withdrawals, counts.withdrawals)
        }
        None => "The rest of the plan is written.".to_owned(),
    };
    let question = format!("Run {} of {} is held: {}\n{follows}", run.id, harmless(&run.of), harmless(cause));
    consent::ask(&question, options.yes)?;
    ledger::carry_out_and_say(&options.with.config()?, &Order::Approve { run: options.id }, options.json)
}

fn detail(with: &WithConfig, id: i64, limit: u32) -> Result<RunDetail, Failure> {
    let found = with.view()?.show_run(id, limit).context("read the store")?;
    Ok(found.ok_or_else(|| anyhow!("there is no run {id}: `learnsync runs list` shows the numbers"))?)
}

fn table(list: &RunList) -> Table {
    let mut table = Table::new(["id", "kind", "of", "state", "began", "ended", "came to"]);
    for run in &list.runs {
        table.row([
            run.id.to_string(),
            run.kind.clone(),
            run.of.clone(),
            run.state.clone(),
            run.started_at.to_string(),
            run.finished_at.map(|at| at.to_string()).unwrap_or_default(),
            came_to(run),
        ]);
    }
    table
}

/// What a run came to, in one line.
fn came_to(run: &RunLine) -> String {
    match (&run.verify, &run.counts) {
        (Some(counts), _) if counts.to_write + counts.differing == 0 => {
            format!("{} of {} in sync", counts.in_sync, counts.deliveries)
        }
        (Some(counts), _) => format!(
            "{} of {} in sync, {} written again, {} differ",
            counts.in_sync, counts.deliveries, counts.to_write, counts.differing
        ),
        (None, Some(counts)) if run.kind == "apply" => {
            let number = |name: &str| counts.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
            format!("{} of {} places of the plan", number("released"), number("lines"))
        }
        (None, Some(counts)) => {
            let learners = counts.get("learners").and_then(serde_json::Value::as_u64).unwrap_or(0);
            format!("{learners} learners")
        }
        (None, None) => String::new(),
    }
}

fn story(detail: &RunDetail) -> String {
    let run = &detail.run;
    let mut lines = vec![format!("run {}: {} of {}, {}", run.id, run.kind, run.of, run.state)];
    let ended = run.finished_at.map(|at| format!(", ended {at}")).unwrap_or_default();
    lines.push(format!("  began {}{ended}", run.started_at));
    if let Some(cause) = &run.cause {
        lines.push(format!("  because {cause}"));
    }
    if run.state == "held" {
        lines.push(format!("  what helps: look at what it found; `learnsync approve {}` lets it go on", run.id));
    }
    if let Some(counts) = &run.verify {
        lines.extend(sums(counts));
        for (class, number) in &counts.classes {
            lines.push(format!("  {number} {}: {}", class.as_str(), class.advice()));
        }
    } else if let Some(counts) = &run.counts {
        lines.push(format!("  {counts}"));
    }
    lines.iter().map(|line| format!("{}\n", harmless(line))).collect()
}

/// The sums of a verify, which make all deliveries.
fn sums(counts: &VerifyCounts) -> Vec<String> {
    let parts = [
        (counts.in_sync, "in sync"),
        (counts.to_write - counts.withdrawals, "written again"),
        (counts.withdrawals, "removed"),
        (counts.differing, "differ and are left"),
        (counts.acknowledged, "differ and are known"),
        (counts.waiting, "wait"),
        (counts.parked, "are parked"),
        (counts.left_out, "are left out on purpose"),
    ];
    let words: Vec<String> =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, words)| format!("{number} {words}")).collect();
    let verdict = if counts.add_up() { "" } else { ": THE SUM DOES NOT MATCH" };
    let how = match counts.is_listed {
        true => format!("{} rows were listed there", counts.listed),
        false => format!("{} places were read back there", counts.looked),
    };
    let words = if words.is_empty() { "nothing".to_owned() } else { words.join(" + ") };
    vec![format!("  {words} = {} of {} deliveries{verdict}", counts.counted(), counts.deliveries), format!("  {how}")]
}

fn findings(found: &[FindingLine]) -> Table {
    let mut table = Table::new(["class", "follows", "record", "learner", "row", "fields", "delivery", "now"]);
    for one in found {
        table.row([
            one.class.clone(),
            follows(one),
            one.record.clone().or_else(|| one.mark.clone()).unwrap_or_default(),
            one.learner.clone().unwrap_or_default(),
            one.row.clone().map(|row| format!("{} {row}", one.object)).unwrap_or_else(|| one.object.clone()),
            one.fields.join(", "),
            one.delivery.map(|id| id.to_string()).unwrap_or_default(),
            one.state.clone().unwrap_or_default(),
        ]);
    }
    table
}

/// What follows from a finding, in the words of somebody in HR.
fn follows(found: &FindingLine) -> String {
    let is_on_its_way = found.class == DriftClass::Stale.as_str();
    match found.action.as_str() {
        "repair" => "written again".to_owned(),
        "withdraw" => "removed".to_owned(),
        "adopt" => "taken for right".to_owned(),
        "none" if is_on_its_way => "is on its way".to_owned(),
        "report" => "left, for somebody to decide".to_owned(),
        other => other.to_owned(),
    }
}
