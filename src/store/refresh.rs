//! Refresh's use cases: dirty subjects are claimed, and what a read found becomes records, kept promises and changed obligations.

use diesel::prelude::*;
use learnsync_sdk::{Learner, MatchRule, RecordKind};

use super::claims::SubjectClaim;
use super::queue::enqueue;
use super::schema::{delivery, mark, person, portal, promise, record, subject};
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::delivery::{DeliveryState, KnownDelivery, KnownRecord, PersonFacts, Promise, WantedChange};
use crate::domain::fingerprint;
use crate::domain::ids::{DeliveryId, DestinationId, RecordId, RouteId, SubjectId};
use crate::domain::promise::{keeps, reread_after_ms};
use crate::domain::record::{LearnerRecords, Record};
use crate::domain::time::{LmsTime, Timestamp};

/// How long we do not ask again for a user that the LMS does not know: what a forger can cost.
const ABSENT_MS: i64 = 10 * 60_000;

/// A dirty subject that this process reads; the claim ends when this is dropped.
pub struct ClaimedSubject {
    /// Its row.
    pub subject: SubjectId,
    /// The portal that knows it.
    pub portal: String,
    /// Its id there.
    pub lms_id: String,
    /// Reads in a row that failed.
    pub tries: u32,
    /// `live`, `retry` or `sweep`.
    pub lane: String,
    generation: i64,
    _claim: SubjectClaim,
}

/// What a read of a learner found.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// When the read began: its version. A commit from an older read is dropped.
    pub started_at: Timestamp,
    /// The profile; none when the LMS answered 404.
    pub learner: Option<Learner>,
    /// The records.
    pub records: LearnerRecords,
}

/// What a refresh came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefreshCounts {
    /// Records that were new.
    pub new: usize,
    /// Records whose facts changed.
    pub changed: usize,
    /// Records that a complete read no longer shows: only suspected.
    pub suspected_absent: usize,
    /// Obligations made or changed.
    pub wanted: usize,
    /// Promises kept.
    pub kept: usize,
    /// Promises that expired into the night.
    pub expired: usize,
    /// The read was older than what we hold, and was dropped.
    pub is_stale: bool,
}

impl Store {
    /// Claims dirty subjects that are due: live ones and re-reads first, the sweep's with what room is left.
    ///
    /// # Errors
    /// The store failed.
    pub async fn claim_subjects(&self, limit: usize) -> Result<Vec<ClaimedSubject>, StoreError> {
        let now = self.clock.now().0;
        let claims = std::sync::Arc::clone(&self.claims);
        self.writer
            .run(move |tx| {
                let mut claimed = Vec::new();
                for lane in ["live", "retry", "sweep"] {
                    if claimed.len() >= limit {
                        break;
                    }
                    // Those under way are in the answer too, so ask for that many more.
                    let ask = limit - claimed.len() + claims.subjects().len();
                    let rows: Vec<(i64, i64, i64, String, String)> = mark::table
                        .inner_join(subject::table.inner_join(portal::table.on(portal::id.eq(subject::portal_id))))
                        .filter(mark::lane.eq(lane).and(mark::due_at.le(now)))
                        .order((mark::due_at, mark::subject_id))
                        .limit(i64::try_from(ask).unwrap_or(i64::MAX))
                        .select((mark::subject_id, mark::generation, mark::tries, portal::name, subject::lms_id))
                        .load(tx.db)?;
                    for (id, generation, tries, portal, lms_id) in rows {
                        if claimed.len() >= limit {
                            break;
                        }
                        let Some(claim) = claims.claim_subject(id) else { continue };
                        claimed.push(ClaimedSubject {
                            subject: SubjectId(id),
                            portal,
                            lms_id,
                            tries: u32::try_from(tries).unwrap_or(u32::MAX),
                            lane: lane.to_owned(),
                            generation,
                            _claim: claim,
                        });
                    }
                }
                Ok(claimed)
            })
            .await
    }

    /// When the next dirty subject that nobody reads is due.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next_due_subject(&self) -> Result<Option<Timestamp>, StoreError> {
        let claims = std::sync::Arc::clone(&self.claims);
        self.writer
            .run(move |tx| {
                let claimed: Vec<i64> = claims.subjects().iter().copied().collect();
                let due: Option<i64> = mark::table
                    .filter(mark::subject_id.ne_all(claimed))
                    .select(diesel::dsl::min(mark::due_at))
                    .first(tx.db)?;
                Ok(due.map(Timestamp))
            })
            .await
    }

    /// Puts a subject back because the LMS could not be read.
    ///
    /// # Errors
    /// The store failed; the mark stays as it was.
    pub async fn postpone_refresh(&self, claimed: ClaimedSubject, due_at: Timestamp) -> Result<(), StoreError> {
        self.writer
            .run(move |tx| {
                diesel::update(mark::table.find(claimed.subject.0))
                    .set((mark::due_at.eq(due_at.0), mark::tries.eq(mark::tries + 1)))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
    }

    /// Commits what a read found, with the changes of what is wanted that `planner` derives from it, and ends the mark if no event came
    /// meanwhile.
    ///
    /// # Errors
    /// The store failed; the subject stays dirty.
    pub async fn complete_refresh(
        &self,
        claimed: ClaimedSubject,
        read: Read,
        planner: impl FnOnce(&PersonFacts) -> Vec<WantedChange> + Send + 'static,
    ) -> Result<RefreshCounts, StoreError> {
        let now = self.clock.now();
        self.writer
            .run(move |tx| {
                let mut counts = RefreshCounts::default();
                let portal_id: i64 = subject::table.find(claimed.subject.0).select(subject::portal_id).first(tx.db)?;
                match &read.learner {
                    None => keep_absence(tx, &claimed, now, &mut counts)?,
                    Some(learner) => match keep_person(tx, &claimed, portal_id, learner, read.started_at, now)? {
                        Person::Current(person_id) => {
                            let known = keep_records(tx, &claimed, person_id, &read, now, &mut counts)?;
                            let facts = PersonFacts { now, records: known, deliveries: deliveries_of(tx, person_id)? };
                            let changes = planner(&facts);
                            counts.wanted = changes.len();
                            for change in changes {
                                apply(tx, person_id, &change, now)?;
                            }
                            let again = settle_promises(tx, &claimed, &read, now, &mut counts)?;
                            end_mark(tx, &claimed, again)?;
                        }
                        Person::Erased => end_mark(tx, &claimed, None)?,
                        // Somebody read later than we did; what they wrote stands.
                        Person::ReadLater => {
                            counts.is_stale = true;
                            end_mark(tx, &claimed, None)?;
                        }
                    },
                }
                if !counts.is_stale {
                    diesel::update(subject::table.find(claimed.subject.0))
                        .set(subject::last_read_at.eq(read.started_at.0))
                        .execute(tx.db)?;
                }
                Ok(counts)
            })
            .await
    }
}

/// The scope under which a person's columns are sealed.
pub(crate) fn person_scope(subject: SubjectId) -> String {
    format!("person/{subject}")
}

/// The LMS does not know the user: nothing is concluded about what they held, and they are not asked for again for a while.
fn keep_absence(
    tx: &mut Tx<'_>,
    claimed: &ClaimedSubject,
    now: Timestamp,
    counts: &mut RefreshCounts,
) -> Result<(), StoreError> {
    diesel::update(subject::table.find(claimed.subject.0))
        .set(subject::absent_until.eq(now.plus_ms(ABSENT_MS).0))
        .execute(tx.db)?;
    diesel::update(person::table.filter(person::subject_id.eq(claimed.subject.0).and(person::state.ne("erased"))))
        .set(person::state.eq("gone"))
        .execute(tx.db)?;
    let open = promise::table.filter(promise::subject_id.eq(claimed.subject.0).and(promise::state.eq("open")));
    counts.expired = diesel::update(open).set(promise::state.eq("expired")).execute(tx.db)?;
    end_mark(tx, claimed, None)
}

enum Person {
    Current(i64),
    Erased,
    ReadLater,
}

fn keep_person(
    tx: &mut Tx<'_>,
    claimed: &ClaimedSubject,
    portal_id: i64,
    learner: &Learner,
    read_at: Timestamp,
    now: Timestamp,
) -> Result<Person, StoreError> {
    let found: Option<(i64, Vec<u8>, String, i64)> = person::table
        .filter(person::subject_id.eq(claimed.subject.0))
        .select((person::id, person::profile_digest, person::state, person::read_version))
        .first(tx.db)
        .optional()?;
    let plain = serde_json::to_vec(learner).expect("a learner is plain data");
    let digest = tx.sealer.blind("profile", &plain);
    let state = if learner.is_active { "active" } else { "inactive" };
    let index =
        |tx: &Tx<'_>, purpose: &str, value: Option<String>| value.map(|text| tx.sealer.blind(purpose, text.as_bytes()));
    match found {
        Some((_, _, stored, _)) if stored == "erased" => return Ok(Person::Erased),
        Some((_, _, _, version)) if version > read_at.0 => return Ok(Person::ReadLater),
        Some((id, same, stored, _)) if same == digest && stored == state => {
            diesel::update(person::table.find(id)).set(person::read_version.eq(read_at.0)).execute(tx.db)?;
            return Ok(Person::Current(id));
        }
        Some(_) | None => {}
    }
    let columns = (
        person::subject_id.eq(claimed.subject.0),
        person::portal_id.eq(portal_id),
        person::profile.eq(tx.seal(&person_scope(claimed.subject), &plain)?),
        person::profile_digest.eq(digest),
        person::external_id_index.eq(index(tx, "external_id", MatchRule::ExternalId.value_of(learner))),
        person::email_index.eq(index(tx, "email", MatchRule::Email.value_of(learner))),
        person::name_index.eq(index(tx, "name", full_name(learner))),
        person::state.eq(state),
        person::read_version.eq(read_at.0),
    );
    match found {
        Some((id, ..)) => {
            diesel::update(person::table.find(id)).set(columns).execute(tx.db)?;
            // Their id may have been corrected: whoever was not found is looked up again.
            super::ledger::release(tx.db, Some(id), &["unmatched", "ambiguous_person"], now)?;
            Ok(Person::Current(id))
        }
        None => {
            let id = diesel::insert_into(person::table).values(columns).returning(person::id).get_result(tx.db)?;
            Ok(Person::Current(id))
        }
    }
}

/// First and last name, folded; for looking a person up.
fn full_name(learner: &Learner) -> Option<String> {
    let words: Vec<&str> =
        [&learner.first_name, &learner.last_name].into_iter().flatten().map(|word| word.trim()).collect();
    (!words.is_empty()).then(|| words.join(" ").to_lowercase())
}

/// Makes the records those of the read; returns them as planning wants them.
fn keep_records(
    tx: &mut Tx<'_>,
    claimed: &ClaimedSubject,
    person_id: i64,
    read: &Read,
    now: Timestamp,
    counts: &mut RefreshCounts,
) -> Result<Vec<KnownRecord>, StoreError> {
    let stored: Vec<Stored> = record::table
        .filter(record::person_id.eq(person_id))
        .select((
            record::id,
            record::key,
            record::kind,
            record::fingerprint,
            record::fingerprint_version,
            record::state,
        ))
        .load::<(i64, String, String, Vec<u8>, i64, String)>(tx.db)?
        .into_iter()
        .map(|(id, key, kind, fingerprint, version, state)| Stored { id, key, kind, fingerprint, version, state })
        .collect();
    let mut known = Vec::with_capacity(read.records.records.len());
    for fact in &read.records.records {
        let key = fact.key();
        let before = stored.iter().find(|stored| stored.key == key);
        known.push(keep_record(tx, claimed, person_id, fact, before, read.started_at, now, counts)?);
    }
    for missing in stored.iter().filter(|stored| stored.state == "present") {
        let is_read = RecordKind::parse(&missing.kind).is_some_and(|kind| read.records.complete.contains(&kind));
        if is_read && !known.iter().any(|known| known.id.0 == missing.id) {
            // One read proves nothing; what follows from absence is reconciliation's.
            diesel::update(record::table.find(missing.id))
                .set((record::state.eq("suspected_absent"), record::state_since.eq(now.0)))
                .execute(tx.db)?;
            counts.suspected_absent += 1;
        }
    }
    Ok(known)
}

struct Stored {
    id: i64,
    key: String,
    kind: String,
    fingerprint: Vec<u8>,
    version: i64,
    state: String,
}

#[expect(clippy::too_many_arguments, reason = "one row and its surroundings; a struct would only rename them")]
fn keep_record(
    tx: &mut Tx<'_>,
    claimed: &ClaimedSubject,
    person_id: i64,
    fact: &Record,
    before: Option<&Stored>,
    read_at: Timestamp,
    now: Timestamp,
    counts: &mut RefreshCounts,
) -> Result<KnownRecord, StoreError> {
    let renewed = fingerprint_of(tx, fact, fingerprint::VERSION).expect("the newest version is known");
    if let Some(stored) = before {
        // Compared under the version that it was made with: an upgrade of the program makes no work.
        let is_same = fingerprint_of(tx, fact, stored.version).as_ref() == Some(&stored.fingerprint);
        if is_same && stored.version == fingerprint::VERSION && stored.state == "present" {
            return Ok(KnownRecord { id: RecordId(stored.id), record: fact.clone(), fingerprint: renewed });
        }
        if is_same && stored.version != fingerprint::VERSION {
            renew_fingerprints(tx.db, stored, &renewed)?;
        }
        counts.changed += usize::from(!is_same);
    } else {
        counts.new += 1;
    }
    let plain = serde_json::to_vec(fact).expect("a record is plain data");
    let columns = (
        record::person_id.eq(person_id),
        record::kind.eq(fact.kind.as_str()),
        record::key.eq(fact.key()),
        record::facts.eq(tx.seal(&person_scope(claimed.subject), &plain)?),
        record::fingerprint.eq(&renewed),
        record::fingerprint_version.eq(fingerprint::VERSION),
        record::course_id.eq(fact.course.as_ref().map(|course| course.id.clone())),
        record::read_version.eq(read_at.0),
        record::achieved_on.eq(fact.achieved.map(instant_of)),
        record::state.eq("present"),
        record::state_since.eq(now.0),
    );
    let id = match before {
        Some(stored) => {
            diesel::update(record::table.find(stored.id)).set(columns).execute(tx.db)?;
            stored.id
        }
        None => diesel::insert_into(record::table).values(columns).returning(record::id).get_result(tx.db)?,
    };
    Ok(KnownRecord { id: RecordId(id), record: fact.clone(), fingerprint: renewed })
}

/// A record's keyed fingerprint under a version; none for a version that this program does not know.
fn fingerprint_of(tx: &Tx<'_>, fact: &Record, version: i64) -> Option<Vec<u8>> {
    Some(tx.sealer.blind(&format!("fingerprint/v{version}"), &fingerprint::canonical(fact, version)?))
}

/// The facts are the same, only their fingerprint is of an older version: all who hold the old one get the new one.
fn renew_fingerprints(db: &mut SqliteConnection, stored: &Stored, renewed: &[u8]) -> Result<(), StoreError> {
    let of_record = delivery::table.filter(delivery::record_id.eq(stored.id));
    diesel::update(of_record.filter(delivery::wanted_fingerprint.eq(&stored.fingerprint)))
        .set(delivery::wanted_fingerprint.eq(renewed))
        .execute(db)?;
    diesel::update(of_record.filter(delivery::held_fingerprint.eq(&stored.fingerprint)))
        .set(delivery::held_fingerprint.eq(renewed))
        .execute(db)?;
    Ok(())
}

/// A sortable instant; a date counts from its first moment in UTC.
fn instant_of(time: LmsTime) -> i64 {
    match time {
        LmsTime::Instant(at) => at.0,
        LmsTime::Date(date) => date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis(),
    }
}

fn deliveries_of(tx: &mut Tx<'_>, person_id: i64) -> Result<Vec<KnownDelivery>, StoreError> {
    let rows: Vec<(i64, i64, i64, String, String, Vec<u8>)> = delivery::table
        .filter(delivery::person_id.eq(person_id))
        .select((
            delivery::id,
            delivery::destination_id,
            delivery::route_id,
            delivery::slot,
            delivery::state,
            delivery::wanted_fingerprint,
        ))
        .load(tx.db)?;
    Ok(rows
        .into_iter()
        .map(|(id, destination, route, slot, state, wanted_fingerprint)| KnownDelivery {
            id: DeliveryId(id),
            destination: DestinationId(destination),
            route: RouteId(route),
            slot,
            state: DeliveryState::parse(&state).expect("a CHECK constraint spells the states"),
            wanted_fingerprint,
        })
        .collect())
}

fn apply(tx: &mut Tx<'_>, person_id: i64, change: &WantedChange, now: Timestamp) -> Result<(), StoreError> {
    match change {
        WantedChange::Create { destination, route, slot, record, fingerprint, skip } => {
            let state = if skip.is_some() { DeliveryState::Skipped } else { DeliveryState::Pending };
            let id: i64 = diesel::insert_into(delivery::table)
                .values((
                    delivery::destination_id.eq(destination.0),
                    delivery::route_id.eq(route.0),
                    delivery::slot.eq(slot),
                    delivery::person_id.eq(person_id),
                    delivery::record_id.eq(record.0),
                    delivery::state.eq(state.as_str()),
                    delivery::cause.eq(skip.as_ref().map(crate::domain::delivery::Cause::word)),
                    delivery::due_at.eq(skip.is_none().then_some(now.0)),
                    delivery::wanted.eq("present"),
                    delivery::wanted_fingerprint.eq(fingerprint),
                    delivery::wanted_at.eq(now.0),
                ))
                .returning(delivery::id)
                .get_result(tx.db)?;
            if skip.is_none() {
                enqueue(tx.db, destination.0, id, now.0)?;
            }
            Ok(())
        }
        WantedChange::Update { delivery: id, record, fingerprint } => {
            let row = delivery::table.find(id.0);
            diesel::update(row)
                .set((
                    delivery::record_id.eq(record.0),
                    delivery::wanted_fingerprint.eq(fingerprint),
                    delivery::wanted_at.eq(now.0),
                ))
                .execute(tx.db)?;
            // A write under way or of unknown outcome ends first; its outcome then sees that something else is wanted now.
            super::ledger::make_pending(tx.db, id.0, now)
        }
    }
}

/// Keeps promises, and says when to read again for those that are still open.
fn settle_promises(
    tx: &mut Tx<'_>,
    claimed: &ClaimedSubject,
    read: &Read,
    now: Timestamp,
    counts: &mut RefreshCounts,
) -> Result<Option<i64>, StoreError> {
    let rows: Vec<(i64, String, i64, i64)> = promise::table
        .filter(promise::subject_id.eq(claimed.subject.0).and(promise::state.eq("open")))
        .select((promise::id, promise::record_kind, promise::received_at, promise::tries))
        .load(tx.db)?;
    let mut again: Option<i64> = None;
    for (id, kind, received_at, tries) in rows {
        let kind = RecordKind::parse(&kind).expect("we wrote the word");
        let tries = u32::try_from(tries).unwrap_or(u32::MAX);
        let promised = Promise { kind, received_at: Timestamp(received_at), tries };
        let is_kept = read.records.records.iter().any(|fact| keeps(fact, &promised, now));
        let wait = reread_after_ms(tries).filter(|_| read.records.complete.contains(&kind));
        let state = match (is_kept, wait) {
            (true, _) => {
                counts.kept += 1;
                "kept"
            }
            (false, None) => {
                counts.expired += 1;
                "expired"
            }
            (false, Some(wait)) => {
                again = Some(again.map_or(now.0 + wait, |at| at.min(now.0 + wait)));
                "open"
            }
        };
        diesel::update(promise::table.find(id))
            .set((promise::state.eq(state), promise::tries.eq(i64::from(tries) + 1)))
            .execute(tx.db)?;
    }
    Ok(again)
}

/// Ends the mark, or moves it to the next read; but if an event came during this read, its mark stays as it is.
fn end_mark(tx: &mut Tx<'_>, claimed: &ClaimedSubject, again: Option<i64>) -> Result<(), StoreError> {
    let same = mark::table.filter(mark::subject_id.eq(claimed.subject.0).and(mark::generation.eq(claimed.generation)));
    match again {
        None => diesel::delete(same).execute(tx.db)?,
        Some(due_at) => diesel::update(same)
            .set((mark::due_at.eq(due_at), mark::lane.eq("retry"), mark::tries.eq(0)))
            .execute(tx.db)?,
    };
    Ok(())
}
