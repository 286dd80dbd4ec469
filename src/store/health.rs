//! Webhook health: what reads found that events should have announced, and in which minutes events came.

use std::collections::BTreeMap;

use chrono::DateTime;
use diesel::prelude::*;
use learnsync_sdk::RecordKind;

use super::StoreError;
use super::queue::from_json;
use super::refresh::ClaimedSubject;
use super::schema::{event, promise, reading, run, subject, webhook_health, webhook_hour};
use crate::domain::health::{HealthDay, Sight, Tally, heard};
use crate::domain::lane::Lane;
use crate::domain::record::Record;
use crate::domain::rhythm::{Hour, WEEKS_MAX};
use crate::domain::time::Timestamp;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// Days of which the counts are kept.
const DAYS_KEPT: i64 = 35;
/// Hours of which the counts are kept: one week more than a rhythm is learned from, since it ends with the last event.
const HOURS_KEPT: i64 = (WEEKS_MAX + 1) * 7 * 24;

/// Counts what a refresh found for the first time, by whether an event had announced it.
pub(super) fn count(
    db: &mut SqliteConnection,
    claimed: &ClaimedSubject,
    portal_id: i64,
    news: &[&Record],
    started_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    if news.is_empty() {
        return Ok(());
    }
    let read_before: Option<i64> = subject::table.find(claimed.subject.0).select(subject::last_read_at).first(db)?;
    let sight = Sight {
        lane: Lane::of(&claimed.lane),
        started_at,
        read_before: read_before.map(Timestamp),
        watched_since: watched_since(db, portal_id)?,
        heard_at: heard_at(db, claimed.subject.0)?,
    };
    let mut tallies: BTreeMap<RecordKind, Tally> = BTreeMap::new();
    for record in news {
        if let Some(heard) = heard(record, &sight) {
            tallies.entry(record.kind).or_default().add(heard);
        }
    }
    let day = now.0.div_euclid(DAY_MS);
    for (kind, tally) in tallies {
        add(db, portal_id, day, kind, &tally)?;
    }
    Ok(())
}

/// When the first read of a portal from end to end began. In a restored ledger it is the first after that: what the ledger does not know
/// may have been announced to the one that was lost.
fn watched_since(db: &mut SqliteConnection, portal_id: i64) -> Result<Option<Timestamp>, StoreError> {
    let restored_after = super::doubt::restored_after_run(db)?;
    let at: Option<i64> = run::table
        .filter(super::staging::reads_everybody())
        .filter(run::portal_id.eq(portal_id).and(run::state.eq("done")).and(run::id.gt(restored_after)))
        .select(diesel::dsl::min(run::started_at))
        .first(db)?;
    Ok(at.map(Timestamp))
}

/// When the event was received for which a subject is read: the oldest whose promise is open, else the newest.
fn heard_at(db: &mut SqliteConnection, subject_id: i64) -> Result<Option<Timestamp>, StoreError> {
    let promised: Option<i64> = promise::table
        .filter(promise::subject_id.eq(subject_id).and(promise::state.eq("open")))
        .select(diesel::dsl::min(promise::received_at))
        .first(db)?;
    if promised.is_some() {
        return Ok(promised.map(Timestamp));
    }
    let newest: Option<i64> = reading::table
        .inner_join(event::table.on(event::id.eq(reading::event_id)))
        .filter(reading::subject_id.eq(subject_id))
        .order(reading::event_id.desc())
        .select(event::received_at)
        .first(db)
        .optional()?;
    Ok(newest.map(Timestamp))
}

fn add(db: &mut SqliteConnection, portal_id: i64, day: i64, kind: RecordKind, more: &Tally) -> Result<(), StoreError> {
    let place = webhook_health::table.find((portal_id, day, kind.as_str()));
    let known: Option<String> = place.select(webhook_health::tally).first(db).optional()?;
    let mut tally: Tally = match &known {
        Some(text) => from_json(text.as_bytes())?,
        None => Tally::default(),
    };
    tally.merge(more);
    let text = serde_json::to_string(&tally).expect("counts are plain data");
    if known.is_some() {
        diesel::update(place).set(webhook_health::tally.eq(text)).execute(db)?;
        return Ok(());
    }
    let row = (
        webhook_health::portal_id.eq(portal_id),
        webhook_health::day.eq(day),
        webhook_health::record_kind.eq(kind.as_str()),
        webhook_health::tally.eq(text),
    );
    diesel::insert_into(webhook_health::table).values(row).execute(db)?;
    let old = webhook_health::table.filter(webhook_health::day.le(day - DAYS_KEPT));
    diesel::delete(old).execute(db)?;
    Ok(())
}

/// Notes that an event was received. Events of one minute are one.
pub(super) fn note_event(db: &mut SqliteConnection, portal_id: i64, received_at: i64) -> Result<(), StoreError> {
    let hour = received_at.div_euclid(HOUR_MS);
    let place = webhook_hour::table.find((portal_id, hour));
    let known: Option<(i64, i64)> =
        place.select((webhook_hour::minutes, webhook_hour::last_at)).first(db).optional()?;
    match known {
        // Also when the clock was set back within the hour: no minute counts twice.
        Some((_, last_at)) if last_at / MINUTE_MS >= received_at / MINUTE_MS => {}
        Some((minutes, _)) => {
            diesel::update(place)
                .set((webhook_hour::minutes.eq(minutes + 1), webhook_hour::last_at.eq(received_at)))
                .execute(db)?;
        }
        None => {
            let row = (
                webhook_hour::portal_id.eq(portal_id),
                webhook_hour::hour.eq(hour),
                webhook_hour::minutes.eq(1_i64),
                webhook_hour::last_at.eq(received_at),
            );
            diesel::insert_into(webhook_hour::table).values(row).execute(db)?;
            let old = webhook_hour::table.filter(webhook_hour::hour.le(hour - HOURS_KEPT));
            diesel::delete(old.filter(webhook_hour::portal_id.eq(portal_id))).execute(db)?;
        }
    }
    Ok(())
}

/// What was counted of a portal, the oldest day first.
pub(super) fn days(db: &mut SqliteConnection, portal_id: i64) -> Result<Vec<HealthDay>, StoreError> {
    let rows: Vec<(i64, String, String)> = webhook_health::table
        .filter(webhook_health::portal_id.eq(portal_id))
        .order((webhook_health::day, webhook_health::record_kind))
        .select((webhook_health::day, webhook_health::record_kind, webhook_health::tally))
        .load(db)?;
    rows.into_iter()
        .map(|(day, kind, tally)| {
            let day = DateTime::from_timestamp_millis(day * DAY_MS).unwrap_or_default().date_naive();
            Ok(HealthDay { day, kind, tally: from_json(tally.as_bytes())? })
        })
        .collect()
}

/// In which hours events of a portal came, the oldest first, and when the last did, to the minute.
pub(super) fn hours(db: &mut SqliteConnection, portal_id: i64) -> Result<(Vec<Hour>, Option<Timestamp>), StoreError> {
    let rows: Vec<(i64, i64, i64)> = webhook_hour::table
        .filter(webhook_hour::portal_id.eq(portal_id))
        .order(webhook_hour::hour)
        .select((webhook_hour::hour, webhook_hour::minutes, webhook_hour::last_at))
        .load(db)?;
    let last = rows.last().map(|(_, _, last_at)| Timestamp(*last_at));
    Ok((rows.into_iter().map(|(hour, minutes, _)| Hour { hour, minutes }).collect(), last))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::health::since;
    use crate::domain::record::ReadRecords;
    use crate::domain::time::LmsTime;
    use crate::store::tests::{Ledger, lms_id};

    /// The LMS shows these completions of a learner, each with how long ago it was.
    fn completions(ledger: &Ledger, ago_ms: &[i64]) -> ReadRecords {
        let record = |(number, ago_ms): (usize, &i64)| Record {
            achieved: Some(LmsTime::Instant(Timestamp(ledger.clock_ms() - ago_ms))),
            ..Record::new(RecordKind::Completion, format!("e{number}"), lms_id(1))
        };
        let records = ago_ms.iter().enumerate().map(record).collect();
        ReadRecords { records, complete: BTreeSet::from([RecordKind::Completion]) }
    }

    async fn sweep(ledger: &Ledger) {
        let sweep = ledger.store.begin_sweep("main").await.expect("begins");
        let id = sweep.id;
        ledger.store.advance_sweep("main", vec![lms_id(1)], sweep).await.expect("marks");
        ledger.store.finish_sweep(id, true).await.expect("ends");
    }

    fn counted(ledger: &Ledger) -> Tally {
        let portals = ledger.view().portals().expect("the store can be looked into");
        let days = portals.iter().flat_map(|portal| portal.health.clone()).collect::<Vec<_>>();
        since(&days, chrono::NaiveDate::MIN)
    }

    #[tokio::test]
    async fn the_first_contact_and_what_was_before_it_are_not_counted() {
        let ledger = Ledger::new().await;
        ledger.hook(1).await;
        ledger.read(1, completions(&ledger, &[5_000])).await;
        assert_eq!(counted(&ledger).found(), 0, "nothing was read from end to end yet");
        ledger.later(HOUR_MS);
        sweep(&ledger).await;
        // The first sweep's reads go on for hours after it ended.
        ledger.later(6 * HOUR_MS);
        ledger.read(1, completions(&ledger, &[7 * HOUR_MS, 6 * HOUR_MS + MINUTE_MS, 20 * HOUR_MS])).await;
        assert_eq!(counted(&ledger).found(), 0, "all of it was before the sweep began");
    }

    #[tokio::test]
    async fn what_the_night_finds_was_missed_and_what_a_webhook_led_to_was_announced_each_once() {
        let ledger = Ledger::new().await;
        ledger.hook(1).await;
        ledger.read(1, ReadRecords::default()).await;
        sweep(&ledger).await;
        ledger.later(MINUTE_MS);
        ledger.read(1, ReadRecords::default()).await;
        ledger.later(HOUR_MS);
        ledger.hook(1).await;
        ledger.later(2_000);
        ledger.read(1, completions(&ledger, &[5_000])).await;
        let tally = counted(&ledger);
        assert_eq!((tally.announced, tally.missed, tally.delay_max_ms), (1, 0, Some(3_000)));
        ledger.later(HOUR_MS);
        sweep(&ledger).await;
        ledger.read(1, completions(&ledger, &[HOUR_MS + 5_000, HOUR_MS / 2])).await;
        let tally = counted(&ledger);
        assert_eq!((tally.announced, tally.missed), (1, 1), "the first was known, the second nobody told of");
        ledger.later(HOUR_MS);
        sweep(&ledger).await;
        ledger.read(1, completions(&ledger, &[2 * HOUR_MS + 5_000, HOUR_MS + HOUR_MS / 2])).await;
        assert_eq!(counted(&ledger).found(), 2, "nothing is new");
    }

    #[tokio::test]
    async fn a_restored_ledger_begins_anew_with_its_first_sweep() {
        let ledger = Ledger::new().await;
        ledger.hook(1).await;
        ledger.read(1, ReadRecords::default()).await;
        sweep(&ledger).await;
        ledger
            .store
            .writer
            .run("a_restored_ledger_begins_anew_with_its_first_sweep", |tx| {
                diesel::sql_query("update installation set restored_after_run = (select max(id) from run)")
                    .execute(tx.db)?;
                Ok(())
            })
            .await
            .expect("is restored");
        ledger.later(HOUR_MS);
        ledger.read(1, completions(&ledger, &[HOUR_MS / 2])).await;
        assert_eq!(counted(&ledger).found(), 0);
        sweep(&ledger).await;
        ledger.later(HOUR_MS);
        ledger.read(1, completions(&ledger, &[HOUR_MS / 2, HOUR_MS + HOUR_MS / 2])).await;
        assert_eq!(counted(&ledger).missed, 1, "only what happened since");
    }

    #[tokio::test]
    async fn the_minutes_of_an_hour_with_webhooks_are_counted_and_tests_are_none() {
        let ledger = Ledger::new().await;
        // Away from the end of an hour.
        ledger.later(HOUR_MS - ledger.clock_ms() % HOUR_MS);
        for ms in [0, 10_000, MINUTE_MS, HOUR_MS] {
            ledger.later(ms);
            ledger.hook(1).await;
        }
        let hours = || {
            let portal = ledger.view().portals().expect("the store can be looked into").remove(0);
            let minutes: Vec<i64> = portal.hours.iter().map(|hour| hour.minutes).collect();
            (minutes, portal.last_webhook_at)
        };
        let last = Timestamp(ledger.clock_ms());
        assert_eq!(hours(), (vec![2, 1], Some(last)));
        ledger.later(5 * MINUTE_MS);
        ledger.press_test().await;
        assert_eq!(hours(), (vec![2, 1], Some(last)));
        // Seven weeks later the first two hours are forgotten.
        ledger.later(HOURS_KEPT * HOUR_MS);
        ledger.hook(1).await;
        assert_eq!(hours().0, [1]);
    }
}
