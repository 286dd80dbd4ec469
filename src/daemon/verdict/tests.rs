//! The table of wrong configurations, and what `run` and `check --portal-only` make of them.

use std::path::{Path, PathBuf};

use super::{Secrets, Verdict, of_files};
use crate::config::{File, Files};

const WRONG: &str = "tests/fixtures/wrong/";

fn env(name: &str) -> Option<String> {
    (name == "CREDENTIALS_DIRECTORY").then(|| "tests/fixtures/credentials".to_owned())
}

fn verdict(files: &Files) -> Verdict {
    of_files(files, &crate::connectors::all(), &Secrets::Real(&env))
}

fn words(verdict: Verdict) -> String {
    verdict.whole().err().map(|errors| errors.to_string().replace(WRONG, "")).unwrap_or_default()
}

/// The main file of each wrong configuration, and the file with the messages that it must give.
fn wrong_configurations() -> Vec<(PathBuf, PathBuf)> {
    let mut found: Vec<_> = std::fs::read_dir(WRONG)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let main = if path.is_dir() { path.join("learnsync.toml") } else { path.clone() };
            (main, path.with_extension("expected"))
        })
        .collect();
    found.sort();
    found
}

/// With `UPDATE_EXPECTED=1` the messages are written instead; then read the diff.
#[test]
fn each_wrong_configuration_gives_exactly_its_messages() {
    let is_updating = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut differences = Vec::new();
    let all = wrong_configurations();
    for (main, expected_at) in &all {
        let found = words(verdict(&Files::read(main)));
        assert!(!found.is_empty(), "{} was accepted", main.display());
        assert!(!found.contains("hunter2"), "{} repeats a secret:\n{found}", main.display());
        if is_updating {
            std::fs::write(expected_at, format!("{found}\n")).expect("written");
            continue;
        }
        let expected = std::fs::read_to_string(expected_at).unwrap_or_default();
        if expected.trim_end() != found {
            differences.push(format!("{}\n{}", expected_at.display(), difference(expected.trim_end(), &found)));
        }
    }
    assert!(all.len() >= 40, "only {} wrong configurations were found", all.len());
    assert!(differences.is_empty(), "{} differ:\n\n{}", differences.len(), differences.join("\n"));
}

/// The lines that only one of two texts has.
fn difference(expected: &str, found: &str) -> String {
    let missing = expected.lines().filter(|line| !found.lines().any(|other| other == *line));
    let extra = found.lines().filter(|line| !expected.lines().any(|other| other == *line));
    let lines: Vec<_> = missing.map(|line| format!("- {line}")).chain(extra.map(|line| format!("+ {line}"))).collect();
    if lines.is_empty() { format!("the order differs:\n{found}\n") } else { lines.join("\n") + "\n" }
}

#[test]
fn every_message_has_its_place_and_its_key() {
    for (main, _) in wrong_configurations() {
        for error in verdict(&Files::read(&main)).errors.0 {
            let is_about_a_file = error.line == 0;
            let is_syntax = error.message.starts_with("not TOML") || error.message.contains("a second time");
            let is_missing_at_the_top = error.message.starts_with("missing setting");
            let is_bytes = error.message.contains("UTF-8");
            assert!(
                is_about_a_file || is_syntax || is_bytes || is_missing_at_the_top || !error.key.is_empty(),
                "{error}"
            );
        }
    }
}

/// A right main file and two destinations: one right, one wrong.
fn one_of_two_is_wrong() -> Files {
    let main = std::fs::read_to_string("tests/fixtures/good/learnsync.toml").expect("the fixture is there");
    let good = std::fs::read_to_string("tests/fixtures/good/destinations.d/hr.toml").expect("the fixture is there");
    let wrong = good.replace("bamboohr\"", "bambohr\"").replace("history", "histroy");
    Files {
        main: File::of_text(Path::new("learnsync.toml"), &main),
        destinations: vec![
            File::of_text(Path::new("destinations.d/crm.toml"), &wrong),
            File::of_text(Path::new("destinations.d/hr.toml"), &good),
        ],
        folder: None,
    }
}

#[test]
fn a_destination_of_its_own_file_is_a_destination() {
    let checked = verdict(&Files::read(Path::new("tests/fixtures/good/learnsync.toml"))).whole();
    let checked = checked.map_err(|errors| errors.to_string()).expect("the fixture is right");
    assert_eq!(checked.parts.destinations.len(), 1);
    assert_eq!(checked.parts.destinations[0].name, "hr");
    assert_eq!(checked.config.destinations.len(), 1);
}

#[test]
fn check_tells_an_error_in_any_destination() {
    let errors = words(verdict(&one_of_two_is_wrong()));
    assert!(errors.contains("destinations.d/crm.toml:"), "{errors}");
}

#[test]
fn run_switches_off_only_the_destination_that_is_wrong() {
    let checked = verdict(&one_of_two_is_wrong()).runnable().map_err(|errors| errors.to_string()).expect("it runs");
    let names: Vec<_> = checked.parts.destinations.iter().map(|destination| destination.name.as_str()).collect();
    assert_eq!(names, ["hr"]);
    assert_eq!(checked.config.destinations.keys().collect::<Vec<_>>(), ["hr"]);
    assert_eq!(checked.parts.portals.len(), 1);
}

#[test]
fn run_refuses_to_start_when_anything_but_a_destination_is_wrong() {
    for (right, wrong) in [
        ("username", "usrname"),
        ("path = \"/var", "pth = \"/var"),
        ("\"webhook_token\"", "\"short_token\""),
        ("[store]", "[listen]\naddress = 3\n[store]"),
        ("installation", "instalation"),
        ("\"acme\"", "acme"),
    ] {
        let mut files = one_of_two_is_wrong();
        let main = String::from_utf8(files.main.content.clone().expect("a text")).expect("UTF-8");
        assert!(main.contains(right), "the fixture has no {right}");
        files.main = File::of_text(Path::new("learnsync.toml"), &main.replacen(right, wrong, 1));
        let errors = verdict(&files).runnable().err().unwrap_or_else(|| panic!("{wrong} runs")).to_string();
        assert!(errors.contains("learnsync.toml"), "{errors}");
        assert!(verdict(&files).portals().is_err(), "{wrong}");
    }
}

#[test]
fn a_check_of_the_portals_alone_does_not_see_the_destinations() {
    let checked = verdict(&one_of_two_is_wrong()).portals().map_err(|errors| errors.to_string()).expect("it is right");
    assert!(checked.parts.destinations.is_empty());
    assert_eq!(checked.parts.portals.len(), 1);
}

#[test]
fn without_secrets_a_configuration_is_checked_where_they_do_not_stand() {
    let files = Files::read(Path::new("tests/fixtures/learnsync.toml"));
    assert!(words(super::without_secrets(&files)).is_empty(), "{}", words(super::without_secrets(&files)));
    assert!(words(verdict(&files)).contains("WEBHOOK_TOKEN is not set"));
}

#[test]
fn the_configuration_in_the_readme_is_right() {
    let readme = std::fs::read_to_string("README.md").expect("the page is there");
    let blocks: Vec<&str> = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 3, "one block for each file");
    let files = Files {
        main: File::of_text(Path::new("learnsync.toml"), blocks[0]),
        destinations: vec![
            File::of_text(Path::new("destinations.d/hr.toml"), blocks[1]),
            File::of_text(Path::new("destinations.d/cheers.toml"), blocks[2]),
        ],
        folder: None,
    };
    assert_eq!(words(super::without_secrets(&files)), "");
}

/// A connector that repeats in its error what it was given.
struct Parrot;

impl learnsync_sdk::ConnectorType for Parrot {
    fn describe(&self) -> learnsync_sdk::Description {
        const SETTINGS: &[learnsync_sdk::Setting] =
            &[learnsync_sdk::Setting::required("hook", "The hook.", "https://parrot.example").secret()];
        learnsync_sdk::Description { name: "parrot", settings: SETTINGS, ..crate::connectors::all()[0].describe() }
    }

    fn build(
        &self,
        settings: &serde_json::Value,
        _: learnsync_sdk::Toolbox,
    ) -> Result<Box<dyn learnsync_sdk::Connector>, learnsync_sdk::SettingsError> {
        let message = format!("{} is no hook", settings["hook"]);
        Err(learnsync_sdk::SettingsError { path: vec!["hook".to_owned()], message })
    }
}

#[test]
fn a_secret_that_a_connector_repeats_goes_no_further() {
    let mut files = one_of_two_is_wrong();
    let text = "connector = \"parrot\"\nhistory = \"none\"\nsecrets = { hook = { env = \"HOOK\" } }\n";
    files.destinations = vec![File::of_text(Path::new("destinations.d/chat.toml"), text)];
    let env = |name: &str| env(name).or_else(|| (name == "HOOK").then(|| "hunter2hunter2".to_owned()));
    let words = words(of_files(&files, &[Box::new(Parrot)], &Secrets::Real(&env)));
    assert_eq!(words, "destinations.d/chat.toml:3:13: destinations.chat.secrets.hook: \"<the secret>\" is no hook");
}

#[test]
fn whatever_is_cut_off_or_left_out_is_an_error_or_right_and_never_a_panic() {
    let text = std::fs::read_to_string("tests/fixtures/learnsync.toml").expect("the fixture is there");
    for (end, _) in text.char_indices() {
        let _draft = crate::config::draft(&Files::of_text(Path::new("learnsync.toml"), &text[..end]));
    }
    for left_out in 0..text.lines().count() {
        let rest: Vec<&str> =
            text.lines().enumerate().filter(|(index, _)| *index != left_out).map(|(_, line)| line).collect();
        let files = Files::of_text(Path::new("learnsync.toml"), &rest.join("\n"));
        let _runs = super::without_secrets(&files).runnable();
    }
}
