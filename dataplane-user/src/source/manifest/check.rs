//! Checks across manifests: contradictions and references.

mod netlink;
mod networks;
mod nodes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::document::{Body, Document, Kind};
use super::error::{ManifestError, Positioned};
use super::netlink::DeclaredObjects;
use super::network::DeclaredNetwork;
use super::node::DeclaredNode;
use crate::net::NetworkName;
use crate::resource::Resources;

/// Checks the whole set and returns its resources; errors are added to `errors`.
///
/// `complete` is false if some document could not be read at all. Then unknown names are not reported.
pub(super) fn check(documents: Vec<Document>, complete: bool, errors: &mut Vec<ManifestError>) -> Resources {
    let declared = Declared::new(unique(documents, errors), complete);
    networks::check(&declared, errors);
    nodes::check(&declared, errors);
    netlink::check(&declared, errors);
    declared.into_resources()
}

/// The first manifest of each kind and name. Further ones are errors.
fn unique(documents: Vec<Document>, errors: &mut Vec<ManifestError>) -> Vec<Document> {
    let mut first = BTreeMap::new();
    let mut kept = Vec::new();
    for document in documents {
        let key = (document.kind, document.name.value.clone());
        if let Some(position) = first.get(&key) {
            let (kind, name) = (key.0.name(), key.1);
            let message =
                format!("a {kind} named `{name}` is already declared at {position}; rename one of them");
            errors.push(document.name.error(message));
            continue;
        }
        first.insert(key, document.name.position.clone());
        kept.push(document);
    }
    kept
}

/// All manifests that were read, without duplicates.
struct Declared {
    networks: BTreeMap<NetworkName, DeclaredNetwork>,
    nodes: Vec<(Positioned<String>, DeclaredNode)>,
    netlink: DeclaredObjects,
    /// The names of all networks, including rejected ones.
    names: BTreeSet<String>,
    complete: bool,
}

impl Declared {
    fn new(documents: Vec<Document>, complete: bool) -> Declared {
        let mut declared = Declared {
            networks: BTreeMap::new(),
            nodes: Vec::new(),
            netlink: DeclaredObjects::default(),
            names: BTreeSet::new(),
            complete,
        };
        for document in documents {
            if document.kind == Kind::TunnelNetwork {
                declared.names.insert(document.name.value.clone());
            }
            match document.body {
                Some(Body::Network(network)) => {
                    declared.networks.insert(network.network.name.clone(), network);
                }
                Some(Body::Node(node)) => declared.nodes.push((document.name, node)),
                Some(Body::WireGuard(object)) => declared.netlink.wireguard.push((document.name, object)),
                Some(Body::Plan(expanded)) => {
                    let located = |name| Positioned {
                        value: name,
                        position: document.name.position.clone(),
                        field: document.name.field.clone(),
                    };
                    let devices = expanded.into_iter().map(|(name, object)| (located(name), object));
                    declared.netlink.wireguard.extend(devices);
                }
                Some(Body::Interface(object)) => declared.netlink.interfaces.push((document.name, object)),
                Some(Body::Route(object)) => declared.netlink.routes.push((document.name, object)),
                Some(Body::Rule(object)) => declared.netlink.rules.push((document.name, object)),
                None => {}
            }
        }
        declared
    }

    fn into_resources(self) -> Resources {
        let of_networks = self.networks.values().flat_map(|declared| {
            let name = format!("TunnelNetwork/{}", declared.network.name);
            declared
                .without_effect
                .iter()
                .map(move |field| (name.clone(), *field))
        });
        let of_nodes = self.nodes.iter().flat_map(|(_, declared)| {
            let name = format!("TunnelNode/{}", declared.node.name);
            declared
                .without_effect
                .iter()
                .map(move |field| (name.clone(), *field))
        });
        let without_effect = of_networks.chain(of_nodes).collect();
        let networks = self.networks.into_values().map(|declared| declared.network);
        let nodes = self.nodes.into_iter().map(|(_, declared)| declared.node);
        Resources {
            networks: networks.map(|network| (network.name.clone(), network)).collect(),
            nodes: nodes.map(|node| (node.name.clone(), node)).collect(),
            netlink: self.netlink.into_objects(),
            without_effect,
        }
    }
}

/// Items with the key of an earlier item, each with the first item of that key.
fn duplicates<K: Ord, T: Copy>(items: impl IntoIterator<Item = (K, T)>) -> Vec<(T, T)> {
    let mut first = BTreeMap::new();
    let mut found = Vec::new();
    for (key, item) in items {
        match first.get(&key) {
            Some(first) => found.push((item, *first)),
            None => {
                first.insert(key, item);
            }
        }
    }
    found
}

/// Joins items with commas: `a, b`.
fn list(items: impl IntoIterator<Item = impl Display>) -> String {
    let items = items.into_iter().map(|item| item.to_string());
    items.collect::<Vec<_>>().join(", ")
}
