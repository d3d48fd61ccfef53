//! Settings of managed devices. A setting that is no longer desired is deleted together with its device.

use crate::model::change::SysctlChange;
use crate::model::{ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    for ((link, sysctl), wanted) in &desired.sysctls {
        if observed.sysctls.get(&(link.clone(), *sysctl)) != Some(wanted) {
            set.push(SysctlChange {
                link: link.clone(),
                sysctl: *sysctl,
                value: wanted.clone(),
            });
        }
    }
}
