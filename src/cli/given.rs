//! What `explain` and `status` know beside the ledger: the hour, the configuration, and whether the daemon runs.

use std::path::Path;

use chrono_tz::Tz;
use learnsync_sdk::{AfterUnknown, RouteMode};

use super::Failure;
use crate::config::{Config, ConfigErrors, Files, History};
use crate::daemon::{BuiltDestination, control_socket, verdict};
use crate::domain::time::{Clock, SystemClock};
use crate::explain::{Configured, ConfiguredRoute, Given};
use crate::reconcile::schedule::Schedule;

/// Reads the configuration without its secrets: who asks is often not allowed to read them.
pub(super) fn given(path: &Path) -> Result<(Config, Given), Failure> {
    let verdict = verdict::without_secrets(&Files::read(path));
    let errors = verdict.errors.clone();
    let checked = verdict.runnable()?;
    let now = SystemClock.now();
    let schedule = Schedule::parse(&checked.config.reconcile.cron, checked.config.reconcile.zone);
    let mut destinations: Vec<Configured> =
        checked.parts.destinations.iter().map(|destination| configured(path, destination)).collect();
    destinations.extend(errors.destinations().iter().map(|name| wrong(path, name, &errors)));
    let given = Given {
        now,
        zone: checked.config.portals.values().next().map_or(Tz::UTC, |portal| portal.zone),
        next_night: schedule.ok().and_then(|schedule| schedule.next_after(now)),
        is_running: None,
        file: path.display().to_string(),
        destinations,
    };
    Ok((checked.config, given))
}

/// Whether the process that last opened the store still lives; none where that cannot be seen.
pub(super) fn is_running(config: &Config, pid: i64) -> Option<bool> {
    let processes = Path::new("/proc");
    // Some machines show everybody only their own processes.
    if !processes.join("1").exists() {
        return None;
    }
    // A daemon that stopped in order takes its socket away; one that was killed leaves it, and its process is gone.
    Some(control_socket(config).exists() && processes.join(pid.to_string()).exists())
}

fn file_of(path: &Path, name: &str) -> (String, bool) {
    let own = Files::destination_path(path, name);
    match own.exists() {
        true => (own.display().to_string(), true),
        false => (path.display().to_string(), false),
    }
}

fn configured(path: &Path, built: &BuiltDestination) -> Configured {
    let (file, has_own_file) = file_of(path, &built.name);
    let routes = built.routes.iter().map(|route| ConfiguredRoute {
        name: route.name.clone(),
        record: route.record,
        slot: route.slot,
        is_append: route.mode == RouteMode::Append,
    });
    Configured {
        name: built.name.clone(),
        connector: built.description.name.to_owned(),
        file,
        has_own_file,
        wrong: None,
        routes: routes.collect(),
        history: built.history,
        match_rules: built.match_rules.clone(),
        after_unknown: built.description.after_unknown(),
        is_shadow: built.is_shadow,
    }
}

fn wrong(path: &Path, name: &str, errors: &ConfigErrors) -> Configured {
    let (file, has_own_file) = file_of(path, name);
    let first = errors.of_destination(name).0.first().map(ToString::to_string);
    Configured {
        name: name.to_owned(),
        connector: String::new(),
        file,
        has_own_file,
        wrong: Some(first.unwrap_or_else(|| "see `learnsync check`".to_owned())),
        routes: Vec::new(),
        history: History::None,
        match_rules: Vec::new(),
        after_unknown: AfterUnknown::Look,
        is_shadow: false,
    }
}
