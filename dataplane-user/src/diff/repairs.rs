//! Which changes mend what was changed behind our back, and what was found broken. Pure.
//!
//! A device takes along what is on it, an address the routes that name it: one thing that somebody did is one repair,
//! however many changes mend it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::change::{DeleteLinkReason, LinkPatch};
use crate::model::{Change, Class, Group, KernelState, NextHop, Object, RouteKind, Target};
use crate::net::LinkName;

/// What kind of object was mended; stable words for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepairKind {
    /// A device.
    Link,
    /// An address on one.
    Address,
    /// A route.
    Route,
    /// A device's setting.
    Sysctl,
    /// WireGuard's keys and peers.
    WireGuard,
    /// A program on a device.
    Program,
    /// A map's entry.
    Map,
    /// The nft table.
    Firewall,
}

impl RepairKind {
    /// All of them.
    pub const ALL: [RepairKind; 8] = [
        RepairKind::Link,
        RepairKind::Address,
        RepairKind::Route,
        RepairKind::Sysctl,
        RepairKind::WireGuard,
        RepairKind::Program,
        RepairKind::Map,
        RepairKind::Firewall,
    ];

    /// The stable word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RepairKind::Link => "link",
            RepairKind::Address => "address",
            RepairKind::Route => "route",
            RepairKind::Sysctl => "sysctl",
            RepairKind::WireGuard => "wireguard",
            RepairKind::Program => "program",
            RepairKind::Map => "map",
            RepairKind::Firewall => "nftables",
        }
    }
}

/// Something that was not as it shall be, although nobody wanted it otherwise since it last was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// What kind of object.
    pub kind: RepairKind,
    /// Which one: `link adit-geneve`.
    pub object: String,
    /// What was found: `was gone`.
    pub found: String,
    /// The places of its changes among all, in order; never empty.
    pub changes: Vec<usize>,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.object, self.found)
    }
}

/// The repairs among changes that lead from `observed` to `target`; `before` is the target that was reached last. What
/// is wanted otherwise than then is no repair.
#[must_use]
pub fn repairs(
    changes: &[Change],
    observed: &KernelState,
    (before, target): (&KernelState, &KernelState),
) -> Vec<Repair> {
    let drifted = changes
        .iter()
        .enumerate()
        .filter(|(_, change)| is_same(change, before, target))
        .collect::<Vec<_>>();
    let roots = Roots::of(drifted.iter().map(|(_, change)| *change));
    let mut found: BTreeMap<Subject, Repair> = BTreeMap::new();
    for (place, change) in drifted {
        let subject = roots.subject(change);
        let repair = found.entry(subject.clone()).or_insert_with(|| Repair {
            kind: subject.kind,
            object: subject.object,
            found: String::new(),
            changes: Vec::new(),
        });
        repair.changes.push(place);
        // What a change of something else finds follows from the first.
        let text = (roots.own(change).object == repair.object)
            .then(|| roots.found(change, observed))
            .flatten();
        if let Some(text) = text {
            if !repair.found.is_empty() {
                repair.found.push_str(" and ");
            }
            repair.found.push_str(&text);
        }
    }
    let mut found = found.into_values().collect::<Vec<_>>();
    for repair in &mut found {
        if repair.found.is_empty() {
            "was not as it should be".clone_into(&mut repair.found);
        }
    }
    found.sort_by_key(|repair| repair.changes[0]);
    found
}

/// Whether both targets say the same of what a change is about.
fn is_same(change: &Change, before: &KernelState, target: &KernelState) -> bool {
    match change {
        Change::DeleteLink(_, DeleteLinkReason::Renamed { name, .. })
        | Change::CreateLink(name, _)
        | Change::ModifyLink(name, _)
        | Change::SetLinkUp(name)
        | Change::DeleteLink(name, _) => before.links.get(name) == target.links.get(name),
        Change::CreateAddress(link, address, _)
        | Change::ReplaceAddress(link, address, _)
        | Change::DeleteAddress(link, address) => {
            let key = (link.clone(), *address);
            before.addresses.get(&key) == target.addresses.get(&key)
        }
        Change::CreateRoute(key, _) | Change::ReplaceRoute(key, _) | Change::DeleteRoute(key, _) => {
            before.routes.get(key) == target.routes.get(key)
        }
        Change::SetSysctl(link, sysctl, _) => {
            let key = (link.clone(), *sysctl);
            before.sysctls.get(&key) == target.sysctls.get(&key)
        }
        Change::SetWireGuard(link, _) => before.wireguard.get(link) == target.wireguard.get(link),
        Change::Attach(link, hook)
        | Change::ReplaceProgram(link, hook)
        | Change::TakeOverProgram(link, hook)
        | Change::Detach(link, hook) => {
            let key = (link.clone(), *hook);
            before.attachments.get(&key) == target.attachments.get(&key)
        }
        Change::PutClass(class, _) | Change::DeleteClass(class) => {
            before.classes.get(class) == target.classes.get(class)
        }
        Change::PutNextHop(next_hop) | Change::DeleteNextHop(next_hop) => {
            before.next_hops.contains(next_hop) == target.next_hops.contains(next_hop)
        }
        Change::PutGroup(group) | Change::DeleteGroup(group) => {
            before.groups.contains(group) == target.groups.contains(group)
        }
        Change::PutPrefix(prefix, _) | Change::DeletePrefix(prefix) => {
            before.prefixes.get(prefix) == target.prefixes.get(prefix)
        }
        Change::PutSource(source) | Change::DeleteSource(source) => {
            before.sources.contains(source) == target.sources.contains(source)
        }
        Change::CreateFirewall(_) | Change::ReplaceFirewall(_) | Change::DeleteFirewall => {
            before.firewall == target.firewall
        }
        // An older agent's leavings are nobody's meddling.
        Change::DeleteVersion(_) => false,
    }
}

/// What a repair is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    kind: RepairKind,
    object: String,
}

impl Subject {
    fn link(name: &LinkName) -> Subject {
        Subject {
            kind: RepairKind::Link,
            object: Object::Link(name.clone()).to_string(),
        }
    }
}

/// What is mended itself, so that what hangs on it is mended with it.
#[derive(Default)]
struct Roots<'a> {
    links: BTreeSet<&'a LinkName>,
    /// Devices of ours under other names, and the names that they had.
    renamed: BTreeMap<&'a LinkName, &'a LinkName>,
    addresses: BTreeMap<IpAddr, Subject>,
    classes: BTreeSet<&'a Class>,
    next_hops: BTreeSet<&'a Arc<NextHop>>,
    groups: BTreeMap<&'a Arc<Group>, Subject>,
    /// The first thing that is put into a map.
    map: Option<Subject>,
}

impl<'a> Roots<'a> {
    fn of(changes: impl Iterator<Item = &'a Change> + Clone) -> Roots<'a> {
        let mut roots = Roots::default();
        for change in changes.clone() {
            match change {
                Change::DeleteLink(other, DeleteLinkReason::Renamed { name, .. }) => {
                    roots.renamed.insert(other, name);
                    roots.links.insert(name);
                }
                Change::CreateLink(name, _)
                | Change::ModifyLink(name, _)
                | Change::SetLinkUp(name)
                | Change::DeleteLink(name, _) => drop(roots.links.insert(name)),
                Change::PutClass(class, _) => drop(roots.classes.insert(class)),
                Change::PutNextHop(next_hop) => drop(roots.next_hops.insert(next_hop)),
                _ => {}
            }
        }
        // They come in the order in which they depend on each other.
        for change in changes {
            let subject = roots.subject(change);
            match change {
                Change::CreateAddress(_, address, _) | Change::ReplaceAddress(_, address, _) => {
                    roots.addresses.insert(address.addr(), subject);
                }
                Change::PutGroup(group) => drop(roots.groups.insert(group, subject)),
                Change::PutClass(..)
                | Change::PutNextHop(_)
                | Change::PutPrefix(..)
                | Change::PutSource(_)
                    if roots.map.is_none() && subject.kind == RepairKind::Map =>
                {
                    roots.map = Some(subject);
                }
                _ => {}
            }
        }
        roots
    }

    /// What a change mends: itself, or what it hangs on.
    fn subject(&self, change: &Change) -> Subject {
        let by_link = self.device(change).filter(|name| self.links.contains(*name));
        if let Some(name) = by_link {
            return Subject::link(name);
        }
        let above = match change {
            Change::CreateRoute(_, route) | Change::ReplaceRoute(_, route) => match &route.kind {
                RouteKind::Gateway {
                    source: Some(source), ..
                } => self.addresses.get(source).cloned(),
                _ => None,
            },
            Change::PutNextHop(next_hop) => self.of_class(next_hop),
            Change::PutGroup(group) => group
                .members
                .iter()
                .find_map(|(next_hop, _)| self.of_next_hop(next_hop)),
            Change::PutPrefix(_, target) => self.of_target(target),
            Change::DeletePrefix(_)
            | Change::DeleteGroup(_)
            | Change::DeleteNextHop(_)
            | Change::DeleteClass(_)
            | Change::DeleteSource(_) => self.map.clone(),
            _ => None,
        };
        above.unwrap_or_else(|| self.own(change))
    }

    /// The device that a change is about or needs, under the name that it shall have.
    fn device<'c>(&'c self, change: &'c Change) -> Option<&'c LinkName> {
        let name = match change {
            Change::DeleteLink(_, DeleteLinkReason::Renamed { name, .. })
            | Change::CreateLink(name, _)
            | Change::ModifyLink(name, _)
            | Change::SetLinkUp(name)
            | Change::DeleteLink(name, _)
            | Change::CreateAddress(name, ..)
            | Change::ReplaceAddress(name, ..)
            | Change::DeleteAddress(name, _)
            | Change::SetSysctl(name, ..)
            | Change::SetWireGuard(name, _)
            | Change::Attach(name, _)
            | Change::ReplaceProgram(name, _)
            | Change::TakeOverProgram(name, _)
            | Change::Detach(name, _)
            | Change::PutClass(_, name) => name,
            Change::CreateRoute(_, route) | Change::ReplaceRoute(_, route) => route.link()?,
            _ => return None,
        };
        Some(self.renamed.get(name).copied().unwrap_or(name))
    }

    fn of_class(&self, next_hop: &NextHop) -> Option<Subject> {
        let class = self.classes.get(&next_hop.class)?;
        Some(map_subject(&format!("class {class}")))
    }

    fn of_next_hop(&self, next_hop: &Arc<NextHop>) -> Option<Subject> {
        let itself = || {
            Some(map_subject(&format!(
                "next hop {}",
                self.next_hops.get(next_hop)?
            )))
        };
        self.of_class(next_hop).or_else(itself)
    }

    fn of_target(&self, target: &Target) -> Option<Subject> {
        match target {
            Target::Group(group) => self.groups.get(group).cloned(),
            target => target.next_hops().find_map(|next_hop| self.of_next_hop(next_hop)),
        }
    }

    /// What a change itself is about.
    fn own(&self, change: &Change) -> Subject {
        let (kind, object) = match change {
            Change::DeleteLink(_, DeleteLinkReason::Renamed { name, .. })
            | Change::CreateLink(name, _)
            | Change::ModifyLink(name, _)
            | Change::SetLinkUp(name)
            | Change::DeleteLink(name, _) => return Subject::link(name),
            Change::CreateAddress(link, address, _)
            | Change::ReplaceAddress(link, address, _)
            | Change::DeleteAddress(link, address) => {
                let object = Object::Address(link.clone(), *address);
                (RepairKind::Address, object.to_string())
            }
            Change::CreateRoute(key, _) | Change::ReplaceRoute(key, _) | Change::DeleteRoute(key, _) => {
                (RepairKind::Route, Object::Route(*key).to_string())
            }
            Change::SetSysctl(link, sysctl, _) => (RepairKind::Sysctl, format!("{sysctl} of {link}")),
            Change::SetWireGuard(link, _) => (RepairKind::WireGuard, format!("wireguard {link}")),
            Change::Attach(link, hook)
            | Change::ReplaceProgram(link, hook)
            | Change::TakeOverProgram(link, hook)
            | Change::Detach(link, hook) => (RepairKind::Program, format!("the {hook} program of {link}")),
            Change::PutClass(class, _) | Change::DeleteClass(class) => {
                return map_subject(&format!("class {class}"));
            }
            Change::PutNextHop(next_hop) | Change::DeleteNextHop(next_hop) => {
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
    fn found(&self, change: &Change, observed: &KernelState) -> Option<String> {
        let gone = || Some("was gone".to_owned());
        let unwanted = || Some("stood there, and nothing needs it".to_owned());
        match change {
            Change::DeleteLink(other, DeleteLinkReason::Renamed { .. }) => {
                Some(format!("was renamed to {other}"))
            }
            Change::DeleteLink(_, DeleteLinkReason::Recreate { from, .. }) => Some(format!("was {from}")),
            Change::CreateLink(name, _) => {
                let renamed = self.renamed.values().any(|other| *other == name);
                (!renamed && !observed.links.contains_key(name)).then(gone)?
            }
            Change::ModifyLink(name, patch) => modified(patch, observed.links.get(name)?),
            // One that was made anew is down, of course.
            Change::SetLinkUp(name) => observed
                .links
                .get(name)
                .filter(|link| !link.up)
                .map(|_| "was down".to_owned()),
            Change::CreateAddress(..)
            | Change::CreateRoute(..)
            | Change::CreateFirewall(_)
            | Change::Attach(..)
            | Change::PutNextHop(_)
            | Change::PutGroup(_)
            | Change::PutSource(_) => gone(),
            Change::ReplaceFirewall(_) => Some("had other rules".to_owned()),
            Change::ReplaceAddress(..) => Some("had another scope".to_owned()),
            Change::ReplaceRoute(key, _) => Some(format!("was {}", observed.routes.get(key)?.kind)),
            Change::SetSysctl(link, sysctl, _) => {
                let found = observed.sysctls.get(&(link.clone(), *sysctl))?;
                Some(format!("was {found}"))
            }
            Change::SetWireGuard(_, change) => Some(format!("lacked {change}")),
            Change::ReplaceProgram(..) | Change::TakeOverProgram(..) => Some("was another one".to_owned()),
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

fn map_subject(object: &str) -> Subject {
    Subject {
        kind: RepairKind::Map,
        object: object.to_owned(),
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
