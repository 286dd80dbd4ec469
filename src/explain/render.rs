//! Explanations as lines for a terminal.

use std::fmt::Write;

use super::words::{grouped, to_the_second, wrapped};
use super::{Answer, Given, Help, Overview, Story, Stranger, Verdict, Who};
use crate::store::view::{AttemptView, DeliveryView, EventView, LinkView};

/// Longest line, in characters; ids and verbatim words may be longer.
const CHARACTERS_MAX: usize = 100;

/// Causes that `status` shows; the others are counted.
const CAUSES_SHOWN_MAX: usize = 4;

/// Events that `explain` shows, the newest; `--json` has more.
const EVENTS_SHOWN_MAX: usize = 10;

/// Whether colours are used; whoever prints takes them out again where they do not belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Text alone.
    Plain,
    /// With the escapes of a terminal.
    Coloured,
}

impl Paint {
    fn styled(self, style: anstyle::Style, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => format!("{style}{text}{style:#}"),
        }
    }

    fn bold(self, text: &str) -> String {
        self.styled(anstyle::Style::new().bold(), text)
    }

    fn faint(self, text: &str) -> String {
        self.styled(anstyle::Style::new().dimmed(), text)
    }

    fn coloured(self, colour: anstyle::AnsiColor, text: &str) -> String {
        self.styled(colour.on_default(), text)
    }

    fn verdict(self, verdict: Verdict, text: &str) -> String {
        match verdict {
            Verdict::There => self.coloured(anstyle::AnsiColor::Green, text),
            Verdict::ThereButOlder | Verdict::Perhaps => self.coloured(anstyle::AnsiColor::Yellow, text),
            Verdict::NotThere => self.coloured(anstyle::AnsiColor::Red, text),
        }
    }
}

/// A text in lines of its own, the first after a label.
fn paragraph(out: &mut String, indent: usize, label: &str, text: &str, paint: impl Fn(&str) -> String) {
    let hang = indent + label.chars().count();
    for (number, line) in wrapped(text, CHARACTERS_MAX.saturating_sub(hang)).iter().enumerate() {
        let before = if number == 0 { format!("{}{label}", " ".repeat(indent)) } else { " ".repeat(hang) };
        let _infallible = writeln!(out, "{before}{}", paint(line));
    }
}

fn plain(text: &str) -> String {
    text.to_owned()
}

/// A learner's story.
#[must_use]
pub fn render_story(story: &Story, given: &Given, paint: Paint) -> String {
    let mut out = String::new();
    let title =
        format!("{}, learner {} of portal {}, {} in the LMS", story.name, story.lms_id, story.portal, story.state);
    paragraph(&mut out, 0, "", &title, |line| paint.bold(line));
    paragraph(&mut out, 0, "", &format!("All times are those of {}.", given.zone), plain);
    for words in &story.about {
        paragraph(&mut out, 0, "", words, plain);
    }
    for record in &story.records {
        out.push('\n');
        paragraph(&mut out, 0, "", &record.headline, |line| paint.bold(line));
        paragraph(&mut out, 2, "", &record.origin, plain);
        for answer in &record.answers {
            render_answer(&mut out, answer, given, paint);
        }
    }
    render_learner_evidence(&mut out, story, given, paint);
    out
}

fn render_answer(out: &mut String, answer: &Answer, given: &Given, paint: Paint) {
    paragraph(out, 2, "", &answer.headline, |line| paint.verdict(answer.verdict, line));
    paragraph(out, 4, "Why    ", &answer.because, plain);
    paragraph(out, 4, "Next   ", &answer.next, plain);
    paragraph(out, 4, "Help   ", &help(&answer.help), plain);
    let Some(delivery) = &answer.evidence else { return };
    let faint = |line: &str| paint.faint(line);
    paragraph(out, 4, "Proof  ", &summary(delivery, given), faint);
    for attempt in &delivery.attempts {
        paragraph(out, 11, "", &attempt_line(attempt, given), faint);
    }
}

/// Who helps, and how.
fn help(help: &Help) -> String {
    match help.who {
        Who::Nobody if help.what.is_empty() => format!("{}.", help.who.as_str()),
        Who::Nobody => help.what.clone(),
        Who::Hr | Who::LmsAdministrator | Who::Administrator => format!("{}: {}", help.who.as_str(), help.what),
    }
}

fn summary(delivery: &DeliveryView, given: &Given) -> String {
    let mut words = format!("route {}, slot {}, {}", delivery.route, delivery.slot, delivery.state);
    if let Some(cause) = &delivery.cause {
        words += &format!(" for {cause}");
    }
    words += &format!(", wanted since {}", to_the_second(delivery.wanted_at, given.zone));
    if let (Some(row), Some(person)) = (&delivery.held_row, &delivery.held_person) {
        words += &format!(", row {row} of person {person}");
    }
    if let Some(mapping) = &delivery.mapping {
        words += &format!(", mapping {}", mapping.chars().take(12).collect::<String>());
    }
    words
}

fn attempt_line(attempt: &AttemptView, given: &Given) -> String {
    let status = attempt.status.map(|status| format!(" HTTP {status}")).unwrap_or_default();
    let words = attempt.words.as_deref().map(|words| format!(" \"{words}\"")).unwrap_or_default();
    format!(
        "try {} at {}, epoch {}: {} {}{status}{words}",
        attempt.number,
        to_the_second(attempt.started_at, given.zone),
        attempt.epoch,
        attempt.action,
        attempt.outcome
    )
}

fn render_learner_evidence(out: &mut String, story: &Story, given: &Given, paint: Paint) {
    if story.events.is_empty() && story.links.is_empty() {
        return;
    }
    out.push('\n');
    let faint = |line: &str| paint.faint(line);
    let hidden = story.events.len().saturating_sub(EVENTS_SHOWN_MAX);
    if hidden > 0 {
        paragraph(out, 0, "", &format!("{hidden} older webhooks are in --json"), faint);
    }
    for event in story.events.iter().skip(hidden) {
        paragraph(out, 0, "", &event_line(event, given), faint);
    }
    for link in &story.links {
        paragraph(out, 0, "", &link_line(link, given), faint);
    }
}

fn event_line(event: &EventView, given: &Given) -> String {
    let oddity = event.oddity.as_deref().map(|words| format!(" ({words})")).unwrap_or_default();
    let at = to_the_second(event.received_at, given.zone);
    format!("webhook {} at {at}: {} -> {}{oddity}", event.id, event.name, event.disposition)
}

fn link_line(link: &LinkView, given: &Given) -> String {
    let at = to_the_second(link.checked_at, given.zone);
    let who = link.person.as_deref().map(|person| format!(" to person {person}")).unwrap_or_default();
    let rule = link.rule.as_deref().map(|rule| format!(" by {rule}")).unwrap_or_default();
    let several = if link.candidates.is_empty() { String::new() } else { format!(": {}", link.candidates.join(", ")) };
    format!("in {}: {}{who}{rule}{several}, looked up at {at}", link.destination, link.state)
}

/// What is said when the ledger has no answer.
#[must_use]
pub fn render_stranger(stranger: &Stranger, given: &Given, paint: Paint) -> String {
    let mut out = String::new();
    paragraph(&mut out, 0, "", &stranger.headline, |line| paint.verdict(Verdict::NotThere, line));
    paragraph(&mut out, 2, "Why    ", &stranger.because, plain);
    for (number, words) in stranger.lms.iter().enumerate() {
        paragraph(&mut out, 2, if number == 0 { "LMS    " } else { "       " }, words, plain);
    }
    paragraph(&mut out, 2, "Next   ", &stranger.next, plain);
    paragraph(&mut out, 2, "Help   ", &help(&stranger.help), plain);
    paragraph(&mut out, 2, "", &format!("All times are those of {}.", given.zone), plain);
    out
}

/// An installation's state.
#[must_use]
pub fn render_overview(overview: &Overview, given: &Given, paint: Paint) -> String {
    let mut out = String::new();
    let width = 11;
    let mut show = |lines: &[super::overview::Line], width: usize| {
        for line in lines {
            let is_well = line.help.is_none();
            let subject = format!("{:width$} ", line.subject);
            let colour = |text: &str| match is_well {
                true => plain(text),
                false => paint.coloured(anstyle::AnsiColor::Red, text),
            };
            paragraph(&mut out, 0, &subject, &line.words, colour);
            if let Some(todo) = &line.help {
                paragraph(&mut out, width + 1, "-> ", &format!("{}: {}", todo.who.in_short(), todo.what), |text| {
                    paint.bold(text)
                });
            }
        }
        out.push('\n');
    };
    show(&overview.lines, width);
    let widest = overview.destinations.iter().map(|line| line.subject.chars().count()).max().unwrap_or(0);
    show(&overview.destinations, widest.max(width));
    for wait in overview.waits.iter().take(CAUSES_SHOWN_MAX) {
        let count = format!("{:>width$} ", grouped(wait.count));
        let words = format!("{} ({}), the oldest since {}", wait.why, wait.destinations.join(", "), wait.since);
        paragraph(&mut out, 0, &count, &words, plain);
        let command =
            wait.learner.as_deref().map(|learner| format!(": learnsync explain {learner}")).unwrap_or_default();
        let todo = match wait.help.who {
            Who::Nobody => format!("nobody needs to act{command}"),
            Who::Hr | Who::LmsAdministrator | Who::Administrator => {
                format!("{}: {}{command}", wait.help.who.in_short(), wait.help.what)
            }
        };
        paragraph(&mut out, width + 1, "-> ", &todo, |text| paint.bold(text));
    }
    if overview.waits.len() > CAUSES_SHOWN_MAX {
        let more = &overview.waits[CAUSES_SHOWN_MAX..];
        let count: i64 = more.iter().map(|wait| wait.count).sum();
        let _infallible =
            writeln!(out, "{:>width$} for {} more causes, which --json lists", grouped(count), more.len());
    }
    let last = match overview.needs_a_person {
        true => paint.coloured(anstyle::AnsiColor::Red, "Something needs a person: see the arrows."),
        false => paint.coloured(anstyle::AnsiColor::Green, "Nothing needs a person."),
    };
    let _infallible = writeln!(out, "{last}  (All times are those of {}.)", given.zone);
    out
}
