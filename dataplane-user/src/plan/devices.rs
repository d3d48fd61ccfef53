//! Devices: the anchor always, and each tunnel device while a peer needs it.

use std::collections::BTreeSet;

use crate::model::devices::{ANCHOR, GENEVE, IP6TNL, IPIP, VXLAN};
use crate::model::{KernelState, Link, LinkKind, Owner, TunnelKind};
use crate::net::{LinkName, MacAddr};
use crate::resource::{Intent, Network};

use super::mtu::IPV6_MINIMUM;
use super::{NetworkLink, PeerLink, WireGuardLink};

/// The device through which packets leave to a peer; `None` without a tunnel.
pub(super) fn tunnel_device(peer: &PeerLink<'_>) -> Option<LinkName> {
    let name = match peer.tunnel() {
        TunnelKind::Geneve => GENEVE,
        TunnelKind::Vxlan => VXLAN,
        TunnelKind::Ipip => IPIP,
        TunnelKind::Ip6tnl => IP6TNL,
        TunnelKind::WireGuard => return peer.wireguard.as_ref().map(WireGuardLink::device),
        TunnelKind::None => return None,
    };
    Some(LinkName::constant(name))
}

/// The devices on which packets of a peer arrive: two during the rotation of a WireGuard key.
fn tunnel_devices(peer: &PeerLink<'_>) -> Vec<LinkName> {
    match &peer.wireguard {
        Some(link) => link.all().map(WireGuardLink::device).collect(),
        None => tunnel_device(peer).into_iter().collect(),
    }
}

pub(super) fn plan(intent: &Intent, networks: &[NetworkLink<'_>], desired: &mut KernelState) {
    let link = |kind| Link {
        owner: Owner::Adit,
        kind,
        mac: None,
        mtu: None,
        arp: false,
        generates_addresses: false,
        up: true,
    };
    // The MTU of the anchor is the largest MTU of all networks. It is a second limit behind the MTU of each
    // route.
    let mtu = networks.iter().map(NetworkLink::mtu).max();
    desired.links.insert(
        LinkName::constant(ANCHOR),
        Link {
            mtu,
            ..link(LinkKind::Dummy)
        },
    );

    for (name, peer, network) in needed(networks) {
        let tunnel = peer.tunnel();
        let kind = match tunnel {
            TunnelKind::Geneve => LinkKind::Geneve {
                port: network.ports.geneve,
            },
            TunnelKind::Vxlan => LinkKind::Vxlan {
                port: network.ports.vxlan,
                source_ports: network.ports.vxlan_source,
            },
            TunnelKind::Ipip => LinkKind::Ipip { protocol: IPV4 },
            TunnelKind::Ip6tnl => LinkKind::Ip6tnl { protocol: ANY },
            TunnelKind::WireGuard => LinkKind::WireGuard,
            TunnelKind::None => continue,
        };
        let mac = tunnel
            .carries_ethernet()
            .then(|| MacAddr::of_node(&intent.node().name));
        // A tunnel device must accept every packet that passes the anchor: ipip refuses larger ones, and no
        // device receives IPv6 with an MTU below 1280.
        let mtu = match tunnel {
            TunnelKind::WireGuard => Some(wireguard_mtu(networks, &name)),
            _ => mtu.map(|mtu| mtu.min(LARGEST)),
        };
        desired.links.insert(
            name,
            Link {
                mac,
                mtu,
                ..link(kind)
            },
        );
    }
}

/// The MTU of a WireGuard device. WireGuard pads packets up to it, so it must fit into the paths to all
/// peers.
fn wireguard_mtu(networks: &[NetworkLink<'_>], name: &LinkName) -> u32 {
    let peers = networks.iter().flat_map(|network| &network.peers);
    let straight = peers.filter(|peer| peer.looped.is_none());
    let on_it = straight.filter(|peer| tunnel_devices(peer).contains(name));
    let smallest = on_it.map(PeerLink::mtu).min();
    smallest.unwrap_or(IPV6_MINIMUM).max(IPV6_MINIMUM)
}

/// The largest MTU that every tunnel device accepts, in bytes: an IP packet has at most 65,535 bytes, and no
/// encapsulation adds more than 70.
const LARGEST: u32 = 65_465;

/// IPv4 in IP, `IPPROTO_IPIP`.
const IPV4: u8 = 4;
/// Both families.
const ANY: u8 = 0;

/// The devices that peers need, each with one of these peers and its network (ports are equal in all
/// networks).
fn needed<'n, 'a>(networks: &'n [NetworkLink<'a>]) -> Vec<(LinkName, &'n PeerLink<'a>, &'a Network)> {
    let mut seen = BTreeSet::new();
    let peers = networks
        .iter()
        .flat_map(|links| links.peers.iter().map(|peer| (peer, links.network)));
    peers
        .flat_map(|(peer, network)| {
            tunnel_devices(peer)
                .into_iter()
                .map(move |name| (name, peer, network))
        })
        .filter(|(name, ..)| seen.insert(name.clone()))
        .collect()
}
