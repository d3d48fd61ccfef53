//! What a change that mends is about, and what it says was found. Pure.

use super::RepairKind;
use super::roots::{Roots, Subject, map_subject};
use crate::model::change::{DeleteLinkReason, LinkPatch};
use crate::model::{Change, KernelState, Object};

impl Roots {
    /// What a change itself is about.
    pub(super) fn own(&self, change: &Change) -> Subject {
        let (kind, object) = match change {
            Change::DeleteLink(_, DeleteLinkReason::Renamed { name, .. })
            | Change::CreateLink(name, _)
            | Change::ModifyLink(name, _)
            | Change::SetLinkUp(name)
            | Change::SetLinkDown(name)
            | Change::SetMaster(name, _)
            | Change::SetAlias(name, _)
            | Change::DeleteLink(name, _) => return Subject::link(name),
            Change::CreateAddress(link, address, _)
            | Change::ReplaceAddress(link, address, _)
            | Change::MoveAddress(link, _, address, _)
            | Change::DeleteAddress(link, address) => {
                let object = Object::Address(link.clone(), *address);
                (RepairKind::Address, object.to_string())
            }
            Change::CreateRoute(key, _) | Change::ReplaceRoute(key, _) | Change::DeleteRoute(key, _) => {
                (RepairKind::Route, Object::Route(*key).to_string())
            }
            Change::AddFlood(link, to) | Change::DeleteFlood(link, to) => (
                RepairKind::Neighbour,
                format!("default destination {to} of {link}"),
            ),
            Change::CreateRouteTarget(target) | Change::DeleteRouteTarget(target) => {
                (RepairKind::NextHop, format!("nexthop {target}"))
            }
            Change::ReplaceRouteGroup(_, group) => (RepairKind::NextHop, format!("nexthop {group}")),
            Change::PutNeighbour(link, address, _) | Change::DeleteNeighbour(link, address) => {
                let object = Object::Neighbour(link.clone(), *address);
                (RepairKind::Neighbour, object.to_string())
            }
            Change::CreateRule(rule) | Change::DeleteRule(rule) => (RepairKind::Rule, format!("rule {rule}")),
            Change::In(_, change) => return self.own(change),
            Change::SetSysctl(link, sysctl, _) => (RepairKind::Sysctl, format!("{sysctl} of {link}")),
            Change::SetWireGuard(link, _) => (RepairKind::WireGuard, format!("wireguard {link}")),
            Change::Attach(link, hook)
            | Change::ReplaceProgram(link, hook)
            | Change::TakeOverProgram(link, hook)
            | Change::Detach(link, hook) => (RepairKind::Program, format!("the {hook} program of {link}")),
            Change::PutClass(class, _) | Change::DeleteClass(class) => {
                return map_subject(&format!("class {class}"));
            }
            Change::PutNextHop(next_hop)
            | Change::SetNextHopDown(next_hop, _)
            | Change::DeleteNextHop(next_hop) => {
                return map_subject(&format!("next hop {next_hop}"));
            }
            Change::PutGroup(group) | Change::DeleteGroup(group) => {
                return map_subject(&format!("group of {group}"));
            }
            Change::PutPrefix(prefix, _) | Change::DeletePrefix(prefix) => {
                return map_subject(&format!("prefix {prefix}"));
            }
            Change::PutSource(source) | Change::DeleteSource(source) => {
                return map_subject(&format!("source {source}"));
            }
            Change::CreateFirewall(_) | Change::ReplaceFirewall(_) | Change::DeleteFirewall => {
                (RepairKind::Firewall, Object::Firewall.to_string())
            }
            Change::DeleteVersion(version) => return map_subject(&format!("maps of version {version}")),
        };
        Subject { kind, object }
    }

    /// What was found of what a change is about; nothing where another change says it.
    pub(super) fn found(&self, change: &Change, observed: &KernelState) -> Option<String> {
        let gone = || Some("was gone".to_owned());
        let unwanted = || Some("stood there, and nothing needs it".to_owned());
        match change {
            Change::DeleteLink(other, DeleteLinkReason::Renamed { .. }) => {
                Some(format!("was renamed to {other}"))
            }
            Change::DeleteLink(_, DeleteLinkReason::Recreate { from, .. }) => Some(format!("was {from}")),
            Change::CreateLink(name, _) => {
                let renamed = self.renamed.values().any(|other| other == name);
                (!renamed && !observed.links.contains_key(name)).then(gone)?
            }
            Change::ModifyLink(name, patch) => modified(patch, observed.links.get(name)?),
            // One that was made anew is down, of course.
            Change::SetLinkUp(name) => observed
                .links
                .get(name)
                .filter(|link| !link.up)
                .map(|_| "was down".to_owned()),
            Change::SetLinkDown(_) => Some("was up".to_owned()),
            Change::SetMaster(port, _) => Some(match observed.masters.get(port) {
                Some(bridge) => format!("was a port of {bridge}"),
                None => "was no port".to_owned(),
            }),
            Change::SetAlias(name, _) => Some(match observed.aliases.get(name) {
                Some(alias) => format!("had the label {alias}"),
                None => "had no label".to_owned(),
            }),
            Change::MoveAddress(_, from, ..) => Some(format!("was {from}")),
            Change::In(_, change) => self.found(change, observed),
            Change::CreateAddress(..)
            | Change::AddFlood(..)
            | Change::CreateRule(_)
            | Change::CreateRoute(..)
            | Change::CreateRouteTarget(_)
            | Change::CreateFirewall(_)
            | Change::Attach(..)
            | Change::PutNextHop(_)
            | Change::PutGroup(_)
            | Change::PutSource(_) => gone(),
            Change::ReplaceFirewall(_) => Some("had other rules".to_owned()),
            Change::ReplaceAddress(..) => Some("had another scope".to_owned()),
            Change::ReplaceRoute(key, _) => Some(format!("was {}", observed.routes.get(key)?.kind)),
            Change::ReplaceRouteGroup(from, _) => Some(format!("was {from}")),
            Change::PutNeighbour(link, address, _) => {
                match observed.neighbours.get(&(link.clone(), *address)) {
                    None => gone(),
                    Some(found) => Some(format!("was {}", found.mac)),
                }
            }
            Change::SetSysctl(link, sysctl, _) => {
                let found = observed.sysctls.get(&(link.clone(), *sysctl))?;
                Some(format!("was {found}"))
            }
            Change::SetWireGuard(_, change) => Some(format!("lacked {change}")),
            Change::ReplaceProgram(..) | Change::TakeOverProgram(..) => Some("was another one".to_owned()),
            Change::SetNextHopDown(_, true) => Some("was usable".to_owned()),
            Change::SetNextHopDown(_, false) => Some("was down".to_owned()),
            Change::PutClass(class, _) => match observed.classes.get(class) {
                None => gone(),
                Some(_) => Some("led elsewhere".to_owned()),
            },
            Change::PutPrefix(prefix, _) => match observed.prefixes.get(prefix) {
                None => gone(),
                Some(_) => Some("led elsewhere".to_owned()),
            },
            Change::DeleteLink(_, DeleteLinkReason::Unneeded)
            | Change::DeleteAddress(..)
            | Change::DeleteRoute(..)
            | Change::DeleteFlood(..)
            | Change::DeleteRule(_)
            | Change::DeleteRouteTarget(_)
            | Change::DeleteNeighbour(..)
            | Change::Detach(..)
            | Change::DeleteClass(_)
            | Change::DeleteNextHop(_)
            | Change::DeleteGroup(_)
            | Change::DeletePrefix(_)
            | Change::DeleteSource(_)
            | Change::DeleteFirewall
            | Change::DeleteVersion(_) => unwanted(),
        }
    }
}

/// What a device had where a patch mends it.
fn modified(patch: &LinkPatch, found: &crate::model::Link) -> Option<String> {
    let was = LinkPatch {
        mac: patch.mac.and(found.mac),
        mtu: patch.mtu.and(found.mtu),
        arp: patch.arp.map(|_| found.arp),
        generates_addresses: patch.generates_addresses.map(|_| found.generates_addresses),
    };
    let was = was.to_string();
    (!was.is_empty()).then(|| format!("had{was}"))
}
