//! One request on the wire: the headers that every call carries, the request budget, the limit on answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use learnsync_sdk::RetryAfter;
use reqwest::header::{HeaderMap, HeaderValue};
use tokio::sync::OnceCell;

use super::budget::{Budget, Tally};
use super::row::{Row, cut};
use super::session::TokenVault;
use crate::domain::lane::Lane;
use crate::domain::time::{Clock, Timestamp};
use crate::lms::asked_until;
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
    /// The `Date` header: the portal's own clock.
    pub(super) date: Option<String>,
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
    /// Nothing was sent: the portal asked to be left alone until then.
    LeftAlone(Timestamp),
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
    calls_per_second_max: u32,
    budget: Budget,
    tally: Mutex<Tally>,
    pause: Pause,
    vault: Arc<dyn TokenVault>,
    clock: Arc<dyn Clock>,
    counted: Option<Counted>,
}

/// What the wire is made of.
pub(super) struct Line<'a> {
    pub(super) http: reqwest::Client,
    pub(super) url: &'a str,
    pub(super) api_key: String,
    pub(super) calls_per_second_max: u32,
    pub(super) calls_at_once_max: usize,
    pub(super) vault: Arc<dyn TokenVault>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counted: Option<Counted>,
}

/// Until when the portal asked to be left alone. It stands at the wire itself, so that nobody gets past it: no lane, no login, nobody who
/// waited for a place while another call was told to wait.
#[derive(Default)]
struct Pause {
    /// Whether the vault was asked: an earlier life of the daemon may have been told to wait.
    recalled: OnceCell<()>,
    until: Mutex<Option<Timestamp>>,
}

impl Wire {
    pub(super) fn new(line: Line<'_>) -> Self {
        let Line { http, url, api_key, calls_per_second_max, calls_at_once_max, vault, clock, counted } = line;
        Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            api_key,
            calls_per_second_max,
            budget: Budget::new(calls_per_second_max, calls_at_once_max),
            tally: Mutex::default(),
            pause: Pause::default(),
            vault,
            clock,
            counted,
        }
    }

    /// Asks for an object or a list.
    pub(super) async fn get(
        &self,
        path: &str,
        query: &[(&str, String)],
        token: &str,
        lane: Lane,
    ) -> Result<Reply, WireError> {
        let bearer = secret_header(&format!("Bearer {token}"), "the token")?;
        let request = self.http.get(format!("{}{path}", self.url)).query(query);
        self.send(self.with_key(request)?.header(reqwest::header::AUTHORIZATION, bearer), lane).await
    }

    /// Sends a JSON body, without a token: only the login does that.
    pub(super) async fn post(&self, path: &str, body: &serde_json::Value, lane: Lane) -> Result<Reply, WireError> {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        self.send(self.with_key(request)?, lane).await
    }

    /// Sends a form to the portal's own host, without the API key: only the login by OAuth does that.
    pub(super) async fn post_form(&self, url: &str, form: &[(&str, &str)], lane: Lane) -> Result<Reply, WireError> {
        self.send(self.http.post(url).form(form), lane).await
    }

    fn with_key(&self, request: reqwest::RequestBuilder) -> Result<reqwest::RequestBuilder, WireError> {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", secret_header(&self.api_key, "the portal's api_key")?);
        // Optional for Absorb, which then takes its latest version: a change of theirs must not be a surprise of ours.
        headers.insert("x-api-version", HeaderValue::from_static("2"));
        Ok(request.headers(headers))
    }

    async fn send(&self, request: reqwest::RequestBuilder, lane: Lane) -> Result<Reply, WireError> {
        self.pause.recalled.get_or_init(|| self.recall_pause()).await;
        self.pass()?;
        let place = self.budget.enter(lane).await;
        // Another call may have been told to wait while this one waited for its place.
        self.pass()?;
        let answered = exchange(request).await;
        let pause = answered.as_ref().ok().and_then(Reply::pause);
        if let Some(after) = &pause {
            self.leave_alone(asked_until(after, self.clock.now())).await;
        }
        drop(place);
        self.count(lane, pause.is_some(), &answered).await;
        answered
    }

    async fn recall_pause(&self) {
        let known = self.vault.asked_until().await;
        let mut until = self.pause();
        *until = (*until).max(known);
    }

    /// Whether something may be sent now.
    fn pass(&self) -> Result<(), WireError> {
        match *self.pause() {
            Some(until) if until > self.clock.now() => Err(WireError::LeftAlone(until)),
            Some(_) | None => Ok(()),
        }
    }

    /// Holds from this instant for this process, and once kept for the next ones, too.
    async fn leave_alone(&self, until: Timestamp) {
        {
            let mut held = self.pause();
            if held.is_some_and(|held| held >= until) {
                return;
            }
            *held = Some(until);
        }
        self.vault.keep_asked_until(until).await;
    }

    async fn count(&self, lane: Lane, is_throttled: bool, answered: &Result<Reply, WireError>) {
        if let Some(counted) = &self.counted {
            counted.metrics.lms_called(&counted.portal, lane.as_str(), outcome(answered));
        }
        let used = {
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            tally.count(lane, is_throttled, now);
            tally.told_hour(self.calls_per_second_max, now)
        };
        if let Some(used) = used {
            self.vault.keep_use(used).await;
        }
    }

    fn pause(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.pause.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<Reply, WireError> {
    let request = request.header(reqwest::header::ACCEPT, HeaderValue::from_static("application/json"));
    let mut response = request.timeout(REQUEST_TIME_MAX).send().await.map_err(broken)?;
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (retry_after, date) = (header("retry-after"), header("date"));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(WireError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status, retry_after, date, body })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendors_words_are_kept_with_validations_term_and_code() {
        let reply =
            |status, body: &str| Reply { status, retry_after: None, date: None, body: body.as_bytes().to_vec() };
        let body = r#"{"code":422,"message":"Bad limit","term":"ErrorGeneric","validations":["_limit is too large"],"_meta":{}}"#;
        assert_eq!(reply(422, body).words(), "Bad limit, _limit is too large, [ErrorGeneric], code 422 (HTTP 422)");
        assert_eq!(reply(502, "<html>Bad gateway</html>").words(), "<html>Bad gateway</html> (HTTP 502)");
        assert_eq!(reply(403, "").words(), "no words (HTTP 403)");
    }
}
