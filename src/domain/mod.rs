//! Types and pure rules: what the other rooms speak about. Nothing here does I/O.

pub mod chance;
pub mod event;
pub mod record;
pub mod time;
