//! `TunnelNetwork`.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;

use super::error::Located;
use super::firewall::firewall;
use super::reader::{Fields, Read, Value};
use super::scalar;
use crate::net::Encapsulation;
use crate::net::encapsulation::Wish;
use crate::net::{Family, NetworkName};
use crate::resource::network::{AllDown, Dataplane, NetworkRoutes, Ports, SourceProtection, UdpChecksum};
use crate::resource::{Bfd, FirewallOptions, Network};

const FIELDS: [&str; 17] = [
    "prefixes",
    "encapsulation",
    "dataplane",
    "routes",
    "vni",
    "ports",
    "underlayFamily",
    "mtu",
    "sourceProtection",
    "health",
    "allDown",
    "ttl",
    "dscp",
    "df",
    "udpChecksum",
    "masquerade",
    "firewall",
];

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
    let prefixes = fields.required("prefixes", "the network's CIDRs", prefixes);
    let encapsulation = fields.or("encapsulation", None, encapsulation);
    let dataplane = fields.or("dataplane", Dataplane::Ebpf, dataplane);
    let routes = fields.or("routes", NetworkRoutes::default(), routes);
    let vni = fields.or("vni", 1, |value| value.integer(1..=0x00ff_ffff));
    let ports = fields.or("ports", spec.locate(Ports::default()), ports);
    let underlay_family = fields.or("underlayFamily", Family::Ipv4, |value| {
        value.word(&[("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)])
    });
    let mtu = fields.or("mtu", None, mtu);
    let source_protection = fields.or("sourceProtection", SourceProtection::Enforce, |value| {
        value.word(&[
            ("off", SourceProtection::Off),
            ("log", SourceProtection::Log),
            ("enforce", SourceProtection::Enforce),
        ])
    });
    let health = fields.or("health", None, health);
    let all_down = fields.or("allDown", AllDown::Unreachable, |value| {
        value.word(&[("unreachable", AllDown::Unreachable), ("keep", AllDown::Keep)])
    });
    let outer = outer(&fields);
    let masquerade = fields.optional("masquerade", masquerade);
    let firewall = fields.or("firewall", FirewallOptions::default(), firewall);

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
        health: health?,
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
    let fields = value.map(&["table", "resilient"])?;
    let default = NetworkRoutes::default();
    let table = fields.or("table", default.table, table);
    let resilient = fields.or("resilient", default.resilient, Value::boolean);
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
    let fields = value.map(&["geneve", "vxlan", "wireguard", "vxlanSource"])?;
    let default = Ports::default();
    let port = |name, default| fields.or(name, default, |value| value.integer(1..=u16::MAX));
    let (geneve, vxlan, wireguard) = (
        port("geneve", default.geneve),
        port("vxlan", default.vxlan),
        port("wireguard", default.wireguard),
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
    value.map(&["bfd"])?.optional("bfd", bfd)
}

fn bfd(value: &Value<'_>) -> Read<Bfd> {
    const SHORTEST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_secs(60);
    let fields = value.map(&["interval", "multiplier", "keyFile"])?;
    let interval = fields.or("interval", Duration::from_millis(300), |value| {
        let interval = value.duration()?;
        if (SHORTEST..=LONGEST).contains(&interval) {
            return Ok(interval);
        }
        Err(value.refuse(format!(
            "{interval:?} is out of range; expected {SHORTEST:?} … {LONGEST:?}"
        )))
    });
    let multiplier = fields.or("multiplier", 3, |value| value.integer(1..=u8::MAX));
    let key_file = fields.optional("keyFile", |value| value.parse(scalar::absolute_path));
    Ok(Bfd {
        interval: interval?,
        multiplier: multiplier?,
        key_file: key_file?,
    })
}

type Outer = (u8, Option<u8>, bool, Option<UdpChecksum>);

fn outer(fields: &Fields<'_>) -> Read<Outer> {
    let ttl = fields.or("ttl", 64, |value| value.integer(1..=u8::MAX));
    let dscp = fields.or("dscp", None, |value| {
        if value.is_text() {
            return value.word(&[("inherit", None)]);
        }
        value.integer(0..=63).map(Some)
    });
    let df = fields.or("df", false, Value::boolean);
    let udp_checksum = fields.optional("udpChecksum", |value| {
        value.word(&[("zero", UdpChecksum::Zero), ("compute", UdpChecksum::Compute)])
    });
    Ok((ttl?, dscp?, df?, udp_checksum?))
}

fn masquerade(value: &Value<'_>) -> Read<BTreeSet<IpNet>> {
    let fields = value.map(&["exclude"])?;
    let exclude = fields.or("exclude", Vec::new(), |value| {
        value.each("a list of CIDRs", |item| item.parse(scalar::cidr))
    })?;
    Ok(exclude.into_iter().collect())
}
