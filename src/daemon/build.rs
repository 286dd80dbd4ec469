//! From a configuration to things that can be called, offline: connectors, mappings, secrets, clients.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono_tz::Tz;
use learnsync_sdk::{Connector, ConnectorType, Description, MatchRule, RecordKind, RouteMode, SlotRule, Toolbox};

use super::client::http_client;
use crate::config::{
    Config, ConfigErrors, DestinationConfig, History, PortalConfig, PortalSecrets, RouteConfig, Source, nearest,
    portal_secrets, resolve,
};
use crate::domain::chance::Entropy;
use crate::domain::time::Clock;
use crate::fail_point;
use crate::lms::absorb::{Absorb, AbsorbSettings, TokenVault};
use crate::mapping::{Mapping, sources_of};
use crate::pipeline::destination::{Destination, Gate, References, Route};
use crate::store::{DestinationRows, DestinationSpec, RouteSpec};

/// All that was built.
pub struct Parts {
    /// The portals, by name.
    pub portals: BTreeMap<String, BuiltPortal>,
    /// The destinations.
    pub destinations: Vec<BuiltDestination>,
}

/// A portal, ready to be read.
pub struct BuiltPortal {
    /// The secret part of the webhook's URL.
    pub webhook_token: String,
    settings: AbsorbSettings,
    http: reqwest::Client,
}

impl BuiltPortal {
    /// The client; what it needs to remember goes into the vault.
    pub fn lms(&self, vault: Arc<dyn TokenVault>, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> Absorb {
        Absorb::new(self.settings.clone(), self.http.clone(), vault, Arc::clone(clock), Arc::clone(entropy))
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
    /// The routes.
    pub routes: Vec<BuiltRoute>,
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
                    object: route.object.clone(),
                    mapping: Arc::clone(&route.mapping),
                    mapping_id: row.mapping,
                };
                (row.id, ready)
            })
            .collect();
        Destination {
            name: self.name.clone(),
            id: rows.id,
            connector: Arc::clone(&self.connector),
            description: self.description.clone(),
            routes,
            match_rules: self.match_rules.clone(),
            installation: installation.to_owned(),
            breaker: std::sync::Mutex::default(),
            gate: Gate::default(),
            unkept: std::sync::Mutex::default(),
            references: References::default(),
        }
    }
}

/// Builds all parts.
///
/// # Errors
/// All that is wrong, each with its line, column and key.
pub fn build(config: &Config, source: &Source, types: &[Box<dyn ConnectorType>]) -> Result<Parts, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let http = match http_client() {
        Ok(http) => http,
        Err(error) => {
            errors.0.push(source.at_key::<&str>(&[], format!("no HTTP client can be built: {error:#}")));
            return Err(errors);
        }
    };
    let mut portals = BTreeMap::new();
    for (name, portal) in &config.portals {
        match portal_secrets(name, portal, source, &environment) {
            Ok(secrets) => {
                portals.insert(name.clone(), built_portal(name, portal, secrets, http.clone()));
            }
            Err(wrong) => errors.0.extend(wrong.0),
        }
    }
    let portal_zone = config.portals.values().next().map_or(Tz::UTC, |portal| portal.zone);
    let mut destinations = Vec::new();
    for (name, destination) in &config.destinations {
        let toolbox = Toolbox {
            http: http.clone(),
            installation: config.installation.clone(),
            test_skip_lookup: fail_point::is_broken_on_purpose("lookup"),
        };
        match build_destination(name, destination, portal_zone, source, types, toolbox) {
            Ok(built) => destinations.push(built),
            Err(wrong) => errors.0.extend(wrong.0),
        }
    }
    errors.into_result()?;
    Ok(Parts { portals, destinations })
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn built_portal(name: &str, portal: &PortalConfig, secrets: PortalSecrets, http: reqwest::Client) -> BuiltPortal {
    let settings = AbsorbSettings {
        portal: name.to_owned(),
        url: portal.url.clone(),
        api_key: secrets.api_key,
        username: portal.username.clone(),
        password: secrets.password,
        certificates_path: portal.certificates_path.clone(),
        competencies_path: portal.competencies_path.clone(),
        calls_per_second_max: portal.calls_per_second_max,
        calls_at_once_max: portal.calls_at_once_max,
    };
    BuiltPortal { webhook_token: secrets.webhook_token, settings, http }
}

fn build_destination(
    name: &str,
    config: &DestinationConfig,
    portal_zone: Tz,
    source: &Source,
    types: &[Box<dyn ConnectorType>],
    toolbox: Toolbox,
) -> Result<BuiltDestination, ConfigErrors> {
    let at = |path: &[&str], message: String| {
        let full: Vec<&str> = ["destinations", name].iter().chain(path).copied().collect();
        ConfigErrors(vec![source.at_value(&full, message)])
    };
    let descriptions: Vec<Description> = types.iter().map(|kind| kind.describe()).collect();
    let found = types.iter().zip(&descriptions).find(|(_, description)| description.name == config.connector);
    let Some((kind, description)) = found else {
        let names: Vec<&str> = descriptions.iter().map(|description| description.name).collect();
        let hint = nearest(&config.connector, names.iter().copied())
            .map_or_else(String::new, |near| format!("did you mean \"{near}\"? "));
        let message =
            format!("\"{}\" is no connector of this build, {hint}(it has: {})", config.connector, names.join(", "));
        return Err(at(&["connector"], message));
    };
    let settings = settings(config).map_err(|(secret, message)| at(&["secrets", &secret], message))?;
    let connector = kind.build(&settings, toolbox).map_err(|wrong| {
        let path: Vec<&str> = wrong.path.iter().map(String::as_str).collect();
        let table =
            if config.secrets.contains_key(path.first().copied().unwrap_or_default()) { "secrets" } else { "settings" };
        let full: Vec<&str> = ["destinations", name, table].into_iter().chain(path).collect();
        ConfigErrors(vec![source.at_key(&full, wrong.message)])
    })?;
    let zone = config.zone.unwrap_or(portal_zone);
    let routes = routes(name, config, description, &*connector, zone, source)?;
    let mut description = description.clone();
    if let Some(seconds) = config.settle_seconds {
        description.settle_seconds = seconds;
    }
    Ok(BuiltDestination {
        name: name.to_owned(),
        description,
        connector: Arc::from(connector),
        history: config.history,
        match_rules: config.match_rules.clone(),
        zone,
        routes,
    })
}

/// The settings with the secrets put in; or which secret is missing.
fn settings(config: &DestinationConfig) -> Result<serde_json::Value, (String, String)> {
    let mut settings = serde_json::Map::new();
    for (name, value) in &config.settings {
        let json = serde_json::to_value(value).map_err(|error| (name.clone(), error.to_string()))?;
        settings.insert(name.clone(), json);
    }
    for (name, secret) in &config.secrets {
        let text = resolve(secret, &environment).map_err(|message| (name.clone(), message))?;
        settings.insert(name.clone(), text.into());
    }
    Ok(settings.into())
}

fn routes(
    destination: &str,
    config: &DestinationConfig,
    description: &Description,
    connector: &dyn Connector,
    zone: Tz,
    source: &Source,
) -> Result<Vec<BuiltRoute>, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let mut built = Vec::new();
    for (name, route) in configured_or_default(config, description) {
        let object = match connector.object(&route.object) {
            Ok(object) => object,
            Err(message) => {
                errors.0.push(source.at_value(&["destinations", destination, "routes", &name, "object"], message));
                continue;
            }
        };
        match Mapping::compile(&route.fields, &object, zone, &config.references) {
            Ok(mapping) => built.push(BuiltRoute {
                name,
                record: route.record,
                mode: route.mode,
                slot: route.slot,
                object: route.object,
                mapping: Arc::new(mapping),
            }),
            Err(wrong) => {
                for error in wrong {
                    let path = ["destinations", destination, "routes", &name, "fields", &error.field];
                    errors.0.push(source.at_key(&path, error.message));
                }
            }
        }
    }
    errors.into_result()?;
    Ok(built)
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
