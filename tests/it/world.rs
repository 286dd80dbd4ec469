//! A world for the real program: a sandbox in this process, a configuration in a folder, the daemon as a child that can be killed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use learnsync::domain::chance::{Entropy, Generator};
use learnsync::domain::record::Record;
use learnsync::domain::time::SystemClock;
use learnsync::sandbox::{HookBody, HrRow, Sandbox, SandboxOptions};
use learnsync::store::view::{Status, View};
use learnsync_sdk::RecordKind;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};

/// After so long without the awaited word a test has failed; nothing that passes waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) const TOKEN: &str = "a-token-of-at-least-sixteen-characters";

/// The world of one test.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) http: reqwest::Client,
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// A running daemon and its words.
pub(crate) struct Daemon {
    process: Child,
    lines: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
    pub(crate) url: String,
}

impl World {
    pub(crate) async fn new(seed: u64, learners: usize) -> Self {
        Self::with(SandboxOptions { seed, learners, courses: 5, rate_per_second: None, ..SandboxOptions::default() })
            .await
    }

    pub(crate) async fn with(options: SandboxOptions) -> Self {
        let entropy: Arc<dyn Entropy> = Arc::new(Generator::seeded(options.seed));
        let sandbox =
            Sandbox::start(options, Arc::new(SystemClock), Arc::clone(&entropy)).await.expect("the sandbox starts");
        let folder = tempfile::tempdir().expect("a folder");
        let http = learnsync::daemon::http_client().expect("a client");
        let world = Self { sandbox, folder, http, entropy };
        world.write_config("");
        world
    }

    /// Writes the configuration; `more` are further lines of the destination.
    pub(crate) fn write_config(&self, more: &str) {
        let folder = self.folder.path().display();
        let text = format!(
            r#"installation = "test"

[store]
path = "{folder}/store"

[listen]
address = "127.0.0.1:0"

[portals.main]
url = "{portal}"
username = "{username}"
api_key = {{ env = "TEST_ABSORB_KEY" }}
password = {{ env = "TEST_ABSORB_PASSWORD" }}
webhook_token = {{ env = "TEST_WEBHOOK_TOKEN" }}
calls_per_second_max = 1000

[reconcile]
cron = "0 0 1 1 *"

[destinations.hr]
connector = "bamboohr"
history = "all"
settle_seconds = 0
settings = {{ url = "{hr}" }}
secrets = {{ api_key = {{ env = "TEST_BAMBOOHR_KEY" }} }}
{more}"#,
            portal = self.sandbox.portal.url(),
            username = self.sandbox.portal.username(),
            hr = self.sandbox.hr.url(),
        );
        std::fs::write(self.config(), text).expect("writes the configuration");
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("learnsync.toml")
    }

    /// The program with this world's secrets in its environment.
    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_learnsync"));
        self.prepare(&mut command);
        command
    }

    pub(crate) fn prepare(&self, command: &mut Command) {
        command
            .env("TEST_ABSORB_KEY", self.sandbox.portal.api_key())
            .env("TEST_ABSORB_PASSWORD", self.sandbox.portal.password())
            .env("TEST_WEBHOOK_TOKEN", TOKEN)
            .env("TEST_BAMBOOHR_KEY", self.sandbox.hr.api_key())
            .env("LEARNSYNC_LOG", "debug")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
    }

    /// Starts the daemon with these environment variables, and waits until it listens.
    pub(crate) async fn start(&self, environment: &[(&str, &str)]) -> Daemon {
        let mut command = self.program();
        command.arg("run").arg("--config").arg(self.config()).envs(environment.iter().copied());
        Daemon::listening(command).await
    }

    /// Starts the daemon, lets its first sweep end, and stops it: later runs are not due before the first of January, so that
    /// what is found later was found by webhooks alone.
    pub(crate) async fn first_sweep(&self) {
        let mut daemon = self.start(&[]).await;
        self.wait(&mut daemon, "the first sweep to end", |status, _| status.last_sweep_at.is_some() && is_idle(status))
            .await;
        daemon.kill().await;
    }

    /// Waits until the ledger and HR are as wanted; looks whenever the daemon says a word.
    pub(crate) async fn wait(&self, daemon: &mut Daemon, what: &str, mut is_so: impl FnMut(&Status, &[HrRow]) -> bool) {
        let looking = async {
            loop {
                if is_so(&self.status(), &self.sandbox.hr.rows()) {
                    return;
                }
                daemon.next_line().await;
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            let said = daemon.said.join("\n");
            panic!("waited in vain for {what}\n{:#?}\nthe daemon said:\n{said}", self.status());
        }
    }

    pub(crate) fn view(&self) -> View {
        View::open(&self.store()).expect("the store can be looked into")
    }

    /// The store's folder.
    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(crate) fn status(&self) -> Status {
        self.view().status().expect("the store can be read")
    }

    /// Sends a webhook once; the answer's status, none when nobody answered.
    pub(crate) async fn post(&self, url: &str, hook: &HookBody) -> Option<u16> {
        let request = self.http.post(format!("{url}/hooks/main/{TOKEN}")).body(hook.body.clone());
        let request = match hook.content_type.is_empty() {
            true => request,
            false => request.header("content-type", &hook.content_type),
        };
        Some(request.send().await.ok()?.status().as_u16())
    }

    /// One learner completes a course, and the webhook of it is acknowledged; the key of the record.
    pub(crate) async fn complete(&self, daemon: &Daemon, learner: usize) -> String {
        let learner = self.sandbox.portal.learner_ids().remove(learner);
        let course = self.sandbox.portal.course_ids().remove(0);
        let hook = self.sandbox.portal.complete_course(&learner, &course);
        let mut answer = self.post(&daemon.url, &hook).await;
        if answer.is_none() {
            // A reload may close an idle connection just when the next request goes out on it; HTTP leaves that to the sender, who repeats.
            answer = self.post(&daemon.url, &hook).await;
        }
        assert_eq!(answer, Some(200));
        let ids = self.sandbox.portal.completions_of(&learner);
        format!("completion/{}", ids.last().expect("the course was just completed"))
    }

    /// Waits until HR holds a record, and the ledger has the receipt; says how many rows there are.
    pub(crate) async fn rows_of(&self, daemon: &mut Daemon, key: &str) -> usize {
        self.wait(daemon, key, |status, rows| {
            is_idle(status) && rows.iter().any(|row| key_of(row).as_deref() == Some(key))
        })
        .await;
        self.rows_by_key()[key]
    }

    /// Waits until a delivery is parked under a cause.
    pub(crate) async fn parked(&self, daemon: &mut Daemon, cause: &str) {
        self.wait(daemon, cause, |status, _| {
            status
                .destinations
                .iter()
                .flat_map(|destination| &destination.causes)
                .any(|(word, _)| word.starts_with(cause))
        })
        .await;
    }

    /// Asks the admin listener, at its place in the store's folder; status and body.
    pub(crate) async fn ask_admin(&self, path: &str) -> (u16, String) {
        let socket = self.folder.path().join("store/admin.sock");
        let mut stream = UnixStream::connect(socket).await.expect("the admin listener is there");
        let question = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(question.as_bytes()).await.expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it answers");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    /// The keys of our records in HR, each with the number of its rows.
    pub(crate) fn rows_by_key(&self) -> BTreeMap<String, usize> {
        let mut keys = BTreeMap::new();
        for row in self.sandbox.hr.rows() {
            *keys.entry(key_of(&row).unwrap_or_else(|| "foreign".to_owned())).or_insert(0) += 1;
        }
        keys
    }

    /// The keys of all records of a kind that the LMS holds.
    pub(crate) fn truth(&self, kind: RecordKind) -> BTreeSet<String> {
        let mut all = self.sandbox.portal.expected_records();
        all.remove(&kind).unwrap_or_default().values().map(Record::key).collect()
    }

    /// The keys of all records of some learners.
    pub(crate) fn keys_of(&self, learners: &BTreeSet<String>) -> BTreeSet<String> {
        let portal = &self.sandbox.portal;
        learners
            .iter()
            .flat_map(|learner| portal.completions_of(learner))
            .map(|id| format!("completion/{id}"))
            .collect()
    }
}

/// The record key in a row's mark.
pub(crate) fn key_of(row: &HrRow) -> Option<String> {
    let column = if row.object == "training" { "notes" } else { "customReference" };
    row.fields.get(column)?.lines().find_map(|line| line.trim().strip_prefix("learnsync:test:")).map(str::to_owned)
}

/// The record keys in the marks of a file, each as often as it stands there; none when there is no such file.
pub(crate) fn marks_in(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let keys = text.split("learnsync:test:").skip(1).filter_map(|rest| rest.split(['"', ',', '\n']).next());
    keys.map(str::to_owned).collect()
}

/// Whether nothing is left to do; what is parked waits for somebody.
pub(crate) fn is_idle(status: &Status) -> bool {
    let open = status.destinations.iter().flat_map(|destination| &destination.deliveries);
    let open = open.filter(|(state, _)| ["pending", "sending", "uncertain"].contains(&state.as_str())).count();
    status.events_waiting == 0 && status.dirty.is_empty() && open == 0
}

impl Daemon {
    /// Whether it has said this by now.
    pub(crate) fn has_said(&self, words: &str) -> bool {
        self.said.iter().any(|line| line.contains(words))
    }

    /// Runs a command that starts the daemon, and waits until it listens.
    pub(crate) async fn listening(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = process.stderr.take().expect("stderr is piped");
        let mut daemon = Self { process, lines: BufReader::new(stderr).lines(), said: Vec::new(), url: String::new() };
        let line = daemon.until("learnsync is ready on ").await;
        let url = line.split("ready on ").nth(1).and_then(|rest| rest.split_whitespace().next());
        daemon.url = url.expect("the line names the address").to_owned();
        daemon
    }

    /// The next line that it says.
    pub(crate) async fn next_line(&mut self) -> String {
        match self.lines.next_line().await.expect("its words can be read") {
            Some(line) => {
                self.said.push(line.clone());
                line
            }
            None => panic!("the daemon ended; it said:\n{}", self.said.join("\n")),
        }
    }

    /// The first line that holds these words.
    pub(crate) async fn until(&mut self, words: &str) -> String {
        let waiting = async {
            loop {
                let line = self.next_line().await;
                if line.contains(words) {
                    return line;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(line) => line,
            Err(_) => panic!("waited in vain for \"{words}\"; the daemon said:\n{}", self.said.join("\n")),
        }
    }

    /// Kills it with SIGKILL, as a power cut would.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.expect("it can be killed");
    }

    /// Sends it a signal, such as `HUP`.
    pub(crate) async fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().await;
        assert!(sent.expect("kill runs").success());
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    /// Waits for its own end.
    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        tokio::time::timeout(PATIENCE, self.process.wait())
            .await
            .expect("it ends in time")
            .expect("its end can be seen")
    }
}

/// Prints past the test's capture: a table that nobody sees proves nothing.
pub(crate) fn say(line: &str) {
    // Standard error may be closed; then nobody looks.
    let _closed = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
