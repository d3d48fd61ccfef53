//! Changes: only differences are sent, and nothing else changes.

use adit_tests::{NetNs, require};
use dataplane_user::diff::wireguard::device as diff;
use dataplane_user::kernel::wireguard::{WireGuard, generate};
use dataplane_user::model::wireguard::{Device, DeviceChange, Peer, Preshared};

use crate::{
    apply, config, device, know, make, peer, prefixes, private_key, public_key, read, sent, set, wg,
};

#[test]
fn without_changes_no_message_is_sent() {
    require!(modules: "wireguard");
    NetNs::new().run(async || {
        let mut wireguard = make().await;
        let wanted = config(private_key(), [(public_key(), peer(&["10.0.0.0/24"]))]);
        apply(&mut wireguard, &wanted).await;
        let observed = device(&mut wireguard, &wanted).await;
        let before = wireguard.stats();
        let changes = diff(&observed, &wanted);
        assert_eq!(changes, []);
        set(&mut wireguard, &changes).await;
        assert_eq!(wireguard.stats(), before);
    });
}

/// Applies the one remaining change, and counts the messages to the kernel.
async fn alone(wireguard: &mut WireGuard, wanted: &Device, change: DeviceChange) {
    let changes = diff(&device(wireguard, wanted).await, wanted);
    assert_eq!(changes, [change]);
    let sent = sent(wireguard, &changes).await;
    assert_eq!((sent.messages, sent.datagrams), (1, 1), "{changes:?}");
    assert_eq!(diff(&device(wireguard, wanted).await, wanted), []);
}

#[test]
fn a_key_a_port_or_a_mark_alone_is_one_message() {
    require!(modules: "wireguard");
    NetNs::new().run(async || {
        let mut wireguard = make().await;
        let mut wanted = config(private_key(), [(public_key(), peer(&["10.0.0.0/24"]))]);
        apply(&mut wireguard, &wanted).await;
        let key = private_key();
        let public = know(key.clone());
        wanted.public_key = Some(public);
        alone(&mut wireguard, &wanted, DeviceChange::SetPrivateKey(public)).await;
        assert_eq!(wg("show wg0 private-key"), key.to_base64().as_str());
        wanted.listen_port = 1234;
        alone(&mut wireguard, &wanted, DeviceChange::SetListenPort(1234)).await;
        assert_eq!(wg("show wg0 listen-port"), "1234");
        for (mark, shown) in [(7, "0x7"), (0, "off")] {
            wanted.fwmark = mark;
            alone(&mut wireguard, &wanted, DeviceChange::SetFwmark(mark)).await;
            assert_eq!(wg("show wg0 fwmark"), shown);
        }
    });
}

#[test]
fn an_allowed_ip_moves_in_one_message() {
    require!(modules: "wireguard");
    NetNs::new().run(async || {
        let mut wireguard = make().await;
        let (first, second) = (public_key(), public_key());
        let mut wanted = config(
            private_key(),
            [
                (first, peer(&["10.0.0.0/24"])),
                (second, peer(&["10.0.1.0/24", "10.0.2.0/24"])),
            ],
        );
        apply(&mut wireguard, &wanted).await;
        wanted.peers.get_mut(&first).unwrap().allowed_ips = prefixes(&["10.0.0.0/24", "10.0.1.0/24"]);
        wanted.peers.get_mut(&second).unwrap().allowed_ips = prefixes(&["10.0.2.0/24"]);
        let changes = diff(&device(&mut wireguard, &wanted).await, &wanted);
        let sent = sent(&mut wireguard, &changes).await;
        assert_eq!((sent.messages, sent.datagrams), (1, 1), "{changes:?}");
        let shown = wg("show wg0 allowed-ips");
        assert!(shown.contains(&format!("{second}\t10.0.2.0/24")), "{shown}");
        assert_eq!(
            read(&mut wireguard).await.device.peers[&first].allowed_ips,
            wanted.peers[&first].allowed_ips
        );
    });
}

#[test]
fn a_removed_allowed_ip_leaves_the_others_of_its_peer() {
    require!(modules: "wireguard");
    NetNs::new().run(async || {
        let mut wireguard = make().await;
        let key = public_key();
        let mut wanted = config(
            private_key(),
            [(key, peer(&["10.0.0.0/24", "fd00::/64", "10.0.1.0/24"]))],
        );
        apply(&mut wireguard, &wanted).await;
        wanted.peers.get_mut(&key).unwrap().allowed_ips = prefixes(&["10.0.0.0/24"]);
        let before = wireguard.stats();
        let changes = apply(&mut wireguard, &wanted).await;
        assert_eq!(changes.len(), 1);
        assert_eq!(
            wireguard.stats().requests - before.requests,
            3,
            "two reads and one change"
        );
        assert_eq!(wg("show wg0 allowed-ips"), format!("{key}\t10.0.0.0/24"));
    });
}

#[test]
fn keepalive_and_preshared_key_are_cleared_and_peers_are_removed() {
    require!(modules: "wireguard");
    NetNs::new().run(async || {
        let mut wireguard = make().await;
        let (key, other) = (public_key(), public_key());
        let full = Peer {
            keepalive: 25,
            preshared_key: Preshared::Key(generate::preshared_key().unwrap()),
            ..peer(&["10.0.0.0/24"])
        };
        let mut wanted = config(private_key(), [(key, full), (other, peer(&["10.0.1.0/24"]))]);
        apply(&mut wireguard, &wanted).await;
        assert_eq!(wg("show wg0 persistent-keepalive").matches("\t25").count(), 1);
        wanted.peers.insert(key, peer(&["10.0.0.0/24"]));
        apply(&mut wireguard, &wanted).await;
        assert_eq!(wg("show wg0 persistent-keepalive").matches("\toff").count(), 2);
        assert_eq!(wg("show wg0 preshared-keys").matches("\t(none)").count(), 2);
        wanted.peers.remove(&other);
        assert_eq!(
            apply(&mut wireguard, &wanted).await,
            [DeviceChange::RemovePeer(other)]
        );
        assert_eq!(wg("show wg0 peers"), key.to_string());
        // A new peer in place of a removed one gets its prefixes.
        wanted.peers.clear();
        wanted.peers.insert(other, peer(&["10.0.0.0/24"]));
        apply(&mut wireguard, &wanted).await;
        assert_eq!(wg("show wg0 allowed-ips"), format!("{other}\t10.0.0.0/24"));
    });
}
