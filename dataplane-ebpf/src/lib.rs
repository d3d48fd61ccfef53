//! The BPF map ABI ([`layout`]) and the per-packet decision, shared by the BPF programs and the userspace.
//!
//! Nothing here names aya: the programs in `main.rs` bring packets and maps, the host's tests bring byte slices
//! and tables, and both run this very code.
#![no_std]

pub mod layout;
