//! Answers go back by the device that their connection came in by.
//!
//! Its number is kept in bits of the connection's mark; answers get these bits in their own mark, and a rule about them asks
//! a table whose only route leads back by the device.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::firewall::of;
use crate::model::facts::NodeFacts;
use crate::model::facts::ReturnWay;
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

/// The part of the nft table. It goes by names, so it does not wait for devices.
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
    // What comes from the overlay without encapsulation comes in by the underlay's device, and goes back into the overlay.
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

/// Rules, and the tables that they ask. Comes after all devices and routes: the target's count as there.
pub(super) fn plan(
    intent: &Intent,
    facts: &NodeFacts,
    target: &mut KernelState,
    problems: &mut Vec<Problem>,
) {
    if target.firewall.is_none() {
        // Nothing would ever be marked, and that is told already.
        return;
    }
    for (number, link) in numbered(intent) {
        let Some(way) = way(facts, target, link) else {
            problems.push(Problem::warning(
                Reason::Waiting,
                format!("TunnelNode/{}", intent.node().name),
                format!("firewall.returnPath: there is no device {link}"),
                "it is looked for again every few seconds; correct spec.firewall.returnPath where it has another name"
                    .to_owned(),
            ));
            continue;
        };
        let table = RETURN_PATH_TABLES + number;
        for family in Family::BOTH {
            let gateway = way.gateways.get(&family).copied();
            if family == Family::Ipv6 && !way.ipv6 && gateway.is_none() {
                continue;
            }
            let rule = Rule {
                mark: Some(mark(number)),
                ..Rule::to_table(family, RETURN_PATH_PRIORITY, table)
            };
            target.rules.insert(rule);
            let Some(gateway) = gateway else {
                put(
                    target,
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
            put(target, table, family.everything(), kind);
            // Who is on the device's own subnets needs no gateway.
            for prefix in way
                .on_link
                .iter()
                .filter(|prefix| Family::of_prefix(**prefix) == family)
            {
                put(target, table, *prefix, RouteKind::on_link(link, family));
            }
        }
    }
}

fn put(target: &mut KernelState, table: u32, prefix: IpNet, kind: RouteKind) {
    let key = RouteKey {
        table,
        prefix,
        metric: RETURN_PATH_METRIC,
    };
    let owner = Owner::Ours;
    target.routes.insert(key, Route { owner, kind });
}

/// The way back by a device; `None` where it is neither there nor to be made. What is to be made has no way yet in the facts:
/// then the default route that manifests declare is the one.
fn way(facts: &NodeFacts, target: &KernelState, link: &LinkName) -> Option<ReturnWay> {
    let mut way = match facts.return_paths.get(link) {
        Some(way) => way.clone(),
        None => target.links.get(link).map(|_| ReturnWay::default())?,
    };
    let declared = target.routes.iter().filter(|(key, _)| key.table == MAIN_TABLE);
    for (key, route) in declared.filter(|(key, _)| key.prefix.prefix_len() == 0) {
        let hops = route.kind.paths().map(|paths| paths.hops).unwrap_or_default();
        let by_it = hops.iter().find(|hop| hop.link.as_ref() == Some(link));
        if let Some(gateway) = by_it.and_then(|hop| hop.gateway) {
            way.gateways
                .entry(Family::of_prefix(key.prefix))
                .or_insert(gateway);
        }
    }
    Some(way)
}

/// What can't be had without the table, where a node asks for it.
pub(super) fn lacking(intent: &Intent, message: &str, remedy: &str) -> Option<Problem> {
    (!intent.node().return_path.is_empty()).then(|| {
        Problem::error(
            Reason::Incomplete,
            format!("TunnelNode/{}", intent.node().name),
            format!(
                "{message}: answers go back as the routing tables say, whatever firewall.returnPath names"
            ),
            remedy.to_owned(),
        )
    })
}
