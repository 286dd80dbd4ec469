//! What a connector says about itself and its target.

use serde::{Deserialize, Serialize};

/// The kinds of facts that an LMS holds: about a learner, or about what it offers (its catalogue).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordKind {
    /// A course was completed.
    Completion,
    /// A certificate was awarded.
    Certificate,
    /// A competency was awarded.
    Competency,
    /// Credits were awarded with a course.
    CreditAward,
    /// A session of an instructor-led course was attended.
    SessionAttendance,
    /// A learning path was completed.
    LearningPath,
    /// A self-assessment was completed.
    SelfAssessment,
    /// The learner themselves: who they are, whether they are active.
    Person,
    /// A department.
    Department,
    /// A group.
    Group,
    /// A course: online, instructor-led, a curriculum or a bundle.
    Course,
}

impl RecordKind {
    /// All kinds, in the order of tables and reports.
    pub const ALL: [Self; 11] = [
        Self::Completion,
        Self::Certificate,
        Self::Competency,
        Self::CreditAward,
        Self::SessionAttendance,
        Self::LearningPath,
        Self::SelfAssessment,
        Self::Person,
        Self::Department,
        Self::Group,
        Self::Course,
    ];

    /// The word for this kind in configuration, keys and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Certificate => "certificate",
            Self::Competency => "competency",
            Self::CreditAward => "credit_award",
            Self::SessionAttendance => "session_attendance",
            Self::LearningPath => "learning_path",
            Self::SelfAssessment => "self_assessment",
            Self::Person => "person",
            Self::Department => "department",
            Self::Group => "group",
            Self::Course => "course",
        }
    }

    /// What people call one: `the credit award`.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::CreditAward => "credit award",
            Self::SessionAttendance => "session attendance",
            Self::LearningPath => "learning path",
            Self::SelfAssessment => "self-assessment",
            Self::Completion
            | Self::Certificate
            | Self::Competency
            | Self::Person
            | Self::Department
            | Self::Group
            | Self::Course => self.as_str(),
        }
    }

    /// What people call several.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Completion => "completions",
            Self::Certificate => "certificates",
            Self::Competency => "competencies",
            Self::CreditAward => "credit awards",
            Self::SessionAttendance => "session attendances",
            Self::LearningPath => "learning paths",
            Self::SelfAssessment => "self-assessments",
            Self::Person => "people",
            Self::Department => "departments",
            Self::Group => "groups",
            Self::Course => "courses",
        }
    }

    /// Whether it is a fact about a learner; the others are what the LMS offers, and nobody's.
    #[must_use]
    pub fn is_about_learner(self) -> bool {
        !matches!(self, Self::Department | Self::Group | Self::Course)
    }

    /// The kind with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl std::fmt::Display for RecordKind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

/// How a route treats what the target already has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteMode {
    /// The target converges to what the LMS holds.
    State,
    /// Once taken, settled for good: chat messages, events that cannot be changed.
    Append,
}

/// Which records share one place in the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotRule {
    /// Each record has a place of its own.
    #[default]
    Record,
    /// One place for each person and course: its records compete, and the one that is valid longest, then the newest, holds it.
    PersonCourse,
}

/// What a target offers. The test kit checks what is claimed and lists the rest as skipped; the daemon relies on nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// It knows people: `find_person` looks learners up. Without it the learner's LMS id stands for the person (a chat space, a file).
    People,
    /// A write is an upsert by our mark: repeating it never makes a second row.
    UpsertByMark,
    /// `observe` tells what a place holds now.
    ReadBack,
    /// `Action::Withdraw` removes a row.
    Withdraw,
    /// `list` shows all rows of an object, whoever wrote them: then reconciliation also finds what stands where nothing should.
    List,
}

impl Claim {
    /// All claims, in the order of tables.
    pub const ALL: [Self; 5] = [Self::People, Self::UpsertByMark, Self::ReadBack, Self::Withdraw, Self::List];

    /// The word in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::UpsertByMark => "upsert_by_mark",
            Self::ReadBack => "read_back",
            Self::Withdraw => "withdraw",
            Self::List => "list",
        }
    }
}

/// What a target that has neither a key nor read-back risks after a write whose outcome nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlindRepeat {
    /// It is not written again: it may be lost.
    MayLose,
    /// It is written again: it may be there twice. What only appends is not, once it is too old to be told.
    MayRepeat,
}

/// What follows when nobody knows whether the target took a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterUnknown {
    /// It is read back, once the target has settled.
    Look,
    /// It is written again: the target recognises our mark.
    Repeat,
    /// Nothing can be known: this is what the connector would rather risk.
    Blind(BlindRepeat),
}

/// What a connector can do; the test kit checks every claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The connector's name in configuration, for example `bamboohr`.
    pub name: &'static str,
    /// One sentence for people.
    pub summary: &'static str,
    /// The vendor's page.
    pub documentation: &'static str,
    /// What the target offers.
    pub claims: &'static [Claim],
    /// What is risked after an unknown outcome; matters only to a target that claims neither `UpsertByMark` nor `ReadBack`.
    pub blind_repeat: BlindRepeat,
    /// The kinds of reference data that `references` can list, for example `training_type`.
    pub reference_kinds: &'static [&'static str],
    /// How long after an unknown outcome the target may still be committing, in seconds.
    pub settle_seconds: u32,
    /// How many people may share one batch; 1 for targets that must list a person's rows before they write.
    pub persons_per_batch_max: usize,
    /// How many requests may be under way at once.
    pub concurrency_max: usize,
    /// The least time from the start of one batch to the start of the next, in milliseconds; 0 for none. A chat space takes one
    /// message a second: what gathers meanwhile is the next batch.
    pub batch_interval_ms: u32,
    /// The settings that `build` reads.
    pub settings: &'static [Setting],
    /// The routes of a destination that configures none.
    pub default_routes: Vec<DefaultRoute>,
}

impl Description {
    /// Whether the target offers this.
    #[must_use]
    pub fn claims(&self, claim: Claim) -> bool {
        self.claims.contains(&claim)
    }

    /// What follows when nobody knows whether the target took a write. A target that can be read back is read back, even if it is
    /// keyed: then the receipt says what it holds.
    #[must_use]
    pub fn after_unknown(&self) -> AfterUnknown {
        if self.claims(Claim::ReadBack) {
            AfterUnknown::Look
        } else if self.claims(Claim::UpsertByMark) {
            AfterUnknown::Repeat
        } else {
            AfterUnknown::Blind(self.blind_repeat)
        }
    }
}

/// One setting of a destination with this connector. `check`, `init`, the reference and the schema are made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name in `settings`, or in `secrets`.
    pub name: &'static str,
    /// What it is: one sentence for people.
    pub doc: &'static str,
    /// The type of its value.
    pub kind: SettingType,
    /// What holds when the file does not say.
    pub need: Need,
    /// A value that `build` takes, as text; shown to people, and put in where a value is wrong so that other errors are found, too.
    pub example: &'static str,
    /// Whether it is a secret. Then it stands in `secrets`, and in `settings` it is refused.
    pub is_secret: bool,
    /// What people write when they mean it.
    pub other_words: &'static [&'static str],
}

/// The type of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingType {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// True or false.
    Bool,
}

/// What holds when the file does not name a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The file must name it.
    Required,
    /// The file must name it, or this other setting in its place.
    Unless(&'static str),
    /// Nothing.
    Optional,
    /// This value.
    Default(&'static str),
}

impl Description {
    /// Settings that `build` takes: those that are needed, with their examples.
    #[must_use]
    pub fn example_settings(&self) -> serde_json::Value {
        let is_needed = |setting: &&Setting| matches!(setting.need, Need::Required | Need::Unless(_));
        let examples = self.settings.iter().filter(is_needed).map(|setting| (setting.name.to_owned(), setting.value()));
        serde_json::Value::Object(examples.collect())
    }
}

impl Setting {
    /// The example as a value of the setting's type.
    #[must_use]
    pub fn value(&self) -> serde_json::Value {
        match self.kind {
            SettingType::Text => self.example.into(),
            SettingType::Integer => self.example.parse::<i64>().map_or(serde_json::Value::Null, Into::into),
            SettingType::Bool => (self.example == "true").into(),
        }
    }

    /// A text that the file must name.
    #[must_use]
    pub const fn required(name: &'static str, doc: &'static str, example: &'static str) -> Self {
        let (kind, need) = (SettingType::Text, Need::Required);
        Self { name, doc, kind, need, example, is_secret: false, other_words: &[] }
    }

    /// A text that the file may name.
    #[must_use]
    pub const fn optional(name: &'static str, doc: &'static str, example: &'static str) -> Self {
        Self { need: Need::Optional, ..Self::required(name, doc, example) }
    }

    /// A text with a value of its own.
    #[must_use]
    pub const fn default(name: &'static str, doc: &'static str, value: &'static str) -> Self {
        Self { need: Need::Default(value), ..Self::required(name, doc, value) }
    }

    /// Required, unless another setting stands in its place.
    #[must_use]
    pub const fn unless(self, other: &'static str) -> Self {
        Self { need: Need::Unless(other), ..self }
    }

    /// A secret: the file only says where it stands.
    #[must_use]
    pub const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    /// Of another type than text.
    #[must_use]
    pub const fn of(self, kind: SettingType) -> Self {
        Self { kind, ..self }
    }

    /// What people write when they mean it.
    #[must_use]
    pub const fn or(self, other_words: &'static [&'static str]) -> Self {
        Self { other_words, ..self }
    }
}

/// One route as it is without configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct DefaultRoute {
    /// The route's name.
    pub name: &'static str,
    /// Which records it takes.
    pub record: RecordKind,
    /// The target object that it fills.
    pub object: &'static str,
    /// State or append.
    pub mode: RouteMode,
    /// Which records share one place.
    pub slot: SlotRule,
    /// Target field <- source.
    pub fields: Vec<DefaultField>,
}

/// One line of a default mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultField {
    /// The target field.
    pub field: &'static str,
    /// Where its value comes from, in the words of the configuration: `path`, `template`, `reference` or `constant`.
    pub source: (&'static str, &'static str),
}

/// One object of the target, such as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetObject {
    /// Its name in configuration.
    pub name: String,
    /// The fields that are known without asking the target.
    pub fields: Vec<TargetField>,
    /// Whether other field names are allowed (tables that the customer made).
    pub open: bool,
}

/// One field of a target object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetField {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: FieldType,
    /// Whether a row cannot be made without it.
    pub required: bool,
    /// The longest text that the target takes, in characters.
    pub length_max: Option<usize>,
}

/// The type of a target field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Text.
    Text,
    /// A number.
    Number,
    /// A calendar date.
    Date,
    /// True or false.
    Bool,
    /// The id of a piece of reference data.
    Reference,
    /// Not known without asking the target: any type is taken.
    Any,
}

/// One piece of reference data of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Its id, as the target wants it in a field.
    pub id: String,
    /// Its name, as people see it.
    pub name: String,
}
