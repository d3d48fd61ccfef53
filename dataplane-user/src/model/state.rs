//! All kernel state that concerns us.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::wireguard::Device;
use super::{
    Address, Attachment, Class, Group, Hook, Link, NextHop, Route, RouteKey, Source, Sysctl, Target,
};
use crate::net::LinkName;

/// What shall be, or what is. A target holds only objects that are ours; an observed state also holds foreign ones
/// that stand where ours might: every link, the addresses on our links, and routes with one of our metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    /// Devices.
    pub links: BTreeMap<LinkName, Link>,
    /// Addresses on our devices, by device and address with prefix length.
    pub addresses: BTreeMap<(LinkName, IpNet), Address>,
    /// Routes.
    pub routes: BTreeMap<RouteKey, Route>,
    /// Settings of our devices.
    pub sysctls: BTreeMap<(LinkName, Sysctl), String>,
    /// Our WireGuard devices.
    pub wireguard: BTreeMap<LinkName, Device>,
    /// Our programs on our devices.
    pub attachments: BTreeMap<(LinkName, Hook), Attachment>,
    /// Classes and the links that they send to; `None`: a link that is gone.
    pub classes: BTreeMap<Class, Option<LinkName>>,
    /// Next hops.
    pub next_hops: BTreeSet<Arc<NextHop>>,
    /// Groups.
    pub groups: BTreeSet<Arc<Group>>,
    /// Prefixes and where they lead.
    pub prefixes: BTreeMap<IpNet, Target>,
    /// Known sources.
    pub sources: BTreeSet<Source>,
    /// Older versions of the map ABI that have left their maps and links. A target has none.
    pub older_versions: BTreeSet<u32>,
}

impl KernelState {
    /// What is left once a device is gone: the kernel takes its addresses, routes, settings, peers and programs with it, and
    /// classes that sent to it send nowhere.
    pub fn forget_link(&mut self, name: &LinkName) {
        self.links.remove(name);
        self.addresses.retain(|(link, _), _| link != name);
        self.sysctls.retain(|(link, _), _| link != name);
        self.wireguard.remove(name);
        self.attachments.retain(|(link, _), _| link != name);
        self.routes.retain(|_, route| route.link() != Some(name));
        for link in self.classes.values_mut() {
            if link.as_ref() == Some(name) {
                *link = None;
            }
        }
    }

    /// Drops classes that send nowhere, and what leads only to them; a group keeps its other members.
    pub fn drop_unreachable(&mut self) {
        self.classes.retain(|_, link| link.is_some());
        let classes = &self.classes;
        self.next_hops
            .retain(|next_hop| classes.contains_key(&next_hop.class));
        let prefixes = std::mem::take(&mut self.prefixes);
        self.prefixes = prefixes
            .into_iter()
            .filter_map(|(prefix, target)| Some((prefix, target.retain(|n| classes.contains_key(&n.class))?)))
            .collect();
        let groups = self.prefixes.values().filter_map(|target| match target {
            Target::Group(group) => Some(Arc::clone(group)),
            Target::Local | Target::NextHop(_) => None,
        });
        self.groups = groups.collect();
    }
}
