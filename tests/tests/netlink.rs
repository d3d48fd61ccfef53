//! The netlink adapter on the running kernel: what it writes reads back equal, and what is not ours stays.
#![expect(
    clippy::unwrap_used,
    reason = "clippy takes only test functions themselves for tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use adit_tests::{NetNs, require_module};
use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::model::change::{DeleteLinkReason, LinkPatch};
use dataplane_user::model::{
    ANCHOR_METRIC, Address, AddressScope, BACKSTOP_METRIC, Change, KernelState, Link, LinkKind, MAIN_TABLE,
    Owner, Route, RouteKey, RouteKind,
};
use dataplane_user::net::{LinkName, MacAddr};
use ipnet::IpNet;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0a]);

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn vxlan() -> Link {
    Link {
        owner: Owner::Ours,
        kind: LinkKind::Vxlan { port: 4789 },
        mac: Some(MAC),
        mtu: Some(1430),
        arp: false,
        generates_addresses: false,
        up: false,
    }
}

fn key(table: u32, to: &str, metric: u32) -> RouteKey {
    RouteKey {
        table,
        prefix: prefix(to),
        metric,
    }
}

fn via(gateway: &str, link: &str, source: Option<&str>, mtu: Option<u32>) -> Route {
    Route {
        owner: Owner::Ours,
        kind: RouteKind::Gateway {
            gateway: gateway.parse().unwrap(),
            link: name(link),
            source: source.map(|source| source.parse().unwrap()),
            mtu,
        },
    }
}

fn unreachable() -> Route {
    Route {
        owner: Owner::Ours,
        kind: RouteKind::Unreachable,
    }
}

fn address(scope: AddressScope) -> Address {
    Address {
        owner: Owner::Ours,
        scope,
    }
}

async fn observe(netlink: &mut Netlink) -> KernelState {
    let mut state = KernelState::default();
    netlink.observe(&mut state).await.unwrap();
    state
}

/// Executes changes that must all succeed.
async fn execute(netlink: &mut Netlink, changes: &[Change]) {
    for (change, outcome) in changes.iter().zip(netlink.execute(changes).await) {
        outcome.unwrap_or_else(|error| panic!("{change}: {error}"));
    }
}

/// A namespace's netlink with a VXLAN device `ours` that is up.
async fn with_link() -> Netlink {
    let mut netlink = Netlink::open().unwrap();
    let link = name("ours");
    execute(
        &mut netlink,
        &[Change::CreateLink(link.clone(), vxlan()), Change::SetLinkUp(link)],
    )
    .await;
    netlink
}

async fn link_reads_back(kind: LinkKind) {
    let mut netlink = Netlink::open().unwrap();
    let link = Link { kind, ..vxlan() };
    let ours = name("ours");
    execute(&mut netlink, &[Change::CreateLink(ours.clone(), link.clone())]).await;
    assert_eq!(observe(&mut netlink).await.links[&ours], link);

    execute(&mut netlink, &[Change::SetLinkUp(ours.clone())]).await;
    let state = observe(&mut netlink).await;
    assert_eq!(
        state.links[&ours],
        Link {
            up: true,
            ..link.clone()
        }
    );
    assert_eq!(state.addresses, BTreeMap::new(), "it generates no addresses");

    let patch = LinkPatch {
        mac: Some(MacAddr([2, 0, 0, 0, 0, 0x0b])),
        mtu: Some(1400),
        arp: Some(true),
        generates_addresses: Some(true),
    };
    execute(&mut netlink, &[Change::ModifyLink(ours.clone(), patch)]).await;
    let modified = Link {
        mac: patch.mac,
        mtu: patch.mtu,
        arp: true,
        generates_addresses: true,
        up: true,
        ..link
    };
    assert_eq!(observe(&mut netlink).await.links[&ours], modified);

    let delete = Change::DeleteLink(ours.clone(), DeleteLinkReason::Unneeded);
    execute(&mut netlink, &[delete.clone(), delete]).await;
    assert!(!observe(&mut netlink).await.links.contains_key(&ours));
    assert_eq!(netlink.link_index(&ours), None);
}

#[test]
fn a_vxlan_device_reads_back() {
    if require_module("vxlan") {
        NetNs::new().run(|| link_reads_back(LinkKind::Vxlan { port: 4789 }));
    }
}

#[test]
fn a_geneve_device_reads_back() {
    if require_module("geneve") {
        NetNs::new().run(|| link_reads_back(LinkKind::Geneve { port: 6081 }));
    }
}

#[test]
fn a_dummy_device_reads_back() {
    if require_module("dummy") {
        NetNs::new().run(|| link_reads_back(LinkKind::Dummy));
    }
}

#[test]
fn other_devices_are_foreign_and_in_words() {
    let netns = NetNs::new();
    netns.ip("link add bridge0 mtu 1400 up type bridge");
    netns.ip("link add vxlan0 type vxlan id 7 dstport 4790 remote 192.0.2.1 dev lo");
    netns.ip("link add vxlan1 group 173 type vxlan external dstport 4791 learning");
    let state = netns.run(async || observe(&mut Netlink::open().unwrap()).await);

    let bridge = &state.links["bridge0"];
    assert_eq!(
        (bridge.owner, bridge.mtu, bridge.up),
        (Owner::Foreign, Some(1400), true)
    );
    assert!(bridge.arp && bridge.generates_addresses && bridge.mac.is_some());
    assert_eq!(bridge.kind, LinkKind::Other("bridge".to_owned()));
    let words = |link: &str| state.links[link].kind.to_string();
    assert_eq!(
        words("vxlan0"),
        "vxlan dstport 4790 id 7 remote 192.0.2.1 dev if1 learning noudp6zerocsumrx"
    );
    assert_eq!(
        words("vxlan1"),
        "vxlan external dstport 4791 learning noudp6zerocsumrx"
    );
    assert_eq!(state.links["vxlan1"].owner, Owner::Ours);
    assert_eq!(words("lo"), "loopback");
    assert_eq!(state.links["lo"].mac, None);
}

#[test]
fn a_foreign_device_under_our_name_stays() {
    let netns = NetNs::new();
    netns.ip("link add ours mtu 1400 type bridge");
    let before = netns.ip("-d link show ours");
    netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        let ours = name("ours");
        let patch = LinkPatch {
            mtu: Some(1300),
            ..LinkPatch::default()
        };
        let changes = [
            Change::CreateLink(ours.clone(), vxlan()),
            Change::SetLinkUp(ours.clone()),
            Change::ModifyLink(ours.clone(), patch),
            Change::CreateAddress(
                ours.clone(),
                prefix("192.0.2.1/32"),
                address(AddressScope::Global),
            ),
            Change::DeleteLink(ours.clone(), DeleteLinkReason::Unneeded),
        ];
        let outcomes = netlink.execute(&changes).await;
        let errors: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap_err()).collect();
        assert_eq!(errors[0].errno(), Some(libc::EEXIST));
        assert!(
            errors[0].to_string().contains("something else stands there"),
            "{}",
            errors[0]
        );
        for error in &errors[1..] {
            assert!(error.to_string().contains("link ours is not ours"), "{error}");
        }
    });
    assert_eq!(netns.ip("-d link show ours"), before);
}

#[test]
fn addresses_read_back() {
    let netns = NetNs::new();
    netns.run(async || {
        let mut netlink = with_link().await;
        let ours = name("ours");
        let wanted: BTreeMap<_, _> = [
            ("169.254.1.2/32", AddressScope::Host),
            ("10.1.0.1/24", AddressScope::Global),
            ("10.2.0.1/32", AddressScope::Link),
            ("fd00:1::1/128", AddressScope::Global),
            ("fd00:2::1/64", AddressScope::Global),
            ("fe80::1/64", AddressScope::Link),
        ]
        .map(|(text, scope)| ((ours.clone(), prefix(text)), address(scope)))
        .into();
        let create = |((link, prefix), address): (&(LinkName, IpNet), &Address)| {
            Change::CreateAddress(link.clone(), *prefix, *address)
        };
        let changes: Vec<_> = wanted.iter().map(create).collect();
        execute(&mut netlink, &changes).await;
        assert_eq!(observe(&mut netlink).await.addresses, wanted);
        for outcome in netlink.execute(&changes).await {
            assert_eq!(outcome.unwrap_err().errno(), Some(libc::EEXIST));
        }

        let scoped = prefix("169.254.1.2/32");
        let replace = Change::ReplaceAddress(ours.clone(), scoped, address(AddressScope::Global));
        execute(&mut netlink, &[replace]).await;
        let replaced = observe(&mut netlink).await.addresses[&(ours.clone(), scoped)];
        assert_eq!(replaced, address(AddressScope::Global));

        let delete = |(link, prefix): &(LinkName, IpNet)| Change::DeleteAddress(link.clone(), *prefix);
        let mut changes: Vec<_> = wanted.keys().map(delete).collect();
        changes.extend_from_within(..);
        changes.push(Change::DeleteAddress(name("gone"), scoped));
        execute(&mut netlink, &changes).await;
        assert_eq!(observe(&mut netlink).await.addresses, BTreeMap::new());
    });
}

#[test]
fn of_foreign_addresses_those_on_our_links_are_seen() {
    let netns = NetNs::new();
    netns.ip("link add bridge0 up type bridge");
    netns.ip("link add ours group 173 type bridge");
    netns.ip("addr add 192.0.2.1/24 dev bridge0");
    netns.ip("addr add 192.0.2.2/24 dev ours");
    let state = netns.run(async || observe(&mut Netlink::open().unwrap()).await);
    let foreign = Address {
        owner: Owner::Foreign,
        scope: AddressScope::Global,
    };
    assert_eq!(
        state.addresses,
        BTreeMap::from([((name("ours"), prefix("192.0.2.2/24")), foreign)])
    );
}

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
            Change::CreateAddress(ours.clone(), prefix("10.1.0.1/32"), address(AddressScope::Global)),
            Change::CreateAddress(
                ours.clone(),
                prefix("fd00:1::1/128"),
                address(AddressScope::Global),
            ),
        ];
        let create = |(key, route): (&RouteKey, &Route)| Change::CreateRoute(*key, route.clone());
        changes.extend(wanted.iter().map(create));
        execute(&mut netlink, &changes).await;
        assert_eq!(observe(&mut netlink).await.routes, wanted);

        // Each one to what it was not, and back.
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
            let replace = |(key, route): (&RouteKey, &Route)| Change::ReplaceRoute(*key, route.clone());
            execute(&mut netlink, &routes.iter().map(replace).collect::<Vec<_>>()).await;
            assert_eq!(&observe(&mut netlink).await.routes, routes);
        }

        let delete = |(key, route): (&RouteKey, &Route)| Change::DeleteRoute(*key, route.clone());
        let mut changes: Vec<_> = wanted.iter().map(delete).collect();
        changes.extend_from_within(..);
        execute(&mut netlink, &changes).await;
        assert_eq!(observe(&mut netlink).await.routes, BTreeMap::new());
    });
}

#[test]
fn foreign_routes_under_our_keys_are_seen_and_stay() {
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
    // One that does not concern us.
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
            .map(|(.., said)| (Owner::Foreign, (*said).to_owned()))
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
            let create = Change::CreateRoute(*key, via(gateway, "ours", None, None));
            let delete = Change::DeleteRoute(*key, via(gateway, "ours", None, None));
            let outcomes = netlink.execute(&[create, delete]).await;
            let error = outcomes[0].as_ref().unwrap_err();
            assert_eq!(error.errno(), Some(libc::EEXIST), "{error}");
            assert!(
                error.to_string().contains("something else stands there"),
                "{error}"
            );
            // Ours is not there: no error. Theirs must stay all the same.
            assert!(outcomes[1].is_ok(), "{outcomes:?}");
        }
    });
    let after = netns.ip("route show table all") + &netns.ip("-6 route show table all");
    assert_eq!(after, before);
}

#[test]
fn a_refusal_carries_the_kernels_words() {
    NetNs::new().run(async || {
        let mut netlink = with_link().await;
        let route = via("fe80::1", "ours", Some("fd00:9::9"), None);
        let create = Change::CreateRoute(key(MAIN_TABLE, "fd00:2::/32", ANCHOR_METRIC), route);
        let outcomes = netlink.execute(&[create]).await;
        let error = outcomes[0].as_ref().unwrap_err();
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
fn changes_of_other_kinds_and_of_missing_links_are_refused() {
    NetNs::new().run(async || {
        let mut netlink = Netlink::open().unwrap();
        let changes = [
            Change::DeletePrefix(prefix("10.0.0.0/8")),
            Change::SetLinkUp(name("gone")),
            Change::CreateRoute(
                key(MAIN_TABLE, "10.2.0.0/16", 173),
                via("169.254.1.1", "gone", None, None),
            ),
        ];
        let outcomes = netlink.execute(&changes).await;
        let error = |place: usize| outcomes[place].as_ref().unwrap_err();
        assert!(
            error(0).to_string().contains("not a netlink change"),
            "{}",
            error(0)
        );
        assert_eq!(error(1).errno(), Some(libc::ENODEV));
        assert_eq!(error(2).errno(), Some(libc::ENODEV));
    });
}

#[test]
fn thousands_of_routes_go_in_batches_and_each_has_its_result() {
    const ROUTES: u32 = 5000;
    NetNs::new().run(async || {
        let mut netlink = with_link().await;
        let route = |number: u32| {
            let [_, _, high, low] = number.to_be_bytes();
            let (to, gateway) = if number.is_multiple_of(2) {
                (format!("10.{high}.{low}.0/24"), "169.254.1.1")
            } else {
                (format!("fd00:0:{number:x}::/48"), "fe80::1")
            };
            (
                key(MAIN_TABLE, &to, ANCHOR_METRIC),
                via(gateway, "ours", None, Some(1380)),
            )
        };
        let mut wanted: BTreeMap<_, _> = (0..ROUTES).map(route).collect();
        let mut changes: Vec<_> = wanted
            .iter()
            .map(|(key, route)| Change::CreateRoute(*key, route.clone()))
            .collect();
        // A repetition in the middle: that one, and none else, fails.
        changes.insert(2500, changes[2400].clone());

        let before = netlink.stats();
        let outcomes = netlink.execute(&changes).await;
        let sends = netlink.stats().sends - before.sends;
        assert_eq!(outcomes.len(), changes.len());
        let failed: Vec<_> = (0..outcomes.len())
            .filter(|place| outcomes[*place].is_err())
            .collect();
        assert_eq!(failed, [2500]);
        assert_eq!(outcomes[2500].as_ref().unwrap_err().errno(), Some(libc::EEXIST));
        assert!(sends <= 40, "{sends} sends for {} requests", changes.len());

        let before = netlink.stats();
        assert_eq!(observe(&mut netlink).await.routes, wanted);
        assert_eq!(
            netlink.stats().sends - before.sends,
            4,
            "one dump each of links, addresses and both families' routes"
        );

        let deleted: Vec<_> = wanted.keys().copied().take(4000).collect();
        let delete = |key: &RouteKey| Change::DeleteRoute(*key, wanted[key].clone());
        execute(&mut netlink, &deleted.iter().map(delete).collect::<Vec<_>>()).await;
        wanted.retain(|key, _| !deleted.contains(key));
        assert_eq!(observe(&mut netlink).await.routes, wanted);
        assert_eq!(netlink.stats().reopened, 0);
    });
}

#[test]
fn what_stands_is_seen_whole_while_links_come_and_go() {
    const LINKS: usize = 120;
    let netns = NetNs::new();
    netns.enter(|| {
        let mut script = tempfile::NamedTempFile::new().unwrap();
        for number in 0..LINKS {
            writeln!(script, "link add standing{number} type bridge").unwrap();
        }
        let status = Command::new("ip")
            .arg("-batch")
            .arg(script.path())
            .status()
            .unwrap();
        assert!(status.success());
    });
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            netns.run(async || {
                let mut netlink = Netlink::open().unwrap();
                let brief = name("brief");
                let changes = [
                    Change::CreateLink(brief.clone(), vxlan()),
                    Change::DeleteLink(brief, DeleteLinkReason::Unneeded),
                ];
                while !done.load(Ordering::Relaxed) {
                    execute(&mut netlink, &changes).await;
                }
            });
        });
        let seen = netns.run(async || {
            let mut netlink = Netlink::open().unwrap();
            let mut whole = 0;
            for _ in 0..40 {
                let mut state = KernelState::default();
                match netlink.observe(&mut state).await {
                    Ok(()) => {
                        let standing = state
                            .links
                            .keys()
                            .filter(|name| name.as_str().starts_with("standing"));
                        if standing.count() != LINKS {
                            return Err(format!("{} links", state.links.len()));
                        }
                        whole += 1;
                    }
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
            Ok((whole, netlink.stats()))
        });
        // Before any assertion: the other thread waits for it.
        done.store(true, Ordering::Relaxed);
        let (whole, stats) = seen.unwrap();
        println!("{whole} of 40 whole, {stats:?}");
        assert!(whole > 0);
    });
}

#[test]
fn facts_are_local_addresses_and_ways() {
    let netns = NetNs::new();
    netns.ip("link add under0 mtu 1480 up type bridge");
    netns.ip("addr add 192.0.2.1/24 dev under0");
    netns.ip("-6 addr add 2001:db8::1/64 dev under0 nodad");
    netns.ip("route add 198.51.100.0/24 via 192.0.2.254 mtu 1400");
    netns.ip("-6 route add 2001:db8:1::/64 via 2001:db8::fe mtu 1390");
    netns.ip("route add unreachable 203.0.113.0/25");
    netns.ip("route add blackhole 203.0.113.128/25");
    netns.ip("-6 route add prohibit 2001:db8:2::/64");
    netns.ip("-6 route add unreachable 2001:db8:3::/64");
    let ways = [
        ("192.0.2.7", Some(1480)),
        ("198.51.100.7", Some(1400)),
        ("203.0.113.7", None),
        ("203.0.113.207", None),
        ("100.64.0.1", None),
        ("2001:db8::7", Some(1480)),
        ("2001:db8:1::7", Some(1390)),
        ("2001:db8:2::7", None),
        ("2001:db8:3::7", None),
        ("2001:db9::7", None),
    ];
    let ways: BTreeMap<IpAddr, Option<u32>> = ways.map(|(peer, mtu)| (peer.parse().unwrap(), mtu)).into();
    let facts = netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        let peers: BTreeSet<_> = ways.keys().copied().collect();
        let facts = netlink.facts(&peers).await.unwrap();
        assert_eq!(netlink.stats().sends, 3, "two dumps and one batch");
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
    for local in ["127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"] {
        assert!(
            facts.local_addresses.contains(&local.parse::<IpAddr>().unwrap()),
            "{local}"
        );
    }
}
