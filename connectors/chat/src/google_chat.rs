//! Google Chat: incoming webhooks (<https://developers.google.com/workspace/chat/quickstart/webhooks>), cards of version 2.
//!
//! All text stands in cards, whose markup is a subset of HTML and can be escaped. The field `text` of a message has a markup of its own
//! (`*bold*`, `<users/all>`: <https://developers.google.com/workspace/chat/format-messages>) without any escape, and would be shown above
//! the cards a second time; `fallbackText` is plain and serves notifications
//! (<https://developers.google.com/workspace/chat/api/reference/rest/v1/spaces.messages>). The parser is strict: one unknown field of the
//! message, and it answers 400.

use learnsync_sdk::{ErrorKind, RetryAfter};
use reqwest::Url;
use serde_json::{Value as Json, json};

use crate::dialect::{
    DIGEST_TITLE_CHARACTERS_MAX, Dialect, Digest, LINE_CHARACTERS_MAX, LINK_TEXT_CHARACTERS_MAX, TEXT_CHARACTERS_MAX,
    TITLE_CHARACTERS_MAX, Told, digest_of, kind_of, summary,
};
use crate::hook::Answer;
use crate::message::Message;
use crate::text::{fit, verbatim};

pub(crate) struct GoogleChat;

impl Dialect for GoogleChat {
    fn label(&self) -> &'static str {
        "Google Chat"
    }

    fn advice(&self) -> &'static str {
        "the webhook or its space is gone: make a webhook in the space (Apps & integrations, Webhooks) and give its URL as the secret \"url\""
    }

    fn cards(&self, messages: &[&Message]) -> Json {
        let cards: Vec<Json> = messages.iter().map(|message| card(message)).collect();
        json!({"fallbackText": plain(&summary(messages)), "cardsV2": cards})
    }

    fn digest(&self, digest: &Digest<'_>) -> Json {
        let lines = digest.lines.iter().map(|line| format!("• {}", fit(line, LINE_CHARACTERS_MAX, html)));
        let text = lines.chain(digest.note()).collect::<Vec<_>>().join("<br>");
        let title = fit(&digest.title, DIGEST_TITLE_CHARACTERS_MAX, verbatim);
        json!({
            "fallbackText": plain(&title),
            "cardsV2": [{"cardId": "digest", "card": {
                "header": {"title": title},
                "sections": [{"widgets": [{"textParagraph": {"text": text}}]}],
            }}],
        })
    }

    fn identity(&self, url: &Url) -> String {
        let mut parts = url.path_segments().into_iter().flatten();
        let space = parts.find(|part| *part == "spaces").and_then(|_| parts.next());
        match space {
            Some(space) => format!("google_chat spaces/{space}"),
            None => format!("google_chat {}", digest_of(url.host_str().unwrap_or_default(), url.path())),
        }
    }

    /// A message that was made comes back with its name. A key that is none is a 400, and so is a message that is none: the reason tells.
    fn taken(&self, answer: &Answer) -> Result<Told, ErrorKind> {
        let body = answer.json();
        if answer.is_success() {
            let name = body["name"].as_str().ok_or(ErrorKind::Ambiguous)?;
            // Nothing else of the answer: it repeats what we wrote about a person.
            return Ok(Told { name: Some(name.to_owned()), status: answer.status, words: name.to_owned() });
        }
        let details = body["error"]["details"].as_array().into_iter().flatten();
        if details.filter_map(|detail| detail["reason"].as_str()).any(|reason| reason.starts_with("API_KEY_")) {
            return Err(ErrorKind::Unauthorized);
        }
        let retry_after = answer.retry_after.as_deref();
        match body["error"]["status"].as_str() {
            Some("RESOURCE_EXHAUSTED") => Err(ErrorKind::Throttled(RetryAfter::parse(retry_after))),
            Some(_) | None => Err(kind_of(answer.status, retry_after)),
        }
    }
}

fn card(message: &Message) -> Json {
    let mut text = format!("<b>{}</b>", fit(&message.title, TITLE_CHARACTERS_MAX, html));
    if !message.text.is_empty() {
        text = format!("{text}<br>{}", fit(&message.text, TEXT_CHARACTERS_MAX, html));
    }
    let mut widgets = vec![json!({"textParagraph": {"text": text}})];
    if let Some(link) = &message.link {
        // The text of a button has no markup.
        let text = fit(&link.text, LINK_TEXT_CHARACTERS_MAX, verbatim);
        let button = json!({"text": text, "onClick": {"openLink": {"url": link.url}}});
        widgets.push(json!({"buttonList": {"buttons": [button]}}));
    }
    json!({"cardId": message.mark, "card": {"sections": [{"widgets": widgets}]}})
}

fn html(letter: char) -> Option<&'static str> {
    match letter {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        '\n' => Some("<br>"),
        _ => None,
    }
}

/// Plain text, in which no client can find a mention: `<users/all>` would ring for everybody.
fn plain(text: &str) -> String {
    text.replace('<', "<\u{200b}")
}
