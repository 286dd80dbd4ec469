//! The settings of a connector as a destination names them, compared with what the connector says that it reads.

use std::collections::BTreeSet;

use learnsync_sdk::{Need, Setting, SettingType};
use serde_json::Value;

use super::nearest::nearest;
use super::shape::SECRET_ELSEWHERE;
use super::source::{ConfigError, Source};
use super::{DestinationConfig, Secret};

/// The settings as a connector gets them, with the secrets put in.
#[derive(Clone, Default)]
pub struct Settings {
    /// Name -> value. Where a value is wrong its example stands, so that the connector can say what else is wrong.
    pub values: serde_json::Map<String, Value>,
    /// What is wrong.
    pub errors: Vec<ConfigError>,
    /// The names whose value is an example.
    stand_ins: BTreeSet<&'static str>,
    /// The names that a misspelt one is meant for.
    meant: BTreeSet<&'static str>,
}

/// Puts the settings of a destination together. `find` finds a secret where it stands.
#[must_use]
pub fn settings(
    name: &str,
    config: &DestinationConfig,
    known: &[Setting],
    source: &Source,
    find: &dyn Fn(&Setting, &Secret) -> Result<String, String>,
) -> Settings {
    let mut read = Settings::default();
    for (key, value) in &config.settings {
        let at = ["destinations", name, "settings", key];
        let Some(setting) = known.iter().find(|setting| setting.name == key) else {
            read.refuse_name(key, known, source, &at);
            continue;
        };
        match plain_value(setting, value) {
            Ok(value) => {
                read.values.insert(key.clone(), value);
            }
            Err(message) => {
                read.errors.push(source.at_value(&at, message));
                read.stand_in(setting);
            }
        }
    }
    for (key, secret) in &config.secrets {
        let at = ["destinations", name, "secrets", key];
        let Some(setting) = known.iter().find(|setting| setting.name == key) else {
            read.refuse_name(key, known, source, &at);
            continue;
        };
        match find(setting, secret) {
            Ok(text) => {
                read.values.insert(key.clone(), text.into());
            }
            Err(message) => {
                read.errors.push(source.at_value(&at, message));
                read.stand_in(setting);
            }
        }
    }
    read.find_missing(name, known, source);
    read
}

impl Settings {
    /// Notes what the connector itself says about a value, and puts the example there. False when that was done before: then nothing
    /// more can be found out.
    pub fn refuse(&mut self, setting: &Setting, error: ConfigError) -> bool {
        if self.stand_ins.contains(setting.name) {
            return false;
        }
        self.errors.push(error);
        self.stand_in(setting);
        true
    }

    fn refuse_name(&mut self, word: &str, known: &[Setting], source: &Source, at: &[&str]) {
        let words = |setting: &Setting| std::iter::once(setting.name).chain(setting.other_words.iter().copied());
        let near = nearest(word, known.iter().flat_map(words));
        let meant = near.and_then(|near| known.iter().find(|setting| words(setting).any(|word| word == near)));
        let message = match meant {
            Some(setting) => format!("unknown setting \"{word}\", did you mean \"{}\"?", setting.name),
            None => {
                let names: Vec<&str> = known.iter().map(|setting| setting.name).collect();
                format!("unknown setting \"{word}\" (known here: {})", names.join(", "))
            }
        };
        self.meant.extend(meant.map(|setting| setting.name));
        self.errors.push(source.at_key(at, message));
    }

    fn stand_in(&mut self, setting: &Setting) {
        self.values.insert(setting.name.to_owned(), setting.value());
        self.stand_ins.insert(setting.name);
    }

    fn find_missing(&mut self, name: &str, known: &[Setting], source: &Source) {
        for setting in known {
            let other = match setting.need {
                Need::Required => None,
                Need::Unless(other) => Some(other),
                Need::Optional | Need::Default(_) => continue,
            };
            let names = || std::iter::once(setting.name).chain(other);
            if names().any(|wanted| self.values.contains_key(wanted)) {
                continue;
            }
            let stands = |table, wanted| source.has(&["destinations", name, table, wanted]);
            let is_told =
                |wanted| self.meant.contains(wanted) || stands("settings", wanted) || stands("secrets", wanted);
            if names().any(is_told) {
                self.stand_in(setting);
                continue;
            }
            let table = if setting.is_secret { "secrets" } else { "settings" };
            let (key, doc) = (setting.name, setting.doc.trim_end_matches('.'));
            let or = other.map(|other| format!(" or \"{other}\"")).unwrap_or_default();
            let example = if setting.is_secret {
                format!("{{ credential = \"{name}_{key}\" }}")
            } else {
                toml_text(setting, setting.example)
            };
            let message = format!("missing setting \"{key}\"{or} ({doc}), such as {table} = {{ {key} = {example} }}");
            self.errors.push(source.at_key(&["destinations", name, table], message));
            self.stand_in(setting);
        }
    }
}

/// A setting's value as TOML.
pub(super) fn toml_text(setting: &Setting, text: &str) -> String {
    match setting.kind {
        SettingType::Text => toml::Value::from(text).to_string(),
        SettingType::Integer | SettingType::Bool => text.to_owned(),
    }
}

// Never repeats a value: any of them may be a secret in the wrong place.
fn plain_value(setting: &Setting, value: &toml::Value) -> Result<Value, String> {
    if setting.is_secret {
        let key = setting.name;
        return Err(format!("{SECRET_ELSEWHERE}; move it to secrets = {{ {key} = {{ .. }} }}"));
    }
    let example = toml_text(setting, setting.example);
    match (setting.kind, value) {
        (SettingType::Text, toml::Value::String(text)) => Ok(text.clone().into()),
        (SettingType::Integer, toml::Value::Integer(number)) => Ok((*number).into()),
        (SettingType::Bool, toml::Value::Boolean(flag)) => Ok((*flag).into()),
        (SettingType::Text, _) => Err(format!("is not text, write text in quotes such as {example}")),
        (SettingType::Integer, _) => Err(format!("is not a whole number, write one such as {example}")),
        (SettingType::Bool, _) => Err("is neither true nor false, write one of them".to_owned()),
    }
}
