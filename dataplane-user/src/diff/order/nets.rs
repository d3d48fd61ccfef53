//! Which prefixes changes are about, so that those that contain another one are found without a look at all of them.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::model::change::{
    AddressOperation, BpfChange, LinkOperation, NetlinkChange, RouteOperation, Write,
};
use crate::model::{Action, KernelState};
use crate::net::Family;

/// The prefixes that the changes of one namespace are about.
#[derive(Debug, Default)]
pub(in crate::diff) struct Nets {
    /// Where routes and prefixes of the maps lead in the end.
    pub wanted: BTreeSet<IpNet>,
    /// Where routes and prefixes of the maps are put.
    pub led: NetSet,
    /// Where routes to next-hop objects are put.
    pub by_objects: NetSet,
    /// Where routes that lead somewhere, or prefixes of the maps, go.
    pub left: NetSet,
    /// What devices reach without a gateway, by addresses and routes that are put.
    pub connected: NetSet,
}

impl Nets {
    /// Without changes.
    pub(super) fn of(target: &KernelState) -> Nets {
        let routes = target.routes.iter().filter(|(_, route)| !route.refuses());
        let wanted = routes.map(|(key, _)| &key.prefix).chain(target.prefixes.keys());
        Nets {
            wanted: wanted.copied().collect(),
            ..Nets::default()
        }
    }

    pub(super) fn add(&mut self, action: &Action, target: &KernelState) {
        match action {
            Action::Netlink(NetlinkChange::Link(link, LinkOperation::SetUp)) => {
                let addresses = target.addresses.keys().filter(|(on, _)| on == link);
                addresses.for_each(|(_, address)| self.connected.insert(address.trunc()));
            }
            Action::Netlink(NetlinkChange::Route(
                key,
                RouteOperation::Create(route) | RouteOperation::Replace(route),
            )) if !route.refuses() => {
                self.led.insert(key.prefix);
                if route.target().is_some() {
                    self.by_objects.insert(key.prefix);
                }
                if route.is_connected() {
                    self.connected.insert(key.prefix);
                }
            }
            Action::Netlink(NetlinkChange::Route(key, RouteOperation::Delete(route))) if !route.refuses() => {
                self.left.insert(key.prefix);
            }
            Action::Netlink(NetlinkChange::Address(
                _,
                prefix,
                AddressOperation::Create(_) | AddressOperation::Replace(_) | AddressOperation::Move { .. },
            )) => self.connected.insert(prefix.trunc()),
            Action::Bpf(BpfChange::Prefix(prefix, Write::Put(_))) => self.led.insert(*prefix),
            Action::Bpf(BpfChange::Prefix(prefix, Write::Delete)) => self.left.insert(*prefix),
            _ => {}
        }
    }
}

/// Prefixes, and which lengths there are.
#[derive(Debug, Default)]
pub(in crate::diff) struct NetSet {
    nets: BTreeSet<IpNet>,
    lengths: BTreeMap<Family, BTreeSet<u8>>,
}

impl NetSet {
    fn insert(&mut self, net: IpNet) {
        self.nets.insert(net);
        let lengths = self.lengths.entry(Family::of_prefix(net)).or_default();
        lengths.insert(net.prefix_len());
    }

    pub(in crate::diff) fn contains(&self, net: &IpNet) -> bool {
        self.nets.contains(net)
    }

    /// Those that contain a prefix, itself included; the shortest first.
    pub(in crate::diff) fn around(&self, net: IpNet) -> impl Iterator<Item = IpNet> {
        let lengths = self.lengths.get(&Family::of_prefix(net)).into_iter().flatten();
        let shorter = lengths.take_while(move |length| **length <= net.prefix_len());
        let wider = shorter.filter_map(move |&length| Some(IpNet::new(net.addr(), length).ok()?.trunc()));
        wider.filter(|net| self.nets.contains(net))
    }

    /// Those that contain a prefix and are not that one.
    pub(in crate::diff) fn beyond(&self, net: IpNet) -> impl Iterator<Item = IpNet> {
        self.around(net).filter(move |wider| *wider != net)
    }
}
