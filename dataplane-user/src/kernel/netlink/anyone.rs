//! What stands in the namespace, whosever it is: for commands that do what a user would do with `ip`.

use std::collections::BTreeSet;

use ipnet::IpNet;
use netlink_packet_core::{NlasIterator, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteHeader;

use super::message::Failure;
use super::route::defaults;
use super::{Netlink, address, route, rule};
use crate::kernel::KernelError;
use crate::model::{Address, Link, Rule};
use crate::net::{Family, LinkName};

/// A route's message begins with so many bytes of header.
const ROUTE_HEADER: usize = 12;

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

    /// Deletes a rule without our mark; what is gone already is fine.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn delete_foreign_rule(&mut self, rule: &Rule) -> Result<(), KernelError> {
        let Some(request) = rule::delete(rule, super::Marks::None) else {
            return Ok(());
        };
        let answer = self.socket.exchange(&[request]).await.pop();
        match answer.expect("one answer a request") {
            Err(failure) if failure.errno() != Some(libc::ENOENT) => {
                Err(failure.into_error(format!("delete rule {rule}")))
            }
            _ => Ok(()),
        }
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
