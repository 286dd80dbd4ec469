//! Microsoft Teams: the Workflows template "when a webhook request is received", which takes adaptive cards and nothing else
//! (<https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>).
//!
//! A `TextBlock` reads Markdown, and its escapes differ between the clients of Teams; a `TextRun` of a `RichTextBlock` reads none
//! (<https://learn.microsoft.com/en-us/adaptive-cards/authoring-cards/text-features>). So all text stands in runs, as it is. A mention needs
//! an entry of its own in the card (`msteams.entities`), which is never written.
//!
//! A 202 says that Power Automate took the message. If the flow fails afterwards, only its own run history tells.

use learnsync_sdk::ErrorKind;
use reqwest::Url;
use serde_json::{Value as Json, json};

use crate::dialect::{
    DIGEST_TITLE_CHARACTERS_MAX, Dialect, Digest, LINE_CHARACTERS_MAX, LINK_TEXT_CHARACTERS_MAX, TEXT_CHARACTERS_MAX,
    TITLE_CHARACTERS_MAX, Told, digest_of, kind_of,
};
use crate::hook::Answer;
use crate::message::Message;
use crate::text::{fit, verbatim};

/// Most lines of a message's text. Each is a paragraph of its own, since a line end within a run is not shown by all clients.
const LINES_MAX: usize = 30;

/// Longest words of an answer that are kept, in characters.
const WORDS_CHARACTERS_MAX: usize = 512;

/// How the retired connectors answered 200 to a message that Teams refused; the status follows
/// (<https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>).
const HIDDEN_REFUSAL: &str = "endpoint returned HTTP error ";

/// Error codes that come with 400, and yet say that the flow is off or gone.
const GONE: &[&str] = &["WorkflowTriggerIsNotEnabled", "WorkflowNotFound", "WorkflowDisabled"];

pub(crate) struct Teams;

impl Dialect for Teams {
    fn label(&self) -> &'static str {
        "Teams"
    }

    fn advice(&self) -> &'static str {
        "the flow is off or gone, or not anyone may trigger it (a flow ends with its owner's account): look at it in the Workflows app, or make one and give its URL as the secret \"url\""
    }

    fn cards(&self, messages: &[&Message]) -> Json {
        let body = messages.iter().enumerate().map(|(index, message)| container(message, index > 0)).collect();
        card(body)
    }

    fn digest(&self, digest: &Digest<'_>) -> Json {
        let title = fit(&digest.title, DIGEST_TITLE_CHARACTERS_MAX, verbatim);
        let mut body = vec![paragraph(json!({"type": "TextRun", "text": title, "weight": "Bolder", "size": "Large"}))];
        let lines = digest.lines.iter().map(|line| format!("• {}", fit(line, LINE_CHARACTERS_MAX, verbatim)));
        for line in lines.chain(digest.note()) {
            let mut line = paragraph(run(&line));
            line["spacing"] = "Small".into();
            body.push(line);
        }
        card(body)
    }

    /// The path names the flow; its secret is the signature in the query.
    fn identity(&self, url: &Url) -> String {
        format!("teams {}", digest_of(url.host_str().unwrap_or_default(), url.path()))
    }

    /// Workflows answer 202 without a body, the retired connectors 200 and `1`; a flow of one's own may answer with JSON.
    fn taken(&self, answer: &Answer) -> Result<Told, ErrorKind> {
        let retry_after = answer.retry_after.as_deref();
        let body = answer.body.trim();
        if !answer.is_success() {
            let json = answer.json();
            let code = json["error"]["code"].as_str().unwrap_or_default();
            let is_gone = GONE.contains(&code) || code.contains("Authorization");
            return Err(if is_gone { ErrorKind::Unauthorized } else { kind_of(answer.status, retry_after) });
        }
        if let Some(status) = hidden_status(body) {
            return Err(kind_of(status, retry_after));
        }
        if answer.status == 202 || body.is_empty() || body == "1" || answer.json().is_object() {
            let words = body.chars().take(WORDS_CHARACTERS_MAX).collect();
            return Ok(Told { name: None, status: answer.status, words });
        }
        Err(ErrorKind::Ambiguous)
    }
}

/// The status that the body tells; one that cannot be read leaves the outcome open.
fn hidden_status(body: &str) -> Option<u16> {
    let (_, rest) = body.split_once(HIDDEN_REFUSAL)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(digits.parse().unwrap_or(500))
}

fn card(body: Vec<Json>) -> Json {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": body,
            },
        }],
    })
}

fn container(message: &Message, has_line_above: bool) -> Json {
    let mut title = run(&fit(&message.title, TITLE_CHARACTERS_MAX, verbatim));
    title["weight"] = "Bolder".into();
    let mut items = vec![paragraph(title)];
    let text = fit(&message.text, TEXT_CHARACTERS_MAX, verbatim);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    items.extend(lines.iter().take(LINES_MAX).map(|line| paragraph(run(line))));
    if lines.len() > LINES_MAX {
        items.push(paragraph(run(&format!("… +{}", lines.len() - LINES_MAX))));
    }
    if let Some(link) = &message.link {
        let title = fit(&link.text, LINK_TEXT_CHARACTERS_MAX, verbatim);
        let action = json!({"type": "Action.OpenUrl", "title": title, "url": link.url});
        items.push(json!({"type": "ActionSet", "actions": [action]}));
    }
    json!({"type": "Container", "id": message.mark, "separator": has_line_above, "items": items})
}

fn paragraph(run: Json) -> Json {
    json!({"type": "RichTextBlock", "inlines": [run]})
}

fn run(text: &str) -> Json {
    json!({"type": "TextRun", "text": text})
}
