//! Deliveries: the obligation for one (destination, route, slot), what changes it, and what one attempt brought.

use learnsync_sdk::{Fields, Learner, PersonMatch, RecordKind};

use super::drift::Holding;
use super::ids::{DeliveryId, DestinationId, MappingId, PersonId, RecordId, RouteId};
use super::record::Record;
use super::time::Timestamp;

/// The cause of a pause that a target asked for, until a time.
pub const THROTTLED: &str = "throttled";

/// The cause of a pause that a person asked for.
pub const OPERATOR: &str = "operator";

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryState {
    /// Waits in the queue for its due time.
    Pending,
    /// A write is under way.
    Sending,
    /// A write was under way and nobody knows whether the target took it: it is looked up before anything is written again.
    Uncertain,
    /// The target holds what is wanted, and we have a receipt.
    Settled,
    /// Set aside with a cause, until something changes or a person acts.
    Parked,
    /// Not delivered on purpose (before the start of history, found too late for an append route, perhaps told already).
    Skipped,
    /// Another record holds the slot.
    Superseded,
}

impl DeliveryState {
    /// All states, in the order of reports.
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Sending, Self::Uncertain, Self::Settled, Self::Parked, Self::Skipped, Self::Superseded];

    /// The word in the store and in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Uncertain => "uncertain",
            Self::Settled => "settled",
            Self::Parked => "parked",
            Self::Skipped => "skipped",
            Self::Superseded => "superseded",
        }
    }

    /// The state with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// Why a delivery is not settled. Deliveries with the same cause are one work item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The target does not know the person.
    Unmatched,
    /// The target knows several such persons.
    AmbiguousPerson,
    /// A course has no piece of reference data of this kind.
    Unmapped {
        /// The kind, for example `training_type`.
        kind: String,
        /// The course, as it was looked for.
        course: String,
    },
    /// A field that is needed has no value.
    MissingField(String),
    /// A field cannot be computed.
    MappingFailed(String),
    /// The target refuses it.
    Rejected,
    /// It failed time and again while others succeeded.
    Poison,
    /// The fact is older than the destination's history.
    BeforeStart,
    /// The fact was found too late for a route that only appends.
    FoundLate,
    /// It was found in time for a route that only appends, and waited too long: it is old news by now.
    WaitedTooLong,
    /// It is quiet at the destination: it is told when the quiet hours end.
    QuietHours,
    /// The target holds something newer.
    Superseded,
    /// Several rows in the target carry our mark.
    Duplicated,
    /// Nobody knows whether the target took it, and it can be neither keyed nor read back: it is not told again.
    MaybeLost,
    /// The LMS showed the fact and no longer does, and the target never had it: nothing is created on a suspicion.
    Vanished,
    /// The learner was erased: nobody knows any more what it should hold.
    Erased,
}

impl Cause {
    /// One of each kind, in the order of reports.
    #[must_use]
    pub fn examples() -> Vec<Self> {
        vec![
            Self::Unmatched,
            Self::AmbiguousPerson,
            Self::Unmapped { kind: String::new(), course: String::new() },
            Self::MissingField(String::new()),
            Self::MappingFailed(String::new()),
            Self::Rejected,
            Self::Poison,
            Self::BeforeStart,
            Self::FoundLate,
            Self::WaitedTooLong,
            Self::QuietHours,
            Self::Superseded,
            Self::Duplicated,
            Self::MaybeLost,
            Self::Vanished,
            Self::Erased,
        ]
    }

    /// The word in the store and in reports; deliveries that share it are released together.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Unmatched => "unmatched".to_owned(),
            Self::AmbiguousPerson => "ambiguous_person".to_owned(),
            Self::Unmapped { kind, course } => format!("unmapped:{kind}:{course}"),
            Self::MissingField(field) => format!("missing_field:{field}"),
            Self::MappingFailed(field) => format!("mapping_failed:{field}"),
            Self::Rejected => "rejected".to_owned(),
            Self::Poison => "poison".to_owned(),
            Self::BeforeStart => "before_start".to_owned(),
            Self::FoundLate => "found_late".to_owned(),
            Self::WaitedTooLong => "waited_too_long".to_owned(),
            Self::QuietHours => "quiet_hours".to_owned(),
            Self::Superseded => "superseded".to_owned(),
            Self::Duplicated => "duplicated".to_owned(),
            Self::MaybeLost => "maybe_lost".to_owned(),
            Self::Vanished => "vanished".to_owned(),
            Self::Erased => "erased".to_owned(),
        }
    }

    /// What stands before a word's first colon: behind it are courses and fields.
    #[must_use]
    pub fn kind_of(word: &str) -> &str {
        word.split(':').next().unwrap_or(word)
    }

    /// The cause with this word; none for a word that this version does not know.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let (head, rest) = word.split_once(':').unwrap_or((word, ""));
        let named = |cause: &Self| Self::kind_of(&cause.word()) == head;
        Some(match Self::examples().into_iter().find(named)? {
            Self::Unmapped { .. } => {
                let (kind, course) = rest.split_once(':').unwrap_or((rest, ""));
                Self::Unmapped { kind: kind.to_owned(), course: course.to_owned() }
            }
            Self::MissingField(_) => Self::MissingField(rest.to_owned()),
            Self::MappingFailed(_) => Self::MappingFailed(rest.to_owned()),
            plain => plain,
        })
    }

    /// What a person can do about a cause, by its word.
    #[must_use]
    pub fn advice(word: &str) -> &'static str {
        let Some(cause) = Self::parse(word) else { return "see the attempts" };
        match cause {
            Self::Unmatched => {
                "add the person to the target or correct the id in the LMS; it is tried again every night"
            }
            Self::AmbiguousPerson => "make the id unique in the target; it is tried again every night",
            Self::Unmapped { .. } => {
                "create it in the target under the course's name, or set references.<kind>.courses; then `systemctl reload learnsync`"
            }
            Self::MissingField(_) => "fill the field in the LMS, or change the field's source or when_missing",
            Self::MappingFailed(_) => "correct the field's mapping",
            Self::Rejected => "read the target's words; it is tried again when the fact changes",
            Self::Poison => "it failed 8 times while others succeeded; read the target's words",
            Self::BeforeStart => "nothing: `history` leaves it out",
            Self::FoundLate => "nothing: the route only appends, and the fact was found after `late_after_hours`",
            Self::WaitedTooLong => {
                "nothing: it waited beyond `late_after_hours`, and old news is not told; if that is too soon, raise it"
            }
            Self::QuietHours => "nothing: it is told when they end, together with what gathers until then",
            Self::Superseded => "nothing: the target holds something newer",
            Self::Duplicated => "somebody copied our row: remove all but one in the target, then retry",
            Self::Vanished => "nothing: it is delivered when the LMS shows the fact again",
            Self::Erased => "nothing here: what the target holds is removed there by hand",
            Self::MaybeLost => "ask whoever reads it there; it is not told again, since it may have been told",
        }
    }
}

/// A record of one person as the store holds it after a read.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownRecord {
    /// Its row.
    pub id: RecordId,
    /// The facts.
    pub record: Record,
    /// Their keyed fingerprint.
    pub fingerprint: Vec<u8>,
    /// The same without how it stands: it changes with the facts of the LMS alone, and not at midnight.
    pub plain_fingerprint: Vec<u8>,
}

/// A delivery as planning sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDelivery {
    /// Its row.
    pub id: DeliveryId,
    /// The destination.
    pub destination: DestinationId,
    /// The route.
    pub route: RouteId,
    /// The slot.
    pub slot: String,
    /// The record that it should hold.
    pub record: RecordId,
    /// Where it stands.
    pub state: DeliveryState,
    /// The fingerprint of the facts that it should hold.
    pub wanted_fingerprint: Vec<u8>,
}

/// All that planning for one person works with.
#[derive(Clone, Debug, PartialEq)]
pub struct PersonFacts {
    /// When this is.
    pub now: Timestamp,
    /// The records of this read, present ones only.
    pub records: Vec<KnownRecord>,
    /// Records that an earlier read showed and this one does not: their places are not given away on suspicion.
    pub absent: Vec<KnownRecord>,
    /// The person's deliveries.
    pub deliveries: Vec<KnownDelivery>,
}

/// One change of what should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedChange {
    /// A new obligation.
    Create {
        /// The destination.
        destination: DestinationId,
        /// The route.
        route: RouteId,
        /// The slot.
        slot: String,
        /// The record that it should hold.
        record: RecordId,
        /// The fingerprint of its facts.
        fingerprint: Vec<u8>,
        /// None: deliver it. Else why it is not delivered.
        skip: Option<Cause>,
    },
    /// The facts of an obligation changed.
    Update {
        /// Which.
        delivery: DeliveryId,
        /// The record that it should hold.
        record: RecordId,
        /// The fingerprint of its facts.
        fingerprint: Vec<u8>,
    },
}

/// A delivery that was claimed, with all that writing it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct DueDelivery {
    /// Its row.
    pub id: DeliveryId,
    /// Whose it is.
    pub person: PersonId,
    /// The route.
    pub route: RouteId,
    /// The slot: the second part of our mark.
    pub slot: String,
    /// Whether an earlier write may have been taken.
    pub is_uncertain: bool,
    /// Whether the place should hold the record (or nothing).
    pub is_wanted: bool,
    /// Whether the newest read of the learner showed the fact.
    pub is_present: bool,
    /// The record.
    pub record: Record,
    /// The fingerprint of its facts.
    pub fingerprint: Vec<u8>,
    /// The row's id in the target, when we know it.
    pub held_row: Option<String>,
    /// The person under whom the target holds it.
    pub held_person: Option<String>,
    /// The person whom the attempt of unknown outcome was for.
    pub sending_person: Option<String>,
    /// Failures in a row.
    pub tries: u32,
    /// Attempts ever made.
    pub attempts: u32,
    /// The digest of the fields that the place is known to hold.
    pub held_fields_digest: Option<Vec<u8>>,
    /// Since when the place should hold these facts.
    pub wanted_at: Timestamp,
    /// What is remembered of the place: what was written last, and what is left as it is.
    pub holding: Holding,
}

/// Which person in a destination a learner is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownLink {
    /// The person's id in the target.
    pub remote_person: String,
    /// The rule by which we know.
    pub rule: String,
}

/// What a look-up of a person brought; committed together with its consequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFound {
    /// The person.
    pub person: PersonId,
    /// What the target answered.
    pub found: PersonMatch,
}

/// What an attempt did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptAction {
    /// Wrote, or made sure that the place holds what is wanted.
    Put,
    /// Removed.
    Withdraw,
    /// Read back after an unknown outcome.
    Look,
    /// Looked the person up.
    Link,
}

impl AttemptAction {
    /// The word in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Withdraw => "withdraw",
            Self::Look => "look",
            Self::Link => "link",
        }
    }
}

/// One try, as it is kept for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What was done.
    pub action: AttemptAction,
    /// When it began.
    pub started_at: Timestamp,
    /// When its outcome was known.
    pub finished_at: Timestamp,
    /// How it ended: `taken`, `found`, `absent`, or the word of an error kind.
    pub outcome: &'static str,
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// The row's id in the target, when it said.
    pub remote_row: Option<String>,
    /// The target's own words.
    pub words: String,
    /// A digest of the fields that were sent.
    pub fields_digest: Option<Vec<u8>>,
}

/// What we know that a place holds after an attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The person's id in the target.
    pub person: String,
    /// The row's id in the target; none after a withdrawal.
    pub row: Option<String>,
    /// The version of the mapping that made the fields.
    pub mapping: MappingId,
    /// All fields as the mapping made them; none after a withdrawal.
    pub fields: Option<Fields>,
}

/// Where a delivery goes after an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Done, if the facts are still those that were sent and the link is still to the same person.
    Settled(Held),
    /// Done without a call: the facts changed, but not what the place holds of them.
    AsHeld,
    /// Again at this time.
    Retry {
        /// When.
        due_at: Timestamp,
        /// Whether this counts as a failure of this delivery.
        counts: bool,
    },
    /// Nobody knows: look, but not before this time.
    Uncertain {
        /// When the target has certainly finished.
        due_at: Timestamp,
        /// Whether this counts as a failure of this delivery.
        counts: bool,
    },
    /// It is known again what the place holds: what is wanted there is written next.
    Known {
        /// The person whose rows were looked at.
        person: String,
        /// Whose own person that is; none when it is only who an earlier attempt was for.
        learner: Option<PersonId>,
        /// The row that holds it; none when there is no row of ours.
        row: Option<String>,
    },
    /// Several rows carry our mark: set aside until a person has removed all but one, and then looked up again.
    Several {
        /// The person whose rows they are.
        person: String,
        /// In words.
        detail: String,
    },
    /// Nothing before this time, by choice and not after a failure: what is of unknown outcome stays so.
    Waits {
        /// Until when.
        due_at: Timestamp,
        /// Why.
        cause: Cause,
        /// In words.
        detail: String,
    },
    /// Not delivered, on purpose, and not tried again: nobody can know whether it was, or it is too late.
    Skipped {
        /// Why.
        cause: Cause,
        /// In words.
        detail: String,
    },
    /// Set aside.
    Parked {
        /// Why.
        cause: Cause,
        /// In words.
        detail: String,
        /// Whether an earlier write may have been taken: then it is looked up when it is released.
        is_unknown: bool,
    },
    /// The target holds something newer.
    Superseded,
}

/// One attempt and what follows from it; committed together.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// Whose it was when it was claimed.
    pub person: PersonId,
    /// Whether `sending` was committed for it. Without, it says nothing if somebody else has it by now: accounts are merged at any time.
    pub was_sent: bool,
    /// The fingerprint of the facts that were sent.
    pub fingerprint: Vec<u8>,
    /// The attempt; none when nothing was tried (parked by the mapping).
    pub attempt: Option<Attempt>,
    /// What follows.
    pub next: Next,
}

impl Outcome {
    /// What came of a delivery for which `sending` was not committed.
    #[must_use]
    pub fn of(due: &DueDelivery, attempt: Option<Attempt>, next: Next) -> Self {
        let fingerprint = due.fingerprint.clone();
        Self { delivery: due.id, person: due.person, was_sent: false, fingerprint, attempt, next }
    }

    /// What came of one for which it was.
    #[must_use]
    pub fn of_sent(due: &DueDelivery, attempt: Option<Attempt>, next: Next) -> Self {
        Self { was_sent: true, ..Self::of(due, attempt, next) }
    }
}

/// A person and their due deliveries at one destination, in the order in which they are written.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneWork {
    /// The destination.
    pub destination: DestinationId,
    /// The person.
    pub person: PersonId,
    /// Their profile.
    pub learner: Learner,
    /// Who they are in the destination, when we know.
    pub link: Option<KnownLink>,
    /// The deliveries.
    pub due: Vec<DueDelivery>,
}

/// An event's promise that a record exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Of which kind.
    pub kind: RecordKind,
    /// The LMS's id of the thing, if the webhook named one.
    pub thing: Option<String>,
    /// When the event was received.
    pub received_at: Timestamp,
    /// Reads that did not find it.
    pub tries: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_read_back_from_its_word() {
        let course = "Fire: Safety".to_owned();
        let unmapped = Cause::Unmapped { kind: "training_type".to_owned(), course };
        let with_words = [unmapped, Cause::MissingField("expires".to_owned()), Cause::MappingFailed("a:b".to_owned())];
        for cause in Cause::examples().into_iter().chain(with_words) {
            assert_eq!(Cause::parse(&cause.word()).as_ref(), Some(&cause), "{}", cause.word());
        }
        assert_eq!(Cause::parse("of a later version"), None);
    }
}
