//! `learnsync reference`: all settings, limits and connectors, as the program itself knows them; and their JSON Schema.

use std::fmt::Write;

use anyhow::Context;
use clap::{Args, ValueEnum};
use learnsync_sdk::{ConnectorType, Description, FieldType, Need, TargetObject, Toolbox};

use super::{Failure, print_json};
use crate::config::{FILE_BYTES_MAX, FILES_MAX, SECRET_BYTES_MAX, schema_of_destination, schema_of_main};
use crate::daemon::DRAIN_TIME_MAX;
use crate::domain::time::{Clock, SystemClock};
use crate::http::{QUESTION_TIME_MAX, QUESTIONS_MAX};
use crate::mapping::{PATHS, TEMPLATE_BYTES_MAX, TEMPLATE_FUEL};
use crate::pipeline::pulse::SILENCE_MAX;
use crate::pipeline::{breaker, retry};

#[derive(Args)]
pub(super) struct Options {
    /// Prints the JSON Schema (draft 2020-12) of a file instead, for editors.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "learnsync")]
    schema: Option<Schema>,
}

/// Which file.
#[derive(Clone, Copy, ValueEnum)]
enum Schema {
    /// learnsync.toml
    Learnsync,
    /// A file in destinations.d
    Destination,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let kinds = crate::connectors::all();
    let descriptions: Vec<Description> = kinds.iter().map(|kind| kind.describe()).collect();
    match options.schema {
        Some(Schema::Learnsync) => print_json(&schema_of_main(&descriptions)),
        Some(Schema::Destination) => print_json(&schema_of_destination(&descriptions)),
        None => {
            print!("{}", page(&kinds)?);
            Ok(())
        }
    }
}

/// What stands above the settings.
const HEAD: &str = "\
# Reference

Made by `learnsync reference > REFERENCE.md`; a test compares the two. `learnsync reference --schema` prints the same as a JSON Schema.

A configuration is `learnsync.toml`, and beside it `destinations.d/<name>.toml` for each destination, if you like: the file's name is the
destination's, and what stands in it is the table `destinations.<name>` without that prefix. A destination stands in one place only.

A secret is never written into a file, only where it stands: `{ credential = \"name\" }` (systemd), `{ file = \"/path\" }` or
`{ env = \"NAME\" }`.

## Settings

";

/// The whole page.
fn page(kinds: &[Box<dyn ConnectorType>]) -> Result<String, Failure> {
    let mut page = String::from(HEAD);
    page.push_str(&crate::config::settings_table());
    page.push_str("\n## Paths\n\nWhat `path`, `lookup` and templates can name:\n\n");
    for path in PATHS {
        line(&mut page, format_args!("- `{path}`"));
    }
    page.push_str("- `learner.custom.<name>`\n\n## Connectors\n");
    for kind in kinds {
        connector(&mut page, &**kind)?;
    }
    page.push_str(
        "\n## Metrics\n\nWhat `/metrics` of the admin listener says. Counters begin at 0 with each start.\n\n",
    );
    page.push_str(&crate::telemetry::metrics_table());
    page.push_str(&limits());
    Ok(page)
}

// Writing to a String cannot fail.
fn line(page: &mut String, words: std::fmt::Arguments<'_>) {
    let _ = writeln!(page, "{words}");
}

fn connector(page: &mut String, kind: &dyn ConnectorType) -> Result<(), Failure> {
    let about = kind.describe();
    line(page, format_args!("\n### {}\n\n{} <{}>\n", about.name, about.summary, about.documentation));
    facts(page, &about);
    page.push_str("\n| setting | what it is | type | default |\n|---|---|---|---|\n");
    for setting in about.settings {
        let kind = match setting.kind {
            _ if setting.is_secret => "where a secret stands",
            learnsync_sdk::SettingType::Text => "text",
            learnsync_sdk::SettingType::Integer => "whole number",
            learnsync_sdk::SettingType::Bool => "true or false",
        };
        let default = match setting.need {
            Need::Required => "required".to_owned(),
            Need::Unless(other) => format!("required without `{other}`"),
            Need::Optional => "none".to_owned(),
            Need::Default(value) => format!("`{value}`"),
        };
        line(page, format_args!("| `{}` | {} | {kind} | {default} |", setting.name, setting.doc));
    }
    page.push_str("\nRoutes of a destination that names none:\n\n");
    for route in &about.default_routes {
        line(page, format_args!("- `{}`: {} -> `{}`", route.name, route.record, route.object));
        for field in &route.fields {
            line(page, format_args!("  - `{}` <- {} `{}`", field.field, field.source.0, field.source.1));
        }
    }
    for object in objects(kind, &about)? {
        fields(page, &object);
    }
    Ok(())
}

fn facts(page: &mut String, about: &Description) {
    let claims: Vec<&str> = about.claims.iter().map(|claim| claim.as_str()).collect();
    let references =
        if about.reference_kinds.is_empty() { "none".to_owned() } else { about.reference_kinds.join(", ") };
    line(page, format_args!("- claims: {}", claims.join(", ")));
    line(page, format_args!("- reference data: {references}"));
    line(
        page,
        format_args!(
            "- limits: {} people a batch, {} requests at once, {} ms between batches, settled after {} s",
            about.persons_per_batch_max, about.concurrency_max, about.batch_interval_ms, about.settle_seconds
        ),
    );
}

/// The objects of the default routes, as a connector with example settings knows them.
fn objects(kind: &dyn ConnectorType, about: &Description) -> Result<Vec<TargetObject>, Failure> {
    let http = crate::daemon::http_client().context("build an HTTP client")?;
    let toolbox = Toolbox {
        http,
        installation: "example".to_owned(),
        clock: learnsync_sdk::Clock::new(|| SystemClock.now().utc()),
        test_skip_lookup: false,
    };
    let connector = kind
        .build(&about.example_settings(), toolbox)
        .with_context(|| format!("build {} with its example settings", about.name))?;
    let mut objects: Vec<TargetObject> = Vec::new();
    for route in &about.default_routes {
        let object = connector.object(route.object).map_err(anyhow::Error::msg)?;
        if !objects.iter().any(|known| known.name == object.name) {
            objects.push(object);
        }
    }
    Ok(objects)
}

fn fields(page: &mut String, object: &TargetObject) {
    let open = if object.open { ", and any other column" } else { "" };
    if object.fields.is_empty() {
        line(page, format_args!("\nThe object `{}` takes any column.", object.name));
        return;
    }
    line(page, format_args!("\nThe fields of the object `{}`{open}:\n", object.name));
    page.push_str("| field | type | required | longest text |\n|---|---|---|---|\n");
    for field in &object.fields {
        let kind = match field.kind {
            FieldType::Text => "text",
            FieldType::Number => "number",
            FieldType::Date => "date",
            FieldType::Bool => "true or false",
            FieldType::Reference => "reference",
            FieldType::Any => "any",
        };
        let required = if field.required { "yes" } else { "" };
        let length = field.length_max.map(|length| format!("{length} characters")).unwrap_or_default();
        line(page, format_args!("| `{}` | {kind} | {required} | {length} |", field.name));
    }
}

fn limits() -> String {
    let waits: Vec<String> = crate::domain::promise::REREADS_MS.iter().map(|ms| format!("{} s", ms / 1_000)).collect();
    format!(
        "\n## Limits\n
- a configuration file: {} KiB; `destinations.d`: {FILES_MAX} files; a secret: {} KiB
- a template: {TEMPLATE_FUEL} steps, {} KiB of text
- unavailable: {} s x 2^n with full jitter, at most {} min, for ever
- circuit: {} failures in a row of at least {} people open it; one probe every {} s
- poison: {} failures of one delivery while others succeed park it
- unauthorized: the destination pauses, one probe every {} min
- throttled: as long as the target says, in full; {} s if it does not say
- reads again for an event's promise: after {}
- the admin listener: {QUESTIONS_MAX} questions at once, {} s for each
- a step of the pipeline without progress for {} min hangs: not ready, and the watchdog of systemd is fed no more
- what has begun when the daemon is stopped: {} s, then it is cut off and looked up at the next start\n",
        FILE_BYTES_MAX / 1024,
        SECRET_BYTES_MAX / 1024,
        TEMPLATE_BYTES_MAX / 1024,
        retry::FIRST_MS / 1_000,
        retry::CAP_MS / 60_000,
        breaker::FAILURES_MAX,
        breaker::PERSONS_MIN,
        breaker::PROBE_MS / 1_000,
        retry::POISON_TRIES,
        retry::UNAUTHORIZED_PROBE_MS / 60_000,
        crate::lms::UNSAID_MS / 1_000,
        waits.join(", "),
        QUESTION_TIME_MAX.as_secs(),
        SILENCE_MAX.as_secs() / 60,
        DRAIN_TIME_MAX.as_secs(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_EXPECTED=1` writes it instead.
    #[test]
    fn the_reference_in_the_repository_is_that_of_the_program() {
        let page = page(&crate::connectors::all()).unwrap_or_else(|_| panic!("the page can be made"));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write("REFERENCE.md", &page).expect("written");
        }
        let kept = std::fs::read_to_string("REFERENCE.md").unwrap_or_default();
        let wrong = kept.lines().zip(page.lines()).position(|(kept, made)| kept != made);
        assert!(
            kept == page,
            "REFERENCE.md is stale from line {}: run `learnsync reference > REFERENCE.md`",
            wrong.unwrap_or_else(|| kept.lines().count().min(page.lines().count())) + 1
        );
    }

    #[test]
    fn each_connector_takes_its_own_examples_and_knows_its_own_objects() {
        for kind in crate::connectors::all() {
            let about = kind.describe();
            let objects = objects(&*kind, &about).unwrap_or_else(|_| panic!("{} refuses its examples", about.name));
            assert!(!objects.is_empty() || about.default_routes.is_empty(), "{}", about.name);
        }
    }
}
