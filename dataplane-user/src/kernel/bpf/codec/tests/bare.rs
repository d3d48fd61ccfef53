//! Classes and next hops without encapsulation: a device, and a neighbour of either family.

use super::*;
use crate::net::LinkName;

#[test]
fn classes_without_encapsulation_have_a_device_alone() {
    let [eth0, eth1] = ["eth0", "eth1"].map(|name| UnderlayDevice::of(&LinkName::constant(name)));
    let raw = encode_class(&Class::bare(eth0), 9).unwrap();
    assert_eq!(decode_class(&raw), Some(Class::bare(eth0)));
    assert_ne!(encode_class(&Class::bare(eth1), 9).unwrap(), raw);
    for raw in [
        layout::Class {
            underlay: [0; 8],
            ..raw
        },
        layout::Class { ttl: 64, ..raw },
        layout::Class { vni: 1, ..raw },
        layout::Class { flags: 0, ..raw },
        layout::Class {
            reserved: [0, 0, 0, 1],
            ..raw
        },
        layout::Class {
            underlay: eth0.to_bytes(),
            ..encode_class(&class(), 9).unwrap()
        },
    ] {
        assert_eq!(decode_class(&raw), None, "{raw:?}");
    }
    for class in [
        Class {
            ttl: 64,
            ..Class::bare(eth0)
        },
        Class {
            underlay: None,
            ..Class::bare(eth0)
        },
        Class {
            underlay: Some(eth0),
            ..class()
        },
    ] {
        assert!(encode_class(&class, 9).is_err(), "{class:?}");
    }
}

#[test]
fn next_hops_without_encapsulation_have_a_neighbour_of_either_family() {
    let bare = Class::bare(UnderlayDevice::of(&LinkName::constant("eth0")));
    let next_hop = |gateway: &str| NextHop {
        node: NodeLabel::from_text("node-a"),
        remote: [192, 0, 2, 1].into(),
        local: [192, 0, 2, 2].into(),
        destination_mac: None,
        gateway: Some(gateway.parse().unwrap()),
        class: bare,
    };
    for gateway in ["192.0.2.254", "fe80::1", "::192.0.2.254"] {
        let next_hop = next_hop(gateway);
        let raw = encode_next_hop(&next_hop, 3).unwrap();
        let label = encode_label(&next_hop.node).unwrap();
        assert_eq!(decode_next_hop(&raw, &label, bare).as_ref(), Some(&next_hop));
        assert_eq!(
            decode_next_hop(&raw, &label, class()),
            None,
            "in a tunnel's class"
        );
        let unset = layout::NextHop {
            gateway: [0; 16],
            ..raw
        };
        assert_eq!(decode_next_hop(&unset, &label, bare), None);
    }
    let v4 = encode_next_hop(&next_hop("192.0.2.254"), 3).unwrap();
    let label = encode_label(&NodeLabel::from_text("node-a")).unwrap();
    let mut longer = v4;
    longer.gateway[15] = 1;
    assert_eq!(
        decode_next_hop(&longer, &label, bare),
        None,
        "more than an IPv4 address"
    );
    for wrong in [
        NextHop {
            gateway: None,
            ..next_hop("192.0.2.254")
        },
        NextHop {
            class: class(),
            ..next_hop("192.0.2.254")
        },
        next_hop("0.0.0.0"),
    ] {
        assert!(encode_next_hop(&wrong, 3).is_err(), "{wrong:?}");
    }
}
