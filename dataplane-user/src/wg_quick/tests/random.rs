//! Random files.

use std::net::IpAddr;
use std::path::Path;

use proptest::prelude::*;

use crate::net::{LinkName, PresharedKey, PublicKey};
use crate::resource::node::{Endpoint, Host};
use crate::resource::wireguard::PresharedSource;
use crate::wg_quick::*;

fn peers() -> impl Strategy<Value = Vec<Peer>> {
    let host = prop_oneof![
        any::<IpAddr>().prop_map(Host::Address),
        "[a-z]{1,8}(\\.[a-z]{1,5})?".prop_map(Host::Name),
        Just(Host::Scoped(
            "fe80::1".parse().unwrap(),
            LinkName::constant("eth0")
        )),
    ];
    let endpoint =
        proptest::option::of((host, 1..=u16::MAX).prop_map(|(host, port)| Endpoint { host, port }));
    let prefixes = proptest::collection::btree_set((any::<IpAddr>(), 0..=32_u8), 0..4);
    let preshared = proptest::option::of(proptest::array::uniform32(1..=u8::MAX));
    let peer = (any::<[u8; 32]>(), preshared, prefixes, endpoint, any::<u16>());
    let peer = peer.prop_map(|(key, preshared, prefixes, endpoint, keepalive)| {
        let prefixes = prefixes.into_iter();
        let prefixes = prefixes.map(|(address, length)| IpNet::new(address, length).unwrap().trunc());
        Peer {
            preshared_key: preshared.map(|bytes| PresharedSource::Key(PresharedKey::from_bytes(&bytes))),
            allowed_ips: prefixes.collect(),
            endpoint,
            keepalive,
            ..Peer::new(PublicKey::from_bytes(key))
        }
    });
    proptest::collection::vec(peer, 0..4).prop_map(|mut peers| {
        let mut seen = std::collections::BTreeSet::new();
        for peer in &mut peers {
            peer.allowed_ips.retain(|prefix| seen.insert(*prefix));
        }
        peers
    })
}

prop_compose! {
    fn interfaces()(
        key in any::<Option<[u8; 32]>>(),
        listen_port in any::<Option<u16>>(),
        fwmark in prop_oneof![Just(0), any::<u32>()],
        addresses in proptest::collection::btree_map(any::<IpAddr>(), 0..=32_u8, 0..3),
        dns in proptest::collection::vec(any::<IpAddr>(), 0..3),
        dns_search in proptest::collection::vec("[a-z]{1,9}\\.[a-z]{2,3}", 0..3),
        mtu in proptest::option::of(0..=2_147_483_552_u32),
        table in prop_oneof![Just(AllowedIpRoutes::Auto), Just(AllowedIpRoutes::Off), (1..u32::MAX).prop_map(AllowedIpRoutes::Table)],
        hooks in proptest::collection::vec(proptest::collection::vec("[!-\"$-~]([ -\"$-~]{0,20}[!-\"$-~])?", 0..3), 4),
        save_config in any::<bool>(),
    ) -> Interface {
        let [pre_up, post_up, pre_down, post_down] = hooks.try_into().unwrap();
        Interface {
            private_key: key.map(|bytes| PrivateKey::from_random(&bytes)),
            listen_port,
            fwmark,
            addresses: addresses.into_iter().map(|(ip, length)| IpNet::new(ip, length).unwrap()).collect(),
            dns: dns.iter().map(ToString::to_string).collect(),
            dns_search,
            mtu,
            table,
            hooks: Hooks { pre_up, post_up, pre_down, post_down },
            save_config,
        }
    }
}

proptest! {
    #[test]
    fn what_is_rendered_reads_the_same(interface in interfaces(), peers in peers()) {
        let config = Config { interface, peers, ..Config::default() };
        let text = config.render();
        let read = Config::parse(Path::new("x"), text.as_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&config), "{}", text.as_str());
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let document = Document::new(bytes.clone());
        prop_assert_eq!(document.bytes(), &bytes);
        let lines = (0..document.line_count()).flat_map(|line| bytes[document.line(line)].to_vec());
        prop_assert_eq!(lines.collect::<Vec<_>>(), bytes);
        let _ = Config::of(Path::new("x"), &document);
    }
}
