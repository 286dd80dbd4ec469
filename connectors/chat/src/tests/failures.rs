//! What each answer of each service means, and what is said about it.

use std::time::Duration;

use chrono::DateTime;
use learnsync_sdk::{Action, DeliveryError, ErrorKind, RetryAfter};
use serde_json::json;

use super::fake::{Fake, Fault, SECRETS, SERVICES, connector_at};
use super::{deliver_one, put};

const ALL: &[&str] = &["google_chat", "slack", "teams"];
const GOOGLE: &[&str] = &["google_chat"];
const SLACK: &[&str] = &["slack"];
const TEAMS: &[&str] = &["teams"];

async fn refused(service: &str, fault: Fault) -> DeliveryError {
    let fake = Fake::start().await;
    fake.fail(fault);
    let connector = fake.connector(service);
    let error = deliver_one(&*connector, put(1, &[("title", "Ada")])).await.expect_err("it was not taken");
    assert_eq!(fake.held().posts.len(), 1, "a failed post is not repeated");
    error
}

#[tokio::test]
async fn each_answer_has_its_kind() {
    use ErrorKind::{Ambiguous, Rejected, Throttled, Unauthorized, Unavailable};
    let google = |code: u16, status: &str, reason: &str| {
        let details = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}]);
        json!({"error": {"code": code, "message": "no", "status": status, "details": details}}).to_string()
    };
    let flow = |code: &str| json!({"error": {"code": code, "message": "no"}}).to_string();
    let old = |status: &str| {
        format!(
            "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {status} with ContextId x"
        )
    };
    let text = str::to_owned;
    let rows: Vec<(&[&str], u16, String, ErrorKind)> = vec![
        (ALL, 301, text("moved"), Unauthorized),
        (ALL, 400, text("the payload is wrong"), Rejected),
        (ALL, 401, text("who are you"), Unauthorized),
        (ALL, 403, text("no"), Unauthorized),
        (ALL, 404, text("gone"), Unauthorized),
        (ALL, 405, text("only GET"), Unauthorized),
        (ALL, 408, text("too slow"), Ambiguous),
        (ALL, 410, text("gone for good"), Unauthorized),
        (ALL, 413, text("too large"), Rejected),
        (ALL, 422, text("no"), Rejected),
        (ALL, 429, text("slow down"), Throttled(RetryAfter::Unsaid)),
        (ALL, 500, text("oops"), Ambiguous),
        (ALL, 502, text("oops"), Ambiguous),
        (ALL, 503, text("later"), Unavailable),
        (ALL, 504, text("oops"), Ambiguous),
        // Somebody else answers for the service.
        (ALL, 200, text("<html>please log in</html>"), Ambiguous),
        (GOOGLE, 200, text("{\"name\""), Ambiguous),
        (GOOGLE, 400, google(400, "INVALID_ARGUMENT", "FIELD"), Rejected),
        (GOOGLE, 400, google(400, "INVALID_ARGUMENT", "API_KEY_INVALID"), Unauthorized),
        (GOOGLE, 403, google(403, "PERMISSION_DENIED", ""), Unauthorized),
        (GOOGLE, 403, google(403, "RESOURCE_EXHAUSTED", ""), Throttled(RetryAfter::Unsaid)),
        (GOOGLE, 404, google(404, "NOT_FOUND", ""), Unauthorized),
        (SLACK, 200, text(""), Ambiguous),
        (SLACK, 200, text("{\"ok\":false,\"error\":\"channel_not_found\"}"), Unauthorized),
        (SLACK, 200, text("{\"ok\":false,\"error\":\"ratelimited\"}"), Throttled(RetryAfter::Unsaid)),
        (SLACK, 400, text("invalid_payload"), Rejected),
        (SLACK, 400, text("no_text"), Rejected),
        (SLACK, 400, text("posting_to_general_channel_denied"), Unauthorized),
        (SLACK, 403, text("action_prohibited"), Unauthorized),
        (SLACK, 403, text("invalid_token"), Unauthorized),
        (SLACK, 404, text("channel_not_found"), Unauthorized),
        (SLACK, 404, text("no_service"), Unauthorized),
        (SLACK, 410, text("channel_is_archived"), Unauthorized),
        (SLACK, 500, text("rollup_error"), Ambiguous),
        (TEAMS, 400, flow("InvalidRequestContent"), Rejected),
        (TEAMS, 400, flow("WorkflowTriggerIsNotEnabled"), Unauthorized),
        (TEAMS, 401, flow("DirectApiAuthorizationRequired"), Unauthorized),
        (TEAMS, 404, flow("WorkflowNotFound"), Unauthorized),
        (TEAMS, 200, old("429"), Throttled(RetryAfter::Unsaid)),
        (TEAMS, 200, old("403"), Unauthorized),
        (TEAMS, 200, old("413"), Rejected),
        (TEAMS, 200, old("500"), Ambiguous),
        (TEAMS, 200, old("?"), Ambiguous),
    ];
    for (services, status, body, kind) in rows {
        for service in services {
            let error = refused(service, Fault::Answer(status, Vec::new(), body.clone())).await;
            assert_eq!(error.kind, kind, "{service} {status} {body}");
            assert_eq!(error.status, Some(status));
            assert_eq!(error.message.contains("as the secret \"url\""), kind == Unauthorized, "{}", error.message);
            assert!(error.message.contains(&format!("(HTTP {status})")), "{}", error.message);
        }
    }
}

#[tokio::test]
async fn teams_takes_a_message_with_202_or_with_the_words_of_the_retired_connectors() {
    for (status, body) in [(202, ""), (202, "queued"), (200, ""), (200, "1"), (200, "{\"ok\":true}")] {
        let fake = Fake::start().await;
        fake.fail(Fault::Answer(status, Vec::new(), body.to_owned()));
        let receipt = deliver_one(&*fake.connector("teams"), put(1, &[("title", "Ada")])).await.expect("taken");
        assert_eq!((receipt.status, receipt.words.as_str()), (status, body));
    }
}

#[tokio::test]
async fn a_wait_is_passed_on_in_both_forms() {
    let instant = DateTime::from_timestamp(4_102_444_800, 0).expect("a valid instant");
    for (status, header, after) in [
        (429, "86400", RetryAfter::For(Duration::from_secs(86_400))),
        (429, "Fri, 01 Jan 2100 00:00:00 GMT", RetryAfter::Until(instant)),
        (429, "soon", RetryAfter::Unsaid),
        (503, "30", RetryAfter::For(Duration::from_secs(30))),
    ] {
        for service in ALL {
            let error = refused(service, Fault::Answer(status, vec![("retry-after", header)], String::new())).await;
            assert_eq!(error.kind, ErrorKind::Throttled(after.clone()), "{service} {status} {header}");
        }
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_an_unreachable_service_is_unavailable() {
    for service in ALL {
        assert_eq!(refused(service, Fault::LoseAnswer).await.kind, ErrorKind::Ambiguous);
        let error = refused(service, Fault::BreakOff(200)).await;
        assert_eq!((error.kind, error.status), (ErrorKind::Ambiguous, Some(200)), "nobody knows what it said");
        // A refusal is one, even without its words.
        assert_eq!(refused(service, Fault::BreakOff(403)).await.kind, ErrorKind::Unauthorized);
        let error = unreachable(service).await;
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    }
}

/// A port that is bound, and nobody listens.
async fn unreachable(service: &str) -> DeliveryError {
    let socket = tokio::net::TcpSocket::new_v4().expect("loopback has sockets");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("loopback has a free port");
    let base = format!("http://{}", socket.local_addr().expect("a bound socket has an address"));
    let connector = connector_at(&base, service, &json!({}));
    deliver_one(&*connector, put(1, &[("title", "Ada")])).await.expect_err("nobody listens")
}

#[tokio::test]
async fn no_message_holds_the_secret_of_the_url() {
    for (service, _) in SERVICES {
        let mut said = vec![unreachable(service).await, refused(service, Fault::LoseAnswer).await];
        said.push(refused(service, Fault::BreakOff(200)).await);
        for status in [200, 302, 400, 403, 404, 429, 500, 503] {
            let error = refused(service, Fault::Echo(status)).await;
            assert!(error.message.contains("[...]"), "it shows that something is missing: {error}");
            said.push(error);
        }
        for error in said {
            let text = format!("{error:?}");
            for secret in SECRETS.iter().chain(&["t0ken_s3cret%3D", "s3cret"]) {
                assert!(!text.contains(secret), "{service}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn long_words_of_the_service_are_shortened_and_the_advice_stays() {
    for service in ALL {
        let error = refused(service, Fault::Answer(403, Vec::new(), "lång \"word\" ".repeat(10_000))).await;
        assert!(error.message.chars().count() <= 512, "{}", error.message);
        assert!(error.message.ends_with("as the secret \"url\""), "{}", error.message);
    }
}

#[tokio::test]
async fn what_cannot_be_told_is_refused_alone_and_its_neighbours_are_told() {
    let fake = Fake::start().await;
    let mut withdrawal = put(3, &[]);
    withdrawal.action = Action::Withdraw { row: "spaces/A/messages/1".to_owned() };
    let mut elsewhere = put(4, &[("title", "x")]);
    elsewhere.object = "card".to_owned();
    let batch = [
        put(1, &[("title", "Ada")]),
        put(2, &[("text", "no title")]),
        withdrawal,
        elsewhere,
        put(5, &[("title", "Alan"), ("link", "javascript:alert(1)")]),
        put(6, &[("title", "Grace")]),
    ];
    let outcomes = fake.connector("slack").deliver(&batch).await;
    let kinds: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().map_err(|error| &error.kind).err()).collect();
    let refused = Some(&ErrorKind::Rejected);
    assert_eq!(kinds, [None, refused, refused, refused, refused, None]);
    assert_eq!(fake.held().posts[0]["text"], "Ada\nGrace");
    assert_eq!(fake.connector("slack").deliver(&batch[1..5]).await.len(), 4);
    assert_eq!(fake.held().posts.len(), 1, "nothing is left to tell");
}

#[tokio::test]
async fn all_changes_of_a_message_share_its_failure() {
    let fake = Fake::start().await;
    fake.fail(Fault::Answer(429, vec![("retry-after", "7")], String::new()));
    let batch: Vec<_> = (0..5).map(|number| put(number, &[("title", "Ada")])).collect();
    let outcomes = fake.connector("google_chat").deliver(&batch).await;
    let wanted = ErrorKind::Throttled(RetryAfter::For(Duration::from_secs(7)));
    assert_eq!(outcomes.len(), 5);
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|error| error.kind == wanted)), "{outcomes:?}");
}
