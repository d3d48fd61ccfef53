//! Keys that cannot be read for a while: the last key stays in use.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use adit_tests::topology::End;
use adit_tests::traffic::{Lost, Probes};
use adit_tests::unreadable::{GONE, each_way};
use adit_tests::{Agent, Topology, require_module, require_program, traffic};
use dataplane_user::net::{Family, PresharedKey};
use dataplane_user::status::Status;

use crate::routing::Called;
use crate::{interface, is_settled, key, secret, wg};

/// Whether the status reports something as unreadable.
fn is_told(status: &Status, subject: &str) -> bool {
    let mut problems = status.problems.iter();
    problems.any(|problem| problem.reason == "KeyUnreadable" && problem.subject == subject)
}

const PRESHARED: [u8; 32] = [9; 32];

/// wg0 on the first host, and its peer on the second one, with a preshared key. Returns the file of that key and the
/// manifest.
fn with_preshared_key(called: &Called) -> (PathBuf, String) {
    let [_, b] = called.hosts();
    let shared = PresharedKey::from_bytes(&PRESHARED);
    let psk = secret(called.directory.path(), "psk", &shared.to_base64());
    let peer = key(0x61).public_key();
    wg(
        &b.netns,
        &format!("set wgb peer {peer} preshared-key {}", psk.display()),
    );
    let manifest = interface(
        "a",
        "wg0",
        &format!(
            "privateKey: {{ file: {} }}, addresses: [10.70.0.1/24, 'fd70::1/64'], peers: [{{ name: b, publicKey: '{}', endpoint: '{}:51820', allowedIPs: [198.51.100.9, '2001:db8:9::9'], presharedKeyFile: {} }}]",
            called.key_file.display(),
            key(0x62).public_key(),
            b.underlay(Family::Ipv4),
            psk.display()
        ),
    );
    (psk, manifest)
}

#[test]
fn keys_of_an_interface_that_cannot_be_read_for_a_while_cost_no_packet() {
    let Some(called) = Called::new() else { return };
    let [a, b] = called.hosts();
    let (psk, manifest) = with_preshared_key(&called);
    let agent = Agent::started(a, &manifest);
    is_settled(&agent);
    let near = (
        Ipv4Addr::new(10, 70, 0, 1),
        Ipv6Addr::new(0xfd70, 0, 0, 0, 0, 0, 0, 1),
    );
    let far = (
        Ipv4Addr::new(198, 51, 100, 9),
        Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9),
    );
    let [near, far] = [End::outside(&a.netns, near), End::outside(&b.netns, far)];
    let probes = Family::BOTH.map(|family| Probes::start(near, far, family).unwrap());
    let of_peers = format!("preshared key {}", psk.display());
    for (path, subject) in [(&called.key_file, "WireGuardInterface/wg0"), (&psk, &of_peers)] {
        each_way(path, |way| {
            let status = agent.reconciled(&format!("told that {path:?} {way}"), |status| {
                is_told(status, subject)
            });
            assert!(status.ready, "{status:#?}");
            let next = agent.next_reconciliation();
            assert_eq!(next.reconciliation.changed, 0, "{path:?} {way}: {next:#?}");
        });
        agent.reconciled("read again", |status| status.problems.is_empty());
    }
    for probes in probes {
        let Lost { sent, lost } = probes.finish().unwrap();
        assert!(sent > 20, "{sent} probes show nothing");
        assert_eq!(lost, 0, "of {sent}");
    }
}

#[test]
fn an_unreadable_preshared_key_at_the_start_removes_and_creates_no_peer() {
    let Some(called) = Called::new() else { return };
    let [a, b] = called.hosts();
    let (psk, manifest) = with_preshared_key(&called);
    let mut agent = Agent::started(a, &manifest);
    is_settled(&agent);
    let peers = || wg(&a.netns, "show wg0 preshared-keys");
    let with_key = peers();
    assert!(
        with_key.contains(PresharedKey::from_bytes(&PRESHARED).to_base64().as_str()),
        "{with_key}"
    );
    let subject = format!("preshared key {}", psk.display());
    let only = Ipv6Addr::UNSPECIFIED;
    let near = End::outside(&a.netns, (Ipv4Addr::new(10, 70, 0, 1), only));
    let far = End::outside(&b.netns, (Ipv4Addr::new(198, 51, 100, 9), only));
    each_way(&psk, |way| {
        if way == GONE {
            return;
        }
        agent.stop();
        agent.start();
        let status = agent.wait("reported", |status| is_told(status, &subject));
        assert!(
            !status.ready && status.reconciliation.changed == 0,
            "{way}: {status:#?}"
        );
        assert_eq!(peers(), with_key, "{way}");
        traffic::ping(near, far, Family::Ipv4).unwrap();
    });
    agent.reconciled("read again", |status| status.problems.is_empty());

    // Without its key the peer is not created; it is created when the key can be read.
    each_way(&psk, |way| {
        if way == GONE {
            return;
        }
        agent.stop();
        wg(
            &a.netns,
            &format!("set wg0 peer {} remove", key(0x62).public_key()),
        );
        agent.start();
        let status = agent.wait("reported", |status| is_told(status, &subject));
        assert_eq!(
            (status.reconciliation.changed, peers()),
            (0, String::new()),
            "{way}"
        );
    });
    agent.reconciled("read again", |status| status.problems.is_empty());
    assert_eq!(peers(), with_key);
    traffic::ping(near, far, Family::Ipv4).unwrap();
}

#[test]
fn a_missing_generated_key_and_a_missing_credential_stay_in_use() {
    if !require_module("wireguard") || !require_program("wg") {
        return;
    }
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let credentials = tempfile::tempdir().unwrap();
    let credential = secret(credentials.path(), "wg1.key", &key(7).to_base64());
    let manifests = interface("a", "wg0", "listenPort: 51820")
        + &interface(
            "a",
            "wg1",
            "privateKey: { credential: wg1.key }, listenPort: 51821",
        );
    let variable = (
        "CREDENTIALS_DIRECTORY",
        credentials.path().to_str().unwrap().to_owned(),
    );
    let mut agent = Agent::new(host, &manifests).with_environment(Some(variable));
    agent.start();
    agent.ready();
    let made = agent.state_directory().join("wireguard/wg0.key");
    let public = |device: &str| wg(&host.netns, &format!("show {device} public-key"));
    for (path, device) in [(&made, "wg0"), (&credential, "wg1")] {
        let (before, text) = (public(device), fs::read(path).unwrap());
        each_way(path, |way| {
            let subject = format!("WireGuardInterface/{device}");
            agent.reconciled(&format!("told that {path:?} {way}"), |status| {
                is_told(status, &subject)
            });
            agent.next_reconciliation();
            assert_eq!(public(device), before, "{path:?} {way}");
        });
        assert_eq!(fs::read(path).unwrap(), text, "no other key was made");
        agent.reconciled("read again", |status| status.problems.is_empty());
    }
}
