//! Sets the parts of a status from the plan, from observed state and from reports of reconciliations.

use std::sync::Arc;
use std::time::Duration;

use super::{
    DeclaredPeerStatus, NetworkStatus, PathStatus, PeerStatus, ProblemStatus, ReconciliationStatus,
    RefusedStatus, RepairStatus, RepairsStatus, Status, WireGuardStatus,
};
use crate::apply::{ApplyReport, Outcome};
use crate::drift::Repairs;
use crate::model::facts::NodeFacts;
use crate::model::{KernelState, NextHopObject};
use crate::net::Family;
use crate::plan::{NetworkLink, route_hop};
use crate::resource::{Dataplane, Intent, Problem, Reason, Severity};

impl From<&Problem> for ProblemStatus {
    fn from(problem: &Problem) -> ProblemStatus {
        ProblemStatus {
            severity: problem.severity,
            reason: problem.reason.name().to_owned(),
            subject: problem.subject.clone(),
            message: problem.message.clone(),
            remedy: problem.remedy.clone(),
        }
    }
}

impl Status {
    /// Sets the problems, the refused pairs among them, and whether the node is ready.
    pub fn set_problems(&mut self, problems: &[Problem]) {
        let mut problems = problems.iter().collect::<Vec<_>>();
        problems.sort();
        let worst = problems.iter().map(|problem| problem.severity).max();
        self.ready =
            self.source.synced && self.reconciliation.residual == 0 && worst != Some(Severity::Error);
        self.problems = problems.iter().copied().map(ProblemStatus::from).collect();
        self.refused = problems
            .iter()
            .filter_map(|problem| {
                let refused = problem.refused.as_ref()?;
                Some(RefusedStatus {
                    from: refused.from.to_string(),
                    to: refused.to.to_string(),
                    family: family_name(refused.family).to_owned(),
                    reason: problem.message.clone(),
                })
            })
            .collect();
    }

    /// Sets the peers that `NetlinkRoute` manifests name.
    pub fn set_declared_peers(&mut self, intent: &Intent, facts: &NodeFacts) {
        let peers = intent.resources().netlink.peers(&intent.node().name);
        self.declared_peers = peers
            .into_iter()
            .map(|id| DeclaredPeerStatus {
                id: id.to_string(),
                withdrawn: facts.is_withdrawn(id.as_str()),
            })
            .collect();
    }

    /// Sets networks and peers, from the plan.
    pub fn set_links(&mut self, intent: &Intent, links: &[NetworkLink<'_>]) {
        self.node = intent.node().name.to_string();
        let unprotected = intent.unprotected_by_default();
        let unprotected = unprotected
            .map(|network| network.name.as_str())
            .collect::<Vec<_>>();
        self.notes = match unprotected.is_empty() {
            true => Vec::new(),
            false => vec![format!(
                "sourceProtection is not enforced yet for packets from tunnels: packets from unknown sources are \
                 counted and accepted (network {})",
                unprotected.join(", ")
            )],
        };
        self.networks = links
            .iter()
            .map(|link| NetworkStatus {
                name: link.network.name.to_string(),
                prefixes: link.network.prefixes.iter().map(ToString::to_string).collect(),
                mtu: link.mtu(),
                vni: link.network.vni,
            })
            .collect();
        let peers = links
            .iter()
            .flat_map(|link| link.peers.iter().map(move |peer| (link, peer)));
        self.peers = peers
            .map(|(link, peer)| PeerStatus {
                node: peer.node.name.clone(),
                network: link.network.name.to_string(),
                encapsulation: peer.encapsulation,
                remote: Some(peer.remote),
                local: Some(peer.local),
                mtu: peer.mtu(),
                wireguard: peer.wireguard.as_ref().map(|link| WireGuardStatus {
                    device: link.device(),
                    own_key: Some(link.own_key),
                    public_key: Some(link.public_key),
                    session: None,
                }),
                withdrawn: peer.withdrawn,
                dataplane: link.dataplane,
                path: None,
                received: None,
            })
            .collect();
    }

    /// Sets the paths of peers with dataplane `routes`, from the observed state.
    pub fn set_routed_paths(&mut self, links: &[NetworkLink<'_>], observed: &KernelState) {
        let peers = links
            .iter()
            .flat_map(|link| link.peers.iter().map(move |peer| (link, peer)));
        for (status, (link, peer)) in self.peers.iter_mut().zip(peers) {
            if status.dataplane != Dataplane::Routes {
                continue;
            }
            let Some(hop) = route_hop(link.network, peer).map(Arc::new) else {
                continue;
            };
            let installed = observed
                .next_hop_objects
                .contains(&NextHopObject::Hop(Arc::clone(&hop)));
            status.path = (installed || peer.withdrawn).then(|| PathStatus {
                device: Some(hop.link.to_string()),
                gateway: hop.gateway,
                usable: installed && !peer.withdrawn,
                packets: 0,
                bytes: 0,
            });
        }
    }

    /// Sets how long ago the last reconciliation ended, and a problem if the loop hangs: then nothing
    /// restores changes.
    pub fn set_age(&mut self, ended_ago: Option<Duration>, hangs: Option<String>) {
        self.reconciliation.ended_ago_s = ended_ago.map(|age| age.as_secs());
        if let Some(why) = hangs {
            self.ready = false;
            let remedy = "restart the agent; traffic continues meanwhile";
            let problem = Problem::error(Reason::Hanging, "agent".to_owned(), why, remedy.to_owned());
            self.problems.push(ProblemStatus::from(&problem));
        }
    }

    /// Why the node is not ready, one line for each error; `None` if it is ready.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        if self.ready {
            return None;
        }
        let errors = self.problems.iter();
        let errors = errors.filter(|p| p.severity == Severity::Error);
        let errors = errors
            .map(|p| format!("{}: {} ({})", p.subject, p.message, p.reason))
            .collect::<Vec<_>>();
        Some(match (errors.is_empty(), self.reconciliation.number) {
            (false, _) => errors.join("\n"),
            (true, 0) => "no reconciliation has ended yet".to_owned(),
            (true, _) => format!(
                "not converged: {} changes are still to be made",
                self.reconciliation.residual
            ),
        })
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

impl ReconciliationStatus {
    /// From the outcomes of changes, and the number of those that are still to be made.
    #[must_use]
    pub fn of(report: &ApplyReport, residual: usize) -> ReconciliationStatus {
        let skipped = |(_, outcome): &&(_, Outcome)| matches!(outcome, Outcome::Skipped { .. });
        ReconciliationStatus {
            changed: report.done(),
            failed: report.failures().count(),
            skipped: report.outcomes.iter().filter(skipped).count(),
            residual,
            recreated: report.recreated(),
            ..ReconciliationStatus::default()
        }
    }
}

impl From<&Repairs> for RepairsStatus {
    fn from(repairs: &Repairs) -> RepairsStatus {
        let kinds = repairs.counts.iter();
        let recent = repairs.recent.iter().map(|repair| RepairStatus {
            kind: repair.kind.name().to_owned(),
            object: repair.object.to_string(),
            found: repair.found.clone(),
        });
        RepairsStatus {
            total: repairs.counts.values().sum(),
            kinds: kinds
                .map(|(kind, number)| (kind.name().to_owned(), *number))
                .collect(),
            recent: recent.collect(),
        }
    }
}
