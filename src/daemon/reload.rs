//! A new configuration for a running daemon: taken over as a whole, or not at all.

use super::Checked;
use super::verdict::Verdict;
use crate::config::Config;

/// Decides whether a configuration takes the place of the one that runs.
///
/// # Errors
/// All reasons against it. A destination that runs is not switched off for a mistake; one that was switched off at the start may still be
/// wrong, the others need not wait for it.
pub(super) fn renewed(running: &Config, verdict: Verdict) -> Result<Checked, Vec<String>> {
    let in_the_way: Vec<String> = verdict
        .errors
        .0
        .iter()
        .filter(|error| error.destination.as_ref().is_none_or(|name| running.destinations.contains_key(name)))
        .map(ToString::to_string)
        .collect();
    if !in_the_way.is_empty() {
        return Err(in_the_way);
    }
    let checked = verdict.runnable().map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let fixed = fixed(running, &checked.config);
    if fixed.is_empty() { Ok(checked) } else { Err(fixed) }
}

/// What only a restart can change, because the lock or the port would have to be let go.
fn fixed(running: &Config, new: &Config) -> Vec<String> {
    let admin = |config: &Config| config.admin.listen.as_ref().map_or("the default".to_owned(), ToString::to_string);
    let settings = [
        ("installation", running.installation.clone(), new.installation.clone()),
        ("store.path", running.store.path.display().to_string(), new.store.path.display().to_string()),
        ("listen.address", running.listen.address.to_string(), new.listen.address.to_string()),
        ("admin.listen", admin(running), admin(new)),
    ];
    settings
        .into_iter()
        .filter(|(_, old, new)| old != new)
        .map(|(setting, old, new)| {
            format!("{setting} cannot change from {old} to {new} while the daemon runs: restart it")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Files;
    use crate::daemon::verdict::without_secrets;

    const GOOD: &str = include_str!("../../tests/fixtures/learnsync.toml");

    fn verdict(text: &str) -> Verdict {
        without_secrets(&Files::of_text(Path::new("learnsync.toml"), text))
    }

    fn renewed_by(text: &str) -> Result<usize, Vec<String>> {
        let running = verdict(GOOD).whole().unwrap_or_else(|errors| panic!("{errors}")).config;
        renewed(&running, verdict(text)).map(|checked| checked.config.destinations.len())
    }

    #[test]
    fn a_right_configuration_is_taken_over_and_a_new_destination_with_it() {
        assert_eq!(renewed_by(GOOD), Ok(2));
        let more = "\n[destinations.crm]\nconnector = \"bamboohr\"\nhistory = \"none\"\nsettings = { company = \"b\" }\n\
                    secrets = { api_key = { credential = \"b\" } }\n";
        assert_eq!(renewed_by(&format!("{GOOD}{more}")), Ok(3));
    }

    #[test]
    fn an_error_in_a_destination_that_runs_keeps_the_old_one_and_in_another_does_not() {
        let wrong = GOOD.replace("connector = \"bamboohr\"", "connector = \"bambohr\"");
        let reasons = renewed_by(&wrong).expect_err("the destination runs");
        assert!(reasons[0].contains("destinations.hr.connector") && reasons[0].contains("did you mean"), "{reasons:?}");
        let other = format!("{GOOD}\n[destinations.crm]\nconnector = \"bambohr\"\nhistory = \"none\"\n");
        assert_eq!(renewed_by(&other), Ok(2));
    }

    #[test]
    fn every_error_is_told() {
        let wrong = GOOD.replace("zone = \"Europe/Berlin\"", "zone = \"Moon\"");
        assert!(renewed_by(&wrong).expect_err("two zones are wrong").len() >= 2);
    }

    #[test]
    fn what_needs_a_restart_says_so() {
        let check = |from: &str, to: &str, setting: &str| {
            assert!(GOOD.contains(from), "{from}");
            let reasons = renewed_by(&GOOD.replacen(from, to, 1)).expect_err(setting);
            assert!(reasons.len() == 1 && reasons[0].starts_with(setting), "{reasons:?}");
            assert!(reasons[0].ends_with("while the daemon runs: restart it"), "{reasons:?}");
        };
        check("\"acme\"", "\"other\"", "installation");
        check("/var/lib/learnsync", "/srv/learnsync", "store.path");
        check("127.0.0.1:8480", "127.0.0.1:8490", "listen.address");
        check("unix:/run/learnsync/admin.sock", "127.0.0.1:8481", "admin.listen");
    }
}
