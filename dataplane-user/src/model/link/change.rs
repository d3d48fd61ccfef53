//! Changes of devices.

use std::fmt;

use super::{Link, LinkKind};
use crate::model::Object;
use crate::model::change::{Operation, Verb};
use crate::model::order::{Around, Condition, Needs, PortUse, Slot, Stage, freed, taken};
use crate::model::wireguard;
use crate::net::{LinkName, MacAddr};

/// The name of a device and the operation on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkChange(pub LinkName, pub LinkOperation);

/// The operation on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOperation {
    /// Created: down, with the mark of Adit, kind, MAC, MTU and NOARP in the creating message; addrgenmode
    /// follows while the device is still down, because the kernel accepts none at creation.
    Create(Link),
    /// Properties that differ are set in place.
    Modify(LinkPatch),
    /// Set up.
    SetUp,
    /// Set down.
    SetDown,
    /// Made a port of a bridge, or of none.
    SetMaster(Option<LinkName>),
    /// Given a label (`ifalias`).
    SetAlias(String),
    /// Deleted, with the reason. For a recreation, the reason has the kind that can't be changed in place.
    Delete(DeleteLinkReason),
}

/// Properties to set on a device; `None` changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkPatch {
    /// Ethernet address.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// `IFF_NOARP` off or on.
    pub arp: Option<bool>,
    /// `addrgenmode` eui64 or none.
    pub generates_addresses: Option<bool>,
}

impl LinkPatch {
    /// All properties of a link that a patch can set.
    #[must_use]
    pub fn whole(link: &Link) -> LinkPatch {
        LinkPatch {
            mac: link.mac,
            mtu: link.mtu,
            arp: Some(link.arp),
            generates_addresses: Some(link.generates_addresses),
        }
    }
}

/// Why a device is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteLinkReason {
    /// Nothing needs the device any more.
    Unneeded,
    /// It is recreated, because its kind can't be changed in place.
    Recreate {
        /// The observed kind.
        from: LinkKind,
        /// The desired kind.
        to: LinkKind,
    },
    /// Another device gets its UDP port or VNI, and its traffic moves to that device, so it must be deleted
    /// first.
    MakesRoom {
        /// The name of the other device.
        taker: LinkName,
    },
    /// Somebody renamed this managed device, and a new one is created under the former name.
    Renamed {
        /// The former name.
        name: LinkName,
        /// Its kind.
        kind: LinkKind,
    },
}

impl Operation for LinkChange {
    fn object(&self) -> Object {
        Object::Link(self.0.clone())
    }

    fn verb(&self) -> Verb {
        match self.1 {
            LinkOperation::Create(_) => Verb::Add,
            LinkOperation::Delete(_) => Verb::Delete,
            _ => Verb::Set,
        }
    }

    fn stage(&self) -> Stage {
        match &self.1 {
            LinkOperation::Create(_) | LinkOperation::Modify(_) => Stage::Links,
            LinkOperation::SetMaster(_) | LinkOperation::SetAlias(_) => Stage::LinkSettings,
            LinkOperation::SetUp | LinkOperation::SetDown => Stage::LinksUp,
            LinkOperation::Delete(DeleteLinkReason::Recreate { .. } | DeleteLinkReason::MakesRoom { .. }) => {
                Stage::RecreateLinks
            }
            // Two devices of such a kind can't exist at the same time, because of their ports or at all; two
            // anchors can.
            LinkOperation::Delete(DeleteLinkReason::Renamed { kind, .. }) if *kind != LinkKind::Dummy => {
                Stage::RecreateLinks
            }
            LinkOperation::Delete(_) => Stage::DeleteLinks,
        }
    }

    fn needs<'a>(&'a self, around: Around<'a>, needs: &mut Needs<'a>) {
        let name = &self.0;
        match &self.1 {
            LinkOperation::Delete(reason) => self.deletion_needs(reason, around, needs),
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
                for subnet in around.desired.subnets(name) {
                    needs.provides(Condition::Connected(subnet));
                }
                if let Some(link) = around.desired.links.get(name) {
                    let port = taken(&link.kind).filter(|slot| matches!(slot, Slot::Port(..)));
                    port.for_each(|port| needs.requires(Condition::SlotFree(port)));
                }
                if let Some(device) = around.desired.wireguard.get(name) {
                    let port = Slot::Port(device.listen_port, PortUse::Alone);
                    needs.requires_at(None, Condition::SlotFree(port));
                }
            }
            LinkOperation::SetDown => free(name, around, needs),
        }
    }
}

impl LinkChange {
    fn deletion_needs<'a>(&'a self, reason: &'a DeleteLinkReason, around: Around<'a>, needs: &mut Needs<'a>) {
        let name = &self.0;
        needs.provides(Condition::SlotFree(Slot::Name(name)));
        needs.provides(Condition::FirewallUnneeded);
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
            needs.provides_at(there, Condition::SlotFree(Slot::Name(&peer.name)));
        }
        if let DeleteLinkReason::Recreate { to, .. } = reason {
            // The old device stays while another device has a unique property that the new one needs.
            taken(to).for_each(|slot| needs.requires(Condition::SlotFree(slot)));
        }
        if self.stage() == Stage::DeleteLinks {
            needs.requires(Condition::LowerUnused(name));
            needs.requires(Condition::LinkUnused(name));
            if !around.observed.older_versions.is_empty() {
                // It is unknown to which devices the maps of the older version lead.
                needs.requires(Condition::TakenOver);
                needs.requires(Condition::ProgramsDetached);
            }
            if let Some(peer) = peer {
                needs.requires_at(peer.namespace.as_ref(), Condition::LinkUnused(&peer.name));
                needs.requires_at(peer.namespace.as_ref(), Condition::LowerUnused(&peer.name));
            }
        }
    }
}

fn of_creation<'a>(name: &'a LinkName, link: &'a Link, needs: &mut Needs<'a>) {
    needs.requires(Condition::SlotFree(Slot::Name(name)));
    for slot in taken(&link.kind) {
        needs.requires(Condition::SlotFree(slot));
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
        needs.requires_at(there, Condition::SlotFree(Slot::Name(&peer.name)));
        needs.provides_at(there, Condition::Link(&peer.name));
        needs.provides_at(there, Condition::Up(&peer.name));
    }
}

/// The unique properties that a device gives up.
fn free<'a>(name: &'a LinkName, around: Around<'a>, needs: &mut Needs<'a>) {
    if let Some(found) = around.before.links.get(name) {
        for slot in freed(&found.kind) {
            needs.provides(Condition::SlotFree(slot));
        }
    }
    wireguard::free_port(around.before.wireguard.get(name), needs);
}

impl fmt::Display for LinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.0;
        match &self.1 {
            LinkOperation::Create(link) => write!(f, "add link {name} type {}", link.kind),
            LinkOperation::Modify(patch) => write!(f, "set link {name}{patch}"),
            LinkOperation::SetUp => write!(f, "set link {name} up"),
            LinkOperation::SetDown => write!(f, "set link {name} down"),
            LinkOperation::SetMaster(Some(bridge)) => write!(f, "set link {name} master {bridge}"),
            LinkOperation::SetMaster(None) => write!(f, "set link {name} nomaster"),
            LinkOperation::SetAlias(alias) => write!(f, "set link {name} alias {alias}"),
            LinkOperation::Delete(reason) => write!(f, "delete link {name}{reason}"),
        }
    }
}

impl fmt::Display for DeleteLinkReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeleteLinkReason::Unneeded => Ok(()),
            DeleteLinkReason::Recreate { from, to } => write!(f, " to recreate it ({from} becomes {to})"),
            DeleteLinkReason::MakesRoom { taker } => write!(f, " to make room for {taker}"),
            DeleteLinkReason::Renamed { name, .. } => write!(f, ", which was {name}"),
        }
    }
}

impl fmt::Display for LinkPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_off = |on: bool| if on { "on" } else { "off" };
        if let Some(mac) = self.mac {
            write!(f, " address {mac}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(arp) = self.arp {
            write!(f, " arp {}", on_off(arp))?;
        }
        if let Some(generates) = self.generates_addresses {
            write!(f, " addrgenmode {}", if generates { "eui64" } else { "none" })?;
        }
        Ok(())
    }
}
