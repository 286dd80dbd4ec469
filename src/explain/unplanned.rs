//! Why a record has no delivery at a destination: the walk from the configuration to the next reading, up to the first true answer.

use super::states::still;
use super::words::{day, listed, soon};
use super::{Given, Help, Place, Said, Standing, Verdict, Who, next_night};
use crate::pipeline::plan::slot_of;
use crate::store::view::{LearnerView, RecordView};

/// What is to be said of a record that is not to be delivered to a destination.
pub(super) fn said(learner: &LearnerView, record: &RecordView, place: &Place<'_>, given: &Given) -> Said {
    let label = place.name;
    let of = |why: String, because: String, next: String, help: Help| Said {
        verdict: Verdict::NotThere,
        headline: format!("Not in {}: {why}.", place.label),
        because,
        since: None,
        next,
        next_at: None,
        help,
    };
    match &place.standing {
        Standing::Active | Standing::Paused { .. } => {}
        Standing::Retired | Standing::SwitchedOff(_) | Standing::NotStarted | Standing::Shadow => {
            let (why, help) = still(place, given);
            let next = "Nothing, until that changes.".to_owned();
            return of("it is not written to".to_owned(), format!("That is {why}"), next, help);
        }
    }
    let routes = place.configured.map(|configured| configured.routes.as_slice()).unwrap_or_default();
    let Some(route) = routes.iter().find(|route| route.record == record.facts.kind) else {
        let taken: Vec<String> =
            routes.iter().map(|route| format!("{} (route \"{}\")", route.record.plural(), route.name)).collect();
        let wanted = record.facts.kind.plural();
        let because = format!("{} lets it take {}; no route takes {wanted}.", place.file(given), listed(&taken));
        let key = place.key("routes.<a name>");
        let what = format!(
            "if {wanted} should go there, add [{key}] with record = \"{}\" to {}; `learnsync reference` shows how. Else nothing.",
            record.facts.kind,
            place.file(given)
        );
        let next = "Nothing: it is not to go there.".to_owned();
        return of(format!("it does not take {wanted}"), because, next, Help::by(Who::Administrator, what));
    };
    let slot = slot_of(route.slot, &record.facts);
    let mut others = learner.records.iter().filter(|other| other.key != record.key);
    let holder = others.find(|other| {
        other
            .deliveries
            .iter()
            .any(|delivery| delivery.destination == place.name && delivery.route == route.name && delivery.slot == slot)
    });
    if let Some(holder) = holder {
        return of(
            format!("another {} of the same course stands in its place", record.facts.kind.noun()),
            format!(
                "{label} has one place for each person and course. \"{}\"{} holds it, because it is valid longer or is newer.",
                holder.facts.title,
                holder.facts.achieved.map(|at| format!(" of {}", day(at, given.zone))).unwrap_or_default()
            ),
            "Nothing, unless the LMS takes that one back or shows a newer one.".to_owned(),
            Help::none(),
        );
    }
    if record.state != "present" {
        return of(
            "the LMS no longer shows it".to_owned(),
            "It was shown once, and was never to be written there.".to_owned(),
            format!("If the LMS shows it again, it is written. The LMS is read again {}.", next_night(given)),
            Help::none(),
        );
    }
    let at = learner.next_read_at.or(given.next_night);
    let when = at.map_or_else(|| "in the next night".to_owned(), |at| soon(at, given.now, given.zone));
    Said {
        next_at: at,
        ..of(
            "it was read from the LMS before it could go there".to_owned(),
            format!("The {} reached learnsync, and {label} takes it only since then.", record.facts.kind.noun()),
            format!("The learner is read again {when}; then it is written."),
            Help::by(Who::Administrator, "to have it at once, run `learnsync reconcile`; else wait."),
        )
    }
}
