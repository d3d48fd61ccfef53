//! Devices: `wg` and the adapter read what was written.

use std::fs;

use adit_tests::{NetNs, require};
use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::kernel::wireguard::generate;
use dataplane_user::model::change::{LinkChange, LinkOperation, NetlinkChange};
use dataplane_user::model::wireguard::{Peer, Preshared};
use dataplane_user::model::{KernelState, Link};
use dataplane_user::net::{LinkName, PresharedKey};

use crate::{apply, config, link, make, open, peer, prefixes, private_key, public_key, read, wg, wg0};

#[test]
fn a_link_reads_back() {
    require!(modules: "wireguard");
    NetNs::new().run(async || {
        let mut netlink = Netlink::open().unwrap();
        netlink
            .execute(&[NetlinkChange::Link(LinkChange(
                wg0(),
                LinkOperation::Create(link()),
            ))])
            .await
            .remove(0)
            .unwrap();
        let mut state = KernelState::default();
        netlink.observe(&mut state).await.unwrap();
        assert_eq!(state.links[&wg0()], link());
        netlink
            .execute(&[NetlinkChange::Link(LinkChange(wg0(), LinkOperation::SetUp))])
            .await
            .remove(0)
            .unwrap();
        let mut state = KernelState::default();
        netlink.observe(&mut state).await.unwrap();
        assert_eq!(state.links[&wg0()], Link { up: true, ..link() });
        assert_eq!(state.addresses.len(), 0);
    });
}

#[test]
fn wg_reads_the_written_configuration() {
    require!(modules: "wireguard");
    NetNs::new().run(async || {
        let mut wireguard = make().await;
        let preshared = generate::preshared_key().unwrap();
        let full = Peer {
            endpoint: Some("192.0.2.7:4711".parse().unwrap()),
            allowed_ips: prefixes(&["10.0.0.0/24", "10.0.1.7/32", "fd00::/64", "::/0"]),
            keepalive: 25,
            preshared_key: Preshared::Key(preshared.clone()),
            ..Peer::default()
        };
        let v6 = Peer {
            endpoint: Some("[2001:db8::7]:65535".parse().unwrap()),
            ..peer(&["0.0.0.0/0"])
        };
        let (key, [first, second, third]) = (private_key(), [public_key(), public_key(), public_key()]);
        let mut wanted = config(key.clone(), [(first, full), (second, v6), (third, peer(&[]))]);
        wanted.listen_port = 51821;
        wanted.fwmark = 0xad17;
        apply(&mut wireguard, &wanted).await;

        let dump = wg("show wg0 dump");
        let mut lines: Vec<Vec<&str>> = dump.lines().map(|line| line.split('\t').collect()).collect();
        let public = key.public_key().to_string();
        assert_eq!(
            lines.remove(0),
            [key.to_base64().as_str(), &public, "51821", "0xad17"]
        );
        assert_eq!(lines.len(), 3);
        let line = |key: &str| lines.iter().find(|line| line[0] == key).unwrap();
        let shown = line(&first.to_string());
        assert_eq!(
            (shown[1], shown[2]),
            (preshared.to_base64().as_str(), "192.0.2.7:4711")
        );
        let allowed: Vec<_> = shown[3].split(',').collect();
        assert_eq!(prefixes(&allowed), wanted.peers[&first].allowed_ips);
        assert_eq!(shown[4..], ["0", "0", "0", "25"]);
        let rest = ["(none)", "[2001:db8::7]:65535", "0.0.0.0/0", "0", "0", "0", "off"];
        assert_eq!(line(&second.to_string())[1..], rest);
        let rest = ["(none)", "(none)", "(none)", "0", "0", "0", "off"];
        assert_eq!(line(&third.to_string())[1..], rest);

        let text = wg("showconf wg0");
        assert!(
            text.contains(&format!("PresharedKey = {}", preshared.to_base64().as_str())),
            "{text}"
        );
    });
}

#[test]
fn the_configuration_of_wg_is_read() {
    require!(modules: "wireguard");
    NetNs::new().run(async || {
        let mut wireguard = make().await;
        assert_eq!(read(&mut wireguard).await.device.public_key, None);
        let directory = tempfile::tempdir().unwrap();
        let [private, preshared] = ["private", "preshared"].map(|name| directory.path().join(name));
        fs::write(&private, wg("genkey")).unwrap();
        fs::write(&preshared, wg("genpsk")).unwrap();
        let (first, second) = (public_key(), public_key());
        wg(&format!("set wg0 private-key {} listen-port 7 fwmark 0x8", private.display()));
        wg(&format!(
            "set wg0 peer {first} preshared-key {} endpoint [2001:db8::1]:9 persistent-keepalive 5 allowed-ips \
             10.0.0.1/24,fd00::1/64 peer {second} endpoint 192.0.2.1:10",
            preshared.display()
        ));

        let device = read(&mut wireguard).await.device;
        assert_eq!(device.public_key.unwrap().to_string(), wg("show wg0 public-key"));
        assert_eq!((device.listen_port, device.fwmark), (7, 8));
        let preshared: PresharedKey = fs::read_to_string(&preshared).unwrap().trim_end().parse().unwrap();
        let expected = Peer {
            endpoint: Some("[2001:db8::1]:9".parse().unwrap()),
            allowed_ips: prefixes(&["10.0.0.0/24", "fd00::/64"]),
            keepalive: 5,
            preshared_key: Preshared::Key(preshared),
            ..Peer::default()
        };
        assert_eq!(device.peers[&first], expected);
        let expected = Peer {
            endpoint: Some("192.0.2.1:10".parse().unwrap()),
            ..Peer::default()
        };
        assert_eq!(device.peers[&second], expected);
    });
}

#[test]
fn missing_devices_and_other_kinds_are_errors() {
    require!(modules: "wireguard");
    NetNs::new().run(async || {
        let mut wireguard = open();
        let error = wireguard.get_device(&wg0()).await.unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
        let error = wireguard.get_device(&LinkName::constant("lo")).await.unwrap_err();
        assert_eq!(error.errno(), Some(libc::EOPNOTSUPP), "{error}");
        assert!(error.to_string().contains("WireGuard device lo"), "{error}");
    });
}
