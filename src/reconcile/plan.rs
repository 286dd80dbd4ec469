//! Plan: what the mapping of today, or a candidate, would change in what was written before, as a file that `apply` writes line by line.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use learnsync_sdk::{Claim, DeliveryError, Fields, Observation, Place};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::domain::delivery::{Cause, DeliveryState};
use crate::domain::digest::hex;
use crate::domain::plan_file::{self, PlanEnd, PlanHead, PlanLine, line};
use crate::domain::time::{Clock, Timestamp};
use crate::mapping::ReferenceTable;
use crate::pipeline::destination::Destination;
use crate::pipeline::preview::{Preview, preview};
use crate::store::StoreError;
use crate::store::view::View;
use crate::store::view::plan::PlanRow;

/// Changed fields of which samples are shown.
const PATTERNS_MAX: usize = 10;

/// Samples of each.
const SAMPLES_MAX: usize = 3;

/// How long a write is taken to last where nothing was written yet, in milliseconds.
const WRITE_MS: f64 = 300.0;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// What is held cannot be looked at.
    #[error("{0} cannot be read back: leave --observe out, and what we wrote last counts")]
    Blind(String),
    /// The target's reference data is needed and did not come.
    #[error("list the target's reference data: {0}")]
    References(DeliveryError),
    /// The target may not be asked now.
    #[error("{name} is paused ({cause}){}: nothing is asked of it until then; `learnsync status` tells more", until_words(.until))]
    Paused {
        /// The destination.
        name: String,
        /// Why.
        cause: String,
        /// Until when; none when a person must end it.
        until: Option<Timestamp>,
    },
    /// The target could not be read back.
    #[error("read back what the target holds: {0}")]
    Observed(DeliveryError),
    /// The ledger could not be read.
    #[error("read the store")]
    Store(#[from] StoreError),
    /// There is no new file there.
    #[error("make {}: a plan never overwrites anything", .0.display())]
    Made(PathBuf, #[source] std::io::Error),
    /// The file could not be written.
    #[error("write {}", .0.display())]
    Written(PathBuf, #[source] std::io::Error),
}

/// Whether nobody said that a destination is to be left alone now.
///
/// # Errors
/// It is paused, or the ledger cannot be read.
pub fn may_be_asked(view: &mut View, destination: &Destination, now: Timestamp) -> Result<(), PlanError> {
    match view.pause_of(destination.id, now)? {
        Some((cause, until)) => Err(PlanError::Paused { name: destination.name.clone(), cause, until }),
        None => Ok(()),
    }
}

fn until_words(until: &Option<Timestamp>) -> String {
    until.map(|until| format!(" until {until}")).unwrap_or_default()
}

/// What a plan comes to.
#[derive(Debug, Default, Serialize)]
pub struct PlanReport {
    /// The destination.
    pub destination: String,
    /// Where the plan is; null when nothing would change.
    pub file: Option<PathBuf>,
    /// Places that hold what the mapping makes.
    pub unchanged: u64,
    /// Places that would be written.
    pub changes: u64,
    /// Places that the mapping makes nothing of: they would stay as they are; by cause.
    pub refused: BTreeMap<String, u64>,
    /// Waits, and is written by the mapping of today in any case.
    pub waiting: u64,
    /// Parked, and tried again by itself when the mapping changes.
    pub parked: u64,
    /// Not written on purpose, told, or no longer shown by the LMS.
    pub left_out: u64,
    /// The fields that would change most often.
    pub fields: Vec<ChangedField>,
    /// Calls that applying it takes, at least.
    pub calls: u64,
    /// About how long that takes, in seconds.
    pub seconds: u64,
}

/// A field that would change.
#[derive(Debug, Default, Serialize)]
pub struct ChangedField {
    /// Its name in the target.
    pub field: String,
    /// In how many places.
    pub places: u64,
    /// Some of them: record, what it holds, what it would hold.
    pub samples: Vec<Sample>,
}

/// One change of a field.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// The record.
    pub record: String,
    /// What the field holds; null where nobody knows.
    pub from: Option<String>,
    /// What it would hold.
    pub to: String,
}

/// Goes through the places of a destination and writes the plan.
pub struct Planner<'a> {
    view: &'a mut View,
    destination: &'a Destination,
    is_observed: bool,
    report: PlanReport,
    fields: BTreeMap<String, ChangedField>,
}

impl<'a> Planner<'a> {
    /// `is_observed`: what would change is read back first; without it, what we wrote last counts.
    ///
    /// # Errors
    /// The target cannot be read back.
    pub fn new(view: &'a mut View, destination: &'a Destination, is_observed: bool) -> Result<Self, PlanError> {
        if is_observed && !destination.description.claims(Claim::ReadBack) {
            return Err(PlanError::Blind(destination.name.clone()));
        }
        let report = PlanReport { destination: destination.name.clone(), ..PlanReport::default() };
        Ok(Self { view, destination, is_observed, report, fields: BTreeMap::new() })
    }

    /// Writes the plan to a file that is not there yet; where nothing would change, there is none.
    ///
    /// # Errors
    /// The store or the target cannot be read, or the file cannot be written.
    pub async fn plan(mut self, path: &Path, clock: &dyn Clock) -> Result<PlanReport, PlanError> {
        self.may_ask(clock.now())?;
        let references = self.destination.reference_table(clock).await.map_err(PlanError::References)?;
        let Some(references) = references else {
            let paused =
                PlanError::Paused { name: self.report.destination, cause: "a moment ago".to_owned(), until: None };
            return Err(paused);
        };
        let mut file = PlanFile::create(path, self.head(clock.now()))?;
        let (mut after, mut persons) = (0, 0_u64);
        loop {
            let (rows, last) = self.view.plan_rows(self.destination.id, after)?;
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
            self.report.file = Some(path.to_owned());
        }
        Ok(self.report)
    }

    /// Whether the target may be asked, if it has to be.
    fn may_ask(&mut self, now: Timestamp) -> Result<(), PlanError> {
        let routes = self.destination.routes.values();
        let asks = self.is_observed || routes.into_iter().any(|route| !route.mapping.reference_kinds().is_empty());
        if asks { may_be_asked(self.view, self.destination, now) } else { Ok(()) }
    }

    fn head(&self, made_at: Timestamp) -> PlanHead {
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
        references: &ReferenceTable,
    ) -> Result<BTreeMap<i64, Fields>, PlanError> {
        let mut found = BTreeMap::new();
        if !self.is_observed {
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
                Err(error) => return Err(PlanError::Observed(error)),
            }
        }
        Ok(found)
    }

    /// Counts a place; answers the line if it would be written.
    fn change(&mut self, row: &PlanRow, references: &ReferenceTable, shown: Option<&Fields>) -> Option<PlanLine> {
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

    fn cost(&mut self, persons: u64) -> Result<(), PlanError> {
        let about = &self.destination.description;
        let write_ms = self.view.write_ms(self.destination.id)?.unwrap_or(WRITE_MS);
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
    fn create(path: &Path, head: PlanHead) -> Result<Self, PlanError> {
        // It holds what people achieved: nobody else reads it.
        let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|error| PlanError::Made(path.to_owned(), error))?;
        let mut plan = Self { path: path.to_owned(), out: BufWriter::new(file), hash: Sha256::new() };
        plan.add(&head)?;
        Ok(plan)
    }

    fn add(&mut self, value: &impl Serialize) -> Result<(), PlanError> {
        let text = line(value);
        self.hash.update(text.as_bytes());
        self.out.write_all(text.as_bytes()).map_err(|error| PlanError::Written(self.path.clone(), error))
    }

    fn end(mut self, view: &View) -> Result<(), PlanError> {
        let digest = std::mem::take(&mut self.hash).finalize();
        let end = PlanEnd { seal: hex(&view.plan_seal(&digest)) };
        let written = self.out.write_all(line(&end).as_bytes()).and_then(|()| self.out.flush());
        written.map_err(|error| PlanError::Written(self.path, error))
    }

    fn remove(self) -> Result<(), PlanError> {
        std::fs::remove_file(&self.path).map_err(|error| PlanError::Written(self.path, error))
    }
}
