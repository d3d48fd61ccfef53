//! The device that `wg-quick up` creates for a file, in the form of a declared device. It includes the values
//! that `wg-quick` finds out on the machine. Routes, rules and everything else come from the plan.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Config, Interface};
use crate::model::facts::NodeFacts;
use crate::net::{Family, KeySource, LinkName, NodeName};
use crate::plan::Marks;
use crate::resource::netlink::{InterfaceEnd, Namespaced};
use crate::resource::wireguard::Peer;
use crate::resource::{Intent, Resources, WireGuardInterface};

/// The overhead of WireGuard over IPv6 with padding to 16 bytes, in bytes. `wg-quick` subtracts it from the
/// path MTU.
const OVERHEAD: u32 = 80;
/// The MTU of an unknown path, in bytes.
const ETHERNET: u32 = 1500;
/// The priority that the kernel gives to the first rule of a user: one less than that of its rule for table
/// main.
const LAST_PRIORITY: u32 = 32_765;

/// Facts that `wg-quick` collects about the machine, in addition to those that the plan needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The MTU of the device of the default route, in bytes.
    pub default_mtu: Option<u32>,
    /// Routing tables that have a route.
    pub tables: BTreeSet<u32>,
    /// The priority that the kernel would give the next rule of a family.
    pub next_priority: BTreeMap<Family, u32>,
}

/// The intent of a node with only this device.
///
/// # Panics
/// Never, because the node has an object.
#[must_use]
pub fn intent(interface: WireGuardInterface) -> Intent {
    let node = NodeName::new("localhost").expect("a node's name");
    let mut resources = Resources::default();
    let name = interface.end.name.to_string();
    let placed = Namespaced {
        nodes: [node.clone()].into(),
        namespace: None,
        object: interface,
    };
    resources.netlink.wireguard.insert(name, placed);
    Intent::new(resources, node).expect("a node that has something")
}

impl Config {
    /// The device that the file describes, with this name; `key` is the source of its private key.
    #[must_use]
    pub fn interface(
        &self,
        name: &LinkName,
        key: KeySource,
        facts: &NodeFacts,
        machine: &Machine,
    ) -> WireGuardInterface {
        let Interface { addresses, table, .. } = &self.interface;
        let mtu = self.interface.mtu.unwrap_or_else(|| self.mtu(facts, machine));
        // With a smaller MTU the kernel removes the addresses (RFC 791, RFC 8200).
        let smallest = |address: &IpNet| if address.addr().is_ipv4() { 68 } else { 1280 };
        let addresses = addresses.iter().filter(|address| mtu >= smallest(address));
        // `wg-quick` adds two rules, and the second one gets the lower priority.
        let first_rule = Family::BOTH.map(|family| {
            let next = machine.next_priority.get(&family).copied();
            (family, next.unwrap_or(LAST_PRIORITY).saturating_sub(1))
        });
        // Of several peers with one key the last one is complete.
        let peers = self.peers.iter().map(|peer| (peer.public_key, peer.clone()));
        let mut interface = WireGuardInterface {
            end: InterfaceEnd {
                name: name.clone(),
                alias: None,
                addresses: addresses.map(|address| (*address, None)).collect(),
                mtu: Some(mtu),
                mac: None,
                up: true,
                arp: false,
                keep_link_local: false,
            },
            key: self.interface.private_key.as_ref().map(|_| key),
            listen_port: self.interface.listen_port.unwrap_or(0),
            fwmark: self.interface.fwmark,
            routes: *table,
            rules_at: first_rule.into(),
            peers: peers.collect::<BTreeMap<_, Peer>>().into_values().collect(),
        };
        // The mark for a default route is the number of its table, which is unused.
        interface.fwmark = Marks::beside(machine.tables.clone()).give(None, &interface);
        interface
    }

    /// The MTU of the widest path to an endpoint, minus the overhead of WireGuard. Peers behind narrower
    /// paths rely on path MTU discovery.
    fn mtu(&self, facts: &NodeFacts, machine: &Machine) -> u32 {
        let endpoints = self
            .peers
            .iter()
            .filter_map(|peer| peer.resolve(&facts.wireguard.names));
        let widest = endpoints
            .filter_map(|endpoint| Some(facts.paths.get(&endpoint.address)?.mtu))
            .max();
        let widest = widest.or(machine.default_mtu).unwrap_or(ETHERNET);
        widest.saturating_sub(OVERHEAD)
    }
}
