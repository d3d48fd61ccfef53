//! Firewall options of a network.

use std::collections::BTreeSet;

use crate::net::Encapsulation;

/// Firewall options of a network. Devices are shared, so each option except `drop_cleartext` applies to all
/// networks of a node if one of them sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallOptions {
    /// Whether the MSS of TCP connections is reduced to what fits into the tunnels.
    pub clamp_mss: bool,
    /// Whether packets that are forwarded from tunnel to tunnel are accepted.
    pub accept_forward: bool,
    /// The encapsulations whose outer UDP connections are not tracked.
    pub notrack: BTreeSet<Encapsulation>,
    /// Whether only peers may send to the ports of GENEVE and VXLAN.
    pub protect_ports: bool,
    /// TCP and UDP ports that stay open to everybody while tunnel ports are protected.
    pub management_ports: BTreeSet<u16>,
    /// Whether cleartext packets with a source in the overlay are dropped; `None`: if source protection is
    /// `enforce`.
    pub drop_cleartext: Option<bool>,
}

impl Default for FirewallOptions {
    /// Tracked connections of GENEVE and VXLAN never see an answer, because their source ports are hashes of
    /// the inner packet. Those of WireGuard do, and the machine's own firewall may depend on them.
    fn default() -> FirewallOptions {
        FirewallOptions {
            clamp_mss: true,
            accept_forward: true,
            notrack: BTreeSet::from([Encapsulation::Geneve, Encapsulation::Vxlan]),
            protect_ports: false,
            management_ports: BTreeSet::from([22]),
            drop_cleartext: None,
        }
    }
}
