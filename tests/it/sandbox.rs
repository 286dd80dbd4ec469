//! The README's walk, word for word: a sandbox, a configuration written by `init`, a row in HR, a message in the chat, and what `explain` says.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::world::{Daemon, PATIENCE};

/// The blocks of the README that a user pastes into a shell, in order.
fn blocks() -> Vec<&'static str> {
    let readme = include_str!("../../README.md");
    readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// A running sandbox on free ports, in a folder of its own.
struct Play {
    folder: tempfile::TempDir,
    process: Child,
    portal: String,
    hr: String,
    chat: String,
}

impl Play {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_learnsync"));
        command.args(["sandbox", "--port-base", "0"]).current_dir(folder.path()).kill_on_drop(true);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the sandbox starts");
        let mut lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines();
        let mut address = async |of: &str| loop {
            let line = lines.next_line().await.expect("its words can be read").expect("the sandbox goes on");
            if line.trim_start().starts_with(of) {
                return line.split_whitespace().find(|word| word.starts_with("http")).expect("an address").to_owned();
            }
        };
        let portal = address("fake Absorb portal").await;
        let hr = address("fake BambooHR").await;
        let chat = address("fake Google Chat").await;
        // Nobody reads what follows; that must not end the sandbox.
        Self { folder, process, portal, hr, chat }
    }

    /// Runs what a user pastes, with this sandbox in place of the README's addresses.
    async fn paste(&self, block: &str) -> Output {
        let text = block
            .replace("http://127.0.0.1:8490", &self.portal)
            .replace("http://127.0.0.1:8491", &self.hr)
            // A user needs more than a second to go on; what is achieved in the very second of the first start is left out by "none".
            .replace("--history none", "--history all")
            .replace(
                "init --yes --config learnsync.toml --store",
                "init --yes --config learnsync.toml --listen 127.0.0.1:0 --store",
            )
            .replace("learnsync sandbox complete", &format!("learnsync sandbox complete --portal {}", self.portal));
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &text]).current_dir(self.folder.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        let program = Path::new(env!("CARGO_BIN_EXE_learnsync")).parent().expect("it lies in a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{path}", program.display()));
        shell.output().await.expect("a shell runs")
    }

    async fn pasted(&self, block: &str) -> String {
        let output = self.paste(block).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{block}\n{out}{err}");
        out.into_owned()
    }

    async fn get(&self, url: &str) -> String {
        let http = learnsync::daemon::http_client().expect("a client");
        http.get(url).send().await.expect("the sandbox answers").text().await.expect("it is text")
    }
}

/// Looks whenever the daemon says a word, until what it sees is as wanted.
async fn until<T>(daemon: &mut Daemon, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            daemon.next_line().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readme_leads_from_nothing_to_a_row_in_hr_and_a_message_in_the_chat() {
    let blocks = blocks();
    let [first, set_up, run, complete, ask, fail] = blocks.as_slice() else { panic!("six blocks: {blocks:#?}") };
    assert!(first.ends_with("learnsync sandbox\n"), "{first}");
    let mut play = Play::start().await;

    let said = play.pasted(set_up).await;
    for words in
        ["portal main: sees 20 learners", "cheers: answers as google_chat spaces/SANDBOX", "hr: answers as 127.0.0.1"]
    {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let steps = said.split("next:").nth(1).expect("init says what comes next");
    assert!(steps.trim_start().starts_with("1. learnsync check --online"), "all secrets are in their places:\n{said}");

    assert_eq!(*run, "learnsync run --config learnsync.toml\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_learnsync"));
    command.args(["run", "--config", "learnsync.toml"]).current_dir(play.folder.path()).kill_on_drop(true);
    command.env("CREDENTIALS_DIRECTORY", play.folder.path().join("credentials"));
    command.env("LEARNSYNC_LOG", "debug").env("NO_COLOR", "1");
    let mut daemon = Daemon::listening(command).await;
    let token = std::fs::read_to_string(play.folder.path().join("credentials/webhook_token")).expect("is there");
    let portal = &play.portal;
    let hook = format!("learnsync sandbox webhook --portal {portal} {}/hooks/main/{token}", daemon.url);
    play.pasted(&hook).await;
    let said = play.pasted(&format!("learnsync sandbox test-webhook --portal {portal}")).await;
    assert!(
        said.contains("answered with 200") && said.contains("webhooks of the portal \\\"main\\\" arrive here"),
        "{said}"
    );

    let said = play.pasted(complete).await;
    assert!(said.starts_with("Leila Novotny completed Fire Safety. ") && said.contains("\"accepted\""), "{said}");
    let shown = async |url: &str, words: &str| Some(play.get(url).await).filter(|page| page.contains(words));
    let hr = until(&mut daemon, "a row in HR", async || shown(&play.hr, "learnsync:sandbox:completion/").await).await;
    assert!(hr.contains("Leila Novotny"), "{hr}");
    let url = format!("{}/messages", play.chat);
    let messages = until(&mut daemon, "a message", async || shown(&url, "completed").await).await;
    let messages: Value = serde_json::from_str(&messages).expect("is JSON");
    assert_eq!(messages[0]["text"], "✅ Leila Novotny completed Fire Safety");
    assert_eq!(messages.as_array().map(Vec::len), Some(1));

    // The ledger may be a word behind the page.
    let story = until(&mut daemon, "the story", async || {
        let is_whole =
            |story: &String| story.contains("In hr (bamboohr) since ") && story.contains("Told in cheers (chat) on ");
        Some(play.pasted(ask).await).filter(is_whole)
    })
    .await;
    for words in [
        "Completion \"Fire Safety\" of ",
        "A webhook of ",
        "(message spaces/SANDBOX/messages/1)",
        "(row 1), as the LMS has it.",
    ] {
        assert!(story.contains(words), "{words}\n{story}");
    }

    // `status` ends with 1, since something needs a person; until the ledger says so it ends with 0.
    let (happen, look) = fail.split_once('\n').expect("two commands");
    play.pasted(happen).await;
    let screen = until(&mut daemon, "somebody to be needed", async || {
        let output = play.paste(look).await;
        (output.status.code() == Some(1)).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    })
    .await;
    assert!(screen.contains("hr (bamboohr) 1 there, 1 set aside."), "{screen}");
    assert!(
        screen.contains("the person is not known there (hr)") && screen.contains("-> HR: add or correct the person"),
        "{screen}"
    );

    let asked = Command::new("kill").arg(play.process.id().expect("it runs").to_string()).status().await;
    assert!(asked.expect("kill runs").success());
    assert!(play.process.wait().await.expect("it ends").success(), "SIGTERM ends the sandbox with 0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_types_wrong_things_at_the_sandbox_is_told_what_to_type() {
    let play = Play::start().await;
    let (portal, hr) = (&play.portal, &play.hr);
    for (line, status, words) in [
        (
            "learnsync sandbox complete leila.novotny@example.com C-0001".to_owned(),
            2,
            "did you mean \"leila.novotny1@example.com\"?",
        ),
        (
            format!("learnsync sandbox certify --portal {portal} E10001 'Fire Saftey'"),
            2,
            "did you mean \"Fire Safety\"?",
        ),
        (format!("learnsync sandbox webhook --portal {portal} localhost:8480"), 2, "begins with http:// or https://"),
        (format!("learnsync sandbox test-webhook --portal {hr}"), 1, "is no sandbox (HTTP 404)"),
        (
            "learnsync sandbox test-webhook --portal http://127.0.0.1:1".to_owned(),
            1,
            "start one with `learnsync sandbox`",
        ),
        ("learnsync sandbox --port-base 0 --seed 2".to_owned(), 2, "name another one with --credentials"),
        (
            "learnsync init --yes --config learnsync.toml --add-destination --connector chat".to_owned(),
            2,
            "make one with `learnsync init",
        ),
    ] {
        let output = play.paste(&line).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{line}: {said}");
        assert!(said.contains(words), "{line}: {said}");
    }
}
