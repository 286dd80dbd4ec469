//! The fake chat service: one space of Google Chat with an incoming webhook, and a page that shows what was posted.
//!
//! Known of the real one: one message a second for a space, from all apps together
//! (<https://developers.google.com/workspace/chat/limits>); a strict parser, for which one unknown field is an error; a key that is none is
//! a 400 with the reason `API_KEY_INVALID`. What a wrong token is answered with is a guess.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hyper::Method;
use serde_json::{Value, json};

use super::population::guid;
use super::server::{Reply, Request, Service, page};
use crate::domain::chance::Entropy;
use crate::domain::time::{Clock, Timestamp};

/// The space of the webhook.
const SPACE: &str = "SANDBOX";
/// How many messages are kept.
const MESSAGES_MAX: usize = 200;
/// The largest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 32_000;
/// The least time between two messages, in milliseconds. Two that were sent a second apart may arrive a little closer.
const BETWEEN_MESSAGES_MS: i64 = 1_000 - 50;

/// One message of the space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatMessage {
    /// Its name, as the answer to the post tells it.
    pub name: String,
    /// When it was posted.
    pub posted: Timestamp,
    /// What people read: the cards as plain text.
    pub text: String,
}

struct Chat {
    held: Mutex<Held>,
    key: String,
    token: String,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Held {
    messages: VecDeque<ChatMessage>,
    posted: u64,
    throttled: u64,
    last: Option<Timestamp>,
}

/// What a program that runs the sandbox can see of the chat.
#[derive(Clone)]
pub struct ChatHandle {
    chat: Arc<Chat>,
    address: SocketAddr,
}

impl ChatHandle {
    pub(super) fn open(chance: &dyn Entropy, address: SocketAddr, clock: Arc<dyn Clock>) -> Self {
        let key = guid(chance).simple().to_string();
        let token = guid(chance).simple().to_string();
        Self { chat: Arc::new(Chat { held: Mutex::default(), key, token, clock }), address }
    }

    pub(super) fn service(&self) -> Arc<dyn Service> {
        Arc::clone(&self.chat) as Arc<dyn Service>
    }

    /// The base URL: its page shows the messages, `/messages` tells them as JSON.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The webhook's URL, which is the secret: the connector's setting `url`.
    #[must_use]
    pub fn webhook_url(&self) -> String {
        format!("{}/v1/spaces/{SPACE}/messages?key={}&token={}", self.url(), self.chat.key, self.chat.token)
    }

    /// The messages, oldest first; at most the last 200.
    #[must_use]
    pub fn messages(&self) -> Vec<ChatMessage> {
        self.chat.held().messages.iter().cloned().collect()
    }
}

#[async_trait]
impl Service for Chat {
    async fn answer(&self, request: Request) -> Reply {
        let path: Vec<&str> = request.segments.iter().map(String::as_str).collect();
        match (&request.method, path.as_slice()) {
            (&Method::GET, []) => self.show(),
            (&Method::GET, ["messages"]) => self.list(),
            (&Method::POST, ["v1", "spaces", SPACE, "messages"]) => self.post(&request),
            _ => error(404, "NOT_FOUND", "There is no such space.", None),
        }
    }
}

impl Chat {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, request: &Request) -> Reply {
        if request.parameter("key") != Some(&self.key) {
            return error(400, "INVALID_ARGUMENT", "API key not valid.", Some("API_KEY_INVALID"));
        }
        if request.parameter("token") != Some(&self.token) {
            return error(401, "UNAUTHENTICATED", "The token of the webhook is not valid.", None);
        }
        let Some(Value::Object(message)) = request.json() else {
            return error(400, "INVALID_ARGUMENT", "Invalid JSON payload received.", None);
        };
        if let Some(name) = message.keys().find(|name| !["text", "fallbackText", "cardsV2"].contains(&name.as_str())) {
            let words =
                format!("Invalid JSON payload received. Unknown name \"{name}\" at 'message': Cannot find field.");
            return error(400, "INVALID_ARGUMENT", &words, None);
        }
        let text = words_of(&Value::Object(message));
        if request.body.len() > MESSAGE_BYTES_MAX || text.is_empty() {
            return error(400, "INVALID_ARGUMENT", "The message is empty or too long.", None);
        }
        let now = self.clock.now();
        let mut held = self.held();
        if held.last.is_some_and(|last| (0..BETWEEN_MESSAGES_MS).contains(&(now.0 - last.0))) {
            held.throttled += 1;
            return error(429, "RESOURCE_EXHAUSTED", "One message a second is all that a space takes.", None);
        }
        held.last = Some(now);
        held.posted += 1;
        let name = format!("spaces/{SPACE}/messages/{}", held.posted);
        if held.messages.len() == MESSAGES_MAX {
            held.messages.pop_front();
        }
        held.messages.push_back(ChatMessage { name: name.clone(), posted: now, text });
        Reply::json(200, &json!({"name": name}))
    }

    fn list(&self) -> Reply {
        let held = self.held();
        let told = held
            .messages
            .iter()
            .map(|message| json!({"name": message.name, "posted": message.posted.to_string(), "text": message.text}));
        Reply::json(200, &told.collect())
    }

    fn show(&self) -> Reply {
        let held = self.held();
        let counts = [("Messages", held.posted.to_string()), ("Refused as too fast", held.throttled.to_string())];
        let rows: Vec<Vec<String>> =
            held.messages.iter().rev().map(|message| vec![message.posted.to_string(), message.text.clone()]).collect();
        let words = "A fake space of Google Chat. The last 200 messages are below, the newest first.";
        page("Sandbox chat", words, "", &counts, &["Posted", "Message"], &rows)
    }
}

/// Google's error body.
fn error(status: u16, word: &str, message: &str, reason: Option<&str>) -> Reply {
    let details: Vec<Value> = reason.iter().map(|reason| json!({"reason": reason})).collect();
    Reply::json(status, &json!({"error": {"code": status, "status": word, "message": message, "details": details}}))
}

/// What people read of a message: its text, and of each card the title, the paragraphs and the buttons, a line each.
fn words_of(message: &Value) -> String {
    let mut lines = Vec::new();
    lines.extend(message["text"].as_str().map(str::to_owned));
    for card in array(&message["cardsV2"]).map(|card| &card["card"]) {
        lines.extend(card["header"]["title"].as_str().map(str::to_owned));
        for widget in array(&card["sections"]).flat_map(|section| array(&section["widgets"])) {
            lines.extend(widget["textParagraph"]["text"].as_str().map(plain));
            for button in array(&widget["buttonList"]["buttons"]) {
                let part = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                lines.push(format!("[{}] {}", part(&button["text"]), part(&button["onClick"]["openLink"]["url"])));
            }
        }
    }
    lines.join("\n")
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A card's markup as plain text: a small subset of HTML.
fn plain(markup: &str) -> String {
    let mut text = String::new();
    let mut rest = markup;
    while let Some((before, behind)) = rest.split_once('<') {
        text.push_str(before);
        let (tag, after) = behind.split_once('>').unwrap_or((behind, ""));
        text.push_str(if tag.starts_with("br") { "\n" } else { "" });
        rest = after;
    }
    text.push_str(rest);
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_people_read_it() {
        let cards = json!([{"card": {
            "header": {"title": "2 records"},
            "sections": [{"widgets": [
                {"textParagraph": {"text": "<b>Ada &amp; Bo</b><br>2 &lt; 3"}},
                {"buttonList": {"buttons": [{"text": "Open", "onClick": {"openLink": {"url": "https://x"}}}]}},
            ]}],
        }}]);
        assert_eq!(words_of(&json!({"cardsV2": cards})), "2 records\nAda & Bo\n2 < 3\n[Open] https://x");
        assert_eq!(plain("a < b"), "a ", "a tag that never ends hides the rest, and nothing panics");
    }
}
