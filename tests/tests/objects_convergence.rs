//! Properties of plan, diff and apply with random declared objects in several namespaces.

use std::collections::{BTreeMap, BTreeSet};

use adit_tests::random::foreign_link;
use dataplane_user::apply::apply;
use dataplane_user::diff::diff;
use dataplane_user::kernel::fake::FakeKernel;
use dataplane_user::model::facts::{Gateway, NodeFacts, OwnKey, Presence, WireGuardFacts};
use dataplane_user::model::{Hop, KernelState, LinkKind, MAIN_TABLE, Owner, RouteScope};
use dataplane_user::net::KeySource;
use dataplane_user::net::{LinkName, Namespace, NodeName, PublicKey};
use dataplane_user::plan::plan;
use dataplane_user::resource::netlink::{
    InterfaceEnd, InterfaceKind, Namespaced, NetlinkInterface, NetlinkObjects, NetlinkRoute, PeerHop,
    RouteAction,
};
use dataplane_user::resource::wireguard::{AllowedIpRoutes, Peer};
use dataplane_user::resource::{Intent, Resources, WireGuardInterface};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::Index;

/// Random numbers for a device: its kind, its namespace, the namespace of its other end, and a parameter.
type Draft = (u8, u8, u8, u8);

fn drafts() -> impl Strategy<Value = BTreeMap<u8, Draft>> {
    btree_map(0u8..8, (0u8..7, 0u8..3, 0u8..3, 0u8..3), 0..8)
}

fn place(number: u8) -> Option<Namespace> {
    (number > 0).then(|| Namespace::Name(format!("n{number}")))
}

fn name(text: &str) -> LinkName {
    LinkName::new(text).expect("short")
}

fn end(link: &str, host: u8, parameter: u8) -> InterfaceEnd {
    let address = format!("10.{host}.{parameter}.1/24").parse().expect("an address");
    // The kernel deletes the routes of a device with its last address.
    let has_address = !(host + parameter).is_multiple_of(3);
    InterfaceEnd {
        name: name(link),
        alias: None,
        addresses: has_address.then_some((address, None)).into_iter().collect(),
        mtu: Some(1400 + u32::from(parameter)),
        mac: None,
        up: parameter != 2,
        arp: true,
        keep_link_local: false,
    }
}

fn node() -> NodeName {
    NodeName::new("a").expect("valid")
}

fn placed<T>(namespace: Option<Namespace>, object: T) -> Namespaced<T> {
    Namespaced {
        nodes: BTreeSet::from([node()]),
        namespace,
        object,
    }
}

/// A WireGuard device: with a default route and others, with all routes in a table, or with none and down.
fn wireguard(own: &str, number: u8, parameter: u8, listen_port: u16) -> WireGuardInterface {
    let peer = |last: u8, prefixes: &[String]| Peer {
        allowed_ips: prefixes
            .iter()
            .map(|prefix| prefix.parse().expect("a prefix"))
            .collect(),
        keepalive: u16::from(parameter),
        ..Peer::new(PublicKey::from_bytes([last; 32]))
    };
    let moving = format!("10.210.{number}.0/24");
    let (routes, first, second) = match parameter {
        0 => (
            AllowedIpRoutes::Auto,
            vec![moving, "0.0.0.0/0".to_owned()],
            vec![],
        ),
        1 => (AllowedIpRoutes::Table(77), vec![], vec![moving]),
        _ => (AllowedIpRoutes::Off, vec!["::/0".to_owned()], vec![moving]),
    };
    WireGuardInterface {
        end: InterfaceEnd {
            arp: false,
            ..end(own, number, parameter)
        },
        key: Some(KEY),
        listen_port,
        fwmark: 0,
        routes,
        rules_at: BTreeMap::new(),
        peers: vec![peer(number + 1, &first), peer(parameter + 100, &second)],
    }
}

/// Unique properties that devices have: few ports and VNIs, so that different sets collide.
#[derive(Default)]
struct Taken {
    ports: BTreeSet<(u8, u16)>,
    vnis: BTreeSet<(u8, u32)>,
}

impl Taken {
    /// An unused UDP port in a namespace.
    fn port(&mut self, at: u8, wish: u8) -> u16 {
        let wishes = (0..).map(|more| 51820 + u16::from(wish) + more);
        let mut free = wishes.filter(|port| self.ports.insert((at, *port)));
        free.next().expect("there is one")
    }

    /// An unused number in a namespace.
    fn vni(&mut self, at: u8, wish: u8) -> u32 {
        let wishes = (1..).map(|more| u32::from(wish) + more);
        let mut free = wishes.filter(|vni| self.vnis.insert((at, *vni)));
        free.next().expect("there is one")
    }
}

const KEY: KeySource = KeySource::Node;

fn desired(drafts: &BTreeMap<u8, Draft>, present: bool) -> KernelState {
    let mut netlink = NetlinkObjects::default();
    let mut taken = Taken::default();
    for (&number, &(kind, at, far, parameter)) in drafts {
        let own = format!("l{number}");
        if kind == 4 {
            let object = wireguard(&own, number, parameter, taken.port(0, parameter));
            netlink.wireguard.insert(own, placed(place(at), object));
            continue;
        }
        let kind = match kind {
            0 => InterfaceKind::Dummy,
            1 => InterfaceKind::Bridge {
                ports: (0..8)
                    .filter(|port| port % 3 == parameter)
                    .map(|port| name(&format!("l{port}")))
                    .collect(),
            },
            2 => InterfaceKind::Vxlan {
                vni: taken.vni(at, parameter),
                local: None,
                port: 4790,
                group: None,
                lower: (parameter == 1).then(|| name("l0")),
                remotes: [[192, 0, 2, parameter].into()].into(),
            },
            5 => InterfaceKind::Geneve {
                vni: u32::from(parameter),
                remote: [192, 0, 2, parameter].into(),
                port: taken.port(at, parameter),
            },
            6 => InterfaceKind::Ipip {
                local: [192, 0, 2, 100].into(),
                remote: [
                    192,
                    0,
                    2,
                    u8::try_from(taken.vni(at + 100, parameter)).expect("small"),
                ]
                .into(),
                ttl: parameter,
            },
            _ => InterfaceKind::Veth {
                peer: end(&format!("p{number}"), 100 + number, parameter),
                namespace: place(far),
            },
        };
        let interface = NetlinkInterface {
            end: end(&own, number, parameter),
            kind,
        };
        netlink
            .interfaces
            .insert(own.clone(), placed(place(at), interface));
        let hop = Hop {
            gateway: None,
            link: Some(name(&own)),
            onlink: false,
            weight: 1,
            encap: None,
        };
        let route = NetlinkRoute {
            table: 254,
            to: "10.200.0.0/16".parse().expect("a prefix"),
            metric: u32::from(parameter),
            action: RouteAction::Unicast(vec![PeerHop { hop, peer: None }]),
            mtu: None,
            scope: (parameter == 0).then_some(RouteScope::Global),
            source: None,
            health_immune: false,
        };
        netlink.routes.insert(own, placed(place(at), route));
    }
    let resources = Resources {
        netlink,
        ..Resources::default()
    };
    let there = |number| {
        let namespace = place(number)?;
        let found = match present {
            true => Presence::There(namespace.clone()),
            false => Presence::Absent("not now".to_owned()),
        };
        Some((namespace, found))
    };
    let own_key = OwnKey::Known(PublicKey::from_bytes([99; 32]));
    let facts = NodeFacts {
        namespaces: (0..3).filter_map(there).collect(),
        wireguard: WireGuardFacts {
            keys: BTreeMap::from([(KEY, own_key)]),
            ..WireGuardFacts::default()
        },
        ..NodeFacts::default()
    };
    match Intent::new(resources, node()) {
        Ok(intent) => plan(&intent, &facts).0,
        // Nothing is declared.
        Err(_) => KernelState::default(),
    }
}

/// The desired state with a route through a gateway that is on the link of `device`, in a namespace.
fn through_gateway(at: u8, device: Option<&LinkName>) -> KernelState {
    let gateway = [10, 60, 0, 1].into();
    let hop = Hop {
        gateway: Some(gateway),
        link: None,
        onlink: false,
        weight: 1,
        encap: None,
    };
    let route = NetlinkRoute {
        table: 254,
        to: "10.200.0.0/16".parse().expect("a prefix"),
        metric: 0,
        action: RouteAction::Unicast(vec![PeerHop { hop, peer: None }]),
        mtu: None,
        scope: None,
        source: None,
        health_immune: false,
    };
    let resources = Resources {
        netlink: NetlinkObjects {
            routes: BTreeMap::from([("r".to_owned(), placed(place(at), route))]),
            ..NetlinkObjects::default()
        },
        ..Resources::default()
    };
    let there = |namespace: Namespace| (namespace.clone(), Presence::There(namespace));
    let on_link = device.map(|device| {
        let gateway = Gateway {
            table: MAIN_TABLE,
            address: gateway,
        };
        (gateway, device.clone())
    });
    let facts = NodeFacts {
        namespaces: place(at).map(there).into_iter().collect(),
        gateways: BTreeMap::from([(place(at), on_link.into_iter().collect())]),
        ..NodeFacts::default()
    };
    plan(
        &Intent::new(resources, node()).expect("the node is named"),
        &facts,
    )
    .0
}

/// One reconciliation; returns all executed changes if something was refused.
fn pass(kernel: &mut FakeKernel, desired: &KernelState) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let set = diff(&kernel.state, desired);
    let report = runtime.block_on(apply(kernel, set));
    if report.failures().next().is_none() {
        return Vec::new();
    }
    let outcomes = report.outcomes.iter();
    outcomes
        .map(|(change, outcome)| format!("{change}: {outcome:?}"))
        .collect()
}

fn is_empty(state: &KernelState) -> bool {
    let ours = state.links.values().any(|link| link.owner == Owner::Adit);
    let nothing = state.routes.is_empty() && state.addresses.is_empty() && state.masters.is_empty();
    !ours && nothing && state.namespaces.values().all(is_empty)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn any_set_of_objects_changes_to_any_other_and_to_none(
        old in drafts(),
        new in drafts(),
        present in any::<bool>(),
        damaged in any::<Index>(),
    ) {
        let mut kernel = FakeKernel::default();
        let first = desired(&old, true);
        prop_assert_eq!(pass(&mut kernel, &first), Vec::<String>::new());
        prop_assert!(diff(&kernel.state, &first).is_empty(), "{:#?}", diff(&kernel.state, &first).changes);

        let names = kernel.state.links.keys().cloned().collect::<Vec<_>>();
        if !names.is_empty() {
            // As in a kernel, the other end of a pair is deleted, too.
            let delete = damaged.get(&names).clone();
            let mut without = first.clone();
            without.forget_link(&delete);
            pass(&mut kernel, &without);
        }
        let second = desired(&new, present);
        prop_assert_eq!(pass(&mut kernel, &second), Vec::<String>::new());
        let residual = diff(&kernel.state, &second);
        prop_assert!(residual.is_empty(), "left over: {:#?}", residual.changes);

        pass(&mut kernel, &KernelState::default());
        prop_assert!(is_empty(&kernel.state), "{:#?}", kernel.state);
    }

    #[test]
    fn a_route_leads_through_the_device_that_reaches_its_gateway_and_stays_without_one(
        at in 0u8..3,
        steps in vec((of(0u8..2), any::<bool>()), 1..6),
    ) {
        let devices = ["e0", "e1"].map(name);
        let mut there = KernelState::default();
        there.links.extend(devices.iter().map(|device| (device.clone(), foreign_link())));
        let mut kernel = FakeKernel::default();
        match place(at) {
            None => kernel.state = there,
            Some(namespace) => drop(kernel.state.namespaces.insert(namespace, there)),
        }
        let namespace = place(at);
        for (device, is_dropped) in steps {
            let device = device.map(|device| &devices[usize::from(device)]);
            if is_dropped {
                kernel.state.at_mut(namespace.as_ref()).expect("it exists").routes.clear();
            }
            let before = kernel.state.clone();
            let desired = through_gateway(at, device);
            prop_assert_eq!(pass(&mut kernel, &desired), Vec::<String>::new());
            let left = diff(&kernel.state, &desired);
            prop_assert_eq!(left.changes, vec![]);
            prop_assert_eq!(left.waiting.len(), usize::from(device.is_none()));
            if device.is_none() {
                prop_assert_eq!(&kernel.state, &before);
                continue;
            }
            let state = kernel.state.at_mut(namespace.as_ref()).expect("it exists");
            let links = state.routes.values().flat_map(|route| route.links().next());
            prop_assert_eq!(links.collect::<Vec<_>>(), Vec::from_iter(device));
        }
    }

    #[test]
    fn nothing_is_changed_because_other_namespaces_cannot_be_read(old in drafts()) {
        let mut kernel = FakeKernel::default();
        let desired = desired(&old, true);
        prop_assert_eq!(pass(&mut kernel, &desired), Vec::<String>::new());
        let mut observed = kernel.state.clone();
        let unreadable = (0..3).filter_map(place).map(|namespace| (namespace, "why".to_owned()));
        observed.unreadable = unreadable.collect();
        observed.namespaces.clear();
        for link in observed.links.values_mut() {
            if matches!(&link.kind, LinkKind::Veth(peer) if peer.namespace.is_some()) {
                // The location of its other end is unknown.
                link.kind = LinkKind::Other("veth".to_owned());
            }
        }
        prop_assert_eq!(diff(&observed, &desired).changes, vec![]);
    }
}
