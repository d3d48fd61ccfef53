//! Applies changes, continues after failures, and reports one outcome for each change.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::time::{Duration, Instant};

use crate::kernel::{Kernel, KernelError};
use crate::model::change::Dependencies;
use crate::model::order::Stage;
use crate::model::{Change, ChangeSet};

/// The outcome of each change, in order.
#[derive(Debug, Default)]
pub struct ApplyReport {
    /// Changes and their outcomes.
    pub outcomes: Vec<(Change, Outcome)>,
    /// The duration of each stage in which a change was tried.
    pub durations: Vec<(Stage, Duration)>,
}

/// The outcome of a change.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The kernel refused it.
    Failed(KernelError),
    /// It was skipped because it depends on a change that failed.
    Skipped {
        /// The index of the failed change in the report.
        failed: usize,
    },
}

impl ApplyReport {
    /// Changes that failed, with their errors.
    pub fn failures(&self) -> impl Iterator<Item = (&Change, &KernelError)> {
        self.outcomes
            .iter()
            .filter_map(|(change, outcome)| match outcome {
                Outcome::Failed(error) => Some((change, error)),
                Outcome::Done | Outcome::Skipped { .. } => None,
            })
    }

    /// The changes that failed and that others depend on, each with the changes that were skipped because of
    /// it.
    #[must_use]
    pub fn waited_for(&self) -> Vec<(&Change, Vec<&Change>)> {
        let mut waiting: BTreeMap<usize, Vec<&Change>> = BTreeMap::new();
        for (change, outcome) in &self.outcomes {
            if let Outcome::Skipped { failed } = outcome {
                waiting.entry(*failed).or_default().push(change);
            }
        }
        let named = waiting
            .into_iter()
            .map(|(failed, waiting)| (&self.outcomes[failed].0, waiting));
        named.collect()
    }

    /// How many devices were deleted to be recreated.
    #[must_use]
    pub fn recreated(&self) -> usize {
        let deleted = |(change, outcome): &&(Change, Outcome)| {
            matches!(outcome, Outcome::Done) && change.stage() == Stage::RecreateLinks
        };
        self.outcomes.iter().filter(deleted).count()
    }

    /// How many changes are done.
    #[must_use]
    pub fn done(&self) -> usize {
        self.outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Done))
            .count()
    }
}

/// Applies the changes in order. After a failure, only changes that depend on the failed one are skipped.
pub async fn apply(kernel: &mut impl Kernel, set: ChangeSet) -> ApplyReport {
    let mut report = ApplyReport::default();
    let mut failed_conditions = FailedConditions::default();
    // Whether packets may still be on an old path.
    let mut rerouted = false;
    let dependencies = set
        .dependencies
        .into_iter()
        .chain(iter::repeat_with(Dependencies::default));
    let mut steps = set.changes.into_iter().zip(dependencies).peekable();
    while let Some((first, needs)) = steps.next() {
        let rank = first.rank();
        let mut batch = Batch::default();
        batch.add(first, needs, &mut failed_conditions, &mut report);
        while let Some((next, needs)) =
            steps.next_if(|(next, needs)| next.rank() == rank && batch.may_add(needs))
        {
            batch.add(next, needs, &mut failed_conditions, &mut report);
        }
        if batch.changes.is_empty() {
            continue;
        }
        let (stage, _) = rank;
        if rerouted && stage > Stage::DeleteBackstops {
            kernel.wait_rcu_grace().await;
            rerouted = false;
        }
        rerouted |= reroutes(stage);
        let started = Instant::now();
        let results = kernel.execute(&batch.changes).await;
        match report.durations.last_mut() {
            Some((last, duration)) if *last == stage => *duration += started.elapsed(),
            _ => report.durations.push((stage, started.elapsed())),
        }
        debug_assert_eq!(results.len(), batch.changes.len());
        for ((change, provides), result) in batch.changes.into_iter().zip(batch.provides).zip(results) {
            let outcome = match result {
                Ok(()) => Outcome::Done,
                Err(error) => {
                    failed_conditions.add(&provides, report.outcomes.len());
                    Outcome::Failed(error)
                }
            };
            report.outcomes.push((change, outcome));
        }
    }
    report
}

/// Whether changes of a stage move packets from one path to another.
fn reroutes(stage: Stage) -> bool {
    let moves = [
        Stage::Classes,
        Stage::NextHopStates,
        Stage::Prefixes,
        Stage::RouteGroups,
        Stage::ReplacePrograms,
        Stage::TakeOver,
    ];
    moves.contains(&stage) || (Stage::Anchors..=Stage::DeleteAnchors).contains(&stage)
}

/// Changes that are executed together: none requires a condition that another one provides.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    provides: Vec<Vec<u32>>,
    /// The conditions of `provides` in one set.
    pending: BTreeSet<u32>,
}

impl Batch {
    fn may_add(&self, needs: &Dependencies) -> bool {
        !needs
            .requires
            .iter()
            .any(|condition| self.pending.contains(condition))
    }

    /// Adds a change, or reports it as skipped if a condition that it requires has failed.
    fn add(
        &mut self,
        change: Change,
        needs: Dependencies,
        failed_conditions: &mut FailedConditions,
        report: &mut ApplyReport,
    ) {
        if let Some(failed) = failed_conditions.failure(&needs) {
            failed_conditions.add(&needs.provides, failed);
            report.outcomes.push((change, Outcome::Skipped { failed }));
            return;
        }
        self.pending.extend(&needs.provides);
        self.changes.push(change);
        self.provides.push(needs.provides);
    }
}

/// Conditions that don't hold, with the index in the report of the change whose failure is the cause.
#[derive(Default)]
struct FailedConditions(BTreeMap<u32, usize>);

impl FailedConditions {
    fn add(&mut self, provides: &[u32], failed: usize) {
        for condition in provides {
            self.0.entry(*condition).or_insert(failed);
        }
    }

    fn failure(&self, needs: &Dependencies) -> Option<usize> {
        let mut required = needs.requires.iter();
        required.find_map(|condition| self.0.get(condition).copied())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::diff::diff;
    use crate::kernel::fake::FakeKernel;
    use crate::model::{
        ANCHOR_METRIC, Class, KernelState, Link, LinkKind, MAIN_TABLE, NextHop, NextHopObject, NodeLabel,
        Owner, PrefixTarget, Route, RouteHop, RouteKey, RouteKind,
    };
    use crate::net::LinkName;

    /// One route per prefix, each through a device of its own.
    fn routes(prefixes: &[&str]) -> KernelState {
        let mut state = KernelState::default();
        for (number, prefix) in prefixes.iter().enumerate() {
            let link = LinkName::new(&format!("d{number}")).unwrap();
            let hop = NextHopObject::Hop(Arc::new(RouteHop {
                link: link.clone(),
                gateway: None,
                encapsulation: None,
            }));
            let device = Link {
                owner: Owner::Adit,
                kind: LinkKind::Dummy,
                mac: None,
                mtu: None,
                arp: true,
                generates_addresses: false,
                up: true,
            };
            state.links.insert(link, device);
            state.next_hop_objects.insert(hop.clone());
            let route = Route {
                owner: Owner::Adit,
                kind: RouteKind::NextHop {
                    object: hop,
                    source: None,
                    mtu: None,
                },
            };
            let key = RouteKey::new(MAIN_TABLE, prefix.parse().unwrap(), ANCHOR_METRIC);
            state.routes.insert(key, route);
        }
        state
    }

    /// A WireGuard device with a class, and a prefix that leads to this peer address.
    fn by_program(remote: &str) -> KernelState {
        let link = LinkName::new("d0").unwrap();
        let mut state = routes(&["fd0c::/48"]);
        let class = Class::wireguard(0);
        let next_hop = Arc::new(NextHop {
            node: NodeLabel::from_text("b"),
            remote: remote.parse().unwrap(),
            local: "192.0.2.1".parse().unwrap(),
            destination_mac: None,
            gateway: None,
            class,
        });
        state.classes.insert(class, Some(link));
        state.next_hops.insert(Arc::clone(&next_hop));
        let target = PrefixTarget::NextHop(next_hop);
        state.prefixes.insert("fd0c::1/128".parse().unwrap(), target);
        state
    }

    #[test]
    fn packets_leave_a_former_path_before_it_is_deleted() {
        let (observed, desired) = (by_program("192.0.2.2"), by_program("192.0.2.3"));
        let set = diff(&observed, &desired);
        let planned = set.changes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let place = |text: &str| planned.iter().position(|change| change.starts_with(text));
        assert_eq!(
            [place("put prefix"), place("delete next hop")],
            [Some(1), Some(2)],
            "{planned:#?}"
        );
        let mut kernel = FakeKernel::new(observed);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(apply(&mut kernel, set));
        assert_eq!(kernel.graces, [2]);
    }

    #[test]
    fn a_route_that_can_t_be_deleted_gets_no_packets_of_more_specific_ones() {
        let observed = routes(&["fd0a::/48", "fd0a::3/128", "fd0b::3/128"]);
        let desired = KernelState {
            routes: [].into(),
            ..observed.clone()
        };
        let set = diff(&observed, &desired);
        assert!(set.changes[0].to_string().contains("fd0a::/48"), "{set:?}");
        let mut kernel = FakeKernel::new(observed);
        kernel.failing.insert(0);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(apply(&mut kernel, set));
        let left = kernel.state.routes.keys().map(|key| key.prefix.to_string());
        assert_eq!(left.collect::<Vec<_>>(), ["fd0a::/48", "fd0a::3/128"]);
    }
}
