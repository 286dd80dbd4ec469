//! What the daemon says about itself: log lines on stderr, and metrics for a scraper.

use std::fmt;
use std::io::IsTerminal;

use clap::ValueEnum;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The environment variable that says what is logged, for example `info,learnsync::pipeline=debug`.
pub const LOG_VARIABLE: &str = "LEARNSYNC_LOG";

/// What is logged when `LEARNSYNC_LOG` is unset or empty.
// The scheduler tells of its own insides at info; they mean nothing to an operator.
pub const LOG_DEFAULT: &str = "info,tokio_cron_scheduler=warn";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line; the fields stand beside `timestamp`, `level`, `target` and `message`.
    Json,
}

/// Why logging could not be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryError {
    /// `LEARNSYNC_LOG` cannot be read.
    #[error("LEARNSYNC_LOG is \"{value}\": {reason}; write for example \"info\" or \"info,learnsync::pipeline=debug\"")]
    Filter {
        /// The variable's value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something in this process logs already.
    #[error("logging is set up already: call telemetry::init once, from the command line")]
    AlreadySet,
}

/// Starts logging to stderr, for the whole process; `LEARNSYNC_LOG` chooses what is logged.
///
/// # Errors
/// `LEARNSYNC_LOG` is not a filter, or `init` was called before.
pub fn init(format: LogFormat) -> Result<(), TelemetryError> {
    let filter = filter(std::env::var(LOG_VARIABLE).ok().as_deref())?;
    let colour = std::io::stderr().is_terminal();
    tracing::subscriber::set_global_default(subscriber(format, filter, colour, std::io::stderr))
        .map_err(|_| TelemetryError::AlreadySet)
}

fn filter(value: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    let value = value.map(str::trim).filter(|value| !value.is_empty()).unwrap_or(LOG_DEFAULT);
    EnvFilter::try_new(value)
        .map_err(|error| TelemetryError::Filter { value: value.to_owned(), reason: error.to_string() })
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, colour: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => Box::new(lines.with_ansi(colour).finish()),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).finish()),
    }
}

/// The media type of [`Metrics::render`]: the OpenMetrics text format, which Prometheus reads.
pub const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What stands before every metric name.
pub const PREFIX: &str = "learnsync";
/// Counter: webhook requests answered, by `portal` and `outcome`; shown as `learnsync_hooks_received_total`.
pub const HOOKS_RECEIVED: &str = "hooks_received";
/// Counter: events taken from the inbox, by `disposition`; shown as `learnsync_events_taken_total`.
pub const EVENTS_TAKEN: &str = "events_taken";
/// Counter: re-reads of a subject that ended, by `outcome`; shown as `learnsync_refreshes_total`.
pub const REFRESHES: &str = "refreshes";
/// Counter: attempts at a delivery, by `destination` and `outcome`; shown as `learnsync_deliveries_total`.
pub const DELIVERIES: &str = "deliveries";
/// Counter: calls of the LMS, by `portal` and `outcome`; shown as `learnsync_lms_calls_total`.
pub const LMS_CALLS: &str = "lms_calls";
/// Gauge: deliveries that differ from what their target holds and are not parked, by `destination`; a count.
pub const DELIVERIES_WAITING: &str = "deliveries_waiting";
/// Gauge: events on disk that intake has not taken yet; a count.
pub const INBOX_BACKLOG: &str = "inbox_backlog";

/// The portal of a request whose token belongs to none.
// What a stranger sends never becomes a label: it would let him grow our memory.
pub const PORTAL_UNKNOWN: &str = "unknown";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortalOutcome {
    portal: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Disposition {
    disposition: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationOutcome {
    destination: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Destination {
    destination: String,
}

/// The metrics of one daemon: a value, handed in through `Arc`; nothing about it is global.
///
/// Labels are names from the configuration and words of our code (`&'static str`), never ids, people or what a stranger sent:
/// so their number is bounded. Counters start at 0 with each start of the daemon.
pub struct Metrics {
    registry: Registry,
    hooks_received: Family<PortalOutcome, Counter>,
    events_taken: Family<Disposition, Counter>,
    refreshes: Family<Outcome, Counter>,
    deliveries: Family<DestinationOutcome, Counter>,
    lms_calls: Family<PortalOutcome, Counter>,
    deliveries_waiting: Family<Destination, Gauge>,
    inbox_backlog: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Metrics")
    }
}

impl Metrics {
    /// All metrics at 0.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            hooks_received: Family::default(),
            events_taken: Family::default(),
            refreshes: Family::default(),
            deliveries: Family::default(),
            lms_calls: Family::default(),
            deliveries_waiting: Family::default(),
            inbox_backlog: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    // The library adds the full stop to each sentence, and `_total` to each counter.
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(HOOKS_RECEIVED, "Webhook requests answered", self.hooks_received.clone());
        registry.register(EVENTS_TAKEN, "Events taken from the inbox", self.events_taken.clone());
        registry.register(REFRESHES, "Re-reads of a subject that ended", self.refreshes.clone());
        registry.register(DELIVERIES, "Attempts at a delivery", self.deliveries.clone());
        registry.register(LMS_CALLS, "Calls of the LMS", self.lms_calls.clone());
        let waiting = "Deliveries that differ from what their target holds and are not parked";
        registry.register(DELIVERIES_WAITING, waiting, self.deliveries_waiting.clone());
        registry.register(INBOX_BACKLOG, "Events on disk that intake has not taken yet", self.inbox_backlog.clone());
    }

    /// Counts one webhook request; `portal` is a configured name, or [`PORTAL_UNKNOWN`].
    pub fn hook_received(&self, portal: &str, outcome: &'static str) {
        self.hooks_received.get_or_create(&PortalOutcome { portal: portal.to_owned(), outcome }).inc();
    }

    /// Counts one event that intake took.
    pub fn event_taken(&self, disposition: &'static str) {
        self.events_taken.get_or_create(&Disposition { disposition }).inc();
    }

    /// Counts one re-read of a subject.
    pub fn refresh_ended(&self, outcome: &'static str) {
        self.refreshes.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts one attempt at a delivery.
    pub fn delivery_attempted(&self, destination: &str, outcome: &'static str) {
        self.deliveries.get_or_create(&DestinationOutcome { destination: destination.to_owned(), outcome }).inc();
    }

    /// Counts one call of the LMS.
    pub fn lms_called(&self, portal: &str, outcome: &'static str) {
        self.lms_calls.get_or_create(&PortalOutcome { portal: portal.to_owned(), outcome }).inc();
    }

    /// Says how many deliveries of a destination wait now.
    pub fn set_deliveries_waiting(&self, destination: &str, count: u64) {
        let labels = Destination { destination: destination.to_owned() };
        self.deliveries_waiting.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Says how many events wait for intake now.
    pub fn set_inbox_backlog(&self, count: u64) {
        self.inbox_backlog.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// All metrics as text, of the type [`METRICS_TYPE`]. A metric with labels appears with its first value.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing into a String cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing::info;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no test panics while it logs").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: Option<&str>, body: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(format, filter(level).expect("a filter"), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, body);
        String::from_utf8(sink.0.lock().expect("no test panics while it logs").clone()).expect("log lines are UTF-8")
    }

    #[test]
    fn a_counter_is_rendered_with_its_prefix_its_labels_and_total() {
        let metrics = Metrics::new();
        metrics.hook_received("acme", "accepted");
        metrics.hook_received("acme", "accepted");
        metrics.hook_received(PORTAL_UNKNOWN, "refused");
        metrics.event_taken("fresh");
        metrics.refresh_ended("done");
        metrics.delivery_attempted("hr", "delivered");
        metrics.lms_called("acme", "ok");
        let text = metrics.render();
        for line in [
            "learnsync_hooks_received_total{portal=\"acme\",outcome=\"accepted\"} 2",
            "learnsync_hooks_received_total{portal=\"unknown\",outcome=\"refused\"} 1",
            "learnsync_events_taken_total{disposition=\"fresh\"} 1",
            "learnsync_refreshes_total{outcome=\"done\"} 1",
            "learnsync_deliveries_total{destination=\"hr\",outcome=\"delivered\"} 1",
            "learnsync_lms_calls_total{portal=\"acme\",outcome=\"ok\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "OpenMetrics asks for an end mark:\n{text}");
    }

    #[test]
    fn a_gauge_shows_the_last_value_that_was_said() {
        let metrics = Metrics::new();
        metrics.set_deliveries_waiting("hr", 12);
        metrics.set_deliveries_waiting("hr", 3);
        metrics.set_inbox_backlog(7);
        let text = metrics.render();
        assert!(text.contains("\nlearnsync_deliveries_waiting{destination=\"hr\"} 3\n"), "{text}");
        assert!(text.contains("\nlearnsync_inbox_backlog 7\n"), "{text}");
    }

    #[test]
    fn every_metric_explains_itself_as_soon_as_it_has_a_value() {
        let metrics = Metrics::new();
        metrics.hook_received("acme", "accepted");
        metrics.event_taken("fresh");
        metrics.refresh_ended("done");
        metrics.delivery_attempted("hr", "delivered");
        metrics.lms_called("acme", "ok");
        metrics.set_deliveries_waiting("hr", 1);
        let text = metrics.render();
        for name in [HOOKS_RECEIVED, EVENTS_TAKEN, REFRESHES, DELIVERIES, LMS_CALLS, DELIVERIES_WAITING, INBOX_BACKLOG]
        {
            assert!(text.contains(&format!("# HELP {PREFIX}_{name} ")), "{name} is missing in:\n{text}");
        }
    }

    #[test]
    fn two_daemons_in_one_process_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.set_inbox_backlog(5);
        assert!(other.render().contains("\nlearnsync_inbox_backlog 0\n"));
    }

    #[test]
    fn a_json_line_is_one_object_with_the_fields_beside_the_message_whatever_the_values_hold() {
        let text = logged(LogFormat::Json, None, || {
            info!(destination = "hr", record = "completion/812\n{\"forged\":1}\u{1b}[31m", "Delivered to {}", "hr");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).expect("a JSON object");
        assert_eq!(line["message"], "Delivered to hr");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["destination"], "hr");
        assert_eq!(line["record"], "completion/812\n{\"forged\":1}\u{1b}[31m");
    }

    #[test]
    fn a_text_line_carries_the_sentence_and_its_fields() {
        let text = logged(LogFormat::Text, None, || info!(epoch = 4, "Took over the store"));
        assert!(text.contains("INFO") && text.contains("Took over the store epoch=4"), "{text}");
    }

    #[test]
    fn without_the_variable_info_is_logged_and_debug_is_not() {
        for level in [None, Some(""), Some("  ")] {
            let text = logged(LogFormat::Text, level, || {
                info!("shown");
                tracing::debug!("hidden");
                info!(target: "tokio_cron_scheduler::job", "hidden");
            });
            assert!(text.contains("shown") && !text.contains("hidden"), "{level:?} logged:\n{text}");
        }
        let text = logged(LogFormat::Text, Some("debug"), || tracing::debug!("shown"));
        assert!(text.contains("shown"), "{text}");
    }

    #[test]
    fn a_wrong_filter_is_refused_with_its_value_and_an_example() {
        let error = filter(Some("info,learnsync=loud")).expect_err("loud is not a level").to_string();
        assert!(error.starts_with("LEARNSYNC_LOG is \"info,learnsync=loud\": "), "{error}");
        assert!(error.contains("learnsync::pipeline=debug"), "{error}");
    }
}
