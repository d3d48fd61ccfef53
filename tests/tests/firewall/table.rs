//! The table itself: it is read back as written, it changes completely or not at all, and changes by others are reverted.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use adit_tests::traffic::bound;
use adit_tests::{Agent, NetNs, Overlay, snapshot};
use dataplane_user::kernel::{Kernel as _, LinuxKernel};
use dataplane_user::model::Firewall;
use dataplane_user::model::change::NftChange;
use dataplane_user::model::firewall::{Action, Chain, Match, Side, Transport, aggregate};
use dataplane_user::model::rule::Mark;
use dataplane_user::net::{Family, LinkName};
use dataplane_user::source::last_good;
use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::{has_tables, ready, topology};

#[test]
fn a_written_table_is_read_back_equal() {
    if !has_tables() {
        return;
    }
    let netns = NetNs::new();
    let config = Config {
        cases: 24,
        failure_persistence: None,
        ..Config::default()
    };
    let run = |firewall: Firewall| {
        netns.run(async || {
            let mut kernel = LinuxKernel::without_bpf().unwrap();
            let before = kernel.observe().await.unwrap().firewall;
            let change = match before {
                None => NftChange::Create(Box::new(firewall.clone())),
                Some(_) => NftChange::Replace(Box::new(firewall.clone())),
            };
            let done = kernel.execute(&[change.into()]).await.remove(0);
            assert!(done.is_ok(), "{done:?}");
            assert_eq!(kernel.observe().await.unwrap().firewall, Some(firewall));
        });
        Ok(())
    };
    TestRunner::new(config).run(&firewalls(), run).unwrap();
}

/// One that is no program, one that can't be loaded, and one that never ends.
const BROKEN: [(&str, &str); 3] = [
    ("", "os error 8"),
    (
        "#!/bin/sh\necho 'libnftables.so.1: No such file or directory' >&2\nexit 127\n",
        "libnftables.so.1",
    ),
    ("#!/bin/sh\nexec sleep 1000\n", "did not end within"),
];

#[test]
fn an_nft_that_fails_at_the_start_leaves_the_table_and_the_rest_continues() {
    if !ready() {
        return;
    }
    let topology = topology();
    let [host, _] = &topology.hosts;
    let folder = tempfile::tempdir().unwrap();
    let nft = folder.path().join("nft");
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", folder.path().display());
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let mut agent = Agent::new(host, &manifests).with_environment(Some(("PATH", path)));
    agent.start();
    agent.ready();
    let table = || snapshot::run(&host.netns, "nft", "list table inet adit");
    let before = table();
    for (program, told) in BROKEN {
        agent.stop();
        fs::write(&nft, program).unwrap();
        fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).unwrap();
        host.netns.ip("route delete unreachable 10.0.0.0/8");
        agent.start();
        let status = agent.wait("reported", |status| status.reconciliation.number > 0);
        let mut problems = status.problems.iter();
        let is_told =
            problems.any(|problem| problem.reason == "FirewallUnreadable" && problem.message.contains(told));
        assert!(is_told && !status.ready, "{status:#?}");
        assert_eq!((status.reconciliation.failed, status.repairs.total), (0, 0));
        assert!(host.netns.ip("route show").contains("unreachable 10.0.0.0/8"));
        assert_eq!(table(), before);
    }
    agent.stop();
    let printed = agent.run_alike(&["uninstall"]);
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(
        printed.stderr.contains("could not delete nft table inet adit"),
        "{printed:?}"
    );
    assert!(!host.netns.ip("link show").contains("adit"));
    assert!(!agent.pins().exists() && !agent.state_directory().join(last_good::NAME).exists());
    assert_eq!(table(), before);

    fs::remove_file(&nft).unwrap();
    agent.start();
    agent.reconciled("whole again", |status| status.ready);
    assert_eq!(table(), before);
}

/// A rule about `v*` is about that device, and about no other whose name begins so; one that has no words is refused whole.
#[test]
fn a_device_name_matches_only_that_device() {
    if !has_tables() {
        return;
    }
    let (netns, other) = (NetNs::new(), NetNs::new());
    for (number, name) in (1..).zip(["v*", "v1", r"v\x"]) {
        netns.ip(&format!(
            "link add {name} type veth peer name e{number} netns {}",
            other.path().display()
        ));
        netns.ip(&format!("link set {name} up"));
        netns.ip(&format!("address add 192.0.2.{}/30 dev {name}", 4 * number + 1));
        other.ip_batch(&format!(
            "link set e{number} up
            address add 192.0.2.{}/30 dev e{number}",
            4 * number + 2
        ));
    }
    let gets_in = |number: u8| {
        let server = bound(&netns, [192, 0, 2, 4 * number + 1].into()).unwrap();
        let client = bound(&other, [192, 0, 2, 4 * number + 2].into()).unwrap();
        server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        // The first packet may be lost while the neighbour is resolved; a dropped one is always lost.
        (0..20).any(|_| {
            client.send_to(b"adit", server.local_addr().unwrap()).unwrap();
            server.recv(&mut [0; 16]).is_ok()
        })
    };
    assert_eq!([1, 2, 3].map(gets_in), [true; 3]);
    for (dropped, passes) in [
        (&["v*"][..], [false, true, true]),
        (&["v*", r"v\x"], [false, true, false]),
    ] {
        let links = dropped.iter().map(|name| LinkName::new(name).unwrap()).collect();
        let mut firewall = Firewall::managed();
        firewall.push(Chain::Input, vec![Match::In(links)], Action::Drop);
        netns.run(async || {
            let mut kernel = LinuxKernel::without_bpf().unwrap();
            let made = kernel
                .execute(&[NftChange::Replace(Box::new(firewall.clone())).into()])
                .await;
            assert!(made[0].is_ok(), "{made:?}");
            assert_eq!(kernel.observe().await.unwrap().firewall, Some(firewall.clone()));
            // A name that nft cannot express changes nothing.
            let mut bad = firewall;
            let links = [LinkName::new("a\"b").unwrap()].into();
            bad.push(Chain::Forward, vec![Match::In(links)], Action::Accept);
            let refused = kernel.execute(&[NftChange::Replace(Box::new(bad)).into()]).await;
            let error = refused[0].as_ref().unwrap_err().to_string();
            assert!(error.contains(r#"device name "a\"b""#), "{error}");
        });
        assert_eq!([1, 2, 3].map(gets_in), passes, "{dropped:?}");
    }
}

#[test]
fn a_table_that_the_kernel_refuses_leaves_the_old_one() {
    if !has_tables() {
        return;
    }
    let netns = NetNs::new();
    snapshot::run(&netns, "nft", "add table inet mine");
    let links = || BTreeSet::from([LinkName::constant("adit0")]);
    let mut old = Firewall::managed();
    old.push(Chain::Forward, vec![Match::In(links())], Action::Accept);
    netns.run(async || {
        let mut kernel = LinuxKernel::without_bpf().unwrap();
        assert_eq!(kernel.observe().await.unwrap().firewall, None);
        let made = kernel
            .execute(&[NftChange::Create(Box::new(old.clone())).into()])
            .await;
        assert!(made[0].is_ok(), "{made:?}");
        // Creation is exclusive.
        let again = kernel
            .execute(&[NftChange::Create(Box::new(old.clone())).into()])
            .await;
        let error = again[0].as_ref().unwrap_err().to_string();
        assert!(error.contains("File exists"), "{error}");
        // Valid rules first, and last one that is invalid in this chain: nft accepts it, the kernel does not.
        let mut new = old.clone();
        new.push(Chain::Forward, vec![Match::Out(links())], Action::Accept);
        new.push(Chain::Forward, vec![Match::Out(links())], Action::Masquerade);
        let refused = kernel.execute(&[NftChange::Replace(Box::new(new)).into()]).await;
        let error = refused[0].as_ref().unwrap_err().to_string();
        assert!(
            error.contains("not supported") && error.contains("masquerade"),
            "{error}"
        );
        assert_eq!(kernel.observe().await.unwrap().firewall, Some(old.clone()));
        let deleted = kernel.execute(&[NftChange::Delete.into()]).await;
        assert!(deleted[0].is_ok(), "{deleted:?}");
        assert_eq!(kernel.observe().await.unwrap().firewall, None);
    });
    assert_eq!(snapshot::ruleset(&netns), "table inet mine {\n}\n");
}

#[test]
fn a_flushed_table_is_restored_and_tables_of_others_stay() {
    if !ready() {
        return;
    }
    let topology = topology();
    let overlay = Overlay {
        network: vec!["masquerade: {}", "firewall: {protectPorts: true}"],
        ..Overlay::new(&topology, "geneve")
    };
    let a = &topology.hosts[0];
    let netns = &a.netns;
    let mut agent = Agent::new(a, &overlay.manifests(&topology));
    let planned = agent.plan(&["-o", "json"]);
    assert!(planned.stdout.contains("\"firewall\""), "{planned:?}");
    agent.start();
    agent.ready();
    let ours = || snapshot::run(netns, "nft", "list table inet adit");
    let before = ours();
    assert!(
        before.contains("masquerade") && before.contains("comment \"adit\""),
        "{before}"
    );
    snapshot::run(
        netns,
        "nft",
        "add table ip mine { chain c { type filter hook input priority 5 ; counter ; } ; }",
    );
    let mine = || snapshot::run(netns, "nft", "list table ip mine");
    assert!(mine().contains("counter"), "{}", mine());
    let mentioned = |text: &str| agent.log().matches(text).count();
    let repairs = || mentioned("done: add nft table") + mentioned("done: replace nft table");
    for damage in [
        "flush ruleset",
        "delete table inet adit",
        "flush table inet adit",
        "insert rule inet adit postrouting masquerade",
        "add chain inet adit theirs",
        "add set inet adit theirs { type ipv4_addr ; }",
        "add chain inet adit input { policy drop ; }",
        "flush chain inet adit postrouting",
    ] {
        let before_it = repairs();
        snapshot::run(netns, "nft", damage);
        agent.wait(damage, |_| {
            repairs() > before_it && ours_or_nothing(netns) == before
        });
        agent.wait("without a problem", |status| {
            status.ready && status.problems.is_empty()
        });
    }
    // An unchanged table is not listed again.
    agent.next_reconciliation();
    let listed = mentioned("listing nft table");
    let passed = agent.next_reconciliation();
    assert!(passed.ready, "{passed:#?}");
    assert_eq!(mentioned("listing nft table"), listed);
    let page = agent.run(&["status"]);
    assert_eq!(page.code, 0, "{page:?}");

    snapshot::run(
        netns,
        "nft",
        "add table ip mine { chain c { type filter hook input priority 5 ; counter ; } ; }",
    );
    agent.next_reconciliation();
    agent.stop();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert!(
        uninstalled.stdout.contains("delete nft table inet adit"),
        "{uninstalled:?}"
    );
    assert_eq!(
        snapshot::ruleset(netns)
            .replace('\n', " ")
            .matches("table")
            .count(),
        1,
        "{}",
        mine()
    );
}

fn ours_or_nothing(netns: &NetNs) -> String {
    let all = snapshot::ruleset(netns);
    if !all.contains("table inet adit {") {
        return String::new();
    }
    // The table may be deleted between the two.
    let output = netns.enter(|| {
        std::process::Command::new("nft")
            .args(["list", "table", "inet", "adit"])
            .output()
    });
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// Tables with each kind of match and action, in chains that may have them.
fn firewalls() -> impl Strategy<Value = Firewall> {
    let rules = vec((0..Chain::ALL.len(), matches(), 0..8_usize), 1..12);
    (rules, vec(incoming(), 0..3)).prop_map(|(drafts, incoming)| {
        let mut firewall = Firewall::managed();
        for matches in incoming {
            firewall.push(Chain::RawPrerouting, matches, Action::Drop);
        }
        for (chain, matches, action) in drafts {
            let chain = Chain::ALL[chain];
            let action = action_of(chain, action);
            // Only TCP has segments.
            let matches = match action {
                Action::ClampMss => vec![Match::Syn],
                _ => matches,
            };
            firewall.push(chain, matches, action);
        }
        firewall
    })
}

fn action_of(chain: Chain, number: usize) -> Action {
    match (chain, number % 3) {
        (Chain::RawPrerouting | Chain::RawOutput, _) => Action::Notrack,
        (Chain::ManglePrerouting, 0) => Action::MarkConnection(mark(number)),
        (Chain::MangleOutput, 0) => Action::MarkPacket(mark(number)),
        (Chain::Postrouting, 0 | 1) => Action::Masquerade,
        (Chain::MangleForward, 0) => Action::ClampMss,
        (_, 0) => Action::Drop,
        (_, 1) => Action::Accept,
        _ => Action::Return,
    }
}

/// Bits of a mask, all of them with one of these numbers.
fn mark(number: usize) -> Mark {
    let value = [0x0100_0000, 0x0f00_0000, 0x0a00_0000][number % 3];
    Mark::new(value, 0x0f00_0000).unwrap()
}

fn matches() -> impl Strategy<Value = Vec<Match>> {
    // Including names that have a special meaning for nft.
    let links = || {
        let names = [
            "adit0", "adit-wg3", "eth*", "*", "a*b", r"a\b\", "$x", "@y", "-z", "#", "{", "ü;",
        ];
        btree_set(proptest::sample::select(names.to_vec()), 1..4)
    };
    let names = |links: BTreeSet<&'static str>| links.into_iter().map(LinkName::constant).collect();
    let side = || prop_oneof![Just(Side::Source), Just(Side::Destination)];
    let one = prop_oneof![
        Just(Match::NotUnicast),
        Just(Match::Family(Family::Ipv6)),
        (side(), any::<bool>(), prefixes()).prop_map(|(side, within, prefixes)| Match::Address {
            side,
            within,
            prefixes,
        }),
        Just(Match::Syn),
        Just(Match::New),
        Just(Match::Reply),
        (0..3_usize).prop_map(|number| Match::ConnectionMark(mark(number))),
        (any::<bool>(), side(), btree_set(1..70_u16, 1..4)).prop_map(|(tcp, side, ports)| {
            Match::Port(if tcp { Transport::Tcp } else { Transport::Udp }, side, ports)
        }),
    ];
    // Two of one kind might contradict each other, which nft refuses.
    (proptest::option::of(links()), one).prop_map(move |(links, one)| {
        let by = links.map(|links| Match::Out(names(links)));
        by.into_iter().chain([one]).collect()
    })
}

/// What is said of what comes in, which no other chain has words for.
fn incoming() -> impl Strategy<Value = Vec<Match>> {
    let links = || {
        let names = ["lo", "adit0", "adit-geneve", "eth*", r"a\b"];
        let names = btree_set(proptest::sample::select(names.to_vec()), 1..4);
        names.prop_map(|names| names.into_iter().map(LinkName::constant).collect())
    };
    let routed = prop_oneof![links().prop_map(Match::SourceRoutedBy), Just(Match::NoRouteBack)];
    let device = prop_oneof![links().prop_map(Match::In), links().prop_map(Match::NotIn)];
    (device, routed).prop_map(|(device, routed)| vec![device, routed])
}

fn prefixes() -> impl Strategy<Value = BTreeSet<IpNet>> {
    let v4 = (any::<u32>(), 0..=32_u8).prop_map(|(bits, length)| {
        IpNet::new(Ipv4Addr::from_bits(bits & 0x0fff_ffff).into(), length).unwrap()
    });
    let v6 = (any::<u128>(), 0..=128_u8)
        .prop_map(|(bits, length)| IpNet::new(Ipv6Addr::from_bits(bits).into(), length).unwrap());
    prop_oneof![
        vec(v4, 1..6).prop_map(aggregate),
        vec(v6, 1..6).prop_map(aggregate),
    ]
}
