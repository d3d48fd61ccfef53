//! Ways out where changes wait for each other in a circle: two devices that swap their ports, or a device that takes the port of one from which
//! packets are to be led to it.

use crate::model::change::{Dependencies, LinkChange, LinkOperation, NetlinkChange, WireGuardChange};
use crate::model::order::Detour;
use crate::model::wireguard::DeviceChange;
use crate::model::{Action, Change};
use crate::net::LinkName;

/// The changes of a circle that let something go that only one can have, each with the one that waits for that. `links` are the changes, each
/// with the condition by which it waits for the next one, and the last one for the first.
pub(super) fn waits_for_slots(links: &[(usize, u32)], of_slots: &[bool]) -> Vec<(usize, usize)> {
    let next = links.iter().cycle().skip(1);
    let waits = links
        .iter()
        .zip(next)
        .filter(|((_, condition), _)| of_slots[*condition as usize]);
    waits.map(|((waits, _), (frees, _))| (*frees, *waits)).collect()
}

/// The way out of a circle that costs least: of the devices that can have another port the first; else that device goes early to which
/// least leads. `None`: no change of the circle frees a port or is a deletion of a device.
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
        let taker = link_of(&changes[*waits])?.clone();
        let room = Detour::MakeRoom(change.namespace.clone(), name.clone(), taker);
        Some((uses(*frees, needs), room))
    });
    deletions.min().map(|(_, room)| room)
}

/// How many changes a device's deletion waits for: those that lead packets elsewhere.
fn uses(place: usize, needs: &[Dependencies]) -> usize {
    let required = &needs[place].requires;
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
