//! Return paths: answers leave through the device on which their connection arrived.
//!
//! The number of the device is stored in bits of the connection mark; answers get these bits in their packet
//! mark, and a policy rule for these bits selects a table whose only routes lead through the device.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::firewall::of;
use crate::model::facts::NodeFacts;
use crate::model::facts::ReturnPath;
use crate::model::firewall::{Action, Chain, Firewall, Match, Side};
use crate::model::rule::Mark;
use crate::model::{
    KernelState, MAIN_TABLE, Owner, RETURN_PATH_MASK, RETURN_PATH_METRIC, RETURN_PATH_PRIORITY,
    RETURN_PATH_TABLES, Route, RouteKey, RouteKind, Rule,
};
use crate::net::{Family, LinkName};
use crate::resource::{Intent, Problem, Reason};

/// The devices with their numbers, in order of their names.
fn numbered(intent: &Intent) -> impl Iterator<Item = (u32, &LinkName)> {
    (1..).zip(&intent.node().return_path)
}

fn mark(number: u32) -> Mark {
    let value = number << RETURN_PATH_MASK.trailing_zeros();
    debug_assert!(
        value & !RETURN_PATH_MASK == 0,
        "manifests name no more devices than that"
    );
    Mark::new(value, RETURN_PATH_MASK).expect("numbers begin with one")
}

/// The rules in the nft table. They name devices, so they do not wait for them.
pub(super) fn chains(intent: &Intent, firewall: &mut Firewall) {
    if intent.node().return_path.is_empty() {
        return;
    }
    for chain in [Chain::ManglePrerouting, Chain::MangleOutput] {
        for (number, _) in numbered(intent) {
            let matches = vec![Match::Reply, Match::ConnectionMark(mark(number))];
            firewall.push(chain, matches, Action::MarkPacket(mark(number)));
        }
    }
    // Overlay packets without encapsulation arrive on the underlay device, and their answers return into the
    // overlay.
    let networks = intent.resources().networks.values();
    let overlay: BTreeSet<IpNet> = networks
        .flat_map(|network| network.prefixes.iter().copied())
        .collect();
    for family in Family::BOTH {
        let prefixes = of(&overlay, family);
        if !prefixes.is_empty() {
            let source = Match::Address {
                side: Side::Source,
                within: true,
                prefixes,
            };
            firewall.push(Chain::ManglePrerouting, vec![source], Action::Return);
        }
    }
    for (number, link) in numbered(intent) {
        let matches = vec![Match::In([link.clone()].into()), Match::New];
        firewall.push(
            Chain::ManglePrerouting,
            matches,
            Action::MarkConnection(mark(number)),
        );
    }
}

/// Policy rules and their tables. Runs after all devices and routes are planned: desired ones count as
/// existing.
pub(super) fn plan(
    intent: &Intent,
    facts: &NodeFacts,
    desired: &mut KernelState,
    problems: &mut Vec<Problem>,
) {
    if desired.firewall.is_none() {
        // No packet would be marked; another problem reports the missing table already.
        return;
    }
    for (number, link) in numbered(intent) {
        let Some(path) = return_path(facts, desired, link) else {
            problems.push(Problem::warning(
                Reason::Waiting,
                format!("TunnelNode/{}", intent.node().name),
                format!("waiting for device {link}, which spec.firewall.returnPath names"),
                "correct spec.firewall.returnPath if the device has another name; Adit looks for it again every few seconds"
                    .to_owned(),
            ));
            continue;
        };
        let table = RETURN_PATH_TABLES + number;
        for family in Family::BOTH {
            let gateway = path.gateways.get(&family).copied();
            if family == Family::Ipv6 && !path.ipv6 && gateway.is_none() {
                continue;
            }
            let rule = Rule {
                mark: Some(mark(number)),
                ..Rule::to_table(family, RETURN_PATH_PRIORITY, table)
            };
            desired.rules.insert(rule);
            let Some(gateway) = gateway else {
                put(
                    desired,
                    table,
                    family.everything(),
                    RouteKind::on_link(link, family),
                );
                continue;
            };
            let kind = RouteKind::Gateway {
                gateway,
                link: link.clone(),
                source: None,
                mtu: None,
            };
            put(desired, table, family.everything(), kind);
            // Hosts in the subnets of the device need no gateway.
            for prefix in path
                .on_link
                .iter()
                .filter(|prefix| Family::of_prefix(**prefix) == family)
            {
                put(desired, table, *prefix, RouteKind::on_link(link, family));
            }
        }
    }
}

fn put(desired: &mut KernelState, table: u32, prefix: IpNet, kind: RouteKind) {
    let key = RouteKey::new(table, prefix, RETURN_PATH_METRIC);
    let owner = Owner::Adit;
    desired.routes.insert(key, Route { owner, kind });
}

/// The return path through a device; `None` if the device neither exists nor is declared. Facts have no
/// gateway for a device that does not exist yet: then the declared default route is used.
fn return_path(facts: &NodeFacts, desired: &KernelState, link: &LinkName) -> Option<ReturnPath> {
    let mut path = match facts.return_paths.get(link) {
        Some(path) => path.clone(),
        None => desired.links.get(link).map(|_| ReturnPath::default())?,
    };
    let declared = desired.routes.iter().filter(|(key, _)| key.table == MAIN_TABLE);
    for (key, route) in declared.filter(|(key, _)| key.prefix.prefix_len() == 0) {
        let hops = route.kind.paths().map(|paths| paths.hops).unwrap_or_default();
        let by_it = hops.iter().find(|hop| hop.link.as_ref() == Some(link));
        if let Some(gateway) = by_it.and_then(|hop| hop.gateway) {
            path.gateways
                .entry(Family::of_prefix(key.prefix))
                .or_insert(gateway);
        }
    }
    Some(path)
}

/// A problem if a node declares return paths and the nft table is not available.
pub(super) fn lacking(intent: &Intent, message: &str, remedy: &str) -> Option<Problem> {
    (!intent.node().return_path.is_empty()).then(|| {
        Problem::error(
            Reason::Incomplete,
            format!("TunnelNode/{}", intent.node().name),
            format!(
                "{message}: answers follow the routing tables, and spec.firewall.returnPath has no effect"
            ),
            remedy.to_owned(),
        )
    })
}
