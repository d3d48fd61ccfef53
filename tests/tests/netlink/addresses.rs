//! Addresses.

use std::collections::BTreeMap;

use adit_tests::NetNs;
use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::model::change::{AddressChange, AddressOperation, NetlinkChange};
use dataplane_user::model::{Address, AddressScope, Owner};
use dataplane_user::net::LinkName;
use ipnet::IpNet;

use crate::{address, execute, name, observe, prefix, with_link};

#[test]
fn addresses_read_back() {
    let netns = NetNs::new();
    netns.run(async || {
        let mut netlink = with_link().await;
        let ours = name("ours");
        let wanted: BTreeMap<_, _> = [
            ("169.254.1.2/32", AddressScope::Host),
            ("10.1.0.1/24", AddressScope::Global),
            ("10.2.0.1/32", AddressScope::Link),
            ("fd00:1::1/128", AddressScope::Global),
            ("fd00:2::1/64", AddressScope::Global),
            ("fe80::1/64", AddressScope::Link),
        ]
        .map(|(text, scope)| ((ours.clone(), prefix(text)), address(scope)))
        .into();
        let create = |((link, prefix), address): (&(LinkName, IpNet), &Address)| {
            NetlinkChange::Address(AddressChange(
                link.clone(),
                *prefix,
                AddressOperation::Create(*address),
            ))
        };
        let changes: Vec<_> = wanted.iter().map(create).collect();
        execute(&mut netlink, &changes).await;
        assert_eq!(observe(&mut netlink).await.addresses, wanted);
        for outcome in netlink.execute(&changes).await {
            assert_eq!(outcome.unwrap_err().errno(), Some(libc::EEXIST));
        }

        let scoped = prefix("169.254.1.2/32");
        let replace = NetlinkChange::Address(AddressChange(
            ours.clone(),
            scoped,
            AddressOperation::Replace(address(AddressScope::Global)),
        ));
        execute(&mut netlink, &[replace]).await;
        let replaced = observe(&mut netlink).await.addresses[&(ours.clone(), scoped)];
        assert_eq!(replaced, address(AddressScope::Global));

        let delete = |(link, prefix): &(LinkName, IpNet)| {
            NetlinkChange::Address(AddressChange(
                link.clone(),
                *prefix,
                AddressOperation::Delete { first: false },
            ))
        };
        let mut changes: Vec<_> = wanted.keys().map(delete).collect();
        changes.extend_from_within(..);
        changes.push(AddressChange(name("gone"), scoped, AddressOperation::Delete { first: false }).into());
        execute(&mut netlink, &changes).await;
        assert_eq!(observe(&mut netlink).await.addresses, BTreeMap::new());
    });
}

#[test]
fn unmanaged_addresses_are_seen_only_on_managed_links() {
    let netns = NetNs::new();
    netns.ip("link add bridge0 up type bridge");
    netns.ip("link add ours group 173 type bridge");
    netns.ip("addr add 192.0.2.1/24 dev bridge0");
    netns.ip("addr add 192.0.2.2/24 dev ours");
    let state = netns.run(async || observe(&mut Netlink::open().unwrap()).await);
    let foreign = Address {
        owner: Owner::Other,
        scope: AddressScope::Global,
        peer: None,
    };
    assert_eq!(
        state.addresses,
        BTreeMap::from([((name("ours"), prefix("192.0.2.2/24")), foreign)])
    );
}

/// By default the kernel deletes all other addresses of a subnet together with the first one.
#[test]
fn addresses_of_others_outlive_a_managed_one_that_is_deleted_or_replaced() {
    let netns = NetNs::new();
    let ours = name("ours");
    let change =
        |operation| NetlinkChange::Address(AddressChange(ours.clone(), prefix("10.5.0.1/24"), operation));
    netns.run(async || {
        let mut netlink = with_link().await;
        let create = change(AddressOperation::Create(address(AddressScope::Global)));
        execute(&mut netlink, &[create]).await;
    });
    netns.ip("address add 10.5.0.7/24 dev ours");
    netns.ip("route add 10.6.0.0/16 via 10.5.0.9");
    let stays = || {
        let shown = netns.ip("address show dev ours") + &netns.ip("route");
        assert!(shown.contains("inet 10.5.0.7/24"), "{shown}");
        assert!(shown.contains("10.6.0.0/16 via 10.5.0.9 dev ours"), "{shown}");
        assert!(shown.contains("10.5.0.0/24 dev ours"), "{shown}");
    };
    let at_a_peer = Address {
        peer: Some([10, 5, 0, 3].into()),
        ..address(AddressScope::Global)
    };
    for operation in [
        AddressOperation::Replace(at_a_peer),
        AddressOperation::Delete { first: false },
    ] {
        netns.run(async || {
            let mut netlink = Netlink::open().unwrap();
            observe(&mut netlink).await;
            execute(&mut netlink, &[change(operation.clone())]).await;
        });
        stays();
    }
    assert!(!netns.ip("address show dev ours").contains("10.5.0.1"));
}
