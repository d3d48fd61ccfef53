//! Addresses: encodes messages that add and delete them, and decodes messages of the kernel.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL, Parseable as _};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage, AddressProtocol,
    AddressScope as RawScope,
};

use super::execute::{Requests, Role, no_link};
use super::marks::Marks;
use super::message::Request;
use super::{Netlink, link};
use crate::model::{Address, AddressChange, AddressOperation, AddressScope, Owner, PROTOCOL};
use crate::net::LinkName;

/// An address in a message of the kernel, with the index of its device.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) index: u32,
    pub(super) prefix: IpNet,
    pub(super) address: Address,
}

/// Requests all addresses of both families.
pub(super) fn dump() -> Request {
    Request::new(libc::RTM_GETADDR, 0, &AddressMessage::default())
}

/// Adds an address; refused if it exists. Marked IPv6 addresses are added without duplicate detection, which
/// takes seconds and finds nothing on a tunnel. The kernel derives their scope from the address.
pub(super) fn create(index: u32, prefix: IpNet, address: Address, marks: Marks) -> Request {
    let mut message = of_prefix(index, prefix, address.peer);
    message.header.scope = match address.scope {
        AddressScope::Global => RawScope::Universe,
        AddressScope::Link => RawScope::Link,
        AddressScope::Host => RawScope::Host,
    };
    if marks == Marks::Adit {
        if prefix.addr().is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        let mark = AddressProtocol::from(PROTOCOL);
        message.attributes.push(AddressAttribute::Protocol(mark));
    }
    Request::new(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &message)
}

/// Deletes an address; the kernel also compares its peer.
pub(super) fn delete(index: u32, prefix: IpNet, peer: Option<IpAddr>) -> Request {
    Request::new(libc::RTM_DELADDR, 0, &of_prefix(index, prefix, peer))
}

/// Decodes an `RTM_NEWADDR`; `None` for families other than IP.
pub(super) fn read(body: &[u8]) -> Result<Option<Observed>, DecodeError> {
    let header = AddressHeader::parse(body)?;
    if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return Ok(None);
    }
    let mut local = None;
    let mut peer = None;
    let mut owner = Owner::Other;
    for attribute in AddressMessage::parse(body)?.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(address),
            AddressAttribute::Address(address) => peer = Some(address),
            // The attribute exists since Linux 5.18.
            AddressAttribute::Protocol(AddressProtocol::Other(PROTOCOL)) => owner = Owner::Adit,
            AddressAttribute::Protocol(AddressProtocol::LinkLocal) => owner = Owner::Kernel,
            _ => {}
        }
    }
    // IPv6 addresses without peer have no IFA_LOCAL.
    let Some(own) = local.or(peer) else {
        return Ok(None);
    };
    let prefix = IpNet::new(own, header.prefix_len)
        .map_err(|_| DecodeError::from(format!("address {own} with prefix length {}", header.prefix_len)))?;
    let scope = match header.scope {
        RawScope::Link => AddressScope::Link,
        RawScope::Host => AddressScope::Host,
        _ => AddressScope::Global,
    };
    Ok(Some(Observed {
        index: header.index,
        prefix,
        address: Address {
            owner,
            scope,
            peer: peer.filter(|peer| *peer != own),
        },
    }))
}

fn of_prefix(index: u32, prefix: IpNet, peer: Option<IpAddr>) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = super::route::family(prefix.addr());
    message.header.prefix_len = prefix.prefix_len();
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(prefix.addr()));
    let other = peer.unwrap_or(prefix.addr());
    message.attributes.push(AddressAttribute::Address(other));
    message
}

impl Requests for AddressChange {
    fn links(&self) -> Vec<&LinkName> {
        vec![&self.0]
    }

    fn requests(&self, netlink: &mut Netlink) -> io::Result<Vec<(Request, Role)>> {
        let AddressChange(name, prefix, operation) = self;
        let Some(entry) = netlink.managed(name)? else {
            return match operation {
                AddressOperation::Delete { .. } => Ok(Vec::new()),
                _ => Err(no_link()),
            };
        };
        let index = entry.index;
        // Delete it with the peer that it had in the last observation.
        let delete = |prefix: IpNet| {
            let peer = netlink.peers.get(&(index, prefix)).copied();
            (delete(index, prefix, peer), Role::Delete)
        };
        let create = |value| (create(index, *prefix, value, netlink.marks), Role::Do);
        // Addresses of others in its subnet stay.
        let promote = netlink.marks == Marks::Adit && prefix.addr().is_ipv4();
        let promote = promote.then(|| (link::set_promotes_secondaries(index), Role::Delete));
        let gone = promote.into_iter().chain([delete(*prefix)]);
        Ok(match operation {
            AddressOperation::Create(value) => vec![create(*value)],
            // The kernel never changes the scope of an existing address.
            AddressOperation::Replace(value) => gone.chain([create(*value)]).collect(),
            AddressOperation::Move { from, to } => vec![delete(*from), create(*to)],
            AddressOperation::Delete { .. } => gone.collect(),
        })
    }
}
