//! Hosts behind a router, each in a subnet of its own and with a pod behind it, all in network namespaces.
//!
//! ```text
//! pod ── host ── router ── host ── pod
//! ```
//!
//! The router has no route to any overlay prefix (unless [`Topology::route_overlay`] adds them), and each host's default route leads to it: what leaves a host in
//! clear is seen there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_user::net::{Family, PrivateKey};

use crate::NetNs;
use crate::kernel::has_ipv6;

/// The names of the hosts' nodes, in order.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// Carried by several hosts: see [`Host::take_shared_address`].
pub const SHARED_V4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// See [`SHARED_V4`].
pub const SHARED_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 1);

/// A router and its hosts, at most three.
pub struct Topology<const N: usize> {
    /// Forwards between the hosts' underlay addresses.
    pub router: NetNs,
    /// In order of their names: `a`, `b`, `c`.
    pub hosts: [Host; N],
}

/// A host and the pod behind it.
pub struct Host {
    /// The name of its node.
    pub name: &'static str,
    /// From 1.
    number: u16,
    /// The host; its device `u0` leads to the router, `p0` to the pod.
    pub netns: NetNs,
    /// The pod; its device `e0` leads to the host.
    pub pod: NetNs,
}

/// Where traffic starts or ends: a namespace, and its overlay address in each family.
#[derive(Clone, Copy)]
pub struct End<'a> {
    /// The namespace.
    pub netns: &'a NetNs,
    /// Its IPv4 and its IPv6 address.
    addresses: (Ipv4Addr, Ipv6Addr),
}

impl<const N: usize> Topology<N> {
    /// Makes a router and hosts: `Topology::<2>::new()`.
    ///
    /// # Panics
    /// When one can't be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes kernel objects")]
    pub fn new() -> Topology<N> {
        let router = NetNs::new();
        prepare(&router);
        let mut numbers = 1..;
        let hosts = NAMES.first_chunk::<N>().expect("there are names for so many");
        let hosts = hosts.map(|name| {
            let number = numbers.next().expect("it has no end");
            Host::new(name, number, &router)
        });
        Topology { router, hosts }
    }

    /// Gives the router the way to each host's overlay prefixes, as an underlay has it that carries the overlay bare.
    ///
    /// # Panics
    /// When it has it.
    pub fn route_overlay(&self) {
        for host in &self.hosts {
            let n = host.number;
            self.router.ip_batch(&format!(
                "route add 10.{n}.0.0/16 via {}
                route add fd00:{n}::/32 via {}",
                host.underlay(Family::Ipv4),
                host.underlay(Family::Ipv6),
            ));
        }
    }
}

impl Host {
    fn new(name: &'static str, number: u16, router: &NetNs) -> Host {
        let (netns, pod) = (NetNs::new(), NetNs::new());
        let host = Host {
            name,
            number,
            netns,
            pod,
        };
        [&host.netns, &host.pod].into_iter().for_each(prepare);
        let n = number;
        let (to_router, to_pod) = (router.path(), host.pod.path());
        let (to_router, to_pod) = (to_router.display(), to_pod.display());
        let (v4, v6) = (host.underlay(Family::Ipv4), host.underlay(Family::Ipv6));
        host.netns.ip_batch(&of_this_kernel(format!(
            "link add u0 type veth peer name r{n} netns {to_router}
                link add p0 type veth peer name e0 netns {to_pod}
                link set u0 up
                link set p0 up
                address add {v4}/28 dev u0
                address add {v6}/64 dev u0 nodad
                address add 10.{n}.1.1/24 dev p0
                address add fd00:{n}:1::1/64 dev p0 nodad
                route add default via {}
                route add ::/0 via {}",
            gateway(v4),
            gateway(v6),
        )));
        router.ip_batch(&of_this_kernel(format!(
            "link set r{n} up
            address add {}/28 dev r{n}
            address add {}/64 dev r{n} nodad",
            gateway(v4),
            gateway(v6),
        )));
        host.pod.ip_batch(&of_this_kernel(format!(
            "link set e0 up
            address add 10.{n}.1.2/24 dev e0
            address add fd00:{n}:1::2/64 dev e0 nodad
            route add default via 10.{n}.1.1 src 10.{n}.1.2
            route add ::/0 via fd00:{n}:1::1 src fd00:{n}:1::2"
        )));
        host
    }

    /// Gives its pod the address that several have.
    ///
    /// # Panics
    /// When it has it.
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

    /// Its underlay address.
    #[must_use]
    pub fn underlay(&self, family: Family) -> IpAddr {
        let n = self.number;
        match family {
            Family::Ipv4 => {
                Ipv4Addr::from_bits(Ipv4Addr::new(192, 0, 2, 2).to_bits() + u32::from(n) * 16).into()
            }
            Family::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0, n, 0, 0, 0, 2).into(),
        }
    }

    /// Its WireGuard key, always the same.
    #[must_use]
    pub fn private_key(&self) -> PrivateKey {
        let [_, number] = self.number.to_be_bytes();
        PrivateKey::from_random(&[0x40 + number; 32])
    }

    /// The host itself, by its overlay addresses.
    #[must_use]
    pub fn end(&self) -> End<'_> {
        let n = self.number;
        End {
            netns: &self.netns,
            addresses: (
                Ipv4Addr::from_bits(0x0a00_0001 | u32::from(n) << 16),
                Ipv6Addr::new(0xfd00, n, 0, 0, 0, 0, 0, 1),
            ),
        }
    }

    /// The host itself, by its addresses in the network beside.
    #[must_use]
    pub fn beside(&self) -> End<'_> {
        let n = self.number;
        End {
            netns: &self.netns,
            addresses: (
                Ipv4Addr::from_bits(0xac1e_0001 | u32::from(n) << 8),
                Ipv6Addr::new(0xfd30, 0, n, 0, 0, 0, 0, 1),
            ),
        }
    }

    /// The pod behind it.
    #[must_use]
    pub fn pod_end(&self) -> End<'_> {
        let n = self.number;
        End {
            netns: &self.pod,
            addresses: (
                Ipv4Addr::from_bits(0x0a00_0102 | u32::from(n) << 16),
                Ipv6Addr::new(0xfd00, n, 1, 0, 0, 0, 0, 2),
            ),
        }
    }

    /// What the host carries beside its own addresses: the pod's subnets.
    #[must_use]
    pub fn prefixes(&self) -> [String; 2] {
        let n = self.number;
        [format!("10.{n}.1.0/24"), format!("fd00:{n}:1::/64")]
    }
}

impl<'a> End<'a> {
    /// An end that is none of the overlay's.
    #[must_use]
    pub fn outside(netns: &'a NetNs, addresses: (Ipv4Addr, Ipv6Addr)) -> End<'a> {
        End { netns, addresses }
    }

    /// Its overlay address.
    #[must_use]
    pub fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::Ipv4 => self.addresses.0.into(),
            Family::Ipv6 => self.addresses.1.into(),
        }
    }
}

/// The router's address on a host's subnet: the one before the host's.
fn gateway(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) => Ipv4Addr::from_bits(host.to_bits() - 1).into(),
        IpAddr::V6(host) => Ipv6Addr::from_bits(host.to_bits() - 1).into(),
    }
}

/// The lines for `ip` without those of IPv6 where the kernel has none.
fn of_this_kernel(lines: String) -> String {
    if has_ipv6() {
        return lines;
    }
    let ipv4 = lines.lines().filter(|line| !line.contains(':'));
    ipv4.collect::<Vec<_>>().join("\n")
}

/// Lets a namespace forward both families, and use IPv6 addresses at once: while duplicates are looked for, what `ip`
/// prints changes by itself.
fn prepare(netns: &NetNs) {
    netns.sysctl("net/ipv4/ip_forward", "1");
    if !has_ipv6() {
        return;
    }
    netns.sysctl("net/ipv6/conf/all/forwarding", "1");
    netns.sysctl("net/ipv6/conf/all/accept_dad", "0");
    netns.sysctl("net/ipv6/conf/default/accept_dad", "0");
}
