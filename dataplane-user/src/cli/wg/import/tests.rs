//! The printed manifest loads, and is equivalent to the file.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::net::{LinkName, PublicKey};
use crate::resource::WireGuardInterface;
use crate::resource::node::{Endpoint, Host};
use crate::resource::wireguard::PresharedSource;
use crate::wg_quick::Interface;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn quick(name: &str, config: Config) -> Quick {
    Quick {
        path: PathBuf::from("/x/wg0.conf"),
        name: LinkName::new(name).unwrap(),
        config,
    }
}

fn files(directory: &str, name: &str) -> KeyFiles {
    KeyFiles {
        directory: PathBuf::from(directory),
        name: name.to_owned(),
    }
}

/// The only object of a manifest.
fn read(text: &str) -> WireGuardInterface {
    let file = ManifestFile {
        name: "wg0.yaml".into(),
        text: text.to_owned(),
    };
    let resources = manifest::read(&[file], true).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    let mut all = resources.netlink.wireguard.into_values();
    let (one, more) = (all.next().unwrap(), all.next());
    assert!(more.is_none());
    one.object
}

#[test]
fn the_manifest_says_what_the_file_says_but_for_keys() {
    let text = format!(
        "[Interface]\nPrivateKey = AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nListenPort = 51820\nFwMark = 0x7\nAddress = 10.0.0.1/24, fd00::1\nMTU = 1400\nTable = 77\nPostUp = true\n[Peer]\nPublicKey = {KEY}\nPresharedKey = AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nEndPoint = [fe80::1%eth0]:51820\nAllowedIPs = 10.0.0.2, fd00::/64\nPersistentKeepalive = 25\n"
    );
    let config = Config::parse(Path::new("/x/wg0.conf"), text.as_bytes()).unwrap();
    let quick = quick("wg0", config);
    let text = manifest(&quick, &NodeName::new("a").unwrap(), &files("/keys", "wg0")).unwrap();
    let names = skipped(&quick).into_iter().filter(|(_, given)| *given);
    assert_eq!(names.map(|(key, _)| key).collect::<Vec<_>>(), ["PostUp"]);
    let read = read(&text);
    assert_eq!(
        (read.listen_port, read.fwmark, read.end.mtu),
        (51820, 7, Some(1400))
    );
    assert_eq!(
        read.end
            .addresses
            .keys()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["10.0.0.1/24", "fd00::1/128"]
    );
    let peer = &read.peers[0];
    assert_eq!(peer.public_key, KEY.parse().unwrap());
    let file = peer.preshared_key_file().map(String::as_str);
    assert_eq!(file, Some("/keys/wg0-1.psk"));
    assert_eq!((peer.keepalive, peer.allowed_ips.len()), (25, 2));
    assert_eq!(
        peer.endpoint.as_ref().unwrap().to_string(),
        "[fe80::1%eth0]:51820"
    );
}

#[test]
fn fields_that_manifests_lack_are_reported_and_never_printed() {
    let config = |more: &str| {
        let text = format!("[Interface]\nMTU = 0\n[Peer]\nPublicKey = {KEY}\n{more}");
        Config::parse(Path::new("x"), text.as_bytes()).unwrap()
    };
    let node = NodeName::new("a").unwrap();
    let without_mtu = quick("wg0", config(""));
    let names = skipped(&without_mtu).into_iter().filter(|(_, given)| *given);
    assert_eq!(names.map(|(key, _)| key).collect::<Vec<_>>(), ["MTU"]);
    let text = manifest(&without_mtu, &node, &files("/keys", "wg0")).unwrap();
    assert_eq!(read(&text).end.mtu, None);
    for (name, more, field) in [
        ("wg0", "Endpoint = [fe80::1]:1\n", "endpoint"),
        ("lo", "", "spec.name"),
    ] {
        let refused = manifest(&quick(name, config(more)), &node, &files("/keys", name));
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("/x/wg0.conf") && said.contains(field), "{said}");
    }
}

#[test]
fn any_interface_can_be_named_in_a_manifest() {
    for (interface, name) in [
        ("wg0", "wg0"),
        ("Home_1", "home-1"),
        ("=", "wireguard"),
        ("a.b+", "a-b"),
    ] {
        assert_eq!(manifest_name(interface), name);
        NodeName::new(name).unwrap();
    }
}

prop_compose! {
    fn peers()(
        key in any::<[u8; 32]>(),
        preshared in proptest::option::of(any::<[u8; 32]>()),
        host in prop_oneof![
            any::<[u8; 3]>().prop_map(|[b, c, d]| Host::Address(IpAddr::from([198, b, c, d]))),
            any::<u64>().prop_map(|low| Host::Address(std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(low)).into())),
            any::<u64>().prop_map(|low| Host::Scoped((0xfe80_u128 << 112 | u128::from(low)).into(), LinkName::constant("eth0.7"))),
            "[a-z0-9_]{1,8}(\\.[a-z0-9_]{1,5})?\\.[a-z][a-z0-9]{0,4}\\.?".prop_map(Host::Name),
            "(null|true|yes|on|1e3|0x1f|n|inf|nan)(\\.a)?\\.?".prop_filter("a name", |name| crate::net::name::is_host_name(name)).prop_map(Host::Name),
        ],
        port in 1..=u16::MAX,
        is_awaited in any::<bool>(),
        prefixes in proptest::collection::btree_set((any::<IpAddr>(), 0..=32_u8), 0..4),
        keepalive in any::<u16>(),
    ) -> Peer {
        let prefixes = prefixes.into_iter();
        Peer {
            preshared_key: preshared.map(|bytes| PresharedSource::Key(crate::net::PresharedKey::from_bytes(&bytes))),
            allowed_ips: prefixes.map(|(address, length)| IpNet::new(address, length).unwrap().trunc()).collect(),
            endpoint: (!is_awaited).then_some(Endpoint { host, port }),
            keepalive,
            ..Peer::new(PublicKey::from_bytes(key))
        }
    }
}

prop_compose! {
    fn configs()(
        listen_port in any::<Option<u16>>(),
        fwmark in prop_oneof![Just(0), any::<u32>()],
        addresses in proptest::collection::btree_set((any::<IpAddr>(), 0..=32_u8), 0..3),
        mtu in proptest::option::of(prop_oneof![any::<u32>(), 0..70_u32]),
        table in prop_oneof![Just(AllowedIpRoutes::Auto), Just(AllowedIpRoutes::Off), (1..u32::MAX).prop_map(AllowedIpRoutes::Table)],
        mut peers in proptest::collection::vec(peers(), 0..4),
    ) -> Config {
        // No prefix belongs to two peers, as after reading a file.
        let mut seen = std::collections::BTreeSet::new();
        for peer in &mut peers {
            peer.allowed_ips.retain(|prefix| seen.insert(*prefix));
        }
        let addresses = addresses.into_iter().map(|(ip, length)| IpNet::new(ip, length).unwrap());
        Config {
            interface: Interface {
                listen_port,
                fwmark,
                addresses: addresses.collect(),
                mtu,
                table,
                ..Interface::default()
            },
            peers,
            ..Config::default()
        }
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_loaded_again(
        config in configs(),
        name in "([a-zA-Z0-9_=+.-]{1,15}|null|true|~|0x10|1e3|1_000|-|=|\\.5|0o7|\\.inf|no)"
            .prop_filter("a name that manifests accept", |name| {
                LinkName::new(name).is_ok() && !name.starts_with("adit") && !["lo", "all", "default"].contains(&name.as_str())
            }),
        node in "([a-z0-9]{1,8}|1e3|0x10|null|true|no|0123|1\\.5)",
        directory in "/[ -~]{1,20}",
    ) {
        let quick = quick(&name, config);
        let text = manifest(&quick, &NodeName::new(&node).unwrap(), &files(&directory, &name));
        let text = text.unwrap_or_else(|error| panic!("{error}"));
        let read = read(&text);
        let Config { interface, peers, .. } = &quick.config;
        prop_assert_eq!(read.end.name.as_str(), &name, "{}", text);
        prop_assert_eq!(read.listen_port, interface.listen_port.unwrap_or(0));
        prop_assert_eq!(read.fwmark, interface.fwmark);
        prop_assert_eq!(read.routes, interface.table);
        prop_assert_eq!(read.end.mtu, interface.mtu.filter(|mtu| MTUS.contains(mtu)));
        prop_assert_eq!(read.end.addresses.len(), interface.addresses.len());
        prop_assert_eq!(read.peers.len(), peers.len());
        for peer in peers {
            let found = read.peers.iter().find(|found| found.public_key == peer.public_key).unwrap();
            prop_assert_eq!(&found.endpoint, &peer.endpoint, "{}", text);
            prop_assert_eq!(found.keepalive, peer.keepalive);
            let set = |peer: &Peer| peer.allowed_ips.iter().copied().collect::<std::collections::BTreeSet<_>>();
            prop_assert_eq!(set(found), set(peer));
            prop_assert_eq!(found.preshared_key_file().is_some(), peer.preshared_key.is_some());
        }
    }
}
