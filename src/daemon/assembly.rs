//! The steps of the pipeline, put together from parts: for the daemon with real ones, for the simulation with fakes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};

use anyhow::Context;
use learnsync_sdk::{Claim, RouteMode};
use tracing::{info, warn};

use super::build::BuiltDestination;
use super::doors;
use crate::domain::chance::Entropy;
use crate::domain::standing::Calendar;
use crate::domain::subject::SubjectKind;
use crate::domain::time::Clock;
use crate::lms::Lms;
use crate::lms::absorb::payload::Aliases;
use crate::pipeline::deliver::Deliver;
use crate::pipeline::destination::Destination;
use crate::pipeline::gatekeeper::Gatekeeper;
use crate::pipeline::intake::Intake;
use crate::pipeline::midnight::Midnight;
use crate::pipeline::plan::{Plan, PlannedRoute};
use crate::pipeline::portal::Portal;
use crate::pipeline::refresh::Refresh;
use crate::pipeline::worker::{Bell, Work};
use crate::reconcile::apply::Apply;
use crate::reconcile::backfill::Backfill;
use crate::reconcile::schedule::Schedule;
use crate::reconcile::sweep::{Asked, Lists, Sweep};
use crate::reconcile::verify::Verify;
use crate::store::{RouteRows, Store};
use crate::telemetry::Metrics;

/// The bells that wake the steps.
#[derive(Default)]
pub struct Bells {
    /// New events.
    pub intake: Arc<Bell>,
    /// Dirty learners: one a portal, by name.
    pub refresh: BTreeMap<String, Arc<Bell>>,
    /// One a portal.
    pub sweeps: Vec<Arc<Bell>>,
    /// One a portal.
    pub backfills: Vec<Arc<Bell>>,
    /// One a destination, by name.
    pub deliver: BTreeMap<String, Arc<Bell>>,
    /// One a destination that can be read back, by name.
    pub verify: BTreeMap<String, Arc<Bell>>,
    /// One a destination that is written to, by name.
    pub apply: BTreeMap<String, Arc<Bell>>,
}

/// One portal.
pub struct PortalParts {
    /// Its LMS client.
    pub lms: Arc<dyn Lms>,
    /// How its calendar is read.
    pub calendar: Calendar,
    /// The names of events that its configuration adds.
    pub aliases: Aliases,
}

/// All that the steps are made of.
pub struct Assembly<'a> {
    /// The ledger.
    pub store: Arc<Store>,
    /// The portals, by name.
    pub portals: BTreeMap<String, PortalParts>,
    /// The destinations.
    pub destinations: &'a [BuiltDestination],
    /// Whose marks are ours.
    pub installation: &'a str,
    /// When sweeps are due.
    pub schedule: Schedule,
    /// How many learners of one portal are read at once.
    pub readers: usize,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// The steps, each with its bell, and the switches that ask for a sweep now.
pub struct Assembled {
    /// To be run by `pipeline::worker::work`.
    pub steps: Vec<(Arc<dyn Work>, Arc<Bell>)>,
    /// One a portal.
    pub sweep_now: Vec<Arc<Asked>>,
    /// One a destination that can be read back.
    pub verify_now: Vec<Arc<AtomicBool>>,
    /// The destinations, by name.
    pub destinations: BTreeMap<String, Arc<Destination>>,
    /// The portals, by name.
    pub portals: BTreeMap<String, Arc<Portal>>,
}

type Steps = Vec<(Arc<dyn Work>, Arc<Bell>)>;

impl Assembly<'_> {
    /// Makes the rows of what is configured, finds out what the last life of the daemon left under way, and puts the steps together.
    ///
    /// # Errors
    /// The store failed.
    pub async fn assemble(&self, bells: &mut Bells) -> anyhow::Result<Assembled> {
        let (plan, destinations) = self.ready_destinations().await?;
        let mut portals: BTreeMap<String, Arc<Portal>> = BTreeMap::new();
        for (name, parts) in &self.portals {
            let loaded = Portal::load(name, Arc::clone(&parts.lms), parts.calendar, &self.store).await;
            portals.insert(name.clone(), Arc::new(loaded.context("read the portals")?));
            bells.refresh.insert(name.clone(), Arc::default());
        }
        self.tell_who_is_not_read(portals.keys().cloned().collect()).await?;
        let mut steps = Steps::new();
        let intake = Intake::new(
            Arc::clone(&self.store),
            doors::read_event(self.aliases()),
            bells.refresh.values().cloned().collect(),
            Arc::clone(&self.metrics),
        );
        steps.push((Arc::new(intake), Arc::clone(&bells.intake)));
        let mut verify_now = Vec::new();
        for (destination, built) in destinations.iter().zip(self.destinations) {
            let gatekeeper = Arc::new(Gatekeeper {
                store: Arc::clone(&self.store),
                destination: Arc::clone(destination),
                clock: Arc::clone(&self.clock),
                probing: tokio::sync::Mutex::default(),
            });
            self.writers(destination, &gatekeeper, bells, &mut steps);
            verify_now.extend(self.verify(destination, &gatekeeper, built, bells, &mut steps));
        }
        for (portal, bell) in portals.values().flat_map(|portal| {
            let bell = &bells.refresh[&portal.name];
            (0..self.readers).map(move |_| (portal, bell))
        }) {
            let refresh = Refresh {
                store: Arc::clone(&self.store),
                portal: Arc::clone(portal),
                plan: Arc::clone(&plan),
                clock: Arc::clone(&self.clock),
                entropy: Arc::clone(&self.entropy),
                more: Arc::clone(bell),
                deliver: bells.deliver.values().cloned().collect(),
                metrics: Arc::clone(&self.metrics),
            };
            steps.push((Arc::new(refresh), Arc::clone(bell)));
        }
        let midnight = Midnight { store: Arc::clone(&self.store), refresh: bells.refresh.values().cloned().collect() };
        steps.push((Arc::new(midnight), Arc::new(Bell::default())));
        self.backfills(&portals, bells, &mut steps);
        let sweep_now = self.sweeps(&portals, &destinations, bells, &mut steps);
        let destinations = destinations.into_iter().map(|ready| (ready.name.clone(), ready)).collect();
        Ok(Assembled { steps, sweep_now, verify_now, destinations, portals })
    }

    /// Learners of a portal that was taken out of the configuration wait until it is back.
    async fn tell_who_is_not_read(&self, configured: Vec<String>) -> anyhow::Result<()> {
        for (portal, learners) in self.store.marks_elsewhere(configured).await.context("read the marks")? {
            warn!(portal, learners, "{learners} learners wait for portal {portal}, which is not configured");
        }
        Ok(())
    }

    fn aliases(&self) -> doors::PortalAliases {
        Arc::new(self.portals.iter().map(|(name, parts)| (name.clone(), parts.aliases.clone())).collect())
    }

    async fn ready_destinations(&self) -> anyhow::Result<(Arc<Plan>, Vec<Arc<Destination>>)> {
        let specs = self.destinations.iter().map(BuiltDestination::spec).collect();
        let topology = self.store.sync_topology(specs).await.context("keep the destinations")?;
        let mut plan = Plan::default();
        let mut destinations = Vec::new();
        for built in self.destinations {
            let rows = &topology.destinations[&built.name];
            let settle_ms = i64::from(built.description.settle_seconds) * 1_000;
            let recovered = self.store.recover_epoch(rows.id, settle_ms).await.context("find what was under way")?;
            if recovered > 0 {
                info!(destination = built.name, recovered, "Writes of unknown outcome will be looked up first");
            }
            for route in &built.routes {
                let RouteRows { id, mapping } = rows.routes[&route.name];
                let is_older = route.mode == RouteMode::State && self.store.is_of_older_mapping(id, mapping).await?;
                if is_older {
                    let name = &built.name;
                    info!(
                        destination = name,
                        route = route.name,
                        "Some rows of {name} were written by an older mapping and stay so; `learnsync plan --destination {name}` tells what today's would change"
                    );
                }
                plan.routes.push(PlannedRoute {
                    destination: rows.id,
                    route: id,
                    record: route.record,
                    says_standing: route.mapping.says_standing(),
                    mode: route.mode,
                    slot: route.slot,
                    history: built.history,
                    first_seen_at: rows.first_seen_at,
                    zone: built.zone,
                    telling: built.telling.clone(),
                });
            }
            destinations.push(Arc::new(built.ready(rows, self.installation)));
        }
        Ok((Arc::new(plan), destinations))
    }

    fn writers(
        &self,
        destination: &Arc<Destination>,
        gatekeeper: &Arc<Gatekeeper>,
        bells: &mut Bells,
        steps: &mut Steps,
    ) {
        let bell = Arc::new(Bell::default());
        bells.deliver.insert(destination.name.clone(), Arc::clone(&bell));
        if destination.is_shadow {
            return;
        }
        let apply = Apply {
            destination: Arc::clone(destination),
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            deliver: Arc::clone(&bell),
        };
        let apply_bell = Arc::new(Bell::default());
        bells.apply.insert(destination.name.clone(), Arc::clone(&apply_bell));
        steps.push((Arc::new(apply), apply_bell));
        for _ in 0..destination.description.concurrency_max {
            let deliver = Deliver {
                store: Arc::clone(&self.store),
                destination: Arc::clone(destination),
                clock: Arc::clone(&self.clock),
                entropy: Arc::clone(&self.entropy),
                more: Arc::clone(&bell),
                metrics: Arc::clone(&self.metrics),
                gatekeeper: Arc::clone(gatekeeper),
            };
            steps.push((Arc::new(deliver), Arc::clone(&bell)));
        }
    }

    /// Reads back what a destination holds; answers the switch that asks for it now. None where the target can show nothing.
    fn verify(
        &self,
        destination: &Arc<Destination>,
        gatekeeper: &Arc<Gatekeeper>,
        built: &BuiltDestination,
        bells: &mut Bells,
        steps: &mut Steps,
    ) -> Option<Arc<AtomicBool>> {
        let is_read = [Claim::ReadBack, Claim::List].iter().any(|claim| destination.description.claims(*claim));
        if !is_read || built.routes.iter().all(|route| route.mode == RouteMode::Append) {
            return None;
        }
        let asked = Arc::new(AtomicBool::new(false));
        let verify = Verify {
            destination: Arc::clone(destination),
            gatekeeper: Arc::clone(gatekeeper),
            store: Arc::clone(&self.store),
            schedule: self.schedule.clone(),
            guard: built.guard.clone(),
            asked: Arc::clone(&asked),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            deliver: Arc::clone(&bells.deliver[&destination.name]),
            failures: AtomicU32::new(0),
        };
        let bell = Arc::new(Bell::default());
        bells.verify.insert(destination.name.clone(), Arc::clone(&bell));
        steps.push((Arc::new(verify), bell));
        Some(asked)
    }

    fn backfills(&self, portals: &BTreeMap<String, Arc<Portal>>, bells: &mut Bells, steps: &mut Steps) {
        for portal in portals.values() {
            let sweep = Arc::new(Bell::default());
            let backfill = Backfill {
                portal: Arc::clone(portal),
                store: Arc::clone(&self.store),
                clock: Arc::clone(&self.clock),
                entropy: Arc::clone(&self.entropy),
                refresh: Arc::clone(&bells.refresh[&portal.name]),
                sweep: Arc::clone(&sweep),
                courses: tokio::sync::Mutex::default(),
            };
            let bell = Arc::new(Bell::default());
            bells.backfills.push(Arc::clone(&bell));
            bells.sweeps.push(sweep);
            steps.push((Arc::new(backfill), bell));
        }
    }

    /// One sweep a portal; answers the switches that ask for one now.
    fn sweeps(
        &self,
        portals: &BTreeMap<String, Arc<Portal>>,
        destinations: &[Arc<Destination>],
        bells: &mut Bells,
        steps: &mut Steps,
    ) -> Vec<Arc<Asked>> {
        let mut switches = Vec::new();
        let is_wanted = |list: &SubjectKind| {
            let mut routes = self.destinations.iter().flat_map(|built| &built.routes);
            routes.any(|route| list.listed() == Some(route.record))
        };
        let lists: Vec<SubjectKind> = SubjectKind::LISTS.into_iter().filter(is_wanted).collect();
        for (number, portal) in portals.values().enumerate() {
            let asked = Arc::new(Asked::default());
            switches.push(Arc::clone(&asked));
            let sweep = Sweep {
                portal: Arc::clone(portal),
                store: Arc::clone(&self.store),
                schedule: self.schedule.clone(),
                asked,
                clock: Arc::clone(&self.clock),
                entropy: Arc::clone(&self.entropy),
                refresh: Arc::clone(&bells.refresh[&portal.name]),
                destinations: destinations
                    .iter()
                    .map(|destination| (destination.id, Arc::clone(&bells.deliver[&destination.name])))
                    .collect(),
                backfill: Arc::clone(&bells.backfills[number]),
                lists: lists.clone(),
                under_way: AtomicBool::new(false),
                known: Lists::default(),
            };
            steps.push((Arc::new(sweep), Arc::clone(&bells.sweeps[number])));
        }
        switches
    }
}

#[cfg(test)]
mod tests;
