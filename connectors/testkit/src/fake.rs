//! What a connector's test supplies: a fake target, and samples of what is written to it.

use std::net::SocketAddr;

use learnsync_sdk::{Fields, MatchRule};
use serde_json::Value as Json;

/// A running fake of a vendor's API. It is asked through HTTP by the connector, and directly by the checks.
///
/// All values that it takes and gives are in the connector's vocabulary, as `observe` would tell them. Write that translation in the test
/// once more: if the connector's own code did it, a mistake would cancel itself out.
pub trait Fake: Send + Sync + 'static {
    /// Where it listens, on loopback.
    fn address(&self) -> SocketAddr;

    /// Forgets all rows and added people, and takes the credentials again. The people of the samples are there.
    fn reset(&self);

    /// The settings of a destination whose target answers at this address, for example `http://127.0.0.1:4711`.
    fn settings(&self, url: &str) -> Json;

    /// What must never be seen in a message: the secrets of `settings`.
    fn secrets(&self) -> Vec<String>;

    /// One sample for each object that the connector can fill; at least one.
    fn samples(&self) -> Vec<Sample>;

    /// All rows of an object, whoever wrote them.
    fn rows(&self, object: &str) -> Vec<HeldRow>;

    /// Puts a row that somebody else wrote, and answers its id; none when the target cannot hold such a row (two of one key, for example).
    fn put_row(&self, object: &str, person: &str, mark: Option<&str>, fields: &Fields) -> Option<String>;

    /// Puts so many rows of others that a list needs more than one page; answers how many. 0 when one page shows all, however many there are,
    /// or nobody else has rows. Needed by connectors that claim `List` and whose lists have pages.
    fn put_rows_of_several_pages(&self, object: &str) -> usize {
        let _ = object;
        0
    }

    /// Removes a row, as a person would.
    fn remove_row(&self, object: &str, row: &str);

    /// Refuses the credentials from now on.
    fn revoke_credentials(&self);

    /// Takes them again.
    fn restore_credentials(&self);

    /// Adds a person with this employee number and e-mail address, either of which may be empty, and answers the id in the target.
    /// Needed by connectors that claim `People`.
    fn add_person(&self, employee_number: &str, email: &str) -> String {
        panic!("a connector that claims People needs a fake that adds people ({employee_number:?}, {email:?})")
    }

    /// Removes a person. Needed by connectors that claim `People`.
    fn remove_person(&self, person: &str) {
        panic!("a connector that claims People needs a fake that removes people ({person})")
    }

    /// The rules by which the target can find people.
    fn match_rules(&self) -> Vec<MatchRule> {
        vec![MatchRule::EMPLOYEE_NUMBER, MatchRule::EMAIL]
    }

    /// Whether a request changes something. Say so for APIs that search with POST.
    fn is_write(&self, method: &str, path: &str) -> bool {
        let _ = path;
        !matches!(method, "GET" | "HEAD")
    }

    /// Whether the connector speaks HTTP to the target. What does not (a folder) passes by the proxy: then every check that injects a
    /// fault there, or counts what was asked, is skipped, and the connector's own tests must prove the same rules by faults of their own.
    /// `settings` still gets a URL: the proxy's own means the target, any other a target that cannot be reached.
    fn speaks_http(&self) -> bool {
        true
    }

    /// Whether the target tells anything without a write. A web hook does not: its probe asks nobody, and cannot fail.
    fn can_be_probed(&self) -> bool {
        true
    }

    /// Whether a 2xx is all that the target ever says to a write: then no check can tell its answer from a stranger's.
    fn acknowledges_by_status_alone(&self) -> bool {
        false
    }
}

/// A row as the target holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldRow {
    /// Its id, as a receipt names it.
    pub row: String,
    /// Whose it is: the person's id in the target.
    pub person: String,
    /// The marks in it: none in most rows of others, several where one message tells several facts.
    pub marks: Vec<String>,
    /// What it holds, without the mark. A field that is blank may be absent or `Null`.
    pub fields: Fields,
}

/// What is written to one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The object, for example `training`.
    pub object: String,
    /// The id of a person whom the fake knows after a reset.
    pub person: String,
    /// As many fields as possible, of as many types as possible, in the form in which `observe` tells them.
    pub fields: Fields,
    /// The same with another value in each field that may change.
    pub changed: Fields,
    /// A field of free text.
    pub text: Option<&'static str>,
    /// How many characters of it are shown, where the connector cuts what is longer because people only read it there (a chat message);
    /// none where a text that is too long is refused, or no text is.
    pub text_shown_max: Option<usize>,
    /// A field of `fields` that may be left out and blanked.
    pub optional: Option<&'static str>,
    /// Fields that the target refuses; none when it refuses no single change.
    pub refused: Option<Fields>,
}
