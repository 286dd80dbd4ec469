//! Compares the keys of the file with the list of settings: unknown, missing, out of range, secrets in plain sight.

use toml::{Table, Value};

use super::nearest::{nearest, unknown};
use super::reference::{Given, Kind, Limit, Setting, Type, children};
use super::source::{ConfigError, ConfigErrors, Source};

/// What is said of a secret in plain text.
pub(super) const SECRET_ELSEWHERE: &str = "a secret is never written here, only where it stands: \
    { credential = \"name\" }, { file = \"/path\" } or { env = \"NAME\" }";

/// Reports what is wrong and takes it out of the table, so that the next step finds other errors.
pub(super) fn check(table: &mut Table, source: &Source, errors: &mut ConfigErrors) {
    check_table(table, &mut Vec::new(), source, &mut errors.0);
}

fn check_table(table: &mut Table, path: &mut Vec<String>, source: &Source, errors: &mut Vec<ConfigError>) {
    let known = children(path);
    if known.is_empty() {
        return;
    }
    let takes_any_name = known.iter().any(|(name, _)| name.starts_with('<'));
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let keys: Vec<String> = table.keys().cloned().collect();
    let mut meant = Vec::new();
    for key in keys {
        path.push(key.clone());
        let setting = known.iter().find(|(name, _)| *name == key).and_then(|(_, setting)| *setting);
        let is_known = takes_any_name || names.contains(&key.as_str());
        let value = table.get_mut(&key).expect("the key was listed a moment ago");
        let wrong = if is_known {
            setting
                .and_then(|setting| wrong_value(setting, value, path, source))
                .or_else(|| no_table(setting, value, path, source))
        } else {
            meant.extend(nearest(&key, names.iter().copied()));
            Some(source.at_key(path, unknown("setting", &key, &names)))
        };
        match (wrong, value) {
            (Some(error), _) => {
                errors.push(error);
                table.remove(&key);
            }
            (None, Value::Table(inner)) if setting.is_some_and(|setting| setting.kind == Kind::Secrets) => {
                take_wrong_secrets(inner, path, source, errors);
            }
            (None, Value::Table(inner)) => check_table(inner, path, source, errors),
            (None, _) => {}
        }
        path.pop();
    }
    errors.extend(missing(&known, &meant, path, source));
}

/// The required settings that the file does not have, nor a name that is meant for one. The file counts, not the table: what was wrong is
/// already out.
fn missing(known: &[(&str, Option<&Setting>)], meant: &[&str], path: &[String], source: &Source) -> Vec<ConfigError> {
    known
        .iter()
        .filter_map(|(name, setting)| setting.map(|setting| (*name, setting)))
        .filter(|(name, setting)| {
            let mut at = path.to_vec();
            at.push((*name).to_owned());
            setting.given == Given::Required && !source.has(&at) && !meant.contains(name)
        })
        .map(|(name, setting)| source.at_key(path, format!("missing setting \"{name}\" ({})", setting.doc)))
        .collect()
}

fn wrong_value(setting: &Setting, value: &Value, path: &[String], source: &Source) -> Option<ConfigError> {
    match (setting.kind, setting.limit) {
        (Kind::Secret, _) => wrong_secret(value).map(|message| source.at_value(path, message)),
        // Serde would repeat what stands here, and that may be a secret.
        (Kind::Secrets, _) => (!value.is_table()).then(|| source.at_value(path, SECRET_ELSEWHERE)),
        (Kind::Plain, Limit::Range(least, most)) => {
            let number = value.as_integer()?;
            let message = || format!("{number} is outside {least} to {most}, write a number in between");
            (!(least..=most).contains(&number)).then(|| source.at_value(path, message()))
        }
        (Kind::Plain, Limit::None | Limit::Words(_)) => None,
    }
}

/// A value where a table must stand. It is not repeated: it may be a secret in the wrong place.
fn no_table(setting: Option<&Setting>, value: &Value, path: &[String], source: &Source) -> Option<ConfigError> {
    let is_meant = setting.is_some_and(|setting| setting.value == Type::Table) || !children(path).is_empty();
    (is_meant && !value.is_table()).then(|| {
        let found = value.type_str();
        source.at_value(path, format!("is no table but of the type {found}, write {{ name = value }} or a [table]"))
    })
}

fn take_wrong_secrets(table: &mut Table, path: &[String], source: &Source, errors: &mut Vec<ConfigError>) {
    table.retain(|name, secret| {
        let at: Vec<&str> = path.iter().map(String::as_str).chain(std::iter::once(name)).collect();
        let wrong = wrong_secret(secret).map(|message| source.at_value(&at, message));
        let is_right = wrong.is_none();
        errors.extend(wrong);
        is_right
    });
}

// Says nothing of what it found: that may be the secret itself.
fn wrong_secret(value: &Value) -> Option<String> {
    let place = value.as_table().filter(|table| table.len() == 1).and_then(|table| table.iter().next());
    let is_right = place.is_some_and(|(kind, name)| {
        matches!(kind.as_str(), "credential" | "file" | "env") && name.as_str().is_some_and(|name| !name.is_empty())
    });
    (!is_right).then(|| SECRET_ELSEWHERE.to_owned())
}
