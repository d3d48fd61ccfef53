//! What stands in the namespace, whosever it is: for commands that do what a user would do with `ip`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NlasIterator, parse_ip, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteProtocol, RouteType};

use super::message::Failure;
use super::route::defaults;
use super::{Netlink, address, route, rule};
use crate::kernel::KernelError;
use crate::model::{Address, Link, RouteKey, Rule};
use crate::net::{Family, LinkName};

/// A route's message begins with so many bytes of header.
const ROUTE_HEADER: usize = 12;

/// A route by a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteBy {
    /// What tells it from others.
    pub key: RouteKey,
    /// Whether a user added it, or `wg-quick` for one: its protocol is `boot`.
    pub by_hand: bool,
}

impl Netlink {
    /// A device; `None`: there is none of this name.
    ///
    /// # Errors
    /// When the links can't be read.
    pub async fn link(&mut self, name: &LinkName) -> Result<Option<Link>, KernelError> {
        let links = self.read_links().await?;
        let found = links.into_iter().find(|link| link.name == *name);
        Ok(found.map(|found| found.link))
    }

    /// A device's addresses, in the kernel's order.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn addresses_on(&mut self, name: &LinkName) -> Result<Vec<(IpNet, Address)>, KernelError> {
        self.read_links().await?;
        let index = self.link_index(name);
        let all = self.socket.dump(&address::dump(), address::read).await;
        let all = all.map_err(|failure| failure.into_error("list the addresses"))?;
        let on_it = all.into_iter().filter(|address| Some(address.index) == index);
        Ok(on_it.map(|address| (address.prefix, address.address)).collect())
    }

    /// All rules of a family, in the order in which they are asked.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn all_rules(&mut self, family: Family) -> Result<Vec<Rule>, KernelError> {
        let read = |body: &[u8]| rule::read_any(body, family).map(|(rule, _)| Some(rule));
        self.dump_rules(family, read).await
    }

    /// The routing tables that have a route.
    ///
    /// # Errors
    /// When the routes can't be read.
    pub async fn tables_in_use(&mut self) -> Result<BTreeSet<u32>, KernelError> {
        let mut tables = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let read = |body: &[u8]| {
                let mut table = u32::from(RouteHeader::parse(body)?.table);
                for attribute in NlasIterator::new(&body[ROUTE_HEADER..]) {
                    let attribute = attribute?;
                    if attribute.kind() == libc::RTA_TABLE {
                        table = parse_u32(attribute.value())?;
                    }
                }
                Ok(Some(table))
            };
            let found = self.socket.dump(&route::dump(family), read).await;
            tables.extend(found.map_err(|failure: Failure| failure.into_error("list the routes"))?);
        }
        Ok(tables)
    }

    /// The unicast routes that lead to a device by themselves, in all tables; not those with several next hops.
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
            let found = self.socket.dump(&route::dump(family), read).await;
            routes.extend(found.map_err(|failure: Failure| failure.into_error("list the routes"))?);
        }
        Ok(routes)
    }

    /// Deletes a route by a device that was added by hand; what is gone already is fine.
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
        match answer.expect("one answer a request") {
            Err(failure) if failure.errno() != Some(libc::ESRCH) => {
                Err(failure.into_error(format!("delete route {key}")))
            }
            _ => Ok(()),
        }
    }

    /// The MTU of the device by which the main table's best IPv4 default route leads, in bytes.
    ///
    /// # Errors
    /// When links or routes can't be read.
    pub async fn default_mtu(&mut self) -> Result<Option<u32>, KernelError> {
        self.read_links().await?;
        let links = &self.links;
        let read = |body: &[u8]| defaults::read(body, AddressFamily::Inet, links);
        let found = self.socket.dump(&route::dump(AddressFamily::Inet), read).await;
        let found = found.map_err(|failure| failure.into_error("list the routes"))?;
        let best = found.into_iter().flatten().min_by_key(|hop| hop.metric);
        Ok(best
            .and_then(|hop| self.links.get(&hop.link))
            .map(|link| link.mtu))
    }
}

/// What an `RTM_NEWROUTE` says of a unicast route that leads to the device of this index.
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
    let mut destination = match family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let (mut table, mut metric, mut index) = (u32::from(header.table), 0, None);
    for attribute in NlasIterator::new(&body[ROUTE_HEADER..]) {
        let attribute = attribute?;
        match attribute.kind() {
            libc::RTA_DST => destination = parse_ip(attribute.value())?,
            libc::RTA_TABLE => table = parse_u32(attribute.value())?,
            libc::RTA_PRIORITY => metric = parse_u32(attribute.value())?,
            libc::RTA_OIF => index = Some(parse_u32(attribute.value())?),
            _ => {}
        }
    }
    let length = header.destination_prefix_length;
    let prefix = IpNet::new(destination, length)
        .map_err(|_| DecodeError::from(format!("route to {destination} with prefix length {length}")))?;
    let route = RouteBy {
        key: RouteKey {
            table,
            prefix,
            metric,
        },
        by_hand: header.protocol == RouteProtocol::Boot,
    };
    Ok((index == Some(wanted)).then_some(route))
}
