//! Routes.

mod change;
mod paths;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{NextHopObject, Owner};
use crate::net::{Family, LinkName};

pub use change::{RouteChange, RouteOperation};
pub(crate) use change::{led, require_led};
pub use paths::{Encap, Hop, Paths, RouteScope};

/// The identity of a route in the kernel: two routes with the same key exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// Routing table.
    pub table: u32,
    /// Destination; no host bits.
    pub prefix: IpNet,
    /// Type of service of the packets that may take it; 0: any. Adit creates routes with 0 only, and IPv6
    /// routes have no other.
    pub tos: u8,
    /// Priority; the lowest wins.
    pub metric: u32,
}

/// The metric that the kernel uses for IPv6 routes with metric 0.
const IPV6_METRIC: u32 = 1024;

impl RouteKey {
    /// A key of a route for packets of any type of service, with the metric that the kernel uses for 0.
    #[must_use]
    pub fn new(table: u32, prefix: IpNet, metric: u32) -> RouteKey {
        let metric = match metric {
            0 if prefix.addr().is_ipv6() => IPV6_METRIC,
            metric => metric,
        };
        RouteKey {
            table,
            prefix,
            tos: 0,
            metric,
        }
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)?;
        if self.tos != 0 {
            write!(f, " tos {:#04x}", self.tos)?;
        }
        write!(f, " metric {}", self.metric)?;
        if self.table != super::MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        Ok(())
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Who manages it (`rtm_protocol`).
    pub owner: Owner,
    /// Its action.
    pub kind: RouteKind,
}

impl Route {
    /// The next-hop object to which it leads.
    #[must_use]
    pub fn next_hop_object(&self) -> Option<&NextHopObject> {
        match &self.kind {
            RouteKind::NextHop { object, .. } => Some(object),
            _ => None,
        }
    }

    /// The preferred source of packets that take it.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        match &self.kind {
            RouteKind::Gateway { source, .. } | RouteKind::NextHop { source, .. } => *source,
            RouteKind::Paths(paths) => paths.source,
            RouteKind::Unreachable | RouteKind::Blackhole | RouteKind::Throw | RouteKind::Other(_) => None,
        }
    }

    /// Its device, if it has exactly one.
    #[must_use]
    pub fn link(&self) -> Option<&LinkName> {
        let mut links = self.links();
        links.next().filter(|_| links.next().is_none())
    }

    /// Its devices, including those of its next-hop object.
    pub fn links(&self) -> impl Iterator<Item = &LinkName> {
        let (one, many, object) = match &self.kind {
            RouteKind::Gateway { link, .. } => (Some(link), None, None),
            RouteKind::Paths(paths) => (None, Some(&paths.hops), None),
            RouteKind::NextHop { object, .. } => (None, None, Some(object)),
            RouteKind::Unreachable | RouteKind::Blackhole | RouteKind::Throw | RouteKind::Other(_) => {
                (None, None, None)
            }
        };
        let many = many.into_iter().flatten();
        let by_object = object.into_iter().flat_map(NextHopObject::hops);
        one.into_iter()
            .chain(many.filter_map(|hop| hop.link.as_ref()))
            .chain(by_object.map(|hop| &hop.link))
    }

    /// The gateways that must be reachable without another gateway: those without `onlink`.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        let hops = match &self.kind {
            RouteKind::Paths(paths) => Some(&paths.hops),
            _ => None,
        };
        let hops = hops.into_iter().flatten().filter(|hop| !hop.onlink);
        hops.filter_map(|hop| hop.gateway)
    }

    /// Whether its destinations are reached without a gateway.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(&self.kind, RouteKind::Paths(paths) if paths.hops.iter().all(|hop| hop.gateway.is_none()))
    }

    /// Whether it only refuses packets, as a backstop behind other routes.
    #[must_use]
    pub fn refuses(&self) -> bool {
        matches!(self.kind, RouteKind::Unreachable | RouteKind::Blackhole)
    }
}

/// The action of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends to a gateway that the kernel assumes to be on the link, even without an address in its subnet
    /// (`onlink`).
    Gateway {
        /// The gateway; of the prefix's family, or an IPv6 one of an IPv4 prefix.
        gateway: IpAddr,
        /// The device.
        link: LinkName,
        /// The preferred source.
        source: Option<IpAddr>,
        /// The path's MTU in bytes.
        mtu: Option<u32>,
    },
    /// Leads to a next-hop object.
    NextHop {
        /// The next-hop object.
        object: NextHopObject,
        /// The preferred source.
        source: Option<IpAddr>,
        /// The path's MTU in bytes.
        mtu: Option<u32>,
    },
    /// Sends to next hops, in any other form.
    Paths(Paths),
    /// Refuses packets and informs the sender (`unreachable`).
    Unreachable,
    /// Ends the lookup in its table; the lookup continues with the next rule (`throw`).
    Throw,
    /// Drops packets silently (`blackhole`).
    Blackhole,
    /// Anything else, in the syntax of `ip route`.
    Other(String),
}

impl RouteKind {
    /// Sends to the link of a device, without a gateway.
    #[must_use]
    pub fn on_link(link: &LinkName, family: Family) -> RouteKind {
        let hop = Hop {
            gateway: None,
            link: Some(link.clone()),
            onlink: false,
            weight: 1,
            encap: None,
        };
        let paths = Paths {
            hops: [hop].into(),
            scope: match family {
                Family::Ipv4 => RouteScope::Link,
                Family::Ipv6 => RouteScope::Global,
            },
            source: None,
            mtu: None,
        };
        paths.into_kind()
    }

    /// Its next hops in a common form; `None` for routes to next-hop objects and for those without next hops.
    #[must_use]
    pub fn paths(&self) -> Option<Paths> {
        match self {
            RouteKind::Paths(paths) => Some(paths.clone()),
            RouteKind::Gateway {
                gateway,
                link,
                source,
                mtu,
            } => {
                let hop = Hop {
                    gateway: Some(*gateway),
                    link: Some(link.clone()),
                    onlink: true,
                    weight: 1,
                    encap: None,
                };
                Some(Paths {
                    hops: [hop].into(),
                    scope: RouteScope::Global,
                    source: *source,
                    mtu: *mtu,
                })
            }
            RouteKind::NextHop { .. }
            | RouteKind::Unreachable
            | RouteKind::Blackhole
            | RouteKind::Throw
            | RouteKind::Other(_) => None,
        }
    }

    /// The number of its next hops.
    #[must_use]
    pub fn hops(&self) -> usize {
        match self {
            RouteKind::Gateway { .. } => 1,
            RouteKind::Paths(paths) => paths.hops.len(),
            RouteKind::NextHop { object, .. } => object.hops().count(),
            RouteKind::Unreachable | RouteKind::Blackhole | RouteKind::Throw | RouteKind::Other(_) => 0,
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteKind::Gateway {
                gateway,
                link,
                source,
                mtu,
            } => {
                write!(f, "via {gateway} dev {link} onlink")?;
                source_and_mtu(f, *source, *mtu)
            }
            RouteKind::NextHop { object, source, mtu } => {
                write!(f, "{object}")?;
                source_and_mtu(f, *source, *mtu)
            }
            RouteKind::Throw => f.write_str("throw"),
            RouteKind::Paths(paths) => paths.fmt(f),
            RouteKind::Unreachable => f.write_str("unreachable"),
            RouteKind::Blackhole => f.write_str("blackhole"),
            RouteKind::Other(text) => f.write_str(text),
        }
    }
}

fn source_and_mtu(f: &mut fmt::Formatter<'_>, source: Option<IpAddr>, mtu: Option<u32>) -> fmt::Result {
    if let Some(source) = source {
        write!(f, " src {source}")?;
    }
    if let Some(mtu) = mtu {
        write!(f, " mtu {mtu}")?;
    }
    Ok(())
}
