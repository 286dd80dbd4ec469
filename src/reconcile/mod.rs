//! Reconciliation: what webhooks miss, the night finds.

pub mod backfill;
pub mod schedule;
pub mod sweep;
