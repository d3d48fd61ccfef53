//! Kernel objects that manifests declare one by one (`NetlinkInterface`, `WireGuardInterface`, `NetlinkRoute`, `NetlinkRule`),
//! on some nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::wireguard::WireGuardInterface;
use crate::model::{Hop, RouteKey, RouteScope, Rule};
use crate::net::{LinkName, MacAddr, Namespace, NodeName, PeerId};

/// All such objects, by their manifests' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetlinkObjects {
    /// Devices.
    pub interfaces: BTreeMap<String, Placed<NetlinkInterface>>,
    /// Devices of WireGuard's.
    pub wireguard: BTreeMap<String, Placed<WireGuardInterface>>,
    /// Routes.
    pub routes: BTreeMap<String, Placed<NetlinkRoute>>,
    /// Policy rules.
    pub rules: BTreeMap<String, Placed<NetlinkRule>>,
}

/// Something, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// The nodes that have it.
    pub nodes: BTreeSet<NodeName>,
    /// The namespace that it is in; `None`: the agent's.
    pub namespace: Option<Namespace>,
    /// What it is.
    pub object: T,
}

/// A device (`NetlinkInterface`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetlinkInterface {
    /// What it says of itself.
    pub end: InterfaceEnd,
    /// What it is.
    pub kind: InterfaceKind,
}

/// What every device says, each end of a pair on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceEnd {
    /// Its name.
    pub name: LinkName,
    /// The name that was too long, as a label.
    pub alias: Option<String>,
    /// Its addresses with their prefix lengths, and those at the other end of a point-to-point link.
    pub addresses: BTreeMap<IpNet, Option<IpAddr>>,
    /// Its MTU in bytes; `None`: the kernel's choice.
    pub mtu: Option<u32>,
    /// Its Ethernet address; `None`: the kernel's choice.
    pub mac: Option<MacAddr>,
    /// Whether it is up.
    pub up: bool,
    /// Whether it resolves neighbours.
    pub arp: bool,
    /// Whether the kernel may give it IPv6 link-local addresses.
    pub keep_link_local: bool,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// Swallows all.
    Dummy,
    /// A bridge of devices that are declared too.
    Bridge {
        /// Their names, in the bridge's namespace.
        ports: BTreeSet<LinkName>,
    },
    /// A pair.
    Veth {
        /// The other end.
        peer: InterfaceEnd,
        /// Where that is.
        namespace: Option<Namespace>,
    },
    /// VXLAN of one VNI.
    Vxlan {
        /// Its VNI.
        vni: u32,
        /// The outer source.
        local: Option<IpAddr>,
        /// UDP port.
        port: u16,
        /// The multicast group that what has no known destination goes to.
        group: Option<IpAddr>,
        /// The device by which packets leave.
        lower: Option<LinkName>,
        /// Where else that goes.
        remotes: BTreeSet<IpAddr>,
    },
    /// GENEVE to one peer.
    Geneve {
        /// Its VNI.
        vni: u32,
        /// The peer.
        remote: IpAddr,
        /// UDP port.
        port: u16,
    },
    /// IPv4 in IPv4 to one peer.
    Ipip {
        /// The outer source; unspecified: the kernel's choice.
        local: Ipv4Addr,
        /// The peer.
        remote: Ipv4Addr,
        /// The outer TTL; 0: the inner packet's.
        ttl: u8,
    },
}

/// A route (`NetlinkRoute`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetlinkRoute {
    /// Routing table.
    pub table: u32,
    /// Destination; no host bits.
    pub to: IpNet,
    /// Priority.
    pub metric: u32,
    /// What it does.
    pub action: RouteAction,
    /// The path's MTU in bytes.
    pub mtu: Option<u32>,
    /// How far the destination is; `None`: as far as its next hops say.
    pub scope: Option<RouteScope>,
    /// The preferred source.
    pub source: Option<IpAddr>,
    /// Health checks never withdraw it.
    pub health_immune: bool,
}

impl NetlinkRoute {
    /// Where it stands.
    #[must_use]
    pub fn key(&self) -> RouteKey {
        RouteKey::new(self.table, self.to, self.metric)
    }
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// Sends to next hops; one at least.
    Unicast(Vec<PeerHop>),
    /// Refuses in silence.
    Blackhole,
    /// Refuses, and tells the sender.
    Unreachable,
}

/// A next hop, and the peer that it leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerHop {
    /// The next hop.
    pub hop: Hop,
    /// The peer's id.
    pub peer: Option<PeerId>,
}

/// Policy rules (`NetlinkRule`): one, or one of each family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetlinkRule {
    /// The rules.
    pub rules: Vec<Rule>,
}

impl NetlinkObjects {
    /// The nodes that have any of them.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        let interfaces = self.interfaces.values().flat_map(|placed| &placed.nodes);
        let wireguard = self.wireguard.values().flat_map(|placed| &placed.nodes);
        let routes = self.routes.values().flat_map(|placed| &placed.nodes);
        let rules = self.rules.values().flat_map(|placed| &placed.nodes);
        interfaces.chain(wireguard).chain(routes).chain(rules)
    }

    /// A node's WireGuard devices, by their manifests' names.
    pub fn wireguard(&self, node: &NodeName) -> impl Iterator<Item = (&str, &Placed<WireGuardInterface>)> {
        let all = self.wireguard.iter();
        let own = all.filter(move |(_, placed)| placed.nodes.contains(node));
        own.map(|(name, placed)| (name.as_str(), placed))
    }

    /// The peers that a node's routes lead to.
    #[must_use]
    pub fn peers(&self, node: &NodeName) -> BTreeSet<&PeerId> {
        let routes = self.routes.values().filter(|placed| placed.nodes.contains(node));
        let hops = routes.flat_map(|placed| match &placed.object.action {
            RouteAction::Unicast(hops) => hops.as_slice(),
            RouteAction::Blackhole | RouteAction::Unreachable => &[],
        });
        hops.filter_map(|hop| hop.peer.as_ref()).collect()
    }

    /// The namespaces that a node has something in.
    #[must_use]
    pub fn namespaces(&self, node: &NodeName) -> BTreeSet<Namespace> {
        let interfaces = self
            .interfaces
            .values()
            .filter(|placed| placed.nodes.contains(node));
        let peers = interfaces.clone().filter_map(|placed| match &placed.object.kind {
            InterfaceKind::Veth { namespace, .. } => namespace.as_ref(),
            _ => None,
        });
        let own = interfaces.filter_map(|placed| placed.namespace.as_ref());
        let routes = self.routes.values().filter(|placed| placed.nodes.contains(node));
        let rules = self.rules.values().filter(|placed| placed.nodes.contains(node));
        let wireguard = self.wireguard(node);
        let more = routes.filter_map(|placed| placed.namespace.as_ref());
        let more = more.chain(wireguard.filter_map(|(_, placed)| placed.namespace.as_ref()));
        let more = more.chain(rules.filter_map(|placed| placed.namespace.as_ref()));
        own.chain(peers).chain(more).cloned().collect()
    }
}
