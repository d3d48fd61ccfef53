//! Networks beside each other.

use ipnet::IpNet;

use super::super::error::{Located, ManifestError};
use super::Declared;
use crate::net::NetworkName;

/// A prefix and its network's name.
type Owned<'a> = (&'a Located<IpNet>, &'a NetworkName);

/// Checks them all.
pub(super) fn check(declared: &Declared, errors: &mut Vec<ManifestError>) {
    prefixes(declared, errors);
    ports(declared, errors);
}

/// Prefixes are disjoint, within a network and between networks.
fn prefixes(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let mut all = Vec::new();
    for network in declared.networks.values() {
        all.extend(
            network
                .prefixes
                .iter()
                .map(|prefix| (prefix, &network.network.name)),
        );
    }
    // In order of addresses, wider ones first: what overlaps any earlier one lies in the last that did not.
    all.sort_by_key(|(prefix, _)| (prefix.value, &prefix.place));
    let mut widest = None;
    for narrow in all {
        let overlapping = widest.filter(|(wide, _): &Owned<'_>| wide.value.contains(&narrow.0.value));
        let Some(wide) = overlapping else {
            widest = Some(narrow);
            continue;
        };
        let (first, second) = if wide.0.place <= narrow.0.place {
            (wide, narrow)
        } else {
            (narrow, wide)
        };
        let (prefix, name) = first;
        errors.push(second.0.error(format!(
            "`{}` overlaps `{}` of TunnelNetwork `{name}` at {}; networks' prefixes must be disjoint",
            second.0.value, prefix.value, prefix.place
        )));
    }
}

/// Devices are shared, so networks agree on ports.
fn ports(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let mut networks = declared.networks.values().collect::<Vec<_>>();
    networks.sort_by_key(|network| &network.ports.place);
    let Some((first, others)) = networks.split_first() else {
        return;
    };
    for network in others {
        let (mine, theirs) = (network.ports.value, first.ports.value);
        let pairs = [
            ("geneve", mine.geneve, theirs.geneve),
            ("vxlan", mine.vxlan, theirs.vxlan),
            ("wireguard", mine.wireguard, theirs.wireguard),
        ];
        for (encapsulation, mine, theirs) in pairs.into_iter().filter(|(_, mine, theirs)| mine != theirs) {
            errors.push(network.ports.error(format!(
                "the port of {encapsulation} is {mine} here and {theirs} in TunnelNetwork `{}` at {}; networks share devices, give them the same",
                first.network.name, first.ports.place
            )));
        }
        if mine.vxlan_source != theirs.vxlan_source {
            errors.push(network.ports.error(format!(
                "vxlanSource is another one in TunnelNetwork `{}` at {}; networks share devices, give them the same",
                first.network.name, first.ports.place
            )));
        }
    }
}
