//! Errors of a target: the kind alone decides what happens next.

use std::time::Duration;

use chrono::{DateTime, Utc};

/// What went wrong with one change, look-up or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DeliveryError {
    /// Decides what happens next.
    pub kind: ErrorKind,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// What the target said, in its own words where it said any; at most 512 characters.
    pub message: String,
}

/// The kinds of errors, and what the daemon does about each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The target refuses this change: park until something changes or a person acts.
    Rejected,
    /// The target does not know the person: park, and try every night.
    Unmatched,
    /// The target asks for a pause: the whole destination waits that long, in full.
    Throttled(RetryAfter),
    /// The target is down or unreachable, and certainly did not take the change: retry.
    Unavailable,
    /// Nobody knows whether the target took it: look before writing again.
    Ambiguous,
    /// The credentials are refused: pause the destination and raise an alarm.
    Unauthorized,
    /// The target holds something newer: drop the change.
    Superseded,
}

impl ErrorKind {
    /// The word for this kind in the ledger and in reports.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Unmatched => "unmatched",
            Self::Throttled(_) => "throttled",
            Self::Unavailable => "unavailable",
            Self::Ambiguous => "ambiguous",
            Self::Unauthorized => "unauthorized",
            Self::Superseded => "superseded",
        }
    }
}

/// How long a target asked us to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// It did not say.
    Unsaid,
    /// So long.
    For(Duration),
    /// Until then.
    Until(DateTime<Utc>),
}

impl RetryAfter {
    /// Reads a `Retry-After` header: seconds, or an HTTP date (RFC 9110, 10.2.3). Anything else counts as unsaid.
    #[must_use]
    pub fn parse(header: Option<&str>) -> Self {
        let Some(text) = header.map(str::trim) else { return Self::Unsaid };
        if let Ok(seconds) = text.parse::<u64>() {
            return Self::For(Duration::from_secs(seconds));
        }
        match DateTime::parse_from_rfc2822(text) {
            Ok(instant) => Self::Until(instant.with_timezone(&Utc)),
            Err(_) => Self::Unsaid,
        }
    }
}

impl DeliveryError {
    /// Makes an error without an HTTP answer.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, status: None, message: shorten(message.into()) }
    }

    /// Turns a transport error into a kind: what never reached the target is `Unavailable`, all else `Ambiguous`. The message does not
    /// name the URL: a person's address may stand in its query, and a secret in its path.
    #[must_use]
    pub fn from_transport(error: &reqwest::Error) -> Self {
        let kind = if error.is_connect() || error.is_builder() { ErrorKind::Unavailable } else { ErrorKind::Ambiguous };
        let url = error.url().map(|url| format!(" for url ({url})")).unwrap_or_default();
        let mut message = error.to_string();
        if !url.is_empty() {
            message = message.replace(&url, "");
        }
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            message.push_str(": ");
            message.push_str(&inner.to_string());
            source = inner.source();
        }
        Self::new(kind, message)
    }
}

/// Cuts a target's words to 512 characters.
pub(crate) fn shorten(text: String) -> String {
    match text.char_indices().nth(512) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::ResponseBuilderExt;

    use super::*;

    #[test]
    fn a_transport_error_does_not_name_the_url() {
        let url = "http://127.0.0.1/hook/s3cret?email=ada%40example.com".parse().expect("a URL");
        let answer = http::Response::builder().status(400).url(url).body("").expect("a valid status");
        let error = reqwest::Response::from(answer).error_for_status().expect_err("400 is an error");
        assert!(error.to_string().contains("s3cret"), "or there is nothing to hide: {error}");
        assert_eq!(DeliveryError::from_transport(&error).message, "HTTP status client error (400 Bad Request)");
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date_and_anything_else_is_unsaid() {
        assert_eq!(RetryAfter::parse(Some(" 120 ")), RetryAfter::For(Duration::from_secs(120)));
        let date = DateTime::from_timestamp(784_111_777, 0).expect("a valid instant");
        assert_eq!(RetryAfter::parse(Some("Sun, 06 Nov 1994 08:49:37 GMT")), RetryAfter::Until(date));
        assert_eq!(RetryAfter::parse(Some("soon")), RetryAfter::Unsaid);
        assert_eq!(RetryAfter::parse(None), RetryAfter::Unsaid);
    }
}
