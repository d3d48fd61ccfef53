//! Who talks to whom, over what, by the agents' own account.
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};

use super::agent::{Refused, Status};
use super::family::Family;
use super::manifest::Encapsulation;
use super::netns::NetNs;
use super::site::Site;
use super::topology::Node;
use super::traffic::{Endpoint, Pair};

/// Who talks, by the order of the nodes.
pub(super) struct Ends<'a> {
    nodes: &'a [Node],
    hosts: Vec<Endpoint<'a>>,
    pods: Vec<Endpoint<'a>>,
}

impl<'a> Ends<'a> {
    pub(super) fn new(site: &'a Site) -> Self {
        let nodes = &site.topology.nodes;
        let host = |(node, namespace): (&Node, &'a NetNs)| {
            Endpoint::new(node.name.clone(), namespace, |family| node.overlay(family))
        };
        let pod = |(node, namespace): (&Node, &'a NetNs)| {
            Endpoint::new(format!("{}-pod", node.name), namespace, |family| node.pod(family))
        };
        let hosts = nodes.iter().zip(&site.hosts).map(host).collect();
        Self {
            nodes,
            hosts,
            pods: nodes.iter().zip(&site.pods).map(pod).collect(),
        }
    }
}

/// Every ordered pair of hosts, and of pods, in every family; without those that the agents refuse.
pub(super) fn all<'a>(
    ends: &'a Ends<'a>,
    encapsulation: Encapsulation,
    statuses: &BTreeMap<String, Status>,
) -> Result<Vec<Pair<'a>>> {
    let refused = refused(statuses);
    let is_refused = |from: &Node, to: &Node, family: Family| {
        let ways = [(&from.name, &to.name), (&to.name, &from.name)];
        refused
            .iter()
            .any(|one| ways.contains(&(&one.from, &one.to)) && one.family == family.name())
    };
    let mut all = Vec::new();
    for group in [&ends.hosts, &ends.pods] {
        for (source, from) in ends.nodes.iter().zip(group) {
            for (target, to) in ends.nodes.iter().zip(group) {
                let families = Family::BOTH.into_iter();
                let open: Vec<Family> = families
                    .filter(|family| !is_refused(source, target, *family))
                    .collect();
                if source == target || open.is_empty() {
                    continue;
                }
                let (underlay, mtu) = (
                    underlay(statuses, source, target, encapsulation)?,
                    mtu(statuses, source)?,
                );
                all.extend(open.into_iter().map(|family| Pair {
                    from,
                    to,
                    family,
                    encapsulation,
                    underlay,
                    mtu,
                }));
            }
        }
    }
    Ok(all)
}

/// By which family one node reaches the other; it must be by this encapsulation.
fn underlay(
    statuses: &BTreeMap<String, Status>,
    from: &Node,
    to: &Node,
    encapsulation: Encapsulation,
) -> Result<Family> {
    let (from, to) = (&from.name, &to.name);
    let peers = statuses
        .get(from)
        .map(|status| &status.peers)
        .context("every node has a status")?;
    let peer = peers.iter().find(|peer| peer.node == *to);
    let peer = peer.with_context(|| format!("{from} is ready and has no link to {to}"))?;
    if peer.encapsulation != encapsulation.name() {
        bail!(
            "{from} reaches {to} by {} instead of {}",
            peer.encapsulation,
            encapsulation.name()
        );
    }
    Ok(Family::of(peer.remote))
}

/// The overlay's MTU on a node.
pub(super) fn mtu(statuses: &BTreeMap<String, Status>, node: &Node) -> Result<u32> {
    let network = statuses
        .get(&node.name)
        .and_then(|status| status.networks.first());
    Ok(network
        .with_context(|| format!("{} is ready and a member of nothing", node.name))?
        .mtu)
}

pub(super) fn refused(statuses: &BTreeMap<String, Status>) -> BTreeSet<Refused> {
    statuses
        .values()
        .flat_map(|status| status.refused.iter().cloned())
        .collect()
}
