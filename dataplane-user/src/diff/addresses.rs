//! Addresses on our devices.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::change::{AddressChange, AddressOperation};
use crate::model::{
    Address, ChangeSet, Conflict, KernelState, Object, Owner, Route, RouteKey, connected_subnet,
};
use crate::net::LinkName;

/// `observed` loses what the kernel deletes with addresses that go first.
pub(super) fn diff(observed: &mut KernelState, target: &KernelState, set: &mut ChangeSet) {
    // Addresses that go by way of another change.
    let mut moved = Vec::new();
    for ((link, address), wanted) in &target.addresses {
        let operation = match observed.addresses.get(&(link.clone(), *address)) {
            None => match longer_or_shorter(observed, target, link, *address) {
                Some(from) => {
                    moved.push((link, from));
                    AddressOperation::Move { from, to: *wanted }
                }
                None => AddressOperation::Create(*wanted),
            },
            Some(found) if found.owner == Owner::Foreign => {
                set.conflicts.push(Conflict {
                    object: Object::Address(link.clone(), *address).into(),
                    found: "an address without our mark".to_owned(),
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
        let goes = found.owner == Owner::Ours || is_unwanted(target, link, found);
        goes && !target.addresses.contains_key(*key) && !moved.contains(&(link, *address))
    };
    let gone = observed.addresses.iter().filter(goes);
    let gone = gone.map(|(key, found)| (key.clone(), *found)).collect::<Vec<_>>();
    for ((link, address), found) in gone {
        let connected = connected(observed, &address, found.peer);
        let is_in_the_place_of_one = connected.is_some_and(|key| target.routes.contains_key(&key));
        let first = is_in_the_place_of_one || takes_wanted_routes(observed, target, &link, &address);
        if first {
            observed.forget_address(&link, address);
            observed.routes.retain(|key, _| Some(*key) != connected);
        }
        let delete = AddressOperation::Delete { first };
        set.push(AddressChange(link, address, delete));
    }
}

/// The route that the kernel has by an address.
fn connected(observed: &KernelState, address: &IpNet, peer: Option<IpAddr>) -> Option<RouteKey> {
    let subnet = connected_subnet(address, peer)?;
    let is_it = |(key, route): &(&RouteKey, &Route)| key.prefix == subnet && route.owner == Owner::Kernel;
    observed.routes.iter().find(is_it).map(|(key, _)| *key)
}

/// Whether an address is a device's last one of IPv4 and routes by the device are wanted, which the kernel deletes with it
/// (`fib_del_ifaddr`, net/ipv4/fib_frontend.c); those by next-hop objects stay.
fn takes_wanted_routes(
    observed: &KernelState,
    target: &KernelState,
    link: &LinkName,
    address: &IpNet,
) -> bool {
    let stays = |other: IpNet| {
        let key = (link.clone(), other);
        let foreign = observed
            .addresses
            .get(&key)
            .is_some_and(|found| found.owner == Owner::Foreign);
        target.addresses.contains_key(&key) || foreign
    };
    if address.addr().is_ipv6() || observed.ipv4_addresses(link).any(stays) {
        return false;
    }
    let by_it = |(key, route): (&RouteKey, &Route)| {
        let ipv4 = key.prefix.addr().is_ipv4() && route.target().is_none();
        ipv4 && route.links().any(|other| other == link)
    };
    target.ipv4_addresses(link).next().is_none() && target.routes.iter().any(by_it)
}

/// The same address of ours with another prefix length that nobody wants: IPv6 has no two of them on a device.
fn longer_or_shorter(
    observed: &KernelState,
    target: &KernelState,
    link: &LinkName,
    address: IpNet,
) -> Option<IpNet> {
    if address.addr().is_ipv4() {
        return None;
    }
    let mut same = observed.addresses.iter().filter(|((on, found), value)| {
        on == link && found.addr() == address.addr() && value.owner == Owner::Ours
    });
    let ((_, found), _) = same.find(|(key, _)| !target.addresses.contains_key(key))?;
    Some(*found)
}

/// An address that the kernel made on a device that shall have none such.
fn is_unwanted(target: &KernelState, link: &LinkName, found: &Address) -> bool {
    let generates = |link: &crate::model::Link| link.generates_addresses;
    found.owner == Owner::Kernel && target.links.get(link).is_some_and(|link| !generates(link))
}
