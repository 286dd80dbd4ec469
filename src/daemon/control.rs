//! The control socket: a file beside the store through which commands ask the running daemon, one word a line.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tracing::warn;

use crate::pipeline::worker::Bell;

/// Longest request, in bytes.
const REQUEST_BYTES_MAX: u64 = 1_024;

/// The socket's path: only who may read the store may ask.
pub(super) fn socket(store: &Path) -> PathBuf {
    store.join("learnsync.sock")
}

/// Answers until told to stop.
pub(super) async fn serve(
    path: PathBuf,
    sweeps: Vec<Arc<AtomicBool>>,
    bells: Vec<Arc<Bell>>,
    mut stop: watch::Receiver<bool>,
) {
    // A socket that a killed daemon left; the lock of the store says that nobody serves it.
    let _absent = std::fs::remove_file(&path);
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, path = %path.display(), "No control socket: commands cannot reach the daemon");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|is_stopped| *is_stopped) => break,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted
            && let Err(error) = answer(stream, &sweeps, &bells).await
        {
            warn!(%error, "A command did not wait for its answer");
        }
    }
    let _absent = std::fs::remove_file(&path);
}

async fn answer(stream: UnixStream, sweeps: &[Arc<AtomicBool>], bells: &[Arc<Bell>]) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut word = String::new();
    (&mut stream).take(REQUEST_BYTES_MAX).read_line(&mut word).await?;
    let reply = match word.trim() {
        "reconcile" => {
            sweeps.iter().for_each(|asked| asked.store(true, Ordering::SeqCst));
            bells.iter().for_each(|bell| bell.ring());
            "ok: the sweep begins now\n".to_owned()
        }
        other => format!("error: the daemon does not know \"{other}\"\n"),
    };
    stream.write_all(reply.as_bytes()).await
}

/// Asks the running daemon; answers its words.
///
/// # Errors
/// No daemon runs on this store, or it refuses.
pub async fn ask(socket: &Path, word: &str) -> anyhow::Result<String> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("no daemon answers at {}: is `learnsync run` running?", socket.display()))?;
    let mut stream = BufReader::new(stream);
    stream.write_all(format!("{word}\n").as_bytes()).await.context("ask the daemon")?;
    let mut reply = String::new();
    stream.read_line(&mut reply).await.context("read the daemon's answer")?;
    match reply.trim().split_once(": ") {
        Some(("ok", words)) => Ok(words.to_owned()),
        Some((_, words)) => bail!("{words}"),
        None => bail!("the daemon stopped before it answered"),
    }
}
