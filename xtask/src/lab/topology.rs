//! Who is where: hosts in subnets of their own behind a router, a pod behind each host, and their addresses.
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::family::Family;

/// What the lab's namespaces are called.
pub(super) const PREFIX: &str = "adit-lab-";
/// The namespace between the hosts.
pub(super) const ROUTER: &str = "adit-lab-router";
/// The overlay's address space.
pub(super) const OVERLAY: [&str; 2] = ["10.88.0.0/16", "fd88::/48"];
/// The underlay's MTU in bytes.
pub(super) const ETHERNET: u32 = 1500;

/// The families of the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Underlay {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both, IPv4 preferred; the last of three or more hosts is a member by IPv6 only.
    Dual,
}

impl Underlay {
    pub(super) fn has(self, family: Family) -> bool {
        match self {
            Self::Ipv4 => family == Family::Ipv4,
            Self::Ipv6 => family == Family::Ipv6,
            Self::Dual => true,
        }
    }

    /// Which family is used where both ends have both.
    pub(super) fn preferred(self) -> Family {
        if self == Self::Ipv6 {
            Family::Ipv6
        } else {
            Family::Ipv4
        }
    }
}

/// A host and the pod behind it. Everything follows from its number, which starts with 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// `a`, `b`, …
    pub(super) name: String,
    number: u8,
    /// The families of its manifest's underlay addresses.
    pub(super) underlay: Vec<Family>,
}

impl Node {
    pub(super) fn namespace(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    pub(super) fn pod_namespace(&self) -> String {
        format!("{PREFIX}{}-pod", self.name)
    }

    /// Its address in the underlay.
    pub(super) fn underlay(&self, family: Family) -> IpAddr {
        self.in_subnet(family, 2)
    }

    fn in_subnet(&self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::Ipv4 => Ipv4Addr::new(198, 18, self.number, host).into(),
            Family::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0, self.number.into(), 0, 0, 0, host.into()).into(),
        }
    }

    /// Its own address in the overlay.
    pub(super) fn overlay(&self, family: Family) -> IpAddr {
        match family {
            Family::Ipv4 => Ipv4Addr::new(10, 88, 0, self.number).into(),
            Family::Ipv6 => Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, self.number.into()).into(),
        }
    }

    /// The prefix that it carries.
    pub(super) fn pods(&self, family: Family) -> String {
        match family {
            Family::Ipv4 => format!("10.88.{}.0/24", self.number),
            Family::Ipv6 => format!("fd88:0:0:{:x}::/64", self.number),
        }
    }

    /// The pod's address.
    pub(super) fn pod(&self, family: Family) -> IpAddr {
        self.in_pods(family, 2)
    }

    fn in_pods(&self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::Ipv4 => Ipv4Addr::new(10, 88, self.number, host).into(),
            Family::Ipv6 => Ipv6Addr::new(0xfd88, 0, 0, self.number.into(), 0, 0, 0, host.into()).into(),
        }
    }
}

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topology {
    pub(super) nodes: Vec<Node>,
    pub(super) underlay: Underlay,
}

impl Topology {
    /// At most 26 hosts.
    pub(super) fn new(count: u8, underlay: Underlay) -> Self {
        let node = |index: u8| {
            let single = underlay == Underlay::Dual && count > 2 && index + 1 == count;
            let families = Family::BOTH.into_iter().filter(|family| underlay.has(*family));
            Node {
                name: char::from(b'a' + index).to_string(),
                number: index + 1,
                underlay: families
                    .filter(|family| !single || *family == Family::Ipv6)
                    .collect(),
            }
        };
        Self {
            nodes: (0..count).map(node).collect(),
            underlay,
        }
    }

    /// The family by which two nodes, by their places, reach each other.
    pub(super) fn common_family(&self, from: usize, to: usize) -> Option<Family> {
        let preferred = self.underlay.preferred();
        let [from, to] = [from, to].map(|end| &self.nodes[end].underlay);
        let common: Vec<Family> = from
            .iter()
            .copied()
            .filter(|family| to.contains(family))
            .collect();
        common
            .contains(&preferred)
            .then_some(preferred)
            .or(common.first().copied())
    }

    /// The place of the node that has or carries an overlay address alone.
    pub(super) fn owner(&self, address: IpAddr) -> Option<usize> {
        let number = match address {
            IpAddr::V4(address) => match address.octets() {
                [10, 88, 0, host] => host.into(),
                [10, 88, pods, _] => pods.into(),
                _ => return None,
            },
            IpAddr::V6(address) => match address.segments() {
                [0xfd88, 0, 0, 0, 0, 0, 0, host] => host,
                [0xfd88, 0, 0, pods, ..] => pods,
                _ => return None,
            },
        };
        self.nodes
            .iter()
            .position(|node| u16::from(node.number) == number)
    }

    /// All of its namespaces.
    pub(super) fn namespaces(&self) -> Vec<String> {
        let nodes = self
            .nodes
            .iter()
            .flat_map(|node| [node.namespace(), node.pod_namespace()]);
        std::iter::once(ROUTER.to_owned()).chain(nodes).collect()
    }

    /// `ip` commands for the namespace we're started in: makes the namespaces and the wires between them.
    pub(super) fn wires(&self) -> String {
        let mut lines = String::new();
        for namespace in self.namespaces() {
            let _ = writeln!(lines, "netns add {namespace}");
        }
        for node in &self.nodes {
            let (name, host, pod) = (&node.name, node.namespace(), node.pod_namespace());
            let _ = writeln!(
                lines,
                "link add eth0 mtu {ETHERNET} netns {host} type veth peer name to-{name} mtu {ETHERNET} netns {ROUTER}"
            );
            let _ = writeln!(
                lines,
                "link add pod0 netns {host} type veth peer name eth0 netns {pod}"
            );
        }
        lines
    }

    /// `ip` commands for the router.
    pub(super) fn router(&self) -> String {
        let mut lines = "link set lo up\n".to_owned();
        for node in &self.nodes {
            let _ = writeln!(lines, "link set to-{} up", node.name);
            for family in self.families() {
                address(
                    &mut lines,
                    node.in_subnet(family, 1),
                    &format!("to-{}", node.name),
                );
            }
        }
        lines
    }

    /// `ip` commands for a host.
    pub(super) fn host(&self, node: &Node) -> String {
        let mut lines = "link set lo up\nlink set eth0 up\nlink set pod0 up\n".to_owned();
        for family in self.families() {
            address(&mut lines, node.underlay(family), "eth0");
            let _ = writeln!(lines, "route add default via {}", node.in_subnet(family, 1));
        }
        for family in Family::BOTH {
            address(&mut lines, node.in_pods(family, 1), "pod0");
        }
        lines
    }

    fn families(&self) -> impl Iterator<Item = Family> {
        let underlay = self.underlay;
        Family::BOTH
            .into_iter()
            .filter(move |family| underlay.has(*family))
    }
}

/// `ip` commands for a pod.
pub(super) fn pod(node: &Node) -> String {
    let mut lines = "link set lo up\nlink set eth0 up\n".to_owned();
    for family in Family::BOTH {
        address(&mut lines, node.pod(family), "eth0");
    }
    lines
}

/// `ip` commands for a pod: its default routes with the overlay's MTU, as a CNI plugin would give it.
pub(super) fn pod_routes(node: &Node, mtu: u32) -> String {
    let route = |family| {
        format!(
            "route replace default via {} mtu {mtu}\n",
            node.in_pods(family, 1)
        )
    };
    Family::BOTH.map(route).concat()
}

/// Is it one of the overlay's addresses?
pub(super) fn is_overlay(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&[10, 88]),
        IpAddr::V6(address) => address.segments().starts_with(&[0xfd88, 0, 0]),
    }
}

fn address(lines: &mut String, address: IpAddr, device: &str) {
    let _ = match address {
        IpAddr::V4(_) => writeln!(lines, "address add {address}/24 dev {device}"),
        // Nobody else is on that wire: no need to wait for duplicate address detection.
        IpAddr::V6(_) => writeln!(lines, "address add {address}/64 dev {device} nodad"),
    };
}

#[cfg(test)]
mod tests;
