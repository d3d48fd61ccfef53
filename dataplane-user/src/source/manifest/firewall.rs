//! What a `TunnelNetwork` and a `TunnelNode` ask of the node's firewall.

use std::collections::BTreeSet;

use super::reader::{Read, Value};
use super::schema::{Field, Literal, Takes};
use crate::model::devices;
use crate::net::Encapsulation;
use crate::net::LinkName;
use crate::resource::FirewallOptions;
use crate::resource::node::RETURN_PATHS;

/// What has outer UDP.
const UDP: [(&str, Encapsulation); 3] = [
    ("geneve", Encapsulation::Geneve),
    ("vxlan", Encapsulation::Vxlan),
    ("wireguard", Encapsulation::WireGuard),
];

/// Those of a network's `firewall`.
pub(super) const FIELDS: [Field; 6] = [
    Field::or(
        "clampMss",
        Takes::Boolean,
        Literal::Boolean(true),
        "Lower the MSS of TCP connections through overlay devices to what the paths there and back can transmit.",
    ),
    Field::or(
        "acceptForward",
        Takes::Boolean,
        Literal::Boolean(true),
        "Accept what is forwarded from tunnel to tunnel.",
    ),
    Field::or(
        "notrack",
        Takes::List(&Takes::Words(&["geneve", "vxlan", "wireguard"])),
        Literal::List(&[Literal::Text("geneve"), Literal::Text("vxlan")]),
        "Encapsulations whose outer UDP packets connection tracking ignores.",
    ),
    Field::or(
        "protectPorts",
        Takes::Boolean,
        Literal::Boolean(false),
        "Let only underlay addresses of peers reach the ports of GENEVE and VXLAN.",
    ),
    Field::or(
        "managementPorts",
        Takes::List(&Takes::Integer(1, 65_535)),
        Literal::List(&[Literal::Integer(22)]),
        "TCP and UDP ports that stay open to everybody where ports are protected.",
    ),
    Field::optional(
        "dropCleartext",
        Takes::Boolean,
        "`true` where `sourceProtection` is `enforce`",
        "Drop plain packets that pretend to come from the overlay. See “Plain packets”.",
    ),
];

/// Those of a node's `firewall`.
pub(super) const OF_NODE: [Field; 1] = [Field::or(
    "returnPath",
    Takes::List(&Takes::Text("eth1")),
    Literal::List(&[]),
    "Devices by which the answers of connections leave that came in by them, 15 at most. See “Return path”.",
)];

pub(super) fn firewall(value: &Value<'_>) -> Read<FirewallOptions> {
    let fields = value.map(&FIELDS)?;
    let clamp_mss = fields.boolean("clampMss");
    let accept_forward = fields.boolean("acceptForward");
    let notrack = fields.or("notrack", |value| {
        let encapsulations = value.each("a list of encapsulations", |item| item.word(&UDP))?;
        Ok(encapsulations.into_iter().collect())
    });
    let protect_ports = fields.boolean("protectPorts");
    let management_ports = fields.or("managementPorts", |value| {
        let ports = value.each("a list of ports", |item| item.integer(1..=u16::MAX))?;
        Ok(ports.into_iter().collect())
    });
    let drop_cleartext = fields.optional("dropCleartext", Value::boolean);
    Ok(FirewallOptions {
        clamp_mss: clamp_mss?,
        accept_forward: accept_forward?,
        notrack: notrack?,
        protect_ports: protect_ports?,
        management_ports: management_ports?,
        drop_cleartext: drop_cleartext?,
    })
}

/// A node's own part: the devices by which answers go back, by what they are asked for.
pub(super) fn of_node(value: &Value<'_>) -> Read<BTreeSet<LinkName>> {
    let fields = value.map(&OF_NODE)?;
    fields.or("returnPath", return_path)
}

fn return_path(value: &Value<'_>) -> Read<BTreeSet<LinkName>> {
    let items = value.list("a list of devices")?;
    let mut devices = BTreeSet::new();
    let mut first = None;
    for item in &items {
        let read = item.parse(|text| LinkName::new(text).map_err(|error| error.to_string()));
        let checked = read.and_then(|name| usable(item, name)).and_then(|name| {
            if devices.contains(&name) {
                return Err(item.refuse(format!("`{name}` is given twice")));
            }
            Ok(name)
        });
        match checked {
            Ok(name) => drop(devices.insert(name)),
            Err(reported) => first = first.or(Some(reported)),
        }
    }
    if items.len() > RETURN_PATHS {
        let message = format!(
            "{} devices; {RETURN_PATHS} at most can be told apart",
            items.len()
        );
        return Err(value.refuse(message));
    }
    first.map_or(Ok(devices), Err)
}

/// A device that connections come in by, and that packets can be sent by without more.
fn usable(item: &Value<'_>, name: LinkName) -> Read<LinkName> {
    if devices::is_ours(&name) {
        return Err(item.refuse(format!(
            "`{name}` is Adit's own; what comes in by it goes back into the overlay anyway"
        )));
    }
    if ["lo", "all", "default"].contains(&name.as_str()) {
        return Err(item.refuse(format!("`{name}` is no device that connections come in by")));
    }
    Ok(name)
}
