//! Golden texts of `status` for three installations: all is well, things wait, things are broken.

use chrono::{Datelike, Timelike};

use super::*;
use crate::domain::health::{HealthDay, Tally};
use crate::domain::lane::{Lane, LmsUse};
use crate::domain::rhythm::Hour;
use crate::store::SweepCounts;
use crate::store::VerifyCounts;
use crate::store::view::runs::RunLine;
use crate::store::view::{DestinationStatus, PortalStatus, RunView, Status, WaitView};

/// Most lines of a screen.
const LINES_MAX: usize = 24;

fn destination(name: &str, connector: &str, there: i64) -> DestinationStatus {
    DestinationStatus {
        name: name.to_owned(),
        connector: connector.to_owned(),
        state: "active".to_owned(),
        pause_cause: None,
        paused_until: None,
        deliveries: vec![("settled".to_owned(), there)],
        causes: Vec::new(),
        waits: Vec::new(),
        oldest_wanted_at: None,
        verified: None,
    }
}

fn wait(state: DeliveryState, cause: Option<Cause>, count: i64, oldest_wanted_at: Timestamp) -> WaitView {
    WaitView {
        state: state.as_str().to_owned(),
        cause: cause.map(|cause| cause.word()),
        count,
        oldest_wanted_at,
        next_due_at: (state == DeliveryState::Pending).then(|| at(9, 30, 5)),
        example: Some(ID.to_owned()),
    }
}

fn waiting(mut destination: DestinationStatus, waits: Vec<WaitView>) -> DestinationStatus {
    for wait in &waits {
        match destination.deliveries.iter_mut().find(|(state, _)| *state == wait.state) {
            Some((_, count)) => *count += wait.count,
            None => destination.deliveries.push((wait.state.clone(), wait.count)),
        }
    }
    let is_open = |wait: &&WaitView| matches!(wait.state.as_str(), "pending" | "uncertain");
    destination.oldest_wanted_at = waits.iter().filter(is_open).map(|wait| wait.oldest_wanted_at).min();
    destination.waits = waits;
    destination
}

fn healthy(kind: &str, days_ago: i64, announced: i64, missed: i64) -> HealthDay {
    let mut tally = Tally { announced, missed, delay_max_ms: Some(4 * 3_600_000 + 60_000), ..Tally::default() };
    // All but one within 5 s.
    (tally.delays[2], tally.delays[11]) = (announced - 1, 1);
    HealthDay { day: NOW.plus_ms(-days_ago * DAY).utc().date_naive(), kind: kind.to_owned(), tally }
}

/// Webhooks in every minute of four weeks' office hours.
fn office_hours() -> Vec<Hour> {
    let first = NOW.plus_ms(-28 * DAY).0 / 3_600_000;
    let local = |hour: i64| Timestamp(hour * 3_600_000).utc().with_timezone(&Tz::Europe__Berlin);
    let is_open =
        |hour: &i64| local(*hour).weekday().num_days_from_monday() < 5 && (8..18).contains(&local(*hour).hour());
    (first..=NOW.0 / 3_600_000).filter(is_open).map(|hour| Hour { hour, minutes: 60 }).collect()
}

fn well() -> Status {
    Status {
        installation: "acme".to_owned(),
        epoch: 12,
        started_at: NOW.plus_ms(-6 * DAY),
        pid: 4711,
        events: 18_204,
        events_waiting: 0,
        last_event_at: Some(at(9, 28, 11)),
        dirty: Vec::new(),
        unknown_users: 0,
        promises: vec![("kept".to_owned(), 17_900)],
        records: vec![
            ("certificate".to_owned(), 3_120),
            ("competency".to_owned(), 412),
            ("completion".to_owned(), 41_877),
        ],
        last_sweep_at: Some(at(2, 15, 0)),
        sweeps: vec![RunView {
            portal: "main".to_owned(),
            state: "done".to_owned(),
            started_at: at(2, 15, 0),
            finished_at: Some(at(2, 27, 0)),
            counts: SweepCounts {
                learners: 5_204,
                total_first: Some(5_204),
                total_last: Some(5_204),
                departments: None,
            },
        }],
        portals: vec![PortalStatus {
            name: "main".to_owned(),
            rests_until: None,
            rest_cause: None,
            last_read_at: Some(at(9, 28, 12)),
            logins: vec![at(9, 1, 0).0],
            asked_until: None,
            budget_use: Some(LmsUse {
                until: at(9, 28, 0),
                calls_per_second_max: 50,
                calls: vec![(Lane::Live, 300), (Lane::Retry, 20), (Lane::Sweep, 2_080), (Lane::Backfill, 10_000)],
                throttled: 0,
            }),
            contests: 0,
            contested_at: None,
            grant_obtained_at: None,
            grant_ends_at: None,
            health: vec![
                healthy("certificate", 0, 988, 0),
                // Eight days ago: told no more.
                healthy("completion", 7, 1, 300),
                healthy("completion", 6, 1_101, 12),
                healthy("completion", 0, 12, 0),
            ],
            last_webhook_at: Some(at(9, 28, 0)),
            hours: office_hours(),
        }],
        destinations: vec![
            destination("crm", "salesforce", 44_997),
            destination("hr", "bamboohr", 45_409),
            destination("news", "chat", 288),
        ],
    }
}

fn all_configured() -> Given {
    let file = "/etc/learnsync/destinations.d/crm.toml".to_owned();
    let crm = Configured { name: "crm".to_owned(), connector: "salesforce".to_owned(), file, ..hr() };
    Given { destinations: vec![crm, hr(), chat()], ..given() }
}

fn things_wait() -> Status {
    let parked = |cause, count, oldest| wait(DeliveryState::Parked, Some(cause), count, oldest);
    let mapped = Cause::Unmapped { kind: "training_type".to_owned(), course: "Fire Safety".to_owned() };
    let mut status = well();
    status.events_waiting = 1;
    status.dirty = vec![("live".to_owned(), 3), ("sweep".to_owned(), 40)];
    status.promises.push(("expired".to_owned(), 21));
    let yesterday = NOW.plus_ms(-DAY);
    status.destinations = vec![
        waiting(destination("crm", "salesforce", 44_000), vec![parked(Cause::Unmatched, 9, yesterday)]),
        waiting(
            destination("hr", "bamboohr", 45_000),
            vec![
                wait(DeliveryState::Pending, None, 14, at(9, 29, 0)),
                wait(DeliveryState::Uncertain, None, 1, at(9, 29, 0)),
                parked(Cause::Unmatched, 3, NOW.plus_ms(-3 * DAY)),
                parked(mapped, 212, yesterday),
                parked(Cause::Rejected, 1, at(8, 2, 0)),
                wait(DeliveryState::Skipped, Some(Cause::BeforeStart), 3_000, yesterday),
            ],
        ),
        DestinationStatus {
            state: "paused".to_owned(),
            pause_cause: Some("throttled".to_owned()),
            paused_until: Some(at(9, 42, 0)),
            ..waiting(destination("news", "chat", 288), vec![wait(DeliveryState::Pending, None, 2, at(9, 29, 0))])
        },
    ];
    status
}

fn things_are_broken() -> Status {
    let mut status = well();
    status.last_event_at = None;
    status.events = 0;
    status.portals[0].rests_until = Some(at(9, 33, 0));
    status.portals[0].rest_cause = Some("unauthorized".to_owned());
    (status.portals[0].health, status.portals[0].hours, status.portals[0].last_webhook_at) = Default::default();
    status.sweeps[0].state = "failed".to_owned();
    status.destinations = vec![
        destination("crm", "salesforce", 44_000),
        DestinationStatus {
            state: "paused".to_owned(),
            pause_cause: Some("unauthorized".to_owned()),
            paused_until: Some(at(9, 44, 0)),
            ..waiting(destination("hr", "bamboohr", 45_000), vec![wait(DeliveryState::Pending, None, 80, at(7, 0, 0))])
        },
        DestinationStatus {
            state: "paused".to_owned(),
            pause_cause: Some("account_changed".to_owned()),
            ..destination("news", "chat", 288)
        },
    ];
    status
}

pub(super) fn screens() -> Vec<(&'static str, Status, Given)> {
    let mut broken = all_configured();
    broken.is_running = Some(false);
    broken.destinations[0].wrong = Some("crm.toml:2:11: destinations.crm.history: \"al\" is not a history".to_owned());
    vec![
        ("status-all-well", well(), all_configured()),
        ("status-things-wait", things_wait(), all_configured()),
        ("status-things-are-broken", things_are_broken(), broken),
    ]
}

/// A verify of hr, last night.
fn verified(state: &str, cause: Option<&str>, counts: VerifyCounts) -> RunLine {
    RunLine {
        id: 12,
        kind: "verify".to_owned(),
        of: "hr".to_owned(),
        state: state.to_owned(),
        cause: cause.map(str::to_owned),
        started_at: at(2, 17, 0),
        finished_at: None,
        phase: None,
        verify: Some(counts),
        counts: None,
    }
}

#[test]
fn what_was_found_when_hr_was_read_back_is_told_with_what_helps() {
    let told = |run: RunLine| {
        let mut status = well();
        status.destinations[1].verified = Some(run);
        let screen = overview(&status, 0, &all_configured());
        let line = screen.destinations.into_iter().nth(1).expect("hr is told");
        (line.words, line.help.map(|help| help.what))
    };
    let counts = |to_write, differing| VerifyCounts { to_write, differing, ..VerifyCounts::default() };
    let check = |run: RunLine, words: &str, helps: Option<&str>| {
        let (said, help) = told(run);
        assert!(said.contains(words), "{said}");
        assert_eq!(help.as_deref(), helps);
    };
    check(verified("done", None, counts(0, 0)), "Read back on 3 March 2026, 02:17: all as it should be.", None);
    check(verified("done", None, counts(14, 0)), "02:17: 14 written again.", None);
    check(verified("done", None, counts(0, 3)), "02:17: 3 not as we wrote them (`runs show 12`).", None);
    let because = "11 rows would be removed, the limit is 10 (guard.withdrawn_rows_max)";
    check(
        verified("held", Some(because), counts(11, 0)),
        "What was found on 3 March 2026, 02:17 is held by the guard: 11 rows would be removed",
        Some("look at it with `learnsync runs show 12`; `learnsync approve 12` lets it go on."),
    );
}

#[test]
fn three_installations_have_their_golden_screen_of_at_most_24_lines() {
    let mut differences = Vec::new();
    for (name, status, given) in screens() {
        let today = if status.last_event_at.is_some() { 204 } else { 0 };
        let screen = render_overview(&overview(&status, today, &given), &given, Paint::Plain);
        is_golden(name, &screen, &mut differences);
        assert!(screen.lines().count() <= LINES_MAX, "{name} has {} lines:\n{screen}", screen.lines().count());
    }
    assert!(differences.is_empty(), "{} differ:\n\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn only_what_a_person_can_help_needs_a_person() {
    let needs = |status: &Status| overview(status, 0, &all_configured()).needs_a_person;
    assert!(!needs(&well()));
    assert!(needs(&things_wait()));
    assert!(needs(&things_are_broken()));
    let mut by_themselves = well();
    by_themselves.destinations[1] = waiting(
        destination("hr", "bamboohr", 1),
        vec![
            wait(DeliveryState::Pending, None, 14, at(9, 29, 0)),
            wait(DeliveryState::Parked, Some(Cause::Vanished), 2, at(8, 0, 0)),
            wait(DeliveryState::Skipped, Some(Cause::MaybeLost), 2, at(8, 0, 0)),
        ],
    );
    by_themselves.destinations[2].state = "paused".to_owned();
    by_themselves.destinations[2].pause_cause = Some("throttled".to_owned());
    by_themselves.destinations[2].paused_until = Some(at(9, 42, 0));
    assert!(!needs(&by_themselves), "what ends by itself needs nobody");
    let mut silent = well();
    silent.destinations[1] =
        waiting(destination("hr", "bamboohr", 1), vec![wait(DeliveryState::Pending, None, 1, at(8, 0, 0))]);
    assert!(needs(&silent), "what waits for more than an hour does");
    let mut missed = well();
    missed.sweeps[0].started_at = NOW.plus_ms(-2 * DAY);
    assert!(needs(&missed), "and so does a missed night");
    let stopped = Given { is_running: Some(false), ..all_configured() };
    assert!(overview(&well(), 0, &stopped).needs_a_person);
}

#[test]
fn a_silence_that_the_rhythm_of_the_weeks_does_not_explain_is_told_with_what_helps() {
    let told = |now: Timestamp, is_running| {
        let given = Given { now, is_running, ..all_configured() };
        let lines = overview(&well(), 0, &given).lines;
        lines.into_iter().find(|line| line.subject == "Webhooks").map(|line| (line.words, line.help))
    };
    let (words, help) = told(at(9, 40, 0), Some(true)).expect("health is told");
    assert_eq!(help, None, "twelve minutes: {words}");
    assert_eq!(words, "7 days: 2,101 of 2,113 records announced (99.4 %); half within 5 s, the slowest 4 h.");
    let (words, help) = told(at(11, 30, 0), Some(true)).expect("both are told");
    let wanted = "None came since 3 March 2026, 09:28, which is unusual: by the last 4 weeks there should have been some in about 122 \
                  minutes. 7 days:";
    assert!(words.starts_with(wanted), "{words}");
    assert_eq!(help.map(|help| help.who), Some(Who::LmsAdministrator));
    let (_, help) = told(at(11, 30, 0), Some(false)).expect("health is told");
    assert_eq!(help, None, "nobody listens");
}

#[test]
fn a_kind_that_no_webhook_ever_announced_is_named() {
    let mut status = well();
    status.portals[0].health.push(healthy("credit_award", 1, 0, 40));
    status.portals[0].health.push(healthy("competency", 1, 0, 9));
    let lines = overview(&status, 0, &all_configured()).lines;
    let line = lines.into_iter().find(|line| line.subject == "Webhooks").expect("health is told");
    assert!(
        line.words
            .ends_with("(97.1 %); half within 5 s, the slowest 4 h. No credit award was: is that webhook switched on?"),
        "{}",
        line.words
    );
    assert_eq!(line.help, None, "who does not want them need not have them");
}

#[test]
fn a_login_that_ends_soon_or_is_contested_is_told_with_what_helps() {
    let login = |change: fn(&mut PortalStatus)| {
        let mut status = well();
        change(&mut status.portals[0]);
        let screen = overview(&status, 0, &all_configured());
        let line = screen.lines.into_iter().find(|line| line.subject == "Login main");
        line.map(|line| (line.words, line.help.map(|help| help.what)))
    };
    assert_eq!(login(|_| {}), None);
    let (words, help) = login(|portal| {
        portal.grant_obtained_at = Some(NOW.plus_ms(-79 * DAY));
        portal.grant_ends_at = Some(NOW.plus_ms(21 * DAY));
    })
    .expect("an OAuth login is told");
    assert!(words.starts_with("By OAuth, ends on") && help.is_none(), "{words}");
    let (_, help) = login(|portal| {
        portal.grant_obtained_at = Some(NOW.plus_ms(-80 * DAY));
        portal.grant_ends_at = Some(NOW.plus_ms(20 * DAY));
    })
    .expect("an OAuth login is told");
    assert_eq!(help.as_deref(), Some("log in again before: learnsync login main"));
    let (words, help) = login(|portal| {
        portal.contests = 3;
        portal.contested_at = Some(NOW.plus_ms(-DAY / 2));
    })
    .expect("a contest is told");
    assert!(words.starts_with("Another program logs in with the same account") && words.contains("3 times"), "{words}");
    assert_eq!(help.as_deref(), Some("give learnsync an account of its own in the LMS."));
    assert_eq!(
        login(|portal| {
            portal.contests = 3;
            portal.contested_at = Some(NOW.plus_ms(-2 * DAY));
        }),
        None,
        "what was over yesterday needs nobody"
    );
}

#[test]
fn a_portal_without_a_login_says_which_command_helps() {
    let mut status = well();
    status.portals[0].rests_until = Some(at(9, 33, 0));
    status.portals[0].rest_cause = Some("login_needed".to_owned());
    let screen = overview(&status, 0, &all_configured());
    let line = screen.lines.iter().find(|line| line.subject == "LMS").expect("the portal has a line");
    assert!(line.words.contains("nobody is logged in to it"), "{}", line.words);
    assert!(line.help.as_ref().is_some_and(|help| help.what.starts_with("`learnsync login main`")), "{line:?}");
}
