//! Reads the configuration file: syntax, shape, types, rules; as many errors at once as can be told apart.

use std::path::Path;

use serde_path_to_error::Segment;
use toml::de::DeTable;

use super::nearest::nearest;
use super::source::{ConfigError, ConfigErrors, Source};
use super::{Config, shape, validate};

/// The largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads and checks everything that needs no connector.
///
/// # Errors
/// The file cannot be read, or what is wrong in it, each with its line and column.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    load_with_source(path).map(|(config, _)| config)
}

/// As `load`, and keeps the places of all keys for later checks.
///
/// # Errors
/// As `load`.
pub fn load_with_source(path: &Path) -> Result<(Config, Source), ConfigErrors> {
    let unreadable = |message: String| {
        ConfigErrors(vec![ConfigError { file: path.to_owned(), line: 0, column: 0, key: String::new(), message }])
    };
    let bytes = std::fs::metadata(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(unreadable(format!("has {bytes} bytes, the limit for a configuration file is {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    parse(path, &text)
}

/// Checks a configuration text; `file` is only named in errors.
///
/// # Errors
/// What is wrong in it, each with its line and column.
pub fn parse(file: &Path, text: &str) -> Result<(Config, Source), ConfigErrors> {
    let (tree, syntax) = DeTable::parse_recoverable(text);
    let source = Source::new(file, text, tree.get_ref());
    if !syntax.is_empty() {
        return Err(ConfigErrors(syntax.iter().map(|error| syntax_error(&source, error)).collect()));
    }
    let mut table: toml::Table =
        toml::from_str(text).map_err(|error| ConfigErrors(vec![syntax_error(&source, &error)]))?;

    let mut errors = ConfigErrors::default();
    shape::check(&mut table, &source, &mut errors);
    let config = deserialize(table, &source, &mut errors);
    if let Some(config) = &config {
        validate::check(config, &source, &mut errors);
    }
    errors.into_result()?;
    Ok((config.expect("without an error there is a configuration"), source))
}

// Only the message: the parser's long form quotes the line, and the line may hold a secret.
fn syntax_error(source: &Source, error: &toml::de::Error) -> ConfigError {
    let (line, column) = source.line_and_column(error.span().map_or(0, |span| span.start));
    ConfigError {
        file: source.file().to_owned(),
        line,
        column,
        key: String::new(),
        message: format!("not TOML: {}", error.message()),
    }
}

/// Deserializes, and on an error takes the wrong value out and goes on, so that several errors are found in one pass.
fn deserialize(mut table: toml::Table, source: &Source, errors: &mut ConfigErrors) -> Option<Config> {
    loop {
        let error = match serde_path_to_error::deserialize(toml::Value::Table(table.clone())) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let path = segments(error.path());
        let message = error.inner().message();
        // A missing setting was told by the shape check, or we took its wrong value out ourselves.
        if !message.starts_with("missing field") || errors.0.is_empty() {
            errors.0.push(source.at_value(&path, reword(message)));
        }
        if !remove(&mut table, &path) {
            return None;
        }
    }
}

fn segments(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Enum { variant } => Some(variant.clone()),
            Segment::Unknown => None,
        })
        .collect()
}

/// Removes the value at a path, or the innermost value on the way that is no table. False when there is nothing to remove.
fn remove(table: &mut toml::Table, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if let Some(toml::Value::Table(inner)) = table.get_mut(first)
        && remove(inner, rest)
    {
        return true;
    }
    table.remove(first).is_some()
}

/// The words of serde and of the zone parser, in ours; all others as they are.
fn reword(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return wrong_variant(rest);
    }
    if let Some(rest) = message.strip_prefix("failed to parse timezone: ") {
        return wrong_zone(rest.trim().trim_matches('\''));
    }
    message.trim_end().to_owned()
}

fn wrong_variant(words: &str) -> String {
    let mut words = words.split('`').skip(1).step_by(2);
    let wrong = words.next().unwrap_or_default();
    let allowed: Vec<&str> = words.collect();
    let hint = nearest(wrong, allowed.iter().copied()).map(|right| format!(", did you mean \"{right}\"?"));
    format!("\"{wrong}\" is not allowed here{} (allowed: {})", hint.unwrap_or_default(), allowed.join(", "))
}

fn wrong_zone(wrong: &str) -> String {
    let zones = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    let city = format!("/{}", wrong.replace(' ', "_").to_lowercase());
    let right = zones().find(|zone| zone.to_lowercase().ends_with(&city)).or_else(|| nearest(wrong, zones()));
    match right {
        Some(right) => format!("\"{wrong}\" is no time zone, did you mean \"{right}\"?"),
        None => format!("\"{wrong}\" is no time zone, write a name of the IANA list such as \"Europe/Berlin\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../tests/fixtures/learnsync.toml");

    fn errors_of(text: &str) -> Vec<String> {
        match parse(Path::new("learnsync.toml"), text) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.to_string().lines().map(str::to_owned).collect(),
        }
    }

    /// Replaces one piece of the good file; the piece must be there.
    fn with(piece: &str, instead: &str) -> String {
        assert!(GOOD.contains(piece), "the fixture has no {piece:?}");
        GOOD.replacen(piece, instead, 1)
    }

    fn line_of(text: &str, piece: &str) -> usize {
        text.lines().position(|line| line.contains(piece)).expect("the piece is in the text") + 1
    }

    #[test]
    fn the_example_is_a_good_configuration() {
        assert_eq!(errors_of(GOOD), Vec::<String>::new());
    }

    #[test]
    fn a_wrong_setting_is_named_with_its_line_its_column_and_the_next_step() {
        for (piece, instead, expected) in [
            ("installation = \"acme\"", "installation = \"Acme Inc\"", "16: installation: \"Acme Inc\" is not a name"),
            ("installation = \"acme\"", "installation = \"\"", "16: installation: \"\" is not a name"),
            ("address = ", "adress = ", "1: listen.adress: unknown setting \"adress\", did you mean \"address\"?"),
            ("address = ", "flavour = ", "1: listen.flavour: unknown setting \"flavour\" (known here: address, body_"),
            ("url = \"https", "url = \"ftp", "7: portals.main.url: \"ftp://rest.myabsorb.example\" is not an http"),
            ("url = \"https://rest.myabsorb.example\"\n", "", "10: portals.main: missing setting \"url\" (The API's"),
            ("body_bytes_max = 262_144", "body_bytes_max = 512", "18: listen.body_bytes_max: 512 is outside 1024 to"),
            (
                "body_bytes_max = 262_144",
                "body_bytes_max = \"1 MiB\"",
                "18: listen.body_bytes_max: invalid type: string",
            ),
            (
                "zone = \"Europe/Berlin\"",
                "zone = \"Berlin\"",
                "8: portals.main.zone: \"Berlin\" is no time zone, did you mean \"Europe/Berlin\"?",
            ),
            ("cron = \"15 2 * * *\"", "cron = \"15 25 * * *\"", "8: reconcile.cron: \"15 25 * * *\" is not a cron"),
            ("cron = \"15 2 * * *\"", "cron = \"0 15 2 * * *\"", "8: reconcile.cron: \"0 15 2 * * *\" is not a cron"),
            (
                "record = \"completion\"",
                "record = \"completon\"",
                "10: destinations.hr.routes.trainings.record: \"compl",
            ),
            ("path = \"achieved\"", "pth = \"achieved\"", "1: destinations.hr.routes.trainings.fields.completed.pth"),
            ("history = 2026-01-01", "history = \"some\"", "11: destinations.hr.history: \"some\" is not a history"),
            ("[portals.main]", "[portals.Main]", "10: portals.Main: \"Main\" is not a name"),
        ] {
            let text = with(piece, instead);
            let errors = errors_of(&text);
            assert!(!errors.is_empty(), "{instead:?} was accepted");
            assert!(errors[0].starts_with("learnsync.toml:"), "{}", errors[0]);
            assert!(errors[0].contains(&format!(":{expected}")), "{instead:?}: {errors:?}");
        }
    }

    #[test]
    fn a_nested_typo_stands_at_its_own_line() {
        let text = with("reference = \"training_type\"", "refrence = \"training_type\"");
        let errors = errors_of(&text);
        let line = line_of(&text, "refrence");
        assert_eq!(
            errors[0],
            format!(
                "learnsync.toml:{line}:1: destinations.hr.routes.trainings.fields.type.refrence: \
                 unknown setting \"refrence\", did you mean \"reference\"?"
            )
        );
    }

    #[test]
    fn several_errors_of_every_sort_are_told_at_once() {
        let text = with("address = ", "adress = ")
            .replacen("zone = \"Europe/Berlin\"", "zone = \"Berlin\"", 1)
            .replace("record = \"completion\"", "record = \"completon\"")
            .replace("username = ", "user = ")
            .replace("cron = \"15 2 * * *\"", "cron = 7");
        let errors = errors_of(&text).join("\n");
        for key in [
            "listen.adress: unknown",
            "portals.main.user: unknown",
            "portals.main: missing setting \"username\"",
            "portals.main.zone: ",
            "routes.trainings.record: \"completon\" is not allowed here, did you mean \"completion\"?",
            "reconcile.cron: invalid type: integer `7`",
        ] {
            assert!(errors.contains(key), "{key} is missing in:\n{errors}");
        }
        assert_eq!(errors.lines().count(), 6, "{errors}");
    }

    #[test]
    fn several_broken_rules_are_told_at_once() {
        let text = with("installation = \"acme\"", "installation = \"A\"").replace("15 2 * * *", "never");
        assert_eq!(errors_of(&text).len(), 2);
    }

    #[test]
    fn a_secret_written_into_the_file_is_refused_and_not_repeated() {
        for instead in ["api_key = \"hunter2hunter2\"", "api_key = { hunter2hunter2 = \"x\" }"] {
            let errors = errors_of(&with("api_key = { credential = \"absorb-api-key\" }", instead)).join("\n");
            assert!(errors.contains("portals.main.api_key: a secret is never written here"), "{errors}");
            assert!(!errors.contains("hunter2"), "{errors}");
        }
    }

    #[test]
    fn a_source_is_exactly_one_of_five() {
        for (instead, expected) in [
            ("path = \"achieved\"\nconstant = 1", "names 2 sources (path, constant), keep one of them"),
            ("", "names no source, write one of path, constant, template, lookup, reference"),
            ("lookup = \"title\"", "has a lookup without values, add a table"),
            ("path = \"achieved\"\ntable = { a = \"b\" }", "has a table without a lookup, name the path in lookup"),
        ] {
            let errors = errors_of(&with("path = \"achieved\"", instead)).join("\n");
            assert!(errors.contains(&format!("fields.completed: {expected}")), "{errors}");
        }
    }

    #[test]
    fn broken_toml_is_located_and_its_line_is_not_quoted() {
        let errors = errors_of("installation = \"acme\"\npassword = hunter2\n");
        assert!(errors[0].starts_with("learnsync.toml:2:12: not TOML: "), "{errors:?}");
        assert!(!errors.join("\n").contains("hunter2"), "{errors:?}");
    }

    #[test]
    fn without_a_portal_there_is_nothing_to_read() {
        let errors = errors_of("installation = \"acme\"\n[store]\npath = \"/var/lib/learnsync\"\n[portals]\n");
        assert_eq!(errors, ["learnsync.toml:4:2: portals: there is no portal, add one such as [portals.main]"]);
    }

    #[test]
    fn portals_of_different_zones_need_a_zone_in_each_destination() {
        let start = GOOD.find("[portals.main]").expect("a portal");
        let end = GOOD.find("[destinations.hr]").expect("a destination");
        let second =
            GOOD[start..end].replace("portals.main", "portals.usa").replace("Europe/Berlin", "America/New_York");
        let errors = errors_of(&format!("{GOOD}\n{second}"));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("destinations.hr: the portals have different zones"), "{errors:?}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load(Path::new("/nowhere/learnsync.toml")).expect_err("there is no such file");
        assert!(error.to_string().starts_with("/nowhere/learnsync.toml: cannot be read: "), "{error}");
    }

    #[test]
    fn a_history_date_may_stand_with_or_without_quotes() {
        for text in ["history = 2026-01-01", "history = \"2026-01-01\"", "history = \"none\"", "history = \"all\""] {
            assert_eq!(errors_of(&with("history = 2026-01-01", text)), Vec::<String>::new(), "{text}");
        }
    }
}
