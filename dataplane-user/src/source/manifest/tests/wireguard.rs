//! Fields of WireGuardInterface and WireGuardNetworkPlan.

use super::netlink::{each_is_rejected, object};
use super::*;
use crate::net::KeySource;
use crate::net::LinkName;
use crate::resource::WireGuardInterface;
use crate::resource::node::Host;
use crate::resource::wireguard::{AllowedIpRoutes, Peer};

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OTHER_KEY: &str = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn peer<'a>(interface: &'a WireGuardInterface, key: &str) -> &'a Peer {
    let mut peers = interface.peers.iter();
    peers
        .find(|peer| peer.public_key == key.parse().unwrap())
        .unwrap()
}

#[test]
fn wireguard_interfaces_are_checked() {
    let two = |first: &str, second: &str| {
        format!(
            "  peers:\n  - {{publicKey: '{KEY}', allowedIPs: [{first}]}}\n  - {{publicKey: '{OTHER_KEY}', allowedIPs: [{second}]}}\n"
        )
    };
    each_is_rejected(
        "WireGuardInterface",
        &[
            (
                "  privatekey: node\n",
                "7:3: spec.privatekey: unknown field; did you mean `privateKey`?",
            ),
            (
                &format!("  privateKey: '{OTHER_KEY}'\n"),
                "7:15: spec.privateKey: expected `node`, `{ file: PATH }` or `{ credential: NAME }`; don't write keys into manifests",
            ),
            (
                &format!("  privateKey: {{file: '{OTHER_KEY}'}}\n"),
                "7:22: spec.privateKey.file: expected an absolute path, for example `/etc/adit/key`",
            ),
            (
                "  privateKey: {credential: ../x}\n",
                "7:28: spec.privateKey.credential: expected the name of a credential: letters, digits, `_`, `.` and `-`",
            ),
            (
                "  fwMark: 0xz\n",
                "7:11: spec.fwMark: `0xz` is not a mark; expected a number, for example `0xca6c`, or `off`",
            ),
            (
                "  table: of\n",
                "7:10: spec.table: `of` is neither a number nor a name in /etc/iproute2/rt_tables; did you mean `off`?",
            ),
            (
                "  name: adit-wg0\n",
                "7:9: spec.name: `adit-wg0` is reserved, as are `lo`, `all`, `default`, `adit0` and `adit-…`; choose another name",
            ),
            (
                &two("10.0.0.0/8, 'fd00::/8'", "10.0.0.0/24, 'fd00::/8'"),
                "9:5: spec.peers[1]: allowed IP fd00::/8 is also given in peers[0]; remove one, because WireGuard sends each prefix to only one peer",
            ),
            (
                &two("10.0.0.0/08", "10.0.1.0/24"),
                "8:78: spec.peers[0].allowedIPs[0]: `10.0.0.0/08` is not a CIDR; expected for example `10.0.0.0/8` or `fd00::/48`, without leading zeros",
            ),
            (
                &two("10.0.0.1/24", "10.0.1.0/24"),
                "8:78: spec.peers[0].allowedIPs[0]: `10.0.0.1/24` has host bits set; write `10.0.0.0/24`",
            ),
            (
                &format!("  peers: [{{publicKey: '{KEY}', endpoint: '[fe80::1]:7'}}]\n"),
                "7:81: spec.peers[0].endpoint: `[fe80::1]:7` is link-local; add its device, for example `[fe80::1%eth0]:7`",
            ),
            (
                &format!("  peers: [{{publicKey: '{KEY}', name: x}}, {{publicKey: '{KEY}'}}]\n"),
                "7:81: spec.peers[1]: peer x already has this public key; give each peer its own",
            ),
        ],
    );
}

#[test]
fn the_fields_of_a_wireguard_interface_are_read() {
    let text = object(
        "WireGuardInterface",
        &format!(
            "  listenPort: 51820\n  fwMark: '0xca6c'\n  addresses: [10.0.0.1, 'fe80::1/64', {{address: 10.1.0.1, peer: 10.1.0.2}}]\n  table: 77\n  peers:\n  - {{publicKey: '{KEY}', endpoint: 'Host.example:1', allowedIPs: [0.0.0.0/0], persistentKeepalive: 25}}\n  - {{publicKey: '{OTHER_KEY}', allowedIPs: [10.0.0.2]}}\n"
        ),
    );
    let resources = accepted(&text);
    let interface = &resources.netlink.wireguard["some"].object;
    assert_eq!(interface.key, Some(KeySource::Generated("some".to_owned())));
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
    let [first, second] = [KEY, OTHER_KEY].map(|key| peer(interface, key));
    assert_eq!((first.keepalive, second.keepalive), (25, 0));
    assert_eq!(
        first.endpoint.as_ref().unwrap().host,
        Host::Name("host.example".to_owned())
    );
    assert!(second.allowed_ips.contains(&"10.0.0.2/32".parse().unwrap()));
}

#[test]
fn endpoints_tables_and_nested_prefixes_as_wg_quick_has_them() {
    for (endpoint, host) in [
        (
            "[fe80::1%eth0]:7",
            Host::Scoped("fe80::1".parse().unwrap(), LinkName::constant("eth0")),
        ),
        ("vpn_1.example.:7", Host::Name("vpn_1.example.".to_owned())),
    ] {
        let fields = format!(
            "  table: local\n  peers:\n  - {{publicKey: '{KEY}', endpoint: '{endpoint}', allowedIPs: [192.168.0.0/16]}}\n  - {{publicKey: '{OTHER_KEY}', allowedIPs: [192.168.5.0/24]}}\n"
        );
        let resources = accepted(&object("WireGuardInterface", &fields));
        let interface = &resources.netlink.wireguard["some"].object;
        assert_eq!(interface.routes, AllowedIpRoutes::Table(255));
        let peer = peer(interface, KEY);
        let declared = peer.endpoint.as_ref().unwrap();
        assert_eq!(
            (&declared.host, declared.to_string()),
            (&host, endpoint.to_owned())
        );
    }
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
            "9:11: spec.links[0]: a link needs two different nodes",
        ),
        (
            "  links: [[a]]\n",
            "9:11: spec.links[0]: expected the names of two nodes",
        ),
        (
            "  links: [{nodes: [a, b], count: 0}]\n",
            "9:34: spec.links[0].count: 0 is out of range; expected an integer of 1 … 1000",
        ),
        (
            "  addresses: [10.0.0.0/31]\n",
            "6:3: spec: 10.0.0.0/31 has addresses for 0 links, but there are 1 links; use a larger pool",
        ),
        (
            "  addresses: [10.0.0.0/24, 10.0.1.0/24]\n",
            "9:14: spec.addresses: several CIDRs of one family; give at most one of each family",
        ),
        (
            "  addresses: [0.0.0.0/0]\n",
            "9:15: spec.addresses[0]: `0.0.0.0/0` begins with unspecified addresses, which a device can't have; expected for example `10.0.0.0/16`",
        ),
    ] {
        rejected(&format!("{head}{nodes}{fields}"), &[&format!("a.yaml:{error}")]);
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
    // The devices of one agent use different ports.
    let ports = wireguard.values().map(|placed| placed.object.listen_port);
    assert_eq!(ports.collect::<Vec<_>>(), [51820, 51821]);
}

fn accepted(text: &str) -> Resources {
    read_one(text).unwrap_or_else(|errors| panic!("{errors:#?}"))
}
