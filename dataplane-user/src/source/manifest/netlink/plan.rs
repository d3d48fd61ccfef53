//! `WireGuardNetworkPlan`: nodes, links between them, and what all have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::wireguard::{key, routes};
use super::{namespace, prefix};
use crate::net::KeySource;
use crate::net::{Family, NodeName};
use crate::resource::node::Host;
use crate::resource::wireguard::AllowedIpRoutes;
use crate::resource::wireguard::plan::{Expanded, PlanLink, PlanNode, WireGuardNetworkPlan};
use crate::source::manifest::node::keepalive;
use crate::source::manifest::reader::{Fields, Read, Value};
use crate::source::manifest::scalar;
use crate::source::manifest::suggest::hint;

/// What nodes have in common, unless one says otherwise.
const COMMON: [&str; 5] = ["listenPort", "mtu", "persistentKeepalive", "allowedIPs", "table"];
const NODE: [&str; 6] = ["name", "node", "namespace", "publicKey", "privateKey", "endpoint"];
/// Fits into 1,500 bytes over both families.
const MTU: u32 = 1420;
const PORT: u16 = 51820;

/// Reads the `spec`, and expands it.
pub(in crate::source::manifest) fn read(name: &str, spec: &Value<'_>) -> Read<Expanded> {
    let fields = spec.map(&["defaults", "addresses", "nodes", "links"])?;
    let defaults = fields.or("defaults", Common::default(), |value| {
        let fields = value.map(&COMMON)?;
        common(&fields, &Common::default())
    });
    let pools = fields.or("addresses", Vec::new(), pools);
    let defaults = defaults?;
    let nodes = fields.required("nodes", "a list of nodes", |value| nodes(value, &defaults));
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

impl Default for Common {
    /// Anything may come and go, and who is sent what is for routes to say that are made elsewhere.
    fn default() -> Common {
        let all = Family::BOTH.map(Family::everything);
        Common {
            listen_port: PORT,
            mtu: MTU,
            keepalive: 0,
            allowed_ips: BTreeSet::from(all),
            routes: AllowedIpRoutes::Off,
        }
    }
}

fn common(fields: &Fields<'_>, defaults: &Common) -> Read<Common> {
    let listen_port = fields.or("listenPort", defaults.listen_port, |value| {
        value.integer(1..=u16::MAX)
    });
    let mtu = fields.or("mtu", defaults.mtu, |value| value.integer(68..=65_535_u32));
    let keepalive = fields.or("persistentKeepalive", Some(defaults.keepalive), keepalive);
    let allowed_ips = fields.or("allowedIPs", defaults.allowed_ips.clone(), |value| {
        let prefixes = value.each("a list of CIDRs", |item| item.parse(prefix))?;
        Ok(prefixes.into_iter().collect())
    });
    let routes = fields.or("table", defaults.routes, routes);
    Ok(Common {
        listen_port: listen_port?,
        mtu: mtu?,
        keepalive: keepalive?.unwrap_or(0),
        allowed_ips: allowed_ips?,
        routes: routes?,
    })
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
    let known = NODE.iter().chain(&COMMON).copied().collect::<Vec<_>>();
    let fields = value.map(&known)?;
    let named =
        |value: &Value<'_>| value.parse(|text| NodeName::new(text).map_err(|error| error.to_string()));
    let name = fields.required("name", "the node's name", named);
    let agent = fields.optional("node", named);
    let namespace = namespace(&fields);
    let public_key = fields.required("publicKey", "the node's public key", |value| {
        value.parse(scalar::public_key)
    });
    let key = fields.or("privateKey", KeySource::Node, key);
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
        let fields = item.map(&["nodes", "count", "mtu", "presharedKeyFile"])?;
        let ends = fields.required("nodes", "the two nodes' names", |value| ends(value, nodes));
        let count = fields.or("count", 1, |value| value.integer(1..=1000_u16));
        let mtu = fields.optional("mtu", |value| value.integer(68..=65_535_u32));
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
