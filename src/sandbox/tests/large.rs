//! Many enrolments made at once.

use super::*;

async fn world(enrollments: usize) -> World {
    let options =
        SandboxOptions { learners: 30, courses: 4, enrollments, rate_per_second: None, ..SandboxOptions::default() };
    World::start(options).await
}

#[tokio::test]
async fn many_enrolments_are_the_same_for_the_same_seed_and_read_as_any_other() {
    let (first, second) = (world(100).await, world(100).await);
    assert_eq!(first.portal().expected_records(), second.portal().expected_records());
    let mut rows = Vec::new();
    for course in first.portal().course_ids() {
        rows.extend(first.list(&format!("/courses/{course}/enrollments?_limit=1000&_sort=id"), "enrollments").await);
    }
    assert_eq!(rows.len(), 100);
    let completed = rows.iter().filter(|row| row["status"] == 3).count();
    assert!((60..100).contains(&completed), "{completed}");
    let certified: Vec<&Value> = rows.iter().filter(|row| row["certificateId"].is_string()).collect();
    assert!(!certified.is_empty());
    for row in certified {
        let (user, id) = (row["userId"].as_str().expect("an id"), row["certificateId"].as_str().expect("an id"));
        let certificate = first.read(&format!("/users/{user}/certificates/{id}")).await.1;
        assert_eq!(certificate["enrollmentId"], row["id"]);
    }
}

#[tokio::test]
async fn a_learner_has_one_active_enrolment_in_a_course_even_of_very_many() {
    let world = world(300).await;
    let learner = world.portal().learner_ids().remove(0);
    let rows = world.list(&format!("/users/{learner}/enrollments?_limit=1000"), "enrollments").await;
    let active: Vec<_> = rows.iter().filter(|row| row["isActive"] == true).map(|row| &row["courseId"]).collect();
    assert_eq!((rows.len(), active.len()), (10, 4));
    let courses: BTreeSet<&str> = active.iter().filter_map(|id| id.as_str()).collect();
    assert_eq!(courses.len(), 4);
}

#[tokio::test]
async fn the_pages_of_a_course_come_in_the_order_of_ids_and_hold_every_row_once() {
    let world = world(200).await;
    let (learner, course) = (world.portal().learner_ids().remove(0), world.portal().course_ids().remove(0));
    let _hook = world.portal().complete_course(&learner, &course);
    let mut ids = Vec::new();
    for page in 0..4 {
        let path = format!("/courses/{course}/enrollments?_sort=id&_limit=20&_offset={page}");
        let rows = world.list(&path, "enrollments").await;
        ids.extend(rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()));
    }
    assert!(ids.is_sorted() && ids.len() > 40, "{}", ids.len());
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

/// The memory that this process holds, in MiB.
fn memory_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second number");
    pages * 4_096 / (1 << 20)
}

/// The processor time of this process, in seconds: what it costs, however busy the machine is.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells");
    // After the name in parentheses, user and system time are the 12th and 13th field, in hundredths.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// `cargo test --release -p learnsync --lib a_large_company -- --ignored --nocapture`
#[tokio::test(flavor = "current_thread")]
#[ignore = "measures memory and calls per second, for a minute"]
async fn a_large_company_fits_into_one_process_and_answers_quickly() {
    let options = SandboxOptions {
        learners: 100_000,
        courses: 500,
        enrollments: 1_000_000,
        rate_per_second: None,
        ..SandboxOptions::default()
    };
    let (before, begun) = (memory_mib(), processor_seconds());
    let world = World::start(options).await;
    let (memory, made) = (memory_mib() - before, processor_seconds() - begun);
    let token = world.log_in().await;
    let (learners, courses) = (world.portal().learner_ids(), world.portal().course_ids());
    let mut paths = Vec::new();
    for learner in learners.iter().step_by(1_000) {
        paths.extend(
            ["", "/enrollments?_sort=id&_limit=1000", "/certificates?_sort=id&_limit=1000"]
                .map(|list| format!("/users/{learner}{list}")),
        );
    }
    paths.extend(
        courses
            .iter()
            .step_by(10)
            .map(|course| format!("/courses/{course}/enrollments?_sort=id&_limit=1000&_offset=1")),
    );
    paths.extend((0..50).map(|page| format!("/users?_sort=id&_limit=200&_offset={}", page * 10)));
    let groups = [("learner", 0..300), ("course page", 300..350), ("page of users", 350..400)];
    let mut sheet = format!("{memory} MiB, made in {made:.1} s\n");
    for (name, range) in groups {
        let (begun, count) = (processor_seconds(), range.len());
        for path in &paths[range] {
            let answer = world.read_with(&token, path).await.expect("the portal answers");
            assert_eq!(answer.status(), 200, "{path}");
            assert!(!answer.bytes().await.expect("a body").is_empty());
        }
        let per_second = count as f64 / (processor_seconds() - begun).max(0.01);
        sheet.push_str(&format!("{name}: {per_second:.0} calls a second of the processor, with its client\n"));
    }
    #[expect(clippy::print_stdout, reason = "the figures are what this is run for")]
    {
        println!("{sheet}");
    }
    assert!(memory < 1_024, "{sheet}");
}
