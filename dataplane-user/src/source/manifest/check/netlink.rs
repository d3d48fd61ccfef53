//! Checks across declared kernel objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::super::error::{ManifestError, Position, Positioned};
use super::Declared;
use crate::net::Encapsulation;
use crate::net::{LinkName, Namespace, NodeName};
use crate::resource::netlink::InterfaceKind;

/// A device: its node, its namespace and its name.
type Device<'a> = (&'a NodeName, Option<&'a Namespace>, &'a LinkName);

/// Checks that no two devices have the same name, port or VNI, and that no device is a port of two bridges.
pub(super) fn check(declared: &Declared, errors: &mut Vec<ManifestError>) {
    names(declared, errors);
    ports(declared, errors);
    sockets(declared, errors);
}

/// A device must be a port of only one bridge, and a port needs Ethernet headers.
fn ports(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let mut first: BTreeMap<Device<'_>, &Positioned<String>> = BTreeMap::new();
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
                    "`{port}` of node `{node}` is a WireGuardInterface, which can't be a port of a bridge, because it has no Ethernet headers; remove it from `ports`"
                )));
            }
            match first.get(&device) {
                None => drop(first.insert(device, name)),
                Some(before) => errors.push(name.error(format!(
                    "`{port}` of node `{node}` is already a port of NetlinkInterface `{}` at {}; remove it from one of them",
                    before.value, before.position
                ))),
            }
        }
    }
}

/// The user of a UDP port, a VNI or a tunnel. `what` is unique within a namespace.
struct Holder<'a> {
    node: &'a NodeName,
    /// For UDP ports, the namespace of the socket; sockets of WireGuard are in the namespace of the agent.
    namespace: Option<&'a Namespace>,
    what: String,
    /// Holders with the same value may share it.
    shared_by: Option<&'static str>,
    /// The manifest, and the position in it.
    kind: &'static str,
    name: &'a str,
    position: &'a Position,
    field: &'a str,
}

/// Two devices of a node must not use the same UDP port, or the same VNI at one port. Networks are exempt,
/// because they share their devices.
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
            position: &name.position,
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
            position: holder.position.clone(),
            field: holder.field.to_owned(),
            message: format!(
                "{} of node `{}` is already used by {} `{}` at {}; change one of them",
                holder.what, holder.node, before.kind, before.name, before.position
            ),
        });
    }
}

/// The ports that networks certainly use: those of networks that declare an encapsulation and have several
/// nodes.
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
                position: &network.ports.position,
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
                // The kernel has separate VNIs for each outer family.
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
                position: &name.position,
                field: &name.field,
            };
            holders.push(holder(own.clone(), None));
            holders.extend(port.map(|(by, port)| holder(format!("UDP port {port}"), Some(by))));
        }
    }
    holders
}

/// A device must be declared only once.
fn names(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let mut first: BTreeMap<Device<'_>, (&str, &Positioned<String>)> = BTreeMap::new();
    let mut add = |kind, name, device| {
        let Some((before_kind, before)) = first.insert(device, (kind, name)) else {
            return;
        };
        let (node, _, device) = device;
        errors.push(name.error(format!(
            "device `{device}` of node `{node}` is already declared by {before_kind} `{}` at {}; change `spec.name` of one of them",
            before.value, before.position
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
