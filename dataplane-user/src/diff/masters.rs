//! Ports of bridges, and labels of devices.

use crate::model::change::{LinkChange, LinkOperation};
use crate::model::{ChangeSet, KernelState, Owner};
use crate::net::LinkName;

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for (port, bridge) in &target.masters {
        if observed.masters.get(port) != Some(bridge) {
            let set_master = LinkOperation::SetMaster(Some(bridge.clone()));
            set.push(LinkChange(port.clone(), set_master));
        }
    }
    let is_ours = |name: &LinkName| {
        observed
            .links
            .get(name)
            .is_some_and(|link| link.owner == Owner::Ours)
    };
    for (port, bridge) in &observed.masters {
        // Managed ports of bridges that Adit does not manage are left alone, and so are ports of others in
        // managed bridges.
        let stays = target.links.contains_key(port) && target.links.contains_key(bridge);
        if stays && is_ours(port) && is_ours(bridge) && !target.masters.contains_key(port) {
            set.push(LinkChange(port.clone(), LinkOperation::SetMaster(None)));
        }
    }
    for (name, alias) in &target.aliases {
        if observed.aliases.get(name) != Some(alias) {
            let set_alias = LinkOperation::SetAlias(alias.clone());
            set.push(LinkChange(name.clone(), set_alias));
        }
    }
}
