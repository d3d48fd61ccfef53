//! Properties of plan, diff and apply with random networks, random damage and random failures.

use std::collections::{BTreeMap, BTreeSet};

use adit_tests::forwarding;
use adit_tests::random::{self, THIS_NODE};
use adit_tests::situation::{Situation, situations, underlay, with_underlay};
use dataplane_user::apply::{ApplyReport, Outcome, apply};
use dataplane_user::diff::diff;
use dataplane_user::kernel::Kernel;
use dataplane_user::kernel::fake::FakeKernel;
use dataplane_user::model::change::{DeleteLinkReason, LinkChange, LinkOperation, NetlinkChange};
use dataplane_user::model::devices::ANCHOR;
use dataplane_user::model::wireguard::Peer;
use dataplane_user::model::{
    ANCHOR_METRIC, Action, BACKSTOP_METRIC, Change, Hook, KernelState, LinkKind, NextHop, Owner,
    PrefixTarget, ProgramVersion, RouteKey, RouteKind, Source,
};
use dataplane_user::net::{LinkName, NodeName};
use dataplane_user::plan::{network_links, plan};
use dataplane_user::resource::Intent;
use ipnet::IpNet;
use proptest::prelude::*;

fn desired(situation: Situation, mtu: u32) -> KernelState {
    let node = NodeName::new(THIS_NODE).expect("valid");
    let facts = situation.facts(&node, mtu);
    let intent = Intent::new(situation.resources, node).expect("it is there");
    let mut desired = plan(&intent, &facts).0;
    desired.rules.extend(situation.rules);
    desired
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime")
        .block_on(future)
}

/// One reconciliation of a kernel, as the agent does it.
fn pass(kernel: &mut FakeKernel, desired: &KernelState) {
    run(async {
        let observed = kernel.observe().await.expect("the fake observes");
        apply(kernel, diff(&observed, desired)).await
    });
}

/// Whether the maps forward packets to this prefix by devices that are up, and on WireGuard devices to a peer.
fn forwards(state: &KernelState, prefix: &IpNet) -> bool {
    let target = state.prefixes.get(prefix);
    target.is_some_and(|target| forwarding::map_devices(state, prefix, target).is_some())
}

/// The devices that a prefix needs, by the maps and by routes.
fn devices(state: &KernelState, prefix: &IpNet) -> BTreeSet<LinkName> {
    let next_hops = state
        .prefixes
        .get(prefix)
        .into_iter()
        .flat_map(PrefixTarget::next_hops);
    let by_maps = next_hops.filter_map(|next_hop| state.classes.get(&next_hop.class).cloned().flatten());
    let mut devices = by_maps.collect::<BTreeSet<_>>();
    devices.extend(forwarding::devices(state, prefix).unwrap_or_default());
    devices
}

/// The prefixes that two states forward and that no unmanaged route hides.
fn kept_in_all(before: &KernelState, desired: &KernelState) -> Vec<IpNet> {
    let others = before
        .routes
        .iter()
        .filter(|(_, route)| route.owner == Owner::Other);
    let others = others.map(|(key, _)| key.prefix).collect::<Vec<_>>();
    let known = before
        .routes
        .keys()
        .map(|key| &key.prefix)
        .chain(before.prefixes.keys());
    let known = known.copied().collect::<BTreeSet<_>>().into_iter();
    let known = known.filter(|prefix| !others.iter().any(|other| other.contains(prefix)));
    let both = |prefix: &IpNet| {
        [before, desired]
            .iter()
            .all(|state| forwarding::devices(state, prefix).is_some())
    };
    known.filter(both).collect()
}

/// Whether packets to a prefix go to a revoked WireGuard peer, which is removed whatever else fails.
fn is_revoked(before: &KernelState, desired: &KernelState, prefix: &IpNet) -> bool {
    let devices = before.wireguard.values();
    let mut peers = devices.flat_map(|device| &device.peers);
    // What leads a prefix is found by its first address.
    let gets_it = |peer: &Peer| {
        peer.allowed_ips
            .iter()
            .any(|allowed| allowed.contains(&prefix.addr()))
    };
    peers.any(|(key, peer)| gets_it(peer) && !desired.named.keys.contains(key))
}

fn recreated(changes: &[Change]) -> BTreeSet<LinkName> {
    let one = |change: &Change| match &change.action {
        Action::Netlink(NetlinkChange::Link(LinkChange(
            name,
            LinkOperation::Delete(DeleteLinkReason::Recreate { .. }),
        ))) => Some(name.clone()),
        _ => None,
    };
    changes.iter().filter_map(one).collect()
}

/// Whether packets from the peer of the next hop are counted for it, if a program sees them.
fn is_known(state: &KernelState, next_hop: &NextHop) -> bool {
    let class = next_hop.class;
    let source = Source {
        address: next_hop.remote,
        tunnel: class.tunnel,
        vni: class.vni,
    };
    !class.tunnel.takes_tunnel_key() || state.sources.contains(&source)
}

/// Whether a plain tunnel device is up without its ingress program, so that it accepts any packet.
fn unguarded(state: &KernelState) -> BTreeSet<LinkName> {
    let tunnel = |name: &&LinkName| {
        let link = &state.links[*name];
        name.as_str() != ANCHOR && link.owner == Owner::Adit && link.kind != LinkKind::WireGuard
    };
    let open = |name: &&LinkName| {
        state.links[*name].up && !state.attachments.contains_key(&((*name).clone(), Hook::Ingress))
    };
    let named = |name: &&LinkName| state.classes.values().flatten().any(|link| link == *name);
    state
        .links
        .keys()
        .filter(tunnel)
        .filter(named)
        .filter(open)
        .cloned()
        .collect()
}

fn check_steps(before: &KernelState, desired: &KernelState, history: &[KernelState], changes: &[Change]) {
    let desired = &with_underlay(desired.clone());
    let anew = recreated(changes);
    // If an unmanaged device has the name, or excludes others of its kind, there is a conflict, and the prefix is removed.
    let foreign = |name: &LinkName| {
        before.links.iter().any(|(other, found)| {
            let wanted = &desired.links[name];
            let suffers = other == name || found.conflict_with(&wanted.kind).is_some();
            wanted.owner == Owner::Adit && found.owner == Owner::Other && suffers
        })
    };
    let kept = |prefix: &&IpNet| {
        forwards(before, prefix) && forwards(desired, prefix) && !devices(desired, prefix).iter().any(foreign)
    };
    let kept = before.prefixes.keys().filter(kept).collect::<Vec<_>>();
    let led = kept_in_all(before, desired).into_iter();
    let led = led.filter(|prefix| !devices(desired, prefix).iter().any(foreign));
    let led = led.collect::<Vec<_>>();
    let anchored = |key: &&RouteKey| {
        let through_anchor = |state: &KernelState| {
            state.routes.get(key).is_some_and(|route| {
                matches!(route.kind, RouteKind::Gateway { .. }) && route.owner == Owner::Adit
            })
        };
        key.metric == ANCHOR_METRIC && through_anchor(before) && through_anchor(desired)
    };
    let anchored = before.routes.keys().filter(anchored).collect::<Vec<_>>();
    for (step, state) in history.iter().enumerate() {
        for next_hop in &state.next_hops {
            let was = before.next_hops.contains(next_hop) && !is_known(before, next_hop);
            assert!(
                was || is_known(state, next_hop),
                "{next_hop} is used and unknown after step {step}, {}",
                changes[step]
            );
        }
        let kept_sources = before.sources.intersection(&desired.sources);
        for source in kept_sources {
            let stays = state.sources.contains(source);
            assert!(
                stays,
                "{source} is forgotten after step {step}, {}",
                changes[step]
            );
        }
        for prefix in &kept {
            let excepted = devices(before, prefix)
                .union(&devices(desired, prefix))
                .any(|link| anew.contains(link));
            assert!(
                excepted || forwards(state, prefix),
                "{prefix} fails after step {step}, {}",
                changes[step]
            );
        }
        for prefix in &led {
            let excepted = devices(before, prefix)
                .union(&devices(desired, prefix))
                .any(|link| anew.contains(link));
            // Routes have its addresses as their source.
            assert!(
                excepted || anew.contains(ANCHOR) || forwarding::devices(state, prefix).is_some(),
                "{prefix} is led nowhere after step {step}, {}, of {:#?}",
                changes[step],
                changes.iter().map(ToString::to_string).collect::<Vec<_>>()
            );
        }
        for key in &anchored {
            let excepted = anew.contains(ANCHOR);
            assert!(
                excepted || state.routes.contains_key(key),
                "{key} is gone after step {step}, {}",
                changes[step]
            );
        }
        for key in state
            .routes
            .keys()
            .filter(|key| key.metric == ANCHOR_METRIC && state.routes[key].owner == Owner::Adit)
        {
            let backstop = RouteKey {
                metric: BACKSTOP_METRIC,
                ..*key
            };
            assert!(
                state.routes.contains_key(&backstop) || !before.routes.contains_key(&backstop),
                "{key} has no backstop after step {step}, {}",
                changes[step]
            );
        }
        let opened = unguarded(state)
            .difference(&unguarded(before))
            .cloned()
            .collect::<Vec<_>>();
        assert!(
            opened.is_empty(),
            "{opened:?} let anything in after step {step}, {}",
            changes[step]
        );
    }
}

/// Turns a state into one of an older version, whose programs and maps this version does not use. Returns the state as that
/// version sees it.
fn take_maps_away(state: &mut KernelState) -> KernelState {
    let older = state.clone();
    let attachments = state.attachments.values_mut();
    attachments.for_each(|attached| attached.version = ProgramVersion::Stale);
    state.older_versions.insert(1);
    state.unpinned = true;
    state.classes.clear();
    state.next_hops.clear();
    state.down.clear();
    state.groups.clear();
    state.prefixes.clear();
    older
}

/// Whether a packet to this prefix leaves by the program on the anchor: a current one reads the current maps, an older one
/// its own.
fn forwards_by(state: &KernelState, older: &KernelState, prefix: &IpNet) -> bool {
    let egress = (LinkName::constant(ANCHOR), Hook::Egress);
    match state.attachments.get(&egress).map(|attached| attached.version) {
        None => false,
        Some(ProgramVersion::Current) => forwards(state, prefix),
        Some(ProgramVersion::Stale) => {
            let by_older = KernelState {
                links: state.links.clone(),
                wireguard: state.wireguard.clone(),
                ..older.clone()
            };
            forwards(&by_older, prefix)
        }
    }
}

/// The changes in the history of the kernel.
fn tried(report: &ApplyReport) -> impl Iterator<Item = &(Change, Outcome)> {
    let outcomes = report.outcomes.iter();
    outcomes.filter(|(_, outcome)| !matches!(outcome, Outcome::Skipped { .. }))
}

/// The unmanaged objects, which must not change.
fn foreign(state: &KernelState) -> KernelState {
    let mut state = KernelState {
        links: state.links.clone(),
        routes: state.routes.clone(),
        addresses: state.addresses.clone(),
        firewall: state.firewall.clone().filter(|table| table.owner == Owner::Other),
        ..KernelState::default()
    };
    state.links.retain(|_, link| link.owner == Owner::Other);
    state.routes.retain(|_, route| route.owner == Owner::Other);
    state.addresses.retain(|_, address| address.owner == Owner::Other);
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn after_apply_the_diff_is_empty_and_no_step_interrupts_traffic(
        old in situations(),
        new in situations(),
        damages in random::damages(),
    ) {
        let mut before = desired(old, 1500);
        damages.iter().for_each(|damage| random::damage(&mut before, damage));
        let before = with_underlay(before);
        let desired = desired(new, 1500);

        let set = diff(&before, &desired);
        let changes = set.changes.clone();
        let mut kernel = FakeKernel::new(before.clone());
        let report = run(apply(&mut kernel, set));

        let refused = report.failures().map(|(change, error)| format!("{change}: {error}")).collect::<Vec<_>>();
        prop_assert!(refused.is_empty(), "refused: {refused:#?}");
        let residual = diff(&kernel.state, &desired);
        prop_assert!(residual.is_empty(), "left over: {:#?}", residual.changes);
        prop_assert_eq!(foreign(&before), foreign(&kernel.state));
        check_steps(&before, &desired, &kernel.history, &changes);
    }

    #[test]
    fn both_ends_choose_the_same_wireguard_device_without_shared_prefixes(resources in random::resources()) {
        let nodes = resources.nodes.keys().collect::<Vec<_>>();
        let mut meetings = BTreeMap::new();
        for &node in &nodes {
            let facts = random::facts(&resources, node, 1500);
            let intent = Intent::new(resources.clone(), node.clone()).expect("it is there");
            for links in network_links(&intent, &facts) {
                for peer in &links.peers {
                    let unit = peer.wireguard.as_ref().map(|link| link.unit);
                    meetings.insert((links.network.name.clone(), node, peer.node.name.clone()), unit);
                }
            }
            for (link, device) in plan(&intent, &facts).0.wireguard {
                let mut seen = BTreeSet::new();
                for prefix in device.peers.values().flat_map(|peer| &peer.allowed_ips) {
                    prop_assert!(seen.insert(*prefix), "{prefix} is two peers' on {link} of {node}");
                }
            }
        }
        for ((network, node, peer), unit) in &meetings {
            let back = meetings.get(&(network.clone(), peer, (*node).clone()));
            prop_assert_eq!(back, Some(unit), "{} and {} in {}", node, peer, network);
        }
    }

    #[test]
    fn an_older_version_forwards_until_the_new_version_does(
        old in situations(),
        new in situations(),
        failing in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut kernel = FakeKernel::new(with_underlay(desired(old, 1500)));
        let older = take_maps_away(&mut kernel.state);
        let before = kernel.state.clone();
        let desired = desired(new, 1500);
        let changes = diff(&before, &desired).changes;
        kernel.failing.extend(failing.map(|index| index.index(changes.len())));
        let has_failed = !kernel.failing.is_empty();
        let report = run(apply(&mut kernel, diff(&before, &desired)));

        let anew = recreated(&changes);
        let wanted = with_underlay(desired.clone());
        let kept = older.prefixes.keys().filter(|prefix| {
            let excepted = devices(&older, prefix).union(&devices(&desired, prefix)).any(|link| anew.contains(link));
            let excepted = excepted || anew.contains(ANCHOR) || is_revoked(&older, &desired, prefix);
            forwards(&older, prefix) && forwards(&wanted, prefix) && !excepted
        });
        for prefix in kept {
            for (state, (change, _)) in kernel.history.iter().zip(tried(&report)) {
                prop_assert!(forwards_by(state, &older, prefix), "{prefix} fails after {change}");
            }
        }
        if has_failed {
            kernel.failing.clear();
            pass(&mut kernel, &desired);
        }
        prop_assert!(kernel.state.older_versions.is_empty());
        prop_assert_eq!(&kernel.state, &wanted);
    }

    #[test]
    fn an_empty_desired_state_removes_all_managed_objects(situation in situations()) {
        let desired = desired(situation, 9000);
        let mut kernel = FakeKernel::new(underlay());
        pass(&mut kernel, &desired);
        prop_assert_eq!(&kernel.state, &with_underlay(desired));
        pass(&mut kernel, &KernelState::default());
        prop_assert_eq!(&kernel.state, &underlay());
    }

    #[test]
    fn after_a_crash_before_any_change_the_next_start_converges(
        old in situations(),
        new in situations(),
        damages in random::damages(),
    ) {
        let mut before = desired(old, 1500);
        damages.iter().for_each(|damage| random::damage(&mut before, damage));
        let before = with_underlay(before);
        let desired = desired(new, 1400);
        let whole = diff(&before, &desired).changes.len();
        for died in 0..=whole {
            let mut kernel = FakeKernel { dies_before: Some(died), ..FakeKernel::new(before.clone()) };
            pass(&mut kernel, &desired);
            kernel.dies_before = None;
            pass(&mut kernel, &desired);
            let residual = diff(&kernel.state, &desired);
            prop_assert!(residual.is_empty(), "died before {died}: {:#?}", residual.changes);
        }
    }

    #[test]
    fn a_failed_change_leaves_the_old_state_working(
        old in situations(),
        new in situations(),
        failing in any::<prop::sample::Index>(),
    ) {
        let before = with_underlay(desired(old, 1500));
        let desired = desired(new, 1500);
        let changes = diff(&before, &desired).changes;
        prop_assume!(!changes.is_empty());
        let failing = failing.index(changes.len());
        let mut kernel = FakeKernel { failing: BTreeSet::from([failing]), ..FakeKernel::new(before.clone()) };
        let report = run(apply(&mut kernel, diff(&before, &desired)));

        let anew = recreated(&changes);
        let wanted = with_underlay(desired.clone());
        for prefix in before.prefixes.keys().filter(|p| forwards(&before, p) && forwards(&wanted, p)) {
            let excepted = devices(&before, prefix).union(&devices(&desired, prefix)).any(|l| anew.contains(l));
            let excepted = excepted || is_revoked(&before, &desired, prefix);
            prop_assert!(
                excepted || forwards(&kernel.state, prefix),
                "{prefix} is lost since `{}` failed", changes[failing]
            );
        }
        for prefix in kept_in_all(&before, &wanted) {
            let excepted = devices(&before, &prefix).union(&devices(&desired, &prefix)).any(|l| anew.contains(l));
            let excepted = excepted || is_revoked(&before, &desired, &prefix);
            prop_assert!(
                excepted || forwarding::devices(&kernel.state, &prefix).is_some(),
                "{prefix} is led nowhere since `{}` failed: {:#?}", changes[failing],
                report.outcomes.iter().map(|(c, o)| format!("{c}: {o:?}")).collect::<Vec<_>>()
            );
        }
        let outcomes = report.outcomes.iter();
        let busy = outcomes.filter(|(_, o)| matches!(o, Outcome::Failed(e) if e.errno() == Some(libc::EBUSY)));
        prop_assert_eq!(busy.count(), 0, "deleted what was in use");

        kernel.failing.clear();
        pass(&mut kernel, &desired);
        prop_assert!(diff(&kernel.state, &desired).is_empty());
    }
}
