//! Build, test and demonstration commands of Adit: one module per command, and shared modules.
//!
//! Of the packages of the dataplane this crate depends only on the BPF map ABI, because it has to compile before
//! `cargo xtask setup` has installed a compiler for BPF.

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
