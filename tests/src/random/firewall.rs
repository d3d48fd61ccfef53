//! Random firewall settings of networks, and damage of the nft table.

use std::collections::BTreeSet;

use dataplane_user::model::Firewall;
use dataplane_user::model::firewall::{Action, Chain};
use dataplane_user::net::Encapsulation;
use dataplane_user::resource::FirewallOptions;
use ipnet::IpNet;

/// A random masquerade setting, or none.
pub(super) fn masquerade(draft: u8) -> Option<BTreeSet<IpNet>> {
    let excluded = ["192.168.0.0/16", "2001:db8:1::/48"].map(|text| text.parse().expect("a CIDR"));
    match draft % 4 {
        0 | 1 => None,
        2 => Some(BTreeSet::new()),
        _ => Some(excluded.into()),
    }
}

/// A random setting.
pub(super) fn options(draft: u8) -> FirewallOptions {
    let nothing = FirewallOptions {
        clamp_mss: false,
        accept_forward: false,
        notrack: BTreeSet::new(),
        ..FirewallOptions::default()
    };
    match draft {
        0 | 4 => nothing,
        1 | 5 => FirewallOptions {
            notrack: BTreeSet::from([Encapsulation::WireGuard]),
            ..nothing
        },
        2 | 6 => FirewallOptions {
            protect_ports: true,
            ..FirewallOptions::default()
        },
        _ => FirewallOptions::default(),
    }
}

/// Deletes the table, changes it, or replaces it by an unmanaged one.
pub(super) fn harm(firewall: &mut Option<Firewall>, how: u8) {
    match (how, firewall) {
        (0, table) => *table = None,
        (1, table) => *table = Some(Firewall::not_managed()),
        (2, Some(table)) => drop(table.chains.pop_first()),
        (_, Some(table)) => table.push(Chain::Forward, Vec::new(), Action::Drop),
        (_, None) => {}
    }
}
