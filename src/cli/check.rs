//! `learnsync check`: is the configuration right, and do the LMS and the destinations answer?

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use async_trait::async_trait;
use clap::Args;
use serde::Serialize;

use super::{Failure, WithConfig, print_json, runtime};
use crate::config::{History, unknown};
use crate::daemon::{BuiltPortal, Checked, verdict};
use crate::domain::chance::{Entropy, Generator};
use crate::domain::time::{Clock, SystemClock, Timestamp};
use crate::lms::absorb::{Examination, StoredToken, TOKEN_LIFE, TokenVault};
use crate::store::StoreError;
use crate::store::view::View;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// Asks the LMS and every destination, too. Logging in to the LMS ends a running daemon's session; it logs in again by itself.
    #[arg(long)]
    online: bool,
    /// Leaves the destinations out: is all right without which the daemon does not start? For ExecStartPre= of systemd.
    #[arg(long)]
    portal_only: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let checked =
        if options.portal_only { verdict::of(&options.with.config).portals()? } else { options.with.checked()? };
    describe(&checked, options.portal_only);
    if options.online {
        runtime()?.block_on(ask_everybody(&checked))?;
    }
    Ok(())
}

/// Says what the configuration means.
pub(super) fn describe(checked: &Checked, is_portal_only: bool) {
    let config = &checked.config;
    let what = if is_portal_only { "all but the destinations, which were not looked at," } else { "the configuration" };
    println!("installation {}: {what} is right", config.installation);
    for (name, portal) in &config.portals {
        println!("portal {name}: {}", portal.api_url());
        println!("  webhook URL: http(s)://<your host>/hooks/{name}/<the webhook token>");
    }
    for destination in &checked.parts.destinations {
        let history = match destination.history {
            History::None => "facts achieved from its first start on".to_owned(),
            History::All => "all facts".to_owned(),
            History::Since(date) => format!("facts achieved since {date}"),
        };
        println!("destination {} ({}): {history}", destination.name, destination.description.name);
        for route in &destination.routes {
            println!(
                "  {}: {} -> {} (mapping {})",
                route.name,
                route.record,
                route.object,
                &route.mapping.digest()[..12]
            );
        }
    }
    println!("sweep: {} ({})", config.reconcile.cron, config.reconcile.zone);
}

async fn ask_everybody(checked: &Checked) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(Generator::from_os());
    let mut failures = 0;
    // Before the first start there is no store, and nothing in it to heed.
    let mut view = View::open(&checked.config.store.path).ok();
    for (name, portal) in &checked.parts.portals {
        let visitor = Visitor::of(name, portal, view.as_mut()).context("read the store")?;
        let expected = checked.config.portals.get(name).and_then(|portal| portal.expected_learners);
        match portal.lms(Arc::new(visitor), &clock, &entropy).examine(&*clock).await {
            Ok(found) => told(name, &found, expected, clock.now()).iter().for_each(|line| println!("{line}")),
            Err(error) => {
                failures += 1;
                println!("portal {name}: {error}");
            }
        }
    }
    for destination in &checked.parts.destinations {
        match destination.connector.probe().await {
            Ok(account) => println!("destination {}: answers as {}", destination.name, account.identity),
            Err(error) => {
                failures += 1;
                println!("destination {}: {error}", destination.name);
            }
        }
    }
    if failures > 0 {
        bail!(
            "{failures} of {} do not answer as they should",
            checked.parts.portals.len() + checked.parts.destinations.len()
        );
    }
    Ok(())
}

/// From so much on, a difference of the clocks is told: dates near midnight, and what counts as new, depend on it.
const CLOCKS_DIFFER_SECONDS: i64 = 120;

/// Most ids that are listed in one line.
const IDS_SHOWN_MAX: usize = 10;

/// What an examination means, one fact a line; what should be looked at begins with `warning`.
fn told(name: &str, found: &Examination, expected: Option<u64>, now: Timestamp) -> Vec<String> {
    let departments = match found.departments {
        Some(count) => format!("{count} departments"),
        None => "no departments at all".to_owned(),
    };
    let mut lines = vec![format!("portal {name}: sees {} learners, {departments}", found.learners)];
    match expected {
        Some(expected) if expected > found.learners => lines.push(format!(
            "  warning: {} of {expected} learners (expected_learners) are out of sight: widen the role or the departments of the account",
            expected - found.learners
        )),
        Some(expected) if expected < found.learners => {
            lines.push(format!("  sees more learners than expected_learners = {expected}: it may be out of date"));
        }
        Some(_) => lines.push("  that is as many learners as expected_learners says".to_owned()),
        None => lines.push(
            "  compare with the number that Absorb shows to its administrators; expected_learners in the configuration does it each time"
                .to_owned(),
        ),
    }
    if !found.hidden_departments.is_empty() {
        lines.push(format!(
            "  warning: of {} learners some are in departments that the role does not see: {}",
            found.looked_at,
            listed(&found.hidden_departments)
        ));
    }
    if !found.hidden_courses.is_empty() {
        lines.push(format!(
            "  warning: {} of {} courses with enrolments are hidden from the role, so their names come from the enrolments and external ids are missing: {}",
            found.hidden_courses.len(),
            found.courses,
            listed(&found.hidden_courses)
        ));
    }
    for (path, status) in &found.end_points {
        lines.push(match status {
            200..=299 => format!("  {path}: there"),
            403 => format!("  warning: {path}: forbidden to this role (HTTP 403); nothing is concluded about it"),
            404 => format!(
                "  warning: {path}: not there (HTTP 404), the feature may be off; nothing is concluded about it"
            ),
            _ => format!("  warning: {path}: HTTP {status}"),
        });
    }
    lines.push(match found.clock_ahead_seconds {
        None => "  the portal does not tell the time".to_owned(),
        Some(ahead) if ahead.abs() > CLOCKS_DIFFER_SECONDS => format!(
            "  warning: the portal's clock is {} s {} ours: set this machine's by NTP",
            ahead.abs(),
            if ahead > 0 { "ahead of" } else { "behind" }
        ),
        Some(_) => "  the clocks agree".to_owned(),
    });
    lines.push(match found.token_ends_at {
        Some(at) => format!("  the token ends in {} min, by its own words", (at.0 - now.0).max(0) / 60_000),
        None => format!("  the token does not say when it ends; {} h are documented", TOKEN_LIFE.as_secs() / 3_600),
    });
    lines
}

fn listed(ids: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = ids.iter().take(IDS_SHOWN_MAX).map(String::as_str).collect();
    let more = ids.len().saturating_sub(IDS_SHOWN_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// A check keeps nothing, and heeds what the daemon was told: until when the LMS asked to be left alone. With a password it logs in, because
/// that is what it checks; a login by OAuth is the daemon's, of which the session is borrowed.
struct Visitor {
    token: Option<StoredToken>,
    asked_until: Option<Timestamp>,
}

impl Visitor {
    fn of(name: &str, portal: &BuiltPortal, view: Option<&mut View>) -> Result<Self, StoreError> {
        let Some(view) = view else { return Ok(Self { token: None, asked_until: None }) };
        let known = view.portals()?.into_iter().find(|known| known.name == name);
        let token = match portal.oauth() {
            Some(_) => view.lms_token(name)?.map(|(token, obtained_at)| StoredToken { token, obtained_at }),
            None => None,
        };
        Ok(Self { token, asked_until: known.and_then(|known| known.asked_until) })
    }
}

#[async_trait]
impl TokenVault for Visitor {
    async fn load(&self) -> Option<StoredToken> {
        self.token.clone()
    }

    async fn save(&self, _token: Option<StoredToken>) {}

    async fn reserve_login(&self) -> Result<(), String> {
        Ok(())
    }

    async fn asked_until(&self) -> Option<Timestamp> {
        self.asked_until
    }
}

/// What came of a probe.
#[derive(Debug, Serialize)]
pub(super) struct Probed {
    /// The destination.
    pub(super) destination: String,
    /// The account behind the credentials, as it names itself.
    pub(super) account: Option<String>,
    /// Why it did not answer.
    pub(super) error: Option<String>,
}

/// Probes one destination or all; used by `destinations probe`.
pub(super) async fn probe(checked: &Checked, only: Option<&str>, is_json: bool) -> Result<(), Failure> {
    let known: Vec<&str> = checked.parts.destinations.iter().map(|destination| destination.name.as_str()).collect();
    if let Some(name) = only.filter(|name| !known.contains(name)) {
        return Err(Failure::Configuration(unknown("destination", name, &known)));
    }
    let mut probed = Vec::new();
    for destination in &checked.parts.destinations {
        if only.is_some_and(|name| name != destination.name) {
            continue;
        }
        let (account, error) = match destination.connector.probe().await {
            Ok(account) => (Some(account.identity), None),
            Err(error) => (None, Some(error.to_string())),
        };
        probed.push(Probed { destination: destination.name.clone(), account, error });
    }
    if is_json {
        print_json(&probed)?;
    } else {
        for one in &probed {
            match (&one.account, &one.error) {
                (Some(account), _) => println!("{}: answers as {account}", one.destination),
                (None, error) => println!("destination {}: {}", one.destination, error.as_deref().unwrap_or_default()),
            }
        }
    }
    let failed = probed.iter().filter(|one| one.error.is_some()).count();
    if failed > 0 {
        return Err(anyhow!("{failed} of the probed destinations did not answer as they should").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn well() -> Examination {
        Examination {
            learners: 812,
            looked_at: 812,
            departments: Some(14),
            courses: 9,
            end_points: vec![("/users".to_owned(), 200)],
            clock_ahead_seconds: Some(-1),
            ..Examination::default()
        }
    }

    #[test]
    fn a_portal_that_shows_all_gives_no_warning() {
        let lines = told("main", &well(), Some(812), NOW);
        assert_eq!(lines[0], "portal main: sees 812 learners, 14 departments");
        assert!(!lines.iter().any(|line| line.contains("warning")), "{lines:?}");
    }

    #[test]
    fn whatever_the_role_does_not_see_is_a_warning_that_names_it() {
        let ids = |count: usize| (0..count).map(|id| format!("d{id:02}")).collect();
        let narrow = Examination {
            hidden_departments: ids(12),
            hidden_courses: ids(1),
            end_points: vec![("/groups".to_owned(), 403), ("/competencies".to_owned(), 404)],
            clock_ahead_seconds: Some(-121),
            token_ends_at: Some(NOW.plus_ms(5 * 60_000)),
            ..well()
        };
        let text = told("main", &narrow, Some(900), NOW).join("\n");
        for part in [
            "warning: 88 of 900 learners (expected_learners) are out of sight",
            "d09 and 2 more",
            "warning: 1 of 9 courses",
            "warning: /groups: forbidden to this role (HTTP 403)",
            "warning: /competencies: not there (HTTP 404)",
            "warning: the portal's clock is 121 s behind ours",
            "the token ends in 5 min",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
