//! Reading the ledger beside the daemon: `status` and `explain` have a read-only connection of their own and change nothing.

pub mod browse;
pub mod receipt;

use std::path::Path;

use diesel::prelude::*;
use learnsync_sdk::Learner;
use serde::Serialize;

use super::queue::from_json;
use super::schema::{
    attempt, delivery, destination, epoch, event, installation, intake, link, mapping_version, mark, person, portal,
    promise, reading, record, route, run, subject,
};
use super::seal::{Sealer, person_scope};
use super::{Store, StoreError};
use crate::domain::ids::{PersonId, SubjectId};
use crate::domain::record::Record;
use crate::domain::time::Timestamp;

/// Most events and attempts that are shown of one learner or delivery: the newest.
const SHOWN_MAX: i64 = 50;

/// Most learners that a name may find.
const LEARNERS_SHOWN_MAX: usize = 10;

/// A read-only look into a store.
pub struct View {
    pub(super) db: SqliteConnection,
    sealer: Sealer,
}

/// The state of an installation.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its name.
    pub installation: String,
    /// The newest life of the daemon, and its process.
    pub epoch: i64,
    /// When that began.
    pub started_at: Timestamp,
    /// Its process.
    pub pid: i64,
    /// Webhooks in the log.
    pub events: i64,
    /// Webhooks that intake has not taken yet.
    pub events_waiting: i64,
    /// When the newest came.
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
    pub last_sweep_at: Option<Timestamp>,
    /// The destinations.
    pub destinations: Vec<DestinationStatus>,
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
    pub paused_until: Option<Timestamp>,
    /// Deliveries by state.
    pub deliveries: Vec<(String, i64)>,
    /// Deliveries by cause.
    pub causes: Vec<(String, i64)>,
    /// When the oldest delivery that waits was wanted.
    pub oldest_wanted_at: Option<Timestamp>,
}

/// All that the ledger knows of one learner.
#[derive(Clone, Debug, Serialize)]
pub struct LearnerView {
    /// The portal.
    pub portal: String,
    /// The profile; none when the person was erased.
    pub learner: Option<Learner>,
    /// The LMS's id.
    pub lms_id: String,
    /// `active`, `inactive`, `gone` or `erased`.
    pub state: String,
    /// When the newest complete read began.
    pub read_at: Option<Timestamp>,
    /// When they are read next, if they are dirty, and in which lane.
    pub next_read: Option<(Timestamp, String)>,
    /// The events, newest last.
    pub events: Vec<EventView>,
    /// Who they are in each destination.
    pub links: Vec<LinkView>,
    /// The records, oldest first.
    pub records: Vec<RecordView>,
}

/// One event as it was read.
#[derive(Clone, Debug, Serialize)]
pub struct EventView {
    /// Its number in the log.
    pub id: i64,
    /// When it came.
    pub received_at: Timestamp,
    /// What it says.
    pub name: String,
    /// What became of it.
    pub disposition: String,
    /// What is odd about it.
    pub oddity: Option<String>,
}

/// Who a learner is in a destination.
#[derive(Clone, Debug, Serialize)]
pub struct LinkView {
    /// The destination.
    pub destination: String,
    /// `linked`, `unmatched` or `ambiguous`.
    pub state: String,
    /// The person's id there.
    pub person: Option<String>,
    /// The rule by which we know.
    pub rule: Option<String>,
    /// When it was looked up.
    pub checked_at: Timestamp,
}

/// One record and where it went.
#[derive(Clone, Debug, Serialize)]
pub struct RecordView {
    /// Its key.
    pub key: String,
    /// The facts.
    pub facts: Record,
    /// `present`, `suspected_absent` or `gone`.
    pub state: String,
    /// The start of the read that brought these facts.
    pub read_at: Timestamp,
    /// Its obligations.
    pub deliveries: Vec<DeliveryView>,
}

/// One obligation, its proof and its history.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryView {
    /// The destination.
    pub destination: String,
    /// The route.
    pub route: String,
    /// The place that it fills; the second part of our mark.
    pub slot: String,
    /// Where it stands.
    pub state: String,
    /// Why it is not settled.
    pub cause: Option<String>,
    /// In words.
    pub cause_detail: Option<String>,
    /// When it is tried next.
    pub due_at: Option<Timestamp>,
    /// Since when this is wanted.
    pub wanted_at: Timestamp,
    /// Under which person the target holds it.
    pub held_person: Option<String>,
    /// The row's id in the target.
    pub held_row: Option<String>,
    /// Since when we know.
    pub held_at: Option<Timestamp>,
    /// The version of the mapping that made it.
    pub mapping: Option<String>,
    /// The target's own words.
    pub receipt: Option<String>,
    /// The HTTP status of the receipt.
    pub receipt_status: Option<i64>,
    /// The attempts, oldest first.
    pub attempts: Vec<AttemptView>,
}

/// One try.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptView {
    /// Its number.
    pub number: i64,
    /// The life of the daemon that made it.
    pub epoch: i64,
    /// What it did.
    pub action: String,
    /// When it began.
    pub started_at: Timestamp,
    /// How it ended.
    pub outcome: String,
    /// The HTTP status.
    pub status: Option<i64>,
    /// The target's own words.
    pub words: Option<String>,
}

impl View {
    /// Opens a store for reading; the daemon may run meanwhile.
    ///
    /// # Errors
    /// There is no store there, or its key file is missing.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("learnsync.db");
        let keys = folder.join("learnsync.keys");
        for file in [&path, &keys] {
            if !file.exists() {
                return Err(StoreError::Mismatch(format!(
                    "there is no {}: has `learnsync run` been started with this store.path?",
                    file.display()
                )));
            }
        }
        let url = format!("file:{}?mode=ro", path.display());
        let db = SqliteConnection::establish(&url)
            .map_err(|error| StoreError::Mismatch(format!("cannot open {}: {error}", path.display())))?;
        Ok(Self { db, sealer: Sealer::read(&keys)? })
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
            .filter(run::kind.eq("sweep").and(run::state.eq("done")))
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
        let db = &mut self.db;
        let count = diesel::dsl::count_star();
        rows.into_iter()
            .map(|(id, name, connector, state, pause_cause, paused_until)| {
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
                    oldest_wanted_at: oldest.map(Timestamp),
                })
            })
            .collect()
    }

    /// All that the ledger knows of the learners that a text names: an LMS id, an external id, an e-mail address, or a full name.
    ///
    /// # Errors
    /// The store failed.
    pub fn explain(&mut self, text: &str) -> Result<Vec<LearnerView>, StoreError> {
        let folded = text.trim().to_lowercase();
        let index = |sealer: &Sealer, purpose: &str| sealer.blind(purpose, folded.as_bytes());
        let mut found: Vec<i64> = person::table
            .inner_join(subject::table)
            .filter(
                subject::lms_id
                    .eq(&folded)
                    .or(person::external_id_index.eq(index(&self.sealer, "external_id")).assume_not_null())
                    .or(person::email_index.eq(index(&self.sealer, "email")).assume_not_null())
                    .or(person::name_index.eq(index(&self.sealer, "name")).assume_not_null()),
            )
            .order(person::id)
            .select(person::id)
            .load(&mut self.db)?;
        found.truncate(LEARNERS_SHOWN_MAX);
        found.into_iter().map(|id| self.learner(id)).collect()
    }

    /// The LMS id of a learner who has a settled delivery that took the most attempts: the most telling one to explain.
    ///
    /// # Errors
    /// The store failed.
    pub fn most_tried(&mut self) -> Result<Option<String>, StoreError> {
        Ok(delivery::table
            .inner_join(person::table.inner_join(subject::table))
            .filter(delivery::state.eq("settled"))
            .order((delivery::attempts.desc(), delivery::id))
            .select(subject::lms_id)
            .first(&mut self.db)
            .optional()?)
    }

    fn learner(&mut self, id: i64) -> Result<LearnerView, StoreError> {
        type Row = (i64, Option<Vec<u8>>, String, String, Option<i64>, String);
        let (subject_id, profile, state, lms_id, read_at, portal): Row = person::table
            .inner_join(subject::table)
            .inner_join(portal::table.on(portal::id.eq(person::portal_id)))
            .filter(person::id.eq(id))
            .select((
                person::subject_id,
                person::profile,
                person::state,
                subject::lms_id,
                subject::last_read_at,
                portal::name,
            ))
            .first(&mut self.db)?;
        let learner = match profile {
            Some(sealed) => Some(from_json(&self.sealer.open_sealed(&person_scope(SubjectId(subject_id)), &sealed)?)?),
            None => None,
        };
        let next_read: Option<(i64, String)> = mark::table
            .filter(mark::subject_id.eq(subject_id))
            .select((mark::due_at, mark::lane))
            .first(&mut self.db)
            .optional()?;
        Ok(LearnerView {
            portal,
            learner,
            lms_id,
            state,
            read_at: read_at.map(Timestamp),
            next_read: next_read.map(|(at, lane)| (Timestamp(at), lane)),
            events: self.events(subject_id)?,
            links: self.links(id)?,
            records: self.records(id, SubjectId(subject_id))?,
        })
    }

    fn events(&mut self, subject_id: i64) -> Result<Vec<EventView>, StoreError> {
        let mut rows: Vec<(i64, i64, String, String, Option<String>)> = reading::table
            .inner_join(event::table.on(event::id.eq(reading::event_id)))
            .filter(reading::subject_id.eq(subject_id))
            .order((reading::event_id.desc(), reading::position.desc()))
            .limit(SHOWN_MAX)
            .select((event::id, event::received_at, reading::name, reading::disposition, reading::oddity))
            .load(&mut self.db)?;
        rows.reverse();
        Ok(rows
            .into_iter()
            .map(|(id, at, name, disposition, oddity)| EventView {
                id,
                received_at: Timestamp(at),
                name,
                disposition,
                oddity,
            })
            .collect())
    }

    fn links(&mut self, person_id: i64) -> Result<Vec<LinkView>, StoreError> {
        let rows: Vec<(String, String, Option<String>, Option<String>, i64)> = link::table
            .inner_join(destination::table.on(destination::id.eq(link::destination_id)))
            .filter(link::person_id.eq(person_id))
            .order(destination::name)
            .select((destination::name, link::state, link::remote_person, link::rule, link::checked_at))
            .load(&mut self.db)?;
        Ok(rows
            .into_iter()
            .map(|(destination, state, person, rule, at)| LinkView {
                destination,
                state,
                person,
                rule,
                checked_at: Timestamp(at),
            })
            .collect())
    }

    fn records(&mut self, person_id: i64, subject: SubjectId) -> Result<Vec<RecordView>, StoreError> {
        let rows: Vec<(i64, String, Vec<u8>, String, i64)> = record::table
            .filter(record::person_id.eq(person_id))
            .order((record::achieved_on, record::id))
            .select((record::id, record::key, record::facts, record::state, record::read_version))
            .load(&mut self.db)?;
        rows.into_iter()
            .map(|(id, key, facts, state, read_at)| {
                Ok(RecordView {
                    key,
                    facts: from_json(&self.sealer.open_sealed(&person_scope(subject), &facts)?)?,
                    state,
                    read_at: Timestamp(read_at),
                    deliveries: self.deliveries(id, subject)?,
                })
            })
            .collect()
    }

    fn deliveries(&mut self, record_id: i64, subject: SubjectId) -> Result<Vec<DeliveryView>, StoreError> {
        let ids: Vec<i64> = delivery::table
            .filter(delivery::record_id.eq(record_id))
            .order(delivery::id)
            .select(delivery::id)
            .load(&mut self.db)?;
        ids.into_iter().map(|id| self.delivery(id, subject)).collect()
    }

    fn delivery(&mut self, id: i64, subject: SubjectId) -> Result<DeliveryView, StoreError> {
        type Place = (String, String, String, String, Option<String>, Option<String>, Option<i64>, i64);
        type Proof = (Option<String>, Option<String>, Option<i64>, Option<i64>, Option<Vec<u8>>, Option<i64>);
        let (place, proof): (Place, Proof) = delivery::table
            .inner_join(route::table)
            .inner_join(destination::table.on(destination::id.eq(delivery::destination_id)))
            .filter(delivery::id.eq(id))
            .select((
                (
                    destination::name,
                    route::name,
                    delivery::slot,
                    delivery::state,
                    delivery::cause,
                    delivery::cause_detail,
                    delivery::due_at,
                    delivery::wanted_at,
                ),
                (
                    delivery::held_person,
                    delivery::held_row,
                    delivery::held_at,
                    delivery::held_mapping_id,
                    delivery::receipt,
                    delivery::receipt_status,
                ),
            ))
            .first(&mut self.db)?;
        let (destination, route, slot, state, cause, cause_detail, due_at, wanted_at) = place;
        let (held_person, held_row, held_at, mapping, receipt, receipt_status) = proof;
        let mapping = match mapping {
            Some(mapping) => {
                Some(mapping_version::table.find(mapping).select(mapping_version::digest).first(&mut self.db)?)
            }
            None => None,
        };
        Ok(DeliveryView {
            destination,
            route,
            slot,
            state,
            cause,
            cause_detail,
            due_at: due_at.map(Timestamp),
            wanted_at: Timestamp(wanted_at),
            held_person,
            held_row,
            held_at: held_at.map(Timestamp),
            mapping,
            receipt: receipt.map(|sealed| self.words(subject, &sealed)).transpose()?,
            receipt_status,
            attempts: self.attempts(id, subject)?,
        })
    }

    fn attempts(&mut self, delivery_id: i64, subject: SubjectId) -> Result<Vec<AttemptView>, StoreError> {
        type Row = (i64, i64, String, i64, String, Option<i64>, Option<Vec<u8>>);
        let mut rows: Vec<Row> = attempt::table
            .filter(attempt::delivery_id.eq(delivery_id))
            .order(attempt::id.desc())
            .limit(SHOWN_MAX)
            .select((
                attempt::number,
                attempt::epoch_id,
                attempt::action,
                attempt::started_at,
                attempt::outcome,
                attempt::status,
                attempt::words,
            ))
            .load(&mut self.db)?;
        rows.reverse();
        rows.into_iter()
            .map(|(number, epoch, action, at, outcome, status, words)| {
                Ok(AttemptView {
                    number,
                    epoch,
                    action,
                    started_at: Timestamp(at),
                    outcome,
                    status,
                    words: words.map(|sealed| self.words(subject, &sealed)).transpose()?,
                })
            })
            .collect()
    }

    fn words(&mut self, subject: SubjectId, sealed: &[u8]) -> Result<String, StoreError> {
        let plain = self.sealer.open_sealed(&person_scope(subject), sealed)?;
        Ok(String::from_utf8_lossy(&plain).into_owned())
    }
}

impl Store {
    /// The person that a portal's learner is, if they were ever read.
    ///
    /// # Errors
    /// The store failed.
    pub async fn person_of(&self, portal: &str, lms_id: &str) -> Result<Option<PersonId>, StoreError> {
        let (portal, lms_id) = (portal.to_owned(), lms_id.to_lowercase());
        self.writer
            .run("person_of", move |tx| {
                let found: Option<i64> = person::table
                    .inner_join(subject::table)
                    .inner_join(portal::table.on(portal::id.eq(person::portal_id)))
                    .filter(portal::name.eq(&portal).and(subject::lms_id.eq(&lms_id)))
                    .select(person::id)
                    .first(tx.db)
                    .optional()?;
                Ok(found.map(PersonId))
            })
            .await
    }

    /// Whether nothing is left to do now or soon: no event waits, no learner is dirty, no delivery waits; parked ones do not count.
    ///
    /// # Errors
    /// The store failed.
    pub async fn is_idle(&self) -> Result<bool, StoreError> {
        self.writer
            .run("is_idle", |tx| {
                let taken: i64 = intake::table.select(intake::last_event_id).first(tx.db)?;
                let waiting: i64 = event::table.filter(event::id.gt(taken)).count().get_result(tx.db)?;
                let dirty: i64 = mark::table.count().get_result(tx.db)?;
                let open: i64 = delivery::table
                    .filter(delivery::state.eq_any(["pending", "sending", "uncertain"]))
                    .count()
                    .get_result(tx.db)?;
                Ok(waiting + dirty + open == 0)
            })
            .await
    }
}
