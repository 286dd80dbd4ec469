//! The two steps that every HTTP connector repeats: classify a refusal, read a JSON answer.

use serde::de::DeserializeOwned;

use crate::error::shorten;
use crate::{DeliveryError, ErrorKind, RetryAfter};

/// Turns an answer that is not 2xx into an error of the usual kind; `what` names the change for the message.
///
/// 401 and 403 are `Unauthorized`; 408, 425, 500, 502, 504, 598 are `Ambiguous` (the target may have taken it); 429 is `Throttled`,
/// and so is a 503 that carries Retry-After; a bare 503 is `Unavailable`; all else is `Rejected`.
pub async fn refusal(response: reqwest::Response, what: &str) -> DeliveryError {
    let status = response.status().as_u16();
    let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let kind = match status {
        401 | 403 => ErrorKind::Unauthorized,
        429 => ErrorKind::Throttled(RetryAfter::parse(header.as_deref())),
        503 if header.is_some() => ErrorKind::Throttled(RetryAfter::parse(header.as_deref())),
        503 => ErrorKind::Unavailable,
        408 | 425 | 500..=599 => ErrorKind::Ambiguous,
        _ => ErrorKind::Rejected,
    };
    let words = response.text().await.unwrap_or_default();
    let message = format!("the target refused {what}: {:?} (HTTP {status})", shorten(words));
    DeliveryError { kind, status: Some(status), message }
}

/// Reads a JSON body; a body that cannot be read leaves the outcome unknown.
///
/// # Errors
/// `Ambiguous` when the connection broke or the body is not the expected JSON.
pub async fn read_json<T: DeserializeOwned>(response: reqwest::Response, what: &str) -> Result<T, DeliveryError> {
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(|error| DeliveryError::from_transport(&error))?;
    serde_json::from_slice(&body).map_err(|error| DeliveryError {
        kind: ErrorKind::Ambiguous,
        status: Some(status),
        message: format!("the target's answer to {what} is not the expected JSON: {error}"),
    })
}
