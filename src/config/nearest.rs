//! The right name that is nearest to a wrong one.

/// The candidate that is nearest to `word`, when at most a third of its letters differ; for "did you mean".
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_lowercase();
    let edits_max = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &candidate.to_lowercase()), candidate))
        .filter(|(edits, _)| *edits <= edits_max)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// `unknown <thing> "<word>"` with the nearest right name, or all of them when none is near.
pub(crate) fn unknown(thing: &str, word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(right) => format!("unknown {thing} \"{word}\", did you mean \"{right}\"?"),
        None => format!("unknown {thing} \"{word}\" (known here: {})", candidates.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_another_word_finds_none() {
        let names = ["address", "body_bytes_max", "url", "cron"];
        for (word, expected) in [
            ("adress", Some("address")),
            ("Address", Some("address")),
            ("body_byte_max", Some("body_bytes_max")),
            ("ulr", Some("url")),
            ("destination", None),
            ("zone", None),
        ] {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
    }
}
