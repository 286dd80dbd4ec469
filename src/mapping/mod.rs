//! Mapping: a record becomes a target's fields, as the configuration says. Pure; checked against the target's fields before it is used.

mod compile;
mod paths;
mod references;

use std::collections::BTreeSet;

use chrono_tz::Tz;
use learnsync_sdk::{FieldType, Fields, Learner, Value};
use minijinja::Environment;

use crate::config::{ReferenceConfig, WhenMissing};
use crate::domain::record::Record;
pub use compile::{MappingError, sources_of};
pub use paths::PATHS;
use paths::{Found, Path, STANDING};
pub use references::ReferenceTable;

/// Most steps that a template may take.
pub const TEMPLATE_FUEL: u64 = 50_000;

/// Longest text that a template may make, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 32 * 1024;

/// The mapping of one route, compiled.
pub struct Mapping {
    fields: Vec<Field>,
    zone: Tz,
    digest: String,
    templates: Environment<'static>,
}

struct Field {
    name: String,
    kind: FieldType,
    is_required: bool,
    length_max: Option<usize>,
    source: Source,
    when_missing: WhenMissing,
}

enum Source {
    Path(Path),
    Constant(Value),
    /// The name of a compiled template.
    Template(String),
    Lookup(Path, std::collections::BTreeMap<String, String>),
    Reference(String, ReferenceConfig),
}

/// What a record became.
#[derive(Clone, Debug, PartialEq)]
pub enum Rendered {
    /// The target's fields.
    Fields(Fields),
    /// A course has no piece of reference data.
    Unmapped {
        /// Of which kind.
        kind: String,
        /// The course as it was looked for: its name.
        course: String,
    },
    /// A field that is needed has no value.
    Missing {
        /// Which.
        field: String,
    },
    /// A field cannot be computed.
    Failed {
        /// Which.
        field: String,
        /// Why.
        message: String,
    },
}

impl Mapping {
    /// Whether it says how a record stands, which changes by the calendar without any new fact.
    #[must_use]
    pub fn says_standing(&self) -> bool {
        self.fields.iter().any(|field| match &field.source {
            Source::Path(path) | Source::Lookup(path, _) => path.is_standing(),
            Source::Template(name) => {
                let template = self.templates.get_template(name);
                template.is_ok_and(|template| template.undeclared_variables(false).contains(STANDING))
            }
            Source::Constant(_) | Source::Reference(..) => false,
        })
    }

    /// The version of this mapping: a digest over everything that decides what it makes.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The kinds of reference data that it needs.
    #[must_use]
    pub fn reference_kinds(&self) -> BTreeSet<String> {
        self.fields
            .iter()
            .filter_map(|field| match &field.source {
                Source::Reference(kind, _) => Some(kind.clone()),
                Source::Path(_) | Source::Constant(_) | Source::Template(_) | Source::Lookup(..) => None,
            })
            .collect()
    }

    /// Whether it fills a field of this name.
    #[must_use]
    pub fn fills(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field.name == name)
    }

    /// Turns a record into fields.
    #[must_use]
    pub fn render(&self, record: &Record, learner: &Learner, references: &ReferenceTable) -> Rendered {
        let mut fields = Fields::new();
        for field in &self.fields {
            match self.value(field, record, learner, references) {
                Ok(Some(value)) => {
                    fields.insert(field.name.clone(), value);
                }
                Ok(None) => match field.when_missing {
                    _ if field.is_required => return Rendered::Missing { field: field.name.clone() },
                    WhenMissing::Keep => {}
                    WhenMissing::Clear => {
                        fields.insert(field.name.clone(), Value::Null);
                    }
                    WhenMissing::Park => return Rendered::Missing { field: field.name.clone() },
                },
                Err(Trouble::Unmapped { kind, course }) => return Rendered::Unmapped { kind, course },
                Err(Trouble::Failed(message)) => return Rendered::Failed { field: field.name.clone(), message },
            }
        }
        Rendered::Fields(fields)
    }

    fn value(
        &self,
        field: &Field,
        record: &Record,
        learner: &Learner,
        references: &ReferenceTable,
    ) -> Result<Option<Value>, Trouble> {
        let value = match &field.source {
            Source::Path(path) => typed(path.find(record, learner), field.kind, self.zone)?,
            Source::Constant(value) => Some(value.clone()),
            Source::Template(name) => self.template(name, record, learner)?,
            Source::Lookup(path, table) => match path.find(record, learner).text(self.zone) {
                None => None,
                Some(word) => match table.get(&word) {
                    Some(value) => typed(Found::Text(value.clone()), field.kind, self.zone)?,
                    None => {
                        let name = &field.name;
                        return Err(Trouble::Failed(format!("\"{word}\" is not in the table of {name}: add it")));
                    }
                },
            },
            Source::Reference(kind, config) => Some(Value::Text(references.resolve(kind, record, config)?)),
        };
        if let (Some(Value::Text(text)), Some(length_max)) = (&value, field.length_max)
            && text.chars().count() > length_max
        {
            let length = text.chars().count();
            return Err(Trouble::Failed(format!(
                "the text has {length} characters, the target takes {length_max}: shorten it with a template"
            )));
        }
        Ok(value)
    }

    fn template(&self, name: &str, record: &Record, learner: &Learner) -> Result<Option<Value>, Trouble> {
        let context = paths::context(record, learner, self.zone);
        let text = self
            .templates
            .get_template(name)
            .and_then(|template| {
                let mut out = Bounded { text: Vec::new() };
                template.render_captured_to(context, &mut out)?;
                Ok(out.text)
            })
            .map_err(|error| Trouble::Failed(words(&error)))?;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        Ok((!text.is_empty()).then_some(Value::Text(text)))
    }
}

/// Why a field has no value.
enum Trouble {
    Unmapped { kind: String, course: String },
    Failed(String),
}

/// An output that refuses to grow beyond the limit.
struct Bounded {
    text: Vec<u8>,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > TEMPLATE_BYTES_MAX {
            return Err(std::io::Error::other(format!("the output is longer than {TEMPLATE_BYTES_MAX} bytes")));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A template's error with its reasons, in one line.
fn words(error: &minijinja::Error) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        words = format!("{words}: {inner}");
        source = inner.source();
    }
    words
}

/// Gives a found value the type of the target's field.
fn typed(found: Found, kind: FieldType, zone: Tz) -> Result<Option<Value>, Trouble> {
    let refuse = |found: &Found| {
        let shown = found.text(zone).unwrap_or_default();
        Trouble::Failed(format!("\"{shown}\" cannot become a {}", kind_word(kind)))
    };
    if matches!(found, Found::Nothing) {
        return Ok(None);
    }
    let value = match kind {
        FieldType::Date => match &found {
            Found::Time(time) => Value::Date(time.date_in(zone)),
            Found::Text(text) => Value::Date(text.parse().map_err(|_| refuse(&found))?),
            Found::Number(_) | Found::Nothing => return Err(refuse(&found)),
        },
        FieldType::Number => match &found {
            Found::Number(number) => Value::Number(*number),
            Found::Text(text) => Value::Number(text.trim().parse().map_err(|_| refuse(&found))?),
            Found::Time(_) | Found::Nothing => return Err(refuse(&found)),
        },
        FieldType::Bool => match &found {
            Found::Text(text) => Value::Bool(text.trim().parse().map_err(|_| refuse(&found))?),
            Found::Time(_) | Found::Number(_) | Found::Nothing => return Err(refuse(&found)),
        },
        FieldType::Text | FieldType::Reference => Value::Text(found.text(zone).unwrap_or_default()),
        // A column of the customer's own: dates become dates, the rest stays what it is.
        FieldType::Any => match found {
            Found::Time(time) => Value::Date(time.date_in(zone)),
            Found::Number(number) => Value::Number(number),
            Found::Text(text) => Value::Text(text),
            Found::Nothing => return Ok(None),
        },
    };
    Ok(Some(value))
}

fn kind_word(kind: FieldType) -> &'static str {
    match kind {
        FieldType::Text => "text",
        FieldType::Number => "number",
        FieldType::Date => "date",
        FieldType::Bool => "true or false",
        FieldType::Reference => "reference",
        FieldType::Any => "value",
    }
}

#[cfg(test)]
mod tests;
