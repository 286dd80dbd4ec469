//! Connections: how many, how long, and how they end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::Receiver;
use super::head::{Heads, Seen};

/// An answer on its way.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

/// Connections above the limit that are still told so; those above these are closed without a word.
const TURNED_AWAY_MAX: usize = 64;

impl Receiver {
    /// Receives until told to stop; requests that have begun are finished, within the drain time.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(self.limits.connections_max));
        let turned_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files: the ones that are there must get time to end.
                    warn!(%error, "Could not accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                tokio::spawn(Arc::clone(&self).connection(stream, place, stop.clone()));
            } else if let Ok(place) = Arc::clone(&turned_away).try_acquire_owned() {
                tokio::spawn(Arc::clone(&self).turn_away(stream, place));
            }
        }
        drop(listener);
        let all = u32::try_from(self.limits.connections_max).unwrap_or(u32::MAX);
        // Whoever does not end in time is cut off; nothing unacknowledged was promised.
        let _slow = timeout(self.limits.drain_time, places.acquire_many(all)).await;
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        _place: OwnedSemaphorePermit,
        mut stop: watch::Receiver<bool>,
    ) {
        let heads = Heads::default();
        let seen = Seen::new(stream, heads.clone());
        let service = {
            let heads = heads.clone();
            let receiver = Arc::clone(&self);
            service_fn(move |request| -> Answering {
                let (receiver, heads) = (Arc::clone(&receiver), heads.clone());
                Box::pin(async move { Ok(receiver.answer(request, &heads).await) })
            })
        };
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_time)
            .max_buf_size(self.limits.head_bytes_max)
            .max_headers(self.limits.headers_max)
            .half_close(true)
            .serve_connection(TokioIo::new(seen), service);
        let ended = tokio::select! {
            biased;
            () = stopped(&mut stop) => {
                Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|cx| connection.poll_without_shutdown(cx)).await
            }
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => ended,
        };
        let mut stream = connection.into_parts().io.into_inner().into_inner();
        match ended {
            Ok(()) => {}
            Err(error) if error.is_timeout() && heads.has_begun() => {
                let limit = self.limits.header_time.as_millis();
                let body = format!(
                    r#"{{"error":"the head of the request took more than {limit} ms (listen.header_seconds_max)"}}"#
                );
                say_last_words(&mut stream, &raw("408 Request Timeout", "", &body), self.limits.drain_time).await;
                return;
            }
            Err(error) => debug!(%error, "A connection ended early"),
        }
        // The sender may be gone already.
        let _gone = stream.shutdown().await;
    }

    /// Tells a sender above the limit that it should come back.
    async fn turn_away(self: Arc<Self>, mut stream: TcpStream, _place: OwnedSemaphorePermit) {
        let limit = self.limits.connections_max;
        let body = format!(r#"{{"error":"all {limit} connections are taken (listen.connections_max)"}}"#);
        let answer = raw("503 Service Unavailable", "retry-after: 1\r\n", &body);
        say_last_words(&mut stream, &answer, self.limits.drain_time).await;
    }
}

/// Waits for the word to stop; a sender that is gone counts as the word.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|is_stopped| *is_stopped).await;
}

fn raw(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
}

/// Writes an answer and reads on for a moment: closing with unread bytes would destroy it.
async fn say_last_words(stream: &mut TcpStream, answer: &str, time: std::time::Duration) {
    let talk = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // The sender may have gone, or be too slow: it was told what we could tell.
    let _gone = timeout(time, talk).await;
}
