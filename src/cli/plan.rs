//! `learnsync plan` and `learnsync apply`: what the mapping of today, or a candidate, would change in what was written before; and exactly that.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Args;
use learnsync_sdk::{Claim, Fields, Observation, Place};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::table::harmless;
use super::{Failure, WithConfig, consent, ledger, print_json, print_text, runtime};
use crate::config::{Files, unknown};
use crate::daemon::verdict::{self, Verdict};
use crate::daemon::{BuiltDestination, Order};
use crate::domain::delivery::{Cause, DeliveryState};
use crate::domain::digest::hex;
use crate::domain::plan_file::{self, PlanEnd, PlanHead, PlanLine, line};
use crate::domain::time::{Clock, SystemClock};
use crate::pipeline::destination::Destination;
use crate::pipeline::preview::{Preview, preview};
use crate::store::view::View;
use crate::store::view::plan::PlanRow;

/// Changed fields of which samples are shown.
const PATTERNS_MAX: usize = 10;

/// Samples of each.
const SAMPLES_MAX: usize = 3;

/// How long a write is taken to last where nothing was written yet, in milliseconds.
const WRITE_MS: f64 = 300.0;

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

/// What a plan comes to.
#[derive(Debug, Default, Serialize)]
pub(super) struct PlanReport {
    /// The destination.
    pub(super) destination: String,
    /// Where the plan is; null when nothing would change.
    pub(super) file: Option<PathBuf>,
    /// Places that hold what the mapping makes.
    pub(super) unchanged: u64,
    /// Places that would be written.
    pub(super) changes: u64,
    /// Places that the mapping makes nothing of: they would stay as they are; by cause.
    pub(super) refused: BTreeMap<String, u64>,
    /// Waits, and is written by the mapping of today in any case.
    pub(super) waiting: u64,
    /// Parked, and tried again by itself when the mapping changes.
    pub(super) parked: u64,
    /// Not written on purpose, told, or no longer shown by the LMS.
    pub(super) left_out: u64,
    /// The fields that would change most often.
    pub(super) fields: Vec<ChangedField>,
    /// Calls that applying it takes, at least.
    pub(super) calls: u64,
    /// About how long that takes, in seconds.
    pub(super) seconds: u64,
}

/// A field that would change.
#[derive(Debug, Default, Serialize)]
pub(super) struct ChangedField {
    /// Its name in the target.
    pub(super) field: String,
    /// In how many places.
    pub(super) places: u64,
    /// Some of them: record, what it holds, what it would hold.
    pub(super) samples: Vec<Sample>,
}

/// One change of a field.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    /// The record.
    pub(super) record: String,
    /// What the field holds; null where nobody knows.
    pub(super) from: Option<String>,
    /// What it would hold.
    pub(super) to: String,
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
    let report = runtime()?.block_on(async { Planner::new(&mut view, &built, options).await?.plan().await })?;
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

/// Goes through the places of a destination and writes the plan.
struct Planner<'a> {
    view: &'a mut View,
    destination: Destination,
    options: &'a Options,
    report: PlanReport,
    fields: BTreeMap<String, ChangedField>,
}

impl<'a> Planner<'a> {
    async fn new(view: &'a mut View, built: &BuiltDestination, options: &'a Options) -> Result<Self, Failure> {
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
        if options.observe && !destination.description.claims(Claim::ReadBack) {
            return Err(
                anyhow!("{name} cannot be read back: leave --observe out, and what we wrote last counts").into()
            );
        }
        let report = PlanReport { destination: name.clone(), ..PlanReport::default() };
        Ok(Self { view, destination, options, report, fields: BTreeMap::new() })
    }

    async fn plan(mut self) -> Result<PlanReport, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let references = self.destination.reference_table(&*clock).await;
        let references = references.map_err(|error| anyhow!("{error}")).context("list the target's reference data")?;
        let references = references.context("the destination is paused")?;
        let path = match &self.options.out {
            Some(path) => path.clone(),
            None => PathBuf::from(format!("{}.plan", self.report.destination)),
        };
        let mut file = PlanFile::create(&path, self.head(clock.now()))?;
        let (mut after, mut persons) = (0, 0_u64);
        loop {
            let (rows, last) = self.view.plan_rows(self.destination.id, after).context("read the store")?;
            let shown = self.observed(&rows, &references).await?;
            let mut person = None;
            for row in &rows {
                let Some(change) = self.change(row, &references, shown.get(&row.delivery.0)) else { continue };
                persons += u64::from(person.as_ref() != Some(&row.learner.id));
                person = Some(row.learner.id.clone());
                file.add(&change)?;
            }
            let Some(last) = last else { break };
            after = last;
        }
        self.cost(persons)?;
        let mut fields: Vec<ChangedField> = self.fields.into_values().collect();
        fields.sort_by_key(|field| std::cmp::Reverse(field.places));
        fields.truncate(PATTERNS_MAX);
        self.report.fields = fields;
        if self.report.changes == 0 {
            file.remove()?;
        } else {
            file.end(self.view)?;
            self.report.file = Some(path);
        }
        Ok(self.report)
    }

    fn head(&self, made_at: crate::domain::time::Timestamp) -> PlanHead {
        let mappings = self.destination.routes.values();
        PlanHead {
            learnsync_plan: plan_file::VERSION,
            installation: self.destination.installation.clone(),
            destination: self.destination.name.clone(),
            made_at,
            mappings: mappings.map(|route| (route.name.clone(), route.mapping.digest().to_owned())).collect(),
        }
    }

    /// What the target shows of the places that would change by what we wrote last.
    async fn observed(
        &self,
        rows: &[PlanRow],
        references: &crate::mapping::ReferenceTable,
    ) -> Result<BTreeMap<i64, Fields>, Failure> {
        let mut found = BTreeMap::new();
        if !self.options.observe {
            return Ok(found);
        }
        let mut asked = Vec::new();
        let mut places = Vec::new();
        for row in rows.iter().filter(|row| is_written(row)) {
            let Some(route) = self.destination.routes.get(&row.route) else { continue };
            let held = (row.held.as_deref(), &row.holding);
            let is_changed =
                matches!(preview(route, (&row.record, &row.learner), references, held, None), Preview::Changes { .. });
            let (true, Some(held_row), Some(person)) = (is_changed, &row.row, &row.person) else { continue };
            let mark = self.destination.mark(&row.slot);
            places.push(Place {
                object: route.object.clone(),
                person: person.clone(),
                mark,
                row: Some(held_row.clone()),
            });
            asked.push(row.delivery.0);
        }
        if places.is_empty() {
            return Ok(found);
        }
        for (id, answer) in asked.into_iter().zip(self.destination.connector.observe(&places).await) {
            match answer {
                Ok(Observation::Holds { fields, .. }) => drop(found.insert(id, fields)),
                // What is not there, or twice, is the night's to find; the plan goes by what we wrote.
                Ok(Observation::Absent | Observation::Several { .. }) => {}
                Err(error) => return Err(anyhow!("{error}").context("read back what the target holds").into()),
            }
        }
        Ok(found)
    }

    /// Counts a place; answers the line if it would be written.
    fn change(
        &mut self,
        row: &PlanRow,
        references: &crate::mapping::ReferenceTable,
        shown: Option<&Fields>,
    ) -> Option<PlanLine> {
        match row.state {
            DeliveryState::Pending | DeliveryState::Sending | DeliveryState::Uncertain => self.report.waiting += 1,
            DeliveryState::Parked => self.report.parked += 1,
            _ if !is_written(row) => self.report.left_out += 1,
            DeliveryState::Settled | DeliveryState::Skipped | DeliveryState::Superseded => {
                let Some(route) = self.destination.routes.get(&row.route) else {
                    self.report.left_out += 1;
                    return None;
                };
                let held = (row.held.as_deref(), &row.holding);
                match preview(route, (&row.record, &row.learner), references, held, shown) {
                    Preview::Same => self.report.unchanged += 1,
                    Preview::Refused(cause) => {
                        *self.report.refused.entry(Cause::kind_of(&cause.word()).to_owned()).or_default() += 1;
                    }
                    Preview::Changes { changes, sends, makes } => {
                        self.report.changes += 1;
                        for (name, change) in &changes {
                            let field = self.fields.entry(name.clone()).or_default();
                            field.field.clone_from(name);
                            field.places += 1;
                            if field.samples.len() < SAMPLES_MAX {
                                field.samples.push(Sample {
                                    record: row.slot.clone(),
                                    from: change.from.as_ref().map(ToString::to_string),
                                    to: change.to.to_string(),
                                });
                            }
                        }
                        return Some(PlanLine {
                            delivery: row.delivery.0,
                            record: row.slot.clone(),
                            object: route.object.clone(),
                            person: row.person.clone().unwrap_or_default(),
                            row: row.row.clone().unwrap_or_default(),
                            changes,
                            sends,
                            wanted: hex(&row.wanted),
                            held: row.held.as_deref().map(hex),
                            makes: hex(&makes),
                        });
                    }
                }
            }
        }
        None
    }

    fn cost(&mut self, persons: u64) -> Result<(), Failure> {
        let about = &self.destination.description;
        let write_ms = self.view.write_ms(self.destination.id).context("read the store")?.unwrap_or(WRITE_MS);
        let batches = persons.div_ceil(about.persons_per_batch_max.max(1) as u64);
        let writing = write_ms * self.report.changes as f64 / about.concurrency_max.max(1) as f64;
        let pacing = (batches * u64::from(about.batch_interval_ms)) as f64;
        self.report.calls = if about.persons_per_batch_max > 1 { batches } else { self.report.changes };
        self.report.seconds = (writing.max(pacing) / 1_000.0).ceil() as u64;
        Ok(())
    }
}

/// Whether a place was written, and still should hold what it does.
fn is_written(row: &PlanRow) -> bool {
    row.state == DeliveryState::Settled && !row.is_told && row.is_wanted && row.row.is_some()
}

/// A plan on its way to the disk; only its end makes it one.
struct PlanFile {
    path: PathBuf,
    out: BufWriter<std::fs::File>,
    hash: Sha256,
}

impl PlanFile {
    fn create(path: &Path, head: PlanHead) -> Result<Self, Failure> {
        // It holds what people achieved: nobody else reads it.
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.with_context(|| format!("make {}: a plan never overwrites anything", path.display()))?;
        let mut plan = Self { path: path.to_owned(), out: BufWriter::new(file), hash: Sha256::new() };
        plan.add(&head)?;
        Ok(plan)
    }

    fn add(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = line(value);
        self.hash.update(text.as_bytes());
        Ok(self.out.write_all(text.as_bytes()).with_context(|| format!("write {}", self.path.display()))?)
    }

    fn end(mut self, view: &View) -> Result<(), Failure> {
        let digest = std::mem::take(&mut self.hash).finalize();
        let end = PlanEnd { seal: hex(&view.plan_seal(&digest)) };
        let written = self.out.write_all(line(&end).as_bytes()).and_then(|()| self.out.flush());
        Ok(written.with_context(|| format!("write {}", self.path.display()))?)
    }

    fn remove(self) -> Result<(), Failure> {
        Ok(std::fs::remove_file(&self.path).with_context(|| format!("remove {}", self.path.display()))?)
    }
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
