//! Checks across networks.

use ipnet::IpNet;

use super::super::error::{ManifestError, Positioned};
use super::Declared;
use crate::net::NetworkName;

/// A prefix and the name of its network.
type Owned<'a> = (&'a Positioned<IpNet>, &'a NetworkName);

/// Checks all networks.
pub(super) fn check(declared: &Declared, errors: &mut Vec<ManifestError>) {
    prefixes(declared, errors);
    ports(declared, errors);
}

/// Prefixes must be disjoint, within a network and between networks.
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
    // Sorted by address, wider prefixes first: a prefix that overlaps an earlier one is contained in the last
    // prefix that overlapped none.
    all.sort_by_key(|(prefix, _)| (prefix.value, &prefix.position));
    let mut widest = None;
    for narrow in all {
        let overlapping = widest.filter(|(wide, _): &Owned<'_>| wide.value.contains(&narrow.0.value));
        let Some(wide) = overlapping else {
            widest = Some(narrow);
            continue;
        };
        let (first, second) = if wide.0.position <= narrow.0.position {
            (wide, narrow)
        } else {
            (narrow, wide)
        };
        let (prefix, name) = first;
        errors.push(second.0.error(format!(
            "`{}` overlaps `{}` of TunnelNetwork `{name}` at {}; prefixes of networks must be disjoint",
            second.0.value, prefix.value, prefix.position
        )));
    }
}

/// Networks must have equal ports, because they share devices.
fn ports(declared: &Declared, errors: &mut Vec<ManifestError>) {
    let mut networks = declared.networks.values().collect::<Vec<_>>();
    networks.sort_by_key(|network| &network.ports.position);
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
                "the port of {encapsulation} is {mine} here and {theirs} in TunnelNetwork `{}` at {}; give both the same, because networks share devices",
                first.network.name, first.ports.position
            )));
        }
        if mine.vxlan_source != theirs.vxlan_source {
            errors.push(network.ports.error(format!(
                "vxlanSource differs from that of TunnelNetwork `{}` at {}; give both the same, because networks share devices",
                first.network.name, first.ports.position
            )));
        }
    }
}
