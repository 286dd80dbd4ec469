//! A day of an operator with the real program: what is ordered takes effect at once while the daemon runs, and a backup becomes the store
//! again when it does not.

use std::process::Output;

use learnsync::sandbox::Times;
use serde_json::Value;

use crate::world::{Daemon, World, is_idle};

async fn learnsync(world: &World, words: &[&str]) -> Output {
    let mut command = world.program();
    command.args(words).arg("--config").arg(world.config());
    command.output().await.expect("the program runs")
}

/// What a command prints when it succeeds.
async fn said(world: &World, words: &[&str]) -> String {
    let output = learnsync(world, words).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{words:?}: {out}{err}");
    out.into_owned()
}

async fn json(world: &World, words: &[&str]) -> Value {
    let words: Vec<&str> = words.iter().chain(&["--json"]).copied().collect();
    serde_json::from_str(&said(world, &words).await).expect("is JSON")
}

/// What a command says when it fails with this status.
async fn refused(world: &World, status: i32, words: &[&str]) -> String {
    let output = learnsync(world, words).await;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{words:?}: {err}");
    err
}

async fn ended_by_sigterm(daemon: &mut Daemon) {
    let asked = tokio::process::Command::new("kill").arg("-TERM").arg(daemon.pid().to_string()).status().await;
    assert!(asked.expect("kill runs").success());
    assert_eq!(daemon.ended().await.code(), Some(0));
}

/// Waits until a number of deliveries waits, and nobody is left to be read.
async fn waiting(world: &World, daemon: &mut Daemon, count: i64) {
    world
        .wait(daemon, "deliveries to wait for the end of the pause", |status, _| {
            let waiting = status.destinations[0].deliveries.iter().find(|(state, _)| state == "pending");
            status.events_waiting == 0 && status.dirty.is_empty() && waiting.is_some_and(|(_, found)| *found == count)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_day_from_pause_to_restore() {
    let world = World::new(61, 10).await;
    world.first_sweep().await;
    let mut daemon = world.start(&[]).await;

    // Pause: what comes is kept and planned, nothing is written.
    said(&world, &["destinations", "pause", "hr", "--reason", "payroll closes"]).await;
    let listed = json(&world, &["destinations", "list"]).await;
    assert_eq!((&listed[0]["state"], &listed[0]["pause_reason"]), (&"paused".into(), &"payroll closes".into()));
    let key = world.complete(&daemon, 0).await;
    waiting(&world, &mut daemon, 1).await;
    assert_eq!(world.sandbox.hr.writes(), 0, "a paused destination is not written to");

    // Resume: at once, not after the longest rest.
    said(&world, &["destinations", "resume", "hr"]).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);

    // A refusal is parked, and tried again when somebody says so.
    world.sandbox.hr.faults().reject("Training type is locked", Times::Next(1));
    let refused_key = world.complete(&daemon, 1).await;
    world.parked(&mut daemon, "rejected").await;
    let list = json(&world, &["deliveries", "list", "--state", "parked", "--cause", "rejected"]).await;
    assert_eq!(list["total"], 1);
    let id = list["deliveries"][0]["id"].to_string();
    assert!(said(&world, &["deliveries", "show", &id]).await.contains("Training type is locked"));
    let words = refused(&world, 2, &["deliveries", "retry", "--cause", "rejected"]).await;
    assert!(words.contains("1 deliveries are tried again now") && words.contains("--yes"), "{words}");
    let words = refused(&world, 2, &["deliveries", "retry", "--cause", "rejectd", "--yes"]).await;
    assert!(words.contains("did you mean \"rejected\"?"), "{words}");
    said(&world, &["deliveries", "retry", "--cause", "rejected", "--yes"]).await;
    assert_eq!(world.rows_of(&mut daemon, &refused_key).await, 1);

    // A pin moves what the target holds to whom the operator names.
    let links = json(&world, &["links", "list", "--destination", "hr", "--state", "linked"]).await;
    let (learner, other) = (text(&links["links"][0]["learner"]), text(&links["links"][1]["person"]));
    said(&world, &["links", "pin", "hr", &learner, &other]).await;
    let pinned_row =
        |rows: &[learnsync::sandbox::HrRow]| rows.iter().filter(|row| row.employee_id == other).count() == rows.len();
    world.wait(&mut daemon, "both rows to be one person's", |status, rows| is_idle(status) && pinned_row(rows)).await;
    said(&world, &["links", "unpin", "hr", &learner]).await;
    world
        .wait(&mut daemon, "the rules to find their own person", |status, rows| is_idle(status) && !pinned_row(rows))
        .await;

    // A backup while the daemon runs; then more happens.
    let copy = world.folder.path().join("copy.db");
    let copy = copy.to_str().expect("is text");
    assert!(said(&world, &["backup", copy]).await.contains("its keys to"));
    assert!(refused(&world, 1, &["backup", copy]).await.contains("a backup never overwrites"));
    let later = world.complete(&daemon, 2).await;
    assert_eq!(world.rows_of(&mut daemon, &later).await, 1);
    assert!(refused(&world, 1, &["restore", copy, "--yes"]).await.contains("in use by the process"));
    ended_by_sigterm(&mut daemon).await;

    // Without a daemon the same commands work on the store itself.
    said(&world, &["destinations", "pause", "hr", "--reason", "before the restore"]).await;
    assert!(refused(&world, 1, &["reconcile"]).await.contains("no daemon runs"));
    let report = json(&world, &["restore", copy, "--yes"]).await;
    assert!(text(&report["kept"]).contains("before-restore-"), "{report}");
    assert_eq!(json(&world, &["destinations", "list"]).await[0]["state"], "active", "the copy knows no pause");

    // What the old ledger does not know is looked up: one row each, still.
    let mut daemon = world.start(&[]).await;
    assert_eq!(world.rows_of(&mut daemon, &later).await, 1);
    world.wait(&mut daemon, "the restored ledger to be at rest", |status, _| is_idle(status)).await;
    assert!(world.rows_by_key().values().all(|rows| *rows == 1), "{:?}", world.rows_by_key());
    assert!(said(&world, &["audit", "chain"]).await.contains("is whole"));
    let audited = json(&world, &["audit", "store"]).await;
    assert!(
        audited["checks"].as_array().is_some_and(|checks| checks.iter().all(|one| one["findings"] == 0)),
        "{audited}"
    );
    assert!(said(&world, &["receipt", "verify", "1"]).await.contains("the receipt of delivery 1 is as attempt"));

    // Erased: nobody can be found by their name any more, and what HR holds stays there, as the command says.
    let words = said(&world, &["erase", &learner, "--yes"]).await;
    assert!(words.contains("1 rows in hr"), "{words}");
    assert!(refused(&world, 1, &["receipt", "show", "1"]).await.contains("was erased"));
    assert_eq!(world.rows_by_key().len(), 3);
    ended_by_sigterm(&mut daemon).await;
}

fn text(value: &Value) -> String {
    value.as_str().expect("is text").to_owned()
}
