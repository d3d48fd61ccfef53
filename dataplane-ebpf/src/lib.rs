//! The BPF map ABI ([`layout`]) and the per-packet decision, shared by the BPF programs and user space.
//!
//! This library does not use aya. The programs in `main.rs` call it with packets and maps, the tests on the
//! host with byte slices and tables. A packet to send passes through [`packet::parse_ethernet`] and
//! [`decide::decide`], which calls [`select::choose`] if a prefix has several next hops; each outcome is a
//! [`verdict::Verdict`]. A packet that arrives passes through [`arrive::arrive`].
#![no_std]

pub mod arrive;
pub mod decide;
pub mod flow;
pub mod layout;
pub mod packet;
pub mod select;
pub mod verdict;
