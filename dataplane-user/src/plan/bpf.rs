//! Map contents: for each prefix that a peer carries, the next hops of its best tier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dataplane_ebpf::layout;
use ipnet::IpNet;

use crate::model::{Class, Group, KernelState, NextHop, NodeLabel, Target};
use crate::net::family::host_prefix;
use crate::net::{Family, MacAddr};
use crate::resource::network::UdpChecksum;
use crate::resource::{CarriedPrefix, Intent, Network, Node, Problem, Reason};

use super::devices::tunnel_device;
use super::{NetworkLink, PeerLink};

/// The next hops that carry one prefix, by tier, with their weights.
type Carriers = BTreeMap<u32, BTreeMap<Arc<NextHop>, u8>>;

pub(super) fn plan(
    intent: &Intent,
    networks: &[NetworkLink<'_>],
    target: &mut KernelState,
    problems: &mut Vec<Problem>,
) {
    let own_mac = MacAddr::of_node(&intent.node().name);
    let mut carriers: BTreeMap<IpNet, Carriers> = BTreeMap::new();
    for links in networks {
        for peer in &links.peers {
            let Some(device) = tunnel_device(peer) else {
                continue;
            };
            let class = class(links.network, peer, own_mac);
            let next_hop = Arc::new(next_hop(peer, class));
            target.classes.insert(class, Some(device));
            target.next_hops.insert(Arc::clone(&next_hop));
            let fits = |carried: &CarriedPrefix| peer.carries(Family::of_prefix(carried.cidr));
            for carried in carried(peer.node, links.network).filter(fits) {
                let tier = carriers
                    .entry(carried.cidr)
                    .or_default()
                    .entry(carried.tier)
                    .or_default();
                tier.insert(Arc::clone(&next_hop), carried.weight);
            }
        }
    }
    for (prefix, tiers) in carriers {
        let Some((_, members)) = tiers.into_iter().next() else {
            continue;
        };
        if let Some(leads_to) = combine(prefix, members, target, problems) {
            target.prefixes.insert(prefix, leads_to);
        }
    }
    for links in networks {
        for own in carried(intent.node(), links.network) {
            target.prefixes.insert(own.cidr, Target::Local);
        }
    }
    drop_unused(target);
}

/// What a node carries in a network: its addresses there, and its prefixes there.
pub(super) fn carried<'a>(node: &'a Node, network: &'a Network) -> impl Iterator<Item = CarriedPrefix> + 'a {
    let inside = |cidr: &IpNet| network.prefixes.iter().any(|prefix| prefix.contains(cidr));
    let own = |&address| CarriedPrefix {
        cidr: host_prefix(address),
        weight: 1,
        tier: 0,
    };
    node.addresses
        .iter()
        .map(own)
        .chain(node.prefixes.iter().copied())
        .filter(move |c| inside(&c.cidr))
}

fn class(network: &Network, peer: &PeerLink<'_>, source_mac: MacAddr) -> Class {
    let outer = Family::of(peer.remote);
    let zero_checksum = match network.udp_checksum {
        Some(UdpChecksum::Zero) => true,
        Some(UdpChecksum::Compute) => false,
        None => outer == Family::Ipv4,
    };
    let carrier = peer.carrier();
    if !carrier.takes_tunnel_key() {
        return bare_class(peer);
    }
    let ethernet = carrier.carries_ethernet();
    Class {
        carrier,
        unit: 0,
        vni: if ethernet { network.vni } else { 0 },
        source_mac: ethernet.then_some(source_mac),
        ttl: network.ttl,
        dscp: network.dscp,
        dont_fragment: network.df && outer == Family::Ipv4,
        // Only those two have UDP outside.
        zero_checksum: zero_checksum && ethernet,
    }
}

/// The class of a device that makes its outer header by itself: nothing of the network's is in it.
fn bare_class(peer: &PeerLink<'_>) -> Class {
    Class {
        carrier: peer.carrier(),
        unit: peer.wireguard.as_ref().map_or(0, |link| link.unit),
        vni: 0,
        source_mac: None,
        ttl: 64,
        dscp: Some(0),
        dont_fragment: false,
        zero_checksum: false,
    }
}

fn next_hop(peer: &PeerLink<'_>, class: Class) -> NextHop {
    NextHop {
        node: NodeLabel::of(&peer.node.name),
        remote: peer.remote,
        local: peer.local,
        destination_mac: class
            .carrier
            .carries_ethernet()
            .then(|| MacAddr::of_node(&peer.node.name)),
        class,
    }
}

/// One next hop, or a group of them that is entered in the target.
fn combine(
    prefix: IpNet,
    members: BTreeMap<Arc<NextHop>, u8>,
    target: &mut KernelState,
    problems: &mut Vec<Problem>,
) -> Option<Target> {
    let mut members = members.into_iter().collect::<Vec<_>>();
    if members.len() > layout::Group::MAX_MEMBERS {
        problems.push(Problem::error(
            Reason::Capacity,
            format!("prefix {prefix}"),
            format!(
                "{} nodes carry it, {} are used: the first by name",
                members.len(),
                layout::Group::MAX_MEMBERS
            ),
            "let fewer nodes carry it, or put some into another tier".to_owned(),
        ));
        members.truncate(layout::Group::MAX_MEMBERS);
    }
    if members.len() == 1 {
        return members.pop().map(|(next_hop, _)| Target::NextHop(next_hop));
    }
    let group = Arc::new(Group { members });
    target.groups.insert(Arc::clone(&group));
    Some(Target::Group(group))
}

/// What no prefix points at (a peer all of whose prefixes are in worse tiers, or are ours too) takes no slot.
fn drop_unused(target: &mut KernelState) {
    let groups = target.prefixes.values().filter_map(|leads_to| match leads_to {
        Target::Group(group) => Some(Arc::clone(group)),
        Target::Local | Target::NextHop(_) => None,
    });
    target.groups = groups.collect();
    target.next_hops = target
        .prefixes
        .values()
        .flat_map(Target::next_hops)
        .cloned()
        .collect();
    let used = target
        .next_hops
        .iter()
        .map(|next_hop| next_hop.class)
        .collect::<BTreeSet<_>>();
    target.classes.retain(|class, _| used.contains(class));
}
