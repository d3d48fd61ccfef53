//! `WireGuardNetworkPlan`: nodes, links between them, and what all have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::wireguard::{PRIVATE_KEY, ROUTES, key, routes};
use super::{MTU, NAMESPACE, namespace, prefix};
use crate::net::{Family, NodeName};
use crate::resource::node::Host;
use crate::resource::wireguard::AllowedIpRoutes;
use crate::resource::wireguard::plan::{Expanded, PlanLink, PlanNode, WireGuardNetworkPlan};
use crate::source::manifest::node::{KEEPALIVE, PUBLIC_KEY, keepalive};
use crate::source::manifest::reader::{Fields, Read, Value};
use crate::source::manifest::scalar;
use crate::source::manifest::schema::{Field, Literal, Takes};
use crate::source::manifest::suggest::hint;

const ALLOWED_IPS: Takes = Takes::List(&Takes::Text("10.0.0.0/8"));
const PORT: Takes = Takes::Integer(1, 65_535);

/// Those of a `WireGuardNetworkPlan`.
pub(in crate::source::manifest) const FIELDS: [Field; 4] = [
    Field::or(
        "defaults",
        Takes::Map(&DEFAULTS),
        Literal::Empty,
        "Values for nodes that do not have their own.",
    ),
    Field::or(
        "addresses",
        Takes::List(&Takes::Text("10.9.0.0/16")),
        Literal::List(&[]),
        "A CIDR of each family at most. Each link gets two addresses of it, from the third one on.",
    ),
    Field::required(
        "nodes",
        Takes::List(&Takes::Map(&NODE)),
        "a list of nodes",
        "The nodes.",
    ),
    Field::optional(
        "links",
        Takes::List(&Takes::Either(&[
            Takes::List(&Takes::Text("a")),
            Takes::Map(&LINK),
        ])),
        "a link between any two nodes",
        "Links: two names, or a map.",
    ),
];

const DEFAULTS: [Field; 5] = [
    Field::or(
        "listenPort",
        PORT,
        Literal::Integer(51_820),
        "UDP port of a node's first link; further links use the ports after it.",
    ),
    // It fits into 1,500 bytes over both families.
    Field::or(
        "mtu",
        MTU,
        Literal::Integer(1420),
        "MTU in bytes; the smaller one of two ends counts.",
    ),
    Field::or(
        "persistentKeepalive",
        KEEPALIVE,
        Literal::Text("off"),
        "Interval of keepalives.",
    ),
    // Routes that are made elsewhere say who is sent what.
    Field::or(
        "allowedIPs",
        ALLOWED_IPS,
        Literal::List(&[Literal::Text("0.0.0.0/0"), Literal::Text("::/0")]),
        "Prefixes behind a node; the addresses of its links are added.",
    ),
    Field::or(
        "table",
        ROUTES,
        Literal::Text("off"),
        "Table of the routes to allowed IPs.",
    ),
];

const OWN: &str = "that of `defaults`";

const NODE: [Field; 11] = [
    Field::required(
        "name",
        Takes::Text("a"),
        "the node's name",
        "Name of the node in this plan.",
    ),
    Field::optional(
        "node",
        Takes::Text("a"),
        "`name`",
        "Node whose agent creates its devices.",
    ),
    NAMESPACE,
    Field::required("publicKey", PUBLIC_KEY, "the node's public key", "Public key."),
    Field::or(
        "privateKey",
        PRIVATE_KEY,
        Literal::Text("node"),
        "Private key, as of a WireGuardInterface.",
    ),
    Field::optional(
        "endpoint",
        Takes::Text("192.0.2.1"),
        "the peers connect first",
        "Address or name, without a port.",
    ),
    Field::optional("listenPort", PORT, OWN, "UDP port of its first link."),
    Field::optional("mtu", MTU, OWN, "MTU in bytes."),
    Field::optional("persistentKeepalive", KEEPALIVE, OWN, "Interval of keepalives."),
    Field::optional("allowedIPs", ALLOWED_IPS, OWN, "Prefixes behind it."),
    Field::optional("table", ROUTES, OWN, "Table of the routes to allowed IPs."),
];

const LINK: [Field; 4] = [
    Field::required(
        "nodes",
        Takes::List(&Takes::Text("a")),
        "the two nodes' names",
        "Names of the two nodes.",
    ),
    Field::or(
        "count",
        Takes::Integer(1, 1000),
        Literal::Integer(1),
        "How many links.",
    ),
    Field::optional("mtu", MTU, "the smaller one of both ends", "MTU in bytes."),
    Field::optional(
        "presharedKeyFile",
        Takes::Text("/etc/adit/psk"),
        "none",
        "File with a preshared key.",
    ),
];

/// Reads the `spec`, and expands it.
pub(in crate::source::manifest) fn read(name: &str, spec: &Value<'_>) -> Read<Expanded> {
    let fields = spec.map(&FIELDS)?;
    let defaults = fields.or("defaults", |value| {
        let fields = value.map(&DEFAULTS)?;
        Ok(Common {
            listen_port: fields.integer("listenPort")?,
            mtu: fields.integer("mtu")?,
            keepalive: fields.or("persistentKeepalive", keepalive)?.unwrap_or(0),
            allowed_ips: fields.or("allowedIPs", allowed_ips)?,
            routes: fields.or("table", routes)?,
        })
    });
    let pools = fields.or("addresses", pools);
    let defaults = defaults?;
    let nodes = fields.required("nodes", |value| nodes(value, &defaults));
    let (pools, nodes) = (pools?, nodes?);
    let links = fields.optional("links", |value| links(value, &nodes))?;
    let plan = WireGuardNetworkPlan {
        name: name.to_owned(),
        pools,
        nodes,
        links,
    };
    plan.expand().map_err(|message| spec.refuse(message))
}

#[derive(Clone)]
struct Common {
    listen_port: u16,
    mtu: u32,
    keepalive: u16,
    allowed_ips: BTreeSet<IpNet>,
    routes: AllowedIpRoutes,
}

fn common(fields: &Fields<'_>, defaults: &Common) -> Read<Common> {
    let listen_port = fields.optional_integer("listenPort");
    let mtu = fields.optional_integer("mtu");
    let keepalive = fields.optional("persistentKeepalive", keepalive);
    let allowed_ips = fields.optional("allowedIPs", allowed_ips);
    let routes = fields.optional("table", routes);
    Ok(Common {
        listen_port: listen_port?.unwrap_or(defaults.listen_port),
        mtu: mtu?.unwrap_or(defaults.mtu),
        keepalive: keepalive?.map_or(defaults.keepalive, |seconds| seconds.unwrap_or(0)),
        allowed_ips: allowed_ips?.unwrap_or_else(|| defaults.allowed_ips.clone()),
        routes: routes?.unwrap_or(defaults.routes),
    })
}

fn allowed_ips(value: &Value<'_>) -> Read<BTreeSet<IpNet>> {
    let prefixes = value.each("a list of CIDRs", |item| item.parse(prefix))?;
    Ok(prefixes.into_iter().collect())
}

fn pools(value: &Value<'_>) -> Read<Vec<IpNet>> {
    let pools = value.each("a list of CIDRs", |item| item.parse(scalar::pool))?;
    let families = pools.iter().map(|pool| Family::of_prefix(*pool));
    if families.collect::<BTreeSet<_>>().len() < pools.len() {
        return Err(value.refuse("one CIDR of each family at most"));
    }
    Ok(pools)
}

fn nodes(value: &Value<'_>, defaults: &Common) -> Read<Vec<PlanNode>> {
    let items = value.list("a list of nodes")?;
    let read = items.iter().map(|item| node(item, defaults)).collect::<Vec<_>>();
    let nodes = read.into_iter().collect::<Read<Vec<_>>>()?;
    let mut first = BTreeMap::new();
    for (place, node) in nodes.iter().enumerate() {
        if let Some(before) = first.insert(&node.name, place) {
            return Err(items[place].refuse(format!("`{}` is nodes[{before}] already", node.name)));
        }
    }
    Ok(nodes)
}

fn node(value: &Value<'_>, defaults: &Common) -> Read<PlanNode> {
    let fields = value.map(&NODE)?;
    let named =
        |value: &Value<'_>| value.parse(|text| NodeName::new(text).map_err(|error| error.to_string()));
    let name = fields.required("name", named);
    let agent = fields.optional("node", named);
    let namespace = namespace(&fields);
    let public_key = fields.required("publicKey", |value| value.parse(scalar::public_key));
    let key = fields.or("privateKey", key);
    let endpoint = fields.optional("endpoint", |value| value.parse(host));
    let common = common(&fields, defaults);
    let (name, common) = (name?, common?);
    Ok(PlanNode {
        agent: agent?.unwrap_or_else(|| name.clone()),
        name,
        namespace: namespace?,
        public_key: public_key?,
        key: key?,
        endpoint: endpoint?,
        listen_port: common.listen_port,
        mtu: common.mtu,
        keepalive: common.keepalive,
        allowed_ips: common.allowed_ips,
        routes: common.routes,
    })
}

/// An address or a name; each link has a port of its own.
fn host(text: &str) -> Result<Host, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Host::Address(address));
    }
    let endpoint = scalar::endpoint(&format!("{text}:1"));
    match endpoint {
        Ok(endpoint) if !text.contains(':') => Ok(endpoint.host),
        _ => Err(format!(
            "`{text}` is no address and no name; the ports are `listenPort` and those that follow"
        )),
    }
}

fn links(value: &Value<'_>, nodes: &[PlanNode]) -> Read<Vec<PlanLink>> {
    value.each("a list of links", |item| {
        if item.is_list() {
            return Ok(PlanLink::between(ends(item, nodes)?));
        }
        let fields = item.map(&LINK)?;
        let ends = fields.required("nodes", |value| ends(value, nodes));
        let count = fields.integer("count");
        let mtu = fields.optional_integer("mtu");
        let preshared_key_file =
            fields.optional("presharedKeyFile", |value| value.parse(scalar::absolute_path));
        Ok(PlanLink {
            ends: ends?,
            count: count?,
            mtu: mtu?,
            preshared_key_file: preshared_key_file?,
        })
    })
}

fn ends(value: &Value<'_>, nodes: &[PlanNode]) -> Read<(usize, usize)> {
    let places = value.each("two nodes' names", |item| {
        let text = item.text()?;
        let place = nodes.iter().position(|node| node.name.as_str() == text);
        place.ok_or_else(|| {
            let known = nodes.iter().map(|node| node.name.as_str());
            item.refuse(format!("the plan has no node `{text}`; {}", hint(text, known)))
        })
    })?;
    match places[..] {
        [a, b] if a != b => Ok((a, b)),
        [_, _] => Err(value.refuse("a node has no link to itself")),
        _ => Err(value.refuse("expected two nodes' names")),
    }
}
