//! Permanent neighbours: messages that put and delete them, and what a message from the kernel says.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_REPLACE, NlasIterator, parse_ip, parse_u8};
use netlink_packet_route::AddressFamily;
use zeroize::Zeroizing;

use super::Netlink;
use super::attribute::push;
use super::execute::{Requests, Role};
use super::message::Request;
use crate::model::change::Write;
use crate::model::{Neighbour, NeighbourChange, Owner, PROTOCOL};
use crate::net::{LinkName, MacAddr};

// linux/neighbour.h
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PROTOCOL: u16 = 12;
const NUD_PERMANENT: u16 = 0x80;
/// struct ndmsg: family, three bytes of padding, interface index, state, flags, type.
const HEADER: usize = 12;

/// A neighbour as the kernel says, with its device's index.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) index: u32,
    pub(super) address: IpAddr,
    pub(super) neighbour: Neighbour,
}

/// Asks for all IPv6 neighbours: ours are.
pub(super) fn dump() -> Request {
    let body = header(AddressFamily::Inet6, 0, 0);
    Request::of_bytes(libc::RTM_GETNEIGH, 0, Zeroizing::new(body))
}

/// Puts one, marked. What the kernel learned or made there by itself is replaced: on a device without ARP it makes one
/// for whatever is sent.
pub(super) fn put(index: u32, address: IpAddr, mac: MacAddr) -> Request {
    let mut body = header(super::route::family(address), index, NUD_PERMANENT);
    push_address(&mut body, address);
    push(&mut body, NDA_LLADDR, &mac.0);
    push(&mut body, NDA_PROTOCOL, &[PROTOCOL]);
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    Request::of_bytes(libc::RTM_NEWNEIGH, flags, Zeroizing::new(body))
}

/// Deletes one.
pub(super) fn delete(index: u32, address: IpAddr) -> Request {
    let mut body = header(super::route::family(address), index, 0);
    push_address(&mut body, address);
    Request::of_bytes(libc::RTM_DELNEIGH, 0, Zeroizing::new(body))
}

/// What an `RTM_NEWNEIGH` says; nothing for those that are not permanent.
pub(super) fn read(body: &[u8]) -> Result<Option<Observed>, DecodeError> {
    let Some((header, attributes)) = body.split_first_chunk::<HEADER>() else {
        return Err("a neighbour without header".into());
    };
    let [_, _, _, _, a, b, c, d, low, high, ..] = *header;
    if u16::from_ne_bytes([low, high]) & NUD_PERMANENT == 0 {
        return Ok(None);
    }
    let mut address = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let mut mac = None;
    let mut owner = Owner::Foreign;
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            NDA_DST => address = parse_ip(value)?,
            NDA_LLADDR => mac = value.try_into().ok().map(MacAddr),
            NDA_PROTOCOL if parse_u8(value)? == PROTOCOL => owner = Owner::Ours,
            _ => {}
        }
    }
    Ok(mac.map(|mac| Observed {
        index: u32::from_ne_bytes([a, b, c, d]),
        address,
        neighbour: Neighbour { owner, mac },
    }))
}

fn push_address(body: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => push(body, NDA_DST, &address.octets()),
        IpAddr::V6(address) => push(body, NDA_DST, &address.octets()),
    }
}

fn header(family: AddressFamily, index: u32, state: u16) -> Vec<u8> {
    let mut header = vec![family.into(), 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(state.to_ne_bytes());
    header.extend([0, 0]);
    header
}

impl Requests for NeighbourChange {
    fn links(&self) -> Vec<&LinkName> {
        vec![&self.0]
    }

    fn requests(&self, netlink: &mut Netlink) -> io::Result<Vec<(Request, Role)>> {
        let NeighbourChange(name, address, write) = self;
        if let Write::Put(value) = write {
            let index = netlink.our_index(name)?;
            return Ok(vec![(put(index, *address, value.mac), Role::Do)]);
        }
        let entry = netlink.ours(name)?.into_iter();
        Ok(entry
            .map(|entry| (delete(entry.index, *address), Role::Delete))
            .collect())
    }
}
