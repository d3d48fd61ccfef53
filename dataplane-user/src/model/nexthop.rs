//! Next hops of the kernel's own routes (`ip nexthop`): the devices, gateways and tunnel headers that routes lead to
//! without our programs. Ids are the adapter's affair.

mod change;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::{KernelState, RouteKind};
use crate::net::LinkName;

pub(crate) use change::require_hop;
pub use change::{NextHopObjectChange, NextHopObjectOperation};

/// One way out. All of it is its identity: whatever differs is another object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteHop {
    /// The device.
    pub link: LinkName,
    /// The neighbour on it, taken to be on the link; `None`: the device needs none. Routes of either family may lead to
    /// an IPv6 gateway, and to none; an IPv4 one is for IPv4 alone.
    pub gateway: Option<IpAddr>,
    /// What a flow-based device puts around the packet; `None` for other devices.
    pub encapsulation: Option<OuterHeader>,
}

/// The outer header of a lightweight tunnel (linux/lwtunnel.h, `LWTUNNEL_ENCAP_IP` and `LWTUNNEL_ENCAP_IP6`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OuterHeader {
    /// VNI; 0 for encapsulations without.
    pub id: u64,
    /// Our underlay address.
    pub local: IpAddr,
    /// The peer's, of the same family.
    pub remote: IpAddr,
    /// TTL or hop limit, 1 … 255; a GENEVE device would send 0 as it is.
    pub ttl: u8,
    /// TOS or traffic class: the DSCP in its upper six bits. The kernel copies ECN from the inner header.
    pub tos: u8,
    /// DF, over IPv4.
    pub dont_fragment: bool,
    /// Whether the UDP checksum is computed.
    pub checksum: bool,
}

/// Next hops that share routes, with weights 1 … 255, in order. One with a single member is a group that lost others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteGroup {
    /// The members.
    pub members: Vec<(Arc<RouteHop>, u8)>,
    /// Whether flows stay where they are when members come and go, as far as those are still there.
    pub resilient: bool,
}

/// A next-hop object, which routes lead to. Ordered so that groups come after what they are made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteTarget {
    /// One way out.
    Hop(Arc<RouteHop>),
    /// Several.
    Group(Arc<RouteGroup>),
    /// One that bears our mark and that we'd not make so, in the words of `ip nexthop`.
    Other(String),
}

impl RouteHop {
    /// Whether its device chooses the peer by its allowed prefixes: WireGuard alone needs neither a gateway nor a header.
    #[must_use]
    pub fn is_wireguard(&self) -> bool {
        self.gateway.is_none() && self.encapsulation.is_none()
    }
}

impl RouteTarget {
    /// The ways out behind it.
    pub fn hops(&self) -> impl Iterator<Item = &Arc<RouteHop>> {
        let (one, many) = match self {
            RouteTarget::Hop(hop) => (Some(hop), None),
            RouteTarget::Group(group) => (None, Some(group.members.iter().map(|(hop, _)| hop))),
            RouteTarget::Other(_) => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// What the kernel leaves of it once ways out are gone; `None`: nothing.
    #[must_use]
    fn retain(&self, stays: impl Fn(&RouteHop) -> bool) -> Option<RouteTarget> {
        match self {
            RouteTarget::Hop(hop) => stays(hop).then(|| self.clone()),
            RouteTarget::Group(group) => {
                let members = group.members.iter().filter(|(hop, _)| stays(hop));
                let members = members.cloned().collect::<Vec<_>>();
                let resilient = group.resilient;
                (!members.is_empty()).then(|| RouteTarget::Group(Arc::new(RouteGroup { members, resilient })))
            }
            RouteTarget::Other(_) => Some(self.clone()),
        }
    }
}

impl KernelState {
    /// Gives a group other members; the routes that lead to it follow.
    pub fn replace_route_group(&mut self, from: &Arc<RouteGroup>, to: &Arc<RouteGroup>) {
        let from = RouteTarget::Group(Arc::clone(from));
        let to = RouteTarget::Group(Arc::clone(to));
        self.route_targets.remove(&from);
        for route in self.routes.values_mut() {
            if let RouteKind::NextHop { target, .. } = &mut route.kind
                && *target == from
            {
                *target = to.clone();
            }
        }
        self.route_targets.insert(to);
    }

    /// What the kernel does when a device goes down or away: its neighbours go, and the next hops and routes on it.
    pub fn forget_paths(&mut self, link: &LinkName) {
        self.neighbours.retain(|(on, _), _| on != link);
        self.forget_hops(|hop| hop.link == *link);
        self.routes
            .retain(|_, route| !route.links().any(|other| other == link));
    }

    /// What the kernel does when next hops go: groups lose them, and routes that have none left go too.
    pub fn forget_hops(&mut self, gone: impl Fn(&RouteHop) -> bool) {
        let targets = self.route_targets.iter();
        let targets = targets.filter_map(|target| target.retain(|hop| !gone(hop)));
        self.route_targets = targets.collect();
        self.routes.retain(|_, route| {
            let RouteKind::NextHop { target, .. } = &mut route.kind else {
                return true;
            };
            let left = target.retain(|hop| !gone(hop));
            left.map(|left| *target = left).is_some()
        });
    }
}

impl fmt::Display for RouteHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(header) = &self.encapsulation {
            write!(f, "{header} ")?;
        }
        if let Some(gateway) = self.gateway {
            write!(f, "via {gateway} ")?;
        }
        write!(f, "dev {}", self.link)
    }
}

impl fmt::Display for OuterHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OuterHeader {
            id,
            local,
            remote,
            ttl,
            ..
        } = self;
        let (kind, limit) = if remote.is_ipv4() {
            ("ip", "ttl")
        } else {
            ("ip6", "hoplimit")
        };
        write!(f, "encap {kind} id {id} src {local} dst {remote} {limit} {ttl}")?;
        if self.tos != 0 {
            write!(f, " tos {:#04x}", self.tos)?;
        }
        if self.dont_fragment {
            f.write_str(" df")?;
        }
        if self.checksum {
            f.write_str(" csum")?;
        }
        Ok(())
    }
}

impl fmt::Display for RouteGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.resilient {
            "resilient group of "
        } else {
            "group of "
        })?;
        for (index, (hop, weight)) in self.members.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{hop} weight {weight}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteTarget::Hop(hop) => write!(f, "{hop}"),
            RouteTarget::Group(group) => write!(f, "{group}"),
            RouteTarget::Other(text) => f.write_str(text),
        }
    }
}
