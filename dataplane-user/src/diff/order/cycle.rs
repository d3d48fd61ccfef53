//! Detours for changes that wait for each other in a circle: two devices that swap their ports, or a device
//! that gets the port of another one whose traffic moves to it.

use crate::model::change::{Dependencies, LinkChange, LinkOperation, NetlinkChange, WireGuardChange};
use crate::model::order::Detour;
use crate::model::wireguard::DeviceChange;
use crate::model::{Action, Change};
use crate::net::LinkName;

/// The changes of a circle that give up a unique property, each with the change that waits for it. `links`
/// are the changes, each with the condition by which it waits for the next one; the last one waits for the
/// first.
pub(super) fn waits_for_slots(links: &[(usize, u32)], of_slots: &[bool]) -> Vec<(usize, usize)> {
    let next = links.iter().cycle().skip(1);
    let waits = links
        .iter()
        .zip(next)
        .filter(|((_, condition), _)| of_slots[*condition as usize]);
    waits.map(|((waits, _), (frees, _))| (*frees, *waits)).collect()
}

/// The cheapest detour for a circle: the first device that can temporarily have another port; else the early
/// deletion of the device that the fewest changes lead away from. `None`: no change of the circle frees a
/// port or deletes a device.
pub(super) fn detour(waits: &[(usize, usize)], changes: &[Change], needs: &[Dependencies]) -> Option<Detour> {
    let ports = waits
        .iter()
        .filter_map(|(frees, _)| match &changes[*frees].action {
            Action::WireGuard(WireGuardChange {
                link,
                change: DeviceChange::SetListenPort(_),
            }) => Some(Detour::FreePort(changes[*frees].namespace.clone(), link.clone())),
            _ => None,
        });
    if let Some(free) = ports.min() {
        return Some(free);
    }
    let deletions = waits.iter().filter_map(|(frees, waits)| {
        let change = &changes[*frees];
        let Action::Netlink(NetlinkChange::Link(LinkChange(name, LinkOperation::Delete(_)))) = &change.action
        else {
            return None;
        };
        let taker = link_of(&changes[*waits])?;
        // A recreated device gives its name to its successor, and makes room for nobody else.
        if taker == name && change.namespace == changes[*waits].namespace {
            return None;
        }
        let room = Detour::MakeRoom(change.namespace.clone(), name.clone(), taker.clone());
        Some((uses(*frees, needs), room))
    });
    deletions.min().map(|(_, room)| room)
}

/// The number of changes for which the deletion of a device waits, because they move its traffic.
fn uses(deletion: usize, needs: &[Dependencies]) -> usize {
    let required = &needs[deletion].requires;
    let provides = |needs: &&Dependencies| {
        needs
            .provides
            .iter()
            .any(|condition| required.contains(condition))
    };
    needs.iter().filter(provides).count()
}

fn link_of(change: &Change) -> Option<&LinkName> {
    match &change.action {
        Action::Netlink(NetlinkChange::Link(LinkChange(name, _))) => Some(name),
        Action::WireGuard(change) => Some(&change.link),
        _ => None,
    }
}
