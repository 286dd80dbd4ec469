//! Watches the bytes of one connection: bounds slow heads, idle pauses and slow readers, and sees what hyper hides.
//!
//! hyper removes `Content-Length` from a request that also has `Transfer-Encoding`, before anyone can see that both were there; and its
//! timer for heads closes without an answer and also ends idle connections.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How much of a header line is kept: names and lengths that matter are shorter.
const LINE_KEPT_BYTES: usize = 128;

/// What the stream and the service of one connection tell each other. Both run in one task, so the order of memory does not matter.
pub(super) struct Traffic {
    /// Heads that have passed.
    heads: AtomicU64,
    /// The first head with two lengths.
    ambiguous_from: AtomicU64,
    /// Requests that the service has begun.
    begun: AtomicU64,
    /// Requests that the service has answered.
    answered: AtomicU64,
}

impl Traffic {
    pub(super) fn new() -> Self {
        Self {
            heads: AtomicU64::new(0),
            ambiguous_from: AtomicU64::new(u64::MAX),
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// Begins the next request; returns whether its length is ambiguous. Heads pass and requests begin in the same order.
    pub(super) fn begin(&self) -> bool {
        let index = self.begun.fetch_add(1, Ordering::Relaxed);
        // A head that was not seen was hidden behind something that we read differently than hyper: that is ambiguous, too.
        index >= self.ambiguous_from.load(Ordering::Relaxed) || index >= self.heads.load(Ordering::Relaxed)
    }

    /// Ends a request.
    pub(super) fn end(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    fn is_under_way(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > self.answered.load(Ordering::Relaxed)
    }

    fn head_passed(&self, is_ambiguous: bool) {
        let index = self.heads.fetch_add(1, Ordering::Relaxed);
        if is_ambiguous {
            self.ambiguous_from.fetch_min(index, Ordering::Relaxed);
        }
    }
}

/// Follows the requests of one connection just far enough to see every head.
#[derive(Default)]
struct Heads {
    place: Place,
    line: Vec<u8>,
    line_is_cut: bool,
    /// Lines of the present head so far.
    lines: usize,
    length: Option<Result<u64, Unclear>>,
    has_encoding: bool,
}

/// A length that is not plain digits; hyper refuses such a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unclear;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before or in a head.
    #[default]
    Head,
    /// In a body with this many bytes to come.
    Body(u64),
    /// Behind a head whose end of body is not ours to find.
    Beyond,
}

impl Heads {
    /// Whether part of a head was seen.
    fn is_inside(&self) -> bool {
        self.place == Place::Head && (self.lines > 0 || !self.line.is_empty())
    }

    fn see(&mut self, mut bytes: &[u8], traffic: &Traffic) {
        while !bytes.is_empty() {
            match self.place {
                Place::Beyond => return,
                Place::Body(rest) => {
                    let skipped = usize::try_from(rest).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[skipped..];
                    let rest = rest - skipped as u64;
                    self.place = if rest == 0 { Place::Head } else { Place::Body(rest) };
                }
                Place::Head => {
                    let end = bytes.iter().position(|byte| *byte == b'\n');
                    let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
                    bytes = rest;
                    let room = LINE_KEPT_BYTES - self.line.len();
                    self.line.extend_from_slice(&piece[..piece.len().min(room)]);
                    self.line_is_cut |= piece.len() > room;
                    if end.is_some() {
                        self.line_ends(traffic);
                    }
                }
            }
        }
    }

    fn line_ends(&mut self, traffic: &Traffic) {
        let line = std::mem::take(&mut self.line);
        let is_cut = std::mem::take(&mut self.line_is_cut);
        match (line.trim_ascii_end(), self.lines) {
            // Empty lines before a request are skipped, as hyper does.
            (b"", 0) => {}
            (b"", _) if !is_cut => self.head_ends(traffic),
            (text, lines) => {
                self.lines += 1;
                if lines > 0 {
                    self.header(text, is_cut);
                }
            }
        }
        self.line = line;
        self.line.clear();
    }

    fn header(&mut self, text: &[u8], is_cut: bool) {
        let Some(colon) = text.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (text[..colon].trim_ascii(), text[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.has_encoding = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let digits =
                std::str::from_utf8(value).ok().filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.filter(|_| !is_cut).and_then(|digits| digits.parse().ok()).ok_or(Unclear);
            self.length = Some(match self.length {
                Some(earlier) if earlier != length => Err(Unclear),
                Some(_) | None => length,
            });
        }
    }

    fn head_ends(&mut self, traffic: &Traffic) {
        self.lines = 0;
        let length = self.length.take();
        let has_encoding = std::mem::take(&mut self.has_encoding);
        traffic.head_passed(has_encoding && length.is_some());
        self.place = match length {
            _ if has_encoding => Place::Beyond,
            Some(Err(Unclear)) => Place::Beyond,
            Some(Ok(0)) | None => Place::Head,
            Some(Ok(bytes)) => Place::Body(bytes),
        };
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// The rest of a head, or the first one.
    Head,
    /// The next request, or the client to read its answer.
    Idle,
}

/// A connection with a watcher.
pub(super) struct Watched<S> {
    inner: S,
    heads: Heads,
    traffic: Arc<Traffic>,
    header_time: Duration,
    idle_time: Duration,
    /// What the read timer runs for: the number of heads before it, and what is awaited.
    waiting: Option<(u64, Wait)>,
    timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    is_head_late: bool,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, traffic: Arc<Traffic>, header_time: Duration, idle_time: Duration) -> Self {
        Self {
            inner,
            heads: Heads::default(),
            traffic,
            header_time,
            idle_time,
            waiting: None,
            timer: Box::pin(tokio::time::sleep(header_time)),
            write_timer: None,
            is_head_late: false,
        }
    }

    /// The connection itself, and whether its last head came too slowly and can still be answered.
    pub(super) fn into_inner(self) -> (S, bool) {
        // An answer that is only partly written must not be followed by another.
        (self.inner, self.is_head_late && self.write_timer.is_none())
    }

    /// Whether what we wait for has taken too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.traffic.is_under_way() {
            // The service has its own limits.
            self.waiting = None;
            return Poll::Pending;
        }
        let heads = self.traffic.heads.load(Ordering::Relaxed);
        let wait = if heads == 0 || self.heads.is_inside() { Wait::Head } else { Wait::Idle };
        if self.waiting != Some((heads, wait)) {
            self.waiting = Some((heads, wait));
            let time = match wait {
                Wait::Head => self.header_time,
                Wait::Idle => self.idle_time,
            };
            self.timer.as_mut().reset(Instant::now() + time);
        }
        let late = self.timer.as_mut().poll(cx);
        if late.is_ready() && self.heads.is_inside() {
            self.is_head_late = true;
        }
        late
    }

    /// Passes a write's result on, but gives up on a client that does not read.
    fn write_result<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_timer = None;
            return result;
        }
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.idle_time)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                this.heads.see(&buffer.filled()[before..], &this.traffic);
                Poll::Ready(result)
            }
            // To hyper, being late looks like the end of the stream.
            Poll::Pending => this.poll_late(cx).map(Ok),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write(cx, bytes);
        this.write_result(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write_vectored(cx, slices);
        this.write_result(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of heads, and the first one with two lengths, however the bytes are cut.
    fn check(bytes: &str, heads: u64, ambiguous_from: Option<u64>) {
        for cut in 1..=bytes.len() {
            let traffic = Traffic::new();
            let mut watcher = Heads::default();
            for piece in bytes.as_bytes().chunks(cut) {
                watcher.see(piece, &traffic);
            }
            assert_eq!(traffic.heads.load(Ordering::Relaxed), heads, "{bytes:?} in pieces of {cut}");
            let found = Some(traffic.ambiguous_from.load(Ordering::Relaxed)).filter(|index| *index != u64::MAX);
            assert_eq!(found, ambiguous_from, "{bytes:?} in pieces of {cut}");
        }
    }

    #[test]
    fn every_head_with_two_lengths_is_seen_however_it_is_cut() {
        let plain = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
        let both = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(plain, 1, None);
        check(both, 1, Some(0));
        check("POST / HTTP/1.1\ntransfer-encoding:chunked\nCONTENT-LENGTH:0\n\n", 1, Some(0));
        check("\r\n\r\nPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 1, None);
        check(&format!("{plain}{plain}\r\n{both}"), 3, Some(2));
        check("GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", 2, None);
        // The body looks like a head with two lengths, and is none.
        check(
            "POST / HTTP/1.1\r\nContent-Length: 47\r\n\r\nA\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\n",
            1,
            None,
        );
        check("POST / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1, None);
        check(&format!("POST /{} HTTP/1.1\r\nX-Long: {}\r\n\r\n{both}", "p".repeat(300), "v".repeat(300)), 2, Some(1));
    }
}
