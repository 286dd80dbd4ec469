//! The control socket: a file beside the store through which commands ask the running daemon. One JSON object a line each way:
//! an `Order`, its `Answer`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use super::orders::{Answer, Desk, Order};

/// Longest request, in bytes.
const REQUEST_BYTES_MAX: u64 = 16 * 1024;

/// Longest answer that a command reads, in bytes.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Most commands that are listened to at once; one more is told to come back.
const COMMANDS_MAX: usize = 16;

/// Longest time for a command to say its request, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The rest after a connection could not be accepted: the process may have no file handles left for a while.
const ACCEPT_REST: Duration = Duration::from_millis(200);

/// The socket's path: only who may read the store may ask.
pub(super) fn socket(store: &Path) -> PathBuf {
    store.join("learnsync.sock")
}

/// Answers until told to stop; what was begun is finished.
pub(super) async fn serve(path: PathBuf, desk: Arc<Desk>, mut stop: watch::Receiver<bool>) {
    // A socket that a killed daemon left; the lock of the store says that nobody serves it.
    let _absent = std::fs::remove_file(&path);
    let listener = match UnixListener::bind(&path) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, path = %path.display(), "No control socket: commands cannot reach the daemon");
            return;
        }
    };
    // One task a command: one that is slow, or is told to do something long, blocks nobody.
    let mut commands = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|is_stopped| *is_stopped) => break,
            Some(_ended) = commands.join_next(), if !commands.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if commands.len() < COMMANDS_MAX => {
                commands.spawn(converse(stream, Arc::clone(&desk), stop.clone()));
            }
            Ok((stream, _)) => turn_away(&stream),
            Err(error) => {
                warn!(%error, "A command could not be listened to");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    // Whoever comes now finds no daemon, and the store's lock while we finish.
    let _absent = std::fs::remove_file(&path);
    while commands.join_next().await.is_some() {}
}

/// One line into an empty buffer never blocks; a command that does not even take that is gone.
fn turn_away(stream: &UnixStream) {
    let because =
        format!("the daemon answers {COMMANDS_MAX} commands already, that is the limit: ask again in a moment");
    let _gone = stream.try_write(line_of(&Answer::Refused { because }).as_bytes());
}

async fn converse(stream: UnixStream, desk: Arc<Desk>, mut stop: watch::Receiver<bool>) {
    let mut stream = BufReader::new(stream);
    let line = tokio::select! {
        biased;
        _ = stop.wait_for(|is_stopped| *is_stopped) => return,
        line = timeout(PATIENCE, read_line(&mut stream, REQUEST_BYTES_MAX)) => line,
    };
    let answer = match line {
        Ok(Ok(line)) if line.is_empty() => return,
        Ok(Ok(line)) => match parse(&line) {
            Ok(order) => desk.carry_out(order).await,
            Err(because) => Answer::Refused { because },
        },
        Ok(Err(error)) => {
            warn!(%error, "A command's request could not be read");
            return;
        }
        Err(_late) => Answer::Refused {
            because: format!("no request came within {} s: send one JSON object and a line end", PATIENCE.as_secs()),
        },
    };
    let sent = timeout(PATIENCE, stream.write_all(line_of(&answer).as_bytes())).await;
    if !matches!(sent, Ok(Ok(()))) {
        // It is done all the same; the ledger says so.
        warn!("A command did not wait for its answer");
    }
}

async fn read_line(stream: &mut BufReader<UnixStream>, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    // One byte more than the limit tells a line that is too long from one that just fits.
    stream.take(bytes_max + 1).read_until(b'\n', &mut line).await?;
    Ok(line)
}

fn parse(line: &[u8]) -> Result<Order, String> {
    if line.len() as u64 > REQUEST_BYTES_MAX {
        return Err(format!("the request is longer than {} KiB", REQUEST_BYTES_MAX / 1024));
    }
    serde_json::from_slice(line).map_err(|error| {
        format!(
            "learnsync {} does not understand the request ({error}): after an update, restart the daemon",
            env!("CARGO_PKG_VERSION")
        )
    })
}

fn line_of(value: &impl serde::Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("orders and answers are plain data");
    line.push('\n');
    line
}

/// Asks the running daemon; none when no daemon runs on this store.
///
/// # Errors
/// The socket is somebody else's, or the daemon ended before it answered.
pub async fn ask(socket: &Path, order: &Order) -> anyhow::Result<Option<Answer>> {
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        // Never made, or left by a daemon that was killed.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => {
            let place = socket.display();
            return Err(error).with_context(|| {
                format!("ask the daemon at {place}; run this as the user who owns the store, or as root")
            });
        }
    };
    let mut stream = BufReader::new(stream);
    stream.write_all(line_of(order).as_bytes()).await.context("ask the daemon")?;
    let line = read_line(&mut stream, ANSWER_BYTES_MAX).await.context("read the daemon's answer")?;
    if line.is_empty() {
        bail!("the daemon stopped before it answered: look at the ledger, it may have done it");
    }
    serde_json::from_slice(&line)
        .map(Some)
        .context("understand the daemon's answer: is it of another version than this command?")
}

#[cfg(test)]
mod tests;
