//! How a command changes something: through the running daemon, or on the store when none runs. Both do the same.

use anyhow::anyhow;

use super::{Failure, print_json, runtime};
use crate::config::Config;
use crate::daemon::{Answer, Done, Order};

/// Has an order carried out.
pub(super) fn carry_out(config: &Config, order: &Order) -> Result<Done, Failure> {
    let socket = crate::daemon::control_socket(config);
    let answer = runtime()?.block_on(async {
        match crate::daemon::ask(&socket, order).await? {
            Some(answer) => Ok(answer),
            None => crate::daemon::carry_out_alone(config, order.clone()).await,
        }
    })?;
    match answer {
        Answer::Done(done) => Ok(done),
        Answer::Refused { because } => Err(anyhow!(because).into()),
    }
}

/// Has an order carried out, and says what was done.
pub(super) fn carry_out_and_say(config: &Config, order: &Order, is_json: bool) -> Result<(), Failure> {
    let done = carry_out(config, order)?;
    if is_json {
        return print_json(&done);
    }
    println!("{}", done.words);
    Ok(())
}
