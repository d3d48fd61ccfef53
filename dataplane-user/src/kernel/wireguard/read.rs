//! What the kernel's messages say of a device (linux/wireguard.h): a dump splits the device, and single peers, over
//! several of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NlasIterator, parse_u8, parse_u16, parse_u32, parse_u64};
use zeroize::Zeroizing;

use super::write;
use super::{PeerTraffic, Reading};
use crate::model::wireguard::{Device, Peer};
use crate::net::key::{KEY_LENGTH, PresharedKey, PublicKey};

/// Bytes of generic netlink's header.
const HEADER: usize = 4;
const CTRL_ATTR_FAMILY_ID: u16 = 1;

/// What one message says of a device.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Without peers; only the first message says something here.
    device: Device,
    /// In the kernel's order; the first one may continue the message before.
    peers: Vec<(PublicKey, Peer, PeerTraffic)>,
}

/// The message type in the answer to a question for a family.
pub(super) fn family(body: &[u8]) -> Result<Option<u16>, DecodeError> {
    for attribute in NlasIterator::new(attributes(body)?) {
        let attribute = attribute?;
        if attribute.kind() == CTRL_ATTR_FAMILY_ID {
            return Ok(Some(parse_u16(attribute.value())?));
        }
    }
    Ok(None)
}

/// Reads one message of a dump.
pub(super) fn part(body: &[u8]) -> Result<Option<Part>, DecodeError> {
    let mut part = Part::default();
    for attribute in NlasIterator::new(attributes(body)?) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            write::WGDEVICE_A_PUBLIC_KEY => {
                part.device.public_key = Some(PublicKey::from_bytes(*key(value)?));
            }
            write::WGDEVICE_A_LISTEN_PORT => part.device.listen_port = parse_u16(value)?,
            write::WGDEVICE_A_FWMARK => part.device.fwmark = parse_u32(value)?,
            write::WGDEVICE_A_PEERS => {
                for entry in NlasIterator::new(value) {
                    part.peers.extend(peer(entry?.value())?);
                }
            }
            _ => {}
        }
    }
    Ok(Some(part))
}

/// Puts a device together. A peer that comes again brings more allowed IPs and nothing else.
pub(super) fn merge(parts: Vec<Part>) -> Reading {
    let mut whole: Option<Reading> = None;
    for part in parts {
        let reading = whole.get_or_insert(Reading {
            device: part.device,
            traffic: BTreeMap::new(),
        });
        for (key, peer, traffic) in part.peers {
            match reading.device.peers.get_mut(&key) {
                Some(known) => known.allowed_ips.extend(peer.allowed_ips),
                None => {
                    reading.device.peers.insert(key, peer);
                    reading.traffic.insert(key, traffic);
                }
            }
        }
    }
    whole.unwrap_or_default()
}

fn peer(attributes: &[u8]) -> Result<Option<(PublicKey, Peer, PeerTraffic)>, DecodeError> {
    let mut public_key = None;
    let (mut peer, mut traffic) = (Peer::default(), PeerTraffic::default());
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            write::WGPEER_A_PUBLIC_KEY => public_key = Some(PublicKey::from_bytes(*key(value)?)),
            write::WGPEER_A_PRESHARED_KEY => {
                let preshared = PresharedKey::from_bytes(&*key(value)?);
                peer.preshared_key = (!preshared.is_zero()).then_some(preshared);
            }
            write::WGPEER_A_ENDPOINT => peer.endpoint = socket_address(value),
            write::WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL => peer.keepalive = parse_u16(value)?,
            write::WGPEER_A_LAST_HANDSHAKE_TIME => traffic.last_handshake = time(value)?,
            write::WGPEER_A_RX_BYTES => traffic.received = parse_u64(value)?,
            write::WGPEER_A_TX_BYTES => traffic.sent = parse_u64(value)?,
            write::WGPEER_A_ALLOWEDIPS => {
                for entry in NlasIterator::new(value) {
                    peer.allowed_ips.extend(prefix(entry?.value())?);
                }
            }
            _ => {}
        }
    }
    Ok(public_key.map(|key| (key, peer, traffic)))
}

fn prefix(attributes: &[u8]) -> Result<Option<IpNet>, DecodeError> {
    let mut address = None;
    let mut length = None;
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            write::WGALLOWEDIP_A_IPADDR => address = ip_address(value),
            write::WGALLOWEDIP_A_CIDR_MASK => length = Some(parse_u8(value)?),
            _ => {}
        }
    }
    let prefix = address
        .zip(length)
        .map(|(address, length)| IpNet::new(address, length));
    prefix
        .transpose()
        .map_err(|_| "an allowed IP with too long a prefix".into())
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    Some(<[u8; 16]>::try_from(bytes).ok()?.into())
}

/// Reads a `sockaddr_in` or `sockaddr_in6`; nothing where it is neither.
fn socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match u16::from_ne_bytes(*family) {
        write::AF_INET => Some((*rest.first_chunk::<4>()?, port).into()),
        write::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk::<4>()?;
            let (address, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            let flow = u32::from_be_bytes(*flow);
            Some(SocketAddrV6::new(Ipv6Addr::from(*address), port, flow, scope).into())
        }
        _ => None,
    }
}

/// Reads a `__kernel_timespec`; all zeros: never.
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
        return Err("a key that has not 32 bytes".into());
    }
    key.copy_from_slice(value);
    Ok(key)
}

fn attributes(body: &[u8]) -> Result<&[u8], DecodeError> {
    body.get(HEADER..)
        .ok_or_else(|| "a message without its header".into())
}
