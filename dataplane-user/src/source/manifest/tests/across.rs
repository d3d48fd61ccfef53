//! Contradictions between manifests.

use super::*;

/// Another network beside `net`, on disjoint prefixes.
fn other_network() -> String {
    let other = NETWORK.replace("name: net", "name: other");
    format!(
        "---\n{}",
        other
            .replace("10.0.0.0/8", "172.16.0.0/12")
            .replace("fd00", "fc00")
    )
}

#[test]
fn names_are_given_once() {
    rejected(
        &format!("{NETWORK}{NODE}{NODE}---\n{NETWORK}"),
        &[
            "a.yaml:20:9: metadata.name: a TunnelNode named `a` is already declared at a.yaml:11:9; rename one of them",
            "a.yaml:29:9: metadata.name: a TunnelNetwork named `net` is already declared at a.yaml:4:9; rename one of them",
        ],
    );
    // A node and a network may share one.
    assert_eq!(
        errors(&format!("{NETWORK}{}", NODE.replace("name: a", "name: net"))),
        [""; 0]
    );
}

#[test]
fn networks_are_disjoint() {
    let other = NETWORK
        .replace("name: net", "name: all")
        .replace("10.0.0.0/8", "8.0.0.0/5");
    rejected(
        &format!("{NETWORK}---\n{other}"),
        &[
            "a.yaml:13:14: spec.prefixes[0]: `8.0.0.0/5` overlaps `10.0.0.0/8` of TunnelNetwork `net` at a.yaml:6:14; prefixes of networks must be disjoint",
            "a.yaml:13:25: spec.prefixes[1]: `fd00::/16` overlaps `fd00::/16` of TunnelNetwork `net` at a.yaml:6:26; prefixes of networks must be disjoint",
        ],
    );
}

#[test]
fn networks_share_their_ports() {
    rejected(
        &format!("{NETWORK}{}  ports: {{geneve: 6082}}\n", other_network()),
        &[
            "a.yaml:14:10: spec.ports: the port of geneve is 6082 here and 6081 in TunnelNetwork `net` at a.yaml:6:3; give both the same, because networks share devices",
        ],
    );
    rejected(
        &format!("{NETWORK}{}  ports: {{vxlanSource: 1-9}}\n", other_network()),
        &[
            "a.yaml:14:10: spec.ports: vxlanSource differs from that of TunnelNetwork `net` at a.yaml:6:3; give both the same, because networks share devices",
        ],
    );
    let ports = "  ports: {geneve: 6082}\n";
    assert_eq!(
        errors(&format!("{NETWORK}{ports}{}{ports}", other_network())),
        [""; 0]
    );
}

#[test]
fn devices_of_a_node_share_neither_ports_nor_vnis() {
    let object = |kind: &str, name: &str, spec: &str| {
        format!(
            "---\napiVersion: adit.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: {name}\nspec: {{node: a, {spec}}}\n"
        )
    };
    let interface = |name: &str, spec: &str| object("NetlinkInterface", name, spec);
    let wireguard = |name: &str, spec: &str| object("WireGuardInterface", name, spec);
    let second = NODE
        .replace("name: a", "name: b")
        .replace("192.0.2.1", "192.0.2.2")
        .replace("10.0.0.1", "10.0.0.2");
    let overlay = format!("{NETWORK}  encapsulation: geneve\n{NODE}{second}");
    for (one, two, what) in [
        (
            interface("one", "type: vxlan, vni: 7, dstport: 4790"),
            interface("two", "type: vxlan, vni: 7, dstport: 4790"),
            "VNI 7 at UDP port 4790",
        ),
        (
            interface("one", "type: vxlan, vni: 7, dstport: 4790"),
            interface("two", "type: geneve, id: 7, remote: 192.0.2.9, dstport: 4790"),
            "UDP port 4790",
        ),
        (
            interface("one", "type: vxlan, vni: 7, dstport: 4790"),
            wireguard("wg0", "namespace: {name: blue}, listenPort: 4790"),
            "UDP port 4790",
        ),
        (
            wireguard("wg0", "listenPort: 4790"),
            wireguard("wg1", "listenPort: 4790"),
            "UDP port 4790",
        ),
        (
            overlay.clone(),
            wireguard("wg0", "listenPort: 6081"),
            "UDP port 6081",
        ),
        (
            overlay,
            interface("one", "type: geneve, id: 7, remote: 192.0.2.9"),
            "UDP port 6081",
        ),
    ] {
        let found = errors(&format!("{one}{two}"));
        let [error] = &found[..] else {
            panic!("{found:?}");
        };
        let expected = format!("{what} of node `a` is already used by ");
        assert!(
            error.contains(&expected) && error.contains("at a.yaml:"),
            "{error}"
        );
    }
    for (one, two, what) in [
        (
            interface("b1", "type: bridge, ports: [d]"),
            interface("b2", "type: bridge, ports: [d]"),
            "already a port of",
        ),
        (
            interface("b1", "type: bridge, ports: [wg0]"),
            wireguard("wg0", "listenPort: 1"),
            "can't be a port of a bridge",
        ),
    ] {
        let found = errors(&format!("{one}{two}"));
        assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
    }
    // Devices of one type share a port, and devices in another namespace or on another node do not conflict.
    let apart = [
        interface("one", "type: vxlan, vni: 7, dstport: 4790"),
        interface("two", "type: vxlan, vni: 8, dstport: 4790"),
        interface(
            "three",
            "namespace: {name: blue}, type: geneve, id: 7, remote: 192.0.2.9, dstport: 4790",
        ),
        wireguard("wg0", "listenPort: 4790").replace("node: a", "node: b"),
    ];
    assert_eq!(errors(&apart.concat()), [""; 0]);
}

#[test]
fn nodes_share_no_address() {
    let other = NODE.replace("name: a", "name: b");
    rejected(
        &format!("{NETWORK}{NODE}{other}"),
        &[
            "a.yaml:23:20: spec.underlay.ipv4: `192.0.2.1` is already the underlay address of TunnelNode `a`, at a.yaml:14:20; choose another",
            "a.yaml:24:15: spec.addresses[0]: `10.0.0.1` is already the address of TunnelNode `a`, at a.yaml:15:15; choose another",
        ],
    );
}

#[test]
fn nodes_share_no_key() {
    let key = "  wireguard: {publicKey: HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=}\n";
    let other = NODE
        .replace("name: a", "name: b")
        .replace("192.0.2.1", "192.0.2.2")
        .replace("10.0.0.1", "10.0.0.2");
    rejected(
        &format!("{NETWORK}{NODE}{key}{other}{key}"),
        &[
            "a.yaml:21:9: metadata.name: `b` has the same spec.wireguard.publicKey as TunnelNode `a`, at a.yaml:11:9; give each node its own key",
        ],
    );
}

#[test]
fn names_that_hash_to_one_mac_are_refused() {
    let one = NODE.replace("name: a", "name: node-450358");
    let two = NODE
        .replace("name: a", "name: node-1552295")
        .replace("192.0.2.1", "192.0.2.2")
        .replace("10.0.0.1", "10.0.0.2");
    rejected(
        &format!("{NETWORK}{one}{two}"),
        &[
            "a.yaml:20:9: metadata.name: the name `node-1552295` results in the same MAC address 02:1f:35:b3:51:a5 as TunnelNode `node-450358` at a.yaml:11:9; rename one of them",
        ],
    );
}

#[test]
fn a_node_has_an_address_in_each_of_its_networks() {
    let node = NODE.replace("network: net", "network: [net, other]");
    rejected(
        &format!("{NETWORK}{}{node}", other_network()),
        &[
            "a.yaml:22:14: spec.addresses: no address of the node is in TunnelNetwork `other`; give an address in 172.16.0.0/12, fc00::/16",
        ],
    );
}

#[test]
fn a_broken_reference_is_reported_once() {
    // The network of the node is rejected. An error that it is unknown would be misleading.
    let broken = NETWORK.replace("10.0.0.0/8", "10.0.0.1/8");
    assert_eq!(errors(&format!("{broken}{NODE}")).len(), 1);
    let nameless = NETWORK.replace("name: net", "name: NET");
    assert_eq!(errors(&format!("{nameless}{NODE}")).len(), 1);
    // A file that can't be read may contain the network.
    let node = ManifestFile {
        name: "b.yaml".into(),
        text: NODE.to_owned(),
    };
    assert!(read(std::slice::from_ref(&node), false).is_ok());
    assert!(read(&[node], true).is_err());
}
