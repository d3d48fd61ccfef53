//! Decodes messages of the kernel about a device (linux/wireguard.h). A dump splits a device, and also single
//! peers, into several messages.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, NlasIterator, parse_string, parse_u8, parse_u16, parse_u32, parse_u64,
};
use zeroize::Zeroizing;

use super::listing::Listing;
use super::{PeerTraffic, endpoint_device};
use crate::kernel::netlink::uapi;
use crate::net::key::{KEY_LENGTH, PresharedKey, PrivateKey, PublicKey};
use crate::net::{LinkName, PeerEndpoint};
use crate::resource::node::Endpoint;
use crate::resource::wireguard::{Peer, PresharedSource};

/// The message type in the answer to a request for a family.
pub(super) fn family(body: &[u8]) -> Result<Option<u16>, DecodeError> {
    for attribute in NlasIterator::new(attributes(body)?) {
        let attribute = attribute?;
        if attribute.kind() == uapi::CTRL_ATTR_FAMILY_ID {
            return Ok(Some(parse_u16(attribute.value())?));
        }
    }
    Ok(None)
}

/// Decodes one message of a dump. Only the first message describes the device itself. The first peer of a
/// message may be the last peer of the message before.
pub(super) fn part(body: &[u8], with_private_key: bool) -> Result<Listing, DecodeError> {
    let mut part = Listing::default();
    for attribute in NlasIterator::new(attributes(body)?) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            uapi::WGDEVICE_A_IFNAME => part.name = LinkName::new(&parse_string(value)?).ok(),
            uapi::WGDEVICE_A_PRIVATE_KEY if with_private_key => {
                part.private_key = Some(PrivateKey::from_bytes(&*key(value)?));
            }
            uapi::WGDEVICE_A_PUBLIC_KEY => part.public_key = Some(PublicKey::from_bytes(*key(value)?)),
            uapi::WGDEVICE_A_LISTEN_PORT => part.listen_port = parse_u16(value)?,
            uapi::WGDEVICE_A_FWMARK => part.fwmark = parse_u32(value)?,
            uapi::WGDEVICE_A_PEERS => {
                for entry in NlasIterator::new(value) {
                    if let Some((peer, traffic)) = peer(entry?.value())? {
                        part.traffic.insert(peer.public_key, traffic);
                        part.peers.push(peer);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(part)
}

/// Merges the messages of a device. A peer that occurs again only adds allowed IPs.
pub(super) fn merge(parts: Vec<Listing>) -> Listing {
    let mut parts = parts.into_iter();
    let mut whole = parts.next().unwrap_or_default();
    for part in parts {
        for (key, traffic) in part.traffic {
            whole.traffic.entry(key).or_insert(traffic);
        }
        for peer in part.peers {
            match whole.peers.last_mut() {
                Some(last) if last.public_key == peer.public_key => last.allowed_ips.extend(peer.allowed_ips),
                _ => whole.peers.push(peer),
            }
        }
    }
    whole
}

fn peer(attributes: &[u8]) -> Result<Option<(Peer, PeerTraffic)>, DecodeError> {
    let Some(public_key) = public_key(attributes)? else {
        return Ok(None);
    };
    let (mut peer, mut traffic) = (Peer::new(public_key), PeerTraffic::default());
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            uapi::WGPEER_A_PRESHARED_KEY => {
                let preshared = PresharedKey::from_bytes(&*key(value)?);
                peer.preshared_key = (!preshared.is_zero()).then_some(PresharedSource::Key(preshared));
            }
            uapi::WGPEER_A_ENDPOINT => peer.endpoint = socket_address(value).map(Endpoint::from),
            uapi::WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL => peer.keepalive = parse_u16(value)?,
            uapi::WGPEER_A_LAST_HANDSHAKE_TIME => traffic.last_handshake = time(value)?,
            uapi::WGPEER_A_RX_BYTES => traffic.received = parse_u64(value)?,
            uapi::WGPEER_A_TX_BYTES => traffic.sent = parse_u64(value)?,
            uapi::WGPEER_A_ALLOWEDIPS => {
                for entry in NlasIterator::new(value) {
                    peer.allowed_ips.extend(prefix(entry?.value())?);
                }
            }
            _ => {}
        }
    }
    Ok(Some((peer, traffic)))
}

fn public_key(attributes: &[u8]) -> Result<Option<PublicKey>, DecodeError> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == uapi::WGPEER_A_PUBLIC_KEY {
            return Ok(Some(PublicKey::from_bytes(*key(attribute.value())?)));
        }
    }
    Ok(None)
}

fn prefix(attributes: &[u8]) -> Result<Option<IpNet>, DecodeError> {
    let mut address = None;
    let mut length = None;
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            uapi::WGALLOWEDIP_A_IPADDR => address = ip_address(value),
            uapi::WGALLOWEDIP_A_CIDR_MASK => length = Some(parse_u8(value)?),
            _ => {}
        }
    }
    let prefix = address
        .zip(length)
        .map(|(address, length)| IpNet::new(address, length));
    prefix
        .transpose()
        .map_err(|_| "an allowed IP whose prefix is too long".into())
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    Some(<[u8; 16]>::try_from(bytes).ok()?.into())
}

/// Decodes a `sockaddr_in` or `sockaddr_in6`; `None` if it is neither.
fn socket_address(bytes: &[u8]) -> Option<PeerEndpoint> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match u16::from_ne_bytes(*family) {
        uapi::AF_INET => Some(PeerEndpoint::new((*rest.first_chunk::<4>()?).into(), port)),
        uapi::AF_INET6 => {
            let (_flow, rest) = rest.split_first_chunk::<4>()?;
            let (address, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            Some(endpoint_device::endpoint(
                Ipv6Addr::from(*address).into(),
                port,
                scope,
            ))
        }
        _ => None,
    }
}

/// Decodes a `__kernel_timespec`; all zeros mean never.
fn time(bytes: &[u8]) -> Result<Option<Duration>, DecodeError> {
    let Some((seconds, rest)) = bytes.split_first_chunk::<8>() else {
        return Err("a time without seconds".into());
    };
    let seconds = u64::try_from(i64::from_ne_bytes(*seconds)).unwrap_or(0);
    let nanoseconds = rest.first_chunk().map_or(0, |part| i64::from_ne_bytes(*part));
    let time = Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
    Ok((!time.is_zero()).then_some(time))
}

fn key(value: &[u8]) -> Result<Zeroizing<[u8; KEY_LENGTH]>, DecodeError> {
    let mut key = Zeroizing::new([0; KEY_LENGTH]);
    if value.len() != KEY_LENGTH {
        return Err("a key whose length is not 32 bytes".into());
    }
    key.copy_from_slice(value);
    Ok(key)
}

fn attributes(body: &[u8]) -> Result<&[u8], DecodeError> {
    body.get(uapi::GENL_HEADER..)
        .ok_or_else(|| "a message without its header".into())
}

#[cfg(test)]
mod tests {
    use super::super::attribute::Attributes;
    use super::*;

    const PRIVATE: [u8; KEY_LENGTH] = [0x77; KEY_LENGTH];

    fn prefixes(attributes: &mut Attributes, thirds: std::ops::Range<u8>) {
        attributes.nest(uapi::WGPEER_A_ALLOWEDIPS, |list| {
            for third in thirds {
                list.nest(0, |entry| {
                    entry.put_u16(uapi::WGALLOWEDIP_A_FAMILY, uapi::AF_INET);
                    entry.put(uapi::WGALLOWEDIP_A_IPADDR, &[10, 0, third, 0]);
                    entry.put(uapi::WGALLOWEDIP_A_CIDR_MASK, &[24]);
                });
            }
        });
    }

    /// A message as the kernel splits them: the attributes of `device`, then peers by key and allowed IPs.
    /// Only the first part of a peer has its other attributes.
    fn message(
        device: impl FnOnce(&mut Attributes),
        peers: &[(u8, bool, std::ops::Range<u8>)],
    ) -> Zeroizing<Vec<u8>> {
        let mut body = Attributes::message(0, 1);
        device(&mut body);
        body.nest(uapi::WGDEVICE_A_PEERS, |list| {
            for (number, first, thirds) in peers.iter().cloned() {
                list.nest(0, |peer| {
                    peer.put(uapi::WGPEER_A_PUBLIC_KEY, &[number; KEY_LENGTH]);
                    if first {
                        peer.put(uapi::WGPEER_A_PRESHARED_KEY, &[number; KEY_LENGTH]);
                        peer.put_u16(uapi::WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, 25);
                        // Padding, where the kernel aligns 64-bit attributes.
                        peer.put(0, &[]);
                        peer.put(uapi::WGPEER_A_RX_BYTES, &7u64.to_ne_bytes());
                        peer.put(99, &[1; 4]);
                    }
                    prefixes(peer, thirds);
                });
            }
        });
        body.into_bytes()
    }

    fn read(with_private_key: bool) -> Listing {
        let device = |body: &mut Attributes| {
            body.put_text(uapi::WGDEVICE_A_IFNAME, "wg0");
            body.put(uapi::WGDEVICE_A_PRIVATE_KEY, &PRIVATE);
            body.put(uapi::WGDEVICE_A_PUBLIC_KEY, &[9; KEY_LENGTH]);
            body.put(99, &[1; 4]);
            body.put_u16(uapi::WGDEVICE_A_LISTEN_PORT, 51820);
        };
        let messages = [
            message(device, &[(5, true, 0..1), (3, true, 1..4)]),
            message(|_| {}, &[(3, false, 4..9)]),
            message(|_| {}, &[(3, false, 9..11), (4, true, 11..12)]),
        ];
        let parts = messages.iter().map(|body| part(body, with_private_key).unwrap());
        merge(parts.collect())
    }

    #[test]
    fn a_peer_of_many_messages_is_one_and_keeps_the_order_of_the_kernel() {
        let listing = read(false);
        assert_eq!(listing.listen_port, 51820);
        assert_eq!(listing.name.as_ref().map(LinkName::as_str), Some("wg0"));
        let peers: Vec<_> = listing
            .peers
            .iter()
            .map(|peer| (peer.public_key.as_bytes()[0], peer.allowed_ips.len()))
            .collect();
        assert_eq!(peers, [(5, 1), (3, 10), (4, 1)]);
        let split = &listing.peers[1];
        assert_eq!(split.allowed_ips[9].to_string(), "10.0.10.0/24");
        assert_eq!((split.keepalive, listing.traffic(split).received), (25, 7));
        assert!(split.preshared_key.is_some());

        let reading = super::super::Reading::from(listing);
        let peer = &reading.device.peers[&PublicKey::from_bytes([3; KEY_LENGTH])];
        assert_eq!((reading.device.peers.len(), peer.allowed_ips.len()), (3, 10));
        assert_eq!((peer.keepalive, reading.traffic.len()), (25, 3));
    }

    #[test]
    fn the_private_key_is_read_where_it_is_asked_for() {
        assert_eq!(read(false).private_key, None);
        assert_eq!(read(true).private_key, Some(PrivateKey::from_bytes(&PRIVATE)));
        assert!(!format!("{:?}", read(true)).contains("119"));
    }
}
