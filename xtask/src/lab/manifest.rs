//! Writes the manifests that the agents read.
use std::fmt::{Display, Write as _};
use std::fs;

use anyhow::{Context as _, Result};

use super::dataplane::Dataplane;
use super::family::Family;
use super::topology::{OVERLAY, Topology};
use super::wishes::Wishes;
use super::{shared, site};

/// The overlay's name.
pub(super) const NETWORK: &str = "lab";

/// What the manifests of a round say beside where everybody is.
pub(super) struct Contents<'a> {
    pub(super) wishes: &'a Wishes,
    /// The nodes' fields with their WireGuard keys, by their order.
    pub(super) keys: &'a [String],
    pub(super) dataplane: Dataplane,
    /// Do the first nodes carry a common prefix?
    pub(super) shared: bool,
}

/// Writes the file anew, at once: agents that watch it never see half of it.
pub(super) fn write(topology: &Topology, contents: &Contents<'_>) -> Result<()> {
    let file = site::manifest();
    let beside = file.with_extension("new");
    fs::write(&beside, text(topology, contents)).with_context(|| format!("writing {}", beside.display()))?;
    fs::rename(&beside, &file).with_context(|| format!("writing {}", file.display()))
}

fn text(topology: &Topology, contents: &Contents<'_>) -> String {
    let wishes = contents.wishes;
    let mut text = header("TunnelNetwork", NETWORK);
    let _ = writeln!(text, "  prefixes: [{}]", list(OVERLAY));
    let _ = writeln!(text, "  encapsulation: {}", Wishes::name_of(wishes.network));
    let _ = writeln!(text, "  vni: {}", wishes.vni);
    let _ = writeln!(text, "  underlayFamily: {}", topology.underlay.preferred());
    for (place, node) in topology.nodes.iter().enumerate() {
        text.push_str("---\n");
        text.push_str(&header("TunnelNode", &node.name));
        let _ = writeln!(text, "  network: {NETWORK}\n  underlay:");
        for family in &node.underlay {
            let _ = writeln!(text, "    {family}: \"{}\"", node.underlay(*family));
        }
        let addresses = Family::BOTH.map(|family| node.overlay(family).to_string());
        let _ = writeln!(text, "  addresses: [{}]", list(addresses));
        let mut prefixes = Family::BOTH.map(|family| node.pods(family)).to_vec();
        if contents.shared && place < shared::CARRIERS {
            prefixes.extend(Family::BOTH.map(|family| shared::prefix(family).to_owned()));
        }
        let _ = writeln!(text, "  prefixes: [{}]", list(prefixes));
        if let Some(wish) = wishes.nodes[place] {
            let _ = writeln!(text, "  encapsulation: {}", wish.name());
        }
        if contents.dataplane.is_by_routes(place) {
            text.push_str("  dataplane: routes\n");
        }
        let _ = writeln!(text, "  {}", contents.keys[place]);
    }
    text
}

/// What goes between brackets.
fn list(values: impl IntoIterator<Item = impl Display>) -> String {
    let quoted: Vec<String> = values.into_iter().map(|value| format!("\"{value}\"")).collect();
    quoted.join(", ")
}

fn header(kind: &str, name: &str) -> String {
    format!("apiVersion: adit.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n")
}

#[cfg(test)]
mod tests {
    use super::super::encapsulation::Encapsulation;
    use super::super::topology::Underlay;
    use super::super::wishes;
    use super::*;

    fn documents(wishes: &Wishes, shared: bool) -> Vec<String> {
        let keys = ["A", "B", "C"].map(|key| format!("wireguard: {{publicKey: {key}}}"));
        let contents = Contents {
            wishes,
            keys: &keys,
            dataplane: Dataplane::Ebpf,
            shared,
        };
        let text = text(&Topology::new(3, Underlay::Dual), &contents);
        text.split("---\n").map(str::to_owned).collect()
    }

    #[test]
    fn a_node_says_where_it_is_and_what_it_carries() {
        let wishes = wishes::uniform(&[Encapsulation::Vxlan], 3).remove(0);
        let documents = documents(&wishes, false);
        assert_eq!(documents.len(), 4);
        assert!(documents[0].contains("encapsulation: vxlan\n  vni: 708887\n"));
        let expected = concat!(
            "apiVersion: adit.dev/v1alpha1\nkind: TunnelNode\nmetadata:\n  name: c\nspec:\n",
            "  network: lab\n  underlay:\n    ipv6: \"2001:db8:0:3::2\"\n",
            "  addresses: [\"10.88.0.3\", \"fd88::3\"]\n",
            "  prefixes: [\"10.88.3.0/24\", \"fd88:0:0:3::/64\"]\n",
            "  wireguard: {publicKey: C}\n",
        );
        assert_eq!(documents[3], expected);
    }

    #[test]
    fn wishes_and_the_common_prefix_are_the_nodes_own() {
        let wishes = wishes::mixed(&[Encapsulation::Plain], 3).remove(0);
        let documents = documents(&wishes, true);
        let with = |text: &str| -> Vec<bool> {
            let all = documents.iter().map(|document| document.contains(text));
            all.collect()
        };
        assert_eq!(with("encapsulation: auto"), [true, false, false, false]);
        assert_eq!(with("encapsulation: none"), [false, true, false, false]);
        assert_eq!(
            with("\"10.88.200.0/24\", \"fd88:0:0:c8::/64\"]"),
            [false, true, true, false]
        );
    }
}
