//! The BPF map ABI ([`layout`]) and the per-packet decision, shared by the BPF programs and the userspace.
//!
//! Nothing here names aya: the programs in `main.rs` bring packets and maps, the host's tests bring byte slices
//! and tables, and both run this very code. A packet goes [`packet::parse_ethernet`] → [`decide::decide`], which
//! asks [`select::choose`] where a prefix has several next hops; each way out is a [`verdict::Verdict`]. What comes in is
//! [`arrive::arrive`]'s.
#![no_std]

pub mod arrive;
pub mod decide;
pub mod flow;
pub mod layout;
pub mod packet;
pub mod select;
pub mod verdict;
