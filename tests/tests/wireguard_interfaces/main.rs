//! Declared WireGuard devices, on real kernels, by the real agent; `wg` reads them.

mod collisions;
mod plans;
mod routing;
mod unreadable;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use adit_tests::agent::is_settled;
use adit_tests::declared::of_node;
use adit_tests::named::eventually;
use adit_tests::{Agent, NetNs, Topology, require, snapshot};
use dataplane_user::net::{PresharedKey, PrivateKey};

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_random(&[number; 32])
}

/// A file with a secret in a directory.
fn secret(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("the temporary directory is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the temporary file exists");
    path
}

fn interface(node: &str, name: &str, spec: &str) -> String {
    of_node(node, "WireGuardInterface", name, spec)
}

fn wg(netns: &NetNs, words: &str) -> String {
    snapshot::run(netns, "wg", words)
}

fn reaches(netns: &NetNs, address: &str) -> bool {
    let ping = || Command::new("ping").args(["-c1", "-W0.3", address]).output();
    eventually(|| netns.enter(ping).is_ok_and(|output| output.status.success()))
}

#[test]
fn wg_reads_declared_interfaces_and_each_change() {
    require!(modules: "wireguard"; programs: "wg");
    let topology = Topology::<1>::new();
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
    // As with wg-quick, prefixes in the subnet of an address need no route.
    let routes =
        host.netns.ip("route show dev wg0 proto 173") + &host.netns.ip("-6 route show dev wg0 proto 173");
    assert!(
        routes.contains("10.80.0.0/16") && routes.contains("fd70::/64"),
        "{routes}"
    );
    assert!(!routes.contains("10.70.0.2"), "{routes}");

    // Added peers are removed, and changes are reverted.
    let stranger = key(4).public_key();
    wg(
        &host.netns,
        &format!("set wg0 listen-port 1 fwmark 9 peer {stranger} allowed-ips 10.80.0.0/16"),
    );
    agent.next_reconciliation();
    let now = conf();
    assert!(!now.contains(&stranger.to_string()), "{now}");
    assert!(
        now.contains("ListenPort = 51820") && now.contains("10.80.0.0/16"),
        "{now}"
    );
    is_settled(&agent);

    // A prefix moves; keepalive, preshared key and mark are cleared; another port.
    agent.apply(&with(
        "listenPort: 51821,",
        "endpoint: '192.0.2.99:1', allowedIPs: [10.70.0.2]",
        "allowedIPs: [10.80.0.0/16, 'fd70::/64']",
    ));
    let now = conf();
    let gone = ["PersistentKeepalive", "PresharedKey", "FwMark"];
    assert!(!gone.iter().any(|word| now.contains(word)), "{now}");
    assert!(now.contains("ListenPort = 51821"), "{now}");
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

    agent.apply(&interface("a", "wg1", "table: off"));
    assert!(!host.netns.ip("link").contains("wg0:"));
}

#[test]
fn a_key_is_generated_once_and_a_missing_one_is_reported() {
    require!(modules: "wireguard"; programs: "wg");
    let topology = Topology::<1>::new();
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
    // Without its file a device keeps its key, and the other one is not affected.
    fs::remove_file(&file).unwrap();
    let status = agent.next_reconciliation();
    let told = &status.problems[0];
    assert_eq!(told.subject, "WireGuardInterface/wg1");
    assert!(told.message.contains(file.to_str().unwrap()), "{told:?}");
    assert_eq!(public("wg1"), key(1).public_key().to_string());
    // Another key in the file is used, and a file that others can read is not.
    secret(directory.path(), "own", &key(5).to_base64());
    assert!(agent.next_reconciliation().ready);
    assert_eq!(public("wg1"), key(5).public_key().to_string());
    secret(directory.path(), "own", &key(6).to_base64());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let status = agent.next_reconciliation();
    assert!(status.problems[0].message.contains("chmod 600"), "{status:#?}");
}

#[test]
fn a_key_can_be_a_systemd_credential() {
    require!(modules: "wireguard"; programs: "wg");
    let topology = Topology::<1>::new();
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
    // Without systemd there are no credentials.
    let planned = agent.plan(&[]);
    assert_eq!(planned.code, 5, "{planned:?}");
    assert!(planned.stdout.contains("credential wg0.key"), "{planned:?}");
}
