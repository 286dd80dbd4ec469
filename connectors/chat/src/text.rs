//! Text as a dialect takes it: without what would break a line, with its control characters escaped, and no longer than fits.

/// The escape of a character, if it has one; escapes are ASCII.
pub(crate) type Escape = fn(char) -> Option<&'static str>;

/// Longest note of what was left out: `… (+123456789)`.
const NOTE_CHARACTERS_MAX: usize = 14;

/// Nothing is escaped: the target shows the text as it stands.
pub(crate) fn verbatim(_: char) -> Option<&'static str> {
    None
}

/// Without control characters, which some targets refuse, and without marks that turn the direction of all that follows.
pub(crate) fn clean(text: &str) -> String {
    let is_wanted = |letter: &char| {
        *letter == '\n' || !(letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    text.trim().chars().filter(is_wanted).collect()
}

/// The same, on one line.
pub(crate) fn clean_line(text: &str) -> String {
    clean(text).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Escapes the text. If it is longer than so many characters then, it is cut first, so that no escape is torn apart, and says how many
/// characters are missing.
pub(crate) fn fit(text: &str, characters_max: usize, escape: Escape) -> String {
    let length = |letter: char| escape(letter).map_or(1, str::len);
    if text.chars().map(length).sum::<usize>() <= characters_max {
        return escaped(text, escape);
    }
    let mut room = characters_max.saturating_sub(NOTE_CHARACTERS_MAX);
    let mut end = text.len();
    for (place, letter) in text.char_indices() {
        match room.checked_sub(length(letter)) {
            Some(left) => room = left,
            None => {
                end = place;
                break;
            }
        }
    }
    let (kept, left_out) = text.split_at(end);
    format!("{}… (+{})", escaped(kept.trim_end(), escape), left_out.chars().count())
}

fn escaped(text: &str, escape: Escape) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match escape(letter) {
            Some(escape) => out.push_str(escape),
            None => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ampersand(letter: char) -> Option<&'static str> {
        (letter == '&').then_some("&amp;")
    }

    #[test]
    fn text_is_cut_between_characters_and_says_how_many_are_missing() {
        let check = |text: &str, max, expected: &str| assert_eq!(fit(text, max, verbatim), expected, "{text:?}");
        check("as long as it may", 17, "as long as it may");
        check(&"é".repeat(40), 20, "éééééé… (+34)");
        check(&"👩‍🚒".repeat(20), 16, "👩\u{200d}… (+58)");
        check("anything", 3, "… (+8)");
    }

    #[test]
    fn the_limit_counts_what_is_sent_and_no_escape_is_torn() {
        assert_eq!(fit("R&D", 7, ampersand), "R&amp;D");
        assert_eq!(fit(&"&".repeat(10), 30, ampersand), "&amp;&amp;&amp;… (+7)");
        for max in 14..80 {
            let text = fit(&"a&".repeat(60), max, ampersand);
            assert!(text.chars().count() <= max, "{max}: {text}");
            assert!(!text.replace("&amp;", "").contains('&'), "{max}: {text}");
        }
    }

    #[test]
    fn control_characters_and_turns_of_direction_are_left_out() {
        assert_eq!(clean(" Ann\u{7}\u{202e} Lee\r\nFire\u{2066} "), "Ann Lee\nFire");
        assert_eq!(clean_line("Ann\n\n  Lee\t"), "Ann Lee");
        assert_eq!(clean("消防 בטיחות 👩‍🚒 e\u{301}"), "消防 בטיחות 👩‍🚒 e\u{301}");
    }
}
