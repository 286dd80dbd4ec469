//! Accepts connections, serves each in its own task, and lets them finish when it is stopped.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use super::Receiver;
use super::answer::{self, Answer};
use super::limits::{HttpLimits, LINGER_BYTES_MAX, LINGER_TIME, STOP_TIME};
use super::rejection::Rejection;
use super::stream::{Traffic, Watched};

/// The pause after a failed accept: when file handles have run out, trying again at once would only burn the processor.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The smallest buffer that hyper takes.
const BUFFER_BYTES_MIN: usize = 8 * 1024;

impl Receiver {
    /// Serves until `stop` turns true or its sender is gone; then takes no new connection, lets requests under way finish, and returns when
    /// all connections are closed, after 10 s at the latest. The listener is shared: the receiver of a new configuration takes over before
    /// this one ends.
    pub async fn serve(self: Arc<Self>, listener: Arc<TcpListener>, stop: watch::Receiver<bool>) {
        let mut open = JoinSet::new();
        let mut accepting = stop.clone();
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut accepting) => break,
                Some(ended) = open.join_next() => log_panic(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream, &stop, &mut open),
                    Err(failure) => {
                        warn!("Could not accept a connection: {failure}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        finish(open).await;
    }

    /// Serves a connection in a task of its own, or refuses it in one.
    fn admit(self: &Arc<Self>, stream: TcpStream, stop: &watch::Receiver<bool>, open: &mut JoinSet<()>) {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            let (receiver, stop) = (Arc::clone(self), stop.clone());
            open.spawn(async move {
                receiver.converse(stream, stop).await;
                drop(permit);
            });
            return;
        }
        let rejection = Rejection::TooManyConnections(self.limits.connections_max);
        warn!(status = 503, "Refused a connection: {}", rejection.sentence());
        // Without a free place for a refusal the stream is dropped: under such a flood, silence is all we can afford.
        if let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() {
            open.spawn(async move {
                refuse(stream, &rejection).await;
                drop(permit);
            });
        }
    }

    /// Serves the requests of one connection.
    async fn converse(self: Arc<Self>, stream: TcpStream, mut stop: watch::Receiver<bool>) {
        // Answers are small and written at once; a failure here only costs speed.
        let _is_faster = stream.set_nodelay(true);
        let traffic = Arc::new(Traffic::new());
        let watched = Watched::new(stream, Arc::clone(&traffic), self.limits.header_time, self.limits.idle_time);
        let service = Requests { receiver: Arc::clone(&self), traffic };
        let mut connection = protocol(&self.limits).serve_connection(TokioIo::new(watched), service);
        let mut is_stopping = false;
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut connection => break outcome,
                () = stopped(&mut stop), if !is_stopping => {
                    is_stopping = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        };
        if let Err(failure) = outcome {
            debug!("A connection ended early: {failure}");
        }
        let (stream, is_head_late) = connection.into_parts().io.into_inner().into_inner();
        if is_head_late {
            let rejection = Rejection::HeadLate(self.limits.header_time);
            info!(status = 408, "Refused a request: {}", rejection.sentence());
            refuse(stream, &rejection).await;
        } else {
            linger(stream).await;
        }
    }
}

/// How we speak HTTP/1. Slow heads and idle pauses are bounded by `Watched`, which also answers them.
fn protocol(limits: &HttpLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_buf_size(limits.header_bytes_max.max(BUFFER_BYTES_MIN))
        .max_header_size(limits.header_bytes_max.max(BUFFER_BYTES_MIN))
        .max_headers(limits.headers_max)
        // A client that has sent all it wants to may close its side and still read; and one that left does not stop a commit.
        .half_close(true);
    builder
}

/// The requests of one connection.
struct Requests {
    receiver: Arc<Receiver>,
    traffic: Arc<Traffic>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (receiver, traffic) = (Arc::clone(&self.receiver), Arc::clone(&self.traffic));
        let is_ambiguous = traffic.begin();
        Box::pin(async move {
            let answer = receiver.answer(request, is_ambiguous).await;
            traffic.end();
            Ok(answer)
        })
    }
}

async fn refuse(mut stream: TcpStream, rejection: &Rejection) {
    let written = tokio::time::timeout(LINGER_TIME, stream.write_all(&answer::refusal_bytes(rejection))).await;
    if matches!(written, Ok(Ok(()))) {
        linger(stream).await;
    }
}

/// Ends our side and throws away what still comes. Closing with unread bytes makes the kernel reset the connection, and the other side
/// would lose an answer that it has not read yet.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut drained_bytes = 0;
        while drained_bytes < LINGER_BYTES_MAX {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => drained_bytes += bytes,
            }
        }
    };
    // Whoever has not finished by then loses the answer.
    let _is_finished = tokio::time::timeout(LINGER_TIME, drain).await;
}

/// Waits for the word to stop; a sender that is gone means the same.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _sender_is_gone = stop.wait_for(|stop| *stop).await.is_err();
}

/// Waits for the open connections.
async fn finish(mut open: JoinSet<()>) {
    let finished = tokio::time::timeout(STOP_TIME, async {
        while let Some(ended) = open.join_next().await {
            log_panic(ended);
        }
    });
    if finished.await.is_err() {
        warn!(connections = open.len(), "Cut off {} connections that did not finish in {STOP_TIME:?}", open.len());
        open.shutdown().await;
    }
}

pub(super) fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(failure) = ended {
        error!("A connection's task failed: {failure}");
    }
}
