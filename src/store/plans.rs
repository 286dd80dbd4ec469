//! Plans' use cases: the lines of a plan file are staged, checked against what the ledger knows now, and made due a few at a time.

use std::collections::BTreeMap;

use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use super::ledger::becomes_due;
use super::queue::from_json;
use super::schema::{applied_plan, delivery, mapping_version, planned, run};
use super::seal::keyed_plan;
use super::{Store, StoreError};
use crate::domain::ids::{DeliveryId, DestinationId, MappingId, RouteId, RunId};
use crate::domain::time::Timestamp;

/// Most lines that one use case touches.
pub const LINES_AT_ONCE: usize = 200;

/// How far a plan was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApplyProgress {
    /// How many lines it has.
    pub lines: u64,
    /// How many were made due.
    pub released: u64,
    /// Of these: how many ended before the newest were made due.
    pub ended: u64,
    /// Stop after so many lines.
    pub canary: Option<u64>,
    /// Causes that deliveries were parked for meanwhile, and a person said that it may go on.
    pub known_causes: Vec<String>,
    /// Deliveries that were parked.
    pub parked: u64,
    /// The mapping of each route that it was made for, by its digest.
    pub mappings: BTreeMap<String, String>,
}

/// A plan that is being applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Apply {
    /// Its run.
    pub id: RunId,
    /// Why it is held; none when it goes on.
    pub held: Option<String>,
    /// Whether its canary was written, and it waits for the rest to be asked for.
    pub is_paused: bool,
    /// How far it is.
    pub progress: ApplyProgress,
}

/// One line of a plan, as far as the ledger needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLine {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Digest of the facts that it was made for.
    pub wanted: Vec<u8>,
    /// Digest of the fields that the place was known to hold.
    pub held: Option<Vec<u8>>,
}

/// What became of a plan file before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prior {
    /// It was never applied.
    Never,
    /// A part of it was: it may go on.
    Begun(Apply),
    /// All of it was, by this run.
    Ended(RunId),
}

impl Store {
    /// Whether something that a route wrote was made by an older mapping than today's: then a plan tells what that one would change.
    ///
    /// # Errors
    /// The store failed.
    pub async fn is_of_older_mapping(&self, route: RouteId, mapping: MappingId) -> Result<bool, StoreError> {
        self.writer
            .run("is_of_older_mapping", move |tx| {
                // Most routes never had another mapping: then no row need be looked at.
                let versions = mapping_version::table.filter(mapping_version::route_id.eq(route.0));
                let others = versions.filter(mapping_version::id.ne(mapping.0));
                if !diesel::select(diesel::dsl::exists(others)).get_result::<bool>(tx.db)? {
                    return Ok(false);
                }
                let older = delivery::table
                    .filter(delivery::route_id.eq(route.0).and(delivery::state.eq("settled")))
                    .filter(delivery::held_mapping_id.ne(mapping.0));
                Ok(diesel::select(diesel::dsl::exists(older)).get_result(tx.db)?)
            })
            .await
    }

    /// A keyed digest over a plan: nobody without the keys can make it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn plan_seal(&self, digest: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        self.writer.run("plan_seal", move |tx| Ok(keyed_plan(tx.sealer, &digest))).await
    }

    /// What became of a plan with this seal.
    ///
    /// # Errors
    /// The store failed.
    pub async fn prior_apply(&self, seal: Vec<u8>) -> Result<Prior, StoreError> {
        self.writer
            .run("prior_apply", move |tx| {
                let id: Option<i64> =
                    applied_plan::table.find(seal).select(applied_plan::run_id).first(tx.db).optional()?;
                let Some(id) = id else { return Ok(Prior::Never) };
                let finished: Option<i64> = run::table.find(id).select(run::finished_at).first(tx.db)?;
                match finished {
                    Some(_) => Ok(Prior::Ended(RunId(id))),
                    None => Ok(Prior::Begun(read(tx.db, id)?)),
                }
            })
            .await
    }

    /// Begins to stage a plan; nothing of it is due yet.
    ///
    /// # Errors
    /// The store failed.
    pub async fn begin_apply(&self, destination: DestinationId) -> Result<RunId, StoreError> {
        let now = self.clock.now();
        self.writer
            .run("begin_apply", move |tx| {
                let id: i64 = diesel::insert_into(run::table)
                    .values((
                        run::kind.eq("apply"),
                        run::destination_id.eq(destination.0),
                        run::state.eq("paused"),
                        run::started_at.eq(now.0),
                        run::counts.eq(as_text(&ApplyProgress::default())),
                    ))
                    .returning(run::id)
                    .get_result(tx.db)?;
                Ok(RunId(id))
            })
            .await
    }

    /// Stages lines of a plan, from this position on; answers the first that is stale: its facts, or what its place holds, changed since.
    ///
    /// # Errors
    /// The store failed.
    pub async fn stage_plan(
        &self,
        id: RunId,
        destination: DestinationId,
        position: u64,
        lines: Vec<PlannedLine>,
    ) -> Result<Option<DeliveryId>, StoreError> {
        self.writer
            .run("stage_plan", move |tx| {
                for (number, line) in (position..).zip(&lines) {
                    if !is_fresh(tx.db, destination, line)? {
                        return Ok(Some(line.delivery));
                    }
                    diesel::insert_into(planned::table)
                        .values((
                            planned::run_id.eq(id.0),
                            planned::position.eq(i64::try_from(number).unwrap_or(i64::MAX)),
                            planned::delivery_id.eq(line.delivery.0),
                            planned::wanted.eq(&line.wanted),
                            planned::held.eq(&line.held),
                        ))
                        .execute(tx.db)?;
                }
                Ok(None)
            })
            .await
    }

    /// All lines are staged, and none is stale: the plan is applied from now on, to its end or its canary.
    ///
    /// # Errors
    /// The store failed.
    pub async fn start_apply(&self, id: RunId, seal: Vec<u8>, progress: ApplyProgress) -> Result<(), StoreError> {
        self.writer
            .run("start_apply", move |tx| {
                diesel::insert_into(applied_plan::table)
                    .values((applied_plan::seal.eq(seal), applied_plan::run_id.eq(id.0)))
                    .on_conflict_do_nothing()
                    .execute(tx.db)?;
                diesel::update(run::table.find(id.0))
                    .set((run::state.eq("running"), run::cause.eq(None::<String>), run::counts.eq(as_text(&progress))))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Forgets a plan of which nothing was made due.
    ///
    /// # Errors
    /// The store failed.
    pub async fn drop_apply(&self, id: RunId) -> Result<(), StoreError> {
        while self.writer.run("forget_planned", move |tx| forget_planned(tx.db, id)).await? > 0 {}
        self.writer
            .run("drop_apply", move |tx| {
                diesel::delete(run::table.find(id.0)).execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// The plan that is being applied at a destination; one that waits for its rest to be asked for is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn apply_under_way(&self, destination: DestinationId) -> Result<Option<Apply>, StoreError> {
        self.writer
            .run("apply_under_way", move |tx| {
                let id: Option<i64> = run::table
                    .filter(run::kind.eq("apply").and(run::destination_id.eq(destination.0)))
                    .filter(run::state.eq("running"))
                    .select(run::id)
                    .first(tx.db)
                    .optional()?;
                id.map(|id| read(tx.db, id)).transpose()
            })
            .await
    }

    /// What became of the lines that were made due last: whether some are still on their way, and the causes of those that were parked.
    ///
    /// # Errors
    /// The store failed.
    pub async fn applied_so_far(&self, apply: &Apply) -> Result<(bool, Vec<String>), StoreError> {
        let (id, from, to) = (apply.id, number(apply.progress.ended), number(apply.progress.released));
        self.writer
            .run("applied_so_far", move |tx| {
                let newest = planned::table
                    .inner_join(delivery::table)
                    .filter(planned::run_id.eq(id.0))
                    .filter(planned::position.ge(from).and(planned::position.lt(to)));
                let waiting = newest.filter(delivery::state.eq_any(["pending", "sending", "uncertain"]));
                let is_waiting: bool = diesel::select(diesel::dsl::exists(waiting)).get_result(tx.db)?;
                let parked: Vec<Option<String>> =
                    newest.filter(delivery::state.eq("parked")).select(delivery::cause).load(tx.db)?;
                Ok((is_waiting, parked.into_iter().flatten().collect()))
            })
            .await
    }

    /// Makes the next lines due, whole people at a time; what is stale by now is left alone. Answers how far that is.
    ///
    /// # Errors
    /// The store failed.
    pub async fn release_planned(&self, apply: &Apply, most: u64) -> Result<ApplyProgress, StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        let (id, mut progress) = (apply.id, apply.progress.clone());
        self.writer
            .run("release_planned", move |tx| {
                type Row = (i64, i64, Vec<u8>, Option<Vec<u8>>, i64, i64);
                let rows: Vec<Row> = planned::table
                    .inner_join(delivery::table)
                    .filter(planned::run_id.eq(id.0).and(planned::position.ge(number(progress.released))))
                    .order(planned::position)
                    .limit(LINES_AT_ONCE as i64)
                    .select((
                        planned::position,
                        planned::delivery_id,
                        planned::wanted,
                        planned::held,
                        delivery::person_id,
                        delivery::destination_id,
                    ))
                    .load(tx.db)?;
                progress.ended = progress.released;
                let mut last_person = None;
                let limit = progress.canary.map_or(u64::MAX, |canary| canary.saturating_sub(progress.ended));
                // Due in the order of the plan: so it is also written in that order.
                let begin = now.0 - i64::try_from(rows.len()).unwrap_or(0);
                for (at, (_, delivery_id, wanted, held, person, destination)) in (begin..).zip(rows) {
                    let taken = progress.released - progress.ended;
                    if taken >= limit || (taken >= most && last_person != Some(person)) {
                        break;
                    }
                    progress.released += 1;
                    last_person = Some(person);
                    let line = PlannedLine { delivery: DeliveryId(delivery_id), wanted, held };
                    if is_fresh(tx.db, DestinationId(destination), &line)? {
                        write_again(tx.db, destination, delivery_id, epoch, Timestamp(at))?;
                    }
                }
                diesel::update(run::table.find(id.0)).set(run::counts.eq(as_text(&progress))).execute(tx.db)?;
                Ok(progress)
            })
            .await
    }

    /// Holds a plan that is being applied: its canary was written (`paused`), or something new went wrong (`held`).
    ///
    /// # Errors
    /// The store failed.
    pub async fn hold_apply(
        &self,
        id: RunId,
        state: &'static str,
        because: &str,
        progress: ApplyProgress,
    ) -> Result<(), StoreError> {
        let because = because.to_owned();
        self.writer
            .run("hold_apply", move |tx| {
                diesel::update(run::table.find(id.0))
                    .set((run::state.eq(state), run::cause.eq(because), run::counts.eq(as_text(&progress))))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// All of a plan was applied, or it is given up because of this.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finish_apply(
        &self,
        id: RunId,
        progress: ApplyProgress,
        because: Option<String>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let state = if because.is_some() { "failed" } else { "done" };
        while self.writer.run("forget_planned", move |tx| forget_planned(tx.db, id)).await? > 0 {}
        self.writer
            .run("finish_apply", move |tx| {
                diesel::update(run::table.find(id.0))
                    .set((
                        run::state.eq(state),
                        run::finished_at.eq(now.0),
                        run::cause.eq(because),
                        run::counts.eq(as_text(&progress)),
                    ))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Whether a line still says what the ledger does.
fn is_fresh(db: &mut SqliteConnection, destination: DestinationId, line: &PlannedLine) -> Result<bool, StoreError> {
    type Row = (i64, String, Vec<u8>, Option<Vec<u8>>);
    let found: Option<Row> = delivery::table
        .find(line.delivery.0)
        .select((delivery::destination_id, delivery::state, delivery::wanted_fingerprint, delivery::held_fields_digest))
        .first(db)
        .optional()?;
    Ok(found.is_some_and(|(of, state, wanted, held)| {
        of == destination.0 && state == "settled" && wanted == line.wanted && held == line.held
    }))
}

/// A settled place is written again: what it holds of our fields counts as unknown.
fn write_again(
    db: &mut SqliteConnection,
    destination: i64,
    id: i64,
    epoch: i64,
    due_at: Timestamp,
) -> Result<(), StoreError> {
    diesel::update(delivery::table.find(id))
        .set((delivery::tries.eq(0), delivery::held_fields_digest.eq(None::<Vec<u8>>)))
        .execute(db)?;
    becomes_due(db, destination, id, epoch, due_at)
}

fn read(db: &mut SqliteConnection, id: i64) -> Result<Apply, StoreError> {
    let (state, counts, cause): (String, String, Option<String>) =
        run::table.find(id).select((run::state, run::counts, run::cause)).first(db)?;
    Ok(Apply {
        id: RunId(id),
        held: cause.filter(|_| state == "held"),
        is_paused: state == "paused",
        progress: from_json(counts.as_bytes())?,
    })
}

fn as_text(progress: &ApplyProgress) -> String {
    serde_json::to_string(progress).expect("a progress is plain data")
}

fn forget_planned(db: &mut SqliteConnection, id: RunId) -> Result<usize, StoreError> {
    let positions: Vec<i64> = planned::table
        .filter(planned::run_id.eq(id.0))
        .order(planned::position)
        .limit(LINES_AT_ONCE as i64)
        .select(planned::position)
        .load(db)?;
    for position in &positions {
        diesel::delete(planned::table.find((id.0, position))).execute(db)?;
    }
    Ok(positions.len())
}
