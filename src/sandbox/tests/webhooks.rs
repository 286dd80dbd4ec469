//! What befalls webhooks on their way out.

use super::*;

async fn world(quirks: &[(&str, &str)]) -> World {
    let world = World::small().await;
    for (name, value) in quirks {
        world.portal().set_quirk(name, value).expect("there is such a quirk");
    }
    world
}

fn completed(world: &World) -> HookBody {
    world.portal().happen("completed", "", "").expect("it can").hooks.remove(0)
}

#[tokio::test]
async fn without_quirks_each_webhook_goes_out_at_once_and_once() {
    let world = world(&[]).await;
    let hook = completed(&world);
    assert_eq!(world.portal().post(vec![hook.clone()]), [hook]);
    assert_eq!(world.portal().post(Vec::new()), []);
}

#[tokio::test]
async fn webhooks_are_dropped_or_doubled() {
    let world = world(&[("hook_drop", "100")]).await;
    assert_eq!(world.portal().post(vec![completed(&world)]), []);
    world.portal().reset_quirks();
    world.portal().set_quirk("hook_duplicate", "100%").expect("there is such a quirk");
    let hook = completed(&world);
    assert_eq!(world.portal().post(vec![hook.clone()]), [hook.clone(), hook]);
}

#[tokio::test]
async fn a_webhook_is_overtaken_by_the_next() {
    let world = world(&[("hook_reorder", "100")]).await;
    let (first, second) = (completed(&world), completed(&world));
    assert_eq!(world.portal().post(vec![first.clone()]), []);
    assert_eq!(world.portal().post(vec![second.clone()]), [second, first]);
}

#[tokio::test]
async fn a_delayed_webhook_goes_out_when_its_time_has_come() {
    let world = world(&[("hook_delay", "60")]).await;
    let hook = completed(&world);
    assert_eq!(world.portal().post(vec![hook.clone()]), []);
    world.portal().advance(59);
    assert_eq!(world.portal().post(Vec::new()), []);
    world.clock.pass(1_000);
    assert_eq!(world.portal().post(Vec::new()), [hook]);
}

#[tokio::test]
async fn a_burst_goes_out_when_it_is_full() {
    let world = world(&[("hook_burst", "3")]).await;
    let hooks = [completed(&world), completed(&world), completed(&world)];
    for hook in &hooks[..2] {
        assert_eq!(world.portal().post(vec![hook.clone()]), []);
    }
    assert_eq!(world.portal().post(vec![hooks[2].clone()]), hooks);
}

#[tokio::test]
async fn ids_and_correlations_can_be_left_out() {
    let world = world(&[("hook_dialect", "B"), ("hook_ids", "never"), ("hook_correlation", "none")]).await;
    let body: Value = serde_json::from_slice(&completed(&world).body).expect("JSON");
    let keys: Vec<&str> = body.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["event", "clientId", "userId"]);
    world.portal().set_quirk("hook_dialect", "A").expect("there is such a quirk");
    world.portal().set_quirk("hook_ids", "always").expect("there is such a quirk");
    let body = String::from_utf8(completed(&world).body).expect("text");
    assert!(body.contains("enrollmentId") && body.contains("courseId"), "{body}");
}

#[tokio::test]
async fn an_early_webhook_comes_before_the_api_shows_the_fact() {
    let world = world(&[("hook_early", "1")]).await;
    let learner = world.portal().learner_ids().remove(0);
    let happened = world.portal().happen("competency", &learner, "").expect("it can");
    assert_eq!(happened.hooks.len(), 1);
    let count = async || world.list(&format!("/users/{learner}/competencies"), "competencies").await.len();
    assert_eq!((count().await, count().await), (0, 1));
}
