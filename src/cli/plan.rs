//! `learnsync plan` and `learnsync apply`: what the mapping of today, or a candidate, would change in what was written before; and exactly that.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;

use super::table::harmless;
use super::{Failure, WithConfig, consent, ledger, print_json, print_text, runtime};
use crate::config::{Files, unknown};
use crate::daemon::verdict::{self, Verdict};
use crate::daemon::{BuiltDestination, Order};
use crate::domain::time::SystemClock;
use crate::reconcile::plan::{PlanReport, Planner};
use crate::store::view::View;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// The destination; needed where there are several.
    #[arg(long)]
    destination: Option<String>,
    /// A changed file of the destination (as in destinations.d) that is tried in the place of the configured one.
    #[arg(long)]
    mapping: Option<PathBuf>,
    /// Reads back what the target holds of each place that would change; without it, what we wrote last counts.
    #[arg(long)]
    observe: bool,
    /// Where the plan goes; without it, `<destination>.plan` in this folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ApplyOptions {
    #[command(flatten)]
    with: WithConfig,
    /// The plan file.
    file: PathBuf,
    /// So many places first; the same command without it writes the others.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    canary: Option<u64>,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let verdict = offline(options)?;
    let name = chosen(&verdict, options)?;
    let mut view = options.with.view()?;
    let needs_calls = |built: &BuiltDestination| {
        options.observe || built.routes.iter().any(|route| !route.mapping.reference_kinds().is_empty())
    };
    let built = find(verdict, &name)?;
    // Only what must be asked needs the secrets.
    let built = if needs_calls(&built) { find(verdict::with_secrets(&files(options)?), &name)? } else { built };
    let report = runtime()?.block_on(plan(&mut view, &built, options))?;
    if options.json {
        return print_json(&report);
    }
    print_text(&story(&report))
}

/// Has a plan applied.
pub(super) fn apply(options: &ApplyOptions) -> Result<(), Failure> {
    let file = std::path::absolute(&options.file).context("find the plan")?;
    let first = options.canary.map(|canary| format!("the first {canary} places of ")).unwrap_or_default();
    consent::ask(&format!("{first}{} is written as it stands.", file.display()), options.yes)?;
    let order = Order::Apply { file, canary: options.canary };
    ledger::carry_out_and_say(&options.with.config()?, &order, options.json)
}

fn files(options: &Options) -> Result<Files, Failure> {
    let mut files = Files::read(&options.with.config);
    let Some(path) = &options.mapping else { return Ok(files) };
    let name = options.destination.as_deref().ok_or_else(|| {
        Failure::Configuration("--mapping is the file of one destination: say with --destination of which".to_owned())
    })?;
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let Some(own) = files.destinations.iter_mut().find(|file| file.stem() == name) else {
        return Err(Failure::Configuration(format!(
            "{name} has no file of its own in destinations.d: give a changed copy of the whole configuration with --config instead"
        )));
    };
    // Under its own name, so that it is the same destination; errors name that file, too.
    own.content = Ok(text.into_bytes());
    Ok(files)
}

fn offline(options: &Options) -> Result<Verdict, Failure> {
    Ok(verdict::without_secrets(&files(options)?))
}

/// The destination that is meant.
fn chosen(verdict: &Verdict, options: &Options) -> Result<String, Failure> {
    let names: Vec<String> = verdict.names();
    match (&options.destination, names.as_slice()) {
        (Some(name), _) if names.contains(name) => Ok(name.clone()),
        (Some(name), _) => {
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            verdict.errors.of_destination(name).into_result()?;
            Err(Failure::Configuration(unknown("destination", name, &known)))
        }
        (None, [only]) => Ok(only.clone()),
        (None, []) => {
            verdict.errors.clone().into_result()?;
            Err(Failure::Configuration("there is no destination in this configuration".to_owned()))
        }
        (None, several) => {
            let message = format!("say with --destination which one: {}", several.join(", "));
            Err(Failure::Configuration(message))
        }
    }
}

fn find(verdict: Verdict, name: &str) -> Result<BuiltDestination, Failure> {
    verdict.errors.of_destination(name).into_result()?;
    let checked = verdict.runnable()?;
    let found = checked.parts.destinations.into_iter().find(|built| built.name == name);
    Ok(found.ok_or_else(|| anyhow!("{name} is not in this configuration"))?)
}

async fn plan(view: &mut View, built: &BuiltDestination, options: &Options) -> Result<PlanReport, Failure> {
    let name = &built.name;
    let rows = view.destination_rows(name).context("read the store")?;
    let rows = rows.ok_or_else(|| anyhow!("the ledger knows nothing of {name} yet: it was never written to"))?;
    if let Some(new) = built.routes.iter().find(|route| !rows.routes.contains_key(&route.name)) {
        return Err(anyhow!(
            "the route {} of {name} is new: nothing was written by it, and the daemon knows it after its next start",
            new.name
        )
        .into());
    }
    let installation = view.installation().context("read the store")?;
    let destination = built.ready(&rows, &installation);
    let path = options.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.plan")));
    let planner = Planner::new(view, &destination, options.observe).map_err(anyhow::Error::from)?;
    Ok(planner.plan(&path, &SystemClock).await.map_err(anyhow::Error::from)?)
}

fn story(report: &PlanReport) -> String {
    let mut lines = vec![format!(
        "{}: {} places would be written, {} stay as they are",
        report.destination, report.changes, report.unchanged
    )];
    for (cause, places) in &report.refused {
        lines.push(format!("  {places} would be refused ({cause}): they stay as they are"));
    }
    for (places, words) in [
        (report.waiting, "wait, and are written by the mapping of today in any case"),
        (report.parked, "are parked, and tried again when the mapping changes"),
        (report.left_out, "are left out: not written on purpose, told, or gone"),
    ] {
        if places > 0 {
            lines.push(format!("  {places} {words}"));
        }
    }
    for field in &report.fields {
        lines.push(format!("  {}: {} places", field.field, field.places));
        for sample in &field.samples {
            let from = sample.from.as_ref().map_or_else(|| "unknown".to_owned(), |from| format!("\"{from}\""));
            lines.push(format!("    {}: {from} -> \"{}\"", sample.record, sample.to));
        }
    }
    match &report.file {
        Some(file) => {
            let (minutes, seconds) = (report.seconds / 60, report.seconds % 60);
            lines.push(format!("  applying it takes {} calls and about {minutes} min {seconds:02} s", report.calls));
            lines.push(format!("  the plan is {0}; `learnsync apply {0}` does exactly that", file.display()));
        }
        None => lines.push("  nothing would change: there is no plan".to_owned()),
    }
    lines.iter().map(|line| format!("{}\n", harmless(line))).collect()
}

#[cfg(test)]
mod tests;
