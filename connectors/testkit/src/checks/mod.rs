//! The checks, one function a rule, by what they look at.

pub(crate) mod batches;
pub(crate) mod description;
pub(crate) mod errors;
pub(crate) mod listing;
pub(crate) mod people;
pub(crate) mod reading;
pub(crate) mod secrecy;
pub(crate) mod withdrawing;
pub(crate) mod writing;
