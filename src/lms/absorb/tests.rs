//! The client against a portal on the loopback interface.

mod conformance;
mod hour;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use learnsync_sdk::RetryAfter;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;
use crate::domain::chance::Generator;
use crate::domain::lane::LmsUse;
use crate::domain::record::{Course, Record};
use crate::domain::time::{LmsTime, Timestamp};

const USER: &str = "a14c149a-2ce0-41d4-b532-02189ad3cb22";
const COURSE: &str = "3765aaaa-2ce0-41d4-b532-02189ad3cb22";
const KEY: &str = "0b5e0b5e-0000-4000-8000-00000000000a";
const ENROLMENTS: &str = "/users/a14c149a-2ce0-41d4-b532-02189ad3cb22/enrollments";
const CERTIFICATES: &str = "/users/a14c149a-2ce0-41d4-b532-02189ad3cb22/certificates";
const COMPETENCIES: &str = "/users/a14c149a-2ce0-41d4-b532-02189ad3cb22/competencies";

/// One request as the portal saw it.
#[derive(Clone, Debug)]
struct Call {
    path: String,
    query: String,
    authorization: String,
    api_key: String,
    api_version: String,
    body: String,
    /// How many calls of this path came before.
    earlier: usize,
}

impl Call {
    fn page(&self) -> usize {
        let offset = self.query.split('&').find_map(|pair| pair.strip_prefix("_offset="));
        offset.and_then(|offset| offset.parse().ok()).expect("lists are asked for by page")
    }
}

/// What the portal answers.
struct Reply {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    /// Breaks the connection off after the body instead of ending it.
    breaks_off: bool,
}

fn ok(body: &Value) -> Reply {
    Reply { status: 200, headers: Vec::new(), body: body.to_string(), breaks_off: false }
}

fn status(status: u16) -> Reply {
    Reply { status, headers: Vec::new(), body: String::new(), breaks_off: false }
}

type Script = Arc<dyn Fn(Call) -> BoxFuture<'static, Reply> + Send + Sync>;

/// A portal: an HTTP server on the loopback interface that answers by a script and remembers its calls.
struct Portal {
    url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Portal {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let log = Arc::clone(&calls);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("the listener lives");
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                let service = service_fn(move |request| answer(request, Arc::clone(&script), Arc::clone(&log)));
                // A connection that the script breaks off ends with an error: that is its purpose.
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, calls, server }
    }

    fn calls_of(&self, path: &str) -> Vec<Call> {
        let calls = self.calls.lock().expect("no test panics with it");
        calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    fn logins(&self) -> usize {
        self.calls_of("/authenticate").len()
    }
}

async fn answer(
    request: Request<Incoming>,
    script: Script,
    log: Arc<Mutex<Vec<Call>>>,
) -> Result<Response<BoxBody<Bytes, std::io::Error>>, Infallible> {
    let (head, body) = request.into_parts();
    let header =
        |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut call = Call {
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        authorization: header("authorization"),
        api_key: header("x-api-key"),
        api_version: header("x-api-version"),
        body: String::from_utf8_lossy(&body.collect().await.map(|body| body.to_bytes()).unwrap_or_default())
            .into_owned(),
        earlier: 0,
    };
    {
        let mut calls = log.lock().expect("no test panics with it");
        call.earlier = calls.iter().filter(|earlier| earlier.path == call.path).count();
        calls.push(call.clone());
    }
    let reply = script(call).await;
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let body = if reply.breaks_off {
        let frames = [Ok(Frame::data(Bytes::from(reply.body))), Err(std::io::Error::other("the script breaks off"))];
        StreamBody::new(stream::iter(frames)).boxed()
    } else {
        Full::new(Bytes::from(reply.body)).map_err(|never| match never {}).boxed()
    };
    Ok(response.body(body).expect("the script's headers are valid"))
}

struct HandClock(AtomicI64);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

impl HandClock {
    fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

/// A vault in memory that allows so many logins.
struct Vault {
    token: Mutex<Option<StoredToken>>,
    logins_left: AtomicUsize,
}

#[async_trait]
impl TokenVault for Vault {
    async fn load(&self) -> Option<StoredToken> {
        self.token.lock().expect("no test panics with it").clone()
    }

    async fn save(&self, token: Option<StoredToken>) {
        *self.token.lock().expect("no test panics with it") = token;
    }

    async fn reserve_login(&self) -> Result<(), String> {
        let one_less = |left: usize| left.checked_sub(1);
        let reserved = self.logins_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        reserved.map(|_| ()).map_err(|_| "4 logins in the last hour are used up".to_owned())
    }
}

impl Vault {
    fn token(&self) -> Option<String> {
        self.token.lock().expect("no test panics with it").as_ref().map(|held| held.token.clone())
    }

    fn logins_left(&self) -> usize {
        self.logins_left.load(Ordering::SeqCst)
    }
}

/// A portal, and our client with a token `old` that is a second old.
struct World {
    portal: Portal,
    absorb: Absorb,
    clock: Arc<HandClock>,
    vault: Arc<Vault>,
}

impl World {
    async fn new<F>(script: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let portal = Portal::start(Arc::new(move |call| script(call).boxed())).await;
        let clock = Arc::new(HandClock(AtomicI64::new(1_800_000_000_000)));
        let held = StoredToken { token: "old".to_owned(), obtained_at: clock.now().plus_ms(-1000) };
        let vault = Arc::new(Vault { token: Mutex::new(Some(held)), logins_left: AtomicUsize::new(4) });
        let absorb = absorb(&portal.url, &vault, &clock);
        Self { portal, absorb, clock, vault }
    }

    /// The client as after a restart of the daemon.
    fn restart(&mut self) {
        self.absorb = absorb(&self.portal.url, &self.vault, &self.clock);
    }
}

fn absorb(url: &str, vault: &Arc<Vault>, clock: &Arc<HandClock>) -> Absorb {
    let settings = AbsorbSettings {
        portal: "main".to_owned(),
        url: format!("{url}/"),
        api_key: KEY.to_owned(),
        credentials: Credentials::Password { username: "robot".to_owned(), password: "open sesame".to_owned() },
        certificates_path: "/users/{user}/certificates".to_owned(),
        competencies_path: "/users/{user}/competencies".to_owned(),
        learning_paths_path: None,
        kinds: Default::default(),
        calls_per_second_max: 100_000,
        calls_at_once_max: 8,
    };
    let pauses = Pauses { first: Duration::from_millis(1), ..Pauses::default() };
    let vault: Arc<dyn TokenVault> = Arc::<Vault>::clone(vault);
    let clock: Arc<dyn Clock> = Arc::<HandClock>::clone(clock);
    Absorb::with_pauses(settings, http(), vault, clock, Arc::new(Generator::seeded(7)), pauses)
}

fn http() -> reqwest::Client {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build().expect("the settings are fixed")
}

fn person() -> Reply {
    ok(&json!({"id": USER, "firstName": "Ada", "activeStatus": 0}))
}

fn list(name: &str, rows: &[Value]) -> Value {
    json!({"totalItems": rows.len(), "returnedItems": rows.len(), "limit": 1000, "offset": 0, name: rows})
}

fn enrolment(id: usize) -> Value {
    json!({
        "id": format!("e{id}"), "userId": USER, "courseId": COURSE, "courseName": "Fire", "status": 3,
        "dateCompleted": "2026-08-24T04:30:00", "timeSpent": "00:30:00", "score": 90.0,
    })
}

/// Answers the course, and empty certificates and competencies; the script only has to speak of the rest.
fn rest(call: &Call) -> Reply {
    match call.path.as_str() {
        CERTIFICATES => ok(&list("certificates", &[])),
        COMPETENCIES => ok(&list("competencies", &[])),
        path if path.starts_with("/courses/") => ok(&json!({"id": COURSE, "name": "Fire Safety", "externalId": "X1"})),
        _ => status(404),
    }
}

fn keys(found: &ReadRecords) -> Vec<String> {
    found.records.iter().map(Record::key).collect()
}

/// What is read of every learner of every portal that has certificates.
const READ: [RecordKind; 3] = [RecordKind::Completion, RecordKind::Certificate, RecordKind::CreditAward];

fn kinds(kinds: &[RecordKind]) -> BTreeSet<RecordKind> {
    kinds.iter().copied().collect()
}

#[tokio::test]
async fn every_call_carries_the_key_the_version_and_the_bearer_token() {
    let world = World::new(|_| async { person() }).await;
    let learner = world.absorb.learner(&USER.to_uppercase()).await.expect("it answers").expect("it exists");
    let learner = learner.learner;
    assert_eq!((learner.id.as_str(), learner.first_name.as_deref(), learner.is_active), (USER, Some("Ada"), true));
    let calls = world.portal.calls_of(&format!("/users/{USER}"));
    let call = calls.first().expect("it was called");
    assert_eq!(
        (call.authorization.as_str(), call.api_key.as_str(), call.api_version.as_str()),
        ("Bearer old", KEY, "2")
    );
    assert_eq!(world.portal.logins(), 0, "the stored token outlives a restart");
}

#[tokio::test]
async fn the_login_sends_the_account_and_its_token_is_kept_in_the_vault() {
    let mut world =
        World::new(|call| async move { if call.path == "/authenticate" { ok(&json!("new")) } else { person() } }).await;
    world.vault.save(None).await;
    assert!(world.absorb.learner(USER).await.is_ok());
    let calls = world.portal.calls_of("/authenticate");
    let body: Value = serde_json::from_str(&calls[0].body).expect("it is JSON");
    assert_eq!(body, json!({"username": "robot", "password": "open sesame", "privateKey": KEY}));
    assert_eq!((calls[0].api_key.as_str(), calls[0].authorization.as_str()), (KEY, ""));
    assert_eq!(world.vault.token().as_deref(), Some("new"));
    world.restart();
    assert!(world.absorb.learner(USER).await.is_ok());
    assert_eq!(world.portal.logins(), 1);
}

#[tokio::test]
async fn a_single_401_is_asked_again_with_the_same_token_and_makes_no_login() {
    let world = World::new(|call| async move { if call.earlier == 0 { status(401) } else { person() } }).await;
    assert!(world.absorb.learner(USER).await.is_ok_and(|learner| learner.is_some()));
    let calls = world.portal.calls_of(&format!("/users/{USER}"));
    assert_eq!(calls.iter().map(|call| call.authorization.as_str()).collect::<Vec<_>>(), ["Bearer old", "Bearer old"]);
    assert_eq!(world.portal.logins(), 0);
}

#[tokio::test]
async fn a_token_that_another_login_killed_is_replaced_by_one_login_for_all_callers() {
    let (refusals, _) = watch::channel(0);
    let refusals = Arc::new(refusals);
    let world = World::new(move |call| {
        let refusals = Arc::clone(&refusals);
        async move {
            if call.path == "/authenticate" {
                // The login is answered only when all eight callers have lost the old token.
                let mut seen = refusals.subscribe();
                seen.wait_for(|refusals| *refusals == 16).await.expect("the script lives");
                return ok(&json!(format!("new{}", call.earlier)));
            }
            if call.authorization == "Bearer new0" {
                return person();
            }
            refusals.send_modify(|refusals| *refusals += 1);
            status(401)
        }
    })
    .await;
    let answers = futures::future::join_all((0..8).map(|_| world.absorb.learner(USER))).await;
    for answer in answers {
        assert!(answer.is_ok_and(|learner| learner.is_some()));
    }
    assert_eq!(world.portal.logins(), 1);
    assert_eq!(world.vault.logins_left(), 3);
}

#[tokio::test]
async fn a_token_that_is_refused_right_after_the_login_is_unauthorized_and_not_logged_in_for_again() {
    let world =
        World::new(|call| async move { if call.path == "/authenticate" { ok(&json!("new")) } else { status(401) } })
            .await;
    for _ in 0..3 {
        assert!(matches!(world.absorb.learner(USER).await, Err(LmsError::Unauthorized(_))));
    }
    assert_eq!(world.portal.logins(), 1);
}

#[tokio::test]
async fn a_refused_login_is_not_tried_again_within_a_minute() {
    let world = World::new(|call| async move {
        if call.path == "/authenticate" {
            return Reply { status: 401, ..ok(&json!({"code": 401, "message": "Invalid credentials"})) };
        }
        status(401)
    })
    .await;
    for _ in 0..3 {
        let error = world.absorb.learner(USER).await.expect_err("it is refused");
        assert!(matches!(&error, LmsError::Unauthorized(words) if words.contains("Invalid credentials")), "{error}");
    }
    assert_eq!(world.portal.logins(), 1);
    assert_eq!(world.vault.token(), None);
    world.clock.advance(59);
    assert!(world.absorb.learner(USER).await.is_err());
    assert_eq!(world.portal.logins(), 1);
    world.clock.advance(1);
    assert!(world.absorb.learner(USER).await.is_err());
    assert_eq!(world.portal.logins(), 2);
}

#[tokio::test]
async fn a_refusal_that_repeats_the_password_is_not_repeated_by_us() {
    let world = World::new(|_| async { Reply { status: 400, ..ok(&json!({"message": "bad: open sesame"})) } }).await;
    world.vault.save(None).await;
    let error = world.absorb.learner(USER).await.expect_err("it is refused").to_string();
    assert!(error.contains("withheld") && !error.contains("sesame"), "{error}");
}

#[tokio::test]
async fn beyond_the_login_limit_none_is_tried_and_the_error_says_so() {
    let world = World::new(|call| async move {
        match call.path.as_str() {
            "/authenticate" => ok(&json!(format!("new{}", call.earlier))),
            _ => status(401),
        }
    })
    .await;
    world.vault.logins_left.store(0, Ordering::SeqCst);
    let error = world.absorb.learner(USER).await.expect_err("no login is left");
    assert_eq!(error, LmsError::LoginLimit("4 logins in the last hour are used up".to_owned()));
    assert_eq!(world.portal.logins(), 0);
}

#[tokio::test]
async fn an_outage_of_the_login_does_not_eat_the_login_limit() {
    let world = World::new(|call| async move {
        match (call.path.as_str(), call.earlier) {
            ("/authenticate", 0..6) => status(503),
            ("/authenticate", _) => ok(&json!("new")),
            _ => person(),
        }
    })
    .await;
    world.vault.save(None).await;
    for _ in 0..6 {
        assert!(matches!(world.absorb.learner(USER).await, Err(LmsError::Unavailable(_))));
        world.clock.advance(5);
    }
    assert!(world.absorb.learner(USER).await.is_ok());
    assert_eq!(world.portal.logins(), 7);
    assert_eq!(world.vault.logins_left(), 3);
}

#[tokio::test]
async fn a_token_is_renewed_at_seventy_percent_of_its_life_and_carries_us_over_a_login_that_fails() {
    let world = World::new(|call| async move {
        match (call.path.as_str(), call.earlier) {
            ("/authenticate", 0) => status(500),
            ("/authenticate", _) => ok(&json!("new")),
            _ => person(),
        }
    })
    .await;
    // The token was a second old at the start; it is renewed after 10,080 s.
    world.clock.advance(10_078);
    assert!(world.absorb.learner(USER).await.is_ok());
    assert_eq!(world.portal.logins(), 0);
    world.clock.advance(1);
    assert!(world.absorb.learner(USER).await.is_ok());
    assert_eq!((world.portal.logins(), world.vault.token().as_deref()), (1, Some("old")));
    world.clock.advance(5);
    assert!(world.absorb.learner(USER).await.is_ok());
    assert_eq!((world.portal.logins(), world.vault.token().as_deref()), (2, Some("new")));
    let tokens: Vec<_> =
        world.portal.calls_of(&format!("/users/{USER}")).into_iter().map(|call| call.authorization).collect();
    assert_eq!(tokens, ["Bearer old", "Bearer old", "Bearer new"]);
}

#[tokio::test]
async fn both_forms_of_retry_after_are_read_and_nothing_is_retried() {
    let date = chrono::DateTime::from_timestamp(784_111_777, 0).expect("a valid instant");
    let table = [
        (429, Some("120"), RetryAfter::For(Duration::from_secs(120))),
        (429, Some("Sun, 06 Nov 1994 08:49:37 GMT"), RetryAfter::Until(date)),
        (429, None, RetryAfter::Unsaid),
        (503, Some("7"), RetryAfter::For(Duration::from_secs(7))),
    ];
    for (code, header, expected) in table {
        let headers: Vec<_> = header.map(|value| ("retry-after", value)).into_iter().collect();
        let world = World::new(move |_| {
            let headers = headers.clone();
            async move { Reply { headers, ..status(code) } }
        })
        .await;
        assert_eq!(world.absorb.learner(USER).await, Err(LmsError::Throttled(expected)));
        assert_eq!(world.portal.calls_of(&format!("/users/{USER}")).len(), 1);
    }
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_and_a_lasting_one_three_times() {
    for code in [500, 502, 503, 504] {
        let world = World::new(move |call| async move { if call.earlier < 2 { status(code) } else { person() } }).await;
        assert!(world.absorb.learner(USER).await.is_ok_and(|learner| learner.is_some()), "{code}");
    }
    let world = World::new(|_| async { Reply { status: 502, ..ok(&json!("the gateway is tired")) } }).await;
    let error = world.absorb.learner(USER).await.expect_err("it never answers");
    assert!(matches!(&error, LmsError::Unavailable(words) if words.contains("the gateway is tired")), "{error}");
    assert_eq!(world.portal.calls_of(&format!("/users/{USER}")).len(), 3);
}

#[tokio::test]
async fn the_vendors_words_about_a_refusal_are_kept_with_the_path() {
    let body =
        json!({"code": 422, "message": "Bad", "term": "ErrorGeneric", "validations": ["No such field"], "_meta": {}});
    let world = World::new(move |_| {
        let reply = Reply { status: 422, ..ok(&body) };
        async move { reply }
    })
    .await;
    for error in [
        world.absorb.learner(USER).await.expect_err("it is refused"),
        world.absorb.records(USER).await.expect_err("it is refused"),
    ] {
        let LmsError::Misunderstood(words) = error else { panic!("{error}") };
        for part in ["/users/a14c149a", "Bad", "No such field", "ErrorGeneric", "422"] {
            assert!(words.contains(part), "{part} is not in {words}");
        }
    }
}

#[tokio::test]
async fn a_404_is_no_learner_and_a_403_is_forbidden() {
    let world = World::new(|_| async { status(404) }).await;
    assert_eq!(world.absorb.learner(USER).await, Ok(None));
    assert_eq!(world.absorb.records(USER).await, Ok(ReadRecords::default()));
    let world = World::new(|_| async { status(403) }).await;
    assert!(matches!(world.absorb.learner(USER).await, Err(LmsError::Forbidden(_))));
    assert!(matches!(world.absorb.records(USER).await, Err(LmsError::Forbidden(_))));
}

#[tokio::test]
async fn an_id_cannot_leave_its_place_in_the_path() {
    let world = World::new(|_| async { status(404) }).await;
    for id in ["", ".", ".."] {
        assert!(matches!(world.absorb.learner(id).await, Err(LmsError::Misunderstood(_))), "{id:?}");
    }
    assert_eq!(world.absorb.learner("../courses?x=1#y").await, Ok(None));
    assert_eq!(world.portal.calls_of("/users/%2E%2E%2Fcourses%3Fx%3D1%23y").len(), 1);
}

#[tokio::test]
async fn a_learners_completions_certificates_and_competencies_are_read_with_their_courses() {
    let world = World::new(|call| async move {
        match call.path.as_str() {
            ENROLMENTS => {
                let running = json!({"id": "e2", "status": 1, "courseId": COURSE});
                ok(&list("enrollments", &[enrolment(1), running]))
            }
            CERTIFICATES => ok(&json!([{
                "id": "c1", "enrollmentId": "e1", "courseName": "Fire", "acquiredDate": "2026-08-24T00:00:00",
                "expiryDate": "2028-08-24T00:00:00", "notes": "two years",
            }])),
            COMPETENCIES => ok(&list("competencies", &[json!({"competencyId": "k1", "competencyName": "Warden"})])),
            _ => rest(&call),
        }
    })
    .await;
    let found = world.absorb.records(USER).await.expect("it answers");
    assert_eq!(keys(&found), ["certificate/c1", "competency/k1", "completion/e1"]);
    assert_eq!(found.complete, kinds(&[&READ, &[RecordKind::Competency][..]].concat()));
    let date = |text: &str| Some(LmsTime::Date(text.parse().expect("a valid date")));
    let [certificate, competency, completion] = found.records.as_slice() else { panic!("{found:?}") };
    assert_eq!((certificate.achieved, certificate.valid_until), (date("2026-08-24"), date("2028-08-24")));
    let course = Course { id: COURSE.to_owned(), name: "Fire Safety".to_owned(), external_id: Some("X1".to_owned()) };
    assert_eq!(certificate.course.as_ref(), Some(&course));
    assert_eq!(completion.course.as_ref(), Some(&course));
    assert_eq!((completion.score, completion.minutes), (Some(90.0), Some(30.0)));
    assert_eq!(completion.achieved, Some(LmsTime::Instant(Timestamp(1_787_545_800_000))));
    assert_eq!((competency.title.as_str(), &competency.course), ("Warden", &None));
    assert_eq!(world.portal.calls_of(&format!("/courses/{COURSE}")).len(), 1);
}

#[tokio::test]
async fn a_feature_that_is_off_leaves_its_kind_out_of_the_complete_ones() {
    for code in [403, 404] {
        let world = World::new(move |call| async move {
            match call.path.as_str() {
                ENROLMENTS => ok(&list("enrollments", &[enrolment(1)])),
                COMPETENCIES => status(code),
                _ => rest(&call),
            }
        })
        .await;
        let found = world.absorb.records(USER).await.expect("it answers");
        assert_eq!(found.complete, kinds(&READ), "{code}");
        assert_eq!(keys(&found), ["completion/e1"], "{code}");
    }
}

#[tokio::test]
async fn a_course_that_the_catalogue_does_not_show_keeps_the_name_of_the_enrolment() {
    for code in [403, 404] {
        let world = World::new(move |call| async move {
            match call.path.as_str() {
                ENROLMENTS => ok(&list("enrollments", &[enrolment(1)])),
                path if path.starts_with("/courses/") => status(code),
                _ => rest(&call),
            }
        })
        .await;
        let found = world.absorb.records(USER).await.expect("it answers");
        let course = Course { id: COURSE.to_owned(), name: "Fire".to_owned(), external_id: None };
        assert_eq!(found.records[0].course.as_ref(), Some(&course), "{code}");
    }
}

#[tokio::test]
async fn a_course_that_cannot_be_read_fails_the_whole_read() {
    let world = World::new(|call| async move {
        match call.path.as_str() {
            ENROLMENTS => ok(&list("enrollments", &[enrolment(1)])),
            path if path.starts_with("/courses/") => status(500),
            _ => rest(&call),
        }
    })
    .await;
    assert!(matches!(world.absorb.records(USER).await, Err(LmsError::Unavailable(_))));
}

#[tokio::test]
async fn a_list_of_several_pages_is_read_by_page_number() {
    let world = World::new(|call| async move {
        if call.path != ENROLMENTS {
            return rest(&call);
        }
        assert!(call.query.contains("_limit=1000") && call.query.contains("_sort=id"), "{}", call.query);
        let rows: Vec<Value> = (0..2500).map(enrolment).collect();
        let page = rows.chunks(1000).nth(call.page()).unwrap_or_default();
        ok(&json!({"totalItems": 2500, "returnedItems": page.len(), "enrollments": page}))
    })
    .await;
    let found = world.absorb.records(USER).await.expect("it answers");
    assert_eq!(found.records.len(), 2500);
    assert_eq!(world.portal.calls_of(ENROLMENTS).iter().map(Call::page).collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test]
async fn a_list_that_the_portal_will_not_sort_is_read_as_it_comes() {
    let world = World::new(|call| async move {
        match call.path.as_str() {
            ENROLMENTS if call.query.contains("_sort") => status(422),
            ENROLMENTS => ok(&list("enrollments", &[enrolment(1)])),
            _ => rest(&call),
        }
    })
    .await;
    for _ in 0..2 {
        assert_eq!(world.absorb.records(USER).await.map(|found| keys(&found)), Ok(vec!["completion/e1".to_owned()]));
    }
    let sorted = world.portal.calls_of(ENROLMENTS).iter().filter(|call| call.query.contains("_sort")).count();
    assert_eq!((sorted, world.portal.calls_of(ENROLMENTS).len()), (1, 3));
}

#[tokio::test]
async fn a_short_page_is_a_partial_read_and_gives_no_records() {
    let world = World::new(|call| async move {
        match call.path.as_str() {
            ENROLMENTS => {
                ok(&json!({"totalItems": 4, "returnedItems": 2, "enrollments": [enrolment(1), enrolment(2)]}))
            }
            _ => rest(&call),
        }
    })
    .await;
    let error = world.absorb.records(USER).await.expect_err("two rows are missing");
    assert!(matches!(&error, LmsError::PartialRead(words) if words.contains("2 of 4 rows")), "{error}");
    assert_eq!(world.portal.calls_of(ENROLMENTS).len(), 2);
}

#[tokio::test]
async fn half_an_answer_is_unavailable_and_gives_no_records() {
    let whole = list("enrollments", &[enrolment(1), enrolment(2)]).to_string();
    let half = whole[..whole.len() / 2].to_owned();
    for breaks_off in [true, false] {
        let half = half.clone();
        let world = World::new(move |call| {
            let half = half.clone();
            async move {
                if call.path == ENROLMENTS { Reply { body: half, breaks_off, ..status(200) } } else { rest(&call) }
            }
        })
        .await;
        assert!(matches!(world.absorb.records(USER).await, Err(LmsError::Unavailable(_))));
        assert_eq!(world.portal.calls_of(ENROLMENTS).len(), 3);
    }
}

#[tokio::test]
async fn a_total_that_changes_while_reading_starts_the_list_over_once() {
    let script = |passes_with_change: usize| {
        move |call: Call| async move {
            if call.path != ENROLMENTS {
                return rest(&call);
            }
            let is_changed = call.page() == 1 && call.earlier / 2 < passes_with_change;
            let rows: Vec<Value> = (0..1500).map(enrolment).collect();
            let page = rows.chunks(1000).nth(call.page()).unwrap_or_default();
            let total = if is_changed { 1501 } else { 1500 };
            ok(&json!({"totalItems": total, "returnedItems": page.len(), "enrollments": page}))
        }
    };
    let world = World::new(script(1)).await;
    assert_eq!(world.absorb.records(USER).await.map(|found| found.records.len()), Ok(1500));
    assert_eq!(world.portal.calls_of(ENROLMENTS).len(), 4);
    let world = World::new(script(2)).await;
    let error = world.absorb.records(USER).await.expect_err("it changes in each pass");
    assert!(matches!(&error, LmsError::PartialRead(words) if words.contains("from 1500 to 1501")), "{error}");
}

#[tokio::test]
async fn a_bare_array_is_a_whole_list() {
    let world = World::new(|call| async move {
        if call.path == ENROLMENTS { ok(&json!([enrolment(1), enrolment(2)])) } else { rest(&call) }
    })
    .await;
    assert_eq!(world.absorb.records(USER).await.map(|found| found.records.len()), Ok(2));
    assert_eq!(world.portal.calls_of(ENROLMENTS).len(), 1);
}

#[tokio::test]
async fn a_course_of_many_enrolments_is_read_once() {
    let world = World::new(|call| async move {
        if call.path == ENROLMENTS {
            let rows: Vec<Value> = (0..50).map(enrolment).collect();
            return ok(&list("enrollments", &rows));
        }
        rest(&call)
    })
    .await;
    let (first, second) = tokio::join!(world.absorb.records(USER), world.absorb.records(USER));
    assert_eq!((first.map(|found| found.records.len()), second.map(|found| found.records.len())), (Ok(50), Ok(50)));
    assert_eq!(world.portal.calls_of(&format!("/courses/{COURSE}")).len(), 1);
    world.clock.advance(3600);
    assert!(world.absorb.records(USER).await.is_ok());
    assert_eq!(world.portal.calls_of(&format!("/courses/{COURSE}")).len(), 2);
}

#[tokio::test]
async fn the_pages_of_learner_ids_add_up_to_the_total() {
    let world = World::new(|call| async move {
        let ids: Vec<Value> = (0..240).map(|id| json!({"id": format!("u{id:04}")})).collect();
        let page = ids.chunks(200).nth(call.page()).unwrap_or_default();
        ok(&json!({"totalItems": 240, "returnedItems": page.len(), "users": page}))
    })
    .await;
    let first = world.absorb.learner_ids(0).await.expect("it answers");
    assert_eq!((first.ids.len(), first.total, first.more), (200, 240, true));
    let second = world.absorb.learner_ids(1).await.expect("it answers");
    assert_eq!((second.ids.len(), second.total, second.more), (40, 240, false));
    assert_eq!(second.ids[0], "u0200");
    let beyond = world.absorb.learner_ids(2).await.expect("it answers");
    assert_eq!((beyond.ids.len(), beyond.more), (0, false));
    assert!(world.absorb.learner_ids(70_000).await.is_err());
}

#[tokio::test]
async fn a_page_of_learner_ids_that_is_not_full_is_a_partial_read() {
    let world = World::new(|_| async { ok(&json!({"totalItems": 1200, "users": [{"id": "a"}]})) }).await;
    assert!(matches!(world.absorb.learner_ids(0).await, Err(LmsError::PartialRead(_))));
    assert_eq!(world.portal.calls_of("/users").len(), 2);
}

#[tokio::test]
async fn a_bare_array_that_ignores_the_page_number_ends_also_if_it_looks_like_a_full_page() {
    let world = World::new(|_| async {
        let rows: Vec<Value> = (0..200).map(|number| json!({"id": format!("u{number}")})).collect();
        ok(&json!(rows))
    })
    .await;
    let first = world.absorb.learner_ids(0).await.expect("is read");
    assert_eq!((first.ids.len(), first.more), (200, true));
    let second = world.absorb.learner_ids(1).await.expect("is read");
    assert_eq!((second.ids.len(), second.more), (0, false));
}

#[tokio::test]
async fn a_probe_counts_the_learners_and_finds_the_kinds_that_exist() {
    let world = World::new(|call| async move {
        match call.path.as_str() {
            "/users" => ok(&json!({"totalItems": 812, "returnedItems": 1, "limit": 1, "users": [{"id": USER}]})),
            ENROLMENTS => ok(&json!({"totalItems": 9, "returnedItems": 1, "limit": 1, "enrollments": [enrolment(1)]})),
            CERTIFICATES => status(403),
            _ => status(404),
        }
    })
    .await;
    let probe = world.absorb.probe().await.expect("it answers");
    assert_eq!((probe.learners, probe.available), (812, kinds(&[RecordKind::Completion])));
    assert_eq!(probe.absent, [(RecordKind::Certificate, 403), (RecordKind::Competency, 404)]);
    assert_eq!(world.portal.calls_of("/users")[0].page(), 0);
}

#[test]
fn settings_do_not_show_their_secrets() {
    let settings = AbsorbSettings {
        portal: "main".to_owned(),
        url: "https://rest.myabsorb.com".to_owned(),
        api_key: "key-secret".to_owned(),
        credentials: Credentials::Password {
            username: "user-secret".to_owned(),
            password: "password-secret".to_owned(),
        },
        certificates_path: String::new(),
        competencies_path: String::new(),
        learning_paths_path: None,
        kinds: Default::default(),
        calls_per_second_max: 50,
        calls_at_once_max: 6,
    };
    let shown = format!("{settings:?}");
    assert!(shown.contains("rest.myabsorb.com") && !shown.contains("secret"), "{shown}");
}

#[test]
fn a_text_names_a_learner_by_each_id_and_by_each_way_to_break_a_full_name() {
    assert_eq!(super::named("o'hara"), "username eq 'o''hara' or emailAddress eq 'o''hara' or externalId eq 'o''hara'");
    let ids = "username eq 'Ana  de Lima' or emailAddress eq 'Ana  de Lima' or externalId eq 'Ana  de Lima'";
    let names = "(firstName eq 'Ana' and lastName eq 'de Lima') or (firstName eq 'Ana de' and lastName eq 'Lima')";
    assert_eq!(super::named(" Ana  de Lima "), format!("{ids} or {names}"));
}

/// A vault that remembers all that the client asks it to.
#[derive(Default)]
struct Memory {
    token: Mutex<Option<StoredToken>>,
    grant: Mutex<Option<Grant>>,
    asked_until: Mutex<Option<Timestamp>>,
    contests: AtomicUsize,
    used: Mutex<Option<LmsUse>>,
}

#[async_trait]
impl TokenVault for Memory {
    async fn load(&self) -> Option<StoredToken> {
        self.token.lock().expect("no panic").clone()
    }

    async fn save(&self, token: Option<StoredToken>) {
        *self.token.lock().expect("no panic") = token;
    }

    async fn reserve_login(&self) -> Result<(), String> {
        Ok(())
    }

    async fn load_grant(&self) -> Option<Grant> {
        self.grant.lock().expect("no panic").clone()
    }

    async fn save_grant(&self, grant: Option<Grant>) -> Result<(), String> {
        *self.grant.lock().expect("no panic") = grant;
        Ok(())
    }

    async fn asked_until(&self) -> Option<Timestamp> {
        *self.asked_until.lock().expect("no panic")
    }

    async fn keep_asked_until(&self, until: Timestamp) {
        *self.asked_until.lock().expect("no panic") = Some(until);
    }

    async fn keep_use(&self, used: LmsUse) {
        *self.used.lock().expect("no panic") = Some(used);
    }

    async fn note_contest(&self) {
        self.contests.fetch_add(1, Ordering::SeqCst);
    }
}

/// A portal and a client that remembers, with a token `old` that is a second old.
struct Remembering {
    portal: Portal,
    absorb: Absorb,
    clock: Arc<HandClock>,
    memory: Arc<Memory>,
    calls_per_second_max: u32,
    uses_oauth: bool,
}

impl Remembering {
    async fn new<F>(uses_oauth: bool, script: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let portal = Portal::start(Arc::new(move |call| script(call).boxed())).await;
        let clock = Arc::new(HandClock(AtomicI64::new(1_800_000_000_000)));
        let memory = Arc::new(Memory::default());
        memory.save(Some(StoredToken { token: "old".to_owned(), obtained_at: clock.now().plus_ms(-1000) })).await;
        let absorb = remembering(&portal, &memory, &clock, 100_000, uses_oauth);
        Self { portal, absorb, clock, memory, calls_per_second_max: 100_000, uses_oauth }
    }

    fn restart(&mut self) {
        self.absorb = remembering(&self.portal, &self.memory, &self.clock, self.calls_per_second_max, self.uses_oauth);
    }

    fn calls(&self) -> usize {
        self.portal.calls.lock().expect("no test panics with it").len()
    }

    async fn with_grant(self, refresh_token: &str) -> Self {
        let now = self.clock.now();
        let grant = Grant {
            refresh_token: refresh_token.to_owned(),
            obtained_at: now,
            ends_at: now.plus(Duration::from_secs(365 * 86_400)),
            access_seconds: 14_400,
        };
        self.memory.save_grant(Some(grant)).await.expect("kept in memory");
        self
    }

    fn grant(&self) -> Option<String> {
        self.memory.grant.lock().expect("no panic").as_ref().map(|grant| grant.refresh_token.clone())
    }
}

fn remembering(
    portal: &Portal,
    memory: &Arc<Memory>,
    clock: &Arc<HandClock>,
    calls_per_second_max: u32,
    uses_oauth: bool,
) -> Absorb {
    let credentials = match uses_oauth {
        true => Credentials::OAuth(OAuthClient {
            client_id: "client-7".to_owned(),
            client_secret: "open sesame".to_owned(),
            portal_url: portal.url.clone(),
            redirect_uri: "https://acme.example/done".to_owned(),
        }),
        false => Credentials::Password { username: "robot".to_owned(), password: "open sesame".to_owned() },
    };
    let settings = AbsorbSettings {
        portal: "main".to_owned(),
        url: portal.url.clone(),
        api_key: KEY.to_owned(),
        credentials,
        certificates_path: "/users/{user}/certificates".to_owned(),
        competencies_path: "/users/{user}/competencies".to_owned(),
        learning_paths_path: None,
        kinds: Default::default(),
        calls_per_second_max,
        calls_at_once_max: 8,
    };
    let pauses = Pauses { first: Duration::from_millis(1), ..Pauses::default() };
    let vault: Arc<dyn TokenVault> = Arc::<Memory>::clone(memory);
    let clock: Arc<dyn Clock> = Arc::<HandClock>::clone(clock);
    Absorb::with_pauses(settings, http(), vault, clock, Arc::new(Generator::seeded(7)), pauses)
}

#[tokio::test]
async fn nothing_is_sent_before_the_end_of_a_retry_after_by_any_lane_nor_after_a_restart() {
    for header in ["3600", "Fri, 15 Jan 2027 09:00:00 GMT"] {
        let mut world = Remembering::new(false, move |call| async move {
            match call.earlier {
                0 => Reply { headers: vec![("retry-after", header)], ..status(429) },
                _ => person(),
            }
        })
        .await;
        let end = world.clock.now().plus_ms(3_600_000);
        let asleep = Err(LmsError::Throttled(RetryAfter::Until(end.utc())));
        assert!(matches!(world.absorb.learner(USER).await, Err(LmsError::Throttled(_))));
        for seconds in [0, 1, 1_800, 1_798] {
            world.clock.advance(seconds);
            for lane in Lane::ALL {
                let lms = world.absorb.in_lane(lane).expect("lanes share a budget");
                assert_eq!(lms.learner(USER).await, asleep, "{header}, {lane:?}");
            }
            world.restart();
            assert_eq!(world.absorb.learner(USER).await, asleep, "{header}, after a restart");
            assert!(world.absorb.learners_named("Ada").await.is_err());
        }
        assert_eq!(world.calls(), 1, "{header}");
        world.clock.advance(1);
        assert!(world.absorb.learner(USER).await.is_ok_and(|learner| learner.is_some()));
        assert_eq!(world.calls(), 2);
    }
}

#[tokio::test]
async fn a_login_is_not_tried_while_the_portal_asked_to_be_left_alone() {
    let mut world =
        Remembering::new(false, |_| async { Reply { headers: vec![("retry-after", "60")], ..status(503) } }).await;
    world.memory.save(None).await;
    world.restart();
    assert!(matches!(world.absorb.learner(USER).await, Err(LmsError::Throttled(_))));
    for _ in 0..3 {
        assert!(matches!(world.absorb.learner(USER).await, Err(LmsError::Throttled(_))));
        world.clock.advance(19);
    }
    assert_eq!(world.portal.logins(), 1);
}

#[tokio::test]
async fn a_call_that_waits_for_its_place_is_not_sent_when_another_is_told_to_wait() {
    let (arrived, _) = watch::channel(0);
    let arrived = Arc::new(arrived);
    let (release, _) = watch::channel(false);
    let release = Arc::new(release);
    let script = (Arc::clone(&arrived), Arc::clone(&release));
    let world = Remembering::new(false, move |_| {
        let (arrived, release) = script.clone();
        async move {
            arrived.send_modify(|calls| *calls += 1);
            let mut released = release.subscribe();
            released.wait_for(|is_released| *is_released).await.expect("the test lives");
            Reply { headers: vec![("retry-after", "3600")], ..status(429) }
        }
    })
    .await;
    let calls = futures::future::join_all((0..40).map(|_| world.absorb.learner(USER)));
    let script = async {
        let mut seen = arrived.subscribe();
        // Eight places are taken by calls that hang; one more is kept for live events, which all of these are.
        seen.wait_for(|calls| *calls == 8).await.expect("the test lives");
        release.send_replace(true);
    };
    let (answers, ()) = futures::join!(calls, script);
    assert!(answers.iter().all(|answer| matches!(answer, Err(LmsError::Throttled(_)))));
    assert_eq!(world.calls(), 8, "32 waited, and none of them was sent");
}

#[tokio::test]
async fn two_tokens_that_die_young_within_minutes_are_named_as_a_contest_once() {
    let world = Remembering::new(false, |call| async move {
        if call.path == "/authenticate" {
            return ok(&json!(format!("t{}", call.earlier)));
        }
        // Each token is refused from its second learner on: somebody else logged in meanwhile.
        let is_dead = call.authorization == "Bearer old" || call.query.contains("dead") || call.earlier % 5 > 2;
        if is_dead { status(401) } else { person() }
    })
    .await;
    let contests = || world.memory.contests.load(Ordering::SeqCst);
    assert!(world.absorb.learner(USER).await.is_ok());
    assert_eq!((world.portal.logins(), contests()), (1, 0), "once may be an accident");
    world.clock.advance(600);
    while world.portal.logins() < 2 {
        assert!(world.absorb.learner(USER).await.is_ok());
    }
    assert_eq!(contests(), 1);
    assert!(world.absorb.learner(USER).await.is_ok());
    assert_eq!(contests(), 1, "an occurrence is told once, not at each call");
}

#[tokio::test]
async fn tokens_that_die_young_far_apart_are_no_contest() {
    let world = Remembering::new(false, |call| async move {
        match (call.path.as_str(), call.earlier % 3) {
            ("/authenticate", _) => ok(&json!(format!("t{}", call.earlier))),
            (_, 0 | 1) => status(401),
            _ => person(),
        }
    })
    .await;
    for _ in 0..4 {
        assert!(world.absorb.learner(USER).await.is_ok());
        world.clock.advance(901);
    }
    assert_eq!((world.portal.logins(), world.memory.contests.load(Ordering::SeqCst)), (4, 0));
}

fn tokens(access: &str, refresh: Option<&str>) -> Reply {
    let mut body = json!({"access_token": access, "token_type": "Bearer", "expires_in": 14_400});
    if let Some(refresh) = refresh {
        body["refresh_token"] = json!(refresh);
    }
    ok(&body)
}

#[tokio::test]
async fn a_code_becomes_a_login_that_outlives_a_restart_and_is_renewed_at_seventy_percent() {
    let mut world = Remembering::new(true, |call| async move {
        match (call.path.as_str(), call.earlier) {
            ("/oauth/token", 0) => tokens("a0", Some("r0")),
            ("/oauth/token", 1) => tokens("a1", Some("r1")),
            ("/oauth/token", _) => tokens("a2", None),
            _ => person(),
        }
    })
    .await;
    world.memory.save(None).await;
    world.restart();
    let needed = world.absorb.learner(USER).await.expect_err("nobody is logged in");
    assert!(matches!(&needed, LmsError::LoginNeeded(words) if words.contains("learnsync login main")), "{needed}");
    assert_eq!(world.calls(), 0);
    world.absorb.redeem("the-code").await.expect("the code is good");
    assert!(world.absorb.learner(USER).await.is_ok_and(|learner| learner.is_some()), "it is used at once");
    world.restart();
    for (seconds, refresh_token) in [(10_079, "r0"), (1, "r1"), (10_080, "r1")] {
        world.clock.advance(seconds);
        assert!(world.absorb.learner(USER).await.is_ok());
        assert_eq!(world.grant().as_deref(), Some(refresh_token), "a refresh token is kept until another comes");
    }
    let asked = world.portal.calls_of("/oauth/token");
    let forms: Vec<&str> = asked.iter().map(|call| call.body.as_str()).collect();
    assert_eq!(
        forms[0],
        "grant_type=authorization_code&code=the-code&redirect_uri=https%3A%2F%2Facme.example%2Fdone&client_id=client-7&client_secret=open+sesame"
    );
    assert!(forms[1].starts_with("grant_type=refresh_token&refresh_token=r0&"), "{forms:?}");
    assert!(forms[2].starts_with("grant_type=refresh_token&refresh_token=r1&"), "{forms:?}");
    assert!(asked.iter().all(|call| call.api_key.is_empty()), "the API key is for the API");
    let seen = world.portal.calls_of(&format!("/users/{USER}"));
    let bearers: Vec<&str> = seen.iter().map(|call| call.authorization.as_str()).collect();
    assert_eq!(bearers, ["Bearer a0", "Bearer a0", "Bearer a1", "Bearer a2"]);
}

#[tokio::test]
async fn a_login_that_was_revoked_is_forgotten_and_asked_for_without_further_calls() {
    let mut world = Remembering::new(true, |call| async move {
        match call.path.as_str() {
            "/oauth/token" => Reply { status: 400, ..ok(&json!({"error": "invalid_grant"})) },
            _ => status(401),
        }
    })
    .await
    .with_grant("r0")
    .await;
    for _ in 0..3 {
        let error = world.absorb.learner(USER).await.expect_err("it was revoked");
        assert!(matches!(&error, LmsError::LoginNeeded(words) if words.contains("learnsync login main")), "{error}");
        world.restart();
        world.clock.advance(600);
    }
    assert_eq!(world.portal.calls_of("/oauth/token").len(), 1);
    assert_eq!(world.grant(), None);
}

#[tokio::test]
async fn an_outage_or_a_wrong_client_secret_does_not_cost_the_login() {
    for (code, word) in [(503, ""), (401, "invalid_client")] {
        let mut world = Remembering::new(true, move |call| async move {
            match call.path.as_str() {
                "/oauth/token" => Reply { status: code, ..ok(&json!({"error": word})) },
                _ => person(),
            }
        })
        .await
        .with_grant("r0")
        .await;
        world.memory.save(None).await;
        world.restart();
        let error = world.absorb.learner(USER).await.expect_err("there is no token");
        assert!(!matches!(error, LmsError::LoginNeeded(_)), "{error}");
        assert_eq!(world.grant().as_deref(), Some("r0"), "{code}");
    }
}

#[tokio::test]
async fn a_code_that_is_not_taken_changes_nothing() {
    let world = Remembering::new(true, |call| async move {
        match call.path.as_str() {
            "/oauth/token" => Reply { status: 400, ..ok(&json!({"error": "invalid_grant"})) },
            _ => person(),
        }
    })
    .await
    .with_grant("r0")
    .await;
    let error = world.absorb.redeem("stale").await.expect_err("it is spent");
    assert!(error.to_string().contains("does not take this code"), "{error}");
    assert_eq!(world.grant().as_deref(), Some("r0"));
    assert!(world.absorb.learner(USER).await.is_ok(), "the session goes on");
}

#[tokio::test]
async fn what_calls_were_for_is_told_by_lane() {
    let world = Remembering::new(false, |_| async { person() }).await;
    assert!(world.absorb.learner(USER).await.is_ok());
    world.clock.advance(60);
    for (lane, calls) in [(Lane::Sweep, 3), (Lane::Live, 1)] {
        let lms = world.absorb.in_lane(lane).expect("lanes share a budget");
        for _ in 0..calls {
            assert!(lms.learner(USER).await.is_ok());
        }
    }
    world.clock.advance(60);
    assert!(world.absorb.learner(USER).await.is_ok());
    let used = world.memory.used.lock().expect("no panic").clone().expect("it was told");
    assert_eq!(used.calls, [(Lane::Live, 3), (Lane::Retry, 0), (Lane::Sweep, 3), (Lane::Backfill, 0)]);
    assert_eq!((used.throttled, used.calls_per_second_max), (0, 100_000));
}

#[tokio::test]
async fn an_examination_finds_what_the_role_does_not_see() {
    const HIDDEN: &str = "99999999-2ce0-41d4-b532-02189ad3cb22";
    let world = Remembering::new(false, |call| async move {
        let headers = vec![("date", "Fri, 15 Jan 2027 08:05:00 GMT")];
        match call.path.as_str() {
            "/users" => {
                let rows = [json!({"id": USER, "departmentId": COURSE}), json!({"id": HIDDEN, "departmentId": HIDDEN})];
                let body = json!({"totalItems": 812, "returnedItems": 2, "users": rows});
                Reply { headers, ..ok(&body) }
            }
            "/departments" => ok(&list("departments", &[json!({"id": COURSE})])),
            "/groups" => status(403),
            ENROLMENTS => {
                let hidden = json!({"id": "e2", "status": 3, "courseId": HIDDEN});
                ok(&list("enrollments", &[enrolment(1), hidden]))
            }
            "/courses" => ok(&list("courses", &[])),
            path if path.ends_with(HIDDEN) => status(404),
            path if path.ends_with("/enrollments") => ok(&list("enrollments", &[])),
            _ => rest(&call),
        }
    })
    .await;
    let found = world.absorb.examine(&*world.clock).await.expect("it answers");
    assert_eq!((found.learners, found.looked_at, found.departments, found.courses), (812, 2, Some(1), 2));
    let hidden: BTreeSet<String> = [HIDDEN.to_owned()].into();
    assert_eq!((&found.hidden_departments, &found.hidden_courses), (&hidden, &hidden));
    assert_eq!(found.clock_ahead_seconds, Some(300));
    let status_of = |path: &str| found.end_points.iter().find(|(known, _)| known == path).map(|(_, status)| *status);
    assert_eq!(status_of("/groups"), Some(403));
    assert_eq!(status_of("/users/{user}/competencies"), Some(200));
    assert_eq!(status_of("/courses"), Some(200));
}
