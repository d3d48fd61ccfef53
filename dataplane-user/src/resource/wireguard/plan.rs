//! A network of point-to-point WireGuard devices, a pair for each link (`WireGuardNetworkPlan`). All nodes
//! expand it to the same devices.
//!
//! The addresses and ports of a link follow from the order of nodes and links in the manifest: additions at
//! the end change no existing link.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{AllowedIpRoutes, Peer, PresharedSource, WireGuardInterface};
use crate::net::KeySource;
use crate::net::{LinkName, Namespace, NodeName, PublicKey};
use crate::resource::netlink::{InterfaceEnd, Namespaced};
use crate::resource::node::{Endpoint, Host};

/// The plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireGuardNetworkPlan {
    /// Its name.
    pub name: String,
    /// The pools of link addresses: at most one per family.
    pub pools: Vec<IpNet>,
    /// The nodes, in the order of the manifest.
    pub nodes: Vec<PlanNode>,
    /// The links, in the order of the manifest, each between two different nodes by their indexes; `None`:
    /// one between each two nodes.
    pub links: Option<Vec<PlanLink>>,
}

/// A node of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanNode {
    /// Its name in the plan.
    pub name: NodeName,
    /// The node whose agent creates its devices.
    pub agent: NodeName,
    /// The namespace of its devices; `None`: the agent's own.
    pub namespace: Option<Namespace>,
    /// Its public key.
    pub public_key: PublicKey,
    /// The source of its private key.
    pub key: KeySource,
    /// The host of its endpoints; `None`: it must connect first.
    pub endpoint: Option<Host>,
    /// The UDP port of its first device; those of the next devices follow.
    pub listen_port: u16,
    /// MTU of its devices in bytes; the smaller one of both ends of a link is used.
    pub mtu: u32,
    /// Seconds between the keepalives that it sends; 0: none.
    pub keepalive: u16,
    /// The prefixes behind it, which others send to it and accept from it. The addresses of its links are
    /// added.
    pub allowed_ips: BTreeSet<IpNet>,
    /// The routing tables of its routes to the prefixes behind others.
    pub routes: AllowedIpRoutes,
}

/// A link, or several between the same two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanLink {
    /// The indexes of its two nodes in the list of the plan.
    pub ends: (usize, usize),
    /// The number of parallel links.
    pub count: u16,
    /// MTU of its devices in bytes; `None`: the one of the nodes.
    pub mtu: Option<u32>,
    /// The file with the preshared key of both ends.
    pub preshared_key_file: Option<String>,
}

/// The devices of both ends of all links, with their names among all declared devices.
pub type Expanded = Vec<(String, Namespaced<WireGuardInterface>)>;

impl WireGuardNetworkPlan {
    /// Both ends of all links.
    ///
    /// # Errors
    /// If there are too few addresses or ports.
    pub fn expand(&self) -> Result<Expanded, String> {
        let tunnels = self.tunnels();
        for pool in &self.pools {
            let room = room(pool);
            if u128::try_from(tunnels.len()).unwrap_or(u128::MAX) > room {
                return Err(format!(
                    "{pool} has addresses for {room} links, but there are {} links; use a larger pool",
                    tunnels.len()
                ));
            }
        }
        let mut ports = Ports::default();
        let mut expanded = Vec::with_capacity(2 * tunnels.len());
        for (index, tunnel) in tunnels.iter().enumerate() {
            let (a, b) = (&self.nodes[tunnel.link.ends.0], &self.nodes[tunnel.link.ends.1]);
            let name = format!("wg-{}-{}-{}", a.name, b.name, tunnel.number);
            let addresses = self
                .pools
                .iter()
                .map(|pool| pair(pool, index))
                .collect::<Vec<_>>();
            let swapped = addresses.iter().map(|(a, b)| (*b, *a)).collect::<Vec<_>>();
            let (port_a, port_b) = (ports.next(a)?, ports.next(b)?);
            let ends = [(a, port_a, b, port_b, addresses), (b, port_b, a, port_a, swapped)];
            for (own, port, other, other_port, addresses) in ends {
                let end = End {
                    own,
                    port,
                    other,
                    other_port,
                    addresses: &addresses,
                };
                expanded.push((
                    format!("{}/{name}/{}", self.name, own.name),
                    end.interface(&name, &tunnel.link)?,
                ));
            }
        }
        Ok(expanded)
    }

    /// All links one by one. Links between each two nodes are in the order of the later one of the two.
    fn tunnels(&self) -> Vec<Tunnel> {
        let links = match &self.links {
            Some(links) => links.clone(),
            None => {
                let pairs =
                    (0..self.nodes.len()).flat_map(|later| (0..later).map(move |first| (first, later)));
                pairs.map(PlanLink::between).collect()
            }
        };
        let mut numbers: BTreeMap<(usize, usize), u16> = BTreeMap::new();
        let mut tunnels = Vec::new();
        for link in links {
            for _ in 0..link.count {
                // Links between the same two nodes have different names, even if they are declared several
                // times.
                let number = numbers.entry(link.ends).or_default();
                tunnels.push(Tunnel {
                    link: link.clone(),
                    number: *number,
                });
                *number += 1;
            }
        }
        tunnels
    }
}

impl PlanLink {
    /// A link between the nodes with these indexes, with default options.
    #[must_use]
    pub fn between(ends: (usize, usize)) -> PlanLink {
        PlanLink {
            ends,
            count: 1,
            mtu: None,
            preshared_key_file: None,
        }
    }
}

struct Tunnel {
    link: PlanLink,
    /// Its number among those of the same two nodes.
    number: u16,
}

/// The next port of each agent: devices receive in the namespace of the agent, whichever namespace they are
/// in.
#[derive(Default)]
struct Ports<'a>(BTreeMap<&'a NodeName, u16>);

impl<'a> Ports<'a> {
    fn next(&mut self, node: &'a PlanNode) -> Result<u16, String> {
        let used = self.0.entry(&node.agent).or_default();
        let port = node.listen_port.checked_add(*used).ok_or_else(|| {
            format!(
                "node {} has more links than UDP ports from {} up",
                node.name, node.listen_port
            )
        })?;
        *used += 1;
        Ok(port)
    }
}

/// One end of a link.
struct End<'a> {
    own: &'a PlanNode,
    port: u16,
    other: &'a PlanNode,
    other_port: u16,
    /// Pairs of its own address and the address of the other end.
    addresses: &'a [(IpAddr, IpAddr)],
}

impl End<'_> {
    fn interface(&self, name: &str, link: &PlanLink) -> Result<Namespaced<WireGuardInterface>, String> {
        let short = LinkName::shortened(name).map_err(|error| error.to_string())?;
        let single = |address: IpAddr| crate::net::family::host_prefix(address);
        let mut allowed_ips = self.other.allowed_ips.clone();
        let covered = |address: &IpAddr| self.other.allowed_ips.iter().any(|wide| wide.contains(address));
        let addresses = self.addresses.iter().map(|(_, other)| *other);
        allowed_ips.extend(addresses.filter(|address| !covered(address)).map(single));
        let preshared_key = link.preshared_key_file.clone().map(PresharedSource::File);
        let peer = Peer {
            public_key: self.other.public_key,
            name: Some(self.other.name.to_string()),
            endpoint: self.other.endpoint.clone().map(|host| Endpoint {
                host,
                port: self.other_port,
            }),
            allowed_ips: allowed_ips.into_iter().collect(),
            keepalive: self.own.keepalive,
            preshared_key,
        };
        let smaller = self.own.mtu.min(self.other.mtu);
        let addresses = self.addresses.iter();
        let end = InterfaceEnd {
            alias: (short.as_str() != name).then(|| name.to_owned()),
            name: short,
            addresses: addresses
                .map(|(own, other)| (single(*own), Some(*other)))
                .collect(),
            mtu: Some(link.mtu.unwrap_or(smaller)),
            mac: None,
            up: true,
            arp: false,
            keep_link_local: false,
        };
        Ok(Namespaced {
            nodes: BTreeSet::from([self.own.agent.clone()]),
            namespace: self.own.namespace.clone(),
            object: WireGuardInterface {
                end,
                key: Some(self.own.key.clone()),
                listen_port: self.port,
                fwmark: 0,
                routes: self.own.routes,
                rules_at: BTreeMap::new(),
                peers: vec![peer],
            },
        })
    }
}

/// The number of pairs of addresses in a pool, without the first pair, which has the address of the network
/// itself.
fn room(pool: &IpNet) -> u128 {
    let bits = u32::from(pool.max_prefix_len() - pool.prefix_len());
    (1_u128.checked_shl(bits).unwrap_or(u128::MAX) / 2).saturating_sub(1)
}

/// The pair of addresses of a link.
fn pair(pool: &IpNet, index: usize) -> (IpAddr, IpAddr) {
    let offset = 2 * (u128::try_from(index).unwrap_or(0) + 1);
    match pool.network() {
        IpAddr::V4(first) => {
            let first = u32::from(first) + u32::try_from(offset).unwrap_or(0);
            (IpAddr::V4(first.into()), IpAddr::V4((first + 1).into()))
        }
        IpAddr::V6(first) => {
            let first = u128::from(first) + offset;
            (IpAddr::V6(first.into()), IpAddr::V6((first + 1).into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, number: u8) -> PlanNode {
        PlanNode {
            name: NodeName::new(name).unwrap(),
            agent: NodeName::new(name).unwrap(),
            namespace: None,
            public_key: PublicKey::from_bytes([number; 32]),
            key: KeySource::Node,
            endpoint: Some(Host::Address(IpAddr::from([192, 0, 2, number]))),
            listen_port: 51900,
            mtu: 1420,
            keepalive: 0,
            allowed_ips: ["0.0.0.0/0", "::/0"]
                .iter()
                .map(|all| all.parse().unwrap())
                .collect(),
            routes: AllowedIpRoutes::Off,
        }
    }

    fn plan(names: &[&str]) -> WireGuardNetworkPlan {
        let nodes = names.iter().zip(1..).map(|(name, number)| node(name, number));
        WireGuardNetworkPlan {
            name: "mesh".to_owned(),
            pools: vec!["10.255.0.0/24".parse().unwrap(), "fd00:255::/64".parse().unwrap()],
            nodes: nodes.collect(),
            links: None,
        }
    }

    fn shown(plan: &WireGuardNetworkPlan) -> Vec<String> {
        let show = |(name, placed): (String, Namespaced<WireGuardInterface>)| {
            let WireGuardInterface {
                end,
                listen_port,
                peers,
                ..
            } = placed.object;
            let addresses = end.addresses.iter();
            let addresses = addresses.map(|(own, peer)| format!(" {own} peer {}", peer.unwrap()));
            let peer = &peers[0];
            let endpoint = peer.endpoint.as_ref().unwrap();
            let addresses = addresses.collect::<String>();
            format!(
                "{name}: {} port {listen_port} to {:?}{addresses}",
                end.name, endpoint.port
            )
        };
        plan.expand().unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn both_ends_fit_together_and_what_is_added_moves_nothing() {
        let two = shown(&plan(&["a", "b"]));
        assert_eq!(
            two,
            [
                "mesh/wg-a-b-0/a: wg-a-b-0 port 51900 to 51900 10.255.0.2/32 peer 10.255.0.3 fd00:255::2/128 peer fd00:255::3",
                "mesh/wg-a-b-0/b: wg-a-b-0 port 51900 to 51900 10.255.0.3/32 peer 10.255.0.2 fd00:255::3/128 peer fd00:255::2",
            ]
        );
        let three = shown(&plan(&["a", "b", "c"]));
        assert_eq!(three[..2], two);
        assert_eq!(
            three[4],
            "mesh/wg-b-c-0/b: wg-b-c-0 port 51901 to 51901 10.255.0.6/32 peer 10.255.0.7 fd00:255::6/128 peer fd00:255::7"
        );
    }

    #[test]
    fn long_names_are_cut_and_several_links_of_two_nodes_numbered() {
        let mut plan = plan(&["frankfurt-1", "amsterdam-1"]);
        plan.links = Some(vec![
            PlanLink {
                count: 2,
                mtu: Some(1380),
                ..PlanLink::between((0, 1))
            },
            PlanLink::between((0, 1)),
        ]);
        let expanded = plan.expand().unwrap();
        let names = expanded.iter().map(|(_, placed)| &placed.object.end);
        let aliases = names.clone().map(|end| end.alias.as_deref().unwrap());
        let aliases = aliases.step_by(2).collect::<Vec<_>>();
        let whole = [0, 1, 2].map(|number| format!("wg-frankfurt-1-amsterdam-1-{number}"));
        assert_eq!(aliases, whole);
        assert!(names.clone().all(|end| end.name.as_str().len() == 15));
        assert_eq!(
            names.map(|end| end.mtu.unwrap()).step_by(2).collect::<Vec<_>>(),
            [1380, 1380, 1420]
        );
    }

    #[test]
    fn too_few_addresses_or_ports_are_reported() {
        let mut plan = plan(&["a", "b", "c"]);
        plan.pools = vec!["10.255.0.0/30".parse().unwrap()];
        let error = plan.expand().unwrap_err();
        assert!(error.contains("for 1 links, but there are 3"), "{error}");
        plan.pools.clear();
        plan.nodes[2].listen_port = 65535;
        let error = plan.expand().unwrap_err();
        assert!(error.contains("node c has more links"), "{error}");
    }
}
