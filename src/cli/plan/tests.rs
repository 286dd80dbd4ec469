//! A plan against what follows from it: apply does exactly what the plan says, and nothing that is no longer true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono_tz::Tz;
use learnsync_sdk::{Fields, MatchRule, RecordKind, RouteMode, SlotRule};

use super::*;
use crate::config::{GuardConfig, History, SourceConfig};
use crate::daemon::{Answer, BuiltRoute, Desk, Running};
use crate::domain::drift::Policies;
use crate::domain::plan_file::PlanLine;
use crate::domain::record::Record;
use crate::mapping::Mapping;
use crate::pipeline::destination::Destination;
use crate::pipeline::worker::{Turn, Work};
use crate::reconcile::apply::Apply;
use crate::reconcile::tests::shelf::{HOUR_MS, LISTS, OURS, Shelf, World, completion, slot, world};

/// A world after its first day, and a changed mapping that is configured by now.
struct Changed {
    world: World,
    built: BuiltDestination,
    destination: Arc<Destination>,
}

fn path(path: &str) -> SourceConfig {
    SourceConfig { path: Some(path.to_owned()), ..SourceConfig::default() }
}

async fn changed(learners: u32, each: u32, fields: &[(&str, SourceConfig)]) -> Changed {
    let mut world = world(LISTS, Policies::default()).await;
    world.read(0..learners, |learner| (0..each).map(|number| completion(learner, number)).collect()).await;
    world.deliver().await;
    let connector: Arc<dyn learnsync_sdk::Connector> = Arc::new(Shelf(Arc::clone(&world.rows)));
    let object = connector.object("training").expect("an object");
    let fields = fields.iter().map(|(name, source)| ((*name).to_owned(), source.clone())).collect();
    let mapping = Arc::new(Mapping::compile(&fields, &object, Tz::UTC, &BTreeMap::new()).expect("a mapping"));
    let route = BuiltRoute {
        name: "done".to_owned(),
        record: RecordKind::Completion,
        mode: RouteMode::State,
        slot: SlotRule::Record,
        object: "training".to_owned(),
        mapping,
        drift: Policies::default(),
    };
    let built = BuiltDestination {
        name: "hr".to_owned(),
        description: world.destination.description.clone(),
        connector,
        history: History::All,
        match_rules: vec![MatchRule::EXTERNAL_ID],
        zone: Tz::UTC,
        telling: world.destination.telling.clone(),
        routes: vec![route],
        is_shadow: false,
        guard: GuardConfig::default(),
    };
    let topology = world.store.sync_topology(vec![built.spec()]).await.expect("keeps the destinations");
    let destination = Arc::new(built.ready(&topology.destinations["hr"], "test"));
    world.destination = Arc::clone(&destination);
    world.rows().log.clear();
    world.clock.later(HOUR_MS);
    Changed { world, built, destination }
}

impl Changed {
    fn options(&self, name: &str, observe: bool) -> Options {
        Options {
            with: WithConfig { config: PathBuf::from("learnsync.toml") },
            destination: None,
            mapping: None,
            observe,
            out: Some(self.world.folder.path().join(name)),
            json: false,
        }
    }

    async fn plan(&self, name: &str) -> PlanReport {
        self.plan_by(&self.options(name, false)).await
    }

    async fn plan_by(&self, options: &Options) -> PlanReport {
        let mut view = View::open(self.world.folder.path()).expect("the store can be looked into");
        plan(&mut view, &self.built, options).await.unwrap_or_else(|_| panic!("a plan is made"))
    }

    fn lines(&self, name: &str) -> Vec<PlanLine> {
        let text = std::fs::read_to_string(self.world.folder.path().join(name)).expect("there is a plan");
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// `learnsync apply`, and all that follows from it; answers what was said, or why not.
    async fn apply(&self, name: &str, canary: Option<u64>) -> Result<String, String> {
        let words = self.begin(name, canary).await?;
        self.settle().await;
        Ok(words)
    }

    async fn begin(&self, name: &str, canary: Option<u64>) -> Result<String, String> {
        let running = Running {
            destinations: BTreeMap::from([("hr".to_owned(), Arc::clone(&self.destination))]),
            deliver: BTreeMap::new(),
            sweep_now: Vec::new(),
            verify_now: Vec::new(),
            verify: BTreeMap::new(),
            apply: BTreeMap::new(),
            sweeps: Vec::new(),
            backfills: Vec::new(),
            portals: BTreeMap::new(),
            refresh: BTreeMap::new(),
            absorb: BTreeMap::new(),
        };
        let desk = Desk { store: Arc::clone(&self.world.store), running: Some(running) };
        let order = Order::Apply { file: self.world.folder.path().join(name), canary };
        match desk.carry_out(order).await {
            Answer::Done(done) => Ok(done.words),
            Answer::Refused { because } => Err(because),
        }
    }

    fn step(&self) -> Apply {
        Apply {
            destination: Arc::clone(&self.destination),
            store: Arc::clone(&self.world.store),
            clock: self.world.clock.clone(),
            deliver: Arc::default(),
        }
    }

    async fn settle(&self) {
        loop {
            match self.step().run_once().await.expect("the store works") {
                Turn::Worked => self.world.deliver().await,
                Turn::Rest(Some(_)) => {
                    self.world.clock.later(1_000);
                    self.world.deliver().await;
                }
                Turn::Rest(None) => return,
            }
        }
    }

    /// What the target was sent, as the plan names it.
    fn sent(&self) -> Vec<(String, Fields)> {
        let log = self.world.rows().log.clone();
        log.into_iter().map(|(mark, fields)| (mark.trim_start_matches(OURS).to_owned(), fields)).collect()
    }

    async fn run_state(&self) -> (String, Option<String>) {
        let mut view = View::open(self.world.folder.path()).expect("the store can be looked into");
        let run = view.list_runs(None, 1).expect("lists").runs.remove(0);
        (run.state, run.cause)
    }
}

fn planned(lines: &[PlanLine]) -> Vec<(String, Fields)> {
    lines.iter().map(|line| (line.record.clone(), line.sends.clone())).collect()
}

fn longer_titles() -> [(&'static str, SourceConfig); 4] {
    let title = SourceConfig { template: Some("{{ title }} (LMS)".to_owned()), ..SourceConfig::default() };
    [("title", title), ("completed", path("achieved")), ("expires", path("valid_until")), ("score", path("score"))]
}

#[tokio::test]
async fn apply_does_line_by_line_what_the_plan_says_and_then_there_is_nothing_left_to_plan() {
    let changed = changed(60, 3, &longer_titles()).await;
    let report = changed.plan("hr.plan").await;
    assert_eq!((report.changes, report.unchanged, report.calls), (180, 0, 2));
    assert_eq!((report.fields[0].field.as_str(), report.fields[0].places), ("title", 180));
    assert_eq!(
        report.fields[0].samples[0].to,
        format!("{} (LMS)", report.fields[0].samples[0].from.clone().expect("is known"))
    );
    assert_eq!(changed.sent(), [], "planning writes nothing");
    let lines = changed.lines("hr.plan");
    assert_eq!(lines.len(), 180);
    assert_eq!(lines[0].changes.keys().collect::<Vec<_>>(), ["title"]);
    let words = changed.apply("hr.plan", None).await.expect("is applied");
    assert!(words.contains("writes 180 of 180 places to hr"), "{words}");
    assert_eq!(changed.sent(), planned(&lines));
    let (state, cause) = changed.run_state().await;
    assert_eq!((state.as_str(), cause), ("done", None));
    let next = changed.plan("next.plan").await;
    assert_eq!((next.changes, next.unchanged, next.file), (0, 180, None));
    assert!(!changed.world.folder.path().join("next.plan").exists(), "nothing would change: there is no plan");
    let again = changed.apply("hr.plan", None).await.expect_err("is refused");
    assert!(again.contains("was applied already, or given up, by run"), "{again}");
}

#[tokio::test]
async fn a_canary_writes_the_first_places_and_the_same_file_the_others() {
    let changed = changed(20, 2, &longer_titles()).await;
    changed.plan("hr.plan").await;
    let lines = changed.lines("hr.plan");
    changed.apply("hr.plan", Some(5)).await.expect("begins");
    assert_eq!(changed.sent(), planned(&lines[..5]));
    let (state, cause) = changed.run_state().await;
    assert_eq!(state, "paused");
    assert!(cause.expect("says why").contains("5 of 40 places"));
    changed.apply("hr.plan", Some(3)).await.expect("goes on");
    assert_eq!(changed.sent(), planned(&lines[..8]));
    let words = changed.apply("hr.plan", None).await.expect("goes on");
    assert!(words.contains("the 32 places that are left"), "{words}");
    assert_eq!(changed.sent(), planned(&lines));
}

#[tokio::test]
async fn a_plan_that_was_edited_is_stale_or_is_for_another_mapping_is_refused_and_nothing_is_written() {
    let changed = changed(10, 1, &longer_titles()).await;
    changed.plan("hr.plan").await;
    let file = |name: &str| changed.world.folder.path().join(name);
    let text = std::fs::read_to_string(file("hr.plan")).expect("is there");
    let check = async |name: &str, text: String, words: &str| {
        std::fs::write(file(name), text).expect("writes");
        let because = changed.apply(name, None).await.expect_err("is refused");
        assert!(because.contains(words), "{because}");
    };
    check("edited.plan", text.replace("(LMS)", "(HR)"), "was edited").await;
    let without_last_place: Vec<&str> =
        text.lines().enumerate().filter(|(number, _)| *number != 10).map(|(_, line)| line).collect();
    check("cut.plan", without_last_place.join("\n"), "was edited").await;
    check("half.plan", text.lines().take(5).collect::<Vec<_>>().join("\n"), "it has no seal").await;
    check("more.plan", format!("{text}{}", text.lines().nth(1).expect("a place")), "stands behind the seal").await;
    check("empty.plan", String::new(), "it is empty").await;
    // The LMS corrects a fact after the plan was made.
    let corrected = |learner: u32| vec![Record { score: Some(99.5), ..completion(learner, 0) }];
    changed.world.read(7..8, corrected).await;
    changed.world.deliver().await;
    changed.world.rows().log.clear();
    let because = changed.apply("hr.plan", None).await.expect_err("is refused");
    assert!(because.contains("the plan is stale: delivery 8 changed since it was made"), "{because}");
    assert_eq!(changed.sent(), []);
    // And with the old mapping configured again the new plan is of another one.
    let report = changed.plan("newer.plan").await;
    assert_eq!((report.changes, report.unchanged), (9, 1), "learner 7 was written by the new mapping");
    let other = self::changed(1, 1, &[("title", path("title"))]).await;
    let elsewhere = Changed { destination: other.destination, ..changed };
    let because = elsewhere.apply("newer.plan", None).await.expect_err("is refused");
    assert!(because.contains("another mapping of hr's route done"), "{because}");
}

#[tokio::test]
async fn a_plan_is_given_up_when_the_mapping_changes_before_all_of_it_is_written() {
    let changed = changed(60, 1, &longer_titles()).await;
    changed.plan("hr.plan").await;
    changed.begin("hr.plan", None).await.expect("begins");
    assert_eq!(changed.step().run_once().await.expect("the store works"), Turn::Worked);
    let other = self::changed(1, 1, &[("title", path("title"))]).await;
    let after_reload = Changed { destination: other.destination, ..changed };
    after_reload.settle().await;
    assert_eq!(after_reload.sent().len(), 50, "only what was on its way");
    let (state, cause) = after_reload.run_state().await;
    assert_eq!(state, "failed");
    assert!(cause.expect("says why").contains("the mapping of the route done changed after 50 of 60 places"));
    let because = after_reload.apply("hr.plan", None).await.expect_err("is refused");
    assert!(because.contains("another mapping of hr's route done"), "{because}");
}

#[tokio::test]
async fn a_new_kind_of_refusal_stops_the_plan_until_a_person_says_yes() {
    let changed = changed(200, 1, &longer_titles()).await;
    changed.plan("hr.plan").await;
    let lines = changed.lines("hr.plan");
    changed.world.rows().refuses = Some(format!("{OURS}{}", slot(60, 0)));
    changed.apply("hr.plan", None).await.expect("begins");
    let (state, cause) = changed.run_state().await;
    assert_eq!(state, "held");
    assert!(cause.expect("says why").contains("parked for rejected, after 100 of 200 were written"));
    assert_eq!(changed.sent().len(), 99);
    let run =
        View::open(changed.world.folder.path()).and_then(|mut view| view.list_runs(None, 1)).expect("lists").runs[0].id;
    changed.world.store.approve_run(crate::domain::ids::RunId(run)).await.expect("approves");
    changed.settle().await;
    let expected: BTreeSet<String> =
        lines.iter().map(|line| line.record.clone()).filter(|record| *record != slot(60, 0)).collect();
    assert_eq!(changed.sent().into_iter().map(|(record, _)| record).collect::<BTreeSet<_>>(), expected);
    assert_eq!(changed.run_state().await.0, "done");
}

#[tokio::test]
async fn what_the_mapping_makes_nothing_of_stays_and_is_counted_and_what_is_shown_counts_where_it_is_read_back() {
    let park = SourceConfig { when_missing: crate::config::WhenMissing::Park, ..path("notes") };
    let refused = changed(5, 1, &[("title", park)]).await;
    let report = refused.plan("hr.plan").await;
    assert_eq!((report.changes, report.refused.clone()), (0, BTreeMap::from([("missing_field".to_owned(), 5)])));
    let changed = changed(5, 1, &longer_titles()).await;
    // HR wrote the new title by hand already.
    let title = format!("{} (LMS)", completion(3, 0).title);
    changed.world.set(3, 0, "title", learnsync_sdk::Value::Text(title));
    assert_eq!(changed.plan("blind.plan").await.changes, 5);
    let report = changed.plan_by(&changed.options("seen.plan", true)).await;
    assert_eq!((report.changes, report.unchanged), (4, 1));
}
