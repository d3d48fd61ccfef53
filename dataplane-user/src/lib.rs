//! The agent and command-line tool of Adit, as a library.
//!
//! Pure: [`net`], [`model`], [`resource`], [`plan`], [`diff`]. Edges: [`kernel`], [`source`], [`wg_quick`].
//! Drivers: [`hub`], [`apply`], [`gather`], [`drift`], [`reconcile`]. Reports: [`status`], [`metrics`],
//! [`reporter`], [`serve`]. Commands: [`cli`]. A module may use only modules before it in this list; `cargo
//! xtask tidy` checks that. docs/ARCHITECTURE.md describes how they work together.

// `print!` panics on a closed pipe and prints control characters unchanged; `cli::output` does neither.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod apply;
pub mod as_text;
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
