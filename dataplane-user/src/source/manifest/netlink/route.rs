//! `NetlinkRoute`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{MTU, NAMESPACE, NODE, TABLE, any_address, link, namespace, nodes, prefix, table};
use crate::model::{Encap, Hop, RouteScope};
use crate::net::PeerId;
use crate::resource::netlink::{NetlinkRoute, PeerHop, Placed, RouteAction};
use crate::source::manifest::reader::{Fields, Read, Value};
use crate::source::manifest::schema::{Field, Literal, Takes};

/// Those of a next hop: of the route itself, where it has one alone, or of one in `nextHops`.
pub(in crate::source::manifest) const HOP: [Field; 6] = [
    Field::optional(
        "via",
        Takes::Text("192.0.2.254"),
        "none",
        "Gateway of the next hop.",
    ),
    Field::optional(
        "dev",
        Takes::Text("eth0"),
        "whichever leads to `via`",
        "Device of the next hop.",
    ),
    Field::or(
        "onlink",
        Takes::Boolean,
        Literal::Boolean(false),
        "Take the gateway to be on the link, whether or not an address says so.",
    ),
    Field::or(
        "weight",
        Takes::Integer(1, 256),
        Literal::Integer(1),
        "Share of the next hop.",
    ),
    Field::optional(
        "peer",
        Takes::Text("site/a"),
        "none",
        "Id of the peer behind the next hop, by which `adit route withdraw` names it.",
    ),
    Field::optional(
        "encap",
        Takes::Map(&ENCAP),
        "none",
        "Lightweight-tunnel encapsulation, by a flow-based device.",
    ),
];

/// Those of a `NetlinkRoute`, beside those of its next hop.
pub(in crate::source::manifest) const FIELDS: [Field; 11] = [
    NODE,
    NAMESPACE,
    Field::required(
        "to",
        Takes::Text("10.0.0.0/8"),
        "the destination: a CIDR, an address, `default` or `default6`",
        "Destination: a CIDR, an address, `default` (IPv4) or `default6`.",
    ),
    Field::or(
        "type",
        Takes::Words(&["unicast", "blackhole", "unreachable"]),
        Literal::Text("unicast"),
        "What the route does; the last two have no next hop.",
    ),
    Field::or(
        "metric",
        Takes::Integer(0, 0xffff_ffff),
        Literal::Integer(0),
        "Priority; the lowest wins. The kernel takes 0 of IPv6 for 1024.",
    ),
    Field::or(
        "table",
        TABLE,
        Literal::Text("main"),
        "Routing table: a number, or a name in `rt_tables` of iproute2.",
    ),
    Field::optional("mtu", MTU, "none", "MTU of the path in bytes."),
    Field::optional(
        "scope",
        Takes::Words(&["global", "link", "host"]),
        "`link` without a gateway, else `global`",
        "Scope; IPv6 routes have `global` only.",
    ),
    Field::optional("src", Takes::Text("10.0.0.1"), "none", "Preferred source."),
    Field::or(
        "healthImmune",
        Takes::Boolean,
        Literal::Boolean(false),
        "Keep next hops whose peer is withdrawn.",
    ),
    Field::optional(
        "nextHops",
        Takes::List(&Takes::Map(&HOP)),
        "one next hop, of the route's own fields",
        "Several next hops.",
    ),
];

const ENCAP: [Field; 5] = [
    Field::required(
        "type",
        Takes::Words(&["ip", "ip6"]),
        "ip or ip6",
        "Family of the outer addresses.",
    ),
    Field::or(
        "id",
        Takes::Integer(0, 0xffff_ffff_ffff_ffff),
        Literal::Integer(0),
        "Id of the tunnel (VNI).",
    ),
    Field::optional(
        "src",
        Takes::Text("192.0.2.1"),
        "the kernel's choice",
        "Outer source.",
    ),
    Field::required(
        "dst",
        Takes::Text("192.0.2.2"),
        "the outer destination",
        "Outer destination.",
    ),
    Field::or(
        "ttl",
        Takes::Integer(0, 255),
        Literal::Integer(64),
        "Outer TTL; 0 leaves it to the device.",
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Unicast,
    Blackhole,
    Unreachable,
}

/// Reads the `spec`.
pub(in crate::source::manifest) fn read(spec: &Value<'_>) -> Read<Placed<NetlinkRoute>> {
    let fields = spec.map(FIELDS.iter().chain(&HOP))?;
    let nodes = nodes(&fields);
    let namespace = namespace(&fields);
    let to = fields.required("to", |value| {
        value.parse(|text| match text {
            "default" => Ok(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0))),
            "default6" => Ok(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0))),
            text => prefix(text),
        })
    });
    let kind = fields.or("type", |value| {
        value.word(&[
            ("unicast", Type::Unicast),
            ("blackhole", Type::Blackhole),
            ("unreachable", Type::Unreachable),
        ])
    });
    let metric = fields.integer("metric");
    let table = fields.or("table", table);
    let mtu = fields.optional_integer("mtu");
    let source = fields.optional("src", |value| value.parse(any_address));
    let health_immune = fields.boolean("healthImmune");
    let to = to?;
    let scope = fields.optional("scope", |value| scope(value, to));
    let action = action(&fields, kind?, to);
    let source = source?;
    if let (Some(source), Some(value)) = (source, fields.get("src"))
        && source.is_ipv4() != to.addr().is_ipv4()
    {
        return Err(value.refuse(format!("`{source}` is of another family than `{to}`")));
    }
    Ok(Placed {
        nodes: nodes?,
        namespace: namespace?,
        object: NetlinkRoute {
            table: table?,
            to,
            metric: metric?,
            action: action?,
            mtu: mtu?,
            scope: scope?,
            source,
            health_immune: health_immune?,
        },
    })
}

fn scope(value: &Value<'_>, to: IpNet) -> Read<RouteScope> {
    let scope = value.word(&[
        ("global", RouteScope::Global),
        ("link", RouteScope::Link),
        ("host", RouteScope::Host),
    ])?;
    if to.addr().is_ipv6() && scope != RouteScope::Global {
        return Err(value.refuse("IPv6 routes have no scope but `global`"));
    }
    Ok(scope)
}

/// Next hops in a list, or one whose fields stand beside the route's own.
fn action(fields: &Fields<'_>, kind: Type, to: IpNet) -> Read<RouteAction> {
    let own = HOP.iter().find_map(|field| fields.get(field.name));
    let list = fields.get("nextHops");
    if kind != Type::Unicast {
        return match own.or(list) {
            Some(value) => Err(value.refuse("a route that refuses has no next hop")),
            None if kind == Type::Blackhole => Ok(RouteAction::Blackhole),
            None => Ok(RouteAction::Unreachable),
        };
    }
    let hops = match (own, list) {
        (Some(own), Some(_)) => return Err(own.refuse("give one next hop, or `nextHops`, not both")),
        (Some(_), None) => vec![hop(fields, to)?],
        (None, Some(list)) => list.each("a list of next hops", |item| hop(&item.map(&HOP)?, to))?,
        (None, None) => Vec::new(),
    };
    if hops.is_empty() {
        let message =
            "it leads nowhere; give `via`, `dev` or `nextHops`, or the type blackhole or unreachable";
        return Err(fields.value().refuse(message));
    }
    Ok(RouteAction::Unicast(hops))
}

fn hop(fields: &Fields<'_>, to: IpNet) -> Read<PeerHop> {
    let gateway = fields.optional("via", |value| {
        let gateway = value.parse(any_address)?;
        if gateway.is_ipv4() && to.addr().is_ipv6() {
            return Err(value.refuse(format!("`{gateway}`: IPv6 goes to no IPv4 gateway")));
        }
        Ok(gateway)
    });
    let device = fields.optional("dev", link);
    let onlink = fields.boolean("onlink");
    let weight = fields.integer("weight");
    let peer = fields.optional("peer", |value| {
        value.parse(|text| PeerId::new(text).map_err(|error| error.to_string()))
    });
    let encap = fields.optional("encap", encap);
    let (gateway, device, onlink) = (gateway?, device?, onlink?);
    if gateway.is_none() && device.is_none() {
        return Err(fields.value().refuse("a next hop needs `via`, `dev` or both"));
    }
    if onlink && (gateway.is_none() || device.is_none()) {
        return Err(fields.value().refuse("`onlink` needs both `via` and `dev`"));
    }
    let link_local = matches!(gateway, Some(IpAddr::V6(gateway)) if gateway.is_unicast_link_local());
    if link_local && device.is_none() {
        return Err(fields.value().refuse("a link-local gateway needs `dev`"));
    }
    Ok(PeerHop {
        hop: Hop {
            gateway,
            link: device,
            onlink,
            weight: weight?,
            encap: encap?,
        },
        peer: peer?,
    })
}

fn encap(value: &Value<'_>) -> Read<Encap> {
    let fields = value.map(&ENCAP)?;
    let ipv4 = fields.required("type", |value| value.word(&[("ip", true), ("ip6", false)]));
    let id = fields.integer("id");
    let source = fields.optional("src", |value| value.parse(any_address));
    let destination = fields.required("dst", |value| value.parse(any_address));
    let ttl = fields.integer("ttl");
    let (ipv4, source, destination) = (ipv4?, source?, destination?);
    if source
        .iter()
        .chain([&destination])
        .any(|address| address.is_ipv4() != ipv4)
    {
        return Err(value.refuse("type `ip` goes with IPv4 addresses, `ip6` with IPv6 ones"));
    }
    Ok(Encap {
        id: id?,
        source,
        destination,
        ttl: ttl?,
    })
}
