//! Dispatches to one file a command.
fn main() {}
