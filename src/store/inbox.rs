//! Intake's use cases: new events are taken from the log, read, and become dirty subjects and promises.

use diesel::prelude::*;
use learnsync_sdk::RecordKind;

use super::schema::{event, intake, mark, portal, promise, reading, subject};
use super::writer::Tx;
use super::{Store, StoreError};
use crate::domain::event::{EventName, RawEvent, Reading};
use crate::domain::subject::SubjectKind;

/// A repeat of the same event, with the same correlation id, within this time is a duplicate.
const DUPLICATE_WINDOW_MS: i64 = 10 * 60_000;

/// The same without a correlation id: two completions of one learner may look alike then, so only a quick repeat is a duplicate.
const DUPLICATE_WINDOW_UNCORRELATED_MS: i64 = 10_000;

/// A subject is not re-read sooner than this after its last read: what a flood of hooks can cost.
const REREAD_MIN_MS: i64 = 10_000;

/// Most events that intake takes at once.
pub const EVENTS_TAKEN_MAX: i64 = 50;

/// An event of the log that intake has not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Its number.
    pub id: i64,
    /// When it was received, in milliseconds.
    pub received_at: i64,
    /// As received.
    pub raw: RawEvent,
}

/// What intake read from one event.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The event.
    pub event: NewEvent,
    /// Its readings, each with the key by which repeats are recognised.
    pub readings: Vec<(Reading, [u8; 32])>,
}

/// What a batch of events came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntakeCounts {
    /// Readings that marked a learner, or a list, dirty.
    pub marked: usize,
    /// Repeats.
    pub duplicates: usize,
    /// Presses of the Test button.
    pub tests: usize,
    /// Known events about a learner without a usable user id, and unknown events that name nobody.
    pub others: usize,
}

impl Store {
    /// Takes the oldest events that intake has not finished; they stay until `finish_intake`.
    ///
    /// # Errors
    /// The store failed, or a day's key is gone.
    pub async fn take_new_events(&self) -> Result<Vec<NewEvent>, StoreError> {
        self.writer
            .run("take_new_events", |tx| {
                let last: i64 = intake::table.select(intake::last_event_id).first(tx.db)?;
                let rows: Vec<(i64, String, i64, String, String, Vec<u8>, i64)> = event::table
                    .inner_join(portal::table)
                    .filter(event::id.gt(last))
                    .order(event::id)
                    .limit(EVENTS_TAKEN_MAX)
                    .select((
                        event::id,
                        portal::name,
                        event::received_at,
                        event::method,
                        event::content_type,
                        event::body,
                        event::day,
                    ))
                    .load(tx.db)?;
                rows.into_iter()
                    .map(|(id, portal, received_at, method, content_type, body, day)| {
                        let body = tx.sealer.open_sealed(&format!("day/{day}"), &body)?;
                        Ok(NewEvent { id, received_at, raw: RawEvent { portal, method, content_type, body } })
                    })
                    .collect()
            })
            .await
    }

    /// Commits what was read from events: readings, dirty subjects, promises, and that these events are done.
    ///
    /// # Errors
    /// The store failed; the events will be taken again.
    pub async fn finish_intake(&self, batch: Vec<Taken>) -> Result<IntakeCounts, StoreError> {
        let now = self.clock.now().0;
        self.writer
            .run("finish_intake", move |tx| {
                let mut counts = IntakeCounts::default();
                for taken in &batch {
                    let tests = counts.tests;
                    for (position, (reading, dedupe)) in (0_i64..).zip(&taken.readings) {
                        keep_reading(tx, now, &taken.event, position, reading, dedupe, &mut counts)?;
                    }
                    // A person who presses a button is not the LMS.
                    if counts.tests == tests {
                        let portal_id = super::log::portal_id(tx.db, &taken.event.raw.portal)?;
                        super::health::note_event(tx.db, portal_id, taken.event.received_at)?;
                    }
                    diesel::update(intake::table).set(intake::last_event_id.eq(taken.event.id)).execute(tx.db)?;
                }
                Ok(counts)
            })
            .await
    }
}

fn keep_reading(
    tx: &mut Tx<'_>,
    now: i64,
    taken: &NewEvent,
    position: i64,
    read: &Reading,
    dedupe: &[u8; 32],
    counts: &mut IntakeCounts,
) -> Result<(), StoreError> {
    let portal_id = super::log::portal_id(tx.db, &taken.raw.portal)?;
    let (disposition, subject_id) = match (&read.name, read.subject()) {
        (EventName::Test, _) => ("test", None),
        (EventName::Unknown(_), None) => ("unknown", None),
        (EventName::Known(_), None) => ("no_subject", None),
        (EventName::Known(_) | EventName::Unknown(_), Some((kind, lms_id))) => {
            let subject_id = subject_row(tx.db, portal_id, kind, lms_id)?;
            let window = match read.ids.contains_key("correlationid") {
                true => DUPLICATE_WINDOW_MS,
                false => DUPLICATE_WINDOW_UNCORRELATED_MS,
            };
            let is_repeat: bool = diesel::select(diesel::dsl::exists(
                reading::table
                    .inner_join(event::table.on(event::id.eq(reading::event_id)))
                    .filter(reading::dedupe.eq(dedupe.as_slice()))
                    // A repeat of a repeat is none: each would stretch the time in which nothing is read.
                    .filter(reading::disposition.eq("marked"))
                    .filter(event::received_at.ge(taken.received_at - window)),
            ))
            .get_result(tx.db)?;
            // Without a correlation id it may be another event that looks the same: it counts as a repeat, and is read all the same.
            if is_repeat && !read.ids.contains_key("correlationid") {
                mark_live(tx.db, subject_id, now)?;
                counts.marked += 1;
            }
            (if is_repeat { "duplicate" } else { "marked" }, Some(subject_id))
        }
    };
    diesel::insert_into(reading::table)
        .values((
            reading::event_id.eq(taken.id),
            reading::position.eq(position),
            reading::name.eq(read.name.as_str()),
            reading::subject_id.eq(subject_id),
            reading::disposition.eq(disposition),
            reading::dedupe.eq(dedupe.as_slice()),
            reading::oddity.eq(&read.oddity),
        ))
        .execute(tx.db)?;
    match (disposition, subject_id) {
        ("marked", Some(subject_id)) => {
            counts.marked += 1;
            mark_live(tx.db, subject_id, now)?;
            if let Some(kind) = promised(read) {
                diesel::insert_into(promise::table)
                    .values((
                        promise::subject_id.eq(subject_id),
                        promise::event_id.eq(taken.id),
                        promise::record_kind.eq(kind.as_str()),
                        promise::received_at.eq(taken.received_at),
                        promise::state.eq("open"),
                        promise::thing.eq(read.thing()),
                        promise::by_admin.eq(read.by()),
                    ))
                    .execute(tx.db)?;
            }
        }
        ("duplicate", _) => counts.duplicates += 1,
        ("test", _) => counts.tests += 1,
        _ => counts.others += 1,
    }
    Ok(())
}

/// What an event promises to exist; of a list only what the webhook names can be looked for.
fn promised(read: &Reading) -> Option<RecordKind> {
    let EventName::Known(event) = &read.name else { return None };
    event.promises.filter(|kind| kind.is_about_learner() || read.thing().is_some())
}

/// The row of a subject, made at the first mention.
pub(crate) fn subject_row(
    db: &mut SqliteConnection,
    portal_id: i64,
    kind: SubjectKind,
    lms_id: &str,
) -> Result<i64, StoreError> {
    let is_it = subject::portal_id.eq(portal_id).and(subject::kind.eq(kind.as_str())).and(subject::lms_id.eq(lms_id));
    let found: Option<i64> = subject::table.filter(is_it).select(subject::id).first(db).optional()?;
    match found {
        Some(id) => Ok(id),
        None => Ok(diesel::insert_into(subject::table)
            .values((subject::portal_id.eq(portal_id), subject::kind.eq(kind.as_str()), subject::lms_id.eq(lms_id)))
            .returning(subject::id)
            .get_result(db)?),
    }
}

/// Marks a subject dirty for a live event.
pub(crate) fn mark_live(db: &mut SqliteConnection, subject_id: i64, now: i64) -> Result<(), StoreError> {
    mark_again(db, subject_id, now, "live")
}

/// Marks a subject dirty; a new generation, so that a read under way does not count as having seen it. One that a live event marked keeps that
/// lane.
pub(crate) fn mark_again(db: &mut SqliteConnection, subject_id: i64, now: i64, lane: &str) -> Result<(), StoreError> {
    let (last_read_at, absent_until): (Option<i64>, Option<i64>) =
        subject::table.find(subject_id).select((subject::last_read_at, subject::absent_until)).first(db)?;
    let due_at =
        [Some(now), last_read_at.map(|at| at + REREAD_MIN_MS), absent_until].into_iter().flatten().max().unwrap_or(now);
    let existing: Option<(i64, i64, String)> =
        mark::table.find(subject_id).select((mark::generation, mark::due_at, mark::lane)).first(db).optional()?;
    match existing {
        None => {
            diesel::insert_into(mark::table)
                .values((
                    mark::subject_id.eq(subject_id),
                    mark::generation.eq(1_i64),
                    mark::due_at.eq(due_at),
                    mark::lane.eq(lane),
                ))
                .execute(db)?;
        }
        Some((generation, waiting, waiting_in)) => {
            let lane = if waiting_in == "live" { "live" } else { lane };
            diesel::update(mark::table.find(subject_id))
                .set((
                    mark::generation.eq(generation + 1),
                    // A sweep's or a retry's later date gives way; an earlier one stays.
                    mark::due_at.eq(due_at.min(waiting.max(now))),
                    mark::lane.eq(lane),
                ))
                .execute(db)?;
        }
    }
    Ok(())
}
