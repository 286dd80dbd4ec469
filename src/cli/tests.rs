//! The command line as a whole: every command has an example that it takes, and every JSON answer has the fields that OUTPUT.md names.

use std::collections::BTreeSet;

use clap::CommandFactory;
use serde::Serialize;
use serde_json::Value;

use super::*;
use crate::daemon::Done;
use crate::domain::delivery::Cause;
use crate::domain::drift::DriftClass;
use crate::store::tests::{Ledger, Says};
use crate::store::view::browse::DeliveryFilter;
use crate::store::{DriftAction, Finding, VerifyCounts, VerifyProgress};

fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, Option<String>)>) {
    let subcommands: Vec<&clap::Command> = command.get_subcommands().filter(|one| one.get_name() != "help").collect();
    // `sandbox` does something by itself, too.
    if subcommands.is_empty() || (!command.is_subcommand_required_set() && path != "learnsync") {
        found.push((path.to_owned(), command.get_after_help().map(ToString::to_string)));
    }
    for one in subcommands {
        leaves(one, &format!("{path} {}", one.get_name()), found);
    }
}

#[test]
fn the_readme_names_every_command() {
    let readme = include_str!("../../README.md");
    let mut found = Vec::new();
    leaves(&CommandLine::command(), "learnsync", &mut found);
    let table = readme.split("## All commands").nth(1).expect("the README has a section of all commands");
    let rows = table.lines().filter(|line| line.starts_with("| `")).map(|line| line.replace("\\|", "|"));
    let cells: Vec<String> =
        rows.filter_map(|row| Some(row.strip_prefix("| ")?.split_once(" | ")?.0.to_owned())).collect();
    let named: Vec<&str> = cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    // `links list|pin|unpin` names three commands.
    let is_named = |path: &str| {
        let (group, verb) = path.strip_prefix("learnsync ").and_then(|rest| rest.split_once(' ')).unwrap_or((path, ""));
        named.iter().any(|command| match command.split_once(' ') {
            Some((first, verbs)) => first == group && verbs.split('|').any(|one| one == verb),
            None => path == format!("learnsync {command}"),
        })
    };
    let missing: Vec<&String> = found.iter().map(|(path, _)| path).filter(|path| !is_named(path)).collect();
    assert!(missing.is_empty(), "the table \"All commands\" of README.md lacks {missing:?}");
}

/// Words as a shell splits them; quotes are single ones.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[test]
fn every_command_has_an_example_that_it_takes() {
    let mut found = Vec::new();
    leaves(&CommandLine::command(), "learnsync", &mut found);
    assert!(found.len() > 20, "{found:?}");
    for (path, help) in found {
        let help = help.unwrap_or_else(|| panic!("`{path} --help` has no example"));
        let example = help.strip_prefix("Example: ").unwrap_or_else(|| panic!("{path}: {help}"));
        assert!(example.starts_with(&path), "the example of `{path}` is of another command: {example}");
        if let Err(error) = CommandLine::try_parse_from(words(example)) {
            panic!("the example of `{path}` is refused: {error}");
        }
    }
}

#[test]
fn the_command_line_is_consistent_and_every_page_of_the_manual_can_be_written() {
    CommandLine::command().debug_assert();
    let folder = tempfile::tempdir().expect("a folder");
    clap_mangen::generate_to(CommandLine::command(), folder.path()).expect("writes");
    let page = std::fs::read_to_string(folder.path().join("learnsync-deliveries-retry.1")).expect("is there");
    assert!(page.contains("Example: learnsync deliveries retry"), "{page}");
    let mut script = Vec::new();
    clap_complete::generate(clap_complete::Shell::Bash, &mut CommandLine::command(), "learnsync", &mut script);
    assert!(String::from_utf8_lossy(&script).contains("retry"));
}

/// The fields of a value: `a`, `a[].b`, `a.b`. What stands below `skip` is told elsewhere.
fn fields(value: &Value, path: &str, skip: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                found.insert(path.clone());
                if path != skip {
                    fields(value, &path, skip, found);
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|one| fields(one, &format!("{path}[]"), skip, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The fields that OUTPUT.md names for a command.
fn documented(page: &str, title: &str) -> BTreeSet<String> {
    let section = page
        .split("\n## ")
        .find(|section| section.lines().next() == Some(title))
        .unwrap_or_else(|| panic!("OUTPUT.md has no section \"{title}\""));
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    cells.map(|(field, _)| field.to_owned()).collect()
}

fn compare(title: &str, value: &impl Serialize, skip: &str) {
    let page = include_str!("OUTPUT.md");
    let mut found = BTreeSet::new();
    fields(&serde_json::to_value(value).expect("is plain data"), "", skip, &mut found);
    assert_eq!(documented(page, title), found, "src/cli/OUTPUT.md, \"{title}\", and what the program prints");
}

#[tokio::test]
async fn what_is_documented_of_the_json_answers_is_what_the_program_prints() {
    let ledger = Ledger::new().await;
    ledger.completes(1, "Ana", "Nowak").await;
    ledger.deliver(&Says::Refuses(Cause::Rejected)).await;
    let mut view = ledger.view();
    let deliveries = view.list_deliveries(&DeliveryFilter::default(), 1).expect("lists");
    compare("deliveries list", &deliveries, "");
    let delivery = view.show_delivery(deliveries.deliveries[0].id).expect("reads").expect("is there");
    compare("deliveries show", &delivery, "delivery");
    ledger.store.retry_delivery(crate::domain::ids::DeliveryId(1)).await.expect("retries");
    ledger.deliver(&Says::Takes).await;
    let (receipt, proof) = view.receipt(1).expect("reads").expect("is there");
    compare("receipt show", &receipt, "");
    compare("receipt verify", &proof, "");
    compare("events list", &view.list_events(false, 1).expect("lists"), "");
    compare("events show", &view.show_event(1).expect("reads").expect("is there"), "event");
    compare("links list", &view.list_links(None, None, 1).expect("lists"), "");
    compare("destinations list", &view.list_destinations().expect("lists"), "");
    let run = ledger.store.begin_verify(ledger.hr.id).await.expect("begins");
    let finding = Finding {
        delivery: Some(crate::domain::ids::DeliveryId(1)),
        class: DriftClass::Edited,
        object: "training".to_owned(),
        row: Some("7".to_owned()),
        mark: None,
        person: Some("p1".to_owned()),
        fields: vec!["title".to_owned()],
        action: DriftAction::Report,
        held_at: None,
    };
    let progress = VerifyProgress {
        counts: VerifyCounts { classes: [(DriftClass::Edited, 1)].into(), ..run.progress.counts.clone() },
        ..run.progress
    };
    ledger.store.keep_findings(run.id, vec![finding], Vec::new(), progress).await.expect("is kept");
    compare("runs list", &view.list_runs(None, 1).expect("lists"), "runs[].verify.classes");
    compare("runs show", &view.show_run(run.id.0, 1).expect("reads").expect("is there"), "run");
    let probed = check::Probed { destination: "hr".to_owned(), account: None, error: None };
    compare("destinations probe", &[probed], "");
    compare("audit chain", &audit::ChainReport { attempts: Some(1), first_break: None }, "");
    compare("audit store", &crate::store::audit::audit(ledger.folder.path()).expect("audits"), "");
    compare("restore", &copies::RestoreReport { kept: None, copied_at: None, erased: 0 }, "");
    compare("commands that change something", &Done { words: String::new(), deliveries: None }, "");
}
