//! The JSON Schema of the files, for editors: made of the same lists as the reference, so that the two cannot differ.

use learnsync_sdk::{Description, Need, SettingType};
use serde_json::{Map, Value, json};

use super::reference::{Given, Kind, Limit, Setting, Type, children};

/// The dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Names of installations and portals.
const NAME: &str = "^[a-z0-9-]{1,32}$";

/// Names of destinations and routes.
const NAME_OR_UNDERSCORE: &str = "^[a-z0-9_-]{1,32}$";

/// The schema of `learnsync.toml`.
#[must_use]
pub fn schema_of_main(connectors: &[Description]) -> Value {
    let mut schema = json!({"$schema": DIALECT, "title": "learnsync.toml"});
    merge(&mut schema, table(&[]));
    merge(&mut schema, json!({"$defs": {"secret": secret(), "destination": destination(connectors)}}));
    schema
}

/// The schema of a file in `destinations.d`.
#[must_use]
pub fn schema_of_destination(connectors: &[Description]) -> Value {
    let mut schema = json!({"$schema": DIALECT, "title": "destinations.d/<name>.toml of learnsync"});
    merge(&mut schema, destination(connectors));
    merge(&mut schema, json!({"$defs": {"secret": secret()}}));
    schema
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

fn secret() -> Value {
    let place = |word: &str| {
        json!({"type": "object", "properties": {word: {"type": "string", "minLength": 1}}, "required": [word],
               "additionalProperties": false})
    };
    json!({
        "description": "A secret is never written here, only where it stands.",
        "oneOf": [place("credential"), place("file"), place("env")]
    })
}

/// A table: what may stand in it by name, or anything of one kind.
fn table(path: &[String]) -> Value {
    let known = children(path);
    let below = |name: &str| path.iter().cloned().chain([name.to_owned()]).collect::<Vec<_>>();
    if let Some((name, _)) = known.iter().find(|(name, _)| name.starts_with('<')) {
        let mut schema = json!({"type": "object", "additionalProperties": value(&below(name), None)});
        if let Some(pattern) = pattern_of_names(name) {
            merge(&mut schema, json!({"propertyNames": {"pattern": pattern}}));
        }
        if *name == "<portal>" {
            merge(&mut schema, json!({"minProperties": 1}));
        }
        return schema;
    }
    let properties: Map<String, Value> =
        known.iter().map(|(name, setting)| ((*name).to_owned(), value(&below(name), *setting))).collect();
    let required: Vec<&str> = known
        .iter()
        .filter(|(_, setting)| setting.is_some_and(|setting| setting.given == Given::Required))
        .map(|(name, _)| *name)
        .collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn pattern_of_names(placeholder: &str) -> Option<&'static str> {
    match placeholder {
        "<portal>" => Some(NAME),
        "<destination>" | "<route>" => Some(NAME_OR_UNDERSCORE),
        _ => None,
    }
}

fn value(path: &[String], setting: Option<&Setting>) -> Value {
    let last = path.last().map(String::as_str).unwrap_or_default();
    let mut schema = match (last, setting) {
        ("<destination>", _) => return json!({"$ref": "#/$defs/destination"}),
        ("<field>", _) => with_one_source(table(path)),
        (_, Some(setting)) if setting.kind == Kind::Secret => json!({"$ref": "#/$defs/secret"}),
        (_, Some(setting)) if setting.kind == Kind::Secrets => {
            json!({"type": "object", "additionalProperties": {"$ref": "#/$defs/secret"}})
        }
        (_, Some(setting)) if children(path).is_empty() => plain(setting),
        _ => table(path),
    };
    let Some(setting) = setting else { return schema };
    merge(&mut schema, json!({"description": setting.doc}));
    if let Given::Default(text) = setting.given
        && let Ok(read) = format!("value = {text}").parse::<toml::Table>()
        && let Ok(value) = serde_json::to_value(&read["value"])
    {
        merge(&mut schema, json!({"default": value}));
    }
    schema
}

fn with_one_source(mut table: Value) -> Value {
    let sources = ["path", "constant", "template", "lookup", "reference"].map(|word| json!({"required": [word]}));
    merge(&mut table, json!({"oneOf": sources, "dependentRequired": {"lookup": ["table"], "table": ["lookup"]}}));
    table
}

fn plain(setting: &Setting) -> Value {
    match (setting.value, setting.limit) {
        (Type::Integer, Limit::Range(least, most)) => json!({"type": "integer", "minimum": least, "maximum": most}),
        (Type::Integer, Limit::None | Limit::Words(_)) => json!({"type": "integer"}),
        (Type::Text, _) if setting.path == "installation" => json!({"type": "string", "pattern": NAME}),
        (Type::Text | Type::Zone | Type::Address | Type::AdminAddress, _) => json!({"type": "string"}),
        (Type::Bool, _) => json!({"type": "boolean"}),
        (Type::Any, _) => json!({}),
        (Type::Table, _) => json!({"type": "object"}),
        (Type::Texts, _) => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        (Type::Word(words), _) => json!({"enum": words}),
        (Type::Rules, _) => {
            let words = ["external_id", "employee_number", "email"];
            // A field of the target, a custom field of the LMS, or forms follow.
            let longer = json!({"type": "string", "pattern": "^[a-z_]{5,15}[ ]{0,9}[=|:]{1}[ -~]{1,200}$"});
            json!({"type": "array", "items": {"anyOf": [{"enum": words}, longer]}, "minItems": 1})
        }
        (Type::DayTime, _) => json!({"type": "string", "pattern": "^[0-9]{2}:[0-9]{2}$"}),
        (Type::History, _) => json!({
            "anyOf": [{"enum": ["none", "all"]}, {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"}]
        }),
    }
}

/// A destination: what all have in common, and for each connector its own settings.
fn destination(connectors: &[Description]) -> Value {
    let mut schema = table(&["destinations".to_owned(), "<destination>".to_owned()]);
    let names: Vec<&str> = connectors.iter().map(|connector| connector.name).collect();
    if let Some(connector) = schema.pointer_mut("/properties/connector") {
        merge(connector, json!({"enum": names}));
    }
    let own: Vec<Value> = connectors
        .iter()
        .map(|connector| {
            json!({
                "if": {"properties": {"connector": {"const": connector.name}}, "required": ["connector"]},
                "then": settings_of(connector)
            })
        })
        .collect();
    merge(&mut schema, json!({"allOf": own}));
    schema
}

fn settings_of(connector: &Description) -> Value {
    let mut settings = Map::new();
    let mut secrets = Map::new();
    let mut needs = Vec::new();
    for setting in connector.settings {
        secrets.insert(setting.name.to_owned(), json!({"$ref": "#/$defs/secret", "description": setting.doc}));
        if !setting.is_secret {
            let mut kind = json!({"description": setting.doc, "examples": [setting.value()]});
            let word = match setting.kind {
                SettingType::Text => "string",
                SettingType::Integer => "integer",
                SettingType::Bool => "boolean",
            };
            merge(&mut kind, json!({"type": word}));
            if let Need::Default(_) = setting.need {
                merge(&mut kind, json!({"default": setting.value()}));
            }
            settings.insert(setting.name.to_owned(), kind);
        }
        let names = match setting.need {
            Need::Required => vec![setting.name],
            Need::Unless(other) => vec![setting.name, other],
            Need::Optional | Need::Default(_) => continue,
        };
        let given = |table: &str, name: &str| json!({"required": [table], "properties": {table: {"required": [name]}}});
        let ways: Vec<Value> =
            names.iter().flat_map(|name| [given("settings", name), given("secrets", name)]).collect();
        needs.push(json!({"anyOf": ways}));
    }
    let mut schema = json!({
        "properties": {
            "settings": {"properties": settings, "additionalProperties": false},
            "secrets": {"properties": secrets, "additionalProperties": false},
            "references": {"propertyNames": {"enum": connector.reference_kinds}}
        }
    });
    if !needs.is_empty() {
        merge(&mut schema, json!({"allOf": needs}));
    }
    schema
}

#[cfg(test)]
pub(crate) mod validator;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::validator::{errors_of, toml_as_json};
    use super::*;

    fn descriptions() -> Vec<Description> {
        crate::connectors::all().iter().map(|kind| kind.describe()).collect()
    }

    fn read(path: &str) -> Value {
        toml_as_json(&std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}")))
    }

    #[test]
    fn the_fixtures_keep_the_schema() {
        let main = schema_of_main(&descriptions());
        for path in ["tests/fixtures/learnsync.toml", "tests/fixtures/good/learnsync.toml"] {
            assert_eq!(errors_of(&main, &read(path)), Vec::<String>::new(), "{path}");
        }
        let destination = schema_of_destination(&descriptions());
        let path = "tests/fixtures/good/destinations.d/hr.toml";
        assert_eq!(errors_of(&destination, &read(path)), Vec::<String>::new(), "{path}");
    }

    #[test]
    fn what_is_wrong_by_its_shape_breaks_the_schema() {
        let main = schema_of_main(&descriptions());
        let mut seen = 0;
        for entry in std::fs::read_dir("tests/fixtures/wrong").expect("the fixtures are there") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let is_shape = [
                "unknown-",
                "text-for-",
                "number-for",
                "out-of-range",
                "no-portal",
                "required-missing",
                "illegal-names",
                "no-history",
                "connector-settings-missing",
                "two-sources",
                "secrets-in",
                "secret-among",
                "all-secrets",
                "bad-match",
                "no-match",
                "windows",
            ];
            // Names of the target are known to the connector alone.
            let is_targets = name.contains("target-field");
            if !is_shape.iter().any(|part| name.contains(part)) || is_targets || !name.ends_with(".toml") {
                continue;
            }
            seen += 1;
            let text = std::fs::read_to_string(Path::new(&path)).expect("a text");
            assert!(!errors_of(&main, &toml_as_json(&text)).is_empty(), "{name} keeps the schema");
        }
        assert!(seen > 18, "only {seen} of the wrong configurations were tried");
    }
}
