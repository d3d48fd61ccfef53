//! What `wg-quick up` makes of a file: a device, its addresses, routes and rules, as changes that bear no mark of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::{Config, Peer};
use crate::diff::wireguard::device as device_changes;
use crate::model::change::{
    AddressChange, AddressOperation, Existence, LinkChange, LinkOperation, LinkPatch, NetlinkChange,
    RouteChange, RouteOperation, RuleChange,
};
use crate::model::rule::Mark;
use crate::model::wireguard::{Device, DeviceChange};
use crate::model::{
    Address, AddressScope, Link, LinkKind, MAIN_TABLE, Owner, Route, RouteKey, RouteKind, Rule,
    connected_subnet,
};
use crate::net::{Family, LinkName, PeerEndpoint, PrivateKey};

/// What WireGuard adds to a packet over IPv6, rounded up to blocks of 16 bytes: `wg-quick` takes it from the way's MTU.
const OVERHEAD: u32 = 80;
/// What the way's MTU is where nothing is known of it.
const ETHERNET: u32 = 1500;
/// The first table, and mark, that a default route takes.
pub const FIRST_TABLE: u32 = 51820;

/// What must be known of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The addresses of the names in endpoints, with their ports.
    pub names: BTreeMap<(String, u16), SocketAddr>,
    /// The MTUs of the ways to endpoints, in bytes.
    pub mtus: BTreeMap<IpAddr, u32>,
    /// That of the device of the default route.
    pub default_mtu: Option<u32>,
    /// Routing tables that have a route.
    pub tables: BTreeSet<u32>,
    /// The priority that the kernel would give the next rule of a family.
    pub next_priority: BTreeMap<Family, u32>,
}

/// What is made, in order: the device, what WireGuard knows, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Makes the device.
    pub create: NetlinkChange,
    /// Its key, port, mark and peers.
    pub wireguard: Vec<DeviceChange>,
    /// Addresses, MTU, up, routes and rules.
    pub rest: Vec<NetlinkChange>,
    /// The mark of the packets that the device sends; that of a default route is its table's number. 0: none.
    pub mark: u32,
}

impl Setup {
    /// Of a file, for a device of this name.
    #[must_use]
    pub fn new(name: &LinkName, config: &Config, facts: &Facts) -> Setup {
        let mark = mark(config, facts);
        let link = Link {
            owner: Owner::Foreign,
            kind: LinkKind::WireGuard,
            mac: None,
            mtu: None,
            arp: false,
            generates_addresses: false,
            up: true,
        };
        let peers = config.peers.iter();
        let device = Device {
            public_key: config.interface.private_key.as_ref().map(PrivateKey::public_key),
            listen_port: config.interface.listen_port.unwrap_or(0),
            fwmark: mark,
            peers: peers
                .map(|peer| (peer.public_key, peer.to_model(endpoint(peer, facts))))
                .collect(),
        };
        let addresses = config.interface.addresses.iter().map(|address| {
            let value = Address {
                owner: Owner::Foreign,
                scope: AddressScope::of(address.addr()),
                peer: None,
            };
            NetlinkChange::Address(AddressChange(
                name.clone(),
                *address,
                AddressOperation::Create(value),
            ))
        });
        let mut rest = addresses.collect::<Vec<_>>();
        let patch = LinkPatch {
            mtu: Some(config.interface.mtu.unwrap_or_else(|| mtu(config, facts))),
            ..LinkPatch::default()
        };
        rest.push(LinkChange(name.clone(), LinkOperation::Modify(patch)).into());
        rest.push(LinkChange(name.clone(), LinkOperation::SetUp).into());
        routes(name, config, (mark, facts), &mut rest);
        Setup {
            create: NetlinkChange::Link(LinkChange(name.clone(), LinkOperation::Create(link))),
            wireguard: device_changes(&Device::default(), &device),
            rest,
            mark,
        }
    }

    /// The rules that it makes.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rest.iter().filter_map(|change| match change {
            NetlinkChange::Rule(RuleChange(rule, Existence::Create)) => Some(rule),
            _ => None,
        })
    }
}

/// The rules of a default route by a device that sends with this mark, among all rules of a family: the one that leads to its
/// table, and the one before it by which the main table's more specific routes hold.
#[must_use]
pub fn default_rules(rules: &[Rule], mark: u32) -> Vec<Rule> {
    let leads = |rule: &&Rule| rule.not && rule.mark == Mark::new(mark, 0) && rule.table == mark;
    let Some(leading) = rules.iter().find(leads) else {
        return Vec::new();
    };
    let specific = rules.iter().rev().find(|rule| {
        let asks_main = rule.table == MAIN_TABLE && rule.suppress_prefix_length == Some(0);
        asks_main && rule.priority < leading.priority
    });
    specific.into_iter().chain([leading]).cloned().collect()
}

/// The device's mark; that of a default route is its table's number.
fn mark(config: &Config, facts: &Facts) -> u32 {
    match config.interface.fwmark {
        0 if config.interface.table.lead_everywhere(allowed_ips(config)) => {
            let free = (FIRST_TABLE..).find(|table| !facts.tables.contains(table));
            free.expect("there are more tables than routes")
        }
        mark => mark,
    }
}

fn endpoint(peer: &Peer, facts: &Facts) -> Option<PeerEndpoint> {
    let endpoint = peer.endpoint.as_ref()?;
    let known = |name: &str| facts.names.get(&(name.to_owned(), endpoint.port));
    endpoint.resolve(|name| known(name).map(SocketAddr::ip))
}

/// The widest way to an endpoint, without what WireGuard adds: peers that are nearer than others must not suffer, and for
/// the others there is path MTU discovery.
fn mtu(config: &Config, facts: &Facts) -> u32 {
    let endpoints = config.peers.iter().filter_map(|peer| endpoint(peer, facts));
    let widest = endpoints
        .filter_map(|endpoint| facts.mtus.get(&endpoint.address))
        .max();
    let widest = widest.copied().or(facts.default_mtu).unwrap_or(ETHERNET);
    widest.saturating_sub(OVERHEAD)
}

fn routes(name: &LinkName, config: &Config, (mark, facts): (u32, &Facts), changes: &mut Vec<NetlinkChange>) {
    let addresses = config.interface.addresses.iter();
    let subnets = addresses.filter_map(|address| connected_subnet(address, None));
    let subnets = subnets.collect::<Vec<_>>();
    let prefixes = allowed_ips(config).copied().collect::<BTreeSet<_>>();
    let mut prefixes = prefixes.into_iter().collect::<Vec<_>>();
    prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.prefix_len()));
    for prefix in prefixes {
        let Some(table) = config.interface.table.table(&prefix, mark, &subnets) else {
            continue;
        };
        let family = Family::of_prefix(prefix);
        let route = Route {
            owner: Owner::Foreign,
            kind: RouteKind::on_link(name, family),
        };
        let key = RouteKey::new(table, prefix, 0);
        changes.push(RouteChange(key, RouteOperation::Create(route)).into());
        if config.interface.table.lead_everywhere([&prefix]) {
            let next = facts.next_priority.get(&family).copied().unwrap_or(32_765);
            let rules = rules_of_default(family, mark, next);
            changes.extend(rules.map(|rule| NetlinkChange::Rule(RuleChange(rule, Existence::Create))));
        }
    }
}

fn allowed_ips(config: &Config) -> impl Iterator<Item = &IpNet> {
    config.peers.iter().flat_map(|peer| &peer.allowed_ips)
}

fn rules_of_default(family: Family, mark: u32, next: u32) -> [Rule; 2] {
    let leading = Rule {
        not: true,
        mark: Mark::new(mark, 0),
        ..Rule::to_table(family, next, mark)
    };
    let specific = Rule {
        suppress_prefix_length: Some(0),
        ..Rule::to_table(family, next.saturating_sub(1), MAIN_TABLE)
    };
    [leading, specific]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn setup(text: &str, facts: &Facts) -> Vec<String> {
        let config = Config::parse(Path::new("wg0.conf"), text.as_bytes()).unwrap();
        let setup = Setup::new(&LinkName::constant("wg0"), &config, facts);
        let rest = setup.rest.iter().map(ToString::to_string);
        let wireguard = setup
            .wireguard
            .iter()
            .filter(|change| matches!(change, DeviceChange::SetFwmark(_)));
        wireguard.map(ToString::to_string).chain(rest).collect()
    }

    const PEER: &str = "[Peer]\nPublicKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

    #[test]
    fn routes_but_for_what_an_address_brings_along() {
        let text = format!(
            "[Interface]\nAddress = 10.0.0.1/24, fd00::1\n{PEER}AllowedIPs = 10.0.0.2, 10.1.0.0/16, fd00::/64\n"
        );
        let facts = Facts {
            default_mtu: Some(9000),
            ..Facts::default()
        };
        assert_eq!(
            setup(&text, &facts),
            [
                "add address 10.0.0.1/24 dev wg0",
                "add address fd00::1/128 dev wg0",
                "set link wg0 mtu 8920",
                "set link wg0 up",
                "add route fd00::/64 metric 1024 dev wg0",
                "add route 10.1.0.0/16 metric 0 dev wg0 scope link",
            ]
        );
    }

    #[test]
    fn a_default_route_has_the_next_free_table_and_rules() {
        let text = format!("[Interface]\n{PEER}AllowedIPs = 0.0.0.0/0\nEndpoint = 192.0.2.1:1\n");
        let facts = Facts {
            mtus: BTreeMap::from([("192.0.2.1".parse().unwrap(), 1400)]),
            tables: BTreeSet::from([254, 51820, 51821]),
            next_priority: BTreeMap::from([(Family::Ipv4, 100)]),
            ..Facts::default()
        };
        let made = setup(&text, &facts);
        assert_eq!(
            made[..3],
            ["fwmark 0xca6e", "set link wg0 mtu 1320", "set link wg0 up"]
        );
        assert!(
            made[3].starts_with("add route 0.0.0.0/0 metric 0 table 51822"),
            "{made:?}"
        );
        assert_eq!(
            made[4..],
            [
                "add rule priority 100 not fwmark 0xca6e table 51822",
                "add rule priority 99 table main suppress_prefixlength 0",
            ]
        );
        let with_mark = text.replace("[Interface]\n", "[Interface]\nFwMark = 7\n");
        assert_eq!(setup(&with_mark, &facts)[0], "fwmark 0x7");
        let off = text.replace("[Interface]\n", "[Interface]\nTable = off\n");
        assert_eq!(setup(&off, &facts), ["set link wg0 mtu 1320", "set link wg0 up"]);
    }

    #[test]
    fn the_rules_of_one_device_are_told_from_anothers() {
        let [leading, specific] = rules_of_default(Family::Ipv4, 51820, 32_765);
        let [other, other_specific] = rules_of_default(Family::Ipv4, 51821, 32_763);
        let all = [other_specific, other.clone(), specific.clone(), leading.clone()];
        assert_eq!(default_rules(&all, 51820), [specific, leading]);
        assert_eq!(default_rules(&all, 51821)[1], other);
        assert_eq!(default_rules(&all, 7), []);
    }
}
