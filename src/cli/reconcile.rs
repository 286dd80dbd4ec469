//! `learnsync reconcile`: asks the running daemon for a sweep now.

use super::{Failure, WithConfig, runtime};

pub(super) fn run(options: &WithConfig) -> Result<(), Failure> {
    // No secret is needed to ask: who asks is often not allowed to read them.
    let config = crate::config::load(&options.config)?;
    let socket = crate::daemon::control_socket(&config);
    let words = runtime()?.block_on(crate::daemon::ask(&socket, "reconcile"))?;
    println!("{words}");
    Ok(())
}
