//! The fake Absorb portal: what happens in it, the webhooks for that, and what a true HR system must then hold.

mod admin;
mod api;
mod data;
mod hooks;
mod page;

use std::collections::BTreeMap;
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
use crate::domain::chance::Entropy;
use crate::domain::time::{Clock, Timestamp};
use admin::Webhook;
use data::{Certificate, Competency, Data, Fact, status};
use hooks::Event;

pub use hooks::HookBody;

/// One row that HR must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedRow {
    /// The employee number of the person whose row it is.
    pub employee_number: String,
    /// `training`, or `table:<name>`.
    pub object: String,
    /// The fields that the default mapping fills, as HR's API would give them; the mark is not among them.
    pub fields: BTreeMap<String, String>,
}

/// The portal behind its server.
struct Portal {
    data: Mutex<Data>,
    faults: PortalFaults,
    api_key: Uuid,
    client: Uuid,
    password: String,
    rate_per_second: Option<u32>,
    rate_burst: u32,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    logins: AtomicU64,
    calls: AtomicU64,
    /// Where its own buttons send webhooks; without it, it has none.
    webhook: OnceLock<Webhook>,
}

impl Portal {
    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time, to the second: Absorb's answers carry no more.
    fn now(&self) -> Timestamp {
        let now = self.clock.now().0;
        Timestamp(now - now.rem_euclid(1_000))
    }

    fn new_id(&self) -> Uuid {
        guid(self.entropy.as_ref())
    }
}

/// What a program that runs the sandbox can see and do in the portal. Ids are texts, as in the API.
#[derive(Clone)]
pub struct PortalHandle {
    portal: Arc<Portal>,
    address: SocketAddr,
    hr: HrHandle,
}

/// Where a fact goes in the learner's time: now, or in the history before the start.
#[derive(Clone, Copy)]
struct Moment {
    at: Timestamp,
    /// How many reads miss it.
    hidden_reads: u32,
}

impl PortalHandle {
    pub(super) fn open(
        (learners, courses): (Vec<Learner>, Vec<Course>),
        options: &SandboxOptions,
        chance: &dyn Entropy,
        (address, clock, entropy): (SocketAddr, Arc<dyn Clock>, Arc<dyn Entropy>),
        hr: HrHandle,
    ) -> Self {
        let departments = ["Sandbox Industries", "Operations", "Office"].map(|name| (guid(chance), name)).to_vec();
        let portal = Portal {
            data: Mutex::new(Data::new(learners, courses, departments)),
            faults: PortalFaults::default(),
            api_key: guid(chance),
            client: guid(chance),
            password: guid(chance).simple().to_string(),
            rate_per_second: options.rate_per_second,
            rate_burst: options.rate_burst,
            clock,
            entropy,
            logins: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            webhook: OnceLock::new(),
        };
        let handle = Self { portal: Arc::new(portal), address, hr };
        handle.make_history(options.history, chance);
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
            let enrollment = self.complete(&mut data, (learner, course), moment, guid(chance));
            made += 1;
            if made < facts && made % 3 == 0 {
                self.certify(&mut data, enrollment, moment, guid(chance));
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
        "learnsync.admin".to_owned()
    }

    /// The admin account's password.
    #[must_use]
    pub fn password(&self) -> String {
        self.portal.password.clone()
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
        let is_complete = |id: &&Uuid| data.enrollments.get(id).is_some_and(|row| row.completed.is_some());
        data.learner(learner).enrollments.iter().filter(is_complete).map(Uuid::to_string).collect()
    }

    /// The ids of a learner's certificates, oldest first.
    #[must_use]
    pub fn certificates_of(&self, learner: &str) -> Vec<String> {
        let data = self.portal.data();
        let Some(learner) = position(&data, learner) else { return Vec::new() };
        data.learner(learner).certificates.iter().map(Uuid::to_string).collect()
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
                let enrollment = self.complete(&mut data, place, self.moment(), self.portal.new_id());
                ids.push(("enrollmentId", enrollment));
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
                let enrollment = match self.certifiable(&data, place) {
                    Some(enrollment) => enrollment,
                    None => self.complete(&mut data, place, self.moment(), self.portal.new_id()),
                };
                ids.push(("certificateId", self.certify(&mut data, enrollment, self.moment(), self.portal.new_id())));
            }
        }
        self.hook("Certificate Awarded", learner, ids)
    }

    /// The learner gets a competency now.
    ///
    /// Returns the webhook, unsent; as for `complete_course`.
    #[must_use]
    pub fn award_competency(&self, learner: &str, name: &str) -> HookBody {
        let (id, moment) = (self.portal.new_id(), self.moment());
        let fresh = self.portal.new_id();
        let mut data = self.portal.data();
        let definition = *data.definitions.entry(name.to_owned()).or_insert(fresh);
        if let Some(learner) = position(&data, learner) {
            let name = name.to_owned();
            let competency =
                Competency { learner, definition, name, acquired: moment.at, hidden_reads: moment.hidden_reads };
            data.competencies.insert(id, competency);
            data.learners[learner as usize].competencies.push(id);
            data.note(Fact::Competency(id));
        }
        drop(data);
        self.hook("Competency Awarded", learner, vec![("competencyId", id), ("competencyDefinitionId", definition)])
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
        let Some(row) = data.enrollments.get_mut(&parsed(enrollment)) else { return false };
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
        self.portal.data().delete_enrollment(parsed(enrollment))
    }

    /// A certificate is revoked; false when there is no such certificate.
    pub fn delete_certificate(&self, certificate: &str) -> bool {
        self.portal.data().delete_certificate(parsed(certificate))
    }

    /// How many facts the portal holds: completions, certificates and competencies of learners that exist.
    #[must_use]
    pub fn records_total(&self) -> usize {
        let data = self.portal.data();
        let exists = |learner: u32| !data.learner(learner).is_deleted;
        data.enrollments.values().filter(|row| row.completed.is_some() && exists(row.learner)).count()
            + data.certificates.values().filter(|row| exists(row.learner)).count()
            + data.competencies.values().filter(|row| exists(row.learner)).count()
    }

    /// By record key, for example `completion/<id>`: the rows that an HR system that is true to this LMS holds with the default mapping.
    ///
    /// Learners whom HR does not know, or knows twice, and courses without a training type have none. Dates are those of UTC.
    #[must_use]
    pub fn expected_rows(&self) -> BTreeMap<String, ExpectedRow> {
        let data = self.portal.data();
        let numbers: Vec<Option<String>> = data.learners.iter().map(|learner| self.employee_number(learner)).collect();
        let number = |learner: u32| numbers[learner as usize].clone();
        let types: Vec<Option<u32>> = data.courses.iter().map(|course| self.hr.hr().type_named(&course.name)).collect();
        let mut rows = BTreeMap::new();
        for (id, row) in &data.enrollments {
            let (Some(employee_number), Some(completed)) = (number(row.learner), row.completed) else { continue };
            let Some(type_id) = types[row.course as usize] else { continue };
            let fields = texts([
                ("completed", Some(date(completed))),
                ("type", Some(type_id.to_string())),
                ("hours", Some((f64::from(row.minutes) / 60.0).to_string())),
                ("credits", row.credits.map(|credits| credits.to_string())),
            ]);
            let object = "training".to_owned();
            rows.insert(format!("completion/{id}"), ExpectedRow { employee_number, object, fields });
        }
        for (id, row) in &data.certificates {
            let Some(employee_number) = number(row.learner) else { continue };
            let course = &data.course(row.course).name;
            let fields = texts([
                ("certification", Some(course.clone())),
                ("issued", Some(date(row.acquired))),
                ("expires", row.expires.map(date)),
                ("course", Some(course.clone())),
            ]);
            let object = "table:customCertifications".to_owned();
            rows.insert(format!("certificate/{id}"), ExpectedRow { employee_number, object, fields });
        }
        for (id, row) in &data.competencies {
            let Some(employee_number) = number(row.learner) else { continue };
            let fields = texts([("competency", Some(row.name.clone())), ("awarded", Some(date(row.acquired)))]);
            let object = "table:customCompetencies".to_owned();
            rows.insert(format!("competency/{id}"), ExpectedRow { employee_number, object, fields });
        }
        rows
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

    fn moment(&self) -> Moment {
        Moment { at: self.portal.now(), hidden_reads: self.portal.faults.early_reads() }
    }

    fn hook(&self, name: &'static str, learner: &str, ids: Vec<(&'static str, Uuid)>) -> HookBody {
        let chance = self.portal.entropy.as_ref();
        let dialect = pick(chance, &['A', 'B', 'C', 'D', 'E']);
        hooks::spell(&Event { name, user: parsed(learner), ids }, dialect, self.portal.client, chance)
    }

    fn complete(&self, data: &mut Data, (learner, course): (u32, u32), moment: Moment, fresh: Uuid) -> Uuid {
        let open = data.active_enrollment(learner, course);
        let open = open.filter(|id| data.enrollments.get(id).is_some_and(|row| row.status != status::COMPLETE));
        let id = open.unwrap_or_else(|| {
            data.enroll(fresh, learner, course, moment.at);
            fresh
        });
        let (minutes, credits) = (data.course(course).minutes, data.course(course).credits);
        // From the id, so that a history of the same seed has the same scores.
        let score = 70.0 + (id.as_u128() % 31) as f64;
        if let Some(row) = data.enrollments.get_mut(&id) {
            row.status = status::COMPLETE;
            row.score = Some(score);
            row.minutes = minutes;
            row.credits = credits;
            row.started = Some(row.started.unwrap_or(row.added));
            row.completed = Some(moment.at);
            row.edited = moment.at;
            row.hidden_reads = moment.hidden_reads;
        }
        data.note(Fact::Completion(id));
        id
    }

    /// The newest completed enrolment that has no certificate yet.
    fn certifiable(&self, data: &Data, (learner, course): (u32, u32)) -> Option<Uuid> {
        let open = |id: &&Uuid| {
            let row = data.enrollments.get(id);
            row.is_some_and(|row| row.course == course && row.completed.is_some() && row.certificate.is_none())
        };
        data.learner(learner).enrollments.iter().rev().find(open).copied()
    }

    fn certify(&self, data: &mut Data, enrollment: Uuid, moment: Moment, id: Uuid) -> Uuid {
        let Some(row) = data.enrollments.get_mut(&enrollment) else { return id };
        row.certificate = Some(id);
        row.edited = moment.at;
        let (learner, course) = (row.learner, row.course);
        let acquired = moment.at.plus_ms(-moment.at.0.rem_euclid(DAY_MS));
        let expires = data.course(course).years_valid.map(|years| years_later(acquired, years));
        let hidden_reads = moment.hidden_reads;
        let certificate = Certificate { enrollment, learner, course, acquired, expires, notes: None, hidden_reads };
        data.certificates.insert(id, certificate);
        data.learners[learner as usize].certificates.push(id);
        data.note(Fact::Certificate(id));
        id
    }

    fn employee_number(&self, learner: &Learner) -> Option<String> {
        if learner.is_deleted {
            return None;
        }
        let known = learnsync_sdk::Learner {
            external_id: learner.external_id.clone(),
            employee_number: learner.employee_number.clone(),
            email: Some(learner.email.clone()),
            ..learnsync_sdk::Learner::default()
        };
        self.hr.hr().find(&known).map(|employee| employee.employee_number)
    }
}

/// A GUID; the nil one for anything else, which nothing has.
fn parsed(id: &str) -> Uuid {
    Uuid::parse_str(id).unwrap_or(Uuid::nil())
}

fn position(data: &Data, learner: &str) -> Option<u32> {
    data.find_learner(parsed(learner))
}

fn places(data: &Data, learner: &str, course: &str) -> Option<(u32, u32)> {
    Some((position(data, learner)?, *data.course_at.get(&parsed(course))?))
}

fn date(at: Timestamp) -> String {
    at.utc().date_naive().to_string()
}

fn years_later(at: Timestamp, years: u32) -> Timestamp {
    let date = at.utc().date_naive();
    let year = date.year().saturating_add_unsigned(years);
    // The 29th of February becomes the 28th.
    let later = date.with_year(year).or_else(|| date.pred_opt().and_then(|date| date.with_year(year)));
    later.map_or(at, |date| Timestamp::from(date.and_time(NaiveTime::MIN).and_utc()))
}

fn texts<const N: usize>(fields: [(&str, Option<String>); N]) -> BTreeMap<String, String> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
