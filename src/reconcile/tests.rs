//! Whole nights against an LMS that shows less than it holds: nothing is withdrawn for that, and what is really gone is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use chrono_tz::Tz;
use learnsync_sdk::{Learner, RecordKind};

use super::schedule::Schedule;
use super::sweep::{Lists, Sweep};
use crate::domain::chance::Generator;
use crate::domain::drift::{GonePolicy, Policies};
use crate::domain::record::{ReadRecords, Record};
use crate::domain::standing::Calendar;
use crate::domain::subject::SubjectKind;
use crate::lms::{LearnerPage, Lms, LmsError, Probe, Profile};
use crate::pipeline::midnight::Midnight;
use crate::pipeline::portal::Portal;
use crate::pipeline::refresh::Refresh;
use crate::pipeline::worker::{Turn, Work};
use crate::store::tests::lms_id;
use crate::telemetry::Metrics;
use shelf::{HOUR_MS, LISTS, World, completion, world};

const LEARNERS: u32 = 120;
const PER_PAGE: usize = 50;
const DEPARTMENTS: u64 = 12;

pub(crate) mod shelf;

/// In which way the LMS shows less than it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    All,
    /// Each list of enrolments is empty and says that it is whole.
    NoEnrolments,
    /// No learner at all.
    Nobody,
    /// Our role sees every second learner.
    Half,
    /// Our role lost a department, and with it the enrolments of a few learners, who are still listed.
    FewerDepartments,
    /// The second page of learners, and every third list of enrolments, break off.
    DiesInThePage,
}

struct Fake {
    shows: Shows,
    gone: BTreeSet<u32>,
}

struct FakeLms(Mutex<Fake>);

impl FakeLms {
    fn state(&self) -> MutexGuard<'_, Fake> {
        self.0.lock().expect("nobody panicked with it")
    }
}

fn number(id: &str) -> u32 {
    id.rsplit('-').next().expect("a number").parse().expect("a number")
}

#[async_trait]
impl Lms for FakeLms {
    async fn learner(&self, id: &str) -> Result<Option<Profile>, LmsError> {
        let is_hidden = match self.state().shows {
            Shows::Half => number(id).is_multiple_of(2),
            Shows::Nobody => true,
            Shows::All | Shows::NoEnrolments | Shows::FewerDepartments | Shows::DiesInThePage => false,
        };
        let learner = Learner { id: id.to_owned(), is_active: true, ..Learner::default() };
        Ok((!is_hidden).then_some(Profile { learner, person: None }))
    }

    async fn records(&self, id: &str) -> Result<ReadRecords, LmsError> {
        let state = self.state();
        let number = number(id);
        let records: Vec<Record> = match state.shows {
            Shows::NoEnrolments => Vec::new(),
            Shows::FewerDepartments if number < 7 => Vec::new(),
            Shows::DiesInThePage if number.is_multiple_of(3) => {
                return Err(LmsError::PartialRead("GET /users/../enrollments: 0 of 1 rows".to_owned()));
            }
            _ if state.gone.contains(&number) => Vec::new(),
            _ => vec![completion(number, 0)],
        };
        Ok(ReadRecords { records, complete: BTreeSet::from([RecordKind::Completion]) })
    }

    async fn list(&self, _kind: SubjectKind) -> Result<ReadRecords, LmsError> {
        Ok(ReadRecords::default())
    }

    async fn learner_ids(&self, page: u32) -> Result<LearnerPage, LmsError> {
        let shows = self.state().shows;
        if shows == Shows::DiesInThePage && page == 1 {
            return Err(LmsError::Unavailable("the connection broke".to_owned()));
        }
        let is_seen = |number: &u32| match shows {
            Shows::Half => !number.is_multiple_of(2),
            Shows::Nobody => false,
            Shows::All | Shows::NoEnrolments | Shows::FewerDepartments | Shows::DiesInThePage => true,
        };
        let all: Vec<String> = (0..LEARNERS).filter(is_seen).map(lms_id).collect();
        let ids: Vec<String> = all.iter().skip(page as usize * PER_PAGE).take(PER_PAGE).cloned().collect();
        let more = all.len() > (page as usize + 1) * PER_PAGE;
        Ok(LearnerPage { ids, total: all.len() as u64, more })
    }

    async fn departments(&self) -> Result<Option<u64>, LmsError> {
        Ok(Some(if self.state().shows == Shows::FewerDepartments { DEPARTMENTS - 1 } else { DEPARTMENTS }))
    }

    async fn probe(&self) -> Result<Probe, LmsError> {
        Ok(Probe::default())
    }
}

/// A daemon's steps around the fake LMS and the shelf.
struct Nights {
    world: World,
    lms: Arc<FakeLms>,
    portal: Arc<Portal>,
}

async fn nights() -> Nights {
    let world = world(LISTS, Policies { gone: GonePolicy::Withdraw, ..Policies::default() }).await;
    let lms = Arc::new(FakeLms(Mutex::new(Fake { shows: Shows::All, gone: BTreeSet::new() })));
    let as_lms: Arc<dyn Lms> = Arc::clone(&lms) as Arc<dyn Lms>;
    let portal = Portal::load("main", as_lms, Calendar::default(), &world.store).await.expect("loads");
    Nights { world, lms, portal: Arc::new(portal) }
}

impl Nights {
    fn sweep(&self) -> Sweep {
        Sweep {
            portal: Arc::clone(&self.portal),
            store: Arc::clone(&self.world.store),
            schedule: Schedule::parse("15 2 * * *", Tz::UTC).expect("parses"),
            asked: Arc::default(),
            clock: self.world.clock.clone(),
            entropy: Arc::new(Generator::seeded(1)),
            refresh: Arc::default(),
            destinations: BTreeMap::new(),
            backfill: Arc::default(),
            lists: Vec::new(),
            under_way: AtomicBool::new(false),
            known: Lists::default(),
        }
    }

    fn refresh(&self) -> Refresh {
        Refresh {
            store: Arc::clone(&self.world.store),
            portal: Arc::clone(&self.portal),
            plan: Arc::new(self.world.plan.clone()),
            clock: self.world.clock.clone(),
            entropy: Arc::new(Generator::seeded(2)),
            more: Arc::default(),
            deliver: Vec::new(),
            metrics: Arc::new(Metrics::new()),
        }
    }

    /// Some hours, in which everything runs that is due: each step once, and again after half an hour.
    async fn hours(&self, hours: i64) {
        let sweep = self.sweep();
        for _ in 0..hours * 2 {
            for _ in 0..20 {
                if sweep.run_once().await.expect("the store works") != Turn::Worked {
                    break;
                }
            }
            let midnight = Midnight { store: Arc::clone(&self.world.store), refresh: Vec::new() };
            midnight.run_once().await.expect("the store works");
            let refresh = self.refresh();
            for _ in 0..2 * LEARNERS {
                if refresh.run_once().await.expect("the store works") != Turn::Worked {
                    break;
                }
            }
            self.world.deliver().await;
            self.world.clock.later(HOUR_MS / 2);
        }
    }

    /// A verify, now; answers how many rows it removes, and why it is held, if it is.
    async fn verify(&self) -> (u64, Option<String>) {
        let (counts, held) = self.world.verify().await;
        (counts.withdrawals, held)
    }
}

#[tokio::test]
async fn an_lms_that_shows_less_than_it_holds_withdraws_nothing_and_three_facts_that_are_really_gone_are() {
    let faults = [Shows::NoEnrolments, Shows::Nobody, Shows::Half, Shows::FewerDepartments, Shows::DiesInThePage];
    for shows in faults {
        let nights = nights().await;
        nights.hours(26).await;
        let (removed, held) = nights.verify().await;
        assert_eq!((removed, held, nights.world.rows().rows.len()), (0, None, LEARNERS as usize), "{shows:?}");
        nights.lms.state().shows = shows;
        let mut why = None;
        for _ in 0..3 {
            nights.hours(26).await;
            let (removed, held) = nights.verify().await;
            // What is held removes nothing.
            assert!(removed == 0 || held.is_some(), "{shows:?}: {removed} rows would go");
            why = held.or(why);
            nights.world.deliver().await;
        }
        assert_eq!(nights.world.rows().rows.len(), LEARNERS as usize, "{shows:?}");
        println!(
            "{shows:?}: nothing is withdrawn; {}",
            why.clone().unwrap_or_else(|| "nothing is concluded".to_owned())
        );
        // A list that says that it is whole, and is empty, is caught by the guard; the others are not even believed.
        assert_eq!(why.is_some(), shows == Shows::NoEnrolments, "{shows:?}: {why:?}");
        {
            let mut state = nights.lms.state();
            state.shows = Shows::All;
            state.gone = BTreeSet::from([20, 21, 22]);
        }
        let mut removed = 0;
        for _ in 0..3 {
            nights.hours(26).await;
            let (withdrawn, held) = nights.verify().await;
            assert_eq!(held, None, "{shows:?}");
            removed += withdrawn;
        }
        assert_eq!(removed, 3, "{shows:?}");
        let left: BTreeSet<String> = nights.world.rows().rows.values().map(|row| row.person.clone()).collect();
        let expected: BTreeSet<String> =
            (0..LEARNERS).filter(|number| !(20..23).contains(number)).map(|number| format!("p{number:012}")).collect();
        assert_eq!(left, expected, "{shows:?}");
    }
}
