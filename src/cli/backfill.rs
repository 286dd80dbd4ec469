//! `learnsync backfill`: has the daemon read all that a portal holds, and shows how far that is.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::anyhow;
use chrono::NaiveDate;
use clap::Args;

use super::{Failure, WithConfig, ledger};
use crate::daemon::Order;
use crate::domain::time::{Clock, SystemClock, Timestamp};
use crate::reconcile::backfill::done_at;
use crate::store::Phase;
use crate::store::view::{BackfillView, View};

/// How often the progress is shown anew.
const LOOK: Duration = Duration::from_secs(2);

/// Characters of the bar.
const BAR: usize = 30;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// The portal; needed only if there are several.
    #[arg(long)]
    portal: Option<String>,
    /// Facts of before this day are left out.
    #[arg(long, conflicts_with = "pause")]
    since: Option<NaiveDate>,
    /// Holds it where it is; `backfill` without this goes on.
    #[arg(long)]
    pause: bool,
    /// Does not wait until it is done.
    #[arg(long)]
    no_wait: bool,
    /// Prints JSON, and does not wait.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = options.with.config()?;
    let portals: Vec<&str> = config.portals.keys().map(String::as_str).collect();
    let portal = match (&options.portal, portals.as_slice()) {
        (Some(name), _) if portals.contains(&name.as_str()) => name.clone(),
        (Some(name), _) => return Err(Failure::Configuration(crate::config::unknown("portal", name, &portals))),
        (None, [only]) => (*only).to_owned(),
        (None, _) => {
            return Err(Failure::Configuration(format!("say with --portal which one: {}", portals.join(", "))));
        }
    };
    let order = match options.pause {
        true => Order::PauseBackfill { portal: portal.clone() },
        false => Order::Backfill { portal: portal.clone(), since: options.since },
    };
    ledger::carry_out_and_say(&config, &order, options.json)?;
    if options.pause || options.no_wait || options.json {
        return Ok(());
    }
    println!("Ctrl-C ends this view, not the backfill; `learnsync backfill --pause` holds it.");
    watch(options.with.view()?, &portal)
}

/// Shows the progress until it is done.
fn watch(mut view: View, portal: &str) -> Result<(), Failure> {
    let mut before: Option<(Timestamp, u64)> = None;
    let mut out = std::io::stdout();
    loop {
        let all = view.backfills().map_err(anyhow::Error::from)?;
        let Some(found) = all.into_iter().find(|one| one.portal == portal) else {
            println!("\nThe backfill is done: `learnsync status` says what waits for whom.");
            return Ok(());
        };
        if found.is_paused {
            return Err(anyhow!("the backfill is held: `learnsync backfill --portal {portal}` goes on").into());
        }
        let now = SystemClock.now();
        let end = before.and_then(|(at, left)| done_at(left, found.left, (at, now)));
        // Where nobody looks at it, each line stays.
        let (begin, end_of_line) = if out.is_terminal() { ("\r\x1b[K", "") } else { ("", "\n") };
        write!(out, "{begin}{}{end_of_line}", line(&found, end))
            .and_then(|()| out.flush())
            .map_err(anyhow::Error::from)?;
        before = (found.phase == Phase::Reading).then_some((now, found.left));
        std::thread::sleep(LOOK);
    }
}

/// One line: what it does, how far it is, and when it is done.
fn line(found: &BackfillView, end: Option<Timestamp>) -> String {
    match found.phase {
        Phase::Learners => format!("lists the learners: {}", found.learners),
        Phase::Enrolments => {
            let (courses, total) = (found.courses, found.courses_total);
            format!(
                "{} lists the enrolments: {courses} of {total} courses, {} rows",
                bar(courses, total),
                found.enrolments
            )
        }
        Phase::Marking => format!("puts the learners into the queue: {}", found.marked),
        Phase::Reading => {
            let read = found.marked.saturating_sub(found.left);
            let end = end.map(|at| format!(", done at {at}")).unwrap_or_default();
            format!("{} reads the learners: {read} of {}{end}", bar(read, found.marked), found.marked)
        }
    }
}

fn bar(done: u64, total: u64) -> String {
    let filled = usize::try_from(done.min(total) * BAR as u64 / total.max(1)).unwrap_or(BAR);
    format!("[{}{}]", "#".repeat(filled), ".".repeat(BAR - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_done_how_far_it_is_and_when_it_ends() {
        let found = BackfillView {
            portal: "main".to_owned(),
            started_at: Timestamp(0),
            is_paused: false,
            phase: Phase::Reading,
            learners: 120,
            courses: 4,
            courses_total: 4,
            enrolments: 900,
            marked: 100,
            left: 50,
            calls: 7,
        };
        let half = "[###############...............]";
        assert_eq!(line(&found, None), format!("{half} reads the learners: 50 of 100"));
        let end = Some(Timestamp(1_772_525_640_000));
        assert_eq!(line(&found, end), format!("{half} reads the learners: 50 of 100, done at 2026-03-03T08:14:00Z"));
        let listing = BackfillView { phase: Phase::Enrolments, courses: 1, ..found.clone() };
        assert_eq!(
            line(&listing, None),
            "[#######.......................] lists the enrolments: 1 of 4 courses, 900 rows"
        );
        let empty = BackfillView { marked: 0, left: 0, ..found };
        assert!(line(&empty, None).contains("0 of 0"), "no division by zero");
    }
}
