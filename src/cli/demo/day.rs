//! One day in the LMS: things happen, their webhooks are sent, lost, repeated and forged, and at noon the daemon is killed.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use futures::StreamExt;

use super::child::{Child, Peak};
use super::{Stage, TOKEN};
use crate::domain::chance::Entropy;
use crate::sandbox::{HookBody, PortalHandle, Sandbox};

/// Webhooks under way at once.
const AT_ONCE: usize = 32;

/// Of a hundred webhooks: lost, repeated, forged with the right token, forged with a wrong one.
const LOST: u64 = 5;
const REPEATED: u64 = 5;
const FORGED: u64 = 3;
const WRONG_TOKEN: u64 = 2;

/// What is sent for one thing that happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Sent,
    Lost,
    Repeated,
    /// Beside the true one, a stranger sends one for a user who does not exist.
    Forged,
    /// Beside the true one, a stranger tries a token.
    WrongToken,
}

/// What happens to whom.
#[derive(Clone)]
enum Happening {
    Completion { learner: String, course: String },
    Certificate { learner: String, course: String },
    Competency { learner: String, name: String },
}

/// The plan of a day.
pub(super) struct Day {
    happenings: Vec<(Happening, Fate)>,
}

/// What was counted.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) happened: u64,
    pub(super) acknowledged: u64,
    pub(super) lost: u64,
    pub(super) met_nobody: u64,
    pub(super) repeated: u64,
    pub(super) forged: u64,
    pub(super) refused: u64,
    pub(super) kills: u64,
}

impl Day {
    /// Plans the day: each learner completes courses, gets certificates and competencies, each only once.
    pub(super) fn plan(events: u32, sandbox: &Sandbox, entropy: &dyn Entropy) -> Self {
        let learners = sandbox.portal.learner_ids();
        let courses = sandbox.portal.course_ids();
        let mut happenings = Vec::new();
        for index in 0..events as usize {
            let learner = learners[index % learners.len()].clone();
            let round = index / learners.len();
            // Completions twice as often as the others; a certificate is for the course of the round before.
            let course = |round: usize| courses[(index + round) % courses.len()].clone();
            let happening = match round % 4 {
                0 | 2 => Happening::Completion { learner, course: course(round) },
                1 => Happening::Certificate { learner, course: course(round - 1) },
                _ => Happening::Competency { learner, name: format!("Competency {}", 1 + (index + round) % 7) },
            };
            happenings.push((happening, fate(entropy.below(100))));
        }
        Self { happenings }
    }

    /// Lets it happen. At noon the daemon is killed with webhooks under way, and started again.
    pub(super) async fn happen(&self, stage: &Stage, child: &mut Child, peak: &mut Peak) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let noon = self.happenings.len() / 2;
        let (morning, rest) = self.happenings.split_at(noon);
        let (lunch, evening) = rest.split_at(rest.len() / 10);
        println!("morning: things happen in the LMS");
        self.part(stage, child.url(), morning, &mut tally).await;
        println!("noon: kill -9 of the daemon, with webhooks under way");
        let url = child.url().to_owned();
        peak.see(child);
        let (killed, ()) = tokio::join!(child.kill(), self.part(stage, &url, lunch, &mut tally));
        killed?;
        tally.kills += 1;
        *child = Child::start(&stage.config).await.context("start the daemon again")?;
        println!("  daemon              {} (process {})", child.url(), child.pid());
        println!("afternoon: more things happen");
        self.part(stage, child.url(), evening, &mut tally).await;
        Ok(tally)
    }

    async fn part(&self, stage: &Stage, url: &str, part: &[(Happening, Fate)], tally: &mut Tally) {
        let sender = Sender::new(stage, url);
        let portal = &stage.sandbox.portal;
        let mut sent = futures::stream::iter(part)
            .map(|(happening, fate)| sender.send(happening.happen(portal), *fate))
            .buffer_unordered(AT_ONCE);
        let mut done = 0;
        while sent.next().await.is_some() {
            done += 1;
            if done % 100 == 0 || done == part.len() {
                progress(&format!(
                    "{done} of {} things happened; HR holds {} rows",
                    part.len(),
                    stage.sandbox.hr.rows_total()
                ));
            }
        }
        drop(sent);
        end_progress();
        sender.add_to(tally);
        tally.happened += part.len() as u64;
    }
}

fn fate(dice: u64) -> Fate {
    match dice {
        dice if dice < LOST => Fate::Lost,
        dice if dice < LOST + REPEATED => Fate::Repeated,
        dice if dice < LOST + REPEATED + FORGED => Fate::Forged,
        dice if dice < LOST + REPEATED + FORGED + WRONG_TOKEN => Fate::WrongToken,
        _ => Fate::Sent,
    }
}

impl Happening {
    /// Makes it true in the LMS; answers the webhook that tells of it.
    fn happen(&self, portal: &PortalHandle) -> HookBody {
        match self {
            Self::Completion { learner, course } => portal.complete_course(learner, course),
            Self::Certificate { learner, course } => portal.award_certificate(learner, course),
            Self::Competency { learner, name } => portal.award_competency(learner, name),
        }
    }
}

/// Sends webhooks as Absorb does: once, whatever comes back.
struct Sender<'a> {
    stage: &'a Stage,
    url: String,
    acknowledged: AtomicU64,
    lost: AtomicU64,
    met_nobody: AtomicU64,
    repeated: AtomicU64,
    forged: AtomicU64,
    refused: AtomicU64,
}

impl<'a> Sender<'a> {
    fn new(stage: &'a Stage, url: &str) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            stage,
            url: url.to_owned(),
            acknowledged: zero(),
            lost: zero(),
            met_nobody: zero(),
            repeated: zero(),
            forged: zero(),
            refused: zero(),
        }
    }

    fn add_to(&self, tally: &mut Tally) {
        tally.acknowledged += self.acknowledged.load(Ordering::Relaxed);
        tally.lost += self.lost.load(Ordering::Relaxed);
        tally.met_nobody += self.met_nobody.load(Ordering::Relaxed);
        tally.repeated += self.repeated.load(Ordering::Relaxed);
        tally.forged += self.forged.load(Ordering::Relaxed);
        tally.refused += self.refused.load(Ordering::Relaxed);
    }

    async fn send(&self, hook: HookBody, fate: Fate) {
        match fate {
            Fate::Lost => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Fate::Repeated => {
                self.post(TOKEN, &hook).await;
                self.repeated.fetch_add(1, Ordering::Relaxed);
            }
            Fate::Forged => {
                // A user whom the portal does not know: the webhook is made, and nothing happens.
                let nobody = "00000000-0000-4000-8000-000000000000";
                let forged = self.stage.sandbox.portal.complete_course(nobody, nobody);
                self.post(TOKEN, &forged).await;
                self.forged.fetch_add(1, Ordering::Relaxed);
            }
            Fate::WrongToken => {
                if self.post("a-token-that-somebody-guessed", &hook).await == Some(404) {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
            Fate::Sent => {}
        }
        match self.post(TOKEN, &hook).await {
            Some(200) => self.acknowledged.fetch_add(1, Ordering::Relaxed),
            Some(_) | None => self.met_nobody.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// The answer's status; none when nobody answered.
    async fn post(&self, token: &str, hook: &HookBody) -> Option<u16> {
        let mut request = self.stage.http.post(format!("{}/hooks/main/{token}", self.url)).body(hook.body.clone());
        if !hook.content_type.is_empty() {
            request = request.header("content-type", &hook.content_type);
        }
        Some(request.send().await.ok()?.status().as_u16())
    }
}

/// One line of progress: in place on a terminal, a line of its own elsewhere.
pub(super) fn progress(line: &str) {
    if std::io::stdout().is_terminal() {
        print!("\r\x1b[2K  {line}");
        // Progress that cannot be shown is no reason to stop.
        let _closed = std::io::stdout().flush();
    } else {
        println!("  {line}");
    }
}

/// Leaves the line of progress.
pub(super) fn end_progress() {
    if std::io::stdout().is_terminal() {
        println!();
    }
}
