//! The settings of one destination, and what is said about wrong ones.

use std::net::IpAddr;

use learnsync_sdk::{Setting, SettingsError, refuse_unknown};
use reqwest::Url;
use serde_json::{Map, Value};

/// The settings.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::required("company", "The company domain: `acme` of `acme.bamboohr.com`.", "acme").unless("url").or(&[
        "subdomain",
        "company_domain",
        "domain",
    ]),
    Setting::optional(
        "url",
        "The base URL, instead of the one that follows from `company`.",
        "https://acme.bamboohr.com",
    )
    .or(&["base_url", "host"]),
    Setting::required(
        "api_key",
        "The API key; it has the rights of the person who made it.",
        "0123456789abcdef0123456789abcdef01234567",
    )
    .secret()
    .or(&["token", "key", "password"]),
    Setting::default("mark_column", "The text column of a table that takes our mark.", "customReference"),
    Setting::default("employee_id_field", "The data set's field with the internal employee id.", "eeid"),
    Setting::default("employee_number_field", "The data set's field with the employee number.", "employeeNumber"),
    Setting::default("email_field", "The data set's field with the work e-mail.", "email"),
];

/// The settings as they were read. No `Debug`, because of the key.
pub(crate) struct Settings {
    /// The base URL, without `/api`.
    pub(crate) url: Url,
    pub(crate) api_key: String,
    pub(crate) mark_column: String,
    pub(crate) employee_id_field: String,
    pub(crate) employee_number_field: String,
    pub(crate) email_field: String,
}

impl Settings {
    /// Reads a destination's settings.
    pub(crate) fn read(settings: &Value) -> Result<Self, SettingsError> {
        let Some(map) = settings.as_object() else { return Err(wrong(&[], "the settings must be a table")) };
        refuse_unknown(map, SETTINGS)?;
        let or = |name, default: &str| Ok(text(map, name)?.unwrap_or_else(|| default.to_owned()));
        Ok(Self {
            url: base_url(map)?,
            api_key: text(map, "api_key")?.ok_or_else(|| wrong(&["api_key"], "the setting \"api_key\" is missing"))?,
            mark_column: or("mark_column", "customReference")?,
            employee_id_field: field(or("employee_id_field", "eeid")?, "employee_id_field")?,
            employee_number_field: field(or("employee_number_field", "employeeNumber")?, "employee_number_field")?,
            email_field: field(or("email_field", "email")?, "email_field")?,
        })
    }
}

fn wrong(path: &[&str], message: impl Into<String>) -> SettingsError {
    SettingsError { path: path.iter().map(|&part| part.to_owned()).collect(), message: message.into() }
}

/// The message never repeats a value: any of them may be the key in the wrong place.
fn text(map: &Map<String, Value>, name: &str) -> Result<Option<String>, SettingsError> {
    match map.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
        Some(Value::String(_)) => Err(wrong(&[name], format!("the setting \"{name}\" is empty"))),
        Some(_) => Err(wrong(&[name], format!("the setting \"{name}\" must be text"))),
    }
}

/// A field name goes into a filter as it stands, so it must be a bare word.
fn field(name: String, setting: &str) -> Result<String, SettingsError> {
    if name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
        return Ok(name);
    }
    Err(wrong(&[setting], format!("\"{name}\" is not a field name: only letters, digits and _ are allowed")))
}

fn base_url(map: &Map<String, Value>) -> Result<Url, SettingsError> {
    let (setting, address) = match (text(map, "url")?, text(map, "company")?) {
        (Some(url), _) => ("url", url),
        (None, Some(company)) => ("company", company_url(&company)?),
        (None, None) => {
            return Err(wrong(&["company"], "one of the settings \"company\" and \"url\" is required"));
        }
    };
    let url =
        Url::parse(&address).map_err(|error| wrong(&[setting], format!("\"{address}\" is not a URL: {error}")))?;
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" if !host.is_empty() => Ok(url),
        "http" if is_loopback(host) => Ok(url),
        _ => {
            let message = format!("\"{address}\" must begin with https:// (http:// is for tests on this machine)");
            Err(wrong(&[setting], message))
        }
    }
}

/// Elsewhere the API key would travel in plain sight.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn company_url(company: &str) -> Result<String, SettingsError> {
    if company.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-') {
        return Ok(format!("https://{company}.bamboohr.com"));
    }
    let message = format!("\"{company}\" is not a company domain: write `acme` for `acme.bamboohr.com`");
    Err(wrong(&["company"], message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(settings: &Value) -> SettingsError {
        Settings::read(settings).err().expect("these settings are wrong")
    }

    #[test]
    fn an_unknown_setting_is_refused_and_the_nearest_is_named() {
        for (name, nearest) in [
            ("subdomian", "company"),
            ("compny", "company"),
            ("apikey", "api_key"),
            ("markcolumn", "mark_column"),
            ("e_mail_field", "email_field"),
        ] {
            let error = error(&json!({"company": "acme", "api_key": "k", name: "x"}));
            assert_eq!(error.message, format!("unknown setting \"{name}\", did you mean \"{nearest}\"?"));
            assert_eq!(error.path, [name]);
        }
        assert!(error(&json!({"zzz": 1})).message.contains("there are company, url, api_key"), "nothing is near");
    }

    #[test]
    fn a_company_becomes_its_url_and_url_overrides_it() {
        let url = |settings| Settings::read(&settings).expect("these settings are right").url.to_string();
        assert_eq!(url(json!({"company": "acme", "api_key": "k"})), "https://acme.bamboohr.com/");
        let both = json!({"company": "acme", "api_key": "k", "url": "http://127.0.0.1:8080"});
        assert_eq!(url(both), "http://127.0.0.1:8080/");
    }

    #[test]
    fn a_missing_or_wrong_setting_is_named_with_its_path_and_never_with_a_secret() {
        for (settings, path, words) in [
            (json!({"api_key": "k"}), "company", "one of the settings"),
            (json!({"company": "acme"}), "api_key", "missing"),
            (json!({"company": "acme", "api_key": 4711}), "api_key", "must be text"),
            (json!({"company": "acme", "api_key": " "}), "api_key", "is empty"),
            (json!({"company": "acme.bamboohr.com", "api_key": "k"}), "company", "write `acme`"),
            (json!({"url": "ftp://acme", "api_key": "k"}), "url", "https://"),
            (json!({"url": "http://acme.bamboohr.com", "api_key": "k"}), "url", "this machine"),
            (json!({"company": "acme", "api_key": "k", "email_field": "a' or b"}), "email_field", "not a field name"),
        ] {
            let error = error(&settings);
            assert_eq!(error.path, [path]);
            assert!(error.message.contains(words), "{}", error.message);
            assert!(!error.message.contains("4711"), "{}", error.message);
        }
    }
}
