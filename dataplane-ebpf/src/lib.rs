//! The BPF map ABI and the per-packet decision.
#![no_std]
