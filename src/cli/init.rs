//! `learnsync init`: asks a few questions and writes a configuration that `check` accepts.

mod answers;
mod write;

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};
use learnsync_sdk::ConnectorType;

use super::{Failure, check};
use crate::config::{File, Files};
use crate::daemon::verdict;
use answers::{Answers, Place};

#[derive(Args, Default)]
pub(super) struct Options {
    /// The file to write; the destination goes into destinations.d beside it.
    #[arg(long, default_value = "/etc/learnsync/learnsync.toml")]
    config: PathBuf,
    /// Adds a destination to a configuration that is there: writes only its file in destinations.d.
    #[arg(long, conflicts_with_all = ["installation", "store", "listen", "portal", "region", "url", "username", "zone"])]
    add_destination: bool,
    /// The name of this installation: 1 to 32 of a-z 0-9 -. It is part of every mark in a target: never change it later.
    #[arg(long)]
    installation: Option<String>,
    /// The folder of the store [/var/lib/learnsync].
    #[arg(long)]
    store: Option<String>,
    /// Where webhooks are received: address and port [127.0.0.1:8480].
    #[arg(long)]
    listen: Option<String>,
    /// The portal's name in webhook URLs [main].
    #[arg(long)]
    portal: Option<String>,
    /// The region of the Absorb portal; or give --url.
    #[arg(long, conflicts_with = "url")]
    region: Option<Region>,
    /// The URL of the portal's API; or give --region.
    #[arg(long)]
    url: Option<String>,
    /// The Absorb admin that only learnsync uses.
    #[arg(long)]
    username: Option<String>,
    /// The time zone of the portal's people, such as Europe/Berlin.
    #[arg(long)]
    zone: Option<String>,
    /// The connector of the destination.
    #[arg(long)]
    connector: Option<String>,
    /// The name of the destination [the connector's].
    #[arg(long)]
    destination: Option<String>,
    /// A setting of the connector, such as company=acme. May be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Where a secret stands, such as absorb_api_key=file:/etc/learnsync/key; else credential:<name>, or env:<NAME>. May be repeated.
    #[arg(long = "secret", value_name = "NAME=PLACE")]
    secrets: Vec<String>,
    /// Which facts of before the first start are delivered: none, all, or since a date.
    #[arg(long)]
    history: Option<String>,
    /// Asks nothing: what is not given has its default, or is missing.
    #[arg(long, short)]
    yes: bool,
    /// Writes over files that are there.
    #[arg(long)]
    force: bool,
}

/// Where Absorb keeps a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Region {
    Us,
    Ca,
    Eu,
    Au,
    UsSandbox,
    CaSandbox,
    EuSandbox,
    AuSandbox,
}

impl Region {
    /// The API of a region (<https://docs.myabsorb.com/integration-api/>).
    fn url(self) -> &'static str {
        match self {
            Self::Us => "https://rest.myabsorb.com",
            Self::Ca => "https://rest.myabsorb.ca",
            Self::Eu => "https://rest.myabsorb.eu",
            Self::Au => "https://rest.myabsorb.com.au",
            Self::UsSandbox => "https://rest.sandbox.myabsorb.com",
            Self::CaSandbox => "https://rest.sandbox.myabsorb.ca",
            Self::EuSandbox => "https://rest.sandbox.myabsorb.eu",
            Self::AuSandbox => "https://rest.sandbox.myabsorb.com.au",
        }
    }
}

/// Where questions are asked.
struct Terminal<'a> {
    input: &'a mut dyn BufRead,
    output: &'a mut dyn Write,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let is_asking = std::io::stdin().is_terminal() && !options.yes;
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout());
    let terminal = is_asking.then_some(Terminal { input: &mut input, output: &mut output });
    if !options.add_destination {
        refuse_to_overwrite(options, std::slice::from_ref(&options.config))?;
    }
    let (answers, written) = compose(options, terminal, &crate::connectors::all())?;
    save(options, &written)?;
    for file in &written {
        println!("wrote {}", file.path.display());
    }
    // From the disk, with all destinations that were there before; the secrets need not be in their places yet.
    let checked = verdict::without_secrets(&Files::read(&options.config)).whole()?;
    check::describe(&checked, false);
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    print!("{}", next_steps(&options.config, &answers, credentials.as_deref()));
    Ok(())
}

/// Finds all answers and makes the files of them, the destination's first; nothing is written yet.
fn compose(
    options: &Options,
    terminal: Option<Terminal<'_>>,
    kinds: &[Box<dyn ConnectorType>],
) -> Result<(Answers, Vec<File>), Failure> {
    let before = if options.add_destination { there(&options.config)? } else { None };
    let answers = answers::find(options, terminal, kinds)?;
    let path = Files::destination_path(&options.config, &answers.target.name);
    let mut written = vec![File::of_text(&path, &write::destination_file(&answers.target))];
    written.extend(answers.main.as_ref().map(|main| File::of_text(&options.config, &write::main_file(main))));
    let files = match before {
        Some(mut files) => {
            files.destinations.retain(|file| file.path != path);
            files.destinations.extend(written.iter().cloned());
            files
        }
        None => Files { main: written[1].clone(), destinations: vec![written[0].clone()], folder: None },
    };
    // A flag may hold what only the connector knows to be wrong: then nothing is written.
    verdict::of_files(&files, kinds, &verdict::Secrets::Examples).whole()?;
    Ok((answers, written))
}

/// The configuration to which a destination is added.
fn there(config: &Path) -> Result<Option<Files>, Failure> {
    let files = Files::read(config);
    match &files.main.content {
        Ok(_) => Ok(Some(files)),
        Err(why) => Err(Failure::Configuration(format!("{} {why}", config.display()))),
    }
}

fn save(options: &Options, written: &[File]) -> Result<(), Failure> {
    let paths: Vec<PathBuf> = written.iter().map(|file| file.path.clone()).collect();
    refuse_to_overwrite(options, &paths)?;
    for file in written {
        let folder = file.path.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
        let bytes = file.content.as_deref().expect("it was made of a text");
        std::fs::write(&file.path, bytes).with_context(|| format!("write {}", file.path.display()))?;
    }
    Ok(())
}

fn refuse_to_overwrite(options: &Options, paths: &[PathBuf]) -> Result<(), Failure> {
    let there: Vec<String> = paths.iter().filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
    if there.is_empty() || options.force {
        return Ok(());
    }
    let other = match options.add_destination {
        true => "--destination gives the new one another name",
        false => "--add-destination adds a destination to it",
    };
    Err(Failure::Configuration(format!("{} is there already: {other}, --force writes over it", there.join(", "))))
}

/// What is left to do, as commands. `credentials` is the folder of credentials, when the environment names one.
fn next_steps(config: &Path, answers: &Answers, credentials: Option<&Path>) -> String {
    let shown = config.display();
    let secrets = answers.all_secrets();
    let todo: Vec<String> = secrets.iter().flat_map(|(name, place)| step_of(name, place, credentials)).collect();
    let mut steps = Vec::new();
    if !todo.is_empty() {
        let token = "   a webhook token is made by `openssl rand -hex 16`";
        let token = if answers.main.is_some() { format!("\n{token}") } else { String::new() };
        steps.push(format!("put each secret where the configuration says that it stands:\n{}{token}", todo.join("\n")));
    }
    let check = format!("learnsync check --online --config {shown}");
    let by_systemd = credentials_of(&secrets, answers.main.is_none());
    if by_systemd.is_empty() || credentials.is_some() {
        steps.push(check);
        steps.push(match &answers.main {
            Some(_) => format!("learnsync run --config {shown}"),
            None => format!("learnsync run --config {shown} (one that runs takes the destination in by `kill -HUP`)"),
        });
    } else {
        let properties: String = by_systemd.iter().map(|name| format!(" -p LoadCredential={name}")).collect();
        steps.push(format!("systemd-run --pipe --wait -p User=learnsync{properties} {check}"));
        let verb = if answers.main.is_some() { "enable --now" } else { "restart" };
        steps.push(format!("systemctl {verb} learnsync"));
    }
    if let Some(main) = &answers.main {
        let hook = format!("https://<your host>/hooks/{}/<the webhook token>", main.portal);
        steps.push(format!("in Absorb, make a webhook to {hook}, and press Test Webhook"));
    }
    let numbered: String = (1..).zip(steps).map(|(number, step)| format!("{number}. {step}\n")).collect();
    format!("\nnext:\n{numbered}")
}

/// The credentials that the unit loads by itself.
const IN_THE_UNIT: [&str; 4] = ["absorb_api_key", "absorb_password", "webhook_token", "hr_api_key"];

/// What puts a secret in its place; nothing when it is there.
fn step_of(name: &str, place: &Place, credentials: Option<&Path>) -> Vec<String> {
    match (place, credentials) {
        (Place::Credential(credential), Some(folder)) if folder.join(credential).exists() => Vec::new(),
        (Place::Credential(credential), Some(folder)) => {
            vec![format!("   {name}: the file {}", folder.join(credential).display())]
        }
        (Place::Credential(credential), None) => {
            let mut steps = vec![format!("   {name}: install -D -m 600 /dev/stdin /etc/credstore/{credential}")];
            if !IN_THE_UNIT.contains(&credential.as_str()) {
                steps.push(format!(
                    "   and in `systemctl edit learnsync`, below [Service]: LoadCredential={credential}"
                ));
            }
            steps
        }
        (Place::File(path), _) if Path::new(path).exists() => Vec::new(),
        (Place::File(path), _) => vec![format!("   {name}: the file {path}, which only the service may read")],
        (Place::Env(variable), _) => vec![format!("   {name}: the environment variable {variable}")],
    }
}

/// The credentials that a check needs. Where only a destination is added, those of the others are needed, too.
fn credentials_of<'a>(secrets: &[(String, &'a Place)], is_addition: bool) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for (_, place) in secrets {
        match place {
            Place::Credential(name) => names.push(name),
            Place::File(_) | Place::Env(_) => {}
        }
    }
    if is_addition && !names.is_empty() {
        names.extend(IN_THE_UNIT);
    }
    names
}

#[cfg(test)]
mod tests;
