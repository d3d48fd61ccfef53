//! Devices: the anchor always, a tunnel device while a peer needs it.

use std::collections::BTreeSet;

use crate::model::{KernelState, Link, LinkKind, Owner};
use crate::net::{LinkName, MacAddr};
use crate::resource::{Encapsulation, Intent, Network};

use super::NetworkLink;

/// The device that attracts the overlay's traffic and carries the node's overlay addresses.
pub const ANCHOR: &str = "adit0";
/// The flow-based GENEVE device.
pub const GENEVE: &str = "adit-geneve";
/// The flow-based VXLAN device.
pub const VXLAN: &str = "adit-vxlan";

/// The tunnel device of an encapsulation; `None` where there is no shared one.
pub(super) fn tunnel_device(encapsulation: Encapsulation) -> Option<LinkName> {
    match encapsulation {
        Encapsulation::Geneve => Some(LinkName::constant(GENEVE)),
        Encapsulation::Vxlan => Some(LinkName::constant(VXLAN)),
        Encapsulation::Ipip | Encapsulation::WireGuard | Encapsulation::None => None,
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

    let mac = Some(MacAddr::of_node(&intent.node().name));
    for (encapsulation, network) in needed(networks) {
        let kind = match encapsulation {
            Encapsulation::Geneve => LinkKind::Geneve {
                port: network.ports.geneve,
            },
            Encapsulation::Vxlan => LinkKind::Vxlan {
                port: network.ports.vxlan,
            },
            Encapsulation::Ipip | Encapsulation::WireGuard | Encapsulation::None => continue,
        };
        if let Some(name) = tunnel_device(encapsulation) {
            target.links.insert(name, Link { mac, ..link(kind) });
        }
    }
}

/// The encapsulations that any peer needs, with a network that says the port (ports are equal in all networks).
fn needed<'a>(networks: &[NetworkLink<'a>]) -> Vec<(Encapsulation, &'a Network)> {
    let mut seen = BTreeSet::new();
    let pairs = networks
        .iter()
        .flat_map(|n| n.peers.iter().map(|peer| (peer.encapsulation, n.network)));
    pairs
        .filter(|(encapsulation, _)| seen.insert(*encapsulation))
        .collect()
}
