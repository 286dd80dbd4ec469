//! Types and pure rules: what the other rooms speak about. Nothing here does I/O.

pub mod chance;
pub mod delivery;
pub mod digest;
pub mod drift;
pub mod event;
pub mod fingerprint;
pub mod health;
pub mod ids;
pub mod lane;
pub mod listing;
pub mod plan_file;
pub mod promise;
pub mod record;
pub mod rhythm;
pub mod standing;
pub mod subject;
pub mod time;
