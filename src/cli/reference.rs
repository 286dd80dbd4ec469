//! `learnsync reference`: all settings, limits and connectors, as the program itself knows them.

use super::Failure;
use crate::pipeline::{breaker, retry};

pub(super) fn run() -> Result<(), Failure> {
    println!("{}", crate::config::reference_page());
    println!("## Connectors\n");
    for kind in crate::connectors::all() {
        let about = kind.describe();
        println!("### {}\n\n{} ({})\n", about.name, about.summary.trim_end_matches('.'), about.documentation);
        for setting in about.settings {
            println!("- `{}`: {}", setting.name, setting.doc);
        }
        println!("\nRoutes of a destination that configures none:\n");
        for route in &about.default_routes {
            println!("- `{}`: {} -> `{}`", route.name, route.record, route.object);
            for line in &route.fields {
                println!("  - `{}` <- {} `{}`", line.field, line.source.0, line.source.1);
            }
        }
        println!();
    }
    println!("## Retry\n");
    println!(
        "- unavailable: {} s x 2^n with full jitter, at most {} min, for ever",
        retry::FIRST_MS / 1_000,
        retry::CAP_MS / 60_000
    );
    println!(
        "- circuit: {} failures in a row of at least {} people open it; one probe every {} s",
        breaker::FAILURES_MAX,
        breaker::PERSONS_MIN,
        breaker::PROBE_MS / 1_000
    );
    println!("- poison: {} failures of one delivery while others succeed park it", retry::POISON_TRIES);
    println!("- unauthorized: the destination pauses, one probe every {} min", retry::UNAUTHORIZED_PROBE_MS / 60_000);
    println!("- throttled: as long as the target says, in full; {} s if it does not say", retry::THROTTLED_MS / 1_000);
    let waits: Vec<String> = crate::domain::promise::REREADS_MS.iter().map(|ms| format!("{} s", ms / 1_000)).collect();
    println!("- reads again for an event's promise: after {}", waits.join(", "));
    Ok(())
}
