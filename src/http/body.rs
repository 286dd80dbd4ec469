//! Reading a body within its limits: decoded bytes count, so that a small bomb is as large as what it becomes.

use std::io::Write;

use flate2::write::GzDecoder;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, EXPECT, HeaderMap};
use tokio::time::{Instant, timeout, timeout_at};

use super::limits::HttpLimits;

/// Why a body was not taken.
#[derive(Debug)]
pub(super) enum BodyError {
    TooLarge { bytes: u64 },
    TooSlow,
    Encoding(String),
    NotGzip(String),
    BrokeOff(String),
}

/// Reads and decodes a body.
pub(super) async fn read(headers: &HeaderMap, body: &mut Incoming, limits: &HttpLimits) -> Result<Vec<u8>, BodyError> {
    let mut sink = Sink::for_encoding(headers, limits.body_bytes_max)?;
    if let Some(bytes) = body.size_hint().exact().filter(|bytes| *bytes > limits.body_bytes_max as u64) {
        return Err(BodyError::TooLarge { bytes });
    }
    let deadline = Instant::now() + limits.body_time;
    while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(|_| BodyError::TooSlow)? {
        let frame = frame.map_err(|error| BodyError::BrokeOff(error.to_string()))?;
        if let Some(bytes) = frame.data_ref() {
            sink.write(bytes)?;
        }
    }
    sink.finish()
}

/// Reads on for a moment, for a sender reads our answer only after it has sent all; closing at once would destroy the answer.
pub(super) async fn drain(headers: &HeaderMap, body: &mut Incoming, limits: &HttpLimits) {
    if headers.contains_key(EXPECT) {
        // This sender waits for our word before it sends anything.
        return;
    }
    let reading = async {
        let mut left = limits.drain_bytes_max;
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, bytes::Bytes::len);
            let Some(rest) = left.checked_sub(bytes) else { return };
            left = rest;
        }
    };
    // Whoever is slower than this does not get the answer.
    let _slow = timeout(limits.drain_time, reading).await;
}

enum Sink {
    Plain(Bounded),
    Gzip(Box<GzDecoder<Bounded>>),
}

/// Grows up to the limit.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
    is_over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            self.is_over = true;
            return Err(std::io::Error::other("over the limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn for_encoding(headers: &HeaderMap, bytes_max: usize) -> Result<Self, BodyError> {
        let bounded = Bounded { bytes: Vec::new(), bytes_max, is_over: false };
        let encodings: Vec<String> = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .flat_map(|value| {
                String::from_utf8_lossy(value.as_bytes())
                    .to_lowercase()
                    .split(',')
                    .map(|word| word.trim().to_owned())
                    .collect::<Vec<_>>()
            })
            .filter(|word| !word.is_empty() && word != "identity")
            .collect();
        match encodings.as_slice() {
            [] => Ok(Self::Plain(bounded)),
            [one] if one == "gzip" || one == "x-gzip" => Ok(Self::Gzip(Box::new(GzDecoder::new(bounded)))),
            others => Err(BodyError::Encoding(others.join(", "))),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BodyError> {
        match self {
            Self::Plain(bounded) => {
                let would_be = (bounded.bytes.len() + bytes.len()) as u64;
                bounded.write_all(bytes).map_err(|_| BodyError::TooLarge { bytes: would_be })
            }
            Self::Gzip(decoder) => {
                let result = decoder.write_all(bytes);
                gzip_result(result, decoder.get_ref())
            }
        }
    }

    fn finish(self) -> Result<Vec<u8>, BodyError> {
        match self {
            Self::Plain(bounded) => Ok(bounded.bytes),
            Self::Gzip(mut decoder) => {
                let result = decoder.try_finish();
                gzip_result(result, decoder.get_ref())?;
                Ok(std::mem::take(&mut decoder.get_mut().bytes))
            }
        }
    }
}

fn gzip_result(result: std::io::Result<()>, out: &Bounded) -> Result<(), BodyError> {
    match result {
        Ok(()) => Ok(()),
        Err(_) if out.is_over => Err(BodyError::TooLarge { bytes: out.bytes_max as u64 + 1 }),
        Err(error) => Err(BodyError::NotGzip(error.to_string())),
    }
}
