//! The netlink adapter on the running kernel: written objects read back equal, and unmanaged objects stay.
#![expect(
    clippy::unwrap_used,
    reason = "clippy takes only test functions themselves for tests"
)]

mod addresses;
mod bulk;
mod facts;
mod links;
mod nexthops;
mod routes;
mod rules;

use dataplane_user::kernel::netlink::Netlink;
use dataplane_user::model::change::{LinkChange, LinkOperation, NetlinkChange};
use dataplane_user::model::{
    Address, AddressScope, KernelState, Link, LinkKind, Owner, Route, RouteKey, RouteKind,
};
use dataplane_user::net::{LinkName, MacAddr};
use ipnet::IpNet;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0a]);

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn vxlan() -> Link {
    Link {
        owner: Owner::Adit,
        kind: LinkKind::Vxlan {
            port: 4789,
            source_ports: None,
        },
        mac: Some(MAC),
        mtu: Some(1430),
        arp: false,
        generates_addresses: false,
        up: false,
    }
}

fn key(table: u32, to: &str, metric: u32) -> RouteKey {
    RouteKey::new(table, prefix(to), metric)
}

fn via(gateway: &str, link: &str, source: Option<&str>, mtu: Option<u32>) -> Route {
    Route {
        owner: Owner::Adit,
        kind: RouteKind::Gateway {
            gateway: gateway.parse().unwrap(),
            link: name(link),
            source: source.map(|source| source.parse().unwrap()),
            mtu,
        },
    }
}

fn unreachable() -> Route {
    Route {
        owner: Owner::Adit,
        kind: RouteKind::Unreachable,
    }
}

fn address(scope: AddressScope) -> Address {
    Address {
        owner: Owner::Adit,
        scope,
        peer: None,
    }
}

async fn observe(netlink: &mut Netlink) -> KernelState {
    let mut state = KernelState::default();
    netlink.observe(&mut state).await.unwrap();
    state
}

/// Executes changes and asserts that all succeed.
async fn execute(netlink: &mut Netlink, changes: &[NetlinkChange]) {
    for (change, outcome) in changes.iter().zip(netlink.execute(changes).await) {
        outcome.unwrap_or_else(|error| panic!("{change}: {error}"));
    }
}

/// The netlink adapter in a namespace with a VXLAN device `ours` that is up.
async fn with_link() -> Netlink {
    let mut netlink = Netlink::open().unwrap();
    let link = name("ours");
    execute(
        &mut netlink,
        &[
            NetlinkChange::Link(LinkChange(link.clone(), LinkOperation::Create(vxlan()))),
            NetlinkChange::Link(LinkChange(link, LinkOperation::SetUp)),
        ],
    )
    .await;
    netlink
}
