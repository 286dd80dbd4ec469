//! All that can happen in the portal, and how it then looks in the API.

use super::*;
use learnsync_sdk::RecordKind;

impl World {
    fn happens(&self, deed: &str, learner: &str, what: &str) -> Happened {
        self.portal().happen(deed, learner, what).unwrap_or_else(|words| panic!("{deed}: {words}"))
    }
}

async fn world() -> World {
    World::start(SandboxOptions { learners: 12, courses: 6, rate_per_second: None, ..SandboxOptions::default() }).await
}

#[tokio::test]
async fn each_of_the_24_events_can_happen_and_its_webhook_names_it() {
    let world = world().await;
    world.portal().set_quirk("hook_dialect", "B").expect("there is such a quirk");
    let mut told = BTreeSet::new();
    for (word, event) in PortalHandle::deeds() {
        let Some(event) = event else { continue };
        if word.ends_with("-deleted") {
            world.happens(&word.replace("deleted", "created").replace("bundle-created", "bundle-added"), "", "");
        }
        let happened = world.happens(word, "", "");
        let [hook] = happened.hooks.as_slice() else { panic!("{word}: one webhook, not {:?}", happened.hooks) };
        let body: Value = serde_json::from_slice(&hook.body).expect("JSON");
        let code = event.replace([' ', '-'], "");
        assert_eq!(body["event"].as_str().map(str::to_lowercase), Some(code.to_lowercase()), "{word}");
        assert!(body["correlationId"].is_string() && body["clientId"].is_string());
        told.insert(event);
    }
    assert_eq!(told.len(), 24);
}

#[tokio::test]
async fn what_an_administrator_does_carries_the_admin_and_what_a_learner_does_carries_the_learner() {
    let world = world().await;
    world.portal().set_quirk("hook_dialect", "A").expect("there is such a quirk");
    let body = |hook: &HookBody| String::from_utf8(hook.body.clone()).expect("text");
    let has = |happened: &Happened, key: &str| body(&happened.hooks[0]).contains(key);
    for (deed, admin, user) in [
        ("department-created", true, false),
        ("user-created", true, true),
        ("completed-by-admin", true, true),
        ("completed", false, true),
        ("credits", false, true),
    ] {
        let happened = world.happens(deed, "", "");
        assert_eq!((has(&happened, "adminId"), has(&happened, "userId")), (admin, user), "{deed}");
    }
}

#[tokio::test]
async fn what_no_webhook_tells_of_has_none() {
    let world = world().await;
    let (learner, course) = (world.portal().learner_ids().remove(0), "Fire Safety");
    let quiet = ["enrolled", "started", "failed", "reenrolled", "unenrolled", "learner-moved", "course-renamed"];
    for deed in quiet {
        assert_eq!(world.happens(deed, &learner, if deed == "learner-moved" { "Office" } else { course }).hooks, []);
    }
    let refused = world.portal().happen("unenrolled", &learner, "Fire Safety (new)");
    assert!(refused.is_err_and(|words| words.contains("no open enrolment")));
}

#[tokio::test]
async fn a_misspelled_deed_is_refused_with_the_nearest() {
    let world = world().await;
    let refused = world.portal().happen("departmant-created", "", "");
    assert!(refused.is_err_and(|words| words.contains("did you mean \"department-created\"?")));
    let refused = world.portal().happen("session", "", "Fire Safety");
    assert!(refused.is_err_and(|words| words.contains("is no InstructorLedCourse")));
    assert_eq!(world.portal().happen("Certificate Awarded", "", "").map(|done| done.hooks.len()), Ok(1));
}

#[tokio::test]
async fn courses_are_of_all_kinds_and_can_be_switched_and_added() {
    let world = world().await;
    let kinds: BTreeSet<String> = world
        .list("/courses", "courses")
        .await
        .iter()
        .map(|row| row["courseType"].as_str().expect("text").to_owned())
        .collect();
    let all = ["CourseBundle", "Curriculum", "InstructorLedCourse", "OnlineCourse"];
    assert_eq!(kinds, BTreeSet::from(all.map(str::to_owned)));
    world.happens("curriculum-added", "", "Onboarding");
    let rows = world.list("/curriculums?_filter=name eq 'Onboarding'", "courses").await;
    assert_eq!(rows.len(), 1);
    let id = rows[0]["id"].as_str().expect("an id").to_owned();
    world.happens("curriculum-deactivated", "", "Onboarding");
    assert_eq!(world.read(&format!("/courses/{id}")).await.1["activeStatus"], 1);
    world.happens("course-bundle-deleted", "", "");
    assert_eq!(world.list("/courseBundles", "courses").await.len(), 0);
}

#[tokio::test]
async fn the_sessions_of_a_learner_are_a_bare_array_of_their_course() {
    let world = world().await;
    let learner = world.portal().learner_ids().remove(0);
    let course = world.list("/instructorLedCourses", "courses").await[0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/users/{learner}/enrollments/{course}/sessions");
    assert_eq!(world.read(&path).await.1, json!([]));
    world.happens("session", &learner, &course);
    let (_, rows) = world.read(&path).await;
    let row = &rows[0];
    assert_eq!((&row["status"], &row["userId"]), (&json!(3), &json!(learner)));
    let enrollment = world.read(&format!("/users/{learner}/enrollments/{course}")).await.1;
    assert_eq!((&row["courseEnrollmentId"], &enrollment["status"]), (&enrollment["id"], &json!(1)));
    let one = format!("{path}/{}", row["id"].as_str().expect("an id"));
    assert_eq!(&world.read(&one).await.1, row);
    assert_eq!(world.read(&format!("{path}?status=1")).await.1, json!([]));
    assert_eq!(world.read(&format!("{path}?modifiedSince=2026-03-05")).await.1, json!([]));
    let other = world.portal().course_ids().remove(0);
    assert_eq!(world.read(&format!("/users/{learner}/enrollments/{other}/sessions")).await.1, json!([]));
}

#[tokio::test]
async fn departments_and_groups_come_and_go() {
    let world = world().await;
    world.happens("department-created", "", "Field Service");
    world.happens("group-created", "", "Drivers");
    let learner = world.portal().learner_ids().remove(3);
    world.happens("group-changed", &learner, "Drivers");
    world.happens("learner-moved", &learner, "Field Service");
    let rows = world.list("/departments?_filter=name eq 'Field Service'", "departments").await;
    let department = rows[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(world.read(&format!("/users/{learner}")).await.1["departmentId"], json!(department));
    let refused = world.portal().happen("department-deleted", "", "Field Service");
    assert!(refused.is_err_and(|words| words.contains("is not empty")));
    world.happens("learner-moved", &learner, "Office");
    world.happens("department-deleted", "", "Field Service");
    assert_eq!(world.read(&format!("/departments/{department}")).await.0, 404);
    let groups = world.list("/groups", "groups").await;
    let all = groups.iter().find(|row| row["isAutomatic"] == true).expect("an automatic group");
    assert_eq!(all["userIds"].as_array().map(Vec::len), Some(12));
    let drivers = groups.iter().find(|row| row["name"] == "Drivers").expect("there are drivers");
    assert_eq!(drivers["userIds"], json!([learner]));
    world.happens("group-deleted", "", "Drivers");
    assert_eq!(world.read(&format!("/groups/{}", drivers["id"].as_str().expect("an id"))).await.0, 404);
}

#[tokio::test]
async fn a_merged_duplicate_is_inactive_and_its_facts_are_those_of_the_one_who_stays() {
    let world = world().await;
    let ids = world.portal().learner_ids();
    for deed in ["certificate", "competency", "session"] {
        let what = if deed == "certificate" { "Fire Safety" } else { "" };
        world.happens(deed, &ids[0], what);
    }
    world.happens("enrolled", &ids[1], "Fire Safety");
    world.happens("learner-merged", &ids[0], &ids[1]);
    assert_eq!(world.read(&format!("/users/{}", ids[0])).await.1["activeStatus"], 1);
    for (list, moved, kept) in [("enrollments", 3, 0), ("certificates", 1, 0), ("competencies", 1, 0)] {
        let count = async |id: &str| world.list(&format!("/users/{id}/{list}"), list).await.len();
        assert_eq!((count(&ids[1]).await, count(&ids[0]).await), (moved, kept), "{list}");
    }
    let rows = world.list(&format!("/users/{}/enrollments?_filter=isActive", ids[1]), "enrollments").await;
    let courses: BTreeSet<&str> = rows.iter().filter_map(|row| row["courseId"].as_str()).collect();
    assert_eq!(courses.len(), rows.len(), "one active enrolment in each course");
    let refused = world.portal().happen("learner-merged", &ids[1], &ids[1]);
    assert!(refused.is_err());
}

#[tokio::test]
async fn what_is_expected_is_there_for_every_kind_of_record() {
    let world = world().await;
    for deed in ["certificate", "competency", "credits", "session", "self-assessment", "learning-path"] {
        world.happens(deed, "", "");
    }
    let records = world.portal().expected_records();
    assert_eq!(records.keys().copied().collect::<Vec<_>>(), RecordKind::ALL);
    let count = |kind: RecordKind| records[&kind].len();
    assert_eq!((count(RecordKind::Person), count(RecordKind::Course), count(RecordKind::Department)), (12, 6, 3));
    let seen: Vec<_> = records.values().flat_map(BTreeMap::values).filter(|record| record.is_as_seen).collect();
    assert_eq!(seen.len(), 1, "only of a self-assessment nothing can be read");
}

#[tokio::test]
async fn a_learning_path_shows_when_the_feature_is_on() {
    let world = world().await;
    let learner = world.portal().learner_ids().remove(0);
    world.happens("learning-path", &learner, "Mentor");
    world.portal().set_quirk("learning_paths", "on").expect("there is such a quirk");
    let rows = world.list(&format!("/users/{learner}/learning-paths"), "learningPaths").await;
    assert_eq!((&rows[0]["name"], &rows[0]["dateCompleted"]), (&json!("Mentor"), &json!("2026-03-04T10:00:00")));
}
