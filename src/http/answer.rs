//! Answers: small JSON, as a response of hyper or as bytes for a connection that hyper does not speak on.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::rejection::Rejection;

/// A whole answer.
pub(super) type Answer = Response<Full<Bytes>>;

/// An answer with this text.
pub(super) fn text(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An answer with this JSON.
pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    text(status, "application/json", body.to_string())
}

/// The answer to a refused request.
pub(super) fn refusal(rejection: &Rejection) -> Answer {
    let mut answer = json(rejection.status(), &json!({ "error": rejection.sentence() }));
    if let Some(seconds) = rejection.retry_after_seconds() {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    match rejection {
        Rejection::Method(allowed) => {
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        Rejection::Encoding(_) => {
            answer.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity"));
        }
        _ => {}
    }
    answer
}

/// Says that this is the connection's last answer.
pub(super) fn close(answer: &mut Answer) {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
}

/// The answer to a refused request as it goes over the wire, for connections that never reach hyper or that it gave up.
pub(super) fn refusal_bytes(rejection: &Rejection) -> Vec<u8> {
    let mut answer = refusal(rejection);
    close(&mut answer);
    let body = json!({ "error": rejection.sentence() }).to_string();
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    let status = answer.status();
    let mut bytes =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in answer.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body.as_bytes());
    bytes
}
