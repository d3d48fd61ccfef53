//! `TunnelNetwork`.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;

use super::error::Positioned;
use super::firewall;
use super::reader::{Fields, Read, Value};
use super::scalar;
use super::schema::{Accepts, Field, Literal};
use crate::net::Encapsulation;
use crate::net::encapsulation::RequestedEncapsulation;
use crate::net::{Family, NetworkName};
use crate::resource::network::{AllDown, Dataplane, NetworkRoutes, Ports, SourceProtection, UdpChecksum};
use crate::resource::{Bfd, Network};

/// The values of `encapsulation`.
pub(super) const ENCAPSULATIONS: Accepts =
    Accepts::Words(&["auto", "geneve", "vxlan", "ipip", "wireguard", "none"]);
/// The values of `dataplane`.
pub(super) const DATAPLANES: Accepts = Accepts::Words(&["ebpf", "routes"]);
const PORT: Accepts = Accepts::Integer(1, 65_535);

/// The fields of a `TunnelNetwork`.
pub(super) const FIELDS: [Field; 17] = [
    Field::required(
        "prefixes",
        Accepts::List(&Accepts::Text("10.0.0.0/8")),
        "the CIDRs of the network",
        "Address space of the network. It must not overlap that of another network.",
    ),
    Field::or(
        "encapsulation",
        ENCAPSULATIONS,
        Literal::Text("auto"),
        "Encapsulation of the links of the network. A node can override it.",
    ),
    Field::or(
        "dataplane",
        DATAPLANES,
        Literal::Text("ebpf"),
        "How packets are sent: by BPF programs or by routes. See “Dataplane `routes`”.",
    ),
    Field::or(
        "routes",
        Accepts::Map(&ROUTES),
        Literal::Empty,
        "Options of dataplane `routes`.",
    ),
    Field::or(
        "vni",
        Accepts::Integer(1, 0x00ff_ffff),
        Literal::Integer(1),
        "VNI of GENEVE and VXLAN.",
    ),
    Field::or(
        "ports",
        Accepts::Map(&PORTS),
        Literal::Empty,
        "UDP ports. They must be equal in all networks, because networks share devices.",
    ),
    Field::or(
        "underlayFamily",
        Accepts::Words(&["ipv4", "ipv6"]),
        Literal::Text("ipv4"),
        "Preferred underlay family. Two nodes that share only the other family use that one.",
    ),
    Field::or(
        "mtu",
        Accepts::Integer(0, 65_535),
        Literal::Integer(0),
        "MTU of the overlay in bytes, at least 1280; 0 detects it from the route to each peer.",
    ),
    Field::or(
        "sourceProtection",
        Accepts::Words(&["off", "log", "enforce"]),
        Literal::Text("enforce"),
        "Handling of packets with forged sources. Currently it only sets the default of `firewall.dropCleartext`.",
    ),
    Field::optional(
        "health",
        Accepts::Map(&HEALTH),
        "none",
        "Health checks of next hops. This field has no effect yet.",
    ),
    Field::or(
        "allDown",
        Accepts::Words(&["unreachable", "keep"]),
        Literal::Text("unreachable"),
        "Handling of a prefix whose next hops are all down. This field has no effect yet.",
    ),
    Field::or(
        "ttl",
        Accepts::Integer(1, 255),
        Literal::Integer(64),
        "TTL or hop limit of the outer header.",
    ),
    Field::or(
        "dscp",
        Accepts::Either(&[Accepts::Words(&["inherit"]), Accepts::Integer(0, 63)]),
        Literal::Text("inherit"),
        "DSCP of the outer header; `inherit` copies it from the inner header.",
    ),
    Field::or(
        "df",
        Accepts::Boolean,
        Literal::Boolean(false),
        "Set “don't fragment” (DF) in the outer IPv4 header.",
    ),
    Field::optional(
        "udpChecksum",
        Accepts::Words(&["zero", "compute"]),
        "`zero` over IPv4, `compute` over IPv6",
        "Checksum of the outer UDP header.",
    ),
    Field::optional(
        "masquerade",
        Accepts::Map(&MASQUERADE),
        "no masquerading",
        "Masquerade packets of the network that leave the node outside of tunnels; `{}` means without exclusions. See “Masquerading and the firewall”.",
    ),
    Field::or(
        "firewall",
        Accepts::Map(&firewall::FIELDS),
        Literal::Empty,
        "Options of the nft table. See “Masquerading and the firewall”.",
    ),
];

const ROUTES: [Field; 2] = [
    Field::or(
        "table",
        Accepts::Either(&[Accepts::Words(&["main"]), Accepts::Integer(0, 0xffff_ffff)]),
        Literal::Text("main"),
        "Routing table of the network: `main`, or a number other than 0, 253 and 255.",
    ),
    Field::or(
        "resilient",
        Accepts::Boolean,
        Literal::Boolean(false),
        "Use resilient next-hop groups: flows keep their next hop when others are added or removed.",
    ),
];

const PORTS: [Field; 4] = [
    Field::or("geneve", PORT, Literal::Integer(6081), "UDP port of GENEVE."),
    Field::or("vxlan", PORT, Literal::Integer(4789), "UDP port of VXLAN."),
    Field::or(
        "wireguard",
        PORT,
        Literal::Integer(51_820),
        "UDP port of the first WireGuard device; further devices use the ports after it.",
    ),
    Field::optional(
        "vxlanSource",
        Accepts::Text("32768-61000"),
        "the local port range of the kernel",
        "Range of source ports of VXLAN, without its last port. A change recreates the device.",
    ),
];

const HEALTH: [Field; 1] = [Field::optional(
    "bfd",
    Accepts::Map(&BFD),
    "none",
    "BFD sessions with the peers.",
)];

const BFD: [Field; 3] = [
    Field::or(
        "interval",
        Accepts::Text("300ms"),
        Literal::Text("300ms"),
        "Interval between packets, 10ms … 60s.",
    ),
    Field::or(
        "multiplier",
        Accepts::Integer(1, 255),
        Literal::Integer(3),
        "Number of consecutive missing packets after which the peer is down.",
    ),
    Field::optional(
        "keyFile",
        Accepts::Text("/etc/adit/bfd.key"),
        "no authentication",
        "File with the authentication key of the sessions.",
    ),
];

const MASQUERADE: [Field; 1] = [Field::or(
    "exclude",
    Accepts::List(&Accepts::Text("192.168.0.0/16")),
    Literal::List(&[]),
    "Destinations that are never masqueraded.",
)];

/// The smallest MTU of a link with IPv6, in bytes (RFC 8200, section 5).
const SMALLEST_MTU: u32 = 1280;
const LARGEST_MTU: u32 = 65535;

/// Fields that are read and checked, but have no effect yet.
const WITHOUT_EFFECT: [&str; 3] = ["allDown", "health", "sourceProtection"];

/// A network, with the positions of the values that are checked against other manifests.
#[derive(Debug)]
pub(super) struct DeclaredNetwork {
    pub(super) network: Network,
    /// As written, with duplicates.
    pub(super) prefixes: Vec<Positioned<IpNet>>,
    pub(super) ports: Positioned<Ports>,
    /// The written fields that have no effect yet.
    pub(super) without_effect: Vec<&'static str>,
}

/// Reads the `spec`.
pub(super) fn read(name: NetworkName, spec: &Value<'_>) -> Read<DeclaredNetwork> {
    let fields = spec.map(&FIELDS)?;
    // All fields are read before the first `?`, so that the errors of each field are reported.
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

/// The encapsulation of a link; `auto` is `None`.
pub(super) fn encapsulation(value: &Value<'_>) -> Read<RequestedEncapsulation> {
    let named = Encapsulation::ALL.map(|encapsulation| (encapsulation.name(), Some(encapsulation)));
    let words = [("auto", None)].into_iter().chain(named).collect::<Vec<_>>();
    value.word(&words)
}

/// The dataplane of a node or network.
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
    /// Reserved by the kernel: unspecified, default and local (linux/rtnetlink.h, `rt_class_t`).
    const RESERVED: [u32; 3] = [0, 253, 255];
    if value.is_text() {
        return value.word(&[("main", NetworkRoutes::MAIN)]);
    }
    let table = value.integer(0..=u32::MAX)?;
    if RESERVED.contains(&table) {
        return Err(value.reject(format!(
            "table {table} is reserved by the kernel; expected `main` or another number"
        )));
    }
    Ok(table)
}

fn prefixes(value: &Value<'_>) -> Read<Vec<Positioned<IpNet>>> {
    let prefixes = value.each("a list of CIDRs", |item| {
        Ok(item.locate(item.parse(scalar::overlay_cidr)?))
    })?;
    if prefixes.is_empty() {
        return Err(value.reject("empty; give at least one CIDR"));
    }
    Ok(prefixes)
}

fn ports(value: &Value<'_>) -> Read<Positioned<Ports>> {
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
        return Err(value.reject("two encapsulations have the same port; give each a different one"));
    }
    Ok(value.locate(ports))
}

fn mtu(value: &Value<'_>) -> Read<Option<u32>> {
    let mtu = value.integer(0..=LARGEST_MTU)?;
    if mtu != 0 && mtu < SMALLEST_MTU {
        return Err(value.reject(format!(
            "{mtu} is out of range; expected 0 (detected) or {SMALLEST_MTU} … {LARGEST_MTU}, because IPv6 needs at least {SMALLEST_MTU}"
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
        Err(value.reject(format!(
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
