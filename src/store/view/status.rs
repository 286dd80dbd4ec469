//! The state of an installation: what came, what waits, who is paused, what the last night did.

use diesel::prelude::*;
use serde::Serialize;

use super::View;
use super::runs::RunLine;
use crate::domain::health::HealthDay;
use crate::domain::lane::LmsUse;
use crate::domain::rhythm::Hour;
use crate::domain::time::{Timestamp, as_utc, as_utc_if_any};
use crate::store::queue::from_json;
use crate::store::schema::{
    delivery, destination, epoch, event, installation, intake, login, mark, person, portal, promise, record, run,
    subject,
};
use crate::store::{Phase, StoreError, SweepCounts};

/// Most sweeps that are shown.
const SWEEPS_SHOWN_MAX: i64 = 5;

/// The state of an installation.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its name.
    pub installation: String,
    /// The newest life of the daemon, and its process.
    pub epoch: i64,
    /// When that began.
    #[serde(serialize_with = "as_utc")]
    pub started_at: Timestamp,
    /// Its process.
    pub pid: i64,
    /// Webhooks in the log.
    pub events: i64,
    /// Webhooks that intake has not taken yet.
    pub events_waiting: i64,
    /// When the newest came.
    #[serde(serialize_with = "as_utc_if_any")]
    pub last_event_at: Option<Timestamp>,
    /// Learners to be read again, by lane.
    pub dirty: Vec<(String, i64)>,
    /// Users whom events named and the LMS does not know; each is asked for again in at most 10 min.
    pub unknown_users: i64,
    /// Promises by state: how many events were borne out by the LMS.
    pub promises: Vec<(String, i64)>,
    /// Records by kind.
    pub records: Vec<(String, i64)>,
    /// When the newest finished sweep began.
    #[serde(serialize_with = "as_utc_if_any")]
    pub last_sweep_at: Option<Timestamp>,
    /// The newest sweeps, newest first.
    pub sweeps: Vec<RunView>,
    /// The portals.
    pub portals: Vec<PortalStatus>,
    /// The destinations.
    pub destinations: Vec<DestinationStatus>,
}

/// One sweep.
#[derive(Clone, Debug, Serialize)]
pub struct RunView {
    /// The portal.
    pub portal: String,
    /// `running`, `paused`, `done` or `failed`.
    pub state: String,
    /// When it began.
    #[serde(serialize_with = "as_utc")]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(serialize_with = "as_utc_if_any")]
    pub finished_at: Option<Timestamp>,
    /// What it counted.
    pub counts: SweepCounts,
}

/// What is known of our dealings with one LMS portal.
#[derive(Clone, Debug, Serialize)]
pub struct PortalStatus {
    /// Its name.
    pub name: String,
    /// Until when it is, or was last, left alone.
    #[serde(serialize_with = "as_utc_if_any")]
    pub rests_until: Option<Timestamp>,
    /// Why: `throttled`, `unauthorized`, `login_needed` or `login_limit`.
    pub rest_cause: Option<String>,
    /// When the newest complete read of a learner began.
    #[serde(serialize_with = "as_utc_if_any")]
    pub last_read_at: Option<Timestamp>,
    /// When each login that is remembered was; at most four in an hour.
    pub logins: Vec<i64>,
    /// Until when the LMS itself asked to be left alone, or did last.
    #[serde(serialize_with = "as_utc_if_any")]
    pub asked_until: Option<Timestamp>,
    /// What the calls of the last hour in which there were any were for.
    pub budget_use: Option<LmsUse>,
    /// How often another program's login ended our session.
    pub contests: i64,
    /// When it did so last.
    #[serde(serialize_with = "as_utc_if_any")]
    pub contested_at: Option<Timestamp>,
    /// When an administrator logged in by OAuth, or that login was renewed; none where the portal has a password.
    #[serde(serialize_with = "as_utc_if_any")]
    pub grant_obtained_at: Option<Timestamp>,
    /// When that login ends.
    #[serde(serialize_with = "as_utc_if_any")]
    pub grant_ends_at: Option<Timestamp>,
    /// What reads found that webhooks should have announced, and which did, by day and kind; the oldest day first.
    pub health: Vec<HealthDay>,
    /// When the newest webhook came, to the minute; presses of the test button do not count.
    #[serde(serialize_with = "as_utc_if_any")]
    pub last_webhook_at: Option<Timestamp>,
    /// In which hours webhooks came.
    #[serde(skip)]
    pub hours: Vec<Hour>,
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = portal)]
struct PortalRow {
    id: i64,
    name: String,
    rests_until: Option<i64>,
    rest_cause: Option<String>,
    asked_until: Option<i64>,
    budget_use: Option<String>,
    contests: i64,
    contested_at: Option<i64>,
    grant_obtained_at: Option<i64>,
    grant_ends_at: Option<i64>,
}

/// Deliveries that wait for the same thing.
#[derive(Clone, Debug, Serialize)]
pub struct WaitView {
    /// Where they stand.
    pub state: String,
    /// Why, in the word of the ledger; none for those that only wait for their turn.
    pub cause: Option<String>,
    /// How many.
    pub count: i64,
    /// Since when the oldest is wanted.
    #[serde(serialize_with = "as_utc")]
    pub oldest_wanted_at: Timestamp,
    /// When the next of them is tried.
    #[serde(serialize_with = "as_utc_if_any")]
    pub next_due_at: Option<Timestamp>,
    /// The LMS id of the learner whose delivery is the oldest of them, for those with a cause.
    pub example: Option<String>,
}

/// The state of one destination.
#[derive(Clone, Debug, Serialize)]
pub struct DestinationStatus {
    /// Its name.
    pub name: String,
    /// Its connector.
    pub connector: String,
    /// `active`, `paused` or `retired`.
    pub state: String,
    /// Why it is paused.
    pub pause_cause: Option<String>,
    /// Until when.
    #[serde(serialize_with = "as_utc_if_any")]
    pub paused_until: Option<Timestamp>,
    /// Deliveries by state.
    pub deliveries: Vec<(String, i64)>,
    /// Deliveries by cause.
    pub causes: Vec<(String, i64)>,
    /// The same in groups: all that is not settled, by state and cause.
    pub waits: Vec<WaitView>,
    /// When the oldest delivery that waits was wanted.
    #[serde(serialize_with = "as_utc_if_any")]
    pub oldest_wanted_at: Option<Timestamp>,
    /// The newest verify that ended, or that its guard holds.
    pub verified: Option<RunLine>,
}

/// A backfill that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackfillView {
    /// Of which portal.
    pub portal: String,
    /// When it began.
    #[serde(serialize_with = "as_utc")]
    pub started_at: Timestamp,
    /// Whether an operator holds it.
    pub is_paused: bool,
    /// What it does.
    pub phase: Phase,
    /// Learners listed.
    pub learners: u64,
    /// Courses whose enrolments were listed.
    pub courses: u64,
    /// Courses that there are.
    pub courses_total: u64,
    /// Enrolments staged.
    pub enrolments: u64,
    /// Learners put into the lane.
    pub marked: u64,
    /// Learners who wait there.
    pub left: u64,
    /// Calls made for whole lists.
    pub calls: u64,
}

impl View {
    /// The backfills that have not ended.
    ///
    /// # Errors
    /// The store failed.
    pub fn backfills(&mut self) -> Result<Vec<BackfillView>, StoreError> {
        let all = crate::store::staging::all(&mut self.db)?;
        let shown = all.into_iter().map(|(portal, backfill, left)| BackfillView {
            portal,
            started_at: backfill.started_at,
            is_paused: backfill.is_paused,
            phase: backfill.progress.phase,
            learners: backfill.progress.learners,
            courses: backfill.progress.courses,
            courses_total: backfill.progress.courses_total,
            enrolments: backfill.progress.enrolments,
            marked: backfill.progress.marked,
            left,
            calls: backfill.progress.calls,
        });
        Ok(shown.collect())
    }

    /// The state of the installation.
    ///
    /// # Errors
    /// The store failed.
    pub fn status(&mut self) -> Result<Status, StoreError> {
        let db = &mut self.db;
        let installation = installation::table.select(installation::name).first(db)?;
        let (epoch, started_at, pid) = epoch::table
            .order(epoch::id.desc())
            .select((epoch::id, epoch::started_at, epoch::pid))
            .first::<(i64, i64, i64)>(db)?;
        let taken: i64 = intake::table.select(intake::last_event_id).first(db)?;
        let newest: Option<(i64, i64)> =
            event::table.order(event::id.desc()).select((event::id, event::received_at)).first(db).optional()?;
        let sweep: Option<i64> = run::table
            .filter(crate::store::staging::reads_everybody())
            .filter(run::state.eq("done"))
            .select(diesel::dsl::max(run::started_at))
            .first(db)?;
        let count = diesel::dsl::count_star();
        Ok(Status {
            installation,
            epoch,
            started_at: Timestamp(started_at),
            pid,
            events: newest.map_or(0, |(id, _)| id),
            events_waiting: newest.map_or(0, |(id, _)| id - taken),
            last_event_at: newest.map(|(_, at)| Timestamp(at)),
            dirty: mark::table
                .inner_join(subject::table)
                .filter(subject::absent_until.is_null().or(subject::absent_until.ne(mark::due_at.nullable())))
                .group_by(mark::lane)
                .select((mark::lane, count))
                .load(db)?,
            unknown_users: mark::table
                .inner_join(subject::table)
                .filter(subject::absent_until.eq(mark::due_at.nullable()))
                .count()
                .get_result(db)?,
            promises: promise::table.group_by(promise::state).select((promise::state, count)).load(db)?,
            records: record::table
                .filter(record::state.eq("present"))
                .group_by(record::kind)
                .select((record::kind, count))
                .load(db)?,
            last_sweep_at: sweep.map(Timestamp),
            sweeps: self.sweeps()?,
            portals: self.portals()?,
            destinations: self.destinations()?,
        })
    }

    fn destinations(&mut self) -> Result<Vec<DestinationStatus>, StoreError> {
        type Row = (i64, String, String, String, Option<String>, Option<i64>);
        let rows: Vec<Row> = destination::table
            .order(destination::name)
            .select((
                destination::id,
                destination::name,
                destination::connector,
                destination::state,
                destination::pause_cause,
                destination::paused_until,
            ))
            .load(&mut self.db)?;
        let newest = self.newest_verifies()?;
        let db = &mut self.db;
        let count = diesel::dsl::count_star();
        rows.into_iter()
            .map(|(id, name, connector, state, pause_cause, paused_until)| {
                let verified = newest.get(&id).cloned();
                let here = delivery::table.filter(delivery::destination_id.eq(id));
                let oldest: Option<i64> = here
                    .filter(delivery::state.eq_any(["pending", "sending", "uncertain"]))
                    .select(diesel::dsl::min(delivery::wanted_at))
                    .first(db)?;
                Ok(DestinationStatus {
                    name,
                    connector,
                    state,
                    pause_cause,
                    paused_until: paused_until.map(Timestamp),
                    deliveries: here.group_by(delivery::state).select((delivery::state, count)).load(db)?,
                    causes: here
                        .filter(delivery::cause.is_not_null())
                        .group_by(delivery::cause)
                        .select((delivery::cause.assume_not_null(), count))
                        .load(db)?,
                    waits: waits(db, id)?,
                    oldest_wanted_at: oldest.map(Timestamp),
                    verified,
                })
            })
            .collect()
    }

    fn sweeps(&mut self) -> Result<Vec<RunView>, StoreError> {
        let rows: Vec<(String, String, i64, Option<i64>, String)> = run::table
            .inner_join(portal::table.on(portal::id.nullable().eq(run::portal_id)))
            .filter(crate::store::staging::reads_everybody())
            .order(run::id.desc())
            .limit(SWEEPS_SHOWN_MAX)
            .select((portal::name, run::state, run::started_at, run::finished_at, run::counts))
            .load(&mut self.db)?;
        rows.into_iter()
            .map(|(portal, state, started_at, finished_at, counts)| {
                Ok(RunView {
                    portal,
                    state,
                    started_at: Timestamp(started_at),
                    finished_at: finished_at.map(Timestamp),
                    counts: from_json(counts.as_bytes())?,
                })
            })
            .collect()
    }

    /// What is known of our dealings with each LMS portal.
    ///
    /// # Errors
    /// The store failed.
    pub fn portals(&mut self) -> Result<Vec<PortalStatus>, StoreError> {
        let rows: Vec<PortalRow> =
            portal::table.order(portal::name).select(PortalRow::as_select()).load(&mut self.db)?;
        let db = &mut self.db;
        rows.into_iter()
            .map(|row| {
                let id = row.id;
                let of_portal = subject::table.filter(subject::portal_id.eq(id));
                let last_read_at: Option<i64> = of_portal.select(diesel::dsl::max(subject::last_read_at)).first(db)?;
                let (hours, last_webhook_at) = crate::store::health::hours(db, id)?;
                Ok(PortalStatus {
                    name: row.name,
                    health: crate::store::health::days(db, id)?,
                    last_webhook_at,
                    hours,
                    rests_until: row.rests_until.map(Timestamp),
                    rest_cause: row.rest_cause,
                    last_read_at: last_read_at.map(Timestamp),
                    asked_until: row.asked_until.map(Timestamp),
                    budget_use: row.budget_use.map(|text| from_json(text.as_bytes())).transpose()?,
                    contests: row.contests,
                    contested_at: row.contested_at.map(Timestamp),
                    grant_obtained_at: row.grant_obtained_at.map(Timestamp),
                    grant_ends_at: row.grant_ends_at.map(Timestamp),
                    logins: login::table.filter(login::portal_id.eq(id)).order(login::at).select(login::at).load(db)?,
                })
            })
            .collect()
    }

    /// How many webhooks came since an instant. The log has no index on time (it would halve the rate of the receiver), but its numbers
    /// grow with time, so the first is found by halving.
    ///
    /// # Errors
    /// The store failed.
    pub fn events_since(&mut self, since: Timestamp) -> Result<i64, StoreError> {
        let newest: Option<i64> = event::table.select(diesel::dsl::max(event::id)).first(&mut self.db)?;
        let Some(newest) = newest else { return Ok(0) };
        let (mut before, mut after) = (0, newest + 1);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            let at_or_after: (i64, i64) = event::table
                .filter(event::id.ge(middle))
                .order(event::id)
                .select((event::id, event::received_at))
                .first(&mut self.db)?;
            match at_or_after.1 < since.0 {
                true => before = at_or_after.0,
                false => after = middle,
            }
        }
        Ok(event::table.filter(event::id.ge(after)).count().get_result(&mut self.db)?)
    }
}

/// All of a destination that is not settled, by state and cause.
fn waits(db: &mut SqliteConnection, destination: i64) -> Result<Vec<WaitView>, StoreError> {
    let rows: Vec<(String, Option<String>, i64, Option<i64>, Option<i64>)> = delivery::table
        .filter(delivery::destination_id.eq(destination).and(delivery::state.ne("settled")))
        .group_by((delivery::state, delivery::cause))
        .select((
            delivery::state,
            delivery::cause,
            diesel::dsl::count_star(),
            diesel::dsl::min(delivery::wanted_at),
            diesel::dsl::min(delivery::due_at),
        ))
        .load(db)?;
    rows.into_iter()
        .map(|(state, cause, count, oldest, next)| {
            let example = match &cause {
                Some(cause) => oldest_learner(db, destination, &state, cause)?,
                None => None,
            };
            Ok(WaitView {
                state,
                cause,
                count,
                oldest_wanted_at: Timestamp(oldest.unwrap_or_default()),
                next_due_at: next.map(Timestamp),
                example,
            })
        })
        .collect()
}

fn oldest_learner(
    db: &mut SqliteConnection,
    destination: i64,
    state: &str,
    cause: &str,
) -> Result<Option<String>, StoreError> {
    Ok(delivery::table
        .inner_join(person::table.inner_join(subject::table))
        .filter(delivery::destination_id.eq(destination).and(delivery::cause.eq(cause)))
        .filter(delivery::state.eq(state))
        .order((delivery::wanted_at, delivery::id))
        .select(subject::lms_id)
        .first(db)
        .optional()?)
}
