//! The routes that an interface needs for the allowed IPs of its peers, as `wg-quick up` adds them.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::kernel::netlink::RouteBy;
use crate::model::{MAIN_TABLE, RouteKey};
use crate::resource::wireguard::AllowedIpRoutes;

/// Changes of the routes of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RouteChanges {
    /// The missing routes, which are added first.
    pub(super) add: Vec<RouteKey>,
    /// The routes that no peer needs any more.
    pub(super) delete: Vec<RouteKey>,
}

/// A change of the allowed IPs in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct AllowedIpChange<'a> {
    /// All that the file has now.
    pub(super) kept: &'a BTreeSet<IpNet>,
    /// Those of them that were added.
    pub(super) new: &'a BTreeSet<IpNet>,
    /// Those that were removed.
    pub(super) gone: &'a BTreeSet<IpNet>,
}

/// The changes of routes for a change of allowed IPs.
///
/// A route that was added by hand, as by `wg-quick`, is deleted together with its allowed IP. Allowed IPs
/// that needed no route because that route covered them get one. Only `up` and `down` change default routes
/// with their tables and rules.
pub(super) fn changes(
    routes: AllowedIpRoutes,
    AllowedIpChange { kept, new, gone }: AllowedIpChange<'_>,
    existing: &[RouteBy],
) -> RouteChanges {
    let is_default = |prefix: &IpNet| prefix.prefix_len() == 0 && routes == AllowedIpRoutes::Auto;
    let table = match routes {
        AllowedIpRoutes::Off => return RouteChanges::default(),
        AllowedIpRoutes::Auto => MAIN_TABLE,
        AllowedIpRoutes::Table(table) => table,
    };
    let leads_to_nobody = |route: &RouteBy| {
        let prefix = &route.key.prefix;
        route.by_hand && gone.contains(prefix) && !kept.contains(prefix) && !is_default(prefix)
    };
    let mut delete = Vec::new();
    let mut stay = Vec::new();
    for route in existing.iter().filter(|route| route.key.table == table) {
        match leads_to_nobody(route) {
            true => delete.push(route.key),
            false => stay.push(route.key.prefix),
        }
    }
    let uncovered = kept
        .iter()
        .filter(|prefix| delete.iter().any(|key| key.prefix.contains(*prefix)));
    let mut wanted = new.iter().chain(uncovered).collect::<Vec<_>>();
    wanted.sort_by_key(|prefix| (std::cmp::Reverse(prefix.prefix_len()), **prefix));
    wanted.dedup();
    let mut add = Vec::new();
    for prefix in wanted.into_iter().filter(|prefix| !is_default(prefix)) {
        let needs_route = routes.table(prefix, table, &stay).is_some();
        if needs_route && !stay.contains(prefix) {
            stay.push(*prefix);
            add.push(RouteKey::new(table, *prefix, 0));
        }
    }
    RouteChanges { add, delete }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> BTreeSet<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    fn existing(table: u32, by_hand: &[&str], by_kernel: &[&str]) -> Vec<RouteBy> {
        let of = |list: &[&str], by_hand| {
            let keys = nets(list).into_iter().map(|net| RouteKey::new(table, net, 0));
            keys.map(|key| RouteBy { key, by_hand }).collect::<Vec<_>>()
        };
        [of(by_hand, true), of(by_kernel, false)].concat()
    }

    fn told(routes: AllowedIpRoutes, sets: [&[&str]; 3], existing: &[RouteBy]) -> [Vec<String>; 2] {
        let [kept, new, gone] = sets.map(nets);
        let RouteChanges { add, delete } = changes(
            routes,
            AllowedIpChange {
                kept: &kept,
                new: &new,
                gone: &gone,
            },
            existing,
        );
        [add, delete].map(|keys| keys.iter().map(|key| key.prefix.to_string()).collect())
    }

    #[test]
    fn what_no_route_covers_gets_one_and_what_is_gone_loses_its_own() {
        use AllowedIpRoutes::{Auto, Off, Table};
        let none: [Vec<String>; 2] = [vec![], vec![]];
        let device = ["10.42.0.2/32"];
        for (table, wanted) in [(Auto, 254), (Table(77), 77)] {
            let found = told(table, [&device, &device, &[]], &[]);
            assert_eq!(found, [vec!["10.42.0.2/32".to_owned()], vec![]]);
            assert_eq!(
                told(table, [&device, &device, &[]], &existing(wanted, &device, &[])),
                none
            );
            let found = told(table, [&[], &[], &device], &existing(wanted, &device, &[]));
            assert_eq!(found, [vec![], vec!["10.42.0.2/32".to_owned()]]);
            assert_eq!(
                told(table, [&[], &[], &device], &existing(7, &device, &[])),
                none,
                "another table's"
            );
        }
        assert_eq!(
            told(
                Off,
                [&device, &device, &["10.0.0.0/8"]],
                &existing(254, &["10.0.0.0/8"], &[])
            ),
            none
        );
        // The subnet of an address is the kernel's.
        let subnet = existing(254, &[], &["10.42.0.0/24"]);
        assert_eq!(told(Auto, [&device, &device, &["10.42.0.0/24"]], &subnet), none);
        let everywhere = ["0.0.0.0/0", "::/0"];
        assert_eq!(told(Auto, [&everywhere, &everywhere, &[]], &[]), none);
        assert_eq!(
            told(Auto, [&[], &[], &everywhere], &existing(254, &everywhere, &[])),
            none
        );
    }

    #[test]
    fn prefixes_of_a_deleted_covering_route_get_their_own() {
        let kept = ["10.42.0.2/32", "192.168.5.0/24"];
        let sites = existing(254, &["10.42.0.0/16", "192.168.5.0/24"], &[]);
        assert_eq!(
            told(AllowedIpRoutes::Auto, [&kept, &[], &["10.42.0.0/16"]], &sites),
            [vec!["10.42.0.2/32".to_owned()], vec!["10.42.0.0/16".to_owned()]]
        );
        // Two peers of one file may have one prefix for a while: the route is still needed.
        assert_eq!(
            told(
                AllowedIpRoutes::Auto,
                [&["10.42.0.0/16"], &[], &["10.42.0.0/16"]],
                &sites
            ),
            [Vec::<String>::new(), vec![]]
        );
    }
}
