//! Routes.

mod paths;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Owner;
use crate::net::LinkName;

pub use paths::{Encap, Hop, Paths, RouteScope};

/// What tells routes apart in the kernel: two routes of one key exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteKey {
    /// Routing table.
    pub table: u32,
    /// Destination; no host bits.
    pub prefix: IpNet,
    /// Priority; the lowest wins.
    pub metric: u32,
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} metric {}", self.prefix, self.metric)?;
        if self.table != super::MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        Ok(())
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whose it is (`rtm_protocol`).
    pub owner: Owner,
    /// What it does.
    pub kind: RouteKind,
}

impl Route {
    /// The device that it sends to, where that is one.
    #[must_use]
    pub fn link(&self) -> Option<&LinkName> {
        let mut links = self.links();
        links.next().filter(|_| links.next().is_none())
    }

    /// The devices that it sends to.
    pub fn links(&self) -> impl Iterator<Item = &LinkName> {
        let (one, many) = match &self.kind {
            RouteKind::Gateway { link, .. } => (Some(link), None),
            RouteKind::Paths(paths) => (None, Some(&paths.hops)),
            RouteKind::Unreachable | RouteKind::Blackhole | RouteKind::Other(_) => (None, None),
        };
        let many = many.into_iter().flatten();
        one.into_iter().chain(many.filter_map(|hop| hop.link.as_ref()))
    }

    /// Whether it stands behind others and only refuses.
    #[must_use]
    pub fn refuses(&self) -> bool {
        matches!(self.kind, RouteKind::Unreachable | RouteKind::Blackhole)
    }
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends to a gateway that is taken to be on the link, whether or not an address says so.
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
    /// Sends to next hops in any other form.
    Paths(Paths),
    /// Refuses, and tells the sender.
    Unreachable,
    /// Refuses in silence.
    Blackhole,
    /// Anything else, in the words of `ip route`.
    Other(String),
}

impl RouteKind {
    /// Where it leads, in one form for all routes that lead somewhere.
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
            RouteKind::Unreachable | RouteKind::Blackhole | RouteKind::Other(_) => None,
        }
    }

    /// How many next hops it has.
    #[must_use]
    pub fn hops(&self) -> usize {
        match self {
            RouteKind::Gateway { .. } => 1,
            RouteKind::Paths(paths) => paths.hops.len(),
            RouteKind::Unreachable | RouteKind::Blackhole | RouteKind::Other(_) => 0,
        }
    }

    /// Whether another route is as this one wants it.
    #[must_use]
    pub fn is_met_by(&self, found: &RouteKind) -> bool {
        if self == found {
            return true;
        }
        match (self, found.paths()) {
            (RouteKind::Paths(wanted), Some(found)) => wanted.is_met_by(&found),
            _ => false,
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
                if let Some(source) = source {
                    write!(f, " src {source}")?;
                }
                if let Some(mtu) = mtu {
                    write!(f, " mtu {mtu}")?;
                }
                Ok(())
            }
            RouteKind::Paths(paths) => paths.fmt(f),
            RouteKind::Unreachable => f.write_str("unreachable"),
            RouteKind::Blackhole => f.write_str("blackhole"),
            RouteKind::Other(text) => f.write_str(text),
        }
    }
}
