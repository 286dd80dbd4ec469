//! `learnsync reconcile`: asks the running daemon for a sweep now.

use super::{Failure, WithConfig, runtime};

pub(super) fn run(options: &WithConfig) -> Result<(), Failure> {
    let checked = options.checked()?;
    let socket = crate::daemon::control_socket(&checked.config);
    let words = runtime()?.block_on(crate::daemon::ask(&socket, "reconcile"))?;
    println!("{words}");
    Ok(())
}
