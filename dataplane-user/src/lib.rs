//! The agent and command-line tool of Adit, as a library.
//!
//! docs/ARCHITECTURE.md has the table of modules, from the bottom to the top, and describes how they work
//! together. `cargo xtask tidy` checks that no module uses one above it.

// `print!` panics on a closed pipe and prints control characters unchanged; `cli::output` does neither.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod apply;
pub mod as_text;
pub mod bfd;
pub mod cli;
pub mod diff;
pub mod drift;
pub mod event;
pub mod files;
#[cfg(test)]
mod fuzz;
pub mod gather;
pub mod heartbeat;
pub mod hub;
pub mod kernel;
pub mod limits;
pub mod metrics;
pub mod model;
pub mod net;
pub mod pauses;
pub mod plan;
pub mod reconcile;
pub mod reporter;
pub mod resource;
pub mod serve;
pub mod source;
pub mod status;
pub mod wg_quick;
