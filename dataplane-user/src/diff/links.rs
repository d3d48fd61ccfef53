//! Devices: made, mended in place, made anew where the kind differs, deleted.

use std::collections::BTreeMap;

use super::order::{Around, Condition, Detour, Needs, PortUse, Slot, Stage, freed, taken};
use super::{At, wireguard};
use crate::model::change::{DeleteLinkReason, LinkOperation, LinkPatch, NetlinkChange};
use crate::model::{ChangeSet, Conflict, KernelState, Link, LinkKind, Object, Owner};
use crate::net::LinkName;

/// Takes out of the target what would stand where a foreign device stands, or beside one that suffers no second of its
/// kind, and what needs it.
pub(super) fn exclude_conflicts(observed: &KernelState, target: &mut KernelState, set: &mut ChangeSet) {
    let in_the_way = |name: &LinkName, link: &Link| {
        let foreign = observed
            .links
            .iter()
            .filter(|(_, found)| found.owner == Owner::Foreign);
        let mut found = foreign.map(|(other, found)| {
            let has = (other != name).then(|| found.is_in_the_way_of(&link.kind));
            (other, found, has)
        });
        found.find(|(.., has)| *has != Some(None))
    };
    let conflicting = target
        .links
        .iter()
        .filter_map(|(name, link)| Some((name.clone(), in_the_way(name, link)?)));
    for (name, (other, found, has)) in conflicting.collect::<Vec<_>>() {
        set.conflicts.push(Conflict {
            object: Object::Link(name.clone()).into(),
            found: found.kind.to_string(),
            holder: has.flatten().map(|has| (other.clone(), has)),
        });
        target.forget_link(&name);
        target.drop_unreachable();
    }
}

/// `observed` loses what goes with each device that is made anew, so that all of it is made again.
pub(super) fn diff(at: At<'_>, observed: &mut KernelState, target: &KernelState, set: &mut ChangeSet) {
    let At {
        namespace, detours, ..
    } = at;
    let renamed = renamed(observed, target);
    for (other, reason) in &renamed {
        let delete = NetlinkChange::Link(other.clone(), LinkOperation::Delete(reason.clone()));
        if Stage::of_netlink(&delete) == Stage::RecreateLinks {
            observed.forget_link(other);
        }
        set.push(delete);
    }
    for detour in detours {
        let Detour::MakeRoom(there, name, taker) = detour else {
            continue;
        };
        if there.as_ref() == namespace && observed.links.contains_key(name) {
            let reason = DeleteLinkReason::MakesRoom { taker: taker.clone() };
            observed.forget_link(name);
            set.push(NetlinkChange::Link(name.clone(), LinkOperation::Delete(reason)));
        }
    }
    for (name, link) in &target.links {
        let mut push = |operation| set.push(NetlinkChange::Link(name.clone(), operation));
        let recreated = observed
            .links
            .get(name)
            .filter(|found| found.kind != link.kind)
            .map(|f| f.kind.clone());
        if let Some(from) = recreated {
            let reason = DeleteLinkReason::Recreate {
                from,
                to: link.kind.clone(),
            };
            push(LinkOperation::Delete(reason));
            observed.forget_link(name);
        }
        let Some(found) = observed.links.get(name) else {
            push(match &link.kind {
                // The other end brings it along, with its name and mark alone.
                LinkKind::Veth(peer) if !peer.is_made_by(namespace, name) => {
                    LinkOperation::Modify(LinkPatch::whole(link))
                }
                _ => LinkOperation::Create(link.clone()),
            });
            if link.up {
                push(LinkOperation::SetUp);
            }
            continue;
        };
        if let Some(patch) = patch(found, link) {
            push(LinkOperation::Modify(patch));
        }
        if link.up && !found.up {
            push(LinkOperation::SetUp);
        }
        if !link.up && found.up {
            push(LinkOperation::SetDown);
        }
    }
    for (name, found) in &observed.links {
        let known = renamed.contains_key(name);
        if found.owner == Owner::Ours && !known && !target.links.contains_key(name) {
            let delete = LinkOperation::Delete(DeleteLinkReason::Unneeded);
            set.push(NetlinkChange::Link(name.clone(), delete));
        }
    }
}

/// Devices of ours under names that nobody wants, of a kind that is missing elsewhere.
fn renamed(observed: &KernelState, target: &KernelState) -> BTreeMap<LinkName, DeleteLinkReason> {
    let mut missing: Vec<_> = target
        .links
        .iter()
        .filter(|(name, _)| !observed.links.contains_key(*name))
        .collect();
    let mut renamed = BTreeMap::new();
    for (other, found) in &observed.links {
        if found.owner == Owner::Foreign || target.links.contains_key(other) {
            continue;
        }
        // Devices of WireGuard are told apart by their keys and ports.
        let identity = |state: &KernelState, name: &LinkName| {
            let device = state.wireguard.get(name)?;
            Some((device.public_key, device.listen_port))
        };
        let is_it = |(name, link): &(&LinkName, &Link)| {
            link.kind == found.kind && identity(observed, other) == identity(target, name)
        };
        let Some(place) = missing.iter().position(is_it) else {
            continue;
        };
        let (name, link) = missing.remove(place);
        let reason = DeleteLinkReason::Renamed {
            name: name.clone(),
            kind: link.kind.clone(),
        };
        renamed.insert(other.clone(), reason);
    }
    renamed
}

fn patch(found: &Link, wanted: &Link) -> Option<LinkPatch> {
    // Below the smallest MTU of IPv6 (RFC 8200) a device has none, and it comes back as a new one's.
    let had_ipv6 = found.mtu.is_none_or(|mtu| mtu >= 1280);
    let regains_ipv6 = !had_ipv6 && wanted.mtu.is_some_and(|mtu| mtu >= 1280);
    let patch = LinkPatch {
        mac: wanted.mac.filter(|_| wanted.mac != found.mac),
        mtu: wanted.mtu.filter(|_| wanted.mtu != found.mtu),
        arp: (wanted.arp != found.arp).then_some(wanted.arp),
        generates_addresses: (regains_ipv6 || wanted.generates_addresses != found.generates_addresses)
            .then_some(wanted.generates_addresses),
    };
    (patch != LinkPatch::default()).then_some(patch)
}

pub(super) fn needs<'a>(
    name: &'a LinkName,
    operation: &'a LinkOperation,
    around: Around<'a>,
    needs: &mut Needs<'a>,
) {
    match operation {
        LinkOperation::Create(link) => of_creation(name, link, needs),
        LinkOperation::Modify(_) | LinkOperation::SetAlias(_) | LinkOperation::SetMaster(None) => {
            needs.requires(Condition::Link(name));
        }
        LinkOperation::SetMaster(Some(bridge)) => {
            needs.requires(Condition::Link(name));
            needs.requires(Condition::Link(bridge));
        }
        LinkOperation::SetUp => {
            needs.requires(Condition::Link(name));
            needs.requires(Condition::Ready(name));
            needs.provides(Condition::Up(name));
            needs.provides(Condition::Maps);
            for subnet in around.target.subnets(name) {
                needs.provides(Condition::Connected(subnet));
            }
            if let Some(link) = around.target.links.get(name) {
                let port = taken(&link.kind).filter(|slot| matches!(slot, Slot::Port(..)));
                port.for_each(|port| needs.requires(Condition::Vacant(port)));
            }
            if let Some(device) = around.target.wireguard.get(name) {
                let port = Slot::Port(device.listen_port, PortUse::Alone);
                needs.requires_at(None, Condition::Vacant(port));
            }
        }
        LinkOperation::SetDown => free(name, around, needs),
        LinkOperation::Delete(reason) => {
            needs.provides(Condition::Vacant(Slot::Name(name)));
            needs.provides(Condition::Unguarded);
            free(name, around, needs);
            let found = around.before.links.get(name);
            if let Some(lower) = found.and_then(|found| found.kind.lower()) {
                needs.provides(Condition::LowerUnused(lower));
            }
            let peer = found.and_then(|found| match &found.kind {
                LinkKind::Veth(peer) => Some(peer),
                _ => None,
            });
            if let Some(peer) = peer {
                let there = peer.namespace.as_ref();
                needs.provides_at(there, Condition::Vacant(Slot::Name(&peer.name)));
            }
            if let DeleteLinkReason::Recreate { to, .. } = reason {
                // While another device has what the new one needs, the old one stays.
                taken(to).for_each(|slot| needs.requires(Condition::Vacant(slot)));
            }
            if Stage::of_link(operation) == Stage::DeleteLinks {
                needs.requires(Condition::LowerUnused(name));
                needs.requires(Condition::LinkUnused(name));
                if !around.observed.older_versions.is_empty() {
                    // Nobody can tell where the older version's maps lead.
                    needs.requires(Condition::TakenOver);
                    needs.requires(Condition::ProgramsGone);
                }
                if let Some(peer) = peer {
                    needs.requires_at(peer.namespace.as_ref(), Condition::LinkUnused(&peer.name));
                    needs.requires_at(peer.namespace.as_ref(), Condition::LowerUnused(&peer.name));
                }
            }
        }
    }
}

fn of_creation<'a>(name: &'a LinkName, link: &'a Link, needs: &mut Needs<'a>) {
    needs.requires(Condition::Vacant(Slot::Name(name)));
    for slot in taken(&link.kind) {
        needs.requires(Condition::Vacant(slot));
    }
    if let Some(lower) = link.kind.lower() {
        needs.requires(Condition::Link(lower));
    }
    needs.provides(Condition::Link(name));
    needs.provides(Condition::Ready(name));
    needs.provides(Condition::Up(name));
    needs.provides(Condition::Maps);
    if let LinkKind::Veth(peer) = &link.kind {
        let there = peer.namespace.as_ref();
        needs.requires_at(there, Condition::Vacant(Slot::Name(&peer.name)));
        needs.provides_at(there, Condition::Link(&peer.name));
        needs.provides_at(there, Condition::Up(&peer.name));
    }
}

/// What a device lets go that only one can have.
fn free<'a>(name: &'a LinkName, around: Around<'a>, needs: &mut Needs<'a>) {
    if let Some(found) = around.before.links.get(name) {
        for slot in freed(&found.kind) {
            needs.provides(Condition::Vacant(slot));
        }
    }
    wireguard::free_port(around.before.wireguard.get(name), needs);
}
