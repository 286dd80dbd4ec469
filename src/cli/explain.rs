//! `learnsync explain`: where a learner's records are, and why.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use async_trait::async_trait;
use chrono_tz::Tz;
use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::given::{given, is_running};
use super::{Failure, WithConfig, print_json, runtime};
use crate::config::nearest;
use crate::daemon::{BuiltPortal, verdict};
use crate::domain::chance::{Entropy, Generator};
use crate::domain::record::Record;
use crate::domain::time::{Clock, SystemClock, Timestamp};
use crate::explain::{
    Filter, Found, Given, Live, Paint, Story, Stranger, render_story, render_stranger, story as story_of, stranger,
};
use crate::lms::absorb::{StoredToken, TokenVault};
use crate::lms::{Lms, LmsError};
use crate::store::view::{LearnerView, View};

/// The longest that the LMS is waited for.
const LMS_TIME_MAX: Duration = Duration::from_secs(20);

/// Shows where a learner's records are and why: for each destination the answer, what happens next, who can help, and the proof.
///
/// A learner or course that learnsync does not know is looked for in the LMS, now and for at most 20 seconds.
/// Exit status: 0 it was explained, 1 nobody or nothing by that name is known, or several people are, 2 the configuration is wrong.
#[derive(Args)]
#[command(verbatim_doc_comment, after_help = "Example: learnsync explain ana.lima@example.org --course 'fire safety'")]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// An LMS id, an external id, an e-mail address, or a full name.
    learner: String,
    /// Only records whose course or title contains this.
    #[arg(long)]
    course: Option<String>,
    /// Only this destination.
    #[arg(long)]
    destination: Option<String>,
    /// Prints JSON: `learners` with their stories, or `unknown` with what the LMS says; instants in UTC.
    #[arg(long)]
    json: bool,
    /// Does not ask the LMS, even if nobody is known by that name.
    #[arg(long)]
    offline: bool,
}

/// What `--json` prints.
#[derive(Default, Serialize)]
struct Json {
    /// The stories of those who are meant: one, or several if the name is not clear.
    learners: Vec<Story>,
    /// What is to be said when the ledger has no answer.
    unknown: Option<Stranger>,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let (config, mut given) = given(&options.with.config)?;
    let mut view = View::open(&config.store.path).context("look into the store")?;
    let found = view.explain(&options.learner).context("read the store")?;
    given.is_running = is_running(&config, view.pid().context("read the store")?);
    is_known(options.destination.as_deref(), &found, &given)?;
    given.zone = match (options.json, found.first()) {
        (true, _) => Tz::UTC,
        (false, Some(learner)) => config.portals.get(&learner.portal).map_or(given.zone, |portal| portal.zone),
        (false, None) => given.zone,
    };
    if found.len() > 1 && !options.json {
        return Err(several(&options.learner, &found).into());
    }
    let filter = Filter { course: options.course.clone(), destination: options.destination.clone() };
    let stories: Vec<Story> = found.iter().map(|learner| story_of(learner, &given, &filter)).collect();
    let has_answer = stories.iter().any(|story| options.course.is_none() || !story.records.is_empty());
    if has_answer {
        match options.json {
            true => print_json(&Json { learners: stories, unknown: None })?,
            false => {
                stories.iter().for_each(|story| anstream::print!("{}", render_story(story, &given, Paint::Coloured)))
            }
        }
        return Ok(());
    }
    let unknown = unknown(options, &mut view, &found, &given)?;
    match options.json {
        true => print_json(&Json { learners: Vec::new(), unknown: Some(unknown) })?,
        false => anstream::print!("{}", render_stranger(&unknown, &given, Paint::Coloured)),
    }
    let text = &options.learner;
    Err(match &options.course {
        Some(course) if !found.is_empty() => anyhow!("nothing of \"{text}\" is known that is called \"{course}\""),
        Some(_) | None => anyhow!(
            "nobody is known by \"{text}\"; ask with the LMS id, the external id, the e-mail address or the full name"
        ),
    }
    .into())
}

/// A misspelt destination would read as if nothing went there.
fn is_known(wanted: Option<&str>, found: &[LearnerView], given: &Given) -> Result<(), Failure> {
    let Some(wanted) = wanted else { return Ok(()) };
    let configured = given.destinations.iter().map(|destination| destination.name.as_str());
    let ledger = found.iter().flat_map(|learner| &learner.places).map(|place| place.name.as_str());
    let names: std::collections::BTreeSet<&str> = configured.chain(ledger).collect();
    if names.contains(wanted) {
        return Ok(());
    }
    let hint = match nearest(wanted, names.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("there are {}", names.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Err(Failure::Configuration(format!("no destination is called \"{wanted}\"; {hint}")))
}

fn several(text: &str, found: &[LearnerView]) -> anyhow::Error {
    let mut words =
        format!("\"{text}\" names {} people; ask again with the LMS id of the one who is meant:", found.len());
    for learner in found {
        let profile = learner.learner.as_ref();
        let known: Vec<String> = [
            profile.and_then(|profile| profile.external_id.clone()).map(|id| format!("external id {id}")),
            profile.and_then(|profile| profile.email.clone()),
            Some(learner.state.clone()),
            Some(format!("{} records", learner.records.len())),
        ]
        .into_iter()
        .flatten()
        .collect();
        words += &format!("\n  {}  {}", learner.lms_id, known.join(", "));
    }
    anyhow!(words)
}

/// The ledger has no answer: the LMS is asked.
fn unknown(options: &Options, view: &mut View, found: &[LearnerView], given: &Given) -> Result<Stranger, Failure> {
    let heard = match found {
        [] => view.heard_of(&options.learner).context("read the store")?,
        _ => Vec::new(),
    };
    let live = match options.offline {
        true => Live::NotAsked("--offline says so".to_owned()),
        false => ask(options, view, found, given)?,
    };
    let records: Vec<Record> =
        found.iter().flat_map(|learner| &learner.records).map(|record| record.facts.clone()).collect();
    let known = (!found.is_empty()).then_some(records.as_slice());
    Ok(stranger(&options.learner, known, &heard, options.course.as_deref(), &live, given))
}

fn ask(options: &Options, view: &mut View, found: &[LearnerView], given: &Given) -> Result<Live, Failure> {
    let checked = match verdict::of(&options.with.config).portals() {
        Ok(checked) => checked,
        Err(errors) => {
            let first = errors.0.first().map(ToString::to_string).unwrap_or_default();
            return Ok(Live::NotAsked(format!("its account cannot be used from here ({first})")));
        }
    };
    let mut asked = Vec::new();
    for portal in view.portals().context("read the store")? {
        if let Some(until) = portal.rests_until.max(portal.asked_until).filter(|until| *until > given.now) {
            return Ok(Live::NotAsked(format!("portal {} is to be left alone until {until}", portal.name)));
        }
    }
    for (name, portal) in &checked.parts.portals {
        let who = match found.iter().find(|learner| learner.portal == *name) {
            Some(learner) => learner.lms_id.clone(),
            None if found.is_empty() => options.learner.trim().to_owned(),
            None => continue,
        };
        let token = view.lms_token(name).context("read the store")?;
        asked.push((name.as_str(), portal, who, Borrowed { token, may_log_in: given.is_running == Some(false) }));
    }
    let answers = async {
        let mut all = Vec::new();
        for (name, portal, who, vault) in asked {
            all.extend(ask_portal(name, portal, &who, vault).await?);
        }
        Ok::<_, LmsError>(all)
    };
    let answered = runtime()?.block_on(async { tokio::time::timeout(LMS_TIME_MAX, answers).await });
    Ok(match answered {
        Err(_) => Live::Failed(format!("it took longer than {} s", LMS_TIME_MAX.as_secs())),
        Ok(Err(error)) => Live::Failed(error.to_string()),
        Ok(Ok(all)) if all.is_empty() => Live::Nobody,
        Ok(Ok(all)) => Live::Found(all),
    })
}

async fn ask_portal(name: &str, portal: &BuiltPortal, who: &str, vault: Borrowed) -> Result<Vec<Found>, LmsError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(Generator::from_os());
    let lms = portal.lms(Arc::new(vault), &clock, &entropy);
    let learners = match Uuid::try_parse(who) {
        Ok(id) => lms.learner(&id.hyphenated().to_string()).await?.map(|profile| profile.learner).into_iter().collect(),
        Err(_) => lms.learners_named(who).await?,
    };
    let mut found = Vec::with_capacity(learners.len());
    for learner in learners {
        let records = lms.records(&learner.id).await?.records;
        found.push(Found { portal: name.to_owned(), learner, records });
    }
    Ok(found)
}

/// The daemon's own token: the LMS keeps one for the account, and a login of ours would end it.
struct Borrowed {
    token: Option<(String, Timestamp)>,
    may_log_in: bool,
}

#[async_trait]
impl TokenVault for Borrowed {
    async fn load(&self) -> Option<StoredToken> {
        self.token.clone().map(|(token, obtained_at)| StoredToken { token, obtained_at })
    }

    async fn save(&self, _token: Option<StoredToken>) {}

    async fn reserve_login(&self) -> Result<(), String> {
        match self.may_log_in {
            true => Ok(()),
            false => {
                Err("the running daemon has no session at the moment, and a login from here would disturb it"
                    .to_owned())
            }
        }
    }
}

/// A learner's story as `demo` shows it, which reads its own configuration.
pub(super) fn story(learner: &LearnerView, config: &Path) -> anyhow::Result<String> {
    let (_, given) = given(config).map_err(|failure| match failure {
        Failure::Configuration(words) => anyhow!(words),
        Failure::Wrong(error) => error,
    })?;
    Ok(render_story(&story_of(learner, &given, &Filter::default()), &given, Paint::Plain))
}
