//! Topological sort: each change comes after the changes that provide its conditions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::model::change::Dependencies;

/// The indexes of changes in the order in which they are executed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sorted {
    /// All of them.
    Whole(Vec<usize>),
    /// Some wait for each other in a circle.
    Circle {
        /// The circle: changes, each with the condition by which it waits for the next one; the last one
        /// waits for the first.
        links: Vec<(usize, u32)>,
        /// An order in which the changes that wait for each other are ordered by rank.
        rest: Vec<usize>,
    },
}

/// Sorts changes by their conditions. Among changes that wait for nothing the one with the lowest rank is
/// first, then the one with the lowest index. The number of steps is the number of changes and dependencies,
/// times the logarithm of the number of changes.
pub(super) fn sort<R: Ord + Copy>(ranks: &[R], needs: &[Dependencies]) -> Sorted {
    let mut sorting = Sorting::new(ranks, needs);
    sorting.run();
    if sorting.order.len() == ranks.len() {
        return Sorted::Whole(sorting.order);
    }
    let links = sorting.circle();
    while sorting.order.len() < ranks.len() {
        let waiting = (0..ranks.len()).filter(|index| !sorting.is_sorted[*index]);
        if let Some(first) = waiting.min_by_key(|index| (ranks[*index], *index)) {
            sorting.ready.push(Reverse((ranks[first], first)));
        }
        sorting.run();
    }
    Sorted::Circle {
        links,
        rest: sorting.order,
    }
}

/// Two changes of which the first provides a condition that the second requires, although the second has a
/// lower rank. If there are none, every circle contains a condition for which `counts` is false.
pub(super) fn first_backwards<R: Ord + Copy>(
    ranks: &[R],
    needs: &[Dependencies],
    counts: impl Fn(u32) -> bool,
) -> Option<(usize, usize)> {
    let mut lowest = BTreeMap::new();
    for (index, needs) in needs.iter().enumerate() {
        for &condition in needs.requires.iter().filter(|condition| counts(**condition)) {
            let lowest = lowest.entry(condition).or_insert(index);
            if ranks[index] < ranks[*lowest] {
                *lowest = index;
            }
        }
    }
    let late = |index: usize| {
        let mut requirers = needs[index]
            .provides
            .iter()
            .filter_map(|condition| lowest.get(condition));
        let early = requirers.find(|early| ranks[**early] < ranks[index])?;
        Some((index, *early))
    };
    (0..ranks.len()).find_map(late)
}

/// The number of changes and dependencies that are visited to sort them.
#[cfg(test)]
pub(super) fn steps<R: Ord + Copy>(ranks: &[R], needs: &[Dependencies]) -> usize {
    let mut sorting = Sorting::new(ranks, needs);
    sorting.run();
    sorting.steps
}

struct Sorting<'a, R> {
    ranks: &'a [R],
    needs: &'a [Dependencies],
    /// By condition: the changes that provide it, how many of these are not sorted yet, and the changes that
    /// require it.
    providers: Vec<Vec<usize>>,
    missing: Vec<usize>,
    requirers: Vec<Vec<usize>>,
    /// By change: how many conditions it still waits for, and whether it is sorted.
    waits: Vec<usize>,
    is_sorted: Vec<bool>,
    ready: BinaryHeap<Reverse<(R, usize)>>,
    order: Vec<usize>,
    /// The number of visited changes and dependencies.
    steps: usize,
}

impl<'a, R: Ord + Copy> Sorting<'a, R> {
    fn new(ranks: &'a [R], needs: &'a [Dependencies]) -> Sorting<'a, R> {
        let all = needs
            .iter()
            .flat_map(|needs| needs.provides.iter().chain(&needs.requires));
        let conditions = all.max().map_or(0, |&last| last as usize + 1);
        let mut providers = vec![Vec::new(); conditions];
        let mut requirers = vec![Vec::new(); conditions];
        for (index, needs) in needs.iter().enumerate() {
            needs
                .provides
                .iter()
                .for_each(|&condition| providers[condition as usize].push(index));
            needs
                .requires
                .iter()
                .for_each(|&condition| requirers[condition as usize].push(index));
        }
        let missing = providers.iter().map(Vec::len).collect::<Vec<_>>();
        let open = |needs: &Dependencies| {
            let open = needs
                .requires
                .iter()
                .filter(|condition| missing[**condition as usize] > 0);
            open.count()
        };
        let waits = needs.iter().map(open).collect::<Vec<_>>();
        let ready = (0..ranks.len()).filter(|&index| waits[index] == 0);
        let ready = ready.map(|index| Reverse((ranks[index], index))).collect();
        Sorting {
            ranks,
            needs,
            providers,
            missing,
            requirers,
            waits,
            is_sorted: vec![false; ranks.len()],
            ready,
            order: Vec::with_capacity(ranks.len()),
            steps: 0,
        }
    }

    fn run(&mut self) {
        while let Some(Reverse((_, index))) = self.ready.pop() {
            self.steps += 1;
            if std::mem::replace(&mut self.is_sorted[index], true) {
                continue;
            }
            self.order.push(index);
            for &condition in &self.needs[index].provides {
                self.steps += 1;
                let missing = &mut self.missing[condition as usize];
                *missing -= 1;
                if *missing == 0 {
                    self.holds(condition);
                }
            }
        }
    }

    fn holds(&mut self, condition: u32) {
        for &index in &self.requirers[condition as usize] {
            self.steps += 1;
            self.waits[index] -= 1;
            if self.waits[index] == 0 && !self.is_sorted[index] {
                self.ready.push(Reverse((self.ranks[index], index)));
            }
        }
    }

    /// A circle among the unsorted changes, found by following from each change the first one for which it
    /// waits.
    fn circle(&self) -> Vec<(usize, u32)> {
        let waiting = (0..self.ranks.len()).filter(|index| !self.is_sorted[*index]);
        let Some(mut index) = waiting.min_by_key(|index| (self.ranks[*index], *index)) else {
            return Vec::new();
        };
        let mut path: Vec<(usize, u32)> = Vec::new();
        let mut seen = vec![None; self.ranks.len()];
        loop {
            if let Some(start) = seen[index] {
                return path.split_off(start);
            }
            seen[index] = Some(path.len());
            let waits_for = |&&condition: &&u32| self.missing[condition as usize] > 0;
            let Some(&condition) = self.needs[index].requires.iter().find(waits_for) else {
                return Vec::new();
            };
            let mut providers = self.providers[condition as usize].iter();
            let Some(&next) = providers.find(|provider| !self.is_sorted[**provider]) else {
                return Vec::new();
            };
            path.push((index, condition));
            index = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::steps as steps_of;
    use super::*;

    fn needs(list: &[(&[u32], &[u32])]) -> Vec<Dependencies> {
        let one = |(requires, provides): &(&[u32], &[u32])| Dependencies {
            requires: requires.to_vec(),
            provides: provides.to_vec(),
        };
        list.iter().map(one).collect()
    }

    #[test]
    fn what_is_required_comes_first_and_ranks_decide_the_rest() {
        let needs = needs(&[(&[0], &[]), (&[], &[0]), (&[], &[0]), (&[], &[])]);
        assert_eq!(sort(&[0, 5, 3, 4], &needs), Sorted::Whole(vec![2, 3, 1, 0]));
    }

    #[test]
    fn a_circle_is_reported_with_an_order_by_rank() {
        let needs = needs(&[(&[1], &[0]), (&[0], &[1]), (&[1], &[]), (&[], &[])]);
        let sorted = sort(&[2, 1, 0, 7], &needs);
        let links = vec![(1, 0), (0, 1)];
        assert_eq!(
            sorted,
            Sorted::Circle {
                links,
                rest: vec![3, 2, 1, 0]
            }
        );
    }

    #[test]
    fn steps_grow_with_the_number_of_changes_and_not_with_its_square() {
        let steps = |changes: u32| {
            // All require what the first ones provide, and the last one requires them all.
            let one = |number: u32| Dependencies {
                requires: if number < 10 { vec![] } else { vec![0, 1] },
                provides: if number < 10 { vec![0, 1] } else { vec![2] },
            };
            let mut needs = (0..changes).map(one).collect::<Vec<_>>();
            needs.push(Dependencies {
                requires: vec![2],
                provides: vec![],
            });
            let ranks = vec![0; needs.len()];
            steps_of(&ranks, &needs)
        };
        let (few, many) = (steps(10_000), steps(20_000));
        assert!(few < 50_000 && many < 2 * few + 10, "{few} and {many}");
    }
}
