//! A play: facts and faults happen at their times while daemons live and die; then all is put right, and the checks at rest decide.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::NaiveDate;
use chrono_tz::Tz;
use learnsync::config::History;
use learnsync::domain::record::{Course, Record};
use learnsync::domain::time::{LmsTime, Timestamp};
use learnsync::store::StoreError;
use learnsync_sdk::{BlindRepeat, RecordKind};
use rand::Rng;
use rand::rngs::StdRng;

use crate::check;
use crate::clock::WorldClock;
use crate::fault::Fault;
use crate::habit::Habit;
use crate::hook::Hook;
use crate::life::{Life, Planned, Start};
use crate::lms::FakeLms;
use crate::plans::Plan;
use crate::scenario::{DAY_MS, Scenario};
use crate::target::{Kind, Target};
use crate::world::{Seen, World, lock};

/// How many courses there are.
pub const COURSES: usize = 5;

/// The kinds of facts that learners have here.
pub const KINDS: [RecordKind; 3] = [RecordKind::Completion, RecordKind::Certificate, RecordKind::Competency];

/// Milliseconds of an hour.
pub const HOUR_MS: i64 = 3_600_000;

/// The destination that some worlds have in shadow.
pub const SHADOW: &str = "shadow";

/// How often we look whether all is at rest, and how long at most, in milliseconds.
pub(crate) const LOOK_MS: i64 = 60_000;
pub(crate) const REST_WAIT_MAX_MS: i64 = 4 * DAY_MS;

/// A course's name; references have the same.
#[must_use]
pub fn course_name(number: usize) -> String {
    format!("Course {number}")
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scenario.
    pub scenario: Scenario,
    /// What was broken; empty when all is well.
    pub violations: Vec<String>,
    /// A hash over the trace: equal for equal scenarios, on any machine.
    pub hash: String,
    /// How many lines the trace had.
    pub lines: usize,
    /// The newest lines, or all.
    pub trace: Vec<String>,
    /// What it went through.
    pub seen: Seen,
}

/// Something that happens at a time.
#[derive(Clone, Debug)]
pub enum Event {
    /// A learner has a new fact.
    Fact(u64),
    /// The LMS shows a fact, whose webhook came earlier or comes on its own.
    Appears(Box<Record>),
    /// A webhook arrives.
    Hook(Hook),
    /// A fault is tried.
    Fault(Fault, u64),
    /// A fault ends.
    End(End),
    /// The operator approves what guards hold.
    Approval,
    /// The operator plans what a changed mapping changes in what was written, and applies it.
    Planning(u64),
    /// What is left of a plan is applied.
    Applying(Box<Plan>),
    /// Somebody compares the ledger with what was announced.
    Heard,
}

/// How faults end that last.
#[derive(Clone, Debug)]
pub enum End {
    /// The admin role sees everybody again.
    RoleSeesAll,
    /// A person is hired.
    Hired(String, String),
    /// A person is there once.
    OneAgain(String, String),
    /// A course has its reference.
    Listed(String, String),
    /// A place works again.
    Uncursed(String),
    /// There is room on the disk.
    DiskFree,
    /// An operator resumes a destination.
    Resumed(String),
    /// An operator confirms another account.
    Rebased(String),
    /// An operator asks again for a pin.
    Pinned(Pin),
    /// A backup is restored.
    Restored(Box<Backup>),
}

/// A copy of the ledger, and what the world knew when it was made.
#[derive(Clone)]
pub struct Backup {
    pub(crate) path: PathBuf,
    made_ms: i64,
    acked: Vec<Acked>,
    pins: Vec<Pin>,
    accounts: BTreeMap<String, u32>,
    paused: BTreeSet<String>,
}

impl std::fmt::Debug for Backup {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Backup({})", self.acked.len())
    }
}

/// A webhook that was answered 2xx.
#[derive(Clone, Debug)]
pub struct Acked {
    /// Its number in the log.
    pub id: i64,
    /// When it was answered.
    pub at_ms: i64,
    /// Whether the LMS's own repeats of it can be recognised.
    pub is_correlated: bool,
    /// Whose fact it announced; none for a forged one.
    pub learner: Option<String>,
}

/// Why a life ended.
pub(crate) enum LifeEnd {
    Crashed,
    /// Stopped by an operator, who does something before the next start.
    Stopped(BeforeStart),
    Over,
}

/// What an operator does between two lives.
pub(crate) enum BeforeStart {
    Nothing,
    Restore(Box<Backup>),
}

/// A decision of an operator about who somebody is.
#[derive(Clone, Debug)]
pub struct Pin {
    pub(crate) destination: String,
    pub(crate) learner: String,
    pub(crate) person: String,
}

/// Where a play is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Plays,
    /// Faults have stopped; webhooks alone must have brought what they announced.
    Settles,
    /// The operator has cleaned up and restarted; one undisturbed sweep is left.
    Sweeps,
}

/// A play under way.
pub struct Play {
    pub(crate) scenario: Scenario,
    pub(crate) world: Arc<World>,
    pub(crate) lms: Arc<FakeLms>,
    pub(crate) destinations: Vec<Planned>,
    pub(crate) acked: Arc<Mutex<Vec<Acked>>>,
    /// Whom an operator pinned to whom, oldest first.
    pub(crate) pins: Vec<Pin>,
    /// When a backup was last restored.
    pub(crate) restored_ms: Option<i64>,
    pub(crate) mapping_version: u32,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) chance: StdRng,
    pub(crate) hook_faults: Vec<Fault>,
    pub(crate) operator_paused: BTreeSet<String>,
    pub(crate) swapped: BTreeSet<String>,
    agenda: BTreeMap<(i64, u64), Event>,
    sequence: u64,
    next_id: u64,
    lives: u64,
    phase: Phase,
    ends_ms: i64,
}

/// Runs a scenario; `keeps_trace` keeps every line of it.
#[must_use]
pub fn run(scenario: &Scenario, keeps_trace: bool) -> Report {
    let mut play = Play::new(scenario.clone(), keeps_trace);
    loop {
        match play.live() {
            LifeEnd::Over => break,
            LifeEnd::Crashed => {
                play.world.clock.pass_ms(play.world.draw(500..600_000));
                play.lms.forgives();
                play.destinations.iter().for_each(|planned| planned.target.forgives());
            }
            LifeEnd::Stopped(before) => {
                play.world.clock.pass_ms(play.world.draw(500..20_000));
                play.before_start(before);
            }
        }
    }
    let (hash, lines) = play.world.trace().digest();
    Report {
        scenario: play.scenario.clone(),
        violations: play.world.violations(),
        hash,
        lines,
        trace: play.world.trace().lines(),
        seen: play.world.seen(),
    }
}

fn person_of(pins: &[Pin], destination: &str, learner: &str) -> Option<String> {
    let of_learner = |pin: &&Pin| pin.destination == destination && pin.learner == learner;
    pins.iter().rev().find(of_learner).map(|pin| pin.person.clone())
}

/// A folder in memory where there is one: a simulated disk needs no real one.
fn folder() -> tempfile::TempDir {
    let in_memory = std::path::Path::new("/dev/shm");
    let made = if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() };
    made.expect("a folder for the store")
}

impl Play {
    fn new(scenario: Scenario, keeps_trace: bool) -> Self {
        let world = World::new(WorldClock::starting_at(scenario.begins_ms()), scenario.stream("world"), keeps_trace);
        let lms = FakeLms::new(&world);
        let blind = if scenario.seed.is_multiple_of(2) { BlindRepeat::MayLose } else { BlindRepeat::MayRepeat };
        let planned = |name: &str, kind, zone, records: &[RecordKind]| Planned {
            target: Target::new(name, kind, &world),
            habit: Habit::of(&scenario, name),
            is_shadow: name == SHADOW,
            history: History::All,
            zone,
            records: records.to_vec(),
        };
        use RecordKind::{Certificate, Competency, Completion};
        let mut destinations = vec![
            planned("keyed", Kind::Keyed, Tz::Pacific__Auckland, &[Completion, Certificate, Competency]),
            planned("listed", Kind::ReadBack, Tz::America__New_York, &[Completion, Certificate]),
            planned("pair", Kind::Pair, Tz::UTC, &[Completion]),
            planned("told", Kind::Append(blind), Tz::UTC, &[Certificate, Completion]),
        ];
        if scenario.seed % 4 == 1 {
            destinations.push(planned(SHADOW, Kind::ReadBack, Tz::UTC, &[Completion, Certificate]));
        }
        let ends_ms = scenario.begins_ms() + scenario.span_ms();
        let chance = scenario.stream("play");
        let mut play = Self {
            scenario,
            world,
            lms,
            destinations,
            acked: Arc::default(),
            pins: Vec::new(),
            restored_ms: None,
            mapping_version: 1,
            folder: folder(),
            chance,
            hook_faults: Vec::new(),
            operator_paused: BTreeSet::new(),
            swapped: BTreeSet::new(),
            agenda: BTreeMap::new(),
            sequence: 0,
            next_id: 1,
            lives: 0,
            phase: Phase::Plays,
            ends_ms,
        };
        play.write_agenda();
        play
    }

    /// Decides when facts happen and faults are tried.
    fn write_agenda(&mut self) {
        let begins = self.scenario.begins_ms();
        let span = self.scenario.span_ms();
        for number in 1..=self.scenario.learners {
            let learner = self.lms.enlist(number, false);
            for _ in 0..self.chance.random_range(0..4) {
                let before_ms = self.chance.random_range(0..200 * DAY_MS);
                let record = self.new_record(&learner, begins - before_ms);
                self.lms.change(&learner, |facts| {
                    facts.insert(record.key(), record);
                });
            }
        }
        let facts = self.scenario.learners as u64 * u64::from(self.scenario.days) * 3 / 2;
        for _ in 0..facts {
            let at = begins + self.chance.random_range(HOUR_MS / 2..span);
            let pick = self.chance.random();
            self.plan(at, Event::Fact(pick));
        }
        // Some operators look often what is held, some never.
        let mut chance = self.scenario.stream("approvals");
        for _ in 0..chance.random_range(0..=4) {
            self.plan(begins + chance.random_range(HOUR_MS..span), Event::Approval);
        }
        for fault in self.scenario.faults.clone() {
            let mut chance = self.scenario.stream(&fault.to_string());
            let tries = chance.random_range(1..=fault.tries_max());
            for _ in 0..tries {
                // The last hours are left for what lasts, and for what needs a next fact to show.
                let at = match fault {
                    Fault::DaylightSaving => begins + DAY_MS,
                    _ => begins + chance.random_range(HOUR_MS..span - 5 * HOUR_MS),
                };
                let pick = chance.random();
                self.plan(at, Event::Fault(fault, pick));
            }
        }
    }

    /// Copies the ledger, and what the world knows.
    pub(crate) fn back_up(&self, life: &Life) -> Option<Backup> {
        let path = self.folder.path().with_extension(format!("backup{}", self.now()));
        if let Err(error) = life.store.backup(&path) {
            self.world.say(&format!("no backup: {error}"));
            return None;
        }
        let accounts = self.destinations.iter().map(|planned| (planned.target.name.clone(), planned.target.trusts()));
        let made_ms = self.now();
        Some(Backup {
            path,
            made_ms,
            acked: lock(&self.acked).clone(),
            pins: self.pins.clone(),
            accounts: accounts.collect(),
            paused: self.operator_paused.clone(),
        })
    }

    /// What an operator does when an old ledger was put back: what it cannot know is undone by hand.
    pub(crate) fn go_back_to(&mut self, backup: Backup) {
        // What was answered since is not in that ledger: that is what the operator chose.
        *lock(&self.acked) = backup.acked;
        // No target can be asked for rows under people whom nobody names: they go to whom the old ledger knows.
        let before = std::mem::replace(&mut self.pins, backup.pins);
        let pinned: BTreeSet<(String, String)> =
            before.iter().chain(&self.pins).map(|pin| (pin.destination.clone(), pin.learner.clone())).collect();
        for (destination, learner) in pinned {
            let target = self.named(&destination);
            if backup.accounts.get(&destination).is_some_and(|knew| *knew != target.account()) {
                // In another account they all have other ids: the links are forgotten when it is confirmed.
                continue;
            }
            let external_id = self.lms.profile(&learner).and_then(|profile| profile.external_id).unwrap_or_default();
            let natural = target.person_of(&external_id);
            let of = |pins: &[Pin]| person_of(pins, &destination, &learner).unwrap_or_else(|| natural.clone());
            target.moves_back(&of(&before), &of(&self.pins));
        }
        // Nor for rows that were made since, under somebody who was merged since.
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        for learner in self.lms.everybody() {
            owners.extend(self.lms.facts(&learner).into_keys().map(|key| (key, learner.clone())));
        }
        for planned in &self.destinations {
            let target = &planned.target;
            target.forgives_all();
            target.moves_made_since(backup.made_ms, |mark| {
                let learner = owners.get(mark.trim_start_matches("learnsync:sim:"))?;
                let external_id = self.lms.profile(learner)?.external_id?;
                if backup.accounts.get(&target.name) != Some(&target.account()) {
                    return Some(target.person_of(&external_id));
                }
                Some(self.person(&target.name, learner).unwrap_or_else(|| target.person_of(&external_id)))
            });
        }
        self.lms.forgives_all();
        let knows = check::accounts(self.folder.path());
        // An account that was confirmed since is one that the old ledger does not know.
        for planned in self.destinations.clone() {
            let name = planned.target.name.clone();
            let knew = knows.get(&name).copied();
            if knew.is_some_and(|account| planned.target.is_distrusted_by(account)) && self.swapped.insert(name.clone())
            {
                let at = self.now() + self.world.draw(HOUR_MS..8 * HOUR_MS);
                self.plan(at, Event::End(End::Rebased(name)));
            }
            planned.target.forgets_mapping(None);
        }
        // An operator's pause is part of the ledger.
        self.operator_paused = backup.paused;
        for planned in &self.destinations {
            planned.target.is_paused_by_operator(self.operator_paused.contains(&planned.target.name));
        }
        self.restored_ms = Some(self.now());
    }

    /// The person in a target whose fact stands behind a mark, by the rules.
    pub(crate) fn owner_of(&self, mark: &str, target: &Target) -> Option<String> {
        let key = mark.trim_start_matches("learnsync:sim:");
        let learner = self.lms.everybody().into_iter().find(|learner| self.lms.facts(learner).contains_key(key))?;
        Some(target.person_of(&self.lms.profile(&learner)?.external_id?))
    }

    /// The person whom an operator pinned a learner to.
    pub(crate) fn person(&self, destination: &str, learner: &str) -> Option<String> {
        person_of(&self.pins, destination, learner)
    }

    /// Something will happen.
    pub(crate) fn plan(&mut self, at_ms: i64, event: Event) {
        self.sequence += 1;
        self.agenda.insert((at_ms, self.sequence), event);
    }

    /// True time.
    pub(crate) fn now(&self) -> i64 {
        self.world.clock.true_ms()
    }

    /// A fact as the LMS would hold it.
    pub(crate) fn new_record(&mut self, learner: &str, at_ms: i64) -> Record {
        let number = self.next_id;
        self.next_id += 1;
        let kind = KINDS[self.chance.random_range(0..KINDS.len())];
        let course = self.chance.random_range(0..COURSES);
        let name = course_name(course);
        let date = |ms: i64| -> Option<NaiveDate> { Some(Timestamp(ms).utc().date_naive()) };
        let achieved = match kind {
            // What is odd in a few records: no date, or a text that no target takes.
            _ if self.chance.random_ratio(1, 25) => None,
            RecordKind::Certificate => date(at_ms).map(LmsTime::Date),
            _ => Some(LmsTime::Instant(Timestamp(at_ms))),
        };
        let title = if self.chance.random_ratio(1, 25) { name.repeat(8) } else { name.clone() };
        let years = self.chance.random_range(1..4);
        Record {
            title,
            achieved,
            valid_until: (kind == RecordKind::Certificate)
                .then(|| date(at_ms + years * 365 * DAY_MS))
                .flatten()
                .map(LmsTime::Date),
            course: (kind != RecordKind::Competency).then(|| Course {
                id: format!("k{course}"),
                name,
                external_id: None,
            }),
            score: Some(f64::from(self.chance.random_range(50_u8..=100))),
            ..Record::new(kind, format!("{}{number}", &kind.as_str()[..2]), learner.to_owned())
        }
    }

    /// One life of the daemon, in a runtime of its own: whatever it left in memory is gone with it.
    fn live(&mut self) -> LifeEnd {
        self.lives += 1;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime can be built");
        let end = runtime.block_on(async {
            self.world.clock.life_begins();
            self.world.revive();
            let end = self.live_inside().await;
            self.world.clock.life_ends();
            end
        });
        drop(runtime);
        check::audited(self);
        end
    }

    async fn live_inside(&mut self) -> LifeEnd {
        self.world.say(&format!("life {} begins", self.lives));
        let world = Arc::clone(&self.world);
        let mut life = tokio::select! {
            biased;
            () = world.crashed() => return LifeEnd::Crashed,
            started = self.start() => match started {
                Ok(life) => life,
                Err(error) => {
                    self.world.violated("the daemon starts", &format!("{error:#}"));
                    return LifeEnd::Over;
                }
            },
        };
        loop {
            if world.is_beyond_repair() {
                return LifeEnd::Over;
            }
            let next = self.agenda.first_key_value().map_or(i64::MAX, |((at, _), _)| *at);
            if self.phase == Phase::Plays && next >= self.ends_ms {
                self.stop_faults();
                self.phase = Phase::Settles;
            }
            if self.phase != Phase::Plays {
                return self.wind_up(life).await;
            }
            let wait = Duration::from_millis(u64::try_from(next - self.now()).unwrap_or(0));
            tokio::select! {
                biased;
                () = world.crashed() => return LifeEnd::Crashed,
                () = tokio::time::sleep(wait) => {}
            }
            let Some((_, event)) = self.agenda.pop_first() else { continue };
            // An operator's command may meet the crash, too.
            let end = tokio::select! {
                biased;
                () = world.crashed() => return LifeEnd::Crashed,
                end = self.happen(event, &mut life) => end,
            };
            if let Some(before) = end {
                tokio::select! {
                    biased;
                    () = world.crashed() => return LifeEnd::Crashed,
                    () = life.stop() => return LifeEnd::Stopped(before),
                }
            }
        }
    }

    async fn start(&self) -> anyhow::Result<Life> {
        // In every third world there are no nights: webhooks alone must bring what they announce.
        let nights = if self.scenario.seed.is_multiple_of(3) { "0 0 1 1 *" } else { "15 2 * * *" };
        let start = Start {
            world: &self.world,
            lms: &self.lms,
            folder: self.folder.path(),
            destinations: &self.destinations,
            mapping_version: self.mapping_version,
            nights: (nights, self.scenario.zone()),
            seed: self.scenario.seed.wrapping_mul(1_000) + self.lives,
        };
        start.start().await
    }

    /// One event, and now and then a look at the states; answers whether the daemon is to be stopped, and what is done before it starts again.
    async fn happen(&mut self, event: Event, life: &mut Life) -> Option<BeforeStart> {
        if self.sequence.is_multiple_of(8) {
            check::notice(self);
        }
        self.sequence += 1;
        match event {
            Event::Fact(pick) => {
                let everybody = self.lms.everybody();
                let learner = &everybody[usize::try_from(pick).unwrap_or(0) % everybody.len()];
                self.learns(learner);
            }
            Event::Appears(record) => {
                self.world.say(&format!("fact {} of {}", record.key(), record.learner_id));
                self.lms.change(&record.learner_id, |facts| {
                    facts.insert(record.key(), (*record).clone());
                });
            }
            Event::Hook(hook) => self.send(hook, life),
            Event::Fault(fault, pick) => return self.disturb(fault, pick, life).await,
            Event::End(end) => return self.end(end, life).await,
            Event::Approval => {
                if self.approve(life).await.is_err() || self.approve_plans(life).await.is_err() {
                    self.world.say("the operator could not approve");
                }
            }
            Event::Planning(pick) => {
                if let Some((at, rest)) = self.plan_mapping(pick, life).await {
                    self.plan(at, Event::Applying(Box::new(rest)));
                }
            }
            Event::Applying(plan) => self.apply_rest(&plan, life).await,
            Event::Heard if check::has_read_all(self.folder.path()) => {
                self.world.reached("heard", "during the play");
                check::heard(self);
            }
            // It is looked again at the end.
            Event::Heard => {}
        }
        None
    }

    /// A learner has two new facts of one kind, so close together that the second comes while the first is read.
    pub(crate) fn learns_twice(&mut self, learner: &str) {
        let now = self.now();
        let first = self.new_record(learner, now);
        let mut second = self.new_record(learner, now);
        second.kind = first.kind;
        second.achieved = first.achieved;
        second.id = format!("{}{}", &first.kind.as_str()[..2], self.next_id - 1);
        for (record, after_ms) in [(first, 0), (second, self.chance.random_range(200..2_500))] {
            let correlation = Some(self.next_id * 1_000 + u64::from(after_ms > 0));
            let hook = Hook::of_fact(learner, record.kind, correlation);
            self.plan(now + after_ms, Event::Appears(Box::new(record)));
            self.plan(now + after_ms + 50, Event::Hook(hook));
        }
    }

    /// A learner has a new fact now, and the LMS announces it.
    pub(crate) fn learns(&mut self, learner: &str) {
        let now = self.now();
        let record = self.new_record(learner, now);
        let mut shown_ms = now;
        let mut hook_ms = now + self.chance.random_range(500..4_000);
        let correlation = self.chance.random_ratio(2, 3).then_some(self.next_id);
        let hook = Hook::of_fact(learner, record.kind, correlation);
        let mut copies = 0;
        if let Some(fault) = self.hook_faults.pop() {
            self.world.fired(fault, &record.key());
            match fault {
                Fault::HookLost => hook_ms = i64::MAX,
                Fault::HookRepeated => copies = self.chance.random_range(1..=3),
                Fault::HookDelayed => hook_ms += self.chance.random_range(60_000..2 * HOUR_MS),
                Fault::HookReordered => hook_ms += self.chance.random_range(1_000..60_000),
                _ => shown_ms = hook_ms + self.chance.random_range(1_000..700_000),
            }
        }
        if hook_ms < i64::MAX {
            self.plan(hook_ms, Event::Hook(hook.clone()));
            for _ in 0..copies {
                let again_ms = hook_ms + self.chance.random_range(1..20 * 60_000);
                self.plan(again_ms, Event::Hook(hook.clone()));
            }
        }
        self.plan(shown_ms, Event::Appears(Box::new(record)));
    }

    /// A webhook arrives. While no daemon runs none does: Absorb promises no second try.
    pub(crate) fn send(&self, hook: Hook, life: &mut Life) {
        let inbox = Arc::clone(&life.inbox);
        let world = Arc::clone(&self.world);
        let acked = Arc::clone(&self.acked);
        life.spawn(async move {
            match inbox.append_event(hook.raw()).await {
                Ok(id) => {
                    world.say(&format!("answered 200 to webhook {id}"));
                    let (at_ms, is_correlated) = (world.clock.true_ms(), hook.is_correlated);
                    lock(&acked).push(Acked { id, at_ms, is_correlated, learner: hook.learner });
                }
                Err(error) => world.say(&format!("answered 503 to a webhook: {error}")),
            }
        });
    }

    /// Faults stop; what was under way ends at once.
    fn stop_faults(&mut self) {
        self.world.say("faults stop");
        self.world.disarm_crash();
        self.hook_faults.clear();
        self.lms.behave();
        for planned in &self.destinations {
            planned.target.behaves();
        }
        self.remove_copies();
    }

    /// The operator removes what somebody copied, or moved to where nobody looked for it.
    fn remove_copies(&self) {
        self.destinations.iter().for_each(|planned| planned.target.removes_copies());
    }

    /// The end of the play, in this life or in the next.
    async fn wind_up(&mut self, mut life: Life) -> LifeEnd {
        if self.phase == Phase::Settles {
            while let Some((_, event)) = self.agenda.pop_first() {
                match event {
                    Event::Fault(..)
                    | Event::Fact(_)
                    | Event::End(End::Restored(..))
                    | Event::Heard
                    | Event::Planning(_)
                    | Event::Applying(_)
                    | Event::Approval => {}
                    Event::Appears(_) | Event::Hook(_) | Event::End(_) => {
                        let _no_restart = self.happen(event, &mut life).await;
                    }
                }
            }
            for name in std::mem::take(&mut self.operator_paused) {
                let _no_restart = self.end(End::Resumed(name), &mut life).await;
            }
            for name in std::mem::take(&mut self.swapped) {
                let _no_restart = self.end(End::Rebased(name), &mut life).await;
            }
            if self.rests(&life).await {
                check::heard(self);
            }
            // The operator says that the reasons are gone, and restarts for good measure.
            for (name, destination) in life.destinations.clone() {
                for cause in ["rejected", "poison", "duplicated"] {
                    self.named(&name).forgets_mapping(None);
                    if let Err(error) = life.store.retry_cause(destination.id, cause).await {
                        self.world.violated("the operator can retry", &error.to_string());
                    }
                }
                life.ring(&name);
            }
            self.rests(&life).await;
            self.remove_copies();
            self.phase = Phase::Sweeps;
            life.stop().await;
            return LifeEnd::Stopped(BeforeStart::Nothing);
        }
        if self.rests(&life).await {
            self.apply_all(&life).await;
        }
        life.sweep();
        if self.rests(&life).await && self.verifies(&life).await {
            check::at_rest(self);
        }
        life.stop().await;
        LifeEnd::Over
    }

    /// Reads back what every destination holds, twice: the first time puts right what people changed, the second finds nothing more to write.
    async fn verifies(&self, life: &Life) -> bool {
        for _ in 0..2 {
            life.verify();
            if !self.ends_verify(life).await || !self.rests(life).await {
                return false;
            }
        }
        true
    }

    /// The operator approves all that is held.
    async fn approve(&self, life: &Life) -> Result<(), StoreError> {
        for destination in life.destinations.values() {
            let run = life.store.verify_under_way(destination.id).await?;
            if let Some(run) = run.filter(|run| run.held.is_some())
                && life.approve(run.id).await?
            {
                self.world.say(&format!("the operator approves run {} at {}", run.id, destination.name));
                self.world.reached("run", "approved during the play");
            }
        }
        Ok(())
    }

    /// Waits until no verify is under way; the operator approves what a guard holds.
    async fn ends_verify(&self, life: &Life) -> bool {
        let give_up = self.now() + REST_WAIT_MAX_MS;
        loop {
            tokio::time::sleep(Duration::from_millis(LOOK_MS.unsigned_abs())).await;
            let mut waits = life.is_asked_to_verify().then(|| "one does not begin".to_owned());
            for destination in life.destinations.values() {
                let run = match life.store.verify_under_way(destination.id).await {
                    Ok(Some(run)) => run,
                    Ok(None) => continue,
                    Err(error) => {
                        self.world.violated("every verify ends", &error.to_string());
                        return false;
                    }
                };
                waits = Some(format!("{} {:?} {:?}", destination.name, run.held, run.progress));
                if run.held.is_some()
                    && let Err(error) = life.approve(run.id).await
                {
                    self.world.violated("the operator can approve", &error.to_string());
                }
            }
            let Some(waits) = waits else { return true };
            if self.world.is_beyond_repair() {
                return false;
            }
            if self.now() >= give_up {
                self.world.violated("every verify ends", &waits);
                return false;
            }
        }
    }

    /// Waits until nothing waits; whatever waits for ever is a violation.
    async fn rests(&self, life: &Life) -> bool {
        let give_up = self.now() + REST_WAIT_MAX_MS;
        loop {
            tokio::time::sleep(Duration::from_millis(LOOK_MS.unsigned_abs())).await;
            if self.world.is_beyond_repair() {
                return false;
            }
            match life.store.is_idle().await {
                Ok(true) => return true,
                // What waits for a destination in shadow waits until it is live.
                Ok(false) if check::what_waits(self.folder.path()).is_empty() => return true,
                Ok(false) if self.now() < give_up => {}
                Ok(false) => {
                    self.world.violated("all comes to rest", &check::what_waits(self.folder.path()));
                    return false;
                }
                Err(error) => {
                    self.world.violated("all comes to rest", &error.to_string());
                    return false;
                }
            }
        }
    }
}
