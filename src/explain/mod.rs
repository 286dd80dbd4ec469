//! Where a record is, why, what happens next and who can help, in the words of somebody in HR. Pure: values in, sentences out.

mod causes;
mod drifted;
mod overview;
mod render;
mod states;
mod story;
mod stranger;
mod unplanned;
mod words;

use chrono_tz::Tz;
use learnsync_sdk::{AfterUnknown, MatchRule, RecordKind, SlotRule};
use serde::Serialize;

use crate::config::History;
use crate::domain::time::{Timestamp, as_utc_if_any};
use crate::store::view::{DeliveryView, PlaceView};

pub use overview::{Overview, overview};
pub use render::{Paint, render_overview, render_story, render_stranger};
pub use story::{Filter, RecordStory, Story, story};
pub use stranger::{Found, Live, Stranger, stranger};

/// What is known beside the ledger: the hour, the zone, and the configuration.
#[derive(Clone, Debug)]
pub struct Given {
    /// When this is.
    pub now: Timestamp,
    /// The zone of all times in sentences.
    pub zone: Tz,
    /// When the LMS is next read from end to end.
    pub next_night: Option<Timestamp>,
    /// Whether a daemon runs on this store; none when that cannot be known.
    pub is_running: Option<bool>,
    /// The configuration's main file, as it was named.
    pub file: String,
    /// The destinations as configured.
    pub destinations: Vec<Configured>,
}

/// A destination as configured.
#[derive(Clone, Debug)]
pub struct Configured {
    /// Its name.
    pub name: String,
    /// Its connector.
    pub connector: String,
    /// The file that it is configured in, as it was named.
    pub file: String,
    /// Whether it has a file of its own, and not a table of the main one.
    pub has_own_file: bool,
    /// What is wrong with its configuration, if anything is: then it is switched off.
    pub wrong: Option<String>,
    /// Its routes.
    pub routes: Vec<ConfiguredRoute>,
    /// Which facts of before its first start it gets.
    pub history: History,
    /// How learners are recognised, in order.
    pub match_rules: Vec<MatchRule>,
    /// What follows a write of unknown outcome.
    pub after_unknown: AfterUnknown,
    /// Whether it is only read.
    pub is_shadow: bool,
}

/// A route as configured.
#[derive(Clone, Debug)]
pub struct ConfiguredRoute {
    /// Its name.
    pub name: String,
    /// Which records it takes.
    pub record: RecordKind,
    /// Which records share one place.
    pub slot: SlotRule,
    /// Whether it only appends: what was told cannot be changed.
    pub is_append: bool,
}

/// Whether a record is in a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is there, as the LMS has it.
    There,
    /// It is there, but not as the LMS has it now.
    ThereButOlder,
    /// It is not there.
    NotThere,
    /// Nobody knows at this moment, or ever.
    Perhaps,
}

/// Who can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// Nobody needs to.
    Nobody,
    /// Whoever keeps the people and records in the destination.
    Hr,
    /// Whoever keeps the LMS.
    LmsAdministrator,
    /// Whoever runs learnsync.
    Administrator,
}

impl Who {
    /// In words, at the beginning of a sentence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nobody => "Nobody needs to do anything",
            Self::Hr => "HR",
            Self::LmsAdministrator => "The administrator of the LMS",
            Self::Administrator => "The administrator of learnsync",
        }
    }

    /// The same, where there is little room.
    fn in_short(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Hr => "HR",
            Self::LmsAdministrator => "LMS",
            Self::Administrator => "you",
        }
    }
}

/// What helps, and who must act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Help {
    /// Who.
    pub who: Who,
    /// What to do; empty when nobody needs to do anything.
    pub what: String,
}

impl Help {
    fn none() -> Self {
        Self { who: Who::Nobody, what: String::new() }
    }

    fn by(who: Who, what: impl Into<String>) -> Self {
        Self { who, what: what.into() }
    }
}

/// Where one record is, seen from one destination.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// The destination.
    pub destination: String,
    /// The route, when one takes the record.
    pub route: Option<String>,
    /// Whether it is there.
    pub verdict: Verdict,
    /// The answer in one sentence.
    pub headline: String,
    /// Why.
    pub because: String,
    /// Since when, if the ledger knows.
    #[serde(serialize_with = "as_utc_if_any")]
    pub since: Option<Timestamp>,
    /// What happens next.
    pub next: String,
    /// When, if that is known.
    #[serde(serialize_with = "as_utc_if_any")]
    pub next_at: Option<Timestamp>,
    /// What helps.
    pub help: Help,
    /// What the ledger holds of it: the proof, and every attempt.
    pub evidence: Option<DeliveryView>,
}

/// What is said about a delivery, before it becomes an answer.
struct Said {
    verdict: Verdict,
    headline: String,
    because: String,
    since: Option<Timestamp>,
    next: String,
    next_at: Option<Timestamp>,
    help: Help,
}

/// How a destination stands, from what is configured and what the ledger holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// It is written to.
    Active,
    /// It waits, as a whole.
    Paused { cause: PauseCause, until: Option<Timestamp> },
    /// It is in no file any more.
    Retired,
    /// It is configured, but not as it must be.
    SwitchedOff(String),
    /// It is configured, and the daemon has not been started with it.
    NotStarted,
    /// It is read and compared, and nothing is written to it.
    Shadow,
}

/// Why a destination waits as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PauseCause {
    /// The target asked for it.
    Throttled,
    /// It failed for several people in a row.
    CircuitOpen,
    /// It refuses our credentials.
    Unauthorized,
    /// Another account answers.
    AccountChanged,
    /// A person asked for it.
    Operator,
    /// The ledger was restored just now.
    Restored,
    /// A word of another version.
    Other(String),
}

impl PauseCause {
    fn parse(word: &str) -> Self {
        match word {
            "throttled" => Self::Throttled,
            "circuit_open" => Self::CircuitOpen,
            "unauthorized" => Self::Unauthorized,
            "account_changed" => Self::AccountChanged,
            "operator" => Self::Operator,
            "restored" => Self::Restored,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// A destination, from both sides.
struct Place<'a> {
    name: &'a str,
    label: String,
    standing: Standing,
    configured: Option<&'a Configured>,
    ledger: Option<&'a PlaceView>,
}

impl<'a> Place<'a> {
    fn of(name: &'a str, ledger: Option<&'a PlaceView>, given: &'a Given) -> Self {
        let configured = given.destinations.iter().find(|destination| destination.name == name);
        // Of a destination whose configuration is wrong, only the ledger may know the connector.
        let named = configured.map(|one| &one.connector).filter(|connector| !connector.is_empty());
        let connector = named.or(ledger.map(|one| &one.connector));
        let label = match connector {
            Some(connector) if connector != name => format!("{name} ({connector})"),
            Some(_) | None => name.to_owned(),
        };
        let standing = match (configured, ledger) {
            (Some(Configured { wrong: Some(wrong), .. }), _) => Standing::SwitchedOff(wrong.clone()),
            (Some(_), None) => Standing::NotStarted,
            (Some(Configured { is_shadow: true, .. }), Some(ledger)) if ledger.state != "retired" => Standing::Shadow,
            (configured, Some(ledger)) => match (ledger.state.as_str(), configured) {
                ("retired", Some(_)) => Standing::NotStarted,
                ("retired", None) => Standing::Retired,
                ("paused", _) => Standing::Paused {
                    cause: PauseCause::parse(ledger.pause_cause.as_deref().unwrap_or_default()),
                    until: ledger.paused_until,
                },
                _ => Standing::Active,
            },
            (None, None) => Standing::Retired,
        };
        Self { name, label, standing, configured, ledger }
    }

    /// The file that it is configured in.
    fn file(&self, given: &Given) -> String {
        self.configured.map_or_else(|| given.file.clone(), |configured| configured.file.clone())
    }

    /// A key of the destination, as it stands in its file.
    fn key(&self, below: &str) -> String {
        match self.configured {
            Some(Configured { has_own_file: true, .. }) => below.to_owned(),
            Some(_) | None => format!("destinations.{}.{below}", self.name),
        }
    }
}

/// When the next night is, in words.
fn next_night(given: &Given) -> String {
    given.next_night.map_or_else(|| "in the next night".to_owned(), |at| words::soon(at, given.now, given.zone))
}

#[cfg(test)]
mod tests;
