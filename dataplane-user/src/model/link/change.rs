//! Changes of devices.

use std::fmt;

use super::{Link, LinkKind};
use crate::model::Object;
use crate::model::change::{Operation, Verb};
use crate::model::order::{Around, Condition, Needs, PortUse, Slot, Stage, freed, taken};
use crate::model::wireguard;
use crate::net::{LinkName, MacAddr};

/// A device, by its name, and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkChange(pub LinkName, pub LinkOperation);

/// What happens to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOperation {
    /// Created: down, marked, with kind, MAC, MTU and NOARP in the creating message; addrgenmode follows while it is still
    /// down, because the kernel takes none at creation.
    Create(Link),
    /// What differs is set in place.
    Modify(LinkPatch),
    /// Brought up.
    SetUp,
    /// Taken down.
    SetDown,
    /// Made a port of a bridge, or of none.
    SetMaster(Option<LinkName>),
    /// Labelled.
    SetAlias(String),
    /// Deleted. As part of a recreation, the reason says what could not be changed in place.
    Delete(DeleteLinkReason),
}

/// What to set on a device; `None` leaves it.
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
    /// All that a link says and a patch can.
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
    /// Nothing needs it any more.
    Unneeded,
    /// It is made anew: its kind can't be changed in place.
    Recreate {
        /// What it is.
        from: LinkKind,
        /// What it shall be.
        to: LinkKind,
    },
    /// Another one takes what it has: a UDP port or a VNI. What leads to this one is to be led to that one, so it goes first.
    MakesRoom {
        /// That one's name.
        taker: LinkName,
    },
    /// It is one of ours that somebody renamed, and another is made in its place.
    Renamed {
        /// The name that it had.
        name: LinkName,
        /// What it is.
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
            // No two of such a kind stand beside each other, by their ports or at all; a second anchor can.
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
        }
    }
}

impl LinkChange {
    fn deletion_needs<'a>(&'a self, reason: &'a DeleteLinkReason, around: Around<'a>, needs: &mut Needs<'a>) {
        let name = &self.0;
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
        if self.stage() == Stage::DeleteLinks {
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
            DeleteLinkReason::Recreate { from, to } => write!(f, " to make it anew ({from} becomes {to})"),
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
