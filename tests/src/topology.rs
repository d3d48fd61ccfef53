//! Hosts behind a router, each in its own subnet and with a pod behind it, all in network namespaces.
//!
//! ```text
//! pod ── host ── router ── host ── pod
//! ```
//!
//! The default route of each host leads to the router, so packets that leave a host in clear are seen there. The router
//! has no routes to overlay prefixes, unless [`Topology::route_overlay`] adds them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

use dataplane_user::net::{Family, PrivateKey};

use crate::NetNs;
use crate::kernel::has_ipv6;

/// The names of the nodes, in order.
const NAMES: &str = "abcdefghijklmnopqrstuvwxyz";
/// An address of several pods: see [`Host::take_shared_address`].
pub const SHARED_V4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// See [`SHARED_V4`].
pub const SHARED_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1);
/// The prefixes of the shared addresses, by family.
pub const SHARED_PREFIXES: [&str; 2] = ["10.9.0.0/16", "fd00:9::/32"];
/// A number that no node has; numbers are parts of addresses.
const SHARED_NUMBER: u16 = 9;
/// How many underlay subnets fit into an IPv4 documentation network (RFC 5737).
const SUBNETS: u16 = 16;

/// A router and its hosts.
pub struct Topology<const N: usize> {
    /// The router, which forwards between the underlay addresses of the hosts.
    pub router: NetNs,
    /// In order of their names: `a`, `b`, `c`, ….
    pub hosts: [Host; N],
}

/// A node and its addresses, which follow from its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The name of the node.
    pub name: &'static str,
    /// The number of the node, counted from 1.
    number: u16,
    /// The families of the underlay addresses in its manifest.
    pub families: Vec<Family>,
}

/// The host of a node and the pod behind it.
pub struct Host {
    node: Node,
    /// The host; its device `u0` leads to the router, `p0` to the pod.
    pub netns: NetNs,
    /// The pod; its device `e0` leads to the host.
    pub pod: NetNs,
}

/// An end of traffic: a namespace, and its overlay address in each family.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The namespace.
    pub netns: &'a NetNs,
    /// Its IPv4 and its IPv6 address.
    addresses: (Ipv4Addr, Ipv6Addr),
}

impl<const N: usize> Topology<N> {
    /// Creates a router and hosts: `Topology::<2>::new()`.
    ///
    /// # Panics
    /// If one cannot be created.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes kernel objects")]
    pub fn new() -> Topology<N> {
        let router = NetNs::new();
        forward(&router);
        let mut nodes = Node::all();
        let hosts = std::array::from_fn(|_| {
            let node = nodes.next().expect("there are enough names");
            Host::new(node, &Family::BOTH, [NetNs::new(), NetNs::new()], &router)
        });
        Topology { router, hosts }
    }

    /// Adds routes to the overlay prefixes of each host to the router, as an underlay without encapsulation has them.
    ///
    /// # Panics
    /// If the routes exist.
    pub fn route_overlay(&self) {
        for host in &self.hosts {
            for route in host.overlay_routes(&Family::BOTH) {
                self.router.ip(&format!("route add {route}"));
            }
        }
    }
}

impl<'a, const N: usize> IntoIterator for &'a Topology<N> {
    type Item = &'a Node;
    type IntoIter = std::iter::Map<std::slice::Iter<'a, Host>, fn(&'a Host) -> &'a Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.hosts.iter().map(|host| &host.node)
    }
}

impl Node {
    /// All nodes, one per letter, with both families.
    pub fn all() -> impl Iterator<Item = Node> {
        let numbers = (1..).filter(|number| *number != SHARED_NUMBER);
        let names = (0..NAMES.len()).map(|at| &NAMES[at..=at]);
        names.zip(numbers).map(|(name, number)| Node {
            name,
            number,
            families: Family::BOTH.to_vec(),
        })
    }

    /// The underlay address of the node in a family.
    #[must_use]
    pub fn underlay(&self, family: Family) -> IpAddr {
        let n = self.number;
        match family {
            Family::Ipv4 => {
                let network = match n / SUBNETS {
                    0 => Ipv4Addr::new(192, 0, 2, 2),
                    _ => Ipv4Addr::new(198, 51, 100, 2),
                };
                Ipv4Addr::from_bits(network.to_bits() + u32::from(n % SUBNETS) * 16).into()
            }
            Family::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0, n, 0, 0, 0, 2).into(),
        }
    }

    /// The WireGuard key of the node, always the same.
    #[must_use]
    pub fn private_key(&self) -> PrivateKey {
        let [_, number] = self.number.to_be_bytes();
        PrivateKey::from_random(&[0x40 + number; 32])
    }

    /// The own overlay addresses of the node.
    #[must_use]
    pub fn overlay(&self) -> (Ipv4Addr, Ipv6Addr) {
        let n = self.number;
        (
            Ipv4Addr::from_bits(0x0a00_0001 | u32::from(n) << 16),
            Ipv6Addr::new(0xfd00, n, 0, 0, 0, 0, 0, 1),
        )
    }

    /// The addresses of the node in the second network.
    #[must_use]
    pub fn overlay_beside(&self) -> (Ipv4Addr, Ipv6Addr) {
        let n = self.number;
        (
            Ipv4Addr::from_bits(0xac1e_0001 | u32::from(n) << 8),
            Ipv6Addr::new(0xfd30, 0, n, 0, 0, 0, 0, 1),
        )
    }

    /// The overlay addresses of the pod.
    #[must_use]
    pub fn overlay_of_pod(&self) -> (Ipv4Addr, Ipv6Addr) {
        let n = self.number;
        (
            Ipv4Addr::from_bits(0x0a00_0102 | u32::from(n) << 16),
            Ipv6Addr::new(0xfd00, n, 1, 0, 0, 0, 0, 2),
        )
    }

    /// The prefixes that the node advertises besides its own addresses: the subnets of the pod.
    #[must_use]
    pub fn prefixes(&self) -> [String; 2] {
        let n = self.number;
        [format!("10.{n}.1.0/24"), format!("fd00:{n:x}:1::/64")]
    }

    /// Whether only this node has or advertises an overlay address.
    #[must_use]
    pub fn owns(&self, address: IpAddr) -> bool {
        is_overlay(address)
            && self.number
                == match address {
                    IpAddr::V4(address) => address.octets()[1].into(),
                    IpAddr::V6(address) => address.segments()[1],
                }
    }

    /// The arguments of `ip route add` for all overlay addresses of the node, by its underlay address, in an underlay of these
    /// families. IPv4 routes have an IPv6 gateway if there is no IPv4 address; IPv6 routes never have an IPv4 gateway.
    #[must_use]
    pub fn overlay_routes(&self, families: &[Family]) -> Vec<String> {
        let n = self.number;
        let [ipv4, ipv6] = Family::BOTH.map(|family| self.underlay(family));
        match families {
            [Family::Ipv4] => vec![format!("10.{n}.0.0/16 via {ipv4}")],
            [Family::Ipv6] => vec![
                format!("10.{n}.0.0/16 via inet6 {ipv6} dev r{n}"),
                format!("fd00:{n:x}::/32 via {ipv6}"),
            ],
            _ => vec![
                format!("10.{n}.0.0/16 via {ipv4}"),
                format!("fd00:{n:x}::/32 via {ipv6}"),
            ],
        }
    }
}

impl Deref for Host {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Host {
    /// Creates the links between the namespaces of the host, its pod and a router, with underlay addresses of these families.
    ///
    /// # Panics
    /// If they cannot be created.
    #[must_use]
    pub fn new(node: Node, families: &[Family], [netns, pod]: [NetNs; 2], router: &NetNs) -> Host {
        let host = Host { node, netns, pod };
        [&host.netns, &host.pod].into_iter().for_each(forward);
        let n = host.number;
        let (to_router, to_pod) = (router.path(), host.pod.path());
        let mut in_router = format!("link set r{n} up\n");
        let mut in_host = format!(
            "link add u0 type veth peer name r{n} netns {}
            link add p0 type veth peer name e0 netns {}
            link set u0 up
            link set p0 up
            address add 10.{n}.1.1/24 dev p0
            address add fd00:{n:x}:1::1/64 dev p0 nodad\n",
            to_router.display(),
            to_pod.display(),
        );
        for family in families {
            let (own, gateway) = (host.underlay(*family), gateway(host.underlay(*family)));
            let length = match family {
                Family::Ipv4 => "28",
                Family::Ipv6 => "64 nodad",
            };
            let everything = family.everything();
            in_host += &format!(
                "address add dev u0 {own}/{length}
                route add {everything} via {gateway}\n"
            );
            in_router += &format!("address add dev r{n} {gateway}/{length}\n");
        }
        host.netns.ip_batch(&of_this_kernel(&in_host));
        router.ip_batch(&of_this_kernel(&in_router));
        host.pod.ip_batch(&of_this_kernel(&format!(
            "link set e0 up
            address add 10.{n}.1.2/24 dev e0
            address add fd00:{n:x}:1::2/64 dev e0 nodad"
        )));
        host.route_pod("");
        host
    }

    /// Adds the default routes of the pod, with additional arguments such as `mtu 1400`.
    ///
    /// # Panics
    /// If they cannot be created.
    pub fn route_pod(&self, words: &str) {
        let n = self.number;
        self.pod.ip_batch(&of_this_kernel(&format!(
            "route replace default via 10.{n}.1.1 src 10.{n}.1.2 {words}
            route replace ::/0 via fd00:{n:x}:1::1 src fd00:{n:x}:1::2 {words}"
        )));
    }

    /// Adds the shared address to the pod.
    ///
    /// # Panics
    /// If the pod has it.
    pub fn take_shared_address(&self) {
        self.pod.ip_batch(&format!(
            "address add {SHARED_V4}/32 dev e0
            address add {SHARED_V6}/128 dev e0 nodad"
        ));
        self.netns.ip_batch(&format!(
            "route add {SHARED_V4} dev p0
            route add {SHARED_V6} dev p0"
        ));
    }

    /// The host, with its overlay addresses.
    #[must_use]
    pub fn end(&self) -> End<'_> {
        End::outside(&self.netns, self.overlay())
    }

    /// The host, with its addresses in the second network.
    #[must_use]
    pub fn beside(&self) -> End<'_> {
        End::outside(&self.netns, self.overlay_beside())
    }

    /// The pod, with its overlay addresses.
    #[must_use]
    pub fn pod_end(&self) -> End<'_> {
        End::outside(&self.pod, self.overlay_of_pod())
    }
}

impl<'a> End<'a> {
    /// An end with any addresses.
    #[must_use]
    pub fn outside(netns: &'a NetNs, addresses: (Ipv4Addr, Ipv6Addr)) -> End<'a> {
        End { netns, addresses }
    }

    /// The overlay address of this end in a family.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        of_family(self.addresses, family)
    }
}

/// The address of a family from a pair.
#[must_use]
pub fn of_family(addresses: (Ipv4Addr, Ipv6Addr), family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => addresses.0.into(),
        Family::Ipv6 => addresses.1.into(),
    }
}

/// Whether an address is in the overlay.
#[must_use]
pub fn is_overlay(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.segments()[0] == 0xfd00,
    }
}

/// The address of the router in the subnet of a host: one less than that of the host.
fn gateway(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) => Ipv4Addr::from_bits(host.to_bits() - 1).into(),
        IpAddr::V6(host) => Ipv6Addr::from_bits(host.to_bits() - 1).into(),
    }
}

/// The lines for `ip`, without those about IPv6 if the kernel has no IPv6.
fn of_this_kernel(lines: &str) -> String {
    let has_ipv6 = has_ipv6();
    let lines = lines.lines().filter(|line| has_ipv6 || !line.contains(':'));
    lines.collect::<Vec<_>>().join("\n")
}

/// Enables forwarding of both families in a namespace, and disables duplicate address detection for IPv6, which changes the
/// output of `ip` later.
///
/// # Panics
/// If the kernel refuses.
pub fn forward(netns: &NetNs) {
    netns.sysctl("net/ipv4/ip_forward", "1");
    if !has_ipv6() {
        return;
    }
    netns.sysctl("net/ipv6/conf/all/forwarding", "1");
    netns.sysctl("net/ipv6/conf/all/accept_dad", "0");
    netns.sysctl("net/ipv6/conf/default/accept_dad", "0");
}
