//! The settings of one destination, and what is said about wrong ones.

use learnsync_sdk::{Setting, SettingsError, refuse_unknown};
use reqwest::Url;
use serde_json::Value as Json;

/// The settings.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting::required("url", "The base URL.", "https://acme.example.com"),
    Setting::required("token", "The API token.", "a-token").secret(),
];

/// The settings as they were read. No `Debug`, because of the token.
pub(crate) struct Settings {
    pub(crate) url: Url,
    pub(crate) token: String,
}

impl Settings {
    pub(crate) fn read(settings: &Json) -> Result<Self, SettingsError> {
        if let Some(given) = settings.as_object() {
            refuse_unknown(given, SETTINGS)?;
        }
        let url = Url::parse(text(settings, "url")?).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| wrong("url", "it must begin with https:// (or http:// for a sandbox)"))?;
        Ok(Self { url, token: text(settings, "token")?.to_owned() })
    }
}

/// The message never repeats a value: any of them may be the token in the wrong place.
fn text<'a>(settings: &'a Json, name: &str) -> Result<&'a str, SettingsError> {
    let text = settings.get(name).and_then(Json::as_str).map(str::trim).filter(|text| !text.is_empty());
    text.ok_or_else(|| wrong(name, format!("the setting \"{name}\" must be a text that is not empty")))
}

fn wrong(name: &str, message: impl Into<String>) -> SettingsError {
    SettingsError { path: vec![name.to_owned()], message: message.into() }
}
