//! A learner's whole story: who they are, and for each record where it is in every destination.

use std::collections::BTreeSet;

use serde::Serialize;

use super::states::Case;
use super::words::{day, moment, name, soon};
use super::{Answer, Given, Help, Place, Said, Who, next_night, states, unplanned};
use crate::domain::delivery::{DeliveryState, Promise};
use crate::domain::promise::keeps;
use crate::domain::record::Record;
use crate::domain::time::{Timestamp, as_utc_if_any};
use crate::store::view::{EventView, LearnerView, LinkView, RecordView};

/// An event that the LMS did not bear out is told for so long.
const EXPIRED_SHOWN_MS: i64 = 7 * 86_400_000;

/// Which records and destinations are asked about.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only records whose course or title contains this.
    pub course: Option<String>,
    /// Only this destination.
    pub destination: Option<String>,
}

/// All that is to be said of one learner.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// First and last name.
    pub name: String,
    /// The portal.
    pub portal: String,
    /// The LMS's id.
    pub lms_id: String,
    /// `active`, `inactive`, `gone` or `erased`.
    pub state: String,
    /// When they were last read from the LMS.
    #[serde(serialize_with = "as_utc_if_any")]
    pub read_at: Option<Timestamp>,
    /// When they are read next, if that is sooner than the next night.
    #[serde(serialize_with = "as_utc_if_any")]
    pub next_read_at: Option<Timestamp>,
    /// What is to be said about the learner as a whole.
    pub about: Vec<String>,
    /// The records, oldest first.
    pub records: Vec<RecordStory>,
    /// Evidence: the events that came for them, newest last.
    pub events: Vec<EventView>,
    /// Evidence: who they are in each destination.
    pub links: Vec<LinkView>,
}

/// One record, and where it is.
#[derive(Clone, Debug, Serialize)]
pub struct RecordStory {
    /// Its key.
    pub key: String,
    /// `completion`, `certificate` or `competency`.
    pub kind: String,
    /// Its title.
    pub title: String,
    /// The course's name, when there is one.
    pub course: Option<String>,
    /// When it was achieved, as the LMS says: an instant in UTC or a date.
    pub achieved: Option<String>,
    /// Until when it is valid.
    pub valid_until: Option<String>,
    /// `present`, `suspected_absent` or `gone`.
    pub state: String,
    /// What it is, in one line.
    pub headline: String,
    /// How learnsync came to know of it.
    pub origin: String,
    /// One answer for each destination, or for each of its routes that takes such records.
    pub answers: Vec<Answer>,
}

/// A learner's story.
#[must_use]
pub fn story(learner: &LearnerView, given: &Given, filter: &Filter) -> Story {
    let records = learner.records.iter().filter(|record| {
        let wanted = filter.course.as_ref().map(|course| course.to_lowercase());
        wanted.is_none_or(|wanted| is_about(&record.facts, &wanted))
    });
    let records = records.map(|record| record_story(learner, record, given, filter.destination.as_deref())).collect();
    Story {
        name: name(learner.learner.as_ref()),
        portal: learner.portal.clone(),
        lms_id: learner.lms_id.clone(),
        state: learner.state.clone(),
        read_at: learner.read_at,
        next_read_at: learner.next_read_at,
        about: about(learner, given),
        records,
        events: learner.events.clone(),
        links: learner.links.clone(),
    }
}

/// Whether a record's course or title contains a text in lower case.
pub(super) fn is_about(facts: &Record, wanted: &str) -> bool {
    let course = facts.course.as_ref().map(|course| course.name.to_lowercase()).unwrap_or_default();
    course.contains(wanted) || facts.title.to_lowercase().contains(wanted)
}

/// The titles and courses of records, each once.
pub(super) fn titles<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<String> {
    let mut names = BTreeSet::new();
    for facts in records {
        names.insert(facts.title.clone());
        names.extend(facts.course.as_ref().map(|course| course.name.clone()));
    }
    names.into_iter().collect()
}

fn about(learner: &LearnerView, given: &Given) -> Vec<String> {
    let at = |at| moment(at, given.zone);
    let mut about = Vec::new();
    let read = learner.read_at.map_or_else(
        || "They have not been read from the LMS yet".to_owned(),
        |read_at| format!("Last read from the LMS on {}", at(read_at)),
    );
    let next = match learner.next_read_at {
        Some(next) => format!("next {}", soon(next, given.now, given.zone)),
        None => format!("next {}", next_night(given)),
    };
    match learner.state.as_str() {
        "erased" => {
            about.push(
                "This person was erased from learnsync: their name and all that was personal are gone, and they are not read \
                 again. What stands in the destinations is for HR to keep or remove."
                    .to_owned(),
            );
            return about;
        }
        "gone" => about.push(format!(
            "The LMS no longer knows them (asked on {}). What they earned stays where it is.",
            learner.read_at.map(at).unwrap_or_default()
        )),
        "inactive" => {
            about.push(format!("They are inactive in the LMS; what they earned stays where it is. {read}, {next}."))
        }
        _ => about.push(format!("{read}, {next}.")),
    }
    let open = |state: &str| learner.promises.iter().rfind(|promise| promise.state == state);
    if let Some(promise) = open("open") {
        about.push(format!(
            "A webhook of {} told of a {} that the LMS does not show yet: the LMS sometimes shows a fact later than it tells of \
             it. They are read again {}, and in the night at the latest.",
            at(promise.received_at),
            promise.kind.noun(),
            learner.next_read_at.map_or_else(|| "soon".to_owned(), |next| soon(next, given.now, given.zone))
        ));
    }
    if let Some(promise) = open("expired").filter(|promise| given.now.0 - promise.received_at.0 < EXPIRED_SHOWN_MS) {
        about.push(format!(
            "A webhook of {} told of a {} that the LMS did not show in the quarter of an hour after it. If it is there by now, it is \
             found {}; to have it at once, the administrator of learnsync runs `learnsync reconcile`.",
            at(promise.received_at),
            promise.kind.noun(),
            next_night(given)
        ));
    }
    if learner.records.is_empty() {
        about.push("The LMS showed no completion, certificate or competency of theirs.".to_owned());
    }
    about
}

fn record_story(learner: &LearnerView, record: &RecordView, given: &Given, only: Option<&str>) -> RecordStory {
    let facts = &record.facts;
    let achieved =
        facts.achieved.map_or_else(|| "without a date".to_owned(), |at| format!("of {}", day(at, given.zone)));
    let valid = facts.valid_until.map(|at| format!(", valid until {}", day(at, given.zone))).unwrap_or_default();
    RecordStory {
        key: record.key.clone(),
        kind: facts.kind.to_string(),
        title: facts.title.clone(),
        course: facts.course.as_ref().map(|course| course.name.clone()),
        achieved: facts.achieved.map(|at| at.to_string()),
        valid_until: facts.valid_until.map(|at| at.to_string()),
        state: record.state.clone(),
        headline: format!("{} \"{}\" {achieved}{valid}", super::words::capital(facts.kind.noun()), facts.title),
        origin: origin(learner, record, given),
        answers: answers(learner, record, given, only),
    }
}

/// Which webhook told of a record, or that none did.
fn origin(learner: &LearnerView, record: &RecordView, given: &Given) -> String {
    let told = learner.promises.iter().find(|promise| {
        let promised =
            Promise { kind: promise.kind, thing: promise.thing.clone(), received_at: promise.received_at, tries: 0 };
        keeps(&record.facts, &promised, given.now)
    });
    match told {
        Some(promise) => format!("A webhook of {} told of it.", moment(promise.received_at, given.zone)),
        None => format!(
            "No webhook told of it: it was found by reading the LMS, on {}.",
            moment(record.read_at, given.zone)
        ),
    }
}

fn answers(learner: &LearnerView, record: &RecordView, given: &Given, only: Option<&str>) -> Vec<Answer> {
    let configured = given.destinations.iter().map(|destination| destination.name.as_str());
    let delivered = record.deliveries.iter().map(|delivery| delivery.destination.as_str());
    let names: BTreeSet<&str> =
        configured.chain(delivered).filter(|name| only.is_none_or(|only| only == *name)).collect();
    let mut answers = Vec::new();
    for name in names {
        let place = Place::of(name, learner.places.iter().find(|place| place.name == name), given);
        let mut here = record.deliveries.iter().filter(|delivery| delivery.destination == name).peekable();
        if here.peek().is_none() {
            answers.push(answer(&place, None, unplanned::said(learner, record, &place, given)));
        }
        for delivery in here {
            let case = Case { learner, record, delivery, place: &place, given };
            let mut said = states::said(&case);
            if given.is_running == Some(false) && is_under_way(&delivery.state) {
                stop(&mut said);
            }
            answers.push(answer(&place, Some(delivery), said));
        }
    }
    answers
}

fn answer(place: &Place<'_>, delivery: Option<&crate::store::view::DeliveryView>, said: Said) -> Answer {
    let Said { verdict, headline, because, since, next, next_at, help } = said;
    Answer {
        destination: place.name.to_owned(),
        route: delivery.map(|delivery| delivery.route.clone()),
        verdict,
        headline,
        because,
        since,
        next,
        next_at,
        help,
        evidence: delivery.cloned(),
    }
}

fn is_under_way(state: &str) -> bool {
    match DeliveryState::parse(state) {
        Some(DeliveryState::Pending | DeliveryState::Sending | DeliveryState::Uncertain) => true,
        Some(DeliveryState::Settled | DeliveryState::Parked | DeliveryState::Skipped | DeliveryState::Superseded)
        | None => false,
    }
}

/// Without a daemon nothing happens, whatever is due.
fn stop(said: &mut Said) {
    said.next = "Nothing, because learnsync is not running. Once it is started, it goes on where it was.".to_owned();
    said.next_at = None;
    said.help = Help::by(Who::Administrator, "start learnsync.");
}
