//! Devices on one host: created, kept, repaired after damage, and deleted completely.

use adit_tests::{Agent, NetNs, Topology, require, require_module, scrape, snapshot};

use crate::{Named, becomes, interface, is_settled, reaches};

const ALL: [&str; 4] = ["dummy", "bridge", "veth", "vxlan"];

fn have_modules() -> bool {
    ALL.into_iter().all(require_module) && require_module("geneve") && require_module("ipip")
}

fn one_of_each() -> String {
    [
        interface("dum0", "type: dummy, addresses: [10.70.0.1, 10.70.1.1/24, 'fd70::1/64'], mtu: 1400"),
        interface("a-quite-long-name", "type: dummy, keepLinkLocal: false"),
        interface("br0", "type: bridge, ports: [left], mac: '02:00:00:00:00:70', addresses: [10.71.0.1/24]"),
        interface("left", "type: veth, peer: { name: right, addresses: [10.71.0.2/24], mtu: 1450 }"),
        interface(
            "ptp",
            "type: dummy, addresses: [{ address: 10.72.0.1, peer: 10.72.0.2 }, { address: 'fd72::1', peer: 'fd72::2' }]",
        ),
        interface("vx0", "type: vxlan, vni: 70, dstport: 4790, remotes: [192.0.2.99, 192.0.2.98]"),
        interface("vxm", "type: vxlan, vni: 71, dstport: 4791, group: 239.7.0.1, dev: u0"),
        interface("gen0", "type: geneve, id: 72, remote: '2001:db8::99', dstport: 6082"),
        interface("ip0", "type: ipip, local: 192.0.2.1, remote: 192.0.2.99, ttl: 33"),
        interface("off0", "type: dummy, up: false"),
    ]
    .concat()
}

#[test]
fn each_type_of_device_is_created_and_a_second_reconciliation_changes_nothing() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let before = snapshot::everything(netns, &[]);
    let mut agent = Agent::started(&topology.hosts[0], &one_of_each());
    is_settled(&agent);

    let shown = netns.ip("-d -br address show dum0") + &netns.ip("-d link show");
    for wanted in [
        "10.70.0.1/32",
        "10.70.1.1/24",
        "fd70::1/64",
        "alias a-quite-long-name",
        "vxlan id 70 ",
        "vxlan id 71 group 239.7.0.1 dev u0",
        "geneve id 72 remote 2001:db8::99",
        "ipip remote 192.0.2.99 local 192.0.2.1 ttl 33",
        "link/ether 02:00:00:00:00:70",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    assert!(netns.ip("link show master br0").contains("left"));
    assert!(
        netns
            .ip("address show ptp")
            .contains("inet 10.72.0.1 peer 10.72.0.2/32")
    );
    assert!(netns.ip("-br link show off0").contains("DOWN"));
    let cut = netns.ip("-o -6 address show scope link");
    assert!(!cut.contains("a-quite-lo"), "{cut}");
    assert!(
        cut.contains("br0") || cut.contains("dum0"),
        "the kernel's are kept: {cut}"
    );

    agent.stop();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert_eq!(snapshot::everything(netns, &[]), before);
}

#[test]
fn link_local_addresses_stay_unless_told_otherwise() {
    require!(modules: "bridge");
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    // A bridge generates one from its hardware address.
    let with = |keep: bool| {
        let spec = format!("type: bridge, addresses: ['fd70::1/64'], keepLinkLocal: {keep}");
        interface("br0", &spec)
    };
    let agent = Agent::started(&topology.hosts[0], &with(true));
    let shown = || netns.ip("-6 -o address show dev br0");
    becomes("generated", shown, |shown| shown.contains("fe80::"));
    is_settled(&agent);
    agent.write(&with(false));
    becomes("gone", shown, |shown| {
        !shown.contains("fe80::") && shown.contains("fd70::1/64")
    });
    is_settled(&agent);
}

#[test]
fn damage_of_any_device_is_repaired_and_unmanaged_devices_stay() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    netns.ip("link add theirs type dummy");
    netns.ip("link set theirs up");
    let agent = Agent::started(&topology.hosts[0], &one_of_each());
    netns.ip("address add 10.74.9.9/32 dev theirs");
    let theirs = netns.ip("-d address show theirs");
    for damage in [
        "link delete dum0",
        "link set dum0 down",
        "link set dum0 mtu 1300",
        "link set dum0 down\nlink set dum0 name renamed",
        "address delete 10.70.1.1/24 dev dum0",
        "link delete left",
        "link delete right",
        "link set right down\nlink set right name wrong",
        "link set left nomaster",
        "link set right master br0",
        "link delete br0",
        "link set off0 up",
        "link set ptp arp on",
        "link delete vx0",
        "link delete gen0",
        "link delete ip0",
        "address delete 10.72.0.1 peer 10.72.0.2 dev ptp",
    ] {
        // In one batch, because Linux 6.1 renames only devices that are down.
        netns.ip_batch(damage);
        becomes(
            "mended",
            || agent.plan(&[]).stdout,
            |plan| plan.contains("Nothing to do."),
        );
    }
    is_settled(&agent);
    let netns_bridge = |words: &str| snapshot::run(netns, "bridge", words);
    netns_bridge("fdb delete 00:00:00:00:00:00 dev vx0 dst 192.0.2.99");
    netns_bridge("fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.97");
    becomes(
        "mended",
        || netns_bridge("fdb show dev vx0"),
        |shown| shown.contains("192.0.2.98") && shown.contains("192.0.2.99") && !shown.contains("192.0.2.97"),
    );
    assert_eq!(netns.ip("-d address show theirs"), theirs);
}

#[test]
fn a_changed_prefix_length_and_peer_are_applied_and_addresses_of_others_stay() {
    require!(modules: "dummy");
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let with = |addresses: &str| interface("dum0", &format!("type: dummy, addresses: [{addresses}]"));
    let agent = Agent::started(&topology.hosts[0], &with("10.70.0.1/24, 'fd70::1/64'"));
    netns.ip("address add 10.99.0.1/32 dev dum0");
    // The numbers of added, replaced and deleted addresses so far.
    let told = || {
        let page = scrape::page(netns);
        ["add", "replace", "delete"].map(|operation| {
            let series = format!(r#"adit_interface_operations_total{{operation="address-{operation}"}}"#);
            scrape::value(&page, &series)
        })
    };
    assert_eq!(told(), [2, 0, 0]);
    for (addresses, wanted, counts) in [
        (
            "10.70.0.1/16, 'fd70::1/48'",
            ["10.70.0.1/16", "fd70::1/48"],
            // Only IPv6 has no two of an address on a device.
            [3, 1, 1],
        ),
        ("10.70.0.1, 'fd70::1'", ["10.70.0.1/32", "fd70::1/128"], [4, 2, 2]),
        (
            "{ address: 10.70.0.1, peer: 10.70.0.2 }, { address: 'fd70::1', peer: 'fd70::2' }",
            ["10.70.0.1 peer 10.70.0.2/32", "fd70::1 peer fd70::2/128"],
            [4, 4, 2],
        ),
        (
            "{ address: 10.70.0.1, peer: 10.70.0.3/24 }, 'fd70::2/64'",
            ["10.70.0.1 peer 10.70.0.3/24", "fd70::2/64"],
            [6, 4, 4],
        ),
    ] {
        agent.write(&with(addresses));
        becomes(
            addresses,
            || netns.ip("address show dum0"),
            |shown| wanted.iter().all(|wanted| shown.contains(wanted)),
        );
        is_settled(&agent);
        assert_eq!(told(), counts, "{addresses}");
    }
    assert!(netns.ip("address show dum0").contains("10.99.0.1/32"));
}

#[test]
fn addresses_and_routes_of_others_stay_when_the_address_of_their_subnet_goes() {
    require!(modules: "dummy");
    let topology = Topology::<1>::new();
    let there = Named::new();
    let with = |host: u8| {
        let device = |name: &str, more: &str| {
            interface(
                name,
                &format!("type: dummy, noarp: false, addresses: [10.7{host}.0.1/24]{more}"),
            )
        };
        device("dum0", "") + &device("dum1", &format!(", namespace: {{ name: {} }}", there.0))
    };
    let agent = Agent::started(&topology.hosts[0], &with(0));
    let far = NetNs::named(&there.0);
    let ends = [("dum0", &topology.hosts[0].netns), ("dum1", &far)];
    for (device, netns) in ends {
        netns.ip(&format!("address add 10.70.0.9/24 dev {device}"));
        netns.ip("route add 10.99.0.0/16 via 10.70.0.8");
    }
    agent.apply(&with(1));
    is_settled(&agent);
    for (device, netns) in ends {
        let shown = netns.ip(&format!("address show dev {device}")) + &netns.ip("route");
        assert!(
            shown.contains("10.71.0.1/24") && !shown.contains("10.70.0.1/24"),
            "{shown}"
        );
        assert!(shown.contains("10.70.0.9/24"), "{shown}");
        assert!(shown.contains("10.99.0.0/16 via 10.70.0.8"), "{shown}");
    }
}

#[test]
fn a_device_of_another_kind_is_recreated() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let of = |kind: &str| interface("any", &format!("type: {kind}, addresses: [10.70.0.1/24]"));
    let agent = Agent::started(&topology.hosts[0], &of("dummy"));
    for (kind, fields) in [
        ("bridge", "bridge"),
        ("vxlan", "vxlan, vni: 70, dstport: 4790"),
        ("geneve", "geneve, id: 72, remote: 192.0.2.99, dstport: 6082"),
        ("dummy", "dummy"),
    ] {
        agent.write(&of(fields));
        becomes(
            kind,
            // By its name it could not be shown between its deletion and its creation.
            || netns.ip("-d address show"),
            |shown| shown.contains(&format!("{kind} ")) && shown.contains("10.70.0.1/24"),
        );
        is_settled(&agent);
    }
}

#[test]
fn creation_order_does_not_matter() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    // The names are in the wrong order: a lower device, a port and the device of a route are created later.
    let manifests = [
        interface(
            "a-on-late",
            "type: vxlan, vni: 9, group: 239.1.1.9, dev: late, dstport: 4799",
        ),
        interface("a-bridge", "type: bridge, ports: [z-port, late2]"),
        interface("z-port", "type: veth, peer: { name: z-peer }"),
        crate::route("r", "to: 10.88.0.0/16, dev: late"),
    ];
    let mut agent = Agent::new(&topology.hosts[0], &manifests.concat()).with_pauses("waiting=200");
    agent.start();
    agent.ready();
    let status = agent.next_reconciliation();
    assert_eq!(
        crate::waits(&status),
        ["link a-bridge", "link a-on-late", "route 10.88.0.0/16 metric 0"]
    );
    assert!(netns.ip("link show master a-bridge").contains("z-port"));
    netns.ip("link add late type dummy");
    netns.ip("link set late up");
    becomes(
        "there",
        || netns.ip("-d link show") + &netns.ip("route"),
        |shown| shown.contains("239.1.1.9 dev late") && shown.contains("10.88.0.0/16 dev late"),
    );
    netns.ip("link delete late");
    let status = agent.wait("waiting again", |status| crate::waits(status).len() == 3);
    assert!(status.ready, "{status:#?}");
}

#[test]
fn a_bridge_with_two_ports_joins_two_namespaces() {
    require!(modules: "veth", "bridge");
    let topology = Topology::<1>::new();
    let (one, two) = (Named::new(), Named::new());
    let end = |name: &str, namespace: &Named, address: &str| {
        interface(
            name,
            &format!(
                "type: veth, peer: {{ name: eth0, namespace: {{ name: {} }}, addresses: [{address}, 'fd74::{}/64'] }}",
                namespace.0,
                &address[8..9]
            ),
        )
    };
    let manifests = [
        interface(
            "br0",
            "type: bridge, ports: [to-one, to-two], addresses: [10.74.0.9/24]",
        ),
        end("to-one", &one, "10.74.0.1/24"),
        end("to-two", &two, "10.74.0.2/24"),
    ];
    let agent = Agent::started(&topology.hosts[0], &manifests.concat());
    is_settled(&agent);
    assert!(one.reaches("10.74.0.2") && two.reaches("fd74::1"));
    assert!(reaches(&topology.hosts[0].netns, "10.74.0.1"));
}
