//! Drops cleartext packets with overlay addresses as they arrive, before anything else processes them.
//!
//! The kernel's routes at the time of each packet decide, never the prefix of a network alone: a LAN, a
//! container subnet or a pod inside the overlay has a more specific route, so its packets pass.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::super::advertised::advertised;
use super::super::links::overlay_routes;
use super::super::lookups::of_prefix;
use super::super::{Inputs, NetworkLink};
use super::of;
use crate::model::devices::is_overlay_device;
use crate::model::facts::NodeFacts;
use crate::model::firewall::{Action, Chain, Firewall, Match, Side, aggregate};
use crate::net::Encapsulation;
use crate::net::family::host_prefix;
use crate::net::{Family, LinkName};
use crate::resource::{Intent, Network};

const CHAIN: Chain = Chain::RawPrerouting;

/// `devices` are all devices on which overlay packets may arrive.
pub(super) fn plan(
    Inputs {
        intent,
        facts,
        networks,
    }: Inputs<'_>,
    devices: &BTreeSet<LinkName>,
    firewall: &mut Firewall,
) {
    let asking: Vec<&Network> = intent
        .networks()
        .filter(|network| network.drops_cleartext())
        .collect();
    if asking.is_empty() || devices.is_empty() {
        return;
    }
    bare_peers(networks, firewall);
    let prefixes: BTreeSet<IpNet> = asking
        .iter()
        .flat_map(|network| &network.prefixes)
        .copied()
        .collect();
    let mut inside = devices.clone();
    inside.insert(LinkName::constant("lo"));
    for family in Family::BOTH {
        let prefixes = of(&prefixes, family);
        if prefixes.is_empty() {
            continue;
        }
        let mut matches = vec![Match::NotIn(inside.clone())];
        matches.extend(sources(prefixes, family));
        matches.push(Match::SourceRoutedBy(devices.clone()));
        firewall.push(CHAIN, matches, Action::Drop);
    }
    let mut trusted = inside;
    trusted.extend(own_devices(intent, facts));
    // Return paths exist for devices to whose hosts the kernel's routes lead elsewhere.
    trusted.extend(intent.node().return_path.iter().cloned());
    let held = |address: &IpAddr| prefixes.iter().any(|prefix| prefix.contains(address));
    let own = intent.node().addresses.iter().copied().filter(held);
    let own: BTreeSet<IpNet> = own.map(host_prefix).collect();
    for family in Family::BOTH {
        let own = of(&own, family);
        if !own.is_empty() {
            let to = address(Side::Destination, true, own);
            let matches = vec![Match::NotIn(trusted.clone()), to, Match::NoRouteBack];
            firewall.push(CHAIN, matches, Action::Drop);
        }
    }
}

/// Accepts cleartext packets of peers without encapsulation: from the prefixes that they advertise, on the
/// device that leads to them.
fn bare_peers(networks: &[NetworkLink<'_>], firewall: &mut Firewall) {
    let mut expected: BTreeSet<(LinkName, IpNet)> = BTreeSet::new();
    for network in networks {
        let bare = network
            .peers
            .iter()
            .filter(|peer| peer.encapsulation == Encapsulation::None);
        for peer in bare {
            let Some(neighbour) = &peer.neighbour else {
                continue;
            };
            let advertised = advertised(peer.node, network.network);
            expected.extend(advertised.map(|advertised| (neighbour.link.clone(), advertised.cidr)));
        }
    }
    let links: BTreeSet<&LinkName> = expected.iter().map(|(link, _)| link).collect();
    for link in links {
        let by_it = expected.iter().filter(|(other, _)| other == link);
        let prefixes: BTreeSet<IpNet> = by_it.map(|(_, prefix)| *prefix).collect();
        for family in Family::BOTH {
            let prefixes = of(&prefixes, family);
            if !prefixes.is_empty() {
                let by = Match::In([link.clone()].into());
                let from = address(Side::Source, true, prefixes);
                firewall.push(CHAIN, vec![by, from], Action::Return);
            }
        }
    }
}

/// Matches sources in these prefixes, except the unspecified address: hosts that have no address yet send
/// from it, and its route has no meaning.
fn sources(prefixes: BTreeSet<IpNet>, family: Family) -> Vec<Match> {
    let unspecified = family.unspecified();
    let with_unspecified = prefixes.iter().any(|prefix| prefix.contains(&unspecified));
    let is_all = prefixes.iter().any(|prefix| prefix.prefix_len() == 0);
    let within = (!is_all).then(|| address(Side::Source, true, prefixes));
    let specified = || address(Side::Source, false, aggregate([host_prefix(unspecified)]));
    within
        .into_iter()
        .chain(with_unspecified.then(specified))
        .collect()
}

/// The devices that lead to the prefixes that this node advertises. Routes that lose to overlay routes do not
/// count, for example a default route that is found before the overlay routes exist.
fn own_devices(intent: &Intent, facts: &NodeFacts) -> BTreeSet<LinkName> {
    let own = intent
        .node()
        .prefixes
        .iter()
        .map(|advertised| of_prefix(advertised.cidr));
    let leading = own.filter_map(|lookup| {
        let found = facts.routes.get(&lookup)?;
        let mut overlay = overlay_routes(intent, lookup.destination);
        overlay.all(|key| found.beats(&key)).then_some(found)
    });
    let links = leading.flat_map(|found| &found.links);
    links.filter(|link| !is_overlay_device(link)).cloned().collect()
}

fn address(side: Side, within: bool, prefixes: BTreeSet<IpNet>) -> Match {
    Match::Address {
        side,
        within,
        prefixes,
    }
}
