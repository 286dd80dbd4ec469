//! The rules of the fakes, over real HTTP.
