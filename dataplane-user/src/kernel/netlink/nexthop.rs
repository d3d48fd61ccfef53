//! Next-hop objects: encodes messages that create, change and delete them, decodes messages of the kernel,
//! and allocates ids.

mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use netlink_packet_core::{
    DecodeError, Emitable as _, NLA_F_NESTED, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NlasIterator,
    parse_ip, parse_u16, parse_u32,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteIpTunnelFlags, RouteLwEnCapType, RouteNextHopFlags};
use zeroize::Zeroizing;

use super::attribute::push;
use super::link_table::LinkTable;
use super::lwtunnel::{self, Tunnel};
use super::message::Request;
use super::uapi;
use crate::model::{NextHopObject, OuterHeader, PROTOCOL, RouteGroup, RouteHop};

/// The number of buckets of a resilient group, a power of two well above the 64 members that a group may
/// have.
const BUCKETS: u16 = 256;
/// The range of ids for objects of Adit. Ids have no owner in the kernel; objects in this range that Adit did
/// not create are not changed.
pub(super) const IDS: RangeInclusive<u32> = 1_730_000..=1_999_999;

/// Requests all next-hop objects.
pub(super) fn dump() -> Request {
    request(uapi::RTM_GETNEXTHOP, 0, header(AddressFamily::Unspec, 0, 0))
}

/// The managed objects by id, as last observed or created, and the ids of other objects.
#[derive(Debug, Default)]
pub(super) struct NextHopTable {
    objects: BTreeMap<u32, NextHopObject>,
    ids: BTreeMap<NextHopObject, u32>,
    foreign: BTreeSet<u32>,
    /// The id at which the search for a free id starts, so that a freed id is reused as late as possible.
    next: u32,
}

impl NextHopTable {
    /// Replaces the content with what the kernel reported.
    pub(super) fn refill(&mut self, found: Vec<Observed>) {
        *self = NextHopTable {
            next: self.next,
            ..NextHopTable::default()
        };
        let (hops, groups): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.group.is_none());
        for one in hops.into_iter().chain(groups) {
            if !one.managed {
                self.foreign.insert(one.id);
                continue;
            }
            let object = one.object(self).filter(|object| !self.ids.contains_key(object));
            // The second of two equal objects is also unknown: its routes are moved to the first, then it is
            // deleted.
            let object = object.unwrap_or_else(|| NextHopObject::Other(format!("id {}", one.id)));
            self.insert(one.id, object);
        }
    }

    /// All managed objects.
    pub(super) fn objects(&self) -> impl Iterator<Item = &NextHopObject> {
        self.objects.values()
    }

    /// The object with an id.
    pub(super) fn object(&self, id: u32) -> NextHopObject {
        let known = self.objects.get(&id).cloned();
        known.unwrap_or_else(|| NextHopObject::Other(format!("id {id}")))
    }

    pub(super) fn id(&self, object: &NextHopObject) -> Option<u32> {
        self.ids.get(object).copied()
    }

    pub(super) fn insert(&mut self, id: u32, object: NextHopObject) {
        if let Some(former) = self.objects.insert(id, object.clone()) {
            self.ids.remove(&former);
        }
        self.ids.insert(object, id);
    }

    pub(super) fn remove(&mut self, object: &NextHopObject) {
        if let Some(id) = self.ids.remove(object) {
            self.objects.remove(&id);
        }
    }

    /// Allocates an unused id; `None` if all are in use.
    pub(super) fn allocate(&mut self) -> Option<u32> {
        let start = self.next.clamp(*IDS.start(), *IDS.end());
        let taken = |id: &u32| self.objects.contains_key(id) || self.foreign.contains(id);
        let id = (start..=*IDS.end()).chain(IDS).find(|id| !taken(id))?;
        self.next = id + 1;
        Some(id)
    }
}

/// The error of a change that needs a next-hop object which is not known.
pub(super) fn absent() -> io::Error {
    io::Error::other("a next-hop object that it uses does not exist")
}

/// Creates an object with the mark; `None` if its device or a member is not known.
pub(super) fn create(
    id: u32,
    object: &NextHopObject,
    known: &NextHopTable,
    links: &LinkTable,
) -> Option<Request> {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let body = match object {
        NextHopObject::Hop(hop) => hop_body(id, hop, links)?,
        NextHopObject::Group(group) => group_body(id, group, known)?,
        NextHopObject::Other(_) => return None,
    };
    Some(request(uapi::RTM_NEWNEXTHOP, flags, body))
}

/// Replaces the members of a group; `None` if one is not known.
pub(super) fn replace(id: u32, group: &RouteGroup, known: &NextHopTable) -> Option<Request> {
    let body = group_body(id, group, known)?;
    Some(request(uapi::RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_REPLACE, body))
}

/// Deletes an object; the kernel also deletes the routes that use it.
pub(super) fn delete(id: u32) -> Request {
    let mut body = header(AddressFamily::Unspec, 0, 0);
    push(&mut body, uapi::NHA_ID, &id.to_ne_bytes());
    request(uapi::RTM_DELNEXTHOP, 0, body)
}

/// An object in a message of the kernel.
#[derive(Debug)]
pub(super) struct Observed {
    id: u32,
    managed: bool,
    hop: Option<RouteHop>,
    /// Members by id with their weights, and whether the group is resilient.
    group: Option<(Vec<(u32, u8)>, bool)>,
}

impl Observed {
    /// Its model value; `None` if Adit would not create it like this.
    fn object(&self, known: &NextHopTable) -> Option<NextHopObject> {
        let Some((members, resilient)) = &self.group else {
            return self.hop.clone().map(|hop| NextHopObject::Hop(Arc::new(hop)));
        };
        let member = |(id, weight): &(u32, u8)| match known.objects.get(id)? {
            NextHopObject::Hop(hop) => Some((Arc::clone(hop), *weight)),
            _ => None,
        };
        let mut members = members.iter().map(member).collect::<Option<Vec<_>>>()?;
        // Their order has no meaning for the kernel.
        members.sort();
        let resilient = *resilient;
        Some(NextHopObject::Group(Arc::new(RouteGroup { members, resilient })))
    }
}

/// Decodes the id in a message about an object.
pub(super) fn id(body: &[u8]) -> Result<Option<u32>, DecodeError> {
    for attribute in NlasIterator::new(body.get(uapi::NEXTHOP_HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        if attribute.kind() == uapi::NHA_ID {
            return parse_u32(attribute.value()).map(Some);
        }
    }
    Ok(None)
}

/// Decodes an `RTM_NEWNEXTHOP`.
pub(super) fn read(body: &[u8], links: &LinkTable) -> Result<Option<Observed>, DecodeError> {
    let Some((header, attributes)) = body.split_first_chunk::<{ uapi::NEXTHOP_HEADER }>() else {
        return Err("a next-hop object without header".into());
    };
    let [family, _, protocol, _, flags @ ..] = *header;
    let mut parts = Parts::default();
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        parts.take(attribute.kind(), attribute.value())?;
    }
    let id = parts.id.ok_or("a next-hop object without id")?;
    let onlink = u32::from_ne_bytes(flags) & onlink_flag() != 0;
    Ok(Some(Observed {
        id,
        managed: protocol == PROTOCOL && IDS.contains(&id),
        hop: parts.hop(family, onlink, links),
        group: parts.group.map(|members| (members, parts.resilient)),
    }))
}

#[derive(Default)]
struct Parts {
    id: Option<u32>,
    index: Option<u32>,
    gateway: Option<IpAddr>,
    encap_type: RouteLwEnCapType,
    encap: Option<Vec<u8>>,
    group: Option<Vec<(u32, u8)>>,
    resilient: bool,
    /// Whether it is of a kind that Adit never creates. Unknown attributes do not count.
    odd: bool,
}

impl Parts {
    fn take(&mut self, kind: u16, value: &[u8]) -> Result<(), DecodeError> {
        match kind {
            uapi::NHA_ID => self.id = Some(parse_u32(value)?),
            uapi::NHA_OIF => self.index = Some(parse_u32(value)?),
            uapi::NHA_GATEWAY => self.gateway = Some(parse_ip(value)?),
            uapi::NHA_ENCAP_TYPE => self.encap_type = parse_u16(value)?.into(),
            uapi::NHA_ENCAP => self.encap = Some(value.to_vec()),
            uapi::NHA_GROUP => {
                let (members, _) = value.as_chunks::<{ uapi::NEXTHOP_MEMBER }>();
                self.group = Some(members.iter().map(member).collect());
            }
            uapi::NHA_GROUP_TYPE => self.resilient = parse_u16(value)? == uapi::NEXTHOP_GRP_TYPE_RES,
            uapi::NHA_BLACKHOLE | uapi::NHA_FDB => self.odd = true,
            _ => {}
        }
        Ok(())
    }

    fn hop(&self, family: u8, onlink: bool, links: &LinkTable) -> Option<RouteHop> {
        let link = links.name(self.index?)?.clone();
        // An object that was created before the device had IPv6 is recreated.
        let ipv6 = links.get(&link).is_some_and(|device| device.ipv6);
        let narrow = ipv6 && self.gateway.is_none() && family == u8::from(AddressFamily::Inet);
        let encapsulation = match &self.encap {
            None => None,
            Some(encap) => Some(outer_header(
                &lwtunnel::read(self.encap_type, encap).ok().flatten()?,
            )?),
        };
        let fits = !self.odd && !narrow && self.gateway.is_some() == onlink;
        fits.then_some(RouteHop {
            link,
            gateway: self.gateway,
            encapsulation,
        })
    }
}

/// `RTNH_F_ONLINK`, in the width of the field of objects, which is wider than that of routes.
fn onlink_flag() -> u32 {
    RouteNextHopFlags::Onlink.bits().into()
}

fn tunnel(header: &OuterHeader) -> Tunnel {
    let mut flags = 0;
    if header.checksum {
        flags |= RouteIpTunnelFlags::Checksum.bits();
    }
    if header.dont_fragment {
        flags |= uapi::TUNNEL_DONT_FRAGMENT;
    }
    Tunnel {
        id: header.id,
        source: Some(header.local),
        destination: header.remote,
        ttl: header.ttl,
        tos: header.tos,
        flags,
    }
}

/// The outer header; `None` if it contains something that [`tunnel`] does not encode.
fn outer_header(tunnel: &Tunnel) -> Option<OuterHeader> {
    let checksum = RouteIpTunnelFlags::Checksum.bits();
    let local = tunnel.source?;
    (tunnel.flags & !(checksum | uapi::TUNNEL_DONT_FRAGMENT) == 0).then_some(OuterHeader {
        id: tunnel.id,
        local,
        remote: tunnel.destination,
        ttl: tunnel.ttl,
        tos: tunnel.tos,
        dont_fragment: tunnel.flags & uapi::TUNNEL_DONT_FRAGMENT != 0,
        checksum: tunnel.flags & checksum != 0,
    })
}

fn member(bytes: &[u8; uapi::NEXTHOP_MEMBER]) -> (u32, u8) {
    let [a, b, c, d, weight, ..] = *bytes;
    (u32::from_ne_bytes([a, b, c, d]), weight.saturating_add(1))
}

/// The family of an object. Routes of both families can use objects without a gateway or with an IPv6
/// gateway; a device without IPv6 accepts only IPv4 objects.
fn family(gateway: Option<IpAddr>, ipv6: bool) -> AddressFamily {
    match gateway {
        Some(IpAddr::V4(_)) => AddressFamily::Inet,
        None if !ipv6 => AddressFamily::Inet,
        _ => AddressFamily::Inet6,
    }
}

fn hop_body(id: u32, hop: &RouteHop, links: &LinkTable) -> Option<Vec<u8>> {
    let device = links.get(&hop.link)?;
    let family = family(hop.gateway, device.ipv6);
    let onlink = if hop.gateway.is_some() { onlink_flag() } else { 0 };
    let mut body = header(family, PROTOCOL, onlink);
    push(&mut body, uapi::NHA_ID, &id.to_ne_bytes());
    push(&mut body, uapi::NHA_OIF, &device.index.to_ne_bytes());
    match hop.gateway {
        Some(IpAddr::V4(gateway)) => push(&mut body, uapi::NHA_GATEWAY, &gateway.octets()),
        Some(IpAddr::V6(gateway)) => push(&mut body, uapi::NHA_GATEWAY, &gateway.octets()),
        None => {}
    }
    if let Some(outer) = &hop.encapsulation {
        let (kind, parts) = tunnel(outer).write();
        let mut encap = vec![0; parts.as_slice().buffer_len()];
        parts.as_slice().emit(&mut encap);
        push(&mut body, uapi::NHA_ENCAP_TYPE, &u16::from(kind).to_ne_bytes());
        push(&mut body, uapi::NHA_ENCAP | NLA_F_NESTED, &encap);
    }
    Some(body)
}

fn group_body(id: u32, group: &RouteGroup, known: &NextHopTable) -> Option<Vec<u8>> {
    let mut members = Vec::with_capacity(group.members.len() * uapi::NEXTHOP_MEMBER);
    for (hop, weight) in &group.members {
        let id = known.id(&NextHopObject::Hop(Arc::clone(hop)))?;
        members.extend(id.to_ne_bytes());
        members.extend([weight.saturating_sub(1), 0, 0, 0]);
    }
    let mut body = header(AddressFamily::Unspec, PROTOCOL, 0);
    push(&mut body, uapi::NHA_ID, &id.to_ne_bytes());
    push(&mut body, uapi::NHA_GROUP, &members);
    if group.resilient {
        push(
            &mut body,
            uapi::NHA_GROUP_TYPE,
            &uapi::NEXTHOP_GRP_TYPE_RES.to_ne_bytes(),
        );
        let mut settings = Vec::new();
        push(&mut settings, uapi::NHA_RES_GROUP_BUCKETS, &BUCKETS.to_ne_bytes());
        push(&mut body, uapi::NHA_RES_GROUP | NLA_F_NESTED, &settings);
    }
    Some(body)
}

fn header(family: AddressFamily, protocol: u8, flags: u32) -> Vec<u8> {
    let mut header = vec![family.into(), 0, protocol, 0];
    header.extend(flags.to_ne_bytes());
    header
}

fn request(kind: u16, flags: u16, body: Vec<u8>) -> Request {
    Request::of_bytes(kind, flags, Zeroizing::new(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_attributes_of_objects_are_passed_over() {
        let links = LinkTable::default();
        let message = |extra: &[(u16, &[u8])]| {
            let mut body = header(AddressFamily::Inet6, PROTOCOL, 0);
            push(&mut body, uapi::NHA_ID, &IDS.start().to_ne_bytes());
            for (kind, value) in extra {
                push(&mut body, *kind, value);
            }
            let mut parts = Parts::default();
            for attribute in NlasIterator::new(&body[uapi::NEXTHOP_HEADER..]) {
                let attribute = attribute.unwrap();
                parts.take(attribute.kind(), attribute.value()).unwrap();
            }
            assert_eq!(parts.id, Some(*IDS.start()));
            assert!(read(&body, &links).unwrap().is_some());
            parts.odd
        };
        // Padding, `NHA_OP_FLAGS` and an attribute of a later kernel.
        assert!(!message(&[(0, &[]), (14, &[2, 0, 0, 0]), (99, &[1; 4])]));
        assert!(message(&[(uapi::NHA_BLACKHOLE, &[])]));
        assert!(message(&[(uapi::NHA_FDB, &[])]));
    }
}
