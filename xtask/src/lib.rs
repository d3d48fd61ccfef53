//! Adit's build, test and demonstration commands: one module a command, and what they share.
//!
//! Of the dataplane's packages this depends on the BPF map ABI only: it has to compile before `cargo xtask setup` has
//! run, so without a compiler for BPF.

pub mod chaos;
pub mod child;
pub mod ci;
pub mod codegen;
pub mod fuzz;
pub mod host;
pub mod lab;
pub mod progress;
pub mod run;
pub mod setup;
pub mod test;
pub mod tidy;
pub mod vm;
pub mod workers;
pub mod workspace;
