//! Compiling a route's mapping: each field name, source and type is checked against the target's fields and a sample record.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use chrono_tz::Tz;
use learnsync_sdk::{DefaultRoute, FieldType, Learner, RecordKind, TargetField, TargetObject, Value};
use minijinja::{Environment, UndefinedBehavior};
use sha2::{Digest, Sha256};

use super::paths::{Found, PATHS, Path};
use super::{Field, Mapping, Source, TEMPLATE_FUEL, Trouble, kind_word, typed, words};
use crate::config::{Choice, ReferenceConfig, SourceConfig};
use crate::domain::digest::hex;
use crate::domain::record::{Course, Record};
use crate::domain::time::{LmsTime, Timestamp};

/// What is wrong with one field of a mapping.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct MappingError {
    /// The target field, as it stands in the configuration.
    pub field: String,
    /// Which of its settings is wrong, such as `path`; none when it is the field itself.
    pub setting: Option<&'static str>,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// A connector's default mapping in the words of the configuration, so that defaults go the same road.
#[must_use]
pub fn sources_of(route: &DefaultRoute) -> BTreeMap<String, SourceConfig> {
    route
        .fields
        .iter()
        .map(|line| {
            let (kind, text) = line.source;
            let text = Some(text.to_owned());
            let source = match kind {
                "path" => SourceConfig { path: text, ..SourceConfig::default() },
                "template" => SourceConfig { template: text, ..SourceConfig::default() },
                "reference" => SourceConfig { reference: text, ..SourceConfig::default() },
                _ => SourceConfig { constant: text.map(toml::Value::String), ..SourceConfig::default() },
            };
            (line.field.to_owned(), source)
        })
        .collect()
}

impl Mapping {
    /// Compiles a mapping for a target object.
    ///
    /// # Errors
    /// All that is wrong, field by field.
    pub fn compile(
        fields: &BTreeMap<String, SourceConfig>,
        object: &TargetObject,
        zone: Tz,
        references: &BTreeMap<String, ReferenceConfig>,
    ) -> Result<Self, Vec<MappingError>> {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(UndefinedBehavior::Strict);
        templates.set_fuel(Some(TEMPLATE_FUEL));
        let mut compiled = Vec::new();
        let mut errors = Vec::new();
        for (name, config) in fields {
            let target = match target_field(name, object) {
                Ok(target) => target,
                Err(message) => {
                    errors.push(MappingError { field: name.clone(), setting: None, message });
                    continue;
                }
            };
            match compile_field(name, config, &target, zone, references, &mut templates) {
                Ok(field) => {
                    let wrong = config.table.iter().filter(|(_, value)| !can_become(value, target.kind, zone));
                    errors.extend(wrong.map(|(word, value)| {
                        let kind = kind_word(target.kind);
                        let message = format!("\"{value}\" of \"{word}\" cannot become a {kind}, which {name} is");
                        MappingError { field: name.clone(), setting: Some("table"), message }
                    }));
                    compiled.push(field);
                }
                Err(message) => {
                    errors.push(MappingError { field: name.clone(), setting: source_word(config), message });
                }
            }
        }
        for missing in object.fields.iter().filter(|field| field.required && !fields.contains_key(&field.name)) {
            let message = format!("{} cannot be made without this field: give it a source", object.name);
            errors.push(MappingError { field: missing.name.clone(), setting: None, message });
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let digest = digest(fields, zone, references);
        Ok(Self { fields: compiled, zone, digest, templates })
    }
}

fn compile_field(
    name: &str,
    config: &SourceConfig,
    target: &TargetField,
    zone: Tz,
    references: &BTreeMap<String, ReferenceConfig>,
    templates: &mut Environment<'static>,
) -> Result<Field, String> {
    let source = compile_source(name, config, target, references, templates)?;
    let field = Field {
        name: name.to_owned(),
        kind: target.kind,
        is_required: target.required,
        length_max: target.length_max,
        source,
        when_missing: config.when_missing,
    };
    // The type is checked with a typed sample, not only by name.
    if let Source::Path(path) = &field.source
        && let Err(Trouble::Failed(message)) = typed(path.find(&sample(), &sample_learner()), target.kind, zone)
    {
        let path = config.path.as_deref().unwrap_or_default();
        return Err(format!("{name} is a {}, the path {path} is not: {message}", kind_word(target.kind)));
    }
    Ok(field)
}

/// The word of the one source that the configuration names; none when it names several.
fn source_word(config: &SourceConfig) -> Option<&'static str> {
    Some(match config.choice().ok()? {
        Choice::Path(_) => "path",
        Choice::Constant(_) => "constant",
        Choice::Template(_) => "template",
        Choice::Lookup(..) => "lookup",
        Choice::Reference(_) => "reference",
    })
}

fn can_become(text: &str, kind: FieldType, zone: Tz) -> bool {
    typed(Found::Text(text.to_owned()), kind, zone).is_ok()
}

fn target_field(name: &str, object: &TargetObject) -> Result<TargetField, String> {
    if let Some(field) = object.fields.iter().find(|field| field.name == name) {
        return Ok(field.clone());
    }
    if object.open {
        return Ok(TargetField { name: name.to_owned(), kind: FieldType::Any, required: false, length_max: None });
    }
    let names: Vec<&str> = object.fields.iter().map(|field| field.name.as_str()).collect();
    let hint = crate::config::nearest(name, names.iter().copied())
        .map_or_else(|| format!("it has {}", names.join(", ")), |near| format!("did you mean \"{near}\"?"));
    Err(format!("{} has no field \"{name}\", {hint}", object.name))
}

fn compile_source(
    name: &str,
    config: &SourceConfig,
    target: &TargetField,
    references: &BTreeMap<String, ReferenceConfig>,
    templates: &mut Environment<'static>,
) -> Result<Source, String> {
    match (&config.path, &config.constant, &config.template, &config.lookup, &config.reference) {
        (Some(path), None, None, None, None) => Ok(Source::Path(Path::parse(path)?)),
        (None, Some(constant), None, None, None) => Ok(Source::Constant(constant_value(constant, target.kind)?)),
        (None, None, Some(template), None, None) => {
            templates.add_template_owned(name.to_owned(), template.clone()).map_err(|error| words(&error))?;
            check_names(name, templates)?;
            Ok(Source::Template(name.to_owned()))
        }
        (None, None, None, Some(path), None) => Ok(Source::Lookup(Path::parse(path)?, config.table.clone())),
        (None, None, None, None, Some(kind)) => {
            Ok(Source::Reference(kind.clone(), references.get(kind).cloned().unwrap_or_default()))
        }
        _ => Err("write exactly one of path, constant, template, lookup (with table), reference".to_owned()),
    }
}

/// Refuses names that no record has: at the first delivery they would park everything.
fn check_names(name: &str, templates: &Environment<'static>) -> Result<(), String> {
    let template = templates.get_template(name).map_err(|error| words(&error))?;
    let functions: Vec<&str> = templates.globals().map(|(name, _)| name).collect();
    // In a fixed order, so that the same template gives the same error.
    let used: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
    for path in used {
        let begins_one = PATHS
            .iter()
            .chain(&["learner.custom."])
            .any(|known| known.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.')));
        if !begins_one && !functions.contains(&path.as_str()) {
            Path::parse(&path)?;
        }
    }
    Ok(())
}

fn constant_value(constant: &toml::Value, kind: FieldType) -> Result<Value, String> {
    let value = match constant {
        toml::Value::String(text) => match kind {
            FieldType::Date => Value::Date(text.parse::<NaiveDate>().map_err(|_| format!("\"{text}\" is no date"))?),
            FieldType::Text | FieldType::Reference | FieldType::Any => Value::Text(text.clone()),
            FieldType::Number | FieldType::Bool => return Err(format!("\"{text}\" is not a {}", kind_word(kind))),
        },
        toml::Value::Integer(_) | toml::Value::Float(_) if !matches!(kind, FieldType::Number | FieldType::Any) => {
            return Err(format!("{constant} is not a {}", kind_word(kind)));
        }
        toml::Value::Boolean(flag) if !matches!(kind, FieldType::Bool | FieldType::Any) => {
            return Err(format!("{flag} is not a {}", kind_word(kind)));
        }
        #[expect(clippy::cast_precision_loss, reason = "a constant in a configuration is small")]
        toml::Value::Integer(number) => Value::Number(*number as f64),
        toml::Value::Float(number) => Value::Number(*number),
        toml::Value::Boolean(flag) => Value::Bool(*flag),
        toml::Value::Datetime(at) if matches!(kind, FieldType::Date | FieldType::Any) => {
            Value::Date(at.to_string().parse().map_err(|_| format!("{at} is no date without a time"))?)
        }
        other => return Err(format!("a constant is a text, a number, true or false, not {}", other.type_str())),
    };
    Ok(value)
}

/// Over everything that decides what the mapping makes, in a fixed order.
fn digest(fields: &BTreeMap<String, SourceConfig>, zone: Tz, references: &BTreeMap<String, ReferenceConfig>) -> String {
    let text = format!("{fields:?}\n{zone}\n{references:?}");
    hex(&Sha256::digest(text.as_bytes()))
}

fn sample() -> Record {
    let at = LmsTime::Instant(Timestamp(1_800_000_000_000));
    Record {
        title: "Sample".to_owned(),
        achieved: Some(at),
        valid_until: Some(at),
        course: Some(Course {
            id: "sample".to_owned(),
            name: "Sample".to_owned(),
            external_id: Some("sample".to_owned()),
        }),
        score: Some(90.0),
        credits: Some(1.0),
        minutes: Some(30.0),
        notes: Some("sample".to_owned()),
        ..Record::new(RecordKind::Completion, "sample", "sample")
    }
}

fn sample_learner() -> Learner {
    let word = || Some("sample".to_owned());
    Learner {
        id: "sample".to_owned(),
        external_id: word(),
        employee_number: word(),
        email: word(),
        username: word(),
        first_name: word(),
        last_name: word(),
        is_active: true,
        custom: BTreeMap::new(),
    }
}
