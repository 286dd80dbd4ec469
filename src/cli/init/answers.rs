//! The answers that a configuration is made of: from flags, or asked for on a terminal.

use std::collections::BTreeMap;

use clap::ValueEnum;
use learnsync_sdk::{ConnectorType, Description, Need, Setting, SettingType};

use super::{Options, Region, Terminal};
use crate::cli::Failure;
use crate::config::{History, destination_name, installation_name, nearest, portal_url, time_zone};

/// All that is asked.
pub(super) struct Answers {
    /// What `learnsync.toml` says; none when it is there, and only a destination is added.
    pub(super) main: Option<Main>,
    pub(super) target: Target,
}

/// What `learnsync.toml` says.
pub(super) struct Main {
    pub(super) installation: String,
    pub(super) store: String,
    pub(super) listen: String,
    pub(super) portal: String,
    pub(super) url: String,
    pub(super) username: String,
    pub(super) zone: String,
    /// Where the portal's secrets stand: setting, place.
    pub(super) secrets: Vec<(&'static str, Place)>,
}

/// What the file of a destination says.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) description: Description,
    pub(super) history: String,
    /// The connector's settings that were named, as text.
    pub(super) settings: BTreeMap<&'static str, String>,
    /// Where the connector's secrets stand: setting, place.
    pub(super) secrets: Vec<(&'static str, Place)>,
}

impl Answers {
    /// Every secret with its name for people, and where it stands.
    pub(super) fn all_secrets(&self) -> Vec<(String, &Place)> {
        let named = |main: &'_ Main, name: &str| format!("portals.{}.{name}", main.portal);
        let portal =
            self.main.iter().flat_map(|main| main.secrets.iter().map(move |(name, place)| (named(main, name), place)));
        let own = self.target.secrets.iter().map(|(name, place)| (format!("{}.{name}", self.target.name), place));
        portal.chain(own).collect()
    }
}

/// Where a secret stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Credential(String),
    File(String),
    Env(String),
}

impl Place {
    // Never repeats the text: somebody may have pasted the secret itself.
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':').filter(|(_, name)| !name.is_empty()) {
            Some(("credential", name)) => Ok(Self::Credential(name.to_owned())),
            Some(("file", path)) => Ok(Self::File(absolute(path))),
            Some(("env", name)) => Ok(Self::Env(name.to_owned())),
            Some(_) | None => Err("say where the secret stands, never the secret itself: credential:<name>, \
                file:</path> or env:<NAME>"
                .to_owned()),
        }
    }
}

/// The portal's secrets: setting, its name among the flags and as a credential, what it is.
const PORTAL_SECRETS: [(&str, &str, &str); 3] = [
    ("api_key", "absorb_api_key", "the portal's private API key"),
    ("password", "absorb_password", "the admin's password"),
    ("webhook_token", "webhook_token", "the webhook token"),
];

/// A path that holds wherever the daemon is started; one that is absolute already stays as it is.
fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.display().to_string())
}

/// Asks for all that the flags do not say.
pub(super) fn find(
    options: &Options,
    terminal: Option<Terminal<'_>>,
    kinds: &[Box<dyn ConnectorType>],
) -> Result<Answers, Failure> {
    let mut asking = Asking { terminal, missing: Vec::new(), wrong: Vec::new() };
    let main = if options.add_destination { None } else { Some(about_main(options, &mut asking)?) };
    let (description, name) = connector(options, &mut asking, kinds)?;
    let history = asking.about(
        "--history",
        options.history.as_deref(),
        "Which facts of before the first start are delivered: none, all, or since a date such as 2026-01-31",
        None,
        &|text| text.parse::<History>().map(drop),
    )?;
    let mut places = pairs(&options.secrets, "--secret", &mut asking);
    let main = match main {
        Some(main) => Some(Main { secrets: portal_secrets(&mut asking, &mut places)?, ..main }),
        None => None,
    };
    let (settings, secrets) = match &description {
        Some(about) => connector_settings(options, &mut asking, about, &name, &mut places)?,
        None => (BTreeMap::new(), Vec::new()),
    };
    if let Some(about) = &description {
        let own = about.settings.iter().filter(|setting| setting.is_secret).map(|setting| setting.name);
        let of_portal = PORTAL_SECRETS.iter().map(|(_, name, _)| *name).filter(|_| main.is_some());
        let known: Vec<&str> = of_portal.chain(own).collect();
        asking.wrong.extend(places.keys().map(|name| unknown("--secret", name, &known)));
    }
    asking.end()?;
    let description = description.expect("without a connector the flags are incomplete");
    Ok(Answers { main, target: Target { name, description, history, settings, secrets } })
}

/// All of `learnsync.toml` but the secrets, which are asked for last.
fn about_main(options: &Options, asking: &mut Asking<'_>) -> Result<Main, Failure> {
    let installation = asking.about(
        "--installation",
        options.installation.as_deref(),
        "Name of this installation; it is part of every mark in a target, and never changes",
        None,
        &installation_name,
    )?;
    let store = asking.about(
        "--store",
        options.store.as_deref(),
        "Folder of the store",
        Some("/var/lib/learnsync"),
        &not_blank,
    )?;
    let url = portal_address(options, asking)?;
    let portal = asking.about(
        "--portal",
        options.portal.as_deref(),
        "Name of the portal in webhook URLs",
        Some("main"),
        &installation_name,
    )?;
    let username = asking.about(
        "--username",
        options.username.as_deref(),
        "Absorb admin that nothing else uses, since each login ends the one before",
        None,
        &not_blank,
    )?;
    let machine = machine_zone().filter(|_| asking.terminal.is_some());
    let zone = asking.about(
        "--zone",
        options.zone.as_deref(),
        "Time zone of the portal's people",
        machine.as_deref(),
        &time_zone,
    )?;
    let listen = asking.about(
        "--listen",
        options.listen.as_deref(),
        "Address for webhooks, behind a TLS reverse proxy",
        Some("127.0.0.1:8480"),
        &address,
    )?;
    Ok(Main { installation, store: absolute(&store), listen, portal, url, username, zone, secrets: Vec::new() })
}

fn portal_secrets(
    asking: &mut Asking<'_>,
    places: &mut BTreeMap<String, String>,
) -> Result<Vec<(&'static str, Place)>, Failure> {
    let mut secrets = Vec::new();
    for (setting, name, what) in PORTAL_SECRETS {
        secrets.push((setting, asking.place(name, places.remove(name), what, name)?));
    }
    Ok(secrets)
}

fn portal_address(options: &Options, asking: &mut Asking<'_>) -> Result<String, Failure> {
    let given = options.region.map(|region| region.url().to_owned()).or_else(|| options.url.clone());
    let check = |text: &str| match Region::from_str(text, true) {
        Ok(_) => Ok(()),
        Err(_) => portal_url(text),
    };
    let words = "Region of the Absorb portal (us, ca, eu, au; us-sandbox ..), or the URL of its API";
    let answer = asking.about("--region or --url", given.as_deref(), words, None, &check)?;
    Ok(Region::from_str(&answer, true).map_or(answer, |region| region.url().to_owned()))
}

fn connector(
    options: &Options,
    asking: &mut Asking<'_>,
    kinds: &[Box<dyn ConnectorType>],
) -> Result<(Option<Description>, String), Failure> {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.describe().name).collect();
    let check = |text: &str| {
        if names.contains(&text) { Ok(()) } else { Err(unknown_name(text, &names)) }
    };
    let only = (asking.terminal.is_some() && names.len() == 1).then(|| names[0]);
    let words = format!("Connector of the destination: {}", names.join(", "));
    let name = asking.about("--connector", options.connector.as_deref(), &words, only, &check)?;
    let description = kinds.iter().map(|kind| kind.describe()).find(|about| about.name == name);
    let default = description.as_ref().map(|about| about.name);
    let words = "Name of the destination";
    // Without a connector its name has no default, but that is not what is missing.
    let destination = match (&description, &options.destination) {
        (None, None) => String::new(),
        (Some(_), given) | (None, given) => {
            asking.about("--destination", given.as_deref(), words, default, &destination_name)?
        }
    };
    Ok((description, destination))
}

/// The settings that are needed or named, and where the secrets stand.
#[expect(clippy::type_complexity, reason = "the two halves of what a connector reads")]
fn connector_settings(
    options: &Options,
    asking: &mut Asking<'_>,
    about: &Description,
    destination: &str,
    places: &mut BTreeMap<String, String>,
) -> Result<(BTreeMap<&'static str, String>, Vec<(&'static str, Place)>), Failure> {
    let mut given = pairs(&options.settings, "--set", asking);
    let mut settings = BTreeMap::new();
    let mut secrets = Vec::new();
    for setting in about.settings {
        let name = setting.name;
        if setting.is_secret {
            let credential = format!("{destination}_{name}");
            let is_needed = matches!(setting.need, Need::Required | Need::Unless(_));
            let place = places.remove(name);
            if is_needed || place.is_some() {
                let what = format!("the destination's {name}");
                secrets.push((name, asking.place(name, place, &what, &credential)?));
            }
            continue;
        }
        let value = given.remove(name);
        let is_needed = match setting.need {
            Need::Required => true,
            Need::Unless(other) => !given.contains_key(other) && !settings.contains_key(other),
            Need::Optional | Need::Default(_) => false,
        };
        if !is_needed && value.is_none() {
            continue;
        }
        let words = format!("{} (such as {})", setting.doc.trim_end_matches('.'), setting.example);
        let flag = format!("--set {name}={}", setting.example);
        settings.insert(name, asking.about(&flag, value.as_deref(), &words, None, &|text| typed(setting, text))?);
    }
    let names: Vec<&str> = about.settings.iter().filter(|one| !one.is_secret).map(|one| one.name).collect();
    for name in given.keys() {
        let is_secret = about.settings.iter().any(|setting| setting.is_secret && setting.name == name);
        asking.wrong.push(if is_secret {
            format!(
                "--set: {name} is a secret, which is never written down: say with --secret {name}=.. where it stands"
            )
        } else {
            unknown("--set", name, &names)
        });
    }
    Ok((settings, secrets))
}

fn typed(setting: &Setting, text: &str) -> Result<(), String> {
    let is_right = match setting.kind {
        SettingType::Text => !text.trim().is_empty(),
        SettingType::Integer => text.parse::<i64>().is_ok(),
        SettingType::Bool => matches!(text, "true" | "false"),
    };
    if is_right {
        Ok(())
    } else {
        Err(format!("\"{text}\" is no {}, write one such as {}", setting.name, setting.example))
    }
}

fn unknown(what: &str, word: &str, known: &[&str]) -> String {
    format!("{what}: {}", unknown_name(word, known))
}

fn unknown_name(word: &str, known: &[&str]) -> String {
    let hint = nearest(word, known.iter().copied())
        .map_or_else(|| format!("there are {}", known.join(", ")), |near| format!("did you mean \"{near}\"?"));
    format!("unknown name \"{word}\", {hint}")
}

fn not_blank(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("is blank".to_owned()) } else { Ok(()) }
}

fn address(text: &str) -> Result<(), String> {
    text.parse::<std::net::SocketAddr>()
        .map(drop)
        .map_err(|_| format!("\"{text}\" is not an address with a port, write one such as 127.0.0.1:8480"))
}

/// The zone of this machine: what `/etc/localtime` points to.
fn machine_zone() -> Option<String> {
    let target = std::fs::read_link("/etc/localtime").ok()?;
    let zone = target.to_str()?.split_once("zoneinfo/")?.1.to_owned();
    time_zone(&zone).is_ok().then_some(zone)
}

/// `NAME=VALUE` flags as a table.
fn pairs(flags: &[String], flag: &str, asking: &mut Asking<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for text in flags {
        match text.split_once('=') {
            Some((name, value)) => {
                found.insert(name.trim().to_owned(), value.to_owned());
            }
            // It is not repeated: it may be a secret.
            None => asking.wrong.push(format!("{flag}: write NAME=VALUE")),
        }
    }
    found
}

/// Takes answers from flags, from a terminal, or as missing; all that is wrong is told at once.
struct Asking<'a> {
    terminal: Option<Terminal<'a>>,
    missing: Vec<String>,
    wrong: Vec<String>,
}

impl Asking<'_> {
    fn about(
        &mut self,
        flag: &str,
        given: Option<&str>,
        words: &str,
        default: Option<&str>,
        check: &dyn Fn(&str) -> Result<(), String>,
    ) -> Result<String, Failure> {
        if let Some(given) = given {
            if let Err(message) = check(given) {
                self.wrong.push(format!("{flag}: {message}"));
            }
            return Ok(given.to_owned());
        }
        let Some(terminal) = &mut self.terminal else {
            if default.is_none() {
                self.missing.push(format!("  {flag}: {words}"));
            }
            return Ok(default.unwrap_or_default().to_owned());
        };
        loop {
            let answer = terminal.ask(words, default)?;
            match check(&answer) {
                Ok(()) => return Ok(answer),
                Err(message) => terminal.say(&format!("  {message}\n"))?,
            }
        }
    }

    /// Where a secret stands. `name` is its name among the flags.
    fn place(&mut self, name: &str, given: Option<String>, what: &str, credential: &str) -> Result<Place, Failure> {
        let default = format!("credential:{credential}");
        let words = format!("Where {what} stands: credential:<name>, file:</path> or env:<NAME>");
        let check = |text: &str| Place::parse(text).map(drop);
        let answer = self.about(&format!("--secret {name}"), given.as_deref(), &words, Some(&default), &check)?;
        Ok(Place::parse(&answer).unwrap_or(Place::Credential(credential.to_owned())))
    }

    fn end(self) -> Result<(), Failure> {
        if self.missing.is_empty() && self.wrong.is_empty() {
            return Ok(());
        }
        let mut lines = self.wrong;
        if !self.missing.is_empty() {
            lines.push("missing, and nobody can be asked (standard input is no terminal, or --yes):".to_owned());
            lines.extend(self.missing);
        }
        Err(Failure::Configuration(lines.join("\n")))
    }
}

impl Terminal<'_> {
    fn say(&mut self, words: &str) -> Result<(), Failure> {
        use anyhow::Context;
        self.output.write_all(words.as_bytes()).and_then(|()| self.output.flush()).context("ask on the terminal")?;
        Ok(())
    }

    fn ask(&mut self, words: &str, default: Option<&str>) -> Result<String, Failure> {
        use anyhow::Context;
        let shown = default.map(|default| format!(" [{default}]")).unwrap_or_default();
        self.say(&format!("{words}{shown}: "))?;
        let mut line = String::new();
        if self.input.read_line(&mut line).context("read the answer")? == 0 {
            return Err(Failure::Configuration(
                "the input ended before the last question: nothing was written".to_owned(),
            ));
        }
        let answer = line.trim();
        Ok(if answer.is_empty() { default.unwrap_or_default() } else { answer }.to_owned())
    }
}
