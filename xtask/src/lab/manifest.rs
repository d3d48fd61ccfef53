//! Writes the manifests that the agents read.
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};

use super::family::Family;
use super::site;
use super::topology::{OVERLAY, Topology};

/// The overlay's name.
pub(super) const NETWORK: &str = "lab";

/// How packets cross the underlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Encapsulation {
    /// GENEVE, RFC 8926.
    Geneve,
    /// VXLAN, RFC 7348.
    Vxlan,
    /// IP in IP: RFC 2003 over IPv4, with IPv4 inside only, RFC 2473 over IPv6.
    Ipip,
}

impl Encapsulation {
    /// As manifests have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Geneve => "geneve",
            Self::Vxlan => "vxlan",
            Self::Ipip => "ipip",
        }
    }

    /// The UDP port of its packets, if they are UDP.
    pub(super) fn port(self) -> Option<u16> {
        match self {
            Self::Geneve => Some(6081),
            Self::Vxlan => Some(4789),
            Self::Ipip => None,
        }
    }

    /// The VNI that the lab gives its network; another one for each, so that a leftover of the one before shows. IPIP's
    /// packets don't bear it.
    pub(super) fn vni(self) -> u32 {
        match self {
            Self::Geneve => 0x0a_d117,
            Self::Vxlan => 0x0b_d117,
            Self::Ipip => 0x0c_d117,
        }
    }
}

/// Writes the file anew, at once: agents that watch it never see half of it.
pub(super) fn write(topology: &Topology, encapsulation: Encapsulation) -> Result<()> {
    let file = site::manifest();
    let beside = file.with_extension("new");
    fs::write(&beside, text(topology, encapsulation))
        .with_context(|| format!("writing {}", beside.display()))?;
    fs::rename(&beside, &file).with_context(|| format!("writing {}", file.display()))
}

fn text(topology: &Topology, encapsulation: Encapsulation) -> String {
    let mut text = header("TunnelNetwork", NETWORK);
    let _ = writeln!(
        text,
        "  prefixes: [{}]",
        OVERLAY.map(|prefix| format!("\"{prefix}\"")).join(", ")
    );
    let _ = writeln!(text, "  encapsulation: {}", encapsulation.name());
    let _ = writeln!(text, "  vni: {}", encapsulation.vni());
    let _ = writeln!(text, "  underlayFamily: {}", topology.underlay.preferred());
    for node in &topology.nodes {
        text.push_str("---\n");
        text.push_str(&header("TunnelNode", &node.name));
        let _ = writeln!(text, "  network: {NETWORK}\n  underlay:");
        for family in &node.underlay {
            let _ = writeln!(text, "    {family}: \"{}\"", node.underlay(*family));
        }
        let list = |values: [String; 2]| values.map(|value| format!("\"{value}\"")).join(", ");
        let addresses = Family::BOTH.map(|family| node.overlay(family).to_string());
        let _ = writeln!(text, "  addresses: [{}]", list(addresses));
        let _ = writeln!(
            text,
            "  prefixes: [{}]",
            list(Family::BOTH.map(|family| node.pods(family)))
        );
    }
    text
}

fn header(kind: &str, name: &str) -> String {
    format!("apiVersion: adit.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n")
}

#[cfg(test)]
mod tests {
    use super::super::topology::Underlay;
    use super::*;

    #[test]
    fn a_node_says_where_it_is_and_what_it_carries() {
        let text = text(&Topology::new(3, Underlay::Dual), Encapsulation::Vxlan);
        let documents: Vec<&str> = text.split("---\n").collect();
        assert_eq!(documents.len(), 4);
        assert!(documents[0].contains("encapsulation: vxlan\n  vni: 774423\n"));
        let expected = concat!(
            "apiVersion: adit.dev/v1alpha1\nkind: TunnelNode\nmetadata:\n  name: c\nspec:\n",
            "  network: lab\n  underlay:\n    ipv6: \"2001:db8:0:3::2\"\n",
            "  addresses: [\"10.88.0.3\", \"fd88::3\"]\n",
            "  prefixes: [\"10.88.3.0/24\", \"fd88:0:0:3::/64\"]\n",
        );
        assert_eq!(documents[3], expected);
    }
}
