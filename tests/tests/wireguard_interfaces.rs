//! WireGuard devices that manifests declare, on real kernels, by the real agent; `wg` says what they are.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use adit_tests::container::Container;
use adit_tests::declared::of_node;
use adit_tests::named::{Named, eventually};
use adit_tests::topology::Host;
use adit_tests::{Agent, NetNs, Topology, require_module, require_program, snapshot};
use dataplane_user::net::{Family, PresharedKey, PrivateKey, Runtime};

const PORT: u16 = 51820;

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_random(&[number; 32])
}

/// A file with a secret in a directory.
fn secret(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("a directory of ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of ours");
    path
}

fn interface(node: &str, name: &str, spec: &str) -> String {
    of_node(node, "WireGuardInterface", name, spec)
}

fn wg(netns: &NetNs, words: &str) -> String {
    snapshot::run(netns, "wg", words)
}

fn reaches(netns: &NetNs, address: &str) -> bool {
    let ping = || {
        std::process::Command::new("ping")
            .args(["-c1", "-W1", address])
            .output()
    };
    eventually(|| netns.enter(ping).is_ok_and(|output| output.status.success()))
}

/// Nothing more is to be done, for the agent and for `adit plan`.
#[track_caller]
fn is_settled(agent: &Agent<'_>) {
    let status = agent.next_pass();
    assert_eq!((status.pass.changed, status.pass.residual), (0, 0), "{status:#?}");
    let planned = agent.plan(&[]);
    assert_eq!(planned.code, 0, "{planned:?}");
}

#[test]
fn wg_reads_what_was_declared_and_each_change_of_it() {
    if !require_module("wireguard") || !require_program("wg") {
        return;
    }
    let topology = Topology::new(1);
    let host = &topology.hosts[0];
    let directory = tempfile::tempdir().unwrap();
    let own = secret(directory.path(), "own", &key(1).to_base64());
    let shared = PresharedKey::from_bytes(&[9; 32]);
    let psk = secret(directory.path(), "psk", &shared.to_base64());
    let [first, second] = [2, 3].map(|number| key(number).public_key());
    let with = |rest: &str, first_peer: &str, second_peer: &str| {
        let spec = format!(
            "privateKey: {{ file: {} }}, addresses: [10.70.0.1/24, 'fe80::7/64', {{ address: 10.71.0.1, peer: 10.71.0.2 }}], {rest} peers: [{{ name: one, publicKey: '{first}', {first_peer} }}, {{ name: two, publicKey: '{second}', {second_peer} }}]",
            own.display()
        );
        interface("a", "wg0", &spec)
    };
    let file = format!("presharedKeyFile: {}", psk.display());
    let agent = Agent::started(
        host,
        &with(
            "listenPort: 51820, fwMark: 7, mtu: 1400,",
            &format!(
                "endpoint: '192.0.2.99:1', allowedIPs: [10.70.0.2, 10.80.0.0/16], persistentKeepalive: 25, {file}"
            ),
            "allowedIPs: ['fd70::/64']",
        ),
    );
    is_settled(&agent);
    let conf = || wg(&host.netns, "showconf wg0");
    let own_key = key(1).to_base64();
    let all = conf();
    for wanted in [
        "ListenPort = 51820",
        "FwMark = 0x7",
        &format!("PrivateKey = {}", own_key.as_str()),
        &format!("PresharedKey = {}", shared.to_base64().as_str()),
        "Endpoint = 192.0.2.99:1",
        "PersistentKeepalive = 25",
        "AllowedIPs = fd70::/64",
    ] {
        assert!(all.contains(wanted), "{wanted}: {all}");
    }
    let mut allowed = wg(&host.netns, "show wg0 allowed-ips")
        .split_whitespace()
        .filter(|word| word.contains('/') && !word.ends_with('='))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    allowed.sort();
    assert_eq!(allowed, ["10.70.0.2/32", "10.80.0.0/16", "fd70::/64"]);
    let addresses = host.netns.ip("address show wg0");
    for wanted in [
        "10.70.0.1/24",
        "fe80::7/64",
        "10.71.0.1 peer 10.71.0.2/32",
        "mtu 1400",
    ] {
        assert!(addresses.contains(wanted), "{wanted}: {addresses}");
    }
    // As wg-quick: what an address's subnet holds needs no route.
    let routes =
        host.netns.ip("route show dev wg0 proto 173") + &host.netns.ip("-6 route show dev wg0 proto 173");
    assert!(
        routes.contains("10.80.0.0/16") && routes.contains("fd70::/64"),
        "{routes}"
    );
    assert!(!routes.contains("10.70.0.2"), "{routes}");

    // Whoever comes along goes, whatever is changed comes back.
    let stranger = key(4).public_key();
    wg(
        &host.netns,
        &format!("set wg0 listen-port 1 fwmark 9 peer {stranger} allowed-ips 10.80.0.0/16"),
    );
    let back = || {
        let now = conf();
        !now.contains(&stranger.to_string())
            && now.contains("ListenPort = 51820")
            && now.contains("10.80.0.0/16")
    };
    assert!(eventually(back), "{}", conf());
    is_settled(&agent);

    // A prefix moves; keepalive, preshared key and mark go; another port.
    agent.write(&with(
        "listenPort: 51821,",
        "endpoint: '192.0.2.99:1', allowedIPs: [10.70.0.2]",
        "allowedIPs: [10.80.0.0/16, 'fd70::/64']",
    ));
    let moved = || {
        let now = conf();
        let gone = ["PersistentKeepalive", "PresharedKey", "FwMark"];
        !gone.iter().any(|word| now.contains(word)) && now.contains("ListenPort = 51821")
    };
    assert!(eventually(moved), "{}", conf());
    is_settled(&agent);
    let allowed = wg(&host.netns, "show wg0 allowed-ips");
    let of_second = allowed.lines().find(|line| line.starts_with(&second.to_string()));
    assert!(
        of_second.is_some_and(|line| line.contains("10.80.0.0/16")),
        "{allowed}"
    );
    let log = agent.log();
    for secret in [own_key.as_str(), shared.to_base64().as_str()] {
        assert!(!log.contains(secret), "a key in the log");
    }

    agent.write(&interface("a", "wg1", "table: off"));
    assert!(eventually(|| !host.netns.ip("link").contains("wg0:")));
}

#[test]
fn a_key_is_made_once_and_one_that_cannot_be_had_is_told() {
    if !require_module("wireguard") || !require_program("wg") {
        return;
    }
    let topology = Topology::new(1);
    let host = &topology.hosts[0];
    let directory = tempfile::tempdir().unwrap();
    let named = |name: &str, key: &str| interface("a", name, &format!("{key} addresses: [10.70.0.1/24]"));
    let file = secret(directory.path(), "own", &key(1).to_base64());
    let of_file = format!("privateKey: {{ file: {} }},", file.display());
    let both = named("wg0", "") + &named("wg1", &of_file);
    let mut agent = Agent::started(host, &both);
    let made = agent.state_directory().join("wireguard/wg0.key");
    let text = fs::read_to_string(&made).unwrap();
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o600);
    let public = |device: &str| {
        wg(&host.netns, &format!("show {device} public-key"))
            .trim()
            .to_owned()
    };
    let private: PrivateKey = text.trim().parse().unwrap();
    assert_eq!(public("wg0"), private.public_key().to_string());
    assert_eq!(public("wg1"), key(1).public_key().to_string());

    agent.stop();
    agent.start();
    agent.ready();
    assert_eq!(fs::read_to_string(&made).unwrap(), text);
    // Without its file a device keeps the key that it has, and the other one is not concerned.
    fs::remove_file(&file).unwrap();
    let status = agent.wait("told", |status| {
        status
            .problems
            .iter()
            .any(|problem| problem.subject == "WireGuardInterface/wg1")
    });
    let told = &status.problems[0];
    assert!(told.message.contains(file.to_str().unwrap()), "{told:?}");
    assert_eq!(public("wg1"), key(1).public_key().to_string());
    // Another key in it is taken, and a file that others can read is not.
    secret(directory.path(), "own", &key(5).to_base64());
    assert!(eventually(|| public("wg1") == key(5).public_key().to_string()));
    agent.ready();
    secret(directory.path(), "own", &key(6).to_base64());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let status = agent.wait("refused", |status| !status.problems.is_empty());
    assert!(status.problems[0].message.contains("chmod 600"), "{status:#?}");
}

#[test]
fn a_key_is_a_credential_that_systemd_gives() {
    if !require_module("wireguard") || !require_program("wg") {
        return;
    }
    let topology = Topology::new(1);
    let host = &topology.hosts[0];
    let credentials = tempfile::tempdir().unwrap();
    secret(credentials.path(), "wg0.key", &key(7).to_base64());
    let manifest = interface("a", "wg0", "privateKey: { credential: wg0.key }");
    let place = credentials.path().to_str().unwrap().to_owned();
    let mut agent = Agent::new(host, &manifest).with_environment(Some(("CREDENTIALS_DIRECTORY", place)));
    agent.start();
    agent.ready();
    let public = wg(&host.netns, "show wg0 public-key");
    assert_eq!(public.trim(), key(7).public_key().to_string());
    // Without systemd there are none.
    let planned = agent.plan(&[]);
    assert_eq!(planned.code, 5, "{planned:?}");
    assert!(planned.stdout.contains("credential wg0.key"), "{planned:?}");
}

/// A device of host `b` that answers whatever comes from `a`'s key, with an address of the world outside on it.
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

/// `a`'s end of that, with the default routes by it.
fn everything_to_b(b: &Host, key_file: &Path, rest: &str) -> String {
    let spec = format!(
        "privateKey: {{ file: {} }}, addresses: [10.70.0.1/24, 'fd70::1/64'], {rest} peers: [{{ publicKey: '{}', endpoint: '{}:{PORT}', allowedIPs: [0.0.0.0/0, '::/0'] }}]",
        key_file.display(),
        key(0x62).public_key(),
        b.underlay(Family::Ipv4)
    );
    interface("a", "wg0", &spec)
}

#[test]
fn a_default_route_takes_all_but_what_wireguard_sends_and_what_is_more_specific() {
    if !require_module("wireguard") || !require_program("wg") {
        return;
    }
    let topology = Topology::new(2);
    let [a, b] = &topology.hosts[..] else {
        unreachable!("there are two");
    };
    let directory = tempfile::tempdir().unwrap();
    answering(b, &key(0x61), directory.path());
    let file = secret(directory.path(), "a", &key(0x61).to_base64());
    let mut agent = Agent::started(a, &everything_to_b(b, &file, ""));
    is_settled(&agent);
    for far in ["198.51.100.9", "2001:db8:9::9"] {
        assert!(reaches(&a.netns, far), "{far}");
        let route = a.netns.ip(&format!("route get {far}"));
        assert!(route.contains("dev wg0 table 51820"), "{route}");
    }
    // The subnet of u0 is more specific, and so the underlay's neighbours stay where they are.
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
    // A rule that goes comes back.
    a.netns.ip("rule delete priority 1732");
    assert!(eventually(|| a.netns.ip("rule show").contains("1732:")));
    // A table of the user's own: no rules, but routes.
    agent.write(&everything_to_b(b, &file, "table: 77,"));
    agent.wait("without rules", |status| {
        status.ready && !a.netns.ip("rule show").contains("1732:")
    });
    assert!(a.netns.ip("route show table 77").contains("default dev wg0"));
    assert!(!a.netns.ip("rule show").contains("1731:"));
    is_settled(&agent);
    agent.write(&everything_to_b(b, &file, "table: off,"));
    let empty = || !a.netns.ip("route show table all proto 173").contains("wg0");
    agent.wait("without routes", |status| status.ready && empty());
    agent.stop();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert!(!a.netns.ip("link").contains("wg0"));
}

#[test]
fn in_another_namespace_a_device_sends_by_the_agent_s() {
    if !require_module("wireguard") || !require_program("wg") {
        return;
    }
    let topology = Topology::new(2);
    let [a, b] = &topology.hosts[..] else {
        unreachable!("there are two");
    };
    let directory = tempfile::tempdir().unwrap();
    answering(b, &key(0x61), directory.path());
    let file = secret(directory.path(), "a", &key(0x61).to_base64());
    // It has a loopback and no more.
    let inside = Named::new();
    let place = format!("namespace: {{ name: {} }},", inside.0);
    let mut agent = Agent::started(a, &everything_to_b(b, &file, &place));
    is_settled(&agent);
    for far in ["198.51.100.9", "2001:db8:9::9"] {
        assert!(inside.reaches(far), "{far}");
    }
    assert!(!a.netns.ip("link").contains("wg0"), "it is not here");
    assert!(inside.ip("-d link show wg0").contains("group 173"));
    let peers = || {
        let words = ["netns", "exec", &inside.0, "wg", "show", "wg0", "dump"];
        let output = std::process::Command::new("ip").args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // The other end speaks from another port: it has roamed, and that is kept, also over a restart.
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
    agent.next_pass();
    agent.stop();
    agent.start();
    agent.ready();
    agent.next_pass();
    assert!(peers().contains(&roamed), "{}", peers());
    is_settled(&agent);
    // Made again, it calls where the other end was configured.
    wg(&b.netns, &format!("set wgb listen-port {PORT}"));
    inside.ip("link delete wg0");
    assert!(eventually(|| inside.ip("link").contains("wg0")));
    agent.wait("mended", |status| status.ready);
    assert!(inside.reaches("198.51.100.9"));
    agent.stop();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert!(!inside.ip("link").contains("wg0"));
}

/// A plan of `a` and `b`, of which `b` is somewhere.
fn plan(topology: &Topology, b_is: &str) -> String {
    let [a, b] = &topology.hosts[..] else {
        unreachable!("there are two");
    };
    let node = |host: &Host, rest: &str| {
        format!(
            "  - {{ name: {}, publicKey: '{}', endpoint: '{}', {rest} }}\n",
            host.name,
            host.private_key().public_key(),
            host.underlay(Family::Ipv4)
        )
    };
    format!(
        "---\napiVersion: adit.dev/v1alpha1\nkind: WireGuardNetworkPlan\nmetadata: {{ name: mesh }}\nspec:\n  addresses: [10.255.0.0/24, 'fd00:255::/64']\n  nodes:\n{}{}  links: [{{ nodes: [a, b], count: 2 }}]\n",
        node(a, ""),
        node(b, b_is)
    )
}

#[test]
fn two_nodes_of_a_plan_reach_each_other_by_each_link() {
    if !require_module("wireguard") {
        return;
    }
    let topology = Topology::new(2);
    let [a, b] = &topology.hosts[..] else {
        unreachable!("there are two");
    };
    let manifests = plan(&topology, "");
    let agents = [a, b].map(|host| Agent::started(host, &manifests));
    agents.iter().for_each(is_settled);
    for far in ["10.255.0.3", "10.255.0.5", "fd00:255::3", "fd00:255::5"] {
        assert!(reaches(&a.netns, far), "{far}");
    }
    for far in ["10.255.0.2", "fd00:255::4"] {
        assert!(reaches(&b.netns, far), "{far}");
    }
    for host in [a, b] {
        let links = host.netns.ip("link show type wireguard");
        for name in ["wg-a-b-0", "wg-a-b-1"] {
            assert!(
                links.contains(&format!("{name}: <POINTOPOINT,NOARP,UP,LOWER_UP> mtu 1420")),
                "{links}"
            );
        }
    }
}

#[test]
fn two_nodes_of_a_plan_reach_each_other_with_one_end_in_a_container_of_podman() {
    let is_guest = std::env::var_os("ADIT_VM").is_some_and(|vm| vm == "1");
    if !is_guest || !require_module("wireguard") || !require_program("podman") {
        return;
    }
    let topology = Topology::new(2);
    let [a, b] = &topology.hosts[..] else {
        unreachable!("there are two");
    };
    let container = Container::new(Runtime::Podman);
    let there = format!(
        "namespace: {{ container: {{ runtime: podman, name: {} }} }}",
        container.name()
    );
    let manifests = plan(&topology, &there);
    let first = Agent::started(a, &manifests);
    let mut second = Agent::new(b, &manifests).with_environment(container.environment());
    second.start();
    second.ready();
    for _ in 0..2 {
        container.start();
        second.wait("in the container", |status| {
            status.problems.is_empty() && status.pass.residual == 0
        });
        for far in ["10.255.0.3", "fd00:255::5"] {
            assert!(reaches(&a.netns, far), "{far}");
        }
        container.stop();
        second.wait("waiting", |status| !status.problems.is_empty());
    }
    is_settled(&first);
}
