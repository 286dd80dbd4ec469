//! The kit can fail: each check is seen to catch a connector that breaks its rule, and a healthy one passes them all.

mod target;
mod tiny;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use learnsync_sdk::Claim;
use learnsync_testkit::{Report, Verdict, check_names, conformance_table, run};

use self::target::{TOKEN, Target};
use self::tiny::{Defect, Tiny};

/// Each defect, and the check that must catch it; others may catch it, too.
const DEFECTS: &[(Defect, &str)] = &[
    (Defect::AcceptsUnknownSettings, "settings_that_are_missing_or_unknown_are_named"),
    (Defect::AnswersOutOfOrder, "each_change_has_one_outcome_in_its_order"),
    (Defect::AsksForEmptyBatches, "an_empty_batch_asks_nobody"),
    (Defect::AsksWhileBuilding, "describing_and_building_ask_nobody"),
    (Defect::BelievesInKnownRows, "an_empty_place_is_absent"),
    (Defect::BlanksAbsentFields, "an_absent_field_is_left_alone"),
    (Defect::CallsErrorsAbsence, "a_read_that_fails_is_an_error_and_not_an_absence"),
    (Defect::CallsErrorsNobody, "a_look_up_that_fails_is_an_error_and_not_an_unknown_person"),
    (Defect::CallsFailedListsTheirEnd, "a_list_that_fails_is_an_error_and_not_its_end"),
    (Defect::CallsGoneRowsRefused, "a_row_that_is_gone_already_is_withdrawn"),
    (Defect::CallsLostAnswersUnavailable, "a_connection_cut_amid_a_write_leaves_it_unknown"),
    (Defect::CallsLostAnswersUnavailable, "a_late_commit_is_found_once_it_has_settled"),
    (Defect::CallsLostAnswersUnavailable, "a_lost_answer_leaves_a_write_unknown"),
    (Defect::CallsLostAnswersUnavailable, "a_withdrawal_whose_answer_is_lost_is_unknown_and_may_be_repeated"),
    (Defect::CallsServerErrorsUnavailable, "a_server_error_leaves_a_write_unknown"),
    (Defect::CallsThrottlingUnavailable, "a_busy_target_that_names_a_wait_is_throttled"),
    (Defect::CallsThrottlingUnavailable, "a_throttled_answer_without_a_wait_leaves_it_unsaid"),
    (Defect::CallsTransportErrorsRejected, "a_busy_target_that_names_none_is_unavailable"),
    (Defect::CallsTransportErrorsRejected, "an_answer_that_breaks_off_is_no_refusal"),
    (Defect::CallsTransportErrorsRejected, "an_unreachable_target_is_unavailable"),
    (Defect::CallsUnknownPeopleRejected, "a_person_whom_the_target_forgot_is_unmatched"),
    (Defect::CapsTheWait, "a_throttled_answer_carries_the_wait_in_seconds"),
    (Defect::ChoosesAmongCopies, "a_copied_row_is_several_and_makes_no_third"),
    (Defect::CountsRowsFromPageToPage, "a_change_between_two_pages_hides_no_row"),
    (Defect::CutsNothing, "a_text_that_is_too_long_is_cut_and_says_so"),
    (Defect::CutsText, "a_text_that_is_too_long_is_cut_and_says_so"),
    (Defect::CutsText, "long_text_arrives_whole_as_far_as_the_object_allows"),
    (Defect::DropsOutcomes, "each_change_has_one_outcome_in_its_order"),
    (Defect::EndsAfterTheFirstPage, "each_row_is_listed_once_over_all_pages"),
    (Defect::FillsFieldsThatDoNotExist, "default_routes_fill_objects_and_fields_that_exist"),
    (Defect::FindsMarksByTheirBeginning, "a_row_of_somebody_else_is_never_touched"),
    (Defect::FindsMarksByTheirBeginning, "a_row_of_somebody_else_is_not_observed"),
    (Defect::FoldsNoLetters, "a_person_is_found_by_each_rule"),
    (Defect::FollowsRedirects, "a_redirect_is_followed_nowhere"),
    (Defect::ForgetsHowManyRules, "the_first_rule_that_matches_anyone_decides"),
    (Defect::ForgetsTheScore, "what_was_put_is_what_the_target_holds"),
    (Defect::ForgetsTheSecondPlace, "each_place_has_one_observation_in_its_order"),
    (Defect::GivesUpOnSlowTargets, "a_slow_answer_is_waited_for"),
    (Defect::GoesOnAfterARefusedKey, "refused_credentials_end_the_batch"),
    (Defect::GoesOnAfterThrottling, "a_throttled_answer_ends_the_batch"),
    (Defect::GuessesPeople, "several_people_are_ambiguous_and_never_guessed"),
    (Defect::IgnoresDatesToWaitFor, "a_throttled_answer_carries_the_instant_to_wait_for"),
    (Defect::KnowsOnlyAscii, "text_of_all_scripts_arrives_unchanged"),
    (Defect::LeaksTheToken, "no_message_holds_a_secret"),
    (Defect::LinksWithoutTls, "a_description_says_all_that_people_and_tables_need"),
    (Defect::ListsAllAsOnePerson, "what_was_put_is_listed_once_and_as_it_is_observed"),
    (Defect::ListsAnyObject, "a_list_of_an_object_that_does_not_exist_is_rejected"),
    (Defect::ListsNothingOnError, "a_list_of_reference_data_that_fails_is_no_empty_list"),
    (Defect::ListsOnlyOurs, "rows_of_others_are_listed_as_theirs_and_left_alone"),
    (Defect::ListsWithTheMarkAmongTheFields, "what_was_put_is_listed_once_and_as_it_is_observed"),
    (Defect::LooksForBlanks, "a_blank_value_matches_nobody"),
    (Defect::MakesANewRowForEachChange, "a_change_goes_to_the_same_row"),
    (Defect::MatchesTheBeginning, "nobody_is_not_found"),
    (Defect::NamesPeopleInErrors, "no_message_names_a_person"),
    (Defect::NamesTheAccountByItsRows, "the_account_has_the_same_name_every_time"),
    (Defect::NamesTheAccountOnError, "a_failed_probe_names_no_account"),
    (Defect::NeverBlanks, "null_blanks_a_field_out"),
    (Defect::NeverLooks, "a_repeat_after_a_lost_answer_makes_no_second_row"),
    (Defect::NeverLooks, "a_repeat_makes_no_second_row"),
    (Defect::ObservesInItsOwnOrder, "each_place_has_one_observation_in_its_order"),
    (Defect::ObservesTheTitleOnly, "what_was_put_is_what_is_observed"),
    (Defect::OnlyUpdatesKnownRows, "a_row_that_somebody_removed_is_made_again"),
    (Defect::PassesWordsOnInFull, "long_words_of_the_target_are_shortened"),
    (Defect::RemembersARefusedKey, "refused_credentials_are_unauthorized_until_they_are_taken_again"),
    (Defect::RemovesRowsOfOthers, "rows_of_others_are_listed_as_theirs_and_left_alone"),
    (Defect::RepeatsTheLastRowOfAPage, "each_row_is_listed_once_over_all_pages"),
    (Defect::RetriesByItself, "a_failed_write_is_not_repeated_by_the_connector"),
    (Defect::SaysItNeedNotSettle, "a_target_that_need_not_settle_survives_a_late_commit"),
    (Defect::SearchesUnescaped, "a_value_cannot_widen_the_search"),
    (Defect::SpoilsTheNeighbours, "a_refused_change_does_not_spoil_its_neighbours"),
    (Defect::SwallowsRefusals, "a_refusal_is_rejected_with_its_status"),
    (Defect::SwallowsRefusals, "a_refused_change_does_not_spoil_its_neighbours"),
    (Defect::TakesAnyBodyForAReceipt, "an_answer_that_nobody_can_read_is_no_receipt"),
    (Defect::TakesAnyObject, "an_object_that_does_not_exist_is_refused_with_those_that_do"),
    (Defect::TrustsRowIds, "a_row_of_somebody_else_is_never_touched"),
    (Defect::WithdrawsAnyRow, "a_row_of_somebody_else_is_not_withdrawn"),
    (Defect::WithdrawsNothing, "a_withdrawal_removes_exactly_our_row"),
    (Defect::WritesAfterAFailedLook, "a_look_before_a_write_that_fails_writes_nothing"),
];

const CLAIMS: &[Claim] = &[Claim::People, Claim::ReadBack, Claim::Withdraw, Claim::List];

async fn report_on(defect: Option<Defect>) -> Report {
    run(&Tiny { defect, claims: CLAIMS }, Arc::new(Target::start().await)).await
}

#[tokio::test]
async fn a_healthy_connector_passes_all_that_it_claims() {
    let report = report_on(None).await;
    println!("{report}");
    report.assert_passed();
    let skipped: Vec<&str> = report
        .checks
        .iter()
        .filter(|check| matches!(check.verdict, Verdict::Skipped(_)))
        .map(|check| check.name)
        .collect();
    assert_eq!(skipped, ["a_target_that_need_not_settle_survives_a_late_commit"], "it says that it must settle");
}

#[tokio::test]
async fn each_defect_is_caught_by_the_check_of_its_rule() {
    let defects: BTreeSet<Defect> = DEFECTS.iter().map(|(defect, _)| *defect).collect();
    let runs = defects.into_iter().map(|defect| async move { (defect, report_on(Some(defect)).await) });
    let reports: BTreeMap<Defect, Report> = join_all(runs).await.into_iter().collect();
    for (defect, rule) in DEFECTS {
        let failed = reports[defect].failed();
        assert!(failed.contains(rule), "{defect:?} is not caught by {rule}, but by {failed:?}");
    }
}

#[test]
fn no_check_is_without_a_defect_that_it_catches() {
    let caught: BTreeSet<&str> = DEFECTS.iter().map(|(_, rule)| *rule).collect();
    let never: Vec<&str> = check_names().into_iter().filter(|name| !caught.contains(name)).collect();
    assert!(never.is_empty(), "never seen to fail: {never:#?}");
}

#[tokio::test]
async fn what_is_not_claimed_is_skipped_and_the_rest_is_checked() {
    for claims in [&[][..], &[Claim::UpsertByMark][..], &[Claim::List][..]] {
        let report = run(&Tiny { defect: None, claims }, Arc::new(Target::start().await)).await;
        report.assert_passed();
        for check in &report.checks {
            let is_claimed = check.claims.is_empty() || check.claims.iter().any(|claim| claims.contains(claim));
            let is_unclaimed = check.verdict == Verdict::Skipped("not claimed".to_owned());
            assert_eq!(is_unclaimed, !is_claimed, "{}: {:?}", check.name, check.verdict);
        }
    }
}

#[tokio::test]
async fn what_needs_the_proxy_is_skipped_where_the_connector_passes_it_by_and_the_rest_is_checked() {
    let target = Target::start().await.that_denies_http();
    // A proxy that sees nothing would let it pass, too: all that it injects or counts must say that it was not looked at.
    let defect = Some(Defect::AsksForEmptyBatches);
    let report = run(&Tiny { defect, claims: CLAIMS }, Arc::new(target)).await;
    report.assert_passed();
    let is_unseen =
        |name: &str| matches!(report.verdict(name), Some(Verdict::Skipped(why)) if why.contains("speaks no HTTP"));
    let unseen: Vec<&str> = check_names().into_iter().filter(|name| is_unseen(name)).collect();
    for name in
        ["an_empty_batch_asks_nobody", "a_lost_answer_leaves_a_write_unknown", "a_failed_probe_names_no_account"]
    {
        assert!(unseen.contains(&name), "{name} is not among {unseen:#?}");
    }
    assert_eq!(unseen.len(), 28, "{unseen:#?}");
    for name in
        ["an_unreachable_target_is_unavailable", "what_was_put_is_what_is_observed", "a_repeat_makes_no_second_row"]
    {
        assert_eq!(report.verdict(name), Some(&Verdict::Passed), "{name}");
    }
}

#[tokio::test]
async fn a_report_does_not_repeat_the_secret_that_it_found() {
    let report = report_on(Some(Defect::LeaksTheToken)).await;
    assert!(report.failed().contains(&"no_message_holds_a_secret"));
    assert!(!report.to_string().contains(TOKEN), "{report}");
}

#[tokio::test]
async fn a_page_that_shows_another_standing_is_noticed() {
    let report = report_on(None).await;
    let page = conformance_table(std::slice::from_ref(&report));
    report.assert_shown_in(&page);
    let other = page.replace("| tiny | passed", "| tiny | skipped");
    let told = std::panic::catch_unwind(|| report.assert_shown_in(&other)).expect_err("the page is not right");
    let words = told.downcast_ref::<String>().expect("a panic in words");
    assert!(words.contains("| tiny | passed | passed | skipped | passed | passed | passed |"), "{words}");
}

#[tokio::test]
async fn the_table_says_of_each_claim_how_it_stands() {
    let reports = [report_on(None).await, report_on(Some(Defect::WithdrawsNothing)).await];
    let table = conformance_table(&reports);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "| connector | every connector | people | upsert_by_mark | read_back | withdraw | list |");
    assert_eq!(lines[2], "| tiny | passed | passed | skipped | passed | passed | passed |");
    assert_eq!(lines[3], "| tiny | passed | passed | skipped | passed | FAILED | passed |");
}
