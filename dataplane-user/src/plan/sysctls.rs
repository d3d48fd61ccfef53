//! Settings of overlay devices; never those of `all` and `default`.

use crate::model::{KernelState, Sysctl};

use crate::model::devices::ANCHOR;

/// Loose: an answer may take another path than the packet. The kernel uses the larger value of this setting
/// and the one of `all`, so that a strict `all` (1) becomes loose here. That is necessary, because the source
/// of a decapsulated packet is routed through the anchor device.
const RP_FILTER_LOOSE: &str = "2";

pub(super) fn plan(desired: &mut KernelState) {
    for name in desired.links.keys().filter(|name| name.as_str() != ANCHOR) {
        desired
            .sysctls
            .insert((name.clone(), Sysctl::RpFilter), RP_FILTER_LOOSE.to_owned());
    }
}
