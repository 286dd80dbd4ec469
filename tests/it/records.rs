//! Every kind of record travels from its webhook to a file: one test a kind. A file is what has a place for all of them.

use std::collections::BTreeSet;

use learnsync_sdk::RecordKind;

use crate::world::{World, is_idle, marks_in};

/// What happens in the LMS, and what its webhook must bring.
struct Case {
    kind: RecordKind,
    /// The event's name on Absorb's list.
    event: &'static str,
    /// Whether the LMS has no API for it, so that the webhook is all there is.
    is_as_seen: bool,
}

/// Lets it happen, sends the webhook once, and compares the file with all that the LMS holds of that kind.
async fn travels(case: Case) {
    let Case { kind, event, is_as_seen } = case;
    let world = World::new(300 + kind as u64, 8).await;
    let out = world.folder.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    world.write_config(&format!(
        "\n[destinations.out]\nconnector = \"file\"\nhistory = \"all\"\nsettings = {{ folder = \"{}\" }}\n\
         [destinations.out.routes.all]\nrecord = \"{kind}\"\nobject = \"rows\"\n",
        out.display()
    ));
    world.first_sweep().await;
    let before = world.truth(kind);
    let mut daemon = world.start(&[]).await;
    let happened = world.sandbox.portal.happen(event, "", "").unwrap_or_else(|words| panic!("{event}: {words}"));
    let hook = happened.hooks.first().unwrap_or_else(|| panic!("{event} has no webhook"));
    assert_eq!(world.post(&daemon.url, hook).await, Some(200), "{}", happened.words);
    let after = world.truth(kind);
    assert_eq!(after.difference(&before).count(), 1, "{}: {before:?} -> {after:?}", happened.words);
    let file = out.join("rows.csv");
    let rows = || marks_in(&file).into_iter().collect::<BTreeSet<_>>();
    if is_as_seen {
        world.wait(&mut daemon, event, |status, _| is_idle(status) && rows().len() == 1).await;
        assert!(rows().iter().all(|key| key.starts_with(&format!("{kind}/"))), "{:?}", rows());
        return;
    }
    world.wait(&mut daemon, event, |status, _| is_idle(status) && rows() == after).await;
}

macro_rules! kinds {
    ($($name:ident: $kind:ident, $event:literal, $is_as_seen:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            travels(Case { kind: RecordKind::$kind, event: $event, is_as_seen: $is_as_seen }).await;
        }
    )*
        #[test]
        fn every_kind_travels() {
            let tested = BTreeSet::from([$(RecordKind::$kind),*]);
            assert_eq!(tested, BTreeSet::from(RecordKind::ALL));
        }
    };
}

kinds! {
    a_completion_travels_from_its_webhook_to_a_file: Completion, "Enrollment Completed by Admin", false;
    a_certificate_travels_from_its_webhook_to_a_file: Certificate, "Certificate Awarded", false;
    a_competency_travels_from_its_webhook_to_a_file: Competency, "Competency Awarded", false;
    a_credit_award_travels_from_its_webhook_to_a_file: CreditAward, "Course Credits Awarded", false;
    a_session_attendance_travels_from_its_webhook_to_a_file: SessionAttendance, "Session Enrollment Completed", false;
    a_learning_path_travels_from_its_webhook_to_a_file: LearningPath, "Learning Path Completed", true;
    a_self_assessment_travels_from_its_webhook_to_a_file: SelfAssessment, "Self-Assessment Completed", true;
    a_person_travels_from_its_webhook_to_a_file: Person, "User Created", false;
    a_department_travels_from_its_webhook_to_a_file: Department, "Department Created", false;
    a_group_travels_from_its_webhook_to_a_file: Group, "Group Created", false;
    a_course_travels_from_its_webhook_to_a_file: Course, "Curriculum Added", false;
}
