//! Devices: the anchor always, a tunnel device while a peer needs it.

use std::collections::BTreeSet;

use crate::model::{Carrier, KernelState, Link, LinkKind, Owner};
use crate::net::{LinkName, MacAddr};
use crate::resource::{Intent, Network};

use super::NetworkLink;

/// The device that attracts the overlay's traffic and carries the node's overlay addresses.
pub const ANCHOR: &str = "adit0";
/// The flow-based GENEVE device.
pub const GENEVE: &str = "adit-geneve";
/// The flow-based VXLAN device.
pub const VXLAN: &str = "adit-vxlan";

/// The flow-based ipip device, for IPv4 underlays.
pub const IPIP: &str = "adit-ipip";
/// The flow-based ip6tnl device, for IPv6 underlays.
pub const IP6TNL: &str = "adit-ip6tnl";

/// The tunnel device of a carrier; `None` where there is no shared one.
pub(super) fn tunnel_device(carrier: Carrier) -> Option<LinkName> {
    let name = match carrier {
        Carrier::Geneve => GENEVE,
        Carrier::Vxlan => VXLAN,
        Carrier::Ipip => IPIP,
        Carrier::Ip6tnl => IP6TNL,
        Carrier::WireGuard | Carrier::None => return None,
    };
    Some(LinkName::constant(name))
}

/// Whether a device of this name is one that we make.
pub(super) fn is_ours(link: &LinkName) -> bool {
    link.as_str() == ANCHOR || link.as_str().starts_with("adit-")
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

    for (carrier, network) in needed(networks) {
        let kind = match carrier {
            Carrier::Geneve => LinkKind::Geneve {
                port: network.ports.geneve,
            },
            Carrier::Vxlan => LinkKind::Vxlan {
                port: network.ports.vxlan,
            },
            Carrier::Ipip => LinkKind::Ipip { protocol: IPV4 },
            Carrier::Ip6tnl => LinkKind::Ip6tnl { protocol: ANY },
            Carrier::WireGuard | Carrier::None => continue,
        };
        let mac = carrier
            .carries_ethernet()
            .then(|| MacAddr::of_node(&intent.node().name));
        if let Some(name) = tunnel_device(carrier) {
            target.links.insert(name, Link { mac, ..link(kind) });
        }
    }
}

/// IPv4 in IP, `IPPROTO_IPIP`.
const IPV4: u8 = 4;
/// Both families.
const ANY: u8 = 0;

/// What any peer needs, with a network that says the port (ports are equal in all networks).
fn needed<'a>(networks: &[NetworkLink<'a>]) -> Vec<(Carrier, &'a Network)> {
    let mut seen = BTreeSet::new();
    let pairs = networks
        .iter()
        .flat_map(|n| n.peers.iter().map(|peer| (peer.carrier(), n.network)));
    pairs.filter(|(carrier, _)| seen.insert(*carrier)).collect()
}
