//! The connectors of this build, one line each.

use learnsync_sdk::ConnectorType;

/// All connectors, in the order of the reference.
#[must_use]
pub fn all() -> Vec<Box<dyn ConnectorType>> {
    vec![Box::new(learnsync_bamboohr::BambooHr), Box::new(learnsync_chat::Chat), Box::new(learnsync_file::File)]
}
