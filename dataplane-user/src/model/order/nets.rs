//! The prefixes that changes concern, indexed so that the prefixes containing another one are found without a
//! full scan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::change::{
    AddressChange, AddressOperation, BpfChange, LinkChange, LinkOperation, NetlinkChange, PrefixChange,
    RouteChange, RouteOperation, Write,
};
use crate::model::devices::ANCHOR;
use crate::model::{Action, KernelState, NextHopObject, PrefixTarget, Route, RouteGroup, connected_subnet};
use crate::net::Family;

/// The prefixes that the changes of one namespace concern.
#[derive(Debug, Default)]
pub(crate) struct Nets {
    /// The prefixes of desired routes and map entries that forward packets to other nodes.
    pub(crate) wanted: NetSet,
    /// The prefixes of the observed routes that lead to each group of next-hop objects.
    pub(crate) by_group: BTreeMap<Arc<RouteGroup>, Vec<IpNet>>,
    /// The prefixes of routes and map entries that are created or replaced.
    pub(crate) led: NetSet,
    /// The prefixes of routes to next-hop objects that are created or replaced.
    pub(crate) by_objects: NetSet,
    /// The prefixes of forwarding routes and map entries that are deleted.
    pub(crate) left: NetSet,
    /// The subnets that become reachable without a gateway, by addresses and routes that are created or
    /// replaced.
    pub(crate) connected: NetSet,
}

impl Nets {
    /// Before any change is added.
    pub(crate) fn of(before: &KernelState, desired: &KernelState) -> Nets {
        let mut nets = Nets::default();
        // An anchor route forwards only the prefixes in the maps.
        let is_anchor = |route: &Route| route.links().any(|link| link.as_str() == ANCHOR);
        let routes = desired.routes.iter();
        let routes = routes.filter(|(_, route)| !route.refuses() && !is_anchor(route));
        let entries = desired.prefixes.iter();
        let entries = entries.filter(|(_, target)| **target != PrefixTarget::Local);
        let wanted = routes
            .map(|(key, _)| key.prefix)
            .chain(entries.map(|(net, _)| *net));
        wanted.for_each(|net| nets.wanted.insert(net));
        for (key, route) in &before.routes {
            if let Some(NextHopObject::Group(group)) = route.next_hop_object() {
                nets.by_group
                    .entry(Arc::clone(group))
                    .or_default()
                    .push(key.prefix);
            }
        }
        nets
    }

    pub(crate) fn add(&mut self, action: &Action, desired: &KernelState) {
        match action {
            Action::Netlink(NetlinkChange::Link(LinkChange(link, LinkOperation::SetUp))) => {
                desired
                    .subnets(link)
                    .for_each(|subnet| self.connected.insert(subnet));
            }
            Action::Netlink(NetlinkChange::Route(RouteChange(
                key,
                RouteOperation::Create(route) | RouteOperation::Replace(route),
            ))) if !route.refuses() => {
                self.led.insert(key.prefix);
                if route.next_hop_object().is_some() {
                    self.by_objects.insert(key.prefix);
                }
                if route.is_connected() {
                    self.connected.insert(key.prefix);
                }
            }
            Action::Netlink(NetlinkChange::Route(RouteChange(key, RouteOperation::Delete(route))))
                if !route.refuses() =>
            {
                self.left.insert(key.prefix);
            }
            Action::Netlink(NetlinkChange::Address(AddressChange(
                _,
                prefix,
                AddressOperation::Create(value)
                | AddressOperation::Replace(value)
                | AddressOperation::Move { to: value, .. },
            ))) => {
                if let Some(subnet) = connected_subnet(prefix, value.peer) {
                    self.connected.insert(subnet);
                }
            }
            Action::Bpf(BpfChange::Prefix(PrefixChange(prefix, Write::Put(_)))) => self.led.insert(*prefix),
            Action::Bpf(BpfChange::Prefix(PrefixChange(prefix, Write::Delete))) => self.left.insert(*prefix),
            _ => {}
        }
    }
}

/// A set of prefixes, with the prefix lengths that occur in it.
#[derive(Debug, Default)]
pub(crate) struct NetSet {
    nets: BTreeSet<IpNet>,
    lengths: BTreeMap<Family, BTreeSet<u8>>,
}

impl FromIterator<IpNet> for NetSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> NetSet {
        let mut set = NetSet::default();
        nets.into_iter().for_each(|net| set.insert(net));
        set
    }
}

impl NetSet {
    /// Whether a prefix of the set contains this one, or the other way round.
    pub(crate) fn overlaps(&self, net: &IpNet) -> bool {
        // Prefixes inside of this one come directly after it.
        let next = self.nets.range(*net..).next();
        next.is_some_and(|next| net.contains(next)) || self.around(*net).next().is_some()
    }

    fn insert(&mut self, net: IpNet) {
        self.nets.insert(net);
        let lengths = self.lengths.entry(Family::of_prefix(net)).or_default();
        lengths.insert(net.prefix_len());
    }

    pub(crate) fn contains(&self, net: &IpNet) -> bool {
        self.nets.contains(net)
    }

    /// The prefixes that contain a prefix, itself included; the shortest first.
    pub(crate) fn around(&self, net: IpNet) -> impl Iterator<Item = IpNet> {
        let lengths = self.lengths.get(&Family::of_prefix(net)).into_iter().flatten();
        let shorter = lengths.take_while(move |length| **length <= net.prefix_len());
        let wider = shorter.filter_map(move |&length| Some(IpNet::new(net.addr(), length).ok()?.trunc()));
        wider.filter(|net| self.nets.contains(net))
    }

    /// The prefixes that contain a prefix, without itself.
    pub(crate) fn beyond(&self, net: IpNet) -> impl Iterator<Item = IpNet> {
        self.around(net).filter(move |wider| *wider != net)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_overlap_where_one_contains_the_other() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let set = ["10.1.0.0/16", "10.2.3.0/24", "fd00:1::/32"].map(net);
        let set = set.into_iter().collect::<NetSet>();
        for inside in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.0.0/16",
            "10.1.255.0/24",
            "10.2.0.0/16",
            "::/0",
            "fd00:1::1/128",
        ] {
            assert!(set.overlaps(&net(inside)), "{inside}");
        }
        for outside in [
            "10.0.0.0/16",
            "10.2.4.0/24",
            "10.3.0.0/16",
            "9.0.0.0/8",
            "11.0.0.0/8",
            "fd00:2::/32",
        ] {
            assert!(!set.overlaps(&net(outside)), "{outside}");
        }
    }
}
