//! The nodes of a lab, and the address families by which they reach each other.
use std::net::IpAddr;

use adit_tests::topology::Node;
use dataplane_user::net::Family;

use super::options::Underlay;

/// The MTU of the underlay in bytes.
pub(crate) const ETHERNET: u32 = 1500;

impl Underlay {
    /// The address families of the underlay.
    pub(crate) fn families(self) -> &'static [Family] {
        match self {
            Self::Ipv4 => &[Family::Ipv4],
            Self::Ipv6 => &[Family::Ipv6],
            Self::Dual => &Family::BOTH,
        }
    }

    /// The family that is used if both ends have both.
    pub(crate) fn preferred(self) -> Family {
        self.families()[0]
    }
}

/// The nodes and the underlay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topology {
    pub(crate) nodes: Vec<Node>,
    pub(crate) underlay: Underlay,
}

impl Topology {
    /// `count` hosts, at most 26.
    pub(crate) fn new(count: u8, underlay: Underlay) -> Self {
        let mut nodes: Vec<Node> = Node::all().take(count.into()).collect();
        for node in &mut nodes {
            node.families = underlay.families().to_vec();
        }
        if underlay == Underlay::Dual && count > 2 {
            nodes[usize::from(count) - 1].families = vec![Family::Ipv6];
        }
        Self { nodes, underlay }
    }

    /// The family by which two nodes, by their indexes, reach each other.
    pub(crate) fn common_family(&self, from: usize, to: usize) -> Option<Family> {
        let preferred = self.underlay.preferred();
        let [from, to] = [from, to].map(|end| &self.nodes[end].families);
        let common: Vec<Family> = from
            .iter()
            .copied()
            .filter(|family| to.contains(family))
            .collect();
        common
            .contains(&preferred)
            .then_some(preferred)
            .or(common.first().copied())
    }

    /// The index of the node that has or advertises an overlay address.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<usize> {
        self.nodes.iter().position(|node| node.owns(address))
    }
}

#[cfg(test)]
mod tests;
