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

/// Reference data was refused with 429, and the target was asked on.
#[test]
fn what_a_list_of_reference_data_is_told_holds_for_everybody() {
    holds(
        1153,
        1,
        6,
        "hook_delayed,hook_reordered,hook_early,hook_burst,re_enrolled,lms_throttled_date,lms_half_page,lms_empty,lms_slow,\
         target_throttled_seconds,target_slow,answer_lost,late_commit,target_down,reference_missing,person_twice,credentials_revoked,crash,\
         clock_forward,disk_full",
    );
}

/// A confirmed account had just asked us to wait.
#[test]
fn a_rebase_keeps_the_time_that_a_target_asked_for() {
    holds(
        1398,
        1,
        3,
        "hook_delayed,lms_half_page,target_refuses,target_throttled_seconds,target_throttled_date,account_swapped,crash",
    );
}

/// A fact was corrected while its message was on its way.
#[test]
fn what_was_told_is_not_told_again_because_its_fact_changed_meanwhile() {
    holds(
        4128,
        1,
        4,
        "hook_lost,hook_delayed,hook_reordered,hook_forged,hook_burst,fact_corrected,fact_revoked,re_enrolled,user_merged,lms_unauthorized,\
         lms_token_killed,lms_throttled_seconds,lms_throttled_date,lms_throttled_unsaid,lms_row_inserted,lms_role_shrunk,lms_down,lms_slow,\
         lms_forbidden,target_throttled_seconds,target_throttled_date,target_throttled_unsaid,target_slow,answer_lost,late_commit,\
         partial_batch,target_down,target_cursed,reference_missing,row_edited,row_deleted,row_copied,row_newer,person_twice,\
         account_swapped,crash,clock_forward,clock_back,destination_paused,added_none,added_since,backup_restored",
    );
}
