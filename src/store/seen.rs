//! What only webhooks tell: facts that the LMS has no API for, and which administrator recorded a completion.

use diesel::prelude::*;
use learnsync_sdk::RecordKind;

use super::StoreError;
use super::schema::promise;
use crate::domain::ids::SubjectId;
use crate::domain::record::{ReadRecords, Record};
use crate::domain::time::{LmsTime, Timestamp};

/// The kinds that may have no API: they are taken as seen where the read did not cover them.
const AS_SEEN: [RecordKind; 2] = [RecordKind::LearningPath, RecordKind::SelfAssessment];

/// How far the date of a completion may lie from its webhook, in milliseconds, for the two to be the same.
const APART_MAX_MS: i64 = 15 * 60_000;

/// What an event of a learner told.
#[derive(Queryable)]
struct Told {
    event: i64,
    kind: String,
    received_at: i64,
    thing: Option<String>,
    by: Option<String>,
}

/// Adds to a read what webhooks told of this subject.
pub(super) fn complete(
    db: &mut SqliteConnection,
    subject: SubjectId,
    read: &mut ReadRecords,
) -> Result<(), StoreError> {
    let all: Vec<Told> = promise::table
        .filter(promise::subject_id.eq(subject.0))
        .order(promise::id)
        .select((promise::event_id, promise::record_kind, promise::received_at, promise::thing, promise::by_admin))
        .load(db)?;
    for told in all {
        let Some(kind) = RecordKind::parse(&told.kind) else { continue };
        if AS_SEEN.contains(&kind) && !read.complete.contains(&kind) {
            keep_seen(kind, &told, &mut read.records);
        }
        if let (RecordKind::Completion, Some(by)) = (kind, &told.by) {
            name_administrator(&told, by, &mut read.records);
        }
    }
    Ok(())
}

/// The fact as its webhook told it. The same thing done again is the same record, of the later time.
fn keep_seen(kind: RecordKind, told: &Told, records: &mut Vec<Record>) {
    let id = told.thing.clone().unwrap_or_else(|| format!("webhook-{}", told.event));
    records.retain(|record| record.kind != kind || record.id != id);
    let learner_id = records.first().map(|record| record.learner_id.clone()).unwrap_or_default();
    records.push(Record {
        title: told.thing.clone().unwrap_or_else(|| kind.noun().to_owned()),
        achieved: Some(LmsTime::Instant(Timestamp(told.received_at))),
        is_as_seen: true,
        ..Record::new(kind, id, learner_id)
    });
}

/// The completion that an administrator recorded: the one that the webhook names, else the only one of that time. Of several, none: that
/// would be a guess.
fn name_administrator(told: &Told, by: &str, records: &mut [Record]) {
    let is_of_then = |record: &Record| match record.achieved {
        Some(LmsTime::Instant(at)) => (at.0 - told.received_at).abs() <= APART_MAX_MS,
        Some(LmsTime::Date(_)) | None => false,
    };
    let completions = || records.iter().enumerate().filter(|(_, record)| record.kind == RecordKind::Completion);
    let named = told.thing.as_ref().and_then(|thing| completions().find(|(_, record)| record.id == *thing));
    let mut of_then = completions().filter(|(_, record)| is_of_then(record));
    let only = match (of_then.next(), of_then.next()) {
        (Some((at, _)), None) => Some(at),
        (Some(_), Some(_)) | (None, _) => None,
    };
    if let Some(at) = named.map(|(at, _)| at).or(only) {
        records[at].by = Some(by.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{Ledger, lms_id};

    fn told(kind: RecordKind, thing: Option<&str>) -> Told {
        Told {
            event: 17,
            kind: kind.as_str().to_owned(),
            received_at: 1_800_000_000_000,
            thing: thing.map(str::to_owned),
            by: None,
        }
    }

    fn completion(id: &str, after_ms: i64) -> Record {
        let achieved = Some(LmsTime::Instant(Timestamp(1_800_000_000_000 + after_ms)));
        Record { achieved, ..Record::new(RecordKind::Completion, id, "u") }
    }

    #[test]
    fn what_was_seen_twice_is_one_record_of_the_later_time() {
        let mut records = vec![completion("e", 0)];
        let first = told(RecordKind::SelfAssessment, Some("a"));
        let again =
            Told { event: 18, received_at: first.received_at + 1, ..told(RecordKind::SelfAssessment, Some("a")) };
        keep_seen(RecordKind::SelfAssessment, &first, &mut records);
        keep_seen(RecordKind::SelfAssessment, &again, &mut records);
        keep_seen(RecordKind::SelfAssessment, &told(RecordKind::SelfAssessment, None), &mut records);
        let keys: Vec<_> = records.iter().map(Record::key).collect();
        assert_eq!(keys, ["completion/e", "self_assessment/a", "self_assessment/webhook-17"]);
        assert_eq!(records[1].achieved, Some(LmsTime::Instant(Timestamp(again.received_at))));
        assert!(records[1].is_as_seen && records[1].learner_id == "u");
    }

    #[test]
    fn an_administrator_is_named_where_the_webhook_or_the_time_leaves_no_choice() {
        let by = |told: Told, mut records: Vec<Record>| {
            name_administrator(&told, "boss", &mut records);
            records.into_iter().map(|record| record.by.is_some()).collect::<Vec<_>>()
        };
        let far = APART_MAX_MS + 1;
        assert_eq!(
            by(told(RecordKind::Completion, None), vec![completion("a", 0), completion("b", -far)]),
            [true, false]
        );
        assert_eq!(
            by(told(RecordKind::Completion, None), vec![completion("a", 0), completion("b", 5)]),
            [false, false]
        );
        assert_eq!(
            by(told(RecordKind::Completion, Some("b")), vec![completion("a", 0), completion("b", -far)]),
            [false, true],
            "a completion that is dated back is known by its id"
        );
        assert_eq!(by(told(RecordKind::Completion, None), vec![completion("a", far)]), [false]);
    }

    #[tokio::test]
    async fn what_the_lms_has_no_api_for_is_kept_as_its_webhook_told_it_and_stays_when_the_learner_is_read_again() {
        let ledger = Ledger::new().await;
        ledger.hook_of("Self-Assessment Completed", 1, &[("selfassessmentid", "a1")]).await;
        let read =
            |complete: &[RecordKind]| ReadRecords { records: Vec::new(), complete: complete.iter().copied().collect() };
        let counts = ledger.read(1, read(&[RecordKind::Completion])).await;
        assert_eq!((counts.new, counts.kept), (1, 1), "seen is kept");
        let held = |ledger: &Ledger| -> Vec<(String, String, bool)> {
            let known = ledger.view().explain(&lms_id(1)).expect("is explained");
            let records = known.into_iter().flat_map(|learner| learner.records);
            records.map(|record| (record.key, record.state, record.facts.is_as_seen)).collect()
        };
        let seen = [("self_assessment/a1".to_owned(), "present".to_owned(), true)];
        assert_eq!(held(&ledger), seen);
        ledger.later(60_000);
        ledger.hook(1).await;
        let counts = ledger.read(1, read(&[RecordKind::Completion])).await;
        assert_eq!((counts.new, counts.changed, counts.suspected_absent), (0, 0, 0));
        assert_eq!(held(&ledger), seen);
    }

    #[tokio::test]
    async fn the_administrator_of_a_completion_is_known_after_every_read() {
        let ledger = Ledger::new().await;
        ledger.hook_of("Enrollment Completed by Admin", 1, &[("adminid", "boss")]).await;
        let completion = Record {
            achieved: Some(LmsTime::Instant(Timestamp(ledger.clock_ms()))),
            ..Record::new(RecordKind::Completion, "e1", lms_id(1))
        };
        for _ in 0..2 {
            let complete = [RecordKind::Completion].into_iter().collect();
            ledger.read(1, ReadRecords { records: vec![completion.clone()], complete }).await;
            let known = ledger.view().explain(&lms_id(1)).expect("is explained");
            assert_eq!(known[0].records[0].facts.by.as_deref(), Some("boss"));
            ledger.later(60_000);
            ledger.hook_of("Certificate Awarded", 1, &[]).await;
        }
    }
}
