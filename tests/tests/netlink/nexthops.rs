//! Next-hop objects and neighbours: written objects read back equal, ids do not collide, and objects of others stay.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;

use adit_tests::NetNs;
use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::model::change::{
    NeighbourChange, NetlinkChange, NextHopObjectChange, NextHopObjectOperation, RouteChange, RouteOperation,
    Write,
};
use dataplane_user::model::{
    ANCHOR_METRIC, MAIN_TABLE, Neighbour, NextHopObject, OuterHeader, Owner, Route, RouteGroup, RouteHop,
    RouteKind,
};
use dataplane_user::net::MacAddr;

use crate::{execute, key, name, observe, with_link};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn header(remote: &str, local: &str) -> OuterHeader {
    OuterHeader {
        id: 7,
        local: ip(local),
        remote: ip(remote),
        ttl: 64,
        tos: 0,
        dont_fragment: false,
        checksum: false,
    }
}

fn hop(gateway: Option<&str>, encapsulation: Option<OuterHeader>) -> Arc<RouteHop> {
    Arc::new(RouteHop {
        link: name("ours"),
        gateway: gateway.map(ip),
        encapsulation,
    })
}

fn to(object: &NextHopObject) -> Route {
    Route {
        owner: Owner::Adit,
        kind: RouteKind::NextHop {
            object: object.clone(),
            source: None,
            mtu: Some(1380),
        },
    }
}

fn create(hop: &Arc<RouteHop>) -> NetlinkChange {
    NetlinkChange::NextHopObject(NextHopObjectChange(
        NextHopObject::Hop(Arc::clone(hop)),
        NextHopObjectOperation::Create,
    ))
}

#[test]
fn written_next_hops_and_routes_read_back_equal() {
    NetNs::new().run(async || {
        let mut netlink = with_link().await;
        let full = OuterHeader {
            tos: 46 << 2,
            dont_fragment: true,
            checksum: true,
            ttl: 3,
            ..header("192.0.2.2", "192.0.2.1")
        };
        let hops = [
            hop(Some("fe80::2"), Some(header("192.0.2.2", "192.0.2.1"))),
            hop(Some("fe80::2"), Some(full)),
            hop(Some("fe80::2"), Some(header("2001:db8::2", "2001:db8::1"))),
            hop(None, Some(header("192.0.2.2", "192.0.2.1"))),
            hop(None, None),
            hop(Some("192.0.2.254"), None),
        ];
        execute(&mut netlink, &hops.iter().map(create).collect::<Vec<_>>()).await;
        let group = |resilient, members: &[(usize, u8)]| {
            let mut members = members
                .iter()
                .map(|(index, weight)| (Arc::clone(&hops[*index]), *weight))
                .collect::<Vec<_>>();
            members.sort();
            NextHopObject::Group(Arc::new(RouteGroup { members, resilient }))
        };
        let groups = [
            group(false, &[(0, 1), (1, 255)]),
            group(true, &[(0, 3), (2, 1)]),
            group(false, &[(3, 1)]),
        ];
        execute(
            &mut netlink,
            &groups.clone().map(|object| {
                NetlinkChange::NextHopObject(NextHopObjectChange(object, NextHopObjectOperation::Create))
            }),
        )
        .await;
        let both = |number: usize, object: &NextHopObject| {
            let keys = [format!("10.{number}.0.0/16"), format!("fd00:{number}::/32")];
            keys.map(|prefix| {
                NetlinkChange::Route(RouteChange(
                    key(MAIN_TABLE, &prefix, ANCHOR_METRIC),
                    RouteOperation::Create(to(object)),
                ))
            })
        };
        let mut routes = groups
            .iter()
            .enumerate()
            .flat_map(|(number, group)| both(number, group))
            .collect::<Vec<_>>();
        routes.extend(both(9, &NextHopObject::Hop(Arc::clone(&hops[4]))));
        // An IPv4 gateway is only for IPv4.
        let [ipv4, ipv6] = both(8, &NextHopObject::Hop(Arc::clone(&hops[5])));
        routes.push(ipv4);
        let outcomes = netlink.execute(&[ipv6]).await;
        assert!(outcomes[0].is_err());
        execute(&mut netlink, &routes).await;

        let found = observe(&mut netlink).await;
        let mut wanted = hops.iter().cloned().map(NextHopObject::Hop).collect::<Vec<_>>();
        wanted.extend(groups.clone());
        assert_eq!(found.next_hop_objects, wanted.into_iter().collect());
        let written = routes.iter().map(|change| match change {
            NetlinkChange::Route(RouteChange(key, RouteOperation::Create(route))) => (*key, route.clone()),
            other => unreachable!("{other}"),
        });
        assert_eq!(found.routes, written.collect());

        // In place: routes to the group follow.
        let NextHopObject::Group(from) = &groups[0] else {
            unreachable!("it is one");
        };
        let NextHopObject::Group(next) = group(false, &[(1, 2), (2, 1)]) else {
            unreachable!("it is one");
        };
        execute(
            &mut netlink,
            &[NetlinkChange::NextHopObject(NextHopObjectChange(
                NextHopObject::Group(Arc::clone(&next)),
                NextHopObjectOperation::Replace(Arc::clone(from)),
            ))],
        )
        .await;
        let found = observe(&mut netlink).await;
        let route = &found.routes[&key(MAIN_TABLE, "10.0.0.0/16", ANCHOR_METRIC)];
        assert_eq!(route.next_hop_object(), Some(&NextHopObject::Group(next)));

        let delete = found
            .routes
            .into_iter()
            .map(|(key, route)| NetlinkChange::Route(RouteChange(key, RouteOperation::Delete(route))));
        execute(&mut netlink, &delete.collect::<Vec<_>>()).await;
        let delete = found.next_hop_objects.into_iter().rev().map(|object| {
            NetlinkChange::NextHopObject(NextHopObjectChange(object, NextHopObjectOperation::Delete))
        });
        execute(&mut netlink, &delete.collect::<Vec<_>>()).await;
        let found = observe(&mut netlink).await;
        assert!(
            found.next_hop_objects.is_empty() && found.routes.is_empty(),
            "{found:?}"
        );
    });
}

/// The kernel would keep the socket on the route as long as the next-hop object exists, which other routes may use.
#[test]
fn a_connected_socket_stops_using_a_deleted_route_at_once() {
    let netns = NetNs::new();
    netns.run(async || {
        let mut netlink = with_link().await;
        netns.ip("address add fd00:9::1/128 dev ours nodad");
        let hop = hop(Some("fe80::2"), None);
        let route = to(&NextHopObject::Hop(Arc::clone(&hop)));
        let key = key(MAIN_TABLE, "fd00:5::/32", ANCHOR_METRIC);
        execute(
            &mut netlink,
            &[
                create(&hop),
                NetlinkChange::Route(RouteChange(key, RouteOperation::Create(route.clone()))),
            ],
        )
        .await;
        let socket = UdpSocket::bind("[fd00:9::1]:0").unwrap();
        socket.connect("[fd00:5::1]:7001").unwrap();
        socket.send(b"adit").unwrap();
        execute(
            &mut netlink,
            &[NetlinkChange::Route(RouteChange(
                key,
                RouteOperation::Delete(route),
            ))],
        )
        .await;
        let refused = socket.send(b"adit").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENETUNREACH));
        assert_eq!(
            observe(&mut netlink).await.next_hop_objects.len(),
            1,
            "the object exists"
        );
        assert!(!netns.ip("-6 route show table all").contains("proto 173"));
    });
}

#[test]
fn ids_of_others_are_not_used_and_equal_objects_are_distinguished() {
    let netns = NetNs::new();
    netns.run(async || {
        let mut netlink = with_link().await;
        netns.ip_batch(
            "nexthop add id 5 dev ours
            nexthop add id 1730000 dev ours
            nexthop add id 1730001 blackhole
            nexthop add id 1730007 via fe80::2 dev ours onlink protocol 173
            nexthop add id 1730009 via fe80::2 dev ours onlink protocol 173
            nexthop add id 1730011 blackhole protocol 173",
        );
        let others = || {
            let all = netns.ip("nexthop show");
            let foreign = all.lines().filter(|line| !line.contains("proto 173"));
            foreign.map(str::to_owned).collect::<Vec<_>>()
        };
        let before = others();
        assert_eq!(before.len(), 3, "{before:?}");
        let found = observe(&mut netlink).await.next_hop_objects;
        let one = NextHopObject::Hop(hop(Some("fe80::2"), None));
        let odd = ["id 1730009", "id 1730011"].map(|text| NextHopObject::Other(text.to_owned()));
        assert_eq!(found, [one.clone(), odd[0].clone(), odd[1].clone()].into());
        let other = hop(Some("fe80::3"), None);
        execute(&mut netlink, &[create(&other)]).await;
        execute(
            &mut netlink,
            &odd.map(|object| {
                NetlinkChange::NextHopObject(NextHopObjectChange(object, NextHopObjectOperation::Delete))
            }),
        )
        .await;
        let found = observe(&mut netlink).await.next_hop_objects;
        assert_eq!(found, [one, NextHopObject::Hop(other)].into());
        assert_eq!(others(), before);
    });
}

#[test]
fn neighbours_read_back_and_replace_those_of_the_kernel() {
    let netns = NetNs::new();
    netns.run(async || {
        let mut netlink = with_link().await;
        netns.ip("neighbour add fe80::2 lladdr 02:00:00:00:00:77 nud noarp dev ours");
        netns.ip("neighbour add fe80::9 lladdr 02:00:00:00:00:99 nud permanent dev ours");
        let link = name("ours");
        let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
        let ours = |last| Neighbour {
            owner: Owner::Adit,
            mac: mac(last),
        };
        let put = |address: &str, last| {
            NetlinkChange::Neighbour(NeighbourChange(link.clone(), ip(address), Write::Put(ours(last))))
        };
        execute(
            &mut netlink,
            &[put("fe80::2", 1), put("fe80::3", 2), put("fe80::3", 3)],
        )
        .await;
        let foreign = Neighbour {
            owner: Owner::Other,
            mac: mac(0x99),
        };
        let wanted = [("fe80::2", ours(1)), ("fe80::3", ours(3)), ("fe80::9", foreign)];
        let wanted = wanted.map(|(address, neighbour)| ((link.clone(), ip(address)), neighbour));
        assert_eq!(observe(&mut netlink).await.neighbours, wanted.clone().into());
        let delete = |address: &str| {
            NetlinkChange::Neighbour(NeighbourChange(link.clone(), ip(address), Write::Delete))
        };
        execute(
            &mut netlink,
            &[delete("fe80::2"), delete("fe80::3"), delete("fe80::3")],
        )
        .await;
        assert_eq!(
            observe(&mut netlink).await.neighbours,
            wanted[2..].iter().cloned().collect()
        );
    });
}

/// If each route has an encapsulation, the kernel compares each route with all others.
#[test]
fn ten_thousand_routes_to_a_thousand_peers_are_sent_in_batches() {
    const PEERS: u32 = 1000;
    const ROUTES: u32 = 10_000;
    NetNs::new().run(async || {
        let mut netlink = with_link().await;
        let peer = |number: u32| {
            let [_, _, high, low] = number.to_be_bytes();
            let remote = format!("198.18.{high}.{low}");
            hop(
                Some(&format!("fe80::1:{number:x}")),
                Some(header(&remote, "192.0.2.1")),
            )
        };
        let hops = (0..PEERS).map(peer).collect::<Vec<_>>();
        let route = |number: u32| {
            let [_, _, high, low] = number.to_be_bytes();
            let index = usize::try_from(number % PEERS).unwrap();
            let object = NextHopObject::Hop(Arc::clone(&hops[index]));
            (
                key(MAIN_TABLE, &format!("10.{high}.{low}.0/24"), ANCHOR_METRIC),
                to(&object),
            )
        };
        let routes = (0..ROUTES).map(route).collect::<Vec<_>>();
        let before = netlink.stats();
        execute(&mut netlink, &hops.iter().map(create).collect::<Vec<_>>()).await;
        let made = routes.iter().map(|(key, route)| {
            NetlinkChange::Route(RouteChange(*key, RouteOperation::Create(route.clone())))
        });
        execute(&mut netlink, &made.collect::<Vec<_>>()).await;
        let sends = netlink.stats().sends - before.sends;
        println!("{sends} sends for {} requests", PEERS + ROUTES);
        assert!(sends <= 90, "{sends}");
        let found = observe(&mut netlink).await;
        assert_eq!(found.routes, routes.into_iter().collect());
        assert_eq!(found.next_hop_objects.len(), hops.len());
        assert_eq!(netlink.stats().reopened, 0);
    });
}

#[test]
fn next_hop_objects_are_created_without_an_earlier_observation() {
    NetNs::new().run(async || {
        let mut first = with_link().await;
        execute(&mut first, &[create(&hop(Some("fe80::2"), None))]).await;
        // It knows no ids, so the first id that it tries is in use and refused.
        let mut second = Netlink::open().unwrap();
        let outcomes = second.execute(&[create(&hop(Some("fe80::3"), None))]).await;
        assert_eq!(outcomes[0].as_ref().unwrap_err().errno(), Some(libc::EEXIST));
        observe(&mut second).await;
        execute(&mut second, &[create(&hop(Some("fe80::3"), None))]).await;
        assert_eq!(observe(&mut first).await.next_hop_objects.len(), 2);
    });
}
