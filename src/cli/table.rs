//! Tables that fit the terminal: what does not fit ends in an ellipsis, colour is for terminals only.

use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Failure, print_text};

/// Columns are separated by so many spaces.
const GAP: usize = 2;

/// A column is never cut below this width, in terminal cells.
const COLUMN_MIN: usize = 6;

/// Narrower terminals are taken for this wide, in cells: nothing can be read there.
const TERMINAL_MIN: usize = 40;

/// Where a table is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// In cells; none when nothing is to be cut: another program reads it.
    width: Option<usize>,
    is_coloured: bool,
}

impl Page {
    /// Standard output: `COLUMNS` or the terminal's size; colour unless `NO_COLOR` is set (https://no-color.org) or `TERM` is `dumb`.
    pub(super) fn of_stdout() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let terminal_width = || terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        Self::of(is_terminal, &|name| std::env::var(name).ok(), is_terminal.then(terminal_width).flatten())
    }

    fn of(is_terminal: bool, env: &dyn Fn(&str) -> Option<String>, terminal_width: Option<usize>) -> Self {
        let asked = env("COLUMNS").and_then(|text| text.trim().parse::<usize>().ok()).filter(|width| *width > 0);
        let is_plain = env("NO_COLOR").is_some_and(|value| !value.is_empty()) || env("TERM").as_deref() == Some("dumb");
        Self {
            width: asked.or(terminal_width).map(|width| width.max(TERMINAL_MIN)),
            is_coloured: is_terminal && !is_plain,
        }
    }
}

/// Rows under a head.
pub(super) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const COLUMNS: usize>(head: [&'static str; COLUMNS]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as the head.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| harmless(&cell)).collect();
        debug_assert_eq!(cells.len(), self.head.len(), "a row has as many cells as the head");
        self.rows.push(cells);
    }

    /// Prints it to standard output.
    pub(super) fn print(&self) -> Result<(), Failure> {
        print_text(&self.render(Page::of_stdout()))
    }

    fn render(&self, page: Page) -> String {
        let widths = self.widths(page.width);
        let head: Vec<String> = self.head.iter().map(|word| (*word).to_owned()).collect();
        let mut text = line(&head, &widths, |_, padded| paint(page, "1", padded));
        for row in &self.rows {
            text.push_str(&line(row, &widths, |cell, padded| match colour_of(cell) {
                Some(colour) => paint(page, colour, padded),
                None => padded.to_owned(),
            }));
        }
        text
    }

    /// Each column as wide as its widest cell; when that is more than fits, the widest columns give way first.
    fn widths(&self, width_max: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| row[column].width());
                cells.chain([self.head[column].width()]).max().unwrap_or(0)
            })
            .collect();
        let Some(width_max) = width_max else { return widths };
        let room = width_max.saturating_sub(GAP * widths.len().saturating_sub(1));
        while widths.iter().sum::<usize>() > room {
            let Some(widest) = widths.iter_mut().max().filter(|width| **width > COLUMN_MIN) else { break };
            *widest -= 1;
        }
        widths
    }
}

fn line(cells: &[String], widths: &[usize], dress: impl Fn(&str, &str) -> String) -> String {
    let mut text = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cut = cut(cell, *width);
        let is_last = column + 1 == cells.len();
        let gap = if is_last { 0 } else { width.saturating_sub(cut.width()) + GAP };
        text.push_str(&dress(cell, &cut));
        text.push_str(&" ".repeat(gap));
    }
    format!("{}\n", text.trim_end())
}

/// The text within a number of terminal cells; the last is an ellipsis when something was cut.
pub(super) fn cut(text: &str, cells_max: usize) -> String {
    if text.width() <= cells_max {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut cells = 0;
    for letter in text.chars() {
        cells += letter.width().unwrap_or(0);
        // One cell is the ellipsis's.
        if cells >= cells_max {
            break;
        }
        kept.push(letter);
    }
    kept.push('…');
    kept
}

/// A text from a target or an LMS must not move the cursor or colour the terminal.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn paint(page: Page, colour: &str, text: &str) -> String {
    if page.is_coloured && !text.is_empty() { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// The words of states: green is well, yellow waits, red waits for a person.
fn colour_of(cell: &str) -> Option<&'static str> {
    match cell {
        "settled" | "active" | "linked" | "marked" => Some("32"),
        "pending" | "sending" | "uncertain" | "duplicate" => Some("33"),
        "parked" | "paused" | "unmatched" | "ambiguous" | "unknown" => Some("31"),
        "skipped" | "superseded" | "retired" => Some("2"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(width: usize) -> Page {
        Page { width: Some(width), is_coloured: false }
    }

    fn table() -> Table {
        let mut table = Table::new(["id", "name", "state"]);
        table.row(["1".to_owned(), "a name that is much longer than it needs to be".to_owned(), "settled".to_owned()]);
        table.row(["22".to_owned(), "山田太郎の長い名前はここに".to_owned(), "parked".to_owned()]);
        table
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_what_is_cut_ends_in_an_ellipsis() {
        for width in [40, 41, 45, 60, 200] {
            for line in table().render(page(width)).lines() {
                assert!(line.width() <= width, "{width}: {} cells: {line}", line.width());
            }
        }
        assert!(
            table().render(page(40)).contains("a name that is much longer…  settled"),
            "{}",
            table().render(page(40))
        );
        assert!(!table().render(page(200)).contains('…'));
    }

    #[test]
    fn wide_letters_keep_the_columns_aligned() {
        let text = table().render(page(80));
        let starts: Vec<usize> = text
            .lines()
            .zip(["state", "settled", "parked"])
            .map(|(line, word)| line.split(word).next().unwrap_or_default().width())
            .collect();
        assert_eq!(starts, [starts[0]; 3], "{text}");
    }

    #[test]
    fn another_program_gets_every_letter_and_no_colour() {
        let text = table().render(Page { width: None, is_coloured: false });
        assert!(text.contains("a name that is much longer than it needs to be"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_text_of_a_target_cannot_move_the_cursor() {
        let mut table = Table::new(["words"]);
        table.row(["a\u{1b}[2Jb\nc".to_owned()]);
        assert_eq!(table.render(page(80)), "words\na [2Jb c\n");
    }

    #[test]
    fn colour_is_for_terminals_that_did_not_say_no() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        assert!(Page::of(true, &env(&[]), Some(80)).is_coloured);
        assert!(!Page::of(false, &env(&[]), None).is_coloured);
        assert!(!Page::of(true, &env(&[("NO_COLOR", "1")]), Some(80)).is_coloured);
        assert!(Page::of(true, &env(&[("NO_COLOR", "")]), Some(80)).is_coloured, "an empty NO_COLOR says nothing");
        assert!(!Page::of(true, &env(&[("TERM", "dumb")]), Some(80)).is_coloured);
        assert_eq!(Page::of(false, &env(&[("COLUMNS", "72")]), None).width, Some(72));
        assert_eq!(Page::of(false, &env(&[]), None).width, None);
        assert_eq!(Page::of(true, &env(&[]), Some(3)).width, Some(TERMINAL_MIN));
    }
}
