//! Next-hop objects (`ip nexthop`): the devices, gateways and tunnel headers to which the kernel's routes
//! lead without BPF programs. Only the kernel adapter knows their ids.

mod change;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::{KernelState, RouteKind};
use crate::net::LinkName;

pub(crate) use change::require_hop;
pub use change::{NextHopObjectChange, NextHopObjectOperation};

/// One next hop. All fields are its identity: a next hop with another value is another object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteHop {
    /// The device.
    pub link: LinkName,
    /// The neighbour on the device, which the kernel assumes to be on the link (`onlink`); `None`: the device
    /// needs none. Routes of both families may use an IPv6 gateway or none; only IPv4 routes may use an IPv4
    /// gateway.
    pub gateway: Option<IpAddr>,
    /// The outer header that a flow-based device adds to the packet; `None` for other devices.
    pub encapsulation: Option<OuterHeader>,
}

/// The outer header of a lightweight tunnel (linux/lwtunnel.h, `LWTUNNEL_ENCAP_IP` and `LWTUNNEL_ENCAP_IP6`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OuterHeader {
    /// VNI; 0 for encapsulations without.
    pub id: u64,
    /// The underlay address of this node.
    pub local: IpAddr,
    /// The underlay address of the peer, of the same family.
    pub remote: IpAddr,
    /// TTL or hop limit, 1 … 255; a GENEVE device would send 0 unchanged.
    pub ttl: u8,
    /// TOS or traffic class: the DSCP in its upper six bits. The kernel copies ECN from the inner header.
    pub tos: u8,
    /// DF, over IPv4.
    pub dont_fragment: bool,
    /// Whether the UDP checksum is computed.
    pub checksum: bool,
}

/// Next hops that share routes, with weights 1 … 255, in order. A group with a single member has lost the
/// others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteGroup {
    /// The members.
    pub members: Vec<(Arc<RouteHop>, u8)>,
    /// Whether flows keep their member when other members are added or removed.
    pub resilient: bool,
}

/// A next-hop object, to which routes lead. Ordered so that groups come after their members.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHopObject {
    /// One next hop.
    Hop(Arc<RouteHop>),
    /// A group of next hops.
    Group(Arc<RouteGroup>),
    /// An object with the mark of Adit that Adit would never create in this form, in the syntax of `ip
    /// nexthop`.
    Other(String),
}

impl RouteHop {
    /// Whether its device chooses the peer by allowed IPs: only WireGuard needs neither a gateway nor an
    /// outer header.
    #[must_use]
    pub fn is_wireguard(&self) -> bool {
        self.gateway.is_none() && self.encapsulation.is_none()
    }
}

impl NextHopObject {
    /// Its next hops.
    pub fn hops(&self) -> impl Iterator<Item = &Arc<RouteHop>> {
        let (one, many) = match self {
            NextHopObject::Hop(hop) => (Some(hop), None),
            NextHopObject::Group(group) => (None, Some(group.members.iter().map(|(hop, _)| hop))),
            NextHopObject::Other(_) => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// What the kernel keeps of it once next hops are deleted; `None`: nothing.
    #[must_use]
    fn retain(&self, stays: impl Fn(&RouteHop) -> bool) -> Option<NextHopObject> {
        match self {
            NextHopObject::Hop(hop) => stays(hop).then(|| self.clone()),
            NextHopObject::Group(group) => {
                let members = group.members.iter().filter(|(hop, _)| stays(hop));
                let members = members.cloned().collect::<Vec<_>>();
                let resilient = group.resilient;
                (!members.is_empty())
                    .then(|| NextHopObject::Group(Arc::new(RouteGroup { members, resilient })))
            }
            NextHopObject::Other(_) => Some(self.clone()),
        }
    }
}

impl KernelState {
    /// Replaces a group by another one; the routes that lead to it then lead to the new one.
    pub fn replace_route_group(&mut self, from: &Arc<RouteGroup>, to: &Arc<RouteGroup>) {
        let from = NextHopObject::Group(Arc::clone(from));
        let to = NextHopObject::Group(Arc::clone(to));
        self.next_hop_objects.remove(&from);
        for route in self.routes.values_mut() {
            if let RouteKind::NextHop { object, .. } = &mut route.kind
                && *object == from
            {
                *object = to.clone();
            }
        }
        self.next_hop_objects.insert(to);
    }

    /// Removes what the kernel deletes when a device goes down or is deleted: its neighbours, and the next
    /// hops and routes through it.
    pub fn forget_paths(&mut self, link: &LinkName) {
        self.neighbours.retain(|(on, _), _| on != link);
        self.forget_hops(|hop| hop.link == *link);
        self.routes
            .retain(|_, route| !route.links().any(|other| other == link));
    }

    /// Removes what the kernel deletes together with next hops: their place in groups, and routes without any
    /// next hop left.
    pub fn forget_hops(&mut self, gone: impl Fn(&RouteHop) -> bool) {
        let objects = self.next_hop_objects.iter();
        let objects = objects.filter_map(|object| object.retain(|hop| !gone(hop)));
        self.next_hop_objects = objects.collect();
        self.routes.retain(|_, route| {
            let RouteKind::NextHop { object, .. } = &mut route.kind else {
                return true;
            };
            let left = object.retain(|hop| !gone(hop));
            left.map(|left| *object = left).is_some()
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

impl fmt::Display for NextHopObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NextHopObject::Hop(hop) => write!(f, "{hop}"),
            NextHopObject::Group(group) => write!(f, "{group}"),
            NextHopObject::Other(text) => f.write_str(text),
        }
    }
}
