//! The BPF programs on the running kernel, packet by packet: each verdict and every effect of a packet.
#![expect(clippy::unwrap_used, reason = "a test's helper that fails is a failed test")]

mod forward;
mod group;
mod ingress;
mod object;
mod reference;
mod refuse;
mod setup;
mod wire;
