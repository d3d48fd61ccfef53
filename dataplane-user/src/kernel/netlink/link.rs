//! Links: encodes messages that create, change, delete and find them, and decodes messages of the kernel.

mod kind;
mod requests;

use std::os::fd::RawFd;

use netlink_packet_core::{
    DecodeError, NLM_F_CREATE, NLM_F_EXCL, NlasIterator, Parseable as _, parse_i32, parse_string, parse_u32,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkHeader, LinkLayerType, LinkMessageBuffer,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use super::marks::Marks;
use super::message::Request;
use crate::model::change::LinkPatch;
use crate::model::facts::Ipv6;
use crate::model::{LINK_GROUP, Link, LinkKind, Owner};
use crate::net::{LinkName, MacAddr};

/// `IFLA_PROP_LIST` and `IFLA_ALT_IFNAME` (linux/if_link.h).
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;

/// The offset of the attributes in a message about a link.
const HEADER: usize = size_of::<LinkMessageBuffer>();

/// A link in a message of the kernel, with its interface index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) index: u32,
    pub(super) name: LinkName,
    pub(super) link: Link,
    /// The index of the bridge of which it is a port.
    pub(super) master: Option<u32>,
    /// The index of its lower device, or of the other end of a pair.
    pub(super) lower: Option<u32>,
    /// The id of the namespace of `lower`; `None` for this one.
    pub(super) lower_namespace: Option<i32>,
    /// Its alias.
    pub(super) alias: Option<String>,
    /// Its alternative names.
    pub(super) altnames: Vec<LinkName>,
    /// Whether IPv6 can be used on it; `None` if the kernel has no IPv6 for it.
    pub(super) ipv6: Option<bool>,
}

/// Requests all links, without their statistics.
pub(super) fn dump() -> Request {
    let message = LinkUnspec::new_with_index(0).append_extra_attribute(without_statistics());
    Request::new(libc::RTM_GETLINK, 0, &message.build())
}

/// Requests one link.
pub(super) fn find(name: &LinkName) -> Request {
    let message = LinkUnspec::new_with_name(name.as_str()).append_extra_attribute(without_statistics());
    Request::new(libc::RTM_GETLINK, 0, &message.build())
}

fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

/// Creates a link that is down; `None` for kinds that Adit does not create.
///
/// This message sets everything except `addrgenmode`: at creation kernels refuse `IFLA_AF_SPEC` of `AF_INET6`
/// (`EAFNOSUPPORT`, observed on 6.1, 6.12 and 6.18). So [`set_generates_addresses`] follows while the link is
/// down and the kernel generates no addresses.
///
/// `lower` is the index of the lower device, `peer` the open namespace of the other end of a pair.
pub(super) fn create(
    name: &LinkName,
    link: &Link,
    lower: Option<u32>,
    peer: Option<RawFd>,
    marks: Marks,
) -> Option<Request> {
    let kind = kind::write(&link.kind, lower, peer)?;
    Some(create_at(name, link, kind, None, marks))
}

/// Creates a link in another, open namespace. A WireGuard device sends and receives in the namespace of the
/// socket over which this message is sent, no matter where the device itself is.
pub(super) fn create_elsewhere(name: &LinkName, link: &Link, namespace: RawFd) -> Option<Request> {
    let kind = kind::write(&link.kind, None, None)?;
    Some(create_at(name, link, kind, Some(namespace), Marks::Adit))
}

fn create_at(
    name: &LinkName,
    link: &Link,
    kind: LinkMessageBuilder<LinkUnspec>,
    namespace: Option<RawFd>,
    marks: Marks,
) -> Request {
    let mut message = kind.name(name.as_str()).arp(link.arp);
    if marks == Marks::Adit {
        message = message.link_group(LINK_GROUP);
    }
    if let Some(mac) = link.mac {
        message = message.address(mac.0.to_vec());
    }
    if let Some(mtu) = link.mtu {
        message = message.mtu(mtu);
    }
    if let Some(namespace) = namespace {
        message = message.setns_by_fd(namespace);
    }
    Request::new(libc::RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &message.build())
}

/// Sets MAC address, MTU and NOARP; `None` if none of them differs. [`set_generates_addresses`] sets
/// `addrgenmode`.
pub(super) fn modify(index: u32, patch: &LinkPatch) -> Option<Request> {
    let mut message = LinkUnspec::new_with_index(index);
    if let Some(arp) = patch.arp {
        message = message.arp(arp);
    }
    if let Some(mac) = patch.mac {
        message = message.address(mac.0.to_vec());
    }
    if let Some(mtu) = patch.mtu {
        message = message.mtu(mtu);
    }
    let differs = patch.arp.is_some() || patch.mac.is_some() || patch.mtu.is_some();
    differs.then(|| set(message))
}

/// Sets `addrgenmode` to eui64 or none. Refused with `EAFNOSUPPORT` if the link has no IPv6 (disabled, or an
/// MTU below 1280); then no addresses are generated either.
pub(super) fn set_generates_addresses(index: u32, generates: bool) -> Request {
    let mode = if generates {
        In6AddrGenMode::Eui64
    } else {
        In6AddrGenMode::None
    };
    let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)]);
    let families = LinkAttribute::AfSpecUnspec(vec![inet6]);
    set(LinkUnspec::new_with_index(index).append_extra_attribute(families))
}

/// Makes the kernel keep other IPv4 addresses of a link when the first address of their subnet is deleted
/// (`net.ipv4.conf.DEV.promote_secondaries`), which it deletes too by default (`__inet_del_ifa`,
/// net/ipv4/devinet.c). By netlink this works in other namespaces, too.
pub(super) fn set_promotes_secondaries(index: u32) -> Request {
    // Settings that are 0 are not part of the message.
    let mut settings = InetDevConf::default();
    settings.promote_secondaries = 1;
    let settings = AfSpecInet::DevConfRequest(settings);
    let families = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![settings])]);
    set(LinkUnspec::new_with_index(index).append_extra_attribute(families))
}

/// Sets a link down.
pub(super) fn set_down(index: u32) -> Request {
    set(LinkUnspec::new_with_index(index).down())
}

/// Makes a link a port of the link with the index `master`; 0 for none.
pub(super) fn set_master(index: u32, master: u32) -> Request {
    set(LinkUnspec::new_with_index(index).controller(master))
}

/// Sets the alias of a link.
pub(super) fn set_alias(index: u32, alias: &str) -> Request {
    set(LinkUnspec::new_with_index(index).alias(alias))
}

/// Renames a link, which must be down.
pub(super) fn set_name(index: u32, name: &LinkName) -> Request {
    set(LinkUnspec::new_with_index(index).name(name.as_str()))
}

/// Sets a link up.
pub(super) fn set_up(index: u32) -> Request {
    set(LinkUnspec::new_with_index(index).up())
}

fn set(message: LinkMessageBuilder<LinkUnspec>) -> Request {
    Request::new(libc::RTM_SETLINK, 0, &message.build())
}

/// Deletes a link, always by index: by group the kernel would delete the whole group.
pub(super) fn delete(index: u32) -> Request {
    Request::new(libc::RTM_DELLINK, 0, &LinkUnspec::new_with_index(index).build())
}

/// Decodes an `RTM_NEWLINK`; `None` for names that are not UTF-8, which can't be names of Adit.
///
/// Attributes are decoded one by one, and only those that matter, so that an unusual device does not make the
/// whole message undecodable.
pub(super) fn read(body: &[u8]) -> Result<Option<Observed>, DecodeError> {
    let header = LinkHeader::parse(body)?;
    let mut name = None;
    let mut link = Link {
        owner: Owner::Other,
        kind: LinkKind::Other(layer(header.link_layer_type)),
        mac: None,
        mtu: None,
        arp: !header.flags.contains(LinkFlags::Noarp),
        generates_addresses: false,
        up: header.flags.contains(LinkFlags::Up),
    };
    let (mut master, mut lower, mut lower_namespace, mut alias) = (None, None, None, None);
    let (mut ipv6, mut altnames) = (None, Vec::new());
    for attribute in NlasIterator::new(&body[HEADER..]) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_MASTER => master = Some(parse_u32(value)?),
            libc::IFLA_LINK => lower = Some(parse_u32(value)?).filter(|lower| *lower != 0),
            libc::IFLA_LINK_NETNSID => lower_namespace = Some(parse_i32(value)?),
            libc::IFLA_IFALIAS => alias = parse_string(value).ok(),
            libc::IFLA_IFNAME => {
                name = parse_string(value)
                    .ok()
                    .and_then(|name| LinkName::new(&name).ok());
            }
            libc::IFLA_ADDRESS if header.link_layer_type == LinkLayerType::Ether => {
                link.mac = value.try_into().ok().map(MacAddr);
            }
            libc::IFLA_MTU => link.mtu = Some(parse_u32(value)?),
            libc::IFLA_GROUP if parse_u32(value)? == LINK_GROUP => link.owner = Owner::Adit,
            libc::IFLA_LINKINFO => {
                if let Some((kind, below)) = kind::read(value)? {
                    link.kind = kind;
                    lower = below.or(lower);
                }
            }
            IFLA_PROP_LIST => altnames = alternative_names(value)?,
            libc::IFLA_AF_SPEC => (ipv6, link.generates_addresses) = inet6(value)?,
            _ => {}
        }
    }
    let classic = matches!(
        link.kind,
        LinkKind::VxlanTo { .. } | LinkKind::GeneveTo { .. } | LinkKind::IpipTo { .. }
    );
    if classic && link.owner != Owner::Adit {
        link.kind = LinkKind::Other(link.kind.to_string());
    }
    Ok(name.map(|name| Observed {
        index: header.index,
        name,
        link,
        master,
        lower,
        lower_namespace,
        alias,
        altnames,
        ipv6,
    }))
}

/// Decodes the alternative names in an `IFLA_PROP_LIST`. Those that can't be the name of a device, because
/// they are longer, are skipped.
fn alternative_names(properties: &[u8]) -> Result<Vec<LinkName>, DecodeError> {
    let mut names = Vec::new();
    for property in NlasIterator::new(properties) {
        let property = property?;
        if property.kind() == IFLA_ALT_IFNAME {
            let name = parse_string(property.value()).ok();
            names.extend(name.and_then(|name| LinkName::new(&name).ok()));
        }
    }
    Ok(names)
}

/// Decodes IPv6 in an `IFLA_AF_SPEC`: whether it can be used, if the device has it at all, and whether
/// addresses are generated.
fn inet6(families: &[u8]) -> Result<(Option<bool>, bool), DecodeError> {
    for family in NlasIterator::new(families) {
        let family = family?;
        if family.kind() != u16::from(u8::from(AddressFamily::Inet6)) {
            continue;
        }
        let (mut disabled, mut generates) = (false, false);
        for attribute in NlasIterator::new(family.value()) {
            match AfSpecInet6::parse(&attribute?) {
                Ok(AfSpecInet6::DevConf(settings)) => disabled = settings.disable_ipv6 != 0,
                Ok(AfSpecInet6::AddrGenMode(mode)) => generates = mode != In6AddrGenMode::None,
                _ => {}
            }
        }
        return Ok((Some(!disabled), generates));
    }
    Ok((None, false))
}

/// The devices on which IPv6 can be used. A new device has it if `lo` has it: a write to
/// `conf.all.disable_ipv6` changes all existing devices and the default of new ones.
pub(super) fn ipv6(links: &[Observed]) -> Ipv6 {
    if links.iter().all(|link| link.ipv6.is_none()) {
        return Ipv6::Absent;
    }
    let those = |on: bool| {
        let those = links.iter().filter(move |link| link.ipv6 == Some(on));
        those.map(|link| link.name.clone()).collect()
    };
    let lo = links.iter().find(|link| link.name.as_str() == "lo");
    match lo.and_then(|lo| lo.ipv6) {
        Some(false) => Ipv6::OffAllBut(those(true)),
        _ => Ipv6::OnAllBut(those(false)),
    }
}

/// The name that `ip link` prints for devices without kind.
fn layer(layer: LinkLayerType) -> String {
    match layer {
        LinkLayerType::Loopback => "loopback".to_owned(),
        LinkLayerType::Ether => "ether".to_owned(),
        other => format!("link type {}", u16::from(other)),
    }
}
