//! Which destinations and routes there are, what each is paused for, and what a new epoch makes of the last one's writes.

use std::collections::{BTreeMap, BTreeSet};

use diesel::prelude::*;
use learnsync_sdk::RouteMode;

use super::ledger::{append_attempt, release_like};
use super::schema::{delivery, destination, installation, mapping_version, route, run};
use super::writer::Tx;
use super::{Store, StoreError, queue};
use crate::domain::delivery::{Attempt, AttemptAction, OPERATOR, THROTTLED};
use crate::domain::ids::{DeliveryId, DestinationId, MappingId, RouteId};
use crate::domain::time::Timestamp;
use crate::fail_point;

/// A destination as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationSpec {
    /// Its name.
    pub name: String,
    /// Its connector.
    pub connector: String,
    /// Its routes.
    pub routes: Vec<RouteSpec>,
}

/// A route as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// Its name.
    pub name: String,
    /// State or append.
    pub mode: RouteMode,
    /// The digest of its mapping.
    pub mapping_digest: String,
}

/// The rows of what is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// By name.
    pub destinations: BTreeMap<String, DestinationRows>,
}

/// A destination's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationRows {
    /// Its id.
    pub id: DestinationId,
    /// When it was first configured: where its history begins.
    pub first_seen_at: Timestamp,
    /// By name.
    pub routes: BTreeMap<String, RouteRows>,
}

/// A route's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRows {
    /// Its id.
    pub id: RouteId,
    /// The version of its mapping.
    pub mapping: MappingId,
}

impl Store {
    /// Makes the rows of what is configured; what is no longer configured is retired, and keeps its rows and its pause.
    ///
    /// Deliveries that a mapping had parked are tried again: it, its references, or the target's own lists may have changed.
    ///
    /// # Errors
    /// The store failed.
    pub async fn sync_topology(&self, specs: Vec<DestinationSpec>) -> Result<Topology, StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        self.writer
            .run("sync_topology", move |tx| {
                let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
                diesel::update(destination::table.filter(destination::name.ne_all(names)))
                    .set(destination::state.eq("retired"))
                    .execute(tx.db)?;
                if fail_point::is_broken_on_purpose("mapping") {
                    let settled = delivery::table.filter(delivery::state.eq("settled"));
                    for id in settled.select(delivery::id).load::<i64>(tx.db)? {
                        super::ledger::make_pending(tx.db, id, epoch, now)?;
                    }
                }
                let mut topology = Topology::default();
                for spec in &specs {
                    let rows = sync_destination(tx.db, spec, now)?;
                    for pattern in ["unmapped:%", "missing_field:%", "mapping_failed:%"] {
                        release_like(tx.db, rows.id.0, pattern, epoch, now)?;
                    }
                    topology.destinations.insert(spec.name.clone(), rows);
                }
                note_routes(tx.db, &topology)?;
                Ok(topology)
            })
            .await
    }

    /// Turns every `sending` of an earlier epoch into `uncertain`: we cannot know whether the target took it. It is looked up no earlier
    /// than `settle_ms` after the attempt, because the target may still be committing. A restored ledger does not know what was attempted
    /// last: it rests as long after the restore, with the cause `restored`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn recover_epoch(&self, destination: DestinationId, settle_ms: i64) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        self.writer
            .run("recover_epoch", move |tx| {
                let rows: Vec<(i64, i64)> = delivery::table
                    .filter(delivery::state.eq("sending").and(delivery::destination_id.eq(destination.0)))
                    .filter(delivery::sending_epoch.lt(epoch))
                    .select((delivery::id, delivery::sending_at.assume_not_null()))
                    .load(tx.db)?;
                interrupt(tx, destination, &rows, settle_ms, epoch, now)?;
                if let Some(restored_at) = super::doubt::restored_at(tx.db)? {
                    rest_after_restore(tx.db, destination, now, restored_at + settle_ms)?;
                }
                Ok(rows.len())
            })
            .await
    }

    /// The same for writes of this life whose outcome could not be kept, because the store failed just then.
    ///
    /// # Errors
    /// The store fails still.
    pub async fn interrupt_writes(
        &self,
        destination: DestinationId,
        deliveries: Vec<DeliveryId>,
        settle_ms: i64,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let epoch = self.epoch;
        self.writer
            .run("interrupt_writes", move |tx| {
                let ids = deliveries.iter().map(|id| id.0);
                let rows: Vec<(i64, i64)> = delivery::table
                    .filter(delivery::state.eq("sending").and(delivery::id.eq_any(ids)))
                    .select((delivery::id, delivery::sending_at.assume_not_null()))
                    .load(tx.db)?;
                interrupt(tx, destination, &rows, settle_ms, epoch, now)
            })
            .await
    }

    /// Stops writing to a destination, until a time or until `resume_destination`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pause_destination(
        &self,
        id: DestinationId,
        cause: &str,
        until: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let cause = cause.to_owned();
        self.writer.run("pause_destination", move |tx| keep_pause(tx.db, id, &cause, until)).await
    }

    /// Why a destination is not called at present, and until when; none when it is.
    ///
    /// # Errors
    /// The store failed.
    pub async fn pause_of(&self, id: DestinationId) -> Result<Option<(String, Option<Timestamp>)>, StoreError> {
        self.writer
            .run("pause_of", move |tx| match access_of(tx.db, id)? {
                Access::Paused { cause, until } => Ok(Some((cause, until))),
                Access::Open | Access::Retired => Ok(None),
            })
            .await
    }

    /// Ends a pause that a target or a failure caused; one by an operator stands.
    ///
    /// # Errors
    /// The store failed.
    pub async fn end_pause(&self, id: DestinationId) -> Result<(), StoreError> {
        self.writer
            .run("end_pause", move |tx| {
                let row = destination::table.find(id.0).filter(destination::state.eq("paused"));
                diesel::update(
                    row.filter(destination::pause_cause.is_null().or(destination::pause_cause.ne(OPERATOR))),
                )
                .set((
                    destination::state.eq("active"),
                    destination::pause_cause.eq(None::<String>),
                    destination::paused_until.eq(None::<i64>),
                ))
                .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Writes to a destination again, whatever it was paused for. But the time that a target asked for is kept to: then the answer is its end.
    ///
    /// # Errors
    /// The store failed.
    pub async fn resume_destination(&self, id: DestinationId) -> Result<Option<Timestamp>, StoreError> {
        let now = self.clock.now().0;
        self.writer.run("resume_destination", move |tx| Ok(resume(tx.db, id, now)?.map(Timestamp))).await
    }

    /// Keeps the account's identity at the first probe; answers whether it is the one that we know.
    ///
    /// # Errors
    /// The store failed.
    pub async fn recognise_account(&self, id: DestinationId, identity: &str) -> Result<bool, StoreError> {
        let identity = identity.to_owned();
        self.writer
            .run("recognise_account", move |tx| {
                let row = destination::table.find(id.0);
                let known: Option<String> = row.select(destination::account).first(tx.db)?;
                match known {
                    Some(known) => Ok(known == identity),
                    None => {
                        diesel::update(row).set(destination::account.eq(identity)).execute(tx.db)?;
                        Ok(true)
                    }
                }
            })
            .await
    }
}

/// Ends a pause, but for the time that a target asked for; answers its end, in milliseconds.
pub(super) fn resume(db: &mut SqliteConnection, id: DestinationId, now: i64) -> Result<Option<i64>, StoreError> {
    let row = destination::table.find(id.0).filter(destination::state.ne("retired"));
    let stands: Option<(Option<String>, Option<i64>)> =
        row.select((destination::pause_cause, destination::paused_until)).first(db).optional()?;
    let (cause, until) = stands.unwrap_or_default();
    let asked_until = until.filter(|until| *until > now && matches!(cause.as_deref(), Some(OPERATOR | THROTTLED)));
    diesel::update(row)
        .set((
            destination::state.eq(if asked_until.is_some() { "paused" } else { "active" }),
            destination::pause_cause.eq(asked_until.map(|_| THROTTLED)),
            destination::paused_until.eq(asked_until),
        ))
        .execute(db)?;
    Ok(asked_until)
}

/// Whether a destination may be called.
pub(super) enum Access {
    Open,
    Paused {
        cause: String,
        until: Option<Timestamp>,
    },
    /// It is configured no longer.
    Retired,
}

/// Whether a destination may be called. The time that an operator's pause keeps is the target's own, for later.
pub(super) fn access_of(db: &mut SqliteConnection, id: DestinationId) -> Result<Access, StoreError> {
    let (state, cause, until): (String, Option<String>, Option<i64>) = destination::table
        .find(id.0)
        .select((destination::state, destination::pause_cause, destination::paused_until))
        .first(db)?;
    Ok(match state.as_str() {
        "active" => Access::Open,
        "paused" => {
            let cause = cause.unwrap_or_default();
            let until = until.filter(|_| cause != OPERATOR).map(Timestamp);
            Access::Paused { cause, until }
        }
        _ => Access::Retired,
    })
}

/// Keeps a pause, beside one that stands: what a person paused, only a person resumes, and the time that a target asked for outlives that.
pub(super) fn keep_pause(
    db: &mut SqliteConnection,
    id: DestinationId,
    cause: &str,
    until: Option<Timestamp>,
) -> Result<(), StoreError> {
    let row = destination::table.find(id.0).filter(destination::state.ne("retired"));
    let stands: Option<(Option<String>, Option<i64>)> =
        row.select((destination::pause_cause, destination::paused_until)).first(db).optional()?;
    let (paused_by, until_before) = stands.unwrap_or_default();
    let until = until.map(|at| at.0);
    let (cause, until) = match (paused_by.as_deref(), cause) {
        (Some(THROTTLED), OPERATOR) => (OPERATOR, until_before),
        (Some(OPERATOR), THROTTLED) => (OPERATOR, until_before.max(until)),
        (Some(OPERATOR), _) => (OPERATOR, until_before),
        // Whoever was asked something while the pause began may fail later, and know of a shorter one.
        (Some(stands), _) if until.is_some() && until_before > until => (stands, until_before),
        (_, cause) => (cause, until),
    };
    diesel::update(row)
        .set((destination::state.eq("paused"), destination::pause_cause.eq(cause), destination::paused_until.eq(until)))
        .execute(db)?;
    Ok(())
}

/// Nothing is called before this time; a pause that lasts longer stands.
fn rest_after_restore(
    db: &mut SqliteConnection,
    destination: DestinationId,
    now: Timestamp,
    until: i64,
) -> Result<(), StoreError> {
    if until <= now.0 {
        return Ok(());
    }
    let here = || destination::table.find(destination.0);
    diesel::update(here().filter(destination::state.eq("paused").and(destination::paused_until.lt(until))))
        .set(destination::paused_until.eq(until))
        .execute(db)?;
    diesel::update(here().filter(destination::state.eq("active")))
        .set((
            destination::state.eq("paused"),
            destination::pause_cause.eq("restored"),
            destination::paused_until.eq(until),
        ))
        .execute(db)?;
    Ok(())
}

/// Writes whose outcome nobody knows become uncertain.
fn interrupt(
    tx: &mut Tx<'_>,
    destination: DestinationId,
    rows: &[(i64, i64)],
    settle_ms: i64,
    epoch: i64,
    now: Timestamp,
) -> Result<(), StoreError> {
    for (id, sending_at) in rows {
        let settle_ms = if fail_point::is_broken_on_purpose("settle") { 0 } else { settle_ms };
        let due_at = sending_at + settle_ms;
        diesel::update(delivery::table.find(id))
            .set((delivery::state.eq("uncertain"), delivery::due_at.eq(due_at)))
            .execute(tx.db)?;
        queue::enqueue(tx.db, destination.0, *id, due_at)?;
        let interrupted = Attempt {
            action: AttemptAction::Put,
            started_at: Timestamp(*sending_at),
            finished_at: now,
            outcome: "interrupted",
            status: None,
            remote_row: None,
            words: "learnsync stopped, or its disk was full, before the target's answer was kept".to_owned(),
            fields_digest: None,
        };
        append_attempt(tx, epoch, *id, &interrupted)?;
        diesel::update(delivery::table.find(id)).set(delivery::attempts.eq(delivery::attempts + 1)).execute(tx.db)?;
    }
    Ok(())
}

/// Notes which routes there are. Learners who were read before one came, for the first time or again, were not planned for it, so all of them
/// must be read once more: no list shows that.
fn note_routes(db: &mut SqliteConnection, topology: &Topology) -> Result<(), StoreError> {
    let routes = topology.destinations.values().flat_map(|rows| rows.routes.values().map(|route| route.id.0));
    let routes: BTreeSet<i64> = routes.collect();
    let before: Option<String> = installation::table.select(installation::planned_routes).first(db)?;
    let before: BTreeSet<i64> = before.unwrap_or_default().split(' ').filter_map(|route| route.parse().ok()).collect();
    if routes == before {
        return Ok(());
    }
    if !routes.is_subset(&before) {
        let newest_run: Option<i64> = run::table.select(diesel::dsl::max(run::id)).first(db)?;
        diesel::update(installation::table).set(installation::planned_after_run.eq(newest_run)).execute(db)?;
    }
    let routes: Vec<String> = routes.iter().map(ToString::to_string).collect();
    diesel::update(installation::table).set(installation::planned_routes.eq(routes.join(" "))).execute(db)?;
    Ok(())
}

fn sync_destination(
    db: &mut SqliteConnection,
    spec: &DestinationSpec,
    now: Timestamp,
) -> Result<DestinationRows, StoreError> {
    let found: Option<(i64, i64, String)> = destination::table
        .filter(destination::name.eq(&spec.name))
        .select((destination::id, destination::first_seen_at, destination::state))
        .first(db)
        .optional()?;
    let (id, first_seen_at) = match found {
        Some((id, first_seen_at, state)) => {
            if state == "retired" {
                // It may have been left out for an hour, with a mistake in its file: whoever paused it before still means it.
                let row = destination::table.find(id);
                let cause: Option<String> = row.select(destination::pause_cause).first(db)?;
                let state = if cause.is_some() { "paused" } else { "active" };
                diesel::update(row).set(destination::state.eq(state)).execute(db)?;
            }
            (id, first_seen_at)
        }
        None => {
            let id = diesel::insert_into(destination::table)
                .values((
                    destination::name.eq(&spec.name),
                    destination::connector.eq(&spec.connector),
                    destination::first_seen_at.eq(now.0),
                    // It may have been configured, and written to, after the backup that this ledger comes from, or before it was forgotten.
                    destination::doubt_before.eq(super::doubt::restored_at(db)?.max(super::operate::forgotten_at(db)?)),
                    destination::state.eq("active"),
                ))
                .returning(destination::id)
                .get_result(db)?;
            (id, now.0)
        }
    };
    let mut routes = BTreeMap::new();
    for route in &spec.routes {
        routes.insert(route.name.clone(), sync_route(db, id, route, now)?);
    }
    Ok(DestinationRows { id: DestinationId(id), first_seen_at: Timestamp(first_seen_at), routes })
}

fn sync_route(
    db: &mut SqliteConnection,
    destination: i64,
    spec: &RouteSpec,
    now: Timestamp,
) -> Result<RouteRows, StoreError> {
    let mode = match spec.mode {
        RouteMode::State => "state",
        RouteMode::Append => "append",
    };
    let found: Option<i64> = route::table
        .filter(route::destination_id.eq(destination).and(route::name.eq(&spec.name)))
        .select(route::id)
        .first(db)
        .optional()?;
    let id = match found {
        Some(id) => {
            diesel::update(route::table.find(id)).set(route::mode.eq(mode)).execute(db)?;
            id
        }
        None => diesel::insert_into(route::table)
            .values((route::destination_id.eq(destination), route::name.eq(&spec.name), route::mode.eq(mode)))
            .returning(route::id)
            .get_result(db)?,
    };
    let found: Option<i64> = mapping_version::table
        .filter(mapping_version::route_id.eq(id).and(mapping_version::digest.eq(&spec.mapping_digest)))
        .select(mapping_version::id)
        .first(db)
        .optional()?;
    let mapping = match found {
        Some(mapping) => mapping,
        None => diesel::insert_into(mapping_version::table)
            .values((
                mapping_version::route_id.eq(id),
                mapping_version::digest.eq(&spec.mapping_digest),
                mapping_version::first_seen_at.eq(now.0),
            ))
            .returning(mapping_version::id)
            .get_result(db)?,
    };
    Ok(RouteRows { id: RouteId(id), mapping: MappingId(mapping) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NextLane;
    use crate::store::tests::{Ledger, NOW};

    fn at(ms: i64) -> Timestamp {
        Timestamp(NOW + ms)
    }

    /// A paused destination's cause and end, in milliseconds after the beginning.
    async fn pause(ledger: &Ledger) -> Option<(String, Option<i64>)> {
        match ledger.store.next_lane(ledger.hr.id).await.expect("the store works") {
            NextLane::Paused { cause, until } => Some((cause, until.map(|at| at.0 - NOW))),
            NextLane::Due(_) | NextLane::Rest(_) | NextLane::Retired => None,
        }
    }

    async fn pause_for(ledger: &Ledger, cause: &str, until: Option<i64>) {
        ledger.store.pause_destination(ledger.hr.id, cause, until.map(at)).await.expect("pauses");
    }

    async fn resume(ledger: &Ledger) -> Option<Timestamp> {
        ledger.store.resume_destination(ledger.hr.id).await.expect("resumes")
    }

    #[tokio::test]
    async fn the_time_that_a_target_asked_for_outlives_an_operators_pause_and_resume() {
        let ledger = Ledger::new().await;
        let by_operator = Some((OPERATOR.to_owned(), None));
        // Asked before and during the operator's pause: the later end counts.
        pause_for(&ledger, THROTTLED, Some(5_000)).await;
        pause_for(&ledger, OPERATOR, None).await;
        pause_for(&ledger, THROTTLED, Some(9_000)).await;
        assert_eq!(pause(&ledger).await, by_operator);
        ledger.store.end_pause(ledger.hr.id).await.expect("changes nothing");
        assert_eq!(pause(&ledger).await, by_operator, "only a person ends it");
        assert_eq!(resume(&ledger).await, Some(at(9_000)));
        assert_eq!(pause(&ledger).await, Some((THROTTLED.to_owned(), Some(9_000))));
        assert_eq!(resume(&ledger).await, Some(at(9_000)), "not even twice");
        assert_eq!(ledger.store.rebase_destination(ledger.hr.id).await.expect("rebases"), Some(at(9_000)));
        ledger.later(9_000);
        assert_eq!(resume(&ledger).await, None);
        assert_eq!(pause(&ledger).await, None);
        // A shorter pause shortens none.
        pause_for(&ledger, THROTTLED, Some(50_000)).await;
        pause_for(&ledger, "circuit_open", Some(30_000)).await;
        assert_eq!(pause(&ledger).await, Some((THROTTLED.to_owned(), Some(50_000))));
        ledger.later(41_000);
        // Whoever comes back is paused as before.
        pause_for(&ledger, OPERATOR, None).await;
        ledger.configure(&[]).await;
        assert!(matches!(ledger.store.next_lane(ledger.hr.id).await, Ok(NextLane::Retired)));
        ledger.configure(&["hr"]).await;
        assert_eq!(pause(&ledger).await, by_operator);
        assert_eq!(resume(&ledger).await, None);
        // What is no target's wish ends at once.
        pause_for(&ledger, "unauthorized", Some(99_000)).await;
        assert_eq!(resume(&ledger).await, None);
        assert_eq!(pause(&ledger).await, None);
    }
}
