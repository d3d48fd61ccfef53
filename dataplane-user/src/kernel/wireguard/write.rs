//! Encodes changes of a device as messages of limited size (linux/wireguard.h).
//!
//! Allowed IPs are only added. If a peer gets one, the kernel removes it from its former peer, without a
//! moment in which no peer has it. A prefix that no peer should have is given to a spare peer, which is then
//! deleted, because kernels before 6.17 can't remove a prefix from a peer without removing all of them first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Request;
use super::attribute::Attributes;
use crate::kernel::netlink::uapi;
use crate::limits;
use crate::model::wireguard::{DeviceChange, PeerUpdate, Preshared};
use crate::net::key::{KEY_LENGTH, PresharedKey, PrivateKey, PublicKey};
use crate::net::{LinkName, PeerEndpoint};

/// Requests a device with all its peers.
pub(super) fn get(family: u16, link: &LinkName) -> Request {
    let mut body = Attributes::message(uapi::WG_CMD_GET_DEVICE, uapi::WG_GENL_VERSION);
    body.put_text(uapi::WGDEVICE_A_IFNAME, link.as_str());
    Request::of_bytes(family, 0, body.into_bytes())
}

/// The interface indexes of devices.
type Zones = BTreeMap<LinkName, u32>;

/// Keys and interface indexes that changes need.
pub(super) struct Keys {
    /// The private key to set, if the changes set one.
    pub(super) private: Option<PrivateKey>,
    /// The public key of the spare peer.
    pub(super) spare: PublicKey,
    /// The interface indexes of the devices of endpoints.
    pub(super) zones: Zones,
}

/// The messages of these changes, in order.
pub(super) fn set(family: u16, link: &LinkName, changes: &[&DeviceChange], keys: &Keys) -> Vec<Request> {
    let mut device = Attributes::with_room(128);
    let mut peers = Vec::new();
    let mut removals = Vec::new();
    let mut orphans = BTreeSet::new();
    for change in changes {
        match change {
            DeviceChange::SetPrivateKey(_) => {
                if let Some(key) = &keys.private {
                    device.put(uapi::WGDEVICE_A_PRIVATE_KEY, key.as_bytes());
                }
            }
            DeviceChange::SetListenPort(port) => device.put_u16(uapi::WGDEVICE_A_LISTEN_PORT, *port),
            DeviceChange::YieldListenPort(_) => device.put_u16(uapi::WGDEVICE_A_LISTEN_PORT, 0),
            DeviceChange::SetFwmark(mark) => device.put_u32(uapi::WGDEVICE_A_FWMARK, *mark),
            // A peer is never created without its preshared key.
            DeviceChange::AddPeer(_, peer) if peer.preshared_key == Preshared::Unreadable => {}
            DeviceChange::AddPeer(key, peer) => {
                let update = PeerUpdate {
                    endpoint: peer.endpoint.clone(),
                    keepalive: Some(peer.keepalive),
                    preshared_key: Some(peer.preshared_key.key().cloned()),
                    add: peer.allowed_ips.clone(),
                };
                // The peer is new, so that replacing its allowed IPs interrupts nothing.
                peers.extend(pieces(
                    key,
                    uapi::WGPEER_F_REPLACE_ALLOWEDIPS,
                    &update,
                    &keys.zones,
                ));
            }
            DeviceChange::UpdatePeer(key, update) => {
                peers.extend(pieces(key, uapi::WGPEER_F_UPDATE_ONLY, update, &keys.zones));
            }
            DeviceChange::RemoveAllowedIps(_, prefixes) => orphans.extend(prefixes.iter().copied()),
            DeviceChange::RemovePeer(key) => removals.push(removal(key)),
        }
    }
    if !orphans.is_empty() {
        let update = PeerUpdate {
            add: orphans,
            ..PeerUpdate::default()
        };
        peers.extend(pieces(&keys.spare, 0, &update, &keys.zones));
        peers.push(removal(&keys.spare));
    }
    peers.extend(removals);
    messages(family, link, &device, &peers)
}

/// Packs the device's attributes and the peers into messages.
fn messages(family: u16, link: &LinkName, device: &Attributes, peers: &[Attributes]) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut rest = peers;
    while requests.is_empty() || !rest.is_empty() {
        let mut body = Attributes::message(uapi::WG_CMD_SET_DEVICE, uapi::WG_GENL_VERSION);
        body.put_text(uapi::WGDEVICE_A_IFNAME, link.as_str());
        if requests.is_empty() {
            body.append(device);
        }
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|peer| {
            bytes += peer.length();
            bytes <= limits::WIREGUARD_MESSAGE_BYTES
        });
        let (now, later) = rest.split_at(fitting.count());
        if !now.is_empty() {
            body.nest(uapi::WGDEVICE_A_PEERS, |body| {
                now.iter().for_each(|peer| body.append(peer));
            });
        }
        requests.push(Request::of_bytes(family, 0, body.into_bytes()));
        rest = later;
    }
    requests
}

/// Encodes a peer in parts of limited size. The first part has all attributes except the allowed IPs of the
/// later ones.
fn pieces(key: &PublicKey, flags: u32, update: &PeerUpdate, zones: &Zones) -> Vec<Attributes> {
    let prefixes: Vec<_> = update.add.iter().collect();
    let mut pieces = vec![peer(key, flags, |piece| {
        // All zeros mean no preshared key.
        let none = PresharedKey::from_bytes(&[0; KEY_LENGTH]);
        if let Some(preshared) = &update.preshared_key {
            let preshared = preshared.as_ref().unwrap_or(&none);
            piece.put(uapi::WGPEER_A_PRESHARED_KEY, preshared.as_bytes());
        }
        if let Some(endpoint) = &update.endpoint {
            piece.put(uapi::WGPEER_A_ENDPOINT, &socket_address(endpoint, zones));
        }
        if let Some(seconds) = update.keepalive {
            piece.put_u16(uapi::WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, seconds);
        }
        put_prefixes(
            piece,
            &prefixes[..prefixes.len().min(limits::WIREGUARD_MESSAGE_PREFIXES)],
        );
    })];
    let later = prefixes.chunks(limits::WIREGUARD_MESSAGE_PREFIXES).skip(1);
    let more = |chunk: &[&IpNet]| {
        peer(key, uapi::WGPEER_F_UPDATE_ONLY, |piece| {
            put_prefixes(piece, chunk);
        })
    };
    pieces.extend(later.map(more));
    pieces
}

fn removal(key: &PublicKey) -> Attributes {
    peer(key, uapi::WGPEER_F_REMOVE_ME | uapi::WGPEER_F_UPDATE_ONLY, |_| {})
}

fn peer(key: &PublicKey, flags: u32, more: impl FnOnce(&mut Attributes)) -> Attributes {
    let mut piece = Attributes::with_room(limits::WIREGUARD_MESSAGE_PREFIXES * 40 + 256);
    piece.nest(0, |piece| {
        piece.put(uapi::WGPEER_A_PUBLIC_KEY, key.as_bytes());
        piece.put_u32(uapi::WGPEER_A_FLAGS, flags);
        more(piece);
    });
    piece
}

fn put_prefixes(piece: &mut Attributes, prefixes: &[&IpNet]) {
    if prefixes.is_empty() {
        return;
    }
    piece.nest(uapi::WGPEER_A_ALLOWEDIPS, |piece| {
        for prefix in prefixes {
            piece.nest(0, |piece| {
                match prefix.addr() {
                    IpAddr::V4(address) => {
                        piece.put_u16(uapi::WGALLOWEDIP_A_FAMILY, uapi::AF_INET);
                        piece.put(uapi::WGALLOWEDIP_A_IPADDR, &address.octets());
                    }
                    IpAddr::V6(address) => {
                        piece.put_u16(uapi::WGALLOWEDIP_A_FAMILY, uapi::AF_INET6);
                        piece.put(uapi::WGALLOWEDIP_A_IPADDR, &address.octets());
                    }
                }
                piece.put(uapi::WGALLOWEDIP_A_CIDR_MASK, &[prefix.prefix_len()]);
            });
        }
    });
}

/// Encodes a `sockaddr_in` or `sockaddr_in6`.
fn socket_address(endpoint: &PeerEndpoint, zones: &Zones) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    let port = endpoint.port.to_be_bytes();
    match endpoint.address {
        IpAddr::V4(address) => {
            bytes.extend(uapi::AF_INET.to_ne_bytes());
            bytes.extend(port);
            bytes.extend(address.octets());
            bytes.extend([0; 8]);
        }
        IpAddr::V6(address) => {
            let scope = endpoint.device.as_ref().and_then(|device| zones.get(device));
            bytes.extend(uapi::AF_INET6.to_ne_bytes());
            bytes.extend(port);
            bytes.extend([0; 4]);
            bytes.extend(address.octets());
            bytes.extend(scope.copied().unwrap_or(0).to_ne_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::wireguard::{Peer, Preshared};

    const NO_KEYS: Keys = Keys {
        private: None,
        spare: PublicKey::from_bytes([0; KEY_LENGTH]),
        zones: BTreeMap::new(),
    };

    fn key(number: u32) -> PublicKey {
        let mut bytes = [0; KEY_LENGTH];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        PublicKey::from_bytes(bytes)
    }

    #[test]
    fn messages_are_bounded() {
        let prefix = |number: u32| IpNet::new(IpAddr::from((u128::from(number) << 64).to_be_bytes()), 64);
        let peer = Peer {
            endpoint: Some(PeerEndpoint::new("2001:db8::1".parse().unwrap(), 51820)),
            preshared_key: Preshared::Key(PresharedKey::from_bytes(&[7; KEY_LENGTH])),
            allowed_ips: (0..5000).map(|number| prefix(number).unwrap()).collect(),
            keepalive: 25,
            ..Peer::default()
        };
        let link = LinkName::constant("wg0");
        let large = set(30, &link, &[&DeviceChange::AddPeer(key(1), peer)], &NO_KEYS);
        assert_eq!(large.len(), 5, "5000 prefixes of 40 bytes, 1024 a message");
        let few = Peer::default();
        let changes: Vec<_> = (1..=5000)
            .map(|number| DeviceChange::AddPeer(key(number), few.clone()))
            .collect();
        let many = set(30, &link, &changes.iter().collect::<Vec<_>>(), &NO_KEYS);
        assert!((10..=14).contains(&many.len()), "{} messages", many.len());
        for request in large.iter().chain(&many) {
            assert!(
                request.length() <= limits::WIREGUARD_MESSAGE_BYTES + 64,
                "{request:?}"
            );
        }
    }

    #[test]
    fn a_peer_whose_key_is_not_known_is_not_made() {
        let peer = |preshared_key| Peer {
            preshared_key,
            ..Peer::default()
        };
        let length = |preshared_key| {
            let change = DeviceChange::AddPeer(key(1), peer(preshared_key));
            let requests = set(30, &LinkName::constant("wg0"), &[&change], &NO_KEYS);
            requests.iter().map(Request::length).sum::<usize>()
        };
        let nothing = set(30, &LinkName::constant("wg0"), &[], &NO_KEYS)[0].length();
        assert_eq!(length(Preshared::Unreadable), nothing);
        assert!(length(Preshared::None) > nothing);
    }

    #[test]
    fn a_message_never_shows_its_keys() {
        let preshared = PresharedKey::from_bytes(&[7; KEY_LENGTH]);
        let update = PeerUpdate {
            preshared_key: Some(Some(preshared)),
            ..PeerUpdate::default()
        };
        let changes = [
            DeviceChange::SetPrivateKey(key(2)),
            DeviceChange::UpdatePeer(key(1), update),
        ];
        let private = PrivateKey::from_random(&[7; KEY_LENGTH]);
        let keys = Keys {
            private: Some(private),
            ..NO_KEYS
        };
        let requests = set(
            30,
            &LinkName::constant("wg0"),
            &changes.iter().collect::<Vec<_>>(),
            &keys,
        );
        let text = format!("{requests:?} {changes:?}");
        assert!(!text.contains("7, 7"), "{text}");
    }
}
