//! `learnsync demo`: the whole road without any account. The daemon runs as a child process against a fake Absorb portal and a fake
//! BambooHR; a day happens, with everything that goes wrong on one; then the HR system is read field by field.

mod child;
mod day;
mod proof;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use super::{Failure, explain, runtime};
use crate::daemon::{Answer, Order};
use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::{Clock, SystemClock};
use crate::sandbox::{Sandbox, SandboxOptions};
use crate::store::view::View;
use child::{Child, Peak};
use day::{Day, Tally};
use proof::Proof;

/// Of a thousand writes, the answers of so many are lost after the write.
const LOST_ANSWERS_PER_MILLE: u32 = 20;

/// The demo gives up when nothing at all moves for so many looks.
const STILL_LOOKS_MAX: u32 = 240;

/// How often the demo looks how far things are.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Args)]
pub(super) struct Options {
    /// How many things happen in the LMS.
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u32).range(20..=200_000))]
    events: u32,
    /// The seed of the people, the courses and the day.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ends as soon as HR holds what the LMS holds: with 0 if it does so exactly, else with 1.
    #[arg(long)]
    exit_when_synced: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    runtime()?.block_on(play(options))?;
    Ok(())
}

/// What the demo stands on: the fakes, a folder, the daemon.
struct Stage {
    sandbox: Sandbox,
    folder: tempfile::TempDir,
    config: PathBuf,
    http: reqwest::Client,
}

async fn play(options: &Options) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(Generator::seeded(options.seed));
    let stage = set(options, &clock, &entropy).await?;
    println!("learnsync demo: {} events, seed {}", options.events, options.seed);
    println!("  fake Absorb portal  {}", stage.sandbox.portal.url());
    println!("  fake BambooHR       {}", stage.sandbox.hr.url());
    let mut peak = Peak::default();
    let mut child = Child::start(&stage.config).await?;
    println!("  daemon              {} (process {})", child.url(), child.pid());

    stage.sandbox.hr.faults().set_lose_answers(LOST_ANSWERS_PER_MILLE);
    let day = Day::plan(options.events, &stage.sandbox, &*entropy);
    let tally = day.happen(&stage, &mut child, &mut peak).await?;

    println!("night falls: `learnsync reconcile` looks for what webhooks missed");
    stage.reconcile().await?;
    let waited = wait_until_synced(&stage, &child).await;
    peak.see(&child);
    let proof = Proof::read(&stage).await?;
    print_table(&tally, &proof, &stage, &peak);
    print_explain(stage.folder.path())?;
    waited?;
    println!("{}", proof.last_line());
    if options.exit_when_synced {
        child.stop().await?;
        if !proof.is_exact() {
            bail!("HR does not hold exactly what the LMS holds:\n{}", proof.differences());
        }
        return Ok(());
    }
    println!("everything keeps running; look at the addresses above, or try in another terminal:");
    println!("  learnsync status --config {}", stage.config.display());
    println!("Ctrl-C ends it.");
    tokio::signal::ctrl_c().await.context("wait for Ctrl-C")?;
    child.stop().await
}

async fn set(options: &Options, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> anyhow::Result<Stage> {
    let sandbox_options = SandboxOptions {
        seed: options.seed,
        learners: usize::try_from(options.events / 4).unwrap_or(usize::MAX).max(10),
        courses: 12,
        // The demo is not to wait for a rate limit; the tests do.
        rate_per_second: None,
        ..SandboxOptions::default()
    };
    let sandbox = Sandbox::start(sandbox_options, Arc::clone(clock), Arc::clone(entropy))
        .await
        .context("start the sandbox on loopback")?;
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let config = write_config(&sandbox, folder.path())?;
    Ok(Stage { sandbox, folder, config, http: crate::daemon::http_client()? })
}

/// The token of the demo's webhook URL.
const TOKEN: &str = "demo-token-that-nobody-needs-to-guess";

fn write_config(sandbox: &Sandbox, folder: &Path) -> anyhow::Result<PathBuf> {
    let secrets = [
        ("absorb_key", sandbox.portal.api_key()),
        ("absorb_password", sandbox.portal.password()),
        ("webhook_token", TOKEN.to_owned()),
        ("bamboohr_key", sandbox.hr.api_key()),
    ];
    for (name, secret) in &secrets {
        child::write_private(&folder.join(name), secret)?;
    }
    let text = format!(
        r#"installation = "demo"

[store]
path = "{folder}/store"

[listen]
address = "127.0.0.1:0"

[portals.main]
url = "{portal}"
username = "{username}"
api_key = {{ file = "{folder}/absorb_key" }}
password = {{ file = "{folder}/absorb_password" }}
webhook_token = {{ file = "{folder}/webhook_token" }}
calls_per_second_max = 1000

[destinations.hr]
connector = "bamboohr"
history = "all"
settle_seconds = 2
settings = {{ url = "{hr}" }}
secrets = {{ api_key = {{ file = "{folder}/bamboohr_key" }} }}
"#,
        folder = folder.display(),
        portal = sandbox.portal.url(),
        username = sandbox.portal.username(),
        hr = sandbox.hr.url(),
    );
    let path = folder.join("learnsync.toml");
    std::fs::write(&path, text).context("write the demo's configuration")?;
    Ok(path)
}

impl Stage {
    async fn reconcile(&self) -> anyhow::Result<()> {
        let config = crate::config::load(&self.config)?;
        let socket = crate::daemon::control_socket(&config);
        match crate::daemon::ask(&socket, &Order::Reconcile).await? {
            Some(Answer::Done(_)) => Ok(()),
            Some(Answer::Refused { because }) => bail!(because),
            None => bail!("no daemon answers at {}", socket.display()),
        }
    }

    fn view(&self) -> anyhow::Result<View> {
        View::open(&self.folder.path().join("store")).context("look into the demo's store")
    }
}

/// Waits until nothing is left to do; gives up when nothing moves any more.
async fn wait_until_synced(stage: &Stage, child: &Child) -> anyhow::Result<()> {
    let expected = stage.sandbox.portal.expected_rows().len();
    let mut view = stage.view()?;
    let mut last = String::new();
    let mut still = 0;
    loop {
        let status = view.status().context("read the demo's store")?;
        let dirty: i64 = status.dirty.iter().map(|(_, count)| count).sum();
        let records: i64 = status.records.iter().map(|(_, count)| count).sum();
        let open = status.destinations.iter().flat_map(|destination| &destination.deliveries);
        let open: i64 = open.filter(|(state, _)| state != "settled" && state != "parked").map(|(_, count)| count).sum();
        let rows = stage.sandbox.hr.rows_total();
        let line = format!(
            "{rows} of {expected} rows in HR · {records} records read · {dirty} learners to read · {open} deliveries waiting"
        );
        still = if line == last { still + 1 } else { 0 };
        if line != last {
            day::progress(&line);
        }
        last = line;
        if status.last_sweep_at.is_some() && dirty == 0 && open == 0 && status.events_waiting == 0 && still > 2 {
            day::end_progress();
            return Ok(());
        }
        if still > STILL_LOOKS_MAX || !child.is_alive() {
            day::end_progress();
            bail!("nothing moves any more: {last}; the daemon's words are in {}", stage.folder.path().display());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn print_table(tally: &Tally, proof: &Proof, stage: &Stage, peak: &Peak) {
    println!();
    println!("  what happened                                   count");
    for (what, count) in [
        ("things happened in the LMS", tally.happened),
        ("webhooks sent and acknowledged", tally.acknowledged),
        ("webhooks lost on the way", tally.lost),
        ("webhooks that met a dead daemon", tally.met_nobody),
        ("webhooks sent twice", tally.repeated),
        ("webhooks forged, with the right token", tally.forged),
        ("webhooks forged, with a wrong token: answered 404", tally.refused),
        ("daemon killed with SIGKILL and started again", tally.kills),
    ] {
        println!("  {what:<48} {count:>6}");
    }
    println!("  {:<48} {:>6}", "answers of HR lost after the write", stage.sandbox.hr.faults().fired());
    println!("  {:<48} {:>6}", "calls to the LMS", stage.sandbox.portal.calls());
    println!("  {:<48} {:>6}", "logins to the LMS", stage.sandbox.portal.logins());
    println!("  {:<48} {:>6}", "calls to HR, of which", stage.sandbox.hr.calls());
    println!("  {:<48} {:>6}", "  writes", stage.sandbox.hr.writes());
    println!("  {:<48} {:>6}", "rows read back over HR's API", proof.rows());
    println!("  {:<48} {:>6}", "daemon's peak resident memory, KiB", peak.kib());
    println!();
}

fn print_explain(folder: &Path) -> anyhow::Result<()> {
    let mut view = View::open(&folder.join("store"))?;
    let Some(learner) = view.most_tried()? else { return Ok(()) };
    println!("learnsync explain {learner}");
    for story in view.explain(&learner)? {
        println!("{}", explain::story(&story, &folder.join("learnsync.toml"))?);
    }
    Ok(())
}
