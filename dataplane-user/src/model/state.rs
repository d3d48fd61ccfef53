//! All kernel state that concerns us.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use super::{Address, Attachment, Class, Group, Hook, Link, NextHop, Route, RouteKey, Sysctl, Target};
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
}
