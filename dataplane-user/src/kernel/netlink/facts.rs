//! Gathers facts for the plan: the addresses of this namespace and the paths to the peers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::DecodeError;
use netlink_packet_route::AddressFamily;
use tokio::time::Instant;

use super::events::UnderlayAddresses;
use super::link_table::LinkTable;
use super::message::Failure;
use super::route::KernelPath;
use super::{Netlink, address, link, route};
use crate::kernel::KernelError;
use crate::model::devices::is_overlay_device;
use crate::model::facts::{Gateway, Lookup, NodeFacts, ReturnPath, UnderlayPath};
use crate::model::{AddressScope, MAIN_TABLE, connected_subnet};
use crate::net::{Family, LinkName};

impl Netlink {
    /// Gathers the addresses of all devices, and the device, the gateway and the MTU on the path to each of
    /// these addresses.
    ///
    /// # Errors
    /// When something can't be read; an address without route is no error.
    pub async fn facts(&mut self, peers: &BTreeSet<IpAddr>) -> Result<NodeFacts, KernelError> {
        let began = Instant::now();
        // The MTUs of devices must be current.
        let links = self.read_links().await?;
        let request = address::dump();
        let addresses = self.socket.list("addresses", &request, address::read).await?;
        let without_rules = self.families_without_rules().await?;
        let mut facts = NodeFacts {
            local_addresses: addresses.iter().map(|address| address.prefix.addr()).collect(),
            unheard_namespaces: self.interest().unheard(),
            ipv6: link::ipv6(&links),
            without_rules,
            ..NodeFacts::default()
        };

        let requests: Vec<_> = peers.iter().map(|peer| route::get(*peer)).collect();
        let answers = self.socket.exchange(&requests).await;
        for (peer, answer) in peers.iter().zip(answers) {
            let context = || format!("look up the route to {peer}");
            let bodies = match answer {
                Ok(bodies) => bodies,
                Err(failure) if is_no_route(&failure) => continue,
                Err(failure) => return Err(failure.into_error(context())),
            };
            let Some(body) = bodies.first() else {
                continue;
            };
            let path =
                route::read_path(body).map_err(|error| Failure::malformed(&error).into_error(context()))?;
            if let Some(path) = path.and_then(|found| self.path(&found)) {
                facts.paths.insert(*peer, path);
            }
        }
        facts.routes = self.find(self.lookups.clone(), route::read_found).await?;
        let gateways = self.find_gateways().await?;
        facts.subnets = self.subnets(&links, &addresses);
        if !self.return_paths.is_empty() {
            facts.return_paths = self.return_paths(&addresses).await?;
        }
        let by_paths = facts.paths.values().map(|path| &path.link);
        let underlay = by_paths.chain(facts.return_paths.keys()).chain(gateways.values());
        let underlay = underlay.cloned().collect();
        let addresses = UnderlayAddresses {
            peers,
            local: &facts.local_addresses,
        };
        self.interest().gathered(&links, &underlay, addresses, began);
        if !gateways.is_empty() {
            facts.gateways.insert(None, gateways);
        }
        Ok(facts)
    }

    /// The devices through which the gateways of the plan are on the link, as the devices were read last.
    ///
    /// # Errors
    /// When a lookup fails; a gateway without such a device is no error.
    pub(in crate::kernel) async fn find_gateways(
        &mut self,
    ) -> Result<BTreeMap<Gateway, LinkName>, KernelError> {
        let in_main = |gateway: &&Gateway| gateway.table == MAIN_TABLE;
        let lookups = self.gateways.iter().filter(in_main);
        let lookups = lookups.map(|gateway| Lookup::unmarked(gateway.address));
        let found = self.find(lookups.collect(), route::read_on_link).await?;
        let of_lookup = |(lookup, link): (Lookup, LinkName)| {
            let gateway = Gateway {
                table: MAIN_TABLE,
                address: lookup.destination,
            };
            (gateway, link)
        };
        let mut devices: BTreeMap<_, _> = found.into_iter().map(of_lookup).collect();
        let elsewhere = self.gateways.iter().filter(|gateway| !in_main(gateway));
        let elsewhere: BTreeSet<Gateway> = elsewhere.copied().collect();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let is_ipv4 = family == AddressFamily::Inet;
            let of_family = |gateway: &&Gateway| gateway.address.is_ipv4() == is_ipv4;
            let gateways: BTreeSet<Gateway> = elsewhere.iter().filter(of_family).copied().collect();
            if !gateways.is_empty() {
                devices.extend(self.find_in_tables(family, &gateways).await?);
            }
        }
        Ok(devices)
    }

    /// The devices through which gateways are on the link by routes of their tables: the most specific one of each.
    async fn find_in_tables(
        &mut self,
        family: AddressFamily,
        gateways: &BTreeSet<Gateway>,
    ) -> Result<BTreeMap<Gateway, LinkName>, KernelError> {
        let tables: BTreeSet<u32> = gateways.iter().map(|gateway| gateway.table).collect();
        let links = &self.links;
        let read = |body: &[u8]| route::read_connected(body, &tables, links);
        let request = route::dump(family);
        let mut connected = self.socket.list("routes", &request, read).await?;
        // Of several routes to one prefix the kernel uses and lists the first one first.
        connected.sort_by_key(|(key, _)| Reverse(key.prefix.prefix_len()));
        let mut devices = BTreeMap::new();
        for (key, link) in connected {
            let contained =
                |gateway: &&Gateway| gateway.table == key.table && key.prefix.contains(&gateway.address);
            for gateway in gateways.iter().filter(contained) {
                devices.entry(*gateway).or_insert_with(|| link.clone());
            }
        }
        Ok(devices)
    }

    /// What `read` decodes from the routes that the kernel finds for these lookups.
    async fn find<T>(
        &mut self,
        lookups: BTreeSet<Lookup>,
        read: impl Fn(&[u8], &LinkTable) -> Result<Option<T>, DecodeError>,
    ) -> Result<BTreeMap<Lookup, T>, KernelError> {
        let requests: Vec<_> = lookups.iter().map(route::find).collect();
        let mut found = BTreeMap::new();
        for (lookup, answer) in lookups.into_iter().zip(self.socket.exchange(&requests).await) {
            let context = || format!("look up the route to {}", lookup.destination);
            let bodies = match answer {
                Ok(bodies) => bodies,
                Err(failure) if is_no_route(&failure) => continue,
                Err(failure) => return Err(failure.into_error(context())),
            };
            let route = bodies.first().map(|body| read(body, &self.links)).transpose();
            let route = route.map_err(|error| Failure::malformed(&error).into_error(context()))?;
            found.extend(route.flatten().map(|route| (lookup, route)));
        }
        Ok(found)
    }

    /// The subnets of addresses on devices that are up, except overlay devices and loopback devices.
    fn subnets(
        &self,
        links: &[link::Observed],
        addresses: &[address::Observed],
    ) -> BTreeSet<(LinkName, IpNet)> {
        let up: BTreeMap<u32, &LinkName> = links
            .iter()
            .filter(|link| link.link.up && !is_overlay_device(&link.name))
            .map(|link| (link.index, &link.name))
            .collect();
        let subnets = addresses.iter().filter_map(|observed| {
            let link = up.get(&observed.index)?;
            let subnet = connected_subnet(&observed.prefix, observed.address.peer)?;
            let elsewhere = observed.address.scope == AddressScope::Global;
            (elsewhere && subnet.prefix_len() < subnet.max_prefix_len()).then(|| ((*link).clone(), subnet))
        });
        subnets.collect()
    }

    /// The return paths by the existing devices with some of these addresses.
    async fn return_paths(
        &mut self,
        addresses: &[address::Observed],
    ) -> Result<BTreeMap<LinkName, ReturnPath>, KernelError> {
        let mut paths = BTreeMap::new();
        for name in &self.return_paths {
            let Some(device) = self.links.get(name) else {
                continue;
            };
            let prefixes = addresses
                .iter()
                .filter(|address| address.index == device.index)
                .map(|address| address.prefix);
            let path = ReturnPath {
                ipv6: prefixes.clone().any(|prefix| prefix.addr().is_ipv6()),
                on_link: prefixes
                    .filter(|prefix| prefix.prefix_len() < prefix.max_prefix_len())
                    .map(|prefix| prefix.trunc())
                    .collect(),
                ..ReturnPath::default()
            };
            paths.insert(name.clone(), path);
        }
        for family in Family::BOTH {
            let raw = match family {
                Family::Ipv4 => AddressFamily::Inet,
                Family::Ipv6 => AddressFamily::Inet6,
            };
            let table = &self.links;
            let read = |body: &[u8]| route::defaults::read(body, raw, table);
            let found = self.socket.list("routes", &route::dump(raw), read).await?;
            let mut hops: Vec<_> = found.into_iter().flatten().collect();
            // The kernel lists next hops of equal metrics in the order in which it uses them.
            hops.sort_by_key(|hop| hop.metric);
            let mut seen = BTreeSet::new();
            for hop in hops {
                let Some(path) = paths.get_mut(&hop.link) else {
                    continue;
                };
                if seen.insert(hop.link)
                    && let Some(gateway) = hop.gateway
                {
                    path.gateways.insert(family, gateway);
                }
            }
        }
        Ok(paths)
    }

    fn path(&self, found: &KernelPath) -> Option<UnderlayPath> {
        let link = self.links.name(found.index)?;
        let device = self.links.get(link)?;
        Some(UnderlayPath {
            link: link.clone(),
            gateway: found.gateway,
            mtu: found.mtu.unwrap_or(device.mtu),
        })
    }
}

/// Whether a refusal means that there is no route, and not that the lookup failed.
fn is_no_route(failure: &Failure) -> bool {
    match failure {
        Failure::Refused { errno, .. } => ![libc::ENOBUFS, libc::ENOMEM, libc::EINTR].contains(errno),
        Failure::Lost(_) => false,
    }
}
