//! What the plan makes of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::diff::diff;
use crate::model::KernelState;
use crate::model::facts::NodeFacts;
use crate::net::{Family, KeySource, LinkName};
use crate::plan::plan;
use crate::wg_quick::Config;
use crate::wg_quick::up::{Facts, intent};

const PEER: &str = "[Peer]\nPublicKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

/// The changes, but for the device and its peer.
fn changes(text: &str, facts: &Facts) -> Vec<String> {
    let config = Config::parse(Path::new("wg0.conf"), text.as_bytes()).unwrap();
    let interface = config.interface(&LinkName::constant("wg0"), KeySource::Node, facts);
    let (target, problems) = plan(&intent(interface), &NodeFacts::default());
    assert_eq!(problems, []);
    let set = diff(&KernelState::default(), &target);
    let all = set.changes.iter().map(ToString::to_string);
    let told = ["address", "route", "rule", "fwmark", "mtu"];
    all.filter(|change| told.iter().any(|word| change.contains(word)))
        .collect()
}

#[test]
fn routes_but_for_what_an_address_brings_along() {
    let text = format!(
        "[Interface]\nAddress = 10.0.0.1/24, 10.2.0.1, fd00::1/64, fd02::1\n{PEER}AllowedIPs = 10.0.0.2, 10.1.0.0/16, \
         10.2.0.1, fd00::/64, fd02::1, fd02::2\n"
    );
    let facts = Facts {
        default_mtu: Some(9000),
        ..Facts::default()
    };
    // The kernel makes a route to an IPv6 address that stands alone, and none to such an IPv4 one.
    assert_eq!(changes(&text, &facts), ["",]);
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
    assert_eq!(changes(&text, &facts), ["",]);
    let with_mark = text.replace("[Interface]\n", "[Interface]\nFwMark = 7\n");
    assert_eq!(changes(&with_mark, &facts)[1], "");
    let off = text.replace("[Interface]\n", "[Interface]\nTable = off\n");
    assert_eq!(changes(&off, &facts), [""]);
}

#[test]
fn a_device_with_too_small_an_mtu_has_no_ipv6_addresses() {
    let with = |mtu| {
        let text = format!("[Interface]\nAddress = 10.0.0.1/24, fd00::1/64\nMTU = {mtu}\n{PEER}");
        let changes = changes(&text, &Facts::default());
        changes
            .iter()
            .filter(|change| change.starts_with("add address"))
            .count()
    };
    assert_eq!((with(1280), with(1279)), (2, 1));
}
