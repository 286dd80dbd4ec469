//! A disk that is full: 503 and never a 2xx, what was acknowledged stays, and all is well when space returns.

use learnsync::store::audit::audit;

use crate::world::{Daemon, TOKEN, World, is_idle};

/// Largest file that the daemon may write, in blocks of 512 bytes: about 2 MB.
const BLOCKS_MAX: u32 = 4_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_program_on_a_full_disk_answers_503_and_loses_nothing() {
    let world = World::new(61, 10).await;
    world.first_sweep().await;
    let mut command = tokio::process::Command::new("sh");
    world.prepare(&mut command);
    let script = format!("ulimit -f {BLOCKS_MAX}; exec \"$@\"");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_learnsync"), "run", "--config"]).arg(world.config());
    let mut daemon = Daemon::listening(command).await;
    let url = format!("{}/hooks/main/{TOKEN}", daemon.url);
    let mut kept = 0;
    let refused = loop {
        // A body that is not JSON is kept like any other.
        let response = world.http.post(&url).body("x".repeat(200_000)).send().await.expect("an answer comes");
        match response.status().as_u16() {
            200 => kept += 1,
            _ => break response,
        }
        assert!(kept < 100, "the limit of the file's size does not work");
    };
    assert_eq!(refused.status().as_u16(), 503);
    assert!(refused.headers().contains_key("retry-after"), "the sender is told to come back");
    let (status, reasons) = world.ask_admin("/readyz").await;
    // Which of the two depends on how much room the limit left for the proof of a commit.
    let is_said = ["the newest webhook could not be kept", "nothing can be committed"];
    assert!(status == 503 && is_said.iter().any(|words| reasons.contains(words)), "{status} {reasons}");
    assert_eq!(world.ask_admin("/healthz").await.0, 200, "a restart would mend nothing");
    let alive = world.http.get(&url).send().await.expect("an answer comes");
    assert_eq!(alive.status().as_u16(), 200, "the receiver stays up");
    daemon.kill().await;
    let audited = audit(&world.store()).expect("the store can be audited");
    assert_eq!(audited.broken().count(), 0, "{audited:#?}");

    let mut daemon = world.start(&[]).await;
    let key = world.complete(&daemon, 0).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
    world.wait(&mut daemon, "intake to take all", |status, _| is_idle(status)).await;
    assert_eq!(world.status().events, kept + 1, "exactly what was acknowledged is there");
}
