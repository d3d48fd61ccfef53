//! Two namespaces that communicate through devices that the adapter created.

use std::process::Command;

use adit_tests::{NetNs, require};
use dataplane_user::diff::wireguard::device as diff;
use dataplane_user::kernel::wireguard::{PeerTraffic, generate};
use dataplane_user::model::wireguard::{Device, Peer, Preshared};
use dataplane_user::net::{PeerEndpoint, PublicKey};

use crate::many::numbered;
use crate::{WG0, apply, config, device, make, open, peer, private_key, read, set};

/// Two connected namespaces and their devices.
struct Pair {
    a: NetNs,
    b: NetNs,
    configs: [Device; 2],
    keys: [PublicKey; 2],
}

/// Creates both devices. `a` is 192.0.2.1 and 10.0.0.1, `b` is 192.0.2.2 and 10.0.0.2; only `b` has an endpoint.
fn pair() -> Pair {
    let (a, b) = (NetNs::new(), NetNs::new());
    a.ip(&format!(
        "link add u0 type veth peer name u0 netns {}",
        b.path().display()
    ));
    a.ip("address add 192.0.2.1/24 dev u0");
    b.ip("address add 192.0.2.2/24 dev u0");
    a.ip("link set u0 up");
    b.ip("link set u0 up");
    let private = [private_key(), private_key()];
    let keys = [private[0].public_key(), private[1].public_key()];
    let preshared = generate::preshared_key().unwrap();
    let towards = |address: &str, endpoint: Option<&str>| Peer {
        endpoint: endpoint.map(|endpoint| endpoint.parse().unwrap()),
        preshared_key: Preshared::Key(preshared.clone()),
        ..peer(&[address])
    };
    let [one, two] = private;
    let configs = [
        config(one, [(keys[1], towards("10.0.0.2/32", None))]),
        config(two, [(keys[0], towards("10.0.0.1/32", Some("192.0.2.1:51820")))]),
    ];
    for (netns, wanted, address) in [(&a, &configs[0], "10.0.0.1/24"), (&b, &configs[1], "10.0.0.2/24")] {
        netns.run(async || apply(&mut make().await, wanted).await);
        netns.ip(&format!("address add {address} dev {WG0}"));
    }
    Pair { a, b, configs, keys }
}

fn ping(netns: &NetNs, address: &str) {
    let ping = || {
        Command::new("ping")
            .args(["-c", "1", "-W", "30", address])
            .output()
    };
    let output = netns.enter(ping).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[test]
fn a_hub_adds_thousands_of_peers_without_touching_the_active_one() {
    require!(modules: "wireguard");
    let Pair { a, b, configs, keys } = pair();
    ping(&b, "10.0.0.1");
    let [mut hub, _] = configs;
    a.run(async || {
        let mut wireguard = open();
        let before = read(&mut wireguard).await;
        let PeerTraffic {
            last_handshake,
            received,
            sent,
        } = before.traffic[&keys[1]];
        assert!(last_handshake.is_some() && received > 0 && sent > 0, "{before:?}");
        let peer = &before.device.peers[&keys[1]];
        assert_eq!(peer.endpoint, Some("192.0.2.2:51820".parse().unwrap()));
        hub.peers.extend((1 << 16..(1 << 16) + 1000).map(numbered));
        apply(&mut wireguard, &hub).await;
        let after = read(&mut wireguard).await;
        assert_eq!(after.device.peers.len(), 1001);
        assert_eq!(after.device.peers[&keys[1]], before.device.peers[&keys[1]]);
        assert_eq!(after.traffic[&keys[1]], before.traffic[&keys[1]]);
    });
    ping(&b, "10.0.0.1");
    ping(&a, "10.0.0.2");
}

#[test]
fn a_roamed_endpoint_stays_until_another_is_configured() {
    require!(modules: "wireguard");
    let Pair { a, b, configs, keys } = pair();
    ping(&b, "10.0.0.1");
    let [mut at_a, mut at_b] = configs;
    let configured: PeerEndpoint = "192.0.2.2:51820".parse().unwrap();
    at_a.peers.get_mut(&keys[1]).unwrap().endpoint = Some(configured);
    at_b.listen_port = 51899;
    b.run(async || apply(&mut open(), &at_b).await);
    ping(&b, "10.0.0.1");
    a.run(async || {
        let mut wireguard = open();
        let observed = device(&mut wireguard, &at_a).await;
        let roamed = "192.0.2.2:51899".parse().unwrap();
        assert_eq!(observed.peers[&keys[1]].endpoint, Some(roamed));
        assert_eq!(diff(&observed, &at_a), []);

        let next: PeerEndpoint = "192.0.2.9:1".parse().unwrap();
        at_a.peers.get_mut(&keys[1]).unwrap().endpoint = Some(next.clone());
        let changes = diff(&observed, &at_a);
        set(&mut wireguard, &changes).await;
        let peer = &read(&mut wireguard).await.device.peers[&keys[1]];
        assert_eq!(peer.endpoint, Some(next));
    });
}
