//! The admin listener: whether we are alive, whether we are ready, and the metrics. For this machine only.
//!
//! It stands apart from the webhook listener, so that a proxy which passes everything on shows none of it to the outside.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::answer::{self, Answer};
use super::rejection::Rejection;
use super::server::{ACCEPT_PAUSE, log_panic, stopped};
use crate::config::AdminAddress;
use crate::telemetry::METRICS_TYPE;

/// Most questions at once; a supervisor and a scraper need two.
pub const QUESTIONS_MAX: usize = 16;

/// Longest time for one question with its answer.
pub const QUESTION_TIME_MAX: Duration = Duration::from_secs(15);

/// What may be asked with.
const METHODS: &str = "GET, HEAD";

/// Knows how the daemon is.
#[async_trait]
pub trait Health: Send + Sync {
    /// What stands in the way of good work; nothing when we are ready.
    async fn troubles(&self) -> Vec<Trouble>;

    /// The metrics, of the type `telemetry::METRICS_TYPE`.
    async fn metrics(&self) -> String;
}

/// One reason for which we are not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which part: `store`, or a step of the pipeline.
    pub part: String,
    /// What is wrong with it.
    pub words: String,
}

/// Where the questions come in.
pub enum AdminListener {
    /// A loopback address.
    Tcp(TcpListener),
    /// A socket; its file is removed at the end.
    Unix(UnixListener, PathBuf),
}

impl AdminListener {
    /// Binds the address. A socket that nobody serves any more is replaced.
    ///
    /// # Errors
    /// The address is taken, or the socket cannot be made.
    pub async fn bind(address: &AdminAddress) -> io::Result<Self> {
        match address {
            AdminAddress::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            AdminAddress::Unix(path) => {
                remove_orphan(path)?;
                Ok(Self::Unix(UnixListener::bind(path)?, path.clone()))
            }
        }
    }

    /// Where it listens, with the port that the system chose.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<AdminAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(AdminAddress::Tcp),
            Self::Unix(_, path) => Ok(AdminAddress::Unix(path.clone())),
        }
    }

    /// Answers until `stop` turns true or its sender is gone.
    pub async fn serve(self, health: Arc<dyn Health>, mut stop: watch::Receiver<bool>) {
        let mut open = JoinSet::new();
        loop {
            let has_room = open.len() < QUESTIONS_MAX;
            let accepted = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                Some(ended) = open.join_next() => {
                    log_panic(ended);
                    continue;
                }
                // Above the limit they wait in the kernel's queue.
                accepted = self.accept(), if has_room => accepted,
            };
            match accepted {
                Ok(stream) => {
                    let health = Arc::clone(&health);
                    open.spawn(async move {
                        if tokio::time::timeout(QUESTION_TIME_MAX, stream.converse(health)).await.is_err() {
                            debug!("Cut off a question to the admin listener after {QUESTION_TIME_MAX:?}");
                        }
                    });
                }
                Err(failure) => {
                    warn!("Could not accept a question to the admin listener: {failure}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if let Self::Unix(_, path) = &self {
            let _absent = std::fs::remove_file(path);
        }
        open.shutdown().await;
    }

    async fn accept(&self) -> io::Result<Asking> {
        Ok(match self {
            Self::Tcp(listener) => Asking::Tcp(listener.accept().await?.0),
            Self::Unix(listener, _) => Asking::Unix(listener.accept().await?.0),
        })
    }
}

/// Whoever asks.
enum Asking {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Asking {
    async fn converse(self, health: Arc<dyn Health>) {
        match self {
            Self::Tcp(stream) => converse(stream, health).await,
            Self::Unix(stream) => converse(stream, health).await,
        }
    }
}

/// Removes the socket of a daemon that was killed; one that somebody serves, or a file of another kind, stays and makes `bind` fail.
fn remove_orphan(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) | Err(_) => return Ok(()),
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Answers one question: who asks every few seconds loses nothing by a new connection, and an idle one would hold a place.
async fn converse<S>(stream: S, health: Arc<dyn Health>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let health = Arc::clone(&health);
        async move {
            let answered = answer(request.method(), request.uri().path(), &*health).await;
            Ok::<Answer, Infallible>(answered.unwrap_or_else(|rejection| answer::refusal(&rejection)))
        }
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).keep_alive(false);
    if let Err(failure) = builder.serve_connection(TokioIo::new(stream), service).await {
        debug!("A question to the admin listener ended early: {failure}");
    }
}

async fn answer(method: &Method, path: &str, health: &dyn Health) -> Result<Answer, Rejection> {
    if !["/healthz", "/readyz", "/metrics"].contains(&path) {
        return Err(Rejection::NothingToAsk);
    }
    if ![Method::GET, Method::HEAD].contains(method) {
        return Err(Rejection::Method(METHODS));
    }
    Ok(match path {
        "/metrics" => answer::text(StatusCode::OK, METRICS_TYPE, health.metrics().await),
        "/readyz" => readiness(&health.troubles().await),
        // Whether webhooks can be kept is not asked here: a supervisor that restarts us for a full disk makes nothing better.
        _ => answer::json(StatusCode::OK, &json!({ "status": "alive" })),
    })
}

fn readiness(troubles: &[Trouble]) -> Answer {
    if troubles.is_empty() {
        return answer::json(StatusCode::OK, &json!({ "status": "ready" }));
    }
    let reasons: Vec<_> =
        troubles.iter().map(|trouble| json!({ "part": trouble.part, "words": trouble.words })).collect();
    answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "not ready", "reasons": reasons }))
}

#[cfg(test)]
mod tests;
