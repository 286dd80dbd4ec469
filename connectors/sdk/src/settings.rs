//! What is said about settings that do not exist, in the same words by every connector.

use crate::{Setting, SettingsError};

/// How alike two words must be before one is offered for the other (Jaro-Winkler, 0 to 1).
const LIKENESS_MIN: f64 = 0.75;

/// What stands for the word that is most alike, if any is alike enough: `(word, what it means)` in, what it means out.
#[must_use]
pub fn nearest<'a>(name: &str, words: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    words
        .into_iter()
        .map(|(word, meant)| (strsim::jaro_winkler(word, name), meant))
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .map(|(_, meant)| meant)
}

/// The first setting of a destination that is none of these: by its name or what people write for it the nearest is offered, else all are.
///
/// # Errors
/// There is such a setting.
pub fn refuse_unknown(
    given: &serde_json::Map<String, serde_json::Value>,
    known: &[Setting],
) -> Result<(), SettingsError> {
    let Some(name) = given.keys().find(|name| !known.iter().any(|setting| setting.name == **name)) else {
        return Ok(());
    };
    let words = known.iter().flat_map(|setting| {
        std::iter::once(setting.name).chain(setting.other_words.iter().copied()).map(|word| (word, setting.name))
    });
    let message = match nearest(name, words) {
        Some(near) => format!("unknown setting \"{name}\", did you mean \"{near}\"?"),
        None => {
            let all: Vec<&str> = known.iter().map(|setting| setting.name).collect();
            format!("unknown setting \"{name}\"; there are {}", all.join(", "))
        }
    };
    Err(SettingsError { path: vec![name.clone()], message })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const KNOWN: &[Setting] = &[
        Setting::required("url", "The base URL.", "https://acme.example").or(&["address"]),
        Setting::required("token", "The token.", "a-token"),
    ];

    #[test]
    fn an_unknown_setting_is_refused_with_the_nearest_that_exists() {
        let check = |name: &str, words: &str| {
            let given = json!({"url": "x", name: "y"});
            let error = refuse_unknown(given.as_object().expect("a table"), KNOWN).expect_err("it is unknown");
            assert_eq!((error.path, error.message.as_str()), (vec![name.to_owned()], words));
        };
        check("tokne", "unknown setting \"tokne\", did you mean \"token\"?");
        check("adress", "unknown setting \"adress\", did you mean \"url\"?");
        check("zzz", "unknown setting \"zzz\"; there are url, token");
        assert_eq!(refuse_unknown(json!({"token": 7}).as_object().expect("a table"), KNOWN), Ok(()));
    }
}
