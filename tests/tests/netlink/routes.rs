//! Routes, and errors of the kernel.

use std::collections::BTreeMap;

use adit_tests::NetNs;
use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::model::change::{
    AddressChange, AddressOperation, LinkChange, LinkOperation, NetlinkChange, RouteChange, RouteOperation,
};
use dataplane_user::model::{
    ANCHOR_METRIC, AddressScope, BACKSTOP_METRIC, MAIN_TABLE, Owner, Route, RouteKey, RouteKind,
};
use ipnet::IpNet;

use crate::{address, execute, key, name, observe, prefix, unreachable, via, with_link};

#[test]
fn routes_read_back() {
    let netns = NetNs::new();
    netns.run(async || {
        let mut netlink = with_link().await;
        let ours = name("ours");
        let wanted: BTreeMap<_, _> = [
            (
                key(MAIN_TABLE, "10.2.0.0/16", ANCHOR_METRIC),
                via("169.254.1.1", "ours", Some("10.1.0.1"), Some(1380)),
            ),
            (key(MAIN_TABLE, "10.2.0.0/16", BACKSTOP_METRIC), unreachable()),
            (
                key(MAIN_TABLE, "10.3.0.0/16", ANCHOR_METRIC),
                via("169.254.1.1", "ours", None, None),
            ),
            (
                key(MAIN_TABLE, "fd00:2::/32", ANCHOR_METRIC),
                via("fe80::1", "ours", Some("fd00:1::1"), Some(1380)),
            ),
            (key(MAIN_TABLE, "fd00:2::/32", BACKSTOP_METRIC), unreachable()),
            (
                key(MAIN_TABLE, "fd00:3::/32", ANCHOR_METRIC),
                via("fe80::1", "ours", None, None),
            ),
            (
                key(1000, "0.0.0.0/0", 7),
                via("169.254.1.1", "ours", None, Some(1300)),
            ),
            (key(1000, "::/0", 7), unreachable()),
            (key(17, "0.0.0.0/0", 7), unreachable()),
        ]
        .into();
        let mut changes = vec![
            NetlinkChange::Address(AddressChange(
                ours.clone(),
                prefix("10.1.0.1/32"),
                AddressOperation::Create(address(AddressScope::Global)),
            )),
            NetlinkChange::Address(AddressChange(
                ours.clone(),
                prefix("fd00:1::1/128"),
                AddressOperation::Create(address(AddressScope::Global)),
            )),
        ];
        let create = |(key, route): (&RouteKey, &Route)| {
            NetlinkChange::Route(RouteChange(*key, RouteOperation::Create(route.clone())))
        };
        changes.extend(wanted.iter().map(create));
        execute(&mut netlink, &changes).await;
        assert_eq!(observe(&mut netlink).await.routes, wanted);

        // Change each route and change it back.
        let other = |key: &RouteKey, route: &Route| match (&route.kind, key.prefix) {
            (RouteKind::Unreachable, IpNet::V4(_)) => via("169.254.1.9", "ours", None, None),
            (RouteKind::Unreachable, IpNet::V6(_)) => via("fe80::9", "ours", None, Some(1290)),
            _ => unreachable(),
        };
        let others: BTreeMap<_, _> = wanted
            .iter()
            .map(|(key, route)| (*key, other(key, route)))
            .collect();
        for routes in [&others, &wanted] {
            let replace = |(key, route): (&RouteKey, &Route)| {
                NetlinkChange::Route(RouteChange(*key, RouteOperation::Replace(route.clone())))
            };
            execute(&mut netlink, &routes.iter().map(replace).collect::<Vec<_>>()).await;
            assert_eq!(&observe(&mut netlink).await.routes, routes);
        }

        let delete = |(key, route): (&RouteKey, &Route)| {
            NetlinkChange::Route(RouteChange(*key, RouteOperation::Delete(route.clone())))
        };
        let mut changes: Vec<_> = wanted.iter().map(delete).collect();
        changes.extend_from_within(..);
        execute(&mut netlink, &changes).await;
        assert_eq!(observe(&mut netlink).await.routes, BTreeMap::new());
    });
}

#[test]
fn unmanaged_routes_with_managed_keys_are_seen_and_stay() {
    let netns = NetNs::new();
    netns.run(async || drop(with_link().await));
    let routes = [
        (
            "route",
            "10.2.0.0/16 via 169.254.1.9 dev ours onlink metric 173",
            "via 169.254.1.9 dev ours onlink",
        ),
        (
            "route",
            "blackhole 10.3.0.0/16 metric 173",
            "blackhole proto boot",
        ),
        (
            "route",
            "10.4.0.0/16 dev ours metric 173 proto static",
            "dev ours proto static scope link",
        ),
        (
            "-6 route",
            "unreachable fd00:2::/32 metric 1000000",
            "unreachable",
        ),
        (
            "-6 route",
            "fd00:3::/32 dev ours metric 173 pref high",
            "dev ours proto boot pref high",
        ),
        (
            "route",
            "10.5.0.0/16 metric 173 nexthop via 169.254.1.1 dev ours onlink nexthop via 169.254.1.2 dev ours onlink weight 2",
            "proto boot nexthop via 169.254.1.1 dev ours weight 1 nexthop via 169.254.1.2 dev ours weight 2",
        ),
        (
            "-6 route",
            "fd00:5::/32 metric 173 nexthop via fe80::1 dev ours nexthop via fe80::2 dev ours",
            "proto boot nexthop via fe80::1 dev ours weight 1 nexthop via fe80::2 dev ours weight 1",
        ),
    ];
    for (object, words, _) in routes {
        let (kind, rest) = words.split_once(' ').unwrap();
        let typed = kind.chars().all(char::is_alphabetic);
        netns.ip(&if typed {
            format!("{object} add {kind} {rest}")
        } else {
            format!("{object} add {words}")
        });
    }
    // An unrelated route.
    netns.ip("route add 10.9.0.0/16 dev ours metric 5");
    let before = netns.ip("route show table all") + &netns.ip("-6 route show table all");

    netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        let seen = observe(&mut netlink).await.routes;
        let mut said: Vec<_> = seen
            .values()
            .map(|route| (route.owner, route.kind.to_string()))
            .collect();
        let mut wanted: Vec<_> = routes
            .iter()
            .map(|(.., said)| (Owner::Other, (*said).to_owned()))
            .collect();
        said.sort();
        wanted.sort();
        assert_eq!(said, wanted);

        for key in seen.keys() {
            let gateway = if key.prefix.addr().is_ipv4() {
                "169.254.1.1"
            } else {
                "fe80::1"
            };
            let create = NetlinkChange::Route(RouteChange(
                *key,
                RouteOperation::Create(via(gateway, "ours", None, None)),
            ));
            let delete = NetlinkChange::Route(RouteChange(
                *key,
                RouteOperation::Delete(via(gateway, "ours", None, None)),
            ));
            let outcomes = netlink.execute(&[create, delete]).await;
            let error = outcomes[0].as_ref().unwrap_err();
            assert_eq!(error.errno(), Some(libc::EEXIST), "{error}");
            assert!(error.to_string().contains("not created by Adit"), "{error}");
            // The managed route does not exist, which is no error. The unmanaged one must stay.
            assert!(outcomes[1].is_ok(), "{outcomes:?}");
        }
    });
    let after = netns.ip("route show table all") + &netns.ip("-6 route show table all");
    assert_eq!(after, before);
}

#[test]
fn managed_routes_for_one_type_of_service_have_their_own_keys() {
    let netns = NetNs::new();
    let delete =
        |key: RouteKey| NetlinkChange::Route(RouteChange(key, RouteOperation::Delete(unreachable())));
    let ordinary = key(MAIN_TABLE, "10.2.0.0/16", ANCHOR_METRIC);
    let special = RouteKey {
        tos: 0x10,
        ..ordinary
    };
    let only = |key, gateway| BTreeMap::from([(key, via(gateway, "ours", None, None))]);
    netns.run(async || {
        let mut netlink = with_link().await;
        let route = via("169.254.1.1", "ours", None, None);
        let create = NetlinkChange::Route(RouteChange(ordinary, RouteOperation::Create(route)));
        execute(&mut netlink, &[create]).await;
    });
    let managed = "10.2.0.0/16 tos 0x10 via 169.254.1.2 dev ours onlink metric 173 proto 173";
    netns.ip(&format!("route add {managed}"));
    // Of somebody else, so it occupies no position of a desired route.
    netns.ip("route add 10.2.0.0/16 tos 0x08 via 169.254.1.3 dev ours onlink metric 173");
    netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        let mut both = only(ordinary, "169.254.1.1");
        both.extend(only(special, "169.254.1.2"));
        assert_eq!(observe(&mut netlink).await.routes, both);
        execute(&mut netlink, &[delete(special)]).await;
        assert_eq!(observe(&mut netlink).await.routes, only(ordinary, "169.254.1.1"));
        // Not the unmanaged one.
        execute(
            &mut netlink,
            &[delete(RouteKey {
                tos: 0x08,
                ..ordinary
            })],
        )
        .await;
    });
    netns.ip(&format!("route add {managed}"));
    netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        execute(&mut netlink, &[delete(ordinary)]).await;
        assert_eq!(observe(&mut netlink).await.routes, only(special, "169.254.1.2"));
    });
    assert!(netns.ip("route show 10.2.0.0/16").contains("via 169.254.1.3"));
}

#[test]
fn an_error_has_the_message_of_the_kernel() {
    NetNs::new().run(async || {
        let mut netlink = with_link().await;
        let route = via("fe80::1", "ours", Some("fd00:9::9"), None);
        let create = NetlinkChange::Route(RouteChange(
            key(MAIN_TABLE, "fd00:2::/32", ANCHOR_METRIC),
            RouteOperation::Create(route),
        ));
        let error = netlink.make(&[create]).await.unwrap_err();
        assert_eq!(error.kernel_text.as_deref(), Some("Invalid source address"));
        assert_eq!(error.errno(), Some(libc::EINVAL));
        assert!(
            error
                .to_string()
                .starts_with("add route fd00:2::/32 metric 173 via fe80::1 dev ours"),
            "{error}"
        );
    });
}

#[test]
fn changes_of_missing_links_are_refused() {
    NetNs::new().run(async || {
        let mut netlink = Netlink::open().unwrap();
        let changes = [
            NetlinkChange::Link(LinkChange(name("gone"), LinkOperation::SetUp)),
            NetlinkChange::Route(RouteChange(
                key(MAIN_TABLE, "10.2.0.0/16", 173),
                RouteOperation::Create(via("169.254.1.1", "gone", None, None)),
            )),
        ];
        let outcomes = netlink.execute(&changes).await;
        let errors = outcomes
            .iter()
            .map(|outcome| outcome.as_ref().unwrap_err().errno());
        assert_eq!(errors.collect::<Vec<_>>(), [Some(libc::ENODEV); 2]);
    });
}
