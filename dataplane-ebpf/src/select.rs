//! The choice among a group's next hops: weighted rendezvous hashing (Thaler and Ravishankar 1998; the
//! weighted form is Schindelhauer and Schomaker 2005).
//!
//! Each member draws a pseudo-random number from the flow and from its own address, and the best draw wins.
//! So if a member is removed, only its own flows move, and neither order nor slots matter. With the draw `u`
//! in (0, 1] and the weight `w`, the least `-log2(u) / w` wins. Fractions are compared by
//! cross-multiplication. Between equal weights the greater `u` wins, without a logarithm.

use crate::decide::Tables;
use crate::flow;
use crate::layout::{Group, GroupMember, NextHopState, UNUSED_SLOT};
use crate::verdict::Verdict;

/// The key of a member: a hash of the underlay address of the next hop ([`crate::layout::NextHop::remote`]).
#[must_use]
pub fn member_key(remote: &[u8; 16]) -> u32 {
    let word = u128::from_be_bytes(*remote);
    #[expect(clippy::cast_possible_truncation, reason = "only the lower half is needed")]
    let (high, low) = ((word >> 64) as u64, word as u64);
    flow::finish(flow::absorb(flow::absorb(KEY_SEED, high), low))
}

/// Chooses the next hop of a group for this flow, among the usable members. Returns its slot.
///
/// # Errors
/// [`Verdict::NoGroup`] if the slot is free, [`Verdict::NoUsableNextHop`] if no member may be chosen.
#[inline(always)]
pub fn choose<T: Tables + ?Sized>(tables: &T, head: u32, flow: u32) -> Result<u32, Verdict> {
    let mut group = match tables.group(head) {
        Some(group) if group.count != 0 => group,
        _ => return Err(Verdict::NoGroup),
    };
    let mut best = Candidate::NONE;
    for _ in 0..Group::MAX_SLOTS {
        for index in 0..Group::MEMBERS {
            if index >= group.count as usize {
                break;
            }
            let member = &group.members[index];
            if tables.state(member.next_hop) == Some(NextHopState::USABLE) {
                let candidate = Candidate::new(member, flow);
                if best.next_hop == UNUSED_SLOT || candidate.beats(&best) {
                    best = candidate;
                }
            }
        }
        if group.next == UNUSED_SLOT {
            break;
        }
        let Some(next) = tables.group(group.next) else {
            break;
        };
        group = next;
    }
    if best.next_hop == UNUSED_SLOT {
        Err(Verdict::NoUsableNextHop)
    } else {
        Ok(best.next_hop)
    }
}

const KEY_SEED: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// A member with its draw.
#[derive(Clone, Copy)]
struct Candidate {
    next_hop: u32,
    key: u32,
    weight: u32,
    draw: u32,
}

impl Candidate {
    /// The value before the first candidate.
    const NONE: Candidate = Candidate {
        next_hop: UNUSED_SLOT,
        key: 0,
        weight: 0,
        draw: 0,
    };

    #[inline(always)]
    fn new(member: &GroupMember, flow: u32) -> Candidate {
        let word = u64::from(member.key) << 32 | u64::from(flow);
        let draw = flow::finish(flow::absorb(KEY_SEED, word));
        Candidate {
            next_hop: member.next_hop,
            key: member.key,
            weight: member.weight,
            draw,
        }
    }

    /// A total order over draw, weight and key, so that the result does not depend on the order of the
    /// members.
    #[inline(always)]
    fn beats(&self, other: &Candidate) -> bool {
        if self.weight != other.weight {
            let own = u64::from(minus_log2(self.draw)) * u64::from(other.weight);
            let others = u64::from(minus_log2(other.draw)) * u64::from(self.weight);
            if own != others {
                return own < others;
            }
        }
        if self.draw != other.draw {
            return self.draw > other.draw;
        }
        self.key > other.key
    }
}

/// `-log2((x + 1) / 2^32)` in units of 2^-26, never increasing in `x`, with an error of at most one percent
/// plus one unit.
///
/// Between powers of two, `log2(1 + f)` is approximated by `f + f(1 - f)(a - bf)`. With these `a` and `b` the
/// middle is exact, and so is the slope where `f` approaches 1, because winning draws are just below 2^32.
#[inline(always)]
fn minus_log2(x: u32) -> u32 {
    /// 0.4010 and 0.1223 in units of 2^-31.
    const A: u64 = 861_140_000;
    const B: u64 = 262_630_000;
    const ONE: u64 = 1 << 31;
    /// The bits of the fraction that are below a unit of the result. They are dropped, because they are
    /// smaller than the rounding errors, and the result would not be monotone.
    const BELOW: u64 = (1 << 5) - 1;

    let x = u64::from(x) + 1;
    // The compiler expands this without a branch, so the verifier has only one path to check.
    let exponent = 63 - x.leading_zeros();
    // The bits after the leading one, in units of 2^-31.
    let fraction = (((x << (32 - exponent)) >> 1) - ONE) & !BELOW;
    let parabola = (fraction * (ONE - fraction)) >> 31;
    let bend = (parabola * (A - ((B * fraction) >> 31))) >> 31;
    let log2 = (u64::from(exponent) << 31) + fraction + bend;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 32 * 2^26, which is below 2^32"
    )]
    let minus = (((32 << 31) - log2) >> 5) as u32;
    minus
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn logarithm_is_close_and_monotone() {
        let top = u32::MAX - 1_000_000;
        let spread =
            (0..=1_000_000_u64).map(|step| u32::try_from(step * u64::from(top) / 1_000_000).unwrap());
        let mut previous = u32::MAX;
        for x in spread.chain(top..=u32::MAX) {
            let got = minus_log2(x);
            assert!(got <= previous, "rises at {x}");
            previous = got;
            let truth = -((f64::from(x) + 1.0) / 4_294_967_296.0).log2() * f64::from(1 << 26);
            let error = (f64::from(got) - truth).abs();
            assert!(error <= truth * 0.01 + 1.0, "{x}: {got}, not {truth}");
        }
        assert_eq!(minus_log2(u32::MAX), 0);
        assert_eq!(minus_log2(0), 32 << 26);
    }
}
