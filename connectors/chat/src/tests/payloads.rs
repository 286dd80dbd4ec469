//! What each service is told: one message, a few, many; nothing that rings, breaks or is too long.

use learnsync_sdk::Change;
use serde_json::{Value as Json, json};

use super::fake::{Fake, SERVICES};
use super::{deliver_one, put};

/// Delivers a batch, wants all of it taken by one request, and answers what was posted.
async fn posted(service: &str, more: &Json, batch: &[Change]) -> Json {
    let fake = Fake::start().await;
    let outcomes = fake.built(service, more).deliver(batch).await;
    assert_eq!(outcomes.len(), batch.len());
    for outcome in outcomes {
        assert!(outcome.as_ref().is_ok_and(|receipt| receipt.wrote), "{service}: {outcome:?}");
    }
    let posts = std::mem::take(&mut fake.held().posts);
    assert_eq!(posts.len(), 1, "one batch is one request");
    posts.into_iter().next().expect("there is one")
}

fn one() -> Change {
    put(
        1,
        &[
            ("title", "🎓 Ada Lovelace earned Working at heights"),
            ("text", "Valid until 2027-03-01\nby <Ümit & Co>"),
            ("link", "https://lms.example/c?id=7&full=1"),
            ("link_text", "Certificate"),
        ],
    )
}

fn three() -> Vec<Change> {
    vec![one(), put(2, &[("title", "✅ Grace Hopper completed R&D")]), put(3, &[("title", "⭐ 李 achieved 消防安全")])]
}

fn sixty() -> Vec<Change> {
    (1..=60).map(|number| put(number, &[("title", &format!("🎓 Person {number} earned A & B"))])).collect()
}

/// The lines of the first fifty of sixty.
fn fifty_lines(and: &str) -> Vec<String> {
    (1..=50).map(|number| format!("• 🎓 Person {number} earned A {and} B")).collect()
}

#[tokio::test]
async fn google_chat_is_told_one_message_as_a_card() {
    let expected = json!({
        "fallbackText": "🎓 Ada Lovelace earned Working at heights",
        "cardsV2": [{"cardId": "learnsync:acme:certificate/1", "card": {"sections": [{"widgets": [
            {"textParagraph": {"text": "<b>🎓 Ada Lovelace earned Working at heights</b><br>Valid until 2027-03-01<br>by &lt;Ümit &amp; Co&gt;"}},
            {"buttonList": {"buttons": [
                {"text": "Certificate", "onClick": {"openLink": {"url": "https://lms.example/c?id=7&full=1"}}},
            ]}},
        ]}]}}],
    });
    assert_eq!(posted("google_chat", &json!({}), &[one()]).await, expected);
}

#[tokio::test]
async fn google_chat_is_told_a_few_messages_as_a_card_each() {
    let payload = posted("google_chat", &json!({}), &three()).await;
    let titles = "🎓 Ada Lovelace earned Working at heights\n✅ Grace Hopper completed R&D\n⭐ 李 achieved 消防安全";
    assert_eq!(payload["fallbackText"], titles);
    assert_eq!(payload["cardsV2"].as_array().map(Vec::len), Some(3));
    let second = json!({"cardId": "learnsync:acme:certificate/2", "card": {"sections": [{"widgets": [
        {"textParagraph": {"text": "<b>✅ Grace Hopper completed R&amp;D</b>"}},
    ]}]}});
    assert_eq!(payload["cardsV2"][1], second);
}

#[tokio::test]
async fn google_chat_is_told_many_messages_as_a_list() {
    let text = format!("{}<br>… +10", fifty_lines("&amp;").join("<br>"));
    let expected = json!({
        "fallbackText": "🎓 60 learning records",
        "cardsV2": [{"cardId": "digest", "card": {
            "header": {"title": "🎓 60 learning records"},
            "sections": [{"widgets": [{"textParagraph": {"text": text}}]}],
        }}],
    });
    assert_eq!(posted("google_chat", &json!({}), &sixty()).await, expected);
}

#[tokio::test]
async fn slack_is_told_one_message_as_blocks() {
    let expected = json!({
        "text": "🎓 Ada Lovelace earned Working at heights",
        "mrkdwn": false,
        "blocks": [
            {
                "type": "section",
                "block_id": "learnsync:acme:certificate/1",
                "text": {"type": "plain_text", "text": "🎓 Ada Lovelace earned Working at heights", "emoji": true},
            },
            {"type": "context", "elements": [
                {"type": "plain_text", "text": "Valid until 2027-03-01\nby &lt;Ümit &amp; Co&gt;", "emoji": true},
            ]},
            {"type": "context", "elements": [
                {"type": "mrkdwn", "text": "<https://lms.example/c?id=7&amp;full=1|Certificate>"},
            ]},
        ],
    });
    assert_eq!(posted("slack", &json!({}), &[one()]).await, expected);
}

#[tokio::test]
async fn slack_is_told_a_few_messages_as_blocks_of_one_message() {
    let payload = posted("slack", &json!({}), &three()).await;
    let titles =
        "🎓 Ada Lovelace earned Working at heights\n✅ Grace Hopper completed R&amp;D\n⭐ 李 achieved 消防安全";
    assert_eq!(payload["text"], titles);
    assert_eq!(payload["blocks"].as_array().map(Vec::len), Some(5));
    let last = json!({
        "type": "section",
        "block_id": "learnsync:acme:certificate/3",
        "text": {"type": "plain_text", "text": "⭐ 李 achieved 消防安全", "emoji": true},
    });
    assert_eq!(payload["blocks"][4], last);
}

#[tokio::test]
async fn slack_is_told_many_messages_as_a_list() {
    let plain = |text: String| json!({"type": "plain_text", "text": text, "emoji": true});
    let expected = json!({
        "text": "🎓 60 learning records",
        "mrkdwn": false,
        "blocks": [
            {"type": "header", "text": plain("🎓 60 learning records".to_owned())},
            {"type": "section", "text": plain(fifty_lines("&amp;").join("\n"))},
            {"type": "context", "elements": [plain("… +10".to_owned())]},
        ],
    });
    assert_eq!(posted("slack", &json!({}), &sixty()).await, expected);
}

#[tokio::test]
async fn teams_is_told_one_message_as_an_adaptive_card() {
    let expected = json!({"type": "message", "attachments": [{
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": null,
        "content": {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": [{"type": "Container", "id": "learnsync:acme:certificate/1", "separator": false, "items": [
                {"type": "RichTextBlock", "inlines": [
                    {"type": "TextRun", "text": "🎓 Ada Lovelace earned Working at heights", "weight": "Bolder"},
                ]},
                {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": "Valid until 2027-03-01"}]},
                {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": "by <Ümit & Co>"}]},
                {"type": "ActionSet", "actions": [
                    {"type": "Action.OpenUrl", "title": "Certificate", "url": "https://lms.example/c?id=7&full=1"},
                ]},
            ]}],
        },
    }]});
    assert_eq!(posted("teams", &json!({}), &[one()]).await, expected);
}

#[tokio::test]
async fn teams_is_told_a_few_messages_as_containers_of_one_card() {
    let payload = posted("teams", &json!({}), &three()).await;
    let body = &payload["attachments"][0]["content"]["body"];
    assert_eq!(body.as_array().map(Vec::len), Some(3));
    let second = json!({"type": "Container", "id": "learnsync:acme:certificate/2", "separator": true, "items": [
        {"type": "RichTextBlock", "inlines": [
            {"type": "TextRun", "text": "✅ Grace Hopper completed R&D", "weight": "Bolder"},
        ]},
    ]});
    assert_eq!(body[1], second);
}

#[tokio::test]
async fn teams_is_told_many_messages_as_a_list() {
    let payload = posted("teams", &json!({}), &sixty()).await;
    let title = json!({"type": "RichTextBlock", "inlines": [
        {"type": "TextRun", "text": "🎓 60 learning records", "weight": "Bolder", "size": "Large"},
    ]});
    let line = |text: String| json!({"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text}], "spacing": "Small"});
    let lines = fifty_lines("&").into_iter().chain(["… +10".to_owned()]).map(line);
    let expected: Vec<Json> = [title].into_iter().chain(lines).collect();
    assert_eq!(payload["attachments"][0]["content"]["body"], Json::from(expected));
}

#[tokio::test]
async fn the_digest_begins_where_it_is_set_and_has_the_title_that_is_set() {
    let settings = json!({"digest_from": 3, "digest_title": "{count} neue Nachweise <users/all>"});
    for (service, _) in SERVICES {
        let few = posted(service, &settings, &three()[..2]).await.to_string();
        assert!(!few.contains("Nachweise"), "{few}");
        let many = posted(service, &settings, &three()).await.to_string();
        assert!(many.contains("3 neue Nachweise"), "{many}");
        assert!(!many.contains("… +"), "nothing is left out: {many}");
    }
}

#[tokio::test]
async fn a_name_cannot_ring_break_or_format_a_message() {
    let names =
        ["<!channel>", "<users/all>", "<@U123>", "*x*", "_x_", "[a](https://evil.example)", "</b>\"&amp;", "`x`"];
    for count in [names.len(), 1] {
        let batch: Vec<Change> =
            names.iter().enumerate().map(|(number, name)| put(number, &[("title", name), ("text", name)])).collect();
        for batch in batch.chunks(count) {
            let google = posted("google_chat", &json!({}), batch).await;
            let (cards, fallback) = (google["cardsV2"].to_string(), google["fallbackText"].to_string());
            let markup = cards.replace("<b>", "").replace("</b>", "").replace("<br>", "");
            assert!(!markup.contains('<') && google.get("text").is_none(), "only markup of ours: {cards}");
            assert!(!fallback.contains("<users"), "{fallback}");

            let slack = posted("slack", &json!({}), batch).await;
            assert_eq!(slack["mrkdwn"], false);
            assert!(!slack.to_string().contains('<') && !slack.to_string().contains("\"mrkdwn\",\"text\""), "{slack}");

            let teams = posted("teams", &json!({}), batch).await.to_string();
            assert!(!teams.contains("TextBlock\",\"text\"") && !teams.contains("msteams"), "no Markdown: {teams}");
        }
    }
}

#[tokio::test]
async fn a_name_is_shown_as_it_is() {
    let title = "🎓 *Zoë* <!channel> & \"Ümit\" [a](b) earned `x` 消防";
    let google = posted("google_chat", &json!({}), &[put(1, &[("title", title)])]).await;
    let expected = "<b>🎓 *Zoë* &lt;!channel&gt; &amp; &quot;Ümit&quot; [a](b) earned `x` 消防</b>";
    assert_eq!(google["cardsV2"][0]["card"]["sections"][0]["widgets"][0]["textParagraph"]["text"], expected);
    let slack = posted("slack", &json!({}), &[put(1, &[("title", title)])]).await;
    let expected = "🎓 *Zoë* &lt;!channel&gt; &amp; \"Ümit\" [a](b) earned `x` 消防";
    assert_eq!(slack["blocks"][0]["text"]["text"], expected);
    let teams = posted("teams", &json!({}), &[put(1, &[("title", title)])]).await;
    let items = &teams["attachments"][0]["content"]["body"][0]["items"];
    assert_eq!(items[0]["inlines"][0]["text"], title);
}

#[tokio::test]
async fn a_link_cannot_leave_its_place() {
    let change = put(
        1,
        &[("title", "x"), ("link", "https://lms.example/>|<!here>?a=\"b\"&c=<users/all>"), ("link_text", "<!here>|x")],
    );
    let slack = posted("slack", &json!({}), &[change]).await;
    let expected = "<https://lms.example/%3E%7C%3C!here%3E?a=%22b%22&amp;c=%3Cusers/all%3E|&lt;!here&gt;|x>";
    assert_eq!(slack["blocks"][1]["elements"][0]["text"], expected);
}

#[tokio::test]
async fn an_overlong_text_is_cut_and_says_by_how_much() {
    let (title, text) = ("é".repeat(1_000), "&".repeat(10_000));
    let change = || put(1, &[("title", &title), ("text", &text)]);
    let google = posted("google_chat", &json!({}), &[change()]).await;
    let shown = &google["cardsV2"][0]["card"]["sections"][0]["widgets"][0]["textParagraph"]["text"];
    let cut = format!("{}… (+714)", "é".repeat(286));
    assert_eq!(*shown, format!("<b>{cut}</b><br>{}… (+9603)", "&amp;".repeat(397)));
    let slack = posted("slack", &json!({}), &[change()]).await;
    assert_eq!(slack["blocks"][0]["text"]["text"], cut);
    let teams = posted("teams", &json!({}), &[change()]).await;
    let items = &teams["attachments"][0]["content"]["body"][0]["items"];
    assert_eq!(items[0]["inlines"][0]["text"], cut);
    assert_eq!(items[1]["inlines"][0]["text"], format!("{}… (+8014)", "&".repeat(1_986)));
}

#[tokio::test]
async fn whatever_is_told_fits_into_one_message() {
    // The characters that grow most: four bytes each, or an escape each.
    for letter in ["👩", "\"", "&", "<", "é"] {
        let (title, text) = (letter.repeat(400), format!("{letter}\n").repeat(3_000));
        let link = format!("https://lms.example/?{}", "&".repeat(390));
        let put_long = |number| put(number, &[("title", &title), ("text", &text), ("link", &link)]);
        for count in [1, 5, 49, 500] {
            let batch: Vec<Change> = (0..count).map(put_long).collect();
            for (service, _) in SERVICES {
                let payload = posted(service, &json!({"digest_from": 50}), &batch).await.to_string();
                assert!(payload.len() <= 28_000, "{service}, {count} x {letter}: {} bytes", payload.len());
                let is_list = payload.contains("learning records");
                match count {
                    1 => assert!(!is_list, "{service}: one message is never a list"),
                    5 => {}
                    _ => assert!(is_list, "{service}: {count} long messages fit only as a list"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_receipt_names_the_message_or_else_the_change() {
    let fake = Fake::start().await;
    let google = fake.connector("google_chat").deliver(&three()).await;
    for receipt in google.into_iter().map(|outcome| outcome.expect("it was taken")) {
        assert_eq!((receipt.row.as_str(), receipt.status), ("spaces/AAAAspace01/messages/m1", 200));
        assert!(!receipt.words.contains("Ada"), "the answer repeats a name, the receipt does not: {}", receipt.words);
    }
    for (service, status, words) in [("slack", 200, "ok"), ("teams", 202, "")] {
        let connector = fake.connector(service);
        let receipt = deliver_one(&*connector, one()).await.expect("it was taken");
        assert_eq!(receipt.row, "learnsync:acme:certificate/1:5eed");
        assert_eq!((receipt.status, receipt.words.as_str()), (status, words));
    }
}
