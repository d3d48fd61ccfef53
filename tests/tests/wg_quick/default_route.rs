//! The protection beside a default route: packets of a local link do not enter the tunnel, and answers get its mark.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Output;

use adit_tests::named::{eventually, said};
use adit_tests::{NetNs, require_program, snapshot};
use dataplane_user::kernel::nft::quick;
use dataplane_user::net::LinkName;

use crate::{Conf, adit, key, ready, run, wg_quick};

/// A host with an uplink to a peer, and another link to a neighbour that knows the addresses of the tunnel.
struct Scene {
    host: NetNs,
    peer: NetNs,
    neighbour: NetNs,
}

impl Scene {
    fn new() -> Scene {
        let [host, peer, neighbour] = [NetNs::new(), NetNs::new(), NetNs::new()];
        host.ip_batch(&format!(
            "link add u0 type veth peer name u0 netns {}
            link add x0 type veth peer name x0 netns {}
            link set u0 up
            link set x0 up
            address add 192.0.2.1/24 dev u0
            address add 198.51.100.1/24 dev x0
            address add 2001:db8:1::1/64 dev x0 nodad
            route add default via 192.0.2.2",
            peer.path().display(),
            neighbour.path().display()
        ));
        neighbour.ip_batch(
            "link set x0 up
            address add 198.51.100.2/24 dev x0
            address add 2001:db8:1::2/64 dev x0 nodad
            route add 10.70.0.1 via 198.51.100.1
            route add fd70::1 via 2001:db8:1::1",
        );
        // Reached by the default route, like endpoints.
        peer.ip_batch(
            "link set u0 up
            address add 192.0.2.2/24 dev u0
            address add 203.0.113.17/32 dev lo",
        );
        let conf = Conf::new(&format!(
            "[Interface]\nPrivateKey = {}\nListenPort = 51820\nAddress = 10.70.0.2/24, fd70::2/64\n[Peer]\nPublicKey = {}\n\
             AllowedIPs = 10.70.0.1/32, fd70::1/128\n",
            key(2).to_base64().as_str(),
            key(1).public_key()
        ));
        said(&adit(&peer, &["wg", "up", conf.path().to_str().unwrap()]));
        Scene {
            host,
            peer,
            neighbour,
        }
    }

    /// A file that routes everything to the peer.
    fn conf() -> Conf {
        Conf::new(&format!(
            "[Interface]\nPrivateKey = {}\nAddress = 10.70.0.1/24, fd70::1/64\n[Peer]\nPublicKey = {}\n\
             Endpoint = 203.0.113.17:51820\nAllowedIPs = 0.0.0.0/0, ::/0\n",
            key(1).to_base64().as_str(),
            key(2).public_key()
        ))
    }

    fn set(&self, setting: &str, value: &str) {
        let path = Path::new("/proc/sys/net/ipv4/conf").join(setting);
        self.host.enter(|| fs::write(path, value)).expect("root sets it");
    }
}

fn pings(netns: &NetNs, address: &str) -> bool {
    run(netns, Path::new("ping"), &["-c1", "-W1", address])
        .status
        .success()
}

/// Sorted tables, because either family may be created first.
fn tables(netns: &NetNs) -> BTreeSet<String> {
    let listed = snapshot::run(netns, "nft", "list tables");
    listed.lines().map(str::to_owned).collect()
}

/// Both tools with their names.
const TOOLS: [fn(&NetNs, &[&str]) -> Output; 2] =
    [|netns, words| adit(netns, &[&["wg"], words].concat()), wg_quick];

#[test]
fn packets_of_a_local_link_to_addresses_of_the_interface_are_dropped_as_by_wg_quick() {
    if !ready() {
        return;
    }
    for (number, tool) in TOOLS.iter().enumerate() {
        let scene = Scene::new();
        let (host, neighbour) = (&scene.host, &scene.neighbour);
        let conf = Scene::conf();
        let path = conf.path();
        let path = path.to_str().unwrap();
        said(&tool(host, &["up", path]));
        for address in ["198.51.100.1", "2001:db8:1::1"] {
            assert!(
                eventually(|| pings(neighbour, address)),
                "{address}: the link works"
            );
        }
        for (inside, peer) in [("10.70.0.1", "10.70.0.2"), ("fd70::1", "fd70::2")] {
            assert!(
                !pings(neighbour, inside),
                "{number}: {inside} answers a neighbour"
            );
            assert!(eventually(|| pings(host, peer)), "{number}: {peer} by the tunnel");
            assert!(
                eventually(|| pings(&scene.peer, inside)),
                "{number}: {inside} by the tunnel"
            );
            assert!(pings(host, inside), "{number}: {inside} by the host itself");
        }
        for family in ["ip", "ip6"] {
            snapshot::run(host, "nft", &format!("delete table {family} wg-quick-wg0"));
        }
        for inside in ["10.70.0.1", "fd70::1"] {
            assert!(
                eventually(|| pings(neighbour, inside)),
                "nothing else drops it: {inside}"
            );
        }
        // If these are deleted, `down` reports no error.
        said(&tool(host, &["down", path]));
    }
}

#[test]
fn each_tool_removes_the_tables_that_the_other_created() {
    if !ready() {
        return;
    }
    let host = NetNs::new();
    let conf = Scene::conf();
    let path = conf.path();
    let path = path.to_str().unwrap();
    let mine = "add table ip wg-quick-wg01; add table inet mine";
    said(&run(&host, Path::new("nft"), &[mine]));
    let before = tables(&host);
    let rules = |netns: &NetNs| {
        let all = snapshot::ruleset(netns);
        let drops = all.lines().filter(|line| line.trim_end().ends_with("drop"));
        drops.map(|line| line.trim().to_owned()).collect::<BTreeSet<_>>()
    };
    let mut seen = Vec::new();
    for up in TOOLS {
        for down in TOOLS {
            said(&up(&host, &["up", path]));
            seen.push((tables(&host), rules(&host)));
            said(&down(&host, &["down", path]));
            assert_eq!(tables(&host), before);
        }
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "{seen:#?}");
    assert_eq!(seen[0].1.len(), 2, "{seen:#?}");

    // The remains of an interface that was deleted without `down` are replaced.
    said(&adit(&host, &["wg", "up", path]));
    host.ip("link delete wg0");
    for family in ["-4", "-6"] {
        host.ip(&format!("{family} rule delete table 51820"));
        host.ip(&format!("{family} rule delete suppress_prefixlength 0"));
    }
    said(&adit(&host, &["wg", "up", path]));
    assert_eq!((tables(&host), rules(&host)), seen[0]);
    said(&adit(&host, &["wg", "down", path]));
    assert_eq!(tables(&host), before);

    // nft accepts no such name for a table.
    let odd = conf.path().with_file_name("a=b+.conf");
    fs::copy(conf.path(), &odd).unwrap();
    let odd = odd.to_str().unwrap();
    let up = adit(&host, &["wg", "up", odd]);
    assert!(!String::from_utf8_lossy(&up.stderr).contains("CVE"), "{up:?}");
    said(&up);
    assert_ne!(tables(&host), before);
    said(&adit(&host, &["wg", "down", odd]));
    assert_eq!(tables(&host), before);
}

#[test]
fn iptables_rules_of_wg_quick_without_nft_are_deleted() {
    if !require_program("iptables-save") {
        return;
    }
    let host = NetNs::new();
    let saved = || {
        ["iptables-save", "ip6tables-save"]
            .map(|program| snapshot::run(&host, program, ""))
            .concat()
    };
    // As wg-quick passes them to iptables-restore, and those of another interface.
    let mut script = String::new();
    for (table, chain, words) in [
        (
            "raw",
            "PREROUTING",
            "! -i IF -d ADDRESS -m addrtype ! --src-type LOCAL -j DROP",
        ),
        (
            "mangle",
            "POSTROUTING",
            "-m mark --mark 51820 -p udp -j CONNMARK --save-mark",
        ),
        ("mangle", "PREROUTING", "-p udp -j CONNMARK --restore-mark"),
    ] {
        writeln!(script, "*{table}").unwrap();
        for interface in ["wg0", "wg01"] {
            let words = words.replace("IF", interface);
            let comment = format!("-m comment --comment \"wg-quick(8) rule for {interface}\"");
            writeln!(script, "-I {chain} {words} {comment}").unwrap();
        }
        script.push_str("COMMIT\n");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules");
    for (program, address) in [
        ("iptables-restore", "10.70.0.1"),
        ("ip6tables-restore", "fd70::1"),
    ] {
        fs::write(&file, script.replace("ADDRESS", address)).unwrap();
        let restored = run(&host, Path::new(program), &["-n", file.to_str().unwrap()]);
        if !restored.status.success() {
            return println!("skipped: this kernel has no iptables: {restored:?}");
        }
    }
    let rules = |of: &str| saved().matches(&format!("rule for {of}\"")).count();
    assert_eq!((rules("wg0"), rules("wg01")), (6, 6));
    let wg0 = LinkName::new("wg0").unwrap();
    host.run(async || quick::remove(&wg0).await).unwrap();
    assert_eq!((rules("wg0"), rules("wg01")), (0, 6));
    host.run(async || quick::remove(&wg0).await).unwrap();
}

#[test]
fn answers_pass_a_strict_rp_filter_that_uses_marks_and_another_is_reported() {
    if !ready() {
        return;
    }
    let scene = Scene::new();
    let host = &scene.host;
    let conf = Scene::conf();
    let path = conf.path();
    let path = path.to_str().unwrap();
    scene.set("u0/rp_filter", "1");
    let warns = |output: &Output| {
        said(output);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.contains("u0 drops") && text.contains("net.ipv4.conf.all.src_valid_mark=1")
    };
    assert!(warns(&adit(host, &["wg", "up", path])));
    assert!(!pings(host, "10.70.0.2"), "the kernel drops the answers");
    scene.set("all/src_valid_mark", "1");
    assert!(eventually(|| pings(host, "10.70.0.2")));
    snapshot::run(host, "nft", "flush chain ip wg-quick-wg0 premangle");
    assert!(
        !pings(host, "10.70.0.2"),
        "without the mark the filter drops them again"
    );
    said(&adit(host, &["wg", "down", path]));
    assert!(!warns(&adit(host, &["wg", "up", path])));
    assert!(eventually(|| pings(host, "10.70.0.2")));
    said(&adit(host, &["wg", "down", path]));
    // wg-quick sets the same setting.
    scene.set("all/src_valid_mark", "0");
    said(&wg_quick(host, &["up", path]));
    assert!(eventually(|| pings(host, "10.70.0.2")));
}
