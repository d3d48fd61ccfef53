//! `WireGuardInterface`: the keys of wg-quick(8) in camel case. Private and preshared keys are in files.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::interface::addresses;
use super::{ADDRESSES, LINK_NAME, MTU, NAMESPACE, NODE, named, namespace, nodes, prefix, table_or};
use crate::net::KeySource;
use crate::net::PublicKey;
use crate::resource::WireGuardInterface;
use crate::resource::netlink::{InterfaceEnd, Namespaced};
use crate::resource::wireguard::{AllowedIpRoutes, Peer, PresharedSource, shared};
use crate::source::manifest::node::{KEEPALIVE, PUBLIC_KEY, keepalive};
use crate::source::manifest::reader::{Fields, Read, Value};
use crate::source::manifest::scalar;
use crate::source::manifest::schema::{Accepts, Field, Literal};

/// The source of a private key.
pub(super) const PRIVATE_KEY: Accepts = Accepts::Either(&[Accepts::Words(&["node"]), Accepts::Map(&KEY)]);
/// The table of the routes to allowed IPs.
pub(super) const ROUTES: Accepts = Accepts::Either(&[
    Accepts::Words(&["auto", "off"]),
    Accepts::Integer(1, 0xffff_ffff),
    Accepts::Text("main"),
]);

/// The fields of a `WireGuardInterface`.
pub(in crate::source::manifest) const FIELDS: [Field; 10] = [
    NODE,
    NAMESPACE,
    LINK_NAME,
    Field::optional(
        "privateKey",
        PRIVATE_KEY,
        "created by the agent",
        "Private key: a file, a credential, or `node` for the key of the overlay links of the node. If absent, the agent creates \
         `wireguard/NAME.key` in its state directory.",
    ),
    Field::or(
        "listenPort",
        Accepts::Integer(0, 65_535),
        Literal::Integer(0),
        "UDP port; 0 lets the kernel choose.",
    ),
    Field::or(
        "fwMark",
        Accepts::Either(&[
            Accepts::Words(&["off"]),
            Accepts::Integer(0, 0xffff_ffff),
            Accepts::Text("0xca6c"),
        ]),
        Literal::Text("off"),
        "Firewall mark of the packets that the device sends.",
    ),
    ADDRESSES,
    Field::optional("mtu", MTU, "chosen by the kernel (1420)", "MTU in bytes."),
    Field::or(
        "table",
        ROUTES,
        Literal::Text("auto"),
        "Table of the routes to allowed IPs: `auto` uses the main table, except for default routes; `off` creates no routes.",
    ),
    Field::or(
        "peers",
        Accepts::List(&Accepts::Map(&PEER)),
        Literal::List(&[]),
        "Peers of the device.",
    ),
];

const KEY: [Field; 2] = [
    Field::optional(
        "file",
        Accepts::Text("/etc/adit/wg0.key"),
        "none",
        "File with the key, mode 0600.",
    ),
    Field::optional(
        "credential",
        Accepts::Text("wg0.key"),
        "none",
        "Name of a systemd credential (`LoadCredential=`).",
    ),
];

const PEER: [Field; 6] = [
    Field::optional(
        "name",
        Accepts::Text("laptop"),
        "none",
        "Name of the peer, which only helps readers.",
    ),
    Field::required(
        "publicKey",
        PUBLIC_KEY,
        "the public key of the peer",
        "Public key of the peer.",
    ),
    Field::optional(
        "presharedKeyFile",
        Accepts::Text("/etc/adit/psk"),
        "none",
        "File with the preshared key, mode 0600.",
    ),
    Field::optional(
        "endpoint",
        Accepts::Text("192.0.2.2:51820"),
        "the peer connects first",
        "Address or name of the peer, with a port. A link-local address needs its device: `[fe80::1%eth0]:51820`.",
    ),
    Field::or(
        "allowedIPs",
        Accepts::List(&Accepts::Text("10.0.0.2/32")),
        Literal::List(&[]),
        "Prefixes that are routed to the peer and accepted from it. The prefixes of two peers may be nested, but not equal.",
    ),
    Field::or(
        "persistentKeepalive",
        KEEPALIVE,
        Literal::Text("off"),
        "Interval of keepalives: a number of seconds, or a duration such as `25s`.",
    ),
];

/// Reads the `spec`.
pub(in crate::source::manifest) fn read(
    name: &str,
    spec: &Value<'_>,
) -> Read<Namespaced<WireGuardInterface>> {
    let fields = spec.map(&FIELDS)?;
    let nodes = nodes(&fields);
    let namespace = namespace(&fields);
    let end = end(name, &fields);
    let key = fields.optional("privateKey", key);
    let listen_port = fields.integer("listenPort");
    let fwmark = fields.or("fwMark", mark);
    let routes = fields.or("table", routes);
    let peers = fields.or("peers", peers);
    Ok(Namespaced {
        nodes: nodes?,
        namespace: namespace?,
        object: WireGuardInterface {
            end: end?,
            key: Some(key?.unwrap_or_else(|| KeySource::Generated(name.to_owned()))),
            listen_port: listen_port?,
            fwmark: fwmark?,
            routes: routes?,
            rules_at: BTreeMap::new(),
            peers: peers?,
        },
    })
}

fn end(default_name: &str, fields: &Fields<'_>) -> Read<InterfaceEnd> {
    let name = named(default_name, fields);
    let addresses = fields.or("addresses", addresses);
    let mtu = fields.optional_integer("mtu");
    let (name, alias) = name?;
    Ok(InterfaceEnd {
        name,
        alias,
        addresses: addresses?,
        mtu: mtu?,
        mac: None,
        up: true,
        // As the kernel creates WireGuard devices.
        arp: false,
        keep_link_local: false,
    })
}

/// `{ file }` or `{ credential }`, or `node` for the key of the overlay links of the node.
pub(super) fn key(value: &Value<'_>) -> Read<KeySource> {
    if value.is_text() {
        // The text is not shown: a user who mistakes the field writes the key itself.
        return match value.is("node") {
            true => Ok(KeySource::Node),
            false => Err(value.reject(
                "expected `node`, `{ file: PATH }` or `{ credential: NAME }`; don't write keys into manifests",
            )),
        };
    }
    let given = value.map(&KEY)?;
    let file = given.optional("file", |value| value.parse(scalar::absolute_path));
    let credential = given.optional("credential", |value| {
        value.parse(|text| {
            let fine = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            match !text.is_empty() && !text.starts_with('.') && text.chars().all(fine) {
                true => Ok(text.to_owned()),
                false => {
                    Err("expected the name of a credential: letters, digits, `_`, `.` and `-`".to_owned())
                }
            }
        })
    });
    match (file?, credential?) {
        (Some(file), None) => Ok(KeySource::File(file)),
        (None, Some(credential)) => Ok(KeySource::Credential(credential)),
        (None, None) => Err(value.reject("empty; give `file` or `credential`")),
        (Some(_), Some(_)) => Err(value.reject("give `file` or `credential`, not both")),
    }
}

/// A number, or hexadecimal text.
fn mark(value: &Value<'_>) -> Read<u32> {
    if value.is_integer() {
        return value.integer(0..=u32::MAX);
    }
    value.parse(|text| {
        let digits = text.strip_prefix("0x");
        let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match (text, number) {
            ("off", _) => Ok(0),
            (_, Some(number)) => Ok(number),
            _ => Err(format!(
                "`{text}` is not a mark; expected a number, for example `0xca6c`, or `off`"
            )),
        }
    })
}

pub(super) fn routes(value: &Value<'_>) -> Read<AllowedIpRoutes> {
    if value.is("off") {
        return Ok(AllowedIpRoutes::Off);
    }
    if value.is("auto") {
        return Ok(AllowedIpRoutes::Auto);
    }
    table_or(value, &["off", "auto"]).map(AllowedIpRoutes::Table)
}

/// The peers, sorted by key, because the written order has no meaning.
fn peers(value: &Value<'_>) -> Read<Vec<Peer>> {
    let items = value.list("a list of peers")?;
    let read = items.iter().map(peer).collect::<Vec<_>>();
    let mut peers = read.into_iter().collect::<Read<Vec<_>>>()?;
    let mut known: BTreeMap<PublicKey, &Peer> = BTreeMap::new();
    for (item, peer) in items.iter().zip(&peers) {
        let key = peer.public_key;
        if let Some(before) = known.insert(key, peer) {
            let before = before.name.clone().unwrap_or_else(|| key.to_string());
            return Err(item.reject(format!(
                "peer {before} already has this public key; give each peer its own"
            )));
        }
    }
    let prefixes = |(index, peer): (usize, &Peer)| {
        peer.allowed_ips
            .clone()
            .into_iter()
            .map(move |prefix| (prefix, index))
    };
    match shared(peers.iter().enumerate().flat_map(prefixes)) {
        None => {
            peers.sort_by_key(|peer| peer.public_key);
            Ok(peers)
        }
        Some((prefix, first, second)) => Err(items[second].reject(format!(
            "allowed IP {prefix} is also given in peers[{first}]; remove one, because WireGuard sends each prefix to only one peer"
        ))),
    }
}

fn peer(value: &Value<'_>) -> Read<Peer> {
    let fields = value.map(&PEER)?;
    let name = fields.optional("name", |value| value.text().map(str::to_owned));
    let key = fields.required("publicKey", |value| value.parse(scalar::public_key));
    let preshared_key_file = fields.optional("presharedKeyFile", |value| value.parse(scalar::absolute_path));
    let endpoint = fields.optional("endpoint", |value| value.parse(scalar::endpoint_here));
    let allowed_ips = fields.or("allowedIPs", |value| {
        let prefixes = value.each("a list of CIDRs", |item| item.parse(prefix))?;
        Ok(prefixes.into_iter().collect::<BTreeSet<IpNet>>())
    });
    let keepalive = fields.or("persistentKeepalive", keepalive);
    Ok(Peer {
        public_key: key?,
        name: name?,
        endpoint: endpoint?,
        allowed_ips: allowed_ips?.into_iter().collect(),
        keepalive: keepalive?.unwrap_or(0),
        preshared_key: preshared_key_file?.map(PresharedSource::File),
    })
}
