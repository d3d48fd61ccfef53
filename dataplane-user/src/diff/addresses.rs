//! Addresses on managed devices.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::change::{AddressChange, AddressOperation};
use crate::model::{
    Address, ChangeSet, Conflict, KernelState, Object, Owner, Route, RouteKey, connected_subnet,
};
use crate::net::LinkName;

/// Removes from `observed` what the kernel deletes together with addresses that are deleted first.
pub(super) fn diff(observed: &mut KernelState, desired: &KernelState, set: &mut ChangeSet) {
    // Addresses that are deleted as part of another change.
    let mut moved = Vec::new();
    for ((link, address), wanted) in &desired.addresses {
        let operation = match observed.addresses.get(&(link.clone(), *address)) {
            None => match longer_or_shorter(observed, desired, link, *address) {
                Some(from) => {
                    moved.push((link, from));
                    AddressOperation::Move { from, to: *wanted }
                }
                None => AddressOperation::Create(*wanted),
            },
            Some(found) if found.owner == Owner::Other => {
                set.conflicts.push(Conflict {
                    object: Object::Address(link.clone(), *address).into(),
                    found: "an address without Adit's mark".to_owned(),
                    holder: None,
                });
                continue;
            }
            Some(found) if found == wanted => continue,
            Some(_) => AddressOperation::Replace(*wanted),
        };
        set.push(AddressChange(link.clone(), *address, operation));
    }
    let goes = |(key, found): &(&(LinkName, IpNet), &Address)| {
        let (link, address) = *key;
        let goes = found.owner == Owner::Adit || is_unwanted(desired, link, found);
        goes && !desired.addresses.contains_key(*key) && !moved.contains(&(link, *address))
    };
    let gone = observed.addresses.iter().filter(goes);
    let gone = gone.map(|(key, found)| (key.clone(), *found)).collect::<Vec<_>>();
    for ((link, address), found) in gone {
        let connected = connected(observed, &address, found.peer);
        let occupies_desired_route = connected.is_some_and(|key| desired.routes.contains_key(&key));
        let first = occupies_desired_route || takes_wanted_routes(observed, desired, &link, &address);
        if first {
            observed.forget_address(&link, address);
            observed.routes.retain(|key, _| Some(*key) != connected);
        }
        let delete = AddressOperation::Delete { first };
        set.push(AddressChange(link, address, delete));
    }
}

/// The route that the kernel created for an address.
fn connected(observed: &KernelState, address: &IpNet, peer: Option<IpAddr>) -> Option<RouteKey> {
    let subnet = connected_subnet(address, peer)?;
    let is_it = |(key, route): &(&RouteKey, &Route)| key.prefix == subnet && route.owner == Owner::Kernel;
    observed.routes.iter().find(is_it).map(|(key, _)| *key)
}

/// Whether an address is the last IPv4 address of a device with desired routes, which the kernel deletes
/// together with it (`fib_del_ifaddr`, net/ipv4/fib_frontend.c); routes to next-hop objects stay.
fn takes_wanted_routes(
    observed: &KernelState,
    desired: &KernelState,
    link: &LinkName,
    address: &IpNet,
) -> bool {
    let stays = |other: IpNet| {
        let key = (link.clone(), other);
        let foreign = observed
            .addresses
            .get(&key)
            .is_some_and(|found| found.owner == Owner::Other);
        desired.addresses.contains_key(&key) || foreign
    };
    if address.addr().is_ipv6() || observed.ipv4_addresses(link).any(stays) {
        return false;
    }
    let by_it = |(key, route): (&RouteKey, &Route)| {
        let ipv4 = key.prefix.addr().is_ipv4() && route.next_hop_object().is_none();
        ipv4 && route.links().any(|other| other == link)
    };
    desired.ipv4_addresses(link).next().is_none() && desired.routes.iter().any(by_it)
}

/// The same managed address with another, undesired prefix length: with IPv6, a device can't have both.
fn longer_or_shorter(
    observed: &KernelState,
    desired: &KernelState,
    link: &LinkName,
    address: IpNet,
) -> Option<IpNet> {
    if address.addr().is_ipv4() {
        return None;
    }
    let mut same = observed.addresses.iter().filter(|((on, found), value)| {
        on == link && found.addr() == address.addr() && value.owner == Owner::Adit
    });
    let ((_, found), _) = same.find(|(key, _)| !desired.addresses.contains_key(key))?;
    Some(*found)
}

/// Whether the kernel created an address on a device that should have no such addresses.
fn is_unwanted(desired: &KernelState, link: &LinkName, found: &Address) -> bool {
    let generates = |link: &crate::model::Link| link.generates_addresses;
    found.owner == Owner::Kernel && desired.links.get(link).is_some_and(|link| !generates(link))
}
