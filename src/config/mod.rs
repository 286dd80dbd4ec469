//! The configuration: what can be set, its limits and defaults, and how it is read.

mod admin;
mod files;
mod load;
mod nearest;
mod reference;
pub(crate) mod schema;
mod secrets;
mod settings;
mod shape;
mod source;
mod validate;

pub use admin::{AdminAddress, SOCKET_BYTES_MAX};
pub use files::{FILE_BYTES_MAX, FILES_MAX, File, Files};
pub use load::{Draft, draft, load, parse, time_zone};
pub use nearest::nearest;
pub(crate) use nearest::unknown;
pub use reference::{Given, Kind, Limit, SETTINGS, Setting, Type, settings_table};
pub use schema::{schema_of_destination, schema_of_main};
pub use secrets::{PortalSecrets, SECRET_BYTES_MAX, portal_secrets, resolve, token_key};
pub use settings::{Settings, settings};
pub use source::{ConfigError, ConfigErrors, Source, Told};
pub use validate::{destination_name, installation_name, portal_url};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use chrono::{NaiveDate, NaiveTime};
use chrono_tz::Tz;
use learnsync_sdk::{MatchRule, RecordKind, RouteMode, SlotRule};
use serde::Deserialize;

use crate::domain::drift::{GonePolicy, Policies, Policy};

/// The whole configuration file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The name of this installation; part of every mark that we leave in a target: 1 to 32 of `a-z 0-9 -`.
    pub installation: String,
    /// Where the store and its key file live.
    pub store: StoreConfig,
    /// The webhook listener.
    #[serde(default)]
    pub listen: ListenConfig,
    /// The admin listener.
    #[serde(default)]
    pub admin: AdminConfig,
    /// The LMS portals, by name.
    pub portals: BTreeMap<String, PortalConfig>,
    /// The destinations, by name.
    #[serde(default)]
    pub destinations: BTreeMap<String, DestinationConfig>,
    /// The nightly reconciliation.
    #[serde(default)]
    pub reconcile: ReconcileConfig,
    /// Whether nothing at all is written to any destination: all of them are in shadow.
    #[serde(default)]
    pub read_only: bool,
}

/// Where the store lives.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The folder; holds `learnsync.db`, `learnsync.keys` and the lock file.
    pub path: PathBuf,
    /// A secret under which logins by OAuth are sealed in the store, too; required where a portal has `oauth`.
    #[serde(default)]
    pub token_key: Option<Secret>,
}

/// The webhook listener and its limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenConfig {
    /// Address and port; put a TLS reverse proxy in front.
    pub address: SocketAddr,
    /// Largest webhook body after decoding, in bytes.
    pub body_bytes_max: usize,
    /// Longest time for the head of a request, in seconds.
    pub header_seconds_max: u64,
    /// Longest time for the body of a request, in seconds.
    pub body_seconds_max: u64,
    /// Most connections at once.
    pub connections_max: usize,
    /// Webhooks accepted per second, sustained.
    pub hooks_per_second_max: u32,
    /// Webhooks accepted in one burst.
    pub hooks_burst_max: u32,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8480)),
            body_bytes_max: 256 * 1024,
            header_seconds_max: 10,
            body_seconds_max: 15,
            connections_max: 1024,
            hooks_per_second_max: 2_000,
            hooks_burst_max: 50_000,
        }
    }
}

/// The admin listener: health and metrics, for this machine only.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// A loopback address and port, or `unix:` and the path of a socket; without it, `admin.sock` in the store's folder.
    pub listen: Option<AdminAddress>,
}

/// One Absorb portal.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortalConfig {
    /// The region that hosts the portal; or else `url`.
    #[serde(default)]
    pub region: Option<Region>,
    /// Whether it is the region's sandbox.
    #[serde(default)]
    pub sandbox: bool,
    /// The API's base URL, for example `https://rest.myabsorb.com`; instead of `region`.
    #[serde(default)]
    pub url: Option<String>,
    /// The portal's private API key (sent as `x-api-key`).
    pub api_key: Secret,
    /// The admin account that only learnsync uses; with `password`, or else `oauth`.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A login by OAuth 2 instead of a password; then `learnsync login <portal>` asks an administrator once.
    #[serde(default)]
    pub oauth: Option<OAuthConfig>,
    /// The secret last part of the webhook URL: at least 16 characters.
    pub webhook_token: Secret,
    /// The zone of the portal's people, for turning instants into dates.
    #[serde(default = "utc")]
    pub zone: Tz,
    /// API calls per second, shared by all that we do.
    #[serde(default = "calls_per_second")]
    pub calls_per_second_max: u32,
    /// API calls under way at once.
    #[serde(default = "calls_at_once")]
    pub calls_at_once_max: usize,
    /// Where a learner's competencies are; Absorb does not document it. `{user}` stands for the learner's id.
    #[serde(default = "competencies_path")]
    pub competencies_path: String,
    /// Where a learner's certificates are.
    #[serde(default = "certificates_path")]
    pub certificates_path: String,
    /// Where a learner's learning paths are; Absorb does not document it. Without it they are taken as their webhooks tell them.
    #[serde(default)]
    pub learning_paths_path: Option<String>,
    /// So many days before its last one a certificate is said to expire.
    #[serde(default = "expiring_days")]
    pub expiring_days: u32,
    /// Names that this portal's webhooks give to events, each with the name on Absorb's list.
    #[serde(default)]
    pub event_aliases: BTreeMap<String, String>,
    /// How many learners the portal shows to its administrators; `check --online` compares, and so finds a role that sees too little.
    #[serde(default)]
    pub expected_learners: Option<u64>,
}

impl PortalConfig {
    /// The API's base URL: that of the region, or the one that is given.
    #[must_use]
    pub fn api_url(&self) -> String {
        match (self.region, &self.url) {
            (Some(region), _) => region.url(self.sandbox).to_owned(),
            (None, url) => url.clone().unwrap_or_default(),
        }
    }
}

/// Where a portal is hosted. The hosts are Absorb's own list (<https://docs.myabsorb.com/integration-api/v2/docs>); not every portal has a
/// sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /// The United States.
    Us,
    /// Canada.
    Ca,
    /// Europe.
    Eu,
    /// Australia.
    Au,
}

impl Region {
    /// The API's base URL.
    #[must_use]
    pub fn url(self, is_sandbox: bool) -> &'static str {
        match (self, is_sandbox) {
            (Self::Us, false) => "https://rest.myabsorb.com",
            (Self::Ca, false) => "https://rest.myabsorb.ca",
            (Self::Eu, false) => "https://rest.myabsorb.eu",
            (Self::Au, false) => "https://rest.myabsorb.com.au",
            (Self::Us, true) => "https://rest.sandbox.myabsorb.com",
            (Self::Ca, true) => "https://rest.sandbox.myabsorb.ca",
            (Self::Eu, true) => "https://rest.sandbox.myabsorb.eu",
            (Self::Au, true) => "https://rest.sandbox.myabsorb.com.au",
        }
    }
}

/// A login by OAuth 2 (<https://docs.myabsorb.com/docs/integration-api/authentication/oauth>).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuthConfig {
    /// The client's id, from the portal's settings.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// The portal's own address, for example `https://acme.myabsorb.com`.
    pub portal_url: String,
    /// Where the portal sends the administrator after the login, as set there; nothing needs to answer.
    pub redirect_uri: String,
}

fn utc() -> Tz {
    Tz::UTC
}
fn calls_per_second() -> u32 {
    50
}
fn calls_at_once() -> usize {
    6
}
fn expiring_days() -> u32 {
    30
}
fn competencies_path() -> String {
    "/users/{user}/competencies".to_owned()
}
fn certificates_path() -> String {
    "/users/{user}/certificates".to_owned()
}

/// A secret: given by the name of a systemd credential, a file, or an environment variable; never in the file itself.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Secret {
    /// A file of this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A file; its last line end is cut.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Credential(_) => "Secret(credential)",
            Self::File(_) => "Secret(file)",
            Self::Env(_) => "Secret(env)",
        })
    }
}

/// One destination: a connector and its settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationConfig {
    /// The connector's name, for example `bamboohr`.
    pub connector: String,
    /// The connector's own settings.
    #[serde(default)]
    pub settings: toml::Table,
    /// Secrets for the settings: setting name -> where it stands.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// Which facts of before the first start are delivered: `"none"`, `"all"`, or since a date. There is no default.
    pub history: History,
    /// How learners are recognised, in order.
    #[serde(default = "match_rules")]
    pub match_rules: Vec<MatchRule>,
    /// The routes, by name; without any, the connector's default ones.
    #[serde(default)]
    pub routes: BTreeMap<String, RouteConfig>,
    /// Reference data: kind -> how courses find theirs.
    #[serde(default)]
    pub references: BTreeMap<String, ReferenceConfig>,
    /// The zone in which instants become dates; without it, the portal's.
    #[serde(default)]
    pub zone: Option<Tz>,
    /// How long after a write of unknown outcome the target may still be committing, in seconds; without it, the connector's own.
    #[serde(default)]
    pub settle_seconds: Option<u32>,
    /// Daily hours in which routes that append tell nothing; what gathers meanwhile is told afterwards.
    #[serde(default)]
    pub quiet_hours: Option<QuietHours>,
    /// How long after it was achieved something is still told by routes that append, in hours.
    #[serde(default = "late_after_hours")]
    pub late_after_hours: u32,
    /// `live`, or `shadow`: then it is read and compared, and nothing can be written to it.
    #[serde(default)]
    pub mode: DestinationMode,
    /// What the night does about rows that are not as we wrote them.
    #[serde(default)]
    pub drift: DriftConfig,
    /// What the night must not do without a person's yes.
    #[serde(default)]
    pub guard: GuardConfig,
}

/// Whether a destination is written to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationMode {
    /// It is.
    #[default]
    Live,
    /// It is only read.
    Shadow,
}

/// What the night does about rows that are not as we wrote them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DriftConfig {
    /// A row that is not there any more: `repair`, `report` or `ignore`.
    pub missing: Option<Policy>,
    /// A row that stands under another person now: `repair`, `report` or `ignore`.
    pub moved: Option<Policy>,
    /// A row that lost our mark: `repair`, `report` or `ignore`.
    pub unmarked: Option<Policy>,
    /// A field that somebody changed: `repair`, `report`, `adopt` or `ignore`.
    pub edited: Option<Policy>,
    /// The same for single fields of the target: name -> policy.
    pub fields: BTreeMap<String, Policy>,
    /// A row whose fact the LMS no longer shows, as two complete reads say: `keep`, `report` or `withdraw`.
    pub gone: Option<GonePolicy>,
}

impl DriftConfig {
    /// The policies; what is not set is as in these.
    #[must_use]
    pub fn policies(&self, given: &Policies) -> Policies {
        let mut fields = given.fields.clone();
        fields.extend(self.fields.clone());
        Policies {
            missing: self.missing.unwrap_or(given.missing),
            moved: self.moved.unwrap_or(given.moved),
            unmarked: self.unmarked.unwrap_or(given.unmarked),
            edited: self.edited.unwrap_or(given.edited),
            fields,
            gone: self.gone.unwrap_or(given.gone),
        }
    }
}

/// What the night must not do without a person's yes: beyond any of these a run is held, and nothing of it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// The largest part of the rows that one night may write again, in percent.
    pub changed_percent_max: u32,
    /// So many rows may always be written again.
    pub changed_rows_min: u32,
    /// The most rows that one night may remove.
    pub withdrawn_rows_max: u32,
    /// The largest part of the rows that may be unreadable, in percent.
    pub unreadable_percent_max: u32,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { changed_percent_max: 20, changed_rows_min: 20, withdrawn_rows_max: 10, unreadable_percent_max: 20 }
    }
}

fn late_after_hours() -> u32 {
    24
}

fn match_rules() -> Vec<MatchRule> {
    vec![MatchRule::EXTERNAL_ID, MatchRule::EMPLOYEE_NUMBER, MatchRule::EMAIL]
}

/// Daily hours in which nothing is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// When they begin, such as `"20:00"`.
    pub from: DayTime,
    /// When they end, such as `"07:00"`; on the next day, if that is earlier.
    pub until: DayTime,
    /// The zone of both; without it, the destination's.
    #[serde(default)]
    pub zone: Option<Tz>,
}

impl QuietHours {
    /// How long they last, in minutes, on a day without a change of the clock; a whole day when they end where they begin.
    #[must_use]
    pub fn minutes(&self) -> i64 {
        match (self.until.0 - self.from.0).num_minutes().rem_euclid(MINUTES_OF_DAY) {
            0 => MINUTES_OF_DAY,
            minutes => minutes,
        }
    }
}

const MINUTES_OF_DAY: i64 = 24 * 60;

/// A time of the day, to the minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayTime(pub NaiveTime);

impl<'de> Deserialize<'de> for DayTime {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        // A time may stand with or without quotes: TOML has times of its own.
        let text = match toml::Value::deserialize(input)? {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for DayTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = NaiveTime::parse_from_str(text, "%H:%M").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M:00"));
        time.map(Self).map_err(|_| format!("\"{text}\" is no time of the day, write one such as \"20:00\""))
    }
}

/// Which facts of before the first start a destination gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Only facts achieved after the destination was first seen.
    None,
    /// All.
    All,
    /// Those achieved on or after a date.
    Since(NaiveDate),
}

impl<'de> Deserialize<'de> for History {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        // A date may stand with or without quotes: TOML has dates of its own.
        let text = match toml::Value::deserialize(input)? {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl std::str::FromStr for History {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "all" => Ok(Self::All),
            date => date.parse().map(Self::Since).map_err(|_| {
                format!("\"{date}\" is not a history: write \"none\", \"all\" or a date like \"2026-01-31\"")
            }),
        }
    }
}

/// One route.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Which records it takes.
    pub record: RecordKind,
    /// The target object, in the connector's words.
    pub object: String,
    /// State or append.
    #[serde(default = "state")]
    pub mode: RouteMode,
    /// Which records share one place in the target: `record` (none), or `person_course` for targets with one row a person and course.
    #[serde(default)]
    pub slot: SlotRule,
    /// Target field <- source; without any, the connector's default mapping for this kind of record.
    #[serde(default)]
    pub fields: BTreeMap<String, SourceConfig>,
    /// What the night does about this route's rows that are not as we wrote them; what is not set here is as for the destination.
    #[serde(default)]
    pub drift: DriftConfig,
}

fn state() -> RouteMode {
    RouteMode::State
}

/// Where a target field's value comes from: exactly one of path, constant, template, lookup, reference.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceConfig {
    /// A path into the record, for example `course.name`.
    pub path: Option<String>,
    /// A fixed value.
    pub constant: Option<toml::Value>,
    /// A MiniJinja template over the record.
    pub template: Option<String>,
    /// A path whose value is looked up in `table`.
    pub lookup: Option<String>,
    /// The table of `lookup`.
    pub table: BTreeMap<String, String>,
    /// A kind of reference data; the course finds it as `references.<kind>` says.
    pub reference: Option<String>,
    /// What happens when the record has no value: `keep` leaves the field as it is, unless an earlier value was ours: that is blanked; `clear` blanks it in any case; `park` sets the record aside.
    pub when_missing: WhenMissing,
}

/// The one source that a `SourceConfig` names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Choice<'a> {
    /// A path into the record.
    Path(&'a str),
    /// A fixed value.
    Constant(&'a toml::Value),
    /// A MiniJinja template.
    Template(&'a str),
    /// A path, and the table that its value is looked up in.
    Lookup(&'a str, &'a BTreeMap<String, String>),
    /// A kind of reference data.
    Reference(&'a str),
}

impl SourceConfig {
    /// The one source.
    ///
    /// # Errors
    /// There is none, or more than one; or `lookup` and `table` do not come together.
    pub fn choice(&self) -> Result<Choice<'_>, String> {
        let named = [
            ("path", self.path.as_deref().map(Choice::Path)),
            ("constant", self.constant.as_ref().map(Choice::Constant)),
            ("template", self.template.as_deref().map(Choice::Template)),
            ("lookup", self.lookup.as_deref().map(|path| Choice::Lookup(path, &self.table))),
            ("reference", self.reference.as_deref().map(Choice::Reference)),
        ];
        let found: Vec<_> = named.into_iter().filter_map(|(word, choice)| Some((word, choice?))).collect();
        let choice = match found.as_slice() {
            [(_, choice)] => *choice,
            [] => return Err("names no source, write one of path, constant, template, lookup, reference".to_owned()),
            several => {
                let words: Vec<_> = several.iter().map(|(word, _)| *word).collect();
                return Err(format!("names {} sources ({}), keep one of them", words.len(), words.join(", ")));
            }
        };
        match (choice, self.table.is_empty()) {
            (Choice::Lookup(..), true) => Err("has a lookup without values, add a table".to_owned()),
            (Choice::Lookup(..), false) | (_, true) => Ok(choice),
            (_, false) => Err("has a table without a lookup, name the path in lookup".to_owned()),
        }
    }
}

/// The null policy of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenMissing {
    /// Leave the target's field alone, but blank out what we wrote there ourselves.
    #[default]
    Keep,
    /// Blank the target's field out.
    Clear,
    /// Park the delivery.
    Park,
}

/// How courses find their reference data.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReferenceConfig {
    /// Course id, external id or name -> reference id or name.
    pub courses: BTreeMap<String, String>,
    /// The reference for every course that is not in `courses`.
    pub default: Option<String>,
    /// Switches off the last rule: a reference of the very same name as the course.
    pub explicit_only: bool,
}

/// The nightly reconciliation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReconcileConfig {
    /// When it is due: a cron expression with five fields.
    pub cron: String,
    /// The zone of the cron expression.
    pub zone: Tz,
}

impl Default for ReconcileConfig {
    fn default() -> Self {
        Self { cron: "15 2 * * *".to_owned(), zone: Tz::UTC }
    }
}
