//! What the program says to people who type wrong things.
