//! The manifests of an overlay network over the hosts of a topology.

use std::fmt::Write as _;

use dataplane_user::net::{Family, PublicKey};

use crate::topology::{Node, SHARED_PREFIXES, of_family};

/// The table of the second network.
pub const BESIDE: u32 = 1731;

/// The content of the manifests; [`Overlay::new`] puts all hosts into one network.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The encapsulation of the network.
    pub encapsulation: &'static str,
    /// The family of the underlay.
    pub underlay: Family,
    /// The VNI of the network.
    pub vni: u32,
    /// Additional lines for the spec of the network, such as `mtu: 1300`.
    pub network: Vec<&'static str>,
    /// The names of the hosts in the network.
    pub members: Vec<&'static str>,
    /// The members that advertise the shared prefixes.
    pub shared: Vec<&'static str>,
    /// The weights of members that advertise the shared prefixes, if they are not 1.
    pub weights: Vec<(&'static str, u8)>,
    /// The encapsulation that a member asks for.
    pub requested: Vec<(&'static str, &'static str)>,
    /// The dataplane of a member, if it differs from the one of the network.
    pub dataplanes: Vec<(&'static str, &'static str)>,
    /// Whether all members are also in a second network, with dataplane `routes` and a separate table.
    pub beside: bool,
    /// The members that have a WireGuard key, with additional fields, such as `keepalive: 25s`.
    pub keys: Vec<(&'static str, String)>,
    /// The public keys of members whose key differs from the one of the host.
    pub public_keys: Vec<(&'static str, PublicKey)>,
}

impl Overlay {
    /// Puts all hosts into one network.
    #[must_use]
    pub fn new<'a>(nodes: impl IntoIterator<Item = &'a Node>, encapsulation: &'static str) -> Overlay {
        let names = nodes.into_iter().map(|node| node.name).collect::<Vec<_>>();
        Overlay {
            encapsulation,
            underlay: Family::Ipv4,
            vni: 4711,
            network: Vec::new(),
            keys: names.iter().map(|name| (*name, String::new())).collect(),
            members: names,
            shared: Vec::new(),
            weights: Vec::new(),
            requested: Vec::new(),
            dataplanes: Vec::new(),
            beside: false,
            public_keys: Vec::new(),
        }
    }

    /// The manifests.
    #[must_use]
    pub fn manifests<'a>(&self, nodes: impl IntoIterator<Item = &'a Node>) -> String {
        let family = family_name(self.underlay);
        let mut text = format!(
            "apiVersion: adit.dev/v1alpha1
kind: TunnelNetwork
metadata: {{name: net}}
spec:
  prefixes: [10.0.0.0/8, \"fd00::/16\"]
  encapsulation: {}
  underlayFamily: {family}
  vni: {}
",
            self.encapsulation, self.vni
        );
        for line in &self.network {
            writeln!(text, "  {line}").expect("a string grows");
        }
        if self.beside {
            write!(
                text,
                "---
apiVersion: adit.dev/v1alpha1
kind: TunnelNetwork
metadata: {{name: beside}}
spec:
  prefixes: [172.30.0.0/16, \"fd30::/32\"]
  underlayFamily: {family}
  vni: {}
  dataplane: routes
  routes: {{table: {BESIDE}}}
",
                self.vni + 1
            )
            .expect("a string grows");
        }
        let members = nodes.into_iter().filter(|node| self.members.contains(&node.name));
        members.for_each(|node| text.push_str(&self.node(node)));
        text
    }

    fn node(&self, node: &Node) -> String {
        let mut prefixes = node.prefixes().map(|prefix| format!("\"{prefix}\"")).to_vec();
        if self.shared.contains(&node.name) {
            let weight = self.weights.iter().find(|(name, _)| *name == node.name);
            let weight = weight.map_or(1, |(_, weight)| *weight);
            let mut shared = SHARED_PREFIXES.to_vec();
            if self.beside {
                shared.extend(["172.30.200.0/24", "fd30:0:200::/48"]);
            }
            let weighted = |cidr: &str| format!("{{cidr: \"{cidr}\", weight: {weight}}}");
            prefixes.extend(shared.into_iter().map(weighted));
        }
        let wish = self.requested.iter().find(|(name, _)| *name == node.name);
        let dataplane = self.dataplanes.iter().find(|(name, _)| *name == node.name);
        let key = self.keys.iter().find(|(name, _)| *name == node.name);
        let wireguard = key.map(|(_, fields)| {
            let changed = self.public_keys.iter().find(|(name, _)| *name == node.name);
            let key = changed.map_or_else(|| node.private_key().public_key(), |(_, key)| *key);
            format!("  wireguard: {{publicKey: \"{key}\", {fields}}}\n")
        });
        let ends = if self.beside {
            vec![node.overlay(), node.overlay_beside()]
        } else {
            vec![node.overlay()]
        };
        let addresses = ends
            .iter()
            .flat_map(|end| Family::BOTH.map(|family| format!("\"{}\"", of_family(*end, family))))
            .collect::<Vec<_>>();
        let underlay = node
            .families
            .iter()
            .map(|family| format!("{}: \"{}\"", family_name(*family), node.underlay(*family)))
            .collect::<Vec<_>>();
        format!(
            "---
apiVersion: adit.dev/v1alpha1
kind: TunnelNode
metadata: {{name: {}}}
spec:
  network: {}
  underlay: {{{}}}
  addresses: [{}]
  prefixes: [{}]
{}{}{}",
            node.name,
            if self.beside { "[net, beside]" } else { "net" },
            underlay.join(", "),
            addresses.join(", "),
            prefixes.join(", "),
            wish.map(|(_, wish)| format!("  encapsulation: {wish}\n"))
                .unwrap_or_default(),
            dataplane
                .map(|(_, dataplane)| format!("  dataplane: {dataplane}\n"))
                .unwrap_or_default(),
            wireguard.unwrap_or_default(),
        )
    }
}

/// The name in manifests.
#[must_use]
pub fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(change: impl FnOnce(&mut Overlay)) -> Vec<String> {
        let mut nodes = Node::all().take(3).collect::<Vec<_>>();
        nodes[2].families = vec![Family::Ipv6];
        let mut overlay = Overlay::new(&nodes, "auto");
        change(&mut overlay);
        let text = overlay.manifests(&nodes);
        text.split("---\n").map(str::to_owned).collect()
    }

    #[test]
    fn a_node_declares_its_addresses_and_prefixes() {
        let documents = documents(|overlay| {
            overlay.encapsulation = "vxlan";
            overlay.keys.clear();
        });
        assert_eq!(documents.len(), 4);
        assert!(documents[0].contains("encapsulation: vxlan\n  underlayFamily: ipv4\n  vni: 4711\n"));
        let expected = concat!(
            "apiVersion: adit.dev/v1alpha1\nkind: TunnelNode\nmetadata: {name: c}\nspec:\n",
            "  network: net\n  underlay: {ipv6: \"2001:db8:0:3::2\"}\n",
            "  addresses: [\"10.3.0.1\", \"fd00:3::1\"]\n",
            "  prefixes: [\"10.3.1.0/24\", \"fd00:3:1::/64\"]\n",
        );
        assert_eq!(documents[3], expected);
    }

    #[test]
    fn encapsulations_and_shared_prefixes_are_per_node() {
        let documents = documents(|overlay| {
            overlay.requested = vec![("a", "none")];
            overlay.shared = vec!["a", "b"];
        });
        let with = |text: &str| -> Vec<bool> {
            let all = documents.iter().map(|document| document.contains(text));
            all.collect()
        };
        assert_eq!(with("encapsulation: auto"), [true, false, false, false]);
        assert_eq!(with("encapsulation: none"), [false, true, false, false]);
        assert_eq!(
            with("{cidr: \"10.9.0.0/16\", weight: 1}, {cidr: \"fd00:9::/32\", weight: 1}]"),
            [false, true, true, false]
        );
    }
}
