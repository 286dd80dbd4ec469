//! What the program says to people who type wrong things, and how it ends.

use crate::world::{Daemon, World, is_idle};

async fn check(world: &World, text: &str) -> (Option<i32>, String) {
    std::fs::write(world.config(), text).expect("writes the configuration");
    let output =
        world.program().arg("check").arg("--config").arg(world.config()).output().await.expect("the program runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_typo_three_levels_deep_names_file_line_column_key_value_and_the_nearest_right_name() {
    let world = World::new(1, 10).await;
    let good = std::fs::read_to_string(world.config()).expect("reads the configuration");
    let (status, _) = check(&world, &good).await;
    assert_eq!(status, Some(0));
    let typo = good.replace("settings = { url =", "settings = { mark_colum = \"x\", url =");
    let (status, words) = check(&world, &typo).await;
    assert_eq!(status, Some(2), "{words}");
    let line = 1 + typo.lines().position(|line| line.contains("mark_colum")).expect("the typo is there");
    let place = format!("learnsync.toml:{line}:14: destinations.hr.settings.mark_colum: ");
    assert!(words.contains(&place), "{place}\n{words}");
    assert!(words.contains("did you mean \"mark_column\"?"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_errors_are_told_at_once_and_a_mapping_error_names_its_field() {
    let world = World::new(1, 10).await;
    let good = std::fs::read_to_string(world.config()).expect("reads the configuration");
    let wrong = good
        .replace("history = \"all\"", "history = \"al\"")
        .replace("calls_per_second_max = 1000", "calls_per_second_max = 0");
    let (status, words) = check(&world, &wrong).await;
    assert_eq!(status, Some(2), "{words}");
    assert!(words.contains("destinations.hr.history") || words.contains("\"al\" is not a history"), "{words}");
    let mapped = format!(
        "{good}\n[destinations.hr.routes.done]\nrecord = \"completion\"\nobject = \"training\"\n\
         [destinations.hr.routes.done.fields]\ncompleted = {{ path = \"achievd\" }}\ntype = {{ reference = \"training_type\" }}\n"
    );
    let (status, words) = check(&world, &mapped).await;
    assert_eq!(status, Some(2), "{words}");
    assert!(words.contains("destinations.hr.routes.done.fields.completed"), "{words}");
    assert!(words.contains("did you mean \"achieved\"?"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_daemon_on_the_same_store_is_refused_with_the_holders_pid() {
    let world = World::new(2, 10).await;
    let first = world.start(&[]).await;
    let second =
        world.program().arg("run").arg("--config").arg(world.config()).output().await.expect("the program runs");
    assert_eq!(second.status.code(), Some(1));
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(words.contains(&format!("in use by the process {}", first.pid())), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_the_daemon_with_status_zero() {
    let world = World::new(3, 10).await;
    let mut daemon = world.start(&[]).await;
    terminate(&daemon).await;
    assert_eq!(daemon.ended().await.code(), Some(0));
}

async fn terminate(daemon: &Daemon) {
    let asked = tokio::process::Command::new("kill").arg("-TERM").arg(daemon.pid().to_string()).status().await;
    assert!(asked.expect("kill runs").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_of_a_stranger_says_what_to_try() {
    let world = World::new(4, 10).await;
    world.first_sweep().await;
    let output = world
        .program()
        .args(["explain", "nobody@example.org", "--config"])
        .arg(world.config())
        .output()
        .await
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("nobody is known by \"nobody@example.org\"") && words.contains("external id"), "{words}");
    let story = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(story.contains("The LMS was asked now and knows nobody by \"nobody@example.org\""), "{story}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_asks_the_lms_about_what_the_ledger_does_not_hold_without_ending_the_daemons_session() {
    let world = World::new(6, 10).await;
    let mut daemon = world.start(&[]).await;
    let key = world.complete(&daemon, 0).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
    let logins = world.sandbox.portal.logins();
    let learner = world.sandbox.portal.learner_ids().remove(0);
    let explain = async |more: &[&str]| {
        let mut command = world.program();
        command.args(["explain", &learner, "--config"]).arg(world.config()).args(more);
        let output = command.output().await.expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (status, told) = explain(&[]).await;
    assert_eq!(status, Some(0), "{told}");
    assert!(told.contains("In hr (bamboohr) since ") && told.contains("A webhook of "), "{told}");
    // Completed without a webhook: only the LMS knows.
    let course = world.sandbox.portal.course_ids().remove(1);
    let _unsent = world.sandbox.portal.complete_course(&learner, &course);
    let (status, asked) = explain(&["--course", "no such course"]).await;
    assert_eq!(status, Some(1), "{asked}");
    assert!(
        asked.contains("The LMS was asked now: it knows ") && asked.contains("What it shows of theirs: "),
        "{asked}"
    );
    let (_, offline) = explain(&["--course", "no such course", "--offline"]).await;
    assert!(offline.contains("The LMS was not asked now: --offline says so"), "{offline}");
    assert_eq!(world.sandbox.portal.logins(), logins, "a login would have ended the daemon's session");
    let (_, json) = explain(&["--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    let since = json.pointer("/learners/0/records/0/answers/0/since").and_then(serde_json::Value::as_str);
    assert!(since.is_some_and(|at| at.ends_with('Z')), "{json:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_needs_a_person_when_the_daemon_is_gone_and_else_does_not() {
    let world = World::new(7, 4).await;
    let mut daemon = world.start(&[]).await;
    world
        .wait(&mut daemon, "the first sweep to end", |status, _| status.last_sweep_at.is_some() && is_idle(status))
        .await;
    let status = async || {
        let output = world.program().arg("status").arg("--config").arg(world.config()).output().await;
        let output = output.expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, screen) = status().await;
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("\"test\" runs since ") && screen.contains("Nothing needs a person."), "{screen}");
    assert!(!screen.contains('\u{1b}'), "colours are for terminals");
    daemon.kill().await;
    let (code, screen) = status().await;
    assert_eq!(code, Some(1), "{screen}");
    assert!(screen.contains("is not running") && screen.contains("-> you: start learnsync"), "{screen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_count_what_happened() {
    let world = World::new(5, 10).await;
    let mut daemon = world.start(&[]).await;
    let key = world.complete(&daemon, 0).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
    let url = format!("{}/metrics", daemon.url);
    let outside = world.http.get(&url).send().await.expect("an answer comes").status().as_u16();
    assert_eq!(outside, 404, "the webhook listener tells strangers nothing");
    let (status, text) = world.ask_admin("/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "learnsync_hooks_received_total{portal=\"main\",outcome=\"accepted\"} 1",
        "learnsync_hooks_received_total{portal=\"unknown\",outcome=\"refused\"} 1",
        "learnsync_deliveries_total{destination=\"hr\",outcome=\"taken\"} 1",
        "learnsync_lms_calls_total{portal=\"main\",lane=\"live\",outcome=\"ok\"} ",
        "learnsync_deliveries_waiting{destination=\"hr\",state=\"pending\"} 0",
        "learnsync_destination_paused{destination=\"hr\"} 0",
        "learnsync_inbox_backlog 0",
        "learnsync_steps_late 0",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_wrong_is_switched_off_loudly_and_the_others_run() {
    let world = World::new(6, 10).await;
    let folder = world.folder.path().join("destinations.d");
    std::fs::create_dir(&folder).expect("makes the folder");
    std::fs::write(folder.join("crm.toml"), "connector = \"bambohr\"\nhistroy = \"none\"\n").expect("writes the file");
    let good = std::fs::read_to_string(world.config()).expect("reads the configuration");
    let (status, words) = check(&world, &good).await;
    assert_eq!(status, Some(2), "{words}");
    assert!(words.contains("destinations.d/crm.toml:2:1: destinations.crm.histroy: "), "{words}");

    let mut daemon = world.start(&[]).await;
    assert!(daemon.has_said("The destination crm is switched off"), "it did not say so");
    assert!(daemon.has_said("destinations.d/crm.toml:1:13: destinations.crm.connector: \"bambohr\" is no connector"));
    let names: Vec<String> = world.status().destinations.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["hr"]);
    terminate(&daemon).await;
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_init_writes_without_a_question_passes_check() {
    let world = World::new(7, 10).await;
    let config = world.folder.path().join("new/learnsync.toml");
    let mut command = world.program();
    command.arg("init").arg("--config").arg(&config);
    let output = command.output().await.expect("the program runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("--installation") && !config.exists(), "{words}");
    let flags = [
        "--installation=acme",
        "--region=eu",
        "--username=learnsync",
        "--zone=Europe/Berlin",
        "--connector=bamboohr",
        "--destination=hr",
        "--history=none",
        "--set=company=acme",
        "--secret=absorb_api_key=env:TEST_ABSORB_KEY",
        "--secret=absorb_password=env:TEST_ABSORB_PASSWORD",
        "--secret=webhook_token=env:TEST_WEBHOOK_TOKEN",
        "--secret=api_key=env:TEST_BAMBOOHR_KEY",
    ];
    let output = command.args(flags).output().await.expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("next:") && said.contains("learnsync check --online --config"), "{said}");
    let output = world.program().arg("check").arg("--config").arg(&config).output().await.expect("the program runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}
