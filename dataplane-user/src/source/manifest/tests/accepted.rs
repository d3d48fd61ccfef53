//! The resources of valid manifests: every field and every default.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::net::Encapsulation;
use crate::net::{Family, LinkName, NetworkName, NodeName, PortRange};
use crate::resource::network::{AllDown, UdpChecksum};
use crate::resource::node::{Endpoint, Host, Underlay};
use crate::resource::{
    AdvertisedPrefix, Bfd, Dataplane, FirewallOptions, Network, NetworkRoutes, Node, Ports, SourceProtection,
    WireGuardPeer,
};

fn minimal_network() -> Network {
    Network {
        name: NetworkName::new("net").unwrap(),
        prefixes: ["10.0.0.0/8", "fd00::/16"]
            .map(|prefix| prefix.parse().unwrap())
            .into(),
        encapsulation: None,
        dataplane: Dataplane::Ebpf,
        routes: NetworkRoutes::default(),
        vni: 1,
        ports: Ports {
            geneve: 6081,
            vxlan: 4789,
            wireguard: 51820,
            vxlan_source: None,
        },
        underlay_family: Family::Ipv4,
        mtu: None,
        source_protection: SourceProtection::Enforce,
        health: None,
        all_down: AllDown::Unreachable,
        ttl: 64,
        dscp: None,
        df: false,
        udp_checksum: None,
        masquerade: None,
        firewall: FirewallOptions::default(),
    }
}

fn minimal_node() -> Node {
    Node {
        name: NodeName::new("a").unwrap(),
        networks: BTreeSet::from([NetworkName::new("net").unwrap()]),
        underlay: Underlay {
            ipv4: Some([192, 0, 2, 1].into()),
            ipv6: None,
        },
        addresses: vec!["10.0.0.1".parse().unwrap()],
        prefixes: Vec::new(),
        wireguard: None,
        encapsulation: None,
        dataplane: None,
        drain: false,
        return_path: BTreeSet::new(),
    }
}

#[track_caller]
fn network(fields: &str) -> Network {
    let resources = read_one(&format!("{NETWORK}{fields}")).unwrap();
    resources.networks["net"].clone()
}

#[track_caller]
fn node(fields: &str) -> Node {
    let resources = read_one(&format!("{NETWORK}{NODE}{fields}")).unwrap();
    resources.nodes["a"].clone()
}

#[test]
fn absent_fields_have_their_defaults() {
    assert_eq!(network(""), minimal_network());
    assert_eq!(node(""), minimal_node());
    // A field without a value counts as absent.
    assert_eq!(
        network("  vni:\n  ttl: ~\n  masquerade: null\n  health: {}\n"),
        minimal_network()
    );
    assert_eq!(node("  prefixes:\n  wireguard: ~\n"), minimal_node());
    // The defaults, written.
    let defaults = "  encapsulation: auto\n  dataplane: ebpf\n  routes: {table: main, resilient: false}\n  vni: 1\n  ports: {geneve: 6081, vxlan: 4789}\n  \
        underlayFamily: ipv4\n  mtu: 0\n  sourceProtection: enforce\n  allDown: unreachable\n  ttl: 64\n  \
        dscp: inherit\n  df: false\n";
    assert_eq!(network(defaults), minimal_network());
    assert_eq!(
        node("  prefixes: []\n  encapsulation: auto\n  drain: false\n"),
        minimal_node()
    );
    assert_eq!(node("  dataplane: routes\n").dataplane, Some(Dataplane::Routes));
}

#[test]
fn fields_without_effect_are_reported_with_their_position() {
    let without_effect = |network: &str, node: &str| {
        let resources = read_one(&format!("{NETWORK}{network}{NODE}{node}")).unwrap();
        let written = resources.without_effect.into_iter();
        written
            .map(|(object, field)| format!("{object} {field}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(without_effect("  vni: 7\n  health:\n", ""), [""; 0]);
    let all = without_effect(
        "  sourceProtection: enforce\n  allDown: unreachable\n  health: {bfd: {}}\n",
        "  drain: false\n",
    );
    let expected = [
        "TunnelNetwork/net allDown",
        "TunnelNetwork/net health",
        "TunnelNetwork/net sourceProtection",
        "TunnelNode/a drain",
    ];
    assert_eq!(all, expected);
}

#[test]
fn every_field_of_a_network_is_accepted() {
    let fields = "  encapsulation: vxlan\n  dataplane: routes\n  routes: {table: 1730, resilient: true}\n  vni: 16777215\n  \
        ports: {geneve: 1, vxlan: 2, wireguard: 3, vxlanSource: 49152-65535}\n  underlayFamily: ipv6\n  mtu: 1280\n  sourceProtection: off\n  \
        health: {bfd: {interval: 2s, multiplier: 5, keyFile: /k}}\n  allDown: keep\n  ttl: 255\n  dscp: 46\n  \
        df: true\n  udpChecksum: compute\n  masquerade: {exclude: [192.168.0.0/16]}\n";
    let want = Network {
        encapsulation: Some(Encapsulation::Vxlan),
        dataplane: Dataplane::Routes,
        routes: NetworkRoutes {
            table: 1730,
            resilient: true,
        },
        vni: 0x00ff_ffff,
        ports: Ports {
            geneve: 1,
            vxlan: 2,
            wireguard: 3,
            vxlan_source: PortRange::new(49152, 65535),
        },
        underlay_family: Family::Ipv6,
        mtu: Some(1280),
        source_protection: SourceProtection::Off,
        health: Some(Bfd {
            interval: Duration::from_secs(2),
            multiplier: 5,
            key_file: Some("/k".to_owned()),
        }),
        all_down: AllDown::Keep,
        ttl: 255,
        dscp: Some(46),
        df: true,
        udp_checksum: Some(UdpChecksum::Compute),
        masquerade: Some(BTreeSet::from(["192.168.0.0/16".parse().unwrap()])),
        ..minimal_network()
    };
    assert_eq!(network(fields), want);
    let bfd = network("  health: {bfd: {}}\n").health.unwrap();
    assert_eq!(
        (bfd.interval, bfd.multiplier, bfd.key_file),
        (Duration::from_millis(300), 3, None)
    );
    assert_eq!(
        network("  udpChecksum: zero\n").udp_checksum,
        Some(UdpChecksum::Zero)
    );
    assert_eq!(
        network("  sourceProtection: log\n").source_protection,
        SourceProtection::Log
    );
    assert_eq!(network("  masquerade: {}\n").masquerade, Some(BTreeSet::new()));
    let firewall = "  firewall:\n    clampMss: false\n    acceptForward: false\n    notrack: [wireguard]\n    \
        protectPorts: true\n    managementPorts: [22, 6443]\n    dropCleartext: false\n";
    let want = FirewallOptions {
        clamp_mss: false,
        accept_forward: false,
        notrack: BTreeSet::from([Encapsulation::WireGuard]),
        protect_ports: true,
        management_ports: BTreeSet::from([22, 6443]),
        drop_cleartext: Some(false),
    };
    assert_eq!(network(firewall).firewall, want);
    assert_eq!(network("  firewall: {}\n").firewall, FirewallOptions::default());
    let none = network("  firewall: {notrack: [], managementPorts: []}\n").firewall;
    assert!(none.notrack.is_empty() && none.management_ports.is_empty());
    // The default of `dropCleartext` is whether `sourceProtection` is `enforce`.
    for (fields, dropped) in [
        ("", true),
        ("  sourceProtection: log\n", false),
        (
            "  sourceProtection: log\n  firewall: {dropCleartext: true}\n",
            true,
        ),
        ("  firewall: {dropCleartext: false}\n", false),
    ] {
        assert_eq!(network(fields).drops_cleartext(), dropped, "{fields}");
    }
}

#[test]
fn every_field_of_a_node_is_accepted() {
    let key = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
    let fields = format!(
        "  prefixes: [10.1.0.0/16, {{cidr: 10.2.0.0/16, weight: 255, tier: 7}}]\n  encapsulation: none\n  drain: true\n  \
         firewall: {{returnPath: [wg0, eth1]}}\n  \
         wireguard: {{publicKey: {key}, endpoint: 'host.example:51820', keepalive: 25s, presharedKeyFile: /k}}\n"
    );
    let advertised = |cidr: &str, weight, tier| AdvertisedPrefix {
        cidr: cidr.parse().unwrap(),
        weight,
        tier,
    };
    let want = Node {
        prefixes: vec![advertised("10.1.0.0/16", 1, 0), advertised("10.2.0.0/16", 255, 7)],
        wireguard: Some(WireGuardPeer {
            next_public_key: None,
            public_key: key.parse().unwrap(),
            endpoint: Some(Endpoint {
                host: Host::Name("host.example".to_owned()),
                port: 51820,
            }),
            keepalive_seconds: Some(25),
            preshared_key_file: Some("/k".to_owned()),
        }),
        encapsulation: Some(Encapsulation::None),
        drain: true,
        return_path: ["eth1", "wg0"].map(LinkName::constant).into(),
        ..minimal_node()
    };
    assert_eq!(node(&fields), want);
    for (keepalive, seconds) in [
        ("off", None),
        ("0", None),
        ("25", Some(25)),
        ("2m", Some(120)),
        ("~", None),
    ] {
        let peer = node(&format!(
            "  wireguard: {{publicKey: {key}, keepalive: {keepalive}}}\n"
        ))
        .wireguard;
        assert_eq!(peer.unwrap().keepalive_seconds, seconds, "{keepalive}");
    }
    for endpoint in ["192.0.2.1:1", "[2001:db8::1]:65535", "a:1", "a-b.c:51820"] {
        let peer = node(&format!(
            "  wireguard: {{publicKey: {key}, endpoint: '{endpoint}'}}\n"
        ))
        .wireguard;
        let taken = peer.unwrap().endpoint.unwrap();
        assert_eq!(taken.to_string(), endpoint);
    }
}

#[test]
fn output_of_kubectl_is_accepted() {
    let text = format!("{NETWORK}status:\n  conditions: [{{type: Ready}}]\n").replace(
        "  name: net\n",
        "  name: net\n  uid: x\n  generation: 1\n  resourceVersion: '7'\n  creationTimestamp: '2026-01-01T00:00:00Z'\n  \
         labels: {a: b}\n  annotations: {c: d}\n  managedFields: [{manager: kubectl}]\n",
    );
    assert_eq!(read_one(&text).unwrap().networks["net"], minimal_network());
    let indented = NETWORK
        .lines()
        .map(|line| format!("  {line}\n"))
        .collect::<String>();
    let list = format!(
        "apiVersion: v1\nkind: List\nmetadata: {{resourceVersion: ''}}\nitems:\n-{}",
        &indented[1..]
    );
    assert_eq!(read_one(&list).unwrap().networks["net"], minimal_network());
}

#[test]
fn json_is_accepted_and_its_errors_have_positions() {
    let json = "{\n\t\"apiVersion\": \"adit.dev/v1alpha1\", \"kind\": \"TunnelNetwork\",\n\t\"metadata\": {\"name\": \"net\"},\n\t\"spec\": {\"prefixes\": [\"10.0.0.0\\/8\", \"fd00::/16\"]}\n}\n";
    assert_eq!(read_one(json).unwrap().networks["net"], minimal_network());
    rejected(
        &json.replace("10.0.0.0", "10.0.0.1"),
        &["a.yaml:4:24: spec.prefixes[0]: `10.0.0.1/8` has host bits set; write `10.0.0.0/8`"],
    );
}

#[test]
fn large_sets_are_accepted() {
    let nodes = (0..5000_u32).map(|index| {
        let (high, low) = (index >> 8, index & 0xff);
        NODE.replace("name: a", &format!("name: node-{index}"))
            .replace("192.0.2.1", &format!("172.16.{high}.{low}"))
            .replace("10.0.0.1", &format!("10.0.{high}.{low}"))
    });
    let text = format!("{NETWORK}{}", nodes.collect::<String>());
    assert_eq!(read_one(&text).unwrap().nodes.len(), 5000);
}

#[test]
fn every_example_loads() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let resources = crate::source::load(std::slice::from_ref(&path));
            let resources = resources.unwrap_or_else(|errors| panic!("{errors}"));
            assert!(
                resources.nodes.len() >= 2 && !resources.networks.is_empty()
                    || !resources.netlink.interfaces.is_empty()
                    || !resources.netlink.wireguard.is_empty(),
                "{}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen >= 2);
}
