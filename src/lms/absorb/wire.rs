//! One request on the wire: the headers that every call carries, the request budget, the limit on answers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use learnsync_sdk::RetryAfter;
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::row::{Row, cut};
use crate::telemetry::Metrics;

/// Largest answer that is read, in bytes, after decoding. A page of 1000 rows is about 1 MB.
pub(super) const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest time for one request with its answer.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Most characters kept of what the vendor says about a refusal.
const WORDS_CHARACTERS_MAX: usize = 512;

/// An answer, read to its end.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
pub(super) enum WireError {
    /// The request cannot be built: a setting is wrong, and trying again is useless.
    Unbuildable(String),
    /// The network, or an answer that breaks off.
    Broken {
        words: String,
        /// Whether the request certainly never arrived.
        never_arrived: bool,
    },
    /// The answer is beyond `ANSWER_BYTES_MAX`.
    TooLarge,
}

/// Where requests are counted, and under which name.
pub(super) struct Counted {
    pub(super) portal: String,
    pub(super) metrics: Arc<Metrics>,
}

/// The portal's API on the network.
pub(super) struct Wire {
    http: reqwest::Client,
    url: String,
    api_key: String,
    budget: Budget,
    counted: Option<Counted>,
}

impl Wire {
    pub(super) fn new(http: reqwest::Client, url: &str, api_key: String, budget: Budget) -> Self {
        Self { http, url: url.trim_end_matches('/').to_owned(), api_key, budget, counted: None }
    }

    /// Counts each request from now on.
    pub(super) fn count(&mut self, counted: Counted) {
        self.counted = Some(counted);
    }

    /// Asks for an object or a list.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)], token: &str) -> Result<Reply, WireError> {
        let bearer = secret_header(&format!("Bearer {token}"), "the token")?;
        let request = self.http.get(format!("{}{path}", self.url)).query(query);
        self.send(request.header(reqwest::header::AUTHORIZATION, bearer)).await
    }

    /// Sends a JSON body, without a token: only the login does that.
    pub(super) async fn post(&self, path: &str, body: &serde_json::Value) -> Result<Reply, WireError> {
        self.send(self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Reply, WireError> {
        let answered = self.exchange(request).await;
        if let Some(counted) = &self.counted {
            counted.metrics.lms_called(&counted.portal, outcome(&answered));
        }
        answered
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<Reply, WireError> {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", secret_header(&self.api_key, "the portal's api_key")?);
        // Optional for Absorb, which then takes its latest version: a change of theirs must not be a surprise of ours.
        headers.insert("x-api-version", HeaderValue::from_static("2"));
        headers.insert(reqwest::header::ACCEPT, HeaderValue::from_static("application/json"));
        let _permit = self.budget.enter().await;
        let mut response = request.headers(headers).timeout(REQUEST_TIME_MAX).send().await.map_err(broken)?;
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(WireError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, retry_after, body })
    }
}

/// The word by which an answer is counted.
fn outcome(answered: &Result<Reply, WireError>) -> &'static str {
    match answered {
        Err(_) => "unanswered",
        Ok(reply) => match reply.status {
            200..=299 => "ok",
            401 => "unauthorized",
            404 => "missing",
            429 => "throttled",
            500..=599 => "failed",
            _ => "refused",
        },
    }
}

fn secret_header(value: &str, what: &str) -> Result<HeaderValue, WireError> {
    let mut header = HeaderValue::from_str(value)
        .map_err(|_| WireError::Unbuildable(format!("{what} has characters that no HTTP header may have")))?;
    header.set_sensitive(true);
    Ok(header)
}

fn broken(error: reqwest::Error) -> WireError {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        words.push_str(": ");
        words.push_str(&inner.to_string());
        source = inner.source();
    }
    if error.is_builder() {
        return WireError::Unbuildable(words);
    }
    WireError::Broken { words, never_arrived: error.is_connect() }
}

impl Reply {
    /// The pause that the answer asks for, when it is one that asks: 429, or 503 with a `Retry-After`.
    pub(super) fn pause(&self) -> Option<RetryAfter> {
        match (self.status, &self.retry_after) {
            (429, header) => Some(RetryAfter::parse(header.as_deref())),
            (503, Some(header)) => Some(RetryAfter::parse(Some(header))),
            _ => None,
        }
    }

    /// What the vendor says, from its error body (`code`, `message`, `term`, `validations`) or whatever else is there.
    pub(super) fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let parsed: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let said = match parsed.as_ref().and_then(|value| Row::of(value).ok()) {
            Some(error) => spoken(&error).unwrap_or_else(|| text.trim().to_owned()),
            None => text.trim().to_owned(),
        };
        let said = if said.is_empty() { "no words" } else { &said };
        format!("{} (HTTP {})", cut(said, WORDS_CHARACTERS_MAX), self.status)
    }
}

fn spoken(error: &Row<'_>) -> Option<String> {
    let mut parts: Vec<String> = error.text(&["message", "error", "title"]).into_iter().collect();
    let validations = error.get(&["validations"]).and_then(serde_json::Value::as_array);
    parts.extend(validations.into_iter().flatten().filter_map(super::row::text));
    parts.extend(error.text(&["term"]).map(|term| format!("[{term}]")));
    parts.extend(error.text(&["code"]).map(|code| format!("code {code}")));
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Bounds the calls: so many at once, and one every so often.
///
/// Absorb allows 200 a second and a burst of 100, but its load balancer answers 401 to valid tokens under many parallel calls, so the
/// number at once is what protects us. The bucket is one token deep: no second ever sees more calls than configured.
pub(super) struct Budget {
    at_once: Semaphore,
    interval: Duration,
    next_free: Mutex<Option<Instant>>,
}

impl Budget {
    pub(super) fn new(calls_per_second_max: u32, calls_at_once_max: usize) -> Self {
        let at_once = Semaphore::new(calls_at_once_max.clamp(1, Semaphore::MAX_PERMITS));
        let interval = Duration::from_secs(1) / calls_per_second_max.max(1);
        Self { at_once, interval, next_free: Mutex::new(None) }
    }

    /// Waits for a place; the call holds it until its answer is read.
    pub(super) async fn enter(&self) -> tokio::sync::SemaphorePermit<'_> {
        let permit = self.at_once.acquire().await.expect("the semaphore is never closed");
        let slot = self.reserve(Instant::now());
        tokio::time::sleep_until(slot).await;
        permit
    }

    /// The next instant that is free for a call.
    fn reserve(&self, now: Instant) -> Instant {
        let mut next_free = self.next_free.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = next_free.map_or(now, |free| free.max(now));
        *next_free = Some(slot + self.interval);
        slot
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn no_second_sees_more_calls_than_the_budget_allows() {
        let budget = Budget::new(10, 4);
        let start = Instant::now();
        let at: Vec<Duration> = (0..21).map(|_| budget.reserve(start) - start).collect();
        assert_eq!((at[0], at[10], at[20]), (Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2)));
        // Idle time is not saved up.
        let later = start + Duration::from_secs(60);
        assert_eq!(budget.reserve(later), later);
        assert_eq!(budget.reserve(later), later + Duration::from_millis(100));
    }

    #[tokio::test]
    async fn no_more_calls_are_under_way_than_the_budget_allows() {
        let budget = Budget::new(u32::MAX, 2);
        let (first, _second) = (budget.enter().await, budget.enter().await);
        assert!(budget.enter().now_or_never().is_none());
        drop(first);
        let _third = budget.enter().await;
    }

    #[test]
    fn the_vendors_words_are_kept_with_validations_term_and_code() {
        let reply = |status, body: &str| Reply { status, retry_after: None, body: body.as_bytes().to_vec() };
        let body = r#"{"code":422,"message":"Bad limit","term":"ErrorGeneric","validations":["_limit is too large"],"_meta":{}}"#;
        assert_eq!(reply(422, body).words(), "Bad limit, _limit is too large, [ErrorGeneric], code 422 (HTTP 422)");
        assert_eq!(reply(502, "<html>Bad gateway</html>").words(), "<html>Bad gateway</html> (HTTP 502)");
        assert_eq!(reply(403, "").words(), "no words (HTTP 403)");
    }
}
