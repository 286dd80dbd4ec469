//! The daemon as a child process: started, killed, started again.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

/// What the daemon says when it listens.
const READY: &str = "learnsync is ready on ";

/// A running daemon.
pub(super) struct Child {
    process: tokio::process::Child,
    pid: u32,
    url: String,
}

impl Child {
    /// Starts the daemon and waits until it listens. Its log goes to a file beside the configuration.
    pub(super) async fn start(config: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut process = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(config)
            .env("LEARNSYNC_LOG", "info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the daemon")?;
        let pid = process.id().context("read the daemon's process number")?;
        let stderr = process.stderr.take().context("read the daemon's words")?;
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        let url = loop {
            let Some(line) = lines.next_line().await.context("read the daemon's words")? else {
                bail!("the daemon ended before it listened:\n{}", said.join("\n"));
            };
            if let Some((_, rest)) = line.split_once(READY) {
                break rest.split_whitespace().next().unwrap_or_default().to_owned();
            }
            said.push(line);
        };
        let log = config.with_file_name("daemon.log");
        tokio::spawn(async move {
            let file = tokio::fs::OpenOptions::new().create(true).append(true).open(&log).await;
            let Ok(mut file) = file else { return };
            while let Ok(Some(line)) = lines.next_line().await {
                // A full disk must not stop the daemon, which waits for its words to be read.
                let _full = file.write_all(format!("{line}\n").as_bytes()).await;
            }
        });
        Ok(Self { process, pid, url })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn is_alive(&self) -> bool {
        Path::new(&format!("/proc/{}/stat", self.pid)).exists()
    }

    /// Kills it as a power cut would: no destructor runs.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("kill the daemon")
    }

    /// Asks it to stop, as systemd does.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill").arg("-TERM").arg(self.pid.to_string()).status().await;
        if !asked.is_ok_and(|status| status.success()) {
            self.kill().await?;
        }
        let status = self.process.wait().await.context("wait for the daemon's end")?;
        if !status.success() && status.code().is_some() {
            bail!("the daemon ended with {status}");
        }
        Ok(())
    }
}

/// The most memory that any life of the daemon had.
#[derive(Default)]
pub(super) struct Peak {
    kib: u64,
}

impl Peak {
    /// Reads the kernel's high-water mark of the process.
    pub(super) fn see(&mut self, child: &Child) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse().ok()).unwrap_or(0);
        self.kib = self.kib.max(kib);
    }

    pub(super) fn kib(&self) -> u64 {
        self.kib
    }
}

/// Writes a secret that only we may read.
pub(super) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("write {}", path.display()))?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))
}
