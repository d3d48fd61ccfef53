//! The route lookups that the plan needs: for addresses that overlay routes may contain, for the endpoints of
//! declared WireGuard devices, for the prefixes that this node advertises, and for the gateways of declared
//! routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::objects::wireguard::Marks;
use crate::model::MAIN_TABLE;
use crate::model::facts::{Gateway, Lookup};
use crate::net::{Family, Namespace};
use crate::resource::Intent;
use crate::resource::netlink::RouteAction;
use crate::resource::node::Host;

/// The route lookups that facts must answer. `destinations` are the underlay addresses of peers, `names` the
/// addresses of endpoint names.
#[must_use]
pub fn lookups(
    intent: &Intent,
    destinations: &BTreeSet<IpAddr>,
    names: &BTreeMap<String, Vec<IpAddr>>,
) -> BTreeSet<Lookup> {
    let own = intent.node().prefixes.iter().map(|advertised| advertised.cidr);
    let mut lookups: BTreeSet<Lookup> = own.map(of_prefix).collect();
    let prefixes = || intent.networks().flat_map(|network| &network.prefixes);
    let inside = destinations
        .iter()
        .filter(|address| prefixes().any(|prefix| prefix.contains(*address)));
    lookups.extend(inside.copied().map(Lookup::unmarked));
    let mut marks = Marks::default();
    for (_, placed) in intent.resources().netlink.wireguard(&intent.node().name) {
        let mark = marks.give(placed.namespace.clone(), &placed.object);
        if placed.namespace.is_some() {
            continue;
        }
        let endpoints = placed
            .object
            .peers
            .iter()
            .filter_map(|peer| peer.endpoint.as_ref());
        let addresses = endpoints.filter_map(|endpoint| match &endpoint.host {
            Host::Address(address) => Some(*address),
            Host::Scoped(..) => None,
            Host::Name(name) => names.get(name).and_then(|known| known.first()).copied(),
        });
        lookups.extend(addresses.map(|destination| Lookup { destination, mark }));
    }
    lookups
}

/// The gateways of declared routes without a device, by namespace (`None`: the agent's own): facts must tell
/// through which devices they are on the link.
#[must_use]
pub fn gateways(intent: &Intent) -> BTreeMap<Option<Namespace>, BTreeSet<Gateway>> {
    let mut gateways: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    let routes = intent.resources().netlink.routes.values();
    for placed in routes.filter(|placed| placed.nodes.contains(&intent.node().name)) {
        let RouteAction::Unicast(hops) = &placed.object.action else {
            continue;
        };
        let unknown = hops.iter().filter(|peer| peer.hop.link.is_none());
        let own = gateways.entry(placed.namespace.clone()).or_default();
        for address in unknown.filter_map(|peer| peer.hop.gateway) {
            let tables = [MAIN_TABLE, placed.object.table];
            own.extend(tables.map(|table| Gateway { table, address }));
        }
    }
    gateways
}

/// The lookup of the devices that lead to a whole prefix: the lookup of its first address.
pub(super) fn of_prefix(prefix: IpNet) -> Lookup {
    let first = match (prefix.network(), Family::of_prefix(prefix)) {
        // The kernel treats 0.0.0.0 as an address of the machine itself.
        (address, Family::Ipv4) if address.is_unspecified() => IpAddr::from([0, 0, 0, 1]),
        (address, _) => address,
    };
    Lookup::unmarked(first)
}
