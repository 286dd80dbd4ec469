//! Somebody whom the ledger does not know, or a course that a learner does not have there: what the LMS says when it is asked now.

use learnsync_sdk::Learner;
use serde::Serialize;

use super::story::{is_about, titles};
use super::words::{counted, day, moment, name, soon};
use super::{Given, Help, Who, next_night};
use crate::config::nearest;
use crate::domain::record::Record;
use crate::domain::time::Timestamp;
use crate::store::view::HeardView;

/// What the LMS said when it was asked.
#[derive(Clone, Debug)]
pub enum Live {
    /// It was not asked, for this reason.
    NotAsked(String),
    /// It did not answer, or not as it should.
    Failed(String),
    /// It knows nobody by that.
    Nobody,
    /// It knows these.
    Found(Vec<Found>),
}

/// A learner as the LMS shows them now.
#[derive(Clone, Debug)]
pub struct Found {
    /// The portal.
    pub portal: String,
    /// The profile.
    pub learner: Learner,
    /// The records.
    pub records: Vec<Record>,
}

/// What is to be said when the ledger has no answer.
#[derive(Clone, Debug, Serialize)]
pub struct Stranger {
    /// The answer in one sentence.
    pub headline: String,
    /// Why.
    pub because: String,
    /// What the LMS says now, one fact a line.
    pub lms: Vec<String>,
    /// What happens next.
    pub next: String,
    /// What helps.
    pub help: Help,
}

/// What is to be said of a text that names no learner whom the ledger has read; or, when it has, of a course that they do not have there.
#[must_use]
pub fn stranger(
    text: &str,
    known: Option<&[Record]>,
    heard: &[HeardView],
    course: Option<&str>,
    live: &Live,
    given: &Given,
) -> Stranger {
    let (headline, because) = match (known, heard.first()) {
        (Some(records), _) => unknown_course(text, records, course.unwrap_or_default()),
        (None, Some(heard)) => unread(heard, given),
        (None, None) => (
            format!("Not in any destination: nobody is known by \"{text}\"."),
            "No webhook named them, and no nightly reading of the LMS has shown them.".to_owned(),
        ),
    };
    let read_at = heard.first().and_then(|heard| heard.next_read_at);
    let next_read = match read_at {
        Some(at) => {
            format!("They are read {}, and what the LMS shows then is delivered.", soon(at, given.now, given.zone))
        }
        None => format!("The whole LMS is read again {}.", next_night(given)),
    };
    let (lms, next, help) = match live {
        Live::NotAsked(reason) => (
            vec![format!("The LMS was not asked now: {reason}.")],
            next_read,
            match (known, read_at) {
                (Some(_), _) => ask_again(text),
                (None, Some(_)) => Help::none(),
                (None, None) => spell(text),
            },
        ),
        Live::Failed(words) => (
            vec![format!("The LMS was asked now and gave no answer: {words}.")],
            next_read,
            Help::by(Who::Administrator, "see with `learnsync check --online` whether the LMS answers."),
        ),
        Live::Nobody => (
            vec![format!("The LMS was asked now and knows nobody by \"{text}\".")],
            "Nothing: what the LMS does not hold goes nowhere.".to_owned(),
            spell(text),
        ),
        Live::Found(found) => shown(found, course, read_at, given),
    };
    Stranger { headline, because, lms, next, help }
}

fn unknown_course(text: &str, records: &[Record], course: &str) -> (String, String) {
    let headline =
        format!("Not in any destination: learnsync holds nothing of \"{text}\" that is called \"{course}\".");
    let titles = titles(records);
    let because = match (nearest(course, titles.iter().map(String::as_str)), titles.is_empty()) {
        (Some(near), _) => format!("Did you mean \"{near}\"?"),
        (None, true) => "It holds no record of theirs at all.".to_owned(),
        (None, false) => format!("What it holds of theirs: {}.", titles.join(", ")),
    };
    (headline, because)
}

fn unread(heard: &HeardView, given: &Given) -> (String, String) {
    let headline = format!("Not in any destination: the learner {} has not been read from the LMS yet.", heard.lms_id);
    let told = heard.events.last().map(|event| moment(event.received_at, given.zone));
    let told = told.map_or_else(
        || "The nightly reading of the LMS listed them".to_owned(),
        |at| format!("A webhook of {at} named them"),
    );
    let because = match (heard.absent_until, heard.next_read_at) {
        (Some(until), _) if until > given.now => format!(
            "{told}, but the LMS said that it knows no such learner. It is not asked again by webhooks before {}.",
            moment(until, given.zone)
        ),
        (_, Some(at)) if heard.tries > 0 => format!(
            "{told}. {} to read them failed; the next is made {}.",
            counted(heard.tries, "try", "tries"),
            soon(at, given.now, given.zone)
        ),
        (_, Some(at)) => format!("{told}. They are read {}.", soon(at, given.now, given.zone)),
        (Some(_), None) => format!("{told}, but the LMS said that it knows no such learner."),
        (None, None) => format!("{told}."),
    };
    (headline, because)
}

fn shown(
    found: &[Found],
    course: Option<&str>,
    next_read_at: Option<Timestamp>,
    given: &Given,
) -> (Vec<String>, String, Help) {
    let mut lines = Vec::new();
    let mut has_it = false;
    for Found { portal, learner, records } in found {
        let state = if learner.is_active { "active" } else { "inactive" };
        let who = name(Some(learner));
        lines.push(format!("The LMS was asked now: it knows {who} ({}, {state}, portal {portal}).", learner.id));
        let wanted = course.map(str::to_lowercase);
        let about: Vec<&Record> =
            records.iter().filter(|facts| wanted.as_ref().is_none_or(|wanted| is_about(facts, wanted))).collect();
        has_it |= !about.is_empty();
        for facts in about.iter().take(SHOWN_MAX) {
            let at = facts.achieved.map(|at| format!(" of {}", day(at, given.zone))).unwrap_or_default();
            lines.push(format!("It shows a {} \"{}\"{at}.", facts.kind.noun(), facts.title));
        }
        if about.len() > SHOWN_MAX {
            lines.push(format!("And {} more.", about.len() - SHOWN_MAX));
        }
        if about.is_empty() {
            let of = course.map(|course| format!(" of \"{course}\"")).unwrap_or_default();
            lines.push(format!("It shows no completion, certificate or competency{of}."));
            if let Some(course) = course {
                let titles = titles(records);
                match nearest(course, titles.iter().map(String::as_str)) {
                    Some(near) => lines.push(format!("Did you mean \"{near}\"?")),
                    None if titles.is_empty() => {}
                    None => lines.push(format!("What it shows of theirs: {}.", titles.join(", "))),
                }
            }
        }
    }
    if found.len() > 1 {
        let next = "Nothing, before it is clear who is meant.".to_owned();
        return (lines, next, Help::by(Who::Nobody, "Ask again with the LMS id of the one who is meant."));
    }
    if !has_it {
        let next =
            "Nothing: what the LMS does not hold goes nowhere. When it is completed there, it is delivered.".to_owned();
        let help = Help::by(Who::LmsAdministrator, "see whether the course is really completed in the LMS.");
        return (lines, next, help);
    }
    let when = match next_read_at {
        Some(at) => soon(at, given.now, given.zone),
        None => next_night(given),
    };
    (
        lines,
        format!("learnsync reads it {when}, and then delivers it."),
        Help::by(
            Who::Administrator,
            "to have it at once, run `learnsync reconcile`. If a webhook should have told of it, look in the LMS whether the \
             webhook is switched on.",
        ),
    )
}

/// Most records of the LMS that are listed.
const SHOWN_MAX: usize = 10;

fn spell(text: &str) -> Help {
    let by_address = if text.contains('@') { " The LMS may have another address for them." } else { "" };
    Help::by(
        Who::Nobody,
        format!("Ask with the LMS id, the external id, the e-mail address or the full name.{by_address}"),
    )
}

fn ask_again(text: &str) -> Help {
    Help::by(Who::Nobody, format!("`learnsync explain {text}` without --course shows all that is known."))
}
