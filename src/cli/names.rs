//! Names that people type: a wrong one is answered with the nearest right one.

use anyhow::{Context, anyhow};

use super::Failure;
use crate::config::unknown;
use crate::domain::delivery::{Cause, DeliveryState};
use crate::store::view::View;
use crate::store::view::browse::Person;

/// The states of a link, in the order of reports.
pub(super) const LINK_STATES: [&str; 3] = ["linked", "unmatched", "ambiguous"];

/// A destination that the ledger knows.
pub(super) fn destination(view: &mut View, name: &str) -> Result<(), Failure> {
    let known = view.list_destinations().context("read the destinations")?;
    let names: Vec<&str> = known.iter().map(|one| one.name.as_str()).collect();
    one_of("destination", name, &names)
}

/// A delivery's state.
pub(super) fn state(word: &str) -> Result<(), Failure> {
    one_of("state", word, &DeliveryState::ALL.map(DeliveryState::as_str))
}

/// A link's state.
pub(super) fn link_state(word: &str) -> Result<(), Failure> {
    one_of("state", word, &LINK_STATES)
}

/// A cause by its whole word, or the kind before its first colon. One that no delivery has now is right, too.
pub(super) fn cause(view: &mut View, word: &str) -> Result<(), Failure> {
    let mut known = view.causes().context("read the causes")?;
    let kinds = Cause::examples().into_iter().map(|cause| Cause::kind_of(&cause.word()).to_owned());
    known.extend(kinds);
    known.sort();
    known.dedup();
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    one_of("cause", word, &names)
}

/// The one learner whom a text names.
pub(super) fn learner(view: &mut View, text: &str) -> Result<Person, Failure> {
    let mut found = learners(view, text)?;
    if found.len() > 1 {
        let who: Vec<String> = found
            .iter()
            .map(|one| format!("{} ({}, portal {})", one.learner, one.name.as_deref().unwrap_or("erased"), one.portal))
            .collect();
        return Err(anyhow!("\"{text}\" names {} learners: {}; say the LMS id", found.len(), who.join(", ")).into());
    }
    Ok(found.remove(0))
}

/// The learners whom a text names, at least one.
pub(super) fn learners(view: &mut View, text: &str) -> Result<Vec<Person>, Failure> {
    let found = view.people_named(text).context("look the learner up")?;
    if found.is_empty() {
        return Err(anyhow!(
            "nobody is known by \"{text}\": try the LMS id, the external id, the e-mail address or the full name; \
             `learnsync explain` tells more"
        )
        .into());
    }
    Ok(found)
}

fn one_of(thing: &str, word: &str, known: &[&str]) -> Result<(), Failure> {
    if known.contains(&word) {
        return Ok(());
    }
    Err(Failure::Configuration(unknown(thing, word, known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_state_is_answered_with_the_right_word() {
        let words = |result: Result<(), Failure>| match result {
            Err(Failure::Configuration(words)) => words,
            Err(Failure::Wrong(error)) => panic!("another kind of failure: {error}"),
            Ok(()) => panic!("a wrong word was taken"),
        };
        assert_eq!(words(state("parkd")), "unknown state \"parkd\", did you mean \"parked\"?");
        assert_eq!(words(link_state("gone")), "unknown state \"gone\" (known here: linked, unmatched, ambiguous)");
        assert!(state("parked").is_ok() && link_state("linked").is_ok());
    }
}
