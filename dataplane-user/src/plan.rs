//! From what users want to what the kernel shall hold. Pure.

pub mod facts;

pub use facts::{NodeFacts, UnderlayPath};
