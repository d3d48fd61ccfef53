//! Nodes beside each other, and in their networks.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::error::{Located, ManifestError};
use super::super::network::DeclaredNetwork;
use super::super::node::DeclaredNode;
use super::super::suggest::hint;
use super::{Declared, duplicates, list};
use crate::net::MacAddr;

/// Checks them all.
pub(super) fn check(declared: &Declared, errors: &mut Vec<ManifestError>) {
    macs(declared, errors);
    public_keys(declared, errors);
    taken(declared, errors, "underlay address", |node| &node.underlay);
    taken(declared, errors, "address", |node| &node.addresses.value);
    for (_, node) in &declared.nodes {
        references(declared, node, errors);
        for (prefix, first) in duplicates(node.prefixes.iter().map(|prefix| (prefix.value.cidr, prefix))) {
            let (cidr, place) = (prefix.value.cidr, &first.place);
            errors.push(prefix.error(format!("`{cidr}` is already carried by this node, at {place}")));
        }
        let networks = node.node.networks.iter().map(|name| declared.networks.get(name));
        // Where a network is unknown or refused, nobody knows what lies in it.
        if let Some(networks) = networks.collect::<Option<Vec<_>>>() {
            containment(node, &networks, errors);
        }
    }
}

/// Nodes know each other's MAC addresses by name alone.
fn macs(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let names = declared.nodes.iter();
    let by_mac = names.map(|(name, node)| (MacAddr::of_node(&node.node.name), (name, &node.node.name)));
    for ((name, own), (first, _)) in duplicates(by_mac) {
        let (mac, place) = (MacAddr::of_node(own), &first.place);
        errors.push(name.error(format!(
            "`{own}` gives the MAC address {mac}, as TunnelNode `{}` at {place} does; rename one of them",
            first.value
        )));
    }
}

/// A key tells one node from all others.
fn public_keys(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let nodes = declared.nodes.iter();
    let keys = nodes.filter_map(|(name, node)| Some((node.node.wireguard.as_ref()?.public_key, name)));
    for (name, first) in duplicates(keys) {
        let (own, other, place) = (&name.value, &first.value, &first.place);
        errors.push(name.error(format!(
            "`{own}` has the spec.wireguard.publicKey of TunnelNode `{other}`, at {place}; each node has a key of its own"
        )));
    }
}

/// An address belongs to one node.
fn taken(
    declared: &Declared,
    errors: &mut Vec<ManifestError>,
    what: &str,
    addresses: impl Fn(&DeclaredNode) -> &[Located<IpAddr>],
) {
    let mut all = Vec::new();
    for (name, node) in &declared.nodes {
        all.extend(
            addresses(node)
                .iter()
                .map(|address| (address.value, (name, address))),
        );
    }
    for ((name, address), (first_name, first)) in duplicates(all) {
        let (value, place) = (address.value, &first.place);
        errors.push(address.error(if name.value == first_name.value {
            format!("`{value}` is given twice, first at {place}")
        } else {
            let other = &first_name.value;
            format!("`{value}` is already the {what} of TunnelNode `{other}`, at {place}")
        }));
    }
}

/// A node's networks exist.
fn references(declared: &Declared, node: &DeclaredNode, errors: &mut Vec<ManifestError>) {
    let names = node.networks.iter().map(|network| (&network.value, network));
    for (network, first) in duplicates(names) {
        let (name, place) = (&network.value, &first.place);
        errors.push(network.error(format!("`{name}` is given twice, first at {place}")));
    }
    for network in &node.networks {
        let name = network.value.as_str();
        if declared.complete && !declared.names.contains(name) {
            let hint = hint(name, declared.names.iter().map(String::as_str));
            errors.push(network.error(format!("no TunnelNetwork is named `{name}`; {hint}")));
        }
    }
}

/// A node's networks hold what it has and carries, and it has an address in each.
fn containment(node: &DeclaredNode, networks: &[&DeclaredNetwork], errors: &mut Vec<ManifestError>) {
    let space = networks
        .iter()
        .flat_map(|network| &network.network.prefixes)
        .copied()
        .collect::<Vec<_>>();
    let outside = |wanted: IpNet| {
        let inside = space.iter().any(|prefix| prefix.contains(&wanted));
        (!inside).then(|| {
            let names = list(
                networks
                    .iter()
                    .map(|network| format!("`{}`", network.network.name)),
            );
            format!(
                "is not in the prefixes of TunnelNetwork {names}: {}",
                list(&space)
            )
        })
    };
    for address in &node.addresses.value {
        if let Some(message) = outside(address.value.into()) {
            errors.push(address.error(format!("`{}` {message}", address.value)));
        }
    }
    for prefix in &node.prefixes {
        if let Some(message) = outside(prefix.value.cidr) {
            errors.push(prefix.error(format!("`{}` {message}", prefix.value.cidr)));
        }
    }
    for network in networks.iter().map(|declared| &declared.network) {
        let inside = |address: &IpAddr| network.prefixes.iter().any(|prefix| prefix.contains(address));
        if !node.node.addresses.iter().any(inside) {
            errors.push(node.addresses.error(format!(
                "no address is in TunnelNetwork `{}`; give one of {}",
                network.name,
                list(&network.prefixes)
            )));
        }
    }
}
