//! Reconciliation, both ways: what webhooks miss, the sweep finds; what somebody changed in a target, verify finds.

pub mod apply;
pub mod backfill;
mod by_lists;
pub mod drift;
pub mod guard;
pub mod plan;
pub mod schedule;
pub mod sweep;
pub mod verify;

#[cfg(test)]
pub(crate) mod tests;
