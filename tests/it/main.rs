//! The real program over real HTTP on loopback, against the sandbox; with a real clock, waiting for what the program says.

mod backfill;
mod command_line;
mod disk_full;
mod kills;
mod lms_faults;
mod login;
mod night;
mod operate;
mod records;
mod sandbox;
mod supervision;
mod target_faults;
mod world;
