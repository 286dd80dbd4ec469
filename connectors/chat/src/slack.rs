//! Slack: incoming webhooks (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>), blocks.
//!
//! All that comes from a record stands in `plain_text`, in which `*x*` is `*x*`, and with `&`, `<` and `>` escaped, without which
//! `<!channel>` rings for everybody (<https://docs.slack.dev/messaging/formatting-message-text>). Only a link needs `mrkdwn`: a button would
//! want an app that answers its clicks.

use learnsync_sdk::{ErrorKind, RetryAfter};
use reqwest::Url;
use serde_json::{Value as Json, json};

use crate::dialect::{
    DIGEST_TITLE_CHARACTERS_MAX, Dialect, Digest, LINE_CHARACTERS_MAX, LINK_TEXT_CHARACTERS_MAX, TEXT_CHARACTERS_MAX,
    TITLE_CHARACTERS_MAX, Told, kind_of, summary,
};
use crate::hook::Answer;
use crate::message::Message;
use crate::text::fit;

/// Most blocks of a message (<https://docs.slack.dev/reference/block-kit/blocks>).
const BLOCKS_MAX: usize = 50;
/// Longest text of a section, in characters (<https://docs.slack.dev/reference/block-kit/blocks/section-block>).
const SECTION_CHARACTERS_MAX: usize = 3_000;
/// Longest id of a block.
const BLOCK_ID_CHARACTERS_MAX: usize = 255;
/// Longest plain text, in characters as they are sent.
const SUMMARY_CHARACTERS_MAX: usize = 1_000;

/// Words that say that this webhook does not work, and will not for the next message either. Slack documents some of them with 400, most
/// with 403, 404 and 410; the word tells more than the number.
const GONE: &[&str] = &[
    "action_prohibited",
    "channel_is_archived",
    "channel_not_found",
    "invalid_token",
    "no_active_hooks",
    "no_service",
    "no_service_id",
    "no_team",
    "posting_to_general_channel_denied",
    "team_disabled",
];

pub(crate) struct Slack;

impl Dialect for Slack {
    fn label(&self) -> &'static str {
        "Slack"
    }

    fn advice(&self) -> &'static str {
        "the webhook is gone, or may not post there: unarchive the channel, or add a webhook to the app (Incoming Webhooks) and give its URL as the secret \"url\""
    }

    fn cards(&self, messages: &[&Message]) -> Json {
        let blocks: Vec<Json> = messages.iter().flat_map(|message| blocks(message)).collect();
        payload(&summary(messages), &blocks)
    }

    fn digest(&self, digest: &Digest<'_>) -> Json {
        let header = json!({"type": "header", "text": plain(&digest.title, DIGEST_TITLE_CHARACTERS_MAX)});
        let mut blocks = vec![header];
        blocks.extend(sections(&digest.lines));
        if let Some(note) = digest.note() {
            blocks.push(json!({"type": "context", "elements": [plain(&note, TITLE_CHARACTERS_MAX)]}));
        }
        payload(&digest.title, &blocks)
    }

    /// The workspace, which the path names first (`/services/T.../B.../secret`). A webhook that replaces another one there is no other
    /// account.
    fn identity(&self, url: &Url) -> String {
        let mut parts = url.path_segments().into_iter().flatten();
        let workspace = parts.find(|part| *part == "services").and_then(|_| parts.next());
        let host = url.host_str().unwrap_or_default();
        match workspace {
            Some(workspace) => format!("slack {workspace}"),
            // Any part of another path may be the secret.
            None => format!("slack {host}"),
        }
    }

    fn takes(&self, payload: &Json) -> bool {
        payload["blocks"].as_array().is_some_and(|blocks| blocks.len() <= BLOCKS_MAX)
    }

    /// A message that was taken is answered `ok`, and nothing else is.
    fn taken(&self, answer: &Answer) -> Result<Told, ErrorKind> {
        let body = answer.body.trim();
        if answer.is_success() && body == "ok" {
            return Ok(Told { name: None, status: answer.status, words: body.to_owned() });
        }
        // Slack's other API says 200 with the word in JSON.
        let json = answer.json();
        let word = json["error"].as_str().unwrap_or(body);
        if GONE.contains(&word) {
            return Err(ErrorKind::Unauthorized);
        }
        let retry_after = answer.retry_after.as_deref();
        if matches!(word, "ratelimited" | "rate_limited") {
            return Err(ErrorKind::Throttled(RetryAfter::parse(retry_after)));
        }
        Err(kind_of(answer.status, retry_after))
    }
}

/// The text is what notifications show; its markup is off.
fn payload(text: &str, blocks: &[Json]) -> Json {
    json!({"text": fit(text, SUMMARY_CHARACTERS_MAX, entities), "mrkdwn": false, "blocks": blocks})
}

fn blocks(message: &Message) -> Vec<Json> {
    let mut title = json!({"type": "section", "text": plain(&message.title, TITLE_CHARACTERS_MAX)});
    if message.mark.chars().count() <= BLOCK_ID_CHARACTERS_MAX {
        title["block_id"] = message.mark.as_str().into();
    }
    let mut blocks = vec![title];
    if !message.text.is_empty() {
        blocks.push(json!({"type": "context", "elements": [plain(&message.text, TEXT_CHARACTERS_MAX)]}));
    }
    if let Some(link) = &message.link {
        let words = fit(&link.text, LINK_TEXT_CHARACTERS_MAX, entities);
        let text = format!("<{}|{words}>", link.url.replace('&', "&amp;"));
        blocks.push(json!({"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}));
    }
    blocks
}

/// As many lines in a section as fit.
fn sections(lines: &[&str]) -> Vec<Json> {
    let mut texts: Vec<String> = Vec::new();
    for line in lines {
        let line = format!("• {}", fit(line, LINE_CHARACTERS_MAX, entities));
        match texts.last_mut() {
            Some(text) if text.chars().count() + 1 + line.chars().count() <= SECTION_CHARACTERS_MAX => {
                text.push('\n');
                text.push_str(&line);
            }
            Some(_) | None => texts.push(line),
        }
    }
    let section = |text| json!({"type": "section", "text": {"type": "plain_text", "text": text, "emoji": true}});
    texts.into_iter().map(section).collect()
}

fn plain(text: &str, characters_max: usize) -> Json {
    json!({"type": "plain_text", "text": fit(text, characters_max, entities), "emoji": true})
}

fn entities(letter: char) -> Option<&'static str> {
    match letter {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    }
}
