//! Fields of NetlinkInterface, NetlinkRoute and NetlinkRule.

use super::*;
use crate::model::{Encap, RouteScope};
use crate::resource::netlink::{InterfaceKind, RouteAction};

/// A manifest of six lines with only the field `node`; `fields` begin on line 7.
pub(super) fn object(kind: &str, fields: &str) -> String {
    format!(
        "apiVersion: adit.dev/v1alpha1\nkind: {kind}\nmetadata:\n  name: some\nspec:\n  node: a\n{fields}"
    )
}

#[track_caller]
pub(super) fn each_is_rejected(kind: &str, cases: &[(&str, &str)]) {
    for (fields, error) in cases {
        rejected(&object(kind, fields), &[&format!("a.yaml:{error}")]);
    }
}

#[test]
fn interfaces_are_checked() {
    each_is_rejected(
        "NetlinkInterface",
        &[
            (
                "  type: dumy\n",
                "7:9: spec.type: unknown value `dumy`; did you mean `dummy`?",
            ),
            (
                "  type: dummy\n  adresses: []\n",
                "8:3: spec.adresses: unknown field; did you mean `addresses`?",
            ),
            (
                "  type: dummy\n  ports: [x]\n",
                "8:3: spec.ports: unknown field; known: node, namespace, type, name, addresses, mtu, mac, up, noarp, keepLinkLocal",
            ),
            (
                "  type: dummy\n  addresses: [10.0.0.300]\n",
                "8:15: spec.addresses[0]: `10.0.0.300` is not an address; expected for example `10.0.0.1/24` or `fd00::1/64`, without leading zeros",
            ),
            (
                "  type: dummy\n  mac: '03:00:00:00:00:00'\n",
                "8:8: spec.mac: `03:00:00:00:00:00` can't be the address of a device; expected a unicast address, for example `02:00:00:00:00:01`",
            ),
            (
                "  type: dummy\n  name: adit-geneve\n",
                "8:9: spec.name: `adit-geneve` is reserved, as are `lo`, `all`, `default`, `adit0` and `adit-…`; choose another name",
            ),
            (
                "  type: dummy\n  namespace: { name: x, pid: 3 }\n",
                "8:14: spec.namespace: several fields are given; give only one of `name`, `path`, `pid`, `container`",
            ),
            (
                "  type: dummy\n  namespace: { container: { runtime: podmann, name: x } }\n",
                "8:38: spec.namespace.container.runtime: unknown value `podmann`; did you mean `podman`?",
            ),
            (
                "  type: dummy\n  namespace: { container: { runtime: podman, name: --all } }\n",
                "8:52: spec.namespace.container.name: `--all` is not the name of a container; expected letters, digits, `_`, `.` and `-`",
            ),
            (
                "  type: veth\n",
                "6:3: spec.peer: missing; give at least the `name` of the other end",
            ),
            (
                "  type: vxlan\n  vni: 1\n  group: 239.0.0.1\n",
                "9:10: spec.group: a multicast group needs `dev`; give the device through which the group is reached",
            ),
            (
                "  type: vxlan\n  vni: 0\n",
                "8:8: spec.vni: 0 is out of range; expected an integer of 1 … 16777215",
            ),
            (
                "  type: ipip\n  remote: 'fd00::1'\n",
                "8:11: spec.remote: `fd00::1` is an IPv6 address; ipip devices need IPv4 addresses",
            ),
        ],
    );
}

#[test]
fn routes_and_rules_are_checked() {
    each_is_rejected(
        "NetlinkRoute",
        &[
            (
                "  to: 10.0.0.1/8\n  dev: x\n",
                "7:7: spec.to: `10.0.0.1/8` has host bits set; write `10.0.0.0/8`",
            ),
            (
                "  to: 10.0.0.0/8\n  vai: 10.0.0.1\n  dev: x\n",
                "8:3: spec.vai: unknown field; did you mean `via`?",
            ),
            (
                "  to: 10.0.0.0/8\n  type: blackhole\n  via: 10.0.0.1\n",
                "9:8: spec.via: blackhole and unreachable routes have no next hop; remove it, or change `type`",
            ),
            (
                "  to: 'fd00::/8'\n  dev: x\n  scope: link\n",
                "9:10: spec.scope: IPv6 routes support only the scope `global`",
            ),
            (
                "  to: 'fd00::/8'\n  via: 10.0.0.1\n",
                "8:8: spec.via: `10.0.0.1` is an IPv4 address; an IPv6 route needs an IPv6 gateway",
            ),
            (
                "  to: 10.0.0.0/8\n  dev: x\n  encap: { type: ip6, dst: 192.0.2.1 }\n",
                "9:10: spec.encap: type `ip` needs IPv4 addresses, type `ip6` needs IPv6 addresses",
            ),
        ],
    );
    each_is_rejected(
        "NetlinkRule",
        &[
            (
                "  priority: 5\n",
                "6:3: spec.table: missing; give the routing table to look up",
            ),
            (
                "  priority: 5\n  table: mian\n",
                "8:10: spec.table: `mian` is neither a number nor a name in /etc/iproute2/rt_tables; did you mean `main`?",
            ),
            (
                "  priority: 5\n  table: 7\n  fwmark: ten\n",
                "9:11: spec.fwmark: `ten` is not a mark; expected for example `0x10` or `0x10/0xf0`",
            ),
        ],
    );
}

#[test]
fn a_device_is_declared_once() {
    let one = |name: &str, fields: &str| {
        object("NetlinkInterface", fields).replace("name: some", &format!("name: {name}"))
    };
    let veth = "  type: veth\n  peer: { name: eth0, namespace: { name: x } }\n";
    let dummy = "  type: dummy\n  name: eth0\n  namespace: { name: x }\n";
    let both = one("one", veth) + "---\n" + &one("two", dummy);
    rejected(
        &both,
        &[
            "a.yaml:13:9: metadata.name: device `eth0` of node `a` is already declared by NetlinkInterface `one` at a.yaml:4:9; change `spec.name` of one of them",
        ],
    );
    // In another namespace the name is free.
    let other = dummy.replace("name: x", "name: y");
    assert_eq!(
        errors(&(one("one", veth) + "---\n" + &one("two", &other))),
        [""; 0]
    );
}

#[test]
fn what_is_declared_is_read() {
    let interface = "  type: veth\n  addresses: [10.0.0.1, { address: 10.1.0.1, peer: 10.1.0.2/24 }]\n  peer: { name: a-name-of-many-bytes, up: false }\n";
    let route = "  to: 10.5.0.0/16\n  scope: global\n  nextHops:\n  - { dev: x, weight: 256, peer: p/1, encap: { type: ip, id: 9, dst: 192.0.2.1 } }\n";
    let rule = "  priority: 5\n  table: 7\n  fwmark: 0x10/0xf0\n  iif: lo\n";
    let text = [
        object("NetlinkInterface", interface),
        object("NetlinkRoute", route),
        object("NetlinkRule", rule),
    ];
    let resources = read_one(&text.join("---\n")).unwrap();
    let objects = &resources.netlink;
    let end = &objects.interfaces["some"].object.end;
    let addresses = end
        .addresses
        .iter()
        .map(|(address, peer)| format!("{address} {peer:?}"));
    assert_eq!(
        addresses.collect::<Vec<_>>(),
        ["10.0.0.1/32 None", "10.1.0.1/24 Some(10.1.0.2)"]
    );
    let InterfaceKind::Veth {
        peer,
        namespace: None,
    } = &objects.interfaces["some"].object.kind
    else {
        panic!("{objects:#?}");
    };
    assert_eq!((peer.name.as_str().len(), peer.up), (15, false));
    assert_eq!(peer.alias.as_deref(), Some("a-name-of-many-bytes"));

    let route = &objects.routes["some"].object;
    assert_eq!((route.scope, route.table), (Some(RouteScope::Global), 254));
    let RouteAction::Unicast(hops) = &route.action else {
        panic!("{route:#?}");
    };
    assert_eq!(
        (
            hops[0].hop.weight,
            hops[0].peer.as_ref().map(crate::net::PeerId::as_str)
        ),
        (256, Some("p/1"))
    );
    let encap = Encap {
        id: 9,
        source: None,
        destination: [192, 0, 2, 1].into(),
        ttl: 64,
    };
    assert_eq!(hops[0].hop.encap, Some(encap));
    let rules = &objects.rules["some"].object.rules;
    let rules = rules.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(rules[0], "priority 5 iif lo fwmark 0x10/0xf0 table 7");
    assert_eq!(rules[1], format!("-6 {}", rules[0]));
}
