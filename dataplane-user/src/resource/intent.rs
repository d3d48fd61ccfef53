//! All declared resources, and the view of one node.

use std::collections::{BTreeMap, BTreeSet};

use super::netlink::NetlinkObjects;
use super::{Dataplane, Network, Node, Problem, Reason, SourceProtection};
use crate::net::{NetworkName, NodeName};

/// A complete, checked set of resources; the same on every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Networks.
    pub networks: BTreeMap<NetworkName, Network>,
    /// Nodes.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Kernel objects that are declared one by one.
    pub netlink: NetlinkObjects,
    /// Fields that manifests set and that have no effect yet, each with its object: `TunnelNetwork/pods`,
    /// `allDown`.
    pub without_effect: BTreeSet<(String, &'static str)>,
}

/// The declared resources and the node that reads them. At least one resource concerns this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    resources: Resources,
    node: Node,
}

impl Intent {
    /// The view of one node.
    ///
    /// # Errors
    /// A problem if no resource names the node: then nothing must change, and the dataplane keeps running.
    pub fn new(resources: Resources, node: NodeName) -> Result<Intent, Problem> {
        if let Some(node) = resources.nodes.get(&node).cloned() {
            return Ok(Intent { resources, node });
        }
        if resources.netlink.nodes().any(|named| *named == node) {
            let node = Node::without_overlay(node);
            return Ok(Intent { resources, node });
        }
        let known = resources
            .nodes
            .keys()
            .map(NodeName::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let remedy = match known.as_str() {
            "" => "add at least one TunnelNode".to_owned(),
            known => format!(
                "name an existing node with --node, or add a TunnelNode with this name (existing nodes: {known})"
            ),
        };
        Err(Problem::error(
            Reason::NodeAbsent,
            format!("TunnelNode/{node}"),
            format!("no TunnelNode is named `{node}`"),
            remedy,
        ))
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whether this node has an overlay at all.
    #[must_use]
    pub fn is_member(&self) -> bool {
        !self.node.networks.is_empty()
    }

    /// All resources.
    #[must_use]
    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The networks that this node is a member of, in order of their names.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        let node = self.node();
        self.resources
            .networks
            .values()
            .filter(|network| node.networks.contains(&network.name))
    }

    /// The fields without effect in the manifests of this node and its networks, each with its object.
    pub fn without_effect(&self) -> impl Iterator<Item = &(String, &'static str)> {
        let names = self
            .networks()
            .map(|network| format!("TunnelNetwork/{}", network.name));
        let own: BTreeSet<_> = names.chain([format!("TunnelNode/{}", self.node.name)]).collect();
        let written = self.resources.without_effect.iter();
        written.filter(move |(object, _)| own.contains(object))
    }

    /// The networks of this node that enforce source protection only by default, which has no effect yet.
    pub fn unprotected_by_default(&self) -> impl Iterator<Item = &Network> {
        self.networks().filter(|network| {
            let written = (format!("TunnelNetwork/{}", network.name), "sourceProtection");
            network.source_protection == SourceProtection::Enforce
                && !self.resources.without_effect.contains(&written)
        })
    }

    /// The dataplane that sends the packets of this node in a network.
    #[must_use]
    pub fn dataplane(&self, network: &Network) -> Dataplane {
        self.node().dataplane.unwrap_or(network.dataplane)
    }

    /// The other members of a network, in order of their names.
    pub fn peers<'a>(&'a self, network: &'a Network) -> impl Iterator<Item = &'a Node> {
        self.resources
            .nodes
            .values()
            .filter(move |node| node.name != self.node.name && node.networks.contains(&network.name))
    }
}
