//! Who talks to whom, over what.
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};

use super::agent::{Refused, Status};
use super::family::Family;
use super::links::Links;
use super::netns::NetNs;
use super::shared;
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

    /// For flows to the prefix that several carry.
    pub(super) fn to_shared(&'a self) -> shared::Ends<'a> {
        shared::Ends {
            hosts: &self.hosts,
            pods: &self.pods,
        }
    }
}

/// Every ordered pair of hosts, and of pods, in every family that their link carries.
pub(super) fn all<'a>(
    ends: &'a Ends<'a>,
    links: &Links,
    statuses: &BTreeMap<String, Status>,
) -> Result<Vec<Pair<'a>>> {
    let mut all = Vec::new();
    for group in [&ends.hosts, &ends.pods] {
        for ((source, target), link) in links.iter() {
            let mtu = mtu(statuses, &ends.nodes[source])?;
            let open = Family::BOTH.into_iter().filter(|family| link.carries(*family));
            all.extend(open.map(|family| Pair {
                from: &group[source],
                to: &group[target],
                family,
                link,
                mtu,
            }));
        }
    }
    Ok(all)
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
