//! What the simulation found, each as the smallest scenario that showed it. The list with the stories is in the README.

use std::collections::BTreeSet;

use learnsync_sim::fault::Fault;
use learnsync_sim::play;
use learnsync_sim::scenario::Scenario;

/// Plays the scenario that once broke a promise; `faults` are names as in the trace, comma-separated.
fn holds(seed: u64, days: u32, learners: usize, faults: &str) {
    let faults: BTreeSet<Fault> = faults
        .split(',')
        .map(|name| {
            let is_named = |fault: &Fault| fault.to_string() == name;
            Fault::ALL.into_iter().find(is_named).unwrap_or_else(|| panic!("no fault is called \"{name}\""))
        })
        .collect();
    let report = play::run(&Scenario { seed, days, learners, faults }, false);
    assert_eq!(report.violations, Vec::<String>::new());
    assert!(report.lines > 300, "nothing happened");
}

/// Somebody who left the LMS's sight after a restore came back: what the old ledger held for them was written without a look.
#[test]
fn who_comes_back_after_a_restore_is_looked_up_first() {
    holds(
        163,
        2,
        4,
        "lms_role_shrunk,target_slow,target_down,row_newer,person_missing,account_swapped,added_none,link_pinned,backup_restored",
    );
}

/// A write of the last seconds before a restore was committed by the target after we had looked.
#[test]
fn after_a_restore_a_target_may_finish_what_it_was_asked_last() {
    holds(
        252,
        3,
        5,
        "hook_reordered,hook_early,hook_forged,lms_unauthorized,lms_slow,target_throttled_seconds,target_throttled_date,late_commit,\
         row_edited,row_copied,person_missing,restart,clock_forward,backup_restored",
    );
}

/// A crash left a sweep at its second page; the one that an operator asked for hours later went on there.
#[test]
fn a_sweep_that_is_asked_for_reads_everybody() {
    holds(1030, 1, 7, "hook_repeated,lms_throttled_date,lms_row_inserted,answer_lost,crash,added_all");
}
