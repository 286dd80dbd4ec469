//! The raw head of each request, beside hyper: it drops a Content-Length that follows a Transfer-Encoding, and the two together are how
//! requests are smuggled past a proxy (RFC 9112, 6.1). So the bytes are looked at before they are forgotten.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What was read and not yet attributed to a request.
#[derive(Clone, Default)]
pub(super) struct Heads(Arc<Mutex<Unread>>);

#[derive(Default)]
struct Unread {
    bytes: Vec<u8>,
    /// Bytes of the present request's body that are still to come.
    body_left: u64,
}

impl Heads {
    fn lock(&self) -> MutexGuard<'_, Unread> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, bytes: &[u8]) {
        let mut unread = self.lock();
        unread.bytes.extend_from_slice(bytes);
        unread.forget_body();
    }

    /// Whether the beginning of a request has come.
    pub(super) fn has_begun(&self) -> bool {
        !self.lock().bytes.is_empty()
    }

    /// Takes the head of the request that hyper has just parsed; answers whether it names both Content-Length and Transfer-Encoding.
    ///
    /// `body_bytes` is its Content-Length. A request with Transfer-Encoding must be the last of its connection: nobody here counts chunks.
    pub(super) fn take_is_ambiguous(&self, body_bytes: u64) -> bool {
        let mut unread = self.lock();
        let (head_bytes, is_ambiguous) = inspect(&unread.bytes);
        unread.bytes.drain(..head_bytes);
        unread.body_left = body_bytes;
        unread.forget_body();
        is_ambiguous
    }
}

impl Unread {
    fn forget_body(&mut self) {
        let here = usize::try_from(self.body_left).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.drain(..here);
        self.body_left -= here as u64;
    }
}

/// The length of the first head, and whether it names both framings. Lines may end in a bare LF, and empty lines may precede: hyper
/// takes both.
fn inspect(bytes: &[u8]) -> (usize, bool) {
    let mut end = 0;
    let (mut has_begun, mut has_length, mut has_encoding) = (false, false, false);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        end += line.len();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            if has_begun {
                break;
            }
            continue;
        }
        has_begun = true;
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().trim_ascii();
        has_length |= name.eq_ignore_ascii_case(b"content-length");
        has_encoding |= name.eq_ignore_ascii_case(b"transfer-encoding");
    }
    (end, has_length && has_encoding)
}

/// A connection whose incoming bytes are seen.
pub(super) struct Seen<T> {
    inner: T,
    heads: Heads,
}

impl<T> Seen<T> {
    pub(super) fn new(inner: T, heads: Heads) -> Self {
        Self { inner, heads }
    }

    pub(super) fn into_inner(self) -> T {
        self.inner
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Seen<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = &polled {
            self.heads.read(&buf.filled()[before..]);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Seen<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
