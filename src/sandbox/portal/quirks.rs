//! How this tenant is: everything in which one Absorb may differ from another, or may do what nobody promised. One list for the command
//! line, the control end point and the conformance matrix.
//!
//! A fault (`PortalFaults`) is for one moment of a test; a quirk lasts until it is changed.

use std::sync::{Mutex, PoisonError};

use learnsync_sdk::nearest;

use crate::sandbox::faults::Wait;

/// Highest number that a quirk takes.
const NUMBER_MAX: u32 = 1_000_000;

/// Whether a feature of the portal is on, and how its absence is answered. INFERRED: which status it is, is not published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Feature {
    #[default]
    On,
    /// 403.
    Forbidden,
    /// 404.
    Absent,
}

/// Which learners an account sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Scope {
    #[default]
    All,
    /// Those of a department and of those below it.
    Department(String),
    /// Those of this share of all departments, in percent; the root goes first.
    Share(u32),
}

/// Which correlation ids the webhooks of one act carry. UNKNOWN in reality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Correlation {
    /// Each its own.
    #[default]
    Distinct,
    /// All the same.
    Shared,
    /// None at all.
    Missing,
}

/// Whether webhooks name what they are about, beyond the learner. UNKNOWN in reality.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HookIds {
    /// As the dialect does.
    #[default]
    Dialect,
    Always,
    Never,
}

/// The present state of all quirks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) transient401: u32,
    pub(super) rate: u32,
    pub(super) burst: u32,
    pub(super) retry_after: Wait,
    pub(super) has_empty_429: bool,
    pub(super) has_z: bool,
    pub(super) has_empty_filtered_pages: bool,
    pub(super) is_unsortable: bool,
    pub(super) page_rows_max: u32,
    pub(super) has_no_totals: bool,
    pub(super) is_bare: bool,
    pub(super) is_v1: bool,
    pub(super) scope: Scope,
    pub(super) certificates: Feature,
    pub(super) competencies: Feature,
    pub(super) learning_paths: Feature,
    pub(super) has_consent_page: bool,
    pub(super) rotates_refresh: bool,
    /// `None` is any.
    pub(super) hook_dialect: Option<char>,
    pub(super) hook_ids: HookIds,
    pub(super) hook_correlation: Correlation,
    pub(super) hook_duplicate: u32,
    pub(super) hook_drop: u32,
    pub(super) hook_reorder: u32,
    pub(super) hook_delay: u32,
    pub(super) hook_early: u32,
    pub(super) hook_burst: u32,
}

/// One quirk: how it is called, what it takes, and what it does.
pub struct Quirk {
    /// The name in `--quirk` and in `POST /sandbox/quirks`.
    pub name: &'static str,
    /// The value before anybody changes it.
    pub default: &'static str,
    /// The values that it takes, in words.
    pub takes: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    set: fn(&mut State, &str) -> Result<(), String>,
}

const SWITCH: &str = "on or off";
const PERCENT: &str = "percent, 0 to 100";
const FEATURE: &str = "on, 403 or 404";

macro_rules! quirk {
    ($name:literal, $default:literal, $takes:expr, $doc:literal, $field:ident, $read:expr) => {
        Quirk {
            name: $name,
            default: $default,
            takes: $takes,
            doc: $doc,
            set: |state, text| {
                state.$field = $read(text)?;
                Ok(())
            },
        }
    };
}

/// All quirks.
pub static QUIRKS: [Quirk; 27] = [
    quirk!(
        "transient401",
        "0",
        "every n-th call, 0 for none",
        "Every n-th call is 401 with a valid token.",
        transient401,
        number
    ),
    quirk!("rate", "200", "calls per second, 0 for no limit", "The rate limit.", rate, number),
    quirk!("burst", "100", "calls", "How many calls are taken at once before the rate counts.", burst, number),
    quirk!(
        "retry_after",
        "none",
        "none, seconds, or date:seconds",
        "What a 429 says in Retry-After.",
        retry_after,
        wait
    ),
    quirk!("empty_429", "off", SWITCH, "A 429 has an empty body instead of Absorb's error.", has_empty_429, switch),
    quirk!(
        "dates_with_z",
        "off",
        SWITCH,
        "Dates end with a Z; without it they are naive, and UTC is meant.",
        has_z,
        switch
    ),
    quirk!(
        "filtered_pages_empty",
        "off",
        SWITCH,
        "Filtered pages after the first are empty, with the true total.",
        has_empty_filtered_pages,
        switch
    ),
    quirk!("unsortable", "off", SWITCH, "_sort is answered with 422.", is_unsortable, switch),
    quirk!(
        "page_rows_max",
        "0",
        "rows, 0 for no such limit",
        "A page has at most so many rows, whatever _limit asks for.",
        page_rows_max,
        number
    ),
    quirk!("no_total_items", "off", SWITCH, "Lists do not say totalItems, as older tenants.", has_no_totals, switch),
    quirk!("bare_arrays", "off", SWITCH, "Lists are bare arrays, in pages.", is_bare, switch),
    quirk!(
        "v1",
        "off",
        SWITCH,
        "Version 1: keys in Pascal case, bare arrays without pages, also below /api/Rest/v1.",
        is_v1,
        switch
    ),
    quirk!(
        "scope",
        "all",
        "all, a department's name, or a share like 50%",
        "The account sees only the learners of some departments.",
        scope,
        scope
    ),
    quirk!("certificates", "on", FEATURE, "Certificates can be read.", certificates, feature),
    quirk!("competencies", "on", FEATURE, "Competencies can be read.", competencies, feature),
    quirk!(
        "learning_paths",
        "404",
        FEATURE,
        "Learning paths can be read; the path is invented.",
        learning_paths,
        feature
    ),
    quirk!(
        "consent",
        "off",
        SWITCH,
        "OAuth shows a page to agree on, instead of redirecting at once.",
        has_consent_page,
        switch
    ),
    quirk!("refresh_rotates", "off", SWITCH, "Each refresh token serves once.", rotates_refresh, switch),
    quirk!("hook_dialect", "any", "any, A, B, C, D or E", "How webhooks are spelled.", hook_dialect, dialect),
    quirk!(
        "hook_ids",
        "dialect",
        "dialect, always or never",
        "Whether webhooks name the enrolment, course, certificate.",
        hook_ids,
        hook_ids
    ),
    quirk!(
        "hook_correlation",
        "distinct",
        "distinct, shared or none",
        "The correlation ids of the webhooks of one act.",
        hook_correlation,
        correlation
    ),
    quirk!("hook_duplicate", "0", PERCENT, "So many webhooks are sent twice.", hook_duplicate, percent),
    quirk!("hook_drop", "0", PERCENT, "So many webhooks are never sent.", hook_drop, percent),
    quirk!("hook_reorder", "0", PERCENT, "So many webhooks are sent after the next one.", hook_reorder, percent),
    quirk!("hook_delay", "0", "seconds", "Webhooks are sent so much later.", hook_delay, number),
    quirk!(
        "hook_early",
        "0",
        "reads",
        "The API shows a fact only after so many reads of its list.",
        hook_early,
        number
    ),
    quirk!(
        "hook_burst",
        "0",
        "webhooks, 0 for no bursts",
        "Webhooks wait until there are so many, and go all at once.",
        hook_burst,
        number
    ),
];

fn number(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|number| *number <= NUMBER_MAX).ok_or_else(|| format!("a number up to {NUMBER_MAX}"))
}

fn percent(text: &str) -> Result<u32, String> {
    let number = text.trim_end_matches('%').parse().ok();
    number.filter(|number| *number <= 100).ok_or_else(|| PERCENT.to_owned())
}

/// Reads a word; the nearest one is offered for another.
fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        match nearest(text, all.iter().map(|word| (*word, *word))) {
            Some(near) => format!("{}; did you mean \"{near}\"?", all.join(", ")),
            None => all.join(", "),
        }
    })
}

fn switch(text: &str) -> Result<bool, String> {
    word(text, &[("on", true), ("off", false), ("true", true), ("false", false)])
}

fn feature(text: &str) -> Result<Feature, String> {
    word(text, &[("on", Feature::On), ("403", Feature::Forbidden), ("404", Feature::Absent)])
}

fn wait(text: &str) -> Result<Wait, String> {
    match text.split_once(':') {
        None if text.eq_ignore_ascii_case("none") => Ok(Wait::Unsaid),
        None => number(text).map(Wait::Seconds).map_err(|_| "none, seconds, or date:seconds".to_owned()),
        Some((kind, seconds)) if kind.eq_ignore_ascii_case("date") => number(seconds).map(Wait::Date),
        Some(_) => Err("none, seconds, or date:seconds".to_owned()),
    }
}

fn scope(text: &str) -> Result<Scope, String> {
    match text.strip_suffix('%') {
        Some(share) => percent(share).map(Scope::Share),
        None if text.eq_ignore_ascii_case("all") => Ok(Scope::All),
        None => Ok(Scope::Department(text.to_owned())),
    }
}

fn dialect(text: &str) -> Result<Option<char>, String> {
    word(
        text,
        &[("any", None), ("A", Some('A')), ("B", Some('B')), ("C", Some('C')), ("D", Some('D')), ("E", Some('E'))],
    )
}

fn hook_ids(text: &str) -> Result<HookIds, String> {
    word(text, &[("dialect", HookIds::Dialect), ("always", HookIds::Always), ("never", HookIds::Never)])
}

fn correlation(text: &str) -> Result<Correlation, String> {
    let words = [("distinct", Correlation::Distinct), ("shared", Correlation::Shared), ("none", Correlation::Missing)];
    word(text, &words)
}

/// The quirks of one portal.
pub(super) struct Quirks {
    held: Mutex<Held>,
}

struct Held {
    state: State,
    /// What was set, by the place in `QUIRKS`, as it was written.
    texts: Vec<String>,
    defaults: Vec<String>,
}

impl Quirks {
    /// All at their defaults, but for the rate limit, which the options give.
    pub(super) fn new(rate_per_second: Option<u32>, burst: u32) -> Self {
        let mut state = State {
            transient401: 0,
            rate: 0,
            burst: 0,
            retry_after: Wait::Unsaid,
            has_empty_429: false,
            has_z: false,
            has_empty_filtered_pages: false,
            is_unsortable: false,
            page_rows_max: 0,
            has_no_totals: false,
            is_bare: false,
            is_v1: false,
            scope: Scope::All,
            certificates: Feature::On,
            competencies: Feature::On,
            learning_paths: Feature::Absent,
            has_consent_page: false,
            rotates_refresh: false,
            hook_dialect: None,
            hook_ids: HookIds::Dialect,
            hook_correlation: Correlation::Distinct,
            hook_duplicate: 0,
            hook_drop: 0,
            hook_reorder: 0,
            hook_delay: 0,
            hook_early: 0,
            hook_burst: 0,
        };
        let mut defaults: Vec<String> = QUIRKS.iter().map(|quirk| quirk.default.to_owned()).collect();
        for (place, quirk) in QUIRKS.iter().enumerate() {
            match quirk.name {
                "rate" => defaults[place] = rate_per_second.unwrap_or(0).to_string(),
                "burst" => defaults[place] = burst.to_string(),
                _ => {}
            }
            (quirk.set)(&mut state, &defaults[place]).expect("defaults are values of their quirks");
        }
        Self { held: Mutex::new(Held { state, texts: defaults.clone(), defaults }) }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets one quirk; a switch is set on by a blank value, and any goes back to its default by `default`.
    ///
    /// # Errors
    /// In words, with the nearest name or the values that it takes; nothing is changed then.
    pub(super) fn set(&self, name: &str, value: &str) -> Result<(), String> {
        let place = QUIRKS.iter().position(|quirk| quirk.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let hint = nearest(name, QUIRKS.iter().map(|quirk| (quirk.name, quirk.name)));
            let hint = hint.map_or_else(
                || format!("there are {}", QUIRKS.iter().map(|quirk| quirk.name).collect::<Vec<_>>().join(", ")),
                |near| format!("did you mean \"{near}\"?"),
            );
            format!("the portal has no quirk \"{name}\", {hint}")
        })?;
        let quirk = &QUIRKS[place];
        let mut held = self.held();
        let text = match value.trim() {
            "" if quirk.takes == SWITCH => "on".to_owned(),
            "default" => held.defaults[place].clone(),
            other => other.to_owned(),
        };
        (quirk.set)(&mut held.state, &text)
            .map_err(|wanted| format!("the quirk {} takes {wanted}, not \"{text}\"", quirk.name))?;
        held.texts[place] = text;
        Ok(())
    }

    /// All back to their defaults.
    pub(super) fn reset(&self) {
        for quirk in &QUIRKS {
            self.set(quirk.name, "default").expect("defaults are values of their quirks");
        }
    }

    /// The present state.
    pub(super) fn state(&self) -> State {
        self.held().state.clone()
    }

    /// Each quirk with its present value.
    pub(super) fn list(&self) -> Vec<(&'static Quirk, String)> {
        let held = self.held();
        QUIRKS.iter().zip(held.texts.iter().cloned()).collect()
    }
}
