//! `WireGuardNetworkPlan`: nodes, links between them, and defaults.

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
use crate::source::manifest::schema::{Accepts, Field, Literal};
use crate::source::manifest::suggest::hint;

const ALLOWED_IPS: Accepts = Accepts::List(&Accepts::Text("10.0.0.0/8"));
const PORT: Accepts = Accepts::Integer(1, 65_535);

/// The fields of a `WireGuardNetworkPlan`.
pub(in crate::source::manifest) const FIELDS: [Field; 4] = [
    Field::or(
        "defaults",
        Accepts::Map(&DEFAULTS),
        Literal::Empty,
        "Values for nodes that do not set them.",
    ),
    Field::or(
        "addresses",
        Accepts::List(&Accepts::Text("10.9.0.0/16")),
        Literal::List(&[]),
        "At most one CIDR of each family. Each link gets two addresses from it, beginning with the third address.",
    ),
    Field::required(
        "nodes",
        Accepts::List(&Accepts::Map(&NODE)),
        "a list of nodes",
        "Nodes of the plan.",
    ),
    Field::optional(
        "links",
        Accepts::List(&Accepts::Either(&[
            Accepts::List(&Accepts::Text("a")),
            Accepts::Map(&LINK),
        ])),
        "one link between each pair of nodes",
        "Links, each as a list of two names or as a map.",
    ),
];

const DEFAULTS: [Field; 5] = [
    Field::or(
        "listenPort",
        PORT,
        Literal::Integer(51_820),
        "UDP port of the first link of a node; further links use the ports after it.",
    ),
    // With the overhead of WireGuard this fits into 1,500 bytes over both families.
    Field::or(
        "mtu",
        MTU,
        Literal::Integer(1420),
        "MTU in bytes; a link uses the smaller value of its two ends.",
    ),
    Field::or(
        "persistentKeepalive",
        KEEPALIVE,
        Literal::Text("off"),
        "Interval of keepalives.",
    ),
    // Other routes decide which link a packet uses.
    Field::or(
        "allowedIPs",
        ALLOWED_IPS,
        Literal::List(&[Literal::Text("0.0.0.0/0"), Literal::Text("::/0")]),
        "Prefixes behind a node. The addresses of its links are added.",
    ),
    Field::or(
        "table",
        ROUTES,
        Literal::Text("off"),
        "Table of the routes to allowed IPs.",
    ),
];

const OWN: &str = "the value in `defaults`";

const NODE: [Field; 11] = [
    Field::required(
        "name",
        Accepts::Text("a"),
        "the node's name",
        "Name of the node in this plan.",
    ),
    Field::optional(
        "node",
        Accepts::Text("a"),
        "`name`",
        "Node whose agent creates the devices.",
    ),
    NAMESPACE,
    Field::required(
        "publicKey",
        PUBLIC_KEY,
        "the public key of the node",
        "Public key of the node.",
    ),
    Field::or(
        "privateKey",
        PRIVATE_KEY,
        Literal::Text("node"),
        "Private key, as in a WireGuardInterface.",
    ),
    Field::optional(
        "endpoint",
        Accepts::Text("192.0.2.1"),
        "the peers connect first",
        "Address or name of the node, without a port.",
    ),
    Field::optional("listenPort", PORT, OWN, "UDP port of the first link of the node."),
    Field::optional("mtu", MTU, OWN, "MTU in bytes."),
    Field::optional("persistentKeepalive", KEEPALIVE, OWN, "Interval of keepalives."),
    Field::optional("allowedIPs", ALLOWED_IPS, OWN, "Prefixes behind the node."),
    Field::optional("table", ROUTES, OWN, "Table of the routes to allowed IPs."),
];

const LINK: [Field; 4] = [
    Field::required(
        "nodes",
        Accepts::List(&Accepts::Text("a")),
        "the names of the two nodes",
        "Names of the two nodes.",
    ),
    Field::or(
        "count",
        Accepts::Integer(1, 1000),
        Literal::Integer(1),
        "Number of links between the two nodes.",
    ),
    Field::optional("mtu", MTU, "the smaller value of the two ends", "MTU in bytes."),
    Field::optional(
        "presharedKeyFile",
        Accepts::Text("/etc/adit/psk"),
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
    plan.expand().map_err(|message| spec.reject(message))
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
        return Err(value.reject("several CIDRs of one family; give at most one of each family"));
    }
    Ok(pools)
}

fn nodes(value: &Value<'_>, defaults: &Common) -> Read<Vec<PlanNode>> {
    let items = value.list("a list of nodes")?;
    let read = items.iter().map(|item| node(item, defaults)).collect::<Vec<_>>();
    let nodes = read.into_iter().collect::<Read<Vec<_>>>()?;
    let mut first = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        if let Some(before) = first.insert(&node.name, index) {
            return Err(items[index].reject(format!(
                "the name `{}` is already that of nodes[{before}]; choose another",
                node.name
            )));
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

/// An address or a name without a port, because each link has its own port.
fn host(text: &str) -> Result<Host, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Host::Address(address));
    }
    let endpoint = scalar::endpoint(&format!("{text}:1"));
    match endpoint {
        Ok(endpoint) if !text.contains(':') => Ok(endpoint.host),
        _ => Err(format!(
            "`{text}` is neither an address nor a name; give it without a port, which `listenPort` sets"
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
    let indices = value.each("the names of two nodes", |item| {
        let text = item.text()?;
        let index = nodes.iter().position(|node| node.name.as_str() == text);
        index.ok_or_else(|| {
            let known = nodes.iter().map(|node| node.name.as_str());
            item.reject(format!("the plan has no node `{text}`; {}", hint(text, known)))
        })
    })?;
    match indices[..] {
        [a, b] if a != b => Ok((a, b)),
        [_, _] => Err(value.reject("a link needs two different nodes")),
        _ => Err(value.reject("expected the names of two nodes")),
    }
}
