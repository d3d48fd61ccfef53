//! The pairs of hosts and of pods that send traffic, and their links.
use std::collections::BTreeMap;

use adit_tests::topology::{Host, Node};
use anyhow::{Context as _, Result};
use dataplane_user::net::Family;
use dataplane_user::status::{RefusedStatus, Status};

use super::links::Links;
use super::site::Site;
use super::traffic::{Endpoint, Pair};

/// The hosts and pods that send traffic, in the order of the nodes.
pub(crate) struct Ends<'a> {
    nodes: &'a [Node],
    pub(crate) hosts: Vec<Endpoint<'a>>,
    pub(crate) pods: Vec<Endpoint<'a>>,
}

impl<'a> Ends<'a> {
    pub(crate) fn new(site: &'a Site) -> Self {
        let host = |host: &'a Host| Endpoint {
            name: host.name.to_owned(),
            end: host.end(),
        };
        let pod = |host: &'a Host| Endpoint {
            name: format!("{}-pod", host.name),
            end: host.pod_end(),
        };
        Self {
            nodes: &site.topology.nodes,
            hosts: site.hosts.iter().map(host).collect(),
            pods: site.hosts.iter().map(pod).collect(),
        }
    }
}

/// Every ordered pair of hosts, and of pods, in every family that their link transports.
pub(crate) fn all<'a>(
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

/// The MTU of the overlay on a node.
pub(crate) fn mtu(statuses: &BTreeMap<String, Status>, node: &Node) -> Result<u32> {
    let network = statuses.get(node.name).and_then(|status| status.networks.first());
    Ok(network
        .with_context(|| {
            format!(
                "the agent of {} is ready, but its status has no network",
                node.name
            )
        })?
        .mtu)
}

/// All refused links of all agents, sorted.
pub(crate) fn refused(statuses: &BTreeMap<String, Status>) -> Vec<RefusedStatus> {
    let all = statuses.values().flat_map(|status| status.refused.clone());
    sorted(all.collect())
}

/// Sorts refused links by their fields and removes duplicates.
pub(crate) fn sorted(mut all: Vec<RefusedStatus>) -> Vec<RefusedStatus> {
    let key = |one: &RefusedStatus| {
        let RefusedStatus {
            from,
            to,
            family,
            reason,
        } = one.clone();
        (from, to, family, reason)
    };
    all.sort_by_key(key);
    all.dedup();
    all
}
