//! What writing a place anew, by the mapping of today, would change: rendered and compared, and nothing is called. Pure.

use std::collections::BTreeMap;

use learnsync_sdk::{Fields, Learner, Value};

use super::destination::Route;
use crate::domain::delivery::Cause;
use crate::domain::digest::digest_of;
use crate::domain::drift::{Holding, same};
use crate::domain::plan_file::FieldChange;
use crate::domain::record::Record;
use crate::mapping::{ReferenceTable, Rendered};

/// What a place would come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Preview {
    /// It holds what the mapping makes.
    Same,
    /// Some fields would change.
    Changes {
        /// Which, and how.
        changes: BTreeMap<String, FieldChange>,
        /// All that would be sent.
        sends: Fields,
        /// Digest of all fields as the mapping makes them.
        makes: Vec<u8>,
    },
    /// The mapping makes nothing of it: it would stay as it is.
    Refused(Cause),
}

/// What is to stand in a row that we wrote before: what the mapping makes, and nothing in fields that we filled and of which it makes nothing any
/// more. An expiry that the newer record does not have must not stay.
#[must_use]
pub fn with_blanks(route: &Route, holding: &Holding, mut fields: Fields) -> Fields {
    for name in holding.written.iter().flat_map(Fields::keys) {
        if route.mapping.fills(name) && !fields.contains_key(name) {
            fields.insert(name.clone(), Value::Null);
        }
    }
    fields
}

/// What writing a place anew would change. `held` is the digest of the fields that it is known to hold, `shown` what it was seen to hold.
#[must_use]
pub fn preview(
    route: &Route,
    (record, learner): (&Record, &Learner),
    references: &ReferenceTable,
    (held, holding): (Option<&[u8]>, &Holding),
    shown: Option<&Fields>,
) -> Preview {
    let fields = match route.mapping.render(record, learner, references) {
        Rendered::Fields(fields) => with_blanks(route, holding, fields),
        Rendered::Unmapped { kind, course } => return Preview::Refused(Cause::Unmapped { kind, course }),
        Rendered::Missing { field } => return Preview::Refused(Cause::MissingField(field)),
        Rendered::Failed { field, .. } => return Preview::Refused(Cause::MappingFailed(field)),
    };
    let makes = digest_of(&fields);
    if shown.is_none() && held == Some(makes.as_slice()) {
        return Preview::Same;
    }
    let sends = holding.without_left(&fields);
    let known = |name: &str| match shown {
        Some(shown) => shown.get(name),
        None => holding.written.as_ref().and_then(|written| written.get(name)),
    };
    // What the target shows in a form of its own is what we wrote.
    let is_form = |name: &str, to| {
        let left = holding.left.get(name);
        left.is_some_and(|left| same(&left.ours, to) && known(name).is_some_and(|from| same(&left.theirs, from)))
    };
    let changes: BTreeMap<String, FieldChange> = sends
        .iter()
        .filter(|(name, to)| !known(name).is_some_and(|from| same(from, to)) && !is_form(name, to))
        .map(|(name, to)| (name.clone(), FieldChange { from: known(name).cloned(), to: to.clone() }))
        .collect();
    if changes.is_empty() { Preview::Same } else { Preview::Changes { changes, sends, makes } }
}
