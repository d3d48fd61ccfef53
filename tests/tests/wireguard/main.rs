//! The WireGuard adapter on the running kernel: `wg` reads what it writes, it reads what `wg` writes, and it sends only
//! changes. Needs root.
#![expect(
    clippy::unwrap_used,
    reason = "clippy takes only test functions themselves for tests"
)]

mod delta;
mod keys;
mod many;
mod set_and_read;
mod show;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use dataplane_user::diff::wireguard::device as diff;
use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::kernel::wireguard::{Reading, WireGuard, generate};
use dataplane_user::model::change::{LinkChange, LinkOperation, NetlinkChange};
use dataplane_user::model::wireguard::{Device, DeviceChange, Peer};
use dataplane_user::model::{Link, LinkKind, Owner};
use dataplane_user::net::{LinkName, PrivateKey, PublicKey};
use ipnet::IpNet;

const WG0: &str = "wg0";

fn wg0() -> LinkName {
    LinkName::constant(WG0)
}

fn link() -> Link {
    Link {
        owner: Owner::Adit,
        kind: LinkKind::WireGuard,
        mac: None,
        mtu: Some(1420),
        arp: false,
        generates_addresses: false,
        up: false,
    }
}

/// Creates `wg0` in the namespace of the calling thread, sets it up, and opens the adapter.
async fn make() -> WireGuard {
    let mut netlink = Netlink::open().unwrap();
    let changes = [
        NetlinkChange::Link(LinkChange(wg0(), LinkOperation::Create(link()))),
        NetlinkChange::Link(LinkChange(wg0(), LinkOperation::SetUp)),
    ];
    for outcome in netlink.execute(&changes).await {
        outcome.unwrap();
    }
    open()
}

/// The private keys of all tests.
static KEYS: Mutex<BTreeMap<PublicKey, PrivateKey>> = Mutex::new(BTreeMap::new());

/// Opens the adapter with the known private keys.
fn open() -> WireGuard {
    let fetch = |public: &PublicKey| KEYS.lock().unwrap().get(public).cloned();
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    WireGuard::open(std::sync::Arc::new(move |public| {
        fetch(public).ok_or_else(missing)
    }))
    .unwrap()
}

fn prefixes(list: &[&str]) -> BTreeSet<IpNet> {
    list.iter().map(|prefix| prefix.parse().unwrap()).collect()
}

/// A peer with these allowed IPs and nothing else.
fn peer(list: &[&str]) -> Peer {
    Peer {
        allowed_ips: prefixes(list),
        ..Peer::default()
    }
}

/// A device with this private key, which the adapter can find, and these peers.
fn config(private_key: PrivateKey, peers: impl IntoIterator<Item = (PublicKey, Peer)>) -> Device {
    Device {
        public_key: Some(know(private_key)),
        listen_port: 51820,
        fwmark: 0,
        peers: peers.into_iter().collect(),
    }
}

/// Adds a private key that adapters can find.
fn know(private_key: PrivateKey) -> PublicKey {
    let public = private_key.public_key();
    KEYS.lock().unwrap().insert(public, private_key);
    public
}

fn private_key() -> PrivateKey {
    generate::private_key().unwrap()
}

fn public_key() -> PublicKey {
    private_key().public_key()
}

async fn read(wireguard: &mut WireGuard) -> Reading {
    wireguard.get_device(&wg0()).await.unwrap()
}

/// The observed device; the desired endpoints count as the last configured ones, because there is no carry map.
async fn device(wireguard: &mut WireGuard, wanted: &Device) -> Device {
    let mut device = read(wireguard).await.device;
    for (key, peer) in &mut device.peers {
        peer.configured = wanted.peers.get(key).and_then(|wanted| wanted.endpoint.clone());
    }
    device
}

/// Applies changes to `wg0`.
async fn set(wireguard: &mut WireGuard, changes: &[DeviceChange]) {
    wireguard
        .set_device(&wg0(), &changes.iter().collect::<Vec<_>>())
        .await
        .unwrap();
}

/// The messages to the kernel.
#[derive(Debug)]
struct Sent {
    messages: u64,
    datagrams: u64,
    bytes: u64,
}

/// Applies changes to `wg0` and returns what was sent. The device was read before, so the netlink family is known.
async fn sent(wireguard: &mut WireGuard, changes: &[DeviceChange]) -> Sent {
    let before = wireguard.stats();
    set(wireguard, changes).await;
    let after = wireguard.stats();
    Sent {
        messages: after.requests - before.requests,
        datagrams: after.sends - before.sends,
        bytes: after.sent_bytes - before.sent_bytes,
    }
}

/// Changes `wg0` to the desired state, asserts that nothing is left to change, and returns the changes.
async fn apply(wireguard: &mut WireGuard, wanted: &Device) -> Vec<DeviceChange> {
    let changes = diff(&device(wireguard, wanted).await, wanted);
    set(wireguard, &changes).await;
    let left = diff(&device(wireguard, wanted).await, wanted);
    assert_eq!(left, [], "of {changes:?}");
    changes
}

/// Runs a program with these arguments and this input, and returns its output without the last line break.
fn run(program: &str, words: &str, input: &str) -> String {
    let mut child = Command::new(program)
        .args(words.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {words}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Runs the real `wg`.
fn wg(words: &str) -> String {
    run("wg", words, "")
}
