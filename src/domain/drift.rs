//! Drift: how what a place in a target really holds differs from what it should, and what is to be done about it. Pure.

use std::collections::BTreeMap;

use learnsync_sdk::{Fields, Value};
use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// So often one field is written again before we stop: somebody, or the target itself, always sets it back.
pub const REWRITES_MAX: usize = 3;

/// Rewrites that are older than this are forgotten, in milliseconds.
pub const REWRITES_MS: i64 = 30 * 86_400_000;

/// How far a number may be off and still be the same: targets keep two decimals.
const NUMBER_TOLERANCE: f64 = 0.005;

/// A text that a target cut off has at least so many characters left; less says nothing.
const CUT_CHARS_MIN: usize = 16;

/// How what a target holds differs from what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftClass {
    /// The row that we wrote is not there any more.
    Missing,
    /// The row that carries our mark stands under another person.
    Moved,
    /// The row that we wrote is there, and carries our mark no longer.
    Unmarked,
    /// A field holds something that we did not write.
    Edited,
    /// The facts changed, and the target holds the older ones still.
    Stale,
    /// Several rows carry our mark for one place: somebody copied one.
    Duplicate,
    /// Somebody else's row says the same as one of ours.
    Foreign,
    /// A row carries our mark, and the ledger knows nothing of it.
    Orphaned,
    /// The row cannot be read.
    Unreadable,
    /// The LMS no longer shows the fact, as two complete reads say, and the target holds it still.
    Gone,
}

impl DriftClass {
    /// All classes, in the order of reports.
    pub const ALL: [Self; 10] = [
        Self::Missing,
        Self::Moved,
        Self::Unmarked,
        Self::Edited,
        Self::Stale,
        Self::Duplicate,
        Self::Foreign,
        Self::Orphaned,
        Self::Unreadable,
        Self::Gone,
    ];

    /// The word in the store and in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Moved => "moved",
            Self::Unmarked => "unmarked",
            Self::Edited => "edited",
            Self::Stale => "stale",
            Self::Duplicate => "duplicate",
            Self::Foreign => "foreign",
            Self::Orphaned => "orphaned",
            Self::Unreadable => "unreadable",
            Self::Gone => "gone",
        }
    }

    /// The class with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == word)
    }

    /// What it is, and what a person can do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Missing => "the row that we wrote is gone; it is written again unless drift.missing says otherwise",
            Self::Moved => {
                "somebody moved our row to another person: put it back, pin the learner to that person, or set drift.moved = \"repair\""
            }
            Self::Unmarked => {
                "our row lost its mark, so it is not ours any more: put the mark back, or set drift.unmarked = \"repair\""
            }
            Self::Edited => "somebody changed what we wrote; drift.edited and drift.fields say what becomes of it",
            Self::Stale => "nothing: the newer facts are on their way",
            Self::Duplicate => "somebody copied our row: remove all but one in the target",
            Self::Foreign => "somebody else wrote the same: it is left alone; remove one of the two in the target",
            Self::Orphaned => {
                "it carries our mark and the ledger does not know it (a ledger that was lost, somebody erased): it is left alone"
            }
            Self::Unreadable => "read the target's words; it is looked at again every night",
            Self::Gone => "the LMS no longer shows the fact; it stays unless drift.gone = \"withdraw\"",
        }
    }
}

/// What is done about drift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Make it as it should be.
    Repair,
    /// Say it, and leave it until the fact changes.
    Report,
    /// Take what stands there for right, until the fact changes.
    Adopt,
    /// Do not look.
    Ignore,
}

impl Policy {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Report => "report",
            Self::Adopt => "adopt",
            Self::Ignore => "ignore",
        }
    }
}

/// What is done about a row whose fact is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GonePolicy {
    /// It stays, and nobody says anything.
    Keep,
    /// It stays, and is said.
    #[default]
    Report,
    /// It is removed from the target.
    Withdraw,
}

/// What is done about each class of drift, for one route.
#[derive(Clone, Debug, PartialEq)]
pub struct Policies {
    /// A row that is not there any more.
    pub missing: Policy,
    /// A row under another person.
    pub moved: Policy,
    /// A row without our mark.
    pub unmarked: Policy,
    /// A field that somebody changed, unless `fields` names it.
    pub edited: Policy,
    /// A field that somebody changed, by its name in the target.
    pub fields: BTreeMap<String, Policy>,
    /// A row whose fact is gone.
    pub gone: GonePolicy,
}

impl Default for Policies {
    /// What we wrote is kept as we wrote it. What somebody did on purpose (moved, unmarked) is said and left.
    fn default() -> Self {
        Self {
            missing: Policy::Repair,
            moved: Policy::Report,
            unmarked: Policy::Report,
            edited: Policy::Repair,
            fields: BTreeMap::new(),
            gone: GonePolicy::Report,
        }
    }
}

impl Policies {
    /// What is done about a field that somebody changed.
    #[must_use]
    pub fn of_field(&self, name: &str) -> Policy {
        self.fields.get(name).copied().unwrap_or(self.edited)
    }
}

/// What the ledger remembers of a place beyond its delivery. Personal: kept sealed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Holding {
    /// The fields that we wrote last; none when an older version of the program wrote them.
    pub written: Option<Fields>,
    /// Fields that show something else than we wrote, and stay so.
    pub left: BTreeMap<String, Left>,
    /// When a field was written again because it had been changed, newest last.
    pub rewritten: BTreeMap<String, Vec<Timestamp>>,
    /// Whether it was read back since it was written.
    pub is_seen: bool,
    /// Until when what differs is known and said no more, and why: a person said so.
    pub acknowledged: Option<Acknowledged>,
}

/// A person knows that a place differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Until when.
    pub until: Timestamp,
    /// Why, in their words.
    pub reason: String,
}

/// A field that shows something else than we wrote, and is left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// What we wrote, or would write.
    pub ours: Value,
    /// What stands there.
    pub theirs: Value,
    /// Why it stays.
    pub why: Why,
}

/// Why a field that shows something else is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The target shows what we wrote in a form of its own.
    Form,
    /// What stands there was taken for right.
    Adopted,
    /// It is reported, and waits for somebody, or for the fact to change.
    Reported,
}

impl Holding {
    /// What the place holds after these fields were written into it.
    pub fn wrote(&mut self, fields: &Fields) {
        self.left.retain(|name, left| fields.get(name).is_some_and(|ours| same(ours, &left.ours)));
        self.written = Some(fields.clone());
        self.is_seen = false;
    }

    /// The fields that are to be written: not those in which something else was left on purpose, as long as our side of it is the same.
    #[must_use]
    pub fn without_left(&self, fields: &Fields) -> Fields {
        let is_left = |name: &String, ours: &Value| {
            self.left.get(name).is_some_and(|left| left.why != Why::Form && same(&left.ours, ours))
        };
        fields
            .iter()
            .filter(|(name, ours)| !is_left(name, ours))
            .map(|(name, ours)| (name.clone(), ours.clone()))
            .collect()
    }

    /// Whether a field was written again so often, lately, that writing it once more would only go on for ever.
    #[must_use]
    pub fn is_flapping(&self, name: &str, now: Timestamp) -> bool {
        let lately = |at: &&Timestamp| at.0 > now.0 - REWRITES_MS;
        self.rewritten.get(name).is_some_and(|times| times.iter().filter(lately).count() >= REWRITES_MAX)
    }

    /// Notes that a field is written again.
    pub fn rewrites(&mut self, name: &str, now: Timestamp) {
        let times = self.rewritten.entry(name.to_owned()).or_default();
        times.retain(|at| at.0 > now.0 - REWRITES_MS);
        times.push(now);
    }
}

/// A field that shows something else than it should.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldDrift {
    /// Its name in the target.
    pub field: String,
    /// What we wrote.
    pub ours: Value,
    /// What stands there.
    pub theirs: Value,
    /// What is done about it.
    pub policy: Policy,
    /// It was written again so often that it is only reported.
    pub is_flapping: bool,
}

/// What a comparison of one row came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// The fields that somebody changed.
    pub drift: Vec<FieldDrift>,
    /// The holding after it; none when it is as before.
    pub holding: Option<Holding>,
}

/// Compares what a row shows with what we wrote into it.
///
/// Fields that the target does not show are not compared. At the first look after a write, a mild difference (`is_form_of`) is taken for the
/// target's own form of what we wrote; afterwards any difference is somebody's doing.
#[must_use]
pub fn compare(holding: &Holding, shown: &Fields, policies: &Policies, now: Timestamp) -> Comparison {
    // Where nobody knows what was written nothing can be said; the next write changes that.
    let Some(written) = &holding.written else { return Comparison::default() };
    let mut after = holding.clone();
    after.is_seen = true;
    let mut drift = Vec::new();
    for (name, ours) in written {
        let Some(theirs) = shown.get(name) else { continue };
        let policy = policies.of_field(name);
        if policy == Policy::Ignore {
            continue;
        }
        if same(ours, theirs) {
            // Somebody set it back to what we wrote: nothing is left open.
            after.left.remove(name);
            continue;
        }
        let known = holding.left.get(name).filter(|left| same(&left.ours, ours) && same(&left.theirs, theirs));
        if known.is_some_and(|left| matches!(left.why, Why::Form | Why::Adopted)) {
            continue;
        }
        if !holding.is_seen && is_form_of(ours, theirs) {
            after.left.insert(name.clone(), left(ours, theirs, Why::Form));
            continue;
        }
        let is_flapping = policy == Policy::Repair && holding.is_flapping(name, now);
        match policy {
            Policy::Repair if !is_flapping => {
                after.left.remove(name);
            }
            Policy::Adopt => {
                after.left.insert(name.clone(), left(ours, theirs, Why::Adopted));
            }
            Policy::Repair | Policy::Report => {
                after.left.insert(name.clone(), left(ours, theirs, Why::Reported));
            }
            Policy::Ignore => {}
        }
        let field = name.clone();
        drift.push(FieldDrift { field, ours: ours.clone(), theirs: theirs.clone(), policy, is_flapping });
    }
    Comparison { drift, holding: (after != *holding).then_some(after) }
}

/// What a row shows right after it was written again is the target's own form of what we wrote: nobody else was there in between.
#[must_use]
pub fn learn_forms(holding: &Holding, shown: &Fields) -> Holding {
    let mut after = Holding { is_seen: true, ..holding.clone() };
    for (name, ours) in holding.written.iter().flatten() {
        let Some(theirs) = shown.get(name).filter(|theirs| !same(ours, theirs)) else { continue };
        // What was left on purpose was not written.
        if !holding.left.contains_key(name) {
            after.left.insert(name.clone(), left(ours, theirs, Why::Form));
            // It was never somebody's doing.
            after.rewritten.remove(name);
        }
    }
    after
}

fn left(ours: &Value, theirs: &Value, why: Why) -> Left {
    Left { ours: ours.clone(), theirs: theirs.clone(), why }
}

/// Whether two values of a field say the same: blank is blank, numbers are numbers however they are spelled, ends of lines do not count.
#[must_use]
pub fn same(ours: &Value, theirs: &Value) -> bool {
    match (number(ours), number(theirs)) {
        (Some(left), Some(right)) if !matches!((ours, theirs), (Value::Text(_), Value::Text(_))) => {
            return (left - right).abs() < NUMBER_TOLERANCE;
        }
        _ => {}
    }
    lines(&ours.to_string()) == lines(&theirs.to_string())
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(*number),
        Value::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
        Value::Null | Value::Bool(_) | Value::Date(_) => None,
    }
}

fn lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim().to_owned()
}

/// Whether what is shown may well be what was written, in a form that targets give to it: another case, other spaces, cut off at its end, a
/// number rounded, a time of the day added to a date. A guess, good for the first look after a write only.
#[must_use]
pub fn is_form_of(written: &Value, shown: &Value) -> bool {
    let (written_words, shown_words) = (folded(&written.to_string()), folded(&shown.to_string()));
    if written_words.is_empty() || shown_words.is_empty() {
        return false;
    }
    if let (Some(written), Some(shown)) = (number(written), number(shown)) {
        return written.round() == shown || (written - shown).abs() < 0.05;
    }
    let is_cut = shown_words.chars().count() >= CUT_CHARS_MIN && written_words.starts_with(&shown_words);
    let is_dated = matches!(written, Value::Date(_)) && shown_words.starts_with(&written_words);
    written_words == shown_words || is_cut || is_dated
}

fn folded(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn text(words: &str) -> Value {
        Value::Text(words.to_owned())
    }

    fn date(day: u32) -> Value {
        Value::Date(NaiveDate::from_ymd_opt(2026, 3, day).expect("a date"))
    }

    fn fields(pairs: &[(&str, Value)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn written(pairs: &[(&str, Value)]) -> Holding {
        Holding { written: Some(fields(pairs)), is_seen: true, ..Holding::default() }
    }

    fn names(comparison: &Comparison) -> Vec<&str> {
        comparison.drift.iter().map(|drift| drift.field.as_str()).collect()
    }

    #[test]
    fn values_are_the_same_however_the_target_spells_them() {
        let check = |ours: Value, theirs: Value, is_same: bool| {
            assert_eq!(same(&ours, &theirs), is_same, "{ours:?} and {theirs:?}");
            assert_eq!(same(&theirs, &ours), is_same, "{theirs:?} and {ours:?}");
        };
        check(Value::Null, text(""), true);
        check(Value::Null, text("  \n"), true);
        check(Value::Number(2.5), text("2.50"), true);
        check(Value::Number(2.5), text("2.51"), false);
        check(Value::Number(0.0), Value::Null, false);
        check(text("0042"), text("42"), false);
        check(text("two\r\nlines "), text("two\nlines"), true);
        check(date(3), text("2026-03-03"), true);
        check(date(3), text("2026-03-04"), false);
        check(Value::Bool(true), text("true"), true);
        check(text("Fire"), text("fire"), false);
    }

    #[test]
    fn a_mild_difference_is_the_targets_form_at_the_first_look_and_somebodys_doing_later() {
        for (ours, theirs) in [
            (text("Fire Safety"), text("FIRE  SAFETY")),
            (text("Working at heights, part one"), text("Working at heights,")),
            (date(3), text("2026-03-03T00:00:00")),
            (Value::Number(2.449), Value::Number(2.4)),
        ] {
            let fresh = Holding { is_seen: false, ..written(&[("a", ours.clone())]) };
            let shown = fields(&[("a", theirs.clone())]);
            let first = compare(&fresh, &shown, &Policies::default(), NOW);
            assert_eq!(names(&first), [""; 0], "{ours:?} shown as {theirs:?}");
            let learnt = first.holding.expect("the form is learned");
            assert_eq!(compare(&learnt, &shown, &Policies::default(), NOW), Comparison::default());
            assert_eq!(names(&compare(&written(&[("a", ours)]), &shown, &Policies::default(), NOW)), ["a"]);
        }
        let fresh = Holding { is_seen: false, ..written(&[("a", text("Fire Safety"))]) };
        for strong in [text("Fire"), Value::Null, text("Fire Safety II")] {
            let shown = fields(&[("a", strong.clone())]);
            assert_eq!(names(&compare(&fresh, &shown, &Policies::default(), NOW)), ["a"], "{strong:?}");
        }
    }

    #[test]
    fn each_field_has_its_policy_and_what_is_left_is_not_written() {
        let holding = written(&[("a", text("1")), ("b", text("2")), ("c", text("3")), ("d", text("4"))]);
        let shown = fields(&[("a", text("x")), ("b", text("x")), ("c", text("x")), ("d", text("x"))]);
        let policies = Policies {
            fields: [("b", Policy::Report), ("c", Policy::Adopt), ("d", Policy::Ignore)]
                .map(|(name, policy)| (name.to_owned(), policy))
                .into(),
            ..Policies::default()
        };
        let compared = compare(&holding, &shown, &policies, NOW);
        assert_eq!(names(&compared), ["a", "b", "c"]);
        let after = compared.holding.expect("something is left");
        let ours = holding.written.clone().expect("was written");
        let to_write: Vec<String> = after.without_left(&ours).into_keys().collect();
        assert_eq!(to_write, ["a", "d"]);
        assert_eq!(names(&compare(&after, &shown, &policies, NOW)), ["a", "b"], "what was adopted is right");
        // The fact changes: then it is ours again.
        let changed = Fields::from_iter([("b".to_owned(), text("20")), ("c".to_owned(), text("30"))]);
        assert_eq!(after.without_left(&changed), changed);
        let mut after = after;
        after.wrote(&changed);
        assert!(after.left.is_empty());
    }

    #[test]
    fn a_field_that_was_written_again_three_times_is_only_reported() {
        let mut holding = written(&[("a", text("1"))]);
        let shown = fields(&[("a", text("x"))]);
        for night in 0..3 {
            let now = NOW.plus_ms(night * 86_400_000);
            let compared = compare(&holding, &shown, &Policies::default(), now);
            assert!(!compared.drift[0].is_flapping, "night {night}");
            holding.rewrites("a", now);
        }
        let fourth = compare(&holding, &shown, &Policies::default(), NOW.plus_ms(3 * 86_400_000));
        assert!(fourth.drift[0].is_flapping);
        let after = fourth.holding.expect("it is left");
        assert!(after.without_left(&fields(&[("a", text("1"))])).is_empty(), "nobody writes it any more");
        let much_later = compare(&holding, &shown, &Policies::default(), NOW.plus_ms(40 * 86_400_000));
        assert!(!much_later.drift[0].is_flapping, "old rewrites are forgotten");
    }

    #[test]
    fn what_a_row_shows_right_after_a_write_is_the_targets_form_of_it() {
        let mut holding = written(&[("a", text("Fire Safety")), ("b", text("2"))]);
        holding.rewrites("a", NOW);
        let shown = fields(&[("a", text("course 17")), ("b", text("2"))]);
        let learnt = learn_forms(&holding, &shown);
        assert_eq!(compare(&learnt, &shown, &Policies::default(), NOW), Comparison::default());
        assert!(!learnt.is_flapping("a", NOW));
        let edited = fields(&[("a", text("something else")), ("b", text("2"))]);
        assert_eq!(names(&compare(&learnt, &edited, &Policies::default(), NOW)), ["a"]);
    }

    #[test]
    fn what_the_target_does_not_show_or_an_older_program_wrote_is_not_compared() {
        let shown = fields(&[("a", text("x"))]);
        assert_eq!(names(&compare(&written(&[("b", text("1"))]), &shown, &Policies::default(), NOW)), [""; 0]);
        assert_eq!(compare(&Holding::default(), &shown, &Policies::default(), NOW), Comparison::default());
    }

    #[test]
    fn a_class_is_read_back_from_its_word() {
        for class in DriftClass::ALL {
            assert_eq!(DriftClass::parse(class.as_str()), Some(class));
        }
    }
}
