//! Reads of the API: short retries within a call, the dance around 401, and refusals as errors of the usual kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use learnsync_sdk::RetryAfter;
use serde_json::Value;
use tracing::{debug, warn};

use super::list::{Collector, Next, Page, ROWS_PER_PAGE, identity};
use super::oauth::Grant;
use super::session::Session;
use super::wire::{ANSWER_BYTES_MAX, Reply, Wire, WireError};
use crate::domain::chance::Entropy;
use crate::domain::lane::Lane;
use crate::lms::LmsError;

/// How often a list that does not fit together is read from its start.
const LIST_TRIES_MAX: u32 = 2;

/// The pauses between the tries of one call. Anything longer is the pipeline's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// The first pause; each further one doubles. Jitter adds up to half of it.
    pub first: Duration,
    /// Most tries of one call.
    pub tries_max: u32,
    /// No try begins later than this after the first.
    pub time_max: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { first: Duration::from_millis(400), tries_max: 3, time_max: Duration::from_secs(10) }
    }
}

impl Pauses {
    fn begin(&self) -> ExponentialBackoff {
        ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first)
            .with_multiplier(2.0)
            // Randomness is ours, so that a seed replays a run.
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(Some(self.time_max))
            .build()
    }
}

/// What a read found.
pub(super) enum Answer {
    Found(Value),
    /// 404.
    Missing,
}

/// What one pass over a list found.
enum Pass {
    Rows(Vec<Value>),
    Missing,
    /// The pages do not fit together, in words.
    Distrusted(String),
}

/// Why one try gave no answer.
enum Failure {
    /// Try again at once.
    Passing(String),
    Final(LmsError),
}

/// The API as seen by those who read it in one lane; the lanes share all but their name.
#[derive(Clone)]
pub(super) struct Client {
    lane: Lane,
    shared: Arc<Shared>,
}

struct Shared {
    wire: Wire,
    session: Session,
    pauses: Pauses,
    entropy: Arc<dyn Entropy>,
    /// The lists that the portal refuses to sort by id.
    unsortable: Mutex<BTreeSet<&'static str>>,
    /// Of each list that says no total: its path, and the first row of its first page.
    first_rows: Mutex<BTreeMap<&'static str, (String, String)>>,
}

impl Client {
    pub(super) fn new(wire: Wire, session: Session, pauses: Pauses, entropy: Arc<dyn Entropy>) -> Self {
        let shared =
            Shared { wire, session, pauses, entropy, unsortable: Mutex::default(), first_rows: Mutex::default() };
        Self { lane: Lane::Live, shared: Arc::new(shared) }
    }

    /// The same API, asked in another lane.
    pub(super) fn in_lane(&self, lane: Lane) -> Self {
        Self { lane, shared: Arc::clone(&self.shared) }
    }

    /// Takes the code of a login by OAuth.
    pub(super) async fn redeem(&self, code: &str) -> Result<Grant, LmsError> {
        self.shared.session.redeem(code, &self.shared.wire).await
    }

    /// Reads one object or one page.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Answer, LmsError> {
        let mut backoff = self.shared.pauses.begin();
        let mut tries = 1;
        loop {
            let words = match self.try_get(path, query).await {
                Ok(answer) => return Ok(answer),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(words)) => words,
            };
            let pause = if tries < self.shared.pauses.tries_max { backoff.next_backoff() } else { None };
            let Some(pause) = pause else {
                return Err(LmsError::Unavailable(format!("GET {path}: {words}, after {tries} tries")));
            };
            debug!(path, tries, "The LMS did not answer, trying again");
            tokio::time::sleep(self.jittered(pause)).await;
            tries += 1;
        }
    }

    async fn try_get(&self, path: &str, query: &[(&str, String)]) -> Result<Answer, Failure> {
        classify(&self.asked(path, query).await?, path)
    }

    /// The token that is used now.
    pub(super) async fn token(&self) -> Result<String, LmsError> {
        self.shared.session.token(&self.shared.wire, self.lane).await
    }

    /// Asks once, whatever the answer says; a token that is refused is replaced.
    pub(super) async fn reply(&self, path: &str, query: &[(&str, String)]) -> Result<Reply, LmsError> {
        match self.asked(path, query).await {
            Ok(reply) => match reply.pause() {
                Some(pause) => Err(LmsError::Throttled(pause)),
                None => Ok(reply),
            },
            Err(Failure::Passing(words)) => Err(LmsError::Unavailable(format!("GET {path}: {words}"))),
            Err(Failure::Final(error)) => Err(error),
        }
    }

    async fn asked(&self, path: &str, query: &[(&str, String)]) -> Result<Reply, Failure> {
        let Shared { wire, session, .. } = &*self.shared;
        let token = session.token(wire, self.lane).await?;
        if let Some(reply) = self.get_with(path, query, &token).await? {
            return Ok(reply);
        }
        let token = session.replace(&token, wire, self.lane).await?;
        if let Some(reply) = self.get_with(path, query, &token).await? {
            return Ok(reply);
        }
        let words = format!("GET {path} is answered 401, also after a new login");
        session.note_refusal(&words).await;
        Err(Failure::Final(LmsError::Unauthorized(words)))
    }

    /// Asks with one token; `None` when it is refused twice. Under parallel load Absorb's gateway answers 401 to valid tokens now and
    /// then, and a login on the first of them would kill the token of all our other calls.
    async fn get_with(&self, path: &str, query: &[(&str, String)], token: &str) -> Result<Option<Reply>, Failure> {
        for is_second in [false, true] {
            if is_second {
                tokio::time::sleep(self.jittered(self.shared.pauses.first)).await;
            }
            let reply = self.shared.wire.get(path, query, token, self.lane).await.map_err(|error| match error {
                WireError::Unbuildable(words) => {
                    Failure::Final(LmsError::Misunderstood(format!("GET {path}: {words}")))
                }
                WireError::Broken { words, .. } => Failure::Passing(words),
                WireError::TooLarge => Failure::Final(LmsError::Misunderstood(format!(
                    "GET {path}: the answer is larger than {ANSWER_BYTES_MAX} bytes"
                ))),
                WireError::LeftAlone(until) => Failure::Final(LmsError::Throttled(RetryAfter::Until(until.utc()))),
            })?;
            if reply.status != 401 {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    fn jittered(&self, pause: Duration) -> Duration {
        let half_ms = u64::try_from(pause.as_millis() / 2).unwrap_or(u64::MAX - 1);
        pause + Duration::from_millis(self.shared.entropy.below(half_ms + 1))
    }

    /// Reads a list to its end; `None` when it is answered 404. `name` is the same for all lists of a kind.
    pub(super) async fn list(&self, name: &'static str, path: &str) -> Result<Option<Vec<Value>>, LmsError> {
        let mut reason = String::new();
        for _ in 0..LIST_TRIES_MAX {
            match self.pass(name, path).await? {
                Pass::Rows(rows) => return Ok(Some(rows)),
                Pass::Missing => return Ok(None),
                Pass::Distrusted(words) => reason = words,
            }
            debug!(path, reason, "The pages of a list do not fit together");
        }
        Err(LmsError::PartialRead(format!("GET {path}: {reason}, {LIST_TRIES_MAX} times in a row")))
    }

    async fn pass(&self, name: &'static str, path: &str) -> Result<Pass, LmsError> {
        let mut collector = Collector::default();
        let mut number = 0;
        loop {
            let Some(page) = self.page(name, path, number, ROWS_PER_PAGE).await? else {
                return Ok(match number {
                    0 => Pass::Missing,
                    _ => Pass::Distrusted(format!("page {number} is answered 404")),
                });
            };
            match collector.take(page) {
                Ok(Next::Page(next)) => number = next,
                Ok(Next::Complete) => return Ok(Pass::Rows(collector.into_rows())),
                Err(words) => return Ok(Pass::Distrusted(words)),
            }
        }
    }

    /// Reads one page of a list in the order of ids; `None` when it is answered 404.
    pub(super) async fn page(
        &self,
        name: &'static str,
        path: &str,
        number: u32,
        limit: usize,
    ) -> Result<Option<Page>, LmsError> {
        let answer = self.sorted_page(name, path, number, limit).await?;
        match answer {
            Answer::Missing => Ok(None),
            Answer::Found(value) => {
                let page = Page::read(value, limit);
                let page = page.map_err(|words| LmsError::Misunderstood(format!("GET {path}: {words}")))?;
                Ok(Some(self.unless_repeated(name, path, number, page)))
            }
        }
    }

    /// A bare array may ignore the page number and give all its rows again and again: what begins like the first page is nothing new.
    fn unless_repeated(&self, name: &'static str, path: &str, number: u32, page: Page) -> Page {
        let (None, Some(first)) = (page.total, page.rows.first().map(identity)) else { return page };
        let mut first_rows = self.shared.first_rows.lock().unwrap_or_else(PoisonError::into_inner);
        let known = first_rows.get(name).filter(|(of, _)| of == path).map(|(_, row)| row);
        if number > 0 && known == Some(&first) {
            return Page { rows: Vec::new(), returned: None, ..page };
        }
        if number == 0 {
            first_rows.insert(name, (path.to_owned(), first));
        }
        page
    }

    /// Without a fixed order, rows may move between pages. Which lists can be sorted by id is not documented for all, so one that is
    /// refused so is read as it comes; the collector still notices rows that move.
    async fn sorted_page(&self, name: &'static str, path: &str, number: u32, limit: usize) -> Result<Answer, LmsError> {
        let plain = [("_limit", limit.to_string()), ("_offset", number.to_string())];
        if self.unsortable().contains(name) {
            return self.get(path, &plain).await;
        }
        let [a, b] = plain.clone();
        let refused = match self.get(path, &[("_sort", "id".to_owned()), a, b]).await {
            Err(LmsError::Misunderstood(words)) if number == 0 => words,
            answer => return answer,
        };
        let answer = self.get(path, &plain).await?;
        warn!(list = name, refused, "The LMS refuses to sort this list by id, reading it as it comes");
        self.unsortable().insert(name);
        Ok(answer)
    }

    fn unsortable(&self) -> std::sync::MutexGuard<'_, BTreeSet<&'static str>> {
        self.shared.unsortable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<LmsError> for Failure {
    fn from(error: LmsError) -> Self {
        Self::Final(error)
    }
}

/// Turns an answer into what it means. 401 never comes here.
fn classify(reply: &Reply, path: &str) -> Result<Answer, Failure> {
    if let Some(pause) = reply.pause() {
        return Err(Failure::Final(LmsError::Throttled(pause)));
    }
    let said = || format!("GET {path}: {}", reply.words());
    match reply.status {
        200..=299 => match serde_json::from_slice(&reply.body) {
            Ok(value) => Ok(Answer::Found(value)),
            // A gateway's HTML page, or a body that was cut where the length was not known.
            Err(error) => Err(Failure::Passing(format!("the answer is not JSON: {error}"))),
        },
        404 => Ok(Answer::Missing),
        403 => Err(Failure::Final(LmsError::Forbidden(said()))),
        408 | 425 | 500..=599 => Err(Failure::Passing(reply.words())),
        _ => Err(Failure::Final(LmsError::Misunderstood(said()))),
    }
}
