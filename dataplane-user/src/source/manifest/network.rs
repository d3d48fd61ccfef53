//! `TunnelNetwork`.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;

use super::error::Located;
use super::firewall;
use super::reader::{Fields, Read, Value};
use super::scalar;
use super::schema::{Field, Literal, Takes};
use crate::net::Encapsulation;
use crate::net::encapsulation::Wish;
use crate::net::{Family, NetworkName};
use crate::resource::network::{AllDown, Dataplane, NetworkRoutes, Ports, SourceProtection, UdpChecksum};
use crate::resource::{Bfd, Network};

/// What a link may use.
pub(super) const ENCAPSULATIONS: Takes =
    Takes::Words(&["auto", "geneve", "vxlan", "ipip", "wireguard", "none"]);
/// What sends packets.
pub(super) const DATAPLANES: Takes = Takes::Words(&["ebpf", "routes"]);
const PORT: Takes = Takes::Integer(1, 65_535);

/// Those of a `TunnelNetwork`.
pub(super) const FIELDS: [Field; 17] = [
    Field::required(
        "prefixes",
        Takes::List(&Takes::Text("10.0.0.0/8")),
        "the network's CIDRs",
        "Address space of the network, disjoint from that of other networks.",
    ),
    Field::or(
        "encapsulation",
        ENCAPSULATIONS,
        Literal::Text("auto"),
        "Encapsulation of the network's links, unless a node names another one.",
    ),
    Field::or(
        "dataplane",
        DATAPLANES,
        Literal::Text("ebpf"),
        "What sends the packets: BPF programs or routes. See “Dataplane `routes`”.",
    ),
    Field::or(
        "routes",
        Takes::Map(&ROUTES),
        Literal::Empty,
        "Options of dataplane `routes`.",
    ),
    Field::or(
        "vni",
        Takes::Integer(1, 0x00ff_ffff),
        Literal::Integer(1),
        "VNI of GENEVE and VXLAN.",
    ),
    Field::or(
        "ports",
        Takes::Map(&PORTS),
        Literal::Empty,
        "UDP ports. They must be equal in all networks, because networks share devices.",
    ),
    Field::or(
        "underlayFamily",
        Takes::Words(&["ipv4", "ipv6"]),
        Literal::Text("ipv4"),
        "Underlay family of nodes that have both; the other one is used where only that is common.",
    ),
    Field::or(
        "mtu",
        Takes::Integer(0, 65_535),
        Literal::Integer(0),
        "MTU of the overlay in bytes, at least 1280; 0 detects it from the route towards each peer.",
    ),
    Field::or(
        "sourceProtection",
        Takes::Words(&["off", "log", "enforce"]),
        Literal::Text("enforce"),
        "What happens to packets with forged sources. Today it only decides about plain packets (`dropCleartext`).",
    ),
    Field::optional(
        "health",
        Takes::Map(&HEALTH),
        "none",
        "Checks of next hops. It has no effect yet.",
    ),
    Field::or(
        "allDown",
        Takes::Words(&["unreachable", "keep"]),
        Literal::Text("unreachable"),
        "What happens when all next hops of a prefix are down. It has no effect yet.",
    ),
    Field::or(
        "ttl",
        Takes::Integer(1, 255),
        Literal::Integer(64),
        "TTL or hop limit of the outer header.",
    ),
    Field::or(
        "dscp",
        Takes::Either(&[Takes::Words(&["inherit"]), Takes::Integer(0, 63)]),
        Literal::Text("inherit"),
        "DSCP of the outer header; `inherit` copies it from the inner one.",
    ),
    Field::or(
        "df",
        Takes::Boolean,
        Literal::Boolean(false),
        "Set “don't fragment” in the outer IPv4 header.",
    ),
    Field::optional(
        "udpChecksum",
        Takes::Words(&["zero", "compute"]),
        "`zero` over IPv4, `compute` over IPv6",
        "Outer UDP checksum.",
    ),
    Field::optional(
        "masquerade",
        Takes::Map(&MASQUERADE),
        "no masquerading",
        "Masquerade what leaves the node; `{}` has no exclusions. See “Masquerading and the firewall”.",
    ),
    Field::or(
        "firewall",
        Takes::Map(&firewall::FIELDS),
        Literal::Empty,
        "Options of the nft table. See “Masquerading and the firewall”.",
    ),
];

const ROUTES: [Field; 2] = [
    Field::or(
        "table",
        Takes::Either(&[Takes::Words(&["main"]), Takes::Integer(0, 0xffff_ffff)]),
        Literal::Text("main"),
        "Routing table of the network's routes: `main`, or a number but for 0, 253 and 255.",
    ),
    Field::or(
        "resilient",
        Takes::Boolean,
        Literal::Boolean(false),
        "Use resilient next-hop groups: flows keep their next hop when others come and go.",
    ),
];

const PORTS: [Field; 4] = [
    Field::or("geneve", PORT, Literal::Integer(6081), "Port of GENEVE."),
    Field::or("vxlan", PORT, Literal::Integer(4789), "Port of VXLAN."),
    Field::or(
        "wireguard",
        PORT,
        Literal::Integer(51_820),
        "Port of the first WireGuard device; further devices use the ports after it.",
    ),
    Field::optional(
        "vxlanSource",
        Takes::Text("32768-61000"),
        "the kernel's local ports",
        "Source ports of VXLAN, from the first one up to but without the last. Changing it recreates the device.",
    ),
];

const HEALTH: [Field; 1] = [Field::optional(
    "bfd",
    Takes::Map(&BFD),
    "none",
    "BFD sessions with the peers.",
)];

const BFD: [Field; 3] = [
    Field::or(
        "interval",
        Takes::Text("300ms"),
        Literal::Text("300ms"),
        "Interval between packets, 10ms … 60s.",
    ),
    Field::or(
        "multiplier",
        Takes::Integer(1, 255),
        Literal::Integer(3),
        "Packets that may be missing before the peer counts as down.",
    ),
    Field::optional(
        "keyFile",
        Takes::Text("/etc/adit/bfd.key"),
        "no authentication",
        "File with the key of the sessions.",
    ),
];

const MASQUERADE: [Field; 1] = [Field::or(
    "exclude",
    Takes::List(&Takes::Text("192.168.0.0/16")),
    Literal::List(&[]),
    "Destinations that are never masqueraded.",
)];

/// IPv6 needs this much of every link (RFC 8200, section 5).
const SMALLEST_MTU: u32 = 1280;
const LARGEST_MTU: u32 = 65535;

/// Fields that are read and checked, and mean nothing yet.
const WITHOUT_EFFECT: [&str; 3] = ["allDown", "health", "sourceProtection"];

/// A network and where its manifest says what others must not contradict.
#[derive(Debug)]
pub(super) struct DeclaredNetwork {
    pub(super) network: Network,
    /// As often as they were written.
    pub(super) prefixes: Vec<Located<IpNet>>,
    pub(super) ports: Located<Ports>,
    /// Those of its fields that mean nothing yet.
    pub(super) without_effect: Vec<&'static str>,
}

/// Reads the `spec`.
pub(super) fn read(name: NetworkName, spec: &Value<'_>) -> Read<DeclaredNetwork> {
    let fields = spec.map(&FIELDS)?;
    // All fields are read before the first `?`, so that each says what is wrong with it.
    let prefixes = fields.required("prefixes", prefixes);
    let encapsulation = fields.or("encapsulation", encapsulation);
    let dataplane = fields.or("dataplane", dataplane);
    let routes = fields.or("routes", routes);
    let vni = fields.integer("vni");
    let ports = fields.or("ports", ports);
    let underlay_family = fields.or("underlayFamily", |value| {
        value.word(&[("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)])
    });
    let mtu = fields.or("mtu", mtu);
    let source_protection = fields.or("sourceProtection", |value| {
        value.word(&[
            ("off", SourceProtection::Off),
            ("log", SourceProtection::Log),
            ("enforce", SourceProtection::Enforce),
        ])
    });
    let health = fields.optional("health", health);
    let all_down = fields.or("allDown", |value| {
        value.word(&[("unreachable", AllDown::Unreachable), ("keep", AllDown::Keep)])
    });
    let outer = outer(&fields);
    let masquerade = fields.optional("masquerade", masquerade);
    let firewall = fields.or("firewall", firewall::firewall);

    let (ttl, dscp, df, udp_checksum) = outer?;
    let (prefixes, ports) = (prefixes?, ports?);
    let network = Network {
        name,
        prefixes: prefixes.iter().map(|prefix| prefix.value).collect(),
        encapsulation: encapsulation?,
        dataplane: dataplane?,
        routes: routes?,
        vni: vni?,
        ports: ports.value,
        underlay_family: underlay_family?,
        mtu: mtu?,
        source_protection: source_protection?,
        health: health?.flatten(),
        all_down: all_down?,
        ttl,
        dscp,
        df,
        udp_checksum,
        masquerade: masquerade?,
        firewall: firewall?,
    };
    Ok(DeclaredNetwork {
        network,
        prefixes,
        ports,
        without_effect: fields.written(&WITHOUT_EFFECT),
    })
}

/// What a link shall use; `auto` is `None`.
pub(super) fn encapsulation(value: &Value<'_>) -> Read<Wish> {
    let named = Encapsulation::ALL.map(|encapsulation| (encapsulation.name(), Some(encapsulation)));
    let words = [("auto", None)].into_iter().chain(named).collect::<Vec<_>>();
    value.word(&words)
}

/// What carries the packets that a node sends.
pub(super) fn dataplane(value: &Value<'_>) -> Read<Dataplane> {
    value.word(&[("ebpf", Dataplane::Ebpf), ("routes", Dataplane::Routes)])
}

fn routes(value: &Value<'_>) -> Read<NetworkRoutes> {
    let fields = value.map(&ROUTES)?;
    let table = fields.or("table", table);
    let resilient = fields.boolean("resilient");
    Ok(NetworkRoutes {
        table: table?,
        resilient: resilient?,
    })
}

/// `main`, or a number.
fn table(value: &Value<'_>) -> Read<u32> {
    /// The kernel's own: unspecified, default and local (linux/rtnetlink.h, `rt_class_t`).
    const TAKEN: [u32; 3] = [0, 253, 255];
    if value.is_text() {
        return value.word(&[("main", NetworkRoutes::MAIN)]);
    }
    let table = value.integer(0..=u32::MAX)?;
    if TAKEN.contains(&table) {
        return Err(value.refuse(format!(
            "table {table} is the kernel's own; expected `main` or another number"
        )));
    }
    Ok(table)
}

fn prefixes(value: &Value<'_>) -> Read<Vec<Located<IpNet>>> {
    let prefixes = value.each("a list of CIDRs", |item| {
        Ok(item.locate(item.parse(scalar::overlay_cidr)?))
    })?;
    if prefixes.is_empty() {
        return Err(value.refuse("empty; give at least one CIDR"));
    }
    Ok(prefixes)
}

fn ports(value: &Value<'_>) -> Read<Located<Ports>> {
    let fields = value.map(&PORTS)?;
    let (geneve, vxlan, wireguard) = (
        fields.integer("geneve"),
        fields.integer("vxlan"),
        fields.integer("wireguard"),
    );
    let vxlan_source = fields.optional("vxlanSource", |value| value.parse(str::parse));
    let ports = Ports {
        geneve: geneve?,
        vxlan: vxlan?,
        wireguard: wireguard?,
        vxlan_source: vxlan_source?,
    };
    if BTreeSet::from([ports.geneve, ports.vxlan, ports.wireguard]).len() < 3 {
        return Err(value.refuse("two encapsulations have the same port; give each its own"));
    }
    Ok(value.locate(ports))
}

fn mtu(value: &Value<'_>) -> Read<Option<u32>> {
    let mtu = value.integer(0..=LARGEST_MTU)?;
    if mtu != 0 && mtu < SMALLEST_MTU {
        return Err(value.refuse(format!(
            "{mtu} is out of range; expected 0 (detected) or {SMALLEST_MTU} … {LARGEST_MTU}"
        )));
    }
    Ok((mtu != 0).then_some(mtu))
}

fn health(value: &Value<'_>) -> Read<Option<Bfd>> {
    value.map(&HEALTH)?.optional("bfd", bfd)
}

fn bfd(value: &Value<'_>) -> Read<Bfd> {
    const SHORTEST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(60);
    let fields = value.map(&BFD)?;
    let interval = fields.or("interval", |value| {
        let interval = value.duration()?;
        if (SHORTEST..=LONGEST).contains(&interval) {
            return Ok(interval);
        }
        Err(value.refuse(format!(
            "{interval:?} is out of range; expected {SHORTEST:?} … {LONGEST:?}"
        )))
    });
    let multiplier = fields.integer("multiplier");
    let key_file = fields.optional("keyFile", |value| value.parse(scalar::absolute_path));
    Ok(Bfd {
        interval: interval?,
        multiplier: multiplier?,
        key_file: key_file?,
    })
}

type Outer = (u8, Option<u8>, bool, Option<UdpChecksum>);

fn outer(fields: &Fields<'_>) -> Read<Outer> {
    let ttl = fields.integer("ttl");
    let dscp = fields.or("dscp", |value| {
        if value.is_text() {
            return value.word(&[("inherit", None)]);
        }
        fields.in_range("dscp", value).map(Some)
    });
    let df = fields.boolean("df");
    let udp_checksum = fields.optional("udpChecksum", |value| {
        value.word(&[("zero", UdpChecksum::Zero), ("compute", UdpChecksum::Compute)])
    });
    Ok((ttl?, dscp?, df?, udp_checksum?))
}

fn masquerade(value: &Value<'_>) -> Read<BTreeSet<IpNet>> {
    let fields = value.map(&MASQUERADE)?;
    let exclude = fields.or("exclude", |value| {
        value.each("a list of CIDRs", |item| item.parse(scalar::cidr))
    })?;
    Ok(exclude.into_iter().collect())
}
