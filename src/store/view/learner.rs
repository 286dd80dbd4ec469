//! A learner as the ledger knows them: profile, events, links, records, obligations and their proofs.

use diesel::prelude::*;
use learnsync_sdk::{Learner, RecordKind};
use serde::Serialize;

use super::View;
use crate::domain::ids::SubjectId;
use crate::domain::record::Record;
use crate::domain::time::{Timestamp, as_utc, as_utc_if_any};
use crate::store::StoreError;
use crate::store::doubt::NEVER_READ;
use crate::store::queue::from_json;
use crate::store::schema::{
    attempt, delivery, destination, epoch, event, finding, link, mapping_version, mark, person, portal, promise,
    reading, record, route, run, subject,
};
use crate::store::seal::{Sealer, person_scope};

/// Most events and attempts that are shown of one learner or delivery: the newest.
const SHOWN_MAX: i64 = 50;

/// Most learners that a name may find.
pub(super) const LEARNERS_SHOWN_MAX: usize = 10;

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
    #[serde(serialize_with = "as_utc_if_any")]
    pub read_at: Option<Timestamp>,
    /// When they are read next, if they are dirty.
    #[serde(serialize_with = "as_utc_if_any")]
    pub next_read_at: Option<Timestamp>,
    /// In which lane: `live`, `retry` or `sweep`.
    pub next_read_lane: Option<String>,
    /// Whether the ledger was restored from a backup and has not read them since: nothing of theirs is written before.
    pub is_unread_since_restore: bool,
    /// The events, newest last.
    pub events: Vec<EventView>,
    /// What the events promised, and whether the LMS bore it out, oldest first.
    pub promises: Vec<PromiseView>,
    /// Who they are in each destination.
    pub links: Vec<LinkView>,
    /// All destinations that this ledger knows.
    pub places: Vec<PlaceView>,
    /// The records, oldest first.
    pub records: Vec<RecordView>,
}

/// One event as it was read.
#[derive(Clone, Debug, Serialize)]
pub struct EventView {
    /// Its number in the log.
    pub id: i64,
    /// When it came.
    #[serde(serialize_with = "as_utc")]
    pub received_at: Timestamp,
    /// What it says.
    pub name: String,
    /// What became of it.
    pub disposition: String,
    /// What is odd about it.
    pub oddity: Option<String>,
}

/// What an event said that exists.
#[derive(Clone, Debug, Serialize)]
pub struct PromiseView {
    /// Of which kind.
    pub kind: RecordKind,
    /// The LMS id of the thing, if the webhook named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thing: Option<String>,
    /// When the event came.
    #[serde(serialize_with = "as_utc")]
    pub received_at: Timestamp,
    /// Reads of the LMS that did not show it.
    pub tries: i64,
    /// `open`, `kept` or `expired`.
    pub state: String,
}

/// A learner whom events named and whom no read has shown yet.
#[derive(Clone, Debug, Serialize)]
pub struct HeardView {
    /// The portal.
    pub portal: String,
    /// The LMS's id.
    pub lms_id: String,
    /// When they are read next, if they are dirty.
    #[serde(serialize_with = "as_utc_if_any")]
    pub next_read_at: Option<Timestamp>,
    /// Reads in a row that failed.
    pub tries: i64,
    /// The LMS answered that it does not know them; they are not asked for again before this.
    #[serde(serialize_with = "as_utc_if_any")]
    pub absent_until: Option<Timestamp>,
    /// The events, newest last.
    pub events: Vec<EventView>,
}

/// A destination as the ledger knows it.
#[derive(Clone, Debug, Serialize)]
pub struct PlaceView {
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
    /// When it was first configured: where `history = "none"` begins.
    #[serde(serialize_with = "as_utc")]
    pub first_seen_at: Timestamp,
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
    /// Whether a person decided it.
    pub is_pinned: bool,
    /// The ids of those who it may be, when there are several.
    pub candidates: Vec<String>,
    /// When it was looked up.
    #[serde(serialize_with = "as_utc")]
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
    /// Since when.
    #[serde(serialize_with = "as_utc")]
    pub state_since: Timestamp,
    /// The start of the read that brought these facts.
    #[serde(serialize_with = "as_utc")]
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
    #[serde(serialize_with = "as_utc_if_any")]
    pub due_at: Option<Timestamp>,
    /// `present`, or `absent` when the place should be empty.
    pub wanted: String,
    /// Since when this is wanted.
    #[serde(serialize_with = "as_utc")]
    pub wanted_at: Timestamp,
    /// Failures in a row.
    pub tries: i64,
    /// When the write began that is under way or whose outcome nobody knows.
    #[serde(serialize_with = "as_utc_if_any")]
    pub sending_at: Option<Timestamp>,
    /// Whether the newest life of the daemon began that write.
    pub is_of_this_life: bool,
    /// Under which person the target holds it.
    pub held_person: Option<String>,
    /// The row's id in the target.
    pub held_row: Option<String>,
    /// Since when we know.
    #[serde(serialize_with = "as_utc_if_any")]
    pub held_at: Option<Timestamp>,
    /// The version of the mapping that made it.
    pub mapping: Option<String>,
    /// The target's own words.
    pub receipt: Option<String>,
    /// The HTTP status of the receipt.
    pub receipt_status: Option<i64>,
    /// The attempts, oldest first.
    pub attempts: Vec<AttemptView>,
    /// How the place differed when it was last read back; none when it did not.
    pub drift: Option<DriftView>,
}

/// How a place differed when it was last read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DriftView {
    /// The run that found it.
    pub run: i64,
    /// When that began.
    #[serde(serialize_with = "as_utc")]
    pub found_at: Timestamp,
    /// `missing`, `moved`, `unmarked`, `edited`, `stale`, `duplicate`, `orphaned`, `unreadable` or `gone`.
    pub class: String,
    /// What follows: `repair`, `report`, `adopt`, `withdraw` or `none`.
    pub action: String,
    /// The fields that differed, by their names in the target.
    pub fields: Vec<String>,
    /// The row, as it was found.
    pub row: Option<String>,
    /// Why the run's guard holds it, if it does.
    pub held: Option<String>,
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
    #[serde(serialize_with = "as_utc")]
    pub started_at: Timestamp,
    /// How it ended.
    pub outcome: String,
    /// The HTTP status.
    pub status: Option<i64>,
    /// The target's own words.
    pub words: Option<String>,
}

impl View {
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
        type Row = (i64, Option<Vec<u8>>, String, i64, String, Option<i64>, String);
        let (subject_id, profile, state, read_version, lms_id, read_at, portal): Row = person::table
            .inner_join(subject::table)
            .inner_join(portal::table.on(portal::id.eq(person::portal_id)))
            .filter(person::id.eq(id))
            .select((
                person::subject_id,
                person::profile,
                person::state,
                person::read_version,
                subject::lms_id,
                subject::last_read_at,
                portal::name,
            ))
            .first(&mut self.db)?;
        let learner = match profile {
            Some(sealed) => Some(from_json(&self.sealer.open_sealed(&person_scope(SubjectId(subject_id)), &sealed)?)?),
            None => None,
        };
        let next_read: Option<(i64, String)> =
            mark::table.find(subject_id).select((mark::due_at, mark::lane)).first(&mut self.db).optional()?;
        let records = match state.as_str() {
            // Their key is gone, and with it all that the records said.
            "erased" => Vec::new(),
            _ => self.records(id, SubjectId(subject_id))?,
        };
        Ok(LearnerView {
            portal,
            learner,
            lms_id,
            state,
            read_at: read_at.map(Timestamp),
            next_read_at: next_read.as_ref().map(|(at, _)| Timestamp(*at)),
            next_read_lane: next_read.map(|(_, lane)| lane),
            is_unread_since_restore: read_version == NEVER_READ,
            events: self.events(subject_id)?,
            promises: self.promises(subject_id)?,
            links: self.links(id)?,
            places: self.places()?,
            records,
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

    fn promises(&mut self, subject_id: i64) -> Result<Vec<PromiseView>, StoreError> {
        let mut rows: Vec<(String, Option<String>, i64, i64, String)> = promise::table
            .filter(promise::subject_id.eq(subject_id))
            .order(promise::id.desc())
            .limit(SHOWN_MAX)
            .select((promise::record_kind, promise::thing, promise::received_at, promise::tries, promise::state))
            .load(&mut self.db)?;
        rows.reverse();
        let known = rows.into_iter().filter_map(|(kind, thing, at, tries, state)| {
            Some(PromiseView { kind: RecordKind::parse(&kind)?, thing, received_at: Timestamp(at), tries, state })
        });
        Ok(known.collect())
    }

    /// All destinations that this ledger knows, by name.
    ///
    /// # Errors
    /// The store failed.
    pub fn places(&mut self) -> Result<Vec<PlaceView>, StoreError> {
        let rows: Vec<(String, String, String, Option<String>, Option<i64>, i64)> = destination::table
            .order(destination::name)
            .select((
                destination::name,
                destination::connector,
                destination::state,
                destination::pause_cause,
                destination::paused_until,
                destination::first_seen_at,
            ))
            .load(&mut self.db)?;
        let places = rows.into_iter().map(|(name, connector, state, pause_cause, until, first_seen_at)| PlaceView {
            name,
            connector,
            state,
            pause_cause,
            paused_until: until.map(Timestamp),
            first_seen_at: Timestamp(first_seen_at),
        });
        Ok(places.collect())
    }

    /// The learners with this LMS id whom events named and whom no read has shown yet.
    ///
    /// # Errors
    /// The store failed.
    pub fn heard_of(&mut self, text: &str) -> Result<Vec<HeardView>, StoreError> {
        let rows: Vec<(i64, String, String, Option<i64>)> = subject::table
            .inner_join(portal::table.on(portal::id.eq(subject::portal_id)))
            .left_join(person::table.on(person::subject_id.eq(subject::id)))
            .filter(subject::lms_id.eq(text.trim().to_lowercase()).and(person::id.nullable().is_null()))
            .order(subject::id)
            .select((subject::id, portal::name, subject::lms_id, subject::absent_until))
            .load(&mut self.db)?;
        rows.into_iter()
            .map(|(id, portal, lms_id, absent_until)| {
                let mark: Option<(i64, i64)> =
                    mark::table.find(id).select((mark::due_at, mark::tries)).first(&mut self.db).optional()?;
                Ok(HeardView {
                    portal,
                    lms_id,
                    next_read_at: mark.map(|(at, _)| Timestamp(at)),
                    tries: mark.map_or(0, |(_, tries)| tries),
                    absent_until: absent_until.map(Timestamp),
                    events: self.events(id)?,
                })
            })
            .collect()
    }

    fn links(&mut self, person_id: i64) -> Result<Vec<LinkView>, StoreError> {
        type Row = (String, String, Option<String>, Option<String>, i64, Option<String>, i64);
        let rows: Vec<Row> = link::table
            .inner_join(destination::table.on(destination::id.eq(link::destination_id)))
            .filter(link::person_id.eq(person_id))
            .order(destination::name)
            .select((
                destination::name,
                link::state,
                link::remote_person,
                link::rule,
                link::is_pinned,
                link::candidates,
                link::checked_at,
            ))
            .load(&mut self.db)?;
        let links = rows.into_iter().map(|(destination, state, person, rule, is_pinned, candidates, at)| LinkView {
            destination,
            state,
            person,
            rule,
            is_pinned: is_pinned != 0,
            candidates: candidates.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            checked_at: Timestamp(at),
        });
        Ok(links.collect())
    }

    fn records(&mut self, person_id: i64, subject: SubjectId) -> Result<Vec<RecordView>, StoreError> {
        let rows: Vec<(i64, String, Vec<u8>, String, i64, i64)> = record::table
            .filter(record::person_id.eq(person_id))
            .order((record::achieved_on, record::id))
            .select((record::id, record::key, record::facts, record::state, record::state_since, record::read_version))
            .load(&mut self.db)?;
        rows.into_iter()
            .map(|(id, key, facts, state, state_since, read_at)| {
                Ok(RecordView {
                    key,
                    facts: from_json(&self.sealer.open_sealed(&person_scope(subject), &facts)?)?,
                    state,
                    state_since: Timestamp(state_since),
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

    pub(super) fn delivery(&mut self, id: i64, subject: SubjectId) -> Result<DeliveryView, StoreError> {
        type Place = (String, String, String, String, Option<String>, Option<String>, Option<i64>, i64);
        type Proof = (Option<String>, Option<String>, Option<i64>, Option<i64>, Option<Vec<u8>>, Option<i64>);
        type Work = (String, i64, Option<i64>, Option<i64>);
        let (place, proof, work): (Place, Proof, Work) = delivery::table
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
                (delivery::wanted, delivery::tries, delivery::sending_at, delivery::sending_epoch),
            ))
            .first(&mut self.db)?;
        let (destination, route, slot, state, cause, cause_detail, due_at, wanted_at) = place;
        let (held_person, held_row, held_at, mapping, receipt, receipt_status) = proof;
        let (wanted, tries, sending_at, sending_epoch) = work;
        let this_life: Option<i64> = epoch::table.select(diesel::dsl::max(epoch::id)).first(&mut self.db)?;
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
            wanted,
            wanted_at: Timestamp(wanted_at),
            tries,
            sending_at: sending_at.map(Timestamp),
            is_of_this_life: sending_epoch.is_some() && sending_epoch == this_life,
            held_person,
            held_row,
            held_at: held_at.map(Timestamp),
            mapping,
            receipt: receipt.map(|sealed| self.words(subject, &sealed)).transpose()?,
            receipt_status,
            attempts: self.attempts(id, subject)?,
            drift: self.drift(id, held_at)?,
        })
    }

    /// The newest finding, unless the place was written since, or a later run looked again and found nothing.
    fn drift(&mut self, delivery_id: i64, held_at: Option<i64>) -> Result<Option<DriftView>, StoreError> {
        type Row = (i64, i64, String, Option<String>, Option<i64>, String, String, String, Option<String>);
        let newest: Option<Row> = finding::table
            .inner_join(run::table.on(run::id.eq(finding::run_id)))
            .filter(finding::delivery_id.eq(delivery_id))
            .order(finding::id.desc())
            .select((
                run::id,
                run::started_at,
                run::state,
                run::cause,
                run::destination_id,
                finding::class,
                finding::action,
                finding::fields,
                finding::row,
            ))
            .first(&mut self.db)
            .optional()?;
        let Some((id, found_at, state, cause, destination_id, class, action, fields, row)) = newest else {
            return Ok(None);
        };
        if held_at.is_some_and(|at| at > found_at) {
            return Ok(None);
        }
        let later = run::table.filter(run::kind.eq("verify").and(run::state.eq("done")).and(run::id.gt(id)));
        let later = later.filter(run::destination_id.eq(destination_id));
        if diesel::select(diesel::dsl::exists(later)).get_result(&mut self.db)? {
            return Ok(None);
        }
        Ok(Some(DriftView {
            run: id,
            found_at: Timestamp(found_at),
            class,
            action,
            fields: from_json(fields.as_bytes())?,
            row,
            held: cause.filter(|_| state == "held"),
        }))
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
