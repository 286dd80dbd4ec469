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
    DeliveryError { status: Some(status), ..DeliveryError::new(kind, message) }
}

/// Reads a JSON body; a body that cannot be read leaves the outcome unknown.
///
/// # Errors
/// `Ambiguous` when the connection broke or the body is not the expected JSON.
pub async fn read_json<T: DeserializeOwned>(response: reqwest::Response, what: &str) -> Result<T, DeliveryError> {
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(|error| DeliveryError::from_transport(&error))?;
    serde_json::from_slice(&body).map_err(|error| {
        // The parser repeats what it did not expect, however long.
        let message = format!("the target's answer to {what} is not the expected JSON: {error}");
        DeliveryError { status: Some(status), ..DeliveryError::new(ErrorKind::Ambiguous, message) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: String) -> reqwest::Response {
        http::Response::builder().status(status).body(body).expect("a valid status").into()
    }

    #[tokio::test]
    async fn a_message_keeps_its_512_characters_however_much_the_target_says() {
        let words = "a \"long\" story ".repeat(100);
        let refused = refusal(answer(400, words.clone()), "completion/1").await;
        assert_eq!((refused.kind, refused.status), (ErrorKind::Rejected, Some(400)));
        assert_eq!(refused.message.chars().count(), 512);
        let body = serde_json::json!(words).to_string();
        let unread = read_json::<u32>(answer(200, body), "the list").await.expect_err("it is no number");
        assert_eq!((unread.kind, unread.status), (ErrorKind::Ambiguous, Some(200)));
        assert_eq!(unread.message.chars().count(), 512);
    }
}
