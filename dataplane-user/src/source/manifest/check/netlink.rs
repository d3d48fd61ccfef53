//! Declared kernel objects beside each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::error::{Located, ManifestError, Place};
use super::Declared;
use crate::net::Encapsulation;
use crate::net::{LinkName, Namespace, NodeName};
use crate::resource::netlink::InterfaceKind;

/// A device: on which node, in which namespace, by which name.
type Device<'a> = (&'a NodeName, Option<&'a Namespace>, &'a LinkName);

/// Devices have names of their own, and whatever else only one can have.
pub(super) fn check(declared: &Declared, errors: &mut Vec<ManifestError>) {
    names(declared, errors);
    ports(declared, errors);
    sockets(declared, errors);
}

/// A device is a port of one bridge, and has Ethernet headers.
fn ports(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let mut first: BTreeMap<Device<'_>, &Located<String>> = BTreeMap::new();
    let wireguard = declared.netlink.wireguard.iter().flat_map(|(_, placed)| {
        let link = &placed.object.end.name;
        placed
            .nodes
            .iter()
            .map(move |node| (node, placed.namespace.as_ref(), link))
    });
    let wireguard = wireguard.collect::<BTreeSet<_>>();
    for (name, placed) in &declared.netlink.interfaces {
        let InterfaceKind::Bridge { ports } = &placed.object.kind else {
            continue;
        };
        for (node, port) in placed
            .nodes
            .iter()
            .flat_map(|node| ports.iter().map(move |port| (node, port)))
        {
            let device = (node, placed.namespace.as_ref(), port);
            if wireguard.contains(&device) {
                errors.push(name.error(format!(
                    "`{port}` of node `{node}` is a WireGuardInterface, which no bridge takes: it has no Ethernet headers"
                )));
            }
            match first.get(&device) {
                None => drop(first.insert(device, name)),
                Some(before) => errors.push(name.error(format!(
                    "`{port}` of node `{node}` is already a port of NetlinkInterface `{}` at {}",
                    before.value, before.place
                ))),
            }
        }
    }
}

/// Who has a UDP port, a VNI or the like: what it is, in words that tell it from all others of a namespace, and who may share it.
struct Holder<'a> {
    node: &'a NodeName,
    /// Of UDP ports, that of the socket: WireGuard's is the agent's own.
    namespace: Option<&'a Namespace>,
    what: String,
    /// Holders of the same word share it.
    shared_by: Option<&'static str>,
    /// The manifest, and where in it.
    kind: &'static str,
    name: &'a str,
    place: &'a Place,
    field: &'a str,
}

/// Two devices of a node have no UDP port in common, and no VNI at one port; two networks of one node share their devices.
fn sockets(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let mut first: BTreeMap<(&NodeName, Option<&Namespace>, String), Holder<'_>> = BTreeMap::new();
    let mut holders = of_networks(declared);
    holders.extend(of_interfaces(declared));
    for (name, placed) in &declared.netlink.wireguard {
        let port = placed.object.listen_port;
        holders.extend(placed.nodes.iter().filter(|_| port != 0).map(|node| Holder {
            node,
            namespace: None,
            what: format!("UDP port {port}"),
            shared_by: None,
            kind: "WireGuardInterface",
            name: &name.value,
            place: &name.place,
            field: &name.field,
        }));
    }
    for holder in holders {
        let key = (holder.node, holder.namespace, holder.what.clone());
        let Some(before) = first.get(&key) else {
            first.insert(key, holder);
            continue;
        };
        if before.shared_by.is_some() && before.shared_by == holder.shared_by {
            continue;
        }
        errors.push(ManifestError {
            place: holder.place.clone(),
            field: holder.field.to_owned(),
            message: format!(
                "{} of node `{}` is already that of {} `{}` at {}; give one of them another",
                holder.what, holder.node, before.kind, before.name, before.place
            ),
        });
    }
}

/// What the networks take for certain: each says by which encapsulation, and has other nodes.
fn of_networks(declared: &Declared) -> Vec<Holder<'_>> {
    let mut holders = Vec::new();
    for network in declared.networks.values() {
        let ports = network.network.ports;
        let port = match network.network.encapsulation {
            Some(Encapsulation::Geneve) => ports.geneve,
            Some(Encapsulation::Vxlan) => ports.vxlan,
            Some(Encapsulation::WireGuard) => ports.wireguard,
            Some(Encapsulation::Ipip | Encapsulation::None) | None => continue,
        };
        let members = declared.nodes.iter().map(|(_, declared)| &declared.node);
        let members = members.filter(|node| node.networks.contains(&network.network.name));
        let members = members
            .filter(|node| node.encapsulation.is_none())
            .collect::<Vec<_>>();
        if members.len() > 1 {
            holders.extend(members.into_iter().map(|node| Holder {
                node: &node.name,
                namespace: None,
                what: format!("UDP port {port}"),
                shared_by: Some("TunnelNetwork"),
                kind: "TunnelNetwork",
                name: network.network.name.as_str(),
                place: &network.ports.place,
                field: &network.ports.field,
            }));
        }
    }
    holders
}

fn of_interfaces(declared: &Declared) -> Vec<Holder<'_>> {
    let mut holders = Vec::new();
    for (name, placed) in &declared.netlink.interfaces {
        let (own, port) = match &placed.object.kind {
            InterfaceKind::Vxlan {
                vni,
                port,
                local,
                group,
                ..
            } => {
                // Over each family the kernel has VNIs of its own.
                let ipv6 = local.iter().chain(group).any(IpAddr::is_ipv6);
                let over = if ipv6 { " over IPv6" } else { "" };
                (
                    format!("VNI {vni} at UDP port {port}{over}"),
                    Some(("vxlan", port)),
                )
            }
            InterfaceKind::Geneve { vni, remote, port } => (
                format!("VNI {vni} towards {remote} at UDP port {port}"),
                Some(("geneve", port)),
            ),
            InterfaceKind::Ipip { local, remote, .. } => {
                (format!("the tunnel from {local} to {remote}"), None)
            }
            InterfaceKind::Dummy | InterfaceKind::Bridge { .. } | InterfaceKind::Veth { .. } => continue,
        };
        for node in &placed.nodes {
            let holder = |what, shared_by| Holder {
                node,
                namespace: placed.namespace.as_ref(),
                what,
                shared_by,
                kind: "NetlinkInterface",
                name: &name.value,
                place: &name.place,
                field: &name.field,
            };
            holders.push(holder(own.clone(), None));
            holders.extend(port.map(|(by, port)| holder(format!("UDP port {port}"), Some(by))));
        }
    }
    holders
}

/// A device is declared once.
fn names(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let mut first: BTreeMap<Device<'_>, (&str, &Located<String>)> = BTreeMap::new();
    let mut add = |kind, name, device| {
        let Some((before_kind, before)) = first.insert(device, (kind, name)) else {
            return;
        };
        let (node, _, device) = device;
        errors.push(name.error(format!(
            "device `{device}` of node `{node}` is already declared by {before_kind} `{}` at {}; give one another `spec.name`",
            before.value, before.place
        )));
    };
    for (name, placed) in &declared.netlink.interfaces {
        let mut ends = vec![(placed.namespace.as_ref(), &placed.object.end.name)];
        if let InterfaceKind::Veth { peer, namespace } = &placed.object.kind {
            ends.push((namespace.as_ref(), &peer.name));
        }
        for node in &placed.nodes {
            ends.iter()
                .for_each(|(at, end)| add("NetlinkInterface", name, (node, *at, *end)));
        }
    }
    for (name, placed) in &declared.netlink.wireguard {
        let at = placed.namespace.as_ref();
        for node in &placed.nodes {
            add("WireGuardInterface", name, (node, at, &placed.object.end.name));
        }
    }
}
