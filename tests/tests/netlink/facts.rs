//! The facts that the plan needs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use adit_tests::NetNs;
use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::model::MAIN_TABLE;
use dataplane_user::model::facts::Gateway;

use crate::name;

#[test]
fn facts_are_local_addresses_and_paths() {
    let netns = NetNs::new();
    netns.ip("link add under0 mtu 1480 up type bridge");
    netns.ip("addr add 192.0.2.1/24 dev under0");
    netns.ip("-6 addr add 2001:db8::1/64 dev under0 nodad");
    netns.ip("route add 198.51.100.0/24 via 192.0.2.254 mtu 1400");
    netns.ip("-6 route add 2001:db8:1::/64 via 2001:db8::fe mtu 1390");
    netns.ip("route add 198.51.101.0/24 via inet6 fe80::fe dev under0");
    netns.ip("route add 198.51.102.0/24 nexthop via 192.0.2.253 dev under0 nexthop via inet6 2001:db8::fd dev under0");
    netns.ip("-6 route add 2001:db8:4::/64 via fe80::fc dev under0");
    // Two default routes: the lower metric counts.
    netns.ip("link add under1 mtu 1470 up type bridge");
    netns.ip("addr add 192.0.3.1/24 dev under1");
    netns.ip("-6 addr add 2001:db8:5::1/64 dev under1 nodad");
    netns.ip_batch(
        "route add default via 192.0.3.254 metric 200
        route add default via 192.0.2.252 metric 100
        route add ::/0 via 2001:db8:5::fe metric 200
        route add ::/0 via 2001:db8::fb metric 100",
    );
    netns.ip("route add unreachable 203.0.113.0/25");
    netns.ip("route add blackhole 203.0.113.128/25");
    netns.ip("-6 route add prohibit 2001:db8:2::/64");
    netns.ip("-6 route add unreachable 2001:db8:3::/64");
    let ways = [
        ("192.0.2.7", Some(1480)),
        ("198.51.100.7", Some(1400)),
        ("198.51.101.7", Some(1480)),
        ("198.51.102.7", Some(1480)),
        ("203.0.113.7", None),
        ("203.0.113.207", None),
        ("100.64.0.1", Some(1480)),
        ("2001:db8::7", Some(1480)),
        ("2001:db8:1::7", Some(1390)),
        ("2001:db8:4::7", Some(1480)),
        ("2001:db8:2::7", None),
        ("2001:db8:3::7", None),
        ("2001:db9::7", Some(1480)),
    ];
    let ways: BTreeMap<IpAddr, Option<u32>> = ways.map(|(peer, mtu)| (peer.parse().unwrap(), mtu)).into();
    let facts = netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        let peers: BTreeSet<_> = ways.keys().copied().collect();
        // The families with rules are read only once.
        netlink.facts(&peers).await.unwrap();
        let before = netlink.stats().sends;
        let facts = netlink.facts(&peers).await.unwrap();
        assert_eq!(netlink.stats().sends - before, 3, "two dumps and one batch");
        facts
    });

    for (peer, mtu) in ways {
        let path = facts.paths.get(&peer);
        assert_eq!(path.map(|path| path.mtu), mtu, "{peer}");
        assert!(
            path.is_none_or(|path| path.link == name("under0")),
            "{peer}: {path:?}"
        );
    }
    let gateways = |peer: &str| facts.paths[&peer.parse::<IpAddr>().unwrap()].gateway;
    let is = |gateway: &str| Some(gateway.parse::<IpAddr>().unwrap());
    for (peer, gateway) in [
        ("192.0.2.7", None),
        ("198.51.100.7", is("192.0.2.254")),
        ("198.51.101.7", is("fe80::fe")),
        ("2001:db8::7", None),
        ("2001:db8:1::7", is("2001:db8::fe")),
        ("2001:db8:4::7", is("fe80::fc")),
        ("100.64.0.1", is("192.0.2.252")),
        ("2001:db9::7", is("2001:db8::fb")),
    ] {
        assert_eq!(gateways(peer), gateway, "{peer}");
    }
    // Of several next hops the kernel reports the one that it uses.
    assert!(
        [is("192.0.2.253"), is("2001:db8::fd")].contains(&gateways("198.51.102.7")),
        "{facts:?}"
    );
    for local in ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"] {
        assert!(
            facts.local_addresses.contains(&local.parse::<IpAddr>().unwrap()),
            "{local}"
        );
    }
}

#[test]
fn gateways_are_on_the_link_of_the_most_specific_route_without_a_gateway() {
    let netns = NetNs::new();
    for device in ["under0", "under1", "tunnel"] {
        netns.ip(&format!("link add {device} up type bridge"));
    }
    netns.ip("-6 address add 2001:db8::1/64 dev under0 nodad");
    netns.ip("-6 route add default dev tunnel");
    netns.ip_batch(
        "address add 192.0.2.1/24 dev under0
        route add 192.0.2.128/25 dev under1
        route add 192.0.2.64/26 via 192.0.2.254
        route add unreachable 192.0.2.32/27
        route add 172.31.1.1/32 dev under1
        route add 172.31.2.1/32 nexthop dev under0 nexthop dev under1
        route add default dev tunnel
        route add 192.0.2.0/24 dev tunnel table 100
        route add 192.0.2.0/24 dev under0 metric 9 table 100
        route add default dev tunnel table 100",
    );
    let gateways = [
        ("192.0.2.7", Some("under0")),
        ("192.0.2.207", Some("under1")),
        ("172.31.1.1", Some("under1")),
        ("2001:db8::7", Some("under0")),
        // By another gateway, refused, one of several devices, local, and by default routes.
        ("192.0.2.65", None),
        ("192.0.2.33", None),
        ("172.31.2.1", None),
        ("192.0.2.1", None),
        ("198.51.100.1", None),
        ("2001:db9::7", None),
    ]
    .map(|(gateway, link)| (MAIN_TABLE, gateway, link));
    // In a table, its own routes count.
    let in_table = [
        (100, "192.0.2.7", Some("tunnel")),
        (100, "203.0.113.7", None),
        (101, "192.0.2.7", None),
    ];
    let gateways = gateways
        .into_iter()
        .chain(in_table)
        .map(|(table, address, link)| {
            let address = address.parse::<IpAddr>().unwrap();
            (Gateway { table, address }, link.map(name))
        });
    let gateways = gateways.collect::<Vec<_>>();
    let facts = netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        netlink.add_gateways(&gateways.iter().map(|(gateway, _)| *gateway).collect());
        netlink.facts(&BTreeSet::new()).await.unwrap()
    });
    let wanted = gateways
        .into_iter()
        .filter_map(|(gateway, link)| Some((gateway, link?)));
    assert_eq!(facts.gateways, BTreeMap::from([(None, wanted.collect())]));
}
