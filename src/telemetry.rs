//! What the daemon says about itself: log lines on stderr, and metrics for a scraper.

use std::fmt;
use std::io::IsTerminal;
use std::os::linux::fs::MetadataExt;

use clap::ValueEnum;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tracing::Subscriber;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

/// The environment variable that says what is logged, for example `info,learnsync::pipeline=debug`.
pub const LOG_VARIABLE: &str = "LEARNSYNC_LOG";

/// The variable by which systemd says that a stream goes to journald: its device and inode.
/// See <https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#%24JOURNAL_STREAM>.
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

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

/// Starts logging for the whole process; `LEARNSYNC_LOG` chooses what is logged. Lines go to stderr; under systemd, text goes to journald
/// itself instead, so that fields can be asked for: `journalctl LEARNSYNC_DESTINATION=hr`.
///
/// # Errors
/// `LEARNSYNC_LOG` is not a filter, or `init` was called before.
pub fn init(format: LogFormat) -> Result<(), TelemetryError> {
    let filter = filter(std::env::var(LOG_VARIABLE).ok().as_deref())?;
    let colour = std::io::stderr().is_terminal();
    let stream = std::env::var(JOURNAL_VARIABLE).ok();
    if format == LogFormat::Text
        && leads_to_journal(stream.as_deref(), std::fs::metadata("/proc/self/fd/2").ok().as_ref())
        // Without journald's own socket its stream on stderr still takes lines.
        && let Ok(journal) = tracing_journald::layer()
    {
        let subscriber = tracing_subscriber::registry().with(filter).with(journal_layer(journal));
        return tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::AlreadySet);
    }
    tracing::subscriber::set_global_default(subscriber(format, filter, colour, std::io::stderr))
        .map_err(|_| TelemetryError::AlreadySet)
}

/// Whether stderr is the stream that systemd connected with journald: the variable is inherited, and may speak of somebody else's stderr.
fn leads_to_journal(stream: Option<&str>, stderr: Option<&std::fs::Metadata>) -> bool {
    let named = stream.and_then(|text| text.split_once(':'));
    let ours = stderr.map(|file| (file.st_dev().to_string(), file.st_ino().to_string()));
    named.zip(ours).is_some_and(|((device, inode), ours)| device == ours.0 && inode == ours.1)
}

/// Fields get a prefix of ours, because some of their names are journald's own; levels are those that `journalctl -p` means.
fn journal_layer(layer: tracing_journald::Layer) -> tracing_journald::Layer {
    layer
        .with_field_prefix(Some("LEARNSYNC".to_owned()))
        .with_syslog_identifier(PREFIX.to_owned())
        .with_priority_mappings(PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        })
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

/// One metric, as it is registered and as the reference page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its name on the page, whole.
    pub name: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it counts, and in which unit, without a full stop.
    pub help: &'static str,
}

const HOOKS_RECEIVED: About = About {
    name: "learnsync_hooks_received_total",
    labels: &["portal", "outcome"],
    help: "Webhook requests answered: accepted, full, unavailable, overloaded, refused; the portal of a stranger is unknown",
};
const EVENTS_TAKEN: About = About {
    name: "learnsync_events_taken_total",
    labels: &["disposition"],
    help: "Events taken from the inbox, by what became of them",
};
const REFRESHES: About =
    About { name: "learnsync_refreshes_total", labels: &["outcome"], help: "Reads of a learner that ended" };
const DELIVERIES: About = About {
    name: "learnsync_deliveries_total",
    labels: &["destination", "outcome"],
    help: "Attempts at a delivery that ended",
};
const LMS_CALLS: About = About {
    name: "learnsync_lms_calls_total",
    labels: &["portal", "lane", "outcome"],
    help: "Requests to the LMS by whom they were for (live, retry, sweep, backfill): ok, missing, unauthorized, throttled, refused, failed, unanswered",
};
const DELIVERIES_WAITING: About = About {
    name: "learnsync_deliveries_waiting",
    labels: &["destination", "state"],
    help: "Deliveries in the queue: pending, or uncertain whether the target has it",
};
const DELIVERIES_WITH_CAUSE: About = About {
    name: "learnsync_deliveries_with_cause",
    labels: &["destination", "cause"],
    help: "Deliveries that are set aside, by cause",
};
const DESTINATION_PAUSED: About = About {
    name: "learnsync_destination_paused",
    labels: &["destination"],
    help: "1 while nothing is written to the destination, else 0",
};
const INBOX_BACKLOG: About =
    About { name: "learnsync_inbox_backlog", labels: &[], help: "Events on disk that are not taken yet" };
const SWEEP_AGE: About = About {
    name: "learnsync_sweep_age_seconds",
    labels: &["portal"],
    help: "Time since the newest finished sweep began, in seconds; absent before the first",
};
const LOGIN_LEFT: About = About {
    name: "learnsync_oauth_login_seconds_left",
    labels: &["portal"],
    help: "Time until the portal's login by OAuth ends, in seconds; absent where the portal has a password",
};
const WEBHOOKS_SILENT: About = About {
    name: "learnsync_webhooks_silent",
    labels: &["portal"],
    help: "1 while no webhook comes although some should by the portal's weekly rhythm, else 0; absent before two weeks are known",
};
const RECORDS_FOUND: About = About {
    name: "learnsync_records_found",
    labels: &["portal", "announced"],
    help: "Records of the last 7 days that a webhook should have announced, by whether one did: yes, no",
};
const STEPS_LATE: About = About {
    name: "learnsync_steps_late",
    labels: &[],
    help: "Steps of the pipeline without any progress for too long; above 0 the daemon is not ready",
};

/// All metrics, in the order of the page.
pub static METRICS: [About; 14] = [
    HOOKS_RECEIVED,
    EVENTS_TAKEN,
    REFRESHES,
    DELIVERIES,
    LMS_CALLS,
    DELIVERIES_WAITING,
    DELIVERIES_WITH_CAUSE,
    DESTINATION_PAUSED,
    INBOX_BACKLOG,
    SWEEP_AGE,
    LOGIN_LEFT,
    WEBHOOKS_SILENT,
    RECORDS_FOUND,
    STEPS_LATE,
];

impl About {
    /// The name as it is registered: the library adds the prefix, and `_total` to each counter.
    fn registered(&self) -> &'static str {
        let name = self.name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('_')).unwrap_or(self.name);
        name.strip_suffix("_total").unwrap_or(name)
    }

    fn enter(&self, registry: &mut Registry, metric: &(impl prometheus_client::registry::Metric + Clone)) {
        registry.register(self.registered(), self.help, metric.clone());
    }

    /// `counter` or `gauge`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        if self.name.ends_with("_total") { "counter" } else { "gauge" }
    }
}

/// The metrics as a table in Markdown.
#[must_use]
pub fn metrics_table() -> String {
    let mut page = String::from("| metric | type | labels | what it says |\n|---|---|---|---|\n");
    for about in &METRICS {
        let labels = about.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        page.push_str(&format!("| `{}` | {} | {labels} | {}. |\n", about.name, about.kind(), about.help));
    }
    page
}

/// The portal of a request whose token belongs to none.
// What a stranger sends never becomes a label: it would let him grow our memory.
pub const PORTAL_UNKNOWN: &str = "unknown";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortalOutcome {
    portal: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortalCall {
    portal: String,
    lane: &'static str,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationState {
    destination: String,
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DestinationCause {
    destination: String,
    cause: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Portal {
    portal: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortalFound {
    portal: String,
    announced: &'static str,
}

/// What the ledger says when it is asked, for the gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Events that intake has not taken yet.
    pub inbox_backlog: u64,
    /// The destinations that are configured.
    pub destinations: Vec<DestinationGauges>,
    /// Seconds since the newest finished sweep began, by portal; those without any are left out.
    pub sweep_age_seconds: Vec<(String, u64)>,
    /// Seconds until the login by OAuth ends, by portal; those without one are left out.
    pub login_seconds_left: Vec<(String, u64)>,
    /// What is known of webhooks, by portal.
    pub webhooks: Vec<WebhookGauges>,
}

/// One portal's webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookGauges {
    /// The portal's name.
    pub portal: String,
    /// Whether it is unusual that none comes; none while their rhythm is not known.
    pub is_silent: Option<bool>,
    /// Records that one announced.
    pub announced: u64,
    /// Records that none did.
    pub missed: u64,
}

/// One destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationGauges {
    /// Its name.
    pub name: String,
    /// Whether it is paused.
    pub is_paused: bool,
    /// Deliveries in the queue, by state.
    pub waiting: Vec<(String, u64)>,
    /// Deliveries that are set aside, by the kind of their cause.
    pub causes: Vec<(String, u64)>,
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
    lms_calls: Family<PortalCall, Counter>,
    deliveries_waiting: Family<DestinationState, Gauge>,
    deliveries_with_cause: Family<DestinationCause, Gauge>,
    destination_paused: Family<Destination, Gauge>,
    inbox_backlog: Gauge,
    sweep_age_seconds: Family<Portal, Gauge>,
    login_seconds_left: Family<Portal, Gauge>,
    webhooks_silent: Family<Portal, Gauge>,
    records_found: Family<PortalFound, Gauge>,
    steps_late: Gauge,
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
            deliveries_with_cause: Family::default(),
            destination_paused: Family::default(),
            inbox_backlog: Gauge::default(),
            sweep_age_seconds: Family::default(),
            login_seconds_left: Family::default(),
            webhooks_silent: Family::default(),
            records_found: Family::default(),
            steps_late: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    // The library adds the full stop to each sentence.
    fn register(&mut self) {
        let registry = &mut self.registry;
        HOOKS_RECEIVED.enter(registry, &self.hooks_received);
        EVENTS_TAKEN.enter(registry, &self.events_taken);
        REFRESHES.enter(registry, &self.refreshes);
        DELIVERIES.enter(registry, &self.deliveries);
        LMS_CALLS.enter(registry, &self.lms_calls);
        DELIVERIES_WAITING.enter(registry, &self.deliveries_waiting);
        DELIVERIES_WITH_CAUSE.enter(registry, &self.deliveries_with_cause);
        DESTINATION_PAUSED.enter(registry, &self.destination_paused);
        INBOX_BACKLOG.enter(registry, &self.inbox_backlog);
        SWEEP_AGE.enter(registry, &self.sweep_age_seconds);
        LOGIN_LEFT.enter(registry, &self.login_seconds_left);
        WEBHOOKS_SILENT.enter(registry, &self.webhooks_silent);
        RECORDS_FOUND.enter(registry, &self.records_found);
        STEPS_LATE.enter(registry, &self.steps_late);
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
    pub fn lms_called(&self, portal: &str, lane: &'static str, outcome: &'static str) {
        self.lms_calls.get_or_create(&PortalCall { portal: portal.to_owned(), lane, outcome }).inc();
    }

    /// Takes over what the ledger says now; what it no longer names disappears.
    pub fn set_gauges(&self, gauges: &Gauges) {
        self.deliveries_waiting.clear();
        self.deliveries_with_cause.clear();
        self.destination_paused.clear();
        self.sweep_age_seconds.clear();
        self.login_seconds_left.clear();
        self.webhooks_silent.clear();
        self.records_found.clear();
        self.inbox_backlog.set(signed(gauges.inbox_backlog));
        for one in &gauges.destinations {
            let destination = one.name.clone();
            self.destination_paused
                .get_or_create(&Destination { destination: destination.clone() })
                .set(i64::from(one.is_paused));
            for (state, count) in &one.waiting {
                let labels = DestinationState { destination: destination.clone(), state: state.clone() };
                self.deliveries_waiting.get_or_create(&labels).set(signed(*count));
            }
            for (cause, count) in &one.causes {
                let labels = DestinationCause { destination: destination.clone(), cause: cause.clone() };
                self.deliveries_with_cause.get_or_create(&labels).set(signed(*count));
            }
        }
        for (portal, seconds) in &gauges.sweep_age_seconds {
            self.sweep_age_seconds.get_or_create(&Portal { portal: portal.clone() }).set(signed(*seconds));
        }
        for (portal, seconds) in &gauges.login_seconds_left {
            self.login_seconds_left.get_or_create(&Portal { portal: portal.clone() }).set(signed(*seconds));
        }
        for one in &gauges.webhooks {
            let portal = one.portal.clone();
            if let Some(is_silent) = one.is_silent {
                self.webhooks_silent.get_or_create(&Portal { portal: portal.clone() }).set(i64::from(is_silent));
            }
            for (announced, count) in [("yes", one.announced), ("no", one.missed)] {
                let labels = PortalFound { portal: portal.clone(), announced };
                self.records_found.get_or_create(&labels).set(signed(count));
            }
        }
    }

    /// Says how many steps are late now.
    pub fn set_steps_late(&self, count: usize) {
        self.steps_late.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// All metrics as text, of the type [`METRICS_TYPE`]. A metric with labels appears with its first value.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing into a String cannot fail");
        text
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
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
        metrics.lms_called("acme", "live", "ok");
        let text = metrics.render();
        for line in [
            "learnsync_hooks_received_total{portal=\"acme\",outcome=\"accepted\"} 2",
            "learnsync_hooks_received_total{portal=\"unknown\",outcome=\"refused\"} 1",
            "learnsync_events_taken_total{disposition=\"fresh\"} 1",
            "learnsync_refreshes_total{outcome=\"done\"} 1",
            "learnsync_deliveries_total{destination=\"hr\",outcome=\"delivered\"} 1",
            "learnsync_lms_calls_total{portal=\"acme\",lane=\"live\",outcome=\"ok\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "OpenMetrics asks for an end mark:\n{text}");
    }

    fn gauges() -> Gauges {
        Gauges {
            inbox_backlog: 7,
            destinations: vec![DestinationGauges {
                name: "hr".to_owned(),
                is_paused: true,
                waiting: vec![("pending".to_owned(), 3)],
                causes: vec![("unmapped".to_owned(), 12)],
            }],
            sweep_age_seconds: vec![("acme".to_owned(), 3_600)],
            login_seconds_left: vec![("acme".to_owned(), 86_400)],
            webhooks: vec![WebhookGauges {
                portal: "acme".to_owned(),
                is_silent: Some(true),
                announced: 2_101,
                missed: 12,
            }],
        }
    }

    #[test]
    fn gauges_show_what_the_ledger_said_last_and_forget_what_it_no_longer_names() {
        let metrics = Metrics::new();
        metrics.set_gauges(&gauges());
        let text = metrics.render();
        for line in [
            "learnsync_inbox_backlog 7",
            "learnsync_destination_paused{destination=\"hr\"} 1",
            "learnsync_deliveries_waiting{destination=\"hr\",state=\"pending\"} 3",
            "learnsync_deliveries_with_cause{destination=\"hr\",cause=\"unmapped\"} 12",
            "learnsync_sweep_age_seconds{portal=\"acme\"} 3600",
            "learnsync_oauth_login_seconds_left{portal=\"acme\"} 86400",
            "learnsync_webhooks_silent{portal=\"acme\"} 1",
            "learnsync_records_found{portal=\"acme\",announced=\"yes\"} 2101",
            "learnsync_records_found{portal=\"acme\",announced=\"no\"} 12",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
        metrics.set_gauges(&Gauges::default());
        let text = metrics.render();
        assert!(!text.contains("\"hr\"") && text.contains("\nlearnsync_inbox_backlog 0\n"), "{text}");
    }

    #[test]
    fn the_page_and_the_table_name_the_same_metrics_with_the_same_types_and_labels() {
        let metrics = Metrics::new();
        metrics.hook_received("acme", "accepted");
        metrics.event_taken("fresh");
        metrics.refresh_ended("done");
        metrics.delivery_attempted("hr", "delivered");
        metrics.lms_called("acme", "live", "ok");
        metrics.set_gauges(&gauges());
        metrics.set_steps_late(0);
        let text = metrics.render();
        let shown: Vec<&str> = text.lines().filter(|line| line.starts_with("# HELP ")).collect();
        assert_eq!(shown.len(), METRICS.len(), "{text}");
        for about in &METRICS {
            let registered = format!("{PREFIX}_{}", about.registered());
            assert!(text.contains(&format!("# HELP {registered} {}.\n", about.help)), "{} in:\n{text}", about.name);
            assert!(text.contains(&format!("# TYPE {registered} {}\n", about.kind())), "{} in:\n{text}", about.name);
            let sample = text.lines().find(|line| line.starts_with(about.name) && !line.starts_with('#'));
            let sample = sample.unwrap_or_else(|| panic!("{} has no value in:\n{text}", about.name));
            let labels: Vec<&str> = sample
                .split_once('{')
                .and_then(|(_, rest)| rest.split_once('}'))
                .map(|(labels, _)| labels.split(',').filter_map(|label| label.split('=').next()).collect())
                .unwrap_or_default();
            assert_eq!(labels, about.labels, "{sample}");
        }
    }

    #[test]
    fn two_daemons_in_one_process_count_apart() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.set_gauges(&gauges());
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
    fn only_the_very_stream_that_systemd_named_leads_to_the_journal() {
        let stderr = std::fs::metadata("/dev/null").expect("it is there");
        let name = format!("{}:{}", stderr.st_dev(), stderr.st_ino());
        assert!(leads_to_journal(Some(&name), Some(&stderr)));
        for other in [None, Some(""), Some("9:1"), Some("x")] {
            assert!(!leads_to_journal(other, Some(&stderr)), "{other:?}");
        }
        assert!(!leads_to_journal(Some(&name), None));
    }

    #[test]
    fn a_wrong_filter_is_refused_with_its_value_and_an_example() {
        let error = filter(Some("info,learnsync=loud")).expect_err("loud is not a level").to_string();
        assert!(error.starts_with("LEARNSYNC_LOG is \"info,learnsync=loud\": "), "{error}");
        assert!(error.contains("learnsync::pipeline=debug"), "{error}");
    }
}
