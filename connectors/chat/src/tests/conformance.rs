//! The fake behind the test kit's trait, once for each service, and the kit's checks.

use std::net::SocketAddr;
use std::sync::Arc;

use learnsync_sdk::{Fields, Value};
use learnsync_testkit::{HeldRow, Report, Sample};
use serde_json::{Value as Json, json};

use super::fake::{Fake, SECRETS, SERVICES};
use super::fields;
use crate::Chat;
use crate::dialect::TEXT_CHARACTERS_MAX;
use crate::message::MESSAGE;

/// One service of the fake.
struct Target {
    fake: Fake,
    service: &'static str,
    path: &'static str,
}

async fn report_on((service, path): (&'static str, &'static str)) -> Report {
    let target = Target { fake: Fake::start().await, service, path };
    let report = learnsync_testkit::run(&Chat, Arc::new(target)).await;
    println!("{service}\n{report}");
    report
}

#[tokio::test]
async fn chat_keeps_all_promises_of_a_connector() {
    let mut reports = Vec::new();
    for service in SERVICES {
        reports.push(Report { connector: format!("chat, {}", service.0), ..report_on(service).await });
    }
    println!("{}", learnsync_testkit::conformance_table(&reports));
    for report in &reports {
        report.assert_passed();
        report.assert_shown_in(include_str!("../../../README.md"));
    }
}

impl learnsync_testkit::Fake for Target {
    fn address(&self) -> SocketAddr {
        self.fake.address
    }

    fn reset(&self) {
        *self.fake.held() = super::fake::Held::default();
    }

    /// A list of titles shows no single message: the kit's batches stay below it.
    fn settings(&self, url: &str) -> Json {
        json!({"service": self.service, "url": format!("{url}{}", self.path), "digest_from": 50})
    }

    fn secrets(&self) -> Vec<String> {
        SECRETS.map(str::to_owned).into()
    }

    fn samples(&self) -> Vec<Sample> {
        vec![Sample {
            object: MESSAGE.to_owned(),
            person: "u1".to_owned(),
            fields: fields(&[
                ("title", "🎓 Ada Lovelace earned Working at heights"),
                ("text", "Valid until 2027-03-01\nby Ümit & Co"),
                ("link", "https://lms.example/c?id=7&full=1"),
                ("link_text", "Certificate <7>"),
            ]),
            changed: fields(&[
                ("title", "🎓 Ada Lovelace earned Working at depths"),
                ("text", "Valid until 2028-03-01"),
                ("link", "https://lms.example/c?id=8"),
                ("link_text", "Certificate 8"),
            ]),
            text: Some("text"),
            text_shown_max: Some(TEXT_CHARACTERS_MAX),
            optional: Some("text"),
            refused: Some(fields(&[("text", "a message without a title")])),
        }]
    }

    fn rows(&self, _object: &str) -> Vec<HeldRow> {
        let shown = match self.service {
            "google_chat" => google_chat,
            "slack" => slack,
            _ => teams,
        };
        let held = self.fake.held();
        let rows = held.taken.iter().flat_map(|(name, payload)| {
            shown(payload).into_iter().map(|(mark, fields)| HeldRow {
                // Slack and Teams name no message: the receipt names the change by its key, which in the kit is its mark and `:1`.
                row: name.clone().unwrap_or_else(|| format!("{mark}:1")),
                person: "u1".to_owned(),
                marks: vec![mark],
                fields,
            })
        });
        rows.collect()
    }

    /// Whatever others post there is none of our business: nothing of it is read.
    fn put_row(&self, _object: &str, _person: &str, _mark: Option<&str>, _fields: &Fields) -> Option<String> {
        None
    }

    fn remove_row(&self, _object: &str, row: &str) {
        self.fake.held().taken.retain(|(name, _)| name.as_deref() != Some(row));
    }

    fn revoke_credentials(&self) {
        self.fake.held().is_gone = true;
    }

    fn restore_credentials(&self) {
        self.fake.held().is_gone = false;
    }

    /// A webhook answers nothing but a post.
    fn can_be_probed(&self) -> bool {
        false
    }
}

/// What people see of each message, by its mark; read by rules of the test's own.
type Shown = Vec<(String, Fields)>;

fn google_chat(payload: &Json) -> Shown {
    let shown = |card: &Json| {
        let widgets = &card["card"]["sections"][0]["widgets"];
        let (title, rest) = words(&widgets[0]["textParagraph"]["text"]).split_once("</b>").expect("a bold title");
        let text = rest.strip_prefix("<br>").unwrap_or_default();
        let button = &widgets[1]["buttonList"]["buttons"][0];
        let fields = message(
            &without_escapes(title.trim_start_matches("<b>")),
            &without_escapes(text),
            words(&button["onClick"]["openLink"]["url"]),
            words(&button["text"]),
        );
        (words(&card["cardId"]).to_owned(), fields)
    };
    list(&payload["cardsV2"]).iter().filter(|card| card["cardId"] != "digest").map(shown).collect()
}

fn slack(payload: &Json) -> Shown {
    let blocks = list(&payload["blocks"]);
    let begins: Vec<usize> = (0..blocks.len()).filter(|place| blocks[*place]["block_id"].is_string()).collect();
    let ends = begins.iter().copied().skip(1).chain([blocks.len()]);
    let shown = |(begin, end): (usize, usize)| {
        let elements = || blocks[begin + 1..end].iter().map(|block| &block["elements"][0]);
        let of =
            |kind: &str| elements().find(|element| element["type"] == kind).map_or("", |found| words(&found["text"]));
        let link = of("mrkdwn").trim_matches(['<', '>']);
        let (url, link_text) = link.split_once('|').unwrap_or_default();
        let title = without_escapes(words(&blocks[begin]["text"]["text"]));
        let fields =
            message(&title, &without_escapes(of("plain_text")), &without_escapes(url), &without_escapes(link_text));
        (words(&blocks[begin]["block_id"]).to_owned(), fields)
    };
    begins.iter().copied().zip(ends).map(shown).collect()
}

fn teams(payload: &Json) -> Shown {
    let shown = |container: &Json| {
        let items = list(&container["items"]);
        let lines: Vec<&str> = items.iter().filter(|item| item["type"] == "RichTextBlock").map(run).collect();
        let action = items.last().map_or(&Json::Null, |item| &item["actions"][0]);
        let fields = message(lines[0], &lines[1..].join("\n"), words(&action["url"]), words(&action["title"]));
        (words(&container["id"]).to_owned(), fields)
    };
    let body = &payload["attachments"][0]["content"]["body"];
    list(body).iter().filter(|item| item["type"] == "Container").map(shown).collect()
}

fn run(block: &Json) -> &str {
    words(&block["inlines"][0]["text"])
}

fn list(value: &Json) -> &[Json] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn words(value: &Json) -> &str {
    value.as_str().unwrap_or_default()
}

fn without_escapes(text: &str) -> String {
    let signs = [("<br>", "\n"), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")];
    signs.iter().fold(text.to_owned(), |text, (escape, sign)| text.replace(escape, sign))
}

fn message(title: &str, text: &str, link: &str, link_text: &str) -> Fields {
    let field = |name: &str, text: &str| (name.to_owned(), Value::Text(text.to_owned()));
    Fields::from([field("title", title), field("text", text), field("link", link), field("link_text", link_text)])
}
