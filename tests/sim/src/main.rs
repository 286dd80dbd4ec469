//! Runs seeds: `cargo run --release -p learnsync-sim -- --seeds 0..20000 --days 3`.
#![expect(clippy::print_stdout, reason = "this is a command")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::Parser;
use learnsync_sim::coverage::Coverage;
use learnsync_sim::fault::Fault;
use learnsync_sim::play::{self, Report};
use learnsync_sim::scenario::Scenario;
use learnsync_sim::shrink::shrink;

/// Runs seeded worlds against learnsync's ledger; ends with 1 if a promise was broken.
#[derive(Parser)]
#[command(name = "learnsync-sim")]
struct Options {
    /// Which seeds: one, or a range such as 0..100 (the end is left out).
    #[arg(long, default_value = "0..100")]
    seeds: String,
    /// How many virtual days things happen in each.
    #[arg(long, default_value_t = 3)]
    days: u32,
    /// Only these faults, by name, comma-separated; without it, the seed's own.
    #[arg(long, value_delimiter = ',')]
    faults: Option<Vec<String>>,
    /// So many learners; without it, the seed's own.
    #[arg(long)]
    learners: Option<usize>,
    /// Prints the whole trace of each seed.
    #[arg(long)]
    trace: bool,
    /// Prints seed, trace hash and number of lines of each seed, and nothing else.
    #[arg(long)]
    hashes: bool,
    /// Ends with 1, too, unless every fault, state, cause and kind of error came up often enough.
    #[arg(long)]
    covered: bool,
    /// Does not shrink what fails.
    #[arg(long)]
    no_shrink: bool,
    /// How many threads; each seed runs on one.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Stops after so many failing seeds.
    #[arg(long, default_value_t = 5)]
    failures_max: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let range = match range(&options.seeds) {
        Ok(range) => range,
        Err(words) => {
            eprintln!("--seeds {}: {words}", options.seeds);
            return ExitCode::from(2);
        }
    };
    let faults: Option<BTreeSet<Fault>> = match options.faults.as_ref().map(|names| parse_faults(names)).transpose() {
        Ok(faults) => faults,
        Err(words) => {
            eprintln!("--faults: {words}");
            return ExitCode::from(2);
        }
    };
    let scenario = |seed| {
        let mut scenario = Scenario::of_seed(seed, options.days);
        scenario.faults = faults.clone().unwrap_or(scenario.faults);
        scenario.learners = options.learners.unwrap_or(scenario.learners);
        scenario
    };
    let started = std::time::Instant::now();
    let (next, done) = (AtomicU64::new(range.start), AtomicU64::new(0));
    let coverage = Mutex::new(Coverage::default());
    let failed: Mutex<Vec<Report>> = Mutex::default();
    let lines: Mutex<BTreeMap<u64, String>> = Mutex::default();
    std::thread::scope(|threads| {
        for _ in 0..options.threads.max(1) {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    let is_enough = lock(&failed).len() >= options.failures_max;
                    if seed >= range.end || is_enough {
                        return;
                    }
                    let report = play::run(&scenario(seed), options.trace);
                    if options.hashes {
                        // Threads end in any order: told in the order of the seeds, at the end.
                        lock(&lines).insert(seed, format!("{seed} {} {}", report.hash, report.lines));
                    }
                    if options.trace {
                        report.trace.iter().for_each(|line| println!("{line}"));
                    }
                    lock(&coverage).add(&report.seen);
                    if !report.violations.is_empty() {
                        println!("seed {seed} breaks {:?}", report.violations.first());
                        lock(&failed).push(report);
                    }
                    let count = done.fetch_add(1, Ordering::SeqCst) + 1;
                    if count % 1_000 == 0 && !options.hashes {
                        let seconds = started.elapsed().as_secs_f64();
                        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
                        let rate = count as f64 / seconds;
                        println!("{count} seeds, {rate:.1} a second, {} failed", lock(&failed).len());
                    }
                }
            });
        }
    });
    lines.into_inner().unwrap_or_else(PoisonError::into_inner).values().for_each(|line| println!("{line}"));
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    for report in &failed {
        tell(report, options.no_shrink);
    }
    if !options.hashes {
        println!("{}", lock(&coverage).table());
        let count = done.load(Ordering::SeqCst);
        let seconds = started.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = count as f64 / seconds;
        let days = count * u64::from(options.days);
        println!("{count} seeds in {seconds:.0} s, {rate:.1} a second, {days} virtual days, {} failed", failed.len());
    }
    let missing = if options.covered { lock(&coverage).missing() } else { Vec::new() };
    if options.covered {
        eprint!("{}", lock(&coverage).table());
    }
    missing.iter().for_each(|words| eprintln!("not covered: {words}"));
    if failed.is_empty() && missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Says what a failing seed broke, and the smallest scenario that still does.
fn tell(report: &Report, no_shrink: bool) {
    println!("seed {}:", report.scenario.seed);
    report.violations.iter().for_each(|violation| println!("  {violation}"));
    if no_shrink {
        return;
    }
    let Some(first) = report.violations.first() else { return };
    let small = shrink(&report.scenario, first);
    let names: Vec<String> = small.faults.iter().map(ToString::to_string).collect();
    println!(
        "  shrunk: --seeds {} --days {} --learners {} --faults {}",
        small.seed,
        small.days,
        small.learners,
        names.join(",")
    );
}

fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| format!("\"{text}\" is no number"));
    match text.split_once("..") {
        Some((first, end)) => Ok(number(first)?..number(end)?),
        None => number(text).map(|seed| seed..seed + 1),
    }
}

fn parse_faults(names: &[String]) -> Result<BTreeSet<Fault>, String> {
    names
        .iter()
        .filter(|name| !name.is_empty())
        .map(|name| Fault::parse(name).ok_or_else(|| format!("there is no fault \"{name}\"")))
        .collect()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
