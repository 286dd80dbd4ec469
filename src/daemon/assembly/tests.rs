//! Several portals in one assembly; and a destination in shadow.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use chrono_tz::Tz;
use learnsync_sdk::Learner;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;
use crate::config::Files;
use crate::daemon::verdict;
use crate::domain::chance::Generator;
use crate::domain::lane::Lane;
use crate::lms::{LearnerPage, LmsError, Probe, Profile, ReadRecords};
use crate::pipeline::worker::{REST_MAX, work};
use crate::store::tests::{Ledger, lms_id};

mod shadow;

/// How a portal answers.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Knows,
    NeverAnswers,
    IsDown,
}

/// An LMS that counts who asked.
struct Fake {
    manner: Manner,
    asked: watch::Sender<u32>,
}

impl Fake {
    fn new(manner: Manner) -> Arc<Self> {
        Arc::new(Self { manner, asked: watch::channel(0).0 })
    }
}

#[async_trait]
impl Lms for Fake {
    async fn learner(&self, id: &str) -> Result<Option<Profile>, LmsError> {
        self.asked.send_modify(|asked| *asked += 1);
        match self.manner {
            Manner::Knows => {
                let learner = Learner { id: id.to_owned(), is_active: true, ..Learner::default() };
                Ok(Some(Profile { learner, person: None }))
            }
            Manner::NeverAnswers => std::future::pending().await,
            Manner::IsDown => Err(LmsError::Unavailable("down".to_owned())),
        }
    }

    async fn records(&self, _learner_id: &str) -> Result<ReadRecords, LmsError> {
        Ok(ReadRecords::default())
    }

    async fn list(&self, _kind: SubjectKind) -> Result<ReadRecords, LmsError> {
        Ok(ReadRecords::default())
    }

    async fn learner_ids(&self, _page: u32) -> Result<LearnerPage, LmsError> {
        Ok(LearnerPage::default())
    }

    async fn probe(&self) -> Result<Probe, LmsError> {
        Ok(Probe::default())
    }
}

const LEARNERS: u32 = 200;
const READERS: usize = 3;

#[tokio::test(start_paused = true)]
async fn a_portal_that_hangs_or_is_down_does_not_hold_up_the_other() {
    for manner in [Manner::NeverAnswers, Manner::IsDown] {
        let ledger = Ledger::new().await;
        // The ailing one was marked first, and comes first in the order of names, too.
        for portal in ["ailing", "well"] {
            let run = ledger.store.begin_sweep(portal).await.expect("begins");
            let ids = (0..LEARNERS).map(lms_id).collect();
            ledger.store.advance_sweep(portal, ids, run).await.expect("marks");
        }
        let (ailing, well) = (Fake::new(manner), Fake::new(Manner::Knows));
        let parts = |lms: &Arc<Fake>| PortalParts {
            lms: lms.clone(),
            calendar: Calendar::default(),
            aliases: Aliases::default(),
        };
        let portals = BTreeMap::from([("ailing".to_owned(), parts(&ailing)), ("well".to_owned(), parts(&well))]);
        let assembly = Assembly {
            store: Arc::clone(&ledger.store),
            portals,
            destinations: &[],
            installation: "test",
            schedule: Schedule::parse("15 2 * * *", Tz::UTC).expect("parses"),
            readers: READERS,
            clock: ledger.clock.clone(),
            entropy: Arc::new(Generator::seeded(1)),
            metrics: Arc::new(Metrics::new()),
        };
        let assembled = assembly.assemble(&mut Bells::default()).await.expect("assembles");
        let (_stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (step, bell) in assembled.steps.into_iter().filter(|(step, _)| step.name().starts_with("refresh")) {
            tasks.spawn(work(step, bell, ledger.clock.clone(), REST_MAX, stopped.clone()));
        }
        let mut read = well.asked.subscribe();
        let all = read.wait_for(|asked| *asked >= LEARNERS);
        let all = tokio::time::timeout(Duration::from_secs(60), all).await;
        assert!(all.is_ok_and(|asked| asked.is_ok()), "only {} were read", *well.asked.borrow());
        let tried = *ailing.asked.borrow();
        assert!(tried <= READERS as u32, "{tried} learners found out that the portal is down");
    }
}

#[tokio::test]
async fn each_portal_has_its_own_door_budget_session_and_zone() {
    let text = r#"
installation = "acme"
store.path = "/var/lib/learnsync"
[portals.emea]
region = "eu"
api_key = { credential = "absorb_api_key" }
username = "learnsync"
password = { credential = "absorb_password" }
webhook_token = { credential = "webhook_token" }
zone = "Europe/Berlin"
calls_per_second_max = 20
[portals.us]
region = "us"
sandbox = true
api_key = { credential = "absorb_api_key" }
username = "learnsync"
password = { credential = "absorb_password" }
webhook_token = { credential = "absorb_password" }
zone = "America/New_York"
"#;
    let verdict = verdict::without_secrets(&Files::of_text(Path::new("learnsync.toml"), text));
    let checked = verdict.whole().unwrap_or_else(|errors| panic!("{errors}"));
    let urls: Vec<String> = checked.config.portals.values().map(|portal| portal.api_url()).collect();
    assert_eq!(urls, ["https://rest.myabsorb.eu", "https://rest.sandbox.myabsorb.com"]);
    let rates: Vec<u32> = checked.config.portals.values().map(|portal| portal.calls_per_second_max).collect();
    let zones: Vec<&str> = checked.config.portals.values().map(|portal| portal.zone.name()).collect();
    assert_eq!((rates, zones), (vec![20, 50], vec!["Europe/Berlin", "America/New_York"]));
    let ledger = Ledger::new().await;
    for (name, until) in [("emea", 5_000), ("us", 9_000)] {
        let at = crate::domain::time::Timestamp(until);
        ledger.store.save_token(name, Some((format!("token of {name}"), at))).await.expect("keeps");
        ledger.store.keep_asked_until(name, at).await.expect("keeps");
    }
    let token = ledger.store.load_token("emea").await.expect("opens").map(|(token, _)| token);
    assert_eq!(token.as_deref(), Some("token of emea"));
    let portal = |name| ledger.store.asked_until(name);
    assert_ne!(portal("emea").await.expect("asks"), portal("us").await.expect("asks"), "a pause is one portal's");
}

#[tokio::test]
async fn a_portal_without_a_shared_budget_is_the_same_in_each_lane() {
    let ledger = Ledger::new().await;
    let fake = Fake::new(Manner::Knows);
    let portal = Portal::load("main", fake.clone(), Calendar::default(), &ledger.store).await.expect("loads");
    for lane in Lane::ALL {
        assert!(portal.lms(lane).learner("a").await.is_ok());
    }
    assert_eq!(*fake.asked.borrow(), 4);
}
