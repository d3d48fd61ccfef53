//! Adit's build, test and demonstration commands: one module a command, and what they share.
//!
//! Nothing here depends on the dataplane's packages: this has to compile before `cargo xtask setup` has run.

pub mod child;
pub mod host;
pub mod progress;
pub mod run;
pub mod setup;
pub mod vm;
pub mod workspace;
