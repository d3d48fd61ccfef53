//! Settings of our own devices; never those of `all` and `default`.

use crate::model::{KernelState, Sysctl};

use crate::model::devices::ANCHOR;

/// Loose: the reply's way may be another than the packet's. The kernel takes the larger of this and `all`'s, so a
/// strict `all` (1) becomes loose here, as it must: a decapsulated packet's source is routed by the anchor device.
const RP_FILTER_LOOSE: &str = "2";

pub(super) fn plan(target: &mut KernelState) {
    for name in target.links.keys().filter(|name| name.as_str() != ANCHOR) {
        target
            .sysctls
            .insert((name.clone(), Sysctl::RpFilter), RP_FILTER_LOOSE.to_owned());
    }
}
