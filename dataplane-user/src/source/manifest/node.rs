//! `TunnelNode`.

use std::net::IpAddr;
use std::time::Duration;

use super::error::Positioned;
use super::firewall;
use super::network::{self, dataplane, encapsulation};
use super::reader::{Read, Value};
use super::scalar;
use super::schema::{Accepts, Field, Literal};
use crate::net::{NetworkName, NodeName};
use crate::resource::node::Underlay;
use crate::resource::{AdvertisedPrefix, Node, WireGuardPeer};

/// A WireGuard keepalive.
pub(super) const KEEPALIVE: Accepts = Accepts::Either(&[
    Accepts::Words(&["off"]),
    Accepts::Integer(0, 65_535),
    Accepts::Text("25s"),
]);
/// A WireGuard public key.
pub(super) const PUBLIC_KEY: Accepts = Accepts::Text("HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=");

/// The fields of a `TunnelNode`.
pub(super) const FIELDS: [Field; 9] = [
    Field::required(
        "network",
        Accepts::Either(&[Accepts::Text("net"), Accepts::List(&Accepts::Text("net"))]),
        "the name of a TunnelNetwork, or a list of names",
        "Network of the node, or a list of its networks.",
    ),
    Field::required(
        "underlay",
        Accepts::Map(&UNDERLAY),
        "`ipv4`, `ipv6` or both",
        "Underlay addresses at which other nodes reach the node.",
    ),
    Field::required(
        "addresses",
        Accepts::List(&Accepts::Text("10.0.0.1")),
        "the overlay addresses of the node",
        "Overlay addresses of the node itself. The first address of each family is the preferred source.",
    ),
    Field::or(
        "prefixes",
        Accepts::List(&Accepts::Either(&[
            Accepts::Text("10.1.0.0/16"),
            Accepts::Map(&PREFIX),
        ])),
        Literal::List(&[]),
        "Prefixes that the node advertises in addition to its addresses.",
    ),
    Field::optional(
        "wireguard",
        Accepts::Map(&WIREGUARD),
        "no WireGuard",
        "WireGuard key and endpoint of the node. See “WireGuard”.",
    ),
    Field::optional(
        "encapsulation",
        network::ENCAPSULATIONS,
        "the network's",
        "Encapsulation of the links of this node.",
    ),
    Field::optional(
        "dataplane",
        network::DATAPLANES,
        "the network's",
        "How this node sends packets: by BPF programs or by routes.",
    ),
    Field::or(
        "drain",
        Accepts::Boolean,
        Literal::Boolean(false),
        "Send no new flows to this node. This field has no effect yet.",
    ),
    Field::or(
        "firewall",
        Accepts::Map(&firewall::OF_NODE),
        Literal::Empty,
        "Options of the nft table of this node.",
    ),
];

const UNDERLAY: [Field; 2] = [
    Field::optional(
        "ipv4",
        Accepts::Text("192.0.2.1"),
        "none",
        "IPv4 address of the node in the underlay.",
    ),
    Field::optional(
        "ipv6",
        Accepts::Text("2001:db8::1"),
        "none",
        "IPv6 address of the node in the underlay.",
    ),
];

const PREFIX: [Field; 3] = [
    Field::required(
        "cidr",
        Accepts::Text("10.1.0.0/16"),
        "the prefix that the node advertises",
        "Prefix that the node advertises.",
    ),
    Field::or(
        "weight",
        Accepts::Integer(1, 255),
        Literal::Integer(1),
        "Share of the flows, relative to the other nodes that advertise the prefix in the same tier.",
    ),
    Field::or(
        "tier",
        Accepts::Integer(0, 0xffff_ffff),
        Literal::Integer(0),
        "Tier of the node for this prefix. The nodes of the lowest tier get all flows.",
    ),
];

const WIREGUARD: [Field; 5] = [
    Field::required(
        "publicKey",
        PUBLIC_KEY,
        "the public key of the node",
        "Public key of the node. `adit wg pubkey --manifest` on the node prints this line, and creates the key if there is none.",
    ),
    Field::optional(
        "nextPublicKey",
        PUBLIC_KEY,
        "none",
        "Public key to which the node rotates, as `adit wg rotate` prints it. See “WireGuard”.",
    ),
    Field::optional(
        "endpoint",
        Accepts::Text("vpn.example.org:51820"),
        "the underlay address and the WireGuard port of the network",
        "Endpoint at which peers reach the node: an address or a name, with a port. Names are resolved again every `--resync`, at least every 30 s.",
    ),
    Field::or(
        "keepalive",
        KEEPALIVE,
        Literal::Text("off"),
        "Interval at which the node sends keepalives to its peers, so that a NAT in front of it stays open.",
    ),
    Field::optional(
        "presharedKeyFile",
        Accepts::Text("/etc/adit/psk"),
        "none",
        "File with a preshared key, mode 0600, at the same path on both nodes of a pair.",
    ),
];

/// Fields that are read and checked, but have no effect yet.
const WITHOUT_EFFECT: [&str; 1] = ["drain"];

/// A node, with the positions of the values that are checked against other manifests.
#[derive(Debug)]
pub(super) struct DeclaredNode {
    pub(super) node: Node,
    pub(super) networks: Vec<Positioned<NetworkName>>,
    pub(super) underlay: Vec<Positioned<IpAddr>>,
    pub(super) addresses: Positioned<Vec<Positioned<IpAddr>>>,
    pub(super) prefixes: Vec<Positioned<AdvertisedPrefix>>,
    /// The written fields that have no effect yet.
    pub(super) without_effect: Vec<&'static str>,
}

/// Reads the `spec`.
pub(super) fn read(name: NodeName, spec: &Value<'_>) -> Read<DeclaredNode> {
    let fields = spec.map(&FIELDS)?;
    // All fields are read before the first `?`, so that the errors of each field are reported.
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
    let (underlay, underlay_positions) = underlay?;
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
        underlay: underlay_positions,
        addresses,
        prefixes,
        without_effect: fields.written(&WITHOUT_EFFECT),
    })
}

fn networks(value: &Value<'_>) -> Read<Vec<Positioned<NetworkName>>> {
    let network = |value: &Value<'_>| {
        let name = value.parse(|text| NetworkName::new(text).map_err(|error| error.to_string()))?;
        Ok(value.locate(name))
    };
    if !value.is_list() {
        return Ok(vec![network(value)?]);
    }
    let networks = value.each("a list of names", network)?;
    if networks.is_empty() {
        return Err(value.reject("empty; give the name of at least one TunnelNetwork"));
    }
    Ok(networks)
}

fn underlay(value: &Value<'_>) -> Read<(Underlay, Vec<Positioned<IpAddr>>)> {
    let fields = value.map(&UNDERLAY)?;
    let ipv4 = fields.optional("ipv4", |value| Ok(value.locate(value.parse(scalar::ipv4)?)));
    let ipv6 = fields.optional("ipv6", |value| Ok(value.locate(value.parse(scalar::ipv6)?)));
    let (ipv4, ipv6) = (ipv4?, ipv6?);
    if ipv4.is_none() && ipv6.is_none() {
        return Err(value.reject("empty; give `ipv4`, `ipv6` or both"));
    }
    let underlay = Underlay {
        ipv4: ipv4.as_ref().map(|address| address.value),
        ipv6: ipv6.as_ref().map(|address| address.value),
    };
    let positions = [
        ipv4.map(|address| address.map(IpAddr::from)),
        ipv6.map(|address| address.map(IpAddr::from)),
    ];
    Ok((underlay, positions.into_iter().flatten().collect()))
}

fn addresses(value: &Value<'_>) -> Read<Positioned<Vec<Positioned<IpAddr>>>> {
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

/// `off`, a duration, or a number of seconds as in wg(8).
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
        None => Err(value.reject("out of range; expected `off` or whole seconds, at most `65535s`")),
    }
}
