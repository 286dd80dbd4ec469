//! Where a delivery stands, state by state.

use learnsync_sdk::{AfterUnknown, BlindRepeat};

use super::causes::{of_cause, parked};
use super::words::{capital, counted, moment, name, soon, span};
use super::{Given, Help, PauseCause, Place, Said, Standing, Verdict, Who, next_night};
use crate::domain::delivery::{Cause, DeliveryState};
use crate::domain::time::Timestamp;
use crate::store::view::{AttemptView, DeliveryView, LearnerView, LinkView, RecordView};

/// A write takes at most two minutes; what is under way for longer than this is not under way any more.
const SENDING_MS_MAX: i64 = 150_000;

/// What is due and not tried for so long waits behind others, or for a daemon that does not work.
const OVERDUE_MS: i64 = 5 * 60_000;

/// What fails for so long needs eyes.
const LONG_MS: i64 = 3_600_000;

/// One delivery and all around it.
pub(super) struct Case<'a> {
    pub(super) learner: &'a LearnerView,
    pub(super) record: &'a RecordView,
    pub(super) delivery: &'a DeliveryView,
    pub(super) place: &'a Place<'a>,
    pub(super) given: &'a Given,
}

impl Case<'_> {
    pub(super) fn at(&self, at: Timestamp) -> String {
        moment(at, self.given.zone)
    }

    pub(super) fn soon(&self, at: Timestamp) -> String {
        soon(at, self.given.now, self.given.zone)
    }

    /// The destination's own name, for sentences that follow the headline.
    pub(super) fn label(&self) -> &str {
        self.place.name
    }

    /// The name with the connector's, for headlines.
    pub(super) fn full(&self) -> &str {
        &self.place.label
    }

    pub(super) fn name(&self) -> String {
        name(self.learner.learner.as_ref())
    }

    pub(super) fn link(&self) -> Option<&LinkView> {
        self.learner.links.iter().find(|link| link.destination == self.delivery.destination)
    }

    pub(super) fn last_attempt(&self) -> Option<&AttemptView> {
        self.delivery.attempts.last()
    }

    pub(super) fn is_append(&self) -> bool {
        let routes = self.place.configured.map(|configured| configured.routes.as_slice()).unwrap_or_default();
        routes.iter().any(|route| route.name == self.delivery.route && route.is_append)
    }

    /// The target's own words of the last attempt.
    pub(super) fn last_words(&self) -> Option<String> {
        self.last_attempt().map(|attempt| quoted(attempt.words.as_deref(), attempt.status))
    }

    /// `Not in hr: <why>`, or that what is there is older.
    pub(super) fn not_there(&self, why: &str) -> (Verdict, String) {
        match (&self.delivery.held_row, self.delivery.held_at) {
            (Some(row), Some(at)) => (
                Verdict::ThereButOlder,
                format!(
                    "In {} since {} (row {row}), but not yet as the LMS has it now: {why}.",
                    self.full(),
                    self.at(at)
                ),
            ),
            (Some(row), None) => (
                Verdict::ThereButOlder,
                format!("In {} (row {row}), but not yet as the LMS has it now: {why}.", self.full()),
            ),
            (None, _) => (Verdict::NotThere, format!("Not in {}: {why}.", self.full())),
        }
    }
}

/// `"words" (HTTP 400)`.
pub(super) fn quoted(words: Option<&str>, status: Option<i64>) -> String {
    let status = status.map(|status| format!(" (HTTP {status})")).unwrap_or_default();
    match words.map(str::trim).filter(|words| !words.is_empty()) {
        Some(words) => format!("\"{words}\"{status}"),
        None => format!("without a word{status}"),
    }
}

/// What is to be said of a delivery.
pub(super) fn said(case: &Case<'_>) -> Said {
    let Some(state) = DeliveryState::parse(&case.delivery.state) else { return of_another_version(case) };
    match state {
        DeliveryState::Settled => settled(case),
        DeliveryState::Pending => waiting(case),
        DeliveryState::Sending => sending(case),
        DeliveryState::Uncertain => uncertain(case),
        DeliveryState::Parked | DeliveryState::Skipped | DeliveryState::Superseded => parked(case),
    }
}

fn of_another_version(case: &Case<'_>) -> Said {
    let (verdict, headline) = case.not_there(&format!("its state is \"{}\"", case.delivery.state));
    Said {
        verdict,
        headline,
        because: "Another version of learnsync wrote that, and this one does not know the word.".to_owned(),
        since: None,
        next: "Only that version can tell.".to_owned(),
        next_at: None,
        help: Help::by(Who::Administrator, "ask the learnsync that runs, not an older one."),
    }
}

fn settled(case: &Case<'_>) -> Said {
    let delivery = case.delivery;
    let since = delivery.held_at.unwrap_or(delivery.wanted_at);
    let (label, full) = (case.label(), case.full());
    let proof = quoted(delivery.receipt.as_deref(), delivery.receipt_status);
    let Some(row) = &delivery.held_row else {
        return Said {
            verdict: Verdict::NotThere,
            headline: format!("No longer in {full}: it was removed there on {}.", case.at(since)),
            because: format!("The LMS no longer holds it, and {label} answered {proof}."),
            since: Some(since),
            next: "Nothing is left to do; if the LMS shows it again, it is written again.".to_owned(),
            next_at: None,
            help: Help::none(),
        };
    };
    let is_told = case.is_append();
    let mut said = Said {
        verdict: Verdict::There,
        headline: match is_told {
            true => format!("Told in {full} on {} (message {row}).", case.at(since)),
            false => format!("In {full} since {} (row {row}), as the LMS has it.", case.at(since)),
        },
        because: format!("{label} took it and answered {proof}."),
        since: Some(since),
        next: match is_told {
            true => "Nothing is left to do: what was told is told once, and not changed afterwards.".to_owned(),
            false => format!(
                "Nothing is left to do. The LMS is read again every night, next {}; a correction there is brought here.",
                next_night(case.given)
            ),
        },
        next_at: None,
        help: Help::none(),
    };
    match &case.place.standing {
        Standing::Active | Standing::Paused { .. } => {}
        Standing::Retired | Standing::SwitchedOff(_) | Standing::NotStarted | Standing::Shadow => {
            said.next = format!("What is there stays; but corrections do not reach {label}, {}", stillness(case).0);
            said.help = stillness(case).1;
            return said;
        }
    }
    if let Some(drift) = case.delivery.drift.as_ref().filter(|drift| drift.action != "none") {
        return super::drifted::said(case, drift, said);
    }
    if case.record.state != "present" && !is_told {
        let at = case.at(case.record.state_since);
        said.headline = format!("In {full} since {} (row {row}), but the LMS no longer shows it.", case.at(since));
        said.verdict = Verdict::ThereButOlder;
        said.because += &format!(" Since {at} the LMS no longer shows it.");
        said.next = format!(
            "It stays in {label}: what one reading of the LMS does not show is not removed, and what two complete ones do \
             not show only where gone = \"withdraw\" says so. The LMS is read again {}.",
            next_night(case.given)
        );
        said.help =
            Help::by(Who::Hr, format!("if it was really taken back in the LMS, remove row {row} in {label} by hand."));
        return said;
    }
    said.because += match case.learner.state.as_str() {
        "gone" => " The LMS no longer knows the learner; what they earned stays.",
        "inactive" => " The learner is inactive in the LMS; what they earned stays.",
        "erased" => {
            " The learner was erased from learnsync; what stands in the destination is for HR to keep or remove."
        }
        _ => "",
    };
    said
}

/// Why nothing happens at a destination that is not written to at all, and what helps.
pub(super) fn stillness(case: &Case<'_>) -> (String, Help) {
    still(case.place, case.given)
}

/// The same, for a record without a delivery.
pub(super) fn still(place: &Place<'_>, given: &Given) -> (String, Help) {
    let (name, file) = (place.name, place.file(given));
    match &place.standing {
        Standing::Retired => (
            format!("because \"{name}\" is in no configuration file any more."),
            Help::by(
                Who::Administrator,
                format!(
                    "if {name} should be written to, configure it again, then `systemctl reload learnsync`; else nothing."
                ),
            ),
        ),
        Standing::SwitchedOff(wrong) => (
            format!("because its configuration is wrong and it is switched off: {wrong}."),
            Help::by(
                Who::Administrator,
                format!("mend {file}; `learnsync check` shows all that is wrong. Then `systemctl reload learnsync`."),
            ),
        ),
        Standing::NotStarted => (
            format!("because learnsync has not read its configuration since \"{name}\" came into it."),
            Help::by(Who::Administrator, "`systemctl reload learnsync`."),
        ),
        Standing::Shadow => (
            "because it is in shadow: it is read and compared, and nothing is written to it.".to_owned(),
            Help::by(
                Who::Administrator,
                format!(
                    "when it may be written to, take `mode = \"shadow\"` out of {file} (or `read_only` out of the main file), then `systemctl reload learnsync`."
                ),
            ),
        ),
        Standing::Active | Standing::Paused { .. } => ("because it waits.".to_owned(), Help::none()),
    }
}

fn waiting(case: &Case<'_>) -> Said {
    let delivery = case.delivery;
    let label = case.label();
    let of = |why: &str, because: String, next: String, next_at: Option<Timestamp>, help: Help| {
        let (verdict, headline) = case.not_there(why);
        Said { verdict, headline, because, since: Some(delivery.wanted_at), next, next_at, help }
    };
    match &case.place.standing {
        Standing::Active => {}
        Standing::Retired | Standing::SwitchedOff(_) | Standing::NotStarted | Standing::Shadow => {
            let (why, help) = stillness(case);
            let next = "Nothing, until that changes; then it is written.".to_owned();
            return of(&format!("{label} is not written to"), format!("That is {why}"), next, None, help);
        }
        Standing::Paused { cause, until } => {
            let pause = pause(cause, *until, case.place, case.given);
            return of(&pause.why, pause.because, pause.next, *until, pause.help);
        }
    }
    if case.learner.is_unread_since_restore {
        let at = case.learner.next_read_at;
        let when = at.map_or_else(|| "in the next night".to_owned(), |at| case.soon(at));
        let because =
            "learnsync was restored from a backup, which may be older than the LMS: nothing is written for a learner \
                       before they were read again."
                .to_owned();
        let next = format!("They are read {when}, and then it is written.");
        return of("the learner is read again first", because, next, at, Help::none());
    }
    if delivery.cause.as_deref().and_then(Cause::parse) == Some(Cause::QuietHours) {
        return Said { since: Some(delivery.wanted_at), ..of_cause(case, &Cause::QuietHours) };
    }
    let due = delivery.due_at.unwrap_or(case.given.now);
    let late = case.given.now.0 - due.0;
    if delivery.wanted == "absent" {
        let because = "The LMS no longer holds it, so it is to be removed.".to_owned();
        let next = format!("It is removed {}.", case.soon(due));
        return of("it is about to be removed", because, next, Some(due), Help::none());
    }
    if let Some(words) = case.last_words().filter(|_| delivery.tries > 0) {
        let tried = case.last_attempt().map(|attempt| case.at(attempt.started_at)).unwrap_or_default();
        let tries = counted(delivery.tries, "try has", "tries have");
        let because = format!("{tries} failed so far. The last was on {tried}, and it ended with {words}.");
        let next = format!(
            "It is tried again {}. The waits grow to half an hour, and learnsync does not give up while {label} fails for \
             everybody.",
            case.soon(due)
        );
        let help = match case.given.now.0 - delivery.wanted_at.0 > LONG_MS {
            true => Help::by(
                Who::Administrator,
                format!("find out what is wrong with {label}: it fails for more than an hour."),
            ),
            false => Help::none(),
        };
        return of("it was tried and did not work yet", because, next, Some(due), help);
    }
    if late > OVERDUE_MS {
        let because = format!("It is due since {} and has not been tried.", case.at(due));
        let next = "It is written as soon as those before it are.".to_owned();
        let help = Help::by(
            Who::Administrator,
            "look with `learnsync status` how many wait, and whether learnsync runs and its disk is not full.",
        );
        return of("it waits in a long row", because, next, Some(due), help);
    }
    let because = match delivery.attempts.is_empty() {
        true => format!("The LMS showed it on {}.", case.at(delivery.wanted_at)),
        false => format!("What the LMS shows changed on {}.", case.at(delivery.wanted_at)),
    };
    let next = format!("It is written {}.", case.soon(due));
    of("it is about to be written", because, next, Some(due), Help::none())
}

fn sending(case: &Case<'_>) -> Said {
    let (label, full) = (case.label(), case.full());
    let since = case.delivery.sending_at.unwrap_or(case.delivery.wanted_at);
    let age = case.given.now.0 - since.0;
    let is_alive = case.delivery.is_of_this_life && case.given.is_running != Some(false) && age < SENDING_MS_MAX;
    if is_alive {
        return Said {
            verdict: Verdict::Perhaps,
            headline: format!("Being written to {full} at this moment."),
            because: format!("The write began on {}, {} ago.", case.at(since), span(age)),
            since: Some(since),
            next: "The answer is expected within two minutes.".to_owned(),
            next_at: None,
            help: Help::none(),
        };
    }
    Said {
        verdict: Verdict::Perhaps,
        headline: format!("Perhaps in {full}: learnsync stopped while it was written, on {}.", case.at(since)),
        because: format!("The write had begun, and no answer of {label} was kept."),
        since: Some(since),
        next: format!("When learnsync runs again, {}.", resolution(case)),
        next_at: None,
        help: Help::by(Who::Administrator, "see that learnsync runs; if it does, restart it."),
    }
}

fn uncertain(case: &Case<'_>) -> Said {
    let delivery = case.delivery;
    let (label, full) = (case.label(), case.full());
    let since = delivery.sending_at.unwrap_or(delivery.wanted_at);
    let is_lost = |attempt: &AttemptView| matches!(attempt.outcome.as_str(), "ambiguous" | "interrupted");
    let lost = delivery.attempts.iter().rev().find(|attempt| is_lost(attempt));
    let (headline, because) = match lost {
        Some(attempt) => (
            format!("Perhaps in {full}: the answer to a write was lost on {}.", case.at(attempt.started_at)),
            format!("What is known of that write: {}.", quoted(attempt.words.as_deref(), attempt.status)),
        ),
        None => (
            format!("Perhaps in {full}: learnsync has to look before it writes."),
            "learnsync was restored from a backup, or another account was put behind the destination: what stands there may \
             have been written before."
                .to_owned(),
        ),
    };
    let mut said = Said {
        verdict: Verdict::Perhaps,
        headline,
        because,
        since: Some(since),
        next: String::new(),
        next_at: delivery.due_at,
        help: Help::none(),
    };
    let when = delivery.due_at.map_or_else(|| "soon".to_owned(), |at| case.soon(at));
    match &case.place.standing {
        Standing::Active if is_given_up(case) => said.next = format!("{}.", capital(&resolution(case))),
        Standing::Active => said.next = format!("{}: {}.", capital(&when), resolution(case)),
        Standing::Paused { cause, until } => {
            let pause = pause(cause, *until, case.place, case.given);
            said.because += &format!(" {}", pause.because);
            said.next = format!("{} After that {}.", pause.next, resolution(case));
            said.next_at = *until;
            said.help = pause.help;
        }
        Standing::Retired | Standing::SwitchedOff(_) | Standing::NotStarted | Standing::Shadow => {
            let (why, help) = stillness(case);
            said.next = format!("Nobody looks, {why}");
            said.next_at = None;
            said.help = help;
        }
    }
    if delivery.tries > 1 && said.help.who == Who::Nobody && case.given.now.0 - since.0 > LONG_MS {
        said.help = Help::by(
            Who::Administrator,
            format!("find out what is wrong with {label}: it cannot be asked for more than an hour."),
        );
    }
    said
}

/// Whether nobody will ever know.
fn is_given_up(case: &Case<'_>) -> bool {
    match case.place.configured.map(|configured| configured.after_unknown) {
        Some(AfterUnknown::Blind(BlindRepeat::MayLose)) => true,
        Some(AfterUnknown::Look | AfterUnknown::Repeat | AfterUnknown::Blind(BlindRepeat::MayRepeat)) | None => false,
    }
}

/// How an unknown outcome becomes known, or does not.
fn resolution(case: &Case<'_>) -> String {
    let label = case.label();
    match case.place.configured.map(|configured| configured.after_unknown) {
        Some(AfterUnknown::Look) | None => {
            format!("{label} is looked into first, and it is written only if it is not there, so nothing doubles")
        }
        Some(AfterUnknown::Repeat) => {
            format!("it is written once more: {label} knows it again by its key, so nothing doubles")
        }
        Some(AfterUnknown::Blind(BlindRepeat::MayRepeat)) => {
            format!("it is told once more: {label} cannot be asked, and may show it twice")
        }
        Some(AfterUnknown::Blind(BlindRepeat::MayLose)) => {
            format!("it is not told again: {label} cannot be asked, and twice would be worse than not at all")
        }
    }
}

/// What is said of a pause.
pub(super) struct SaidOfPause {
    pub(super) why: String,
    pub(super) because: String,
    pub(super) next: String,
    pub(super) help: Help,
}

/// Why a destination waits as a whole, until when, and who ends it.
pub(super) fn pause(cause: &PauseCause, until: Option<Timestamp>, place: &Place<'_>, given: &Given) -> SaidOfPause {
    let label = place.name;
    let when = until.map_or_else(|| "when a person says so".to_owned(), |at| soon(at, given.now, given.zone));
    let file = place.file(given);
    let name = place.name;
    match cause {
        PauseCause::Throttled => SaidOfPause {
            why: format!("{label} asked us to wait"),
            because: format!("{label} says that it got too many requests, and is left alone for as long as it asked."),
            next: format!("Writing goes on by itself {when}."),
            help: Help::none(),
        },
        PauseCause::CircuitOpen => SaidOfPause {
            why: format!("{label} does not work at the moment"),
            because: format!("{label} failed several times in a row, for several people, and is left alone."),
            next: format!("It is tried {when}, and every half minute until it answers; then all goes on by itself."),
            help: Help::none(),
        },
        PauseCause::Unauthorized => SaidOfPause {
            why: format!("{label} refuses our key"),
            because: format!("{label} does not accept the key or password that learnsync has for it."),
            next: format!(
                "The key is tried again {when}, and every quarter of an hour; if it is accepted, all goes on by itself."
            ),
            help: Help::by(
                Who::Administrator,
                format!(
                    "renew the secret that {file} names, then `systemctl restart learnsync`, and see with `learnsync destinations probe {name}` that it works."
                ),
            ),
        },
        PauseCause::AccountChanged => SaidOfPause {
            why: format!("another account answers behind {label}"),
            because: format!(
                "The key for {label} belongs to another company or a test system: nothing is written until a person says which is right."
            ),
            next: "Nothing, until a person decides.".to_owned(),
            help: Help::by(
                Who::Administrator,
                format!(
                    "if the new account is right, say so with `learnsync destinations rebase {name}`; else put the old key back, then `systemctl restart learnsync`."
                ),
            ),
        },
        PauseCause::Operator => SaidOfPause {
            why: format!("somebody paused {label}"),
            because: format!("A person paused {label}; only a person resumes it."),
            next: match until {
                Some(_) => format!("Writing goes on {when}."),
                None => "Nothing, until a person resumes it.".to_owned(),
            },
            help: Help::by(
                Who::Administrator,
                format!("resume it with `learnsync destinations resume {name}` when it may be written to."),
            ),
        },
        PauseCause::Restored => SaidOfPause {
            why: format!("{label} is left alone for a moment after a restore"),
            because: format!(
                "learnsync was restored from a backup. What it wrote in the last moments before may still be on its way in {label}."
            ),
            next: format!("It is looked at {when}; then all goes on by itself."),
            help: Help::none(),
        },
        PauseCause::Other(word) => SaidOfPause {
            why: format!("{label} waits"),
            because: format!("{label} is paused: {}.", word.replace('_', " ")),
            next: format!("Writing goes on {when}."),
            help: match until {
                Some(_) => Help::none(),
                None => Help::by(
                    Who::Administrator,
                    format!("look with `learnsync status` and `learnsync destinations list` what {name} waits for."),
                ),
            },
        },
    }
}
