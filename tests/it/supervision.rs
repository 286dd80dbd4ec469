//! What a supervisor sees of the real program: ready, reloading, stopping, signs of life; and what SIGHUP does.

use std::path::Path;

use tokio::net::UnixDatagram;

use crate::world::{World, is_idle};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_daemon_is_alive_and_ready() {
    let world = World::new(71, 10).await;
    let _daemon = world.start(&[]).await;
    assert_eq!(world.ask_admin("/healthz").await, (200, r#"{"status":"alive"}"#.to_owned()));
    assert_eq!(world.ask_admin("/readyz").await, (200, r#"{"status":"ready"}"#.to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_with_a_wrong_configuration_keeps_the_old_one_and_says_why() {
    let world = World::new(72, 10).await;
    let mut daemon = world.start(&[]).await;
    let good = std::fs::read_to_string(world.config()).expect("reads the configuration");
    let wrong = good.replace("history = \"all\"", "histroy = \"all\"").replace("= 1000", "= 0");
    std::fs::write(world.config(), wrong).expect("writes the configuration");
    daemon.signal("HUP").await;
    daemon.until("The new configuration is not taken over").await;
    daemon.until("did you mean \"history\"?").await;
    daemon.until("portals.main.calls_per_second_max: 0 is outside 1 to 1000").await;
    let key = world.complete(&daemon, 0).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1, "the old configuration still works");
    daemon.signal("TERM").await;
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_takes_a_new_mapping_over_and_the_port_is_never_closed() {
    let world = World::new(73, 10).await;
    world.first_sweep().await;
    let good = std::fs::read_to_string(world.config()).expect("reads the configuration");
    let unmapped = format!("{good}\n[destinations.hr.references.training_type]\nexplicit_only = true\n");
    std::fs::write(world.config(), unmapped).expect("writes the configuration");
    let mut daemon = world.start(&[]).await;
    let first = world.complete(&daemon, 0).await;
    world.parked(&mut daemon, "unmapped:").await;

    std::fs::write(world.config(), good).expect("writes the configuration");
    daemon.signal("HUP").await;
    // Before, while and after the parts are exchanged: each webhook is acknowledged.
    let mut keys = vec![first];
    for learner in 1..8 {
        keys.push(world.complete(&daemon, learner).await);
    }
    daemon.until("The new configuration is in force").await;
    keys.push(world.complete(&daemon, 8).await);
    let expected = keys.len();
    world.wait(&mut daemon, "all to be delivered", |status, rows| is_idle(status) && rows.len() == expected).await;
    for key in keys {
        assert_eq!(world.rows_by_key()[&key], 1);
    }
    assert_eq!(world.ask_admin("/readyz").await.0, 200);
    daemon.signal("TERM").await;
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_a_restart_can_change_is_refused_with_its_name() {
    let world = World::new(74, 10).await;
    let mut daemon = world.start(&[]).await;
    let good = std::fs::read_to_string(world.config()).expect("reads the configuration");
    std::fs::write(world.config(), good.replace("/store\"", "/other\"")).expect("writes the configuration");
    daemon.signal("HUP").await;
    let line = daemon.until("store.path cannot change from").await;
    assert!(line.contains("restart it"), "{line}");
    assert!(!world.folder.path().join("other").exists());
}

/// What stands in the next message to the supervisor that has this word.
async fn told(supervisor: &UnixDatagram, word: &str) -> String {
    let mut bytes = vec![0; 4_096];
    loop {
        let length = supervisor.recv(&mut bytes).await.expect("it can be read");
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if text.lines().any(|line| line.starts_with(word)) {
            return text;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_is_told_ready_alive_reloading_and_stopping() {
    let world = World::new(75, 10).await;
    let path = world.folder.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).expect("a socket");
    let socket = path.display().to_string();
    let mut daemon = world.start(&[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "300000")]).await;

    let ready = told(&supervisor, "READY=1").await;
    assert!(ready.contains("STATUS=takes webhooks of main on 127.0.0.1:") && ready.contains("writes to hr"), "{ready}");
    told(&supervisor, "WATCHDOG=1").await;
    told(&supervisor, "WATCHDOG=1").await;

    daemon.signal("HUP").await;
    let reloading = told(&supervisor, "RELOADING=1").await;
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    told(&supervisor, "READY=1").await;
    daemon.until("The new configuration is in force").await;

    daemon.signal("TERM").await;
    told(&supervisor, "STOPPING=1").await;
    assert_eq!(daemon.ended().await.code(), Some(0));
    assert!(!socket_of_admin(world.folder.path()).exists(), "the socket is left behind");
}

fn socket_of_admin(folder: &Path) -> std::path::PathBuf {
    folder.join("store/admin.sock")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_is_not_said_before_the_port_is_bound() {
    let world = World::new(76, 10).await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let good = std::fs::read_to_string(world.config()).expect("reads the configuration");
    std::fs::write(world.config(), good.replace("127.0.0.1:0", &address)).expect("writes the configuration");
    let path = world.folder.path().join("notify");
    let supervisor = UnixDatagram::bind(&path).expect("a socket");
    let mut program = world.program();
    program.arg("run").arg("--config").arg(world.config()).env("NOTIFY_SOCKET", &path);
    let ended = program.output().await.expect("it runs");
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains(&format!("listen on {address}")));
    assert!(supervisor.try_recv(&mut [0; 16]).is_err(), "it said something");
}
