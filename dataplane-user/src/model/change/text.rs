//! What changes are called: in plans, logs and errors, in the words of `ip`, `wg` and `nft` where they have some.

use std::fmt;

use super::{
    Action, AddressOperation, BpfChange, Change, DeleteLinkReason, Existence, LinkOperation, LinkPatch,
    NetlinkChange, NextHopObjectOperation, NextHopOperation, NftChange, ProgramOperation, RouteOperation,
    SysctlChange, WireGuardChange, Write,
};
use crate::model::Firewall;

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}: ")?;
        }
        self.action.fmt(f)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Netlink(change) => change.fmt(f),
            Action::Sysctl(change) => change.fmt(f),
            Action::WireGuard(change) => change.fmt(f),
            Action::Nft(change) => change.fmt(f),
            Action::Bpf(change) => change.fmt(f),
        }
    }
}

impl fmt::Display for NetlinkChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetlinkChange::Link(name, operation) => match operation {
                LinkOperation::Create(link) => write!(f, "add link {name} type {}", link.kind),
                LinkOperation::Modify(patch) => write!(f, "set link {name}{patch}"),
                LinkOperation::SetUp => write!(f, "set link {name} up"),
                LinkOperation::SetDown => write!(f, "set link {name} down"),
                LinkOperation::SetMaster(Some(bridge)) => write!(f, "set link {name} master {bridge}"),
                LinkOperation::SetMaster(None) => write!(f, "set link {name} nomaster"),
                LinkOperation::SetAlias(alias) => write!(f, "set link {name} alias {alias}"),
                LinkOperation::Delete(reason) => write!(f, "delete link {name}{reason}"),
            },
            NetlinkChange::Address(link, address, operation) => match operation {
                AddressOperation::Create(_) => write!(f, "add address {address} dev {link}"),
                AddressOperation::Replace(_) => write!(f, "replace address {address} dev {link}"),
                AddressOperation::Move { from, .. } => {
                    write!(f, "replace address {from} by {address} dev {link}")
                }
                AddressOperation::Delete { .. } => write!(f, "delete address {address} dev {link}"),
            },
            NetlinkChange::Flood(link, to, existence) => {
                write!(f, "{existence} default destination {to} dev {link}")
            }
            NetlinkChange::Neighbour(link, address, Write::Put(neighbour)) => {
                write!(f, "put neighbour {address} lladdr {} dev {link}", neighbour.mac)
            }
            NetlinkChange::NextHopObject(target, NextHopObjectOperation::Replace(from)) => {
                write!(f, "set nexthop {from} to {target}")
            }
            NetlinkChange::NextHopObject(_, NextHopObjectOperation::Create) => {
                write!(f, "add {}", self.object())
            }
            NetlinkChange::Neighbour(_, _, Write::Delete)
            | NetlinkChange::NextHopObject(_, NextHopObjectOperation::Delete) => {
                write!(f, "delete {}", self.object())
            }
            NetlinkChange::Route(key, operation) => match operation {
                RouteOperation::Create(route) => write!(f, "add route {key} {}", route.kind),
                RouteOperation::Replace(route) => write!(f, "replace route {key} {}", route.kind),
                RouteOperation::Delete(route) => write!(f, "delete route {key} {}", route.kind),
            },
            NetlinkChange::Rule(rule, existence) => write!(f, "{existence} rule {rule}"),
        }
    }
}

impl fmt::Display for SysctlChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {} of {} to {}", self.sysctl, self.link, self.value)
    }
}

impl fmt::Display for WireGuardChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set wireguard {} {}", self.link, self.change)
    }
}

impl fmt::Display for NftChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = |table: &Firewall| table.rules().count();
        match self {
            NftChange::Create(table) => {
                write!(f, "add nft table inet adit with {} rules", rules(table))
            }
            NftChange::Replace(table) => {
                write!(
                    f,
                    "replace nft table inet adit by one with {} rules",
                    rules(table)
                )
            }
            NftChange::Delete => f.write_str("delete nft table inet adit"),
        }
    }
}

impl fmt::Display for BpfChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BpfChange::Program(link, hook, operation) => match operation {
                ProgramOperation::Attach => write!(f, "attach the {hook} program to {link}"),
                ProgramOperation::Replace => write!(f, "replace the {hook} program of {link}"),
                ProgramOperation::TakeOver => {
                    write!(f, "take over the {hook} program of {link} from an older map ABI")
                }
                ProgramOperation::Detach => write!(f, "detach the {hook} program from {link}"),
            },
            BpfChange::DeleteVersion(version) => write!(f, "delete what map ABI {version} has left"),
            BpfChange::Class(class, Write::Put(link)) => write!(f, "put class {class} to {link}"),
            BpfChange::NextHop(next_hop, NextHopOperation::SetDown(down)) => {
                write!(
                    f,
                    "set next hop {next_hop} {}",
                    if *down { "down" } else { "usable" }
                )
            }
            BpfChange::Prefix(prefix, Write::Put(target)) => write!(f, "put prefix {prefix} to {target}"),
            BpfChange::NextHop(_, NextHopOperation::Put)
            | BpfChange::Group(_, Existence::Create)
            | BpfChange::Source(_, Existence::Create) => write!(f, "put {}", self.object()),
            BpfChange::Class(_, Write::Delete)
            | BpfChange::NextHop(_, NextHopOperation::Delete)
            | BpfChange::Group(_, Existence::Delete)
            | BpfChange::Prefix(_, Write::Delete)
            | BpfChange::Source(_, Existence::Delete) => write!(f, "delete {}", self.object()),
        }
    }
}

impl fmt::Display for Existence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Existence::Create => "add",
            Existence::Delete => "delete",
        })
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
