//! Reads a body within its limits of time and size, and decodes it.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt;
use hyper::body::Body;

use super::limits::HttpLimits;
use super::rejection::Rejection;

/// Most of an unknown encoding's name that is repeated to the sender, in characters.
const ENCODING_CHARS_MAX: usize = 40;
/// Most that is set aside for a body on its sender's word, in bytes.
const RESERVE_BYTES_MAX: usize = 64 * 1024;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    Identity,
    /// gzip (RFC 1952), one or more members.
    Gzip,
}

impl Encoding {
    /// What the `Content-Encoding` headers say.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Rejection> {
        let mut found = Self::Identity;
        for value in headers.get_all(CONTENT_ENCODING) {
            let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
            for name in value.split(',').map(str::trim) {
                match (name, found) {
                    ("" | "identity", _) => {}
                    ("gzip" | "x-gzip", Self::Identity) => found = Self::Gzip,
                    _ => {
                        return Err(Rejection::Encoding(value.trim().chars().take(ENCODING_CHARS_MAX).collect()));
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Reads the whole body, decoded.
pub(super) async fn read<B>(body: B, encoding: Encoding, limits: &HttpLimits) -> Result<Vec<u8>, Rejection>
where
    B: Body<Data = Bytes> + Unpin,
{
    let limit = limits.body_bytes_max;
    let announced = body.size_hint().exact();
    if announced.is_some_and(|bytes| usize::try_from(bytes).map_or(true, |bytes| bytes > limit)) {
        return Err(Rejection::BodyTooLarge { bytes: announced, limit });
    }
    let received = tokio::time::timeout(limits.body_time, collect(body, limit))
        .await
        .map_err(|_| Rejection::BodyLate(limits.body_time))??;
    match encoding {
        Encoding::Identity => Ok(received),
        Encoding::Gzip => gunzip(&received, limit),
    }
}

async fn collect<B>(mut body: B, limit: usize) -> Result<Vec<u8>, Rejection>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut received = Vec::with_capacity(announced.min(RESERVE_BYTES_MAX));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Rejection::BodyBroken)?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limit - received.len() {
            return Err(Rejection::BodyTooLarge { bytes: None, limit });
        }
        received.extend_from_slice(&data);
    }
    Ok(received)
}

/// Decodes gzip; stops one byte above the limit, so that a bomb costs no more than an honest body.
fn gunzip(encoded: &[u8], limit: usize) -> Result<Vec<u8>, Rejection> {
    let mut decoded = Vec::new();
    // Some clients announce gzip and send nothing.
    if encoded.is_empty() {
        return Ok(decoded);
    }
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match MultiGzDecoder::new(encoded).take(most).read_to_end(&mut decoded) {
        Ok(_) if decoded.len() > limit => Err(Rejection::BodyTooLarge { bytes: None, limit }),
        Ok(_) => Ok(decoded),
        Err(_) => Err(Rejection::GzipBroken),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_gzip_and_identity_are_content_encodings() {
        let check = |values: &[&'static str], expected: Result<Encoding, &str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(Encoding::of(&headers), expected.map_err(|name| Rejection::Encoding(name.to_owned())));
        };
        check(&[], Ok(Encoding::Identity));
        check(&[""], Ok(Encoding::Identity));
        check(&["identity"], Ok(Encoding::Identity));
        check(&["gzip"], Ok(Encoding::Gzip));
        check(&["X-GZip"], Ok(Encoding::Gzip));
        check(&["identity, gzip"], Ok(Encoding::Gzip));
        check(&["br"], Err("br"));
        check(&["deflate"], Err("deflate"));
        check(&["gzip, gzip"], Err("gzip, gzip"));
        check(&["gzip", "br"], Err("br"));
    }
}
