//! Records webhooks of a real portal as fixtures: whatever is sent is answered with 200 and kept in a folder, one file each, with everything
//! personal replaced. How Absorb spells its webhooks is not documented; an hour with this tells.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::{Value, json};
use tracing::{info, warn};

use super::redact::Redactor;
use super::server::{Reply, Request, Service};
use crate::domain::time::{Clock, Timestamp};

/// Headers whose values say how something was sent; of all others only the names are kept.
const TELLING: [&str; 6] =
    ["accept", "accept-encoding", "content-encoding", "content-length", "content-type", "user-agent"];

/// Keeps what it is sent.
pub(super) struct Recorder {
    pub(super) folder: PathBuf,
    pub(super) clock: std::sync::Arc<dyn Clock>,
    /// One for all, so that the same person is the same made-up person in each file.
    pub(super) redactor: Mutex<Redactor>,
}

#[async_trait]
impl Service for Recorder {
    async fn answer(&self, request: Request) -> Reply {
        let recording = {
            let mut redactor = self.redactor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            recording(&request, self.clock.now(), &mut redactor)
        };
        match keep(&self.folder, &recording) {
            Ok(path) => {
                info!(file = %path.display(), "Kept a webhook");
                Reply::json(200, &json!({"status": "recorded"}))
            }
            Err(error) => {
                warn!(folder = %self.folder.display(), %error, "A webhook could not be kept");
                Reply::json(503, &json!({"error": "it could not be kept"}))
            }
        }
    }
}

fn recording(request: &Request, now: Timestamp, redactor: &mut Redactor) -> Value {
    let header = |name: &str| {
        let is_telling = TELLING.contains(&name);
        let value = request.header(name).filter(|_| is_telling).unwrap_or("(not kept)");
        (name.to_owned(), Value::from(value))
    };
    let headers: serde_json::Map<String, Value> = request.headers.keys().map(|name| header(name.as_str())).collect();
    json!({
        "received_at": now.to_string(),
        "method": request.method.as_str(),
        "headers": headers,
        "body": redactor.body(&request.body),
    })
}

/// Writes to the first number that is free.
fn keep(folder: &Path, recording: &Value) -> std::io::Result<PathBuf> {
    use std::io::Write;
    for number in 1..100_000 {
        let path = folder.join(format!("hook-{number:04}.json"));
        match std::fs::OpenOptions::new().create_new(true).write(true).open(&path) {
            Ok(mut file) => {
                writeln!(file, "{recording:#}")?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other("the folder holds 99,999 webhooks"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use crate::domain::time::SystemClock;
    use crate::sandbox::Recording;

    #[tokio::test]
    async fn a_webhook_is_answered_with_200_and_kept_without_anything_personal() {
        let folder = tempfile::tempdir().expect("a folder");
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let recording = Recording::start(anywhere, folder.path(), Arc::new(SystemClock)).await.expect("listens");
        for _ in 0..2 {
            let body =
                r#"{"EventName":"CertificateAwarded","UserId":"a14c149a-2ce0-41d4-b532-02189ad3cb22","name":"Ada"}"#;
            let length = body.len();
            let mut stream = TcpStream::connect(recording.address).await.expect("connects");
            let head =
                "POST /hooks/main/sesame HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Key: sesame\r\n";
            let request = format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            stream.write_all(request.as_bytes()).await.expect("is sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("is answered");
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        let kept = |number: u32| {
            let text = std::fs::read_to_string(folder.path().join(format!("hook-{number:04}.json"))).expect("is kept");
            serde_json::from_str::<serde_json::Value>(&text).expect("is JSON")
        };
        let (first, second) = (kept(1), kept(2));
        assert_eq!(first["body"], second["body"], "the same person is the same made-up one");
        assert_eq!(first["body"]["EventName"], "CertificateAwarded");
        assert_eq!(first["headers"]["content-type"], "application/json");
        let text = first.to_string();
        assert!(
            text.contains("x-key") && !text.contains("sesame") && !text.contains("Ada") && !text.contains("a14c149a")
        );
    }
}
