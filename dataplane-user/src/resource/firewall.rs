//! What a network asks of the node's firewall.

use std::collections::BTreeSet;

use crate::net::Encapsulation;

/// What a network asks of the node's firewall. Devices are shared, so each option but `drop_cleartext` holds for all of a
/// node's networks as soon as one of them asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallOptions {
    /// Whether TCP's segments are made to fit into the tunnels.
    pub clamp_mss: bool,
    /// Whether what is forwarded from tunnel to tunnel is accepted.
    pub accept_forward: bool,
    /// The encapsulations whose outer UDP connections are not tracked.
    pub notrack: BTreeSet<Encapsulation>,
    /// Whether only peers may reach the ports of GENEVE and VXLAN.
    pub protect_ports: bool,
    /// TCP and UDP ports that stay open for all where ports are protected.
    pub management_ports: BTreeSet<u16>,
    /// Whether plain packets are dropped whose source belongs to the overlay; `None`: where sources are enforced.
    pub drop_cleartext: Option<bool>,
}

impl Default for FirewallOptions {
    /// Of GENEVE and VXLAN no tracked connection ever sees an answer: their source ports are hashes of what is inside.
    /// WireGuard's does, and a machine's own firewall may live by it.
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
