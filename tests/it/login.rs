//! An administrator allows learnsync to read a portal by OAuth, against the sandbox: page, redirect, code, tokens, and a learner who arrives.

use std::path::Path;

use tokio::process::Command;

use crate::world::{World, is_idle};

async fn said(command: &mut Command) -> (bool, String) {
    let output = command.output().await.expect("the program runs");
    let words = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&words).into_owned())
}

fn with_oauth(world: &World) {
    let portal = &world.sandbox.portal;
    let folder = world.folder.path();
    for (name, secret) in [
        ("client_secret", portal.oauth_client_secret()),
        ("token_key", "a key that no backup carries along".to_owned()),
    ] {
        std::fs::write(folder.join(name), secret).expect("writes a secret");
    }
    let secret = |name: &str| format!("{{ file = \"{}\" }}", Path::new(folder).join(name).display());
    let text = std::fs::read_to_string(world.config()).expect("reads the configuration");
    let oauth = format!(
        "oauth = {{ client_id = \"{}\", client_secret = {}, portal_url = \"{}\", redirect_uri = \"https://acme.example/done\" }}",
        portal.oauth_client_id(),
        secret("client_secret"),
        portal.url()
    );
    let lines = text.lines().filter(|line| !line.starts_with("password"));
    let lines = lines.map(|line| match line {
        line if line.starts_with("username") => oauth.clone(),
        "[store]" => format!("[store]\ntoken_key = {}", secret("token_key")),
        line => line.to_owned(),
    });
    std::fs::write(world.config(), lines.collect::<Vec<_>>().join("\n")).expect("writes the configuration");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_login_by_oauth_the_portal_is_read_and_no_password_is_ever_sent() {
    let world = World::new(501, 6).await;
    with_oauth(&world);
    let mut daemon = world.start(&[]).await;
    daemon.until("learnsync login main").await;
    let (is_done, page) =
        said(world.program().args(["login", "main", "--print-page", "--config"]).arg(world.config())).await;
    assert!(is_done, "{page}");
    let url = page.split_whitespace().find(|word| word.contains("/oauth/authorize?")).expect("the page is printed");
    let state = url.split("state=").nth(1).expect("it has a state").to_owned();
    // The administrator is logged in at the portal, and says yes: the browser is sent on.
    let answer = world.http.get(url).send().await.expect("the page answers");
    let redirected = answer.headers()["location"].to_str().expect("an address").to_owned();
    let login = |state: &str| {
        let mut command = world.program();
        command.args(["login", "main", "--redirected", &redirected, "--state", state, "--config"]).arg(world.config());
        command
    };
    let (is_done, words) = said(&mut login("another")).await;
    assert!(!is_done && words.contains("another login"), "{words}");
    let (is_done, words) = said(&mut login(&state)).await;
    assert!(is_done && words.contains("is read with this login"), "{words}");
    world.wait(&mut daemon, "the first contact", |status, _| status.last_sweep_at.is_some() && is_idle(status)).await;
    let key = world.complete(&daemon, 0).await;
    assert_eq!(world.rows_of(&mut daemon, &key).await, 1);
    assert_eq!(world.sandbox.portal.logins(), 0, "no password is sent");
    let store = std::fs::read(world.folder.path().join("store/learnsync.db")).expect("the ledger is there");
    let code = redirected.split("code=").nth(1).and_then(|rest| rest.split('&').next()).expect("a code");
    assert!(!store.windows(code.len()).any(|bytes| bytes == code.as_bytes()), "the code is not kept");
    let (is_done, words) = said(&mut login(&state)).await;
    assert!(!is_done, "a code serves once: {words}");
}
