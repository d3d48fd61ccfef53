//! Which slots of an array are free, and since when: a freed slot rests before it is used again.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use dataplane_ebpf::layout::UNUSED_SLOT;

/// The slots of one array.
///
/// A packet that is under way when a slot is freed may still read it, and must not find another value there. Programs
/// run in an RCU read-side section without sleeping, for microseconds, so a slot that has rested for a second is out
/// of every packet's hands; waiting for an RCU grace period in a system call would cost 10 to 50 ms a change set
/// instead. What an earlier process freed needs no rest: loading this one's programs took longer than any packet.
#[derive(Debug)]
pub(super) struct Slots {
    capacity: u32,
    rest: Duration,
    free: BTreeSet<u32>,
    resting: VecDeque<(Instant, u32)>,
}

impl Slots {
    /// Of an array with this many entries, all used until [`Slots::rebuild`] says more.
    pub(super) fn new(capacity: u32, rest: Duration) -> Slots {
        Slots {
            capacity,
            rest,
            free: BTreeSet::new(),
            resting: VecDeque::new(),
        }
    }

    /// Takes note of what is used; the rest is free, or resting as before.
    pub(super) fn rebuild(&mut self, is_used: impl Fn(u32) -> bool) {
        self.resting.retain(|(_, slot)| !is_used(*slot));
        let resting: BTreeSet<u32> = self.resting.iter().map(|(_, slot)| *slot).collect();
        self.free = (UNUSED_SLOT + 1..self.capacity)
            .filter(|slot| !is_used(*slot) && !resting.contains(slot))
            .collect();
    }

    /// Takes the lowest free slots, or none at all where there are not so many.
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

    /// Frees a slot, to be used again after its rest.
    pub(super) fn release(&mut self, slot: u32) {
        self.resting.push_back((Instant::now(), slot));
    }

    /// How many slots rest.
    pub(super) fn resting(&self) -> usize {
        self.resting.len()
    }

    /// How many values the array can hold: all but slot 0.
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
