//! `learnsync explain`: where a learner's records are, and why.

use anyhow::{Context, anyhow};
use clap::Args;

use super::{Failure, WithConfig, print_json};
use crate::config;
use crate::domain::delivery::Cause;
use crate::store::view::{DeliveryView, LearnerView, RecordView, View};

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    with: WithConfig,
    /// An LMS id, an external id, an e-mail address, or a full name.
    learner: String,
    /// Only records whose course or title contains this.
    #[arg(long)]
    course: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = config::load(&options.with.config)?;
    let mut view = View::open(&config.store.path).context("look into the store")?;
    let mut found = view.explain(&options.learner).context("read the store")?;
    if found.is_empty() {
        let text = &options.learner;
        return Err(anyhow!(
            "nobody is known by \"{text}\": no event named them and no sweep has read them; \
             try the LMS id, the external id, the e-mail address or the full name"
        )
        .into());
    }
    if let Some(course) = &options.course {
        let course = course.to_lowercase();
        for learner in &mut found {
            learner.records.retain(|record| is_about(record, &course));
        }
    }
    if options.json {
        return print_json(&found);
    }
    for learner in &found {
        print!("{}", story(learner));
    }
    Ok(())
}

fn is_about(record: &RecordView, course: &str) -> bool {
    let name = record.facts.course.as_ref().map(|course| course.name.to_lowercase()).unwrap_or_default();
    name.contains(course) || record.facts.title.to_lowercase().contains(course)
}

/// A learner's story in plain lines.
pub(super) fn story(learner: &LearnerView) -> String {
    let mut lines = Vec::new();
    let name = learner.learner.as_ref().map_or_else(
        || "erased".to_owned(),
        |person| {
            format!("{} {}", person.first_name.as_deref().unwrap_or("?"), person.last_name.as_deref().unwrap_or("?"))
        },
    );
    lines.push(format!("{name}, learner {} of portal {} ({})", learner.lms_id, learner.portal, learner.state));
    if let Some(at) = learner.read_at {
        lines.push(format!("  read from the LMS at {at}"));
    }
    if let Some((at, lane)) = &learner.next_read {
        lines.push(format!("  will be read again at {at} ({lane})"));
    }
    for link in &learner.links {
        let who = link.person.as_deref().unwrap_or("nobody");
        let rule = link.rule.as_deref().map(|rule| format!(" by {rule}")).unwrap_or_default();
        lines.push(format!("  in {}: {} {who}{rule}, looked up at {}", link.destination, link.state, link.checked_at));
    }
    for event in &learner.events {
        let oddity = event.oddity.as_deref().map(|words| format!(" ({words})")).unwrap_or_default();
        lines.push(format!(
            "  event {} at {}: {} -> {}{oddity}",
            event.id, event.received_at, event.name, event.disposition
        ));
    }
    for record in &learner.records {
        let achieved = record.facts.achieved.map_or_else(|| "without a date".to_owned(), |at| format!("achieved {at}"));
        lines.push(format!("  {} \"{}\", {achieved}, {} in the LMS", record.key, record.facts.title, record.state));
        for delivery in &record.deliveries {
            lines.extend(delivery_lines(delivery));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn delivery_lines(delivery: &DeliveryView) -> Vec<String> {
    let mut lines = vec![format!("    -> {} / {}: {}", delivery.destination, delivery.route, delivery.state)];
    if let (Some(row), Some(at)) = (&delivery.held_row, delivery.held_at) {
        let words = delivery.receipt.as_deref().unwrap_or_default();
        let status = delivery.receipt_status.map(|status| format!(", HTTP {status}")).unwrap_or_default();
        lines.push(format!("       row {row} since {at}: \"{words}\"{status}"));
    }
    if let Some(cause) = &delivery.cause {
        let detail = delivery.cause_detail.as_deref().unwrap_or_default();
        lines.push(format!("       because {cause}: {detail}"));
        lines.push(format!("       what helps: {}", Cause::advice(cause)));
    }
    if let Some(at) = delivery.due_at {
        lines.push(format!("       next try at {at}"));
    }
    for attempt in &delivery.attempts {
        let status = attempt.status.map(|status| format!(" HTTP {status}")).unwrap_or_default();
        let words = attempt.words.as_deref().unwrap_or_default();
        lines.push(format!(
            "       attempt {} at {} (epoch {}): {} {}{status} \"{words}\"",
            attempt.number, attempt.started_at, attempt.epoch, attempt.action, attempt.outcome
        ));
    }
    lines
}
