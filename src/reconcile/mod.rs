//! Reconciliation, both ways: what webhooks miss, the sweep finds; what somebody changed in a target, verify finds.

pub mod backfill;
pub mod drift;
pub mod guard;
pub mod schedule;
pub mod sweep;
pub mod verify;
