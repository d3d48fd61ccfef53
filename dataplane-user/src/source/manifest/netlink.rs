//! Fields that `NetlinkInterface`, `WireGuardInterface`, `NetlinkRoute` and `NetlinkRule` have in common:
//! nodes, namespaces, names of devices.

pub(super) mod interface;
pub(super) mod plan;
pub(super) mod route;
pub(super) mod rule;
pub(super) mod wireguard;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::error::Positioned;
use super::reader::{Fields, Read, Value};
use super::scalar;
use super::schema::{Accepts, Field, Literal};
use super::suggest::hint;
use crate::model::MAIN_TABLE;
use crate::net::family::host_prefix;
use crate::net::{LinkName, Namespace, NodeName, Runtime};
use crate::resource::WireGuardInterface;
use crate::resource::netlink::{Namespaced, NetlinkInterface, NetlinkObjects, NetlinkRoute, NetlinkRule};
use crate::source::numbers;

/// The names of the devices that overlays create begin with this.
const RESERVED: &str = "adit";

/// The node, or nodes, of an object.
const NODE: Field = Field::required(
    "node",
    Accepts::Either(&[Accepts::Text("a"), Accepts::List(&Accepts::Text("a"))]),
    "the name of a node, or a list of names",
    "Name of the node, or a list of names. It is compared with `--node`; a TunnelNode is not needed.",
);
/// The network namespace of an object.
const NAMESPACE: Field = Field::optional(
    "namespace",
    Accepts::Map(&NAMESPACES),
    "that of the agent",
    "Another network namespace, given by exactly one of these fields.",
);
const NAMESPACES: [Field; 4] = [
    Field::optional(
        "name",
        Accepts::Text("blue"),
        "none",
        "Name of the namespace, as `ip netns` lists it.",
    ),
    Field::optional(
        "path",
        Accepts::Text("/run/netns/blue"),
        "none",
        "File of the namespace.",
    ),
    Field::optional(
        "pid",
        Accepts::Integer(1, 0x7fff_ffff),
        "none",
        "Id of a process in the namespace.",
    ),
    Field::optional(
        "container",
        Accepts::Map(&CONTAINER),
        "none",
        "Container whose namespace is used.",
    ),
];
const CONTAINER: [Field; 2] = [
    Field::required(
        "runtime",
        Accepts::Words(&["podman", "docker", "crun"]),
        "podman, docker or crun",
        "Runtime of the container.",
    ),
    Field::required(
        "name",
        Accepts::Text("web"),
        "the name of the container",
        "Name of the container.",
    ),
];
/// The name of a device that is created.
const LINK_NAME: Field = Field::optional(
    "name",
    Accepts::Text("wg0"),
    "the name of the manifest",
    "Name of the device. A name of more than 15 bytes is shortened to ten bytes, a dash and four hexadecimal digits; the full name becomes the alias.",
);
/// The MTU of a device, in bytes.
const MTU: Accepts = Accepts::Integer(68, 65_535);
/// Addresses of a device.
const ADDRESSES: Field = Field::or(
    "addresses",
    Accepts::List(&Accepts::Either(&[
        Accepts::Text("10.0.0.1/24"),
        Accepts::Map(&ADDRESS),
    ])),
    Literal::List(&[]),
    "Addresses of the device; an address without a prefix length is a /32 or /128. Managed addresses that are not listed are deleted.",
);
const ADDRESS: [Field; 2] = [
    Field::required(
        "address",
        Accepts::Text("10.0.0.1"),
        "the address of the device",
        "Address of this end.",
    ),
    Field::optional(
        "peer",
        Accepts::Text("10.0.0.2/32"),
        "none",
        "Address of the other end.",
    ),
];
/// A routing table.
const TABLE: Accepts = Accepts::Either(&[Accepts::Integer(1, 0xffff_ffff), Accepts::Text("main")]);

/// All declared objects, with the positions of their names for checks across manifests.
#[derive(Debug, Default)]
pub(super) struct DeclaredObjects {
    pub(super) interfaces: Vec<(Positioned<String>, Namespaced<NetlinkInterface>)>,
    pub(super) wireguard: Vec<(Positioned<String>, Namespaced<WireGuardInterface>)>,
    pub(super) routes: Vec<(Positioned<String>, Namespaced<NetlinkRoute>)>,
    pub(super) rules: Vec<(Positioned<String>, Namespaced<NetlinkRule>)>,
}

impl DeclaredObjects {
    pub(super) fn into_objects(self) -> NetlinkObjects {
        fn named<T>(declared: Vec<(Positioned<String>, T)>) -> std::collections::BTreeMap<String, T> {
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
            return Err(value.reject("empty; give the name of at least one node"));
        }
        Ok(nodes.into_iter().collect())
    })
}

/// `spec.namespace`; `None`: the namespace of the agent.
fn namespace(fields: &Fields<'_>) -> Read<Option<Namespace>> {
    fields.optional("namespace", |value| {
        let given = value.map(&NAMESPACES)?;
        let name = given.optional("name", |value| {
            value.parse(|text| match text {
                "" | "." | ".." => Err(format!("`{text}` is not the name of a namespace")),
                text if text.contains('/') => Err(format!("`{text}` is a path; give it as `path`")),
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
            (None, _) => Err(value.reject("empty; give one of `name`, `path`, `pid`, `container`")),
            (Some(_), Some(_)) => {
                Err(value
                    .reject("several fields are given; give only one of `name`, `path`, `pid`, `container`"))
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
            // The name becomes an argument of the program of the runtime.
            let fine = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
            match text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(fine) {
                true => Ok(text.to_owned()),
                false => Err(format!(
                    "`{text}` is not the name of a container; expected letters, digits, `_`, `.` and `-`"
                )),
            }
        })
    });
    Ok(Namespace::Container {
        runtime: runtime?,
        name: name?,
    })
}

/// The name of a device. A name that is too long for the kernel is shortened.
fn link(value: &Value<'_>) -> Read<LinkName> {
    value.parse(|text| LinkName::shortened(text).map_err(|error| error.to_string()))
}

/// The name of a device: `spec.name`, otherwise the name of the manifest. With the full name as alias if it
/// is too long.
fn named(default_name: &str, fields: &Fields<'_>) -> Read<(LinkName, Option<String>)> {
    match fields.get("name") {
        Some(value) => value.text().and_then(|text| own_link(&value, text)),
        None => own_link(fields.value(), default_name),
    }
}

/// Checks the name of a device that is created.
fn own_link(value: &Value<'_>, text: &str) -> Read<(LinkName, Option<String>)> {
    let name = LinkName::shortened(text).map_err(|error| value.reject(error.to_string()))?;
    let reserved = name.as_str() == "adit0" || name.as_str().starts_with("adit-");
    if reserved || name.as_str() == "lo" || ["all", "default"].contains(&name.as_str()) {
        return Err(value.reject(format!(
            "`{name}` is reserved, as are `lo`, `all`, `default`, `{RESERVED}0` and `{RESERVED}-…`; choose another name"
        )));
    }
    let alias = (name.as_str() != text).then(|| text.to_owned());
    Ok((name, alias))
}

/// An address of any kind, without prefix length.
fn any_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not an IP address; expected for example `192.0.2.1` or `2001:db8::1`")
    })
}

/// A prefix without host bits; an address alone is /32 or /128.
fn prefix(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(host_prefix(address)),
        Err(_) => scalar::cidr(text),
    }
}

/// A routing table, as a number or as a name from `rt_tables` of iproute2 on this machine.
fn table(value: &Value<'_>) -> Read<u32> {
    table_or(value, &[])
}

/// As [`table`]. `other_words` are the other words that the field accepts, for hints.
fn table_or(value: &Value<'_>, other_words: &[&str]) -> Read<u32> {
    if !value.is_text() {
        return value.integer(1..=u32::MAX);
    }
    if value.is("main") {
        // Always the same table, whatever `rt_tables` says.
        return Ok(MAIN_TABLE);
    }
    value.parse(|name| match numbers::table(name)? {
        Some(table) if table > 0 => Ok(table),
        _ => {
            let known = other_words.iter().copied().chain(["main", "local", "default"]);
            let hint = hint(name, known);
            Err(format!(
                "`{name}` is neither a number nor a name in /etc/iproute2/rt_tables; {hint}"
            ))
        }
    })
}
