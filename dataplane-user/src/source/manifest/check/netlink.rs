//! Declared kernel objects beside each other.

use std::collections::BTreeMap;

use super::super::error::{Located, ManifestError};
use super::Declared;
use crate::net::{LinkName, Namespace, NodeName};
use crate::resource::netlink::InterfaceKind;

/// A device: on which node, in which namespace, by which name.
type Device<'a> = (&'a NodeName, Option<&'a Namespace>, &'a LinkName);

/// A device is declared once.
pub(super) fn check(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let mut first: BTreeMap<Device<'_>, (&str, &Located<String>)> = BTreeMap::new();
    let mut add = |kind, name, device| {
        let Some((before_kind, before)) = first.insert(device, (kind, name)) else {
            return;
        };
        let (node, _, device) = device;
        errors.push(name.error(format!(
            "device `{device}` of node `{node}` is already declared by {before_kind} `{}` at {}; give one another `spec.name`",
            before.value, before.place
        )));
    };
    for (name, placed) in &declared.netlink.interfaces {
        let mut ends = vec![(placed.namespace.as_ref(), &placed.object.end.name)];
        if let InterfaceKind::Veth { peer, namespace } = &placed.object.kind {
            ends.push((namespace.as_ref(), &peer.name));
        }
        for node in &placed.nodes {
            ends.iter()
                .for_each(|(at, end)| add("NetlinkInterface", name, (node, *at, *end)));
        }
    }
    for (name, placed) in &declared.netlink.wireguard {
        let at = placed.namespace.as_ref();
        for node in &placed.nodes {
            add("WireGuardInterface", name, (node, at, &placed.object.end.name));
        }
    }
}
