//! Two namespaces that talk through devices that the adapter made.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use adit_tests::{NetNs, require_module};
use dataplane_user::diff::wireguard::diff;
use dataplane_user::kernel::wireguard::{WireGuard, generate};
use dataplane_user::model::wireguard::{DeviceConfig, PeerConfig};
use dataplane_user::net::PublicKey;

use crate::many::numbered;
use crate::{WG0, apply, config, make, peer, private_key, read, wg0};

/// Two namespaces beside each other, and what their devices are.
struct Pair {
    a: NetNs,
    b: NetNs,
    configs: [DeviceConfig; 2],
    keys: [PublicKey; 2],
}

/// Makes both devices. `a` is 192.0.2.1 and 10.0.0.1, `b` is 192.0.2.2 and 10.0.0.2; only `b` knows an endpoint.
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
    let towards = |address: &str, endpoint: Option<&str>| PeerConfig {
        endpoint: endpoint.map(|endpoint| endpoint.parse().unwrap()),
        preshared_key: Some(preshared.clone()),
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
fn a_hub_takes_thousands_of_peers_without_touching_the_one_that_talks() {
    if !require_module("wireguard") {
        return;
    }
    let Pair { a, b, configs, keys } = pair();
    ping(&b, "10.0.0.1");
    let [mut hub, _] = configs;
    a.run(async || {
        let mut wireguard = WireGuard::open().unwrap();
        let before = read(&mut wireguard).await.peers[&keys[1]].clone();
        assert!(
            before.last_handshake.is_some() && before.received > 0 && before.sent > 0,
            "{before:?}"
        );
        assert_eq!(before.endpoint, Some("192.0.2.2:51820".parse().unwrap()));
        hub.peers.extend((1 << 16..(1 << 16) + 1000).map(numbered));
        apply(&mut wireguard, &hub).await;
        let after = read(&mut wireguard).await;
        assert_eq!(after.peers.len(), 1001);
        assert_eq!(after.peers[&keys[1]], before);
    });
    ping(&b, "10.0.0.1");
    ping(&a, "10.0.0.2");
}

#[test]
fn a_roamed_endpoint_stays_until_another_is_configured() {
    if !require_module("wireguard") {
        return;
    }
    let Pair { a, b, configs, keys } = pair();
    ping(&b, "10.0.0.1");
    let [mut at_a, mut at_b] = configs;
    let configured: SocketAddr = "192.0.2.2:51820".parse().unwrap();
    at_a.peers.get_mut(&keys[1]).unwrap().endpoint = Some(configured);
    let last = BTreeMap::from([(keys[1], configured)]);
    at_b.listen_port = Some(51899);
    b.run(async || apply(&mut WireGuard::open().unwrap(), &at_b).await);
    ping(&b, "10.0.0.1");
    a.run(async || {
        let mut wireguard = WireGuard::open().unwrap();
        let observed = read(&mut wireguard).await;
        let roamed = "192.0.2.2:51899".parse().unwrap();
        assert_eq!(observed.peers[&keys[1]].endpoint, Some(roamed));
        assert_eq!(diff(&observed, &at_a, &last), []);

        let next: SocketAddr = "192.0.2.9:1".parse().unwrap();
        at_a.peers.get_mut(&keys[1]).unwrap().endpoint = Some(next);
        let changes = diff(&observed, &at_a, &last);
        wireguard.set_device(&wg0(), &changes).await.unwrap();
        assert_eq!(read(&mut wireguard).await.peers[&keys[1]].endpoint, Some(next));
    });
}
