//! A hierarchical timer wheel: deadlines of many sessions, each set and cancelled in constant time.

use super::Time;

/// Slots of a level.
const SLOTS: usize = 64;
/// Bits of a tick that select the slot of a level.
const BITS: u32 = SLOTS.ilog2();
/// Levels: together they cover all ticks, so that no deadline is too late.
const LEVELS: usize = 9;
/// A tick is 1024 µs; bits of a time below the tick.
const TICK: u32 = 10;
/// No entry.
const NONE: u32 = u32::MAX;
/// The slot of an entry that has no deadline.
const UNSET: usize = usize::MAX;

/// Deadlines by numbers, which should be small, as those of a slab: the memory is that of the largest one.
///
/// Slots of level 0 are ticks of 1024 µs; those of each further level are 64 times as long. An entry moves to
/// a lower level when its slot is reached, and is due exactly at its deadline.
#[derive(Debug)]
pub struct Wheel {
    entries: Vec<Entry>,
    /// The first entry of each slot of each level.
    heads: Box<[[u32; SLOTS]; LEVELS]>,
    /// Which slots of a level have entries.
    occupied: [u64; LEVELS],
    /// The tick that all entries are relative to. It is never ahead of the time.
    current: u64,
}

/// A deadline, in the linked list of its slot.
#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Time,
    /// `level * SLOTS + slot`, or [`UNSET`].
    slot: usize,
    next: u32,
    previous: u32,
}

impl Entry {
    const EMPTY: Entry = Entry {
        deadline: Time::from_micros(0),
        slot: UNSET,
        next: NONE,
        previous: NONE,
    };
}

impl Wheel {
    /// An empty wheel.
    #[must_use]
    pub fn new(now: Time) -> Wheel {
        Wheel {
            entries: Vec::new(),
            heads: Box::new([[NONE; SLOTS]; LEVELS]),
            occupied: [0; LEVELS],
            current: tick(now),
        }
    }

    /// Sets or changes the deadline of a number. It may be in the past.
    ///
    /// # Panics
    /// If the number is `u32::MAX`.
    pub fn set(&mut self, number: u32, deadline: Time) {
        assert_ne!(number, NONE, "4294967295 is no number of a session");
        self.cancel(number);
        let index = index(number);
        if index >= self.entries.len() {
            self.entries.resize(index + 1, Entry::EMPTY);
        }
        self.entries[index].deadline = deadline;
        self.link(number);
    }

    /// Removes the deadline of a number, if it has one.
    pub fn cancel(&mut self, number: u32) {
        let Some(entry) = self.entries.get_mut(index(number)) else {
            return;
        };
        let Entry {
            slot, next, previous, ..
        } = *entry;
        if slot == UNSET {
            return;
        }
        entry.slot = UNSET;
        if next != NONE {
            self.entries[index(next)].previous = previous;
        }
        if previous != NONE {
            self.entries[index(previous)].next = next;
            return;
        }
        let (level, slot) = (slot / SLOTS, slot % SLOTS);
        self.heads[level][slot] = next;
        if next == NONE {
            self.occupied[level] &= !(1 << slot);
        }
    }

    /// Removes all numbers whose deadline has come, and returns them by deadline, then by number.
    pub fn advance(&mut self, now: Time) -> Vec<u32> {
        let mut due: Vec<(Time, u32)> = Vec::new();
        let end = tick(now);
        while let Some((level, slot, start)) = self.first_slot()
            && start <= end
        {
            self.current = self.current.max(start);
            let mut number = std::mem::replace(&mut self.heads[level][slot], NONE);
            self.occupied[level] &= !(1 << slot);
            let mut early = NONE;
            while number != NONE {
                let entry = &mut self.entries[index(number)];
                let next = entry.next;
                if entry.deadline <= now {
                    entry.slot = UNSET;
                    due.push((entry.deadline, number));
                } else if level > 0 {
                    self.link(number);
                } else {
                    entry.next = early;
                    early = number;
                }
                number = next;
            }
            // These are due later in the current tick, which ends the loop.
            let is_last = early != NONE;
            while early != NONE {
                let next = self.entries[index(early)].next;
                self.link(early);
                early = next;
            }
            if is_last {
                break;
            }
        }
        self.current = self.current.max(end);
        due.sort_unstable();
        due.into_iter().map(|(_, number)| number).collect()
    }

    /// When to call [`Wheel::advance`]: not after the first deadline, and at most a few times before it.
    /// `None`: there is no deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let (level, slot, start) = self.first_slot()?;
        if level > 0 {
            return Some(Time::from_micros(start << TICK));
        }
        let mut number = self.heads[level][slot];
        let mut first = Time::from_micros(u64::MAX);
        while number != NONE {
            let entry = &self.entries[index(number)];
            first = first.min(entry.deadline);
            number = entry.next;
        }
        Some(first)
    }

    /// The first slot that has entries: level, slot and first tick. Lower levels come before higher ones,
    /// because all entries of a level are within the current slot of the next level.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = BITS * u32::try_from(level).expect("there are 9");
        let block = self.current >> shift >> BITS << BITS;
        let start = (block | u64::from(slot)) << shift;
        Some((level, index(slot), start))
    }

    /// Adds an entry to the list of the slot for its deadline.
    fn link(&mut self, number: u32) {
        let when = tick(self.entries[index(number)].deadline).max(self.current);
        let difference = (when ^ self.current) | 1;
        let level = difference.ilog2() / BITS;
        let slot = index(u32::try_from(when >> (level * BITS) & 63).expect("it is below 64"));
        let level = index(level);
        let head = std::mem::replace(&mut self.heads[level][slot], number);
        self.occupied[level] |= 1 << slot;
        if head != NONE {
            self.entries[index(head)].previous = number;
        }
        let entry = &mut self.entries[index(number)];
        entry.slot = level * SLOTS + slot;
        entry.next = head;
        entry.previous = NONE;
    }
}

/// The tick of a time.
fn tick(time: Time) -> u64 {
    time.as_micros() >> TICK
}

fn index(number: u32) -> usize {
    number.try_into().expect("pointers have at least 32 bits")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        SetInPast(u32, u64),
        Cancel(u32),
        Advance(u64),
        /// To the deadline that the wheel reports.
        AdvanceToNext,
    }

    /// Durations of all magnitudes, in microseconds.
    fn duration() -> impl Strategy<Value = u64> {
        (0u32..44, any::<u64>()).prop_map(|(bits, number)| number & ((1 << bits) - 1))
    }

    fn step() -> impl Strategy<Value = Step> {
        let number = || 0u32..40;
        prop_oneof![
            4 => (number(), duration()).prop_map(|(number, after)| Step::Set(number, after)),
            1 => (number(), duration()).prop_map(|(number, before)| Step::SetInPast(number, before)),
            1 => number().prop_map(Step::Cancel),
            1 => duration().prop_map(Step::Advance),
            2 => Just(Step::AdvanceToNext),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_sorted_map(start in duration(), steps in vec(step(), 1..200)) {
            let mut now = Time::from_micros(start);
            let mut wheel = Wheel::new(now);
            let mut expected: BTreeMap<u32, Time> = BTreeMap::new();
            for step in steps {
                let first = expected.values().min().copied();
                let next = wheel.next_deadline();
                prop_assert_eq!(next.is_some(), first.is_some());
                prop_assert!(next <= first, "{:?} is after {:?}", next, first);
                let mut set = |number, deadline| {
                    wheel.set(number, deadline);
                    expected.insert(number, deadline);
                };
                match step {
                    Step::Set(number, after) => set(number, now + Duration::from_micros(after)),
                    Step::SetInPast(number, before) => {
                        set(number, Time::from_micros(now.as_micros().saturating_sub(before)));
                    }
                    Step::Cancel(number) => {
                        wheel.cancel(number);
                        expected.remove(&number);
                    }
                    Step::Advance(_) | Step::AdvanceToNext => {
                        now = match step {
                            Step::Advance(duration) => now + Duration::from_micros(duration),
                            _ => next.unwrap_or(now).max(now),
                        };
                        let due = expected.iter().filter(|(_, deadline)| **deadline <= now);
                        let mut due: Vec<(Time, u32)> = due.map(|(number, at)| (*at, *number)).collect();
                        due.sort_unstable();
                        expected.retain(|_, deadline| *deadline > now);
                        let due: Vec<u32> = due.into_iter().map(|(_, number)| number).collect();
                        prop_assert_eq!(wheel.advance(now), due);
                    }
                }
            }
            let end = Time::from_micros(u64::MAX);
            prop_assert_eq!(wheel.advance(end).len(), expected.len());
            prop_assert_eq!(wheel.next_deadline(), None);
        }
    }

    #[test]
    fn the_next_deadline_is_reached_in_few_steps() {
        let mut wheel = Wheel::new(Time::from_micros(123));
        let deadline = Time::from_micros(u64::MAX - 7);
        wheel.set(5, deadline);
        let mut steps = 0;
        loop {
            let next = wheel.next_deadline().expect("it is not due");
            steps += 1;
            if !wheel.advance(next).is_empty() {
                assert_eq!(next, deadline);
                break;
            }
        }
        assert!(steps <= LEVELS, "{steps}");
    }
}
