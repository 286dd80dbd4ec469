//! The fake Absorb portal: what happens in it, the webhooks for that, and what a true HR system must then hold.

mod admin;
mod api;
mod bulk;
mod clock;
mod control;
mod data;
mod deeds;
mod hooks;
mod limiter;
mod outbox;
mod page;
mod quirks;
mod session;
mod shape;
mod shelf;
mod truth;
mod year;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use chrono::{Datelike, NaiveDate, NaiveTime};
use uuid::Uuid;

use super::SandboxOptions;
use super::faults::PortalFaults;
use super::hr::HrHandle;
use super::population::{Course, DAY_MS, Learner, guid, pick};
use super::server::Service;
use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::{Clock, Timestamp};
use admin::Webhook;
use clock::PortalClock;
use data::{Data, Department, Group};
use deeds::{Act, Moment, Subject, deed_named};
use hooks::{Event, Writing};
use outbox::Outbox;
use quirks::{Correlation, Quirks};
use session::Grants;

pub use hooks::HookBody;
pub use limiter::RateLimiter;
pub use quirks::{QUIRKS, Quirk};
pub use truth::ExpectedRow;
pub use year::Year;

/// The name of the administrator, of the API and of the buttons.
const ADMIN: &str = "learnsync.admin";

/// The portal behind its server.
struct Portal {
    data: Mutex<Data>,
    grants: Mutex<Grants>,
    faults: PortalFaults,
    quirks: Quirks,
    outbox: Outbox,
    seed: u64,
    api_key: Uuid,
    client: Uuid,
    password: String,
    oauth: Credentials,
    /// The administrator's own id: `adminId` of admin events.
    admin: Uuid,
    clock: PortalClock,
    entropy: Arc<dyn Entropy>,
    /// Counts calls with a valid token, for the quirk `transient401`.
    authorized: AtomicU64,
    logins: AtomicU64,
    calls: AtomicU64,
    /// Where its own buttons send webhooks; without it, it has none.
    webhook: OnceLock<Webhook>,
}

impl Portal {
    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When things happen now.
    fn now(&self) -> Timestamp {
        self.clock.calendar()
    }

    fn new_id(&self) -> Uuid {
        guid(self.entropy.as_ref())
    }

    fn moment(&self) -> Moment {
        let hidden_reads = self.faults.early_reads().max(self.quirks.state().hook_early);
        Moment { at: self.now(), hidden_reads }
    }

    fn oauth_client(&self) -> Uuid {
        self.oauth.client
    }

    fn oauth_secret(&self) -> &str {
        &self.oauth.secret
    }

    /// Writes the webhooks of one act, each in its own dialect.
    fn write(&self, events: &[Event]) -> Vec<HookBody> {
        let (quirks, chance) = (self.quirks.state(), self.entropy.as_ref());
        let mut shared = None;
        let mut bodies = Vec::new();
        for event in events {
            let dialect = quirks.hook_dialect.unwrap_or_else(|| pick(chance, &['A', 'B', 'C', 'D', 'E']));
            let correlation = match quirks.hook_correlation {
                Correlation::Distinct => Some(hooks::correlation(chance)),
                Correlation::Shared => Some(*shared.get_or_insert_with(|| hooks::correlation(chance))),
                Correlation::Missing => None,
            };
            let writing = Writing { dialect, ids: quirks.hook_ids, correlation, client: self.client };
            bodies.push(hooks::spell(event, &writing, chance));
        }
        bodies
    }
}

/// What a program needs for OAuth.
struct Credentials {
    client: Uuid,
    secret: String,
}

/// What a program that runs the sandbox can see and do in the portal. Ids are texts, as in the API.
#[derive(Clone)]
pub struct PortalHandle {
    portal: Arc<Portal>,
    address: SocketAddr,
    hr: HrHandle,
}

/// What came of something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// What happened, in one sentence.
    pub words: String,
    /// The webhooks that tell of it, unsent; none when Absorb has no event for it.
    pub hooks: Vec<HookBody>,
}

impl PortalHandle {
    pub(super) fn open(
        (learners, courses): (Vec<Learner>, Vec<Course>),
        options: &SandboxOptions,
        chance: &dyn Entropy,
        (address, clock, entropy): (SocketAddr, Arc<dyn Clock>, Arc<dyn Entropy>),
        hr: HrHandle,
    ) -> Self {
        let since = clock.now().plus_ms(-900 * DAY_MS);
        let departments = ["Sandbox Industries", "Operations", "Office"].map(|name| (guid(chance), name.to_owned()));
        let department = |(at, (id, name)): (usize, (Uuid, String))| {
            let parent = (at > 0).then_some(0);
            Department { id, name, parent, is_deleted: false, added: since, edited: since }
        };
        let mut data = Data::new(learners, courses, departments.into_iter().enumerate().map(department).collect());
        let (api_key, client, password) = (guid(chance), guid(chance), guid(chance).simple().to_string());
        // A stream of its own, so that the worlds of seeds that tests know stay as they are.
        let later = Generator::seeded(options.seed ^ 0x6f61_7574_6821);
        let oauth = Credentials { client: guid(&later), secret: guid(&later).simple().to_string() };
        let admin = guid(&later);
        for (name, members) in [("All learners", None), ("First aiders", Some((0..).step_by(7).take(3).collect()))] {
            let members: Option<Vec<u32>> = members;
            let members =
                members.map(|list| list.into_iter().filter(|at| (*at as usize) < data.learners.len()).collect());
            let id = guid(&later);
            data.groups.push(Group {
                id,
                name: name.to_owned(),
                members,
                is_deleted: false,
                added: since,
                edited: since,
            });
        }
        let portal = Portal {
            data: Mutex::new(data),
            grants: Mutex::default(),
            faults: PortalFaults::default(),
            quirks: Quirks::new(options.rate_per_second, options.rate_burst),
            outbox: Outbox::default(),
            seed: options.seed,
            api_key,
            client,
            password,
            oauth,
            admin,
            clock: PortalClock::new(clock),
            entropy,
            authorized: AtomicU64::new(0),
            logins: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            webhook: OnceLock::new(),
        };
        let handle = Self { portal: Arc::new(portal), address, hr };
        handle.make_history(options.history, chance);
        handle.portal.data().fill(options.enrollments, options.seed, handle.portal.now());
        handle
    }

    pub(super) fn service(&self) -> Arc<dyn Service> {
        Arc::new(self.clone())
    }

    /// Makes so many facts of the last two years; every third completion has a certificate, which is a fact of its own.
    fn make_history(&self, facts: usize, chance: &dyn Entropy) {
        let mut data = self.portal.data();
        if data.learners.is_empty() || data.courses.is_empty() {
            return;
        }
        let below = |bound: usize| u32::try_from(chance.below(bound as u64)).expect("fewer than 2^32 things");
        let now = self.portal.now();
        let mut made = 0;
        while made < facts {
            let (learner, course) = (below(data.learners.len()), below(data.courses.len()));
            let at = now.plus_ms(-i64::from(1 + below(700)) * DAY_MS);
            let moment = Moment { at, hidden_reads: 0 };
            let enrollment = data.complete((learner, course), moment, guid(chance));
            made += 1;
            if made < facts && made % 3 == 0 {
                data.certify(enrollment, moment, guid(chance));
                made += 1;
            }
        }
    }

    /// Gives the portal's page its buttons, and says where they send webhooks. The first call counts; later the page changes the URL.
    pub fn send_webhooks(&self, http: reqwest::Client, url: &str) {
        // A second call is a mistake without harm: the page goes on as it is.
        let _was_told = self.portal.webhook.set(Webhook::new(http, url.to_owned()));
    }

    /// By what people name them: the e-mail addresses of all learners that exist, and the names of all courses.
    #[must_use]
    pub fn names(&self) -> (Vec<String>, Vec<String>) {
        let data = self.portal.data();
        (
            data.learners.iter().filter(|learner| !learner.is_deleted).map(|learner| learner.email.clone()).collect(),
            data.courses.iter().map(|course| course.name.clone()).collect(),
        )
    }

    /// The base URL of the API: the portal's setting `url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The private API key: `x-api-key`.
    #[must_use]
    pub fn api_key(&self) -> String {
        self.portal.api_key.to_string()
    }

    /// The admin account.
    #[must_use]
    pub fn username(&self) -> String {
        ADMIN.to_owned()
    }

    /// The admin account's password.
    #[must_use]
    pub fn password(&self) -> String {
        self.portal.password.clone()
    }

    /// The client id of OAuth.
    #[must_use]
    pub fn oauth_client_id(&self) -> String {
        self.portal.oauth_client().to_string()
    }

    /// The client secret of OAuth.
    #[must_use]
    pub fn oauth_client_secret(&self) -> String {
        self.portal.oauth_secret().to_owned()
    }

    /// The ids of all learners that exist, in the order of the seed.
    #[must_use]
    pub fn learner_ids(&self) -> Vec<String> {
        let data = self.portal.data();
        data.learners.iter().filter(|learner| !learner.is_deleted).map(|learner| learner.id.to_string()).collect()
    }

    /// The ids of all courses, in the order of the seed.
    #[must_use]
    pub fn course_ids(&self) -> Vec<String> {
        self.portal.data().courses.iter().map(|course| course.id.to_string()).collect()
    }

    /// The ids of a learner's completed enrolments, oldest first.
    #[must_use]
    pub fn completions_of(&self, learner: &str) -> Vec<String> {
        let data = self.portal.data();
        let Some(learner) = position(&data, learner) else { return Vec::new() };
        let is_complete = |at: &&u32| data.enrollments.get(**at).is_some_and(|row| row.completed.is_some());
        let completed = data.learner(learner).enrollments.iter().filter(is_complete);
        completed.map(|at| data.enrollments.id(*at).to_string()).collect()
    }

    /// The ids of a learner's certificates, oldest first.
    #[must_use]
    pub fn certificates_of(&self, learner: &str) -> Vec<String> {
        let data = self.portal.data();
        let Some(learner) = position(&data, learner) else { return Vec::new() };
        data.learner(learner).certificates.iter().map(|at| data.certificates.id(*at).to_string()).collect()
    }

    /// The learner completes the course now. A course that was completed before is taken again, as a new enrolment.
    ///
    /// Returns the webhook, unsent. An unknown learner or course makes the webhook only: it is then a forged one.
    #[must_use]
    pub fn complete_course(&self, learner: &str, course: &str) -> HookBody {
        let name = ["Enrollment Completed by Learner", "Enrollment Completed by Admin"];
        let name = name[usize::from(self.portal.entropy.below(4) == 0)];
        let mut ids = vec![("courseId", parsed(course))];
        {
            let mut data = self.portal.data();
            if let Some(place) = places(&data, learner, course) {
                let enrollment = data.complete(place, self.portal.moment(), self.portal.new_id());
                ids.push(("enrollmentId", data.enrollments.id(enrollment)));
            }
        }
        self.hook(name, learner, ids)
    }

    /// The learner gets the course's certificate now. Who has not completed the course completes it first, without a webhook for that.
    ///
    /// Returns the webhook, unsent; as for `complete_course`.
    #[must_use]
    pub fn award_certificate(&self, learner: &str, course: &str) -> HookBody {
        let mut ids = vec![("courseId", parsed(course))];
        {
            let mut data = self.portal.data();
            if let Some(place) = places(&data, learner, course) {
                let at = data.award_certificate(place, self.portal.moment(), self.portal.entropy.as_ref());
                ids.push(("certificateId", data.certificates.id(at)));
            }
        }
        self.hook("Certificate Awarded", learner, ids)
    }

    /// The learner gets a competency now.
    ///
    /// Returns the webhook, unsent; as for `complete_course`.
    #[must_use]
    pub fn award_competency(&self, learner: &str, name: &str) -> HookBody {
        let mut ids = Vec::new();
        {
            let mut data = self.portal.data();
            if let Some(learner) = position(&data, learner) {
                let (moment, chance) = (self.portal.moment(), self.portal.entropy.as_ref());
                let (id, definition) = data.award_competency(learner, name, moment, chance);
                ids = vec![("competencyId", id), ("competencyDefinitionId", definition)];
            }
        }
        self.hook("Competency Awarded", learner, ids)
    }

    /// Lets one thing happen: `deed` is its word, for example `department-created`, or the display name of its event. `learner` is found
    /// by e-mail address, external id, employee number, id or full name; `what` is the course, for a merge the learner who stays, else a
    /// name. What is left blank is picked at random.
    ///
    /// # Errors
    /// In words, when there is no such deed, learner or course, or when it cannot happen.
    pub fn happen(&self, deed: &str, learner: &str, what: &str) -> Result<Happened, String> {
        let row = deed_named(deed)?;
        let moment = self.portal.moment();
        let mut data = self.portal.data();
        let learner = if learner.is_empty() { None } else { Some(admin::find_learner(&data, learner)?) };
        let what = Some(what.to_owned()).filter(|what| !what.is_empty());
        let subject = Subject { learner, what, course: None };
        let (admin, chance) = (self.portal.admin, self.portal.entropy.as_ref());
        let done = Act { data: &mut data, moment, admin, chance }.perform(row, &subject)?;
        drop(data);
        Ok(Happened { words: done.words, hooks: self.portal.write(&done.events) })
    }

    /// The words of all that can happen, each with the display name of its event.
    #[must_use]
    pub fn deeds() -> Vec<(&'static str, Option<&'static str>)> {
        deeds::DEEDS.iter().map(|row| (row.word, row.event)).collect()
    }

    /// Sets one quirk, by the name and value of `--quirk`.
    ///
    /// # Errors
    /// In words, when there is no such quirk or value.
    pub fn set_quirk(&self, name: &str, value: &str) -> Result<(), String> {
        self.portal.quirks.set(name, value)
    }

    /// All quirks at their defaults again.
    pub fn reset_quirks(&self) {
        self.portal.quirks.reset();
    }

    /// Moves the portal's clock ahead: tokens age, held webhooks come due.
    pub fn advance(&self, seconds: u32) {
        self.portal.clock.advance(seconds);
    }

    /// Hands webhooks to the portal; what goes out now, after the quirks. None for those that waited only.
    #[must_use]
    pub fn post(&self, hooks: Vec<HookBody>) -> Vec<HookBody> {
        let (now, chance) = (self.portal.clock.now(), self.portal.entropy.as_ref());
        self.portal.outbox.post(hooks, &self.portal.quirks.state(), now, chance)
    }

    /// Sends webhooks, and those that have waited long enough, once each; how many were acknowledged. Without `send_webhooks` none is.
    pub async fn send(&self, hooks: Vec<HookBody>) -> usize {
        let mut acknowledged = 0;
        let Some(webhook) = self.portal.webhook.get() else { return acknowledged };
        for hook in self.post(hooks) {
            acknowledged += usize::from(webhook.send(hook).await.is_ok());
        }
        acknowledged
    }

    /// What the Test Webhook button sends.
    #[must_use]
    pub fn test_hook(&self) -> HookBody {
        hooks::test(self.portal.client, self.portal.entropy.as_ref())
    }

    /// An admin corrects a score; no webhook tells. False when there is no such enrolment.
    pub fn correct_score(&self, enrollment: &str, score: f64) -> bool {
        self.correct(enrollment, |row| row.score = Some(score))
    }

    /// An admin corrects a completion date; no webhook tells. False when there is no such completed enrolment.
    pub fn correct_completion_date(&self, enrollment: &str, date: NaiveDate) -> bool {
        // At noon: an instant that is the same date in most zones, and not midnight, which would read as a date.
        let noon = NaiveTime::from_hms_opt(12, 0, 0).expect("noon exists");
        let at = Timestamp::from(date.and_time(noon).and_utc());
        self.correct(enrollment, |row| row.completed = row.completed.map(|_| at))
    }

    fn correct(&self, enrollment: &str, change: impl FnOnce(&mut data::Enrollment)) -> bool {
        let now = self.portal.now();
        let mut data = self.portal.data();
        let at = data.enrollments.find(parsed(enrollment));
        let Some(row) = at.and_then(|at| data.enrollments.get_mut(at)) else { return false };
        change(row);
        row.edited = now;
        true
    }

    /// An admin enrols a learner again; the former enrolment becomes history and no webhook tells. Returns the new enrolment's id.
    pub fn reenroll(&self, learner: &str, course: &str) -> Option<String> {
        let (id, now) = (self.portal.new_id(), self.portal.now());
        let mut data = self.portal.data();
        let (learner, course) = places(&data, learner, course)?;
        data.enroll(id, learner, course, now);
        Some(id.to_string())
    }

    /// A learner goes inactive; false when there is no such learner.
    pub fn deactivate(&self, learner: &str) -> bool {
        let now = self.portal.now();
        self.change_learner(learner, |row| {
            row.is_active = false;
            row.edited = now;
        })
    }

    /// A learner is deleted: the API answers 404 from now on. False when there is no such learner.
    pub fn delete_learner(&self, learner: &str) -> bool {
        self.change_learner(learner, |row| row.is_deleted = true)
    }

    fn change_learner(&self, learner: &str, change: impl FnOnce(&mut Learner)) -> bool {
        let mut data = self.portal.data();
        let Some(at) = position(&data, learner) else { return false };
        change(&mut data.learners[at as usize]);
        true
    }

    /// An enrolment is deleted, with its certificate; false when there is no such enrolment.
    pub fn delete_enrollment(&self, enrollment: &str) -> bool {
        let mut data = self.portal.data();
        data.enrollments.find(parsed(enrollment)).is_some_and(|at| data.delete_enrollment(at))
    }

    /// A certificate is revoked; false when there is no such certificate.
    pub fn delete_certificate(&self, certificate: &str) -> bool {
        let mut data = self.portal.data();
        data.certificates.find(parsed(certificate)).is_some_and(|at| data.delete_certificate(at))
    }

    /// The faults.
    #[must_use]
    pub fn faults(&self) -> &PortalFaults {
        &self.portal.faults
    }

    /// How many logins succeeded.
    #[must_use]
    pub fn logins(&self) -> u64 {
        self.portal.logins.load(Ordering::Relaxed)
    }

    /// How many API calls came in, whatever became of them.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.portal.calls.load(Ordering::Relaxed)
    }

    fn hook(&self, name: &'static str, learner: &str, ids: Vec<(&'static str, Uuid)>) -> HookBody {
        let admin = name.ends_with("Admin").then_some(self.portal.admin);
        let event = Event { name, user: Some(parsed(learner)), admin, ids };
        self.portal.write(&[event]).pop().expect("one event has one body")
    }
}

/// A GUID; the nil one for anything else, which nothing has.
fn parsed(id: &str) -> Uuid {
    Uuid::parse_str(id).unwrap_or_default()
}

fn position(data: &Data, learner: &str) -> Option<u32> {
    data.find_learner(parsed(learner))
}

fn places(data: &Data, learner: &str, course: &str) -> Option<(u32, u32)> {
    Some((position(data, learner)?, data.find_course(parsed(course))?))
}

fn years_later(at: Timestamp, years: u32) -> Timestamp {
    let date = at.utc().date_naive();
    let year = date.year().saturating_add_unsigned(years);
    // The 29th of February becomes the 28th.
    let later = date.with_year(year).or_else(|| date.pred_opt().and_then(|date| date.with_year(year)));
    later.map_or(at, |date| Timestamp::from(date.and_time(NaiveTime::MIN).and_utc()))
}
