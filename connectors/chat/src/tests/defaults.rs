//! What the connector says about itself, and what its default mapping makes of a record.

use learnsync_sdk::{Claim, ConnectorType, Learner, PersonMatch, Place, RecordKind, RouteMode};
use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Value as Json, json};

use super::fake::{Fake, SERVICES, connector_at};
use crate::Chat;

/// Renders a default template as the daemon does.
fn render(kind: RecordKind, field: &str, record: &Json) -> String {
    let routes = Chat.describe().default_routes;
    let route = routes.iter().find(|route| route.record == kind).expect("each kind has a route");
    let line = route.fields.iter().find(|line| line.field == field).expect("the route maps this field");
    assert_eq!(line.source.0, "template");
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_fuel(Some(50_000));
    templates
        .render_str(line.source.1, record)
        .expect("a default template renders whatever is missing")
        .trim()
        .to_owned()
}

#[test]
fn the_default_templates_say_who_earned_what() {
    let learner = json!({"id": "u1", "first_name": "Ada", "last_name": "Lovelace", "custom": {}});
    let record = json!({"title": "Fire safety", "valid_until": "2027-03-01", "learner": learner});
    let check = |kind, field, record: &Json, expected| assert_eq!(render(kind, field, record), expected);
    check(RecordKind::Certificate, "title", &record, "🎓 Ada Lovelace earned Fire safety");
    check(RecordKind::Certificate, "text", &record, "Valid until 2027-03-01");
    check(RecordKind::Completion, "title", &record, "✅ Ada Lovelace completed Fire safety");
    check(RecordKind::Competency, "title", &record, "⭐ Ada Lovelace achieved Fire safety");
}

#[test]
fn the_default_templates_do_without_what_the_lms_does_not_tell() {
    let check = |learner: Json, expected| {
        let record = json!({"title": "Fire safety", "learner": learner});
        assert_eq!(render(RecordKind::Certificate, "title", &record), expected);
        assert_eq!(render(RecordKind::Certificate, "text", &record), "");
    };
    check(json!({"id": "u1", "last_name": "Lovelace"}), "🎓 Lovelace earned Fire safety");
    check(json!({"id": "u1"}), "🎓 Somebody earned Fire safety");
}

#[test]
fn it_claims_nothing_and_all_default_routes_append() {
    let description = Chat.describe();
    assert!(Claim::ALL.iter().all(|claim| !description.claims(*claim)));
    assert_eq!(description.default_routes.len(), 3);
    let connector = connector_at("http://127.0.0.1:1", "slack", &json!({}));
    for route in &description.default_routes {
        assert_eq!(route.mode, RouteMode::Append);
        let object = connector.object(route.object).expect("the default object exists");
        for line in &route.fields {
            assert!(object.fields.iter().any(|field| field.name == line.field), "{} is no field", line.field);
        }
    }
    assert!(connector.object("card").expect_err("there is none").contains("write \"message\""));
}

#[tokio::test]
async fn what_a_webhook_cannot_do_asks_nobody() {
    let fake = Fake::start().await;
    for (service, _) in SERVICES {
        let connector = fake.connector(service);
        assert_eq!(connector.deliver(&[]).await, []);
        let found = connector.find_person(&Learner::default(), &[]).await;
        assert_eq!(found, Ok(PersonMatch::NotFound));
        let place = Place { object: "message".to_owned(), person: "u1".to_owned(), mark: "m".to_owned(), row: None };
        let observed = connector.observe(&[place.clone(), place]).await;
        assert!(observed.len() == 2 && observed.iter().all(Result::is_err), "{observed:?}");
        connector.references("training_type").await.expect_err("there is no reference data");
        connector.probe().await.expect("a probe always succeeds");
    }
    assert_eq!(fake.held().posts, [Json::Null; 0]);
}

#[tokio::test]
async fn the_identity_follows_the_space_and_not_the_secret() {
    let identity = async |service: &str, url: &str| {
        connector_at("http://127.0.0.1:1", service, &json!({"url": url}))
            .probe()
            .await
            .expect("it asks nobody")
            .identity
    };
    let google = identity("google_chat", "https://chat.googleapis.com/v1/spaces/AAAA/messages?key=k&token=t").await;
    assert_eq!(google, "google_chat spaces/AAAA");
    for (service, url, other_secret, other_place) in [
        (
            "google_chat",
            "http://127.0.0.1/relay?key=k",
            "http://127.0.0.1/relay?key=l",
            "http://127.0.0.1/relay2?key=k",
        ),
        (
            "slack",
            "https://hooks.slack.com/services/T1/B1/one",
            "https://hooks.slack.com/services/T1/B2/two",
            "https://hooks.slack.com/services/T2/B1/one",
        ),
        (
            "teams",
            "https://t.example/workflows/1?sig=a",
            "https://t.example/workflows/1?sig=b",
            "https://t.example/workflows/2?sig=a",
        ),
    ] {
        let here = identity(service, url).await;
        assert_eq!(here, identity(service, other_secret).await);
        assert_ne!(here, identity(service, other_place).await);
        assert!(!here.contains("one") && !here.contains("sig"), "{here}");
    }
}
