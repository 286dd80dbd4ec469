//! The path of one webhook, one file a step: intake, refresh, plan, deliver; and what decides about failures: retry, breaker.

pub mod breaker;
pub mod deliver;
pub mod destination;
pub mod gatekeeper;
pub mod intake;
pub mod midnight;
pub mod pace;
pub mod plan;
pub mod portal;
pub mod preview;
pub mod pulse;
pub mod read_only;
pub mod refresh;
pub mod retry;
pub mod settling;
pub mod telling;
pub mod worker;
