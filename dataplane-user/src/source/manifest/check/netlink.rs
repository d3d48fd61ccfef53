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
    let mut first: BTreeMap<Device<'_>, &Located<String>> = BTreeMap::new();
    for (name, placed) in &declared.netlink.interfaces {
        let mut ends = vec![(placed.namespace.as_ref(), &placed.object.end.name)];
        if let InterfaceKind::Veth { peer, namespace } = &placed.object.kind {
            ends.push((namespace.as_ref(), &peer.name));
        }
        let devices = placed
            .nodes
            .iter()
            .flat_map(|node| ends.iter().map(move |(at, name)| (node, *at, *name)));
        for device in devices {
            let Some(before) = first.insert(device, name) else {
                continue;
            };
            let (node, _, device) = device;
            errors.push(name.error(format!(
                "device `{device}` of node `{node}` is already declared by NetlinkInterface `{}` at {}; give one another `spec.name`",
                before.value, before.place
            )));
        }
    }
}
