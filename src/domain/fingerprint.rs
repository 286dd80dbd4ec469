//! Canonical bytes of a record: what two reads must share to be the same fact.
//!
//! The fields are named and versioned. A new version of the record type adds a list here; the older ones stay, because a stored fingerprint
//! is compared under the version it was made with and then silently renewed. So an upgrade makes no work.

use super::record::Record;

/// The version that new fingerprints are made with.
pub const VERSION: i64 = 2;

/// The fields that each version added, oldest first.
const ADDED: &[&[&str]] = &[
    &[
        "kind",
        "id",
        "learner_id",
        "title",
        "achieved",
        "valid_until",
        "course.id",
        "course.name",
        "course.external_id",
        "score",
        "credits",
        "minutes",
        "notes",
    ],
    &["external_id", "standing", "by", "session.id", "session.name", "department", "category", "members", "is_as_seen"],
];

/// What a program before the first release might have written: tests upgrade from it.
#[cfg(test)]
pub(crate) const BEFORE_VERSION_1: i64 = 0;

/// The canonical bytes of a record under a version; `None` for a version that this program does not know.
#[must_use]
pub fn canonical(record: &Record, version: i64) -> Option<Vec<u8>> {
    #[cfg(test)]
    if version == BEFORE_VERSION_1 {
        return Some(canonical_of(record, &[&["kind", "id", "title", "achieved"]]));
    }
    let versions = usize::try_from(version).ok().filter(|versions| *versions > 0)?;
    Some(canonical_of(record, ADDED.get(..versions)?))
}

/// Length-prefixed `name = value` pairs, so that no two different records share their bytes.
fn canonical_of(record: &Record, fields: &[&[&str]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in fields.iter().copied().flatten() {
        let Some(value) = field(record, name) else { continue };
        for part in [*name, value.as_str()] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    bytes
}

fn field(record: &Record, name: &str) -> Option<String> {
    let course = record.course.as_ref();
    match name {
        "kind" => Some(record.kind.to_string()),
        "id" => Some(record.id.clone()),
        "learner_id" => Some(record.learner_id.clone()),
        "title" => Some(record.title.clone()),
        "achieved" => record.achieved.map(|moment| moment.to_string()),
        "valid_until" => record.valid_until.map(|moment| moment.to_string()),
        "course.id" => course.map(|course| course.id.clone()),
        "course.name" => course.map(|course| course.name.clone()),
        "course.external_id" => course.and_then(|course| course.external_id.clone()),
        "score" => record.score.map(|number| number.to_string()),
        "credits" => record.credits.map(|number| number.to_string()),
        "minutes" => record.minutes.map(|number| number.to_string()),
        "notes" => record.notes.clone(),
        "external_id" => record.external_id.clone(),
        "standing" => record.standing.map(|standing| standing.as_str().to_owned()),
        "by" => record.by.clone(),
        "session.id" => record.session.as_ref().map(|session| session.id.clone()),
        "session.name" => record.session.as_ref().map(|session| session.name.clone()),
        "department" => record.department.clone(),
        "category" => record.category.clone(),
        "members" => record.members.map(|count| count.to_string()),
        "is_as_seen" => record.is_as_seen.then(|| "true".to_owned()),
        other => unreachable!("no version of the fingerprint names a field {other}"),
    }
}

#[cfg(test)]
mod tests {
    use learnsync_sdk::RecordKind;

    use super::*;
    use crate::domain::record::{Course, Standing};
    use crate::domain::time::{LmsTime, Timestamp};

    fn record() -> Record {
        Record {
            title: "Fire Safety".to_owned(),
            achieved: Some(LmsTime::Instant(Timestamp(1_000))),
            course: Some(Course { id: "c1".to_owned(), name: "Fire Safety".to_owned(), external_id: None }),
            score: Some(90.0),
            ..Record::new(RecordKind::Completion, "e1", "u1")
        }
    }

    #[test]
    fn every_change_of_a_fact_changes_the_canonical_bytes() {
        let changes: [fn(&mut Record); 10] = [
            |record| record.title.push('!'),
            |record| record.achieved = None,
            |record| record.score = Some(91.0),
            |record| record.credits = Some(0.0),
            |record| record.course = None,
            |record| record.notes = Some(String::new()),
            |record| record.standing = Some(Standing::Active),
            |record| record.by = Some("a".to_owned()),
            |record| record.members = Some(0),
            |record| record.is_as_seen = true,
        ];
        for change in changes {
            let mut changed = record();
            change(&mut changed);
            assert_ne!(canonical(&changed, VERSION), canonical(&record(), VERSION));
        }
    }

    #[test]
    fn a_record_that_is_read_back_from_the_store_has_the_canonical_bytes_that_it_was_kept_with() {
        // Thirds and sevenths of hours have as many digits as a number can hold: the last one is lost by a parser that is in a hurry.
        for whole in 1..2_000_u32 {
            let minutes = f64::from(whole) / 7.0 * 60.0;
            let kept = Record { minutes: Some(minutes), credits: Some(minutes / 3.0), ..record() };
            let json = serde_json::to_vec(&kept).expect("a record is plain data");
            let read: Record = serde_json::from_slice(&json).expect("reads");
            assert_eq!(canonical(&read, VERSION), canonical(&kept, VERSION), "{minutes}");
        }
    }

    #[test]
    fn an_unknown_version_has_no_canonical_bytes() {
        assert_eq!(canonical(&record(), VERSION + 1), None);
        assert_eq!(canonical(&record(), -1), None);
    }
}
