//! What is right and what is wrong with a configuration: all of it at `check`, and at `run` each destination for itself.

use std::path::Path;

use learnsync_sdk::ConnectorType;
use tracing::{error, warn};

use super::Checked;
pub use super::build::Secrets;
use super::build::{Parts, build_what_is_right, environment};
use crate::config::{Config, ConfigErrors, Draft, Files, draft};

/// A configuration as far as it could be built, and all that is wrong with it.
pub struct Verdict {
    config: Option<Config>,
    parts: Parts,
    /// All that is wrong; an error without a destination stands in the way of everything.
    pub errors: ConfigErrors,
}

/// Reads and builds a configuration, offline, with the connectors of this build and the secrets of this machine.
#[must_use]
pub fn of(path: &Path) -> Verdict {
    with_secrets(&Files::read(path))
}

/// Builds a configuration, offline, with the connectors of this build and the secrets of this machine.
#[must_use]
pub fn with_secrets(files: &Files) -> Verdict {
    of_files(files, &crate::connectors::all(), &Secrets::Real(&environment))
}

/// Reads and builds a configuration, offline, without looking for the secrets.
#[must_use]
pub fn without_secrets(files: &Files) -> Verdict {
    of_files(files, &crate::connectors::all(), &Secrets::Examples)
}

/// Builds a configuration, offline.
#[must_use]
pub fn of_files(files: &Files, types: &[Box<dyn ConnectorType>], secrets: &Secrets<'_>) -> Verdict {
    let Draft { config, source, mut errors } = draft(files);
    let parts = match &config {
        Some(config) => build_what_is_right(config, &source, types, secrets, &mut errors),
        None => Parts::default(),
    };
    Verdict { config, parts, errors }
}

impl Verdict {
    /// The names of the destinations that could be built.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.parts.destinations.iter().map(|built| built.name.clone()).collect()
    }

    /// All of it.
    ///
    /// # Errors
    /// Anything is wrong.
    pub fn whole(self) -> Result<Checked, ConfigErrors> {
        self.errors.clone().into_result()?;
        Ok(self.right())
    }

    /// What can run. A destination that is wrong is left out, and said so: the others need not wait until somebody mends it.
    ///
    /// # Errors
    /// Anything outside of the destinations is wrong; then all errors are told.
    pub fn runnable(self) -> Result<Checked, ConfigErrors> {
        if !self.errors.of_everything().0.is_empty() {
            return self.whole();
        }
        for name in self.errors.destinations() {
            let wrong = self.errors.of_destination(&name).into_result().err().unwrap_or_default();
            let count = wrong.0.len();
            error!(
                destination = name,
                errors = count,
                "The destination {name} is switched off, {count} in its configuration must be mended; the others run"
            );
            for one in &wrong.0 {
                warn!(destination = name, key = one.key, "{one}");
            }
        }
        Ok(self.right())
    }

    /// The part outside of the destinations.
    ///
    /// # Errors
    /// Anything in it is wrong.
    pub fn portals(mut self) -> Result<Checked, ConfigErrors> {
        self.errors.of_everything().into_result()?;
        self.parts.destinations.clear();
        if let Some(config) = &mut self.config {
            config.destinations.clear();
        }
        Ok(self.right())
    }

    fn right(self) -> Checked {
        let mut config = self.config.expect("without an error there is a configuration");
        let mut parts = self.parts;
        for name in self.errors.destinations() {
            config.destinations.remove(&name);
            parts.destinations.retain(|destination| destination.name != name);
        }
        Checked { config, parts }
    }
}

#[cfg(test)]
mod tests;
