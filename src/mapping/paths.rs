//! Paths into a record and its learner: the names that a mapping may use.

use chrono_tz::Tz;
use learnsync_sdk::Learner;

use crate::domain::record::Record;
use crate::domain::time::LmsTime;

/// All paths but `learner.custom.<name>`.
pub const PATHS: &[&str] = &[
    "kind",
    "id",
    "key",
    "title",
    "achieved",
    "valid_until",
    "course.id",
    "course.name",
    "course.external_id",
    "score",
    "credits",
    "minutes",
    "hours",
    "notes",
    "external_id",
    "standing",
    "by",
    "session.id",
    "session.name",
    "department",
    "category",
    "members",
    "learner.id",
    "learner.external_id",
    "learner.employee_number",
    "learner.username",
    "learner.first_name",
    "learner.last_name",
    "learner.email",
];

const CUSTOM: &str = "learner.custom.";

/// The one path whose value changes by the calendar alone.
pub(crate) const STANDING: &str = "standing";

/// A path that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(String);

/// What stands at a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    Nothing,
    Text(String),
    Number(f64),
    Time(LmsTime),
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// It is none; the message names the nearest.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if PATHS.contains(&text) || text.strip_prefix(CUSTOM).is_some_and(|name| !name.is_empty()) {
            return Ok(Self(text.to_owned()));
        }
        let nearest = crate::config::nearest(text, PATHS.iter().copied());
        let hint = nearest
            .map_or_else(|| format!("the paths are {}", PATHS.join(", ")), |path| format!("did you mean \"{path}\"?"));
        Err(format!("\"{text}\" is no path of a record, {hint}"))
    }

    /// Whether it is how a record stands.
    pub(crate) fn is_standing(&self) -> bool {
        self.0 == STANDING
    }

    /// What stands there.
    pub(crate) fn find(&self, record: &Record, learner: &Learner) -> Found {
        let text =
            |value: &Option<String>| value.clone().filter(|text| !text.is_empty()).map_or(Found::Nothing, Found::Text);
        let number = |value: Option<f64>| value.map_or(Found::Nothing, Found::Number);
        let course = record.course.as_ref();
        match self.0.as_str() {
            "kind" => Found::Text(record.kind.to_string()),
            "id" => Found::Text(record.id.clone()),
            "key" => Found::Text(record.key()),
            "title" => text(&Some(record.title.clone())),
            "achieved" => record.achieved.map_or(Found::Nothing, Found::Time),
            "valid_until" => record.valid_until.map_or(Found::Nothing, Found::Time),
            "course.id" => text(&course.map(|course| course.id.clone())),
            "course.name" => text(&course.map(|course| course.name.clone())),
            "course.external_id" => text(&course.and_then(|course| course.external_id.clone())),
            "score" => number(record.score),
            "credits" => number(record.credits),
            "minutes" => number(record.minutes),
            "hours" => number(record.minutes.map(hours)),
            "notes" => text(&record.notes),
            "external_id" => text(&record.external_id),
            "standing" => record.standing.map_or(Found::Nothing, |standing| Found::Text(standing.as_str().to_owned())),
            "by" => text(&record.by),
            "session.id" => text(&record.session.as_ref().map(|session| session.id.clone())),
            "session.name" => text(&record.session.as_ref().map(|session| session.name.clone())),
            "department" => text(&record.department),
            "category" => text(&record.category),
            // Exact up to 2^53 members.
            "members" => number(record.members.map(|count| count as f64)),
            "learner.id" => Found::Text(learner.id.clone()),
            "learner.external_id" => text(&learner.external_id),
            "learner.employee_number" => text(&learner.employee_number),
            "learner.username" => text(&learner.username),
            "learner.first_name" => text(&learner.first_name),
            "learner.last_name" => text(&learner.last_name),
            "learner.email" => text(&learner.email),
            custom => text(&custom.strip_prefix(CUSTOM).and_then(|name| learner.custom.get(name).cloned())),
        }
    }
}

/// Minutes as hours, to two decimals: what HR systems show.
fn hours(minutes: f64) -> f64 {
    (minutes / 60.0 * 100.0).round() / 100.0
}

impl Found {
    /// As text: an instant as RFC 3339, a date as yyyy-mm-dd.
    pub(crate) fn text(&self, zone: Tz) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Text(text) => Some(text.clone()),
            Self::Number(number) => Some(number.to_string()),
            Self::Time(LmsTime::Date(date)) => Some(date.to_string()),
            Self::Time(LmsTime::Instant(at)) => {
                Some(at.utc().with_timezone(&zone).to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
            }
        }
    }
}

/// All paths as nested objects, for templates. What has no value is left out: strict templates then say so.
pub(crate) fn context(record: &Record, learner: &Learner, zone: Tz) -> serde_json::Value {
    let mut root = serde_json::Map::new();
    let custom: serde_json::Map<_, _> =
        learner.custom.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    for path in PATHS {
        let value = match Path((*path).to_owned()).find(record, learner) {
            Found::Nothing => continue,
            Found::Number(number) => number.into(),
            Found::Time(time) => match path.split_once('.') {
                None => time.date_in(zone).to_string().into(),
                Some(_) => unreachable!("only top-level paths are times"),
            },
            Found::Text(text) => text.into(),
        };
        match path.split_once('.') {
            None => {
                root.insert((*path).to_owned(), value);
            }
            Some((outer, inner)) => {
                let nested = root.entry(outer).or_insert_with(|| serde_json::Map::new().into());
                if let Some(nested) = nested.as_object_mut() {
                    nested.insert(inner.to_owned(), value);
                }
            }
        }
    }
    if let Some(nested) = root.get_mut("learner").and_then(serde_json::Value::as_object_mut) {
        nested.insert("custom".to_owned(), custom.into());
    }
    root.into()
}
