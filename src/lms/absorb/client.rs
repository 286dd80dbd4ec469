//! One call: budget, headers, token, and short retries inside the call. Longer waits are the pipeline's.

use std::sync::Arc;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use learnsync_sdk::RetryAfter;
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::AbsorbSettings;
use super::session::{Session, TokenVault};
use crate::domain::chance::Entropy;
use crate::domain::time::Clock;
use crate::lms::LmsError;

/// Tries of one call: more is the pipeline's business, which can wait.
const TRIES_MAX: u32 = 3;

/// Longest answer, in bytes: a page of 1,000 users is about 2 MB.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest words of the LMS in an error, in characters.
const WORDS_CHARS_MAX: usize = 300;

/// How long the short retries inside a call wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pauses {
    /// The first wait; doubled after.
    pub(super) first: Duration,
    /// All waits of one call together.
    pub(super) total_max: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { first: Duration::from_millis(400), total_max: Duration::from_secs(10) }
    }
}

/// Speaks to one portal.
pub(super) struct Client {
    settings: AbsorbSettings,
    http: reqwest::Client,
    session: Session,
    entropy: Arc<dyn Entropy>,
    pauses: Pauses,
    at_once: Semaphore,
    /// When the next call may start: the one request budget of all lanes.
    next_call: Mutex<Option<Instant>>,
}

/// What one try brought.
enum Tried {
    Answer(Option<Value>),
    /// 401: perhaps only the gateway's mood, perhaps the token is dead.
    Refused,
    /// Worth another try inside this call.
    Again(LmsError),
    Failed(LmsError),
}

impl Client {
    pub(super) fn new(
        settings: AbsorbSettings,
        http: reqwest::Client,
        vault: Arc<dyn TokenVault>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        pauses: Pauses,
    ) -> Self {
        let at_once = Semaphore::new(settings.calls_at_once_max.max(1));
        let session = Session::new(vault, clock);
        Self { settings, http, session, entropy, pauses, at_once, next_call: Mutex::new(None) }
    }

    /// Reads a path; `None` when the LMS answers 404.
    ///
    /// # Errors
    /// As the kinds of `LmsError` say.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Option<Value>, LmsError> {
        let _one_of_few =
            self.at_once.acquire().await.map_err(|_| LmsError::Unavailable("we are stopping".to_owned()))?;
        let mut token = self.session.token(&self.http, &self.settings).await?;
        let mut waits = self.waits();
        let mut refusals = 0;
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.try_once(path, query, &token).await {
                Tried::Answer(answer) => return Ok(answer),
                Tried::Failed(error) => return Err(error),
                Tried::Refused => {
                    refusals += 1;
                    match refusals {
                        // Under load the gateway refuses valid tokens: the same one again, first.
                        1 => {}
                        2 => token = self.session.replace(&token, &self.http, &self.settings).await?,
                        _ => {
                            return Err(LmsError::Unauthorized(format!("GET {path} answers 401 with a new token")));
                        }
                    }
                    tries -= 1;
                    LmsError::Unauthorized(format!("GET {path} answers 401"))
                }
                Tried::Again(error) => error,
            };
            if tries >= TRIES_MAX {
                return Err(error);
            }
            match waits.next_backoff() {
                Some(wait) => tokio::time::sleep(self.jittered(wait)).await,
                None => return Err(error),
            }
        }
    }

    fn waits(&self) -> ExponentialBackoff {
        ExponentialBackoff {
            current_interval: self.pauses.first,
            initial_interval: self.pauses.first,
            // Randomness comes from our own entropy, so that a seed replays a run.
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: self.pauses.total_max,
            max_elapsed_time: Some(self.pauses.total_max),
            ..ExponentialBackoff::default()
        }
    }

    fn jittered(&self, wait: Duration) -> Duration {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(ms / 2 + self.entropy.below(ms / 2 + 1))
    }

    async fn try_once(&self, path: &str, query: &[(&str, String)], token: &str) -> Tried {
        self.wait_for_budget().await;
        let url = format!("{}{path}", self.settings.url.trim_end_matches('/'));
        let sent = self
            .http
            .get(url)
            .query(query)
            .header("x-api-key", &self.settings.api_key)
            .header("x-api-version", "2")
            .header("accept", "application/json")
            .bearer_auth(token)
            .send()
            .await;
        let response = match sent {
            Ok(response) => response,
            // The URL is left out of the words: it carries people's ids.
            Err(error) => return Tried::Again(LmsError::Unavailable(chain(&error.without_url()))),
        };
        let status = response.status().as_u16();
        let wait = retry_after(&response);
        if response.content_length().is_some_and(|bytes| bytes > ANSWER_BYTES_MAX as u64) {
            let words = format!("the answer to GET {path} is larger than {ANSWER_BYTES_MAX} bytes");
            return Tried::Failed(LmsError::Misunderstood(words));
        }
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(error) => {
                return Tried::Again(LmsError::Unavailable(format!(
                    "the answer broke off: {}",
                    chain(&error.without_url())
                )));
            }
        };
        match status {
            200..=299 => match serde_json::from_slice(&body) {
                Ok(answer) => Tried::Answer(Some(answer)),
                Err(error) => {
                    Tried::Again(LmsError::Unavailable(format!("the answer to GET {path} is not JSON: {error}")))
                }
            },
            401 => Tried::Refused,
            403 => Tried::Failed(LmsError::Forbidden(format!("GET {path}: {}", words(&body)))),
            404 => Tried::Answer(None),
            429 => Tried::Failed(LmsError::Throttled(wait)),
            500..=599 => Tried::Again(LmsError::Unavailable(format!("GET {path} answers HTTP {status}"))),
            _ => Tried::Failed(LmsError::Misunderstood(format!("GET {path} answers HTTP {status}: {}", words(&body)))),
        }
    }

    /// Waits for this call's place in the budget of calls per second.
    async fn wait_for_budget(&self) {
        let gap = Duration::from_secs(1) / self.settings.calls_per_second_max.max(1);
        let mut next = self.next_call.lock().await;
        let now = Instant::now();
        let at = next.map_or(now, |at| at.max(now));
        *next = Some(at + gap);
        drop(next);
        tokio::time::sleep_until(at).await;
    }
}

/// How long the answer asks us to wait.
pub(super) fn retry_after(response: &reqwest::Response) -> RetryAfter {
    RetryAfter::parse(response.headers().get("retry-after").and_then(|value| value.to_str().ok()))
}

/// An error with its reasons, in one line.
fn chain(error: &reqwest::Error) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        words = format!("{words}: {inner}");
        source = inner.source();
    }
    words
}

/// The LMS's own words: `message` and `validations` of its error, or the beginning of the body.
fn words(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(error)) => {
            let validations = error.get("validations").and_then(Value::as_array);
            let said = error.get("message").and_then(Value::as_str).into_iter();
            said.chain(validations.into_iter().flatten().filter_map(Value::as_str)).collect::<Vec<_>>().join("; ")
        }
        Ok(_) | Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().take(WORDS_CHARS_MAX).collect()
}
