//! What a connector is asked to do, and what it answers.

use crate::Fields;

/// One change of one place in the target.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The target object that the route fills, for example `training` or `table:customCertifications`.
    pub object: String,
    /// The person's id in the target.
    pub person: String,
    /// Our mark for this place: `learnsync:<installation>:<slot>`. It goes into a field that people can see.
    pub mark: String,
    /// What to do.
    pub action: Action,
}

/// What is to be done at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the place hold these fields; create the row when there is none.
    Put {
        /// What it should hold.
        fields: Fields,
        /// The row's id in the target, when we know it.
        row: Option<String>,
        /// The same for every try of one change, for targets that take such a key.
        idempotency_key: String,
    },
    /// Remove the row. Already gone is success.
    Withdraw {
        /// The row's id in the target.
        row: String,
    },
}

/// What proves that the target took a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The row's id in the target.
    pub row: String,
    /// The HTTP status of the answer (of the read, when nothing had to be written).
    pub status: u16,
    /// The target's own words, shortened to 512 characters.
    pub words: String,
    /// Whether we wrote, or found the place as wanted.
    pub wrote: bool,
}

/// A place to be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The target object.
    pub object: String,
    /// The person's id in the target.
    pub person: String,
    /// Our mark.
    pub mark: String,
    /// The row's id, when we know it.
    pub row: Option<String>,
}

/// What a place holds now.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// One row of ours, with the fields that the connector can read.
    Holds {
        /// The row's id.
        row: String,
        /// Its fields, in the connector's vocabulary.
        fields: Fields,
    },
    /// No row of ours.
    Absent,
    /// Several rows carry our mark: somebody copied one.
    Several {
        /// Their ids.
        rows: Vec<String>,
    },
}

/// One page of all rows of an object, whoever wrote them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListedPage {
    /// The rows, in any order; each row is on one page. A page may be empty and not the last.
    pub rows: Vec<ListedRow>,
    /// What asks for the next page; none after the last one.
    pub next: Option<String>,
}

/// One row of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedRow {
    /// The row's id in the target.
    pub row: String,
    /// The person's id in the target; none where the target knows no people.
    pub person: Option<String>,
    /// The mark that it carries, of whichever installation (`learnsync:...`), ours before others'; none when it carries none.
    pub mark: Option<String>,
    /// Its fields as `observe` would tell them, without the mark; or why they cannot be read.
    pub fields: Result<Fields, String>,
}
