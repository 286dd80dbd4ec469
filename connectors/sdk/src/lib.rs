//! The vocabulary and the trait of a learnsync connector: all that a vendor crate needs, and nothing of the daemon.
//!
//! A connector knows one thing: how its target finds a person, takes a batch of changes, and is read back.
//! It never retries, never sleeps, never keeps state of its own between calls, and never creates people.
#![warn(missing_docs)]

mod change;
mod clock;
mod description;
mod error;
mod http;
mod person;
mod settings;
mod value;

pub use change::{Action, Change, ListedPage, ListedRow, Observation, Place, Receipt};
pub use clock::Clock;
pub use description::{
    AfterUnknown, BlindRepeat, Claim, DefaultField, DefaultRoute, Description, FieldType, Need, RecordKind, Reference,
    RouteMode, Setting, SettingType, SlotRule, TargetField, TargetObject,
};
pub use error::{DeliveryError, ErrorKind, RetryAfter};
pub use http::{read_json, refusal};
pub use person::{Form, Learner, MatchBy, MatchRule, PersonMatch};
pub use settings::{nearest, refuse_unknown};
pub use value::{Fields, Value};

pub use async_trait::async_trait;

/// What the daemon hands to a connector when it builds it; everything that touches the world is in here.
#[derive(Clone, Debug)]
pub struct Toolbox {
    /// The one HTTP client of this destination: time-outs, roots of trust and user agent are set.
    pub http: reqwest::Client,
    /// The installation's name; our marks read `learnsync:<installation>:<record key>`.
    pub installation: String,
    /// Tells the time to targets that keep none of their own; a file is named after it.
    pub clock: Clock,
    /// Switches off the look-up before a create. Only the crash test sets it, to prove that it would find duplicates.
    pub test_skip_lookup: bool,
}

/// Who the credentials belong to in the target; when it changes, the destination pauses (sandbox became production).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// A stable text that names the account, for example the company domain.
    pub identity: String,
}

/// One kind of connector, before any destination is configured with it.
pub trait ConnectorType: Send + Sync {
    /// Says what the connector can do, what the target's fields are, and the default mapping; no I/O.
    fn describe(&self) -> Description;

    /// Reads a destination's settings. No I/O, so that `check` works offline.
    ///
    /// # Errors
    /// Names the key path inside the settings and what is wrong with its value.
    fn build(&self, settings: &serde_json::Value, toolbox: Toolbox) -> Result<Box<dyn Connector>, SettingsError>;
}

/// A setting that a connector cannot use.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct SettingsError {
    /// Where it stands, relative to the destination's table, for example `["routes", "certificates", "object"]`.
    pub path: Vec<String>,
    /// What is wrong, with the value and what is allowed.
    pub message: String,
}

/// One configured destination, ready to be called.
#[async_trait]
pub trait Connector: Send + Sync {
    /// What a target object looks like: its fields as they are known without a call.
    ///
    /// # Errors
    /// The object does not exist in this kind of target; the message lists the forms that do.
    fn object(&self, name: &str) -> Result<TargetObject, String>;

    /// One cheap authenticated read; the answer names the account.
    async fn probe(&self) -> Result<Account, DeliveryError>;

    /// Lists reference data of one kind that `describe()` names (training types, certification ids).
    async fn references(&self, kind: &str) -> Result<Vec<Reference>, DeliveryError>;

    /// Finds the person that a learner is. Tries the rules in their order, and never guesses.
    async fn find_person(&self, learner: &Learner, rules: &[MatchRule]) -> Result<PersonMatch, DeliveryError>;

    /// Writes a batch; one outcome per change, in the same order. Safe to repeat.
    async fn deliver(&self, batch: &[Change]) -> Vec<Result<Receipt, DeliveryError>>;

    /// Reads back what the target holds now; one observation per place, in the same order.
    async fn observe(&self, batch: &[Place]) -> Vec<Result<Observation, DeliveryError>>;

    /// One page of all rows of an object, ours and others', in as few calls as the target allows. `page` is what the page before named as the
    /// next one, for a connector that keeps nothing between calls. A row that stands all along is on exactly one page, whatever comes and goes
    /// meanwhile; where the target cannot promise that, the page is an error, and whoever lists begins anew. A list that fails is never a
    /// shorter list: what it left out would count as missing.
    ///
    /// Called only if `Claim::List` is made: what a target cannot list, reconciliation reads back place by place.
    async fn list(&self, object: &str, _page: Option<&str>) -> Result<ListedPage, DeliveryError> {
        Err(DeliveryError::new(ErrorKind::Rejected, format!("this target does not list the rows of {object}")))
    }
}
