//! Many peers, and peers with many allowed IPs.

use std::net::IpAddr;

use adit_tests::{NetNs, require};
use dataplane_user::diff::wireguard::device as diff;
use dataplane_user::model::wireguard::Peer;
use dataplane_user::net::PublicKey;
use ipnet::IpNet;

use crate::{apply, config, device, make, prefixes, private_key, public_key, sent, set, wg, wg0};

/// A peer whose public key follows from a number; any bytes are a valid public key.
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
fn thousands_of_peers_are_sent_in_chunks_and_one_more_is_one_message() {
    const PEERS: u32 = 5000;
    require!(modules: "wireguard");
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
        let sent = sent(&mut wireguard, &changes).await;
        assert_eq!((sent.messages, sent.datagrams), (1, 1));
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
fn of_ten_thousand_peers_only_those_that_differ_are_sent() {
    const PEERS: u32 = 10_000;
    require!(modules: "wireguard");
    NetNs::new().run(async || {
        let mut wireguard = make().await;
        let mut wanted = config(private_key(), (0..PEERS).map(numbered));
        apply(&mut wireguard, &wanted).await;
        let observed = device(&mut wireguard, &wanted).await;
        assert_eq!(observed.peers.len(), 10_000);

        let mut change = |number: u32, change: &dyn Fn(&mut Peer)| {
            change(wanted.peers.get_mut(&numbered(number).0).unwrap());
        };
        change(17, &|peer| peer.keepalive = 25);
        change(5000, &|peer| peer.endpoint = Some(([192, 0, 2, 9], 7).into()));
        change(9999, &|peer| {
            peer.allowed_ips.extend(prefixes(&["10.255.0.0/16"]));
        });
        let changes = diff(&observed, &wanted);
        assert_eq!(changes.len(), 3, "{changes:?}");
        let sent = sent(&mut wireguard, &changes).await;
        println!("3 of {PEERS} peers: {sent:?}");
        assert_eq!((sent.messages, sent.datagrams), (1, 1));
        assert!(sent.bytes < 400, "{sent:?}");
        assert_eq!(diff(&device(&mut wireguard, &wanted).await, &wanted), []);
    });
}

#[test]
fn a_dump_of_many_messages_is_complete_and_in_order() {
    const PEERS: u32 = 10_000;
    const AT: u32 = 5000;
    require!(modules: "wireguard");
    NetNs::new().run(async || {
        let mut wireguard = make().await;
        let mut wanted = config(private_key(), (0..PEERS).map(numbered));
        // Including one that does not fit into a message.
        let large = wanted.peers.get_mut(&numbered(AT).0).unwrap();
        let many = (0..5000u32).map(|number| IpNet::from(IpAddr::from((11 << 24 | number).to_be_bytes())));
        large.allowed_ips.extend(many);
        large.keepalive = 25;
        apply(&mut wireguard, &wanted).await;

        let before = wireguard.stats();
        let listing = wireguard.list_device(&wg0(), false).await.unwrap();
        let datagrams = wireguard.stats().receives - before.receives;
        println!("{} peers in {datagrams} datagrams", listing.peers.len());
        assert!(datagrams > 10, "{datagrams} datagrams");
        assert_eq!(listing.peers.len(), 10_000);
        let large = &listing.peers[5000];
        assert_eq!((large.keepalive, large.allowed_ips.len()), (25, 5002));
        let lines = listing.peers.iter().map(|peer| {
            let prefixes = peer.allowed_ips.iter().map(ToString::to_string);
            format!("{}\t{}", peer.public_key, prefixes.collect::<Vec<_>>().join(" "))
        });
        let theirs = wg("show wg0 allowed-ips");
        for (ours, theirs) in lines.zip(theirs.lines()) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(theirs.lines().count(), 10_000);
    });
}

#[test]
fn thousands_of_allowed_ips_of_one_peer_are_added_and_removed() {
    require!(modules: "wireguard");
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
