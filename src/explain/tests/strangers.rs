//! Golden texts for those whom the ledger does not know, and for courses that it does not hold.

use super::*;
use crate::store::view::HeardView;

fn heard(absent_until: Option<Timestamp>, next_read_at: Option<Timestamp>, tries: i64) -> HeardView {
    HeardView {
        portal: "main".to_owned(),
        lms_id: ID.to_owned(),
        next_read_at,
        tries,
        absent_until,
        events: learner(Vec::new()).events,
    }
}

fn found(records: Vec<Record>) -> Found {
    Found { portal: "main".to_owned(), learner: learner(Vec::new()).learner.expect("has a profile"), records }
}

pub(super) fn strangers() -> Vec<(&'static str, Stranger)> {
    let text = "ana.lima@example.org";
    let fire = || facts(RecordKind::Completion, "e1", "Fire Safety");
    let forklift = || facts(RecordKind::Competency, "k1", "Forklift");
    let say = |text: &str, known: Option<&[Record]>, heard: &[HeardView], course: Option<&str>, live: Live| {
        stranger(text, known, heard, course, &live, &given())
    };
    let other = Found {
        learner: Learner { id: "b7".to_owned(), is_active: false, ..found(Vec::new()).learner },
        ..found(Vec::new())
    };
    let offline = || Live::NotAsked("--offline says so".to_owned());
    vec![
        ("stranger-offline", say(text, None, &[], None, offline())),
        (
            "stranger-lms-silent",
            say(text, None, &[], None, Live::Failed("the LMS is unavailable: HTTP 503".to_owned())),
        ),
        ("stranger-nobody", say(text, None, &[], None, Live::Nobody)),
        ("stranger-in-the-lms", say(text, None, &[], None, Live::Found(vec![found(vec![fire(), forklift()])]))),
        ("stranger-without-records", say(text, None, &[], None, Live::Found(vec![found(Vec::new())]))),
        ("stranger-several", say("Ana Lima", None, &[], None, Live::Found(vec![found(vec![fire()]), other]))),
        ("heard-of", say(ID, None, &[heard(None, Some(at(9, 30, 3)), 0)], None, offline())),
        ("heard-of-failing", say(ID, None, &[heard(None, Some(at(9, 34, 0)), 4)], None, offline())),
        ("heard-of-unknown-to-the-lms", say(ID, None, &[heard(Some(at(9, 36, 0)), None, 0)], None, Live::Nobody)),
        (
            "course-not-in-the-ledger",
            say(text, Some(&[fire()]), &[], Some("Forklift"), Live::Found(vec![found(vec![fire(), forklift()])])),
        ),
        ("course-misspelt", say(text, Some(&[fire()]), &[], Some("Fire Savety"), offline())),
        (
            "course-not-completed",
            say(text, Some(&[fire()]), &[], Some("First Aid"), Live::Found(vec![found(vec![fire()])])),
        ),
    ]
}

#[test]
fn each_way_of_being_unknown_has_its_golden_text() {
    let mut differences = Vec::new();
    for (name, stranger) in strangers() {
        is_golden(name, &render_stranger(&stranger, &given(), Paint::Plain), &mut differences);
        assert!(!stranger.lms.is_empty() && !stranger.next.is_empty() && !stranger.because.is_empty(), "{name}");
    }
    assert!(differences.is_empty(), "{} differ:\n\n{}", differences.len(), differences.join("\n"));
}
