//! Refresh's use cases: dirty subjects are claimed, and what a read found becomes records, kept promises and changed obligations.

use diesel::prelude::*;
use learnsync_sdk::{Learner, MatchRule, RecordKind};

use super::claims::SubjectClaim;
use super::schema::{delivery, mark, person, portal, promise, record, subject};
use super::seal::{Sealer, person_scope};
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::delivery::{DeliveryState, KnownDelivery, KnownRecord, PersonFacts, Promise, WantedChange};
use crate::domain::fingerprint;
use crate::domain::health;
use crate::domain::ids::{DeliveryId, DestinationId, RecordId, RouteId, SubjectId};
use crate::domain::promise::{keeps, reread_after_ms};
use crate::domain::record::{ReadRecords, Record};
use crate::domain::subject::SubjectKind;
use crate::domain::time::{LmsTime, Timestamp};
use crate::fail_point;

/// How long we do not ask again for a user that the LMS does not know: what a forger can cost.
const ABSENT_MS: i64 = 10 * 60_000;

/// A dirty subject that this process reads; the claim ends when this is dropped.
pub struct ClaimedSubject {
    /// Its row.
    pub subject: SubjectId,
    /// A learner, or which list.
    pub kind: SubjectKind,
    /// Its id there.
    pub lms_id: String,
    /// Reads in a row that failed.
    pub tries: u32,
    /// `live`, `retry`, `sweep` or `backfill`.
    pub lane: String,
    generation: i64,
    _claim: SubjectClaim,
}

/// What is to be read next.
pub enum NextSubject {
    /// A subject is dirty, and due.
    Dirty(ClaimedSubject),
    /// Nothing that nobody reads is due before this time; none when nothing is dirty.
    Rest(Option<Timestamp>),
}

/// What a read of a learner found.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// When the read began: its version. A commit from an older read is dropped.
    pub started_at: Timestamp,
    /// The profile; none when the LMS answered 404. A list has one that carries only its name.
    pub learner: Option<Learner>,
    /// The records.
    pub records: ReadRecords,
    /// When one of them stands otherwise without any event; then the subject is read again.
    pub changes_at: Option<Timestamp>,
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
    /// Deliveries of the learner that wait: after a restore they were held until this read.
    pub waiting: usize,
    /// Promises kept.
    pub kept: usize,
    /// Promises that expired into the night.
    pub expired: usize,
    /// The read was older than what we hold, and was dropped.
    pub is_stale: bool,
}

impl Store {
    /// Claims a dirty subject of a portal that is due: live ones and re-reads first, the sweep's with what room is left. Or says what to wait for.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next_subject(&self, portal: &str) -> Result<NextSubject, StoreError> {
        let name = portal.to_owned();
        let now = self.clock.now().0;
        let claims = std::sync::Arc::clone(&self.claims);
        self.writer
            .run("next_subject", move |tx| {
                let busy: Vec<i64> = match fail_point::is_broken_on_purpose("older_read") {
                    true => Vec::new(),
                    false => claims.subjects().iter().copied().collect(),
                };
                let of_name = portal::table.filter(portal::name.eq(&name)).select(portal::id);
                let Some(portal_id) = of_name.first::<i64>(tx.db).optional()? else {
                    return Ok(NextSubject::Rest(None));
                };
                let mut next: Option<i64> = None;
                for lane in ["live", "retry", "sweep", "backfill"] {
                    if lane == "backfill" && super::staging::is_held(tx.db, portal_id)? {
                        continue;
                    }
                    let mut waiting = mark::table
                        .inner_join(subject::table)
                        .filter(mark::portal_id.eq(portal_id).and(mark::lane.eq(lane)))
                        .order((mark::due_at, mark::subject_id))
                        .select((
                            mark::due_at,
                            mark::subject_id,
                            mark::generation,
                            mark::tries,
                            subject::kind,
                            subject::lms_id,
                        ))
                        .into_boxed();
                    // One condition each, for a list is prepared anew at every use; there are no more claims than workers.
                    for subject in &busy {
                        waiting = waiting.filter(mark::subject_id.ne(*subject));
                    }
                    let first: Option<(i64, i64, i64, i64, String, String)> = waiting.first(tx.db).optional()?;
                    let Some((due_at, id, generation, tries, kind, lms_id)) = first else { continue };
                    if due_at > now {
                        next = Some(next.map_or(due_at, |earlier| earlier.min(due_at)));
                        continue;
                    }
                    let Some(claim) = claims.claim_subject(id) else { continue };
                    return Ok(NextSubject::Dirty(ClaimedSubject {
                        subject: SubjectId(id),
                        kind: SubjectKind::parse(&kind).expect("a CHECK constraint spells the kinds"),
                        lms_id,
                        tries: u32::try_from(tries).unwrap_or(u32::MAX),
                        lane: lane.to_owned(),
                        generation,
                        _claim: claim,
                    }));
                }
                Ok(NextSubject::Rest(next.map(Timestamp)))
            })
            .await
    }

    /// Puts a subject back because the LMS could not be read.
    ///
    /// # Errors
    /// The store failed; the mark stays as it was.
    pub async fn postpone_refresh(&self, claimed: ClaimedSubject, due_at: Timestamp) -> Result<(), StoreError> {
        self.writer
            .run("postpone_refresh", move |tx| {
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
        mut read: Read,
        planner: impl FnOnce(&PersonFacts) -> Vec<WantedChange> + Send + 'static,
    ) -> Result<RefreshCounts, StoreError> {
        let epoch = self.epoch;
        let now = self.clock.now();
        self.writer
            .run("complete_refresh", move |tx| {
                let mut counts = RefreshCounts::default();
                let mut has_learned = false;
                let portal_id: i64 = subject::table.find(claimed.subject.0).select(subject::portal_id).first(tx.db)?;
                match &read.learner {
                    None => keep_absence(tx, &claimed, read.started_at, now, &mut counts)?,
                    Some(learner) => {
                        match keep_person(tx, &claimed, portal_id, learner, read.started_at, epoch, now)? {
                            Person::Current { id: person_id, is_changed } => {
                                has_learned = is_changed;
                                super::seen::complete(tx.db, claimed.subject, &mut read.records)?;
                                let (known, news) =
                                    keep_records(tx, &claimed, person_id, &read, epoch, now, &mut counts)?;
                                super::health::count(tx.db, &claimed, portal_id, &news, read.started_at, now)?;
                                let facts = PersonFacts {
                                    now,
                                    records: known,
                                    absent: absent_records(tx, &claimed, person_id)?,
                                    deliveries: deliveries_of(tx, person_id)?,
                                };
                                let changes = planner(&facts);
                                counts.wanted = changes.len();
                                for change in changes {
                                    apply(tx, person_id, &change, epoch, now)?;
                                }
                                let again = settle_promises(tx, &claimed, &read, now, &mut counts)?;
                                end_mark(tx, &claimed, again)?;
                                let suspected = super::absence::look_again_at(tx.db, claimed.subject, now)?;
                                let again_at = read.changes_at.into_iter().chain(suspected).min();
                                super::calendar::keep(tx.db, claimed.subject, again_at)?;
                            }
                            Person::Erased => end_mark(tx, &claimed, None)?,
                            // Somebody read later than we did; what they wrote stands.
                            Person::ReadLater => {
                                counts.is_stale = true;
                                end_mark(tx, &claimed, None)?;
                            }
                        }
                    }
                }
                if claimed.kind == SubjectKind::Learner {
                    let was_staged = super::staging::forget(tx.db, &claimed.lms_id)?;
                    let is_of_lists = was_staged && claimed.lane == "backfill";
                    has_learned |= counts.new > 0 || counts.changed > 0;
                    // What this read saw may be gone again before any list shows it, and what was staged may be newer, and is gone.
                    let is_ahead = (has_learned || was_staged) && !is_of_lists;
                    if read.learner.is_none() {
                        super::listed::take_back_if_listed(tx.db, portal_id, &claimed.lms_id)?;
                    } else if is_ahead || counts.suspected_absent > 0 || counts.is_stale {
                        super::listed::take_back(tx.db, portal_id, &claimed.lms_id)?;
                    }
                }
                counts.waiting = waiting_of(tx.db, claimed.subject)?;
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

fn waiting_of(db: &mut SqliteConnection, subject: SubjectId) -> Result<usize, StoreError> {
    let waiting: i64 = delivery::table
        .inner_join(person::table)
        .filter(person::subject_id.eq(subject.0).and(delivery::due_at.is_not_null()))
        .count()
        .get_result(db)?;
    Ok(usize::try_from(waiting).unwrap_or(usize::MAX))
}

/// The LMS does not know the user: nothing is concluded about what they held, and they are not asked for again for a while.
fn keep_absence(
    tx: &mut Tx<'_>,
    claimed: &ClaimedSubject,
    read_at: Timestamp,
    now: Timestamp,
    counts: &mut RefreshCounts,
) -> Result<(), StoreError> {
    diesel::update(subject::table.find(claimed.subject.0))
        .set(subject::absent_until.eq(now.plus_ms(ABSENT_MS).0))
        .execute(tx.db)?;
    let of_subject = person::table.filter(person::subject_id.eq(claimed.subject.0).and(person::state.ne("erased")));
    let known: Option<(i64, i64)> = of_subject.select((person::id, person::read_version)).first(tx.db).optional()?;
    if let Some((person_id, version)) = known {
        if version == super::doubt::NEVER_READ {
            super::doubt::trust_ledger(tx.db, person_id)?;
        }
        diesel::update(person::table.find(person_id))
            .set((person::state.eq("gone"), person::read_version.eq(read_at.0)))
            .execute(tx.db)?;
    }
    let open = promise::table.filter(promise::subject_id.eq(claimed.subject.0).and(promise::state.eq("open")));
    counts.expired = diesel::update(open).set(promise::state.eq("expired")).execute(tx.db)?;
    end_mark(tx, claimed, None)
}

enum Person {
    Current { id: i64, is_changed: bool },
    Erased,
    ReadLater,
}

fn keep_person(
    tx: &mut Tx<'_>,
    claimed: &ClaimedSubject,
    portal_id: i64,
    learner: &Learner,
    read_at: Timestamp,
    epoch: i64,
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
        Some((_, _, _, version)) if version > read_at.0 && !fail_point::is_broken_on_purpose("older_read") => {
            return Ok(Person::ReadLater);
        }
        Some((id, same, stored, _)) if same == digest && stored == state => {
            diesel::update(person::table.find(id)).set(person::read_version.eq(read_at.0)).execute(tx.db)?;
            return Ok(Person::Current { id, is_changed: false });
        }
        Some(_) | None => {}
    }
    let columns = (
        person::subject_id.eq(claimed.subject.0),
        person::portal_id.eq(portal_id),
        person::profile.eq(tx.seal(&person_scope(claimed.subject), &plain)?),
        person::profile_digest.eq(digest),
        person::external_id_index.eq(index(tx, "external_id", MatchRule::EXTERNAL_ID.value_of(learner))),
        person::email_index.eq(index(tx, "email", MatchRule::EMAIL.value_of(learner))),
        person::name_index.eq(index(tx, "name", full_name(learner))),
        person::state.eq(state),
        person::read_version.eq(read_at.0),
    );
    match found {
        Some((id, ..)) => {
            diesel::update(person::table.find(id)).set(columns).execute(tx.db)?;
            // Their id may have been corrected: whoever was not found is looked up again. Or they are back.
            super::ledger::release(tx.db, Some(id), &["unmatched", "ambiguous_person", "vanished"], epoch, now)?;
            Ok(Person::Current { id, is_changed: true })
        }
        None => {
            let id = diesel::insert_into(person::table).values(columns).returning(person::id).get_result(tx.db)?;
            Ok(Person::Current { id, is_changed: true })
        }
    }
}

/// First and last name, folded; for looking a person up.
fn full_name(learner: &Learner) -> Option<String> {
    let words: Vec<&str> =
        [&learner.first_name, &learner.last_name].into_iter().flatten().map(|word| word.trim()).collect();
    (!words.is_empty()).then(|| words.join(" ").to_lowercase())
}

/// Makes the records those of the read; returns them as planning wants them, and those that an event should have announced.
fn keep_records<'read>(
    tx: &mut Tx<'_>,
    claimed: &ClaimedSubject,
    person_id: i64,
    read: &'read Read,
    epoch: i64,
    now: Timestamp,
    counts: &mut RefreshCounts,
) -> Result<(Vec<KnownRecord>, Vec<&'read Record>), StoreError> {
    let stored: Vec<Stored> = record::table
        .filter(record::person_id.eq(person_id))
        .select((
            record::id,
            record::key,
            record::kind,
            record::fingerprint,
            record::fingerprint_version,
            record::state,
            record::state_since,
            record::achieved_on,
        ))
        .load::<(i64, String, String, Vec<u8>, i64, String, i64, Option<i64>)>(tx.db)?
        .into_iter()
        .map(|(id, key, kind, fingerprint, version, state, since, achieved_on)| Stored {
            id,
            key,
            kind,
            fingerprint,
            version,
            state,
            since,
            achieved_on,
        })
        .collect();
    let (mut known, mut news) = (Vec::with_capacity(read.records.records.len()), Vec::new());
    for fact in &read.records.records {
        let key = fact.key();
        let before = stored.iter().find(|stored| stored.key == key);
        let is_known = before.is_some_and(|stored| stored.achieved_on == fact.achieved.map(instant_of));
        if health::is_news(fact, is_known) {
            news.push(fact);
        }
        known.push(keep_record(tx, claimed, person_id, fact, before, read.started_at, epoch, now, counts)?);
    }
    for missing in stored {
        let is_read = RecordKind::parse(&missing.kind).is_some_and(|kind| read.records.complete.contains(&kind));
        if !is_read || known.iter().any(|known| known.id.0 == missing.id) {
            continue;
        }
        if missing.state == "suspected_absent" {
            super::absence::confirm(tx.db, claimed.subject, missing.id, missing.since, now)?;
        }
        if missing.state == "present" {
            // One read proves nothing; what follows from absence is reconciliation's.
            diesel::update(record::table.find(missing.id))
                .set((record::state.eq("suspected_absent"), record::state_since.eq(now.0)))
                .execute(tx.db)?;
            counts.suspected_absent += 1;
            if fail_point::is_broken_on_purpose("absence") {
                withdraw(tx.db, missing.id, epoch, now)?;
            }
        }
    }
    Ok((known, news))
}

/// What a daemon would do that believed in absence after one read: only a test breaks this promise.
fn withdraw(db: &mut SqliteConnection, record: i64, epoch: i64, now: Timestamp) -> Result<(), StoreError> {
    let settled = delivery::table.filter(delivery::record_id.eq(record).and(delivery::state.eq("settled")));
    for id in settled.select(delivery::id).load::<i64>(db)? {
        diesel::update(delivery::table.find(id)).set(delivery::wanted.eq("absent")).execute(db)?;
        super::ledger::make_pending(db, id, epoch, now)?;
    }
    Ok(())
}

struct Stored {
    id: i64,
    key: String,
    kind: String,
    fingerprint: Vec<u8>,
    version: i64,
    state: String,
    since: i64,
    achieved_on: Option<i64>,
}

#[expect(clippy::too_many_arguments, reason = "one row and its surroundings; a struct would only rename them")]
fn keep_record(
    tx: &mut Tx<'_>,
    claimed: &ClaimedSubject,
    person_id: i64,
    fact: &Record,
    before: Option<&Stored>,
    read_at: Timestamp,
    epoch: i64,
    now: Timestamp,
    counts: &mut RefreshCounts,
) -> Result<KnownRecord, StoreError> {
    let renewed = Fingerprints::of(tx.sealer, fact);
    if let Some(stored) = before {
        // Compared under the version that it was made with: an upgrade of the program makes no work.
        let is_same = fingerprint_of(tx.sealer, fact, stored.version).as_ref() == Some(&stored.fingerprint);
        if is_same && stored.version == fingerprint::VERSION && stored.state == "present" {
            return Ok(renewed.known(stored.id, fact));
        }
        if is_same && stored.version != fingerprint::VERSION {
            let plain = fingerprint_of(tx.sealer, &without_standing(fact), stored.version);
            renew_fingerprints(tx.db, stored, plain, &renewed)?;
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
        record::fingerprint.eq(&renewed.whole),
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
            if stored.state != "present" {
                super::ledger::release_vanished(tx.db, stored.id, epoch, now)?;
                super::absence::want_again(tx.db, stored.id, epoch, now)?;
            }
            stored.id
        }
        None => diesel::insert_into(record::table).values(columns).returning(record::id).get_result(tx.db)?,
    };
    Ok(renewed.known(id, fact))
}

/// A record's fingerprints of the newest version.
struct Fingerprints {
    whole: Vec<u8>,
    plain: Vec<u8>,
}

impl Fingerprints {
    fn of(sealer: &Sealer, fact: &Record) -> Self {
        let newest =
            |fact: &Record| fingerprint_of(sealer, fact, fingerprint::VERSION).expect("the newest version is known");
        Self { whole: newest(fact), plain: newest(&without_standing(fact)) }
    }

    fn known(self, id: i64, fact: &Record) -> KnownRecord {
        let Self { whole, plain } = self;
        KnownRecord { id: RecordId(id), record: fact.clone(), fingerprint: whole, plain_fingerprint: plain }
    }
}

/// The facts alone, without how they stand today.
pub(super) fn without_standing(fact: &Record) -> Record {
    Record { standing: None, ..fact.clone() }
}

/// A record's keyed fingerprint under a version; none for a version that this program does not know.
pub(super) fn fingerprint_of(sealer: &Sealer, fact: &Record, version: i64) -> Option<Vec<u8>> {
    Some(sealer.blind(&format!("fingerprint/v{version}"), &fingerprint::canonical(fact, version)?))
}

/// The facts are the same, only their fingerprint is of an older version: all who hold the old one get the new one.
fn renew_fingerprints(
    db: &mut SqliteConnection,
    stored: &Stored,
    plain: Option<Vec<u8>>,
    renewed: &Fingerprints,
) -> Result<(), StoreError> {
    let of_record = delivery::table.filter(delivery::record_id.eq(stored.id));
    // Where nothing stood in a version of its own, whole and plain were the same, and deliveries hold the plain one.
    let plain = plain.unwrap_or_default();
    let whole = if plain == stored.fingerprint { &renewed.plain } else { &renewed.whole };
    for (old, new) in [(&stored.fingerprint, whole), (&plain, &renewed.plain)] {
        diesel::update(of_record.filter(delivery::wanted_fingerprint.eq(old)))
            .set(delivery::wanted_fingerprint.eq(new))
            .execute(db)?;
        diesel::update(of_record.filter(delivery::held_fingerprint.eq(old)))
            .set(delivery::held_fingerprint.eq(new))
            .execute(db)?;
    }
    Ok(())
}

/// A sortable instant; a date counts from its first moment in UTC.
pub(super) fn instant_of(time: LmsTime) -> i64 {
    match time {
        LmsTime::Instant(at) => at.0,
        LmsTime::Date(date) => date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis(),
    }
}

/// Records that an earlier read showed and the newest does not.
fn absent_records(tx: &mut Tx<'_>, claimed: &ClaimedSubject, person_id: i64) -> Result<Vec<KnownRecord>, StoreError> {
    let rows: Vec<(i64, Vec<u8>, Vec<u8>)> = record::table
        .filter(record::person_id.eq(person_id).and(record::state.ne("present")))
        .select((record::id, record::facts, record::fingerprint))
        .load(tx.db)?;
    let scope = person_scope(claimed.subject);
    rows.into_iter()
        .map(|(id, facts, fingerprint)| {
            let record: Record = super::queue::from_json(&tx.sealer.open_sealed(&scope, &facts)?)?;
            let plain_fingerprint = Fingerprints::of(tx.sealer, &record).plain;
            Ok(KnownRecord { id: RecordId(id), record, fingerprint, plain_fingerprint })
        })
        .collect()
}

fn deliveries_of(tx: &mut Tx<'_>, person_id: i64) -> Result<Vec<KnownDelivery>, StoreError> {
    let rows: Vec<(i64, i64, i64, String, i64, String, Vec<u8>)> = delivery::table
        .filter(delivery::person_id.eq(person_id))
        .select((
            delivery::id,
            delivery::destination_id,
            delivery::route_id,
            delivery::slot,
            delivery::record_id,
            delivery::state,
            delivery::wanted_fingerprint,
        ))
        .load(tx.db)?;
    Ok(rows
        .into_iter()
        .map(|(id, destination, route, slot, record, state, wanted_fingerprint)| KnownDelivery {
            id: DeliveryId(id),
            destination: DestinationId(destination),
            route: RouteId(route),
            slot,
            record: RecordId(record),
            state: DeliveryState::parse(&state).expect("a CHECK constraint spells the states"),
            wanted_fingerprint,
        })
        .collect())
}

fn apply(tx: &mut Tx<'_>, person_id: i64, change: &WantedChange, epoch: i64, now: Timestamp) -> Result<(), StoreError> {
    match change {
        WantedChange::Create { destination, route, slot, record, fingerprint, skip } => {
            let place = delivery::table.filter(
                delivery::destination_id
                    .eq(destination.0)
                    .and(delivery::route_id.eq(route.0))
                    .and(delivery::slot.eq(slot)),
            );
            let elsewhere: Option<i64> = place.select(delivery::id).first(tx.db).optional()?;
            if let Some(id) = elsewhere {
                // Another learner's fact until now: accounts were merged, and the obligation moves with the fact, its proofs included.
                super::ledger::seal_anew(tx, id, person_id)?;
                diesel::update(delivery::table.find(id))
                    .set((
                        delivery::person_id.eq(person_id),
                        delivery::record_id.eq(record.0),
                        delivery::wanted_fingerprint.eq(fingerprint),
                        delivery::wanted_at.eq(now.0),
                    ))
                    .execute(tx.db)?;
                return super::ledger::reconsider(tx.db, id, epoch, now);
            }
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
            match skip {
                None => super::ledger::becomes_due(tx.db, destination.0, id, epoch, now),
                Some(_) => Ok(()),
            }
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
            if super::absence::want_present(tx.db, id.0, epoch, now)? {
                return Ok(());
            }
            // The facts went and came back before the first were written: the target still holds what is wanted.
            if super::ledger::settle_if_held(tx.db, id.0, fingerprint)? {
                return Ok(());
            }
            // A write under way or of unknown outcome ends first; its outcome then sees that something else is wanted now.
            super::ledger::make_pending(tx.db, id.0, epoch, now)
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
    let rows: Vec<(i64, String, Option<String>, i64, i64)> = promise::table
        .filter(promise::subject_id.eq(claimed.subject.0).and(promise::state.eq("open")))
        .select((promise::id, promise::record_kind, promise::thing, promise::received_at, promise::tries))
        .load(tx.db)?;
    let mut again: Option<i64> = None;
    for (id, kind, thing, received_at, tries) in rows {
        let kind = RecordKind::parse(&kind).expect("we wrote the word");
        let tries = u32::try_from(tries).unwrap_or(u32::MAX);
        let promised = Promise { kind, thing, received_at: Timestamp(received_at), tries };
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
    let generation = match fail_point::is_broken_on_purpose("generation") {
        true => mark::table.find(claimed.subject.0).select(mark::generation).first(tx.db).optional()?.unwrap_or(0),
        false => claimed.generation,
    };
    let same = mark::table.filter(mark::subject_id.eq(claimed.subject.0).and(mark::generation.eq(generation)));
    match again {
        None => diesel::delete(same).execute(tx.db)?,
        Some(due_at) => diesel::update(same)
            .set((mark::due_at.eq(due_at), mark::lane.eq("retry"), mark::tries.eq(0)))
            .execute(tx.db)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use chrono_tz::Tz;
    use learnsync_sdk::RouteMode;

    use super::*;
    use crate::config::History;
    use crate::domain::chance::Generator;
    use crate::domain::delivery::{Attempt, AttemptAction, Held, Next, Outcome};
    use crate::domain::event::{EventName, RawEvent, Reading};
    use crate::domain::time::Clock;
    use crate::pipeline::plan::{Plan, PlannedRoute};
    use crate::pipeline::telling::Telling;
    use crate::store::tests::{AuditedFolder, HandClock};
    use crate::store::{DestinationSpec, NextLane, Open, RouteSpec, Taken, Threading, Topology};

    struct World {
        folder: AuditedFolder,
        clock: Arc<HandClock>,
        store: Store,
        topology: Topology,
        plan: Plan,
    }

    const NOW: i64 = 1_800_000_000_000;
    const USER: &str = "a14c149a-2ce0-41d4-b532-02189ad3cb22";

    async fn world() -> World {
        let folder = AuditedFolder::new();
        let clock = HandClock::at(NOW);
        let store = Open {
            path: folder.path().to_owned(),
            installation: "test".to_owned(),
            threading: Threading::Inline,
            clock: clock.clone(),
            entropy: Arc::new(Generator::seeded(1)),
            pages_max: None,
        }
        .open()
        .expect("the store opens");
        let route =
            RouteSpec { name: "done".to_owned(), mode: RouteMode::State, mapping_digest: "first mapping".to_owned() };
        let spec = DestinationSpec { name: "hr".to_owned(), connector: "fake".to_owned(), routes: vec![route] };
        let topology = store.sync_topology(vec![spec]).await.expect("keeps the destinations");
        let hr = &topology.destinations["hr"];
        let plan = Plan {
            routes: vec![PlannedRoute {
                destination: hr.id,
                route: hr.routes["done"].id,
                record: RecordKind::Completion,
                says_standing: false,
                mode: RouteMode::State,
                slot: learnsync_sdk::SlotRule::Record,
                history: History::All,
                first_seen_at: hr.first_seen_at,
                zone: Tz::UTC,
                telling: Telling { quiet_hours: None, late_after_ms: 86_400_000, zone: Tz::UTC },
            }],
        };
        World { folder, clock, store, topology, plan }
    }

    fn completion(score: f64, achieved_ms: i64) -> Record {
        Record {
            title: "Fire Safety".to_owned(),
            achieved: Some(LmsTime::Instant(Timestamp(achieved_ms))),
            score: Some(score),
            ..Record::new(RecordKind::Completion, "e1", USER.to_owned())
        }
    }

    impl World {
        async fn event(&self) {
            let raw = RawEvent {
                portal: "main".to_owned(),
                method: "POST".to_owned(),
                content_type: String::new(),
                body: Vec::new(),
            };
            let id = self.store.append_event(raw).await.expect("is kept");
            let reading = Reading {
                name: EventName::called("enrollment_completed_by_learner").expect("a known event"),
                user_id: Some(USER.to_owned()),
                ids: BTreeMap::new(),
                oddity: None,
            };
            let events = self.store.take_new_events().await.expect("takes");
            let mut dedupe = [0; 32];
            dedupe[..8].copy_from_slice(&id.to_le_bytes());
            let batch =
                events.into_iter().map(|event| Taken { event, readings: vec![(reading.clone(), dedupe)] }).collect();
            self.store.finish_intake(batch).await.expect("intake ends");
        }

        fn later(&self, ms: i64) {
            self.clock.later(ms);
        }

        async fn claim(&self) -> ClaimedSubject {
            match self.store.next_subject("main").await.expect("claims") {
                NextSubject::Dirty(claimed) => claimed,
                NextSubject::Rest(until) => panic!("nobody is dirty before {until:?}"),
            }
        }

        /// When the next learner is read; now, when one is due.
        async fn next_read(&self) -> Option<Timestamp> {
            match self.store.next_subject("main").await.expect("asks") {
                NextSubject::Dirty(_) => Some(self.clock.now()),
                NextSubject::Rest(until) => until,
            }
        }

        async fn complete(
            &self,
            claimed: ClaimedSubject,
            started_at: Timestamp,
            records: Vec<Record>,
        ) -> RefreshCounts {
            let learner = Learner { id: USER.to_owned(), is_active: true, ..Learner::default() };
            let records = ReadRecords { records, complete: BTreeSet::from([RecordKind::Completion]) };
            let read = Read { started_at, learner: Some(learner), records, changes_at: None };
            let plan = self.plan.clone();
            self.store
                .complete_refresh(claimed, read, move |facts| plan.changes(facts))
                .await
                .expect("the refresh is kept")
        }

        async fn refresh(&self, records: Vec<Record>) -> RefreshCounts {
            self.later(60_000);
            self.event().await;
            let claimed = self.claim().await;
            self.complete(claimed, self.clock.now(), records).await
        }

        /// Delivers all that is due; answers how many there were.
        async fn deliver(&self) -> usize {
            let hr = &self.topology.destinations["hr"];
            let NextLane::Due(lane) = self.store.next_lane(hr.id).await.expect("claims") else { return 0 };
            let ids = lane.work.due.iter().map(|due| (due.id, "p".to_owned())).collect();
            self.store.begin_sending(hr.id, ids).await.expect("sending is kept");
            let outcomes = lane.work.due.iter().map(|due| self.taken(due)).collect();
            self.store.commit_outcomes(hr.id, outcomes).await.expect("outcomes are kept");
            lane.work.due.len()
        }

        fn taken(&self, due: &crate::domain::delivery::DueDelivery) -> Outcome {
            let mapping = self.topology.destinations["hr"].routes["done"].mapping;
            Outcome {
                delivery: due.id,
                person: due.person,
                was_sent: true,
                fingerprint: due.fingerprint.clone(),
                attempt: Some(Attempt {
                    action: AttemptAction::Put,
                    started_at: self.clock.now(),
                    finished_at: self.clock.now(),
                    outcome: "taken",
                    status: Some(201),
                    remote_row: Some("1".to_owned()),
                    words: "created".to_owned(),
                    fields_digest: None,
                }),
                next: Next::Settled(Held { person: "p".to_owned(), row: Some("1".to_owned()), mapping, fields: None }),
            }
        }
    }

    #[tokio::test]
    async fn an_upgrade_with_a_changed_record_type_makes_no_write() {
        let world = world().await;
        let facts = completion(90.0, NOW);
        assert_eq!(world.refresh(vec![facts.clone()]).await.wanted, 1);
        assert_eq!(world.deliver().await, 1);
        // As a program of an older version would have left it: fewer fields under an older number.
        let older = facts.clone();
        world
            .store
            .writer
            .run("an_upgrade_with_a_changed_record_type_makes_no_write", move |tx| {
                let made =
                    fingerprint_of(tx.sealer, &older, fingerprint::BEFORE_VERSION_1).expect("tests know that version");
                diesel::update(record::table)
                    .set((record::fingerprint.eq(&made), record::fingerprint_version.eq(fingerprint::BEFORE_VERSION_1)))
                    .execute(tx.db)?;
                diesel::update(delivery::table)
                    .set((delivery::wanted_fingerprint.eq(&made), delivery::held_fingerprint.eq(&made)))
                    .execute(tx.db)?;
                Ok(())
            })
            .await
            .expect("goes back in time");
        for _ in 0..2 {
            let counts = world.refresh(vec![facts.clone()]).await;
            assert_eq!((counts.new, counts.changed, counts.wanted), (0, 0, 0));
            assert_eq!(world.deliver().await, 0, "nothing is due after the upgrade");
        }
        // And a real change is still one, under the new version.
        assert_eq!(world.refresh(vec![completion(95.0, NOW)]).await.wanted, 1);
        assert_eq!(world.deliver().await, 1);
    }

    #[tokio::test]
    async fn an_event_during_a_read_keeps_the_learner_dirty() {
        let world = world().await;
        world.event().await;
        let claimed = world.claim().await;
        let started_at = world.clock.now();
        world.event().await;
        world.complete(claimed, started_at, vec![completion(90.0, NOW)]).await;
        assert!(world.next_read().await.is_some(), "the second event was not read yet");
    }

    #[tokio::test]
    async fn an_older_read_never_replaces_a_newer_one() {
        let world = world().await;
        world.refresh(vec![completion(95.0, NOW)]).await;
        let older = Timestamp(world.clock.now().0 - 1);
        world.event().await;
        world.later(60_000);
        let claimed = world.claim().await;
        let counts = world.complete(claimed, older, vec![completion(50.0, NOW)]).await;
        assert!(counts.is_stale);
        assert_eq!(world.deliver().await, 1, "only the newer read was ever wanted");
        assert_eq!(world.refresh(vec![completion(95.0, NOW)]).await.changed, 0);
    }

    #[tokio::test]
    async fn an_absent_record_is_only_suspected_and_nothing_is_withdrawn() {
        let world = world().await;
        world.refresh(vec![completion(90.0, NOW)]).await;
        world.deliver().await;
        let counts = world.refresh(Vec::new()).await;
        assert_eq!((counts.suspected_absent, counts.wanted), (1, 0));
        assert_eq!(world.deliver().await, 0);
        let back = world.refresh(vec![completion(90.0, NOW)]).await;
        assert_eq!((back.changed, back.wanted), (0, 0), "it was there all the time");
    }

    #[tokio::test]
    async fn a_promise_that_the_lms_does_not_show_yet_is_read_again_and_then_expires() {
        let world = world().await;
        world.event().await;
        for wait in crate::domain::promise::REREADS_MS {
            let claimed = world.claim().await;
            let counts = world.complete(claimed, world.clock.now(), Vec::new()).await;
            assert_eq!((counts.kept, counts.expired), (0, 0));
            let due = world.next_read().await.expect("it is read again");
            assert_eq!(due.0 - world.clock.now().0, wait);
            world.later(wait);
        }
        let claimed = world.claim().await;
        assert_eq!(world.complete(claimed, world.clock.now(), Vec::new()).await.expired, 1);
        assert_eq!(world.next_read().await, None, "left to the night");
    }

    #[tokio::test]
    async fn facts_that_change_while_they_are_written_are_written_again() {
        let world = world().await;
        world.refresh(vec![completion(90.0, NOW)]).await;
        let hr = &world.topology.destinations["hr"];
        let NextLane::Due(lane) = world.store.next_lane(hr.id).await.expect("claims") else { panic!("one is due") };
        world.store.begin_sending(hr.id, vec![(lane.work.due[0].id, "p".to_owned())]).await.expect("sending is kept");
        assert_eq!(world.refresh(vec![completion(95.0, NOW)]).await.wanted, 1);
        world.store.commit_outcomes(hr.id, vec![world.taken(&lane.work.due[0])]).await.expect("is kept");
        drop(lane);
        assert_eq!(world.deliver().await, 1, "the newer facts are still to be written");
        assert_eq!(world.deliver().await, 0);
        assert_eq!(world.store.verify_chain().await.expect("verifies"), Ok(2));
    }

    #[tokio::test]
    async fn a_changed_attempt_breaks_the_chain() {
        let world = world().await;
        world.folder.spoil();
        for score in [90.0, 91.0, 92.0] {
            world.refresh(vec![completion(score, NOW)]).await;
            world.deliver().await;
        }
        assert_eq!(world.store.verify_chain().await.expect("verifies"), Ok(3));
        world
            .store
            .writer
            .run("a_changed_attempt_breaks_the_chain", |tx| {
                diesel::sql_query("update attempt set outcome = 'rejected' where number = 2").execute(tx.db)?;
                Ok(())
            })
            .await
            .expect("tampers");
        assert_eq!(world.store.verify_chain().await.expect("verifies"), Err(2));
    }
}
