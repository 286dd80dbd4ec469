//! `kill -9` of the real program, everywhere: nothing acknowledged is lost, no row is written twice. And with the promise broken on
//! purpose the same test finds losses and duplicates: else it would prove nothing.

use std::collections::BTreeSet;

use futures::future::join_all;
use learnsync::fail_point;
use learnsync::store::audit::audit;

use crate::world::{Daemon, World, is_idle, say};

/// Kills at each fail point.
const HITS: usize = 5;

/// Kills at random under load.
const RANDOM_KILLS: usize = 20;

/// Learners who complete a course in each life of the daemon.
const LEARNERS_PER_LIFE: usize = 6;

/// What a series of kills cost.
struct Cost {
    kills: usize,
    acknowledged: usize,
    lost: usize,
    duplicates: usize,
}

/// Lives of the daemon in one world, each ended by SIGKILL.
struct Series<'a> {
    world: &'a World,
    broken: Option<&'a str>,
    fresh_learners: Vec<String>,
    acknowledged: BTreeSet<String>,
    kills: usize,
}

impl<'a> Series<'a> {
    fn new(world: &'a World, broken: Option<&'a str>) -> Self {
        let fresh_learners = world.sandbox.portal.learner_ids();
        Self { world, broken, fresh_learners, acknowledged: BTreeSet::new(), kills: 0 }
    }

    fn environment(&self, fail_point: Option<String>) -> Vec<(&'static str, String)> {
        let broken = self.broken.map(|what| ("LEARNSYNC_BREAK", what.to_owned()));
        broken.into_iter().chain(fail_point.map(|point| ("LEARNSYNC_FAIL_POINT", point))).collect()
    }

    async fn start(&self, fail_point: Option<String>) -> Daemon {
        let environment = self.environment(fail_point);
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.world.start(&environment).await
    }

    /// Some learners, each new, complete a course; their webhooks are sent at once. Each learner has one webhook: a lost one shows.
    async fn load(&mut self, url: &str) {
        let course = self.world.sandbox.portal.course_ids().remove(0);
        let learners: Vec<String> = self.fresh_learners.drain(..LEARNERS_PER_LIFE).collect();
        let world = self.world;
        let sent = join_all(learners.iter().map(|learner| {
            let hook = world.sandbox.portal.complete_course(learner, &course);
            async move { world.post(url, &hook).await }
        }))
        .await;
        for (learner, status) in learners.into_iter().zip(sent) {
            if status == Some(200) {
                self.acknowledged.insert(learner);
            }
        }
    }

    /// One life that is killed at a fail point.
    async fn life_until(&mut self, point: &str, times: usize) {
        let mut daemon = self.start(Some(format!("{point}:{times}"))).await;
        let url = daemon.url.clone();
        let kill = async {
            daemon.until(&format!("fail point {point}")).await;
            daemon.kill().await;
        };
        tokio::join!(kill, self.load(&url));
        self.killed();
    }

    /// What was killed leaves a ledger that keeps its promises.
    fn killed(&mut self) {
        self.kills += 1;
        let found = audit(&self.world.store()).expect("the store can be audited");
        let broken: Vec<_> = found.broken().collect();
        assert!(broken.is_empty(), "after {} kills: {broken:#?}", self.kills);
    }

    /// One life that is killed after so many of its words.
    async fn life_of_words(&mut self, words: u64) {
        let mut daemon = self.start(None).await;
        let url = daemon.url.clone();
        let kill = async {
            for _ in 0..words {
                daemon.next_line().await;
            }
            daemon.kill().await;
        };
        tokio::join!(kill, self.load(&url));
        self.killed();
    }

    /// The last life is left in peace; then the count is taken.
    async fn end(self) -> Cost {
        let mut daemon = self.start(None).await;
        self.world.wait(&mut daemon, "peace after the last kill", |status, _| is_idle(status)).await;
        daemon.kill().await;
        let rows = self.world.rows_by_key();
        let expected = self.world.keys_of(&self.acknowledged);
        assert_eq!(expected.len(), self.acknowledged.len(), "each acknowledged webhook stands for one completion");
        assert_eq!(rows.get("foreign"), None, "nothing without our mark was written");
        Cost {
            kills: self.kills,
            acknowledged: self.acknowledged.len(),
            lost: expected.iter().filter(|key| !rows.contains_key(*key)).count(),
            duplicates: rows.values().map(|count| count - 1).sum(),
        }
    }
}

fn row(what: &str, cost: &Cost) -> String {
    format!("{what:<34} {:>5} {:>13} {:>6} {:>11}", cost.kills, cost.acknowledged, cost.lost, cost.duplicates)
}

fn header() -> String {
    format!("{:<34} {:>5} {:>13} {:>6} {:>11}", "killed", "hits", "acknowledged", "lost", "duplicates")
}

async fn kill_at(point: &str, broken: Option<&str>, seed: u64) -> Cost {
    let world = World::new(seed, (HITS + 1) * LEARNERS_PER_LIFE).await;
    world.first_sweep().await;
    let mut series = Series::new(&world, broken);
    for hit in 0..HITS {
        // The first, second or third time that a life gets there; but intake may take all events of a life at once.
        let times = if point == fail_point::AFTER_INTAKE { 1 } else { 1 + hit % 3 };
        series.life_until(point, times).await;
    }
    series.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_fail_point_loses_nothing_acknowledged_and_writes_nothing_twice() {
    let mut table = vec![header()];
    let mut costs = Vec::new();
    for (seed, point) in (1..).zip(fail_point::ALL) {
        let cost = kill_at(point, None, seed).await;
        table.push(row(point, &cost));
        costs.push((point, cost));
    }
    say(&table.join("\n"));
    for (point, cost) in costs {
        assert_eq!((cost.kills, cost.lost, cost.duplicates), (HITS, 0, 0), "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_under_load_lose_nothing_acknowledged_and_write_nothing_twice() {
    let world = World::new(99, (RANDOM_KILLS + 1) * LEARNERS_PER_LIFE).await;
    world.first_sweep().await;
    let mut series = Series::new(&world, None);
    for _ in 0..RANDOM_KILLS {
        let words = world.entropy.below(60);
        series.life_of_words(words).await;
    }
    let cost = series.end().await;
    say(&format!("{}\n{}", header(), row("at random, under load", &cost)));
    assert_eq!((cost.kills, cost.lost, cost.duplicates), (RANDOM_KILLS, 0, 0));
    assert!(cost.acknowledged > RANDOM_KILLS, "the load was real");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_look_up_the_same_test_finds_duplicates() {
    let cost = kill_at(fail_point::AFTER_WRITE, Some("lookup"), 51).await;
    say(&format!("{}\n{}", header(), row("after_write, look-up disabled", &cost)));
    assert!(cost.duplicates > 0, "the test would not notice a row that is written twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_answer_before_the_commit_the_same_test_finds_losses() {
    let cost = kill_at(fail_point::AFTER_APPEND, Some("commit"), 52).await;
    say(&format!("{}\n{}", header(), row("after_append, answer before commit", &cost)));
    assert!(cost.lost > 0, "the test would not notice a webhook that was acknowledged and lost");
}
