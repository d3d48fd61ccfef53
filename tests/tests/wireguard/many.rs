//! Many peers, and peers with much.

use std::net::IpAddr;

use adit_tests::{NetNs, require_module};
use dataplane_user::diff::wireguard::device as diff;
use dataplane_user::model::wireguard::Peer;
use dataplane_user::net::PublicKey;
use ipnet::IpNet;

use crate::{apply, config, device, make, private_key, public_key, set, wg};

/// Any bytes are a public key.
pub(crate) fn numbered(number: u32) -> (PublicKey, Peer) {
    let mut bytes = [0x5a; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    let [_, a, b, c] = number.to_be_bytes();
    let addresses: [IpAddr; 2] = [
        [10, a, b, c].into(),
        (0xfd00_u128 << 112 | u128::from(number)).to_be_bytes().into(),
    ];
    let peer = Peer {
        endpoint: Some(([192, 0, 2, c], 51820).into()),
        allowed_ips: addresses.map(IpNet::from).into(),
        ..Peer::default()
    };
    (PublicKey::from_bytes(bytes), peer)
}

#[test]
fn thousands_of_peers_go_in_chunks_and_one_more_is_one_message() {
    const PEERS: u32 = 5000;
    if !require_module("wireguard") {
        return;
    }
    NetNs::new().run(async || {
        let mut wireguard = make().await;
        let mut wanted = config(private_key(), (0..PEERS).map(numbered));
        let changes = diff(&device(&mut wireguard, &wanted).await, &wanted);
        let before = wireguard.stats();
        set(&mut wireguard, &changes).await;
        let messages = wireguard.stats().requests - before.requests;
        assert!((2..=30).contains(&messages), "{messages} messages");
        println!("{PEERS} peers in {messages} messages");
        let observed = device(&mut wireguard, &wanted).await;
        assert_eq!(diff(&observed, &wanted), []);
        assert_eq!(wg("show wg0 peers").lines().count(), 5000);

        wanted.peers.extend([numbered(PEERS)]);
        let changes = diff(&observed, &wanted);
        let before = wireguard.stats();
        set(&mut wireguard, &changes).await;
        let after = wireguard.stats();
        assert_eq!(
            (after.requests - before.requests, after.sends - before.sends),
            (1, 1)
        );
        let mut now = device(&mut wireguard, &wanted).await;
        assert_eq!(now.peers.len(), 5001);
        now.peers.remove(&numbered(PEERS).0);
        assert_eq!(now, observed);

        wanted.peers.retain(|key, _| *key == numbered(7).0);
        apply(&mut wireguard, &wanted).await;
        assert_eq!(wg("show wg0 peers"), numbered(7).0.to_string());
    });
}

#[test]
fn thousands_of_allowed_ips_of_one_peer_come_and_go() {
    if !require_module("wireguard") {
        return;
    }
    NetNs::new().run(async || {
        let mut wireguard = make().await;
        let key = public_key();
        let all: Vec<IpNet> = (0..3000)
            .flat_map(|number| numbered(number).1.allowed_ips)
            .collect();
        let peer = |prefixes: &[IpNet]| Peer {
            allowed_ips: prefixes.iter().copied().collect(),
            ..Peer::default()
        };
        let mut wanted = config(private_key(), [(key, peer(&all))]);
        apply(&mut wireguard, &wanted).await;
        assert_eq!(wg("show wg0 allowed-ips").split_whitespace().count(), 6001);
        wanted.peers.insert(key, peer(&all[..100]));
        apply(&mut wireguard, &wanted).await;
        assert_eq!(wg("show wg0 allowed-ips").split_whitespace().count(), 101);
    });
}
