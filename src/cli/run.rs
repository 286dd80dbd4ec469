//! `learnsync run`: the daemon, until SIGTERM or SIGINT; SIGHUP makes it read its configuration again.

use std::sync::Arc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use super::{Failure, WithConfig, runtime};
use crate::daemon::{Signals, verdict};
use crate::telemetry;

/// "File size limit exceeded", on Linux.
const SIGXFSZ: i32 = 25;

pub(super) fn run(options: &WithConfig) -> Result<(), Failure> {
    telemetry::init(telemetry::LogFormat::Text).context("set up logging")?;
    let checked = verdict::of(&options.config).runnable()?;
    runtime()?.block_on(async {
        let (stopper, stop) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
        // A limit on the size of files is then like a full disk, an error of the write, and not the end of the process.
        let _over_limit = signal(SignalKind::from_raw(SIGXFSZ)).context("wait for SIGXFSZ")?;
        let mut hang_up = signal(SignalKind::hangup()).context("wait for SIGHUP")?;
        let reload = Arc::new(Notify::new());
        let signals = Signals { stop, reload: Arc::clone(&reload), path: options.config.clone() };
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = hang_up.recv() => reload.notify_one(),
                }
            }
            // Nobody listens any more only when the daemon has ended by itself.
            let _ended = stopper.send(true);
        });
        crate::daemon::run(checked, signals).await
    })?;
    Ok(())
}
