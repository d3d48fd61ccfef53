//! Reads and deletes objects independent of the mark of Adit, for commands that do what a user would do with
//! `ip`.

use std::collections::BTreeSet;

use ipnet::IpNet;
use netlink_packet_core::DecodeError;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteProtocol, RouteType};

use super::link_table::LinkTable;
use super::route::{HEADER, Parts, defaults};
use super::{Netlink, address, route, rule};
use crate::kernel::KernelError;
use crate::model::{Address, Link, RouteKey, Rule};
use crate::net::{Family, LinkName};

/// A route that leads to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteBy {
    /// Its key.
    pub key: RouteKey,
    /// Whether a user or a tool such as `wg-quick` added it: its protocol is `boot`.
    pub by_hand: bool,
}

impl Netlink {
    /// The device that has this name, also as an alternative one: its name and its properties.
    ///
    /// # Errors
    /// When the links can't be read.
    pub async fn named(&mut self, name: &LinkName) -> Result<Option<(LinkName, Link)>, KernelError> {
        let mut links = self.read_links().await?.into_iter();
        let found = links.find(|link| link.name == *name || link.altnames.contains(name));
        Ok(found.map(|found| (found.name, found.link)))
    }

    /// Reads a device; `None` if no device has this name.
    ///
    /// # Errors
    /// When the links can't be read.
    pub async fn link(&mut self, name: &LinkName) -> Result<Option<Link>, KernelError> {
        let links = self.read_links().await?;
        let found = links.into_iter().find(|link| link.name == *name);
        Ok(found.map(|found| found.link))
    }

    /// The addresses of a device, in the order of the kernel.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn addresses_on(&mut self, name: &LinkName) -> Result<Vec<(IpNet, Address)>, KernelError> {
        self.read_links().await?;
        let index = self.link_index(name);
        let request = address::dump();
        let all = self.socket.list("addresses", &request, address::read).await?;
        let on_it = all.into_iter().filter(|address| Some(address.index) == index);
        Ok(on_it.map(|address| (address.prefix, address.address)).collect())
    }

    /// All rules of a family, in the order in which the kernel evaluates them.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn all_rules(&mut self, family: Family) -> Result<Vec<Rule>, KernelError> {
        let read = |body: &[u8]| rule::read_any(body, family).map(|(rule, _)| Some(rule));
        self.dump_rules(family, read).await
    }

    /// The routing tables that contain a route.
    ///
    /// # Errors
    /// When the routes can't be read.
    pub async fn tables_in_use(&mut self) -> Result<BTreeSet<u32>, KernelError> {
        let mut tables = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let read = |body: &[u8]| {
                let header = RouteHeader::parse(body)?;
                Ok(Some(route::key(&header, &body[HEADER..])?.table))
            };
            tables.extend(self.socket.list("routes", &route::dump(family), read).await?);
        }
        Ok(tables)
    }

    /// The unicast routes to a device in all tables, except those with several next hops.
    ///
    /// # Errors
    /// When links or routes can't be read.
    pub async fn routes_by(&mut self, name: &LinkName) -> Result<Vec<RouteBy>, KernelError> {
        self.read_links().await?;
        let Some(index) = self.link_index(name) else {
            return Ok(Vec::new());
        };
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let read = |body: &[u8]| read_route_by(body, family, index);
            routes.extend(self.socket.list("routes", &route::dump(family), read).await?);
        }
        Ok(routes)
    }

    /// Deletes a route to a device that was added by hand; a missing one is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn delete_route_by(&mut self, name: &LinkName, key: &RouteKey) -> Result<(), KernelError> {
        let Some(index) = self.link_index(name) else {
            return Ok(());
        };
        let answer = self
            .socket
            .exchange(&[route::delete_by_hand(key, index)])
            .await
            .pop();
        match answer.expect("one answer per request") {
            Err(failure) if failure.errno() != Some(libc::ESRCH) => {
                Err(failure.into_error(format!("delete route {key}")))
            }
            _ => Ok(()),
        }
    }

    /// The MTU of the device of the best IPv4 default route in the main table, in bytes.
    ///
    /// # Errors
    /// When links or routes can't be read.
    pub async fn default_mtu(&mut self) -> Result<Option<u32>, KernelError> {
        self.read_links().await?;
        let links = &self.links;
        let read = |body: &[u8]| defaults::read(body, AddressFamily::Inet, links);
        let request = route::dump(AddressFamily::Inet);
        let found = self.socket.list("routes", &request, read).await?;
        let best = found.into_iter().flatten().min_by_key(|hop| hop.metric);
        Ok(best
            .and_then(|hop| self.links.get(&hop.link))
            .map(|link| link.mtu))
    }
}

/// Decodes an `RTM_NEWROUTE` of a unicast route to the device with this index.
pub(super) fn read_route_by(
    body: &[u8],
    family: AddressFamily,
    wanted: u32,
) -> Result<Option<RouteBy>, DecodeError> {
    let header = RouteHeader::parse(body)?;
    let is_cloned = header.flags.contains(RouteFlags::Cloned);
    if header.kind != RouteType::Unicast || is_cloned || header.address_family != family {
        return Ok(None);
    }
    // Devices are identified by index here.
    let parts = Parts::read(&header, &body[HEADER..], &LinkTable::default())?;
    let route = RouteBy {
        key: parts.key,
        by_hand: header.protocol == RouteProtocol::Boot,
    };
    Ok((parts.index == Some(wanted)).then_some(route))
}
