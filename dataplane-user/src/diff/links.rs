//! Devices: created, changed in place, recreated if the kind differs, deleted.

use std::collections::BTreeMap;

use super::At;
use crate::model::change::{DeleteLinkReason, LinkChange, LinkOperation, LinkPatch, Operation as _};
use crate::model::order::{Detour, Stage};
use crate::model::{ChangeSet, Conflict, KernelState, Link, LinkKind, Object, Owner};
use crate::net::LinkName;

/// Removes from the desired state the devices whose name or unique property belongs to a device that Adit
/// does not manage, and the objects that depend on them.
pub(super) fn exclude_conflicts(observed: &KernelState, desired: &mut KernelState, set: &mut ChangeSet) {
    let conflicting_device = |name: &LinkName, link: &Link| {
        let foreign = observed
            .links
            .iter()
            .filter(|(_, found)| found.owner == Owner::Other);
        let mut found = foreign.map(|(other, found)| {
            let has = (other != name).then(|| found.conflict_with(&link.kind));
            (other, found, has)
        });
        found.find(|(.., has)| *has != Some(None))
    };
    let conflict = |name: &LinkName, link: &Link| {
        let (found, holder) = match (observed.altnames.get(name), conflicting_device(name, link)) {
            (Some(device), _) => (format!("an alternative name of the device {device}"), None),
            (None, found) => {
                let (other, found, has) = found?;
                let holder = has.flatten().map(|has| (other.clone(), has));
                (found.kind.to_string(), holder)
            }
        };
        Some(Conflict {
            object: Object::Link(name.clone()).into(),
            found,
            holder,
        })
    };
    let links = desired.links.iter();
    let conflicting = links.filter_map(|(name, link)| Some((name.clone(), conflict(name, link)?)));
    for (name, conflict) in conflicting.collect::<Vec<_>>() {
        set.conflicts.push(conflict);
        desired.forget_link(&name);
        desired.drop_unreachable();
    }
}

/// Removes from `observed` what the kernel deletes together with each recreated device, so that all of it is
/// created again.
pub(super) fn diff(at: At<'_>, observed: &mut KernelState, desired: &KernelState, set: &mut ChangeSet) {
    let At {
        namespace, detours, ..
    } = at;
    let renamed = renamed(observed, desired);
    for (other, reason) in &renamed {
        let delete = LinkChange(other.clone(), LinkOperation::Delete(reason.clone()));
        if delete.stage() == Stage::RecreateLinks {
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
            set.push(LinkChange(name.clone(), LinkOperation::Delete(reason)));
        }
    }
    for (name, link) in &desired.links {
        let mut push = |operation| set.push(LinkChange(name.clone(), operation));
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
                // It is created together with the other end, with only its name and mark.
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
        if found.owner == Owner::Adit && !known && !desired.links.contains_key(name) {
            let delete = LinkOperation::Delete(DeleteLinkReason::Unneeded);
            set.push(LinkChange(name.clone(), delete));
        }
    }
}

/// Managed devices under undesired names, whose kind is missing under a desired name.
fn renamed(observed: &KernelState, desired: &KernelState) -> BTreeMap<LinkName, DeleteLinkReason> {
    let mut missing: Vec<_> = desired
        .links
        .iter()
        .filter(|(name, _)| !observed.links.contains_key(*name))
        .collect();
    let mut renamed = BTreeMap::new();
    for (other, found) in &observed.links {
        if found.owner == Owner::Other || desired.links.contains_key(other) {
            continue;
        }
        // WireGuard devices are identified by their keys and ports.
        let identity = |state: &KernelState, name: &LinkName| {
            let device = state.wireguard.get(name)?;
            Some((device.public_key, device.listen_port))
        };
        let is_it = |(name, link): &(&LinkName, &Link)| {
            link.kind == found.kind && identity(observed, other) == identity(desired, name)
        };
        let Some(index) = missing.iter().position(is_it) else {
            continue;
        };
        let (name, link) = missing.remove(index);
        let reason = DeleteLinkReason::Renamed {
            name: name.clone(),
            kind: link.kind.clone(),
        };
        renamed.insert(other.clone(), reason);
    }
    renamed
}

fn patch(found: &Link, wanted: &Link) -> Option<LinkPatch> {
    // Below the smallest MTU of IPv6 (RFC 8200) a device has no IPv6, and regains it with the defaults of a
    // new device.
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
