//! Which peers advertise each prefix: the peers of its best tier, with their weights.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{NetworkLink, PeerLink};
use crate::net::Family;
use crate::net::family::host_prefix;
use crate::resource::{AdvertisedPrefix, Network, Node};

/// A peer that advertises a prefix, with its weight.
pub(super) struct Share<'n, 'a> {
    pub(super) network: &'a Network,
    pub(super) peer: &'n PeerLink<'a>,
    pub(super) weight: u8,
}

/// The peers of each prefix: those of the lowest tier in which at least one peer is not withdrawn, including
/// the withdrawn ones of that tier; if all are withdrawn, those of the lowest tier.
pub(super) fn of_prefixes<'n, 'a>(
    networks: impl Iterator<Item = &'n NetworkLink<'a>>,
) -> BTreeMap<IpNet, Vec<Share<'n, 'a>>>
where
    'a: 'n,
{
    let mut tiers: BTreeMap<IpNet, BTreeMap<u32, Vec<Share<'n, 'a>>>> = BTreeMap::new();
    for links in networks {
        for peer in links.peers.iter().filter(|peer| peer.device().is_some()) {
            let fits = |advertised: &AdvertisedPrefix| peer.supports(Family::of_prefix(advertised.cidr));
            for advertised in advertised(peer.node, links.network).filter(fits) {
                let tier = tiers.entry(advertised.cidr).or_default().entry(advertised.tier);
                tier.or_default().push(Share {
                    network: links.network,
                    peer,
                    weight: advertised.weight,
                });
            }
        }
    }
    let best = |mut tiers: BTreeMap<u32, Vec<Share<'n, 'a>>>| {
        let usable = |shares: &[Share<'_, '_>]| shares.iter().any(|share| !share.peer.withdrawn);
        let lowest = tiers
            .iter()
            .find(|(_, shares)| usable(shares))
            .map(|(tier, _)| *tier);
        match lowest {
            Some(tier) => tiers.remove(&tier),
            None => tiers.into_values().next(),
        }
    };
    let prefixes = tiers.into_iter();
    prefixes
        .filter_map(|(prefix, tiers)| Some((prefix, best(tiers)?)))
        .collect()
}

/// What a node advertises in a network: its addresses and its prefixes inside the network.
pub(super) fn advertised<'a>(
    node: &'a Node,
    network: &'a Network,
) -> impl Iterator<Item = AdvertisedPrefix> + 'a {
    let inside = |cidr: &IpNet| network.prefixes.iter().any(|prefix| prefix.contains(cidr));
    let own = |&address| AdvertisedPrefix {
        cidr: host_prefix(address),
        weight: 1,
        tier: 0,
    };
    node.addresses
        .iter()
        .map(own)
        .chain(node.prefixes.iter().copied())
        .filter(move |c| inside(&c.cidr))
}
