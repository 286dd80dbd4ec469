//! Absorb LMS: its webhooks, and its Integration API v2 (<https://docs.myabsorb.com>).

mod client;
mod dates;
mod list;
pub mod payload;
mod records;
mod session;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use learnsync_sdk::{Learner, RecordKind};

use super::{LearnerPage, LearnerRecords, Lms, LmsError, Probe};
use crate::domain::chance::Entropy;
use crate::domain::time::Clock;
use client::{Client, Pauses};
use records::Courses;
pub use session::{StoredToken, TokenVault};

/// Learners on one page of the sweep: the most that Absorb gives.
const LEARNERS_PER_PAGE: u32 = 1_000;

/// How to reach a portal.
#[derive(Clone)]
pub struct AbsorbSettings {
    /// The portal's name, for logs.
    pub portal: String,
    /// The API's base URL, for example `https://rest.myabsorb.com`.
    pub url: String,
    /// The portal's private key.
    pub api_key: String,
    /// The admin account that only learnsync uses.
    pub username: String,
    /// Its password.
    pub password: String,
    /// Where a learner's certificates are; `{user}` stands for the id.
    pub certificates_path: String,
    /// Where a learner's competencies are.
    pub competencies_path: String,
    /// Calls per second; Absorb allows 200.
    pub calls_per_second_max: u32,
    /// Calls under way at once; more than about 30 make Absorb's gateway answer 401 at random.
    pub calls_at_once_max: usize,
}

impl std::fmt::Debug for AbsorbSettings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("AbsorbSettings").field("portal", &self.portal).field("url", &self.url).finish_non_exhaustive()
    }
}

/// One portal.
pub struct Absorb {
    client: Client,
    courses: Courses,
    certificates_path: String,
    competencies_path: String,
}

impl Absorb {
    /// A client; nothing is called yet.
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

    fn with_pauses(
        settings: AbsorbSettings,
        http: reqwest::Client,
        vault: Arc<dyn TokenVault>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        pauses: Pauses,
    ) -> Self {
        let certificates_path = settings.certificates_path.clone();
        let competencies_path = settings.competencies_path.clone();
        let courses = Courses::new(Arc::clone(&clock));
        let client = Client::new(settings, http, vault, clock, entropy, pauses);
        Self { client, courses, certificates_path, competencies_path }
    }

    /// The rows of a list that some portals do not have; `None` with the status when it is absent or forbidden.
    async fn optional_rows(&self, path: &str) -> Result<Result<Vec<serde_json::Value>, u16>, LmsError> {
        match list::read(&self.client, path, "id").await {
            Ok(Some(rows)) => Ok(Ok(rows)),
            Ok(None) => Ok(Err(404)),
            Err(LmsError::Forbidden(_)) => Ok(Err(403)),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Lms for Absorb {
    async fn learner(&self, id: &str) -> Result<Option<Learner>, LmsError> {
        let found = self.client.get(&format!("/users/{}", segment(id)), &[]).await?;
        Ok(found.map(|user| records::learner(id, &user)))
    }

    async fn records(&self, learner_id: &str) -> Result<LearnerRecords, LmsError> {
        let user = segment(learner_id);
        let Some(enrollments) = list::read(&self.client, &format!("/users/{user}/enrollments"), "courseName").await?
        else {
            // The learner vanished between two calls: nothing is concluded.
            return Ok(LearnerRecords::default());
        };
        let mut found = LearnerRecords { records: Vec::new(), complete: BTreeSet::from([RecordKind::Completion]) };
        let certificates = self.optional_rows(&self.certificates_path.replace("{user}", &user)).await?;
        let competencies = self.optional_rows(&self.competencies_path.replace("{user}", &user)).await?;
        let learner = records::OfLearner { id: learner_id, enrollments: &enrollments };
        for row in &enrollments {
            if let Some(record) = learner.completion(row, &self.courses, &self.client).await? {
                found.records.push(record);
            }
        }
        if let Ok(rows) = &certificates {
            found.complete.insert(RecordKind::Certificate);
            for row in rows {
                found.records.push(learner.certificate(row, &self.courses, &self.client).await?);
            }
        }
        if let Ok(rows) = &competencies {
            found.complete.insert(RecordKind::Competency);
            for row in rows {
                found.records.push(learner.competency(row)?);
            }
        }
        Ok(found)
    }

    async fn learner_ids(&self, page: u32) -> Result<LearnerPage, LmsError> {
        let page = list::page(&self.client, "/users", "id", page, LEARNERS_PER_PAGE).await?;
        let page =
            page.ok_or_else(|| LmsError::Misunderstood("GET /users answers 404: is the URL right?".to_owned()))?;
        let ids = page.rows.iter().filter_map(|row| records::text(row, &["id", "Id"])).collect();
        Ok(LearnerPage { ids, total: page.total.unwrap_or(0), more: page.more })
    }

    async fn probe(&self) -> Result<Probe, LmsError> {
        let first = list::page(&self.client, "/users", "id", 0, 1).await?;
        let first =
            first.ok_or_else(|| LmsError::Misunderstood("GET /users answers 404: is the URL right?".to_owned()))?;
        let mut probe = Probe { learners: first.total.unwrap_or(0), ..Probe::default() };
        probe.available.insert(RecordKind::Completion);
        let Some(id) = first.rows.first().and_then(|row| records::text(row, &["id", "Id"])) else { return Ok(probe) };
        let paths =
            [(RecordKind::Certificate, &self.certificates_path), (RecordKind::Competency, &self.competencies_path)];
        for (kind, path) in paths {
            match self.optional_rows(&path.replace("{user}", &segment(&id))).await? {
                Ok(_) => {
                    probe.available.insert(kind);
                }
                Err(status) => probe.absent.push((kind, status)),
            }
        }
        Ok(probe)
    }
}

/// An id as a segment of a path: events carry ids that strangers made.
fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC).to_string().replace("%2D", "-")
}

#[cfg(test)]
mod tests;
