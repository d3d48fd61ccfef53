//! Devices.

use std::collections::BTreeMap;

use adit_tests::{NetNs, require, require_module};
use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::model::change::{
    AddressChange, AddressOperation, DeleteLinkReason, LinkChange, LinkOperation, LinkPatch, NetlinkChange,
};
use dataplane_user::model::{AddressScope, Link, LinkKind, Owner};
use dataplane_user::net::{MacAddr, PortRange};

use crate::{address, execute, name, observe, prefix, vxlan};

async fn link_reads_back(kind: LinkKind) {
    let mut netlink = Netlink::open().unwrap();
    let ethernet = !matches!(kind, LinkKind::Ipip { .. } | LinkKind::Ip6tnl { .. });
    let link = Link {
        kind,
        mac: vxlan().mac.filter(|_| ethernet),
        ..vxlan()
    };
    let ours = name("ours");
    execute(
        &mut netlink,
        &[NetlinkChange::Link(LinkChange(
            ours.clone(),
            LinkOperation::Create(link.clone()),
        ))],
    )
    .await;
    assert_eq!(observe(&mut netlink).await.links[&ours], link);

    execute(
        &mut netlink,
        &[NetlinkChange::Link(LinkChange(
            ours.clone(),
            LinkOperation::SetUp,
        ))],
    )
    .await;
    let state = observe(&mut netlink).await;
    assert_eq!(
        state.links[&ours],
        Link {
            up: true,
            ..link.clone()
        }
    );
    assert_eq!(state.addresses, BTreeMap::new(), "it generates no addresses");

    let patch = LinkPatch {
        mac: ethernet.then_some(MacAddr([2, 0, 0, 0, 0, 0x0b])),
        mtu: Some(1400),
        arp: Some(true),
        generates_addresses: Some(true),
    };
    execute(
        &mut netlink,
        &[NetlinkChange::Link(LinkChange(
            ours.clone(),
            LinkOperation::Modify(patch),
        ))],
    )
    .await;
    let modified = Link {
        mac: patch.mac,
        mtu: patch.mtu,
        arp: true,
        generates_addresses: true,
        up: true,
        ..link
    };
    assert_eq!(observe(&mut netlink).await.links[&ours], modified);

    let delete = NetlinkChange::Link(LinkChange(
        ours.clone(),
        LinkOperation::Delete(DeleteLinkReason::Unneeded),
    ));
    execute(&mut netlink, &[delete.clone(), delete]).await;
    assert!(!observe(&mut netlink).await.links.contains_key(&ours));
    assert_eq!(netlink.link_index(&ours), None);
}

#[test]
fn a_vxlan_device_reads_back() {
    if require_module("vxlan") {
        for source_ports in [None, PortRange::new(49152, 65535)] {
            let kind = LinkKind::Vxlan {
                port: 4789,
                source_ports,
            };
            NetNs::new().run(|| link_reads_back(kind));
        }
    }
}

#[test]
fn a_geneve_device_reads_back() {
    if require_module("geneve") {
        NetNs::new().run(|| link_reads_back(LinkKind::Geneve { port: 6081 }));
    }
}

#[test]
fn a_dummy_device_reads_back() {
    if require_module("dummy") {
        NetNs::new().run(|| link_reads_back(LinkKind::Dummy));
    }
}

#[test]
fn an_ipip_device_reads_back() {
    if require_module("ipip") {
        NetNs::new().run(|| link_reads_back(LinkKind::Ipip { protocol: 4 }));
    }
}

#[test]
fn an_ip6tnl_device_reads_back() {
    if require_module("ip6_tunnel") {
        NetNs::new().run(|| link_reads_back(LinkKind::Ip6tnl { protocol: 0 }));
    }
}

/// The devices that these modules create in each namespace are not flow-based; a namespace has one flow-based device per
/// kind.
#[test]
fn a_namespace_has_one_flow_based_ip_tunnel_per_kind() {
    require!(modules: "ipip", "ip6_tunnel");
    let netns = NetNs::new();
    netns.ip("link add foreign4 type ipip external");
    netns.ip("link add foreign6 type ip6tnl external mode ip6ip6");
    netns.ip("link add plain4 type ipip local 192.0.2.1 remote 192.0.2.2");
    let kinds = [LinkKind::Ipip { protocol: 4 }, LinkKind::Ip6tnl { protocol: 0 }];
    netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        let state = observe(&mut netlink).await;
        let words = |link: &str| state.links[link].kind.to_string();
        assert_eq!(words("foreign4"), "ipip external mode any");
        assert_eq!(words("foreign6"), "ip6tnl external mode ip6ip6");
        assert_eq!(words("plain4"), "ipip local 192.0.2.1 remote 192.0.2.2");
        for kind in kinds {
            let excluding = state
                .links
                .iter()
                .filter(|(_, link)| link.kind.excludes(&kind).is_some());
            assert_eq!(excluding.count(), 1, "{kind}");
            let link = Link {
                kind,
                mac: None,
                ..vxlan()
            };
            let outcomes = netlink
                .execute(&[NetlinkChange::Link(LinkChange(
                    name("ours"),
                    LinkOperation::Create(link),
                ))])
                .await;
            assert_eq!(outcomes[0].as_ref().unwrap_err().errno(), Some(libc::EEXIST));
        }
    });
}

#[test]
fn a_lower_device_that_is_looked_up_for_a_creation_stays_as_it_is() {
    if !require_module("vxlan") || !require_module("dummy") {
        return;
    }
    let netns = NetNs::new();
    netns.ip("link add lower0 type dummy");
    let look = || netns.ip("-d link show lower0");
    let before = look();
    assert!(before.contains("addrgenmode eui64"), "{before}");
    let upper = Link {
        kind: LinkKind::VxlanTo {
            vni: 7,
            local: None,
            port: 4790,
            group: Some("192.0.2.1".parse().unwrap()),
            lower: Some(name("lower0")),
        },
        generates_addresses: false,
        ..vxlan()
    };
    netns.run(async || {
        // It has not read any device yet.
        let mut netlink = Netlink::open().unwrap();
        let create = LinkOperation::Create(upper.clone());
        let create = NetlinkChange::Link(LinkChange(name("ours"), create));
        execute(&mut netlink, &[create]).await;
        assert_eq!(
            observe(&mut netlink).await.links["ours"],
            Link { up: false, ..upper }
        );
    });
    assert_eq!(look(), before);
}

#[test]
fn other_devices_are_unmanaged_and_described() {
    let netns = NetNs::new();
    netns.ip("link add bridge0 mtu 1400 up type bridge");
    netns.ip("link add vxlan0 type vxlan id 7 dstport 4790 remote 192.0.2.1 dev lo");
    netns.ip("link add vxlan1 group 173 type vxlan external dstport 4791 learning");
    let state = netns.run(async || observe(&mut Netlink::open().unwrap()).await);

    let bridge = &state.links["bridge0"];
    assert_eq!(
        (bridge.owner, bridge.mtu, bridge.up),
        (Owner::Other, Some(1400), true)
    );
    assert!(bridge.arp && bridge.generates_addresses && bridge.mac.is_some());
    assert_eq!(bridge.kind, LinkKind::Bridge);
    let words = |link: &str| state.links[link].kind.to_string();
    assert_eq!(
        words("vxlan0"),
        "vxlan dstport 4790 id 7 remote 192.0.2.1 dev if1 learning noudp6zerocsumrx"
    );
    assert_eq!(
        words("vxlan1"),
        "vxlan external dstport 4791 learning noudp6zerocsumrx"
    );
    assert_eq!(state.links["vxlan1"].owner, Owner::Adit);
    assert_eq!(words("lo"), "loopback");
    assert_eq!(state.links["lo"].mac, None);
}

#[test]
fn an_unmanaged_device_with_a_managed_name_stays() {
    let netns = NetNs::new();
    netns.ip("link add ours mtu 1400 type bridge");
    let before = netns.ip("-d link show ours");
    netns.run(async || {
        let mut netlink = Netlink::open().unwrap();
        let ours = name("ours");
        let patch = LinkPatch {
            mtu: Some(1300),
            ..LinkPatch::default()
        };
        let changes = [
            NetlinkChange::Link(LinkChange(ours.clone(), LinkOperation::Create(vxlan()))),
            NetlinkChange::Link(LinkChange(ours.clone(), LinkOperation::SetUp)),
            NetlinkChange::Link(LinkChange(ours.clone(), LinkOperation::Modify(patch))),
            NetlinkChange::Address(AddressChange(
                ours.clone(),
                prefix("192.0.2.1/32"),
                AddressOperation::Create(address(AddressScope::Global)),
            )),
            NetlinkChange::Link(LinkChange(
                ours.clone(),
                LinkOperation::Delete(DeleteLinkReason::Unneeded),
            )),
        ];
        let outcomes = netlink.execute(&changes).await;
        let errors: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap_err()).collect();
        assert_eq!(errors[0].errno(), Some(libc::EEXIST));
        assert!(
            errors[0].to_string().contains("not created by Adit"),
            "{}",
            errors[0]
        );
        for error in &errors[1..] {
            assert!(error.to_string().contains("not managed by Adit"), "{error}");
        }
    });
    assert_eq!(netns.ip("-d link show ours"), before);
}
