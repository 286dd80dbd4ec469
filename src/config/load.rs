//! Reads the configuration file: syntax, shape, types, rules; as many errors at once as can be told apart.

use std::path::Path;

use serde::Deserialize;
use serde_path_to_error::Segment;
use toml::de::DeTable;

use super::files::{File, Files};
use super::nearest::nearest;
use super::source::{ConfigError, ConfigErrors, Source};
use super::{Config, shape, validate};

/// A configuration as far as it could be read, and all that is wrong with it.
pub struct Draft {
    /// What is left when everything wrong is taken out; with errors it is good for finding more of them. None without a readable main file.
    pub config: Option<Config>,
    /// Where each key stands.
    pub source: Source,
    /// What is wrong.
    pub errors: ConfigErrors,
}

/// Reads the configuration without the destinations that are wrong: for commands that need to know where the store is.
///
/// # Errors
/// What stands in the way of everything, each with its line and column.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let draft = draft(&Files::read(path));
    draft.errors.of_everything().into_result()?;
    let mut config = draft.config.expect("without an error there is a configuration");
    config.destinations.retain(|name, _| !draft.errors.destinations().contains(name));
    Ok(config)
}

/// Checks a configuration text, all of it; `file` is only named in errors.
///
/// # Errors
/// What is wrong in it, each with its line and column.
pub fn parse(file: &Path, text: &str) -> Result<(Config, Source), ConfigErrors> {
    let draft = draft(&Files::of_text(file, text));
    draft.errors.into_result()?;
    Ok((draft.config.expect("without an error there is a configuration"), draft.source))
}

/// Checks everything that needs no connector.
#[must_use]
pub fn draft(files: &Files) -> Draft {
    let mut source = Source::default();
    let mut errors = ConfigErrors::default();
    let main = read_table(&files.main, &[], &mut source, &mut errors);
    if let Some(folder) = &files.folder
        && let Err(message) = &folder.content
    {
        let number = source.add_file(&folder.path, "");
        errors.0.push(source.at_file::<&str>(number, &[], message.clone()));
    }
    let unread = errors.clone();
    let is_readable = main.is_some();
    let mut table = main.unwrap_or_default();
    for file in &files.destinations {
        add_destination(file, &mut table, &mut source, &mut errors);
    }
    shape::check(&mut table, &source, &mut errors);
    let config = deserialize(table, &source, &mut errors);
    if let Some(config) = &config {
        validate::check(config, &source, &mut errors);
    }
    if is_readable {
        return Draft { config, source, errors };
    }
    // What an unreadable file does not say is not missing.
    errors.0.retain(|error| error.destination.is_some());
    errors.0.extend(unread.0);
    Draft { config: None, source, errors }
}

/// Reads the table of a file, whose keys stand below a path; what is wrong with the file itself is reported.
fn read_table(file: &File, below: &[String], source: &mut Source, errors: &mut ConfigErrors) -> Option<toml::Table> {
    let bytes = match &file.content {
        Ok(bytes) => bytes,
        Err(message) => {
            let number = source.add_file(&file.path, "");
            errors.0.push(source.at_file(number, below, message.clone()));
            return None;
        }
    };
    let text = match std::str::from_utf8(bytes) {
        // Windows editors begin files with it.
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            let number = source.add_file(&file.path, &String::from_utf8_lossy(good));
            let message = format!("byte 0x{:02x} is not UTF-8: save the file as UTF-8", bytes[good.len()]);
            errors.0.push(source.at_byte(number, good.len(), below, message));
            return None;
        }
    };
    let number = source.add_file(&file.path, text);
    let (tree, syntax) = DeTable::parse_recoverable(text);
    source.note(number, below, tree.get_ref());
    if !syntax.is_empty() {
        errors.0.extend(syntax_errors(&syntax, number, below, source));
        return None;
    }
    if tree.get_ref().is_empty() && below.is_empty() {
        let message = "says nothing: make a configuration with `learnsync init`".to_owned();
        errors.0.push(source.at_file(number, below, message));
        return None;
    }
    toml::Table::deserialize(toml::Deserializer::from(tree))
        .map_err(|error| errors.0.push(syntax_error(&error, number, below, source)))
        .ok()
}

/// What the parser says, in the order of the file. A table that stands there twice is told once, not once for each of its keys.
fn syntax_errors(errors: &[toml::de::Error], file: usize, below: &[String], source: &Source) -> Vec<ConfigError> {
    let mut told: Vec<ConfigError> = Vec::new();
    let mut last_line = 0;
    for error in errors {
        let error = syntax_error(error, file, below, source);
        let goes_on = error.message == TWICE
            && told.last().is_some_and(|last| last.message == TWICE)
            && error.line <= last_line + 1;
        last_line = error.line;
        if !goes_on {
            told.push(error);
        }
    }
    told
}

const TWICE: &str = "stands here a second time, keep one of them";

// Only the message: the parser's long form quotes the line, and the line may hold a secret.
fn syntax_error(error: &toml::de::Error, file: usize, below: &[String], source: &Source) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start);
    let message = match error.message() {
        "duplicate key" => TWICE.to_owned(),
        "string values must be quoted, expected literal string" => {
            "not TOML: a text stands in quotes, such as \"text\"".to_owned()
        }
        "invalid basic string, expected `\"`" => "not TOML: the text has no end, write \" behind it".to_owned(),
        // What a bare word is taken for depends on its first letter.
        bare if bare.starts_with("invalid float, expected") || bare.starts_with("invalid boolean, expected") => {
            "not TOML: neither a number nor true or false; a text stands in quotes, such as \"text\"".to_owned()
        }
        message => format!("not TOML: {message}"),
    };
    source.at_byte(file, offset, below, message)
}

/// Puts the table of a destination's own file where it would stand in the main file.
fn add_destination(file: &File, table: &mut toml::Table, source: &mut Source, errors: &mut ConfigErrors) {
    let name = file.stem();
    let below = ["destinations".to_owned(), name.clone()];
    let destinations = table.entry("destinations").or_insert_with(|| toml::Value::Table(toml::Table::new()));
    // Otherwise it is no table, which the next step tells.
    let Some(destinations) = destinations.as_table_mut() else { return };
    if let Some(other) = source.place_of(&below) {
        let number = source.add_file(&file.path, "");
        let message = format!("is defined here and at {other}, keep one of them");
        errors.0.push(source.at_byte(number, 0, &below, message));
        destinations.remove(&name);
        return;
    }
    let Some(content) = read_table(file, &below, source, errors) else { return };
    let prefix = ["destinations", &name].into_iter().find(|key| content.get(*key).is_some_and(toml::Value::is_table));
    if let Some(prefix) = prefix {
        let message = format!(
            "the file is the table of the destination \"{name}\" already: write its settings without the prefix \"destinations.{name}\""
        );
        errors.0.push(source.at_key(&["destinations", &name, prefix], message));
        return;
    }
    destinations.insert(name, toml::Value::Table(content));
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
            errors.0.push(source.at_value(&path, reword(message, value_at(&table, &path))));
        }
        if !stand_in(&mut table, &path, message) && !remove(&mut table, &path) {
            return None;
        }
    }
}

/// Puts something in for what is missing, so that the rest is looked at, too. An error is told already.
fn stand_in(table: &mut toml::Table, path: &[String], message: &str) -> bool {
    let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) else {
        return false;
    };
    let empty = || toml::Value::Table(toml::Table::new());
    let (table, value) = match (path, name) {
        ([], "installation") => (Some(table), "unknown".into()),
        ([], "store" | "portals") => (Some(table), empty()),
        ([first], "path") if first == "store" => {
            (table.get_mut("store").and_then(toml::Value::as_table_mut), "".into())
        }
        ([first, name], "history") if first == "destinations" => {
            let destination = table.get_mut("destinations").and_then(|all| all.get_mut(name));
            (destination.and_then(toml::Value::as_table_mut), "none".into())
        }
        _ => return false,
    };
    table.is_some_and(|table| table.insert(name.to_owned(), value).is_none())
}

fn value_at<'t>(table: &'t toml::Table, path: &[String]) -> Option<&'t toml::Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(table.get(first)?, |value, key| value.get(key))
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

/// The words of serde and of the parsers of zones and addresses, in ours; all others as they are.
fn reword(message: &str, value: Option<&toml::Value>) -> String {
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        return wrong_variant(rest);
    }
    if let Some(rest) = message.strip_prefix("failed to parse timezone: ") {
        return wrong_zone(rest.trim().trim_matches('\''));
    }
    if message.trim_end() == "invalid socket address syntax" {
        let text = value.and_then(toml::Value::as_str).unwrap_or_default();
        return format!("\"{text}\" is not an address with a port, write one such as \"127.0.0.1:8480\"");
    }
    match message.trim_end().strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, expected)) => wrong_type(found, expected),
        None => message.trim_end().to_owned(),
    }
}

fn wrong_type(found: &str, expected: &str) -> String {
    let found = match found.split_once(' ') {
        Some(("string", text)) => format!("{text} is text"),
        Some(("integer", number)) => format!("{} is a whole number", number.trim_matches('`')),
        Some(("floating", number)) => {
            format!("{} is a number with a point", number.trim_start_matches("point ").trim_matches('`'))
        }
        Some(("boolean", flag)) => format!("{} stands here", flag.trim_matches('`')),
        Some(_) | None if found == "map" => "a table stands here".to_owned(),
        Some(_) | None if found == "sequence" => "a list stands here".to_owned(),
        Some(_) | None => format!("{found} stands here"),
    };
    let expected = match expected {
        "a string" | "path string" | "socket address" => "text in quotes",
        "usize" | "u64" | "u32" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => "a list such as [\"a\", \"b\"]",
        "a map" => "a table",
        _ if expected.starts_with("struct ") => "a table",
        other => other,
    };
    format!("{found}, write {expected}")
}

/// Whether this is a time zone.
///
/// # Errors
/// It is none; the message names the nearest.
pub fn time_zone(text: &str) -> Result<(), String> {
    text.parse::<chrono_tz::Tz>().map(drop).map_err(|_| wrong_zone(text))
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
            ("url = \"https://rest.myabsorb.example\"\n", "", "10: portals.main: names no host: write region"),
            ("body_bytes_max = 262_144", "body_bytes_max = 512", "18: listen.body_bytes_max: 512 is outside 1024 to"),
            (
                "body_bytes_max = 262_144",
                "body_bytes_max = \"1 MiB\"",
                "18: listen.body_bytes_max: \"1 MiB\" is text, write a whole number",
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
            "portals.main: has a password without a username",
            "portals.main.zone: ",
            "routes.trainings.record: \"completon\" is not allowed here, did you mean \"completion\"?",
            "reconcile.cron: 7 is a whole number, write text in quotes",
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
        // Another account, too: one alone cannot serve two portals.
        let second = second.replace("\"learnsync\"", "\"learnsync-usa\"");
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
