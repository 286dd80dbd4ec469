//! What is asked, what is written, and that it is right.

use super::*;
use crate::config::schema::validator::{errors_of, toml_as_json};
use crate::config::{schema_of_destination, schema_of_main};
use learnsync_sdk::{Description, Need};

/// All flags that a destination with this connector needs.
fn flags(about: &Description, folder: &Path) -> Options {
    let is_asked = |setting: &&learnsync_sdk::Setting| {
        !setting.is_secret && matches!(setting.need, Need::Required | Need::Unless(_))
    };
    Options {
        config: folder.join("learnsync.toml"),
        installation: Some("acme".to_owned()),
        region: Some(Region::Eu),
        username: Some("learnsync".to_owned()),
        zone: Some("Europe/Berlin".to_owned()),
        connector: Some(about.name.to_owned()),
        destination: Some("target".to_owned()),
        history: Some("none".to_owned()),
        settings: about.settings.iter().filter(is_asked).map(|one| format!("{}={}", one.name, one.example)).collect(),
        ..Options::default()
    }
}

fn descriptions() -> Vec<Description> {
    crate::connectors::all().iter().map(|kind| kind.describe()).collect()
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Configuration(words) => words,
        Failure::Wrong(error) => format!("{error:#}"),
    }
}

fn composed(options: &Options, terminal: Option<Terminal<'_>>) -> Result<Files, String> {
    compose(options, terminal, &crate::connectors::all()).map(|(_, written)| files_of(written)).map_err(words)
}

/// What was written for a first configuration: the destination's file, then the main one.
fn files_of(mut written: Vec<File>) -> Files {
    let main = written.pop().expect("the main file is the last");
    Files { main, destinations: written, folder: None }
}

fn saved(options: &Options, files: &Files) -> Result<(), Failure> {
    let all: Vec<File> = files.destinations.iter().chain([&files.main]).cloned().collect();
    save(options, &all)
}

fn text(file: &File) -> String {
    String::from_utf8(file.content.clone().expect("a text")).expect("UTF-8")
}

#[test]
fn what_init_writes_is_accepted_by_check_and_keeps_the_schema_for_every_connector() {
    for about in descriptions() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = flags(&about, folder.path());
        let files = composed(&options, None).unwrap_or_else(|words| panic!("{}: {words}", about.name));
        saved(&options, &files).map_err(words).expect("saved");
        let read = Files::read(&options.config);
        let checked = verdict::without_secrets(&read).whole().map_err(|errors| errors.to_string());
        assert_eq!(checked.expect("it is right").parts.destinations.len(), 1);
        let main = errors_of(&schema_of_main(&descriptions()), &toml_as_json(&text(&read.main)));
        assert_eq!(main, Vec::<String>::new(), "{}", about.name);
        let own = errors_of(&schema_of_destination(&descriptions()), &toml_as_json(&text(&read.destinations[0])));
        assert_eq!(own, Vec::<String>::new(), "{}", about.name);
    }
}

/// Takes the `#` away where it stands before a setting or a table; a `#` before words is followed by a blank.
fn with_all_defaults_spelled(text: &str, but: &[&str]) -> String {
    let is_but = |line: &str| but.iter().any(|name| line.starts_with(&format!("{name} = ")));
    let line_of = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') && !rest.is_empty() && !is_but(rest) => format!("{rest}\n"),
        Some(_) | None => format!("{line}\n"),
    };
    text.lines().map(line_of).collect()
}

#[test]
fn every_default_that_init_writes_as_a_comment_is_accepted_too() {
    for about in descriptions() {
        // These are alternatives to others, so all at once need not be right.
        let optional = about.settings.iter().filter(|one| matches!(one.need, Need::Optional | Need::Unless(_)));
        let but: Vec<&str> = optional.map(|one| one.name).chain(["region"]).collect();
        let files = composed(&flags(&about, Path::new("")), None).expect("right flags");
        let spelled = |file: &File| File::of_text(&file.path, &with_all_defaults_spelled(&text(file), &but));
        let all = Files {
            main: spelled(&files.main),
            destinations: files.destinations.iter().map(spelled).collect(),
            folder: None,
        };
        assert!(text(&all.main).contains("\nhooks_burst_max = 50000\n"), "{}", text(&all.main));
        let wrong = verdict::without_secrets(&all).whole().err().map(|errors| errors.to_string());
        assert_eq!(wrong, None, "{}\n{}", text(&all.main), text(&all.destinations[0]));
    }
}

#[test]
fn without_a_terminal_all_that_is_missing_is_listed_by_its_flag() {
    let options = Options { config: "learnsync.toml".into(), ..Options::default() };
    let words = composed(&options, None).err().expect("nothing is given");
    for flag in ["--installation", "--region or --url", "--username", "--zone", "--connector", "--history"] {
        assert!(words.contains(&format!("  {flag}: ")), "{flag} is not in:\n{words}");
    }
    assert!(!words.contains("--store") && !words.contains("--secret"), "{words}");
    let options = Options { connector: Some("bamboohr".to_owned()), ..options };
    let words = composed(&options, None).err().expect("a setting is missing");
    assert!(words.contains("  --set company=acme: "), "{words}");
}

#[test]
fn wrong_flags_are_all_told_at_once_and_secrets_are_not_repeated() {
    let about = &descriptions()[0];
    let options = Options {
        installation: Some("Acme".to_owned()),
        zone: Some("Berlin".to_owned()),
        history: Some("some".to_owned()),
        listen: Some("localhost".to_owned()),
        destination: Some("H R".to_owned()),
        secrets: vec!["absorb_api_key=hunter2".to_owned(), "absorb_pasword=env:X".to_owned(), "hunter2".to_owned()],
        settings: vec!["compny=acme".to_owned(), "api_key=hunter2".to_owned()],
        ..flags(about, Path::new(""))
    };
    let words = composed(&options, None).err().expect("all is wrong");
    for part in [
        "--installation: \"Acme\" is not a name",
        "--zone: \"Berlin\" is no time zone, did you mean \"Europe/Berlin\"?",
        "--history: \"some\" is not a history",
        "--listen: \"localhost\" is not an address",
        "--destination: \"H R\" is not a name",
        "--secret absorb_api_key: say where the secret stands",
        "--secret: unknown name \"absorb_pasword\", did you mean \"absorb_password\"?",
        "--secret: write NAME=VALUE",
        "--set: unknown name \"compny\", did you mean \"company\"?",
        "--set: api_key is a secret",
    ] {
        assert!(words.contains(part), "{part} is not in:\n{words}");
    }
    assert!(!words.contains("hunter2"), "{words}");
}

#[test]
fn what_only_the_connector_knows_to_be_wrong_is_told_before_anything_is_written() {
    let about = &descriptions()[0];
    let options = Options { settings: vec!["company=acme.bamboohr.com".to_owned()], ..flags(about, Path::new("")) };
    let words = composed(&options, None).err().expect("a wrong company");
    assert!(words.contains("destinations.target.settings.company: \"acme.bamboohr.com\" is not a company"), "{words}");
}

#[test]
fn on_a_terminal_the_same_answers_give_the_same_files_and_a_wrong_one_is_asked_again() {
    let about = &descriptions()[0];
    let by_flags = composed(&flags(about, Path::new("")), None).expect("right flags");
    let lines = [
        "Acme", // no name: asked again
        "acme",
        "", // the store's default
        "eu",
        "", // main
        "learnsync",
        "Europe/Berlin",
        "", // the address
        about.name,
        "target",
        "none",
        "hunter2", // no place: asked again
        "",
        "",
        "",
        "acme",
        "",
    ];
    let (mut input, mut output) = (std::io::Cursor::new(lines.join("\n") + "\n"), Vec::new());
    let terminal = Terminal { input: &mut input, output: &mut output };
    let options = Options { config: "learnsync.toml".into(), ..Options::default() };
    let by_answers = composed(&options, Some(terminal)).expect("right answers");
    assert_eq!(text(&by_answers.main), text(&by_flags.main));
    assert_eq!(text(&by_answers.destinations[0]), text(&by_flags.destinations[0]));
    let said = String::from_utf8(output).expect("UTF-8");
    assert!(said.contains("\"Acme\" is not a name") && said.contains("say where the secret stands"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn an_input_that_ends_early_writes_nothing() {
    let (mut input, mut output) = (std::io::Cursor::new("acme\n"), Vec::new());
    let terminal = Terminal { input: &mut input, output: &mut output };
    let options = Options { config: "learnsync.toml".into(), ..Options::default() };
    let words = composed(&options, Some(terminal)).err().expect("the input ends");
    assert!(words.contains("nothing was written"), "{words}");
}

#[test]
fn files_that_are_there_are_overwritten_only_by_force() {
    let about = &descriptions()[0];
    let folder = tempfile::tempdir().expect("a folder");
    let mut options = flags(about, folder.path());
    let files = composed(&options, None).expect("right flags");
    std::fs::create_dir(folder.path().join("destinations.d")).expect("made");
    let kept = folder.path().join("destinations.d/target.toml");
    std::fs::write(&kept, "mine").expect("written");
    let refusal = saved(&options, &files).map_err(words).expect_err("a file is there");
    assert!(refusal.contains("target.toml is there already: --add-destination"), "{refusal}");
    assert_eq!(std::fs::read_to_string(&kept).expect("read"), "mine");
    assert!(!options.config.exists(), "nothing was written before the refusal");
    options.force = true;
    saved(&options, &files).map_err(words).expect("forced");
    assert_ne!(std::fs::read_to_string(&kept).expect("read"), "mine");
}

#[test]
fn a_destination_is_added_without_touching_what_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = descriptions();
    let first = flags(&all[0], folder.path());
    let options = Options {
        config: first.config.clone(),
        add_destination: true,
        connector: Some("chat".to_owned()),
        destination: Some("cheers".to_owned()),
        history: Some("none".to_owned()),
        settings: vec!["service=google_chat".to_owned()],
        ..Options::default()
    };
    let missing = compose(&options, None, &crate::connectors::all()).map_err(words).err().expect("there is nothing");
    assert!(missing.contains("make one with `learnsync init"), "{missing}");
    saved(&first, &composed(&first, None).expect("right flags")).map_err(words).expect("saved");
    let main = std::fs::read(&first.config).expect("read");

    let (_, written) = compose(&options, None, &crate::connectors::all()).map_err(words).expect("right flags");
    save(&options, &written).map_err(words).expect("saved");
    assert_eq!(std::fs::read(&first.config).expect("read"), main);
    let checked = verdict::without_secrets(&Files::read(&first.config)).whole().map_err(|errors| errors.to_string());
    let names: Vec<String> =
        checked.expect("right").parts.destinations.iter().map(|one| one.name.to_string()).collect();
    assert_eq!(names, ["cheers", "target"]);

    let (_, again) = compose(&options, None, &crate::connectors::all()).map_err(words).expect("right flags");
    let refusal = save(&options, &again).map_err(words).expect_err("it is there");
    assert!(refusal.contains("cheers.toml is there already: --destination gives"), "{refusal}");
}

#[test]
fn what_is_left_to_do_depends_on_where_secrets_stand() {
    let options = flags(&descriptions()[0], Path::new("/etc/learnsync"));
    let (answers, _) = compose(&options, None, &crate::connectors::all()).map_err(words).expect("right flags");
    let steps = next_steps(&options.config, &answers, None);
    assert!(steps.contains("install -D -m 600 /dev/stdin /etc/credstore/absorb_api_key\n"), "{steps}");
    assert!(!steps.contains("LoadCredential=absorb_api_key\n"), "the unit names it already:\n{steps}");
    assert!(steps.contains("below [Service]: LoadCredential=target_"), "{steps}");
    assert!(steps.contains("3. systemctl enable --now learnsync"), "{steps}");

    let folder = tempfile::tempdir().expect("a folder");
    for name in ["absorb_api_key", "absorb_password", "webhook_token"] {
        std::fs::write(folder.path().join(name), "x").expect("written");
    }
    let steps = next_steps(&options.config, &answers, Some(folder.path()));
    assert!(steps.contains("   target.") && !steps.contains("absorb_api_key"), "only what is missing:\n{steps}");
    assert!(steps.contains("3. learnsync run --config") && !steps.contains("systemctl"), "{steps}");
}
