//! The quirks: that each can be switched, and what it does to an answer.

use super::*;

impl World {
    async fn control(&self, method: Method, path: &str, form: &[(&str, &str)]) -> (u16, Value) {
        let request = self.http.request(method, format!("{}/sandbox/{path}", self.portal().url())).form(form);
        let answer = request.send().await.expect("the portal answers");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    fn quirk(&self, name: &str, value: &str) {
        self.portal().set_quirk(name, value).expect("there is such a quirk");
    }
}

#[tokio::test]
async fn the_control_end_point_shows_and_sets_what_the_command_line_sets() {
    let world = World::small().await;
    let (_, before) = world.control(Method::GET, "quirks", &[]).await;
    assert_eq!(before.as_object().map(serde_json::Map::len), Some(QUIRKS.len()));
    assert_eq!((&before["rate"], &before["learning_paths"]), (&json!("0"), &json!("404")));
    let (status, after) = world.control(Method::POST, "quirks", &[("dates_with_z", ""), ("transient401", "7")]).await;
    assert_eq!((status, &after["dates_with_z"], &after["transient401"]), (200, &json!("on"), &json!("7")));
    let url = format!("{}/sandbox/quirks", world.portal().url());
    let sent = world.http.post(url).json(&json!({"transient401": 0, "unsortable": true})).send().await.expect("answer");
    let body: Value = sent.json().await.expect("JSON");
    assert_eq!((&body["transient401"], &body["unsortable"]), (&json!("0"), &json!("true")));
    world.portal().reset_quirks();
    assert_eq!(world.control(Method::GET, "quirks", &[]).await.1, before);
}

#[tokio::test]
async fn an_unknown_quirk_or_value_is_refused_with_the_nearest_and_changes_nothing() {
    let world = World::small().await;
    let (_, before) = world.control(Method::GET, "quirks", &[]).await;
    for (name, value, words) in [
        ("date_with_z", "on", "did you mean \"dates_with_z\"?"),
        ("dates_with_z", "onn", "did you mean \"on\"?"),
        ("transient401", "often", "takes a number up to"),
        ("hook_drop", "101", "percent"),
        ("certificates", "500", "on, 403, 404"),
        ("retry_after", "soon", "none, seconds, or date:seconds"),
    ] {
        let (status, body) = world.control(Method::POST, "quirks", &[("burst", "7"), (name, value)]).await;
        let said = body["message"].as_str().expect("words");
        assert!(status == 422 && said.contains(words), "{name}={value}: {said}");
    }
    assert_eq!(world.control(Method::GET, "quirks", &[]).await.1, before);
}

#[test]
fn every_quirk_has_a_sentence_and_a_name_of_its_own() {
    let names: BTreeSet<&str> = QUIRKS.iter().map(|quirk| quirk.name).collect();
    assert_eq!(names.len(), QUIRKS.len());
    for quirk in &QUIRKS {
        assert!(quirk.doc.ends_with('.') && !quirk.takes.is_empty(), "{}", quirk.name);
    }
}

#[tokio::test]
async fn every_nth_call_is_refused_although_its_token_is_valid() {
    let world = World::small().await;
    let token = world.log_in().await;
    world.quirk("transient401", "3");
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(world.read_with(&token, "/users").await.expect("answer").status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 401, 200, 200, 401]);
}

#[tokio::test]
async fn an_older_tenant_says_no_total_and_a_small_one_gives_small_pages() {
    let world = World::small().await;
    world.quirk("no_total_items", "on");
    world.quirk("page_rows_max", "5");
    let (_, body) = world.read("/users?_limit=1000&_offset=2").await;
    assert!(body.get("totalItems").is_none(), "{body}");
    assert_eq!((&body["returnedItems"], &body["limit"]), (&json!(2), &json!(5)));
    world.quirk("bare_arrays", "on");
    assert_eq!(world.read("/users?_offset=2").await.1.as_array().map(Vec::len), Some(2));
    world.quirk("unsortable", "on");
    assert_eq!(world.read("/users?_sort=id").await.0, 422);
}

#[tokio::test]
async fn version_1_has_capitals_and_whole_bare_lists_also_below_its_prefix() {
    let world = World::small().await;
    world.quirk("v1", "on");
    for path in ["/users?_limit=5", "/api/Rest/v1/Users"] {
        let (_, body) = world.read(path).await;
        assert_eq!(body.as_array().map(Vec::len), Some(12), "{path}");
        assert!(body[0]["EmailAddress"].is_string() && body[0].get("emailAddress").is_none(), "{body}");
    }
    world.quirk("v1", "off");
    assert_eq!(world.read("/api/Rest/v1/users").await.0, 404);
}

#[tokio::test]
async fn a_feature_that_is_off_answers_its_status() {
    let world = World::small().await;
    let learner = world.portal().learner_ids().remove(0);
    for (list, quirk) in
        [("certificates", "certificates"), ("competencies", "competencies"), ("learning-paths", "learning_paths")]
    {
        for (value, status) in [("on", 200), ("403", 403), ("404", 404)] {
            world.quirk(quirk, value);
            assert_eq!(world.read(&format!("/users/{learner}/{list}")).await.0, status, "{quirk}={value}");
        }
    }
}

#[tokio::test]
async fn a_scope_shows_the_people_and_departments_of_it_and_no_error() {
    let world = World::small().await;
    let (_, all) = world.read("/departments").await;
    let office = all["departments"].as_array().into_iter().flatten().find(|row| row["name"] == "Office");
    let office = office.expect("there is an office")["id"].clone();
    let (_, users) = world.read("/users").await;
    let (inside, outside): (Vec<_>, Vec<_>) =
        users["users"].as_array().expect("a list").iter().partition(|row| row["departmentId"] == office);
    world.quirk("scope", "office");
    let (_, seen) = world.read("/users").await;
    assert_eq!(seen["totalItems"], json!(inside.len()));
    assert_eq!(world.read("/departments").await.1["totalItems"], 1);
    let stranger = outside.first().expect("not all work in the office")["id"].as_str().expect("an id");
    assert_eq!(world.read(&format!("/users/{stranger}/enrollments")).await.0, 404);
    world.quirk("scope", "Sandbox Industries");
    assert_eq!(world.read("/users").await.1["totalItems"], 12, "the root has all below it");
    world.quirk("scope", "0%");
    assert_eq!(world.read("/users").await.1["totalItems"], 0);
    world.quirk("scope", "nowhere");
    assert_eq!(world.read("/users").await.1["totalItems"], 0);
    world.quirk("scope", "100%");
    assert_eq!(world.read("/users").await.1["totalItems"], 12);
}

#[tokio::test]
async fn the_clock_can_be_advanced_and_run_at_another_speed() {
    let world = World::small().await;
    let token = world.log_in().await;
    let (_, shown) = world.control(Method::POST, "clock", &[("advance", "14400")]).await;
    assert_eq!((&shown["now"], &shown["calendar"]), (&json!("2026-03-04T14:00:00Z"), &json!("2026-03-04T14:00:00Z")));
    assert_eq!(world.read_with(&token, "/users").await.expect("answer").status(), 401);
    world.control(Method::POST, "clock", &[("speed", "3600")]).await;
    world.clock.pass(10_000);
    let (_, shown) = world.control(Method::GET, "clock", &[]).await;
    assert_eq!((&shown["now"], &shown["calendar"]), (&json!("2026-03-04T14:00:10Z"), &json!("2026-03-05T00:00:00Z")));
    assert_eq!(world.control(Method::POST, "clock", &[("advance", "soon")]).await.0, 422);
    assert_eq!(world.control(Method::POST, "clock", &[("back", "1")]).await.0, 422);
}

#[tokio::test]
async fn the_deprecated_parameters_of_users_still_work() {
    let world = World::small().await;
    let (_, body) = world.read("/users?_limit=1").await;
    let email = body["users"][0]["emailAddress"].as_str().expect("text").to_uppercase();
    assert_eq!(world.read(&format!("/users?email={email}")).await.1["totalItems"], 1);
    assert_eq!(world.read("/users?externalId=E10001").await.1["totalItems"], 1);
    assert_eq!(world.read("/users?modifiedSince=2026-03-04").await.1["totalItems"], 0);
}
