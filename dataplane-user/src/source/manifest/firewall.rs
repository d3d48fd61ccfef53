//! What a `TunnelNetwork` and a `TunnelNode` ask of the node's firewall.

use std::collections::BTreeSet;

use super::reader::{Read, Value};
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

pub(super) fn firewall(value: &Value<'_>) -> Read<FirewallOptions> {
    let fields = value.map(&[
        "clampMss",
        "acceptForward",
        "notrack",
        "protectPorts",
        "managementPorts",
        "dropCleartext",
    ])?;
    let default = FirewallOptions::default();
    let clamp_mss = fields.or("clampMss", default.clamp_mss, Value::boolean);
    let accept_forward = fields.or("acceptForward", default.accept_forward, Value::boolean);
    let notrack = fields.or("notrack", default.notrack, |value| {
        let encapsulations = value.each("a list of encapsulations", |item| item.word(&UDP))?;
        Ok(encapsulations.into_iter().collect())
    });
    let protect_ports = fields.or("protectPorts", default.protect_ports, Value::boolean);
    let management_ports = fields.or("managementPorts", default.management_ports, |value| {
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
    let fields = value.map(&["returnPath"])?;
    fields.or("returnPath", BTreeSet::new(), return_path)
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
