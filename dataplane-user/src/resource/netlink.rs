//! Kernel objects that manifests declare one by one (`NetlinkInterface`, `WireGuardInterface`,
//! `NetlinkRoute`, `NetlinkRule`), on some nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::wireguard::WireGuardInterface;
use crate::model::{Hop, RouteKey, RouteScope, Rule};
use crate::net::{LinkName, MacAddr, Namespace, NodeName, PeerId};

/// All such objects, by the names of their manifests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetlinkObjects {
    /// Devices.
    pub interfaces: BTreeMap<String, Namespaced<NetlinkInterface>>,
    /// WireGuard devices.
    pub wireguard: BTreeMap<String, Namespaced<WireGuardInterface>>,
    /// Routes.
    pub routes: BTreeMap<String, Namespaced<NetlinkRoute>>,
    /// Policy rules.
    pub rules: BTreeMap<String, Namespaced<NetlinkRule>>,
}

/// An object with its nodes and namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaced<T> {
    /// The nodes on which it exists.
    pub nodes: BTreeSet<NodeName>,
    /// Its namespace; `None`: the agent's own.
    pub namespace: Option<Namespace>,
    /// The object.
    pub object: T,
}

/// A device (`NetlinkInterface`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetlinkInterface {
    /// Its common properties.
    pub end: InterfaceEnd,
    /// Its kind.
    pub kind: InterfaceKind,
}

/// The common properties of devices; each end of a veth pair has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceEnd {
    /// Its name.
    pub name: LinkName,
    /// Its declared name, as a label, if it was too long for a device name.
    pub alias: Option<String>,
    /// Its addresses with prefix lengths, each with the address at the other end of a point-to-point link, if
    /// any.
    pub addresses: BTreeMap<IpNet, Option<IpAddr>>,
    /// Its MTU in bytes; `None`: the kernel's choice.
    pub mtu: Option<u32>,
    /// Its Ethernet address; `None`: the kernel's choice.
    pub mac: Option<MacAddr>,
    /// Whether it is up.
    pub up: bool,
    /// Whether it resolves neighbours.
    pub arp: bool,
    /// Whether the kernel may add IPv6 link-local addresses.
    pub keep_link_local: bool,
}

/// The kind of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceKind {
    /// Drops all packets.
    Dummy,
    /// A bridge with its ports.
    Bridge {
        /// Their names, in the bridge's namespace.
        ports: BTreeSet<LinkName>,
    },
    /// A veth pair.
    Veth {
        /// The other end.
        peer: InterfaceEnd,
        /// The namespace of the other end; `None`: the agent's own.
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
        /// The multicast group for frames without a known destination.
        group: Option<IpAddr>,
        /// The device through which packets leave.
        lower: Option<LinkName>,
        /// Further destinations of frames without a known destination.
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
    /// Its action.
    pub action: RouteAction,
    /// The path MTU in bytes.
    pub mtu: Option<u32>,
    /// The scope of the destination; `None`: derived from its next hops.
    pub scope: Option<RouteScope>,
    /// The preferred source.
    pub source: Option<IpAddr>,
    /// Whether it keeps withdrawn next hops.
    pub health_immune: bool,
}

impl NetlinkRoute {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> RouteKey {
        RouteKey::new(self.table, self.to, self.metric)
    }
}

/// The action of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAction {
    /// Sends to next hops; at least one.
    Unicast(Vec<PeerHop>),
    /// Drops packets silently.
    Blackhole,
    /// Refuses packets and informs the sender.
    Unreachable,
}

/// A next hop and the peer to which it leads.
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
    /// The nodes on which any of the objects exist.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        let interfaces = self.interfaces.values().flat_map(|placed| &placed.nodes);
        let wireguard = self.wireguard.values().flat_map(|placed| &placed.nodes);
        let routes = self.routes.values().flat_map(|placed| &placed.nodes);
        let rules = self.rules.values().flat_map(|placed| &placed.nodes);
        interfaces.chain(wireguard).chain(routes).chain(rules)
    }

    /// The WireGuard devices of a node, with the names of their manifests.
    pub fn wireguard(
        &self,
        node: &NodeName,
    ) -> impl Iterator<Item = (&str, &Namespaced<WireGuardInterface>)> {
        let all = self.wireguard.iter();
        let own = all.filter(move |(_, placed)| placed.nodes.contains(node));
        own.map(|(name, placed)| (name.as_str(), placed))
    }

    /// The peers to which the routes of a node lead.
    #[must_use]
    pub fn peers(&self, node: &NodeName) -> BTreeSet<&PeerId> {
        let routes = self.routes.values().filter(|placed| placed.nodes.contains(node));
        let hops = routes.flat_map(|placed| match &placed.object.action {
            RouteAction::Unicast(hops) => hops.as_slice(),
            RouteAction::Blackhole | RouteAction::Unreachable => &[],
        });
        hops.filter_map(|hop| hop.peer.as_ref()).collect()
    }

    /// The namespaces in which a node has declared objects.
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
