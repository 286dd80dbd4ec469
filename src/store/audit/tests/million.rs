//! How long the audit of a million records takes: `cargo test --release --lib store::audit::tests::million -- --ignored --nocapture`.

use std::path::Path;
use std::time::Instant;

use diesel::prelude::*;
use learnsync_sdk::{Learner, RecordKind};

use super::number;
use crate::domain::delivery::{Attempt, AttemptAction};
use crate::domain::fingerprint;
use crate::domain::ids::SubjectId;
use crate::domain::record::{Course, Record};
use crate::domain::time::{Clock, LmsTime, Timestamp};
use crate::store::audit::{audit, connect_reading};
use crate::store::ledger::append_attempt;
use crate::store::log::{DAY_MS, portal_id};
use crate::store::refresh::fingerprint_of;
use crate::store::schema::{delivery, event, intake, link, person, reading, record, subject};
use crate::store::seal::person_scope;
use crate::store::tests::{Ledger, lms_id};
use crate::store::writer::Tx;
use crate::store::{DestinationRows, StoreError};

/// Learners, and facts of each.
const LEARNERS: u32 = 100_000;
const FACTS_EACH: u32 = 10;

/// Learners in one commit.
const COMMIT: u32 = 500;

/// All that is there of one learner: each fact was announced, read, and delivered with one attempt.
fn learner(tx: &mut Tx<'_>, number: u32, hr: &DestinationRows, now: Timestamp) -> Result<(), StoreError> {
    let portal = portal_id(tx.db, "main")?;
    let id = lms_id(number);
    let subject_id: i64 = diesel::insert_into(subject::table)
        .values((subject::portal_id.eq(portal), subject::kind.eq("learner"), subject::lms_id.eq(&id)))
        .returning(subject::id)
        .get_result(tx.db)?;
    let scope = person_scope(SubjectId(subject_id));
    let learner = Learner {
        id: id.clone(),
        email: Some(format!("person{number}@example.org")),
        first_name: Some("Ana".to_owned()),
        last_name: Some("Nowak".to_owned()),
        is_active: true,
        ..Learner::default()
    };
    let profile = serde_json::to_vec(&learner).expect("a learner is plain data");
    let person_id: i64 = diesel::insert_into(person::table)
        .values((
            person::subject_id.eq(subject_id),
            person::portal_id.eq(portal),
            person::profile_digest.eq(tx.sealer.blind("profile", &profile)),
            person::profile.eq(tx.seal(&scope, &profile)?),
            person::state.eq("active"),
            person::read_version.eq(now.0),
        ))
        .returning(person::id)
        .get_result(tx.db)?;
    diesel::insert_into(link::table)
        .values((
            link::destination_id.eq(hr.id.0),
            link::person_id.eq(person_id),
            link::state.eq("linked"),
            link::remote_person.eq(number.to_string()),
            link::rule.eq("email"),
            link::checked_at.eq(now.0),
        ))
        .execute(tx.db)?;
    for fact in 0..FACTS_EACH {
        let at = now.plus_ms(i64::from(number) * 60_000);
        announced(tx, portal, subject_id, at)?;
        let record = Record {
            title: "Fire safety, with a title as long as they are".to_owned(),
            achieved: Some(LmsTime::Instant(at)),
            course: Some(Course { id: format!("course{fact}"), name: "Fire safety".to_owned(), external_id: None }),
            score: Some(87.5),
            minutes: Some(f64::from(number) / 7.0),
            ..Record::new(RecordKind::Completion, format!("{number}-{fact}"), &id)
        };
        delivered(tx, (subject_id, person_id), &record, hr, at)?;
    }
    Ok(())
}

fn announced(tx: &mut Tx<'_>, portal: i64, subject_id: i64, at: Timestamp) -> Result<(), StoreError> {
    let day = at.0.div_euclid(DAY_MS);
    let body = tx.seal(&format!("day/{day}"), &[b'x'; 200])?;
    let event_id: i64 = diesel::insert_into(event::table)
        .values((
            event::portal_id.eq(portal),
            event::received_at.eq(at.0),
            event::method.eq("POST"),
            event::content_type.eq("application/json"),
            event::body.eq(body),
            event::day.eq(day),
        ))
        .returning(event::id)
        .get_result(tx.db)?;
    diesel::insert_into(reading::table)
        .values((
            reading::event_id.eq(event_id),
            reading::position.eq(0_i64),
            reading::name.eq("enrollment_completed"),
            reading::subject_id.eq(subject_id),
            reading::disposition.eq("marked"),
            reading::dedupe.eq(tx.sealer.blind("dedupe", &event_id.to_le_bytes())),
        ))
        .execute(tx.db)?;
    diesel::update(intake::table).set(intake::last_event_id.eq(event_id)).execute(tx.db)?;
    Ok(())
}

fn delivered(
    tx: &mut Tx<'_>,
    (subject_id, person_id): (i64, i64),
    fact: &Record,
    hr: &DestinationRows,
    at: Timestamp,
) -> Result<(), StoreError> {
    let scope = person_scope(SubjectId(subject_id));
    let own = fingerprint_of(tx.sealer, fact, fingerprint::VERSION).expect("the newest version is known");
    let facts = tx.seal(&scope, &serde_json::to_vec(fact).expect("a record is plain data"))?;
    let record_id: i64 = diesel::insert_into(record::table)
        .values((
            record::person_id.eq(person_id),
            record::kind.eq(fact.kind.as_str()),
            record::key.eq(fact.key()),
            record::facts.eq(facts),
            record::fingerprint.eq(&own),
            record::fingerprint_version.eq(fingerprint::VERSION),
            record::course_id.eq(fact.course.as_ref().map(|course| &course.id)),
            record::read_version.eq(at.0),
            record::achieved_on.eq(at.0),
            record::state.eq("present"),
            record::state_since.eq(at.0),
        ))
        .returning(record::id)
        .get_result(tx.db)?;
    let words = "{\"id\":4711,\"status\":\"created\"}".to_owned();
    let receipt = tx.seal(&scope, words.as_bytes())?;
    let route = hr.routes["done"];
    let delivery_id: i64 = diesel::insert_into(delivery::table)
        .values((
            (
                delivery::destination_id.eq(hr.id.0),
                delivery::route_id.eq(route.id.0),
                delivery::slot.eq(fact.key()),
                delivery::person_id.eq(person_id),
                delivery::record_id.eq(record_id),
                delivery::state.eq("settled"),
                delivery::wanted.eq("present"),
                delivery::wanted_fingerprint.eq(&own),
                delivery::wanted_mapping_id.eq(route.mapping.0),
                delivery::wanted_at.eq(at.0),
            ),
            (
                delivery::held_person.eq("p"),
                delivery::held_row.eq(fact.key()),
                delivery::held_fingerprint.eq(&own),
                delivery::held_mapping_id.eq(route.mapping.0),
                delivery::held_at.eq(at.0),
                delivery::receipt.eq(receipt),
                delivery::receipt_status.eq(201_i64),
            ),
        ))
        .returning(delivery::id)
        .get_result(tx.db)?;
    let attempt = Attempt {
        action: AttemptAction::Put,
        started_at: at,
        finished_at: at,
        outcome: "taken",
        status: Some(201),
        remote_row: Some(fact.key()),
        words,
        fields_digest: Some(vec![7; 32]),
    };
    append_attempt(tx, 1, delivery_id, &attempt)?;
    diesel::update(delivery::table.find(delivery_id)).set(delivery::attempts.eq(1)).execute(tx.db)?;
    Ok(())
}

/// Reads every page of the tables that hold nearly all of it.
fn scan(folder: &Path) -> Result<i64, StoreError> {
    let mut db = connect_reading(&folder.join("learnsync.db"))?;
    let mut rows = 0;
    for (table, column) in [
        ("event", "body"),
        ("reading", "dedupe"),
        ("subject", "lms_id"),
        ("person", "profile"),
        ("record", "facts"),
        ("delivery", "receipt"),
        ("attempt", "words"),
        ("link", "rule"),
    ] {
        rows += number(&mut db, &format!("select count({column}) as number from {table} not indexed"))?;
    }
    Ok(rows)
}

/// Most memory that this process ever had, in MiB.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1_024)
}

#[tokio::test]
#[ignore = "builds a store of 2 GB; run it with --release"]
async fn a_million_records_are_audited_in_a_minute() {
    let ledger = Ledger::new().await;
    ledger.folder.spoil();
    let now = ledger.clock.now();
    let built = Instant::now();
    for first in (0..LEARNERS).step_by(usize::try_from(COMMIT).expect("is small")) {
        let hr = ledger.hr.clone();
        let some = move |tx: &mut Tx<'_>| (first..first + COMMIT).try_for_each(|number| learner(tx, number, &hr, now));
        ledger.store.writer.run("a_million_records", some).await.expect("is built");
    }
    let folder = ledger.folder.path();
    let bytes = std::fs::metadata(folder.join("learnsync.db")).expect("is there").len();
    eprintln!("built in {:.0} s, {} MB, peak {:?} MiB", built.elapsed().as_secs_f64(), bytes / 1_000_000, peak_mib());
    let _warm = scan(folder).expect("scans");
    let scanned = Instant::now();
    let rows = scan(folder).expect("scans");
    let scanned = scanned.elapsed();
    let audited = Instant::now();
    let found = audit(folder).expect("audits");
    let audited = audited.elapsed();
    eprintln!(
        "{rows} rows scanned in {:.1} s, audited in {:.1} s: {:.1} times a scan; peak {:?} MiB",
        scanned.as_secs_f64(),
        audited.as_secs_f64(),
        audited.as_secs_f64() / scanned.as_secs_f64(),
        peak_mib()
    );
    let broken: Vec<_> = found.broken().collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let records = found.checks.iter().find(|one| one.check == "records").expect("is one").rows;
    assert_eq!(records, u64::from(LEARNERS * FACTS_EACH));
    assert!(audited.as_secs() < 60, "it took {audited:?}");
}
