//! Why a delivery is set aside, cause by cause, and what helps.

use learnsync_sdk::{MatchBy, MatchRule};

use super::states::{Case, quoted, stillness};
use super::words::{day, listed, moment};
use super::{Help, Said, Standing, Verdict, Who, next_night};
use crate::config::History;
use crate::domain::delivery::Cause;

/// Who must act on a cause, and the command or deed that begins it: the same for `explain` and `status`.
pub(super) fn remedy(cause: &Cause) -> (Who, &'static str) {
    match cause {
        Cause::Unmatched => (Who::Hr, "add or correct the person"),
        Cause::AmbiguousPerson => (Who::Hr, "make them distinct"),
        Cause::Unmapped { .. } => (Who::Administrator, "map the course"),
        Cause::MissingField(_) => (Who::LmsAdministrator, "fill the field"),
        Cause::MappingFailed(_) => (Who::Administrator, "correct the mapping"),
        Cause::Rejected => (Who::Hr, "correct what it names"),
        Cause::Poison => (Who::Administrator, "find out why"),
        Cause::Duplicated => (Who::Hr, "remove the copies"),
        Cause::BeforeStart
        | Cause::FoundLate
        | Cause::WaitedTooLong
        | Cause::QuietHours
        | Cause::Superseded
        | Cause::MaybeLost
        | Cause::Vanished
        | Cause::Erased => (Who::Nobody, ""),
    }
}

/// A rule of the ledger as people say it; one of another version as it stands.
fn of_rule_word(word: &str) -> String {
    MatchRule::parse(word).map_or_else(|_| spaced(word), |rule| of_rule(&rule))
}

/// A cause in a few words, for lists.
pub(super) fn in_short(cause: &Cause) -> String {
    match cause {
        Cause::Unmatched => "the person is not known there".to_owned(),
        Cause::AmbiguousPerson => "several people fit".to_owned(),
        Cause::Unmapped { kind, course } => format!("no {} for \"{course}\"", spaced(kind)),
        Cause::MissingField(field) => format!("no value for \"{field}\""),
        Cause::MappingFailed(field) => format!("\"{field}\" cannot be computed"),
        Cause::Rejected => "refused".to_owned(),
        Cause::Poison => "fails again and again".to_owned(),
        Cause::BeforeStart => "older than the history".to_owned(),
        Cause::FoundLate => "found too late to tell".to_owned(),
        Cause::WaitedTooLong => "waited too long to be told".to_owned(),
        Cause::QuietHours => "quiet hours".to_owned(),
        Cause::Superseded => "something newer is there".to_owned(),
        Cause::Duplicated => "there several times".to_owned(),
        Cause::MaybeLost => "perhaps told, cannot be asked".to_owned(),
        Cause::Vanished => "the LMS no longer shows it".to_owned(),
        Cause::Erased => "the learner was erased".to_owned(),
    }
}

/// `training_type` as people say it.
pub(super) fn spaced(kind: &str) -> String {
    kind.replace('_', " ")
}

/// A delivery that is set aside, left out on purpose, or overtaken.
pub(super) fn parked(case: &Case<'_>) -> Said {
    let word = case.delivery.cause.as_deref().unwrap_or_default();
    let Some(cause) = Cause::parse(word) else { return of_another_version(case, word) };
    let mut said = of_cause(case, &cause);
    said.since =
        said.since.or_else(|| Some(case.last_attempt().map_or(case.delivery.wanted_at, |last| last.started_at)));
    match &case.place.standing {
        Standing::Active | Standing::Paused { .. } => {}
        Standing::Retired | Standing::SwitchedOff(_) | Standing::NotStarted | Standing::Shadow
            if said.help.who != Who::Nobody =>
        {
            let (why, help) = stillness(case);
            said.next = format!("Nothing, {why}");
            said.next_at = None;
            said.help = help;
        }
        Standing::Retired | Standing::SwitchedOff(_) | Standing::NotStarted | Standing::Shadow => {}
    }
    said
}

fn of_another_version(case: &Case<'_>, word: &str) -> Said {
    let (verdict, headline) = case.not_there("it is set aside");
    Said {
        verdict,
        headline,
        because: match word {
            "" => format!("The reason was not kept{}.", detail(case)),
            word => format!(
                "The reason is \"{}\", a word that this version of learnsync does not know{}.",
                spaced(word),
                detail(case)
            ),
        },
        since: None,
        next: "It is tried again when something about it changes in the LMS.".to_owned(),
        next_at: None,
        help: Help::by(Who::Administrator, "ask the learnsync that runs, not an older one."),
    }
}

/// `: <the detail of the cause>`, when there is one.
fn detail(case: &Case<'_>) -> String {
    let words = case.delivery.cause_detail.as_deref().map(|words| words.trim().trim_end_matches('.'));
    words.filter(|words| !words.is_empty()).map(|words| format!(": {words}")).unwrap_or_default()
}

pub(super) fn of_cause(case: &Case<'_>, cause: &Cause) -> Said {
    let (label, full, name) = (case.label(), case.full(), case.name());
    let night = next_night(case.given);
    let file = case.place.file(case.given);
    let detail = detail(case);
    let at_reload =
        "It is tried again when learnsync reads its configuration anew, and when something about it changes in the LMS.".to_owned();
    let not_there = |why: String, because: String, next: String, help: Help| {
        let (verdict, headline) = case.not_there(&why);
        Said { verdict, headline, because, since: None, next, next_at: None, help }
    };
    match cause {
        Cause::Unmatched => Said {
            next_at: case.given.next_night,
            ..not_there(
                format!("{name} is not known there"),
                looked_for(case),
                format!("They are looked for again {night}, and at once when their profile in the LMS changes."),
                Help::by(
                    Who::Hr,
                    format!(
                        "add {name} to {label}, or see that the number or address is the same in {label} and in the LMS. An \
                         administrator may also say who it is, with `learnsync links pin`."
                    ),
                ),
            )
        },
        Cause::AmbiguousPerson => Said {
            next_at: case.given.next_night,
            ..not_there(
                format!("several people there could be {name}"),
                format!("{} learnsync does not guess.", candidates(case)),
                format!("They are looked for again {night}, and at once when their profile in the LMS changes."),
                Help::by(
                    Who::Hr,
                    format!(
                        "give each of them a number or address of their own in {label}. An administrator may also say who it is, \
                         with `learnsync links pin`."
                    ),
                ),
            )
        },
        Cause::Unmapped { kind, course } => {
            let spoken = spaced(kind);
            let key = case.place.key(&format!("references.{kind}"));
            not_there(
                format!("the course \"{course}\" has no {spoken} there"),
                format!("Each completion in {label} needs a {spoken}, and none there has the course's name."),
                at_reload,
                Help::by(
                    Who::Administrator,
                    format!(
                        "either have a {spoken} named \"{course}\" created in {label}; or name the right one in {file}, under \
                         [{key}]: courses = {{ \"{course}\" = \"<its name in {}>\" }}. Then `systemctl reload learnsync`.",
                        case.place.name
                    ),
                ),
            )
        }
        Cause::MissingField(field) => {
            let key = case.place.key(&format!("routes.{}.fields.{field}", case.delivery.route));
            not_there(
                format!("\"{field}\" is needed there, and the LMS has no value for it"),
                "The configuration says that nothing is written without it.".to_owned(),
                at_reload,
                Help::by(
                    Who::LmsAdministrator,
                    format!(
                        "fill it in the LMS. If it may stay empty, the administrator of learnsync writes when_missing = \"keep\" \
                         under [{key}] in {file}, then `systemctl reload learnsync`."
                    ),
                ),
            )
        }
        Cause::MappingFailed(field) if field == "route" => not_there(
            "the way that it takes there is no longer configured".to_owned(),
            format!("The route \"{}\" is not in {file} any more.", case.delivery.route),
            at_reload,
            Help::by(
                Who::Administrator,
                format!(
                    "if it should still go there, write [{}] again, then `systemctl reload learnsync`.",
                    case.place.key(&format!("routes.{}", case.delivery.route))
                ),
            ),
        ),
        Cause::MappingFailed(field) => {
            let key = case.place.key(&format!("routes.{}.fields.{field}", case.delivery.route));
            not_there(
                format!("\"{field}\" cannot be computed for it"),
                format!("The configuration says how to make \"{field}\", and for this record that fails{detail}."),
                at_reload,
                Help::by(
                    Who::Administrator,
                    format!(
                        "correct [{key}] in {file}, see with `learnsync check` that it is right, then `systemctl reload learnsync`."
                    ),
                ),
            )
        }
        Cause::Rejected => not_there(
            "it was refused there".to_owned(),
            refusal(case),
            "It is tried again when something about it changes in the LMS, or when somebody asks for it.".to_owned(),
            Help::by(
                Who::Hr,
                format!(
                    "correct in {label} or in the LMS what it names; then an administrator asks for it with `learnsync deliveries retry`."
                ),
            ),
        ),
        Cause::Poison => not_there(
            "it failed eight times while others went through".to_owned(),
            refusal(case),
            "It is tried again when something about it changes in the LMS, or when somebody asks for it.".to_owned(),
            Help::by(
                Who::Administrator,
                format!(
                    "find out with these words why {label} fails for this one; then ask for it with `learnsync deliveries retry`."
                ),
            ),
        ),
        Cause::BeforeStart => not_there(
            "it is older than what is to go there".to_owned(),
            history(case),
            "Nothing: it is left out on purpose.".to_owned(),
            Help::none(),
        ),
        Cause::FoundLate => not_there(
            "it was found too late to be told".to_owned(),
            format!(
                "{label} is told news, and learnsync saw this only on {}, longer after it was achieved than the file allows \
                 (`late_after_hours` in {file}).",
                case.at(case.delivery.wanted_at)
            ),
            "Nothing: old news is not told.".to_owned(),
            Help::none(),
        ),
        Cause::WaitedTooLong => not_there(
            "it waited too long to be told".to_owned(),
            format!(
                "{label} is told news, and this had to wait since {} for longer than the file allows (`late_after_hours` in \
                 {file}).",
                case.at(case.delivery.wanted_at)
            ),
            "Nothing: old news is not told.".to_owned(),
            Help::none(),
        ),
        Cause::QuietHours => {
            let until = case.delivery.due_at;
            let when = until.map_or_else(|| "when they end".to_owned(), |at| case.soon(at));
            Said {
                next_at: until,
                ..not_there(
                    "it is quiet there now".to_owned(),
                    format!("{label} is told nothing in its quiet hours (`quiet_hours` in {file})."),
                    format!("It is told {when}, together with what gathers until then."),
                    Help::none(),
                )
            }
        }
        Cause::Erased => not_there(
            "the learner was erased from learnsync".to_owned(),
            "All that was personal is gone, so nobody here knows what it should hold.".to_owned(),
            format!("Nothing: they are never read again. What {label} still holds is for HR to keep or remove."),
            Help::none(),
        ),
        Cause::Superseded => Said {
            headline: format!("Not in {full}: something newer stands in its place."),
            verdict: Verdict::NotThere,
            ..not_there(
                String::new(),
                case.last_words().map_or_else(
                    || format!("{label} holds something newer for this person and course."),
                    |words| format!("{label} holds something newer for this person and course; it answered {words}."),
                ),
                "Nothing, unless the LMS shows something newer still.".to_owned(),
                Help::none(),
            )
        },
        Cause::Duplicated => Said {
            verdict: Verdict::ThereButOlder,
            headline: format!("In {full} several times."),
            ..not_there(
                String::new(),
                format!(
                    "Somebody copied the row there{}. learnsync does not know which of them is meant, and changes none.",
                    detail.replace("our mark: remove all but one", "the mark of learnsync")
                ),
                "It is looked at again when somebody asks for it.".to_owned(),
                Help::by(
                    Who::Hr,
                    format!(
                        "remove all of these rows in {label} but one; then an administrator asks for it with `learnsync deliveries retry`."
                    ),
                ),
            )
        },
        Cause::MaybeLost => Said {
            verdict: Verdict::Perhaps,
            headline: format!("Perhaps in {full}: no answer came, and nobody can tell."),
            ..not_there(
                String::new(),
                format!(
                    "{label} cannot be asked whether it took it, and telling it twice would be worse than not at all."
                ),
                "Nothing: it is not told again.".to_owned(),
                Help::by(Who::Nobody, format!("Whoever reads {label} sees whether it is there.")),
            )
        },
        Cause::Vanished => {
            let next = match case.learner.next_read_at {
                Some(at) => {
                    format!("The learner is read again {}; if the LMS shows it then, it is written.", case.soon(at))
                }
                None => format!("The learner is read again next {night}; if the LMS shows it then, it is written."),
            };
            Said {
                next_at: case.learner.next_read_at.or(case.given.next_night),
                ..not_there(
                    "the LMS showed it once, and no longer does".to_owned(),
                    format!(
                        "Since {} the LMS no longer shows it, and it had not been written before: nothing is written that the LMS \
                         does not hold.",
                        case.at(case.record.state_since)
                    ),
                    next,
                    Help::none(),
                )
            }
        }
    }
}

/// How a learner was looked for.
fn looked_for(case: &Case<'_>) -> String {
    let label = case.label();
    // The target itself may say that a person it knew is gone.
    if let Some(attempt) = case.last_attempt().filter(|attempt| attempt.action != "link") {
        return format!("{label} answered {}.", quoted(attempt.words.as_deref(), attempt.status));
    }
    let rules = case.place.configured.map(|configured| configured.match_rules.as_slice()).unwrap_or_default();
    let tried: Vec<String> = rules
        .iter()
        .map(|rule| {
            let value = case.learner.learner.as_ref().and_then(|learner| rule.value_of(learner));
            match value {
                Some(value) => format!("{} \"{value}\"", of_rule(rule)),
                None => format!("{} (which the LMS does not have)", of_rule(rule)),
            }
        })
        .collect();
    let at = case.link().map(|link| format!(" on {}", moment(link.checked_at, case.given.zone))).unwrap_or_default();
    match tried.is_empty() {
        true => format!("They were looked for{at} and not found."),
        false => format!("They were looked for{at} by {}, and not found.", listed(&tried)),
    }
}

/// A rule as people say it.
fn of_rule(rule: &MatchRule) -> String {
    match &rule.by {
        MatchBy::ExternalId => "the external id".to_owned(),
        MatchBy::EmployeeNumber => "the employee number".to_owned(),
        MatchBy::Email => "the e-mail address".to_owned(),
        MatchBy::Username => "the login name".to_owned(),
        MatchBy::Custom(name) => format!("the custom field {name}"),
    }
}

/// Who a learner may be.
fn candidates(case: &Case<'_>) -> String {
    let link = case.link();
    let found = link.map(|link| link.candidates.clone()).unwrap_or_default();
    let rule = link.and_then(|link| link.rule.as_deref()).map(of_rule_word);
    match (rule, found.is_empty()) {
        (Some(rule), false) => format!("By {rule} it may be any of these: {}.", found.join(", ")),
        (None, false) => format!("It may be any of these: {}.", found.join(", ")),
        (_, true) => format!("Their ids were not kept{}.", detail(case)),
    }
}

/// The target's own words, verbatim.
fn refusal(case: &Case<'_>) -> String {
    let label = case.label();
    match case.last_attempt() {
        Some(attempt) => format!(
            "On {} {label} answered {}.",
            case.at(attempt.started_at),
            quoted(attempt.words.as_deref(), attempt.status)
        ),
        None => format!("{label} answered {}.", quoted(case.delivery.cause_detail.as_deref(), None)),
    }
}

/// Which facts a destination is to hold, and how this one lies to that.
fn history(case: &Case<'_>) -> String {
    let label = case.label();
    let zone = case.given.zone;
    let begins = match case.place.configured.map(|configured| configured.history) {
        Some(History::Since(date)) => format!(
            "By `history` in {}, {label} holds what was achieved since {}",
            case.place.file(case.given),
            day(crate::domain::time::LmsTime::Date(date), zone)
        ),
        Some(History::None) | None => {
            let first = case.place.ledger.map(|ledger| moment(ledger.first_seen_at, zone));
            format!(
                "By `history` in {}, {label} holds only what was achieved since it was connected{}",
                case.place.file(case.given),
                first.map(|at| format!(", on {at}")).unwrap_or_default()
            )
        }
        Some(History::All) => format!("When the record was first seen, {label} was not to hold older ones"),
    };
    match case.record.facts.achieved {
        Some(at) => format!("{begins}; this was achieved on {}.", day(at, zone)),
        None => format!("{begins}; the LMS gives no date for this, so it cannot be shown to be new."),
    }
}
