//! Contents of BPF maps: for each prefix that a peer advertises, the next hops of its best tier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dataplane_ebpf::layout;
use ipnet::IpNet;

use crate::model::{Class, Group, KernelState, NextHop, NodeLabel, PrefixTarget, UnderlayDevice};
use crate::net::{Family, MacAddr};
use crate::resource::{Dataplane, Intent, Network, Problem, Reason};

use super::advertised::{advertised, of_prefixes};
use super::{NetworkLink, PeerLink};

pub(super) fn plan(
    intent: &Intent,
    networks: &[NetworkLink<'_>],
    desired: &mut KernelState,
    problems: &mut Vec<Problem>,
) {
    let own_mac = MacAddr::of_node(&intent.node().name);
    let is_ebpf = |links: &&NetworkLink<'_>| links.dataplane == Dataplane::Ebpf;
    for (prefix, shares) in of_prefixes(networks.iter().filter(is_ebpf)) {
        let mut members = BTreeMap::new();
        for share in shares {
            let class = class(share.network, share.peer, own_mac);
            let next_hop = Arc::new(next_hop(share.peer, class));
            desired.classes.insert(class, share.peer.device());
            desired.next_hops.insert(Arc::clone(&next_hop));
            if share.peer.withdrawn {
                desired.down.insert(Arc::clone(&next_hop));
            }
            members.insert(next_hop, share.weight);
        }
        if let Some(leads_to) = combine(prefix, members, desired, problems) {
            desired.prefixes.insert(prefix, leads_to);
        }
    }
    for links in networks.iter().filter(is_ebpf) {
        for own in advertised(intent.node(), links.network) {
            desired.prefixes.insert(own.cidr, PrefixTarget::Local);
        }
    }
    drop_unused(desired);
}

fn class(network: &Network, peer: &PeerLink<'_>, source_mac: MacAddr) -> Class {
    if let Some(neighbour) = &peer.neighbour {
        return Class::bare(UnderlayDevice::of(&neighbour.link));
    }
    let outer = Family::of(peer.remote);
    let tunnel = peer.tunnel();
    if let Some(link) = &peer.wireguard {
        return Class::wireguard(link.unit);
    }
    let ethernet = tunnel.carries_ethernet();
    Class {
        tunnel,
        unit: 0,
        vni: if ethernet { network.vni } else { 0 },
        source_mac: ethernet.then_some(source_mac),
        ttl: network.ttl,
        dscp: network.dscp,
        dont_fragment: network.df && outer == Family::Ipv4,
        // Only GENEVE and VXLAN have an outer UDP header here.
        zero_checksum: network.zero_checksum(outer) && ethernet,
        underlay: None,
    }
}

fn next_hop(peer: &PeerLink<'_>, class: Class) -> NextHop {
    NextHop {
        node: NodeLabel::of(&peer.node.name),
        remote: peer.remote,
        local: peer.local,
        destination_mac: class
            .tunnel
            .carries_ethernet()
            .then(|| MacAddr::of_node(&peer.node.name)),
        gateway: peer.neighbour.as_ref().map(|neighbour| neighbour.address),
        class,
    }
}

/// One next hop, or a group of next hops, which is added to the desired state.
fn combine(
    prefix: IpNet,
    members: BTreeMap<Arc<NextHop>, u8>,
    desired: &mut KernelState,
    problems: &mut Vec<Problem>,
) -> Option<PrefixTarget> {
    let mut members = members.into_iter().collect::<Vec<_>>();
    if members.len() > layout::Group::MAX_MEMBERS {
        problems.push(Problem::error(
            Reason::Capacity,
            format!("prefix {prefix}"),
            format!(
                "{} nodes advertise it; only the first {} in order of name are used",
                members.len(),
                layout::Group::MAX_MEMBERS
            ),
            "let fewer nodes advertise it, or put some of them into another tier".to_owned(),
        ));
        members.truncate(layout::Group::MAX_MEMBERS);
    }
    if members.len() == 1 {
        return members.pop().map(|(next_hop, _)| PrefixTarget::NextHop(next_hop));
    }
    let group = Arc::new(Group { members });
    desired.groups.insert(Arc::clone(&group));
    Some(PrefixTarget::Group(group))
}

/// Removes objects that no prefix points to, so that they occupy no slot: those of a peer whose prefixes are
/// all in worse tiers, or are also advertised by this node.
fn drop_unused(desired: &mut KernelState) {
    let groups = desired.prefixes.values().filter_map(|leads_to| match leads_to {
        PrefixTarget::Group(group) => Some(Arc::clone(group)),
        PrefixTarget::Local | PrefixTarget::NextHop(_) => None,
    });
    desired.groups = groups.collect();
    desired.next_hops = desired
        .prefixes
        .values()
        .flat_map(PrefixTarget::next_hops)
        .cloned()
        .collect();
    desired
        .down
        .retain(|next_hop| desired.next_hops.contains(next_hop));
    let used = desired
        .next_hops
        .iter()
        .map(|next_hop| next_hop.class)
        .collect::<BTreeSet<_>>();
    desired.classes.retain(|class, _| used.contains(class));
}
