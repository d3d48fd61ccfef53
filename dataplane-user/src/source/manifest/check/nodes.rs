//! Checks across nodes, and between nodes and their networks.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::error::{ManifestError, Positioned};
use super::super::network::DeclaredNetwork;
use super::super::node::DeclaredNode;
use super::super::suggest::hint;
use super::{Declared, duplicates, list};
use crate::net::MacAddr;

/// Checks all nodes.
pub(super) fn check(declared: &Declared, errors: &mut Vec<ManifestError>) {
    macs(declared, errors);
    public_keys(declared, errors);
    unique_addresses(declared, errors, "underlay address", |node| &node.underlay);
    unique_addresses(declared, errors, "address", |node| &node.addresses.value);
    for (_, node) in &declared.nodes {
        references(declared, node, errors);
        for (prefix, first) in duplicates(node.prefixes.iter().map(|prefix| (prefix.value.cidr, prefix))) {
            let (cidr, position) = (prefix.value.cidr, &first.position);
            errors.push(prefix.error(format!(
                "this node already advertises `{cidr}`, at {position}; remove one of them"
            )));
        }
        let networks = node.node.networks.iter().map(|name| declared.networks.get(name));
        // The prefixes of an unknown or rejected network are not known.
        if let Some(networks) = networks.collect::<Option<Vec<_>>>() {
            containment(node, &networks, errors);
        }
    }
}

/// The MAC address of a node is computed from its name, so two names must not give the same address.
fn macs(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let names = declared.nodes.iter();
    let by_mac = names.map(|(name, node)| (MacAddr::of_node(&node.node.name), (name, &node.node.name)));
    for ((name, own), (first, _)) in duplicates(by_mac) {
        let (mac, position) = (MacAddr::of_node(own), &first.position);
        errors.push(name.error(format!(
            "the name `{own}` results in the same MAC address {mac} as TunnelNode `{}` at {position}; rename one of them",
            first.value
        )));
    }
}

/// A public key must belong to only one node.
fn public_keys(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let nodes = declared.nodes.iter();
    let keys = nodes.filter_map(|(name, node)| Some((node.node.wireguard.as_ref()?.public_key, name)));
    for (name, first) in duplicates(keys) {
        let (own, other, position) = (&name.value, &first.value, &first.position);
        errors.push(name.error(format!(
            "`{own}` has the same spec.wireguard.publicKey as TunnelNode `{other}`, at {position}; give each node its own key"
        )));
    }
}

/// An address must belong to only one node.
fn unique_addresses(
    declared: &Declared,
    errors: &mut Vec<ManifestError>,
    what: &str,
    addresses: impl Fn(&DeclaredNode) -> &[Positioned<IpAddr>],
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
        let (value, position) = (address.value, &first.position);
        errors.push(address.error(if name.value == first_name.value {
            format!("`{value}` is given twice, first at {position}")
        } else {
            let other = &first_name.value;
            format!("`{value}` is already the {what} of TunnelNode `{other}`, at {position}; choose another")
        }));
    }
}

/// The networks of a node must exist.
fn references(declared: &Declared, node: &DeclaredNode, errors: &mut Vec<ManifestError>) {
    let names = node.networks.iter().map(|network| (&network.value, network));
    for (network, first) in duplicates(names) {
        let (name, position) = (&network.value, &first.position);
        errors.push(network.error(format!("`{name}` is given twice, first at {position}")));
    }
    for network in &node.networks {
        let name = network.value.as_str();
        if declared.complete && !declared.names.contains(name) {
            let hint = hint(name, declared.names.iter().map(String::as_str));
            errors.push(network.error(format!("no TunnelNetwork is named `{name}`; {hint}")));
        }
    }
}

/// The addresses and advertised prefixes of a node must be within its networks, and the node must have an
/// address in each of them.
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
                "no address of the node is in TunnelNetwork `{}`; give an address in {}",
                network.name,
                list(&network.prefixes)
            )));
        }
    }
}
