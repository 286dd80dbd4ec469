//! Plans: an operator looks what a changed mapping would change in what was written before, and has exactly that written.

use std::path::PathBuf;
use std::time::Duration;

use learnsync::daemon::Answer;
use learnsync::domain::ids::RunId;
use learnsync::domain::plan_file::PlanLine;
use learnsync::domain::time::Clock;
use learnsync::reconcile::plan::{PlanError, Planner};
use learnsync::store::StoreError;
use learnsync::store::view::View;
use learnsync_sdk::{RouteMode, Value};

use crate::check;
use crate::life::{INSTALLATION, Life, Planned};
use crate::play::{HOUR_MS, LOOK_MS, Play, REST_WAIT_MAX_MS};

/// A plan file, and what stands in it.
#[derive(Clone, Debug)]
pub struct Plan {
    destination: String,
    file: PathBuf,
    lines: Vec<PlanLine>,
}

impl Plan {
    /// The marks of the places that it writes.
    fn marks(&self) -> impl Iterator<Item = String> {
        self.lines.iter().map(|line| format!("learnsync:{INSTALLATION}:{}", line.record))
    }
}

/// Whether it is written again at all.
fn is_rewritten(planned: &&Planned) -> bool {
    planned.mode() == RouteMode::State && !planned.is_shadow
}

impl Play {
    /// Plans for one of the destinations, and applies it; sometimes a few places first. Answers what is left to be applied, and when.
    pub(crate) async fn plan_mapping(&self, pick: u64, life: &Life) -> Option<(i64, Plan)> {
        let rewritten: Vec<&Planned> = self.destinations.iter().filter(is_rewritten).collect();
        let planned = rewritten[usize::try_from(pick).unwrap_or(0) % rewritten.len()];
        let is_observed = pick.is_multiple_of(2) && planned.is_verified();
        let plan = match self.make_plan(planned, is_observed, life).await {
            Ok(Some(plan)) => plan,
            Ok(None) => {
                self.world.reached("plan", "empty");
                return None;
            }
            Err(error) => {
                self.world.say(&format!("no plan for {}: {error}", planned.target.name));
                // What a target asks of the operator's program the daemon does not hear.
                planned.target.forgives();
                return None;
            }
        };
        let canary = pick.is_multiple_of(3).then_some(2);
        if let Err(because) = self.apply_plan(&plan, canary, life).await {
            self.world.say(&format!("a plan for {} is refused: {because}", plan.destination));
            return None;
        }
        self.world.reached("plan", if canary.is_some() { "canary applied" } else { "applied" });
        canary.map(|_| (self.now() + self.world.draw(60_000..4 * HOUR_MS), plan))
    }

    /// Has what a canary left of a plan written.
    pub(crate) async fn apply_rest(&self, plan: &Plan, life: &Life) {
        match self.apply_plan(plan, None, life).await {
            Ok(()) => self.world.reached("plan", "rest applied"),
            Err(because) => {
                self.world.say(&format!("the rest of a plan for {} is refused: {because}", plan.destination))
            }
        }
    }

    /// At the end all is planned and applied that older mappings wrote; then it is as planned, and nothing is left to plan.
    pub(crate) async fn apply_all(&self, life: &Life) {
        for planned in self.destinations.iter().filter(is_rewritten) {
            if !self.ends_apply(planned, life).await {
                return;
            }
            let plan = match self.make_plan(planned, false, life).await {
                Ok(Some(plan)) => plan,
                Ok(None) => continue,
                Err(error) => {
                    self.world.violated("a plan can be made", &format!("{}: {error}", planned.target.name));
                    return;
                }
            };
            if let Err(because) = self.apply_plan(&plan, None, life).await {
                self.world.violated("what was just planned can be applied", &because);
                return;
            }
            if !self.ends_apply(planned, life).await {
                return;
            }
            self.is_as_planned(planned, &plan);
            self.world.reached("plan", "all applied");
            match self.make_plan(planned, false, life).await {
                Ok(None) => {}
                Ok(Some(left)) => {
                    let words = format!("{} still has {:?}", planned.target.name, left.lines.first());
                    self.world.violated("what was applied is not planned again", &words);
                }
                Err(error) => self.world.violated("a plan can be made", &error.to_string()),
            }
        }
    }

    async fn make_plan(&self, planned: &Planned, is_observed: bool, life: &Life) -> Result<Option<Plan>, PlanError> {
        let name = &planned.target.name;
        let Some(destination) = life.destinations.get(name) else { return Ok(None) };
        let file = self.folder.path().join(format!("{name}-{}-{}.plan", self.now(), self.world.draw(0..1_000_000)));
        let mut view = View::open(self.folder.path())?;
        let clock: &dyn Clock = &*self.world.clock;
        let report = Planner::new(&mut view, destination, is_observed)?.plan(&file, clock).await?;
        let Some(file) = report.file else { return Ok(None) };
        let text = std::fs::read_to_string(&file).map_err(|error| PlanError::Written(file.clone(), error))?;
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(Some(Plan { destination: name.clone(), file, lines }))
    }

    async fn apply_plan(&self, plan: &Plan, canary: Option<u64>, life: &Life) -> Result<(), String> {
        // Before it is asked for: a command that is ended by a crash may have been kept all the same.
        let target = self.named(&plan.destination);
        plan.marks().for_each(|mark| target.forgets_mapping(Some(&mark)));
        self.world.say(&format!("{} places of {} are to be applied", plan.lines.len(), plan.destination));
        match life.apply(plan.file.clone(), canary).await {
            Answer::Done(_) => Ok(()),
            Answer::Refused { because } => Err(because),
        }
    }

    /// The operator lets every plan go on that something new has stopped.
    pub(crate) async fn approve_plans(&self, life: &Life) -> Result<(), StoreError> {
        for id in check::held_plans(self.folder.path()) {
            if life.approve(RunId(id)).await? {
                self.world.reached("plan", "approved");
            }
        }
        Ok(())
    }

    /// Waits until no plan is under way.
    async fn ends_apply(&self, planned: &Planned, life: &Life) -> bool {
        let give_up = self.now() + REST_WAIT_MAX_MS;
        let Some(destination) = life.destinations.get(&planned.target.name) else { return false };
        loop {
            tokio::time::sleep(Duration::from_millis(LOOK_MS.unsigned_abs())).await;
            let is_over = match self.approve_plans(life).await {
                Ok(()) => life.store.apply_under_way(destination.id).await.map(|run| run.is_none()),
                Err(error) => Err(error),
            };
            match is_over {
                Ok(true) => return true,
                Ok(false) if self.now() < give_up && !self.world.is_beyond_repair() => {}
                Ok(false) => {
                    self.world.violated("every plan ends", &planned.target.name);
                    return false;
                }
                Err(error) => {
                    self.world.violated("every plan ends", &error.to_string());
                    return false;
                }
            }
        }
    }

    /// Each place that is settled holds what the newest mapping makes.
    fn is_as_planned(&self, planned: &Planned, plan: &Plan) {
        let settled = check::settled(self.folder.path(), &planned.target.name);
        let newest = Value::Text(format!("m{}", self.mapping_version));
        let rows = planned.target.rows();
        for mark in plan.marks().filter(|mark| settled.contains(mark)) {
            let is_written =
                rows.values().any(|row| row.mark.as_ref() == Some(&mark) && row.fields.get("mapping") == Some(&newest));
            if !is_written {
                self.world.violated("what is planned is written", &format!("{} {mark}", planned.target.name));
            }
        }
    }
}
