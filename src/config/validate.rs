//! Rules that a well-typed configuration must still keep.

use std::collections::{BTreeMap, BTreeSet};

use croner::parser::{CronParser, Seconds, Year};

use super::source::{ConfigErrors, Source, Told};
use super::{AdminAddress, Config, DestinationConfig, PortalConfig, ReconcileConfig};

/// The longest name of an installation, portal, destination or route, in characters.
const NAME_CHARS_MAX: usize = 32;

/// Reports every broken rule.
pub(super) fn check(config: &Config, source: &Source, errors: &mut ConfigErrors) {
    let told = errors.told();
    let mut findings = Findings { source, errors, told };
    if source.has(&["installation"])
        && let Err(message) = installation_name(&config.installation)
    {
        findings.add(&["installation"], message);
    }
    if config.listen.hooks_burst_max < config.listen.hooks_per_second_max {
        let (burst, rate) = (config.listen.hooks_burst_max, config.listen.hooks_per_second_max);
        findings.add(
            &["listen", "hooks_burst_max"],
            format!("{burst} is less than hooks_per_second_max, write {rate} or more"),
        );
    }
    if config.admin.listen == Some(AdminAddress::Tcp(config.listen.address)) && config.listen.address.port() != 0 {
        findings.add(
            &["admin", "listen"],
            format!(
                "\"{}\" is where webhooks are received (listen.address), choose another port",
                config.listen.address
            ),
        );
    }
    if config.portals.is_empty() && source.has(&["portals"]) {
        findings.add(&["portals"], "there is no portal, add one such as [portals.main]".to_owned());
    }
    for (name, portal) in &config.portals {
        check_portal(name, portal, &mut findings);
        check_login(name, portal, &mut findings);
    }
    check_token_key(config, &mut findings);
    check_accounts(&config.portals, &mut findings);
    // A zone that could not be read is told already, and says nothing about the others.
    let is_zone_told = config.portals.keys().any(|name| findings.told.has(&["portals", name, "zone"]));
    let mut zones: BTreeSet<&str> = config.portals.values().map(|portal| portal.zone.name()).collect();
    if is_zone_told {
        zones.clear();
    }
    for (name, destination) in &config.destinations {
        check_destination(name, destination, &mut findings);
        findings.unless(zones.len() < 2 || destination.zone.is_some(), &["destinations", name], || {
            "the portals have different zones, say with zone = \"...\" which one dates are made in".to_owned()
        });
    }
    check_reconcile(&config.reconcile, &mut findings);
}

struct Findings<'a> {
    source: &'a Source,
    errors: &'a mut ConfigErrors,
    told: Told,
}

impl Findings<'_> {
    fn add(&mut self, path: &[&str], message: String) {
        let error = self.source.at_value(path, message);
        if !self.told.echoes(&error) {
            self.errors.0.push(error);
        }
    }

    /// Adds what is said of a table that lacks settings, unless one of them stands there and was told to be wrong, or a key that was meant
    /// for one.
    fn unless_meant(&mut self, settings: &[&str], table: &[&str], message: impl FnOnce() -> String) {
        let is_told = settings.iter().any(|setting| self.source.has(&[table, &[*setting]].concat()));
        let is_meant = settings.iter().any(|setting| self.told.has_unknown_like(table, setting));
        if !is_told && !is_meant {
            self.errors.0.push(self.source.at_key(table, message()));
        }
    }

    fn unless(&mut self, holds: bool, path: &[&str], message: impl FnOnce() -> String) {
        if !holds {
            self.add(path, message());
        }
    }
}

fn check_portal(name: &str, portal: &PortalConfig, findings: &mut Findings<'_>) {
    let at = |setting| ["portals", name, setting];
    findings.unless(is_name(name, ""), &["portals", name], || not_a_name(name, ""));
    check_host(name, portal, findings);
    let paths = [("competencies_path", &portal.competencies_path), ("certificates_path", &portal.certificates_path)];
    let optional = portal.learning_paths_path.as_ref().map(|path| ("learning_paths_path", path));
    for (setting, path) in paths.into_iter().chain(optional) {
        findings.unless(path.starts_with('/') && path.contains("{user}"), &at(setting), || {
            format!("\"{path}\" is not a path of a learner, write one such as \"/users/{{user}}/certificates\"")
        });
    }
}

/// Exactly one of region and url.
fn check_host(name: &str, portal: &PortalConfig, findings: &mut Findings<'_>) {
    let at = |setting| ["portals", name, setting];
    match (&portal.region, &portal.url) {
        (None, None) => findings.unless_meant(&["region", "url"], &["portals", name], || {
            "names no host: write region = \"us\", \"ca\", \"eu\" or \"au\", or the API's url".to_owned()
        }),
        (Some(_), Some(_)) => {
            findings.add(&at("url"), "stands beside region, which names the host already: keep one of them".to_owned());
        }
        (None, Some(url)) => {
            if let Err(message) = portal_url(url) {
                findings.add(&at("url"), message);
            }
            findings.unless(!portal.sandbox, &at("sandbox"), || {
                "says something only with region: a url names its host itself, take sandbox out".to_owned()
            });
        }
        (Some(_), None) => {}
    }
}

/// Exactly one of a password and OAuth.
fn check_login(name: &str, portal: &PortalConfig, findings: &mut Findings<'_>) {
    let at = |setting| ["portals", name, setting];
    if let Some(oauth) = &portal.oauth {
        for (setting, is_there) in [("username", portal.username.is_some()), ("password", portal.password.is_some())] {
            findings.unless(!is_there, &at(setting), || {
                "stands beside oauth, which logs in already: keep one of them".to_owned()
            });
        }
        let at = |setting| ["portals", name, "oauth", setting];
        findings.unless(!oauth.client_id.trim().is_empty(), &at("client_id"), || {
            "is blank, copy it from the portal's settings (Integration API OAuth Client ID)".to_owned()
        });
        if let Err(message) =
            https_or_this_machine(&oauth.portal_url, "the client's secret", "https://acme.myabsorb.com")
        {
            findings.add(&at("portal_url"), message);
        }
        let is_https =
            reqwest::Url::parse(&oauth.redirect_uri).is_ok_and(|url| url.scheme() == "https" && url.has_host());
        findings.unless(is_https, &at("redirect_uri"), || {
            format!(
                "\"{}\" is no https URL, and the portal sends nobody elsewhere: write the one that is set there, such as \"https://acme.example/learnsync\"",
                oauth.redirect_uri
            )
        });
        return;
    }
    match (&portal.username, &portal.password) {
        (None, None) => findings.unless_meant(&["username", "password", "oauth"], &["portals", name], || {
            "names no login: write username and password, or oauth".to_owned()
        }),
        (None, Some(_)) => findings.unless_meant(&["username"], &["portals", name], || {
            "has a password without a username: name the admin account that only learnsync uses".to_owned()
        }),
        (Some(_), None) => findings.unless_meant(&["password"], &["portals", name], || {
            "has a username without a password: say where it stands, such as password = { credential = \"absorb_password\" }"
                .to_owned()
        }),
        (Some(username), Some(_)) => findings.unless(!username.trim().is_empty(), &at("username"), || {
            "is blank, name the admin account that only learnsync uses".to_owned()
        }),
    }
}

fn check_token_key(config: &Config, findings: &mut Findings<'_>) {
    let Some((name, _)) = config.portals.iter().find(|(_, portal)| portal.oauth.is_some()) else { return };
    findings.unless(config.store.token_key.is_some(), &["store", "token_key"], || {
        format!(
            "is missing, and portals.{name} logs in by OAuth: say where a secret of 16 characters or more stands, under which that login is \
             sealed; make one with `openssl rand -hex 32`"
        )
    });
}

/// Each login of an account ends the one before, so two portals with one account would log each other out for ever.
fn check_accounts(portals: &BTreeMap<String, PortalConfig>, findings: &mut Findings<'_>) {
    let mut seen: BTreeMap<(String, &str), &str> = BTreeMap::new();
    for (name, portal) in portals {
        let Some(username) = portal.username.as_deref() else { continue };
        let account = (portal.api_url().trim_end_matches('/').to_owned(), username);
        if let Some(other) = seen.insert(account.clone(), name) {
            let message = format!(
                "is the same account as portals.{other} (\"{}\" at {}), and each login would end the other's: keep one of them",
                account.1, account.0
            );
            findings.add(&["portals", name], message);
        }
    }
}

/// Whether this can be the URL of a portal.
///
/// # Errors
/// It is no URL, carries a password, or would send the API key in plain sight to another machine.
pub fn portal_url(text: &str) -> Result<(), String> {
    https_or_this_machine(text, "the API key", "https://rest.myabsorb.com")
}

fn https_or_this_machine(text: &str, secret: &str, example: &str) -> Result<(), String> {
    let url = reqwest::Url::parse(text).ok();
    let is_http = url.as_ref().is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let host = url.as_ref().and_then(|url| url.host_str()).unwrap_or_default().to_owned();
    let is_this_machine = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
    match url {
        Some(url) if url.scheme() == "http" && url.has_host() && !is_this_machine => Err(format!(
            "\"http://{host}\" would send {secret} in plain sight, write \"https://{host}\" (http is for this machine only)"
        )),
        // The message must not repeat a password.
        Some(url) if url.password().is_some() || !url.username().is_empty() => {
            Err("carries a user name or password, take them out of the URL".to_owned())
        }
        Some(url) if is_http && url.query().is_none() && url.fragment().is_none() => Ok(()),
        Some(_) | None => Err(format!("\"{text}\" is not an http(s) URL, write one such as \"{example}\"")),
    }
}

fn check_destination(name: &str, destination: &DestinationConfig, findings: &mut Findings<'_>) {
    let at = |setting| ["destinations", name, setting];
    findings.unless(is_name(name, "_"), &["destinations", name], || not_a_name(name, "_"));
    findings.unless(!destination.match_rules.is_empty(), &at("match_rules"), || {
        "is empty, so no learner could be recognised; name at least one of external_id, employee_number, email"
            .to_owned()
    });
    check_quiet_hours(name, destination, findings);
    for secret in destination.secrets.keys().filter(|secret| destination.settings.contains_key(*secret)) {
        findings.add(&["destinations", name, "settings", secret], "is set here and in secrets, keep one".to_owned());
    }
    for (route, config) in &destination.routes {
        findings.unless(is_name(route, "_"), &["destinations", name, "routes", route], || not_a_name(route, "_"));
        for (field, mapped) in &config.fields {
            if let Err(message) = mapped.choice() {
                findings.add(&["destinations", name, "routes", route, "fields", field], message);
            }
        }
    }
}

/// What waits longer than it may be late would never be told.
fn check_quiet_hours(name: &str, destination: &DestinationConfig, findings: &mut Findings<'_>) {
    let Some(quiet) = &destination.quiet_hours else { return };
    let (minutes, late_after) = (quiet.minutes(), i64::from(destination.late_after_hours));
    findings.unless(quiet.from != quiet.until, &["destinations", name, "quiet_hours", "until"], || {
        "is the same time as from, so nothing would ever be told; write another, or take quiet_hours out".to_owned()
    });
    findings.unless(
        quiet.from == quiet.until || minutes < late_after * 60,
        &["destinations", name, "late_after_hours"],
        || {
            let needed = minutes / 60 + 1;
            format!(
                "{late_after} h are over before quiet_hours end, which last {} h {} min: what is achieved as they begin \
                 would never be told; write {needed} or more",
                minutes / 60,
                minutes % 60
            )
        },
    );
}

fn check_reconcile(reconcile: &ReconcileConfig, findings: &mut Findings<'_>) {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    if let Err(error) = parser.parse(&reconcile.cron) {
        let cron = &reconcile.cron;
        let example = "minute hour day month weekday, such as \"15 2 * * *\"";
        findings.add(&["reconcile", "cron"], format!("\"{cron}\" is not a cron expression ({error}); write {example}"));
    }
}

/// Whether this can be the name of an installation.
///
/// # Errors
/// It is too long, or has other characters.
pub fn installation_name(text: &str) -> Result<(), String> {
    if is_name(text, "") { Ok(()) } else { Err(not_a_name(text, "")) }
}

/// Whether this can be the name of a destination.
///
/// # Errors
/// It is too long, or has other characters.
pub fn destination_name(text: &str) -> Result<(), String> {
    if is_name(text, "_") { Ok(()) } else { Err(not_a_name(text, "_")) }
}

fn is_name(text: &str, also: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || also.contains(c);
    (1..=NAME_CHARS_MAX).contains(&text.chars().count()) && text.chars().all(is_allowed)
}

fn not_a_name(text: &str, also: &str) -> String {
    let letters = if also.is_empty() { "a-z 0-9 -".to_owned() } else { format!("a-z 0-9 - {also}") };
    format!("\"{text}\" is not a name: 1 to {NAME_CHARS_MAX} characters of {letters}")
}
