//! The `firewall` fields of `TunnelNetwork` and `TunnelNode`.

use std::collections::BTreeSet;

use super::reader::{Read, Value};
use super::schema::{Accepts, Field, Literal};
use crate::model::devices;
use crate::net::Encapsulation;
use crate::net::LinkName;
use crate::resource::FirewallOptions;
use crate::resource::node::RETURN_PATHS;

/// The encapsulations that use outer UDP.
const UDP: [(&str, Encapsulation); 3] = [
    ("geneve", Encapsulation::Geneve),
    ("vxlan", Encapsulation::Vxlan),
    ("wireguard", Encapsulation::WireGuard),
];

/// The fields of `firewall` in a network.
pub(super) const FIELDS: [Field; 6] = [
    Field::or(
        "clampMss",
        Accepts::Boolean,
        Literal::Boolean(true),
        "Lower the MSS of TCP connections through overlay devices to what the paths in both directions can transmit.",
    ),
    Field::or(
        "acceptForward",
        Accepts::Boolean,
        Literal::Boolean(true),
        "Accept packets that are forwarded from tunnel to tunnel.",
    ),
    Field::or(
        "notrack",
        Accepts::List(&Accepts::Words(&["geneve", "vxlan", "wireguard"])),
        Literal::List(&[Literal::Text("geneve"), Literal::Text("vxlan")]),
        "Encapsulations whose outer UDP packets connection tracking ignores.",
    ),
    Field::or(
        "protectPorts",
        Accepts::Boolean,
        Literal::Boolean(false),
        "Accept packets to the ports of GENEVE and VXLAN only from underlay addresses of peers.",
    ),
    Field::or(
        "managementPorts",
        Accepts::List(&Accepts::Integer(1, 65_535)),
        Literal::List(&[Literal::Integer(22)]),
        "TCP and UDP ports that stay open to all sources if `protectPorts` is `true`.",
    ),
    Field::optional(
        "dropCleartext",
        Accepts::Boolean,
        "`true` if `sourceProtection` is `enforce`, else `false`",
        "Drop packets that claim to come from the overlay but did not arrive through a tunnel. See “Plain packets”.",
    ),
];

/// The fields of `firewall` in a node.
pub(super) const OF_NODE: [Field; 1] = [Field::or(
    "returnPath",
    Accepts::List(&Accepts::Text("eth1")),
    Literal::List(&[]),
    "Devices, at most 15. Answers to connections that arrived on one of them leave by the same device. See “Return path”.",
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

/// The `firewall` field of a node: the devices of `returnPath`.
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
                return Err(item.reject(format!("`{name}` is given twice")));
            }
            Ok(name)
        });
        match checked {
            Ok(name) => drop(devices.insert(name)),
            Err(reported) => first = first.or(Some(reported)),
        }
    }
    if items.len() > RETURN_PATHS {
        let message = format!("{} devices; at most {RETURN_PATHS} are supported", items.len());
        return Err(value.reject(message));
    }
    first.map_or(Ok(devices), Err)
}

/// Checks that connections from other hosts can arrive on a device.
fn usable(item: &Value<'_>, name: LinkName) -> Read<LinkName> {
    if devices::is_overlay_device(&name) {
        return Err(item.reject(format!(
            "`{name}` is a device of Adit, through which answers return anyway; remove it from the list"
        )));
    }
    if ["lo", "all", "default"].contains(&name.as_str()) {
        return Err(item.reject(format!(
            "`{name}` can't receive connections from other hosts; expected a device such as `eth1`"
        )));
    }
    Ok(name)
}
