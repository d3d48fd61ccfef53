//! What `NetlinkInterface`, `WireGuardInterface`, `NetlinkRoute` and `NetlinkRule` have in common: nodes, namespaces, names of devices.

pub(super) mod interface;
pub(super) mod plan;
pub(super) mod route;
pub(super) mod rule;
pub(super) mod wireguard;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::error::Located;
use super::reader::{Fields, Read, Value};
use super::scalar;
use super::schema::{Field, Literal, Takes};
use super::suggest::hint;
use crate::model::MAIN_TABLE;
use crate::net::family::host_prefix;
use crate::net::{LinkName, Namespace, NodeName, Runtime};
use crate::resource::WireGuardInterface;
use crate::resource::netlink::{NetlinkInterface, NetlinkObjects, NetlinkRoute, NetlinkRule, Placed};
use crate::source::numbers;

/// Devices that the overlays make by themselves begin with this.
const RESERVED: &str = "adit";

/// The node, or nodes, of an object.
const NODE: Field = Field::required(
    "node",
    Takes::Either(&[Takes::Text("a"), Takes::List(&Takes::Text("a"))]),
    "a node's name, or a list of names",
    "Name of the node, or of several. It is compared with `--node` and needs no TunnelNode.",
);
/// Where an object is.
const NAMESPACE: Field = Field::optional(
    "namespace",
    Takes::Map(&NAMESPACES),
    "the agent's",
    "Another network namespace; one of these.",
);
const NAMESPACES: [Field; 4] = [
    Field::optional(
        "name",
        Takes::Text("blue"),
        "none",
        "Its name, as `ip netns` lists it.",
    ),
    Field::optional("path", Takes::Text("/run/netns/blue"), "none", "Its file."),
    Field::optional("pid", Takes::Integer(1, 0x7fff_ffff), "none", "A process in it."),
    Field::optional("container", Takes::Map(&CONTAINER), "none", "A container in it."),
];
const CONTAINER: [Field; 2] = [
    Field::required(
        "runtime",
        Takes::Words(&["podman", "docker", "crun"]),
        "podman, docker or crun",
        "What runs the container.",
    ),
    Field::required(
        "name",
        Takes::Text("web"),
        "the container's name",
        "The container's name.",
    ),
];
/// The name of a device that is created.
const LINK_NAME: Field = Field::optional(
    "name",
    Takes::Text("wg0"),
    "the manifest's name",
    "Name of the device. One of more than 15 bytes is cut to ten, a dash and four hexadecimal digits, and kept as alias.",
);
/// A device's MTU.
const MTU: Takes = Takes::Integer(68, 65_535);
/// Addresses of a device.
const ADDRESSES: Field = Field::or(
    "addresses",
    Takes::List(&Takes::Either(&[
        Takes::Text("10.0.0.1/24"),
        Takes::Map(&ADDRESS),
    ])),
    Literal::List(&[]),
    "Addresses; one without a prefix length is a /32 or /128. Managed addresses that are not listed are deleted.",
);
const ADDRESS: [Field; 2] = [
    Field::required(
        "address",
        Takes::Text("10.0.0.1"),
        "the device's address",
        "Address of this end.",
    ),
    Field::optional(
        "peer",
        Takes::Text("10.0.0.2/32"),
        "none",
        "Address of the other end.",
    ),
];
/// A routing table.
const TABLE: Takes = Takes::Either(&[Takes::Integer(1, 0xffff_ffff), Takes::Text("main")]);

/// All of them, with the places that others must not contradict.
#[derive(Debug, Default)]
pub(super) struct DeclaredObjects {
    pub(super) interfaces: Vec<(Located<String>, Placed<NetlinkInterface>)>,
    pub(super) wireguard: Vec<(Located<String>, Placed<WireGuardInterface>)>,
    pub(super) routes: Vec<(Located<String>, Placed<NetlinkRoute>)>,
    pub(super) rules: Vec<(Located<String>, Placed<NetlinkRule>)>,
}

impl DeclaredObjects {
    pub(super) fn into_objects(self) -> NetlinkObjects {
        fn named<T>(declared: Vec<(Located<String>, T)>) -> std::collections::BTreeMap<String, T> {
            let named = declared.into_iter().map(|(name, object)| (name.value, object));
            named.collect()
        }
        NetlinkObjects {
            interfaces: named(self.interfaces),
            wireguard: named(self.wireguard),
            routes: named(self.routes),
            rules: named(self.rules),
        }
    }
}

/// `spec.node`: a name, or several.
fn nodes(fields: &Fields<'_>) -> Read<BTreeSet<NodeName>> {
    fields.required("node", |value| {
        let node =
            |value: &Value<'_>| value.parse(|text| NodeName::new(text).map_err(|error| error.to_string()));
        if !value.is_list() {
            return Ok(BTreeSet::from([node(value)?]));
        }
        let nodes = value.each("a list of names", node)?;
        if nodes.is_empty() {
            return Err(value.refuse("empty; give at least one node's name"));
        }
        Ok(nodes.into_iter().collect())
    })
}

/// `spec.namespace`; absent: the agent's own.
fn namespace(fields: &Fields<'_>) -> Read<Option<Namespace>> {
    fields.optional("namespace", |value| {
        let given = value.map(&NAMESPACES)?;
        let name = given.optional("name", |value| {
            value.parse(|text| match text {
                "" | "." | ".." => Err(format!("`{text}` is no namespace's name")),
                text if text.contains('/') => Err(format!("`{text}` is a path; `path` takes it")),
                text => Ok(Namespace::Name(text.to_owned())),
            })
        });
        let path = given.optional("path", |value| {
            value.parse(scalar::absolute_path).map(Namespace::Path)
        });
        let pid = given.optional("pid", |value| Ok(Namespace::Pid(given.in_range("pid", value)?)));
        let container = given.optional("container", container);
        let mut given = [name?, path?, pid?, container?].into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(namespace), None) => Ok(namespace),
            (None, _) => Err(value.refuse("empty; give one of `name`, `path`, `pid`, `container`")),
            (Some(_), Some(_)) => {
                Err(value.refuse("give one of `name`, `path`, `pid`, `container`, not several"))
            }
        }
    })
}

fn container(value: &Value<'_>) -> Read<Namespace> {
    let fields = value.map(&CONTAINER)?;
    let runtime = fields.required("runtime", |value| {
        value.word(&Runtime::ALL.map(|runtime| (runtime.name(), runtime)))
    });
    let name = fields.required("name", |value| {
        value.parse(|text| {
            // It becomes an argument of the runtime's program.
            let fine = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            match text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fine) {
                true => Ok(text.to_owned()),
                false => Err(format!(
                    "`{text}` is no container's name: letters, digits, `_`, `.` and `-`"
                )),
            }
        })
    });
    Ok(Namespace::Container {
        runtime: runtime?,
        name: name?,
    })
}

/// A device's name that may be too long for the kernel, and is cut then.
fn link(value: &Value<'_>) -> Read<LinkName> {
    value.parse(|text| LinkName::shortened(text).map_err(|error| error.to_string()))
}

/// The name of a device: `spec.name`, else the manifest's.
fn named(default_name: &str, fields: &Fields<'_>) -> Read<(LinkName, Option<String>)> {
    match fields.get("name") {
        Some(value) => value.text().and_then(|text| own_link(&value, text)),
        None => own_link(fields.value(), default_name),
    }
}

/// The name of a device that is made.
fn own_link(value: &Value<'_>, text: &str) -> Read<(LinkName, Option<String>)> {
    let name = LinkName::shortened(text).map_err(|error| value.refuse(error.to_string()))?;
    let reserved = name.as_str() == "adit0" || name.as_str().starts_with("adit-");
    if reserved || name.as_str() == "lo" || ["all", "default"].contains(&name.as_str()) {
        return Err(value.refuse(format!(
            "`{name}` can't be made: `lo`, `all`, `default`, `{RESERVED}0` and `{RESERVED}-…` have other meanings"
        )));
    }
    let alias = (name.as_str() != text).then(|| text.to_owned());
    Ok((name, alias))
}

/// An address of any kind, without prefix length.
fn any_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no IP address"))
}

/// A prefix without host bits; an address alone is /32 or /128.
fn prefix(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(host_prefix(address)),
        Err(_) => scalar::cidr(text),
    }
}

/// Numbers of routing tables, and the names that the machine's iproute2 has for them.
fn table(value: &Value<'_>) -> Read<u32> {
    table_or(value, &[])
}

/// The same; what the field takes beside tables is for hints.
fn table_or(value: &Value<'_>, other_words: &[&str]) -> Read<u32> {
    if !value.is_text() {
        return value.integer(1..=u32::MAX);
    }
    if value.is("main") {
        // Whatever the machine's lists say, and without a look at them.
        return Ok(MAIN_TABLE);
    }
    value.parse(|name| match numbers::table(name)? {
        Some(table) if table > 0 => Ok(table),
        _ => {
            let known = other_words.iter().copied().chain(["main", "local", "default"]);
            let hint = hint(name, known);
            Err(format!(
                "neither a number nor a name in /etc/iproute2/rt_tables: `{name}`; {hint}"
            ))
        }
    })
}
