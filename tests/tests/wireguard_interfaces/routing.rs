//! Routes to a declared device, in this namespace and in another one.

use std::path::{Path, PathBuf};
use std::process::Command;

use adit_tests::named::{Named, eventually};
use adit_tests::topology::Host;
use adit_tests::{Agent, Topology, require_module, require_program};
use dataplane_user::net::{Family, PrivateKey};
use dataplane_user::status::Status;

use crate::{interface, is_settled, key, reaches, secret, wg};

const PORT: u16 = 51820;

/// A device of host `b` that answers packets of the key of `a`, with an address of the internet on it.
fn answering(b: &Host, from: &PrivateKey, directory: &Path) {
    let file = secret(directory, "b", &key(0x62).to_base64());
    b.netns.ip_batch(
        "link add wgb type wireguard
        link set wgb up mtu 1420
        address add 198.51.100.9/32 dev wgb
        address add 2001:db8:9::9/128 dev wgb nodad
        route add 10.70.0.0/24 dev wgb
        route add fd70::/64 dev wgb",
    );
    let set = format!(
        "set wgb listen-port {PORT} private-key {} peer {} allowed-ips 10.70.0.0/24,fd70::/64",
        file.display(),
        from.public_key()
    );
    wg(&b.netns, &set);
}

/// The end of `a`, with routes by it.
fn to_b(b: &Host, key_file: &Path, (rest, allowed): (&str, &str)) -> String {
    let spec = format!(
        "privateKey: {{ file: {} }}, addresses: [10.70.0.1/24, 'fd70::1/64'], {rest} peers: [{{ publicKey: '{}', endpoint: '{}:{PORT}', allowedIPs: [{allowed}] }}]",
        key_file.display(),
        key(0x62).public_key(),
        b.underlay(Family::Ipv4)
    );
    interface("a", "wg0", &spec)
}

/// Two hosts, of which the second one answers, and a file with the key of the first one.
pub(crate) struct Called {
    pub(crate) topology: Topology<2>,
    /// The directory with the keys.
    pub(crate) directory: tempfile::TempDir,
    pub(crate) key_file: PathBuf,
}

impl Called {
    /// `None` if the kernel has no WireGuard.
    pub(crate) fn new() -> Option<Called> {
        if !require_module("wireguard") || !require_program("wg") {
            return None;
        }
        let topology = Topology::<2>::new();
        let directory = tempfile::tempdir().expect("a temporary directory");
        answering(&topology.hosts[1], &key(0x61), directory.path());
        let key_file = secret(directory.path(), "a", &key(0x61).to_base64());
        Some(Called {
            topology,
            directory,
            key_file,
        })
    }

    pub(crate) fn hosts(&self) -> [&Host; 2] {
        [&self.topology.hosts[0], &self.topology.hosts[1]]
    }

    /// The manifest of the end on the first host.
    fn manifest(&self, rest: &str) -> String {
        self.leading(rest, "0.0.0.0/0, '::/0'")
    }

    /// The same with other allowed IPs.
    fn leading(&self, rest: &str, allowed: &str) -> String {
        to_b(self.hosts()[1], &self.key_file, (rest, allowed))
    }
}

#[test]
fn a_default_route_excludes_wireguard_packets_and_more_specific_routes() {
    let Some(called) = Called::new() else { return };
    let [a, b] = called.hosts();
    let mut agent = Agent::started(a, &called.manifest(""));
    is_settled(&agent);
    for far in ["198.51.100.9", "2001:db8:9::9"] {
        assert!(reaches(&a.netns, far), "{far}");
        let route = a.netns.ip(&format!("route get {far}"));
        assert!(route.contains("dev wg0 table 51820"), "{route}");
    }
    // The subnet of u0 is more specific, so neighbours on the underlay are still reached by it.
    let near = a.netns.ip("route get 192.0.2.17");
    assert!(near.contains("dev u0"), "{near}");
    let outer = a
        .netns
        .ip(&format!("route get {} mark 51820", b.underlay(Family::Ipv4)));
    assert!(outer.contains("dev u0"), "{outer}");
    let rules = a.netns.ip("rule show") + &a.netns.ip("-6 rule show");
    for wanted in [
        "1731:\tfrom all lookup main suppress_prefixlength 0 proto 173",
        "1732:\tnot from all fwmark 0xca6c lookup 51820 proto 173",
    ] {
        assert_eq!(rules.matches(wanted).count(), 2, "{wanted}: {rules}");
    }
    // A deleted rule is restored.
    a.netns.ip("rule delete priority 1732");
    assert!(eventually(|| a.netns.ip("rule show").contains("1732:")));
    // A table that the user chose: routes but no rules.
    agent.write(&called.manifest("table: 77,"));
    agent.wait("without rules", |status| {
        status.ready && !a.netns.ip("rule show").contains("1732:")
    });
    assert!(a.netns.ip("route show table 77").contains("default dev wg0"));
    assert!(!a.netns.ip("rule show").contains("1731:"));
    is_settled(&agent);
    agent.write(&called.manifest("table: off,"));
    let empty = || !a.netns.ip("route show table all proto 173").contains("wg0");
    agent.wait("without routes", |status| status.ready && empty());
    agent.stop();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert!(!a.netns.ip("link").contains("wg0"));
}

#[test]
fn an_endpoint_behind_the_routes_of_its_own_device_is_reported() {
    let Some(called) = Called::new() else { return };
    let [a, b] = called.hosts();
    let halves = called.leading("", "0.0.0.0/1, 128.0.0.0/1");
    let mut agent = Agent::new(a, &halves);
    agent.start();
    let looped = |status: &Status| {
        let mut problems = status.problems.iter();
        let found = problems
            .any(|problem| problem.reason == "UnderlayLoop" && problem.subject == "WireGuardInterface/wg0");
        found && !status.ready
    };
    let status = agent.wait("reporting of the loop", looped);
    // Reported both before and after the routes of the device exist.
    assert!(looped(&agent.next_reconciliation()), "{status:#?}");
    let remote = b.underlay(Family::Ipv4);
    let led = a.netns.ip(&format!("route get {remote}"));
    assert!(led.contains("dev wg0"), "{led}");
    // With a more specific route by the uplink it works.
    a.netns.ip(&format!("route add {remote} via 192.0.2.17 dev u0"));
    agent.wait("ready", |status| status.ready && status.problems.is_empty());
    assert!(reaches(&a.netns, "198.51.100.9"));
    is_settled(&agent);
}

#[test]
fn a_strict_uplink_below_a_default_route_drops_answers_and_is_reported() {
    let Some(called) = Called::new() else { return };
    let [a, _] = called.hosts();
    a.netns.sysctl("net/ipv4/conf/u0/rp_filter", "1");
    let agent = Agent::started(a, &called.manifest(""));
    let strict = |status: &Status| {
        let mut problems = status.problems.iter();
        problems.any(|problem| problem.reason == "StrictFilter" && problem.message.contains("u0"))
    };
    agent.wait("reported", strict);
    let manifests = agent.manifests();
    let doctor = agent
        .run(&["doctor", "--node", "a", "-f", manifests.to_str().unwrap()])
        .stdout;
    assert!(
        doctor.contains("(StrictFilter)") && doctor.contains("strict (1) on u0"),
        "{doctor}"
    );
    // The report is right.
    let ping = || {
        let ping = Command::new("ping").args(["-c1", "-W1", "198.51.100.9"]).output();
        ping.is_ok_and(|output| output.status.success())
    };
    assert!((0..3).all(|_| !a.netns.enter(ping)));
    a.netns.sysctl("net/ipv4/conf/u0/rp_filter", "2");
    agent.reconciled("without the warning", |status| !strict(status));
    assert!(reaches(&a.netns, "198.51.100.9"));
}

#[test]
fn a_device_in_another_namespace_sends_from_the_namespace_of_the_agent() {
    let Some(called) = Called::new() else { return };
    let [a, b] = called.hosts();
    // The namespace has only a loopback device.
    let inside = Named::new();
    let place = format!("namespace: {{ name: {} }},", inside.0);
    let mut agent = Agent::started(a, &called.manifest(&place));
    is_settled(&agent);
    for far in ["198.51.100.9", "2001:db8:9::9"] {
        assert!(inside.reaches(far), "{far}");
    }
    assert!(!a.netns.ip("link").contains("wg0"), "it is not here");
    assert!(inside.ip("-d link show wg0").contains("group 173"));
    let peers = || {
        let words = ["netns", "exec", &inside.0, "wg", "show", "wg0", "dump"];
        let output = Command::new("ip").args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // The other end sends from another port: it has roamed, and the endpoint is kept, also over a restart.
    wg(&b.netns, &format!("set wgb listen-port {}", PORT + 7));
    let a_key = key(0x61).public_key();
    let port = peers()
        .lines()
        .next()
        .unwrap()
        .split('\t')
        .nth(2)
        .unwrap()
        .to_owned();
    wg(
        &b.netns,
        &format!(
            "set wgb peer {a_key} endpoint {}:{port} persistent-keepalive 1",
            a.underlay(Family::Ipv4)
        ),
    );
    let roamed = format!("{}:{}", b.underlay(Family::Ipv4), PORT + 7);
    assert!(eventually(|| peers().contains(&roamed)), "{}", peers());
    agent.next_reconciliation();
    agent.stop();
    agent.start();
    agent.ready();
    agent.next_reconciliation();
    assert!(peers().contains(&roamed), "{}", peers());
    is_settled(&agent);
    // A recreated device uses the configured endpoint.
    wg(&b.netns, &format!("set wgb listen-port {PORT}"));
    inside.ip("link delete wg0");
    assert!(eventually(|| inside.ip("link").contains("wg0")));
    agent.wait("repaired", |status| status.ready);
    assert!(inside.reaches("198.51.100.9"));
    agent.stop();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert!(!inside.ip("link").contains("wg0"));
}
