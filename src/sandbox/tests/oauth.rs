//! The portal's OAuth: codes, access tokens, refresh tokens, and how they live beside the token of a login.

use super::*;

const REDIRECT: &str = "https://learnsync.example/oauth/done";

/// Asks at the front door, and does not follow where it sends.
async fn authorize(world: &World, changes: &[(&str, &str)]) -> Response {
    let client = world.portal().oauth_client_id();
    let mut query = BTreeMap::from([
        ("client_id", client.as_str()),
        ("redirect_uri", REDIRECT),
        ("response_type", "code"),
        ("scope", "admin.v1"),
        ("state", "s1"),
    ]);
    query.extend(changes.iter().copied());
    let http = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let url = format!("{}/oauth/authorize", world.portal().url());
    http.get(url).query(&query).send().await.expect("the portal answers")
}

fn location(answer: &Response) -> String {
    assert_eq!(answer.status(), 302);
    answer.headers()["location"].to_str().expect("text").to_owned()
}

async fn code(world: &World) -> String {
    let location = location(&authorize(world, &[]).await);
    let (code, state) = location.split_once("?code=").and_then(|(_, rest)| rest.split_once('&')).expect("a code");
    assert_eq!(state, "state=s1");
    code.to_owned()
}

async fn token(world: &World, fields: &[(&str, &str)]) -> (u16, Value) {
    let (client, secret) = (world.portal().oauth_client_id(), world.portal().oauth_client_secret());
    let mut form = BTreeMap::from([("client_id", client.as_str()), ("client_secret", secret.as_str())]);
    form.extend(fields.iter().copied());
    let url = format!("{}/oauth/token", world.portal().url());
    let answer = world.http.post(url).form(&form).send().await.expect("the portal answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn with_code(world: &World) -> Value {
    let code = code(world).await;
    let fields = [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", REDIRECT)];
    let (status, body) = token(world, &fields).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn status(world: &World, token: &str) -> u16 {
    world.read_with(&format!("Bearer {token}"), "/users?_limit=1").await.expect("answer").status().as_u16()
}

fn text(body: &Value, field: &str) -> String {
    body[field].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn a_code_becomes_a_token_that_no_login_kills_and_that_lives_for_four_hours() {
    let world = World::small().await;
    let body = with_code(&world).await;
    assert_eq!((&body["expires_in"], &body["token_type"]), (&json!(14_400), &json!("Bearer")));
    let access = text(&body, "access_token");
    let login = world.log_in().await;
    assert_eq!((status(&world, &access).await, status(&world, &login).await), (200, 200));
    world.portal().advance(14_399);
    assert_eq!(status(&world, &access).await, 200);
    world.portal().advance(1);
    assert_eq!(status(&world, &access).await, 401);
}

#[tokio::test]
async fn a_refresh_token_serves_for_a_year() {
    let world = World::small().await;
    let refresh = text(&with_code(&world).await, "refresh_token");
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    world.portal().advance(364 * 86_400);
    let (code, body) = token(&world, &fields).await;
    assert_eq!((code, status(&world, &text(&body, "access_token")).await), (200, 200));
    world.portal().advance(86_400);
    assert_eq!(token(&world, &fields).await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn a_refresh_token_that_rotates_serves_once() {
    let world = World::small().await;
    world.portal().set_quirk("refresh_rotates", "on").expect("there is such a quirk");
    let refresh = text(&with_code(&world).await, "refresh_token");
    let fields = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    let (_, body) = token(&world, &fields).await;
    assert_ne!(text(&body, "refresh_token"), refresh);
    assert_eq!(token(&world, &fields).await.0, 400);
}

#[tokio::test]
async fn what_is_wrong_about_a_grant_is_400_with_its_code() {
    let world = World::small().await;
    let used = code(&world).await;
    let good = [("grant_type", "authorization_code"), ("code", used.as_str()), ("redirect_uri", REDIRECT)];
    assert_eq!(token(&world, &good).await.0, 200);
    let fresh = code(&world).await;
    let table: [(&[(&str, &str)], &str); 5] = [
        (&good, "invalid_grant"),
        (
            &[("grant_type", "authorization_code"), ("code", &fresh), ("redirect_uri", "https://x.example/")],
            "invalid_grant",
        ),
        (&[("grant_type", "refresh_token"), ("refresh_token", "x")], "invalid_grant"),
        (&[("grant_type", "password")], "unsupported_grant_type"),
        (&[("grant_type", "refresh_token"), ("client_secret", "x")], "invalid_client"),
    ];
    for (fields, error) in table {
        let (status, body) = token(&world, fields).await;
        assert_eq!((status, &body["error"]), (400, &json!(error)), "{fields:?}");
    }
    let late = code(&world).await;
    world.portal().advance(600);
    let fields = [("grant_type", "authorization_code"), ("code", late.as_str()), ("redirect_uri", REDIRECT)];
    assert_eq!(token(&world, &fields).await.1["error"], "invalid_grant", "a code lives for ten minutes");
}

#[tokio::test]
async fn the_front_door_sends_nobody_to_a_stranger() {
    let world = World::small().await;
    assert_eq!(authorize(&world, &[("client_id", "x")]).await.status(), 400);
    for redirect in ["http://evil.example/", "ftp://x", "http://127.0.0.1.evil.example/", ""] {
        assert_eq!(authorize(&world, &[("redirect_uri", redirect)]).await.status(), 400, "{redirect}");
    }
    let local = authorize(&world, &[("redirect_uri", "http://127.0.0.1:9/x")]).await;
    assert!(location(&local).starts_with("http://127.0.0.1:9/x?code="));
    let wrong = authorize(&world, &[("scope", "admin.v2")]).await;
    assert_eq!(location(&wrong), format!("{REDIRECT}?error=invalid_scope&state=s1"));
}

#[tokio::test]
async fn a_consent_page_asks_first() {
    let world = World::small().await;
    world.portal().set_quirk("consent", "on").expect("there is such a quirk");
    let asked = authorize(&world, &[]).await;
    assert_eq!(asked.status(), 200);
    let html = asked.text().await.expect("text");
    assert!(html.contains("name=\"state\" value=\"s1\"") && html.contains("Allow"), "{html}");
    assert!(location(&authorize(&world, &[("consent", "yes")]).await).contains("?code="));
}
