//! The declared objects of the damaged node, in its own namespace and in a named one, and operations on them.

use crate::declared::of_node;
use crate::hand::Operation;
use crate::named::Named;

/// A device, a pair into the other namespace, and a route and a rule in both namespaces.
#[must_use]
pub fn manifests(there: &Named) -> String {
    let there = format!("namespace: {{ name: {} }}", there.0);
    let peer =
        format!("peer: {{ name: eth0, {there}, mtu: 1400, addresses: [100.64.84.2/24, \"fd84::2/64\"] }}");
    let objects = [
        (
            "NetlinkInterface",
            "declared0",
            "type: dummy, mtu: 1400, addresses: [100.64.83.1/24, \"fd83::1/64\"]".to_owned(),
        ),
        (
            "NetlinkInterface",
            "host0",
            format!("type: veth, mtu: 1400, addresses: [100.64.84.1/24, \"fd84::1/64\"], {peer}"),
        ),
        (
            "NetlinkRoute",
            "here",
            "to: 100.65.0.0/16, metric: 50, nextHops: [{ via: 100.64.84.2, dev: host0 }]".to_owned(),
        ),
        (
            "NetlinkRoute",
            "there",
            format!("to: 100.66.0.0/16, metric: 50, {there}, nextHops: [{{ via: 100.64.84.1, dev: eth0 }}]"),
        ),
        (
            "NetlinkRule",
            "here",
            "priority: 4711, from: 100.64.83.0/24, table: 85".to_owned(),
        ),
        (
            "NetlinkRule",
            "there",
            format!("priority: 4712, from: 100.64.84.0/24, table: 86, {there}"),
        ),
    ];
    let manifest = |(kind, name, spec): &(&str, &str, String)| of_node("a", kind, name, spec);
    objects.iter().map(manifest).collect()
}

/// Operations on declared objects, in addition to those that [`crate::hand`] finds.
#[must_use]
pub fn operations(there: &Named) -> Vec<Operation> {
    let mut all = Vec::new();
    for link in ["declared0", "host0"] {
        for lines in [
            format!("link delete {link}"),
            format!("link set {link} down"),
            format!("link set {link} down\nlink set {link} name renamed"),
            format!("link set {link} mtu 1291"),
        ] {
            all.push(Operation::ip(lines, "link", format!("link {link}")));
        }
    }
    for (address, link) in [
        ("100.64.83.1/24", "declared0"),
        ("fd83::1/64", "declared0"),
        ("100.64.84.1/24", "host0"),
        ("fd84::1/64", "host0"),
    ] {
        let line = format!("address delete {address} dev {link}");
        let object = format!("address {address} dev {link}");
        all.push(Operation::ip(line, "address", object));
    }
    all.push(Operation::ip(
        "rule delete priority 4711".to_owned(),
        "rule",
        "rule priority 4711 from 100.64.83.0/24 table 85".to_owned(),
    ));
    let elsewhere = [
        ("link set eth0 down", "link", "link eth0"),
        ("link set eth0 mtu 1291", "link", "link eth0"),
        (
            "address delete 100.64.84.2/24 dev eth0",
            "address",
            "address 100.64.84.2/24 dev eth0",
        ),
        (
            "address delete fd84::2/64 dev eth0",
            "address",
            "address fd84::2/64 dev eth0",
        ),
        (
            "route delete 100.66.0.0/16 metric 50",
            "route",
            "route 100.66.0.0/16 metric 50",
        ),
        (
            "rule delete priority 4712",
            "rule",
            "rule priority 4712 from 100.64.84.0/24 table 86",
        ),
    ];
    for (line, kind, object) in elsewhere {
        let object = format!("netns {}: {object}", there.0);
        all.push(Operation::elsewhere(&there.0, line.to_owned(), kind, object));
    }
    // Deleting one end deletes both, and one message recreates the pair.
    all.push(Operation::elsewhere(
        &there.0,
        "link delete eth0".to_owned(),
        "link",
        "link host0".to_owned(),
    ));
    all
}
