//! Fields of WireGuardInterface and WireGuardNetworkPlan.

use super::netlink::{each_is_refused, object};
use super::*;
use crate::resource::node::Host;
use crate::resource::wireguard::{AllowedIpRoutes, KeySource};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OTHER_KEY: &str = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn wireguard_interfaces_are_checked() {
    let two = |first: &str, second: &str| {
        format!(
            "  peers:\n  - {{publicKey: '{KEY}', allowedIPs: [{first}]}}\n  - {{publicKey: '{OTHER_KEY}', allowedIPs: [{second}]}}\n"
        )
    };
    each_is_refused(
        "WireGuardInterface",
        &[
            (
                "  privatekey: node\n",
                "7:3: spec.privatekey: unknown field; did you mean `privateKey`?",
            ),
            (
                &format!("  privateKey: '{OTHER_KEY}'\n"),
                "7:15: spec.privateKey: expected `node`, `{ file: PATH }` or `{ credential: NAME }`; keys don't go into manifests",
            ),
            (
                &format!("  privateKey: {{file: '{OTHER_KEY}'}}\n"),
                "7:22: spec.privateKey.file: expected a file's absolute path, as `/etc/adit/key`",
            ),
            (
                "  privateKey: {credential: ../x}\n",
                "7:28: spec.privateKey.credential: expected a credential's name: letters, digits, `_`, `.` and `-`",
            ),
            (
                "  fwMark: 0xz\n",
                "7:11: spec.fwMark: `0xz` is no mark; expected a number, such as `0xca6c`, or `off`",
            ),
            (
                "  table: of\n",
                "7:10: spec.table: unknown value `of`; known: off, auto, main, or a number",
            ),
            (
                "  name: adit-wg0\n",
                "7:9: spec.name: `adit-wg0` can't be made: `lo`, `all`, `default`, `adit0` and `adit-…` have other meanings",
            ),
            (
                &two("10.0.0.2", "10.0.0.0/24"),
                "9:5: spec.peers[1]: its allowed IP 10.0.0.0/24 and 10.0.0.2/32 of peers[0] overlap: WireGuard sends what is in both to one of them alone",
            ),
            (
                &two("'fd00::/8'", "'fd00::/8'"),
                "9:5: spec.peers[1]: its allowed IP fd00::/8 and fd00::/8 of peers[0] overlap: WireGuard sends what is in both to one of them alone",
            ),
            (
                &two("10.0.0.1/24", "10.0.1.0/24"),
                "8:78: spec.peers[0].allowedIPs[0]: `10.0.0.1/24` has host bits set; write `10.0.0.0/24`",
            ),
            (
                &format!("  peers: [{{publicKey: '{KEY}', name: x}}, {{publicKey: '{KEY}'}}]\n"),
                "7:81: spec.peers[1]: its key is that of peer x already",
            ),
        ],
    );
}

#[test]
fn a_wireguard_interface_s_fields_are_read() {
    let text = object(
        "WireGuardInterface",
        &format!(
            "  listenPort: 51820\n  fwMark: '0xca6c'\n  addresses: [10.0.0.1, 'fe80::1/64', {{address: 10.1.0.1, peer: 10.1.0.2}}]\n  table: 77\n  peers:\n  - {{publicKey: '{KEY}', endpoint: 'Host.example:1', allowedIPs: [0.0.0.0/0], persistentKeepalive: 25}}\n  - {{publicKey: '{OTHER_KEY}', allowedIPs: [10.0.0.2]}}\n"
        ),
    );
    let resources = accepted(&text);
    let interface = &resources.netlink.wireguard["some"].object;
    assert_eq!(interface.key, KeySource::Generated("some".to_owned()));
    assert_eq!((interface.listen_port, interface.fwmark), (51820, 0xca6c));
    assert_eq!(interface.routes, AllowedIpRoutes::Table(77));
    let addresses = interface.end.addresses.iter();
    let addresses = addresses.map(|(address, peer)| format!("{address} {peer:?}"));
    assert_eq!(
        addresses.collect::<Vec<_>>(),
        [
            "10.0.0.1/32 None",
            "10.1.0.1/32 Some(10.1.0.2)",
            "fe80::1/64 None"
        ]
    );
    let [first, second] = [KEY, OTHER_KEY].map(|key| &interface.peers[&key.parse().unwrap()]);
    assert_eq!((first.keepalive, second.keepalive), (25, 0));
    assert_eq!(
        first.endpoint.as_ref().unwrap().host,
        Host::Name("host.example".to_owned())
    );
    assert!(second.allowed_ips.contains(&"10.0.0.2/32".parse().unwrap()));
}

#[test]
fn wireguard_plans_are_checked_and_expanded() {
    let head = "apiVersion: adit.dev/v1alpha1\nkind: WireGuardNetworkPlan\nmetadata:\n  name: mesh\nspec:\n";
    let nodes = format!(
        "  nodes:\n  - {{name: a, publicKey: '{KEY}', endpoint: 192.0.2.1}}\n  - {{name: b, publicKey: '{OTHER_KEY}', namespace: {{name: inside}}, node: a, privateKey: {{file: /b}}}}\n"
    );
    for (fields, error) in [
        (
            "  links: [[a, bb]]\n",
            "9:15: spec.links[0][1]: the plan has no node `bb`; did you mean `b`?",
        ),
        (
            "  links: [[a, a]]\n",
            "9:11: spec.links[0]: a node has no link to itself",
        ),
        (
            "  links: [[a]]\n",
            "9:11: spec.links[0]: expected two nodes' names",
        ),
        (
            "  links: [{nodes: [a, b], count: 0}]\n",
            "9:34: spec.links[0].count: 0 is out of range; expected an integer of 1 … 1000",
        ),
        (
            "  addresses: [10.0.0.0/31]\n",
            "6:3: spec: 10.0.0.0/31 has addresses for 0 links, and there are 1; give a larger one",
        ),
        (
            "  addresses: [10.0.0.0/24, 10.0.1.0/24]\n",
            "9:14: spec.addresses: one CIDR of each family at most",
        ),
    ] {
        refused(&format!("{head}{nodes}{fields}"), &[&format!("a.yaml:{error}")]);
    }
    let resources = accepted(&format!(
        "{head}{nodes}  addresses: [10.255.0.0/24]\n  defaults: {{mtu: 1400}}\n"
    ));
    let wireguard = &resources.netlink.wireguard;
    assert_eq!(
        wireguard.keys().collect::<Vec<_>>(),
        ["mesh/wg-a-b-0/a", "mesh/wg-a-b-0/b"]
    );
    let inside = &wireguard["mesh/wg-a-b-0/b"];
    assert_eq!(
        inside.namespace,
        Some(crate::net::Namespace::Name("inside".to_owned()))
    );
    assert_eq!(inside.object.end.mtu, Some(1400));
    // One agent's devices share its ports.
    let ports = wireguard.values().map(|placed| placed.object.listen_port);
    assert_eq!(ports.collect::<Vec<_>>(), [51820, 51821]);
}

fn accepted(text: &str) -> Resources {
    read_one(text).unwrap_or_else(|errors| panic!("{errors:#?}"))
}
