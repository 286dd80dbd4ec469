//! `learnsync sandbox`: a fake Absorb portal, a fake BambooHR and a fake chat to try everything against, and what can happen in them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, print_text, runtime};
use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::{Clock, SystemClock};
use crate::sandbox::{PortalHandle, QUIRKS, Recording, Sandbox, SandboxOptions};

/// Where the fakes listen unless somebody says otherwise; the portal takes the first, HR the second, the chat the third.
const PORT_BASE: u16 = 8490;

/// The token of the webhook URL.
const WEBHOOK_TOKEN: &str = "sandbox-token-that-nobody-needs-to-guess";

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, after_help = "Example: learnsync sandbox --seed 7")]
pub(super) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    start: Start,
}

#[derive(Args)]
struct Start {
    /// The seed of the people, the courses and the credentials.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many learners there are; HR does not know the last one.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=200_000))]
    learners: u32,
    /// How many courses there are.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    courses: u32,
    /// How many enrolments there are at the start: four of five completed, some with a certificate.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=2_000_000))]
    enrollments: u32,
    /// How this Absorb differs: a quirk, or a quirk and its value; may be given several times. `--quirk list` shows all.
    #[arg(long = "quirk", value_name = "NAME[=VALUE]")]
    quirks: Vec<String>,
    /// Plays a year of activity, which ends today.
    #[arg(long)]
    year: bool,
    /// How fast the year goes by, in its seconds per second; or `max`.
    #[arg(long, default_value = "86400", value_parser = Speed::parse, requires = "year")]
    speed: Speed,
    /// The first of three ports: portal, HR, chat; 0 takes free ones.
    #[arg(long, default_value_t = PORT_BASE, value_parser = clap::value_parser!(u16).range(0..=65_533))]
    port_base: u16,
    /// The folder for the credentials, a file each; made when it is not there.
    #[arg(long, default_value = "credentials")]
    credentials: PathBuf,
    /// Plays nothing, but records the webhooks of a real portal in this folder, one file each, with everything personal replaced.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["year", "enrollments", "quirks"])]
    record: Option<PathBuf>,
}

/// How fast a year goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speed {
    /// So many seconds of the year in a second.
    Times(u32),
    /// As fast as the webhooks are taken.
    Most,
}

impl Speed {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Most);
        }
        let times = text.parse().ok().filter(|times| (1..=31_536_000).contains(times));
        times.map(Self::Times).ok_or_else(|| "1 to 31536000 seconds of the year per second, or max".to_owned())
    }
}

/// What can happen in a running sandbox; the page of its portal has the same buttons.
#[derive(Subcommand)]
enum Action {
    /// A learner completes a course, and the portal sends its webhook.
    #[command(after_help = "Example: learnsync sandbox complete E10001 'Fire Safety'")]
    Complete {
        #[command(flatten)]
        who: WhoAndWhat,
    },
    /// A learner is awarded the certificate of a course, and the portal sends its webhook.
    #[command(after_help = "Example: learnsync sandbox certify E10001 'Fire Safety'")]
    Certify {
        #[command(flatten)]
        who: WhoAndWhat,
    },
    /// Lets anything happen, and the portal sends its webhooks. Without a word, says what can happen.
    #[command(after_help = "Example: learnsync sandbox happen department-created '' 'Field Service'")]
    Happen {
        /// What happens: one of the 24 events of Absorb, for example `credits`, or what no webhook tells, for example `score-corrected`.
        event: Option<String>,
        /// The learner: e-mail address, external id, employee number, id or full name; blank for anybody.
        #[arg(default_value = "")]
        learner: String,
        /// The course; of a merge the learner who stays; else a name; blank for any.
        #[arg(default_value = "")]
        what: String,
        #[command(flatten)]
        at: At,
    },
    /// Presses Test Webhook, and shows what an administrator of Absorb sees.
    #[command(after_help = "Example: learnsync sandbox test-webhook")]
    TestWebhook {
        #[command(flatten)]
        at: At,
    },
    /// Says where the portal sends its webhooks.
    #[command(after_help = "Example: learnsync sandbox webhook http://127.0.0.1:8480/hooks/main/<token>")]
    Webhook {
        /// The daemon's URL, with the webhook token.
        url: String,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Args)]
struct WhoAndWhat {
    /// The learner: e-mail address, external id, employee number, id or full name.
    learner: String,
    /// The course: name, external id or id.
    course: String,
    #[command(flatten)]
    at: At,
}

#[derive(Args)]
struct At {
    /// The sandbox's portal.
    #[arg(long, default_value_t = format!("http://127.0.0.1:{PORT_BASE}"))]
    portal: String,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = runtime()?;
    match &options.action {
        None => runtime.block_on(play(&options.start)),
        Some(Action::Complete { who }) => runtime.block_on(press(&who.at, "complete", &who.fields())),
        Some(Action::Certify { who }) => runtime.block_on(press(&who.at, "certify", &who.fields())),
        Some(Action::Happen { event: None, .. }) => print_text(&what_can_happen()),
        Some(Action::Happen { event: Some(event), learner, what, at }) => {
            runtime.block_on(press(at, "happen", &[("event", event), ("learner", learner), ("what", what)]))
        }
        Some(Action::TestWebhook { at }) => runtime.block_on(press(at, "test", &[])),
        Some(Action::Webhook { url, at }) => runtime.block_on(press(at, "webhook", &[("url", url)])),
    }
}

async fn play(start: &Start) -> Result<(), Failure> {
    if start.quirks.iter().any(|quirk| quirk == "list") {
        return print_text(&all_quirks());
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Another stream than the world's own: the same one would give new things the ids of old ones.
    if let Some(folder) = &start.record {
        return record(start, folder, clock).await;
    }
    let entropy: Arc<dyn Entropy> = Arc::new(Generator::seeded(!start.seed));
    let sandbox = Sandbox::start(start.options(), clock, entropy)
        .await
        .context("the sandbox cannot start (--port-base takes other ports)")?;
    for quirk in &start.quirks {
        let (name, value) = quirk.split_once('=').unwrap_or((quirk, ""));
        sandbox.portal.set_quirk(name, value).map_err(|words| Failure::Configuration(format!("--quirk: {words}")))?;
    }
    let hook = format!("http://127.0.0.1:8480/hooks/main/{WEBHOOK_TOKEN}");
    sandbox.portal.send_webhooks(crate::daemon::http_client()?, &hook);
    keep_credentials(&start.credentials, &sandbox)?;
    print_text(&story(start, &sandbox))?;
    let live = async {
        if start.year {
            play_year(&sandbox.portal, start.speed).await;
        }
        loop {
            // Webhooks that a quirk delays go out when they are due.
            tokio::time::sleep(Duration::from_secs(1)).await;
            sandbox.portal.send(Vec::new()).await;
        }
    };
    tokio::select! {
        ended = ended() => ended?,
        _ = live => {}
    }
    sandbox.stop().await;
    Ok(())
}

/// Keeps whatever a real portal sends, until somebody ends the program.
async fn record(start: &Start, folder: &Path, clock: Arc<dyn Clock>) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, start.port_base));
    let recording =
        Recording::start(address, folder, clock).await.context("the recorder cannot start (--port-base)")?;
    print_text(&format!(
        "learnsync records on http://{}\nLet your web server hand https://<your host>/ to it, point a webhook of Absorb there, and let each event \
         happen once.\nIt answers 200 to everything. Ids, names and addresses are replaced before anything is kept in {}; look through the files \
         before you share them.\n",
        recording.address,
        folder.display()
    ))?;
    ended().await?;
    Ok(())
}

/// Plays the year to its end, and sends its webhooks as it goes.
async fn play_year(portal: &PortalHandle, speed: Speed) {
    let mut year = portal.begin_year(match speed {
        Speed::Times(times) => times,
        Speed::Most => 0,
    });
    while let Some(at) = year.next_at() {
        if let Speed::Times(times) = speed {
            let wait_ms = at.0.saturating_sub(portal.calendar().0).max(0) / i64::from(times);
            tokio::time::sleep(Duration::from_millis(wait_ms.unsigned_abs())).await;
        }
        let hooks = portal.play_next(&mut year).unwrap_or_default();
        portal.send(hooks).await;
    }
    // The calendar shows today again.
    let _nothing_is_left = portal.play_next(&mut year);
    println!("The year is over.");
}

fn all_quirks() -> String {
    let line = |quirk: &crate::sandbox::Quirk| {
        format!("{:<22}{}\n{:22}takes {}; {} by default\n", quirk.name, quirk.doc, "", quirk.takes, quirk.default)
    };
    QUIRKS.iter().map(line).collect()
}

fn what_can_happen() -> String {
    let line = |(word, event): &(&str, Option<&str>)| format!("{word:<36}{}\n", event.unwrap_or("no webhook tells"));
    PortalHandle::deeds().iter().map(line).collect()
}

impl Start {
    fn options(&self) -> SandboxOptions {
        let address = |offset: u16| {
            let port = if self.port_base == 0 { 0 } else { self.port_base + offset };
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        };
        SandboxOptions {
            seed: self.seed,
            learners: usize::try_from(self.learners).expect("clap took at most 200,000"),
            courses: usize::try_from(self.courses).expect("clap took at most 2,000"),
            enrollments: usize::try_from(self.enrollments).expect("clap took at most 2,000,000"),
            unknown_learners: 1,
            portal_address: address(0),
            hr_address: address(1),
            chat_address: address(2),
            ..SandboxOptions::default()
        }
    }
}

/// Waits until somebody ends the program.
async fn ended() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("wait for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}

/// The names are those that `init` proposes for the destinations `hr` and `cheers`.
fn keep_credentials(folder: &Path, sandbox: &Sandbox) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).with_context(|| format!("make the folder {}", folder.display()))?;
    for (name, secret) in [
        ("absorb_api_key", sandbox.portal.api_key()),
        ("absorb_password", sandbox.portal.password()),
        ("absorb_client_secret", sandbox.portal.oauth_client_secret()),
        ("webhook_token", WEBHOOK_TOKEN.to_owned()),
        ("hr_api_key", sandbox.hr.api_key()),
        ("cheers_url", sandbox.chat.webhook_url()),
    ] {
        keep(&folder.join(name), &secret)?;
    }
    Ok(())
}

/// Never writes over another secret: the folder may be that of a real installation.
fn keep(path: &Path, secret: &str) -> Result<(), Failure> {
    use std::io::{ErrorKind, Write};
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Ok(mut file) => Ok(file.write_all(secret.as_bytes()).with_context(|| format!("write {}", path.display()))?),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if std::fs::read_to_string(path).is_ok_and(|held| held == secret) {
                return Ok(());
            }
            Err(Failure::Configuration(format!(
                "{} is there already and holds something else: start the sandbox in an empty folder, or name another \
                 one with --credentials",
                path.display()
            )))
        }
        Err(error) => Err(anyhow!(error).context(format!("write {}", path.display())).into()),
    }
}

/// Where everything is, and what to type next.
fn story(start: &Start, sandbox: &Sandbox) -> String {
    let (portal, hr, chat) = (sandbox.portal.url(), sandbox.hr.url(), sandbox.chat.url());
    let (learners, courses) = sandbox.portal.names();
    let (learner, course) = (&learners[0], &courses[0]);
    let folder = start.credentials.display();
    let shown = if start.credentials.is_absolute() { folder.to_string() } else { format!("$PWD/{folder}") };
    let at = if start.port_base == PORT_BASE { String::new() } else { format!(" --portal {portal}") };
    let username = sandbox.portal.username();
    let client = sandbox.portal.oauth_client_id();
    let (count, course_count, seed) = (start.learners, start.courses, start.seed);
    format!(
        r#"learnsync sandbox: {count} made-up learners, {course_count} courses, seed {seed}
  fake Absorb portal  {portal}  with buttons: complete a course, Test Webhook
                      OAuth client {client}
  fake BambooHR       {hr}  shows its rows
  fake Google Chat    {chat}  shows its messages
  credentials         {folder}/  one file each, for your eyes only
All of it is in memory. Ctrl-C ends it; then delete the store, too, because HR begins empty again.

In a second terminal, in the same folder:

export CREDENTIALS_DIRECTORY="{shown}"
learnsync init --yes --config learnsync.toml --store store --installation sandbox \
  --url {portal} --username {username} --zone Etc/UTC \
  --connector bamboohr --destination hr --set url={hr} --history all
learnsync init --yes --config learnsync.toml --add-destination \
  --connector chat --destination cheers --set service=google_chat --history none
learnsync check --online --config learnsync.toml
learnsync run --config learnsync.toml

In a third, let something happen, and ask what became of it:

learnsync sandbox complete{at} {learner} "{course}"
learnsync explain --config learnsync.toml {learner}
"#
    )
}

impl WhoAndWhat {
    fn fields(&self) -> [(&str, &str); 2] {
        [("learner", &self.learner), ("course", &self.course)]
    }
}

/// Presses a button of the portal's page.
async fn press(at: &At, button: &str, fields: &[(&str, &str)]) -> Result<(), Failure> {
    let url = format!("{}/sandbox/{button}", at.portal.trim_end_matches('/'));
    let request = crate::daemon::http_client()?.post(url).header("accept", "text/plain").form(fields);
    let response = request.send().await.map_err(|_| {
        anyhow!(
            "no sandbox answers at {}: start one with `learnsync sandbox`, or name its portal with --portal",
            at.portal
        )
    })?;
    let status = response.status().as_u16();
    let words = response.text().await.context("read the sandbox's answer")?;
    match status {
        200 => println!("{words}"),
        422 => return Err(Failure::Configuration(words)),
        502 => return Err(anyhow!("{words}").into()),
        _ => return Err(anyhow!("what answers at {} is no sandbox (HTTP {status})", at.portal).into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_of_somebody_else_is_never_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("absorb_api_key");
        assert!(keep(&path, "made up").is_ok() && keep(&path, "made up").is_ok(), "the same again is no change");
        std::fs::write(&path, "real").expect("written");
        let refused = keep(&path, "made up");
        assert!(matches!(refused, Err(Failure::Configuration(words)) if words.contains("--credentials")));
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "real");
    }
}
