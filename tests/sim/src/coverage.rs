//! The coverage table: how often each fault really happened, and which states, causes and error kinds were entered.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use learnsync::domain::delivery::{Cause, DeliveryState};

use crate::fault::Fault;
use crate::habit::Habit;
use crate::world::Seen;

/// Over the seeds of the test, each fault must have happened at least this often.
pub const FAULTS_MIN: u64 = 50;

/// The kinds of errors that a target can answer with.
const ERROR_KINDS: [&str; 7] =
    ["rejected", "unmatched", "throttled", "unavailable", "ambiguous", "unauthorized", "superseded"];

/// Adds up what runs have seen.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    total: Seen,
    runs: u64,
}

impl Coverage {
    /// Adds a run.
    pub fn add(&mut self, seen: &Seen) {
        self.runs += 1;
        for (fault, count) in &seen.faults {
            *self.total.faults.entry(*fault).or_default() += count;
        }
        for (word, count) in &seen.words {
            *self.total.words.entry(word.clone()).or_default() += count;
        }
    }

    /// What a test over enough seeds would have to see and did not.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for fault in Fault::ALL {
            let count = self.total.faults.get(&fault).copied().unwrap_or(0);
            if count < FAULTS_MIN {
                missing.push(format!("{fault} happened {count} times, at least {FAULTS_MIN} are needed"));
            }
        }
        for word in wanted_words() {
            if !self.total.words.contains_key(&word) {
                missing.push(format!("{word} was never entered"));
            }
        }
        missing
    }

    /// The table in plain text.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!("coverage over {} seeds\n", self.runs);
        for fault in Fault::ALL {
            let count = self.total.faults.get(&fault).copied().unwrap_or(0);
            let _infallible = writeln!(text, "  fault       {:28} {count:>9}", fault.to_string());
        }
        let words: BTreeMap<&String, &u64> =
            self.total.words.iter().filter(|(word, _)| !word.starts_with("crash_point")).collect();
        for (word, count) in words {
            let (what, word) = word.split_once(':').unwrap_or(("", word));
            let _infallible = writeln!(text, "  {what:11} {word:28} {count:>9}");
        }
        let points = self.total.words.keys().filter(|word| word.starts_with("crash_point")).count();
        let _infallible = writeln!(text, "  crashes happened at {points} different await points");
        text
    }
}

fn wanted_words() -> Vec<String> {
    let states = DeliveryState::ALL.into_iter().map(|state| format!("state:{}", state.as_str()));
    // Nobody is erased here: a command does that, and what it must leave behind is proven beside it.
    let played = |cause: &Cause| !matches!(cause, Cause::Erased);
    let causes = Cause::examples().into_iter().filter(played).map(|cause| {
        let word = cause.word();
        format!("cause:{}", Cause::kind_of(&word))
    });
    let kinds = ERROR_KINDS.into_iter().map(|kind| format!("error_kind:{kind}"));
    let habits = Habit::ALL.into_iter().map(|habit| format!("habit:{habit}"));
    let looks = [
        "heard:during the play",
        "plan:empty",
        "plan:applied",
        "plan:canary applied",
        "plan:rest applied",
        "plan:all applied",
        "run:approved",
        "run:approved during the play",
        "shadow:pending",
        "withdrawn:by policy",
    ]
    .map(str::to_owned);
    states.chain(causes).chain(kinds).chain(habits).chain(looks).collect()
}
