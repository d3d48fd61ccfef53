//! The routes that an interface needs for its peers' allowed IPs, as `wg-quick up` gives it.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::kernel::netlink::RouteBy;
use crate::model::{MAIN_TABLE, RouteKey};
use crate::resource::wireguard::AllowedIpRoutes;

/// What changes of an interface's routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RouteChanges {
    /// Those that are missing, to be added first.
    pub(super) add: Vec<RouteKey>,
    /// Those that lead to nobody any more.
    pub(super) delete: Vec<RouteKey>,
}

/// What changes when of the allowed IPs in a file, `kept`, these are `new`, and these others are `gone`.
///
/// A route that was added by hand, as wg-quick's are, goes with the allowed IP that it is of. Allowed IPs that had no route
/// because that one covered them get one. Default routes, with their tables and rules, are left to `up` and `down`.
pub(super) fn changes(
    routes: AllowedIpRoutes,
    (kept, new, gone): (&BTreeSet<IpNet>, &BTreeSet<IpNet>, &BTreeSet<IpNet>),
    standing: &[RouteBy],
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
    for route in standing.iter().filter(|route| route.key.table == table) {
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

    fn standing(table: u32, by_hand: &[&str], by_kernel: &[&str]) -> Vec<RouteBy> {
        let of = |list: &[&str], by_hand| {
            let keys = nets(list).into_iter().map(|net| RouteKey::new(table, net, 0));
            keys.map(|key| RouteBy { key, by_hand }).collect::<Vec<_>>()
        };
        [of(by_hand, true), of(by_kernel, false)].concat()
    }

    fn told(routes: AllowedIpRoutes, sets: [&[&str]; 3], standing: &[RouteBy]) -> [Vec<String>; 2] {
        let [kept, new, gone] = sets.map(nets);
        let RouteChanges { add, delete } = changes(routes, (&kept, &new, &gone), standing);
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
                told(table, [&device, &device, &[]], &standing(wanted, &device, &[])),
                none
            );
            let found = told(table, [&[], &[], &device], &standing(wanted, &device, &[]));
            assert_eq!(found, [vec![], vec!["10.42.0.2/32".to_owned()]]);
            assert_eq!(
                told(table, [&[], &[], &device], &standing(7, &device, &[])),
                none,
                "another table's"
            );
        }
        assert_eq!(
            told(
                Off,
                [&device, &device, &["10.0.0.0/8"]],
                &standing(254, &["10.0.0.0/8"], &[])
            ),
            none
        );
        // The subnet of an address is the kernel's.
        let subnet = standing(254, &[], &["10.42.0.0/24"]);
        assert_eq!(told(Auto, [&device, &device, &["10.42.0.0/24"]], &subnet), none);
        let everywhere = ["0.0.0.0/0", "::/0"];
        assert_eq!(told(Auto, [&everywhere, &everywhere, &[]], &[]), none);
        assert_eq!(
            told(Auto, [&[], &[], &everywhere], &standing(254, &everywhere, &[])),
            none
        );
    }

    #[test]
    fn what_a_route_covered_that_goes_gets_its_own() {
        let kept = ["10.42.0.2/32", "192.168.5.0/24"];
        let sites = standing(254, &["10.42.0.0/16", "192.168.5.0/24"], &[]);
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
