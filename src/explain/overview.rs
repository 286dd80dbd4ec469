//! The state of an installation on one screen: what came in, what waits and why, who is paused, what the last night did.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::Serialize;

use super::causes::{in_short, remedy};
use super::states::still;
use super::words::{counted, grouped, moment, short_span, soon, span};
use super::{Given, Help, PauseCause, Place, Standing, Who, next_night};
use crate::domain::delivery::{Cause, DeliveryState};
use crate::domain::health::{self, Tally};
use crate::domain::rhythm::Rhythm;
use crate::domain::time::{Timestamp, as_utc};
use crate::store::LOGINS_PER_HOUR_MAX;
use crate::store::view::{DestinationStatus, PlaceView, PortalStatus, Status};

/// What waits for so long, though nothing is paused, needs eyes.
const LONG_MS: i64 = 3_600_000;

/// A night that is so long ago was missed.
const NIGHT_MS: i64 = 26 * 3_600_000;

const HOUR_MS: i64 = 3_600_000;

const DAY_MS: i64 = 24 * HOUR_MS;

/// Of how many days webhook health is told, today included.
const HEALTH_DAYS: i64 = 7;

/// So many records of a kind without any webhook are no accident.
const NEVER_ANNOUNCED_MIN: i64 = 10;

/// From this part of its life on, in percent, the end of a login is told; as the daemon's log does.
const LOGIN_ALARM_PERCENT: i64 = 80;

/// One line, and whether it is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What it is about.
    pub subject: String,
    /// What is to be said.
    pub words: String,
    /// What helps, if something needs a person.
    pub help: Option<Help>,
}

/// Deliveries of all destinations that wait for the same thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// How many.
    pub count: i64,
    /// Where.
    pub destinations: Vec<String>,
    /// Why, in the word of the ledger.
    pub cause: String,
    /// Why, in words.
    pub why: String,
    /// Since when the oldest is wanted.
    #[serde(serialize_with = "as_utc")]
    pub oldest_wanted_at: Timestamp,
    /// The same in words.
    pub since: String,
    /// Who helps, and how.
    pub help: Help,
    /// A learner whose record waits so: `learnsync explain` tells all of it.
    pub learner: Option<String>,
}

/// One screen.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// Whether something needs a person.
    pub needs_a_person: bool,
    /// The daemon, what came in, the LMS, the last night, the records.
    pub lines: Vec<Line>,
    /// The destinations.
    pub destinations: Vec<Line>,
    /// What is set aside, grouped by cause; what needs a person first.
    pub waits: Vec<Wait>,
}

/// An installation's state on one screen.
#[must_use]
pub fn overview(status: &Status, events_today: i64, given: &Given) -> Overview {
    let mut lines = vec![daemon(status, given), came_in(status, events_today, given)];
    lines.extend(status.portals.iter().filter_map(|portal| webhooks(portal, status.portals.len() > 1, given)));
    lines.extend(status.portals.iter().map(|portal| lms(portal, status.portals.len() > 1, given)));
    lines.extend(status.portals.iter().filter_map(|portal| budget(portal, status.portals.len() > 1, given)));
    lines.extend(status.portals.iter().filter_map(|portal| login(portal, given)));
    lines.push(night(status, given));
    lines.push(line("Records", records(status)));
    let destinations = destinations(status, given);
    let waits = waits(status, given);
    let needs_a_person = lines.iter().chain(&destinations).any(|line| line.help.is_some())
        || waits.iter().any(|wait| wait.help.who != Who::Nobody);
    Overview { needs_a_person, lines, destinations, waits }
}

fn line(subject: &str, words: String) -> Line {
    Line { subject: subject.to_owned(), words, help: None }
}

fn daemon(status: &Status, given: &Given) -> Line {
    let since = moment(status.started_at, given.zone);
    let name = &status.installation;
    match given.is_running {
        Some(true) => line("learnsync", format!("\"{name}\" runs since {since} (process {}).", status.pid)),
        None => line("learnsync", format!("\"{name}\" was last started on {since} (process {}).", status.pid)),
        Some(false) => Line {
            help: Some(Help::by(Who::Administrator, "start learnsync, and read its log for why it stopped.")),
            ..line("learnsync", format!("\"{name}\" is not running; it was last started on {since}."))
        },
    }
}

fn came_in(status: &Status, events_today: i64, given: &Given) -> Line {
    let last = match status.last_event_at {
        Some(at) => format!(", the last on {}", moment(at, given.zone)),
        None => "; none ever came".to_owned(),
    };
    let mut words = format!("{} today{last}.", counted(events_today, "webhook", "webhooks"));
    if status.events_waiting > 0 {
        words += &format!(" {} to be looked at.", counted(status.events_waiting, "is still", "are still"));
    }
    let dirty: i64 = status.dirty.iter().map(|(_, count)| count).sum();
    if dirty > 0 {
        words += &format!(" {} to be read from the LMS.", counted(dirty, "learner is", "learners are"));
    }
    let promises: BTreeMap<&str, i64> = status.promises.iter().map(|(state, count)| (state.as_str(), *count)).collect();
    if let Some(expired) = promises.get("expired") {
        words += &format!(" {} told of what the LMS did not show.", counted(*expired, "webhook", "webhooks"));
    }
    line("Came in", words)
}

/// Whether webhooks come as they usually do, and which part they announced of what they should have.
fn webhooks(portal: &PortalStatus, has_others: bool, given: &Given) -> Option<Line> {
    let subject = if has_others { format!("Webhooks {}", portal.name) } else { "Webhooks".to_owned() };
    let silence = silence(portal, given);
    let health = health(portal, given);
    let words: Vec<&str> = silence.iter().chain(&health).map(String::as_str).collect();
    let help = silence.is_some().then(|| {
        let what = "see in the LMS that the webhooks are still active and call this address; their Test button tells. The night finds what \
                    they miss.";
        Help::by(Who::LmsAdministrator, what)
    });
    (!words.is_empty()).then(|| Line { help, ..line(&subject, words.join(" ")) })
}

/// That none comes although some should, by the rhythm of the last weeks.
fn silence(portal: &PortalStatus, given: &Given) -> Option<String> {
    // While nobody listens, nobody can hear.
    let last = portal.last_webhook_at.filter(|_| given.is_running != Some(false))?;
    let rhythm = Rhythm::learn(&portal.hours, last, given.zone)?;
    rhythm.is_unusual(last, given.now).then(|| {
        #[expect(clippy::cast_possible_truncation, reason = "minutes since the last webhook")]
        let minutes = rhythm.usual_minutes(last, given.now).round() as i64;
        format!(
            "None came since {}, which is unusual: by the last {} weeks there should have been some in about {}.",
            moment(last, given.zone),
            rhythm.weeks(),
            counted(minutes, "minute", "minutes")
        )
    })
}

/// Which part of what webhooks should have announced in the last days they did, and how soon.
fn health(portal: &PortalStatus, given: &Given) -> Option<String> {
    let first = given.now.plus_ms(-(HEALTH_DAYS - 1) * DAY_MS).utc().date_naive();
    let sum = health::since(&portal.health, first);
    if sum.found() == 0 {
        return None;
    }
    // Rounded down: as long as one is missing it is not all.
    let per_mille = sum.announced * 1_000 / sum.found();
    let mut words = format!(
        "{HEALTH_DAYS} days: {} of {} records announced ({}.{} %)",
        grouped(sum.announced),
        grouped(sum.found()),
        per_mille / 10,
        per_mille % 10
    );
    if let Some(half) = sum.half_within_ms() {
        words += &format!("; half within {}", short_span(half));
    }
    if let Some(slowest) = sum.delay_max_ms {
        words += &format!(", the slowest {}", short_span(slowest));
    }
    words.push('.');
    for kind in never_announced(portal, first) {
        words += &format!(" No {} was: is that webhook switched on?", kind.replace('_', " "));
    }
    Some(words)
}

/// Kinds of which webhooks announced none, and should have announced many.
fn never_announced(portal: &PortalStatus, first: NaiveDate) -> Vec<&str> {
    let mut kinds: BTreeMap<&str, Tally> = BTreeMap::new();
    for day in portal.health.iter().filter(|day| day.day >= first) {
        kinds.entry(&day.kind).or_default().merge(&day.tally);
    }
    let is_never = |tally: &Tally| tally.announced == 0 && tally.missed >= NEVER_ANNOUNCED_MIN;
    kinds.into_iter().filter(|(_, tally)| is_never(tally)).map(|(kind, _)| kind).collect()
}

fn lms(portal: &PortalStatus, has_others: bool, given: &Given) -> Line {
    let subject = if has_others { format!("LMS {}", portal.name) } else { "LMS".to_owned() };
    let read = match portal.last_read_at {
        Some(at) => format!("a learner was last read on {}", moment(at, given.zone)),
        None => "nobody was read yet".to_owned(),
    };
    let logins = portal.logins.iter().filter(|at| given.now.0 - **at < HOUR_MS).count();
    let logins = match logins {
        0 => String::new(),
        _ => format!("; {logins} of {LOGINS_PER_HOUR_MAX} logins used in this hour"),
    };
    let rest = portal.rests_until.filter(|until| *until > given.now);
    let (Some(until), cause) = (rest, portal.rest_cause.as_deref()) else {
        return line(&subject, format!("It is asked when needed; {read}{logins}."));
    };
    let when = soon(until, given.now, given.zone);
    let (why, help) = match cause {
        Some("login_limit" | "unauthorized") if is_contested(portal, given) => (CONTESTED, Some(contest_help())),
        Some("unauthorized") => (
            "it refuses our login",
            Some(Help::by(
                Who::Administrator,
                "renew the portal's password or API key; `learnsync check --online` tries it.",
            )),
        ),
        Some("login_limit") => (
            "four logins an hour are the limit, so that the account is not locked",
            Some(Help::by(Who::Administrator, "see that no other program uses the same LMS account.")),
        ),
        Some("login_needed") => (
            "nobody is logged in to it",
            Some(Help::by(
                Who::Administrator,
                format!("`learnsync login {}`, as the portal's administrator.", portal.name),
            )),
        ),
        Some("throttled") => ("it asked us to wait", None),
        Some(_) | None => ("it did not answer", None),
    };
    Line {
        help,
        ..line(&subject, format!("It is left alone, because {why}; asked again {when}. Before, {read}{logins}."))
    }
}

const CONTESTED: &str = "another program logs in with the same account, and each login ends the other's session";

fn contest_help() -> Help {
    Help::by(Who::Administrator, "give learnsync an account of its own in the LMS.")
}

/// Whether another program ended our session within the last day.
fn is_contested(portal: &PortalStatus, given: &Given) -> bool {
    portal.contested_at.is_some_and(|at| given.now.0 - at.0 < DAY_MS)
}

/// Who used the budget of calls, in the last hour in which there were any.
fn budget(portal: &PortalStatus, has_others: bool, given: &Given) -> Option<Line> {
    let used = portal.budget_use.as_ref()?;
    let many = |count: u64| grouped(i64::try_from(count).unwrap_or(i64::MAX));
    let all: u64 = used.calls.iter().map(|(_, calls)| calls).sum();
    let lanes: Vec<String> =
        used.calls.iter().map(|(lane, calls)| format!("{} {}", lane.as_str(), many(*calls))).collect();
    let hour = match given.now.0 - used.until.0 < HOUR_MS {
        true => "last hour".to_owned(),
        false => format!("in the hour until {}", moment(used.until, given.zone)),
    };
    let subject = if has_others { format!("LMS calls {}", portal.name) } else { "LMS calls".to_owned() };
    let asked = portal.asked_until.filter(|until| *until > given.now);
    let asked = asked.map(|until| format!("; none before {}, as the LMS asked", moment(until, given.zone)));
    Some(line(
        &subject,
        format!(
            "{}/s; {hour} {}: {}; {} throttled{}.",
            used.calls_per_second_max,
            many(all),
            lanes.join(", "),
            many(used.throttled),
            asked.unwrap_or_default()
        ),
    ))
}

/// What a person should know of how we log in: that somebody else uses the account, or that the login ends.
fn login(portal: &PortalStatus, given: &Given) -> Option<Line> {
    let subject = format!("Login {}", portal.name);
    if is_contested(portal, given) {
        let last = portal.contested_at.map(|at| moment(at, given.zone)).unwrap_or_default();
        let times = counted(portal.contests, "time", "times");
        let mut words = CONTESTED.to_owned();
        words.replace_range(..1, "A");
        return Some(Line {
            help: Some(contest_help()),
            ..line(&subject, format!("{words}: {times}, last on {last}."))
        });
    }
    let (obtained_at, ends_at) = (portal.grant_obtained_at?, portal.grant_ends_at?);
    let words = format!("By OAuth, ends on {}.", moment(ends_at, given.zone));
    let is_near = given.now.0 - obtained_at.0 >= (ends_at.0 - obtained_at.0) / 100 * LOGIN_ALARM_PERCENT;
    let help =
        is_near.then(|| Help::by(Who::Administrator, format!("log in again before: learnsync login {}", portal.name)));
    Some(Line { help, ..line(&subject, words) })
}

fn night(status: &Status, given: &Given) -> Line {
    let next = next_night(given);
    let overdue = |since: Timestamp| given.now.0 - since.0 > NIGHT_MS;
    let missed = Help::by(Who::Administrator, "read the log for why; `learnsync reconcile` makes up for it at once.");
    let Some(run) = status.sweeps.first() else {
        let help = overdue(status.started_at).then_some(missed);
        return Line { help, ..line("Last night", format!("The LMS was not read from end to end yet; next {next}.")) };
    };
    let began = moment(run.started_at, given.zone);
    let learners = counted(i64::try_from(run.counts.learners).unwrap_or(i64::MAX), "learner", "learners");
    let (words, is_wrong) = match (run.state.as_str(), run.finished_at) {
        ("done", Some(finished)) => {
            let took = span(finished.0 - run.started_at.0);
            (format!("Began on {began}, took {took}, {learners} to read again; next {next}."), overdue(run.started_at))
        }
        ("running", _) => {
            let of = run.counts.total_first.map(|total| format!(" of {}", grouped(i64::try_from(total).unwrap_or(0))));
            (format!("Goes on since {began}: {learners}{} so far.", of.unwrap_or_default()), overdue(run.started_at))
        }
        _ => (format!("Began on {began} and failed after {learners}; next {next}."), true),
    };
    Line { help: is_wrong.then_some(missed), ..line("Last night", words) }
}

fn records(status: &Status) -> String {
    if status.records.is_empty() {
        return "None yet.".to_owned();
    }
    let mut words: Vec<String> = status
        .records
        .iter()
        .map(|(kind, count)| {
            let many = if kind == "competency" { "competencies".to_owned() } else { format!("{kind}s") };
            counted(*count, kind, &many)
        })
        .collect();
    if status.unknown_users > 0 {
        words.push(format!(
            "{} that webhooks named and the LMS does not know",
            counted(status.unknown_users, "learner", "learners")
        ));
    }
    format!("{}.", words.join(", "))
}

fn destinations(status: &Status, given: &Given) -> Vec<Line> {
    let mut lines: Vec<Line> =
        status.destinations.iter().map(|destination| destination_line(destination, given)).collect();
    let known = |name: &str| status.destinations.iter().any(|destination| destination.name == name);
    for configured in given.destinations.iter().filter(|configured| !known(&configured.name)) {
        let place = Place::of(&configured.name, None, given);
        let (why, help) = still(&place, given);
        lines.push(Line { help: Some(help), ..line(&place.label, format!("not written to, {why}")) });
    }
    lines
}

fn destination_line(destination: &DestinationStatus, given: &Given) -> Line {
    let ledger = PlaceView {
        name: destination.name.clone(),
        connector: destination.connector.clone(),
        state: destination.state.clone(),
        pause_cause: destination.pause_cause.clone(),
        paused_until: destination.paused_until,
        first_seen_at: Timestamp(0),
    };
    let place = Place::of(&destination.name, Some(&ledger), given);
    let read_back = read_back(destination, given);
    let counts = in_states(destination, given) + &read_back.words;
    let waiting = open(destination);
    if let (Standing::Active, Some(help)) = (&place.standing, read_back.help) {
        return Line { help: Some(help), ..line(&place.label, format!("{counts}.")) };
    }
    match &place.standing {
        Standing::Retired if waiting == 0 => {
            line(&place.label, format!("{counts}. In no configuration file any more: its rows stay."))
        }
        Standing::Retired | Standing::SwitchedOff(_) | Standing::NotStarted | Standing::Shadow => {
            let (why, help) = still(&place, given);
            Line { help: Some(help), ..line(&place.label, format!("{counts}. Not written to, {why}")) }
        }
        Standing::Paused { cause, until } => {
            let (words, help) = pause_in_short(cause, *until, place.name, given);
            Line { help, ..line(&place.label, format!("{counts}. {words}")) }
        }
        Standing::Active => {
            let oldest = destination.oldest_wanted_at.filter(|at| waiting > 0 && given.now.0 - at.0 > LONG_MS);
            let Some(oldest) = oldest else { return line(&place.label, format!("{counts}.")) };
            let help = Help::by(
                Who::Administrator,
                format!("see what it answers: `learnsync destinations probe {}`.", destination.name),
            );
            let words = format!("{counts}. The oldest waits since {}.", moment(oldest, given.zone));
            Line { help: Some(help), ..line(&place.label, words) }
        }
    }
}

/// What was found when the destination was last read back; begins a sentence of its own.
fn read_back(destination: &DestinationStatus, given: &Given) -> Line {
    let Some(run) = &destination.verified else { return line("", String::new()) };
    let (id, at) = (run.id, moment(run.started_at, given.zone));
    let counts = run.verify.clone().unwrap_or_default();
    if let Some(cause) = run.cause.as_deref().filter(|_| run.state == "held") {
        let help = Help::by(
            Who::Administrator,
            format!("look at it with `learnsync runs show {id}`; `learnsync approve {id}` lets it go on."),
        );
        return Line {
            help: Some(help),
            ..line("", format!(". What was found on {at} is held by the guard: {cause}"))
        };
    }
    if run.state != "done" {
        let cause = run.cause.clone().unwrap_or_default();
        return line("", format!(". Read back on {at}, which failed: {cause}"));
    }
    let words = match (counts.to_write, counts.differing) {
        (0, 0) => format!(". Read back on {at}: all as it should be"),
        (again, 0) => format!(". Read back on {at}: {} written again", grouped_u64(again)),
        (0, differing) => {
            format!(". Read back on {at}: {} not as we wrote them (`runs show {id}`)", grouped_u64(differing))
        }
        (again, differing) => format!(
            ". Read back on {at}: {} written again, {} not as we wrote them (`runs show {id}`)",
            grouped_u64(again),
            grouped_u64(differing)
        ),
    };
    line("", words)
}

fn grouped_u64(number: u64) -> String {
    grouped(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Why a destination is paused, until when, and what ends it.
fn pause_in_short(cause: &PauseCause, until: Option<Timestamp>, name: &str, given: &Given) -> (String, Option<Help>) {
    let when = until.map_or_else(|| "when a person says so".to_owned(), |at| soon(at, given.now, given.zone));
    let by_you = |what: String| Some(Help::by(Who::Administrator, what));
    match cause {
        PauseCause::Throttled => (format!("Paused, because it asked us to wait; goes on {when}."), None),
        PauseCause::CircuitOpen => (format!("Paused, because it does not work; tried again {when}."), None),
        PauseCause::Unauthorized => (
            format!("Paused, because it refuses our key; tried again {when}."),
            by_you(format!(
                "renew its key, `systemctl restart learnsync`, and try it: learnsync destinations probe {name}"
            )),
        ),
        PauseCause::AccountChanged => (
            "Paused, because another account answers there.".to_owned(),
            by_you(format!("if that account is right: learnsync destinations rebase {name}")),
        ),
        PauseCause::Operator => (
            format!("Paused by a person; goes on {when}."),
            by_you(format!("when it may be written to: learnsync destinations resume {name}")),
        ),
        PauseCause::Restored => (format!("Left alone for a moment after a restore; goes on {when}."), None),
        PauseCause::Other(word) => (
            format!("Paused: {}; goes on {when}.", word.replace('_', " ")),
            by_you(format!("see what it waits for: learnsync destinations probe {name}")).filter(|_| until.is_none()),
        ),
    }
}

/// Deliveries that wait or are under way.
fn open(destination: &DestinationStatus) -> i64 {
    let is_open = |state: &str| matches!(state, "pending" | "sending" | "uncertain");
    destination.deliveries.iter().filter(|(state, _)| is_open(state)).map(|(_, count)| count).sum()
}

fn in_states(destination: &DestinationStatus, given: &Given) -> String {
    let count = |wanted: DeliveryState| {
        destination.deliveries.iter().filter(|(state, _)| state == wanted.as_str()).map(|(_, count)| count).sum::<i64>()
    };
    let mut words = Vec::new();
    for state in DeliveryState::ALL {
        let many = count(state);
        let what = match state {
            DeliveryState::Settled => "there",
            DeliveryState::Pending => "waiting",
            DeliveryState::Sending => "being written",
            DeliveryState::Uncertain => "to be looked up",
            DeliveryState::Parked => "set aside",
            DeliveryState::Skipped => "left out on purpose",
            DeliveryState::Superseded => "overtaken",
        };
        if many == 0 && state != DeliveryState::Settled {
            continue;
        }
        let next =
            destination.waits.iter().filter(|wait| wait.state == state.as_str()).filter_map(|wait| wait.next_due_at);
        // While a destination is paused, its pause says when it goes on.
        let next = next.min().filter(|_| destination.state == "active");
        let next = next.map(|at| format!(" (next {})", soon(at, given.now, given.zone))).unwrap_or_default();
        words.push((state, format!("{} {what}{next}", grouped(many))));
    }
    // What is there comes first.
    words.sort_by_key(|(state, _)| *state != DeliveryState::Settled);
    words.into_iter().map(|(_, words)| words).collect::<Vec<_>>().join(", ")
}

/// What is set aside, by cause over all destinations.
fn waits(status: &Status, given: &Given) -> Vec<Wait> {
    let mut by_cause: BTreeMap<&str, Wait> = BTreeMap::new();
    for destination in &status.destinations {
        for wait in destination.waits.iter().filter(|wait| wait.state == DeliveryState::Parked.as_str()) {
            let word = wait.cause.as_deref().unwrap_or_default();
            let cause = Cause::parse(word);
            let (who, what) = cause.as_ref().map_or((Who::Administrator, "see what it is"), remedy);
            let group = by_cause.entry(word).or_insert_with(|| Wait {
                count: 0,
                destinations: Vec::new(),
                cause: word.to_owned(),
                why: cause.as_ref().map_or_else(|| word.replace('_', " "), in_short),
                oldest_wanted_at: wait.oldest_wanted_at,
                since: String::new(),
                help: Help::by(who, what),
                learner: wait.example.clone(),
            });
            group.count += wait.count;
            group.destinations.push(destination.name.clone());
            if wait.oldest_wanted_at < group.oldest_wanted_at {
                group.oldest_wanted_at = wait.oldest_wanted_at;
                group.learner.clone_from(&wait.example);
            }
            group.since = moment(group.oldest_wanted_at, given.zone);
        }
    }
    let mut waits: Vec<Wait> = by_cause.into_values().collect();
    waits.sort_by_key(|wait| (wait.help.who == Who::Nobody, -wait.count, wait.cause.clone()));
    waits
}
