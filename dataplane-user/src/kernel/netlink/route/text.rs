//! Text, in the syntax of `ip route`, for attributes of routes that Adit never writes.

use std::fmt;

use netlink_packet_core::Nla as _;
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMetric, RouteNextHop, RoutePreference, RouteProtocol, RouteScope,
    RouteType, RouteVia,
};

use super::parts::ip;
use crate::kernel::netlink::link_table::LinkTable;

/// The text of attributes that Adit never writes; empty for routes without them.
#[derive(Debug, Default)]
pub(super) struct Text(Vec<String>);

impl Text {
    /// The text of the header.
    pub(super) fn of_header(header: &RouteHeader) -> Text {
        let mut text = Text::default();
        if header.source_prefix_length != 0 {
            text.0.push(format!("from a /{}", header.source_prefix_length));
        }
        if header.scope != RouteScope::Universe {
            text.0.push(format!("scope {}", header.scope));
        }
        text
    }

    /// Adds the text of an attribute that Adit does not write. Unknown attributes have no text: they are
    /// padding, or settings of a later kernel that Adit never sets, with their defaults.
    pub(super) fn attribute(&mut self, attribute: &RouteAttribute) {
        match attribute {
            // The others are ages and counters; an expiry time is a setting.
            RouteAttribute::CacheInfo(info) if info.expires != 0 => self.0.push("expires".to_owned()),
            // Medium is the default.
            RouteAttribute::Preference(RoutePreference::Medium) => {}
            RouteAttribute::Preference(level) => {
                let high = *level == RoutePreference::High;
                self.0.push(format!("pref {}", if high { "high" } else { "low" }));
            }
            RouteAttribute::Realm(_) => self.0.push("realm".to_owned()),
            RouteAttribute::TtlPropagate(_) => self.0.push("ttl-propagate".to_owned()),
            _ => {}
        }
    }

    /// Adds a gateway of another family.
    pub(super) fn via(&mut self, gateway: &RouteVia) {
        match gateway {
            RouteVia::Inet(address) => self.0.push(format!("via inet {address}")),
            RouteVia::Inet6(address) => self.0.push(format!("via inet6 {address}")),
            _ => self.0.push("via".to_owned()),
        }
    }

    /// Adds several next hops.
    pub(super) fn next_hops(&mut self, hops: &[RouteNextHop], links: &LinkTable) {
        self.0.extend(hops.iter().map(|hop| next_hop(hop, links)));
    }

    /// Adds an encapsulation.
    pub(super) fn encap(&mut self) {
        self.0.push("encap".to_owned());
    }

    /// Adds a metric that Adit does not write.
    pub(super) fn metric(&mut self, metric: &RouteMetric) {
        self.0.push(match metric {
            RouteMetric::Lock(_) => "lock".to_owned(),
            other => format!("metric {}", other.kind()),
        });
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

/// The name of a type; `None` for unicast.
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

/// The name of a protocol.
pub(super) fn protocol(protocol: RouteProtocol) -> String {
    match protocol {
        RouteProtocol::Other(number) => number.to_string(),
        RouteProtocol::IcmpRedirect => "redirect".to_owned(),
        known => known.to_string().to_lowercase(),
    }
}

/// The text of one of several next hops.
fn next_hop(hop: &RouteNextHop, links: &LinkTable) -> String {
    let gateway = hop.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(gateway) => ip(gateway).ok(),
        _ => None,
    });
    let gateway = gateway
        .map(|gateway| format!(" via {gateway}"))
        .unwrap_or_default();
    let index = hop.interface_index;
    let link = links
        .name(index)
        .map_or_else(|| format!("if{index}"), ToString::to_string);
    format!("nexthop{gateway} dev {link} weight {}", u16::from(hop.hops) + 1)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::DefaultNla;
    use netlink_packet_route::route::RouteRealm;

    use super::*;

    #[test]
    fn unknown_attributes_say_nothing_and_realms_do() {
        let mut text = Text::default();
        let raw = |kind, value| RouteAttribute::Other(DefaultNla::new(kind, value));
        text.attribute(&raw(libc::RTA_PAD, Vec::new()));
        // An attribute of a later kernel.
        text.attribute(&raw(99, vec![1; 4]));
        assert!(text.is_empty(), "{text}");
        let realm = RouteRealm {
            source: 0,
            destination: 7,
        };
        text.attribute(&RouteAttribute::Realm(realm));
        assert_eq!(text.to_string(), "realm");
    }
}
