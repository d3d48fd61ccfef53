//! The free slots of an array. A freed slot rests for a while before it is used again.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use dataplane_ebpf::layout::UNUSED_SLOT;

/// The slots of one array.
///
/// A packet that is being processed when a slot is freed may still read it, and must not find another value
/// there. Programs run for microseconds in an RCU read-side section without sleeping, so after a second no
/// packet uses the slot any more. Waiting for an RCU grace period in a system call would cost 10 to 50 ms per
/// change set instead. Slots that an earlier process freed do not have to rest, because loading the programs
/// of this process took longer than any packet.
#[derive(Debug)]
pub(super) struct Slots {
    capacity: u32,
    rest: Duration,
    free: BTreeSet<u32>,
    resting: VecDeque<(Instant, u32)>,
}

impl Slots {
    /// For an array with this many entries, which all count as used until [`Slots::rebuild`].
    pub(super) fn new(capacity: u32, rest: Duration) -> Slots {
        Slots {
            capacity,
            rest,
            free: BTreeSet::new(),
            resting: VecDeque::new(),
        }
    }

    /// Sets which slots are used. The others are free, or rest as before.
    pub(super) fn rebuild(&mut self, is_used: impl Fn(u32) -> bool) {
        self.resting.retain(|(_, slot)| !is_used(*slot));
        let resting: BTreeSet<u32> = self.resting.iter().map(|(_, slot)| *slot).collect();
        self.free = (UNUSED_SLOT + 1..self.capacity)
            .filter(|slot| !is_used(*slot) && !resting.contains(slot))
            .collect();
    }

    /// Allocates the lowest free slots, or none if there are not enough.
    pub(super) fn take(&mut self, count: usize) -> Option<Vec<u32>> {
        let now = Instant::now();
        while let Some((since, slot)) = self.resting.front().copied() {
            if now.duration_since(since) < self.rest {
                break;
            }
            self.free.insert(slot);
            self.resting.pop_front();
        }
        if self.free.len() < count {
            return None;
        }
        Some((0..count).filter_map(|_| self.free.pop_first()).collect())
    }

    /// Frees a slot, which can be used again after its rest.
    pub(super) fn release(&mut self, slot: u32) {
        self.resting.push_back((Instant::now(), slot));
    }

    /// The number of slots that rest.
    pub(super) fn resting(&self) -> usize {
        self.resting.len()
    }

    /// The number of usable slots: all except slot 0.
    pub(super) fn capacity(&self) -> u32 {
        self.capacity - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_zero_is_never_given_and_freed_ones_rest() {
        let mut slots = Slots::new(4, Duration::from_secs(3600));
        slots.rebuild(|_| false);
        assert_eq!(slots.take(4), None);
        assert_eq!(slots.take(2), Some(vec![1, 2]));
        slots.release(1);
        assert_eq!(slots.take(1), Some(vec![3]));
        assert_eq!(slots.take(1), None);
        slots.rebuild(|slot| slot != 1);
        assert_eq!(slots.take(1), None, "an observation does not end the rest");
        let mut quick = Slots::new(2, Duration::ZERO);
        quick.rebuild(|_| false);
        assert_eq!(quick.take(1), Some(vec![1]));
        quick.release(1);
        assert_eq!(quick.take(1), Some(vec![1]));
    }
}
