//! `NetlinkRoute`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{any_address, link, namespace, nodes, prefix, table};
use crate::model::{Encap, Hop, MAIN_TABLE, RouteScope};
use crate::net::PeerId;
use crate::resource::netlink::{NetlinkRoute, PeerHop, Placed, RouteAction};
use crate::source::manifest::reader::{Fields, Read, Value};

const HOP: [&str; 6] = ["via", "dev", "onlink", "weight", "peer", "encap"];
const FIELDS: [&str; 11] = [
    "node",
    "namespace",
    "to",
    "type",
    "metric",
    "table",
    "mtu",
    "scope",
    "src",
    "healthImmune",
    "nextHops",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Unicast,
    Blackhole,
    Unreachable,
}

/// Reads the `spec`.
pub(in crate::source::manifest) fn read(spec: &Value<'_>) -> Read<Placed<NetlinkRoute>> {
    let known = FIELDS.iter().chain(&HOP).copied().collect::<Vec<_>>();
    let fields = spec.map(&known)?;
    let nodes = nodes(&fields);
    let namespace = namespace(&fields);
    let to = fields.required(
        "to",
        "the destination: a CIDR, an address, `default` or `default6`",
        |value| {
            value.parse(|text| match text {
                "default" => Ok(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0))),
                "default6" => Ok(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0))),
                text => prefix(text),
            })
        },
    );
    let kind = fields.or("type", Type::Unicast, |value| {
        value.word(&[
            ("unicast", Type::Unicast),
            ("blackhole", Type::Blackhole),
            ("unreachable", Type::Unreachable),
        ])
    });
    let metric = fields.or("metric", 0, |value| value.integer(0..=u32::MAX));
    let table = fields.or("table", MAIN_TABLE, table);
    let mtu = fields.optional("mtu", |value| value.integer(68..=65_535));
    let source = fields.optional("src", |value| value.parse(any_address));
    let health_immune = fields.or("healthImmune", false, Value::boolean);
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
    let own = HOP.iter().find_map(|name| fields.get(name));
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
    let onlink = fields.or("onlink", false, Value::boolean);
    let weight = fields.or("weight", 1, |value| value.integer(1..=256));
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
    let fields = value.map(&["type", "id", "src", "dst", "ttl"])?;
    let ipv4 = fields.required("type", "ip or ip6", |value| {
        value.word(&[("ip", true), ("ip6", false)])
    });
    let id = fields.or("id", 0, |value| value.integer(0..=u64::MAX));
    let source = fields.optional("src", |value| value.parse(any_address));
    let destination = fields.required("dst", "the outer destination", |value| value.parse(any_address));
    let ttl = fields.or("ttl", 64, |value| value.integer(0..=u8::MAX));
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
