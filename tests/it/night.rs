//! A night with the real program: what somebody changed in HR is read back, put right and told; and a changed mapping is planned and applied.

use learnsync::sandbox::SandboxOptions;
use serde_json::Value;

use crate::world::{Daemon, World, key_of};

/// Five learners with a course each, in HR.
async fn delivered(world: &World, daemon: &mut Daemon) -> Vec<String> {
    let mut keys = Vec::new();
    for learner in 0..5 {
        let key = world.complete(daemon, learner).await;
        world.rows_of(daemon, &key).await;
        keys.push(key);
    }
    keys
}

async fn world(seed: u64) -> World {
    let options = SandboxOptions { seed, learners: 6, rate_per_second: None, ..SandboxOptions::default() };
    let world = World::with(options).await;
    world.first_sweep().await;
    world
}

/// What a command prints, as JSON.
async fn asked(world: &World, words: &[&str]) -> Value {
    let output = world.program().args(words).arg("--config").arg(world.config()).arg("--json").output().await;
    let output = output.expect("the program runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("prints JSON")
}

/// The newest verify of hr.
async fn newest(world: &World) -> Value {
    asked(world, &["runs", "list", "--of", "hr"]).await["runs"][0].clone()
}

fn row_of(world: &World, key: &str) -> (String, String) {
    let rows = world.sandbox.hr.rows();
    let row = rows.into_iter().find(|row| key_of(row).as_deref() == Some(key)).expect("HR holds it");
    (row.object, row.row_id)
}

/// Reconciles, and waits until the verify is done that followed from it; a night of its own may have been under way.
async fn reconciled(world: &World, daemon: &mut Daemon) -> Value {
    let before = newest(world).await["id"].as_i64().unwrap_or(0);
    asked(world, &["reconcile"]).await;
    loop {
        daemon.until("Verify of hr is done").await;
        let run = newest(world).await;
        if run["id"].as_i64().is_some_and(|id| id > before) && run["state"] == "done" {
            return run;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changed_in_hr_is_put_right_in_the_night_and_told() {
    let world = world(41).await;
    let mut daemon = world.start(&[]).await;
    let keys = delivered(&world, &mut daemon).await;
    let run = reconciled(&world, &mut daemon).await;
    assert_eq!((&run["state"], &run["verify"]["in_sync"]), (&"done".into(), &5.into()), "{run}");
    let hr = &world.sandbox.hr;
    let (object, edited) = row_of(&world, &keys[0]);
    let date = |key: &str| {
        let rows = world.sandbox.hr.rows();
        rows.into_iter()
            .find(|row| key_of(row).as_deref() == Some(key))
            .and_then(|row| row.fields.get("completed").cloned())
    };
    let right = date(&keys[0]);
    assert!(hr.edit_row(&object, &edited, "completed", "1999-12-31"));
    let (object, deleted) = row_of(&world, &keys[1]);
    assert!(hr.delete_row(&object, &deleted));
    let (object, copied) = row_of(&world, &keys[2]);
    assert!(hr.copy_row(&object, &copied).is_some());
    let writes = hr.writes();
    let run = reconciled(&world, &mut daemon).await;
    let counts = &run["verify"];
    let sums = ["in_sync", "to_write", "differing", "deliveries"].map(|sum| counts[sum].as_u64());
    assert_eq!(sums, [Some(2), Some(2), Some(1), Some(5)], "{run}");
    assert_eq!(counts["classes"], serde_json::json!({"missing": 1, "edited": 1, "duplicate": 1}));
    assert_eq!(hr.writes(), writes + 2);
    assert_eq!(date(&keys[0]), right);
    let by_key = world.rows_by_key();
    assert_eq!((by_key[&keys[0]], by_key[&keys[1]], by_key[&keys[2]]), (1, 1, 2), "a copy is left to a person");
    // And the one whom it concerns reads why.
    let shown = asked(&world, &["runs", "show", &run["id"].to_string()]).await;
    let fields = shown["findings"].as_array().expect("a list").iter().find(|found| found["class"] == "edited");
    assert_eq!(fields.expect("was found")["fields"], serde_json::json!(["completed"]));
    let run = reconciled(&world, &mut daemon).await;
    assert_eq!((&run["verify"]["in_sync"], &run["verify"]["to_write"]), (&4.into(), &0.into()), "{run}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_mapping_is_planned_and_then_applied_as_planned() {
    let world = world(42).await;
    let mut daemon = world.start(&[]).await;
    delivered(&world, &mut daemon).await;
    let good = std::fs::read_to_string(world.config()).expect("reads the configuration");
    let route = r#"
[destinations.hr.routes.completions]
record = "completion"
object = "training"
[destinations.hr.routes.completions.fields]
completed = { path = "achieved" }
type = { reference = "training_type" }
notes = { template = "from the LMS: {{ title }}" }
"#;
    std::fs::write(world.config(), format!("{good}{route}")).expect("writes");
    let file = world.config().with_file_name("hr.plan");
    let path = file.to_str().expect("a path");
    let writes = world.sandbox.hr.writes();
    let plan = asked(&world, &["plan", "--destination", "hr", "--out", path]).await;
    assert_eq!((&plan["changes"], &plan["fields"][0]["field"]), (&5.into(), &"notes".into()), "{plan}");
    let too_early = world.program().args(["apply", path, "--yes"]).arg("--config").arg(world.config()).output().await;
    let words = String::from_utf8_lossy(&too_early.expect("the program runs").stderr).into_owned();
    assert!(words.contains("another mapping of hr's route completions"), "{words}");
    daemon.signal("HUP").await;
    daemon.until("The new configuration is in force").await;
    asked(&world, &["apply", path, "--canary", "2", "--yes"]).await;
    daemon.until("the canary is written, 2 of 5 places").await;
    assert_eq!(world.sandbox.hr.writes(), writes + 2);
    asked(&world, &["apply", path, "--yes"]).await;
    daemon.until("The plan was applied to hr: 5 places").await;
    assert_eq!(world.sandbox.hr.writes(), writes + 5);
    let noted =
        |row: &learnsync::sandbox::HrRow| row.fields.get("notes").is_some_and(|notes| notes.contains("from the LMS: "));
    assert!(world.sandbox.hr.rows().iter().all(noted));
    let next = asked(&world, &["plan", "--destination", "hr", "--out", &format!("{path}.next")]).await;
    assert_eq!((&next["changes"], &next["file"]), (&0.into(), &Value::Null), "{next}");
    daemon.kill().await;
}
