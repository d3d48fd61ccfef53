//! Permanent neighbours: encodes messages that create and delete them, and decodes messages of the kernel.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_REPLACE, Parseable as _, parse_ip};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteProtocol;

use super::Netlink;
use super::execute::{Requests, Role};
use super::message::Request;
use crate::model::change::Write;
use crate::model::{Neighbour, NeighbourChange, Owner, PROTOCOL};
use crate::net::{LinkName, MacAddr};

/// A neighbour in a message of the kernel, with the index of its device.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) index: u32,
    pub(super) address: IpAddr,
    pub(super) neighbour: Neighbour,
}

/// Requests all IPv6 neighbours; those of Adit are IPv6.
pub(super) fn dump() -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    Request::new(libc::RTM_GETNEIGH, 0, &message)
}

/// Creates or replaces a neighbour, with the mark. It replaces an entry that the kernel learned or created
/// itself: on a device without ARP the kernel creates one for each destination.
pub(super) fn put(index: u32, address: IpAddr, mac: MacAddr) -> Request {
    let mut message = of_address(index, address);
    message.header.state = NeighbourState::Permanent;
    message.attributes.extend([
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        NeighbourAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ]);
    Request::new(libc::RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &message)
}

/// Deletes a neighbour.
pub(super) fn delete(index: u32, address: IpAddr) -> Request {
    Request::new(libc::RTM_DELNEIGH, 0, &of_address(index, address))
}

/// Decodes an `RTM_NEWNEIGH`; `None` for neighbours that are not permanent.
pub(super) fn read(body: &[u8]) -> Result<Option<Observed>, DecodeError> {
    let header = NeighbourHeader::parse(body)?;
    if header.state != NeighbourState::Permanent {
        return Ok(None);
    }
    let mut address = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let mut mac = None;
    let mut owner = Owner::Other;
    for attribute in NeighbourMessage::parse(body)?.attributes {
        match attribute {
            NeighbourAttribute::Destination(destination) => address = ip(&destination)?,
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.try_into().ok().map(MacAddr),
            NeighbourAttribute::Protocol(RouteProtocol::Other(PROTOCOL)) => owner = Owner::Adit,
            _ => {}
        }
    }
    Ok(mac.map(|mac| Observed {
        index: header.ifindex,
        address,
        neighbour: Neighbour { owner, mac },
    }))
}

/// Decodes an address. For families other than IP, as in bridges, the length tells which kind of address it
/// is.
pub(super) fn ip(address: &NeighbourAddress) -> Result<IpAddr, DecodeError> {
    match address {
        NeighbourAddress::Inet(address) => Ok((*address).into()),
        NeighbourAddress::Inet6(address) => Ok((*address).into()),
        NeighbourAddress::Other(bytes) => parse_ip(bytes),
        _ => Err("a neighbour address that is neither IPv4 nor IPv6".into()),
    }
}

fn of_address(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = super::route::family(address);
    message.header.ifindex = index;
    message
        .attributes
        .push(NeighbourAttribute::Destination(address.into()));
    message
}

impl Requests for NeighbourChange {
    fn links(&self) -> Vec<&LinkName> {
        vec![&self.0]
    }

    fn requests(&self, netlink: &mut Netlink) -> io::Result<Vec<(Request, Role)>> {
        let NeighbourChange(name, address, write) = self;
        if let Write::Put(value) = write {
            let index = netlink.managed_index(name)?;
            return Ok(vec![(put(index, *address, value.mac), Role::Do)]);
        }
        let entry = netlink.managed(name)?.into_iter();
        Ok(entry
            .map(|entry| (delete(entry.index, *address), Role::Delete))
            .collect())
    }
}
