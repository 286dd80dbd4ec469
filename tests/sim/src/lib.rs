//! A seeded world that tries to break learnsync's ledger: the real store, pipeline and sweep on one thread under a paused clock, with a
//! fake LMS and fake targets that lie, fail, forget and are edited by hand.
//!
//! Start at `play`: it runs a scenario from its first fact to the checks at rest.

pub mod check;
pub mod clock;
pub mod coverage;
pub mod disturb;
pub mod fault;
pub mod habit;
pub mod hook;
pub mod life;
pub mod lms;
pub mod plans;
pub mod play;
pub mod scenario;
pub mod shrink;
pub mod target;
pub mod trace;
pub mod world;
