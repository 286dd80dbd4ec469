//! The run: which checks there are, which of them apply, and how each is kept from hurting the next.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use learnsync_sdk::{Claim, ConnectorType};

use crate::bench::{Bench, Checked, INSTALLATION, Stop};
use crate::checks::{batches, description, errors, listing, people, reading, secrecy, withdrawing, writing};
use crate::{CheckResult, Fake, Proxy, Report, Sample, Verdict, toolbox};

/// A check that takes longer hangs.
const CHECK_TIME_MAX: Duration = Duration::from_secs(30);

const NONE: &[Claim] = &[];
const PEOPLE: &[Claim] = &[Claim::People];
const READ_BACK: &[Claim] = &[Claim::ReadBack];
const WITHDRAW: &[Claim] = &[Claim::Withdraw];
const LIST: &[Claim] = &[Claim::List];
/// What needs a place that can be found again, by key or by look.
const FOUND_AGAIN: &[Claim] = &[Claim::UpsertByMark, Claim::ReadBack];

/// How often a check runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Per {
    Connector,
    Object,
}

struct Check {
    name: &'static str,
    per: Per,
    /// It applies to connectors with any of these claims, or to all.
    claims: &'static [Claim],
    run: for<'a> fn(&'a Bench<'a>) -> BoxFuture<'a, Checked>,
}

/// A check is named like its function, which is named like its rule.
macro_rules! check {
    ($per:ident, $claims:expr, $room:ident::$rule:ident) => {
        Check { name: stringify!($rule), per: Per::$per, claims: $claims, run: |bench| $room::$rule(bench).boxed() }
    };
}

const CHECKS: &[Check] = &[
    check!(Connector, NONE, description::a_description_says_all_that_people_and_tables_need),
    check!(Connector, NONE, description::default_routes_fill_objects_and_fields_that_exist),
    check!(Connector, NONE, description::settings_that_are_missing_or_unknown_are_named),
    check!(Connector, NONE, description::describing_and_building_ask_nobody),
    check!(Connector, NONE, description::an_object_that_does_not_exist_is_refused_with_those_that_do),
    check!(Connector, NONE, description::the_account_has_the_same_name_every_time),
    check!(Connector, NONE, description::a_failed_probe_names_no_account),
    check!(Connector, NONE, description::a_list_of_reference_data_that_fails_is_no_empty_list),
    check!(Connector, PEOPLE, people::a_person_is_found_by_each_rule),
    check!(Connector, PEOPLE, people::the_first_rule_that_matches_anyone_decides),
    check!(Connector, PEOPLE, people::nobody_is_not_found),
    check!(Connector, PEOPLE, people::several_people_are_ambiguous_and_never_guessed),
    check!(Connector, PEOPLE, people::a_blank_value_matches_nobody),
    check!(Connector, PEOPLE, people::a_value_cannot_widen_the_search),
    check!(Connector, PEOPLE, people::a_look_up_that_fails_is_an_error_and_not_an_unknown_person),
    check!(Object, PEOPLE, people::a_person_whom_the_target_forgot_is_unmatched),
    check!(Object, NONE, errors::a_throttled_answer_carries_the_wait_in_seconds),
    check!(Object, NONE, errors::a_throttled_answer_carries_the_instant_to_wait_for),
    check!(Object, NONE, errors::a_throttled_answer_without_a_wait_leaves_it_unsaid),
    check!(Object, NONE, errors::a_busy_target_that_names_a_wait_is_throttled),
    check!(Object, NONE, errors::a_busy_target_that_names_none_is_unavailable),
    check!(Object, NONE, errors::a_server_error_leaves_a_write_unknown),
    check!(Object, NONE, errors::an_unreachable_target_is_unavailable),
    check!(Object, NONE, errors::a_connection_cut_amid_a_write_leaves_it_unknown),
    check!(Object, NONE, errors::a_lost_answer_leaves_a_write_unknown),
    check!(Object, NONE, errors::an_answer_that_breaks_off_is_no_refusal),
    check!(Object, NONE, errors::an_answer_that_nobody_can_read_is_no_receipt),
    check!(Object, NONE, errors::a_refusal_is_rejected_with_its_status),
    check!(Object, NONE, errors::long_words_of_the_target_are_shortened),
    check!(Object, NONE, errors::refused_credentials_are_unauthorized_until_they_are_taken_again),
    check!(Object, NONE, errors::a_failed_write_is_not_repeated_by_the_connector),
    check!(Object, NONE, errors::a_look_before_a_write_that_fails_writes_nothing),
    check!(Object, NONE, errors::a_slow_answer_is_waited_for),
    check!(Object, NONE, errors::a_redirect_is_followed_nowhere),
    check!(Object, NONE, batches::an_empty_batch_asks_nobody),
    check!(Object, NONE, batches::each_change_has_one_outcome_in_its_order),
    check!(Object, NONE, batches::a_refused_change_does_not_spoil_its_neighbours),
    check!(Object, NONE, batches::refused_credentials_end_the_batch),
    check!(Object, NONE, batches::a_throttled_answer_ends_the_batch),
    check!(Object, NONE, writing::what_was_put_is_what_the_target_holds),
    check!(Object, NONE, writing::text_of_all_scripts_arrives_unchanged),
    check!(Object, NONE, writing::long_text_arrives_whole_as_far_as_the_object_allows),
    check!(Object, NONE, writing::a_text_that_is_too_long_is_cut_and_says_so),
    check!(Object, FOUND_AGAIN, writing::a_repeat_makes_no_second_row),
    check!(Object, FOUND_AGAIN, writing::a_repeat_after_a_lost_answer_makes_no_second_row),
    check!(Object, FOUND_AGAIN, writing::a_late_commit_is_found_once_it_has_settled),
    check!(Object, FOUND_AGAIN, writing::a_target_that_need_not_settle_survives_a_late_commit),
    check!(Object, FOUND_AGAIN, writing::a_change_goes_to_the_same_row),
    check!(Object, FOUND_AGAIN, writing::a_row_that_somebody_removed_is_made_again),
    check!(Object, FOUND_AGAIN, writing::an_absent_field_is_left_alone),
    check!(Object, FOUND_AGAIN, writing::null_blanks_a_field_out),
    check!(Object, FOUND_AGAIN, writing::a_row_of_somebody_else_is_never_touched),
    check!(Object, READ_BACK, reading::what_was_put_is_what_is_observed),
    check!(Object, READ_BACK, reading::an_empty_place_is_absent),
    check!(Object, READ_BACK, reading::a_copied_row_is_several_and_makes_no_third),
    check!(Object, READ_BACK, reading::a_row_of_somebody_else_is_not_observed),
    check!(Object, READ_BACK, reading::each_place_has_one_observation_in_its_order),
    check!(Object, READ_BACK, reading::a_read_that_fails_is_an_error_and_not_an_absence),
    check!(Object, WITHDRAW, withdrawing::a_withdrawal_removes_exactly_our_row),
    check!(Object, WITHDRAW, withdrawing::a_row_that_is_gone_already_is_withdrawn),
    check!(Object, WITHDRAW, withdrawing::a_row_of_somebody_else_is_not_withdrawn),
    check!(Object, WITHDRAW, withdrawing::a_withdrawal_whose_answer_is_lost_is_unknown_and_may_be_repeated),
    check!(Object, LIST, listing::what_was_put_is_listed_once_and_as_it_is_observed),
    check!(Object, LIST, listing::rows_of_others_are_listed_as_theirs_and_left_alone),
    check!(Object, LIST, listing::each_row_is_listed_once_over_all_pages),
    check!(Object, LIST, listing::a_change_between_two_pages_hides_no_row),
    check!(Object, LIST, listing::a_list_that_fails_is_an_error_and_not_its_end),
    check!(Connector, LIST, listing::a_list_of_an_object_that_does_not_exist_is_rejected),
    // These two come last: they search all that was said until now.
    check!(Connector, NONE, secrecy::no_message_holds_a_secret),
    check!(Connector, PEOPLE, secrecy::no_message_names_a_person),
];

/// The names of all checks, in their order.
#[must_use]
pub fn check_names() -> Vec<&'static str> {
    CHECKS.iter().map(|check| check.name).collect()
}

/// Runs all checks against a connector and its fake. A check that fails, panics or hangs spoils no other.
pub async fn run(kind: &dyn ConnectorType, fake: Arc<dyn Fake>) -> Report {
    let samples = fake.samples();
    assert!(!samples.is_empty(), "a fake gives at least one sample");
    let description = kind.describe();
    let proxy = Proxy::start(Arc::clone(&fake)).await;
    let sample = samples[0].clone();
    let toolbox = toolbox(INSTALLATION);
    let mut bench = Bench { kind, fake, proxy, toolbox, description, sample, said: Mutex::default() };
    let mut checks = Vec::with_capacity(CHECKS.len());
    for check in CHECKS {
        let verdict = judge(check, &mut bench, &samples).await;
        checks.push(CheckResult { name: check.name, claims: check.claims, verdict });
    }
    Report { connector: bench.description.name.to_owned(), claims: bench.description.claims.to_vec(), checks }
}

async fn judge(check: &Check, bench: &mut Bench<'_>, samples: &[Sample]) -> Verdict {
    if !check.claims.is_empty() && !check.claims.iter().any(|claim| bench.claims(*claim)) {
        return Verdict::Skipped("not claimed".to_owned());
    }
    let samples = if check.per == Per::Connector { &samples[..1] } else { samples };
    let (mut failed, mut skipped) = (Vec::new(), Vec::new());
    for sample in samples {
        bench.sample = sample.clone();
        let object = if check.per == Per::Connector { String::new() } else { format!("{}: ", sample.object) };
        match run_one(check, bench).await {
            Ok(()) => {}
            Err(Stop::Skipped(why)) => skipped.push(format!("{object}{why}")),
            Err(Stop::Failed(why)) => failed.push(format!("{object}{why}")),
        }
    }
    if !failed.is_empty() {
        Verdict::Failed(failed.join("; "))
    } else if skipped.len() == samples.len() {
        Verdict::Skipped(skipped.join("; "))
    } else {
        Verdict::Passed
    }
}

async fn run_one(check: &Check, bench: &Bench<'_>) -> Checked {
    bench.fake.reset();
    bench.proxy.reset();
    let run = AssertUnwindSafe((check.run)(bench)).catch_unwind();
    match tokio::time::timeout(CHECK_TIME_MAX, run).await {
        Ok(Ok(checked)) => checked,
        Ok(Err(panic)) => Err(Stop::Failed(format!("it panicked: {}", words_of(&*panic)))),
        Err(_) => Err(Stop::Failed(format!("it did not end within {} s", CHECK_TIME_MAX.as_secs()))),
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}
