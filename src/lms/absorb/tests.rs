//! The client against a portal on the loopback interface.
