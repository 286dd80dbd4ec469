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
    refuse_to_overwrite(options, std::slice::from_ref(&options.config))?;
    let (answers, files) = compose(options, terminal, &crate::connectors::all())?;
    save(options, &files)?;
    for file in files.destinations.iter().chain([&files.main]) {
        println!("wrote {}", file.path.display());
    }
    // From the disk, with all destinations that were there before; the secrets need not be in their places yet.
    let checked = verdict::without_secrets(&Files::read(&options.config)).whole()?;
    check::describe(&checked, false);
    print!("{}", next_steps(&options.config, &answers));
    Ok(())
}

/// Finds all answers and makes the files of them; nothing is written yet.
fn compose(
    options: &Options,
    terminal: Option<Terminal<'_>>,
    kinds: &[Box<dyn ConnectorType>],
) -> Result<(Answers, Files), Failure> {
    let answers = answers::find(options, terminal, kinds)?;
    let main = File::of_text(&options.config, &write::main_file(&answers));
    let path = Files::destination_path(&options.config, &answers.destination);
    let destination = File::of_text(&path, &write::destination_file(&answers));
    let files = Files { main, destinations: vec![destination], folder: None };
    // A flag may hold what only the connector knows to be wrong: then nothing is written.
    verdict::of_files(&files, kinds, &verdict::Secrets::Examples).whole()?;
    Ok((answers, files))
}

fn save(options: &Options, files: &Files) -> Result<(), Failure> {
    let all: Vec<&File> = files.destinations.iter().chain([&files.main]).collect();
    let paths: Vec<PathBuf> = all.iter().map(|file| file.path.clone()).collect();
    refuse_to_overwrite(options, &paths)?;
    for file in all {
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
    Err(Failure::Configuration(format!("{} is there already: --force writes over it", there.join(", "))))
}

/// What is left to do, as commands.
fn next_steps(config: &Path, answers: &Answers) -> String {
    let shown = config.display();
    let mut lines = vec![String::new(), "next:".to_owned()];
    lines.push("1. put each secret where the configuration says that it stands:".to_owned());
    let mut credentials = String::new();
    for (name, place) in answers.all_secrets() {
        match place {
            Place::Credential(credential) => {
                let path = format!("/etc/learnsync/credentials/{credential}");
                lines.push(format!("   {name}: install -m 600 /dev/stdin {path}"));
                lines.push(format!("   and in `systemctl edit learnsync`: LoadCredential={credential}:{path}"));
                credentials.push_str(&format!(" -p LoadCredential={credential}:{path}"));
            }
            Place::File(path) => lines.push(format!("   {name}: the file {path}, which only the service may read")),
            Place::Env(variable) => lines.push(format!("   {name}: the environment variable {variable}")),
        }
    }
    lines.push("   a webhook token is made by `openssl rand -hex 16`".to_owned());
    let check = format!("learnsync check --online --config {shown}");
    if credentials.is_empty() {
        lines.push(format!("2. {check}"));
        lines.push(format!("3. learnsync run --config {shown}"));
    } else {
        lines.push(format!("2. systemd-run --pipe --wait -p User=learnsync{credentials} {check}"));
        lines.push("3. systemctl enable --now learnsync".to_owned());
    }
    let hook = format!("https://<your host>/hooks/{}/<the webhook token>", answers.portal);
    lines.push(format!("4. in Absorb, make a webhook to {hook}, and press Test Webhook"));
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests;
