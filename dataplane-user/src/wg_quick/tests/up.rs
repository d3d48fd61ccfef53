//! The plan for the devices of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::diff::diff;
use crate::model::KernelState;
use crate::model::facts::{NodeFacts, UnderlayPath};
use crate::net::{Family, KeySource, LinkName};
use crate::plan::plan;
use crate::wg_quick::Config;
use crate::wg_quick::up::{Machine, intent};

const PEER: &str = "[Peer]\nPublicKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

/// The MTU of the device, and the planned changes without those of the device itself and its peer.
fn changes(text: &str, facts: &NodeFacts, machine: &Machine) -> Vec<String> {
    let config = Config::parse(Path::new("wg0.conf"), text.as_bytes()).unwrap();
    let name = LinkName::constant("wg0");
    let interface = config.interface(&name, KeySource::Node, facts, machine);
    let (desired, problems) = plan(&intent(interface), facts);
    assert_eq!(problems, []);
    let set = diff(&KernelState::default(), &desired);
    let all = set.changes.iter().map(ToString::to_string);
    let told = ["address", "route", "rule", "fwmark"];
    let told = all.filter(|change| told.iter().any(|word| change.contains(word)));
    let mtu = desired.links[&name].mtu.unwrap();
    [format!("mtu {mtu}")].into_iter().chain(told).collect()
}

#[test]
fn routes_but_for_what_an_address_brings_along() {
    let text = format!(
        "[Interface]\nAddress = 10.0.0.1/24, 10.2.0.1, fd00::1/64, fd02::1\n{PEER}AllowedIPs = 10.0.0.2, 10.1.0.0/16, \
         10.2.0.1, fd00::/64, fd02::1, fd02::2\n"
    );
    let machine = Machine {
        default_mtu: Some(9000),
        ..Machine::default()
    };
    // The kernel creates a route to a single IPv6 address, and none to a single IPv4 address.
    assert_eq!(
        changes(&text, &NodeFacts::default(), &machine),
        [
            "mtu 8920",
            "add address 10.0.0.1/24 dev wg0",
            "add address 10.2.0.1/32 dev wg0",
            "add address fd00::1/64 dev wg0",
            "add address fd02::1/128 dev wg0",
            "add route 10.1.0.0/16 metric 0 dev wg0 scope link",
            "add route 10.2.0.1/32 metric 0 dev wg0 scope link",
            "add route fd02::2/128 metric 1024 dev wg0",
        ]
    );
}

#[test]
fn a_default_route_has_the_next_free_table_and_rules() {
    let text = format!("[Interface]\n{PEER}AllowedIPs = 0.0.0.0/0\nEndpoint = 192.0.2.1:1\n");
    let path = UnderlayPath {
        link: LinkName::constant("u0"),
        gateway: None,
        mtu: 1400,
    };
    let facts = NodeFacts {
        paths: BTreeMap::from([("192.0.2.1".parse().unwrap(), path)]),
        ..NodeFacts::default()
    };
    let machine = Machine {
        tables: BTreeSet::from([254, 51820, 51821]),
        next_priority: BTreeMap::from([(Family::Ipv4, 100)]),
        ..Machine::default()
    };
    assert_eq!(
        changes(&text, &facts, &machine),
        [
            "mtu 1320",
            "set wireguard wg0 fwmark 0xca6e",
            "add route 0.0.0.0/0 metric 0 table 51822 dev wg0 scope link",
            "add rule priority 99 table main suppress_prefixlength 0",
            "add rule priority 100 not fwmark 0xca6e table 51822",
        ]
    );
    let with_mark = text.replace("[Interface]\n", "[Interface]\nFwMark = 7\n");
    assert_eq!(
        changes(&with_mark, &facts, &machine)[1],
        "set wireguard wg0 fwmark 0x7"
    );
    let off = text.replace("[Interface]\n", "[Interface]\nTable = off\n");
    assert_eq!(changes(&off, &facts, &machine), ["mtu 1320"]);
}

#[test]
fn a_device_with_too_small_an_mtu_has_no_addresses() {
    let with = |mtu| {
        let text = format!("[Interface]\nAddress = 10.0.0.1/24, fd00::1/64\nMTU = {mtu}\n{PEER}");
        let changes = changes(&text, &NodeFacts::default(), &Machine::default());
        changes
            .iter()
            .filter(|change| change.starts_with("add address"))
            .count()
    };
    assert_eq!([1280, 1279, 68, 67].map(with), [2, 1, 1, 0]);
}
