//! `learnsync links try`: who learners would be by other rules. Everybody is looked up in the target, and nothing is kept.

use anyhow::{Context, anyhow};
use clap::Args;
use learnsync_sdk::{MatchRule, PersonMatch};
use serde::Serialize;

use super::super::table::{Table, harmless};
use super::super::{Failure, WithConfig, print_json, print_text, runtime};
use crate::config::Files;
use crate::daemon::verdict;
use crate::domain::time::{Clock, SystemClock};
use crate::pipeline::destination::Destination;
use crate::reconcile::plan::may_be_asked;
use crate::store::view::View;
use crate::store::view::people::KnownPerson;

/// Learners who are shown, of each kind of difference.
const SHOWN_MAX: usize = 20;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// The destination.
    destination: String,
    /// A rule, as in match_rules; given several times, in their order. Without any, those of the configuration.
    #[arg(long = "rule", value_parser = MatchRule::parse)]
    rules: Vec<MatchRule>,
    /// Only so many learners.
    #[arg(long)]
    limit: Option<u64>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What other rules come to.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Trial {
    /// The destination.
    destination: String,
    /// The rules, in their order.
    rules: Vec<String>,
    /// Who were looked up.
    looked_up: u64,
    /// Who are who they were.
    same: u64,
    /// Who would be found and were not.
    found: u64,
    /// Who would be somebody else: what HR holds would move.
    moved: u64,
    /// Who were found, and would not be.
    lost: u64,
    /// Who would still not be found.
    nobody: u64,
    /// Whom several people would fit.
    ambiguous: u64,
    /// Whom a person said; no rule is asked.
    pinned: u64,
    /// Some of those for whom something changes.
    changes: Vec<Change>,
}

/// A learner for whom something changes.
#[derive(Debug, PartialEq, Serialize)]
struct Change {
    /// Their LMS id.
    learner: String,
    /// `found`, `moved`, `lost` or `ambiguous`.
    what: &'static str,
    /// Who they are.
    from: Option<String>,
    /// Who they would be, or may be.
    to: Vec<String>,
    /// The rule that says so.
    rule: Option<String>,
}

impl Trial {
    /// Counts what the rules say of one learner.
    fn take(&mut self, known: &KnownPerson, answer: PersonMatch) {
        self.looked_up += 1;
        let (to, rule) = match answer {
            PersonMatch::Found { person, rule } => (vec![person], Some(rule.to_string())),
            PersonMatch::Ambiguous { rule, candidates } => (candidates, Some(rule.to_string())),
            PersonMatch::NotFound => (Vec::new(), None),
        };
        let (count, what) = match (&known.person, to.as_slice()) {
            (Some(before), [now]) if before == now => (&mut self.same, None),
            (Some(_), [_]) => (&mut self.moved, Some("moved")),
            (None, [_]) => (&mut self.found, Some("found")),
            (Some(_), []) => (&mut self.lost, Some("lost")),
            (None, []) => (&mut self.nobody, None),
            (_, [_, _, ..]) => (&mut self.ambiguous, Some("ambiguous")),
        };
        *count += 1;
        let Some(what) = what else { return };
        if self.changes.iter().filter(|change| change.what == what).count() < SHOWN_MAX {
            self.changes.push(Change { learner: known.learner.id.clone(), what, from: known.person.clone(), to, rule });
        }
    }
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let verdict = verdict::with_secrets(&Files::read(&options.with.config));
    verdict.errors.of_destination(&options.destination).into_result()?;
    let names = verdict.names();
    let built = verdict.runnable()?.parts.destinations.into_iter().find(|built| built.name == options.destination);
    let Some(built) = built else {
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        return Err(Failure::Configuration(crate::config::unknown("destination", &options.destination, &known)));
    };
    let mut view = options.with.view()?;
    let rows = view.destination_rows(&built.name).context("read the store")?;
    let rows = rows.ok_or_else(|| anyhow!("the ledger knows nothing of {} yet: start learnsync first", built.name))?;
    let destination = built.ready(&rows, &view.installation().context("read the store")?);
    let rules = if options.rules.is_empty() { &built.match_rules } else { &options.rules };
    let trial = runtime()?.block_on(tried(&mut view, &destination, rules, options.limit, &SystemClock))?;
    if options.json {
        return print_json(&trial);
    }
    print_text(&story(&trial))?;
    if trial.changes.is_empty() {
        return Ok(());
    }
    table(&trial).print()
}

async fn tried(
    view: &mut View,
    destination: &Destination,
    rules: &[MatchRule],
    limit: Option<u64>,
    clock: &dyn Clock,
) -> Result<Trial, Failure> {
    let name = &destination.name;
    may_be_asked(view, destination, clock.now()).map_err(anyhow::Error::from)?;
    let rules_told = rules.iter().map(ToString::to_string).collect();
    let mut trial = Trial { destination: name.clone(), rules: rules_told, ..Trial::default() };
    let mut after = 0;
    loop {
        let (people, last) = view.known_people(destination.id, after).context("read the store")?;
        for known in people {
            if limit.is_some_and(|limit| trial.looked_up >= limit) {
                return Ok(trial);
            }
            if known.is_pinned {
                trial.pinned += 1;
                continue;
            }
            let answer = destination.connector.find_person(&known.learner, rules).await;
            let asked = || format!("look up the learner behind {} others in {name}", trial.looked_up);
            let answer = answer.map_err(|error| anyhow!("{error}")).with_context(asked)?;
            trial.take(&known, answer);
        }
        let Some(last) = last else { return Ok(trial) };
        after = last;
    }
}

fn story(trial: &Trial) -> String {
    let Trial { destination, looked_up, same, found, moved, lost, nobody, ambiguous, pinned, .. } = trial;
    let rules = trial.rules.join(", then ");
    let mut text =
        format!("{destination}, by {rules}: {looked_up} learners were looked up, {same} are who they were\n");
    for (count, words) in [
        (found, "would be found, and are not yet"),
        (moved, "would be somebody else: what is held under them would move"),
        (lost, "would not be found any more"),
        (ambiguous, "would fit several people: each is a work item, nobody is guessed"),
        (nobody, "would still not be found"),
        (pinned, "are pinned, and stay so"),
    ] {
        if *count > 0 {
            text.push_str(&format!("  {count} {words}\n"));
        }
    }
    text.push_str(
        "  nothing was changed. With these in match_rules whoever is not found yet is looked up by them in the next night; who is linked \
         stays so until `learnsync links pin` says otherwise\n",
    );
    text.lines().map(|line| format!("{}\n", harmless(line))).collect()
}

fn table(trial: &Trial) -> Table {
    let mut table = Table::new(["learner", "change", "is", "would be", "rule"]);
    for change in &trial.changes {
        table.row([
            change.learner.clone(),
            change.what.to_owned(),
            change.from.clone().unwrap_or_default(),
            change.to.join(" or "),
            change.rule.clone().unwrap_or_default(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use learnsync_sdk::Learner;

    use super::*;
    use crate::domain::drift::Policies;
    use crate::reconcile::tests::shelf::{LISTS, completion, world};

    #[test]
    fn each_learner_is_counted_once_and_whoever_changes_is_shown() {
        let known = |person: Option<&str>| KnownPerson {
            learner: Learner { id: "u1".to_owned(), ..Learner::default() },
            person: person.map(str::to_owned),
            is_pinned: false,
        };
        let found = |person: &str| PersonMatch::Found { person: person.to_owned(), rule: MatchRule::EMAIL };
        let several =
            || PersonMatch::Ambiguous { rule: MatchRule::EMAIL, candidates: vec!["7".to_owned(), "8".to_owned()] };
        let mut trial = Trial::default();
        for (before, answer) in [
            (Some("7"), found("7")),
            (Some("7"), found("8")),
            (None, found("8")),
            (Some("7"), PersonMatch::NotFound),
            (None, PersonMatch::NotFound),
            (Some("7"), several()),
            (None, several()),
        ] {
            trial.take(&known(before), answer);
        }
        let Trial { looked_up, same, moved, found, lost, nobody, ambiguous, .. } = trial;
        assert_eq!((same, moved, found, lost, nobody, ambiguous), (1, 1, 1, 1, 1, 2));
        assert_eq!(looked_up, same + moved + found + lost + nobody + ambiguous);
        let changes: Vec<&str> = trial.changes.iter().map(|change| change.what).collect();
        assert_eq!(changes, ["moved", "found", "lost", "ambiguous", "ambiguous"]);
        assert!(story(&Trial { lost: 1, ..Trial::default() }).contains("1 would not be found any more"));
    }

    #[tokio::test]
    async fn everybody_in_the_ledger_is_looked_up_and_nothing_is_kept() {
        let world = world(LISTS, Policies::default()).await;
        world.read(0..250, |learner| vec![completion(learner, 0)]).await;
        world.deliver().await;
        let mut view = View::open(world.folder.path()).expect("the store can be looked into");
        let destination = Arc::clone(&world.destination);
        let mut looked = async |limit| {
            let rules = [MatchRule::EXTERNAL_ID];
            tried(&mut view, &destination, &rules, limit, &*world.clock).await.unwrap_or_else(|_| panic!("it is tried"))
        };
        let all = looked(None).await;
        assert_eq!((all.looked_up, all.same, all.changes.len()), (250, 250, 0));
        assert_eq!(looked(Some(10)).await.looked_up, 10);
    }
}
