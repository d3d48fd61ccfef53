//! Adit's agent and command-line tool, as a library.
//!
//! Pure: [`net`], [`resource`], [`model`], [`plan`], [`diff`]. Edges: [`source`], [`wg_quick`], [`kernel`]. Drivers: [`gather`],
//! [`apply`], [`reconcile`], [`status`], [`metrics`], [`serve`] with [`control`] and [`http`], [`hub`], [`cli`]. docs/ARCHITECTURE.md draws the flow.

// They panic on a closed pipe, and print what they get: `cli::output` does neither.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod apply;
pub mod cli;
pub mod control;
pub mod diff;
pub mod drift;
pub mod files;
#[cfg(test)]
mod fuzz;
pub mod gather;
pub mod heartbeat;
pub mod http;
pub mod hub;
pub mod kernel;
pub mod metrics;
pub mod model;
pub mod net;
pub mod pauses;
pub mod plan;
pub mod reconcile;
pub mod resource;
pub mod serve;
pub mod source;
pub mod status;
pub mod wg_quick;
