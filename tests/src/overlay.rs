//! The manifests of an overlay network over a topology's hosts.

use std::fmt::Write as _;

use dataplane_user::net::{Family, PublicKey};

use crate::topology::{Host, Topology};

/// The table of the network beside.
pub const BESIDE: u32 = 1731;

/// What the manifests say; [`Overlay::new`] has all hosts in one network.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The network's encapsulation.
    pub encapsulation: &'static str,
    /// The underlay's family.
    pub underlay: Family,
    /// The network's VNI.
    pub vni: u32,
    /// Further lines of the network's spec, such as `mtu: 1300`.
    pub network: Vec<&'static str>,
    /// The hosts that are in it, by their names.
    pub members: Vec<&'static str>,
    /// The members that carry the shared prefixes.
    pub shared: Vec<&'static str>,
    /// Weights of members that carry the shared prefixes, where they aren't 1.
    pub weights: Vec<(&'static str, u8)>,
    /// The encapsulation that a member wants of its links.
    pub wishes: Vec<(&'static str, &'static str)>,
    /// What carries a member's packets, where that is not the network's.
    pub dataplanes: Vec<(&'static str, &'static str)>,
    /// Whether all are in a second network too, whose packets go by routes in a table of its own.
    pub beside: bool,
    /// The members that have a WireGuard key, and further fields of theirs, such as `keepalive: 25s`.
    pub keys: Vec<(&'static str, String)>,
    /// The public keys of those whose key is not the host's.
    pub public_keys: Vec<(&'static str, PublicKey)>,
}

impl Overlay {
    /// All hosts in one network.
    #[must_use]
    pub fn new<const N: usize>(topology: &Topology<N>, encapsulation: &'static str) -> Overlay {
        Overlay {
            encapsulation,
            underlay: Family::Ipv4,
            vni: 4711,
            network: Vec::new(),
            members: topology.hosts.iter().map(|host| host.name).collect(),
            shared: Vec::new(),
            weights: Vec::new(),
            wishes: Vec::new(),
            dataplanes: Vec::new(),
            beside: false,
            keys: topology
                .hosts
                .iter()
                .map(|host| (host.name, String::new()))
                .collect(),
            public_keys: Vec::new(),
        }
    }

    /// The manifests.
    #[must_use]
    pub fn manifests<const N: usize>(&self, topology: &Topology<N>) -> String {
        let family = name(self.underlay);
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
        let members = topology
            .hosts
            .iter()
            .filter(|host| self.members.contains(&host.name));
        members.for_each(|host| text.push_str(&self.node(host)));
        text
    }

    fn node(&self, host: &Host) -> String {
        let mut prefixes = host.prefixes().map(|prefix| format!("\"{prefix}\"")).to_vec();
        if self.shared.contains(&host.name) {
            let weight = self.weights.iter().find(|(name, _)| *name == host.name);
            let weight = weight.map_or(1, |(_, weight)| *weight);
            let mut shared = vec!["10.9.0.0/16", "fd00:9::/32"];
            if self.beside {
                shared.extend(["172.30.200.0/24", "fd30:0:200::/48"]);
            }
            let weighted = |cidr: &str| format!("{{cidr: \"{cidr}\", weight: {weight}}}");
            prefixes.extend(shared.into_iter().map(weighted));
        }
        let wish = self.wishes.iter().find(|(name, _)| *name == host.name);
        let dataplane = self.dataplanes.iter().find(|(name, _)| *name == host.name);
        let key = self.keys.iter().find(|(name, _)| *name == host.name);
        let wireguard = key.map(|(_, fields)| {
            let changed = self.public_keys.iter().find(|(name, _)| *name == host.name);
            let key = changed.map_or_else(|| host.private_key().public_key(), |(_, key)| *key);
            format!("  wireguard: {{publicKey: \"{key}\", {fields}}}\n")
        });
        let ends = if self.beside {
            vec![host.end(), host.beside()]
        } else {
            vec![host.end()]
        };
        let addresses = ends
            .iter()
            .flat_map(|end| Family::BOTH.map(|family| format!("\"{}\"", end.address(family))))
            .collect::<Vec<_>>();
        format!(
            "---
apiVersion: adit.dev/v1alpha1
kind: TunnelNode
metadata: {{name: {}}}
spec:
  network: {}
  underlay: {{ipv4: {}, ipv6: \"{}\"}}
  addresses: [{}]
  prefixes: [{}]
{}{}{}",
            host.name,
            if self.beside { "[net, beside]" } else { "net" },
            host.underlay(Family::Ipv4),
            host.underlay(Family::Ipv6),
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

/// As manifests say it.
fn name(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    }
}
