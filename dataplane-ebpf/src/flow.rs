//! The flow hash: 32 bits over the 5-tuple, or over the 3-tuple if the ports of a packet are not known.
//!
//! All packets of a flow have the same hash, so they use the same next hop. Both directions and both families
//! are hashed by the same function, but not to the same value. The hash is not secret: a sender that can
//! choose its addresses can choose the next hop.

use crate::packet::{Family, Headers};

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;
const FINAL: u64 = 0xff51_afd7_ed55_8ccd;

/// The hash of the flow that a packet belongs to.
#[must_use]
#[inline(always)]
pub fn hash(headers: &Headers) -> u32 {
    let ports = match headers.ports {
        Some(ports) => u64::from(ports.source) << 16 | u64::from(ports.destination),
        None => 0,
    };
    let mut state = SEED;
    if headers.family == Family::Ipv4 {
        state = absorb(state, pair(headers.source.0[0], headers.destination.0[0]));
    } else {
        state = absorb(state, pair(headers.source.0[0], headers.source.0[1]));
        state = absorb(state, pair(headers.source.0[2], headers.source.0[3]));
        state = absorb(state, pair(headers.destination.0[0], headers.destination.0[1]));
        state = absorb(state, pair(headers.destination.0[2], headers.destination.0[3]));
    }
    finish(absorb(state, u64::from(headers.protocol) << 32 | ports))
}

/// Mixes one word into the state. A multiplication spreads bits only upwards, so the upper half is folded
/// down.
#[inline(always)]
pub(crate) fn absorb(state: u64, word: u64) -> u64 {
    let product = (state ^ word).wrapping_mul(MULTIPLIER);
    product ^ (product >> 32)
}

/// Reduces the state to 32 bits, so that every bit of the state affects every bit of the result.
#[inline(always)]
pub(crate) fn finish(state: u64) -> u32 {
    (state.wrapping_mul(FINAL) >> 32) as u32
}

#[inline(always)]
fn pair(high: u32, low: u32) -> u64 {
    u64::from(u32::from_be(high)) << 32 | u64::from(u32::from_be(low))
}
