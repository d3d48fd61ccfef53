//! Addresses on our devices.

use ipnet::IpNet;

use super::order::{Condition, Needs};
use crate::model::change::{AddressOperation, NetlinkChange};
use crate::model::{Address, ChangeSet, Conflict, KernelState, Object, Owner};
use crate::net::LinkName;

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
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
        set.push(NetlinkChange::Address(link.clone(), *address, operation));
    }
    for ((link, address), found) in &observed.addresses {
        let goes = found.owner == Owner::Ours || is_unwanted(target, link, found);
        if goes
            && !target.addresses.contains_key(&(link.clone(), *address))
            && !moved.contains(&(link, *address))
        {
            let delete = AddressOperation::Delete;
            set.push(NetlinkChange::Address(link.clone(), *address, delete));
        }
    }
}

/// The same address of ours with another prefix length that nobody wants: IPv6 has no two of them on a device.
fn longer_or_shorter(
    observed: &KernelState,
    target: &KernelState,
    link: &LinkName,
    address: IpNet,
) -> Option<IpNet> {
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

pub(super) fn needs<'a>(
    link: &'a LinkName,
    address: IpNet,
    operation: &AddressOperation,
    needs: &mut Needs<'a>,
) {
    let (AddressOperation::Create(value)
    | AddressOperation::Replace(value)
    | AddressOperation::Move { to: value, .. }) = operation
    else {
        return needs.requires(Condition::AddressUnused(address.addr()));
    };
    needs.requires(Condition::Link(link));
    if address.addr().is_ipv6() && value.peer.is_some() {
        needs.requires(Condition::Up(link));
    }
    needs.provides(Condition::Address(address.addr()));
    needs.provides(Condition::Connected(address.trunc()));
}
