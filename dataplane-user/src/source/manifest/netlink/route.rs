//! `NetlinkRoute`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{MTU, NAMESPACE, NODE, TABLE, any_address, link, namespace, nodes, prefix, table};
use crate::model::{Encap, Hop, RouteScope};
use crate::net::PeerId;
use crate::resource::netlink::{Namespaced, NetlinkRoute, PeerHop, RouteAction};
use crate::source::manifest::reader::{Fields, Read, Value};
use crate::source::manifest::schema::{Accepts, Field, Literal};

/// The fields of a next hop: in the spec of a route with one next hop, or in `nextHops`.
pub(in crate::source::manifest) const HOP: [Field; 6] = [
    Field::optional(
        "via",
        Accepts::Text("192.0.2.254"),
        "none",
        "Gateway of the next hop.",
    ),
    Field::optional(
        "dev",
        Accepts::Text("eth0"),
        "the device that reaches `via` without another gateway",
        "Device of the next hop.",
    ),
    Field::or(
        "onlink",
        Accepts::Boolean,
        Literal::Boolean(false),
        "Assume that the gateway is on the link, even if no address of the device implies it.",
    ),
    Field::or(
        "weight",
        Accepts::Integer(1, 256),
        Literal::Integer(1),
        "Share of the flows that the next hop gets, relative to the other next hops.",
    ),
    Field::optional(
        "peer",
        Accepts::Text("site/a"),
        "none",
        "Id of the peer behind the next hop, as `adit route withdraw` expects it.",
    ),
    Field::optional(
        "encap",
        Accepts::Map(&ENCAP),
        "none",
        "Lightweight-tunnel encapsulation for a flow-based device.",
    ),
];

/// The fields of a `NetlinkRoute`, without those of its next hop.
pub(in crate::source::manifest) const FIELDS: [Field; 11] = [
    NODE,
    NAMESPACE,
    Field::required(
        "to",
        Accepts::Text("10.0.0.0/8"),
        "the destination: a CIDR, an address, `default` or `default6`",
        "Destination: a CIDR, an address, `default` (IPv4) or `default6`.",
    ),
    Field::or(
        "type",
        Accepts::Words(&["unicast", "blackhole", "unreachable"]),
        Literal::Text("unicast"),
        "Type of the route; `blackhole` and `unreachable` routes have no next hop.",
    ),
    Field::or(
        "metric",
        Accepts::Integer(0, 0xffff_ffff),
        Literal::Integer(0),
        "Metric; the route with the lowest metric is used. For IPv6 the kernel replaces 0 with 1024.",
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
        Accepts::Words(&["global", "link", "host"]),
        "`link` without a gateway, else `global`",
        "Scope of the route; IPv6 routes support only `global`.",
    ),
    Field::optional(
        "src",
        Accepts::Text("10.0.0.1"),
        "none",
        "Preferred source address.",
    ),
    Field::or(
        "healthImmune",
        Accepts::Boolean,
        Literal::Boolean(false),
        "Keep next hops of withdrawn peers.",
    ),
    Field::optional(
        "nextHops",
        Accepts::List(&Accepts::Map(&HOP)),
        "one next hop, from the fields of the route",
        "List of next hops, instead of the fields for one next hop.",
    ),
];

const ENCAP: [Field; 5] = [
    Field::required(
        "type",
        Accepts::Words(&["ip", "ip6"]),
        "ip or ip6",
        "Family of the outer addresses.",
    ),
    Field::or(
        "id",
        Accepts::Integer(0, 0xffff_ffff_ffff_ffff),
        Literal::Integer(0),
        "Tunnel id (VNI).",
    ),
    Field::optional(
        "src",
        Accepts::Text("192.0.2.1"),
        "chosen by the kernel",
        "Outer source address.",
    ),
    Field::required(
        "dst",
        Accepts::Text("192.0.2.2"),
        "the outer destination address",
        "Outer destination address.",
    ),
    Field::or(
        "ttl",
        Accepts::Integer(0, 255),
        Literal::Integer(64),
        "TTL of the outer header; 0 lets the device choose.",
    ),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Unicast,
    Blackhole,
    Unreachable,
}

/// Reads the `spec`.
pub(in crate::source::manifest) fn read(spec: &Value<'_>) -> Read<Namespaced<NetlinkRoute>> {
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
        return Err(value.reject(format!(
            "`{source}` is of another family than the destination `{to}`; give an address of the same family"
        )));
    }
    Ok(Namespaced {
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
        return Err(value.reject("IPv6 routes support only the scope `global`"));
    }
    Ok(scope)
}

/// The next hops of a list, or the one next hop whose fields are in the spec.
fn action(fields: &Fields<'_>, kind: Type, to: IpNet) -> Read<RouteAction> {
    let own = HOP.iter().find_map(|field| fields.get(field.name));
    let list = fields.get("nextHops");
    if kind != Type::Unicast {
        return match own.or(list) {
            Some(value) => Err(value
                .reject("blackhole and unreachable routes have no next hop; remove it, or change `type`")),
            None if kind == Type::Blackhole => Ok(RouteAction::Blackhole),
            None => Ok(RouteAction::Unreachable),
        };
    }
    let hops = match (own, list) {
        (Some(own), Some(_)) => {
            return Err(own.reject("both a next hop and `nextHops` are given; give only one of them"));
        }
        (Some(_), None) => vec![hop(fields, to)?],
        (None, Some(list)) => list.each("a list of next hops", |item| hop(&item.map(&HOP)?, to))?,
        (None, None) => Vec::new(),
    };
    if hops.is_empty() {
        let message = "the route has no next hop; give `via`, `dev` or `nextHops`, or the type blackhole or unreachable";
        return Err(fields.value().reject(message));
    }
    Ok(RouteAction::Unicast(hops))
}

fn hop(fields: &Fields<'_>, to: IpNet) -> Read<PeerHop> {
    let gateway = fields.optional("via", |value| {
        let gateway = value.parse(any_address)?;
        if gateway.is_ipv4() && to.addr().is_ipv6() {
            return Err(value.reject(format!(
                "`{gateway}` is an IPv4 address; an IPv6 route needs an IPv6 gateway"
            )));
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
        return Err(fields.value().reject("a next hop needs `via`, `dev` or both"));
    }
    if onlink && (gateway.is_none() || device.is_none()) {
        return Err(fields.value().reject("`onlink` needs both `via` and `dev`"));
    }
    let link_local = matches!(gateway, Some(IpAddr::V6(gateway)) if gateway.is_unicast_link_local());
    if link_local && device.is_none() {
        return Err(fields.value().reject("a link-local gateway needs `dev`"));
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
        return Err(value.reject("type `ip` needs IPv4 addresses, type `ip6` needs IPv6 addresses"));
    }
    Ok(Encap {
        id: id?,
        source,
        destination,
        ttl: ttl?,
    })
}
