//! Describes in words what a repair found. Pure.

use super::roots::Roots;
use crate::model::change::{
    AddressChange, AddressOperation, BpfChange, ClassChange, DeleteLinkReason, LinkChange, LinkOperation,
    LinkPatch, NeighbourChange, NetlinkChange, NextHopChange, NextHopObjectChange, NextHopObjectOperation,
    NextHopOperation, NftChange, PrefixChange, ProgramChange, ProgramOperation, RouteChange, RouteOperation,
    Verb, Write,
};
use crate::model::{Action, KernelState, Link};
use crate::net::LinkName;

/// Describes how the object of a change differed; `None` if another change describes it.
pub(super) fn found(change: &Action, observed: &KernelState, roots: &Roots) -> Option<String> {
    let described = match change {
        Action::Netlink(NetlinkChange::Link(LinkChange(name, operation))) => {
            return link(name, operation, observed, roots);
        }
        Action::Netlink(change) => netlink(change, observed),
        Action::Sysctl(change) => {
            let found = observed.sysctls.get(&(change.link.clone(), change.sysctl))?;
            Some(format!("was {found}"))
        }
        Action::WireGuard(change) => Some(format!("needed {}", change.change)),
        Action::Nft(NftChange::Replace(_)) => Some("had different rules".to_owned()),
        Action::Nft(_) => None,
        Action::Bpf(change) => bpf(change, observed),
    };
    described.or_else(|| {
        let text = match change.verb() {
            Verb::Add | Verb::Set => "was gone",
            Verb::Delete => "existed, but nothing needs it",
        };
        Some(text.to_owned())
    })
}

fn link(name: &LinkName, operation: &LinkOperation, observed: &KernelState, roots: &Roots) -> Option<String> {
    match operation {
        LinkOperation::Delete(DeleteLinkReason::Unneeded | DeleteLinkReason::MakesRoom { .. }) => {
            Some("existed, but nothing needs it".to_owned())
        }
        LinkOperation::Delete(DeleteLinkReason::Renamed { .. }) => Some(format!("was renamed to {name}")),
        LinkOperation::Delete(DeleteLinkReason::Recreate { from, .. }) => Some(format!("was {from}")),
        LinkOperation::Create(_) => {
            let renamed = roots.renamed.values().any(|other| other == name);
            (!renamed && !observed.links.contains_key(name)).then(|| "was gone".to_owned())
        }
        LinkOperation::Modify(patch) => modified(patch, observed.links.get(name)?),
        // A recreated device is always down at first.
        LinkOperation::SetUp => {
            let found = observed.links.get(name).filter(|link| !link.up);
            found.map(|_| "was down".to_owned())
        }
        LinkOperation::SetDown => Some("was up".to_owned()),
        LinkOperation::SetMaster(_) => Some(match observed.masters.get(name) {
            Some(bridge) => format!("was a port of {bridge}"),
            None => "was not a port of a bridge".to_owned(),
        }),
        LinkOperation::SetAlias(_) => Some(match observed.aliases.get(name) {
            Some(alias) => format!("had the label {alias}"),
            None => "had no label".to_owned(),
        }),
    }
}

/// `None`: the object was created or deleted.
fn netlink(change: &NetlinkChange, observed: &KernelState) -> Option<String> {
    match change {
        NetlinkChange::Address(AddressChange(_, _, AddressOperation::Move { from, .. })) => {
            Some(format!("was {from}"))
        }
        NetlinkChange::Address(AddressChange(_, _, AddressOperation::Replace(_))) => {
            Some("had a different scope".to_owned())
        }
        NetlinkChange::Route(RouteChange(key, RouteOperation::Replace(_))) => observed
            .routes
            .get(key)
            .map(|found| format!("was {}", found.kind)),
        NetlinkChange::NextHopObject(NextHopObjectChange(_, NextHopObjectOperation::Replace(from))) => {
            Some(format!("was {from}"))
        }
        NetlinkChange::Neighbour(NeighbourChange(link, address, Write::Put(_))) => {
            let found = observed.neighbours.get(&(link.clone(), *address));
            found.map(|found| format!("was {}", found.mac))
        }
        _ => None,
    }
}

/// `None`: the object was created or deleted.
fn bpf(change: &BpfChange, observed: &KernelState) -> Option<String> {
    let text = match change {
        BpfChange::Program(ProgramChange(_, _, ProgramOperation::Replace | ProgramOperation::TakeOver)) => {
            "was a different program"
        }
        BpfChange::NextHop(NextHopChange(_, NextHopOperation::SetDown(true))) => "was usable",
        BpfChange::NextHop(NextHopChange(_, NextHopOperation::SetDown(false))) => "was down",
        BpfChange::Class(ClassChange(class, Write::Put(_))) if observed.classes.contains_key(class) => {
            "pointed to a different device"
        }
        BpfChange::Prefix(PrefixChange(prefix, Write::Put(_))) if observed.prefixes.contains_key(prefix) => {
            "had a different desired"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// The values of a device that a patch restores.
fn modified(patch: &LinkPatch, found: &Link) -> Option<String> {
    let was = LinkPatch {
        mac: patch.mac.and(found.mac),
        mtu: patch.mtu.and(found.mtu),
        arp: patch.arp.map(|_| found.arp),
        generates_addresses: patch.generates_addresses.map(|_| found.generates_addresses),
    };
    let was = was.to_string();
    (!was.is_empty()).then(|| format!("had{was}"))
}
