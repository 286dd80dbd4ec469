//! The learnsync command.
fn main() {}
