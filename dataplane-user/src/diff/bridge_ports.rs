//! Ports of bridges, and labels of devices.

use crate::model::change::{LinkChange, LinkOperation};
use crate::model::{ChangeSet, KernelState, Owner};
use crate::net::LinkName;

pub(super) fn diff(observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    for (port, bridge) in &desired.masters {
        if observed.masters.get(port) != Some(bridge) {
            let set_master = LinkOperation::SetMaster(Some(bridge.clone()));
            set.push(LinkChange(port.clone(), set_master));
        }
    }
    let is_ours = |name: &LinkName| {
        observed
            .links
            .get(name)
            .is_some_and(|link| link.owner == Owner::Adit)
    };
    for (port, bridge) in &observed.masters {
        // Managed ports of bridges that Adit does not manage are left alone, and so are ports of others in
        // managed bridges.
        let stays = desired.links.contains_key(port) && desired.links.contains_key(bridge);
        if stays && is_ours(port) && is_ours(bridge) && !desired.masters.contains_key(port) {
            set.push(LinkChange(port.clone(), LinkOperation::SetMaster(None)));
        }
    }
    for (name, alias) in &desired.aliases {
        if observed.aliases.get(name) != Some(alias) {
            let set_alias = LinkOperation::SetAlias(alias.clone());
            set.push(LinkChange(name.clone(), set_alias));
        }
    }
}
