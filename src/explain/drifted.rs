//! What is said of a place that was not as we wrote it when it was last read back.

use super::states::Case;
use super::{Help, Said, Verdict, Who, next_night};
use crate::domain::drift::DriftClass;
use crate::store::view::DriftView;

/// What is said of it, in the place of `said`, which is of a place that is as it should be.
pub(super) fn said(case: &Case<'_>, drift: &DriftView, said: Said) -> Said {
    let Some(class) = DriftClass::parse(&drift.class) else { return said };
    let label = case.label();
    let row = drift.row.as_deref().or(case.delivery.held_row.as_deref()).unwrap_or("unknown");
    let fields = drift.fields.join(", ");
    let (found, verdict) = match class {
        DriftClass::Missing => ("the row that we wrote is not there any more".to_owned(), Verdict::NotThere),
        DriftClass::Moved => (format!("row {row} stands under another person"), Verdict::ThereButOlder),
        DriftClass::Unmarked => (format!("row {row} carries our mark no longer"), Verdict::There),
        DriftClass::Edited => (format!("somebody changed {fields} in row {row}"), Verdict::ThereButOlder),
        DriftClass::Stale => (format!("row {row} holds older facts"), Verdict::ThereButOlder),
        DriftClass::Duplicate => ("several rows carry our mark for it: somebody copied one".to_owned(), Verdict::There),
        DriftClass::Foreign => (format!("row {row} of somebody else says the same"), Verdict::There),
        DriftClass::Orphaned => (format!("row {row} is there again, though it was removed"), Verdict::ThereButOlder),
        DriftClass::Unreadable => (format!("row {row} could not be read"), Verdict::Perhaps),
        DriftClass::Gone => {
            (format!("row {row} is there, and the LMS shows the fact no longer"), Verdict::ThereButOlder)
        }
    };
    let at = case.at(drift.found_at);
    let headline = format!("In {}, but not as learnsync wrote it: on {at}, {found}.", case.full());
    let (next, help) = match (drift.action.as_str(), &drift.held) {
        (_, Some(because)) if matches!(drift.action.as_str(), "repair" | "withdraw") => (
            format!("Nothing: the guard holds what that night found at {label}, because {because}."),
            Help::by(
                Who::Administrator,
                format!("`learnsync runs show {0}` tells all of it; `learnsync approve {0}` lets it go on.", drift.run),
            ),
        ),
        ("repair", None) => {
            (format!("It is written again. {label} is read back {}.", next_night(case.given)), Help::none())
        }
        ("withdraw", None) => (format!("It is removed from {label}, as `drift.gone` says."), Help::none()),
        ("adopt", None) => (
            "Nothing: what stands there is taken for right, until the fact changes in the LMS.".to_owned(),
            Help::none(),
        ),
        _ => (
            format!("It is left as it is until somebody decides. {label} is read back {}.", next_night(case.given)),
            Help::by(Who::Hr, format!("{}.", class.advice())),
        ),
    };
    Said { verdict, headline, next, help, since: Some(drift.found_at), ..said }
}
