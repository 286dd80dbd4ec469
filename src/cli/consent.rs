//! Asks before something that cannot be undone, or that is a lot: on a terminal; elsewhere `--yes` must say it beforehand.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, anyhow};

use super::Failure;

/// Says what would happen, and goes on only with consent.
pub(super) fn ask(what: &str, is_given: bool) -> Result<(), Failure> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    // The question goes to standard error: standard output may be read by a program.
    ask_on(what, is_given, is_terminal.then(|| std::io::stdin().lock()), &mut std::io::stderr())
}

fn ask_on(what: &str, is_given: bool, terminal: Option<impl BufRead>, out: &mut impl Write) -> Result<(), Failure> {
    let said = |result: std::io::Result<()>| result.context("write to the terminal");
    said(writeln!(out, "{what}"))?;
    if is_given {
        return Ok(());
    }
    let Some(mut terminal) = terminal else {
        return Err(Failure::Configuration(
            "nobody can be asked, since this is no terminal: say --yes if that is what you want".to_owned(),
        ));
    };
    said(write!(out, "go on? [y/N] ").and_then(|()| out.flush()))?;
    let mut answer = String::new();
    terminal.read_line(&mut answer).context("read the answer")?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(anyhow!("nothing was done").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(is_given: bool, terminal: Option<&str>) -> (bool, String) {
        let mut out = Vec::new();
        let result = ask_on("12 deliveries are tried again", is_given, terminal.map(str::as_bytes), &mut out);
        (result.is_ok(), String::from_utf8(out).expect("is text"))
    }

    #[test]
    fn only_a_yes_is_a_yes_and_the_count_is_always_said_first() {
        for (is_given, terminal, expected) in [
            (true, None, true),
            (false, None, false),
            (false, Some("y\n"), true),
            (false, Some("Yes\n"), true),
            (false, Some("\n"), false),
            (false, Some(""), false),
            (false, Some("why\n"), false),
        ] {
            let (is_ok, said) = answered(is_given, terminal);
            assert_eq!(is_ok, expected, "{is_given} {terminal:?}");
            assert!(said.starts_with("12 deliveries are tried again\n"), "{said}");
        }
    }
}
