//! One life of the daemon: the real store, pipeline and sweep around the fakes, from its start to its stop or crash.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use chrono_tz::Tz;
use learnsync::config::{self, History, SourceConfig};
use learnsync::daemon::{
    Answer, Assembly, Bells, BuiltDestination, BuiltRoute, Desk, Order, PortalParts, Running, StoreInbox,
};
use learnsync::domain::chance::{Entropy, Generator};
use learnsync::domain::drift::Policy;
use learnsync::domain::ids::RunId;
use learnsync::domain::standing::Calendar;
use learnsync::domain::time::Clock;
use learnsync::http::Inbox;
use learnsync::lms::Lms;
use learnsync::lms::absorb::payload::Aliases;
use learnsync::mapping::Mapping;
use learnsync::pipeline::destination::Destination;
use learnsync::pipeline::telling::{QuietHours, Telling};
use learnsync::pipeline::worker::{Bell, work};
use learnsync::reconcile::schedule::Schedule;
use learnsync::reconcile::sweep::{Ask, Asked};
use learnsync::store::{Open, Store, StoreError, Threading, Witness};
use learnsync::telemetry::Metrics;
use learnsync_sdk::{Claim, Connector, MatchRule, RecordKind, RouteMode, SlotRule};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::habit::Habit;
use crate::lms::FakeLms;
use crate::target::{FakeConnector, Kind, QUIET, Target};
use crate::world::World;

/// The one portal.
pub const PORTAL: &str = "main";

/// Whose marks are ours.
pub const INSTALLATION: &str = "sim";

/// Workers look up at least this often. Longer than in the daemon: a bell that nobody rings shows.
const REST_MAX: Duration = Duration::from_secs(2 * 3_600);

/// What was achieved longer ago is not told any more, in milliseconds: an hour longer than the quiet hours.
const LATE_AFTER_MS: i64 = 6 * 3_600_000;

/// Learners that are read at once.
const READERS: usize = 3;

/// A destination as configured.
#[derive(Clone)]
pub struct Planned {
    /// The system behind it.
    pub target: Arc<Target>,
    /// What it does about what people changed in it.
    pub habit: Habit,
    /// Whether it is only looked at, and never written to.
    pub is_shadow: bool,
    /// Which old facts it wants.
    pub history: History,
    /// Where its dates are.
    pub zone: Tz,
    /// The kinds of records that it takes, each by a route of that name.
    pub records: Vec<RecordKind>,
}

impl Planned {
    /// How a route treats the target.
    #[must_use]
    pub fn mode(&self) -> RouteMode {
        match self.target.kind {
            Kind::Keyed | Kind::ReadBack | Kind::Pair => RouteMode::State,
            Kind::Append(_) => RouteMode::Append,
        }
    }

    /// Which records share a place.
    #[must_use]
    pub fn slot(&self) -> SlotRule {
        match self.target.kind {
            Kind::Pair => SlotRule::PersonCourse,
            Kind::Keyed | Kind::ReadBack | Kind::Append(_) => SlotRule::Record,
        }
    }

    /// Whether the nights read back what it holds.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.target.description().claims(Claim::ReadBack)
    }

    /// Which of two policies holds: whoever lists sees rows that a look at their place does not find.
    #[must_use]
    pub fn when_listed(&self, listed: Policy, looked_at: Policy) -> Policy {
        if self.target.description().claims(Claim::List) { listed } else { looked_at }
    }

    /// Whether its rows name reference data for records of a kind.
    #[must_use]
    pub fn has_type(&self, record: RecordKind) -> bool {
        let names = match self.target.kind {
            Kind::ReadBack | Kind::Pair => true,
            Kind::Keyed | Kind::Append(_) => false,
        };
        names && record != RecordKind::Competency
    }

    /// When what cannot be taken back is told.
    fn telling(&self) -> Telling {
        let hour = |hour: u32| format!("{hour:02}:00").parse().expect("a time of the day");
        let quiet = config::QuietHours { from: hour(QUIET.0), until: hour(QUIET.1), zone: None };
        Telling { quiet_hours: Some(QuietHours::new(&quiet, Tz::UTC)), late_after_ms: LATE_AFTER_MS, zone: self.zone }
    }

    fn built(&self, mapping_version: u32) -> anyhow::Result<BuiltDestination> {
        let connector: Arc<dyn Connector> = Arc::new(FakeConnector(Arc::clone(&self.target)));
        let mut routes = Vec::new();
        for record in &self.records {
            let path = |path: &str| SourceConfig { path: Some(path.to_owned()), ..SourceConfig::default() };
            let mut fields = BTreeMap::from([
                ("title".to_owned(), path("title")),
                ("on".to_owned(), path("achieved")),
                ("until".to_owned(), path("valid_until")),
                ("score".to_owned(), path("score")),
                ("record".to_owned(), path("key")),
            ]);
            let version = toml::Value::String(format!("m{mapping_version}"));
            fields.insert("mapping".to_owned(), SourceConfig { constant: Some(version), ..SourceConfig::default() });
            if self.has_type(*record) {
                let kind = Some("course_type".to_owned());
                fields.insert("type".to_owned(), SourceConfig { reference: kind, ..SourceConfig::default() });
            }
            let object = connector.object("row").map_err(anyhow::Error::msg)?;
            let mapping = Mapping::compile(&fields, &object, self.zone, &BTreeMap::new())
                .map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
            routes.push(BuiltRoute {
                name: record.as_str().to_owned(),
                record: *record,
                mode: self.mode(),
                slot: self.slot(),
                object: "row".to_owned(),
                mapping: Arc::new(mapping),
                drift: self.habit.policies(),
            });
        }
        Ok(BuiltDestination {
            name: self.target.name.clone(),
            description: self.target.description(),
            connector,
            history: self.history,
            match_rules: vec![MatchRule::EXTERNAL_ID],
            zone: self.zone,
            telling: self.telling(),
            routes,
            is_shadow: self.is_shadow,
            guard: self.habit.guard(),
        })
    }
}

/// How a daemon is started.
pub struct Start<'a> {
    /// The world.
    pub world: &'a Arc<World>,
    /// The LMS.
    pub lms: &'a Arc<FakeLms>,
    /// The store's folder.
    pub folder: &'a Path,
    /// The destinations.
    pub destinations: &'a [Planned],
    /// Which mapping they have.
    pub mapping_version: u32,
    /// When the nights are, as a cron expression, and where.
    pub nights: (&'a str, Tz),
    /// Seeds the daemon's own randomness.
    pub seed: u64,
}

/// A running daemon.
pub struct Life {
    /// Its ledger.
    pub store: Arc<Store>,
    /// Where webhooks go.
    pub inbox: Arc<dyn Inbox>,
    /// The destinations as the pipeline sees them.
    pub destinations: BTreeMap<String, Arc<Destination>>,
    bells: Bells,
    sweep_now: Vec<Arc<Asked>>,
    verify_now: Vec<Arc<AtomicBool>>,
    tasks: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Start<'_> {
    /// Starts it, inside its runtime.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub async fn start(&self) -> anyhow::Result<Life> {
        let clock: Arc<dyn Clock> = self.world.clock.clone();
        let entropy: Arc<dyn Entropy> = Arc::new(Generator::seeded(self.seed));
        let witness: Arc<dyn Witness> = self.world.clone();
        let store = Open {
            path: self.folder.to_owned(),
            installation: INSTALLATION.to_owned(),
            threading: Threading::Witnessed(witness),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
            pages_max: None,
        };
        let store = Arc::new(store.open().context("open the store")?);
        let metrics = Arc::new(Metrics::new());
        let built = self
            .destinations
            .iter()
            .map(|planned| planned.built(self.mapping_version))
            .collect::<Result<Vec<_>, _>>()?;
        let lms: Arc<dyn Lms> = self.lms.clone();
        let calendar = Calendar { zone: self.nights.1, ..Calendar::default() };
        let portal = PortalParts { lms, calendar, aliases: Aliases::default() };
        let assembly = Assembly {
            store: Arc::clone(&store),
            portals: BTreeMap::from([(PORTAL.to_owned(), portal)]),
            destinations: &built,
            installation: INSTALLATION,
            schedule: Schedule::parse(self.nights.0, self.nights.1).map_err(anyhow::Error::msg)?,
            readers: READERS,
            clock: Arc::clone(&clock),
            entropy,
            metrics: Arc::clone(&metrics),
        };
        let mut bells = Bells::default();
        let inbox = Arc::new(StoreInbox { store: Arc::clone(&store), intake: Arc::clone(&bells.intake), metrics });
        let assembled = assembly.assemble(&mut bells).await?;
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (step, bell) in assembled.steps {
            tasks.spawn(work(step, bell, Arc::clone(&clock), REST_MAX, stopped.clone()));
        }
        let (destinations, sweep_now, verify_now) = (assembled.destinations, assembled.sweep_now, assembled.verify_now);
        Ok(Life { store, inbox, destinations, bells, sweep_now, verify_now, tasks, stop })
    }
}

impl Life {
    /// Starts something that ends with the daemon, such as a request that it answers.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Wakes a destination's workers.
    pub fn ring(&self, destination: &str) {
        if let Some(bell) = self.bells.deliver.get(destination) {
            Bell::ring(bell);
        }
    }

    /// Asks for a sweep.
    pub fn sweep(&self) {
        self.sweep_now.iter().for_each(|asked| asked.ask(Ask::Changes));
        self.bells.sweeps.iter().for_each(|bell| bell.ring());
    }

    /// Asks for what every destination holds.
    pub fn verify(&self) {
        self.verify_now.iter().for_each(|asked| asked.store(true, Ordering::SeqCst));
        self.bells.verify.values().for_each(|bell| bell.ring());
    }

    /// Whether a verify that was asked for has not begun yet.
    #[must_use]
    pub fn is_asked_to_verify(&self) -> bool {
        self.verify_now.iter().any(|asked| asked.load(Ordering::SeqCst))
    }

    /// An operator says that a run may do what its guard holds; answers whether one was held.
    ///
    /// # Errors
    /// The store failed.
    pub async fn approve(&self, run: RunId) -> Result<bool, StoreError> {
        let destination = self.store.approve_run(run).await?;
        // As the daemon does for `learnsync approve`: whoever it is wakes, and looks.
        self.bells.verify.values().chain(self.bells.apply.values()).for_each(|bell| bell.ring());
        Ok(destination.is_some())
    }

    /// `learnsync apply`: has a plan written, or so many places of it first.
    pub async fn apply(&self, file: PathBuf, canary: Option<u64>) -> Answer {
        let bells = &self.bells;
        let running = Running {
            destinations: self.destinations.clone(),
            deliver: bells.deliver.clone(),
            sweep_now: self.sweep_now.clone(),
            verify_now: self.verify_now.clone(),
            verify: bells.verify.clone(),
            apply: bells.apply.clone(),
            sweeps: bells.sweeps.clone(),
            backfills: bells.backfills.clone(),
            portals: BTreeMap::new(),
            refresh: bells.refresh.clone(),
            absorb: BTreeMap::new(),
        };
        let desk = Desk { store: Arc::clone(&self.store), running: Some(running) };
        desk.carry_out(Order::Apply { file, canary }).await
    }

    /// Stops it as an operator does: what has begun is finished.
    pub async fn stop(mut self) {
        // The receivers are the tasks that we wait for.
        let _all_gone = self.stop.send(true);
        while self.tasks.join_next().await.is_some() {}
    }
}
