//! The webhook: one post, and what is said when it fails. Its URL is the secret.

use learnsync_sdk::{DeliveryError, ErrorKind};
use reqwest::{Response, Url};
use serde_json::Value as Json;

use crate::dialect::Dialect;

/// Most of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest words of the service in a message, in characters; the rest is for our advice.
const WORDS_CHARACTERS_MAX: usize = 240;
/// Longest message.
const MESSAGE_CHARACTERS_MAX: usize = 512;
/// A part of the path that is at least so long may be a token; names of endpoints are shorter.
const TOKEN_CHARACTERS_MIN: usize = 16;
/// A value of the query that is shorter is no secret, and striking it out would spoil unrelated words.
const VALUE_CHARACTERS_MIN: usize = 6;

/// One webhook. No `Debug`, because of the URL.
pub(crate) struct Hook {
    http: reqwest::Client,
    url: Url,
    /// What is struck out of all words, longest first.
    secrets: Vec<String>,
}

/// What the service answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    /// The body, without secrets.
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

impl Hook {
    pub(crate) fn new(http: reqwest::Client, url: Url) -> Self {
        let secrets = secrets_of(&url);
        Self { http, url, secrets }
    }

    /// Posts a message.
    ///
    /// # Errors
    /// The answer did not come whole. `Unavailable` when the service was not reached, else `Ambiguous`.
    pub(crate) async fn post(&self, payload: &Json) -> Result<Answer, DeliveryError> {
        let sent = self.http.post(self.url.clone()).json(payload).send().await;
        let response = sent.map_err(|error| self.lost(error, None))?;
        let status = response.status().as_u16();
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = header.map(str::to_owned);
        let body = match collect(response).await {
            Ok(body) => self.strike(&String::from_utf8_lossy(&body)),
            // Nobody can tell a success whose words are lost from a refusal that says 200. Any other status speaks for itself.
            Err(error) if status < 300 => return Err(self.lost(error, Some(status))),
            Err(_) => String::new(),
        };
        Ok(Answer { status, retry_after, body })
    }

    /// Puts a refusal into words.
    pub(crate) fn refused(&self, dialect: &dyn Dialect, answer: &Answer, kind: ErrorKind) -> DeliveryError {
        let what = match kind {
            ErrorKind::Ambiguous => "answered the message with",
            ErrorKind::Rejected
            | ErrorKind::Unmatched
            | ErrorKind::Throttled(_)
            | ErrorKind::Unavailable
            | ErrorKind::Unauthorized
            | ErrorKind::Superseded => "refused the message:",
        };
        let words = shorten(answer.body.trim(), WORDS_CHARACTERS_MAX);
        let mut message = format!("{} {what} {words:?} (HTTP {})", dialect.label(), answer.status);
        if kind == ErrorKind::Unauthorized {
            message = format!("{}; {}", shorten(&message, MESSAGE_CHARACTERS_MAX / 2), dialect.advice());
        }
        DeliveryError { kind, status: Some(answer.status), message: shorten(&message, MESSAGE_CHARACTERS_MAX) }
    }

    fn lost(&self, error: reqwest::Error, status: Option<u16>) -> DeliveryError {
        let mut error = DeliveryError::from_transport(&error.without_url());
        error.message = self.strike(&error.message);
        error.status = status;
        error
    }

    /// A service may repeat what it was asked for, as Google's page for unknown addresses does.
    fn strike(&self, words: &str) -> String {
        self.secrets.iter().fold(words.to_owned(), |words, secret| words.replace(secret, "[...]"))
    }
}

/// The parts of the URL by which somebody could post, as they are sent and as they are meant.
fn secrets_of(url: &Url) -> Vec<String> {
    let parts = url.path_segments().into_iter().flatten().filter(|part| part.len() >= TOKEN_CHARACTERS_MIN);
    let sent = url.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).map(|pair| pair.1);
    let meant = url.query_pairs().map(|(_, value)| value.into_owned());
    let values = sent.map(str::to_owned).chain(meant).filter(|value| value.len() >= VALUE_CHARACTERS_MIN);
    let mut secrets: Vec<String> = parts.map(str::to_owned).chain(values).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

async fn collect(mut response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES_MAX
        && let Some(chunk) = response.chunk().await?
    {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn shorten(text: &str, characters_max: usize) -> String {
    text.chars().take(characters_max).collect()
}
