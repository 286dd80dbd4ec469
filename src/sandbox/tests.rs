//! The rules of the fakes, over real HTTP.

mod happenings;
mod large;
mod oauth;
mod quirks;
mod webhooks;
mod year;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use super::filter::{Cell, instant, parse};
use super::*;
use crate::domain::time::Timestamp;

/// 2026-03-04T10:00:00Z.
const START: i64 = 1_772_618_400_000;

/// A clock that stands until a test moves it.
struct HandClock(AtomicI64);

impl HandClock {
    fn pass(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

struct World {
    sandbox: Sandbox,
    clock: Arc<HandClock>,
    http: Client,
}

impl World {
    async fn start(options: SandboxOptions) -> Self {
        // Fails only when another test was first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Arc::new(HandClock(AtomicI64::new(START)));
        let entropy = Arc::new(Generator::seeded(7));
        let sandbox = Sandbox::start(options, clock.clone(), entropy).await.expect("loopback has free ports");
        let http = Client::builder().no_proxy().build().expect("a plain client can be built");
        Self { sandbox, clock, http }
    }

    async fn small() -> Self {
        let options = SandboxOptions { learners: 12, courses: 3, rate_per_second: None, ..SandboxOptions::default() };
        Self::start(options).await
    }

    fn portal(&self) -> &PortalHandle {
        &self.sandbox.portal
    }

    fn hr(&self) -> &HrHandle {
        &self.sandbox.hr
    }

    async fn log_in(&self) -> String {
        let portal = self.portal();
        let body =
            json!({"Username": portal.username(), "password": portal.password(), "privateKey": portal.api_key()});
        let request = self.http.post(format!("{}/authenticate", portal.url())).header("x-api-key", portal.api_key());
        let answer = request.json(&body).send().await.expect("the portal answers");
        assert_eq!(answer.status(), 200);
        answer.json::<String>().await.expect("the token is a JSON string")
    }

    async fn read_with(&self, authorization: &str, path: &str) -> reqwest::Result<Response> {
        let request = self.http.get(format!("{}{path}", self.portal().url()));
        request.header("x-api-key", self.portal().api_key()).header("authorization", authorization).send().await
    }

    /// Logs in and reads.
    async fn read(&self, path: &str) -> (u16, Value) {
        let token = self.log_in().await;
        let answer = self.read_with(&format!("Bearer {token}"), path).await.expect("the portal answers");
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    async fn list(&self, path: &str, collection: &str) -> Vec<Value> {
        let (status, body) = self.read(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body[collection].as_array().cloned().expect("an envelope with the collection")
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Result<Response> {
        let request = self.http.request(method, format!("{}{path}", self.hr().url()));
        let request = request.basic_auth(self.hr().api_key(), Some("x")).header("accept", "application/json");
        match body {
            Some(body) => request.json(&body).send().await,
            None => request.send().await,
        }
    }

    async fn hr_call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let answer = self.ask(method, path, body).await.expect("HR answers");
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }
}

fn training(notes: &str) -> Value {
    json!({"completed": "2026-03-04", "type": 2, "hours": 0.5, "notes": notes})
}

const RECORDS: &str = "/api/v1/training/record/employee/1";

#[tokio::test]
async fn a_new_login_kills_the_former_token() {
    let world = World::small().await;
    let first = world.log_in().await;
    assert_eq!(world.read_with(&format!("Bearer {first}"), "/users").await.expect("answer").status(), 200);
    let second = world.log_in().await;
    assert_eq!(world.read_with(&format!("Bearer {first}"), "/users").await.expect("answer").status(), 401);
    assert_eq!(world.read_with(&second, "/users").await.expect("answer").status(), 200, "a bare token is accepted");
    assert_eq!(world.portal().logins(), 2);
}

#[tokio::test]
async fn a_token_lives_for_four_hours() {
    let world = World::small().await;
    let token = world.log_in().await;
    world.clock.pass(4 * 3_600_000 - 1);
    assert_eq!(world.read_with(&token, "/users").await.expect("answer").status(), 200);
    world.clock.pass(1);
    assert_eq!(world.read_with(&token, "/users").await.expect("answer").status(), 401);
}

#[tokio::test]
async fn a_call_without_the_api_key_or_with_a_wrong_password_is_401() {
    let world = World::small().await;
    let token = world.log_in().await;
    let url = format!("{}/users", world.portal().url());
    let answer = world.http.get(url).header("authorization", token).send().await.expect("answer");
    assert_eq!(answer.status(), 401);
    let body = json!({"username": world.portal().username(), "password": "no", "privateKey": world.portal().api_key()});
    let request = world.http.post(format!("{}/authenticate", world.portal().url()));
    let answer = request.header("x-api-key", world.portal().api_key()).json(&body).send().await.expect("answer");
    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn an_offset_is_a_page_number_and_a_page_past_the_end_is_empty_with_the_true_total() {
    let world = World::small().await;
    let mut seen = BTreeSet::new();
    for page in 0..3 {
        for user in world.list(&format!("/users?_limit=5&_offset={page}&_sort=id"), "users").await {
            seen.insert(user["id"].as_str().expect("an id").to_owned());
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), {
        let mut ids = world.portal().learner_ids();
        ids.sort();
        ids
    });
    let (_, body) = world.read("/users?_limit=5&_offset=3").await;
    assert_eq!((&body["totalItems"], &body["returnedItems"], &body["offset"]), (&json!(12), &json!(0), &json!(3)));
    let (_, body) = world.read("/USERS?limit=2&offset=1").await;
    assert_eq!((&body["limit"], &body["returnedItems"]), (&json!(2), &json!(2)), "the deprecated names still work");
}

#[tokio::test]
async fn what_cannot_be_asked_is_422_in_absorbs_words() {
    let world = World::small().await;
    for path in [
        "/users?_limit=1001",
        "/users?_limit=0",
        "/users?_offset=65536",
        "/users?_filter=shoeSize eq 4",
        "/users?_filter=notes eq 'x'",
        "/users?_filter=(isLearner",
        "/users?_sort=shoeSize",
    ] {
        let (status, body) = world.read(path).await;
        assert_eq!((status, &body["code"], &body["term"]), (422, &json!(422), &json!("ErrorGeneric")), "{path}");
    }
    assert_eq!(world.read("/users?_limit=1000").await.0, 200);
}

#[test]
fn filters_mean_what_odata_says() {
    let guid = uuid::Uuid::from_u128(0xa14c149a);
    let row = move |field: &str| match field {
        "name" => Cell::Text("Jane O'Rourke".to_owned()),
        "age" => Cell::Number(7.0),
        "isActive" => Cell::Bool(true),
        "edited" => Cell::Instant(instant("2026-03-04T04:30:00").expect("an instant")),
        "id" => Cell::Guid(guid),
        "custom/one" => Cell::Text("x".to_owned()),
        _ => Cell::Null,
    };
    let fields = ["name", "age", "isActive", "edited", "id", "left", "custom/one"];
    let check = |filter: &str, expected: Option<bool>| {
        let found = parse(filter, &fields).ok().map(|expression| expression.matches(&row));
        assert_eq!(found, expected, "{filter}");
    };
    check("name eq 'Jane O''Rourke'", Some(true));
    check("NAME EQ 'jane o''rourke'", Some(true));
    check("name ne 'Jane'", Some(true));
    check("age gt 6 and age lt 8", Some(true));
    check("age ge 7 and age le 6", Some(false));
    check("age eq -7", Some(false));
    check("isActive", Some(true));
    check("not isActive", Some(false));
    check("not (age eq 6 or age eq 5)", Some(true));
    check("age eq 6 or age eq 7 and isActive eq false", Some(false));
    check("left eq null", Some(true));
    check("name ne null", Some(true));
    check("left gt 3", Some(false));
    check("startsWith(name,'jane') and endswith(name,'Rourke')", Some(true));
    check("substringof('o''r',tolower(name))", Some(true));
    check("toupper(name) eq 'JANE O''ROURKE'", Some(true));
    check("edited ge datetime'2026-03-04T04:30:00Z'", Some(true));
    check("edited gt '2026-03-04T04:30:00'", Some(false));
    check("edited lt datetime'2026-03-05'", Some(true));
    check(&format!("id eq guid'{guid}'"), Some(true));
    check(&format!("id eq '{guid}'"), Some(true));
    check("custom/one eq 'x'", Some(true));
    check("age in (1, 7)", Some(true));
    check("age in ()", None);
    check("shoe eq 1", None);
    check("name eq 'open", None);
    check("name eq", None);
    check("edited eq datetime'yesterday'", None);
    check("age eq 7 7", None);
    check(&format!("{}isActive{}", "(".repeat(1_000), ")".repeat(1_000)), None);
    check(&"not ".repeat(1_000), None);
}

#[tokio::test]
async fn a_completed_course_shows_as_absorb_shows_it() {
    let world = World::small().await;
    let (learner, course) = (&world.portal().learner_ids()[0], &world.portal().course_ids()[0]);
    let _hook = world.portal().complete_course(learner, course);
    let row = world.read(&format!("/users/{learner}/enrollments/{course}")).await.1;
    assert_eq!((&row["status"], &row["progress"], &row["isActive"]), (&json!(3), &json!(100), &json!(true)));
    assert_eq!(row["dateCompleted"], "2026-03-04T10:00:00", "without an offset");
    assert_eq!(row["courseId"], json!(course));
    let minutes = row["timeSpentTicks"].as_i64().expect("a number") / 600_000_000;
    assert_eq!(row["timeSpent"], format!("{:02}:{:02}:00", minutes / 60, minutes % 60));
    world.portal().faults().dates_with_z(true);
    let row = world.read(&format!("/users/{learner}/enrollments/{course}")).await.1;
    assert_eq!(row["dateCompleted"], "2026-03-04T10:00:00Z");
}

#[tokio::test]
async fn a_reenrolment_is_a_new_row_and_the_old_one_becomes_history() {
    let world = World::small().await;
    let (learner, course) = (&world.portal().learner_ids()[0], &world.portal().course_ids()[0]);
    let _hook = world.portal().complete_course(learner, course);
    let fresh = world.portal().reenroll(learner, course).expect("both exist");
    let rows = world.list(&format!("/users/{learner}/enrollments?_sort=isActive"), "enrollments").await;
    let states: Vec<_> = rows.iter().map(|row| (row["isActive"].clone(), row["status"].clone())).collect();
    assert_eq!(states, [(json!(false), json!(3)), (json!(true), json!(0))]);
    let active = world.read(&format!("/users/{learner}/enrollments/{course}")).await.1;
    assert_eq!(active["id"], json!(fresh), "the single read answers the active row");
    let filtered = world.list(&format!("/courses/{course}/enrollments?_filter=isActive"), "enrollments").await;
    assert_eq!(filtered.len(), 1);
    assert_eq!(world.portal().records_total(), 1, "what was completed stays completed");
}

#[tokio::test]
async fn a_certificate_has_midnights_for_dates_and_names_its_enrolment() {
    let world = World::small().await;
    let (learner, course) = (&world.portal().learner_ids()[0], &world.portal().course_ids()[0]);
    let _hook = world.portal().award_certificate(learner, course);
    let rows = world.list(&format!("/users/{learner}/certificates"), "certificates").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["acquiredDate"], "2026-03-04T00:00:00");
    let enrollment = world.read(&format!("/users/{learner}/enrollments/{course}")).await.1;
    assert_eq!((&rows[0]["enrollmentId"], &rows[0]["id"]), (&enrollment["id"], &enrollment["certificateId"]));
    assert_eq!(world.portal().records_total(), 2, "who gets a certificate has completed the course");
}

#[tokio::test]
async fn an_early_hook_finds_nothing_until_so_many_reads_are_done() {
    let world = World::small().await;
    let (learner, course) = (&world.portal().learner_ids()[0], &world.portal().course_ids()[0]);
    world.portal().faults().early(2);
    let _hooks = (world.portal().complete_course(learner, course), world.portal().award_competency(learner, "Lead"));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let rows = world.list(&format!("/users/{learner}/enrollments"), "enrollments").await;
        let competencies = world.list(&format!("/users/{learner}/competencies"), "competencies").await;
        seen.push((rows[0]["status"].clone(), rows[0]["dateCompleted"].is_null(), competencies.len()));
    }
    assert_eq!(seen, [(json!(1), true, 0), (json!(1), true, 0), (json!(3), false, 1)]);
}

#[tokio::test]
async fn a_narrowed_role_sees_fewer_learners_and_no_error() {
    let world = World::small().await;
    world.portal().faults().shrink(2);
    assert_eq!(world.read("/users").await.1["totalItems"], 10);
    let last = world.portal().learner_ids().pop().expect("twelve learners");
    assert_eq!(world.read(&format!("/users/{last}")).await.0, 404);
    world.portal().faults().shrink(0);
    assert_eq!(world.read(&format!("/users/{last}")).await.0, 200);
}

#[tokio::test]
async fn a_deleted_learner_is_404_and_an_inactive_one_stays() {
    let world = World::small().await;
    let ids = world.portal().learner_ids();
    assert!(world.portal().deactivate(&ids[0]) && world.portal().delete_learner(&ids[1]));
    assert_eq!(world.read(&format!("/users/{}", ids[0])).await.1["activeStatus"], 1);
    for path in ["", "/enrollments", "/certificates", "/competencies"] {
        assert_eq!(world.read(&format!("/users/{}{path}", ids[1])).await.0, 404, "{path}");
    }
    assert_eq!(world.read("/users").await.1["totalItems"], 11);
}

#[tokio::test]
async fn calls_beyond_burst_and_rate_are_429_until_time_passes() {
    let options = SandboxOptions { rate_per_second: Some(2), rate_burst: 3, ..SandboxOptions::default() };
    let world = World::start(options).await;
    let token = world.log_in().await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(world.read_with(&token, "/departments").await.expect("answer").status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 429, 429], "the login was the first of three");
    world.clock.pass(500);
    assert_eq!(world.read_with(&token, "/departments").await.expect("answer").status(), 200);
    let answer = world.read_with(&token, "/departments").await.expect("answer");
    assert_eq!((answer.status().as_u16(), answer.headers().get("retry-after")), (429, None));
}

#[tokio::test]
async fn throttling_can_say_seconds_a_date_or_nothing() {
    let world = World::small().await;
    let said = |answer: Response| {
        assert_eq!(answer.status(), 429);
        answer.headers().get("retry-after").map(|value| value.to_str().expect("text").to_owned())
    };
    let expected = [
        (Wait::Unsaid, None),
        (Wait::Seconds(30), Some("30")),
        (Wait::Date(90), Some("Wed, 04 Mar 2026 10:01:30 GMT")),
    ];
    for (wait, expected) in expected {
        let token = world.log_in().await;
        world.portal().faults().throttle(wait, Times::Next(1));
        world.hr().faults().throttle(wait, Times::Next(1));
        let portal = world.read_with(&token, "/users").await.expect("answer");
        assert_eq!(said(portal).as_deref(), expected);
        let hr = world.ask(Method::GET, "/api/v1/training/type", None).await.expect("answer");
        assert_eq!(said(hr).as_deref(), expected);
    }
}

#[tokio::test]
async fn a_half_page_breaks_off_and_a_short_page_lacks_a_row() {
    let world = World::small().await;
    let token = world.log_in().await;
    world.portal().faults().half_page(Area::Users, Times::Next(1));
    let answer = world.read_with(&token, "/users").await.expect("the head arrives");
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.is_err(), "the body breaks off");
    world.portal().faults().few_rows(Area::Users, Times::Next(1));
    let (_, body) = world.read("/users").await;
    assert_eq!((&body["totalItems"], &body["returnedItems"]), (&json!(12), &json!(11)));
    assert_eq!(world.list("/users", "users").await.len(), 12, "the fault is spent");
    assert_eq!(world.portal().faults().fired(), 2);
}

#[tokio::test]
async fn faults_hit_only_their_area_and_only_as_often_as_asked() {
    let world = World::small().await;
    let token = world.log_in().await;
    let learner = &world.portal().learner_ids()[0];
    let (users, certificates) = ("/users".to_owned(), format!("/users/{learner}/certificates"));
    let status = async |path: &str| world.read_with(&token, path).await.expect("answer").status().as_u16();
    world.portal().faults().forbid(Area::Certificates);
    world.portal().faults().unavailable(503, Area::Users, Times::Nth(2));
    assert_eq!((status(&certificates).await, status(&users).await), (403, 200));
    assert_eq!((status(&certificates).await, status(&users).await, status(&users).await), (403, 503, 200));
    world.portal().faults().clear();
    world.portal().faults().unauthorized_transient(3);
    assert_eq!([status(&users).await, status(&users).await, status(&users).await], [200, 200, 401]);
    world.portal().faults().clear();
    world.portal().faults().kill_token();
    assert_eq!([status(&users).await, status(&users).await], [401, 401], "a killed token stays dead");
}

#[tokio::test]
async fn a_slow_answer_waits_for_its_gate() {
    let world = World::small().await;
    let token = world.log_in().await;
    let gate = Gate::new();
    world.portal().faults().slow(Pause::Until(gate.clone()), Area::Users, Times::Next(1));
    let open = async {
        gate.arrived(1).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(world.read_with(&token, "/users"), open);
    assert_eq!(answer.expect("answer").status(), 200);
}

#[tokio::test]
async fn every_dialect_names_the_learner_and_a_batch_is_a_list() {
    let world = World::small().await;
    let (learner, course) = (&world.portal().learner_ids()[0], &world.portal().course_ids()[0]);
    let mut dialects = BTreeSet::new();
    let mut has_form = false;
    for _ in 0..100 {
        let hook = world.portal().complete_course(learner, course);
        let body = String::from_utf8(hook.body).expect("text");
        assert!(body.contains(learner.as_str()), "{} {body}", hook.dialect);
        assert!(hook.event.starts_with("Enrollment Completed by"));
        assert_eq!(body.starts_with('['), hook.dialect == 'E', "{body}");
        has_form |= hook.content_type == "application/x-www-form-urlencoded";
        dialects.insert(hook.dialect);
    }
    assert_eq!(dialects, BTreeSet::from(['A', 'B', 'C', 'D', 'E']));
    assert!(has_form);
    assert_eq!(world.portal().completions_of(learner).len(), 100, "a course taken again is a new enrolment");
    assert_eq!(world.portal().test_hook().dialect, 'F');
}

#[tokio::test]
async fn a_hook_about_a_stranger_changes_nothing() {
    let world = World::small().await;
    let hook = world.portal().complete_course(&uuid::Uuid::from_u128(5).to_string(), &world.portal().course_ids()[0]);
    assert!(!hook.body.is_empty());
    assert_eq!(world.portal().records_total(), 0);
}

#[tokio::test]
async fn the_same_seed_makes_the_same_world() {
    let options = SandboxOptions { learners: 20, history: 40, ..SandboxOptions::default() };
    let (first, second) = (World::start(options.clone()).await, World::start(options.clone()).await);
    let facts = |world: &World| (world.portal().learner_ids(), world.portal().expected_rows(), world.hr().api_key());
    assert_eq!(facts(&first), facts(&second));
    assert_eq!(first.portal().records_total(), 40);
    let third = World::start(SandboxOptions { seed: 2, ..options }).await;
    assert_ne!(first.portal().learner_ids(), third.portal().learner_ids());
}

#[tokio::test]
async fn training_records_are_an_empty_list_or_an_object_by_id_with_texts_for_numbers() {
    let world = World::small().await;
    assert_eq!(world.hr_call(Method::GET, RECORDS, None).await, (200, json!([])));
    let (status, made) = world.hr_call(Method::POST, RECORDS, Some(training("one"))).await;
    let expected =
        json!({"id": "1", "employeeId": "1", "completed": "2026-03-04", "type": "2", "hours": "0.5", "notes": "one"});
    assert_eq!((status, &made), (201, &expected));
    assert_eq!(world.hr_call(Method::GET, RECORDS, None).await, (200, json!({"1": expected})));
    assert_eq!(world.hr_call(Method::GET, &format!("{RECORDS}?type=3"), None).await, (200, json!([])));
    assert_eq!(world.hr_call(Method::GET, "/api/v1/training/record/employee/999", None).await.0, 404);
}

#[tokio::test]
async fn an_update_is_201_keeps_the_type_and_wants_the_date() {
    let world = World::small().await;
    world.hr_call(Method::POST, RECORDS, Some(training("one"))).await;
    let path = "/api/v1/training/record/1";
    let (status, row) = world.hr_call(Method::PUT, path, Some(json!({"completed": "2026-03-05", "hours": "1"}))).await;
    assert_eq!(
        (status, &row["completed"], &row["hours"], &row["notes"]),
        (201, &json!("2026-03-05"), &json!("1"), &json!("one"))
    );
    assert_eq!(world.hr_call(Method::PUT, path, Some(json!({"completed": "2026-03-05", "type": 3}))).await.0, 400);
    assert_eq!(world.hr_call(Method::PUT, path, Some(json!({"hours": 2}))).await.0, 400);
    assert_eq!(
        world.hr_call(Method::PUT, "/api/v1/training/record/9", Some(json!({"completed": "2026-03-05"}))).await.0,
        404
    );
    assert_eq!(world.hr_call(Method::DELETE, path, None).await.0, 200);
    assert_eq!(world.hr_call(Method::DELETE, path, None).await.0, 404);
}

#[tokio::test]
async fn nothing_is_unique_but_ids() {
    let world = World::small().await;
    for _ in 0..2 {
        assert_eq!(world.hr_call(Method::POST, RECORDS, Some(training("same"))).await.0, 201);
        let row = json!({"certification": "Fire", "customReference": "same"});
        let path = "/api/v1_1/employees/1/tables/customCertifications";
        assert_eq!(world.hr_call(Method::POST, path, Some(row)).await.0, 201);
    }
    assert_eq!((world.hr().rows().len(), world.hr().rows_total()), (4, 4));
    assert_eq!(world.hr().writes(), 4);
}

#[tokio::test]
async fn what_hr_does_not_know_is_400_in_its_words() {
    let world = World::small().await;
    let table = "/api/v1_1/employees/1/tables/customCertifications";
    let refused = [
        (RECORDS, json!({"completed": "2026-03-04", "type": 99}), "type 99 is not a known training type."),
        (
            RECORDS,
            json!({"completed": "04.03.2026", "type": 2}),
            "completed \"04.03.2026\" is not a date (yyyy-mm-dd).",
        ),
        (
            RECORDS,
            json!({"completed": "2026-02-30", "type": 2}),
            "completed \"2026-02-30\" is not a date (yyyy-mm-dd).",
        ),
        (RECORDS, json!({"type": 2}), "completed is required."),
        (RECORDS, json!({"completed": "2026-03-04", "type": 2, "expires": "2027-03-04"}), "there is no expiry"),
        (table, json!({"certificate": "Fire"}), "Unknown column certificate."),
        (table, json!({"issued": "soon"}), "issued \"soon\" is not a date (yyyy-mm-dd)."),
        ("/api/v1_1/employees/1/tables/certs", json!({}), "Unknown table certs."),
    ];
    for (path, body, words) in refused {
        let (status, answer) = world.hr_call(Method::POST, path, Some(body.clone())).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer["detail"].as_str().is_some_and(|text| text.contains(words)), "{answer} lacks {words}");
    }
    assert_eq!(world.hr().writes(), 0);
}

#[tokio::test]
async fn table_rows_are_made_changed_and_removed_by_their_person() {
    let world = World::small().await;
    let table = "/api/v1_1/employees/1/tables/customCertifications";
    let row = json!({"certification": "Fire Safety", "issued": "2026-03-04", "customReference": "m"});
    let answer = world.ask(Method::POST, table, Some(row)).await.expect("answer");
    assert_eq!((answer.status().as_u16(), answer.bytes().await.expect("a body").len()), (201, 0), "no body, no id");
    let list = "/api/v1/employees/1/tables/customCertifications";
    let shown = json!([{"id": "1", "employeeId": "1", "certification": "Fire Safety", "issued": "2026-03-04",
                        "expires": null, "course": null, "customReference": "m"}]);
    assert_eq!(world.hr_call(Method::GET, list, None).await, (200, shown.clone()));
    assert_eq!(
        world.hr_call(Method::GET, "/api/v1/employees/all/tables/customCertifications", None).await,
        (200, shown)
    );
    let change = json!({"expires": "2027-03-04"});
    assert_eq!(world.hr_call(Method::POST, &format!("{table}/1"), Some(change.clone())).await.0, 200);
    assert_eq!(world.hr().rows()[0].fields["expires"], "2027-03-04");
    let foreign = "/api/v1_1/employees/2/tables/customCertifications/1";
    assert_eq!(world.hr_call(Method::POST, foreign, Some(change)).await.0, 404, "the row is another person's");
    assert_eq!(world.hr_call(Method::DELETE, &format!("{list}/1"), None).await.0, 200);
    assert_eq!(world.hr_call(Method::GET, list, None).await, (200, json!([])));
}

#[tokio::test]
async fn people_are_found_by_filter_whatever_the_case_and_inactive_ones_too() {
    let world = World::small().await;
    let find = async |filter: &str| {
        let body = json!({"fields": ["employeeNumber", "status"], "filter": filter});
        let (status, answer) = world.hr_call(Method::POST, "/api/v2/datasets/employee/data", Some(body)).await;
        assert_eq!(status, 200, "{filter}: {answer}");
        answer["data"].as_array().cloned().expect("a list")
    };
    let expected = json!({"fields": {"employeeId": "6", "employeeNumber": "E10006", "status": "Inactive"}});
    assert_eq!(find("employeeNumber eq 'e10006'").await, std::slice::from_ref(&expected));
    assert_eq!(find("employeeNumber eq 'E10006' and status eq 'Active'").await, Vec::<Value>::new());
    assert_eq!(find("employeeNumber in ('E10006','E10001')").await.len(), 2);
    assert_eq!(find("employeeNumber eq 'E10006' or status eq 'Inactive'").await, [expected]);
    assert_eq!(find("employeeNumber ne 'E10006'").await.len(), 12, "one of them is not in the LMS");
    let fields = json!({"fields": ["shoeSize"]});
    assert_eq!(world.hr_call(Method::POST, "/api/v2/datasets/employee/data", Some(fields)).await.0, 400);
}

#[tokio::test]
async fn the_data_set_pages_and_wants_its_exact_content_type() {
    let world = World::small().await;
    let path = "/api/v2/datasets/employee/data";
    let (_, page) =
        world.hr_call(Method::POST, path, Some(json!({"fields": ["email"], "page": 2, "pageSize": 8}))).await;
    assert_eq!((page["data"].as_array().map(Vec::len), &page["meta"]["totalItems"]), (Some(5), &json!(13)));
    let ordered = json!({"fields": ["status", "eeid"], "orderBy": "status desc, eeid asc", "pageSize": 2});
    let (_, page) = world.hr_call(Method::POST, path, Some(ordered)).await;
    let ids: Vec<&Value> = page["data"].as_array().into_iter().flatten().map(|row| &row["fields"]["eeid"]).collect();
    assert_eq!((ids, page["links"]["next"].is_string()), (vec![&json!("6"), &json!("1")], true), "6 is inactive");
    let body = json!({"fields": ["email"], "orderBy": "eeid asc"});
    assert_eq!(world.hr_call(Method::POST, path, Some(body)).await.0, 400, "who orders by a field must show it");
    let body = json!({"fields": ["email"], "pageSize": 1001});
    assert_eq!(world.hr_call(Method::POST, path, Some(body)).await.0, 400);
    let request = world.http.post(format!("{}{path}", world.hr().url())).basic_auth(world.hr().api_key(), Some("x"));
    let request = request.header("content-type", "application/json; charset=utf-8").body("{\"fields\":[\"email\"]}");
    assert_eq!(request.send().await.expect("answer").status(), 415);
}

#[tokio::test]
async fn hr_wants_its_key_and_answers_xml_to_those_who_do_not_ask_for_json() {
    let world = World::small().await;
    let url = format!("{}/api/v1/meta/tables", world.hr().url());
    let answer = world.http.get(&url).basic_auth("wrong", Some("x")).send().await.expect("answer");
    assert_eq!(answer.status(), 401);
    let answer = world.http.get(&url).basic_auth(world.hr().api_key(), Some("x")).send().await.expect("answer");
    assert_eq!(answer.headers()["content-type"], "text/xml");
    let (_, tables) = world.hr_call(Method::GET, "/api/v1/meta/tables", None).await;
    let names: Vec<&str> =
        tables.as_array().into_iter().flatten().filter_map(|table| table["alias"].as_str()).collect();
    assert_eq!(names, ["customCertifications", "customCompetencies"]);
}

#[tokio::test]
async fn a_lost_answer_is_a_committed_write() {
    let world = World::small().await;
    world.hr().faults().lose_answer(Times::Nth(2));
    assert!(world.ask(Method::POST, RECORDS, Some(training("one"))).await.is_ok());
    let error = world.ask(Method::POST, RECORDS, Some(training("two"))).await.expect_err("the answer is lost");
    assert!(!error.is_connect(), "the request arrived: {error}");
    assert!(world.ask(Method::GET, RECORDS, None).await.is_ok(), "reads are not touched");
    let notes: Vec<String> = world.hr().rows().into_iter().map(|row| row.fields["notes"].clone()).collect();
    assert_eq!(notes, ["one", "two"]);
    world.hr().faults().set_lose_answers(1_000);
    assert!(world.ask(Method::POST, RECORDS, Some(training("three"))).await.is_err());
    assert_eq!((world.hr().writes(), world.hr().faults().fired()), (3, 2));
    assert_eq!(world.hr().write_log()[2], "create training 3 of employee 1");
}

#[tokio::test]
async fn a_late_commit_happens_when_it_is_told_to() {
    let world = World::small().await;
    world.hr().faults().late_commit(Times::Next(1));
    assert!(world.ask(Method::POST, RECORDS, Some(training("late"))).await.is_err());
    assert_eq!(world.hr_call(Method::GET, RECORDS, None).await.1, json!([]));
    assert_eq!(world.hr().commit_late(), 1);
    assert_eq!(world.hr().rows().len(), 1);
    assert_eq!(world.hr().commit_late(), 0);
}

#[tokio::test]
async fn a_slow_write_happens_although_the_client_has_gone() {
    let world = World::small().await;
    let gate = Gate::new();
    world.hr().faults().slow(Pause::Until(gate.clone()), HrArea::Writes, Times::Next(1));
    tokio::select! {
        biased;
        () = gate.arrived(1) => {}
        _ = world.ask(Method::POST, RECORDS, Some(training("slow"))) => panic!("the gate is closed"),
    }
    // A round trip, in which the server sees that the first connection is gone.
    assert!(world.ask(Method::GET, RECORDS, None).await.is_ok());
    assert_eq!(world.hr().writes(), 0);
    gate.open();
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.hr().writes(), 1);
}

#[tokio::test]
async fn a_refused_write_changes_nothing() {
    let world = World::small().await;
    let faults = world.hr().faults();
    faults.reject("Invalid employee id", Times::Next(1));
    let (status, answer) = world.hr_call(Method::POST, RECORDS, Some(training("x"))).await;
    assert_eq!((status, &answer["detail"]), (400, &json!("Invalid employee id")));
    faults.conflict(Times::Next(1));
    assert_eq!(world.hr_call(Method::POST, RECORDS, Some(training("x"))).await.0, 409);
    faults.unavailable(503, Times::Next(1));
    assert_eq!(world.hr_call(Method::POST, RECORDS, Some(training("x"))).await.0, 503);
    faults.unauthorized(Times::Next(1));
    assert_eq!(world.hr_call(Method::POST, RECORDS, Some(training("x"))).await.0, 401);
    faults.not_found(HrArea::Tables, Times::Always);
    assert_eq!(world.hr_call(Method::POST, RECORDS, Some(training("x"))).await.0, 201, "tables are another area");
    assert_eq!(world.hr().writes(), 1);
}

#[tokio::test]
async fn people_who_are_unknown_or_twice_in_hr_are_expected_nowhere() {
    let options =
        SandboxOptions { learners: 6, unknown_learners: 2, ambiguous_learners: 1, ..SandboxOptions::default() };
    let world = World::start(options).await;
    let (learners, course) = (world.portal().learner_ids(), world.portal().course_ids()[0].clone());
    for learner in &learners {
        let _hook = world.portal().complete_course(learner, &course);
    }
    let expected = || -> BTreeSet<String> {
        world.portal().expected_rows().into_values().map(|row| row.employee_number).collect()
    };
    assert_eq!(expected(), BTreeSet::from(["E10001", "E10002", "E10003"].map(str::to_owned)));
    assert_eq!(world.hr().employee_ids("E10004").len(), 2);
    let hired = world.hr().hire("E10005", "five@example.com");
    assert!(expected().contains("E10005"));
    assert!(world.hr().remove_person(&hired));
    assert!(!expected().contains("E10005"));
}

#[tokio::test]
async fn rows_written_as_expected_read_back_as_expected() {
    let world = World::start(SandboxOptions { learners: 20, history: 60, ..SandboxOptions::default() }).await;
    let _hook = world.portal().award_competency(&world.portal().learner_ids()[7], "Team lead");
    let expected = world.portal().expected_rows();
    assert_eq!(expected.len(), 61);
    for (key, row) in &expected {
        let person = world.hr().employee_ids(&row.employee_number).pop().expect("a person");
        let mut body = json!(row.fields);
        let path = match row.object.strip_prefix("table:") {
            None => {
                body["notes"] = json!(key);
                format!("/api/v1/training/record/employee/{person}")
            }
            Some(table) => {
                body["customReference"] = json!(key);
                format!("/api/v1_1/employees/{person}/tables/{table}")
            }
        };
        assert_eq!(world.hr_call(Method::POST, &path, Some(body)).await.0, 201, "{row:?}");
    }
    let held: BTreeMap<String, ExpectedRow> = world
        .hr()
        .rows()
        .into_iter()
        .map(|row| {
            let mut fields = row.fields;
            let mark = fields.remove("notes").or_else(|| fields.remove("customReference")).expect("a mark");
            (mark, ExpectedRow { employee_number: row.employee_number, object: row.object, fields })
        })
        .collect();
    assert_eq!(held, expected);
}

#[tokio::test]
async fn people_can_edit_copy_and_delete_rows_by_hand() {
    let world = World::small().await;
    world.hr_call(Method::POST, RECORDS, Some(training("mark"))).await;
    assert!(world.hr().edit_row("training", "1", "hours", "9"));
    assert!(!world.hr().edit_row("training", "1", "expires", "9"), "there is no such field");
    assert_eq!(world.hr().copy_row("training", "1").as_deref(), Some("2"));
    assert_eq!(world.hr().rows()[1].fields["hours"], "9");
    assert!(world.hr().delete_row("training", "1"));
    assert_eq!(world.hr().add_row("table:customCompetencies", "1", &[("competency", "x")]).as_deref(), Some("1"));
    assert_eq!(world.hr().rows().len(), 2);
    assert_eq!(world.hr().writes(), 1, "only the API's writes count");
}

#[tokio::test]
async fn both_pages_need_no_key_and_escape_what_they_show() {
    let world = World::small().await;
    world.hr_call(Method::POST, RECORDS, Some(training("<script>alert(1)</script>"))).await;
    let _hook = world.portal().award_competency(&world.portal().learner_ids()[0], "<b>Lead</b>");
    for (url, shown) in
        [(world.hr().url(), "&lt;script&gt;alert(1)"), (world.portal().url(), "&lt;b&gt;Lead&lt;/b&gt;")]
    {
        let html = world.http.get(&url).send().await.expect("answer").text().await.expect("text");
        assert!(html.contains(shown), "{html}");
        assert!(!html.contains("<script") && !html.contains("<b>"));
    }
}

#[tokio::test]
async fn the_chat_takes_one_message_a_second_and_no_field_that_it_does_not_know() {
    let world = World::small().await;
    let chat = &world.sandbox.chat;
    let post = async |url: String, body: Value| {
        let answer = world.http.post(url).json(&body).send().await.expect("the chat answers");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("an answer is JSON"))
    };
    let (status, answer) = post(chat.webhook_url(), json!({"text": "one"})).await;
    assert_eq!((status, &answer["name"]), (200, &json!("spaces/SANDBOX/messages/1")));
    let (status, answer) = post(chat.webhook_url(), json!({"text": "two"})).await;
    assert_eq!((status, &answer["error"]["status"]), (429, &json!("RESOURCE_EXHAUSTED")));
    world.clock.pass(1_000);
    assert_eq!(post(chat.webhook_url(), json!({"text": "three"})).await.0, 200);
    world.clock.pass(1_000);
    let (status, answer) = post(chat.webhook_url(), json!({"text": "four", "title": "x"})).await;
    assert!(status == 400 && answer.to_string().contains("Unknown name"), "{answer}");
    let (status, answer) = post(chat.webhook_url().replace("key=", "key=x"), json!({"text": "five"})).await;
    assert!(status == 400 && answer.to_string().contains("API_KEY_INVALID"), "{answer}");
    assert_eq!(post(format!("{}x", chat.webhook_url()), json!({"text": "six"})).await.0, 401);
    let texts: Vec<String> = chat.messages().into_iter().map(|message| message.text).collect();
    assert_eq!(texts, ["one", "three"]);
    let page = world.http.get(chat.url()).send().await.expect("answer").text().await.expect("text");
    assert!(page.contains("three") && page.contains("<dt>Refused as too fast<dd>1"), "{page}");
}

#[tokio::test]
async fn a_button_makes_it_true_and_says_what_became_of_the_webhook() {
    let world = World::small().await;
    let press = async |button: &str, form: &[(&str, &str)]| {
        let url = format!("{}/sandbox/{button}", world.portal().url());
        let answer = world.http.post(url).header("accept", "text/plain").form(form).send().await;
        let answer = answer.expect("the portal answers");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    assert_eq!(press("test", &[]).await.0, 422, "nobody said where webhooks go");
    // The chat stands in for a receiver: it answers 404 to what is no message.
    let receiver = format!("{}/hooks/main/x", world.sandbox.chat.url());
    world.portal().send_webhooks(world.http.clone(), &receiver);
    let page = world.http.get(world.portal().url()).send().await.expect("answer").text().await.expect("text");
    assert!(page.contains("Test Webhook") && page.contains(&receiver), "{page}");

    let (learners, courses) = world.portal().names();
    let form = [("learner", learners[0].as_str()), ("course", courses[1].as_str())];
    let (status, words) = press("complete", &form).await;
    assert!(status == 502 && words.contains("was answered with 404"), "{words}");
    assert!(words.contains("stands in the portal all the same"), "{words}");
    assert_eq!(world.portal().completions_of(&world.portal().learner_ids()[0]).len(), 1);
    assert_eq!(press("certify", &form).await.0, 502);
    assert_eq!(world.portal().certificates_of(&world.portal().learner_ids()[0]).len(), 1);
    let (status, words) = press("test", &[]).await;
    assert!(status == 502 && !words.contains("all the same"), "{words}");

    let nobody = learners[0].replace('1', "");
    let (status, words) = press("complete", &[("learner", &nobody), ("course", &courses[0])]).await;
    assert!(status == 422 && words.contains(&format!("did you mean \"{}\"?", learners[0])), "{words}");
    let (status, words) = press("complete", &[("learner", &learners[0]), ("course", "Fire Saftey")]).await;
    assert!(status == 422 && words.contains("did you mean \"Fire Safety\"?"), "{words}");
    assert_eq!(press("webhook", &[("url", "ftp://x")]).await.0, 422);
    assert_eq!(press("webhook", &[("url", "http://127.0.0.1:1/x")]).await.0, 200);
    let (status, words) = press("test", &[]).await;
    assert!(status == 502 && words.contains("nobody answers at http://127.0.0.1:1/x"), "{words}");
}

#[tokio::test]
async fn a_stopped_sandbox_closes_its_ports() {
    let world = World::small().await;
    let url = world.portal().url();
    assert!(world.http.get(&url).send().await.is_ok());
    world.sandbox.stop().await;
    assert!(world.http.get(&url).send().await.is_err());
}

#[tokio::test]
async fn guesses_about_lists_can_be_switched_the_other_way() {
    let world = World::small().await;
    let faults = world.portal().faults();
    faults.arm(PortalFault::FilteredPagesEmpty, Area::Users, Times::Always);
    let (_, first) = world.read("/users?_limit=5&_filter=isLearner").await;
    let (_, second) = world.read("/users?_limit=5&_offset=1&_filter=isLearner").await;
    assert_eq!((&first["returnedItems"], &first["totalItems"]), (&json!(5), &json!(12)));
    assert_eq!((&second["returnedItems"], &second["totalItems"]), (&json!(0), &json!(12)));
    faults.arm(PortalFault::BareArray, Area::Courses, Times::Next(1));
    assert_eq!(world.read("/courses").await.1.as_array().map(Vec::len), Some(3));
    let course = &world.portal().course_ids()[0];
    let path = format!("/courses/{course}/enrollments?_filter=dateEdited ge datetime'2026-01-01'");
    assert_eq!(world.read(&path).await.0, 200);
    faults.refuse_filter("dateEdited");
    assert_eq!(world.read(&path).await.0, 422);
    faults.clear();
    assert_eq!(world.read(&path).await.0, 200);
}

#[tokio::test]
async fn the_rate_limit_can_answer_with_a_wait_and_without_a_body() {
    let options = SandboxOptions { rate_per_second: Some(1), rate_burst: 1, ..SandboxOptions::default() };
    let world = World::start(options).await;
    world.portal().faults().throttle_style(Wait::Seconds(1), true);
    let token = world.log_in().await;
    let answer = world.read_with(&token, "/users").await.expect("answer");
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"1".parse().expect("a header")));
    assert!(answer.bytes().await.expect("a body").is_empty());
}
