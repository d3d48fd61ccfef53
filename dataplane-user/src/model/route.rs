//! Routes.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Owner;
use crate::net::LinkName;

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
    /// The device that it sends to.
    #[must_use]
    pub fn link(&self) -> Option<&LinkName> {
        match &self.kind {
            RouteKind::Gateway { link, .. } => Some(link),
            RouteKind::Unreachable | RouteKind::Other(_) => None,
        }
    }
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends to a gateway that is taken to be on the link, whether or not an address says so.
    Gateway {
        /// The gateway, of the prefix's family.
        gateway: IpAddr,
        /// The device.
        link: LinkName,
        /// The preferred source.
        source: Option<IpAddr>,
        /// The path's MTU in bytes.
        mtu: Option<u32>,
    },
    /// Refuses, and tells the sender.
    Unreachable,
    /// Anything else, in the words of `ip route`.
    Other(String),
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
            RouteKind::Unreachable => f.write_str("unreachable"),
            RouteKind::Other(text) => f.write_str(text),
        }
    }
}
