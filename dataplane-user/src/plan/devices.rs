//! Devices: the anchor always, a tunnel device while a peer needs it.

use std::collections::BTreeSet;

use crate::model::devices::{ANCHOR, GENEVE, IP6TNL, IPIP, VXLAN};
use crate::model::{KernelState, Link, LinkKind, Owner, TunnelKind};
use crate::net::{LinkName, MacAddr};
use crate::resource::{Intent, Network};

use super::mtu::IPV6_MINIMUM;
use super::{NetworkLink, PeerLink, WireGuardLink};

/// The device by which packets leave for a peer; `None` where there is none.
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

/// The devices that packets come in by from a peer: while a key of WireGuard's changes there are two.
fn tunnel_devices(peer: &PeerLink<'_>) -> Vec<LinkName> {
    match &peer.wireguard {
        Some(link) => link.all().map(WireGuardLink::device).collect(),
        None => tunnel_device(peer).into_iter().collect(),
    }
}

pub(super) fn plan(intent: &Intent, networks: &[NetworkLink<'_>], target: &mut KernelState) {
    let link = |kind| Link {
        owner: Owner::Ours,
        kind,
        mac: None,
        mtu: None,
        arp: false,
        generates_addresses: false,
        up: true,
    };
    // The anchor's own MTU is a second guard behind the routes': the largest that any network has.
    let mtu = networks.iter().map(NetworkLink::mtu).max();
    target.links.insert(
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
        // A tunnel device takes whatever an anchor lets through: ipip refuses what is larger, and none receives IPv6 below
        // 1280.
        let mtu = match tunnel {
            TunnelKind::WireGuard => Some(wireguard_mtu(networks, &name)),
            _ => mtu.map(|mtu| mtu.min(LARGEST)),
        };
        target.links.insert(
            name,
            Link {
                mac,
                mtu,
                ..link(kind)
            },
        );
    }
}

/// WireGuard pads packets up to its device's MTU: it must not be larger than what the ways to all peers take.
fn wireguard_mtu(networks: &[NetworkLink<'_>], name: &LinkName) -> u32 {
    let peers = networks.iter().flat_map(|network| &network.peers);
    let straight = peers.filter(|peer| peer.looped.is_none());
    let on_it = straight.filter(|peer| tunnel_devices(peer).contains(name));
    let smallest = on_it.map(PeerLink::mtu).min();
    smallest.unwrap_or(IPV6_MINIMUM).max(IPV6_MINIMUM)
}

/// What every tunnel device takes: an IP packet has at most 65,535 bytes, and none adds more than 70.
const LARGEST: u32 = 65_465;

/// IPv4 in IP, `IPPROTO_IPIP`.
const IPV4: u8 = 4;
/// Both families.
const ANY: u8 = 0;

/// The devices that any peer needs, each with one of those peers and its network (ports are equal in all networks).
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
