//! Changes of WireGuard devices.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;

use super::{Device, DeviceChange};
use crate::model::Object;
use crate::model::change::{Operation, Verb};
use crate::model::order::{Around, Condition, Detour, Needs, PortUse, Slot, Stage, freed_port};
use crate::net::LinkName;

/// A change of the key, port, mark or peers of a WireGuard device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireGuardChange {
    /// The device.
    pub link: LinkName,
    /// The change.
    pub change: DeviceChange,
}

impl Operation for WireGuardChange {
    fn object(&self) -> Object {
        Object::WireGuard(self.link.clone())
    }

    fn verb(&self) -> Verb {
        Verb::Set
    }

    fn stage(&self) -> Stage {
        match self.change {
            DeviceChange::RemovePeer(_) | DeviceChange::RemoveAllowedIps(..) => Stage::RemovePeers,
            _ => Stage::WireGuard,
        }
    }

    fn needs<'a>(&'a self, around: Around<'a>, needs: &mut Needs<'a>) {
        let link = &self.link;
        needs.requires(Condition::Link(link));
        let observed = around.observed.wireguard.get(link);
        let is_up = around.observed.links.get(link).is_some_and(|link| link.up);
        match &self.change {
            DeviceChange::SetPrivateKey(_) => set_up(link, needs),
            // A device that is up keeps working with its former mark or port.
            DeviceChange::SetFwmark(_) if is_up => {}
            DeviceChange::SetFwmark(_) => set_up(link, needs),
            DeviceChange::SetListenPort(port) => {
                if !is_up {
                    set_up(link, needs);
                }
                needs.requires_at(None, Condition::SlotFree(Slot::Port(*port, PortUse::Alone)));
                let yields = around
                    .detours
                    .contains(&Detour::FreePort(around.namespace.cloned(), link.clone()));
                if !yields {
                    free_port(observed, needs);
                }
            }
            DeviceChange::YieldListenPort(_) => free_port(observed, needs),
            DeviceChange::AddPeer(_, peer) => allow(link, &peer.allowed_ips, needs),
            DeviceChange::UpdatePeer(_, update) => allow(link, &update.add, needs),
            DeviceChange::RemoveAllowedIps(_, prefixes) => give_up(link, prefixes, around, needs),
            // A peer that no manifest names any more is removed even if other changes fail.
            DeviceChange::RemovePeer(key) if !around.named.keys.contains(key) => {}
            DeviceChange::RemovePeer(key) => {
                if let Some(peer) = observed.and_then(|device| device.peers.get(key)) {
                    give_up(link, &peer.allowed_ips, around, needs);
                }
            }
        }
    }
}

/// Before a peer loses prefixes, packets to desired prefixes take another path or go to other peers of the
/// device. Prefixes that are no longer desired are removed even if other changes fail.
fn give_up<'a>(link: &'a LinkName, prefixes: &BTreeSet<IpNet>, around: Around<'a>, needs: &mut Needs<'a>) {
    let is_wanted = |prefix: &&IpNet| around.nets.wanted.around(**prefix).next().is_some();
    for prefix in prefixes.iter().filter(is_wanted) {
        if !around.observed.older_versions.is_empty() {
            needs.requires(Condition::TakenOver);
        }
        needs.requires(Condition::AllowedUnused(link, *prefix));
        needs.requires(Condition::Allowed(link, *prefix));
    }
}

/// The conditions of changes without which a device is unusable.
fn set_up<'a>(link: &'a LinkName, needs: &mut Needs<'a>) {
    needs.provides(Condition::Ready(link));
    needs.provides(Condition::Up(link));
    needs.provides(Condition::Maps);
}

fn allow<'a>(link: &'a LinkName, prefixes: &BTreeSet<IpNet>, needs: &mut Needs<'a>) {
    needs.provides(Condition::Maps);
    for prefix in prefixes {
        needs.provides(Condition::Allowed(link, *prefix));
    }
}

/// The port of a device belongs to the agent's own namespace, whichever namespace the device is in, because
/// the device was created in the agent's namespace.
pub(crate) fn free_port(device: Option<&Device>, needs: &mut Needs<'_>) {
    let port = device.map_or(0, |device| device.listen_port);
    for slot in freed_port(port, PortUse::Alone).filter(|_| port != 0) {
        needs.provides_at(None, Condition::SlotFree(slot));
    }
}

impl fmt::Display for WireGuardChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set wireguard {} {}", self.link, self.change)
    }
}
