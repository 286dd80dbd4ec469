//! Reconciliation: what webhooks miss, the night finds.

pub mod schedule;
pub mod sweep;
