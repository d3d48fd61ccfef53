//! Random resources with random underlay paths to their nodes, and the devices of these paths.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane_user::model::devices::ANCHOR;
use dataplane_user::model::facts::{NodeFacts, UnderlayPath};
use dataplane_user::model::{KernelState, Named, Rule};
use dataplane_user::net::{Family, LinkName, NodeName, PeerId};
use dataplane_user::resource::Resources;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use crate::random::{GATEWAYS, facts, foreign_link, resources, rules};

/// Resources, and the underlay paths to the nodes.
#[derive(Clone, Debug)]
pub struct Situation {
    /// The resources.
    pub resources: Resources,
    /// The path to an address, by the last byte of the address.
    ways: Vec<Way>,
    /// Objects that overlays do not plan, but that a desired state contains.
    pub rules: BTreeSet<Rule>,
    /// The numbers of nodes that an operator withdrew.
    withdrawn: BTreeSet<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    OnLink(&'static str),
    /// By a gateway of the family of the address, or of IPv6.
    Gateway(&'static str, Family),
    /// Through the overlay itself.
    Anchor,
    Nowhere,
}

/// Random resources, and a random path to each node.
pub fn situations() -> impl Strategy<Value = Situation> {
    let device = || prop_oneof![2 => Just("eth0"), 1 => Just("eth1")];
    let way = prop_oneof![
        3 => device().prop_map(Way::OnLink),
        2 => device().prop_map(|device| Way::Gateway(device, Family::Ipv4)),
        2 => device().prop_map(|device| Way::Gateway(device, Family::Ipv6)),
        1 => Just(Way::Anchor),
        1 => Just(Way::Nowhere),
    ];
    let withdrawn = btree_set(1u8..6, 0..3);
    (resources(), vec(way, 8), rules(), withdrawn).prop_map(|(resources, ways, rules, withdrawn)| Situation {
        resources,
        ways,
        rules,
        withdrawn,
    })
}

impl Situation {
    /// The facts of a node.
    #[must_use]
    pub fn facts(&self, node: &NodeName, mtu: u32) -> NodeFacts {
        let mut facts = facts(&self.resources, node, mtu);
        let name = |number: &u8| NodeName::new(&format!("n{number}")).expect("valid");
        facts.withdrawn = self
            .withdrawn
            .iter()
            .map(name)
            .map(|name| PeerId::from(&name))
            .collect();
        facts.paths = std::mem::take(&mut facts.paths)
            .into_iter()
            .filter_map(|(address, path)| Some((address, self.path(address, &path)?)))
            .collect();
        facts
    }

    fn path(&self, address: IpAddr, path: &UnderlayPath) -> Option<UnderlayPath> {
        let (last, family) = match address {
            IpAddr::V4(address) => (address.octets()[3], Family::Ipv4),
            IpAddr::V6(address) => (address.octets()[15], Family::Ipv6),
        };
        let (device, gateway) = match self.ways[usize::from(last) % self.ways.len()] {
            Way::OnLink(device) => (device, None),
            Way::Gateway(device, Family::Ipv4) if family == Family::Ipv4 => (device, Some(GATEWAYS[0])),
            Way::Gateway(device, _) => (device, Some(GATEWAYS[1])),
            Way::Anchor => (ANCHOR, Some(GATEWAYS[0])),
            Way::Nowhere => return None,
        };
        Some(UnderlayPath {
            link: LinkName::constant(device),
            gateway,
            mtu: path.mtu,
        })
    }
}

/// The unmanaged devices of the underlay, as the kernel has them.
#[must_use]
pub fn underlay() -> KernelState {
    let devices = ["eth0", "eth1"].map(|name| (LinkName::constant(name), foreign_link()));
    KernelState {
        links: devices.into(),
        ..KernelState::default()
    }
}

/// A state with the devices of the underlay added.
#[must_use]
pub fn with_underlay(mut state: KernelState) -> KernelState {
    state.links.extend(underlay().links);
    state.named = Named::default();
    state
}
