//! Routes over any next hops.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::RouteKind;
use crate::net::LinkName;

/// What a route to one or several next hops says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// One at least.
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
    /// The device; `None` in a target: whichever leads to the gateway.
    pub link: Option<LinkName>,
    /// The gateway is taken to be on the link, whether or not an address says so.
    pub onlink: bool,
    /// Its share, 1 … 256.
    pub weight: u16,
    /// What packets are put into.
    pub encap: Option<Encap>,
}

/// Lightweight-tunnel encapsulation: the key that a flow-based device sends by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encap {
    /// The tunnel's id (VNI).
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
    /// The same as a kind: routes of the one form that overlays use are [`RouteKind::Gateway`].
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

    /// Whether another route is as this one wants it; a hop that names no device is content with any.
    #[must_use]
    pub fn is_met_by(&self, found: &Paths) -> bool {
        let mut left = found.hops.iter().collect::<Vec<_>>();
        let taken = self.hops.iter().all(|wanted| {
            let place = left.iter().position(|hop| {
                let same = Hop {
                    link: wanted.link.clone(),
                    ..(*hop).clone()
                };
                same == *wanted && (wanted.link.is_none() || hop.link == wanted.link)
            });
            place.is_some_and(|place| {
                left.swap_remove(place);
                true
            })
        });
        taken
            && left.is_empty()
            && (self.scope, self.source, self.mtu) == (found.scope, found.source, found.mtu)
    }
}

impl RouteScope {
    /// The word for it.
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
        let mut words = Vec::new();
        if let (1, Some(hop)) = (self.hops.len(), self.hops.first()) {
            words.push(hop.to_string());
        }
        if self.scope != RouteScope::Global {
            words.push(format!("scope {}", self.scope.name()));
        }
        words.extend(self.source.map(|source| format!("src {source}")));
        words.extend(self.mtu.map(|mtu| format!("mtu {mtu}")));
        if self.hops.len() > 1 {
            let hop = |hop: &Hop| format!("nexthop {hop} weight {}", hop.weight);
            words.extend(self.hops.iter().map(hop));
        }
        f.write_str(&words.join(" "))
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.encap.map(|encap| encap.to_string()));
        words.extend(self.gateway.map(|gateway| format!("via {gateway}")));
        words.extend(self.link.as_ref().map(|link| format!("dev {link}")));
        words.extend(self.onlink.then(|| "onlink".to_owned()));
        f.write_str(&words.join(" "))
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
