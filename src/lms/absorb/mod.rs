//! Absorb LMS: webhook bodies, and the Integration API v2 as an `Lms`.

mod budget;
mod bulk;
mod client;
mod courses;
mod dates;
mod examine;
mod list;
mod lists;
mod oauth;
pub mod payload;
mod records;
mod row;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use learnsync_sdk::{Learner, RecordKind};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

pub use client::Pauses;
pub use examine::Examination;
pub use oauth::{Grant, OAuthClient, code_of, ends_soon};
pub use session::{Credentials, StoredToken, TOKEN_LIFE, TokenVault};

use super::{Bulk, LearnerPage, Lms, LmsError, Probe, Profile, ReadRecords};
use crate::domain::chance::Entropy;
use crate::domain::lane::Lane;
use crate::domain::record::Record;
use crate::domain::subject::SubjectKind;
use crate::domain::time::Clock;
use crate::telemetry::Metrics;
use client::{Answer, Client};
use courses::{CatalogueCourse, Courses};
use list::Page;
use records::{Attendance, Rows};
use row::{Row, guid};
use session::{Account, Session};
use wire::{Counted, Line, Wire};

/// Learners on one page of the sweep. Absorb gives up to 1,000; parsed, those are the largest thing that the daemon would hold.
const LEARNERS_PER_PAGE: usize = 200;

/// Most learners whom one text may name.
const LEARNERS_NAMED_MAX: usize = 10;

/// Words of a name after which a last name may still begin.
const NAME_WORDS_MAX: usize = 6;

/// The name of a learner's list of enrolments.
const ENROLMENTS: &str = "enrollments";

/// The greatest page number that Absorb takes.
const PAGE_NUMBER_MAX: u32 = 65_535;

/// How one portal's API is reached.
#[derive(Clone)]
pub struct AbsorbSettings {
    /// The portal's name in the configuration; for logs.
    pub portal: String,
    /// The API's base URL, for example `https://rest.myabsorb.com`.
    pub url: String,
    /// The portal's private API key.
    pub api_key: String,
    /// How we log in.
    pub credentials: Credentials,
    /// Where a learner's certificates are; `{user}` stands for the learner's id.
    pub certificates_path: String,
    /// Where a learner's competencies are; `{user}` stands for the learner's id.
    pub competencies_path: String,
    /// Where a learner's learning paths are, if the customer knows it: Absorb does not document it.
    pub learning_paths_path: Option<String>,
    /// The kinds that somebody wants; of those that cost calls of their own only these are read: session attendances, courses, departments,
    /// groups.
    pub kinds: BTreeSet<RecordKind>,
    /// Calls per second, at least 1.
    pub calls_per_second_max: u32,
    /// Calls under way at once, at least 1.
    pub calls_at_once_max: usize,
}

impl fmt::Debug for AbsorbSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AbsorbSettings")
            .field("portal", &self.portal)
            .field("url", &self.url)
            .field("certificates_path", &self.certificates_path)
            .field("competencies_path", &self.competencies_path)
            .field("calls_per_second_max", &self.calls_per_second_max)
            .field("calls_at_once_max", &self.calls_at_once_max)
            .finish_non_exhaustive()
    }
}

/// One Absorb portal, read over its Integration API v2. Clones share all: session, budget, caches.
#[derive(Clone)]
pub struct Absorb {
    client: Client,
    courses: Arc<Courses>,
    certificates_path: String,
    competencies_path: String,
    learning_paths_path: Option<String>,
    kinds: BTreeSet<RecordKind>,
}

impl Absorb {
    /// Makes the client; no I/O. `http` should follow no redirects: they would carry the API key to another host.
    #[must_use]
    pub fn new(
        settings: AbsorbSettings,
        http: reqwest::Client,
        vault: Arc<dyn TokenVault>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        Self::with_pauses(settings, http, vault, clock, entropy, Pauses::default())
    }

    /// Like `new`, with other pauses between the tries of a call.
    #[must_use]
    pub fn with_pauses(
        settings: AbsorbSettings,
        http: reqwest::Client,
        vault: Arc<dyn TokenVault>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        pauses: Pauses,
    ) -> Self {
        Self::made(settings, http, vault, clock, entropy, pauses, None)
    }

    /// Like `new`, and counts each request, logins too, under this portal's name.
    #[must_use]
    pub fn counting(
        settings: AbsorbSettings,
        http: reqwest::Client,
        vault: Arc<dyn TokenVault>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let counted = Counted { portal: settings.portal.clone(), metrics };
        Self::made(settings, http, vault, clock, entropy, Pauses::default(), Some(counted))
    }

    fn made(
        settings: AbsorbSettings,
        http: reqwest::Client,
        vault: Arc<dyn TokenVault>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        pauses: Pauses,
        counted: Option<Counted>,
    ) -> Self {
        let AbsorbSettings { portal, api_key, credentials, .. } = settings;
        let wire = Wire::new(Line {
            http,
            url: &settings.url,
            api_key: api_key.clone(),
            calls_per_second_max: settings.calls_per_second_max,
            calls_at_once_max: settings.calls_at_once_max,
            vault: Arc::clone(&vault),
            clock: Arc::clone(&clock),
            counted,
        });
        let session = Session::new(Account { portal, credentials, api_key }, vault, Arc::clone(&clock));
        Self {
            client: Client::new(wire, session, pauses, entropy),
            courses: Arc::new(Courses::new(clock)),
            certificates_path: settings.certificates_path,
            competencies_path: settings.competencies_path,
            learning_paths_path: settings.learning_paths_path,
            kinds: settings.kinds,
        }
    }

    /// Takes the code that a login by OAuth gave; its tokens are used from now on.
    ///
    /// # Errors
    /// The portal does not take the code, cannot be reached, or is configured with a password.
    pub async fn redeem(&self, code: &str) -> Result<Grant, LmsError> {
        self.client.redeem(code).await
    }

    /// The learners whom a text names exactly, as user name, e-mail address, external id or full name; for a person who asks, never for a
    /// decision.
    ///
    /// # Errors
    /// The LMS could not be asked, or refuses the filter.
    pub async fn learners_named(&self, text: &str) -> Result<Vec<Learner>, LmsError> {
        let query = [("_filter", named(text)), ("_limit", LEARNERS_NAMED_MAX.to_string())];
        let Answer::Found(value) = self.client.get("/users", &query).await? else { return Ok(Vec::new()) };
        let page = Page::read(value, LEARNERS_NAMED_MAX).map_err(misunderstood("/users"))?;
        let learners = page.rows.iter().map(|row| {
            let id = Row::of(row)?.id(&["id"]).ok_or("a user has no id")?;
            records::learner(&id, row)
        });
        learners.collect::<Result<_, String>>().map_err(misunderstood("/users"))
    }

    /// Where a learner's awards of each kind are, with the name of that list.
    fn awards_of(&self, user: &str) -> Vec<(RecordKind, &'static str, String)> {
        let mut lists = vec![
            (RecordKind::Certificate, "certificates", self.certificates_path.replace("{user}", user)),
            (RecordKind::Competency, "competencies", self.competencies_path.replace("{user}", user)),
        ];
        if let Some(path) = &self.learning_paths_path {
            lists.push((RecordKind::LearningPath, "learningPaths", path.replace("{user}", user)));
        }
        lists
    }

    /// Reads a learner's awards of these kinds; answers which of them were read to their end.
    async fn add_awards(
        &self,
        user: &str,
        rows: &mut Rows,
        is_wanted: impl Fn(RecordKind) -> bool,
    ) -> Result<BTreeSet<RecordKind>, LmsError> {
        let mut complete = BTreeSet::new();
        for (kind, name, path) in self.awards_of(user).into_iter().filter(|(kind, ..)| is_wanted(*kind)) {
            let Some(read) = self.optional_list(name, &path).await? else { continue };
            rows.add(kind, &read).map_err(misunderstood(&path))?;
            complete.insert(kind);
        }
        Ok(complete)
    }

    /// A list whose feature may be off in the portal: `None` for 404 and 403.
    async fn optional_list(&self, name: &'static str, path: &str) -> Result<Option<Vec<Value>>, LmsError> {
        match self.client.list(name, path).await {
            Err(LmsError::Forbidden(_)) => Ok(None),
            outcome => outcome,
        }
    }

    /// The records of what was read, each with its course.
    async fn with_courses(&self, rows: &Rows) -> Result<Vec<Record>, LmsError> {
        let ids = rows.course_ids();
        let courses = futures::future::try_join_all(ids.iter().map(|id| self.course(id))).await?;
        Ok(rows.records(&ids.into_iter().zip(courses).collect()))
    }

    /// The completed sessions of a learner's instructor-led courses. Absorb gives them course by course, as bare arrays.
    async fn attendances(&self, user: &str, learner_id: &str, rows: &Rows) -> Result<Vec<Attendance>, LmsError> {
        let mut attendances = Vec::new();
        for course_id in rows.enrolled_course_ids() {
            let known = self.course(&course_id).await?;
            if !known.is_some_and(|course| course.is_instructor_led) {
                continue;
            }
            let path = format!("/users/{user}/enrollments/{}/sessions", segment(&course_id)?);
            for row in self.optional_list("sessions", &path).await?.unwrap_or_default() {
                let found = records::attendance(learner_id, &course_id, &row).map_err(misunderstood(&path))?;
                attendances.extend(found);
            }
        }
        Ok(attendances)
    }

    /// The course as the catalogue shows it; `None` for 404, and for 403: a role that sees the enrolment may not see the course.
    async fn course(&self, id: &str) -> Result<Option<CatalogueCourse>, LmsError> {
        let path = format!("/courses/{}", segment(id)?);
        let fetch = || async {
            match self.client.get(&path, &[]).await {
                Ok(Answer::Found(value)) => records::catalogue_course(&value).map(Some).map_err(misunderstood(&path)),
                Ok(Answer::Missing) | Err(LmsError::Forbidden(_)) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.courses.get(id, fetch).await
    }
}

#[async_trait]
impl Lms for Absorb {
    async fn learner(&self, id: &str) -> Result<Option<Profile>, LmsError> {
        let path = format!("/users/{}", segment(id)?);
        match self.client.get(&path, &[]).await? {
            Answer::Missing => Ok(None),
            Answer::Found(value) => {
                let id = plain_id(id);
                let learner = records::learner(&id, &value).map_err(misunderstood(&path))?;
                let is_wanted = self.kinds.contains(&RecordKind::Person);
                let person = is_wanted.then(|| lists::person(&id, &value)).transpose().map_err(misunderstood(&path))?;
                Ok(Some(Profile { learner, person }))
            }
        }
    }

    async fn records(&self, learner_id: &str) -> Result<ReadRecords, LmsError> {
        let user = segment(learner_id)?;
        let learner_id = plain_id(learner_id);
        let mut rows = Rows::of(&learner_id);
        let (name, path) = (ENROLMENTS, enrolments_path(&user));
        // Without enrolments there is no learner; nothing is concluded from that, whoever asked reads the profile first.
        let Some(enrolments) = self.client.list(name, &path).await? else { return Ok(ReadRecords::default()) };
        rows.add(RecordKind::Completion, &enrolments).map_err(misunderstood(&path))?;
        let mut complete = self.add_awards(&user, &mut rows, |_| true).await?;
        // Credits stand with the enrolments.
        complete.extend([RecordKind::Completion, RecordKind::CreditAward]);
        if self.kinds.contains(&RecordKind::SessionAttendance) {
            rows.attendances = self.attendances(&user, &learner_id, &rows).await?;
            complete.insert(RecordKind::SessionAttendance);
        }
        Ok(ReadRecords { records: self.with_courses(&rows).await?, complete })
    }

    fn bulk(&self) -> Option<&dyn Bulk> {
        Some(self)
    }

    async fn list(&self, kind: SubjectKind) -> Result<ReadRecords, LmsError> {
        let (name, path, read): (_, _, fn(&Value) -> Result<Record, String>) = match kind {
            SubjectKind::Courses => ("courses", "/courses", lists::course),
            SubjectKind::Departments => ("departments", "/departments", lists::department),
            SubjectKind::Groups => ("groups", "/groups", lists::group),
            SubjectKind::Learner => return Err(misunderstood("/")("a learner is no list".to_owned())),
        };
        if kind.listed().is_none_or(|listed| !self.kinds.contains(&listed)) {
            return Ok(ReadRecords::default());
        }
        let Some(rows) = self.optional_list(name, path).await? else { return Ok(ReadRecords::default()) };
        let records: Result<Vec<Record>, String> = rows.iter().map(read).collect();
        let complete = kind.listed().into_iter().collect();
        Ok(ReadRecords { records: records.map_err(misunderstood(path))?, complete })
    }

    /// The total of the list of departments (<https://docs.myabsorb.com/integration-api/v2>, `GET /departments`); none where it is 404, or names no
    /// total.
    async fn departments(&self) -> Result<Option<u64>, LmsError> {
        Ok(self.client.page("departments", "/departments", 0, 1).await?.and_then(|page| page.total))
    }

    async fn learner_ids(&self, page: u32) -> Result<LearnerPage, LmsError> {
        if page > PAGE_NUMBER_MAX {
            return Err(LmsError::Misunderstood(format!("page {page} of /users, the limit is {PAGE_NUMBER_MAX}")));
        }
        let mut reason = String::new();
        for _ in 0..2 {
            let found = self.client.page("users", "/users", page, LEARNERS_PER_PAGE).await?;
            let found = found.ok_or_else(|| misunderstood("/users")("is answered 404".to_owned()))?;
            match learner_page(&found, page) {
                Ok(page) => return Ok(page),
                Err(words) => reason = words,
            }
        }
        Err(LmsError::PartialRead(format!("GET /users: {reason}")))
    }

    async fn probe(&self) -> Result<Probe, LmsError> {
        let page = self.client.page("users", "/users", 0, 1).await?;
        let page = page.ok_or_else(|| misunderstood("/users")("is answered 404".to_owned()))?;
        let mut probe = Probe { learners: page.total.unwrap_or(page.rows.len() as u64), ..Probe::default() };
        // With no learner to ask about, neither list says anything.
        let Some(first) = page.rows.first() else { return Ok(probe) };
        let row = Row::of(first).map_err(misunderstood("/users"))?;
        let id = row.id(&["id"]).ok_or_else(|| misunderstood("/users")("a user has no id".to_owned()))?;
        let user = segment(&id)?;
        let enrolments = (RecordKind::Completion, ENROLMENTS, enrolments_path(&user));
        for (kind, name, path) in [enrolments].into_iter().chain(self.awards_of(&user)) {
            match self.client.page(name, &path, 0, 1).await {
                Ok(Some(_)) => {
                    probe.available.insert(kind);
                }
                Ok(None) => probe.absent.push((kind, 404)),
                Err(LmsError::Forbidden(_)) => probe.absent.push((kind, 403)),
                Err(error) => return Err(error),
            }
        }
        Ok(probe)
    }

    fn in_lane(&self, lane: Lane) -> Option<Arc<dyn Lms>> {
        Some(Arc::new(Self { client: self.client.in_lane(lane), ..self.clone() }))
    }
}

/// Reads one page of learners, and says when it is not whole.
fn learner_page(page: &Page, number: u32) -> Result<LearnerPage, String> {
    page.verify_count()?;
    let ids: Option<Vec<String>> =
        page.rows.iter().map(|row| Row::of(row).ok().and_then(|row| row.id(&["id"]))).collect();
    let ids = ids.ok_or("a user has no id")?;
    let before = u64::from(number) * page.rows_max as u64;
    let read = before + ids.len() as u64;
    let Some(total) = page.total else {
        return Ok(LearnerPage { more: ids.len() == page.rows_max, total: read, ids });
    };
    let expected = total.saturating_sub(before).min(page.rows_max as u64);
    if ids.len() as u64 != expected {
        return Err(format!("page {number} holds {} users where {expected} of {total} belong", ids.len()));
    }
    Ok(LearnerPage { more: read < total, total, ids })
}

/// The filter for those whom a text names; a full name may break between any two of its words.
fn named(text: &str) -> String {
    // A quote is written twice (<https://docs.myabsorb.com/integration-api/v2/docs>).
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let whole = quoted(text.trim());
    let mut ways: Vec<String> =
        ["username", "emailAddress", "externalId"].iter().map(|field| format!("{field} eq {whole}")).collect();
    for split in 1..words.len().min(NAME_WORDS_MAX) {
        let (first, last) = (quoted(&words[..split].join(" ")), quoted(&words[split..].join(" ")));
        ways.push(format!("(firstName eq {first} and lastName eq {last})"));
    }
    ways.join(" or ")
}

fn enrolments_path(user: &str) -> String {
    format!("/users/{user}/enrollments")
}

fn misunderstood(path: &str) -> impl Fn(String) -> LmsError {
    move |words| LmsError::Misunderstood(format!("GET {path}: {words}"))
}

/// The one spelling of an id.
fn plain_id(id: &str) -> String {
    guid(id).unwrap_or_else(|| id.to_owned())
}

/// An id as part of a path: a GUID, or percent-encoded.
fn segment(id: &str) -> Result<String, LmsError> {
    if let Some(guid) = guid(id) {
        return Ok(guid);
    }
    // URLs resolve dots even when they are encoded: `/users/..` would be another resource.
    if id.chars().all(|letter| letter == '.') {
        return Err(LmsError::Misunderstood(format!("{id:?} is not an id")));
    }
    Ok(utf8_percent_encode(id, NON_ALPHANUMERIC).to_string())
}
