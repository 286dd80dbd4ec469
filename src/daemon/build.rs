//! From a configuration to things that can be called, offline: connectors, mappings, secrets, clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono_tz::Tz;
use learnsync_sdk::{
    Claim, Connector, ConnectorType, Description, MatchRule, RecordKind, RouteMode, Setting, SlotRule, Toolbox,
};

use super::client::http_client;
use crate::config::{
    Config, ConfigError, ConfigErrors, DestinationConfig, DestinationMode, DriftConfig, GuardConfig, History,
    PortalConfig, PortalSecrets, RouteConfig, Secret, Source, Told, nearest, portal_secrets, resolve, settings,
    token_key,
};
use crate::domain::chance::Entropy;
use crate::domain::drift::Policies;
use crate::domain::event::{EVENTS, event_called};
use crate::domain::standing::Calendar;
use crate::domain::time::{Clock, SystemClock};
use crate::fail_point;
use crate::lms::absorb::payload::Aliases;
use crate::lms::absorb::{Absorb, AbsorbSettings, Credentials, OAuthClient, TokenVault};
use crate::mapping::{Mapping, sources_of};
use crate::pipeline::destination::{Destination, Gate, References, Route};
use crate::pipeline::pace::Pace;
use crate::pipeline::read_only::ReadOnly;
use crate::pipeline::telling::{QuietHours, Telling};
use crate::store::{DestinationRows, DestinationSpec, RouteSpec, TokenKey};
use crate::telemetry::Metrics;

/// All that was built.
#[derive(Default)]
pub struct Parts {
    /// The portals, by name.
    pub portals: BTreeMap<String, BuiltPortal>,
    /// The destinations.
    pub destinations: Vec<BuiltDestination>,
    /// Under which logins by OAuth are sealed, beside the installation's key.
    pub token_key: Option<TokenKey>,
}

/// A portal, ready to be read.
pub struct BuiltPortal {
    /// The secret part of the webhook's URL.
    pub webhook_token: String,
    /// How its calendar is read.
    pub calendar: Calendar,
    /// The names of events that the configuration adds.
    pub aliases: Aliases,
    settings: AbsorbSettings,
    http: reqwest::Client,
}

impl BuiltPortal {
    /// The client; what it needs to remember goes into the vault.
    pub fn lms(&self, vault: Arc<dyn TokenVault>, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> Absorb {
        Absorb::new(self.settings.clone(), self.http.clone(), vault, Arc::clone(clock), Arc::clone(entropy))
    }

    /// The same, counting its requests.
    pub(super) fn counted_lms(
        &self,
        vault: Arc<dyn TokenVault>,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
        metrics: &Arc<Metrics>,
    ) -> Absorb {
        let (settings, http) = (self.settings.clone(), self.http.clone());
        Absorb::counting(settings, http, vault, Arc::clone(clock), Arc::clone(entropy), Arc::clone(metrics))
    }

    /// The client of an OAuth login; none where the portal has a password.
    #[must_use]
    pub fn oauth(&self) -> Option<&OAuthClient> {
        match &self.settings.credentials {
            Credentials::OAuth(client) => Some(client),
            Credentials::Password { .. } => None,
        }
    }
}

/// A destination whose connector and mappings were built.
pub struct BuiltDestination {
    /// Its name.
    pub name: String,
    /// What its connector says about itself.
    pub description: Description,
    /// The code that speaks to the target.
    pub connector: Arc<dyn Connector>,
    /// Which facts of before the first start are delivered.
    pub history: History,
    /// How learners are recognised.
    pub match_rules: Vec<MatchRule>,
    /// The zone in which instants become dates.
    pub zone: Tz,
    /// When routes that only append may tell something.
    pub telling: Telling,
    /// The routes.
    pub routes: Vec<BuiltRoute>,
    /// Whether it is only read.
    pub is_shadow: bool,
    /// What the night must not do by itself.
    pub guard: GuardConfig,
}

/// A route whose mapping was compiled.
pub struct BuiltRoute {
    /// Its name.
    pub name: String,
    /// Which records it takes.
    pub record: RecordKind,
    /// State or append.
    pub mode: RouteMode,
    /// Which records share one place.
    pub slot: SlotRule,
    /// The target object.
    pub object: String,
    /// Record -> fields.
    pub mapping: Arc<Mapping>,
    /// What the night does about its rows.
    pub drift: Policies,
}

impl BuiltDestination {
    /// What the store keeps of it.
    #[must_use]
    pub fn spec(&self) -> DestinationSpec {
        DestinationSpec {
            name: self.name.clone(),
            connector: self.description.name.to_owned(),
            routes: self
                .routes
                .iter()
                .map(|route| RouteSpec {
                    name: route.name.clone(),
                    mode: route.mode,
                    mapping_digest: route.mapping.digest().to_owned(),
                })
                .collect(),
        }
    }

    /// The destination as the pipeline sees it.
    #[must_use]
    pub fn ready(&self, rows: &DestinationRows, installation: &str) -> Destination {
        let routes = self
            .routes
            .iter()
            .map(|route| {
                let row = rows.routes[&route.name];
                let ready = Route {
                    name: route.name.clone(),
                    mode: route.mode,
                    object: route.object.clone(),
                    mapping: Arc::clone(&route.mapping),
                    mapping_id: row.mapping,
                    drift: route.drift.clone(),
                };
                (row.id, ready)
            })
            .collect();
        let is_shadow = self.is_shadow && !fail_point::is_broken_on_purpose("shadow");
        Destination {
            name: self.name.clone(),
            id: rows.id,
            connector: match is_shadow {
                true => Arc::new(ReadOnly(Arc::clone(&self.connector))),
                false => Arc::clone(&self.connector),
            },
            description: self.description.clone(),
            is_shadow,
            routes,
            match_rules: self.match_rules.clone(),
            installation: installation.to_owned(),
            breaker: std::sync::Mutex::default(),
            gate: Gate::default(),
            pace: Pace::new(self.description.batch_interval_ms),
            telling: self.telling.clone(),
            unkept: std::sync::Mutex::default(),
            settling: crate::pipeline::settling::Settling::default(),
            references: References::default(),
        }
    }
}

/// Where secrets are looked for.
pub enum Secrets<'a> {
    /// Where the configuration says that they stand; this reads an environment variable.
    Real(&'a dyn Fn(&str) -> Option<String>),
    /// Nowhere: an example takes their place. Nothing that is built with them may be called.
    Examples,
}

impl Secrets<'_> {
    fn find(&self, secret: &Secret, example: &str) -> Result<String, String> {
        match self {
            Self::Real(env) => resolve(secret, env),
            Self::Examples => Ok(example.to_owned()),
        }
    }
}

/// Builds all parts.
///
/// # Errors
/// All that is wrong, each with its line, column and key.
pub fn build(config: &Config, source: &Source, types: &[Box<dyn ConnectorType>]) -> Result<Parts, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let parts = build_what_is_right(config, source, types, &Secrets::Real(&environment), &mut errors);
    errors.into_result()?;
    Ok(parts)
}

/// Builds the parts that are right; what is wrong with the others goes into `errors`, unless it only echoes what stands there already.
pub(super) fn build_what_is_right(
    config: &Config,
    source: &Source,
    types: &[Box<dyn ConnectorType>],
    secrets: &Secrets<'_>,
    errors: &mut ConfigErrors,
) -> Parts {
    let mut parts = Parts::default();
    let http = match http_client() {
        Ok(http) => http,
        Err(error) => {
            errors.0.push(source.at_key::<&str>(&[], format!("no HTTP client can be built: {error:#}")));
            return parts;
        }
    };
    let told = errors.told();
    let mut found = Vec::new();
    for (name, portal) in &config.portals {
        match portal_secrets(name, portal, source, &|secret, example| secrets.find(secret, example)) {
            Ok(secrets) => {
                let aliases = aliases(name, portal, source, &mut found);
                parts.portals.insert(name.clone(), built_portal(name, portal, aliases, secrets, http.clone()));
            }
            Err(wrong) => found.extend(wrong.0),
        }
    }
    match token_key(&config.store, source, &|secret, example| secrets.find(secret, example)) {
        Ok(key) => parts.token_key = key.as_deref().map(TokenKey::derive),
        Err(wrong) => found.extend(wrong.0),
    }
    let portal_zone = config.portals.values().next().map_or(Tz::UTC, |portal| portal.zone);
    for (name, config_of_it) in &config.destinations {
        let toolbox = Toolbox {
            http: http.clone(),
            installation: config.installation.clone(),
            clock: connector_clock(),
            test_skip_lookup: fail_point::is_broken_on_purpose("lookup"),
        };
        let site = Site { name, config: config_of_it, source, told: &told };
        match build_destination(&site, portal_zone, types, secrets, toolbox) {
            Ok(built) => parts.destinations.push(built),
            Err(wrong) => found.extend(wrong.0),
        }
    }
    let wanted: BTreeSet<RecordKind> =
        parts.destinations.iter().flat_map(|built| built.routes.iter().map(|route| route.record)).collect();
    parts.portals.values_mut().for_each(|portal| portal.settings.kinds.clone_from(&wanted));
    parts.destinations.iter_mut().for_each(|built| built.is_shadow |= config.read_only);
    errors.0.extend(found.into_iter().filter(|error| !told.echoes(error)));
    parts
}

/// The machine's clock, as connectors see it.
fn connector_clock() -> learnsync_sdk::Clock {
    learnsync_sdk::Clock::new(|| SystemClock.now().utc())
}

/// Reads an environment variable.
pub(super) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The names of events that a portal's configuration adds; what means nothing is reported.
fn aliases(name: &str, portal: &PortalConfig, source: &Source, found: &mut Vec<ConfigError>) -> Aliases {
    let mut known = Vec::new();
    for (alias, meant) in &portal.event_aliases {
        let mut wrong = |words| found.push(source.at_value(&["portals", name, "event_aliases", alias], words));
        if !alias.chars().any(char::is_alphanumeric) {
            wrong(format!("\"{alias}\" is no name of an event, it has neither letters nor digits"));
        }
        match event_called(meant) {
            Some(event) => known.push((alias.clone(), event)),
            None => {
                let hint = nearest(meant, EVENTS.iter().map(|event| event.name))
                    .map_or_else(|| "the README lists them".to_owned(), |name| format!("did you mean \"{name}\"?"));
                wrong(format!("\"{meant}\" is no event of Absorb, {hint}"));
            }
        }
    }
    Aliases::new(known)
}

fn built_portal(
    name: &str,
    portal: &PortalConfig,
    aliases: Aliases,
    secrets: PortalSecrets,
    http: reqwest::Client,
) -> BuiltPortal {
    let settings = AbsorbSettings {
        portal: name.to_owned(),
        url: portal.api_url(),
        api_key: secrets.api_key,
        credentials: match &portal.oauth {
            Some(oauth) => Credentials::OAuth(OAuthClient {
                client_id: oauth.client_id.clone(),
                client_secret: secrets.client_secret.unwrap_or_default(),
                portal_url: oauth.portal_url.clone(),
                redirect_uri: oauth.redirect_uri.clone(),
            }),
            None => Credentials::Password {
                username: portal.username.clone().unwrap_or_default(),
                password: secrets.password.unwrap_or_default(),
            },
        },
        certificates_path: portal.certificates_path.clone(),
        competencies_path: portal.competencies_path.clone(),
        learning_paths_path: portal.learning_paths_path.clone(),
        kinds: BTreeSet::new(),
        calls_per_second_max: portal.calls_per_second_max,
        calls_at_once_max: portal.calls_at_once_max,
    };
    let calendar = Calendar { zone: portal.zone, expiring_days: portal.expiring_days };
    BuiltPortal { webhook_token: secrets.webhook_token, calendar, aliases, settings, http }
}

/// A destination in the configuration.
struct Site<'a> {
    name: &'a str,
    config: &'a DestinationConfig,
    source: &'a Source,
    told: &'a Told,
}

impl Site<'_> {
    fn path<'p>(&'p self, below: &[&'p str]) -> Vec<&'p str> {
        ["destinations", self.name].into_iter().chain(below.iter().copied()).collect()
    }

    fn at_key(&self, below: &[&str], message: String) -> ConfigError {
        self.source.at_key(&self.path(below), message)
    }

    fn at_value(&self, below: &[&str], message: String) -> ConfigError {
        self.source.at_value(&self.path(below), message)
    }
}

fn build_destination(
    site: &Site<'_>,
    portal_zone: Tz,
    types: &[Box<dyn ConnectorType>],
    secrets: &Secrets<'_>,
    toolbox: Toolbox,
) -> Result<BuiltDestination, ConfigErrors> {
    let config = site.config;
    let Some(kind) = types.iter().find(|kind| kind.describe().name == config.connector) else {
        return Err(ConfigErrors(vec![site.at_value(&["connector"], no_connector(&config.connector, types))]));
    };
    let mut description = kind.describe();
    let mut errors = ConfigErrors::default();
    let connector = connector(site, &**kind, &description, secrets, &toolbox, &mut errors);
    for name in config.references.keys().filter(|name| !description.reference_kinds.contains(&name.as_str())) {
        errors.0.push(site.at_key(&["references", name], no_reference_kind(name, &description)));
    }
    let zone = config.zone.unwrap_or(portal_zone);
    let routes = match &connector {
        Some(connector) => routes(site, &description, &**connector, zone, &mut errors),
        None => Vec::new(),
    };
    if config.quiet_hours.is_some()
        && connector.is_some()
        && !routes.iter().any(|route| route.mode == RouteMode::Append)
    {
        errors.0.push(site.at_key(&["quiet_hours"], no_route_appends(site.name)));
    }
    errors.into_result()?;
    if let Some(seconds) = config.settle_seconds {
        description.settle_seconds = seconds;
    }
    Ok(BuiltDestination {
        name: site.name.to_owned(),
        description,
        connector: Arc::from(connector.expect("without an error there is a connector")),
        history: config.history,
        match_rules: config.match_rules.clone(),
        zone,
        telling: Telling {
            quiet_hours: config.quiet_hours.as_ref().map(|quiet| QuietHours::new(quiet, zone)),
            late_after_ms: i64::from(config.late_after_hours) * 3_600_000,
            zone,
        },
        routes,
        is_shadow: config.mode == DestinationMode::Shadow,
        guard: config.guard.clone(),
    })
}

fn no_route_appends(name: &str) -> String {
    format!(
        "holds back what routes with mode = \"append\" tell, and {name} has none: take it out, rows may be written at night"
    )
}

fn no_connector(name: &str, types: &[Box<dyn ConnectorType>]) -> String {
    let names: Vec<&str> = types.iter().map(|kind| kind.describe().name).collect();
    let hint = nearest(name, names.iter().copied()).map(|near| format!("did you mean \"{near}\"? "));
    format!("\"{name}\" is no connector of this build, {}it has: {}", hint.unwrap_or_default(), names.join(", "))
}

fn no_reference_kind(name: &str, description: &Description) -> String {
    let connector = description.name;
    let kinds = description.reference_kinds;
    match nearest(name, kinds.iter().copied()) {
        Some(near) => format!("{connector} has no reference data \"{name}\", did you mean \"{near}\"?"),
        None if kinds.is_empty() => format!("{connector} has no reference data \"{name}\", it has none"),
        None => format!("{connector} has no reference data \"{name}\", it has: {}", kinds.join(", ")),
    }
}

/// Builds the connector, if need be with examples in the place of wrong settings, so that the mapping can be checked all the same.
fn connector(
    site: &Site<'_>,
    kind: &dyn ConnectorType,
    description: &Description,
    secrets: &Secrets<'_>,
    toolbox: &Toolbox,
    errors: &mut ConfigErrors,
) -> Option<Box<dyn Connector>> {
    let find = |setting: &Setting, secret: &Secret| secrets.find(secret, setting.example);
    let mut read = settings(site.name, site.config, description.settings, site.source, &find);
    let built = loop {
        let wrong = match kind.build(&serde_json::Value::Object(read.values.clone()), toolbox.clone()) {
            Ok(connector) => break Some(connector),
            Err(wrong) => wrong,
        };
        let name = wrong.path.first().map(String::as_str).unwrap_or_default();
        let table = if site.config.secrets.contains_key(name) { "secrets" } else { "settings" };
        let below: Vec<&str> = std::iter::once(table).chain(wrong.path.iter().map(String::as_str)).collect();
        let setting = description.settings.iter().find(|setting| setting.name == name);
        let error = site.at_value(&below, without_secrets(&wrong.message, &read.values, description.settings));
        if !setting.is_some_and(|setting| read.refuse(setting, error.clone())) {
            // Nothing more can be found out; the error is news only if nothing was said yet.
            if read.errors.is_empty() {
                read.errors.push(error);
            }
            break None;
        }
    };
    // A table of settings that was no table is told already; whatever is missing now stood in it.
    let is_told = |table| site.told.has(&site.path(&[table]));
    if !is_told("settings") && !is_told("secrets") {
        errors.0.extend(read.errors);
    }
    built
}

/// A connector names the wrong value; that of a secret goes no further than here.
fn without_secrets(message: &str, values: &serde_json::Map<String, serde_json::Value>, known: &[Setting]) -> String {
    let secrets = known.iter().filter(|setting| setting.is_secret).filter_map(|setting| values.get(setting.name));
    secrets
        .filter_map(|value| value.as_str().filter(|text| !text.is_empty()))
        .fold(message.to_owned(), |message, secret| message.replace(secret, "<the secret>"))
}

fn routes(
    site: &Site<'_>,
    description: &Description,
    connector: &dyn Connector,
    zone: Tz,
    errors: &mut ConfigErrors,
) -> Vec<BuiltRoute> {
    let mut built = Vec::new();
    for (name, route) in configured_or_default(site.config, description) {
        let object = match connector.object(&route.object) {
            Ok(object) => object,
            Err(message) => {
                errors.0.push(site.at_value(&["routes", &name, "object"], message));
                continue;
            }
        };
        if !route.record.is_about_learner() && description.claims(Claim::People) {
            errors.0.push(site.at_value(&["routes", &name, "record"], nobodys(route.record, description)));
            continue;
        }
        for (field, source) in &route.fields {
            if let Some(kind) = source.reference.as_deref().filter(|kind| !description.reference_kinds.contains(kind)) {
                let below = ["routes", &name, "fields", field, "reference"];
                errors.0.push(site.at_value(&below, no_reference_kind(kind, description)));
            }
        }
        let drift = route.drift.policies(&site.config.drift.policies(&Policies::default()));
        match Mapping::compile(&route.fields, &object, zone, &site.config.references) {
            Ok(mapping) => built.push(BuiltRoute {
                name,
                record: route.record,
                mode: route.mode,
                slot: route.slot,
                object: route.object,
                mapping: Arc::new(mapping),
                drift,
            }),
            Err(wrong) => {
                for error in wrong {
                    let field = ["routes", name.as_str(), "fields", error.field.as_str()];
                    let below: Vec<&str> = field.into_iter().chain(error.setting).collect();
                    errors.0.push(site.at_value(&below, error.message));
                }
            }
        }
    }
    built
}

/// A target that knows people keeps everything under one of them.
fn nobodys(record: RecordKind, description: &Description) -> String {
    format!(
        "{} are nobody's, and {} keeps each row under a person: send them to a destination without people, such as a file",
        record.plural(),
        description.name
    )
}

/// The configured routes; one without fields has the connector's default mapping for its kind of record and object.
fn configured_or_default(config: &DestinationConfig, description: &Description) -> Vec<(String, RouteConfig)> {
    let default = |record: RecordKind| {
        description.default_routes.iter().find(|route| route.record == record).map(sources_of).unwrap_or_default()
    };
    if config.routes.is_empty() {
        return description
            .default_routes
            .iter()
            .map(|route| {
                let config = RouteConfig {
                    record: route.record,
                    object: route.object.to_owned(),
                    mode: route.mode,
                    slot: route.slot,
                    fields: sources_of(route),
                    drift: DriftConfig::default(),
                };
                (route.name.to_owned(), config)
            })
            .collect();
    }
    config
        .routes
        .iter()
        .map(|(name, route)| {
            let mut route = route.clone();
            if route.fields.is_empty() {
                route.fields = default(route.record);
            }
            (name.clone(), route)
        })
        .collect()
}
