//! What the LMS can do to us: nothing is published of a partial read, and in the end HR holds what the LMS holds.

use learnsync::sandbox::{Area, Times, Wait};

use crate::world::World;

async fn swept(seed: u64) -> World {
    let world = World::new(seed, 10).await;
    world.first_sweep().await;
    world
}

/// One completion under a fault that goes away by itself.
async fn survives(seed: u64, arm: impl FnOnce(&World)) {
    let world = swept(seed).await;
    let mut daemon = world.start(&[]).await;
    arm(&world);
    let key = world.complete(&daemon, 0).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_lms_that_answers_500_is_asked_again() {
    survives(31, |world| world.sandbox.portal.faults().unavailable(500, Area::Enrollments, Times::Next(4))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_valid_token_that_is_refused_now_and_then_costs_no_login() {
    let world = swept(32).await;
    let logins = world.sandbox.portal.logins();
    let mut daemon = world.start(&[]).await;
    world.sandbox.portal.faults().unauthorized_transient(3);
    let key = world.complete(&daemon, 0).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
    assert_eq!(
        world.sandbox.portal.logins(),
        logins,
        "the kept token was used, and the refusals were the gateway's mood"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_another_login_killed_is_replaced_by_one_login() {
    let world = swept(33).await;
    let logins = world.sandbox.portal.logins();
    let mut daemon = world.start(&[]).await;
    world.sandbox.portal.faults().kill_token();
    let key = world.complete(&daemon, 0).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
    assert_eq!(world.sandbox.portal.logins(), logins + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttling_lms_is_left_alone_as_long_as_it_says() {
    survives(34, |world| world.sandbox.portal.faults().throttle(Wait::Seconds(1), Times::Next(1))).await;
    survives(35, |world| world.sandbox.portal.faults().throttle(Wait::Date(2), Times::Next(1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partial_read_publishes_nothing() {
    let world = swept(36).await;
    let mut daemon = world.start(&[]).await;
    world.sandbox.portal.faults().few_rows(Area::Enrollments, Times::Next(2));
    let key = world.complete(&daemon, 0).await;
    daemon.until("Could not read a learner").await;
    assert_eq!(world.status().records, Vec::new(), "nothing of the half page is in the ledger");
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_portal_without_competencies_or_certificates_still_gives_completions() {
    survives(37, |world| {
        world.sandbox.portal.faults().forbid(Area::Competencies);
        world.sandbox.portal.faults().not_found(Area::Certificates);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_that_comes_before_the_api_shows_the_fact_is_read_again() {
    survives(38, |world| world.sandbox.portal.faults().early(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_lms_that_does_not_understand_us_costs_no_webhook() {
    survives(39, |world| world.sandbox.portal.faults().unprocessable(Area::Users, Times::Next(1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_a_pause_of_an_hour_nothing_is_asked_also_after_a_restart() {
    let world = swept(40).await;
    let mut daemon = world.start(&[]).await;
    world.sandbox.portal.faults().throttle(Wait::Seconds(3_600), Times::Next(1));
    world.complete(&daemon, 0).await;
    daemon.until("Could not read a learner").await;
    let calls = world.sandbox.portal.calls();
    for learner in 1..4 {
        world.complete(&daemon, learner).await;
    }
    daemon.kill().await;
    let mut daemon = world.start(&[]).await;
    world.complete(&daemon, 4).await;
    world
        .wait(&mut daemon, "the webhooks to be taken", |status, _| status.events == 5 && status.events_waiting == 0)
        .await;
    // Whoever is dirty and due would be asked for by now: all readers have looked, and wait.
    daemon.until("Nothing to do step=\"refresh of main\"").await;
    let asked = world.program().args(["check", "--online", "--config"]).arg(world.config()).output().await;
    assert!(!asked.expect("check runs").status.success(), "a command keeps to the pause, too");
    assert_eq!(world.sandbox.portal.calls(), calls, "asked inside the pause");
    let until = world.status().portals[0].rests_until.expect("it is told");
    assert!(until.0 > world.status().started_at.0 + 3_000_000, "in full");
}
