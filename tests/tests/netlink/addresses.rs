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
