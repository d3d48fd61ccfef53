//! Next-hop objects: messages that make, change and delete them, what a message from the kernel says, and their ids.

mod encap;
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use netlink_packet_core::{
    DecodeError, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NlasIterator, parse_ip, parse_u32,
};
use netlink_packet_route::AddressFamily;
use zeroize::Zeroizing;

use super::attribute::push;
use super::message::Request;
use super::table::LinkTable;
use crate::model::{PROTOCOL, RouteGroup, RouteHop, RouteTarget};

// linux/rtnetlink.h and linux/nexthop.h
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;
const NHA_FDB: u16 = 11;
const NHA_RES_GROUP: u16 = 12;
const NHA_RES_GROUP_BUCKETS: u16 = 1;
const NEXTHOP_GRP_TYPE_RES: u16 = 1;
const RTNH_F_ONLINK: u32 = 4;
/// struct nhmsg: family, scope, protocol, a reserved byte, flags.
const HEADER: usize = 8;
/// struct nexthop_grp: id, weight − 1, three reserved bytes.
const MEMBER: usize = 8;
/// A resilient group's slots, a power of two well above the 64 members that a group may have.
const BUCKETS: u16 = 256;
/// Ours. Ids are nobody's but by agreement; others' in it are left alone.
pub(super) const IDS: RangeInclusive<u32> = 1_730_000..=1_999_999;

/// Asks for all next-hop objects.
pub(super) fn dump() -> Request {
    request(RTM_GETNEXTHOP, 0, header(AddressFamily::Unspec, 0, 0))
}

/// The objects of ours by id, as last seen or made, and the ids that others have.
#[derive(Debug, Default)]
pub(super) struct NextHopTable {
    targets: BTreeMap<u32, RouteTarget>,
    ids: BTreeMap<RouteTarget, u32>,
    foreign: BTreeSet<u32>,
    /// Where to look for a free id: one that was freed rests as long as it can.
    next: u32,
}

impl NextHopTable {
    /// Takes what the kernel said, in place of all that was known.
    pub(super) fn refill(&mut self, found: Vec<Observed>) {
        *self = NextHopTable {
            next: self.next,
            ..NextHopTable::default()
        };
        let (hops, groups): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.group.is_none());
        for one in hops.into_iter().chain(groups) {
            if !one.ours {
                self.foreign.insert(one.id);
                continue;
            }
            let target = one.target(self).filter(|target| !self.ids.contains_key(target));
            // Also the second of two alike: what leads to it is led to the first, then it goes.
            let target = target.unwrap_or_else(|| RouteTarget::Other(format!("id {}", one.id)));
            self.insert(one.id, target);
        }
    }

    /// All objects of ours.
    pub(super) fn targets(&self) -> impl Iterator<Item = &RouteTarget> {
        self.targets.values()
    }

    /// The object of an id.
    pub(super) fn target(&self, id: u32) -> RouteTarget {
        let known = self.targets.get(&id).cloned();
        known.unwrap_or_else(|| RouteTarget::Other(format!("id {id}")))
    }

    pub(super) fn id(&self, target: &RouteTarget) -> Option<u32> {
        self.ids.get(target).copied()
    }

    pub(super) fn insert(&mut self, id: u32, target: RouteTarget) {
        if let Some(former) = self.targets.insert(id, target.clone()) {
            self.ids.remove(&former);
        }
        self.ids.insert(target, id);
    }

    pub(super) fn remove(&mut self, target: &RouteTarget) {
        if let Some(id) = self.ids.remove(target) {
            self.targets.remove(&id);
        }
    }

    /// An id that nobody has; `None` where all are taken.
    pub(super) fn allocate(&mut self) -> Option<u32> {
        let start = self.next.clamp(*IDS.start(), *IDS.end());
        let taken = |id: &u32| self.targets.contains_key(id) || self.foreign.contains(id);
        let id = (start..=*IDS.end()).chain(IDS).find(|id| !taken(id))?;
        self.next = id + 1;
        Some(id)
    }
}

/// What is wrong where an object is not known.
pub(super) fn absent() -> io::Error {
    io::Error::other("a next-hop object that it leads to is not there")
}

/// Makes an object, marked; `None` where its device or a member is not known.
pub(super) fn create(
    id: u32,
    target: &RouteTarget,
    known: &NextHopTable,
    links: &LinkTable,
) -> Option<Request> {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let body = match target {
        RouteTarget::Hop(hop) => hop_body(id, hop, links)?,
        RouteTarget::Group(group) => group_body(id, group, known)?,
        RouteTarget::Other(_) => return None,
    };
    Some(request(RTM_NEWNEXTHOP, flags, body))
}

/// Gives a group other members; `None` where one is not known.
pub(super) fn replace(id: u32, group: &RouteGroup, known: &NextHopTable) -> Option<Request> {
    let body = group_body(id, group, known)?;
    Some(request(RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_REPLACE, body))
}

/// Deletes an object; the kernel deletes the routes that lead to it too.
pub(super) fn delete(id: u32) -> Request {
    let mut body = header(AddressFamily::Unspec, 0, 0);
    push(&mut body, NHA_ID, &id.to_ne_bytes());
    request(RTM_DELNEXTHOP, 0, body)
}

/// An object as the kernel says.
#[derive(Debug)]
pub(super) struct Observed {
    id: u32,
    ours: bool,
    hop: Option<RouteHop>,
    /// Members by id with their weights, and whether the group is resilient.
    group: Option<(Vec<(u32, u8)>, bool)>,
}

impl Observed {
    /// What it is; `None` where we'd not make it so.
    fn target(&self, known: &NextHopTable) -> Option<RouteTarget> {
        let Some((members, resilient)) = &self.group else {
            return self.hop.clone().map(|hop| RouteTarget::Hop(Arc::new(hop)));
        };
        let member = |(id, weight): &(u32, u8)| match known.targets.get(id)? {
            RouteTarget::Hop(hop) => Some((Arc::clone(hop), *weight)),
            _ => None,
        };
        let mut members = members.iter().map(member).collect::<Option<Vec<_>>>()?;
        // Their order means nothing to the kernel.
        members.sort();
        let resilient = *resilient;
        Some(RouteTarget::Group(Arc::new(RouteGroup { members, resilient })))
    }
}

/// The id that a message about an object says.
pub(super) fn id(body: &[u8]) -> Result<Option<u32>, DecodeError> {
    for attribute in NlasIterator::new(body.get(HEADER..).unwrap_or_default()) {
        let attribute = attribute?;
        if attribute.kind() == NHA_ID {
            return parse_u32(attribute.value()).map(Some);
        }
    }
    Ok(None)
}

/// What an `RTM_NEWNEXTHOP` says.
pub(super) fn read(body: &[u8], links: &LinkTable) -> Result<Option<Observed>, DecodeError> {
    let Some((header, attributes)) = body.split_first_chunk::<HEADER>() else {
        return Err("a next hop without header".into());
    };
    let [family, _, protocol, _, flags @ ..] = *header;
    let mut parts = Parts::default();
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        parts.take(attribute.kind(), attribute.value())?;
    }
    let id = parts.id.ok_or("a next hop without id")?;
    let onlink = u32::from_ne_bytes(flags) & RTNH_F_ONLINK != 0;
    Ok(Some(Observed {
        id,
        ours: protocol == PROTOCOL && IDS.contains(&id),
        hop: parts.hop(family, onlink, links),
        group: parts.group.map(|members| (members, parts.resilient)),
    }))
}

#[derive(Default)]
struct Parts {
    id: Option<u32>,
    index: Option<u32>,
    gateway: Option<IpAddr>,
    encap_type: u16,
    encap: Option<Vec<u8>>,
    group: Option<Vec<(u32, u8)>>,
    resilient: bool,
    /// It is of a kind that Adit never creates. Attributes that are not known here say nothing of the kind.
    odd: bool,
}

impl Parts {
    fn take(&mut self, kind: u16, value: &[u8]) -> Result<(), DecodeError> {
        match kind {
            NHA_ID => self.id = Some(parse_u32(value)?),
            NHA_OIF => self.index = Some(parse_u32(value)?),
            NHA_GATEWAY => self.gateway = Some(parse_ip(value)?),
            NHA_ENCAP_TYPE => self.encap_type = number(value),
            NHA_ENCAP => self.encap = Some(value.to_vec()),
            NHA_GROUP => {
                let (members, _) = value.as_chunks::<MEMBER>();
                self.group = Some(members.iter().map(member).collect());
            }
            NHA_GROUP_TYPE => self.resilient = number(value) == NEXTHOP_GRP_TYPE_RES,
            NHA_BLACKHOLE | NHA_FDB => self.odd = true,
            _ => {}
        }
        Ok(())
    }

    fn hop(&self, family: u8, onlink: bool, links: &LinkTable) -> Option<RouteHop> {
        let link = links.name(self.index?)?.clone();
        // One that was made before the device had IPv6 is made anew.
        let ipv6 = links.get(&link).is_some_and(|device| device.ipv6);
        let narrow = ipv6 && self.gateway.is_none() && family == u8::from(AddressFamily::Inet);
        let encapsulation = match &self.encap {
            None => None,
            Some(encap) => Some(encap::read(self.encap_type, encap)?),
        };
        let fits = !self.odd && !narrow && self.gateway.is_some() == onlink;
        fits.then_some(RouteHop {
            link,
            gateway: self.gateway,
            encapsulation,
        })
    }
}

fn number(value: &[u8]) -> u16 {
    value.first_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

fn member(bytes: &[u8; MEMBER]) -> (u32, u8) {
    let [a, b, c, d, weight, ..] = *bytes;
    (u32::from_ne_bytes([a, b, c, d]), weight.saturating_add(1))
}

/// Without a gateway as with an IPv6 one, routes of both families may lead there; a device without IPv6 takes none but IPv4 ones.
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
    let onlink = if hop.gateway.is_some() { RTNH_F_ONLINK } else { 0 };
    let mut body = header(family, PROTOCOL, onlink);
    push(&mut body, NHA_ID, &id.to_ne_bytes());
    push(&mut body, NHA_OIF, &device.index.to_ne_bytes());
    match hop.gateway {
        Some(IpAddr::V4(gateway)) => push(&mut body, NHA_GATEWAY, &gateway.octets()),
        Some(IpAddr::V6(gateway)) => push(&mut body, NHA_GATEWAY, &gateway.octets()),
        None => {}
    }
    if let Some(outer) = &hop.encapsulation {
        let (kind, encap) = encap::write(outer);
        push(&mut body, NHA_ENCAP_TYPE, &kind.to_ne_bytes());
        push(&mut body, NHA_ENCAP | encap::NESTED, &encap);
    }
    Some(body)
}

fn group_body(id: u32, group: &RouteGroup, known: &NextHopTable) -> Option<Vec<u8>> {
    let mut members = Vec::with_capacity(group.members.len() * MEMBER);
    for (hop, weight) in &group.members {
        let id = known.id(&RouteTarget::Hop(Arc::clone(hop)))?;
        members.extend(id.to_ne_bytes());
        members.extend([weight.saturating_sub(1), 0, 0, 0]);
    }
    let mut body = header(AddressFamily::Unspec, PROTOCOL, 0);
    push(&mut body, NHA_ID, &id.to_ne_bytes());
    push(&mut body, NHA_GROUP, &members);
    if group.resilient {
        push(&mut body, NHA_GROUP_TYPE, &NEXTHOP_GRP_TYPE_RES.to_ne_bytes());
        let mut settings = Vec::new();
        push(&mut settings, NHA_RES_GROUP_BUCKETS, &BUCKETS.to_ne_bytes());
        push(&mut body, NHA_RES_GROUP | encap::NESTED, &settings);
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
            push(&mut body, NHA_ID, &IDS.start().to_ne_bytes());
            for (kind, value) in extra {
                push(&mut body, *kind, value);
            }
            let mut parts = Parts::default();
            for attribute in NlasIterator::new(&body[HEADER..]) {
                let attribute = attribute.unwrap();
                parts.take(attribute.kind(), attribute.value()).unwrap();
            }
            assert_eq!(parts.id, Some(*IDS.start()));
            assert!(read(&body, &links).unwrap().is_some());
            parts.odd
        };
        // Padding, `NHA_OP_FLAGS` and an attribute of a later kernel.
        assert!(!message(&[(0, &[]), (14, &[2, 0, 0, 0]), (99, &[1; 4])]));
        assert!(message(&[(NHA_BLACKHOLE, &[])]));
        assert!(message(&[(NHA_FDB, &[])]));
    }
}
