//! Plan files on their way in: read whole, refused unless every line is as it was made and still true, and staged for `reconcile::apply`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use super::orders::{Desk, Done, Running};
use crate::domain::digest::{hex, unhex};
use crate::domain::ids::{DeliveryId, DestinationId, RunId};
use crate::domain::plan_file::{self, BYTES_MAX, PlanEnd, PlanHead, PlanLine};
use crate::store::{ApplyProgress, LINES_AT_ONCE, PlannedLine, Prior};

/// Longest line of a plan file, in bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Begins to write what a plan file says, or goes on with it.
///
/// # Errors
/// No daemon runs; the file cannot be read, was edited, is of another installation, was applied before, or is stale; the mapping is another one.
pub(super) async fn apply(desk: &Desk, path: &Path, canary: Option<u64>) -> anyhow::Result<Done> {
    let Some(running) = &desk.running else {
        bail!("no daemon runs on this store, and only it writes: start `learnsync run`, then ask again");
    };
    let named = || format!("read the plan {}", path.display());
    let (head, lines, digest, end) = whole(path).with_context(named)?;
    let seal = desk.store.plan_seal(digest.clone()).await.context("compute the plan's seal")?;
    if hex(&seal) != end.seal {
        bail!(
            "{} was edited, or made from another ledger: its seal does not fit; make a new one with `learnsync plan`",
            path.display()
        );
    }
    let destination = fitting(running, &head)?;
    match desk.store.prior_apply(seal.clone()).await.context("look whether it was applied")? {
        Prior::Ended(run) => {
            bail!("{} was applied already, or given up, by run {run}: `learnsync runs show {run}`", path.display())
        }
        Prior::Begun(run) if run.held.is_some() => {
            bail!("run {} of this plan is held: `learnsync runs show {}` says why", run.id, run.id)
        }
        Prior::Begun(run) if !run.is_paused => bail!("this plan is being applied already, by run {}", run.id),
        Prior::Begun(run) => {
            let canary = canary.map(|canary| run.progress.released + canary);
            let left = run.progress.lines - run.progress.released;
            let progress = ApplyProgress { canary, ..run.progress };
            desk.store.start_apply(run.id, seal, progress).await.context("go on with the plan")?;
            ring(running, &head.destination);
            return Done::of(format!("run {} goes on with the {left} places that are left", run.id));
        }
        Prior::Never => {}
    }
    if lines == 0 {
        bail!("{} has no line: nothing would change", path.display());
    }
    if let Some(other) = desk.store.apply_under_way(destination).await.context("look for another plan")? {
        bail!("another plan is being applied to {} by run {}: let it end first", head.destination, other.id);
    }
    let run = desk.store.begin_apply(destination).await.context("begin to stage the plan")?;
    if let Err(because) = stage(desk, run, destination, path, &digest).await {
        desk.store.drop_apply(run).await.context("forget the plan")?;
        return Err(because);
    }
    let progress = ApplyProgress { lines, canary, mappings: head.mappings.clone(), ..ApplyProgress::default() };
    desk.store.start_apply(run, seal, progress).await.context("start the plan")?;
    ring(running, &head.destination);
    let first = canary.filter(|canary| *canary < lines).map_or(lines, |canary| canary);
    Ok(Done {
        words: format!(
            "run {run} writes {first} of {lines} places to {}; `learnsync runs show {run}` tells how far it is",
            head.destination
        ),
        deliveries: usize::try_from(first).ok(),
    })
}

fn ring(running: &Running, name: &str) {
    running.apply.get(name).into_iter().for_each(|bell| bell.ring());
}

/// The destination that the plan is for, if it makes the same of a record today.
fn fitting(running: &Running, head: &PlanHead) -> anyhow::Result<DestinationId> {
    let name = &head.destination;
    let Some(destination) = running.destinations.get(name) else {
        bail!("the plan is for {name}, which is not configured here");
    };
    if destination.installation != head.installation {
        bail!(
            "the plan is of the installation {}, this is {}: their ledgers are not the same",
            head.installation,
            destination.installation
        );
    }
    if destination.is_shadow {
        bail!("{name} is in shadow: nothing is written to it; set mode = \"live\" first");
    }
    for route in destination.routes.values() {
        if head.mappings.get(&route.name).is_some_and(|digest| digest != route.mapping.digest()) {
            bail!(
                "the plan was made for another mapping of {name}'s route {}: put that one into the configuration and \
                 `systemctl reload learnsync`, or make a new plan",
                route.name
            );
        }
    }
    Ok(destination.id)
}

/// A plan file, read line by line and only once each.
struct PlanReader {
    lines: BufReader<File>,
    text: String,
    number: usize,
    /// Over the lines of before the seal.
    hash: Sha256,
}

/// What one line of a plan is.
enum Part {
    Head(PlanHead),
    Place(PlanLine),
    End(PlanEnd),
}

impl PlanReader {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).context("open it (the daemon reads it, with its own rights)")?;
        let bytes = file.metadata().context("look at it")?.len();
        if bytes > BYTES_MAX {
            bail!("it has {bytes} bytes, the limit is {BYTES_MAX}");
        }
        Ok(Self { lines: BufReader::new(file), text: String::new(), number: 0, hash: Sha256::new() })
    }

    /// The next line; none at the end of the file.
    fn next(&mut self) -> anyhow::Result<Option<Part>> {
        self.number += 1;
        let number = self.number;
        self.text.clear();
        if self.lines.read_line(&mut self.text).with_context(|| format!("read line {number}"))? == 0 {
            return Ok(None);
        }
        if self.text.len() > LINE_BYTES_MAX {
            bail!("line {number} has {} bytes, the limit is {LINE_BYTES_MAX}", self.text.len());
        }
        if number > 1
            && let Ok(end) = serde_json::from_str::<PlanEnd>(&self.text)
        {
            return Ok(Some(Part::End(end)));
        }
        self.hash.update(self.text.as_bytes());
        if number > 1 {
            let place = serde_json::from_str(&self.text).with_context(|| format!("line {number} is no place"))?;
            return Ok(Some(Part::Place(place)));
        }
        let head: PlanHead = serde_json::from_str(&self.text).context("line 1 is not the head of a plan")?;
        if head.learnsync_plan != plan_file::VERSION {
            let (theirs, ours) = (head.learnsync_plan, plan_file::VERSION);
            bail!("it is a plan of version {theirs}, this learnsync knows version {ours}");
        }
        Ok(Some(Part::Head(head)))
    }

    fn digest(self) -> Vec<u8> {
        self.hash.finalize().to_vec()
    }
}

/// Reads a plan to its end; answers its head, how many places it has, the digest that its seal is over, and that seal.
fn whole(path: &Path) -> anyhow::Result<(PlanHead, u64, Vec<u8>, PlanEnd)> {
    let mut reader = PlanReader::open(path)?;
    let (mut head, mut end, mut count) = (None, None, 0);
    while let Some(part) = reader.next()? {
        if end.is_some() {
            bail!("line {} stands behind the seal: it was edited", reader.number);
        }
        match part {
            Part::Head(found) => head = Some(found),
            Part::Place(_) => count += 1,
            Part::End(found) => end = Some(found),
        }
    }
    let head = head.context("it is empty")?;
    let end = end.context("it has no seal at its end: it is half a file")?;
    Ok((head, count, reader.digest(), end))
}

/// Stages all lines; an error if one of them is stale, or if they are not those whose seal was looked at.
async fn stage(desk: &Desk, run: RunId, destination: DestinationId, path: &Path, sealed: &[u8]) -> anyhow::Result<()> {
    let mut reader = PlanReader::open(path)?;
    let mut position = 0;
    let mut some = Vec::with_capacity(LINES_AT_ONCE);
    loop {
        let part = reader.next()?;
        let is_end = part.is_none();
        if let Some(Part::Place(line)) = part {
            some.push(planned(line)?);
        }
        if some.len() == LINES_AT_ONCE || is_end && !some.is_empty() {
            let lines = std::mem::take(&mut some);
            let count = lines.len() as u64;
            let stale = desk.store.stage_plan(run, destination, position, lines).await.context("stage the plan")?;
            if let Some(delivery) = stale {
                bail!(
                    "the plan is stale: delivery {delivery} changed since it was made (`learnsync deliveries show {delivery}`); make a new one"
                );
            }
            position += count;
        }
        if is_end {
            break;
        }
    }
    if reader.digest() != sealed {
        bail!("{} was edited while it was read", path.display());
    }
    Ok(())
}

fn planned(line: PlanLine) -> anyhow::Result<PlannedLine> {
    let bytes = |text: &str| unhex(text).with_context(|| format!("\"{text}\" is no digest"));
    Ok(PlannedLine {
        delivery: DeliveryId(line.delivery),
        wanted: bytes(&line.wanted)?,
        held: line.held.as_deref().map(bytes).transpose()?,
    })
}
