//! Makes changes, goes on past failures, and reports one outcome a change.

use std::time::{Duration, Instant};

use crate::diff::order::{self, Missing, Stage};
use crate::kernel::{Kernel, KernelError};
use crate::model::{Change, ChangeSet};
use crate::net::Namespace;

/// What became of each change, in order.
#[derive(Debug, Default)]
pub struct ApplyReport {
    /// Changes and their outcomes.
    pub outcomes: Vec<(Change, Outcome)>,
    /// How long each stage in which something was tried took.
    pub durations: Vec<(Stage, Duration)>,
}

/// What became of a change.
#[derive(Debug)]
pub enum Outcome {
    /// It was made.
    Done,
    /// The kernel refused.
    Failed(KernelError),
    /// It was left out: an earlier failure left something in use that it would have taken away, or something missing that
    /// it would have led to.
    Skipped,
}

impl ApplyReport {
    /// Changes that failed, with their errors.
    pub fn failures(&self) -> impl Iterator<Item = (&Change, &KernelError)> {
        self.outcomes
            .iter()
            .filter_map(|(change, outcome)| match outcome {
                Outcome::Failed(error) => Some((change, error)),
                Outcome::Done | Outcome::Skipped => None,
            })
    }

    /// How many devices were deleted to be made anew.
    #[must_use]
    pub fn recreated(&self) -> usize {
        let deleted = |(change, outcome): &&(Change, Outcome)| {
            matches!(outcome, Outcome::Done) && Stage::of(change) == Stage::RecreateLinks
        };
        self.outcomes.iter().filter(deleted).count()
    }

    /// How many changes were made.
    #[must_use]
    pub fn done(&self) -> usize {
        self.outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Done))
            .count()
    }
}

/// Makes the changes in order. A failure stops only what would take away what the old state still needs, and what would
/// lead packets to what could not be made.
pub async fn apply(kernel: &mut impl Kernel, set: ChangeSet) -> ApplyReport {
    let mut report = ApplyReport::default();
    // Of each namespace on its own: what fails in one keeps nothing in another.
    let mut failed: Vec<(Option<Namespace>, Stage)> = Vec::new();
    let mut missing = Missing::of(&set.changes);
    // Whether routes or rules lead elsewhere than before, so that packets may still be on the old way.
    let mut led_away = false;
    let mut changes = set.changes.into_iter().peekable();
    while let Some(first) = changes.next() {
        let stage = Stage::of(&first);
        let rank = order::rank(&first);
        let mut batch = vec![first];
        while let Some(next) = changes.next_if(|next| order::rank(next) == rank) {
            batch.push(next);
        }
        let is_forbidden = |change: &Change| {
            let mut earlier = failed
                .iter()
                .filter(|(place, _)| place.as_ref() == change.namespace.as_ref());
            earlier.any(|(_, earlier)| stage.is_forbidden_after(*earlier))
        };
        let (forbidden, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_forbidden);
        let forbidden = forbidden.into_iter().map(|change| (change, Outcome::Skipped));
        report.outcomes.extend(forbidden);
        if batch.is_empty() {
            continue;
        }
        let (left_out, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|change| {
            let forbidden = missing.forbids(change);
            if forbidden {
                // Those that come after it in its stage may depend on it.
                missing.add(change);
            }
            forbidden
        });
        if led_away && stage > Stage::DeleteBackstops {
            kernel.grace().await;
            led_away = false;
        }
        led_away |= (Stage::Anchors..=Stage::DeleteAnchors).contains(&stage);
        let started = Instant::now();
        let results = kernel.execute(&batch).await;
        match report.durations.last_mut() {
            Some((last, duration)) if *last == stage => *duration += started.elapsed(),
            _ => report.durations.push((stage, started.elapsed())),
        }
        debug_assert_eq!(results.len(), batch.len());
        let outcomes = batch
            .into_iter()
            .zip(results)
            .map(|(change, result)| match result {
                Ok(()) => (change, Outcome::Done),
                Err(error) => (change, Outcome::Failed(error)),
            });
        for (change, outcome) in left_out
            .into_iter()
            .map(|change| (change, Outcome::Skipped))
            .chain(outcomes)
        {
            if !matches!(outcome, Outcome::Done) {
                failed.push((change.namespace.clone(), stage));
                missing.add(&change);
            }
            report.outcomes.push((change, outcome));
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diff::diff;
    use crate::kernel::fake::FakeKernel;
    use crate::model::{
        ANCHOR_METRIC, KernelState, Link, LinkKind, MAIN_TABLE, Owner, Route, RouteHop, RouteKey, RouteKind,
        RouteTarget,
    };
    use crate::net::LinkName;

    /// One route per prefix, each by its own device.
    fn routes(prefixes: &[&str]) -> KernelState {
        let mut state = KernelState::default();
        for (number, prefix) in prefixes.iter().enumerate() {
            let link = LinkName::new(&format!("d{number}")).unwrap();
            let hop = RouteTarget::Hop(Arc::new(RouteHop {
                link: link.clone(),
                gateway: None,
                encapsulation: None,
            }));
            let device = Link {
                owner: Owner::Ours,
                kind: LinkKind::Dummy,
                mac: None,
                mtu: None,
                arp: true,
                generates_addresses: false,
                up: true,
            };
            state.links.insert(link, device);
            state.route_targets.insert(hop.clone());
            let route = Route {
                owner: Owner::Ours,
                kind: RouteKind::NextHop {
                    target: hop,
                    source: None,
                    mtu: None,
                },
            };
            let key = RouteKey::new(MAIN_TABLE, prefix.parse().unwrap(), ANCHOR_METRIC);
            state.routes.insert(key, route);
        }
        state
    }

    #[test]
    fn a_route_that_can_t_be_deleted_gets_no_packets_of_more_specific_ones() {
        let observed = routes(&["fd0a::/48", "fd0a::3/128", "fd0b::3/128"]);
        let target = KernelState {
            routes: [].into(),
            ..observed.clone()
        };
        let set = diff(&observed, &target);
        assert!(set.changes[0].to_string().contains("fd0a::/48"), "{set:?}");
        let mut kernel = FakeKernel::new(observed);
        kernel.failing.insert(0);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(apply(&mut kernel, set));
        let left = kernel.state.routes.keys().map(|key| key.prefix.to_string());
        assert_eq!(left.collect::<Vec<_>>(), ["fd0a::/48", "fd0a::3/128"]);
    }
}
