//! `TunnelNode`.

use std::net::IpAddr;
use std::time::Duration;

use super::error::Located;
use super::firewall;
use super::network::{self, dataplane, encapsulation};
use super::reader::{Read, Value};
use super::scalar;
use super::schema::{Field, Literal, Takes};
use crate::net::{NetworkName, NodeName};
use crate::resource::node::Underlay;
use crate::resource::{AdvertisedPrefix, Node, WireGuardPeer};

/// A WireGuard keepalive.
pub(super) const KEEPALIVE: Takes = Takes::Either(&[
    Takes::Words(&["off"]),
    Takes::Integer(0, 65_535),
    Takes::Text("25s"),
]);
/// A WireGuard public key.
pub(super) const PUBLIC_KEY: Takes = Takes::Text("HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=");

/// Those of a `TunnelNode`.
pub(super) const FIELDS: [Field; 9] = [
    Field::required(
        "network",
        Takes::Either(&[Takes::Text("net"), Takes::List(&Takes::Text("net"))]),
        "a TunnelNetwork's name, or a list of names",
        "Networks that the node is a member of.",
    ),
    Field::required(
        "underlay",
        Takes::Map(&UNDERLAY),
        "`ipv4`, `ipv6` or both",
        "Where other nodes reach it.",
    ),
    Field::required(
        "addresses",
        Takes::List(&Takes::Text("10.0.0.1")),
        "the node's own overlay addresses",
        "Overlay addresses of the node itself. The first one of each family is the preferred source.",
    ),
    Field::or(
        "prefixes",
        Takes::List(&Takes::Either(&[Takes::Text("10.1.0.0/16"), Takes::Map(&PREFIX)])),
        Literal::List(&[]),
        "Prefixes that it advertises beside its addresses.",
    ),
    Field::optional(
        "wireguard",
        Takes::Map(&WIREGUARD),
        "no WireGuard",
        "Its end of WireGuard links. See “WireGuard”.",
    ),
    Field::optional(
        "encapsulation",
        network::ENCAPSULATIONS,
        "the network's",
        "Encapsulation of its links.",
    ),
    Field::optional(
        "dataplane",
        network::DATAPLANES,
        "the network's",
        "What sends this node's packets.",
    ),
    Field::or(
        "drain",
        Takes::Boolean,
        Literal::Boolean(false),
        "Send no new flows to it. It has no effect yet.",
    ),
    Field::or(
        "firewall",
        Takes::Map(&firewall::OF_NODE),
        Literal::Empty,
        "Options of its nft table.",
    ),
];

const UNDERLAY: [Field; 2] = [
    Field::optional(
        "ipv4",
        Takes::Text("192.0.2.1"),
        "none",
        "Underlay address of IPv4.",
    ),
    Field::optional(
        "ipv6",
        Takes::Text("2001:db8::1"),
        "none",
        "Underlay address of IPv6.",
    ),
];

const PREFIX: [Field; 3] = [
    Field::required(
        "cidr",
        Takes::Text("10.1.0.0/16"),
        "the prefix that the node carries",
        "The prefix.",
    ),
    Field::or(
        "weight",
        Takes::Integer(1, 255),
        Literal::Integer(1),
        "Share of the flows among nodes that advertise it in one tier.",
    ),
    Field::or(
        "tier",
        Takes::Integer(0, 0xffff_ffff),
        Literal::Integer(0),
        "Nodes of the lowest tier get all flows.",
    ),
];

const WIREGUARD: [Field; 5] = [
    Field::required(
        "publicKey",
        PUBLIC_KEY,
        "the node's public key",
        "Public key. `adit wg pubkey --manifest` on the node creates the key where there is none and prints this line.",
    ),
    Field::optional(
        "nextPublicKey",
        PUBLIC_KEY,
        "none",
        "Public key that it changes to, as `adit wg rotate` prints it. See “WireGuard”.",
    ),
    Field::optional(
        "endpoint",
        Takes::Text("vpn.example.org:51820"),
        "the underlay address and the network's port",
        "Where peers reach it: an address or a name, with a port. Names are resolved again every `--resync`.",
    ),
    Field::or(
        "keepalive",
        KEEPALIVE,
        Literal::Text("off"),
        "How often it sends something to its peers, so that a NAT in front of it stays open.",
    ),
    Field::optional(
        "presharedKeyFile",
        Takes::Text("/etc/adit/psk"),
        "none",
        "File with a preshared key, mode 0600, at the same path on both nodes of a pair.",
    ),
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
    pub(super) prefixes: Vec<Located<AdvertisedPrefix>>,
    /// Those of its fields that mean nothing yet.
    pub(super) without_effect: Vec<&'static str>,
}

/// Reads the `spec`.
pub(super) fn read(name: NodeName, spec: &Value<'_>) -> Read<DeclaredNode> {
    let fields = spec.map(&FIELDS)?;
    // All fields are read before the first `?`, so that each says what is wrong with it.
    let networks = fields.required("network", networks);
    let underlay = fields.required("underlay", underlay);
    let addresses = fields.required("addresses", addresses);
    let prefixes = fields.or("prefixes", |value| {
        value.each("a list", |item| Ok(item.locate(advertised(item)?)))
    });
    let wireguard = fields.optional("wireguard", wireguard);
    let encapsulation = fields.optional("encapsulation", encapsulation);
    let dataplane = fields.optional("dataplane", dataplane);
    let drain = fields.boolean("drain");
    let return_path = fields.or("firewall", firewall::of_node);

    let (networks, addresses, prefixes) = (networks?, addresses?, prefixes?);
    let (underlay, underlay_places) = underlay?;
    let node = Node {
        name,
        networks: networks.iter().map(|network| network.value.clone()).collect(),
        underlay,
        addresses: addresses.value.iter().map(|address| address.value).collect(),
        prefixes: prefixes.iter().map(|prefix| prefix.value).collect(),
        wireguard: wireguard?,
        encapsulation: encapsulation?.flatten(),
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
    let fields = value.map(&UNDERLAY)?;
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

fn advertised(value: &Value<'_>) -> Read<AdvertisedPrefix> {
    if value.is_text() {
        return Ok(AdvertisedPrefix {
            cidr: value.parse(scalar::cidr)?,
            weight: 1,
            tier: 0,
        });
    }
    if value.is_integer() || value.is_list() {
        return Err(value.mismatch("a CIDR, or a map with `cidr`"));
    }
    let fields = value.map(&PREFIX)?;
    let cidr = fields.required("cidr", |value| value.parse(scalar::cidr));
    let weight = fields.integer("weight");
    let tier = fields.integer("tier");
    Ok(AdvertisedPrefix {
        cidr: cidr?,
        weight: weight?,
        tier: tier?,
    })
}

fn wireguard(value: &Value<'_>) -> Read<WireGuardPeer> {
    let fields = value.map(&WIREGUARD)?;
    let public_key = fields.required("publicKey", |value| value.parse(scalar::public_key));
    let next_public_key = fields.optional("nextPublicKey", |value| value.parse(scalar::public_key));
    let endpoint = fields.optional("endpoint", |value| value.parse(scalar::endpoint));
    let keepalive_seconds = fields.or("keepalive", keepalive);
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
