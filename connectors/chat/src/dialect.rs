//! What the chat services have in common: how a batch becomes one message, and what an HTTP status means.

use learnsync_sdk::{ErrorKind, RetryAfter};
use reqwest::Url;
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use crate::hook::Answer;
use crate::message::Message;
use crate::text::{fit, verbatim};

/// Largest message, in bytes. Teams takes 28 KiB
/// (<https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook>), Google Chat about
/// 32,000 bytes: the narrowest serves all.
const MESSAGE_BYTES_MAX: usize = 28_000;
/// Longest title of a message, in characters as they are sent.
pub(crate) const TITLE_CHARACTERS_MAX: usize = 300;
/// Longest text of a message, in characters as they are sent. Slack takes 3,000 in one piece.
pub(crate) const TEXT_CHARACTERS_MAX: usize = 2_000;
/// Longest text of a link.
pub(crate) const LINK_TEXT_CHARACTERS_MAX: usize = 75;
/// Longest title of a digest; what Slack takes as a header (<https://docs.slack.dev/reference/block-kit/blocks/header-block>).
pub(crate) const DIGEST_TITLE_CHARACTERS_MAX: usize = 150;
/// Longest line of a digest.
pub(crate) const LINE_CHARACTERS_MAX: usize = 200;
/// Most lines of a digest: nobody reads more.
const LINES_MAX: usize = 50;
/// Longest plain text for notifications.
const SUMMARY_CHARACTERS_MAX: usize = 500;

/// One chat service's own way of saying and hearing things.
pub(crate) trait Dialect: Send + Sync {
    /// The service's name in messages.
    fn label(&self) -> &'static str;

    /// What the administrator must do when the webhook does not work any more.
    fn advice(&self) -> &'static str;

    /// One message that shows each of these in full.
    fn cards(&self, messages: &[&Message]) -> Json;

    /// One message that lists them.
    fn digest(&self, digest: &Digest<'_>) -> Json;

    /// A stable name of the place behind the URL, without its secret.
    fn identity(&self, url: &Url) -> String;

    /// Limits of this service beyond the number of bytes.
    fn takes(&self, _payload: &Json) -> bool {
        true
    }

    /// Reads the answer to a post.
    ///
    /// # Errors
    /// It was not taken, or nobody knows; the kind says which.
    fn taken(&self, answer: &Answer) -> Result<Told, ErrorKind>;
}

/// A list of what would be too many messages.
pub(crate) struct Digest<'a> {
    /// It says how many there are.
    pub(crate) title: String,
    /// The titles of those that fit.
    pub(crate) lines: Vec<&'a str>,
    /// How many do not.
    pub(crate) left_out: usize,
}

impl Digest<'_> {
    /// The last line, when some are left out. It needs no translation.
    pub(crate) fn note(&self) -> Option<String> {
        (self.left_out > 0).then(|| format!("… +{}", self.left_out))
    }
}

/// What proves that the service took the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// The message's name, when the service tells it.
    pub(crate) name: Option<String>,
    pub(crate) status: u16,
    /// The service's own words, without what we wrote.
    pub(crate) words: String,
}

/// Makes one message of a batch: in full below `digest_from`, else, or where that would be too large, a list of as many lines as fit.
pub(crate) fn compose(dialect: &dyn Dialect, messages: &[&Message], digest_from: usize, digest_title: &str) -> Json {
    let fits = |payload: &Json| payload.to_string().len() <= MESSAGE_BYTES_MAX && dialect.takes(payload);
    if messages.len() < digest_from {
        let cards = dialect.cards(messages);
        if fits(&cards) {
            return cards;
        }
    }
    let mut shown = messages.len().min(LINES_MAX);
    loop {
        let payload = dialect.digest(&Digest {
            title: digest_title.replace("{count}", &messages.len().to_string()),
            lines: messages.iter().take(shown).map(|message| message.title.as_str()).collect(),
            left_out: messages.len() - shown,
        });
        if shown == 0 || fits(&payload) {
            return payload;
        }
        shown -= 1;
    }
}

/// The titles as plain text, for notifications and for clients that show no cards.
pub(crate) fn summary(messages: &[&Message]) -> String {
    let titles: Vec<&str> = messages.iter().map(|message| message.title.as_str()).collect();
    fit(&titles.join("\n"), SUMMARY_CHARACTERS_MAX, verbatim)
}

/// What a status means when the body says nothing better.
///
/// 401, 403, 404, 405, 410 and all redirects are `Unauthorized`: nobody listens at this URL (any more), every message would fail alike,
/// and a person must act. 5xx are `Ambiguous`, since a gateway may give up on a message that was posted; a 503 refuses before it does
/// anything. A 2xx that the service would not send came from somebody else.
pub(crate) fn kind_of(status: u16, retry_after: Option<&str>) -> ErrorKind {
    match status {
        429 => ErrorKind::Throttled(RetryAfter::parse(retry_after)),
        503 if retry_after.is_some() => ErrorKind::Throttled(RetryAfter::parse(retry_after)),
        503 => ErrorKind::Unavailable,
        300..=399 | 401 | 403 | 404 | 405 | 410 => ErrorKind::Unauthorized,
        0..=299 | 408 | 425 | 500.. => ErrorKind::Ambiguous,
        _ => ErrorKind::Rejected,
    }
}

/// Host and a digest of the path, which holds the place's id and no secret here.
pub(crate) fn digest_of(host: &str, path: &str) -> String {
    let digest: String = Sha256::digest(path).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{host} {digest}")
}
