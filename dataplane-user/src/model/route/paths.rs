//! Routes over any next hops.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::RouteKind;
use crate::net::LinkName;

/// The properties of a route to one or several next hops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The next hops; at least one.
    pub hops: BTreeSet<Hop>,
    /// How far the destination is; IPv6 knows no other than global.
    pub scope: RouteScope,
    /// The preferred source.
    pub source: Option<IpAddr>,
    /// The path's MTU in bytes.
    pub mtu: Option<u32>,
}

/// A next hop of a route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// The gateway; `None`: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The device; `None` in the desired state: no device is known through which the gateway is on the link,
    /// so the route waits.
    pub link: Option<LinkName>,
    /// Whether the kernel assumes that the gateway is on the link, even without an address in its subnet
    /// (`onlink`).
    pub onlink: bool,
    /// Its weight, 1 … 256.
    pub weight: u16,
    /// The outer header for packets.
    pub encap: Option<Encap>,
}

/// Lightweight-tunnel encapsulation: the tunnel key with which a flow-based device sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encap {
    /// The tunnel id (VNI).
    pub id: u64,
    /// The outer source; `None`: the kernel's choice.
    pub source: Option<IpAddr>,
    /// The outer destination, of the same family.
    pub destination: IpAddr,
    /// The outer TTL; 0: the device's.
    pub ttl: u8,
}

/// How far a route's destination is (`rtm_scope`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteScope {
    /// Anywhere.
    Global,
    /// On the link.
    Link,
    /// On this host.
    Host,
}

impl Paths {
    /// The same as a [`RouteKind`]: routes in the form that overlays use become [`RouteKind::Gateway`].
    #[must_use]
    pub fn into_kind(mut self) -> RouteKind {
        if self.hops.len() == 1
            && let Some(mut hop) = self.hops.pop_first()
        {
            hop.weight = 1;
            if let Hop {
                gateway: Some(gateway),
                link: Some(link),
                onlink: true,
                encap: None,
                ..
            } = &hop
                && self.scope == RouteScope::Global
            {
                return RouteKind::Gateway {
                    gateway: *gateway,
                    link: link.clone(),
                    source: self.source,
                    mtu: self.mtu,
                };
            }
            self.hops.insert(hop);
        }
        RouteKind::Paths(self)
    }
}

impl RouteScope {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RouteScope::Global => "global",
            RouteScope::Link => "link",
            RouteScope::Host => "host",
        }
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let (1, Some(hop)) = (self.hops.len(), self.hops.first()) {
            parts.push(hop.to_string());
        }
        if self.scope != RouteScope::Global {
            parts.push(format!("scope {}", self.scope.name()));
        }
        parts.extend(self.source.map(|source| format!("src {source}")));
        parts.extend(self.mtu.map(|mtu| format!("mtu {mtu}")));
        if self.hops.len() > 1 {
            let hop = |hop: &Hop| format!("nexthop {hop} weight {}", hop.weight);
            parts.extend(self.hops.iter().map(hop));
        }
        f.write_str(&parts.join(" "))
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.encap.map(|encap| encap.to_string()));
        parts.extend(self.gateway.map(|gateway| format!("via {gateway}")));
        parts.extend(self.link.as_ref().map(|link| format!("dev {link}")));
        parts.extend(self.onlink.then(|| "onlink".to_owned()));
        f.write_str(&parts.join(" "))
    }
}

impl fmt::Display for Encap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.destination.is_ipv4() { "ip" } else { "ip6" };
        write!(f, "encap {kind} id {}", self.id)?;
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        write!(f, " dst {} ttl {}", self.destination, self.ttl)
    }
}
