//! The first contact with a portal that has a history: everything arrives once, also if the power fails in the middle.

use std::collections::BTreeSet;

use learnsync::sandbox::SandboxOptions;
use learnsync_sdk::RecordKind;

use crate::world::{World, is_idle, marks_in, say};

const LEARNERS: usize = 300;
const COURSES: usize = 12;
const ENROLMENTS: usize = 3_000;

async fn world(seed: u64) -> World {
    let options = SandboxOptions {
        seed,
        learners: LEARNERS,
        courses: COURSES,
        enrollments: ENROLMENTS,
        rate_per_second: None,
        ..SandboxOptions::default()
    };
    let world = World::with(options).await;
    let out = world.folder.path().join("out");
    std::fs::create_dir(&out).expect("a folder");
    // Only the file: HR would take each of the three thousand by itself.
    let text = std::fs::read_to_string(world.config()).expect("reads the configuration");
    let text = text.split("[destinations.hr]").next().expect("a first part").to_owned();
    let routes = ["completion", "certificate"]
        .map(|kind| format!("[destinations.out.routes.{kind}]\nrecord = \"{kind}\"\nobject = \"{kind}\"\n"));
    let file = format!(
        "[destinations.out]\nconnector = \"file\"\nhistory = \"all\"\nsettings = {{ folder = \"{}\" }}\n{}",
        out.display(),
        routes.concat()
    );
    std::fs::write(world.config(), text + &file).expect("writes the configuration");
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backfill_that_is_killed_four_times_goes_on_and_brings_everything_once() {
    let world = world(401).await;
    // Between the lists, before the learners are in the lane, and twice while they are read.
    for words in ["Backfill listed the learners", "Backfill listed the enrolments"] {
        let mut daemon = world.start(&[]).await;
        daemon.until(words).await;
        daemon.kill().await;
    }
    for part in [20, 3] {
        let mut daemon = world.start(&[]).await;
        world.wait(&mut daemon, "some of the learners", |status, _| records(status) > ENROLMENTS as i64 / part).await;
        daemon.kill().await;
    }
    let mut daemon = world.start(&[]).await;
    world.wait(&mut daemon, "the backfill to end", |status, _| status.last_sweep_at.is_some() && is_idle(status)).await;
    for kind in [RecordKind::Completion, RecordKind::Certificate] {
        let (expected, found) = (world.truth(kind), marks_in(&world.folder.path().join(format!("out/{kind}.csv"))));
        assert!(expected.len() > ENROLMENTS / 10, "there is something to compare");
        assert_eq!(found.len(), expected.len(), "nothing twice");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "nothing missing");
    }
    assert!(!daemon.has_said("Sweep began"), "nobody is read twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_contact_costs_a_call_a_page_and_one_or_two_a_learner() {
    let world = world(402).await;
    world.sandbox.portal.set_quirk("competencies", "404").expect("a known quirk");
    let mut daemon = world.start(&[]).await;
    world.wait(&mut daemon, "the backfill to end", |status, _| status.last_sweep_at.is_some() && is_idle(status)).await;
    let calls = world.sandbox.portal.calls();
    // One page of learners, one of each course, certificates of each learner; and the log-in, the list of courses, the probe.
    let least = (1 + COURSES + LEARNERS) as u64;
    say(&format!("first contact: {calls} calls for {LEARNERS} learners and {ENROLMENTS} enrolments, {least} at least"));
    assert!(calls >= least && calls <= least + 12, "{calls} calls, {least} at least");
}

fn records(status: &learnsync::store::view::Status) -> i64 {
    status.records.iter().map(|(_, count)| count).sum()
}
