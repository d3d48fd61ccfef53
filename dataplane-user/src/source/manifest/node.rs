//! `TunnelNode`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::error::Located;
use super::firewall;
use super::network::{dataplane, encapsulation};
use super::reader::{Read, Value};
use super::scalar;
use crate::net::{NetworkName, NodeName};
use crate::resource::node::Underlay;
use crate::resource::{CarriedPrefix, Node, WireGuardPeer};

const FIELDS: [&str; 9] = [
    "network",
    "underlay",
    "addresses",
    "prefixes",
    "wireguard",
    "encapsulation",
    "dataplane",
    "drain",
    "firewall",
];

/// Fields that are read and checked, and mean nothing yet.
const WITHOUT_EFFECT: [&str; 1] = ["drain"];

/// A node and where its manifest says what others must not contradict.
#[derive(Debug)]
pub(super) struct DeclaredNode {
    pub(super) node: Node,
    pub(super) networks: Vec<Located<NetworkName>>,
    pub(super) underlay: Vec<Located<IpAddr>>,
    pub(super) addresses: Located<Vec<Located<IpAddr>>>,
    pub(super) prefixes: Vec<Located<CarriedPrefix>>,
    /// Those of its fields that mean nothing yet.
    pub(super) without_effect: Vec<&'static str>,
}

/// Reads the `spec`.
pub(super) fn read(name: NodeName, spec: &Value<'_>) -> Read<DeclaredNode> {
    let fields = spec.map(&FIELDS)?;
    // All fields are read before the first `?`, so that each says what is wrong with it.
    let networks = fields.required("network", "a TunnelNetwork's name, or a list of names", networks);
    let underlay = fields.required("underlay", "`ipv4`, `ipv6` or both", underlay);
    let addresses = fields.required("addresses", "the node's own overlay addresses", addresses);
    let prefixes = fields.or("prefixes", Vec::new(), |value| {
        value.each("a list", |item| Ok(item.locate(carried(item)?)))
    });
    let wireguard = fields.optional("wireguard", wireguard);
    let encapsulation = fields.or("encapsulation", None, encapsulation);
    let dataplane = fields.optional("dataplane", dataplane);
    let drain = fields.or("drain", false, Value::boolean);
    let return_path = fields.or("firewall", BTreeSet::new(), firewall::of_node);

    let (networks, addresses, prefixes) = (networks?, addresses?, prefixes?);
    let (underlay, underlay_places) = underlay?;
    let node = Node {
        name,
        networks: networks.iter().map(|network| network.value.clone()).collect(),
        underlay,
        addresses: addresses.value.iter().map(|address| address.value).collect(),
        prefixes: prefixes.iter().map(|prefix| prefix.value).collect(),
        wireguard: wireguard?,
        encapsulation: encapsulation?,
        dataplane: dataplane?,
        drain: drain?,
        return_path: return_path?,
    };
    Ok(DeclaredNode {
        node,
        networks,
        underlay: underlay_places,
        addresses,
        prefixes,
        without_effect: fields.written(&WITHOUT_EFFECT),
    })
}

fn networks(value: &Value<'_>) -> Read<Vec<Located<NetworkName>>> {
    let network = |value: &Value<'_>| {
        let name = value.parse(|text| NetworkName::new(text).map_err(|error| error.to_string()))?;
        Ok(value.locate(name))
    };
    if !value.is_list() {
        return Ok(vec![network(value)?]);
    }
    let networks = value.each("a list of names", network)?;
    if networks.is_empty() {
        return Err(value.refuse("empty; give at least one TunnelNetwork's name"));
    }
    Ok(networks)
}

fn underlay(value: &Value<'_>) -> Read<(Underlay, Vec<Located<IpAddr>>)> {
    let fields = value.map(&["ipv4", "ipv6"])?;
    let ipv4 = fields.optional("ipv4", |value| Ok(value.locate(value.parse(scalar::ipv4)?)));
    let ipv6 = fields.optional("ipv6", |value| Ok(value.locate(value.parse(scalar::ipv6)?)));
    let (ipv4, ipv6) = (ipv4?, ipv6?);
    if ipv4.is_none() && ipv6.is_none() {
        return Err(value.refuse("empty; give `ipv4`, `ipv6` or both"));
    }
    let underlay = Underlay {
        ipv4: ipv4.as_ref().map(|address| address.value),
        ipv6: ipv6.as_ref().map(|address| address.value),
    };
    let places = [
        ipv4.map(|address| address.map(IpAddr::from)),
        ipv6.map(|address| address.map(IpAddr::from)),
    ];
    Ok((underlay, places.into_iter().flatten().collect()))
}

fn addresses(value: &Value<'_>) -> Read<Located<Vec<Located<IpAddr>>>> {
    let addresses = value.each("a list of IP addresses", |item| {
        Ok(item.locate(item.parse(scalar::address)?))
    })?;
    Ok(value.locate(addresses))
}

fn carried(value: &Value<'_>) -> Read<CarriedPrefix> {
    if value.is_text() {
        return Ok(CarriedPrefix {
            cidr: value.parse(scalar::cidr)?,
            weight: 1,
            tier: 0,
        });
    }
    if value.is_integer() || value.is_list() {
        return Err(value.mismatch("a CIDR, or a map with `cidr`"));
    }
    let fields = value.map(&["cidr", "weight", "tier"])?;
    let cidr = fields.required("cidr", "the prefix that the node carries", |value| {
        value.parse(scalar::cidr)
    });
    let weight = fields.or("weight", 1, |value| value.integer(1..=u8::MAX));
    let tier = fields.or("tier", 0, |value| value.integer(0..=u32::MAX));
    Ok(CarriedPrefix {
        cidr: cidr?,
        weight: weight?,
        tier: tier?,
    })
}

fn wireguard(value: &Value<'_>) -> Read<WireGuardPeer> {
    let fields = value.map(&[
        "publicKey",
        "nextPublicKey",
        "endpoint",
        "keepalive",
        "presharedKeyFile",
    ])?;
    let public_key = fields.required("publicKey", "the node's public key", |value| {
        value.parse(scalar::public_key)
    });
    let next_public_key = fields.optional("nextPublicKey", |value| value.parse(scalar::public_key));
    let endpoint = fields.optional("endpoint", |value| value.parse(scalar::endpoint));
    let keepalive_seconds = fields.or("keepalive", None, keepalive);
    let preshared_key_file = fields.optional("presharedKeyFile", |value| value.parse(scalar::absolute_path));
    Ok(WireGuardPeer {
        public_key: public_key?,
        next_public_key: next_public_key?,
        endpoint: endpoint?,
        keepalive_seconds: keepalive_seconds?,
        preshared_key_file: preshared_key_file?,
    })
}

/// `off`, a duration, or seconds as wg(8) has them.
pub(super) fn keepalive(value: &Value<'_>) -> Read<Option<u16>> {
    if value.is_integer() {
        let seconds = value.integer(0..=u16::MAX)?;
        return Ok((seconds > 0).then_some(seconds));
    }
    if value.is("off") {
        return Ok(None);
    }
    let duration = value.duration()?;
    let seconds = u16::try_from(duration.as_secs()).ok();
    match seconds.filter(|seconds| Duration::from_secs((*seconds).into()) == duration) {
        Some(seconds) => Ok((seconds > 0).then_some(seconds)),
        None => Err(value.refuse("out of range; expected `off` or whole seconds, at most `65535s`")),
    }
}
