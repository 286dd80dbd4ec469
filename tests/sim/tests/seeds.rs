//! The hundred seeds: no promise is broken, every run can be repeated exactly, everything came up, and broken promises are noticed.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use learnsync::fail_point::{PROMISES, break_on_this_thread};
use learnsync_sim::play;
use learnsync_sim::scenario::Scenario;

/// The seeds of the tests.
const SEEDS: u64 = 100;

/// How many virtual days each.
const DAYS: u32 = 3;

/// Every trace has at least so many lines.
const LINES_MIN: usize = 300;

/// Runs the seeds in a process of its own, which names what fails and does not shrink it: that takes longer than all the seeds. It ends with 0 only if no promise was broken and everything came up often enough.
fn run_in_a_process() -> Output {
    let seeds = format!("0..{SEEDS}");
    Command::new(env!("CARGO_BIN_EXE_learnsync-sim"))
        .args([
            "--seeds",
            &seeds,
            "--days",
            &DAYS.to_string(),
            "--threads",
            "1",
            "--hashes",
            "--covered",
            "--no-shrink",
        ])
        .stdin(Stdio::null())
        .output()
        .expect("the simulation starts")
}

#[test]
fn a_hundred_seeds_break_no_promise_cover_everything_and_can_be_repeated_exactly() {
    let (first, second) = std::thread::scope(|threads| {
        let first = threads.spawn(run_in_a_process);
        (first.join().expect("no panic"), run_in_a_process())
    });
    let said = |output: &Output| {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    assert!(first.status.success(), "a seed failed, or something did not come up often enough:\n{}", said(&first));
    assert_eq!(said(&first), said(&second), "two processes, one trace");
    let text = String::from_utf8_lossy(&first.stdout).into_owned();
    assert_eq!(text.lines().count(), usize::try_from(SEEDS).expect("a hundred"));
    for line in text.lines() {
        let lines: usize = line.split(' ').nth(2).and_then(|count| count.parse().ok()).expect("seed, hash, lines");
        assert!(lines >= LINES_MIN, "the trace of this seed is too short to prove anything: {line}");
    }
    // Seen with --nocapture: the table that the seeds were measured by.
    eprint!("{}", String::from_utf8_lossy(&first.stderr));
}

/// The first seed that notices a broken promise, and the rule that was broken.
fn caught(promise: &'static str) -> Option<(u64, String)> {
    break_on_this_thread(Some(promise));
    let found = (0..SEEDS).find_map(|seed| {
        let report = play::run(&Scenario::of_seed(seed, DAYS), false);
        Some((seed, report.violations.first()?.clone()))
    });
    break_on_this_thread(None);
    found
}

#[test]
fn every_promise_that_is_broken_on_purpose_is_noticed_within_the_hundred_seeds() {
    let next = AtomicUsize::new(0);
    let found: Mutex<BTreeMap<&str, Option<(u64, String)>>> = Mutex::default();
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while let Some(promise) = PROMISES.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let seed = caught(promise);
                    found.lock().expect("no panic").insert(promise, seed);
                }
            });
        }
    });
    let found = found.into_inner().expect("no panic");
    for (promise, seed) in &found {
        eprintln!("{promise:12} {seed:?}");
    }
    let missed: Vec<_> = found.iter().filter(|(_, seed)| seed.is_none()).map(|(promise, _)| promise).collect();
    assert!(missed.is_empty(), "nobody noticed that these promises were broken: {missed:?}");
    assert_eq!(found.len(), PROMISES.len());
}
