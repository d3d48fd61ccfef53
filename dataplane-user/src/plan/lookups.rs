//! Which routes of the kernel the plan must know: to addresses that the overlay's own routes may hold, to the endpoints of
//! declared WireGuard devices, and to the prefixes that this node carries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::objects::wireguard::Marks;
use crate::model::facts::Lookup;
use crate::net::Family;
use crate::resource::Intent;
use crate::resource::node::Host;

/// The routes that facts shall tell. `destinations` are the underlay addresses of peers, `names` the addresses of endpoints
/// that have names.
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

/// The lookup that tells which devices lead to a prefix as a whole: for its first address.
pub(super) fn of_prefix(prefix: IpNet) -> Lookup {
    let first = match (prefix.network(), Family::of_prefix(prefix)) {
        // To the kernel this is an address of the machine itself.
        (address, Family::Ipv4) if address.is_unspecified() => IpAddr::from([0, 0, 0, 1]),
        (address, _) => address,
    };
    Lookup::unmarked(first)
}
