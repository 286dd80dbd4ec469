//! Everything that can go wrong, by name, and how often it is tried.

use std::fmt;

/// One kind of fault or disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A webhook never arrives.
    HookLost,
    /// It arrives again, up to three times.
    HookRepeated,
    /// It arrives up to two hours late.
    HookDelayed,
    /// It arrives after one that was sent later.
    HookReordered,
    /// It arrives before the API shows the fact.
    HookEarly,
    /// Somebody sends what the LMS did not: known and unknown users, the test button, rubbish.
    HookForged,
    /// Many learners finish at the same moment.
    HookBurst,
    /// A fact's date or score is corrected, without any event.
    FactCorrected,
    /// A fact is taken back, without any event.
    FactRevoked,
    /// A learner is enrolled again: the completion goes, and a new one comes later.
    ReEnrolled,
    /// Two accounts become one: the facts move.
    UserMerged,
    /// A learner leaves.
    UserDeactivated,
    /// 401 with a valid token, also after a new login.
    LmsUnauthorized,
    /// Another program logs in with our account until our hour's logins are used up.
    LmsTokenKilled,
    /// 429 with seconds.
    LmsThrottledSeconds,
    /// 429 with a date.
    LmsThrottledDate,
    /// 429 without a word.
    LmsThrottledUnsaid,
    /// A list that ends before its end.
    LmsHalfPage,
    /// A user is created while the pages are read: rows move.
    LmsRowInserted,
    /// The admin role sees fewer users for some hours, without any error.
    LmsRoleShrunk,
    /// An answer without any rows, as if that were all.
    LmsEmpty,
    /// For some hours every learner's records are answered as none at all.
    LmsShowsNothing,
    /// Down for some minutes.
    LmsDown,
    /// Answers take minutes.
    LmsSlow,
    /// One learner may not be read.
    LmsForbidden,
    /// The target refuses one change.
    TargetRefuses,
    /// 429 with seconds.
    TargetThrottledSeconds,
    /// 429 with a date.
    TargetThrottledDate,
    /// 429 without a word.
    TargetThrottledUnsaid,
    /// An answer takes up to three minutes.
    TargetSlow,
    /// The change is made, the answer is lost.
    AnswerLost,
    /// The change is made after we gave up waiting, within the time to settle.
    LateCommit,
    /// Some items of a batch are made, others not.
    PartialBatch,
    /// Down for some minutes.
    TargetDown,
    /// One place fails for hours while all others work.
    TargetCursed,
    /// A piece of reference data is missing for a day.
    ReferenceMissing,
    /// Somebody edits a row.
    RowEdited,
    /// Somebody deletes a row.
    RowDeleted,
    /// Somebody blanks a field of a row.
    FieldBlanked,
    /// Somebody removes our mark from a row.
    RowUnmarked,
    /// Somebody moves a row to another person.
    RowMoved,
    /// Somebody copies a row, mark and all.
    RowCopied,
    /// Somebody enters something newer.
    RowNewer,
    /// A person is unknown to the target, and hired later.
    PersonMissing,
    /// A person is there twice.
    PersonTwice,
    /// The credentials are refused for some hours.
    CredentialsRevoked,
    /// The credentials are those of another account after a restart.
    AccountSwapped,
    /// The daemon is stopped and started.
    Restart,
    /// Everything in memory is gone, at any await point.
    Crash,
    /// The wall clock is set forward.
    ClockForward,
    /// The wall clock is set back.
    ClockBack,
    /// The night on which the zone's clocks change.
    DaylightSaving,
    /// The disk is full for some minutes.
    DiskFull,
    /// The mapping is changed, and the daemon restarted.
    MappingChanged,
    /// An operator pauses a destination, and resumes it later.
    DestinationPaused,
    /// A destination is added whose history begins now.
    AddedNone,
    /// A destination is added that wants all history.
    AddedAll,
    /// A destination is added that wants history since a date.
    AddedSince,
    /// A link is pinned to another person.
    LinkPinned,
    /// Yesterday's backup is restored.
    BackupRestored,
}

impl Fault {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 60] = [
        Self::HookLost,
        Self::HookRepeated,
        Self::HookDelayed,
        Self::HookReordered,
        Self::HookEarly,
        Self::HookForged,
        Self::HookBurst,
        Self::FactCorrected,
        Self::FactRevoked,
        Self::ReEnrolled,
        Self::UserMerged,
        Self::UserDeactivated,
        Self::LmsUnauthorized,
        Self::LmsTokenKilled,
        Self::LmsThrottledSeconds,
        Self::LmsThrottledDate,
        Self::LmsThrottledUnsaid,
        Self::LmsHalfPage,
        Self::LmsRowInserted,
        Self::LmsRoleShrunk,
        Self::LmsEmpty,
        Self::LmsShowsNothing,
        Self::LmsDown,
        Self::LmsSlow,
        Self::LmsForbidden,
        Self::TargetRefuses,
        Self::TargetThrottledSeconds,
        Self::TargetThrottledDate,
        Self::TargetThrottledUnsaid,
        Self::TargetSlow,
        Self::AnswerLost,
        Self::LateCommit,
        Self::PartialBatch,
        Self::TargetDown,
        Self::TargetCursed,
        Self::ReferenceMissing,
        Self::RowEdited,
        Self::RowDeleted,
        Self::FieldBlanked,
        Self::RowUnmarked,
        Self::RowMoved,
        Self::RowCopied,
        Self::RowNewer,
        Self::PersonMissing,
        Self::PersonTwice,
        Self::CredentialsRevoked,
        Self::AccountSwapped,
        Self::Restart,
        Self::Crash,
        Self::ClockForward,
        Self::ClockBack,
        Self::DaylightSaving,
        Self::DiskFull,
        Self::MappingChanged,
        Self::DestinationPaused,
        Self::AddedNone,
        Self::AddedAll,
        Self::AddedSince,
        Self::LinkPinned,
        Self::BackupRestored,
    ];

    /// How often a world with this fault tries it, at most. What can be done only once, or costs much, is tried once or twice.
    #[must_use]
    pub fn tries_max(self) -> u64 {
        match self {
            Self::DaylightSaving | Self::AddedNone | Self::AddedAll | Self::AddedSince => 1,
            Self::AccountSwapped | Self::BackupRestored | Self::DiskFull | Self::LmsRoleShrunk | Self::UserMerged => 2,
            Self::LmsShowsNothing => 2,
            Self::MappingChanged | Self::LmsTokenKilled | Self::LmsDown | Self::LmsSlow | Self::TargetCursed => 2,
            Self::ReferenceMissing | Self::CredentialsRevoked | Self::DestinationPaused | Self::ClockForward => 2,
            Self::ClockBack | Self::UserDeactivated | Self::LmsRowInserted | Self::HookBurst => 2,
            Self::Crash => 6,
            Self::HookLost | Self::HookRepeated | Self::HookDelayed | Self::HookReordered | Self::HookEarly => 4,
            Self::HookForged
            | Self::FactCorrected
            | Self::FactRevoked
            | Self::ReEnrolled
            | Self::LmsUnauthorized
            | Self::LmsThrottledSeconds
            | Self::LmsThrottledDate
            | Self::LmsThrottledUnsaid
            | Self::LmsHalfPage
            | Self::LmsEmpty
            | Self::LmsForbidden
            | Self::TargetRefuses
            | Self::TargetThrottledSeconds
            | Self::TargetThrottledDate
            | Self::TargetThrottledUnsaid
            | Self::TargetSlow
            | Self::AnswerLost
            | Self::LateCommit
            | Self::PartialBatch
            | Self::TargetDown
            | Self::RowEdited
            | Self::RowDeleted
            | Self::FieldBlanked
            | Self::RowUnmarked
            | Self::RowMoved
            | Self::RowCopied
            | Self::RowNewer
            | Self::PersonMissing
            | Self::PersonTwice
            | Self::Restart
            | Self::LinkPinned => 4,
        }
    }

    /// The fault with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.to_string() == name)
    }
}

impl fmt::Display for Fault {
    /// The name in words: `answer_lost`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !words.is_empty() {
                words.push('_');
            }
            words.extend(letter.to_lowercase());
        }
        out.write_str(&words)
    }
}
