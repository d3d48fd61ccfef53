//! What a `TunnelNetwork` asks of the node's firewall.

use super::reader::{Read, Value};
use crate::resource::{Encapsulation, FirewallOptions};

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
    Ok(FirewallOptions {
        clamp_mss: clamp_mss?,
        accept_forward: accept_forward?,
        notrack: notrack?,
        protect_ports: protect_ports?,
        management_ports: management_ports?,
    })
}
