//! Default destinations of VXLAN devices.

use super::order::{Condition, Needs};
use crate::model::change::{Existence, NetlinkChange};
use crate::model::{ChangeSet, KernelState};
use crate::net::LinkName;

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for (name, wanted) in &target.flood {
        let found = observed.flood.get(name).cloned().unwrap_or_default();
        for to in wanted.difference(&found) {
            set.push(NetlinkChange::Flood(name.clone(), *to, Existence::Create));
        }
        for to in found.difference(wanted) {
            set.push(NetlinkChange::Flood(name.clone(), *to, Existence::Delete));
        }
    }
}

pub(super) fn needs<'a>(link: &'a LinkName, existence: Existence, needs: &mut Needs<'a>) {
    if existence == Existence::Create {
        needs.requires(Condition::Link(link));
    }
}
