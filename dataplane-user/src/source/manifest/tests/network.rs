//! The rules of the fields of TunnelNetwork: a field on line 7 and the expected error.

use super::*;

#[test]
fn a_networks_fields_are_checked() {
    for (field, error) in [
        (
            "vni: 0",
            "8: spec.vni: 0 is out of range; expected an integer of 1 … 16777215",
        ),
        (
            "vni: 16777216",
            "8: spec.vni: 16777216 is out of range; expected an integer of 1 … 16777215",
        ),
        (
            "vni: one",
            "8: spec.vni: expected an integer of 1 … 16777215, found text",
        ),
        ("vnii: 3", "3: spec.vnii: unknown field; did you mean `vni`?"),
        (
            "dscp: 64",
            "9: spec.dscp: 64 is out of range; expected an integer of 0 … 63",
        ),
        (
            "dscp: inherited",
            "9: spec.dscp: unknown value `inherited`; did you mean `inherit`?",
        ),
        (
            "ttl: 0",
            "8: spec.ttl: 0 is out of range; expected an integer of 1 … 255",
        ),
        (
            "ttl: 256",
            "8: spec.ttl: 256 is out of range; expected an integer of 1 … 255",
        ),
        (
            "ttl: 3.5",
            "8: spec.ttl: expected an integer of 1 … 255, found a number that is not an integer",
        ),
        (
            "mtu: 1279",
            "8: spec.mtu: 1279 is out of range; expected 0 (detected) or 1280 … 65535, because IPv6 needs at least 1280",
        ),
        (
            "mtu: 65536",
            "8: spec.mtu: 65536 is out of range; expected an integer of 0 … 65535",
        ),
        (
            "mtu: -1",
            "8: spec.mtu: -1 is out of range; expected an integer of 0 … 65535",
        ),
        ("df: yes", "7: spec.df: expected true or false, found text"),
        (
            "dataplane: bpf",
            "14: spec.dataplane: unknown value `bpf`; did you mean `ebpf`?",
        ),
        (
            "underlayFamily: v6",
            "19: spec.underlayFamily: unknown value `v6`; known: ipv4, ipv6",
        ),
        (
            "udpChecksum: computed",
            "16: spec.udpChecksum: unknown value `computed`; did you mean `compute`?",
        ),
        (
            "allDown: drop",
            "12: spec.allDown: unknown value `drop`; known: unreachable, keep",
        ),
        (
            "encapsulation: genev",
            "18: spec.encapsulation: unknown value `genev`; did you mean `geneve`?",
        ),
        (
            "encapsulation: [geneve]",
            "18: spec.encapsulation: expected one of auto, wireguard, geneve, vxlan, ipip, none, found a list",
        ),
        (
            "sourceProtection: false",
            "21: spec.sourceProtection: expected one of off, log, enforce, found `false`",
        ),
        (
            "ports: {geneve: 0}",
            "19: spec.ports.geneve: 0 is out of range; expected an integer of 1 … 65535",
        ),
        (
            "ports: {vxlan: 65536}",
            "18: spec.ports.vxlan: 65536 is out of range; expected an integer of 1 … 65535",
        ),
        (
            "ports: {geneve: 4789}",
            "10: spec.ports: two encapsulations have the same port; give each a different one",
        ),
        (
            "ports: {ipip: 4}",
            "11: spec.ports.ipip: unknown field; known: geneve, vxlan, wireguard, vxlanSource",
        ),
        (
            "ports: {vxlanSource: 9-8}",
            "24: spec.ports.vxlanSource: `9-8` is not a port range; expected MIN-MAX, such as 49152-65535",
        ),
        ("health: 3s", "11: spec.health: expected a map, found text"),
        (
            "health: {bdf: {}}",
            "12: spec.health.bdf: unknown field; did you mean `bfd`?",
        ),
        (
            "health: {bfd: {interval: 5}}",
            "28: spec.health.bfd.interval: expected a duration such as `300ms` or `5s`, found an integer",
        ),
        (
            "health: {bfd: {interval: 5 s}}",
            "28: spec.health.bfd.interval: `5 s` is not a duration; expected for example `300ms` or `5s`",
        ),
        (
            "health: {bfd: {interval: 1ms}}",
            "28: spec.health.bfd.interval: 1ms is out of range; expected 10ms … 60s",
        ),
        (
            "health: {bfd: {multiplier: 0}}",
            "30: spec.health.bfd.multiplier: 0 is out of range; expected an integer of 1 … 255",
        ),
        (
            "health: {bfd: {keyFile: c2VjcmV0}}",
            "27: spec.health.bfd.keyFile: expected an absolute path, for example `/etc/adit/key`",
        ),
        (
            "masquerade: true",
            "15: spec.masquerade: expected a map, found `true`",
        ),
        (
            "masquerade: {exclude: [10.0.0.1/8]}",
            "26: spec.masquerade.exclude[0]: `10.0.0.1/8` has host bits set; write `10.0.0.0/8`",
        ),
        ("firewall: on", "13: spec.firewall: expected a map, found text"),
        (
            "firewall: {clampMMS: true}",
            "14: spec.firewall.clampMMS: unknown field; did you mean `clampMss`?",
        ),
        (
            "firewall: {clampMss: yes}",
            "24: spec.firewall.clampMss: expected true or false, found text",
        ),
        (
            "firewall: {notrack: geneve}",
            "23: spec.firewall.notrack: expected a list of encapsulations, found text",
        ),
        (
            "firewall: {notrack: [ipip]}",
            "24: spec.firewall.notrack[0]: unknown value `ipip`; known: geneve, vxlan, wireguard",
        ),
        (
            "firewall: {managementPorts: [ssh]}",
            "32: spec.firewall.managementPorts[0]: expected an integer of 1 … 65535, found text",
        ),
        (
            "firewall: {managementPorts: [0]}",
            "32: spec.firewall.managementPorts[0]: 0 is out of range; expected an integer of 1 … 65535",
        ),
    ] {
        rejected(&format!("{NETWORK}  {field}\n"), &[&format!("a.yaml:7:{error}")]);
    }
}

#[test]
fn a_networks_prefixes_are_checked() {
    for (prefixes, error) in [
        ("[]", "13: spec.prefixes: empty; give at least one CIDR"),
        (
            "10.0.0.0/8",
            "13: spec.prefixes: expected a list of CIDRs, found text",
        ),
        ("~", "3: spec.prefixes: missing; give the CIDRs of the network"),
        (
            "[10.0.0.1/8]",
            "14: spec.prefixes[0]: `10.0.0.1/8` has host bits set; write `10.0.0.0/8`",
        ),
        (
            "['fd00::1/64']",
            "14: spec.prefixes[0]: `fd00::1/64` has host bits set; write `fd00::/64`",
        ),
        (
            "[10.0.0.1]",
            "14: spec.prefixes[0]: `10.0.0.1` has no prefix length; write `10.0.0.1/32` for this address alone",
        ),
        (
            "[10.0.0.0/33]",
            "14: spec.prefixes[0]: `10.0.0.0/33` is not a CIDR; expected for example `10.0.0.0/8` or `fd00::/48`, without leading zeros",
        ),
        (
            "[127.0.0.0/8]",
            "14: spec.prefixes[0]: `127.0.0.0/8` is loopback address space; expected a unicast prefix, for example `10.0.0.0/8`",
        ),
        (
            "['ff00::/8']",
            "14: spec.prefixes[0]: `ff00::/8` is multicast address space; expected a unicast prefix, for example `10.0.0.0/8`",
        ),
        (
            "[10.0.0.0/8, 10.1.0.0/16]",
            "26: spec.prefixes[1]: `10.1.0.0/16` overlaps `10.0.0.0/8` of TunnelNetwork `net` at a.yaml:6:14; prefixes of networks must be disjoint",
        ),
        (
            "[10.1.0.0/16, 10.0.0.0/8]",
            "27: spec.prefixes[1]: `10.0.0.0/8` overlaps `10.1.0.0/16` of TunnelNetwork `net` at a.yaml:6:14; prefixes of networks must be disjoint",
        ),
    ] {
        let text = NETWORK.replace("[10.0.0.0/8, 'fd00::/16']", prefixes);
        rejected(&text, &[&format!("a.yaml:6:{error}")]);
    }
    // A whole family is a network, too.
    assert_eq!(errors(&NETWORK.replace("10.0.0.0/8", "0.0.0.0/0")), [""; 0]);
}
