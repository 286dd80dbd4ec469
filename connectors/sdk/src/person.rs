//! Who a learner is, and how a target recognises them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What the LMS knows of a person. Personal data: never logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learner {
    /// The LMS's own id.
    pub id: String,
    /// The id from another system, in Absorb `externalId`; unique there, the best key.
    pub external_id: Option<String>,
    /// The employee number; its uniqueness is not enforced by Absorb.
    pub employee_number: Option<String>,
    /// The e-mail address; not unique.
    pub email: Option<String>,
    /// The login name; may change.
    pub username: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// False when the LMS says that the person is inactive (left, or merged into another account).
    pub is_active: bool,
    /// Custom fields by their LMS name, for example `decimal1`.
    #[serde(default)]
    pub custom: BTreeMap<String, String>,
}

/// One way to recognise a person; rules are tried in the configured order.
///
/// As a word: what of the learner, then, if need be, the target's field and forms: `email`, `custom:string3 = badgeNumber | digits | pad:8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchRule {
    /// What of the learner is compared.
    pub by: MatchBy,
    /// The target's field that it is compared with, by the target's name for it; without it, the connector's own for `by`.
    pub field: Option<String>,
    /// What the learner's value is brought into first, in this order.
    pub forms: Vec<Form>,
}

/// What of a learner is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchBy {
    /// The external id; by itself with the target's employee number.
    ExternalId,
    /// The employee number.
    EmployeeNumber,
    /// The e-mail address.
    Email,
    /// The login name. No target has a field for it by itself.
    Username,
    /// A custom field, by its LMS name, for example `decimal1`. No target has a field for it by itself.
    Custom(String),
}

/// What is done with a learner's value before it is compared: HR writes many a number otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `digits`: only the digits stay.
    Digits,
    /// `letters_and_digits`: only these stay.
    LettersAndDigits,
    /// `no_leading_zeros`: `00815` is `815`.
    NoLeadingZeros,
    /// `before_at`: what stands before the `@`.
    BeforeAt,
    /// `pad:8`: zeros in front until it is so long.
    Pad(usize),
}

/// Longest value that zeros are put in front of, in characters.
const PAD_MAX: usize = 32;

impl MatchRule {
    /// `external_id`.
    pub const EXTERNAL_ID: Self = Self::of(MatchBy::ExternalId);
    /// `employee_number`.
    pub const EMPLOYEE_NUMBER: Self = Self::of(MatchBy::EmployeeNumber);
    /// `email`.
    pub const EMAIL: Self = Self::of(MatchBy::Email);

    /// The rule without a field or forms of its own.
    #[must_use]
    pub const fn of(by: MatchBy) -> Self {
        Self { by, field: None, forms: Vec::new() }
    }

    /// The learner's value as it stands in the LMS, trimmed and in the forms of this rule; none when nothing of it is left.
    #[must_use]
    pub fn given(&self, learner: &Learner) -> Option<String> {
        let value = match &self.by {
            MatchBy::ExternalId => learner.external_id.as_deref(),
            MatchBy::EmployeeNumber => learner.employee_number.as_deref(),
            MatchBy::Email => learner.email.as_deref(),
            MatchBy::Username => learner.username.as_deref(),
            MatchBy::Custom(name) => learner.custom.get(name).map(String::as_str),
        }?;
        let formed = self.forms.iter().fold(value.trim().to_owned(), |value, form| form.of(&value));
        (!formed.is_empty()).then_some(formed)
    }

    /// The same, letters folded to lower case.
    #[must_use]
    pub fn value_of(&self, learner: &Learner) -> Option<String> {
        self.given(learner).map(|value| value.to_lowercase())
    }

    /// Reads a rule as it is configured.
    ///
    /// # Errors
    /// What is wrong with it, and what could stand there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split('|').map(str::trim);
        let first = parts.next().unwrap_or_default();
        let (by, field) = match first.split_once('=') {
            Some((by, field)) => (by.trim(), Some(field.trim())),
            None => (first, None),
        };
        let by = match (by, by.strip_prefix("custom:").map(str::trim)) {
            ("external_id", _) => MatchBy::ExternalId,
            ("employee_number", _) => MatchBy::EmployeeNumber,
            ("email", _) => MatchBy::Email,
            ("username", _) => MatchBy::Username,
            (_, Some(name)) if !name.is_empty() => MatchBy::Custom(name.to_owned()),
            _ => {
                return Err(format!(
                    "\"{by}\" is nothing that a learner is recognised by: it is external_id, employee_number, email, username, or \
                     custom: and a field's name, for example custom:string3"
                ));
            }
        };
        let is_name = |name: &str| {
            !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
        };
        if field.is_some_and(|field| !is_name(field)) {
            return Err(format!("\"{text}\": after = comes the target's field, of letters, digits, _, . and -"));
        }
        if field.is_none() && matches!(by, MatchBy::Username | MatchBy::Custom(_)) {
            return Err(format!(
                "\"{text}\": say with which field of the target it is compared, for example \"{first} = badgeNumber\""
            ));
        }
        let forms = parts.map(Form::parse).collect::<Result<Vec<Form>, String>>()?;
        Ok(Self { by, field: field.map(str::to_owned), forms })
    }
}

impl<'de> Deserialize<'de> for MatchRule {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for MatchRule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.by)?;
        if let Some(field) = &self.field {
            write!(out, " = {field}")?;
        }
        self.forms.iter().try_for_each(|form| write!(out, " | {form}"))
    }
}

impl fmt::Display for MatchBy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExternalId => out.write_str("external_id"),
            Self::EmployeeNumber => out.write_str("employee_number"),
            Self::Email => out.write_str("email"),
            Self::Username => out.write_str("username"),
            Self::Custom(name) => write!(out, "custom:{name}"),
        }
    }
}

impl Form {
    fn parse(word: &str) -> Result<Self, String> {
        match (word, word.strip_prefix("pad:").map(|count| count.trim().parse::<usize>())) {
            ("digits", _) => Ok(Self::Digits),
            ("letters_and_digits", _) => Ok(Self::LettersAndDigits),
            ("no_leading_zeros", _) => Ok(Self::NoLeadingZeros),
            ("before_at", _) => Ok(Self::BeforeAt),
            (_, Some(Ok(count))) if (1..=PAD_MAX).contains(&count) => Ok(Self::Pad(count)),
            _ => Err(format!(
                "\"{word}\" is no form of a value: it is digits, letters_and_digits, no_leading_zeros, before_at, or pad: and a length of \
                 1 to {PAD_MAX}, for example pad:8"
            )),
        }
    }

    fn of(self, value: &str) -> String {
        match self {
            Self::Digits => value.chars().filter(char::is_ascii_digit).collect(),
            Self::LettersAndDigits => value.chars().filter(|letter| letter.is_alphanumeric()).collect(),
            Self::NoLeadingZeros => value.trim_start_matches('0').to_owned(),
            Self::BeforeAt => value.split('@').next().unwrap_or_default().to_owned(),
            // Nothing stays nothing: a number of zeros would be somebody.
            Self::Pad(_) if value.is_empty() => String::new(),
            Self::Pad(count) => format!("{value:0>count$}"),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digits => out.write_str("digits"),
            Self::LettersAndDigits => out.write_str("letters_and_digits"),
            Self::NoLeadingZeros => out.write_str("no_leading_zeros"),
            Self::BeforeAt => out.write_str("before_at"),
            Self::Pad(count) => write!(out, "pad:{count}"),
        }
    }
}

/// The result of a look-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PersonMatch {
    /// Exactly one person.
    Found {
        /// The person's id in the target.
        person: String,
        /// The rule by which we know.
        rule: MatchRule,
    },
    /// No rule found anyone.
    NotFound,
    /// A rule found several; nothing is guessed.
    Ambiguous {
        /// The rule that found them.
        rule: MatchRule,
        /// Their ids in the target.
        candidates: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learner() -> Learner {
        Learner {
            external_id: Some(" E-00815 ".to_owned()),
            email: Some("Ana.Nowak@Example.org".to_owned()),
            username: Some("ANowak".to_owned()),
            custom: BTreeMap::from([("decimal1".to_owned(), "0".to_owned()), ("string3".to_owned(), "77".to_owned())]),
            ..Learner::default()
        }
    }

    #[test]
    fn a_rule_reads_as_it_is_written_and_forms_come_in_their_order() {
        for (text, value) in [
            ("external_id", Some("e-00815")),
            ("external_id | digits", Some("00815")),
            ("external_id | digits | no_leading_zeros", Some("815")),
            ("external_id | no_leading_zeros | digits", Some("00815")),
            ("external_id = badge | letters_and_digits", Some("e00815")),
            ("email | before_at", Some("ana.nowak")),
            ("username = login", Some("anowak")),
            ("custom:string3 = badge | pad:8", Some("00000077")),
            ("custom:decimal1 = badge | no_leading_zeros | pad:8", None),
            ("custom:string9 = badge", None),
            ("employee_number", None),
        ] {
            let rule = MatchRule::parse(text).expect("a rule");
            assert_eq!(rule.value_of(&learner()).as_deref(), value, "{text}");
            assert_eq!(rule.to_string(), text);
        }
    }

    #[test]
    fn a_wrong_rule_is_told_what_could_stand_there() {
        for (text, words) in [
            ("badge", "\"badge\" is nothing that a learner is recognised by: it is external_id"),
            ("custom:", "custom:string3"),
            (
                "username",
                "\"username\": say with which field of the target it is compared, for example \"username = badgeNumber\"",
            ),
            ("email =", "after = comes the target's field"),
            ("email = a eq 'x' or b", "after = comes the target's field, of letters, digits"),
            ("email | lower", "\"lower\" is no form of a value: it is digits"),
            ("email | pad:99", "a length of 1 to 32"),
        ] {
            let because = MatchRule::parse(text).expect_err("is wrong");
            assert!(because.contains(words), "{text}: {because}");
        }
    }
}
