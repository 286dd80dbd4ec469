//! The settings of one destination, and what is said about wrong ones.

use std::net::IpAddr;

use learnsync_sdk::{Setting, SettingType, SettingsError, nearest, refuse_unknown};
use reqwest::Url;
use serde_json::{Map, Value};

use crate::dialect::Dialect;
use crate::google_chat::GoogleChat;
use crate::slack::Slack;
use crate::teams::Teams;

/// The settings.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::required("service", "The chat service: `google_chat`, `slack` or `teams`.", "google_chat")
        .or(&["kind", "type", "space", "provider"]),
    Setting::required(
        "url",
        "The webhook's URL; whoever knows it can post.",
        "https://chat.googleapis.com/v1/spaces/AAAA/messages?key=k&token=t",
    )
    .secret()
    .or(&["webhook", "webhook_url", "hook"]),
    Setting::default("digest_from", "From how many changes at once on they become one list (2 to 50).", "4")
        .of(SettingType::Integer)
        .or(&["digest"]),
    Setting::default(
        "digest_title",
        "The title of that list; `{count}` is how many they are.",
        "🎓 {count} learning records",
    )
    .or(&["title"]),
];

const DIGEST_FROM: u64 = 4;
const DIGEST_FROM_MIN: u64 = 2;
const DIGEST_FROM_MAX: u64 = 50;
const DIGEST_TITLE: &str = "🎓 {count} learning records";

/// Hosts by which a URL shows whose it is: ending, service. Others are taken as they are: the hosts of Teams have moved before.
const HOSTS: &[(&str, Service)] = &[
    ("chat.googleapis.com", Service::GoogleChat),
    ("hooks.slack.com", Service::Slack),
    ("hooks.slack-gov.com", Service::Slack),
    ("logic.azure.com", Service::Teams),
    ("powerplatform.com", Service::Teams),
    ("webhook.office.com", Service::Teams),
];

/// A chat service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    GoogleChat,
    Slack,
    Teams,
}

impl Service {
    const ALL: [Self; 3] = [Self::GoogleChat, Self::Slack, Self::Teams];

    /// The word in configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::GoogleChat => "google_chat",
            Self::Slack => "slack",
            Self::Teams => "teams",
        }
    }

    pub(crate) fn dialect(self) -> &'static dyn Dialect {
        match self {
            Self::GoogleChat => &GoogleChat,
            Self::Slack => &Slack,
            Self::Teams => &Teams,
        }
    }
}

/// The settings as they were read. No `Debug`, because of the URL.
pub(crate) struct Settings {
    pub(crate) service: Service,
    pub(crate) url: Url,
    pub(crate) digest_from: usize,
    /// With `{count}` in it.
    pub(crate) digest_title: String,
}

impl Settings {
    /// Reads a destination's settings.
    pub(crate) fn read(settings: &Value) -> Result<Self, SettingsError> {
        let Some(map) = settings.as_object() else { return Err(wrong(&[], "the settings must be a table")) };
        refuse_unknown(map, SETTINGS)?;
        let service = service(map)?;
        Ok(Self {
            service,
            url: webhook(map, service)?,
            digest_from: digest_from(map)?,
            digest_title: digest_title(map)?,
        })
    }
}

fn wrong(path: &[&str], message: impl Into<String>) -> SettingsError {
    SettingsError { path: path.iter().map(|&part| part.to_owned()).collect(), message: message.into() }
}

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, SettingsError> {
    match map.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim())),
        Some(Value::String(_)) => Err(wrong(&[name], format!("the setting \"{name}\" is empty"))),
        Some(_) => Err(wrong(&[name], format!("the setting \"{name}\" must be text"))),
    }
}

fn required<'a>(map: &'a Map<String, Value>, name: &str) -> Result<&'a str, SettingsError> {
    text(map, name)?.ok_or_else(|| wrong(&[name], format!("the setting \"{name}\" is missing")))
}

fn service(map: &Map<String, Value>) -> Result<Service, SettingsError> {
    let word = required(map, "service")?;
    if let Some(service) = Service::ALL.into_iter().find(|service| service.as_str() == word) {
        return Ok(service);
    }
    if word.contains(':') || word.contains('/') {
        // It may be the URL in the wrong place, so it is not repeated.
        return Err(wrong(&["service"], "the setting \"service\" must be one of google_chat, slack, teams"));
    }
    let hint = nearest(word, Service::ALL.iter().map(|service| (service.as_str(), service.as_str()))).map_or_else(
        || "write one of google_chat, slack, teams".to_owned(),
        |near| format!("did you mean \"{near}\"?"),
    );
    Err(wrong(&["service"], format!("\"{word}\" is no chat service of this connector, {hint}")))
}

/// No message repeats the URL or a part of it but the host.
fn webhook(map: &Map<String, Value>, service: Service) -> Result<Url, SettingsError> {
    let refuse = |why: &str| Err(wrong(&["url"], format!("the setting \"url\" {why}")));
    let address = required(map, "url")?;
    if address.contains("&amp;") {
        return refuse("holds \"&amp;\" where the webhook has \"&\": copy it from the chat itself");
    }
    let Ok(url) = Url::parse(address) else { return refuse("is not a URL: copy the whole webhook URL") };
    let Some(host) = url.host_str() else { return refuse("names no host: copy the whole webhook URL") };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(host) => {}
        _ => return refuse("must begin with https:// (http:// is for tests on this machine)"),
    }
    let owner = HOSTS.iter().find(|(ending, _)| host == *ending || host.ends_with(&format!(".{ending}")));
    if let Some((_, owner)) = owner.filter(|(_, owner)| *owner != service) {
        let (says, is) = (service.as_str(), owner.as_str());
        return Err(wrong(
            &["service"],
            format!("the service is \"{says}\", but {host} is of \"{is}\": write \"{is}\""),
        ));
    }
    let has = |name: &str| url.query_pairs().any(|(key, value)| key == name && !value.is_empty());
    if host == "chat.googleapis.com" && !(has("key") && has("token")) {
        return refuse("has no key or no token: copy the whole webhook URL, with all that follows the \"?\"");
    }
    if host == "hooks.slack.com" && !url.path().starts_with("/services/") {
        return refuse("starts a Slack workflow, which takes no messages: make an incoming webhook (/services/...)");
    }
    Ok(url)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn digest_from(map: &Map<String, Value>) -> Result<usize, SettingsError> {
    let Some(value) = map.get("digest_from") else { return Ok(usize_of(DIGEST_FROM)) };
    match value.as_u64() {
        Some(number @ DIGEST_FROM_MIN..=DIGEST_FROM_MAX) => Ok(usize_of(number)),
        Some(_) | None => {
            let shown = if value.is_number() { value.to_string() } else { "what is set".to_owned() };
            let range = format!("{DIGEST_FROM_MIN} to {DIGEST_FROM_MAX}");
            Err(wrong(&["digest_from"], format!("digest_from is {shown}, it must be a whole number, {range}")))
        }
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).expect("the range ends at 50")
}

fn digest_title(map: &Map<String, Value>) -> Result<String, SettingsError> {
    let title = text(map, "digest_title")?.unwrap_or(DIGEST_TITLE);
    if !title.contains("{count}") {
        let message = format!("the setting \"digest_title\" must hold {{count}}, for example \"{DIGEST_TITLE}\"");
        return Err(wrong(&["digest_title"], message));
    }
    Ok(title.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GOOGLE: &str = "https://chat.googleapis.com/v1/spaces/AAA/messages?key=k3y&token=t0ken";
    const SLACK: &str = "https://hooks.slack.com/services/T1/B2/s3cret";

    fn error(settings: &Value) -> SettingsError {
        Settings::read(settings).err().unwrap_or_else(|| panic!("these settings are wrong: {settings}"))
    }

    #[test]
    fn right_settings_are_taken_with_their_defaults() {
        let settings = Settings::read(&json!({"service": "google_chat", "url": GOOGLE})).expect("right settings");
        assert_eq!((settings.service, settings.digest_from), (Service::GoogleChat, 4));
        assert_eq!(settings.digest_title, "🎓 {count} learning records");
        for (service, url) in [
            ("slack", SLACK),
            ("teams", "https://prod-1.westeurope.logic.azure.com:443/workflows/x/triggers/manual/paths/invoke?sig=s"),
            ("teams", "https://hooks.moved-again.example/workflows/x?sig=s"),
            ("slack", "http://127.0.0.1:4711/hook"),
            ("slack", "http://[::1]:4711/hook"),
            ("google_chat", "http://localhost:4711/hook"),
        ] {
            let settings =
                json!({"service": service, "url": url, "digest_from": 50, "digest_title": "{count} Nachweise"});
            assert!(Settings::read(&settings).is_ok_and(|settings| settings.digest_from == 50), "{url}");
        }
    }

    #[test]
    fn an_unknown_setting_is_refused_and_the_nearest_is_named() {
        for (name, nearest) in
            [("servise", "service"), ("kind", "service"), ("webhook", "url"), ("digestfrom", "digest_from")]
        {
            let error = error(&json!({"service": "slack", "url": SLACK, name: "x"}));
            assert_eq!(error.message, format!("unknown setting \"{name}\", did you mean \"{nearest}\"?"));
            assert_eq!(error.path, [name]);
        }
        let error = error(&json!({"zzz": 1}));
        assert!(error.message.contains("there are service, url, digest_from, digest_title"), "{}", error.message);
    }

    #[test]
    fn a_missing_or_wrong_setting_is_named_with_its_path_and_never_with_the_url() {
        let with = |name: &str, value: Value| {
            let mut settings = json!({"service": "slack", "url": SLACK});
            settings[name] = value;
            settings
        };
        for (settings, path, words) in [
            (json!({"url": SLACK}), "service", "missing"),
            (json!({"service": "slack"}), "url", "missing"),
            (
                with("service", json!("slak")),
                "service",
                "\"slak\" is no chat service of this connector, did you mean \"slack\"?",
            ),
            (with("service", json!("irc")), "service", "write one of google_chat, slack, teams"),
            (with("service", json!(SLACK)), "service", "one of google_chat"),
            (with("service", json!("teams")), "service", "write \"slack\""),
            (with("service", json!(7)), "service", "must be text"),
            (with("url", json!(7)), "url", "must be text"),
            (with("url", json!(" ")), "url", "is empty"),
            (with("url", json!("s3cret")), "url", "is not a URL"),
            (with("url", json!("http://hooks.slack.com/services/T1/B2/s3cret")), "url", "https://"),
            (with("url", json!("ftp://127.0.0.1/s3cret")), "url", "https://"),
            (with("url", json!("mailto:s3cret@example.com")), "url", "names no host"),
            (with("url", json!("https://hooks.slack.com/triggers/T1/2/s3cret")), "url", "Slack workflow"),
            (with("url", json!("https://teams.example/x?a=1&amp;sig=s3cret")), "url", "&amp;"),
            (
                with("url", json!("https://chat.googleapis.com/v1/spaces/A/messages?key=s3cret")),
                "service",
                "google_chat",
            ),
            (with("digest_from", json!(1)), "digest_from", "digest_from is 1, it must be a whole number, 2 to 50"),
            (with("digest_from", json!(51)), "digest_from", "2 to 50"),
            (with("digest_from", json!(2.5)), "digest_from", "2 to 50"),
            (with("digest_from", json!(SLACK)), "digest_from", "what is set"),
            (with("digest_title", json!("many")), "digest_title", "{count}"),
            (json!([SLACK]), "", "must be a table"),
        ] {
            let error = error(&settings);
            assert_eq!(error.path.first().map_or("", String::as_str), path, "{settings}");
            assert!(error.message.contains(words), "{}", error.message);
            assert!(!error.message.contains("s3cret"), "{}", error.message);
        }
        let cut = "https://chat.googleapis.com/v1/spaces/AAA/messages?key=s3cret";
        assert!(error(&json!({"service": "google_chat", "url": cut})).message.contains("no token"));
    }
}
