//! Default destinations of VXLAN devices: entries of their forwarding tables for the address of zeros.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NLM_F_APPEND, NLM_F_CREATE, Parseable as _};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage, NeighbourState,
};

use super::Netlink;
use super::execute::{Requests, Role};
use super::message::Request;
use super::neighbour;
use crate::model::FloodChange;
use crate::model::change::Existence;
use crate::net::LinkName;

/// The address for all destinations without an entry of their own.
const ANY: [u8; 6] = [0; 6];

/// Requests the whole table of a device.
pub(super) fn dump(index: u32) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    Request::new(libc::RTM_GETNEIGH, 0, &message)
}

/// Adds a destination to the existing ones.
pub(super) fn add(index: u32, to: IpAddr) -> Request {
    Request::new(libc::RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_APPEND, &entry(index, to))
}

/// Deletes a destination.
pub(super) fn delete(index: u32, to: IpAddr) -> Request {
    Request::new(libc::RTM_DELNEIGH, 0, &entry(index, to))
}

/// Decodes the destination in an `RTM_NEWNEIGH`; `None` for entries of other addresses.
pub(super) fn read(body: &[u8], index: u32) -> Result<Option<IpAddr>, DecodeError> {
    if NeighbourHeader::parse(body)?.ifindex != index {
        return Ok(None);
    }
    let mut to = None;
    let mut default = false;
    for attribute in NeighbourMessage::parse(body)?.attributes {
        match attribute {
            NeighbourAttribute::Destination(destination) => to = neighbour::ip(&destination).ok(),
            NeighbourAttribute::LinkLayerAddress(address) => default = address == ANY,
            _ => {}
        }
    }
    Ok(to.filter(|_| default))
}

fn entry(index: u32, to: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    let header = &mut message.header;
    header.family = AddressFamily::Bridge;
    header.ifindex = index;
    header.state = NeighbourState::Permanent;
    header.flags = NeighbourFlags::Own;
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(ANY.to_vec()));
    message
        .attributes
        .push(NeighbourAttribute::Destination(to.into()));
    message
}

impl Requests for FloodChange {
    fn links(&self) -> Vec<&LinkName> {
        vec![&self.0]
    }

    fn requests(&self, netlink: &mut Netlink) -> io::Result<Vec<(Request, Role)>> {
        let FloodChange(name, to, existence) = self;
        if *existence == Existence::Create {
            return Ok(vec![(add(netlink.managed_index(name)?, *to), Role::Do)]);
        }
        let entry = netlink.managed(name)?.into_iter();
        Ok(entry
            .map(|entry| (delete(entry.index, *to), Role::Delete))
            .collect())
    }
}
