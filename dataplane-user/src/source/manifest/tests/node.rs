//! The rules of the fields of TunnelNode.

use super::*;

const KEY: &str = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";

/// The network and the node with this field as the last line, and the number of that line. A former value of
/// the field is removed.
fn with(field: &str) -> (String, usize) {
    let name = field.split(':').next().unwrap();
    let rest = NODE
        .lines()
        .filter(|line| !line.starts_with(&format!("  {name}:")))
        .collect::<Vec<_>>()
        .join("\n");
    let before = format!("{NETWORK}{rest}\n");
    let line = before.lines().count() + 1;
    (format!("{before}  {field}\n"), line)
}

#[test]
fn a_nodes_fields_are_checked() {
    for (field, error) in [
        (
            "network: nett",
            "12: spec.network: no TunnelNetwork is named `nett`; did you mean `net`?",
        ),
        (
            "network: office",
            "12: spec.network: no TunnelNetwork is named `office`; known: net",
        ),
        (
            "network: []",
            "12: spec.network: empty; give the name of at least one TunnelNetwork",
        ),
        (
            "network: 3",
            "12: spec.network: expected text, found an integer; put it in quotes",
        ),
        (
            "network: [net, net]",
            "18: spec.network[1]: `net` is given twice, first at a.yaml:15:13",
        ),
        (
            "underlay: {}",
            "13: spec.underlay: empty; give `ipv4`, `ipv6` or both",
        ),
        (
            "underlay: 10.0.0.1",
            "13: spec.underlay: expected a map, found text",
        ),
        (
            "underlay: {ipv4: 127.0.0.1}",
            "20: spec.underlay.ipv4: `127.0.0.1` is loopback; expected a unicast address",
        ),
        (
            "underlay: {ipv4: 0.0.0.0}",
            "20: spec.underlay.ipv4: `0.0.0.0` is unspecified; expected a unicast address",
        ),
        (
            "underlay: {ipv4: 224.0.0.1}",
            "20: spec.underlay.ipv4: `224.0.0.1` is multicast; expected a unicast address",
        ),
        (
            "underlay: {ipv4: 255.255.255.255}",
            "20: spec.underlay.ipv4: `255.255.255.255` is reserved; expected a unicast address",
        ),
        (
            "underlay: {ipv4: 'fd00::1'}",
            "20: spec.underlay.ipv4: `fd00::1` is an IPv6 address; give it as `ipv6`",
        ),
        (
            "underlay: {ipv6: 192.0.2.1}",
            "20: spec.underlay.ipv6: `192.0.2.1` is an IPv4 address; give it as `ipv4`",
        ),
        (
            "underlay: {ipv6: 'fe80::1'}",
            "20: spec.underlay.ipv6: `fe80::1` is link-local; expected a unicast address",
        ),
        (
            "underlay: {ipv4: host}",
            "20: spec.underlay.ipv4: `host` is not an IP address; expected for example `192.0.2.1` or `2001:db8::1`",
        ),
        (
            "addresses: []",
            "14: spec.addresses: no address of the node is in TunnelNetwork `net`; give an address in 10.0.0.0/8, fd00::/16",
        ),
        (
            "addresses: [10.0.0.1/8]",
            "15: spec.addresses[0]: `10.0.0.1/8` has a prefix length; write `10.0.0.1`",
        ),
        (
            "addresses: [10.0.0.1, 11.0.0.1]",
            "25: spec.addresses[1]: `11.0.0.1` is not in the prefixes of TunnelNetwork `net`: 10.0.0.0/8, fd00::/16",
        ),
        (
            "addresses: [10.0.0.1, 10.0.0.1]",
            "25: spec.addresses[1]: `10.0.0.1` is given twice, first at a.yaml:15:15",
        ),
        (
            "prefixes: [11.0.0.0/8]",
            "14: spec.prefixes[0]: `11.0.0.0/8` is not in the prefixes of TunnelNetwork `net`: 10.0.0.0/8, fd00::/16",
        ),
        (
            "prefixes: [10.1.0.0/16, {cidr: 10.1.0.0/16}]",
            "27: spec.prefixes[1]: this node already advertises `10.1.0.0/16`, at a.yaml:16:14; remove one of them",
        ),
        (
            "prefixes: [10.1.0.1/16]",
            "14: spec.prefixes[0]: `10.1.0.1/16` has host bits set; write `10.1.0.0/16`",
        ),
        (
            "prefixes: [7]",
            "14: spec.prefixes[0]: expected a CIDR, or a map with `cidr`, found an integer",
        ),
        (
            "prefixes: [{tier: 1}]",
            "14: spec.prefixes[0].cidr: missing; give the prefix that the node advertises",
        ),
        (
            "prefixes: [{cidr: 10.1.0.0/16, weight: 0}]",
            "42: spec.prefixes[0].weight: 0 is out of range; expected an integer of 1 … 255",
        ),
        (
            "prefixes: [{cidr: 10.1.0.0/16, weight: 256}]",
            "42: spec.prefixes[0].weight: 256 is out of range; expected an integer of 1 … 255",
        ),
        (
            "prefixes: [{cidr: 10.1.0.0/16, tier: -1}]",
            "40: spec.prefixes[0].tier: -1 is out of range; expected an integer of 0 … 4294967295",
        ),
        (
            "encapsulation: wiregard",
            "18: spec.encapsulation: unknown value `wiregard`; did you mean `wireguard`?",
        ),
        (
            "firewall: {returnPaths: [eth1]}",
            "14: spec.firewall.returnPaths: unknown field; did you mean `returnPath`?",
        ),
        (
            "firewall: {returnPath: eth1}",
            "26: spec.firewall.returnPath: expected a list of devices, found text",
        ),
        (
            "firewall: {returnPath: [eth1, eth1]}",
            "33: spec.firewall.returnPath[1]: `eth1` is given twice",
        ),
        (
            "firewall: {returnPath: [a/b]}",
            "27: spec.firewall.returnPath[0]: `a/b` is not a valid link name: 1 to 15 bytes without `/`, `:` and white space",
        ),
        (
            "firewall: {returnPath: [adit-wg0]}",
            "27: spec.firewall.returnPath[0]: `adit-wg0` is a device of Adit, through which answers return anyway; remove it from the list",
        ),
        (
            "firewall: {returnPath: [lo]}",
            "27: spec.firewall.returnPath[0]: `lo` can't receive connections from other hosts; expected a device such as `eth1`",
        ),
        (
            "firewall: {returnPath: [e0, e1, e2, e3, e4, e5, e6, e7, e8, e9, e10, e11, e12, e13, e14, e15]}",
            "26: spec.firewall.returnPath: 16 devices; at most 15 are supported",
        ),
        (
            "drain: 1",
            "10: spec.drain: expected true or false, found an integer",
        ),
        (
            "networks: net",
            "3: spec.networks: unknown field; did you mean `network`?",
        ),
        (
            "wireguard: {}",
            "14: spec.wireguard.publicKey: missing; give the public key of the node",
        ),
    ] {
        let (text, line) = with(field);
        rejected(&text, &[&format!("a.yaml:{line}:{error}")]);
    }
}

#[test]
fn wireguard_fields_are_checked_and_keys_never_shown() {
    let secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0";
    for (field, error) in [
        (
            format!("publicKey: {secret}"),
            "26: spec.wireguard.publicKey: expected the base64 of 32 bytes (44 characters), as `wg pubkey` prints it",
        ),
        (
            // The padding bits must be zero.
            format!("publicKey: {}", KEY.replace("kw=", "kx=")),
            "26: spec.wireguard.publicKey: expected the base64 of 32 bytes (44 characters), as `wg pubkey` prints it",
        ),
        (
            format!("publicKey: {KEY}, presharedKeyFile: {secret}"),
            "90: spec.wireguard.presharedKeyFile: expected an absolute path, for example `/etc/adit/key`",
        ),
        (
            format!("publicKey: {KEY}, privateKey: {secret}"),
            "72: spec.wireguard.privateKey: unknown field; known: publicKey, nextPublicKey, endpoint, keepalive, presharedKeyFile",
        ),
        (
            format!("publicKey: {KEY}, keepalive: 25ms"),
            "83: spec.wireguard.keepalive: out of range; expected `off` or whole seconds, at most `65535s`",
        ),
        (
            format!("publicKey: {KEY}, keepalive: 65536"),
            "83: spec.wireguard.keepalive: 65536 is out of range; expected an integer of 0 … 65535",
        ),
    ] {
        let (text, line) = with(&format!("wireguard: {{{field}}}"));
        let lines = errors(&text);
        assert_eq!(lines, [format!("a.yaml:{line}:{error}")], "{field}");
        assert!(!lines[0].contains(secret));
    }
    for endpoint in [
        "1.2.3.4",
        "1.2.3:80",
        "host:0",
        "host:65536",
        "host:+1",
        ":80",
        "[::1]:80",
        "-a:1",
        "a b:1",
    ] {
        let (text, _) = with(&format!(
            "wireguard: {{publicKey: {KEY}, endpoint: '{endpoint}'}}"
        ));
        let lines = errors(&text);
        assert_eq!(lines.len(), 1, "{endpoint}: {lines:?}");
        assert!(lines[0].contains(": spec.wireguard.endpoint: "), "{lines:?}");
    }
}
