//! What commands ask of the ledger: one use case each, the same through the running daemon's socket and on a store that nobody else has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::Checked;
use super::doors::StoreVault;
use crate::config::{Config, unknown};
use crate::domain::chance::{Entropy, Generator};
use crate::domain::drift::Acknowledged;
use crate::domain::ids::{DeliveryId, PersonId, RunId};
use crate::domain::time::{Clock, SystemClock, Timestamp};
use crate::lms::absorb::Absorb;
use crate::pipeline::breaker::Breaker;
use crate::pipeline::destination::{Destination, PauseEnd};
use crate::pipeline::portal::Portal;
use crate::pipeline::worker::Bell;
use crate::reconcile::sweep::{Ask, Asked};
use crate::store::{Erased, KnownDestination, Open, Remains, Restored, Retried, Store, Threading};

/// Longest reason of a pause, in characters: it is shown in a table.
pub const REASON_CHARS_MAX: usize = 200;

/// What a command asks for; one JSON object a line on the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Read every learner again now.
    Reconcile,
    /// Find what changed since the last night: a sweep as in any night, now.
    ReconcileChanges,
    /// Let a run that its guard holds go on.
    Approve {
        /// Its number.
        run: i64,
    },
    /// Write what a plan file says.
    Apply {
        /// The file; an absolute path.
        file: PathBuf,
        /// So many places first, and then wait.
        canary: Option<u64>,
    },
    /// Read all that a portal holds; one that is held or was killed goes on.
    Backfill {
        /// The portal's name.
        portal: String,
        /// Facts of before this day are left out.
        since: Option<chrono::NaiveDate>,
    },
    /// Hold a portal's backfill where it is.
    PauseBackfill {
        /// The portal's name.
        portal: String,
    },
    /// Write nothing to a destination until `Resume`.
    Pause {
        /// Its name.
        destination: String,
        /// Why, in the operator's words; at most `REASON_CHARS_MAX` characters.
        reason: String,
    },
    /// Write to a destination again.
    Resume {
        /// Its name.
        destination: String,
    },
    /// Another account behind a destination is right.
    Rebase {
        /// Its name.
        destination: String,
    },
    /// Remove what the ledger knows of a retired destination.
    Forget {
        /// Its name.
        destination: String,
    },
    /// Try one delivery again now.
    RetryDelivery {
        /// Its number.
        delivery: i64,
    },
    /// Try again all that is parked at a destination for one cause.
    RetryCause {
        /// Its name.
        destination: String,
        /// The cause's whole word, for example `unmapped:training_type:Fire safety`.
        cause: String,
    },
    /// A person knows that a place differs in the target, and why.
    Acknowledge {
        /// The delivery's number.
        delivery: i64,
        /// Until when; then it is reported again.
        until: Timestamp,
        /// Why, in their words; at most `REASON_CHARS_MAX` characters.
        reason: String,
    },
    /// A person says who a learner is in a destination.
    Pin {
        /// Its name.
        destination: String,
        /// The learner's portal.
        portal: String,
        /// The learner's LMS id.
        learner: String,
        /// The person's id in the destination.
        person: String,
    },
    /// The rules say it again.
    Unpin {
        /// Its name.
        destination: String,
        /// The learner's portal.
        portal: String,
        /// The learner's LMS id.
        learner: String,
    },
    /// Copy the ledger, and its keys if wanted.
    Backup {
        /// Where to; an absolute path, and nothing is there yet. The keys go to `<file>.keys`.
        file: PathBuf,
        /// Whether the keys are copied, too.
        with_keys: bool,
    },
    /// An administrator said yes on the portal's page: take the code that it gave. It is good for one use, and only the portal's own client
    /// can use it.
    Login {
        /// The portal.
        portal: String,
        /// The code.
        code: String,
    },
    /// Erase a learner for good.
    Erase {
        /// The learner's portal.
        portal: String,
        /// The learner's LMS id.
        learner: String,
    },
}

/// What came of an order; one JSON object a line on the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It is done, and committed.
    Done(Done),
    /// It was not done.
    Refused {
        /// Why, and what helps.
        because: String,
    },
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// In words.
    pub words: String,
    /// How many deliveries that touched; none when it is not about deliveries.
    pub deliveries: Option<usize>,
}

impl Done {
    pub(super) fn of(words: String) -> anyhow::Result<Self> {
        Ok(Self { words, deliveries: None })
    }
}

/// What runs, and must heed an order at once.
pub struct Running {
    /// The destinations, by name.
    pub destinations: BTreeMap<String, Arc<Destination>>,
    /// Their bells, by name.
    pub deliver: BTreeMap<String, Arc<Bell>>,
    /// The switches that ask for a sweep, one a portal.
    pub sweep_now: Vec<Arc<Asked>>,
    /// The switches that ask for a verify, one a destination that can be read back.
    pub verify_now: Vec<Arc<AtomicBool>>,
    /// Their bells, by the destination's name.
    pub verify: BTreeMap<String, Arc<Bell>>,
    /// The bells of those that apply plans, by the destination's name.
    pub apply: BTreeMap<String, Arc<Bell>>,
    /// The bells of the sweeps.
    pub sweeps: Vec<Arc<Bell>>,
    /// The bells of the backfills.
    pub backfills: Vec<Arc<Bell>>,
    /// The portals, by name.
    pub portals: BTreeMap<String, Arc<Portal>>,
    /// The bells of their readers, by name.
    pub refresh: BTreeMap<String, Arc<Bell>>,
    /// Their clients, by name.
    pub absorb: BTreeMap<String, Absorb>,
}

/// Where orders are carried out.
pub struct Desk {
    /// The ledger.
    pub store: Arc<Store>,
    /// None when no daemon runs.
    pub running: Option<Running>,
}

impl Desk {
    /// Carries out one order.
    pub async fn carry_out(&self, order: Order) -> Answer {
        match self.try_to(order).await {
            Ok(done) => {
                info!("A command: {}", done.words);
                Answer::Done(done)
            }
            Err(error) => Answer::Refused { because: format!("{error:#}") },
        }
    }

    async fn try_to(&self, order: Order) -> anyhow::Result<Done> {
        match order {
            Order::Reconcile => self.reconcile(Ask::Everybody),
            Order::ReconcileChanges => self.reconcile(Ask::Changes),
            Order::Approve { run } => self.approve(run).await,
            Order::Apply { file, canary } => super::plans::apply(self, &file, canary).await,
            Order::Backfill { portal, since } => self.backfill(&portal, since).await,
            Order::PauseBackfill { portal } => self.pause_backfill(&portal).await,
            Order::Pause { destination, reason } => self.pause(&destination, &reason).await,
            Order::Resume { destination } => self.resume(&destination).await,
            Order::Rebase { destination } => self.rebase(&destination).await,
            Order::Forget { destination } => self.forget(&destination).await,
            Order::RetryDelivery { delivery } => self.retry_delivery(delivery).await,
            Order::Acknowledge { delivery, until, reason } => self.acknowledge(delivery, until, &reason).await,
            Order::RetryCause { destination, cause } => self.retry_cause(&destination, &cause).await,
            Order::Pin { destination, portal, learner, person } => {
                self.pin(&destination, &portal, &learner, &person).await
            }
            Order::Unpin { destination, portal, learner } => self.unpin(&destination, &portal, &learner).await,
            Order::Backup { file, with_keys } => self.back_up(file, with_keys).await,
            Order::Login { portal, code } => self.log_in(&portal, &code).await,
            Order::Erase { portal, learner } => self.erase(&portal, &learner).await,
        }
    }

    fn reconcile(&self, ask: Ask) -> anyhow::Result<Done> {
        let Some(running) = &self.running else {
            bail!("no daemon runs on this store, and only it reads the LMS: start `learnsync run`, then ask again");
        };
        running.sweep_now.iter().for_each(|asked| asked.ask(ask));
        running.verify_now.iter().for_each(|asked| asked.store(true, Ordering::SeqCst));
        running.sweeps.iter().chain(running.verify.values()).for_each(|bell| bell.ring());
        let who = match ask {
            Ask::Changes => "whoever changed is read again",
            Ask::Everybody => "every learner is read again",
        };
        Done::of(format!(
            "the sweep begins now: {who}, and then what the destinations hold; `learnsync runs list` tells how far that is"
        ))
    }

    async fn approve(&self, number: i64) -> anyhow::Result<Done> {
        let Some(destination) = self.store.approve_run(RunId(number)).await.context("approve the run")? else {
            bail!("no run {number} is held: `learnsync runs list` shows which are, and what became of the others");
        };
        let known = self.store.known_destinations().await.context("read the destinations")?;
        let name = known.into_iter().find(|known| known.id == destination).map(|known| known.name).unwrap_or_default();
        let running = self.running.iter();
        running
            .flat_map(|running| running.verify.get(&name).into_iter().chain(running.apply.get(&name)))
            .for_each(|bell| bell.ring());
        let when = if self.running.is_some() { "now" } else { "when `learnsync run` starts" };
        Done::of(format!("run {number} goes on {when}: what it found at {name} is put right as the policies say"))
    }

    async fn backfill(&self, portal: &str, since: Option<chrono::NaiveDate>) -> anyhow::Result<Done> {
        let (backfill, is_new) = self.store.begin_backfill(portal, since).await.context("begin the backfill")?;
        if !is_new && since.is_some() && since != backfill.progress.since {
            let known =
                backfill.progress.since.map_or_else(|| "of everything".to_owned(), |date| format!("since {date}"));
            bail!("a backfill {known} is under way at {portal}: let it end, then ask for another date");
        }
        let when = if self.running.is_some() { "now" } else { "when `learnsync run` starts" };
        self.running.iter().flat_map(|running| &running.backfills).for_each(|bell| bell.ring());
        Done::of(match is_new {
            true => format!("the backfill of {portal} begins {when}"),
            false => format!("the backfill of {portal}, begun at {}, goes on {when}", backfill.started_at),
        })
    }

    async fn pause_backfill(&self, portal: &str) -> anyhow::Result<Done> {
        if !self.store.pause_backfill(portal).await.context("hold the backfill")? {
            bail!("there is no backfill under way at {portal}");
        }
        Done::of(format!("the backfill of {portal} is held; `learnsync backfill --portal {portal}` goes on"))
    }

    async fn log_in(&self, name: &str, code: &str) -> anyhow::Result<Done> {
        let Some(running) = &self.running else {
            bail!("no daemon runs on this store: `learnsync login` does it by itself then");
        };
        let Some(absorb) = running.absorb.get(name) else {
            let names: Vec<&str> = running.absorb.keys().map(String::as_str).collect();
            bail!("{}; a new one is known after a reload", unknown("portal", name, &names));
        };
        let done = redeem(absorb, &self.store, name, code).await?;
        running.portals.get(name).into_iter().for_each(|portal| portal.wake());
        running.refresh.get(name).into_iter().for_each(|bell| bell.ring());
        running.sweeps.iter().for_each(|bell| bell.ring());
        Ok(done)
    }

    async fn pause(&self, name: &str, reason: &str) -> anyhow::Result<Done> {
        let reason = reason_of(reason)?;
        let known = self.configured(name).await?;
        // The gate first: workers that have claimed already must not call while we commit.
        if let Some(destination) = self.running(name) {
            destination.gate.close(PauseEnd::Open);
        }
        self.store.pause_by_operator(known.id, reason).await.context("keep the pause")?;
        Done::of(format!("{name} is paused; nothing is written to it until `learnsync destinations resume {name}`"))
    }

    async fn resume(&self, name: &str) -> anyhow::Result<Done> {
        let known = self.configured(name).await?;
        match (known.state.as_str(), known.pause_cause.as_deref()) {
            ("paused", Some("account_changed")) => bail!(
                "{name} is paused because its credentials lead to another account than before: if that one is right, \
                 `learnsync destinations rebase {name}` says so; else put the right credentials back"
            ),
            ("paused", _) => {}
            _ => bail!("{name} is not paused, there is nothing to resume"),
        }
        let asked_until = self.store.resume_destination(known.id).await.context("end the pause")?;
        if let Some(destination) = self.running(name) {
            destination.with_breaker(Breaker::close);
            destination.gate.open(asked_until);
        }
        self.ring(name);
        Done::of(match asked_until {
            Some(until) => format!("{name} asked us to wait until {until}: it is written to again from then on"),
            None => format!("{name} is written to again"),
        })
    }

    async fn rebase(&self, name: &str) -> anyhow::Result<Done> {
        let known = self.configured(name).await?;
        let asked_until = self.store.rebase_destination(known.id).await.context("rebase the destination")?;
        if let Some(destination) = self.running(name) {
            destination.gate.rebase(asked_until);
        }
        self.ring(name);
        Done::of(format!(
            "the account behind {name} is taken for right: who is who there, and what it holds, is looked up before anything is written"
        ))
    }

    async fn forget(&self, name: &str) -> anyhow::Result<Done> {
        let known = self.known(name).await?;
        if known.state != "retired" {
            bail!(
                "{name} is still configured, or was when the daemon last started: remove it from the configuration and restart first"
            );
        }
        let forgotten = self.store.forget_destination(known.id).await.context("forget the destination")?;
        Ok(Done {
            words: format!(
                "{name} is forgotten: {} deliveries, {} attempts, {} links; what it was given stays there",
                forgotten.deliveries, forgotten.attempts, forgotten.links
            ),
            deliveries: Some(forgotten.deliveries),
        })
    }

    async fn retry_delivery(&self, id: i64) -> anyhow::Result<Done> {
        match self.store.retry_delivery(DeliveryId(id)).await.context("retry the delivery")? {
            Retried::Due { destination } => {
                self.ring(&destination);
                Ok(Done { words: format!("delivery {id} to {destination} is tried now"), deliveries: Some(1) })
            }
            Retried::Kept { state, cause } => bail!("{}", why_kept(id, &state, cause.as_deref())),
            Retried::Unknown => {
                bail!("there is no delivery {id}: `learnsync deliveries list` shows the numbers")
            }
        }
    }

    async fn acknowledge(&self, id: i64, until: Timestamp, reason: &str) -> anyhow::Result<Done> {
        let known = Acknowledged { until, reason: reason_of(reason)?.to_owned() };
        if !self.store.acknowledge_drift(DeliveryId(id), known).await.context("keep it")? {
            bail!(
                "delivery {id} holds nothing in its target, so nothing can differ: `learnsync runs show` names those that do"
            );
        }
        Done::of(format!("that delivery {id} differs is known until {until}; then it is reported again"))
    }

    async fn retry_cause(&self, name: &str, cause: &str) -> anyhow::Result<Done> {
        let known = self.configured(name).await?;
        let count = self.store.retry_cause(known.id, cause).await.context("retry the deliveries")?;
        self.ring(name);
        Ok(Done {
            words: format!("{count} deliveries to {name} that were parked for {cause} are tried now"),
            deliveries: Some(count),
        })
    }

    async fn pin(&self, name: &str, portal: &str, learner: &str, remote: &str) -> anyhow::Result<Done> {
        if remote.trim().is_empty() {
            bail!("the person's id in {name} is empty: the target shows it, for example the employee's number");
        }
        let known = self.configured(name).await?;
        let person = self.person(portal, learner).await?;
        self.store.pin_link(known.id, person, remote.trim()).await.context("pin the link")?;
        self.ring(name);
        Done::of(format!("learner {learner} is {} in {name} from now on, whatever the rules say", remote.trim()))
    }

    async fn unpin(&self, name: &str, portal: &str, learner: &str) -> anyhow::Result<Done> {
        let known = self.configured(name).await?;
        let person = self.person(portal, learner).await?;
        if !self.store.unpin_link(known.id, person).await.context("unpin the link")? {
            bail!(
                "learner {learner} is not pinned in {name}: `learnsync links list --destination {name}` shows who is"
            );
        }
        self.ring(name);
        Done::of(format!("the rules say again who learner {learner} is in {name}; it is looked up now"))
    }

    async fn back_up(&self, file: PathBuf, with_keys: bool) -> anyhow::Result<Done> {
        let store = Arc::clone(&self.store);
        // Copying takes as long as the disk does; the workers must not wait for it.
        let copied = tokio::task::spawn_blocking(move || store.back_up(&file, with_keys)).await;
        let copied = copied.context("the copying was given up")?.with_context(|| match self.running {
            Some(_) => "copy the ledger (the daemon writes it, with its own rights: under systemd only below its StateDirectory)",
            None => "copy the ledger",
        })?;
        let ledger = copied.ledger.display();
        Done::of(match copied.keys {
            Some(keys) => format!(
                "the ledger is copied to {ledger}, its keys to {}: both are needed to restore. Keep them apart, since who has both reads \
                 everything; and of the keys only the newest, which opens every older ledger, too, but not who was erased since",
                keys.display()
            ),
            None => format!(
                "the ledger is copied to {ledger}, without its keys: to restore it, the store's own learnsync.keys is needed, or a newer copy of it"
            ),
        })
    }

    async fn erase(&self, portal: &str, learner: &str) -> anyhow::Result<Done> {
        let person = self.person(portal, learner).await?;
        match self.store.erase_person(person).await.context("erase the learner")? {
            Erased::Done(remains) => Ok(Done {
                words: format!(
                    "learner {learner} is erased: their key is destroyed, they are never read again; {}",
                    words_of(&remains)
                ),
                deliveries: Some(remains.deliveries),
            }),
            Erased::Busy => bail!("something of learner {learner} is being written just now: try again in a minute"),
            Erased::Already => bail!("learner {learner} was erased before"),
        }
    }

    /// A destination that the ledger knows, retired ones too.
    async fn known(&self, name: &str) -> anyhow::Result<KnownDestination> {
        let mut known = self.store.known_destinations().await.context("read the destinations")?;
        if let Some(at) = known.iter().position(|one| one.name == name) {
            return Ok(known.swap_remove(at));
        }
        let names: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
        bail!("{}; a new one is known after the daemon's next start", unknown("destination", name, &names))
    }

    async fn configured(&self, name: &str) -> anyhow::Result<KnownDestination> {
        let known = self.known(name).await?;
        if known.state == "retired" {
            bail!("{name} is retired: it was not configured, or wrongly, when the daemon last started");
        }
        Ok(known)
    }

    async fn person(&self, portal: &str, learner: &str) -> anyhow::Result<PersonId> {
        let found = self.store.person_of(portal, learner).await.context("look the learner up")?;
        found.with_context(|| {
            format!("learner {learner} of portal {portal} was never read: a webhook about them, or the next sweep, does that")
        })
    }

    fn running(&self, name: &str) -> Option<&Arc<Destination>> {
        self.running.as_ref()?.destinations.get(name)
    }

    fn ring(&self, name: &str) {
        if let Some(bell) = self.running.as_ref().and_then(|running| running.deliver.get(name)) {
            bell.ring();
        }
    }
}

/// Takes the code of a login by OAuth, and ends the rest of the portal that waited for it.
pub(super) async fn redeem(absorb: &Absorb, store: &Store, name: &str, code: &str) -> anyhow::Result<Done> {
    let grant = absorb.redeem(code).await.context("use the code")?;
    store.wake_portal(name).await.context("end the portal's rest")?;
    let ends_at = grant.ends_at.utc().format("%Y-%m-%d");
    Done::of(format!(
        "portal {name} is read with this login from now on; it ends on {ends_at}, and `status` tells in time"
    ))
}

/// A reason that the next operator can read.
fn reason_of(reason: &str) -> anyhow::Result<&str> {
    let reason = reason.trim();
    let length = reason.chars().count();
    if length == 0 || length > REASON_CHARS_MAX {
        bail!(
            "the reason has {length} characters, it needs 1 to {REASON_CHARS_MAX}: it is what the next operator reads"
        );
    }
    Ok(reason)
}

fn words_of(remains: &Remains) -> String {
    if remains.rows.is_empty() {
        return "no target holds anything of them".to_owned();
    }
    let rows: Vec<String> = remains.rows.iter().map(|(name, count)| format!("{count} rows in {name}")).collect();
    format!("what the targets hold stays there, and must be removed there by hand: {}", rows.join(", "))
}

fn why_kept(id: i64, state: &str, cause: Option<&str>) -> String {
    let cause = cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
    let why = match state {
        "settled" => "the target holds it, with a receipt".to_owned(),
        "sending" => "it is being written just now".to_owned(),
        "uncertain" => {
            "nobody knows whether the target took it: it is looked up first, at the time that `deliveries show` names"
                .to_owned()
        }
        "superseded" => "another record holds its place".to_owned(),
        _ => format!("it is left out on purpose{cause}"),
    };
    format!("delivery {id} is {state}, not parked: {why}")
}

/// Carries out an order on a store that no daemon has; its lock proves that.
///
/// # Errors
/// There is no store, it belongs to another user, or somebody has it.
pub async fn carry_out_alone(config: &Config, order: Order) -> anyhow::Result<Answer> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(Generator::from_os());
    refuse_strange_store(&config.store.path)?;
    let store = super::open_store(config, &clock, &entropy)?;
    Ok(Desk { store, running: None }.carry_out(order).await)
}

/// Takes the code of a login by OAuth on a store that no daemon has.
///
/// # Errors
/// There is no store, somebody has it, or the portal does not take the code.
pub async fn log_in_alone(checked: &Checked, portal: &str, code: &str) -> anyhow::Result<Done> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(Generator::from_os());
    refuse_strange_store(&checked.config.store.path)?;
    let store = super::open_store(&checked.config, &clock, &entropy)?;
    let built = checked.parts.portals.get(portal).context("find the portal")?;
    let token_key = checked.parts.token_key.clone();
    let vault = StoreVault { store: Arc::clone(&store), portal: portal.to_owned(), token_key };
    redeem(&built.lms(Arc::new(vault), &clock, &entropy), &store, portal, code).await
}

/// Makes a copy the store again; no daemon may run.
///
/// # Errors
/// As `store::restore`.
pub async fn restore(config: &Config, ledger: &Path, keys: Option<&Path>) -> anyhow::Result<Restored> {
    let open = Open {
        path: config.store.path.clone(),
        installation: config.installation.clone(),
        threading: Threading::Inline,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(Generator::from_os()),
        pages_max: None,
    };
    if open.path.join("learnsync.db").exists() {
        refuse_strange_store(&open.path)?;
    }
    crate::store::restore(open, ledger, keys).await.context("restore the copy")
}

/// A command never makes a store, and never leaves files in one that the daemon's user cannot open.
fn refuse_strange_store(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let database: PathBuf = folder.join("learnsync.db");
    let Ok(found) = std::fs::metadata(&database) else {
        bail!(
            "there is no store at {}: has `learnsync run` been started with this store.path, and may you read it?",
            folder.display()
        );
    };
    let own = std::fs::metadata("/proc/self").context("read who we are")?.uid();
    if found.uid() != own {
        bail!(
            "the store {} belongs to the user with uid {}, you are {own}: run this as that user \
             (`runuser -u learnsync -- learnsync ...`), or while the daemon runs",
            folder.display(),
            found.uid()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests;
