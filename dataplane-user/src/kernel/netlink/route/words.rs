//! What a route says beyond what we write, in the words of `ip route`.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_core::{NlasIterator, parse_ip};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteHeader, RouteProtocol, RouteScope, RouteType};

use crate::kernel::netlink::table::LinkTable;

/// struct rtnexthop: length, flags, weight − 1, interface index.
const NEXT_HOP_HEADER: usize = 8;
/// `RTA_TTL_PROPAGATE` (linux/rtnetlink.h).
const RTA_TTL_PROPAGATE: u16 = 26;

/// Words for what we never write; empty for routes that say no more.
#[derive(Debug, Default)]
pub(super) struct Words(Vec<String>);

impl Words {
    /// What the header says beyond.
    pub(super) fn of_header(header: &RouteHeader) -> Words {
        let mut words = Words::default();
        if header.tos != 0 {
            words.0.push(format!("tos {:#04x}", header.tos));
        }
        if header.source_prefix_length != 0 {
            words.0.push(format!("from a /{}", header.source_prefix_length));
        }
        if header.scope != RouteScope::Universe {
            words.0.push(format!("scope {}", header.scope));
        }
        words
    }

    /// What metrics beside the MTU say (`RTAX_…`).
    pub(super) fn metrics(&mut self, numbers: &[u16]) {
        self.0.extend(numbers.iter().map(|number| match number {
            1 => "lock".to_owned(),
            number => format!("metric {number}"),
        }));
    }

    /// What an attribute that we don't write says. Unknown ones say nothing: they are padding, or a later kernel's, which
    /// reports what Adit never sets at its default.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8], links: &LinkTable) {
        match kind {
            // Ages and counters; an end (offset 8) is a setting.
            libc::RTA_CACHEINFO if value.get(8..12).is_some_and(|expires| expires != [0; 4]) => {
                self.0.push("expires".to_owned());
            }
            // Medium is what routes have that don't say.
            libc::RTA_PREF if value != [0] => {
                self.0
                    .push(format!("pref {}", if value == [1] { "high" } else { "low" }));
            }
            libc::RTA_MULTIPATH => self.0.extend(next_hops(value, links)),
            libc::RTA_VIA => self.0.push(via(value)),
            libc::RTA_ENCAP_TYPE => self.0.push("encap".to_owned()),
            libc::RTA_FLOW => self.0.push("realm".to_owned()),
            RTA_TTL_PROPAGATE => self.0.push("ttl-propagate".to_owned()),
            _ => {}
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// The word for a type; none for unicast.
pub(super) fn kind(kind: RouteType) -> Option<&'static str> {
    match kind {
        RouteType::Unicast => None,
        RouteType::BlackHole => Some("blackhole"),
        RouteType::Unreachable => Some("unreachable"),
        RouteType::Prohibit => Some("prohibit"),
        RouteType::Throw => Some("throw"),
        _ => Some("odd"),
    }
}

/// The word for a protocol.
pub(super) fn protocol(protocol: RouteProtocol) -> String {
    match protocol {
        RouteProtocol::Other(number) => number.to_string(),
        RouteProtocol::IcmpRedirect => "redirect".to_owned(),
        known => known.to_string().to_lowercase(),
    }
}

/// `RTA_VIA`: a gateway of another family.
fn via(value: &[u8]) -> String {
    let Some((family, address)) = value.split_first_chunk::<2>() else {
        return "via".to_owned();
    };
    let inet6 = u16::from_ne_bytes(*family) == u16::from(u8::from(AddressFamily::Inet6));
    let family = if inet6 { "inet6" } else { "inet" };
    match parse_ip(address) {
        Ok(address) => format!("via {family} {address}"),
        Err(_) => format!("via {family}"),
    }
}

/// `RTA_MULTIPATH`, one next hop after the other.
fn next_hops(mut value: &[u8], links: &LinkTable) -> Vec<String> {
    let mut words = Vec::new();
    while let Some((header, _)) = value.split_first_chunk::<NEXT_HOP_HEADER>() {
        let [length, high, _, hops, a, b, c, d] = *header;
        let length = usize::from(u16::from_ne_bytes([length, high]));
        let Some(attributes) = value.get(NEXT_HOP_HEADER..length) else {
            break;
        };
        let index = u32::from_ne_bytes([a, b, c, d]);
        let gateway: Option<IpAddr> = NlasIterator::new(attributes)
            .filter_map(Result::ok)
            .find(|attribute| attribute.kind() == libc::RTA_GATEWAY)
            .and_then(|attribute| parse_ip(attribute.value()).ok());
        let gateway = gateway
            .map(|gateway| format!(" via {gateway}"))
            .unwrap_or_default();
        let link = links
            .name(index)
            .map_or_else(|| format!("if{index}"), ToString::to_string);
        words.push(format!(
            "nexthop{gateway} dev {link} weight {}",
            u16::from(hops) + 1
        ));
        value = value.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_attributes_say_nothing_and_realms_do() {
        let links = LinkTable::default();
        let mut words = Words::default();
        // `RTA_PAD`, and an attribute of a later kernel.
        words.attribute(24, &[], &links);
        words.attribute(99, &[1; 4], &links);
        assert!(words.is_empty(), "{words}");
        words.attribute(libc::RTA_FLOW, &7u32.to_ne_bytes(), &links);
        assert_eq!(words.to_string(), "realm");
    }
}
